//! What became of packets that were not simply held and played, over all of the session's streams.

use sandbar_sdk::Context;

/// Packets since they were last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Came after their place had been played; dropped.
    pub(crate) late: u64,
    /// Held already; dropped.
    pub(crate) duplicates: u64,
    /// Places that were skipped.
    pub(crate) lost: u64,
    /// Played before their time, for want of room.
    pub(crate) early: u64,
    /// Went on at once, for the host would not have kept them or let them out again.
    pub(crate) unheld: u64,
    /// Far from all others; dropped.
    pub(crate) strays: u64,
    /// Sequences or timelines that began anew.
    pub(crate) resets: u64,
}

impl Tally {
    /// Adds them to the session's counters.
    pub(crate) fn tell(&mut self, cx: &Context) {
        let Self { late, duplicates, lost, early, unheld, strays, resets } = std::mem::take(self);
        for (name, count) in [
            ("late", late),
            ("duplicates", duplicates),
            ("lost", lost),
            ("early", early),
            ("unheld", unheld),
            ("strays", strays),
            ("resets", resets),
        ] {
            if count > 0 {
                cx.count(name, count);
            }
        }
    }
}
