//! Which packet follows which: sequence numbers counted on over wraps and restarts.

use sandbar_sdk::reception::{MAX_DROPOUT, MAX_MISORDER};
use sandbar_sdk::serde::{Deserialize, Serialize};

/// Where a packet belongs. Numbers are sequence numbers in their low 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    At(u64),
    /// With the packet before it, which was taken for a stray, it begins the sequence anew.
    Anew(u64),
    /// Far from all others, and the first there.
    Stray,
}

/// A stream's sequence (RFC 3550, A.1). The source is signalled, so its first packet is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Sequence {
    newest: Option<u64>,
    /// After a stray, the sequence number that would confirm a restart: A.1's bad_seq.
    restart: Option<u16>,
}

impl Sequence {
    #[inline]
    pub(crate) fn place(&mut self, sequence_number: u16) -> Place {
        let Some(newest) = self.newest else {
            // Room for packets before the first one.
            let number = 1 << 16 | u64::from(sequence_number);
            self.newest = Some(number);
            return Place::At(number);
        };
        let ahead = sequence_number.wrapping_sub(newest as u16);
        if ahead < MAX_DROPOUT {
            let number = newest + u64::from(ahead);
            (self.newest, self.restart) = (Some(number), None);
            return Place::At(number);
        }
        let behind = ahead.wrapping_neg();
        if behind < MAX_MISORDER {
            return Place::At(newest - u64::from(behind));
        }
        if self.restart == Some(sequence_number) {
            let number = ((newest >> 16) + 2) << 16 | u64::from(sequence_number);
            *self = Self { newest: Some(number), restart: None };
            return Place::Anew(number);
        }
        self.restart = Some(sequence_number.wrapping_add(1));
        Place::Stray
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(numbers: &[u16]) -> Vec<Place> {
        let mut sequence = Sequence::default();
        numbers.iter().map(|number| sequence.place(*number)).collect()
    }

    const CYCLE: u64 = 1 << 16;

    #[test]
    fn numbers_go_on_over_the_wrap_both_ways() {
        let expected = [65_534, 65_536, 65_535, 65_537].map(|number| Place::At(CYCLE + number));
        assert_eq!(places(&[65_534, 0, 65_535, 1]), expected);
        assert_eq!(places(&[3, 65_530])[1], Place::At(65_530), "before the first packet");
    }

    #[test]
    fn rfc_3550_a_1_a_stray_is_ignored_and_two_in_sequence_are_a_restart() {
        let found = places(&[100, 40_000, 101, 40_001, 40_002, 40_003]);
        assert_eq!(found[1..4], [Place::Stray, Place::At(CYCLE + 101), Place::Stray]);
        assert_eq!(found[4..], [Place::Anew(3 * CYCLE + 40_002), Place::At(3 * CYCLE + 40_003)]);
    }

    #[test]
    fn a_restart_is_beyond_everything_before_it_wherever_it_begins() {
        for (last, first) in [(60_000, 0), (0, 40_000), (65_535, 30_000), (20_000, 65_535)] {
            let found = places(&[last, first, first + u16::from(first != 65_535), first.wrapping_add(1)]);
            let Some(Place::Anew(number)) = found.iter().find(|place| matches!(place, Place::Anew(_))) else {
                panic!("{found:?}")
            };
            assert!(number - 1 > CYCLE + u64::from(last) && *number as u16 == first.wrapping_add(1));
        }
    }

    #[test]
    fn jumps_are_judged_by_their_size() {
        assert_eq!(places(&[0, MAX_DROPOUT - 1])[1], Place::At(CYCLE + 2999));
        assert_eq!(places(&[0, MAX_DROPOUT])[1], Place::Stray);
        assert_eq!(places(&[1000, 1])[1], Place::At(CYCLE + 1));
        assert_eq!(places(&[1000, 0])[1], Place::Stray);
    }
}
