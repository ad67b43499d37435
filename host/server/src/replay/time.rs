//! From a capture's times to the host's and back.

use std::time::Duration;

use sandbar_host::{Instant, WallClock};

/// The host's time at the first packet. Not zero, so that plugins can look back.
const BEGIN: Instant = Instant::from_millis(3_600_000);

/// A longer silence is shortened to this: nothing new happens in it, and a capture with damaged times would otherwise keep
/// timers busy for years.
pub(crate) const LONGEST_GAP: Duration = Duration::from_secs(60);

/// Virtual time, led by a capture's.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    first: Duration,
    now: Instant,
    /// What was left out of longer gaps.
    left_out: Duration,
    /// Gaps that were shortened.
    pub(crate) gaps: u64,
    /// Packets that the capture has before an earlier one; they count as simultaneous with it.
    pub(crate) backward: u64,
}

/// Where time has to go for the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) at: Instant,
    left_out: Duration,
}

impl Timeline {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, now: BEGIN, left_out: Duration::ZERO, gaps: 0, backward: 0 }
    }

    pub(crate) fn wall_clock(&self) -> WallClock {
        WallClock::from_unix(BEGIN, self.first)
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Lets time pass; it does not go back.
    pub(crate) fn pass(&mut self, to: Instant) {
        self.now = self.now.max(to);
    }

    /// When a packet with this time is due.
    pub(crate) fn due(&mut self, time: Duration) -> Next {
        let since = time.saturating_sub(self.first);
        let at = BEGIN + since.saturating_sub(self.left_out);
        if time < self.shown() {
            self.backward += 1;
        }
        let gap = at - self.now;
        if gap <= LONGEST_GAP {
            return Next { at: at.max(self.now), left_out: self.left_out };
        }
        self.gaps += 1;
        Next { at: self.now + LONGEST_GAP, left_out: self.left_out + (gap - LONGEST_GAP) }
    }

    /// Now is when `next` is due.
    pub(crate) fn arrive(&mut self, next: Next) {
        self.pass(next.at);
        self.left_out = next.left_out;
    }

    /// The capture's time that is now.
    pub(crate) fn shown(&self) -> Duration {
        // A damaged capture may be at the end of what can be said.
        self.first.saturating_add(self.now - BEGIN).saturating_add(self.left_out)
    }

    /// Time since the first packet, without what was left out.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - BEGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn packets_are_shown_at_the_times_they_were_captured_at() {
        let mut time = Timeline::new(S(1000));
        for at in [1000, 1001, 1061, 9000, 9001] {
            let next = time.due(S(at));
            time.arrive(next);
            assert_eq!(time.shown(), S(at));
        }
        assert_eq!((time.elapsed(), time.gaps, time.backward), (S(1 + 60 + 60 + 1), 1, 0));
    }

    #[test]
    fn time_does_not_go_back() {
        let mut time = Timeline::new(S(1000));
        for (at, shown) in [(1005, 1005), (1003, 1005), (500, 1005), (1006, 1006)] {
            let next = time.due(S(at));
            time.arrive(next);
            assert_eq!(time.shown(), S(shown));
        }
        assert_eq!(time.backward, 2);
    }

    #[test]
    fn time_ends_where_it_cannot_be_told() {
        let mut time = Timeline::new(Duration::MAX - S(1));
        let next = time.due(Duration::MAX);
        time.arrive(next);
        time.pass(time.now() + S(5));
        assert_eq!((time.shown(), time.elapsed()), (Duration::MAX, S(6)));
        assert_eq!((time.due(Duration::MAX).at, time.backward), (time.now(), 0));
    }

    #[test]
    fn timers_in_a_gap_are_shown_before_what_is_left_out_of_it() {
        let mut time = Timeline::new(S(1000));
        let next = time.due(S(5000));
        time.pass(time.now() + S(2));
        assert_eq!(time.shown(), S(1002));
        time.arrive(next);
        assert_eq!(time.shown(), S(5000));
    }
}
