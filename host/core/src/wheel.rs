//! Timers to the millisecond: a wheel of slots for the next four seconds and a heap for what is later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

const SLOTS: u64 = 4096;
const NANOS: u64 = 1_000_000;

/// Holds entries until their millisecond has come. Entries are never taken back: who set one checks, when it comes, that
/// it still wants it.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// A bit per slot that has entries.
    occupied: [u64; SLOTS as usize / 64],
    /// A bit per word of `occupied` that is not 0.
    summary: u64,
    later: BinaryHeap<Reverse<Later<T>>>,
    /// The next millisecond to be looked at. All slots are for it and the `SLOTS - 1` after it.
    next: u64,
    /// Tells entries of the heap that are due together apart, in the order in which they were set.
    set: u64,
    len: usize,
}

#[derive(Debug)]
struct Later<T> {
    millis: u64,
    set: u64,
    entry: T,
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.millis, self.set) == (other.millis, other.set)
    }
}

impl<T> Eq for Later<T> {}

impl<T> PartialOrd for Later<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Later<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.millis, self.set).cmp(&(other.millis, other.set))
    }
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; SLOTS as usize / 64],
            summary: 0,
            later: BinaryHeap::new(),
            next: 0,
            set: 0,
            len: 0,
        }
    }

    /// The instant at which a timer for `at` is due: the next whole millisecond.
    pub(crate) fn due(at: Instant) -> Instant {
        Instant::from_nanos(at.as_nanos().div_ceil(NANOS).saturating_mul(NANOS))
    }

    /// Sets `entry` to come at `at`, rounded up to the millisecond; at once if that has passed.
    pub(crate) fn insert(&mut self, at: Instant, entry: T) {
        let millis = at.as_nanos().div_ceil(NANOS).max(self.next);
        self.len += 1;
        if millis - self.next < SLOTS {
            self.put(millis, entry);
        } else {
            self.set += 1;
            self.later.push(Reverse(Later { millis, set: self.set, entry }));
        }
    }

    fn put(&mut self, millis: u64, entry: T) {
        let slot = (millis % SLOTS) as usize;
        self.slots[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    /// The earliest instant at which an entry that is set now can come.
    pub(crate) fn earliest(&self) -> Instant {
        Instant::from_nanos(self.next.saturating_mul(NANOS))
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps the entries for which `keep` holds, with the instants at which they come.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Instant, &T) -> bool) {
        let at = |millis: u64| Instant::from_nanos(millis.saturating_mul(NANOS));
        for (slot, entries) in self.slots.iter_mut().enumerate() {
            let millis = self.next + (slot as u64 + SLOTS - self.next % SLOTS) % SLOTS;
            entries.retain(|entry| keep(at(millis), entry));
            if entries.is_empty() {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        for (word, bits) in self.occupied.iter().enumerate() {
            if *bits == 0 {
                self.summary &= !(1 << word);
            }
        }
        self.later.retain(|Reverse(later)| keep(at(later.millis), &later.entry));
        self.len = self.later.len() + self.slots.iter().map(Vec::len).sum::<usize>();
    }

    /// When the next entry comes.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let in_slots = self.next_occupied().map(|slot| {
            let start = self.next % SLOTS;
            self.next + (slot + SLOTS - start) % SLOTS
        });
        let later = self.later.peek().map(|Reverse(later)| later.millis);
        let millis = in_slots.into_iter().chain(later).min()?;
        Some(Instant::from_nanos(millis.saturating_mul(NANOS)))
    }

    /// The first slot with entries, going round from the next millisecond's.
    fn next_occupied(&self) -> Option<u64> {
        let start = (self.next % SLOTS) as usize;
        let (word, from) = (start / 64, u64::MAX << (start % 64));
        let slot = |word: usize, bits: u64| (word * 64) as u64 + u64::from(bits.trailing_zeros());
        let first = self.occupied[word] & from;
        if first != 0 {
            return Some(slot(word, first));
        }
        // The words after this one, then those before it, and last this one's slots before the start.
        let after = self.summary & (u64::MAX << word) & !(1 << word);
        let before = self.summary & !(u64::MAX << word);
        let rest = self.occupied[word] & !from;
        match (after, before) {
            (0, 0) if rest == 0 => None,
            (0, 0) => Some(slot(word, rest)),
            (0, before) => {
                Some(slot(before.trailing_zeros() as usize, self.occupied[before.trailing_zeros() as usize]))
            }
            (after, _) => Some(slot(after.trailing_zeros() as usize, self.occupied[after.trailing_zeros() as usize])),
        }
    }

    /// Moves every entry that is due at `now` to `due`, earliest millisecond first.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<T>) {
        let now = now.as_nanos() / NANOS;
        while self.next <= now {
            match self.next_due().map(|instant| instant.as_nanos() / NANOS) {
                Some(millis) if millis <= now => self.advance_to(millis),
                _ => {
                    self.advance_to(now + 1);
                    return;
                }
            }
            let slot = (self.next % SLOTS) as usize;
            self.len -= self.slots[slot].len();
            due.append(&mut self.slots[slot]);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            if self.occupied[slot / 64] == 0 {
                self.summary &= !(1 << (slot / 64));
            }
            self.advance_to(self.next + 1);
        }
    }

    /// Makes `millis` the next one to be looked at, with nothing due before it, and brings near what was far.
    fn advance_to(&mut self, millis: u64) {
        self.next = millis;
        while let Some(Reverse(later)) = self.later.peek()
            && later.millis < millis + SLOTS
        {
            if let Some(Reverse(later)) = self.later.pop() {
                self.put(later.millis, later.entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(Instant::from_millis(now), &mut due);
        due
    }

    #[test]
    fn entries_come_in_order_near_and_far() {
        let mut wheel = Wheel::new();
        for (at, entry) in [(30_000, 5), (3, 1), (4_095, 3), (4_096, 4), (3, 2), (100_000, 6)] {
            wheel.insert(Instant::from_millis(at), entry);
        }
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(3)));
        assert_eq!(expired(&mut wheel, 2), []);
        assert_eq!(expired(&mut wheel, 3), [1, 2]);
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(4_095)));
        assert_eq!(expired(&mut wheel, 50_000), [3, 4, 5]);
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(100_000)));
        assert_eq!(expired(&mut wheel, 200_000), [6]);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn a_time_in_the_past_is_due_at_once_and_a_part_of_a_millisecond_rounds_up() {
        let mut wheel = Wheel::new();
        assert_eq!(expired(&mut wheel, 10), []);
        wheel.insert(Instant::ZERO, 1);
        wheel.insert(Instant::from_nanos(11_000_001), 2);
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(11)));
        assert_eq!(expired(&mut wheel, 11), [1]);
        assert_eq!(expired(&mut wheel, 12), [2]);
    }

    #[test]
    fn it_agrees_with_a_sorted_list_whatever_is_set_when() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut wheel, mut list, mut now) = (Wheel::new(), Vec::new(), 0);
        for entry in 0..5_000u32 {
            let far = [10, 300, 5_000, 60_000][random(4) as usize];
            let at = now + 1 + random(far);
            wheel.insert(Instant::from_millis(at), entry);
            list.push((at, entry));
            if random(3) == 0 {
                assert_eq!(wheel.next_due(), list.iter().map(|(at, _)| Instant::from_millis(*at)).min());
                now += random(2_000);
                let mut due: Vec<_> = list.extract_if(.., |(at, _)| *at <= now).collect();
                due.sort_by_key(|(at, _)| *at);
                let mut got = expired(&mut wheel, now);
                let mut want: Vec<_> = due.into_iter().map(|(_, entry)| entry).collect();
                got.sort_unstable();
                want.sort_unstable();
                assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn what_is_not_kept_comes_no_more_and_the_rest_comes_as_before() {
        let mut wheel = Wheel::new();
        wheel.expire(Instant::from_millis(1234), &mut Vec::new());
        for millis in (1235..20_000).step_by(7) {
            wheel.insert(Instant::from_millis(millis), millis);
        }
        let all = wheel.len();
        wheel.retain(|at, entry| {
            assert_eq!(at, Instant::from_millis(*entry));
            entry % 3 == 0
        });
        assert!(wheel.len() * 2 < all);
        let (mut due, kept) = (Vec::new(), wheel.len());
        while let Some(next) = wheel.next_due() {
            let before = due.len();
            wheel.expire(next, &mut due);
            assert_eq!(due[before..], [next.as_nanos() / NANOS]);
        }
        assert_eq!((due.len(), wheel.len()), (kept, 0));
        assert!(due.iter().all(|entry| entry % 3 == 0));
    }
}
