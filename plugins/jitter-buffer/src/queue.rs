//! The packets of one stream that wait for their time, in the order of their numbers.

use std::collections::VecDeque;

use sandbar_sdk::reception::MAX_DROPOUT;
use sandbar_sdk::{HeldId, Instant};

/// A packet that the host holds until it is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) number: u64,
    pub(crate) due: Instant,
    pub(crate) id: HeldId,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Held,
    /// The host would not hold it.
    Unheld,
    /// Its place has been played.
    Late,
    Duplicate,
}

/// Invariant: numbers increase from the front, and dues do not decrease, so that what is due is at the front. A packet
/// never waits for one behind it: where that is due earlier, so is the packet.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    held: VecDeque<Held>,
    /// The first number that has not been played; none before the first was.
    pub(crate) next: Option<u64>,
    /// Packets that are held at most, once what is ready has been played.
    room: usize,
}

impl Queue {
    pub(crate) fn new(room: usize) -> Self {
        Self { held: VecDeque::new(), next: None, room }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    /// Whether a packet with this number is still to be played.
    fn judge(&self, number: u64) -> (usize, Entry) {
        if self.next.is_some_and(|next| number < next) {
            return (0, Entry::Late);
        }
        let at = match self.held.back() {
            Some(last) if last.number >= number => self.held.partition_point(|held| held.number < number),
            _ => self.held.len(),
        };
        match self.held.get(at) {
            Some(held) if held.number == number => (at, Entry::Duplicate),
            _ => (at, Entry::Held),
        }
    }

    /// Enters a packet that is to be played at `due`, once the host holds it. Where it will not, the packet is played now, and
    /// so is what is held before it.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        number: u64,
        due: Instant,
        now: Instant,
        hold: impl FnOnce() -> Option<HeldId>,
    ) -> Entry {
        let (at, entry) = self.judge(number);
        if entry != Entry::Held {
            return entry;
        }
        let Some(id) = hold() else {
            self.hasten(at, now);
            return Entry::Unheld;
        };
        let due = self.held.get(at).map_or(due, |behind| due.min(behind.due));
        self.hasten(at, due);
        self.held.insert(at, Held { number, due, id });
        Entry::Held
    }

    /// Nothing before `at` is due later than `due`.
    fn hasten(&mut self, at: usize, due: Instant) {
        for held in self.held.range_mut(..at).rev().take_while(|held| held.due > due) {
            held.due = due;
        }
    }

    /// When the first packet is due.
    #[inline]
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.front().map(|held| held.due)
    }

    /// Whether there are more packets than there is room for.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.held.len() > self.room
    }

    /// The packet whose turn it is.
    #[inline]
    pub(crate) fn ready(&self, now: Instant) -> Option<Held> {
        self.held.front().copied().filter(|held| held.due <= now || self.is_over())
    }

    /// The first packet has been played. Says how many places before it were lost.
    pub(crate) fn pop(&mut self) -> u64 {
        let Some(held) = self.held.pop_front() else { return 0 };
        self.played(held.number)
    }

    /// The packet with this number has been played. Says how many places before it were lost.
    pub(crate) fn played(&mut self, number: u64) -> u64 {
        let lost = self.next.map_or(0, |next| number.saturating_sub(next));
        self.next = self.next.max(Some(number + 1));
        // A sequence that began anew has lost nothing.
        if lost < u64::from(MAX_DROPOUT) { lost } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn queue(packets: &[(u64, u64)]) -> Queue {
        let mut queue = Queue::new(100);
        for (number, due) in packets {
            assert_eq!(insert(&mut queue, *number, *due), Entry::Held);
        }
        queue
    }

    fn insert(queue: &mut Queue, number: u64, due: u64) -> Entry {
        queue.insert(number, ms(due), Instant::ZERO, || Some(HeldId::new(number)))
    }

    fn pass(queue: &mut Queue, number: u64, now: u64) -> Entry {
        queue.insert(number, ms(now), ms(now), || None)
    }

    fn dues(queue: &Queue) -> Vec<(u64, u64)> {
        queue.iter().map(|held| (held.number, held.due.as_nanos() / 1_000_000)).collect()
    }

    /// Plays what is ready: numbers, and places lost.
    fn play(queue: &mut Queue, now: u64) -> (Vec<u64>, u64) {
        let (mut numbers, mut lost) = (Vec::new(), 0);
        while let Some(held) = queue.ready(ms(now)) {
            numbers.push(held.number);
            lost += queue.pop();
        }
        (numbers, lost)
    }

    #[test]
    fn packets_are_in_order_whatever_order_they_came_in() {
        let queue = queue(&[(12, 30), (10, 10), (13, 40), (11, 20)]);
        assert_eq!(dues(&queue), [(10, 10), (11, 20), (12, 30), (13, 40)]);
    }

    #[test]
    fn no_packet_waits_for_one_that_is_due_before_it() {
        let mut queue = queue(&[(10, 50), (11, 60), (12, 40), (14, 70)]);
        assert_eq!(dues(&queue), [(10, 40), (11, 40), (12, 40), (14, 70)]);
        insert(&mut queue, 13, 90);
        assert_eq!(dues(&queue)[3..], [(13, 70), (14, 70)]);
    }

    #[test]
    fn a_gap_is_skipped_when_what_is_behind_it_is_due() {
        let mut queue = queue(&[(10, 10), (13, 40)]);
        assert_eq!(play(&mut queue, 39), (vec![10], 0));
        assert_eq!(insert(&mut queue, 12, 20), Entry::Held);
        assert_eq!(play(&mut queue, 40), (vec![12, 13], 1));
        assert_eq!(insert(&mut queue, 11, 50), Entry::Late);
        assert_eq!(queue.due(), None);
    }

    #[test]
    fn before_the_first_is_played_earlier_ones_are_welcome() {
        let mut queue = queue(&[(10, 10), (8, 9)]);
        assert_eq!(play(&mut queue, 10), (vec![8, 10], 1));
        assert_eq!(insert(&mut queue, 7, 11), Entry::Late);
    }

    #[test]
    fn what_is_held_already_is_a_duplicate() {
        let mut queue = queue(&[(10, 10), (12, 12)]);
        assert_eq!([10, 12].map(|number| insert(&mut queue, number, 1)), [Entry::Duplicate; 2]);
        assert_eq!(dues(&queue), [(10, 10), (12, 12)]);
    }

    #[test]
    fn where_there_is_no_more_room_the_oldest_go_early() {
        let mut queue = queue(&[]);
        queue.room = 4;
        for number in 10..16 {
            insert(&mut queue, number, 100);
        }
        assert!(queue.is_over());
        assert_eq!(play(&mut queue, 0), (vec![10, 11], 0));
        assert!(!queue.is_over() && queue.len() == 4);
    }

    #[test]
    fn what_is_not_held_takes_what_is_before_it_along() {
        let mut queue = queue(&[(10, 50), (11, 60), (14, 70)]);
        assert_eq!(pass(&mut queue, 13, 5), Entry::Unheld);
        assert_eq!(play(&mut queue, 5), (vec![10, 11], 0));
        assert_eq!(queue.played(13), 1);
        assert_eq!([12, 14].map(|number| pass(&mut queue, number, 6)), [Entry::Late, Entry::Duplicate]);
    }

    #[test]
    fn a_sequence_that_begins_anew_has_lost_nothing() {
        let mut queue = queue(&[(10, 10), (200_000, 20)]);
        assert_eq!(play(&mut queue, 20), (vec![10, 200_000], 0));
    }
}
