//! What the sequence numbers of a stream say about loss, duplicates and order.

use std::collections::HashSet;

/// The packets of a stream at one place.
///
/// A jump of more than RFC 3550's MAX_DROPOUT (A.1) is a source that began anew, not loss.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    seen: HashSet<i64>,
    last: Option<i64>,
    lowest: i64,
    highest: i64,
    /// Of runs of numbers before the last jump.
    past: (u64, u64),
    again: u64,
    pub(crate) packets: u64,
    pub(crate) reordered: u64,
}

const MAX_DROPOUT: i64 = 3000;

impl Sequence {
    pub(crate) fn note(&mut self, number: u16) {
        let extended = match self.last {
            // The nearest number with these 16 bits.
            Some(last) => last + i64::from(number.wrapping_sub(last as u16) as i16),
            None => i64::from(number),
        };
        if self.last.is_some_and(|last| (extended - last).abs() > MAX_DROPOUT) {
            self.past = (self.missing(), self.duplicates());
            self.again = 0;
            self.seen.clear();
            self.last = None;
        }
        if self.last.is_none() {
            (self.lowest, self.highest) = (extended, extended);
        }
        self.reordered += u64::from(extended < self.highest);
        self.last = Some(self.highest.max(extended));
        self.lowest = self.lowest.min(extended);
        self.highest = self.highest.max(extended);
        self.again += u64::from(!self.seen.insert(extended));
        self.packets += 1;
    }

    /// Numbers between the lowest and the highest that did not come.
    pub(crate) fn missing(&self) -> u64 {
        let run = match self.last {
            Some(_) => ((self.highest - self.lowest) as u64 + 1).saturating_sub(self.seen.len() as u64),
            None => 0,
        };
        self.past.0 + run
    }

    /// Packets whose number had come before.
    pub(crate) fn duplicates(&self) -> u64 {
        self.past.1 + self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_duplicates_and_order_are_told_across_a_wrap() {
        let mut sequence = Sequence::default();
        for number in [65533, 65534, 0, 65535, 0, 3] {
            sequence.note(number);
        }
        assert_eq!((sequence.packets, sequence.missing(), sequence.duplicates(), sequence.reordered), (6, 2, 1, 1));
        assert_eq!(Sequence::default().missing(), 0);
    }

    #[test]
    fn a_source_that_begins_anew_has_lost_nothing_by_it() {
        let mut sequence = Sequence::default();
        for number in [1, 3, 3, 20_000, 20_001, 20_003, 60_000] {
            sequence.note(number);
        }
        assert_eq!((sequence.missing(), sequence.duplicates(), sequence.reordered), (2, 1, 0));
    }
}
