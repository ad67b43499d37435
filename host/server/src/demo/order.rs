//! Whether sequence numbers follow each other.

use serde::Serialize;

use super::acts::{Act, PerAct};

/// What was not as it should be among packets of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Disorder {
    /// Numbers that never came.
    pub(super) lost: u64,
    /// Packets that had come before.
    pub(super) duplicated: u64,
    /// Packets that came after one with a later number.
    pub(super) reordered: u64,
}

impl Disorder {
    pub(super) fn total(self) -> u64 {
        self.lost + self.duplicated + self.reordered
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}

/// Follows a source's sequence numbers, for fewer packets than there are numbers.
#[derive(Debug)]
pub(super) struct Order {
    next: Option<u16>,
    seen: Vec<bool>,
    /// Numbers that were passed over and have not come since, with the act in which that was.
    skipped: Vec<(u16, Option<Act>)>,
    found: PerAct<Disorder>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { next: None, seen: vec![false; 1 << 16], skipped: Vec::new(), found: PerAct::default() }
    }

    /// Notes a packet.
    pub(super) fn note(&mut self, act: Option<Act>, sequence: u16) {
        let next = self.next.unwrap_or(sequence);
        let ahead = sequence.wrapping_sub(next);
        if std::mem::replace(&mut self.seen[usize::from(sequence)], true) {
            self.found.of(act).duplicated += 1;
        } else if ahead < 1 << 15 {
            self.skipped.extend((0..ahead).map(|step| (next.wrapping_add(step), act)));
            self.next = Some(sequence.wrapping_add(1));
        } else {
            self.skipped.retain(|(skipped, _)| *skipped != sequence);
            self.found.of(act).reordered += 1;
        }
    }

    /// What was found in an act so far.
    pub(super) fn disorder(&self, act: Option<Act>) -> Disorder {
        let lost = self.skipped.iter().filter(|(_, passed)| *passed == act).count() as u64;
        Disorder { lost, ..self.found.get(act) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(sequence: &[u16]) -> Disorder {
        let mut order = Order::new();
        sequence.iter().for_each(|number| order.note(None, *number));
        order.disorder(None)
    }

    #[test]
    fn what_follows_is_in_order_also_where_numbers_begin_again() {
        assert_eq!(judge(&[65_534, 65_535, 0, 1]), Disorder::default());
    }

    #[test]
    fn each_kind_of_disorder_is_told_from_the_others() {
        assert_eq!(judge(&[5, 6, 9, 10]), Disorder { lost: 2, ..Disorder::default() });
        assert_eq!(judge(&[5, 6, 6, 7]), Disorder { duplicated: 1, ..Disorder::default() });
        assert_eq!(judge(&[5, 7, 6, 8]), Disorder { reordered: 1, ..Disorder::default() });
    }

    #[test]
    fn disorder_belongs_to_the_act_that_it_was_found_in() {
        let mut order = Order::new();
        order.note(Some(Act::Swap), 1);
        order.note(Some(Act::Swap), 3);
        order.note(Some(Act::Crash), 3);
        assert_eq!(order.disorder(Some(Act::Swap)), Disorder { lost: 1, ..Disorder::default() });
        assert_eq!(order.disorder(Some(Act::Crash)), Disorder { duplicated: 1, ..Disorder::default() });
        assert_eq!(order.disorder(None), Disorder::default());
    }
}
