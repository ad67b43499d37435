//! What was retransmitted a moment ago, so that one loss asked for twice is not sent twice.

use std::time::Duration;

use sandbar_sdk::Instant;

/// When each sequence number was last retransmitted. Direct-mapped over as many slots as the history has packets, so
/// that no two packets which can be asked for share one.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Made by the first retransmission: most streams of most sessions never see one.
    slots: Vec<Slot>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    sequence_number: u16,
    /// `Instant::ZERO` where nothing was sent.
    at: Instant,
}

impl Recent {
    pub(crate) fn new(history: u32) -> Self {
        Self { slots: Vec::new(), capacity: (history.clamp(1, 1 << 15) as usize).next_power_of_two() }
    }

    /// Whether the packet was retransmitted less than `window` ago.
    pub(crate) fn has(&self, sequence_number: u16, now: Instant, window: Duration) -> bool {
        let slot = self.slots.get(usize::from(sequence_number) & (self.capacity - 1));
        slot.is_some_and(|slot| {
            slot.sequence_number == sequence_number && slot.at != Instant::ZERO && now - slot.at < window
        })
    }

    /// The packet is retransmitted now.
    pub(crate) fn insert(&mut self, sequence_number: u16, now: Instant) {
        if self.slots.is_empty() {
            self.slots.resize(self.capacity, Slot::default());
        }
        let slot = usize::from(sequence_number) & (self.capacity - 1);
        self.slots[slot] = Slot { sequence_number, at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(50);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_packet_is_recent_for_as_long_as_the_window() {
        let mut recent = Recent::new(1024);
        assert!(!recent.has(7, ms(100), WINDOW));
        recent.insert(7, ms(100));
        assert!(recent.has(7, ms(149), WINDOW) && !recent.has(7, ms(150), WINDOW));
        assert!(!recent.has(8, ms(100), WINDOW) && !recent.has(7 + 1024, ms(100), WINDOW));
    }

    #[test]
    fn packet_0_was_not_sent_before_anything_was() {
        let mut recent = Recent::new(16);
        recent.insert(5, ms(1));
        assert!(!recent.has(0, ms(1), WINDOW));
    }

    #[test]
    fn packets_of_one_history_do_not_share_slots() {
        let mut recent = Recent::new(1000);
        for n in 0..1000u16 {
            recent.insert(n.wrapping_add(65_000), ms(1));
        }
        assert!((0..1000u16).all(|n| recent.has(n.wrapping_add(65_000), ms(2), WINDOW)));
    }
}
