//! Counting packets by sequence number (RFC 3550, A.1 and A.3).

use serde::{Deserialize, Serialize};

/// A jump forward by at least this much is a restart or an error (RFC 3550, A.1).
pub const MAX_DROPOUT: u16 = 3000;
/// A packet at least this far behind is not late but a restart or an error. RFC 3550, A.1 has 100, from when streams
/// had 50 packets a second; video has thousands.
pub const MAX_MISORDER: u16 = 1000;

/// A source's packets, as RFC 3550, A.1 counts them. The source is signalled, so its first packet is believed: there
/// is no probation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Extended sequence number of the first packet.
    pub base: u32,
    /// Extended highest sequence number received.
    pub highest: u32,
    /// Packets received since `base`, late and duplicate ones too; 0 before the first.
    pub received: u32,
    /// Packets expected when the last report was made.
    pub expected_prior: u32,
    /// Packets received when the last report was made.
    pub received_prior: u32,
    /// After a packet far from the rest, the sequence number that would confirm a restart: A.1's bad_seq.
    pub restart: Option<u16>,
}

/// What a report says about losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    /// Of the packets expected since the last report, in 1/256.
    pub fraction: u8,
    /// Since the first packet; negative when there were more duplicates than losses. 24 bits.
    pub cumulative: i32,
}

impl Sequence {
    /// A packet has arrived. Says whether it counts.
    #[inline(always)]
    pub fn observe(&mut self, sequence_number: u16) -> bool {
        let ahead = sequence_number.wrapping_sub(self.highest as u16);
        if ahead == 1 && self.received != 0 {
            self.highest = self.highest.wrapping_add(1);
            self.received = self.received.wrapping_add(1);
            return true;
        }
        self.observe_unexpected(sequence_number, ahead)
    }

    #[cold]
    #[inline(never)]
    fn observe_unexpected(&mut self, sequence_number: u16, ahead: u16) -> bool {
        if self.received == 0 {
            self.begin(sequence_number);
        } else if ahead < MAX_DROPOUT {
            self.highest = self.highest.wrapping_add(u32::from(ahead));
            self.received = self.received.wrapping_add(1);
        } else if ahead.wrapping_neg() < MAX_MISORDER {
            self.received = self.received.wrapping_add(1);
        } else if self.restart == Some(sequence_number) {
            self.begin(sequence_number);
        } else {
            self.restart = Some(sequence_number.wrapping_add(1));
            return false;
        }
        true
    }

    /// A.1's init_seq: the peer begins anew.
    fn begin(&mut self, sequence_number: u16) {
        let base = u32::from(sequence_number);
        *self = Self { base, highest: base, received: 1, ..Self::default() };
    }

    fn expected(&self) -> u32 {
        self.highest.wrapping_sub(self.base).wrapping_add(u32::from(self.received != 0))
    }

    /// Packets lost since the first one; negative when there were more duplicates than losses.
    pub fn lost(&self) -> i32 {
        self.expected().wrapping_sub(self.received) as i32
    }

    /// Losses in total and since the last call (RFC 3550, A.3). What arrives late corrects both.
    pub fn report(&mut self) -> Losses {
        let expected = self.expected();
        let expected_interval = expected.wrapping_sub(self.expected_prior);
        let received_interval = self.received.wrapping_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost = u64::from(expected_interval.saturating_sub(received_interval));
        // Below 256: no packet is expected before one that counts has come.
        let fraction = (lost << 8).checked_div(u64::from(expected_interval)).unwrap_or(0) as u8;
        let cumulative = self.lost().clamp(-0x80_0000, 0x7f_ffff);
        Losses { fraction, cumulative }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(numbers: impl IntoIterator<Item = u16>) -> Sequence {
        let mut sequence = Sequence::default();
        for number in numbers {
            sequence.observe(number);
        }
        sequence
    }

    #[test]
    fn rfc_3550_a_3_losses_are_what_was_expected_and_not_received() {
        let mut sequence = fed([1, 3]);
        assert_eq!(sequence.report(), Losses { fraction: (256 / 3) as u8, cumulative: 1 });
        sequence.observe(4);
        assert_eq!(sequence.report(), Losses { fraction: 0, cumulative: 1 });
        sequence.observe(8);
        assert_eq!(sequence.report(), Losses { fraction: (3 * 256 / 4) as u8, cumulative: 4 });
    }

    #[test]
    fn rfc_3550_6_4_1_a_late_packet_is_no_loss_also_after_a_report_has_said_so() {
        let mut sequence = fed([1, 3]);
        assert_eq!(sequence.report().cumulative, 1);
        sequence.observe(2);
        sequence.observe(4);
        assert_eq!(sequence.report(), Losses { fraction: 0, cumulative: 0 });
    }

    #[test]
    fn rfc_3550_6_4_1_duplicates_count_as_received_and_losses_may_be_negative() {
        let mut sequence = fed([1, 2, 2, 2, 3]);
        assert_eq!(sequence.report(), Losses { fraction: 0, cumulative: -2 });
        assert_eq!((sequence.lost(), fed([1, 4]).lost(), fed([]).lost()), (-2, 2, 0));
    }

    #[test]
    fn rfc_3550_a_1_cycles_are_counted_in_the_upper_half() {
        let mut sequence = fed([0xfffe, 0xffff, 1]);
        assert_eq!(sequence.highest, 0x1_0001);
        assert_eq!(sequence.report(), Losses { fraction: (256 / 4) as u8, cumulative: 1 });
        // Late, from before the wrap, is no second cycle.
        sequence.observe(0xfff0);
        assert_eq!(sequence.highest, 0x1_0001);
        for n in 2..=200_000u32 {
            sequence.observe(n as u16);
        }
        assert_eq!(sequence.highest, 0x1_0000 + 200_000);
    }

    #[test]
    fn rfc_3550_a_1_a_stray_packet_does_not_count_and_two_in_sequence_are_a_restart() {
        let mut sequence = fed([100, 101]);
        assert!(!sequence.observe(40_000));
        assert!(sequence.observe(102));
        assert_eq!(sequence.report(), Losses { fraction: 0, cumulative: 0 });
        assert!(!sequence.observe(50_000));
        assert!(sequence.observe(50_001));
        assert_eq!((sequence.highest, sequence.received), (50_001, 1));
        sequence.observe(50_003);
        assert_eq!(sequence.report(), Losses { fraction: (256 / 3) as u8, cumulative: 1 });
    }

    #[test]
    fn packets_hundreds_behind_are_late_at_todays_rates() {
        let mut sequence = fed(1000..2000);
        for late in 1200..1500 {
            assert!(sequence.observe(late));
        }
        assert_eq!(sequence.highest, 1999);
    }

    #[test]
    fn a_loss_of_everything_but_one_is_255_of_256() {
        let mut sequence = fed([1]);
        sequence.report();
        sequence.observe(2900);
        assert_eq!(sequence.report().fraction, 255);
    }

    #[test]
    fn the_cumulative_count_stays_within_24_bits() {
        let mut sequence = fed([0]);
        for n in 1..=3000u32 {
            sequence.observe((n * 2999) as u16);
        }
        assert_eq!(sequence.report().cumulative, 0x7f_ffff);
        let mut sequence = fed(std::iter::repeat_n(7, 0x80_0002));
        assert_eq!(sequence.report().cumulative, -0x80_0000);
    }
}
