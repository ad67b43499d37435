//! When packets arrived, by transport-wide sequence number.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use sandbar_sdk::Instant;

/// Sequence numbers that are told apart: half of the number space.
pub(crate) const MAX_SPAN: u64 = 1 << 15;
/// A packet further from the newest than this needs another one after it to be believed, as RFC 3550, A.1 has it for
/// RTP's own sequence numbers.
const MAX_JUMP: u16 = 3000;
/// Where extended numbers begin: far enough from 0 to count back from the first packet.
const ORIGIN: u64 = 1 << 16;

/// Feedback tells times in ticks of 250 us (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1.5), in nanoseconds.
const TICK: u64 = 250_000;

/// The nearest tick.
fn ticks(at: Instant) -> u64 {
    at.as_nanos().saturating_add(TICK / 2) / TICK
}

/// A packet's transport-wide sequence number and its arrival, to the tick: eight bytes, as a session keeps half a second of them, and
/// of many sessions every line of memory has to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival(u64);

impl Arrival {
    /// Of an extended number only the sequence number is kept. An instant has 47 bits of ticks at most.
    #[inline]
    pub(crate) fn new(number: u64, at: Instant) -> Self {
        Self(ticks(at) << 16 | number & 0xffff)
    }

    #[inline]
    pub(crate) fn sequence_number(self) -> u16 {
        self.0 as u16
    }

    /// When it arrived, in ticks of 250 us.
    #[inline]
    pub(crate) fn ticks(self) -> u64 {
        self.0 >> 16
    }
}

/// The extended number at or below `newest` that ends in a sequence number.
#[inline]
fn extended(newest: u64, arrival: Arrival) -> u64 {
    newest - u64::from((newest as u16).wrapping_sub(arrival.sequence_number()))
}

/// The arrivals of the last moments. Only packets that arrived cost memory, so a jump costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals {
    /// In order of sequence numbers, which differ by less than `MAX_SPAN`.
    received: VecDeque<Arrival>,
    /// None of them is lower, nor the cursor: known without a look at the first, which with many sessions is in no cache.
    lowest: u64,
    /// How many of them feedback has covered: those below `cursor`.
    covered: usize,
    /// The highest number so far; 0 before the first packet.
    newest: u64,
    /// The first number that no feedback has covered.
    cursor: u64,
    /// Numbers below are forgotten: whether they arrived is no longer known.
    floor: u64,
    /// A packet from far away, waiting for its successor.
    stray: Option<(u16, Instant)>,
}

impl Arrivals {
    /// Continues from what another one knew. What makes no sense in it is left out.
    pub(crate) fn resume(mut received: Vec<(u64, Instant)>, newest: u64, cursor: u64, floor: u64) -> Self {
        if newest < ORIGIN {
            return Self::default();
        }
        let oldest = newest + 1 - MAX_SPAN;
        received.retain(|(number, _)| (oldest..=newest).contains(number));
        received.sort_by_key(|(number, _)| *number);
        received.dedup_by_key(|(number, _)| *number);
        let cursor = cursor.clamp(oldest, newest + 1);
        let covered = received.partition_point(|(number, _)| *number < cursor);
        let floor = floor.min(newest + 1);
        let received = received.into_iter().map(|(number, at)| Arrival::new(number, at)).collect();
        Self { received, lowest: oldest, covered, newest, cursor, floor, stray: None }
    }

    /// The last arrivals, as many as there are at most: extended number, and when, to the tick.
    pub(crate) fn latest(&self, most: usize) -> impl Iterator<Item = (u64, Instant)> {
        let latest = self.received.range(self.received.len().saturating_sub(most)..);
        latest.map(|arrival| (extended(self.newest, *arrival), Instant::from_nanos(arrival.ticks() * TICK)))
    }

    /// Looks at where the next one goes: to the end.
    #[inline]
    pub(crate) fn warm(&self) {
        black_box(self.received.back().copied());
    }

    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether there is something that no feedback has covered.
    #[inline]
    pub(crate) fn pending(&self) -> bool {
        self.covered < self.received.len()
    }

    /// A packet has arrived. Of copies, the first counts.
    #[inline(always)]
    pub(crate) fn observe(&mut self, sequence_number: u16, at: Instant) {
        let ahead = sequence_number.wrapping_sub(self.newest as u16);
        if self.newest == 0 {
            self.begin(sequence_number, at);
        } else if ahead.wrapping_sub(1) < MAX_JUMP {
            self.forward(u64::from(ahead), at);
        } else {
            self.observe_behind(sequence_number, at);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin(&mut self, sequence_number: u16, at: Instant) {
        let number = ORIGIN + u64::from(sequence_number);
        // Packets that were sent before the first one that arrived may still come.
        let floor = number - u64::from(MAX_JUMP);
        *self = Self { newest: number, cursor: number, floor, lowest: number, ..Self::default() };
        self.received.push_back(Arrival::new(number, at));
    }

    #[inline]
    fn forward(&mut self, ahead: u64, at: Instant) {
        self.newest += ahead;
        let oldest = self.newest + 1 - MAX_SPAN;
        if self.lowest < oldest {
            self.forget_before(oldest);
        }
        self.received.push_back(Arrival::new(self.newest, at));
    }

    #[cold]
    #[inline(never)]
    fn forget_before(&mut self, oldest: u64) {
        // They were less than `MAX_SPAN` behind, and a packet is less than that ahead: 16 bits still tell them apart.
        let newest = self.newest;
        let old = self.received.partition_point(|arrival| extended(newest, *arrival) < oldest);
        self.received.drain(..old);
        self.covered = self.covered.saturating_sub(old);
        if old > 0 {
            self.floor = self.floor.max(oldest);
        }
        self.cursor = self.cursor.max(oldest);
        // Not at the next packet again, but when there is something to forget.
        self.lowest = self.received.front().map_or(self.cursor, |first| extended(newest, *first).min(self.cursor));
    }

    #[cold]
    #[inline(never)]
    fn observe_behind(&mut self, sequence_number: u16, at: Instant) {
        let behind = (self.newest as u16).wrapping_sub(sequence_number);
        let number = self.newest - u64::from(behind);
        if number >= self.floor && u64::from(behind) < MAX_SPAN {
            let newest = self.newest;
            if let Err(place) = self.received.binary_search_by_key(&number, |arrival| extended(newest, *arrival)) {
                self.received.insert(place, Arrival::new(number, at));
                self.lowest = self.lowest.min(number);
                // Feedback begins again here, and repeats what came after.
                if number < self.cursor {
                    self.cursor = number;
                    self.covered = place;
                }
            }
        } else if behind >= MAX_JUMP {
            self.observe_stray(sequence_number, at);
        }
    }

    fn observe_stray(&mut self, sequence_number: u16, at: Instant) {
        let Some((first, first_at)) = self.stray.filter(|(first, _)| first.wrapping_add(1) == sequence_number) else {
            self.stray = Some((sequence_number, at));
            return;
        };
        let ahead = first.wrapping_sub(self.newest as u16);
        if u64::from(ahead) < MAX_SPAN {
            self.forward(u64::from(ahead), first_at);
        } else {
            // The peer counts anew: what its old numbers meant it no longer knows itself.
            self.begin(first, first_at);
        }
        self.stray = None;
        self.forward(1, at);
    }

    /// The arrivals from the first number on that no feedback has covered, in two pieces.
    pub(crate) fn uncovered(&self) -> impl Iterator<Item = &[Arrival]> {
        let before = |arrival: &Arrival| extended(self.newest, *arrival) < self.cursor;
        debug_assert_eq!(self.covered, self.received.partition_point(before));
        let (first, second) = self.received.as_slices();
        let after = self.covered.saturating_sub(first.len());
        [first.get(self.covered..), second.get(after..)].into_iter().flatten()
    }

    pub(crate) fn first_uncovered(&self) -> Option<Arrival> {
        self.received.get(self.covered).copied()
    }

    /// Feedback has covered everything below `number`, which is so many more.
    pub(crate) fn covered(&mut self, number: u64, more: usize) {
        self.cursor = number;
        self.covered += more;
    }

    /// Forgets what was covered and arrived more than `window` before `now`. Until then it is kept so that feedback
    /// that begins again at a late packet can repeat it.
    pub(crate) fn forget(&mut self, now: Instant, window: Duration) {
        let until = ticks(now - window);
        let old = self.received.iter().take(self.covered).take_while(|arrival| arrival.ticks() < until).count();
        if let Some(last) = self.received.drain(..old).next_back() {
            self.floor = extended(self.newest, last) + 1;
        }
        self.covered -= old;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(500);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn fed(numbers: impl IntoIterator<Item = u16>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (at, number) in numbers.into_iter().enumerate() {
            arrivals.observe(number, ms(at as u64));
        }
        arrivals
    }

    fn uncovered(arrivals: &Arrivals) -> Vec<u16> {
        arrivals.uncovered().flatten().map(|arrival| arrival.sequence_number()).collect()
    }

    fn cover(arrivals: &mut Arrivals) {
        let more = arrivals.uncovered().flatten().count();
        arrivals.covered(arrivals.newest() + 1, more);
    }

    #[test]
    fn what_arrives_is_kept_in_order_across_the_wrap() {
        let arrivals = fed([65_533, 65_535, 1, 65_534, 0]);
        assert_eq!(uncovered(&arrivals), [65_533, 65_534, 65_535, 0, 1]);
    }

    #[test]
    fn of_copies_the_first_counts() {
        let mut arrivals = fed([1, 2, 3]);
        arrivals.observe(3, ms(50));
        arrivals.observe(2, ms(50));
        let times: Vec<_> = arrivals.latest(3).map(|(_, at)| at).collect();
        assert_eq!(times, [ms(0), ms(1), ms(2)]);
        cover(&mut arrivals);
        arrivals.observe(2, ms(60));
        assert!(!arrivals.pending(), "a copy begins no feedback");
    }

    #[test]
    fn packets_sent_before_the_first_that_arrived_count() {
        assert_eq!(uncovered(&fed([10, 8, 11])), [8, 10, 11]);
    }

    #[test]
    fn feedback_begins_again_at_a_late_packet() {
        let mut arrivals = fed([1, 2, 4, 5]);
        cover(&mut arrivals);
        assert!(!arrivals.pending());
        arrivals.observe(3, ms(50));
        assert_eq!(uncovered(&arrivals), [3, 4, 5]);
    }

    #[test]
    fn what_was_covered_is_forgotten_after_the_window_and_nothing_else() {
        let mut arrivals = fed([1, 2, 3]);
        arrivals.forget(ms(9000), WINDOW);
        assert_eq!(uncovered(&arrivals), [1, 2, 3], "nothing was covered yet");
        cover(&mut arrivals);
        arrivals.forget(ms(501), WINDOW);
        assert_eq!(arrivals.received.len(), 2);
        // Whether 1 arrived is not known any more.
        arrivals.observe(1, ms(600));
        assert!(!arrivals.pending());
        arrivals.forget(ms(700), WINDOW);
        assert!(arrivals.received.is_empty());
        arrivals.observe(3, ms(701));
        assert!(!arrivals.pending());
        arrivals.observe(5, ms(701));
        assert_eq!(uncovered(&arrivals), [5]);
    }

    #[test]
    fn numbers_within_half_the_space_are_kept() {
        let mut arrivals = Arrivals::default();
        let mut number = 0u16;
        for _ in 0..200 {
            arrivals.observe(number, ms(0));
            number = number.wrapping_add(2999);
        }
        let numbers: Vec<_> = arrivals.latest(200).map(|(number, _)| number).collect();
        let span = numbers[numbers.len() - 1] - numbers[0];
        assert!((MAX_SPAN - 2999..MAX_SPAN).contains(&span));
        assert!(arrivals.cursor() <= numbers[0]);
        assert!(arrivals.cursor() > arrivals.newest() - MAX_SPAN);
    }

    #[test]
    fn what_was_kept_is_told_apart_after_the_longest_jump() {
        let mut arrivals = fed([0]);
        (1..=10).for_each(|n| arrivals.observe(n * 2999, ms(u64::from(n))));
        cover(&mut arrivals);
        let newest = arrivals.newest();
        // As far ahead as a packet is still taken for a later one, and the one that confirms it.
        let first = 29_990 + (MAX_SPAN - 1) as u16;
        arrivals.observe(first, ms(20));
        arrivals.observe(first + 1, ms(20));
        let kept: Vec<_> = arrivals.latest(9).map(|(number, _)| number - newest).collect();
        assert_eq!(kept, [MAX_SPAN - 1, MAX_SPAN], "what is half the space behind is forgotten");
        arrivals.observe(first - 2000, ms(21));
        assert_eq!(arrivals.uncovered().flatten().count(), 3);
        assert_eq!(arrivals.latest(9).next(), Some((newest + MAX_SPAN - 2001, ms(21))));
    }

    #[test]
    fn no_more_is_fed_back_at_once_than_there_are_numbers() {
        let mut arrivals = fed([100]);
        cover(&mut arrivals);
        arrivals.forget(ms(9000), WINDOW);
        for number in [30_000, 30_001, 33_000, 35_000] {
            arrivals.observe(number, ms(9001));
        }
        assert_eq!(arrivals.cursor(), arrivals.newest() + 1 - MAX_SPAN);
        assert_eq!(uncovered(&arrivals), [30_000, 30_001, 33_000, 35_000]);
    }

    #[test]
    fn one_stray_packet_is_not_believed() {
        let mut arrivals = fed([100, 20_100, 101, 102]);
        assert_eq!(uncovered(&arrivals), [100, 101, 102]);
        arrivals.observe(20_100, ms(9));
        arrivals.observe(60_000, ms(9));
        arrivals.observe(103, ms(10));
        assert_eq!(uncovered(&arrivals), [100, 101, 102, 103]);
    }

    #[test]
    fn two_in_sequence_are_the_end_of_a_long_loss() {
        let mut arrivals = fed([100]);
        arrivals.observe(20_100, ms(7));
        arrivals.observe(20_101, ms(8));
        let found: Vec<_> = arrivals.latest(9).map(|(number, at)| (number as u16, at)).collect();
        assert_eq!(found, [(100, ms(0)), (20_100, ms(7)), (20_101, ms(8))]);
    }

    #[test]
    fn arrivals_made_of_nonsense_are_made_sense_of() {
        let arrival = |number| (number, ms(0));
        assert_eq!(Arrivals::resume(vec![arrival(3)], 5, 9, 9).newest(), 0);
        let numbers = [70_002, 7, 70_001, 70_001, u64::MAX].map(arrival).to_vec();
        let mut arrivals = Arrivals::resume(numbers, 70_002, 0, u64::MAX);
        assert_eq!(uncovered(&arrivals), [70_001u32 as u16, 70_002u32 as u16]);
        assert_eq!(arrivals.cursor(), 70_003 - MAX_SPAN);
        arrivals.observe(70_003u32 as u16, ms(1));
        assert_eq!(arrivals.newest(), 70_003);
    }

    #[test]
    fn two_in_sequence_from_behind_are_a_new_counter() {
        let mut arrivals = fed([30_000, 30_001]);
        cover(&mut arrivals);
        arrivals.observe(0, ms(7));
        arrivals.observe(1, ms(8));
        arrivals.observe(2, ms(9));
        assert_eq!(uncovered(&arrivals), [0, 1, 2]);
    }
}
