//! When the packets of one source arrived, by sequence number.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar_sdk::Instant;

use crate::report::MAX_METRICS;

/// Numbers that are told apart, as many as a report block covers.
pub(crate) const MAX_SPAN: u64 = MAX_METRICS as u64;
/// A packet further from the newest than this needs another one after it to be believed (RFC 3550, A.1).
const MAX_DROPOUT: u16 = 3000;
/// Where extended numbers begin: far enough from 0 to count back from the first packet.
const ORIGIN: u64 = 1 << 16;

/// A packet's extended sequence number and its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    pub(crate) at: Instant,
}

/// The arrivals of the last moments. Only packets that arrived cost memory, so a jump costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals {
    /// In order of their numbers, which differ by less than `MAX_SPAN`.
    received: VecDeque<Arrival>,
    /// The highest number so far; 0 before the first packet.
    newest: u64,
    /// The first number that no report has covered.
    cursor: u64,
    /// Numbers below are forgotten: whether they arrived is no longer known.
    floor: u64,
    /// A packet from far away, waiting for its successor.
    stray: Option<(u16, Instant)>,
}

impl Arrivals {
    /// Continues from what another one knew. What makes no sense in it is left out.
    pub(crate) fn resume(mut received: Vec<Arrival>, newest: u64, cursor: u64, floor: u64) -> Self {
        received.sort_by_key(|arrival| arrival.number);
        received.dedup_by_key(|arrival| arrival.number);
        let newest = received.last().map_or(newest, |last| last.number);
        if !(ORIGIN..u64::MAX / 2).contains(&newest) {
            return Self::default();
        }
        // Without arrivals, nothing that is not newer is known.
        let floor = if received.is_empty() { newest + 1 } else { floor.clamp(newest + 1 - MAX_SPAN, newest) };
        received.retain(|arrival| arrival.number >= floor);
        Self { received: received.into(), newest, cursor: cursor.clamp(floor, newest + 1), floor, stray: None }
    }

    pub(crate) fn received(&self) -> &VecDeque<Arrival> {
        &self.received
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

    /// Whether something has arrived that no report has covered.
    #[inline]
    pub(crate) fn pending(&self) -> bool {
        self.newest != 0 && self.cursor <= self.newest
    }

    /// A packet has arrived. Of copies, the first counts (RFC 8888, 3.1).
    #[inline(always)]
    pub(crate) fn observe(&mut self, sequence_number: u16, at: Instant) {
        let ahead = sequence_number.wrapping_sub(self.newest as u16);
        if self.newest == 0 {
            self.begin(sequence_number, at);
        } else if ahead.wrapping_sub(1) < MAX_DROPOUT {
            self.forward(ahead, at);
        } else {
            self.observe_behind(sequence_number, at);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin(&mut self, sequence_number: u16, at: Instant) {
        let number = ORIGIN + u64::from(sequence_number);
        // Packets that were sent before the first one that arrived may still come.
        *self = Self { newest: number, cursor: number, floor: number - u64::from(MAX_DROPOUT), ..Self::default() };
        self.received.push_back(Arrival { number, at });
    }

    #[inline]
    fn forward(&mut self, ahead: u16, at: Instant) {
        self.newest += u64::from(ahead);
        let oldest = self.newest + 1 - MAX_SPAN;
        if self.received.front().is_some_and(|first| first.number < oldest) {
            self.forget_before(oldest);
        }
        self.floor = self.floor.max(oldest);
        self.cursor = self.cursor.max(oldest);
        self.received.push_back(Arrival { number: self.newest, at });
    }

    #[cold]
    #[inline(never)]
    fn forget_before(&mut self, oldest: u64) {
        let old = self.received.partition_point(|arrival| arrival.number < oldest);
        self.received.drain(..old);
    }

    #[cold]
    #[inline(never)]
    fn observe_behind(&mut self, sequence_number: u16, at: Instant) {
        let behind = (self.newest as u16).wrapping_sub(sequence_number);
        let number = self.newest - u64::from(behind);
        if number >= self.floor {
            if let Err(place) = self.received.binary_search_by_key(&number, |arrival| arrival.number) {
                self.received.insert(place, Arrival { number, at });
                // The next report begins here, and repeats what came after.
                self.cursor = self.cursor.min(number);
            }
        } else if behind >= MAX_DROPOUT {
            self.observe_stray(sequence_number, at);
        }
    }

    /// Two in sequence from far away: the source has begun anew (RFC 3550, A.1), and what lies between is no loss.
    fn observe_stray(&mut self, sequence_number: u16, at: Instant) {
        match self.stray {
            Some((first, first_at)) if first.wrapping_add(1) == sequence_number => {
                self.begin(first, first_at);
                self.forward(1, at);
            }
            _ => self.stray = Some((sequence_number, at)),
        }
    }

    /// The packets that the next report is about: the number of the first and when each arrived, up to the newest.
    pub(crate) fn uncovered(&self) -> impl ExactSizeIterator<Item = Option<Instant>> {
        let start = self.received.partition_point(|arrival| arrival.number < self.cursor);
        let mut received = self.received.range(start..).peekable();
        let count = if self.pending() { self.newest - self.cursor + 1 } else { 0 };
        let cursor = self.cursor;
        // A span fits every size of a pointer.
        (0..count as usize)
            .map(move |n| received.next_if(|arrival| arrival.number == cursor + n as u64).map(|arrival| arrival.at))
    }

    /// A report has covered everything up to the newest.
    pub(crate) fn covered(&mut self) {
        self.cursor = self.newest + 1;
    }

    /// Forgets what was covered and arrived more than `window` before `now`. Until then it is kept, for a report that
    /// begins again at a late packet has to say once more that it arrived (RFC 8888, 3.1).
    pub(crate) fn forget(&mut self, now: Instant, window: Duration) {
        while let Some(first) = self.received.front() {
            if first.number >= self.cursor || now - first.at <= window {
                break;
            }
            self.floor = first.number + 1;
            self.received.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(500);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// These numbers, a millisecond apart.
    fn fed(numbers: impl IntoIterator<Item = u16>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (at, number) in numbers.into_iter().enumerate() {
            arrivals.observe(number, ms(at as u64));
        }
        arrivals
    }

    /// The first number of the next report, and in milliseconds when the packets from there on arrived.
    fn uncovered(arrivals: &Arrivals) -> (u16, Vec<Option<u64>>) {
        let times = arrivals.uncovered().map(|at| at.map(|at| at.as_nanos() / 1_000_000));
        (arrivals.cursor() as u16, times.collect())
    }

    #[test]
    fn what_arrived_and_what_did_not_is_told_across_the_wrap() {
        let arrivals = fed([65_533, 65_535, 1, 65_534]);
        assert_eq!(uncovered(&arrivals), (65_533, vec![Some(0), Some(3), Some(1), None, Some(2)]));
    }

    #[test]
    fn rfc_8888_3_1_of_copies_the_first_counts() {
        let mut arrivals = fed([1, 2, 3]);
        arrivals.observe(3, ms(50));
        arrivals.observe(2, ms(50));
        assert_eq!(uncovered(&arrivals), (1, vec![Some(0), Some(1), Some(2)]));
        arrivals.covered();
        arrivals.observe(2, ms(60));
        assert!(!arrivals.pending(), "a copy begins no report");
    }

    #[test]
    fn a_loss_is_told_once() {
        let mut arrivals = fed([1, 4]);
        assert_eq!(uncovered(&arrivals).1, [Some(0), None, None, Some(1)]);
        arrivals.covered();
        assert!(!arrivals.pending());
        arrivals.observe(5, ms(9));
        assert_eq!(uncovered(&arrivals), (5, vec![Some(9)]));
    }

    #[test]
    fn rfc_8888_3_1_a_report_begins_again_at_a_late_packet_and_repeats_what_arrived_since() {
        let mut arrivals = fed([1, 2, 4, 5]);
        arrivals.covered();
        arrivals.observe(3, ms(50));
        assert_eq!(uncovered(&arrivals), (3, vec![Some(50), Some(2), Some(3)]));
    }

    #[test]
    fn packets_sent_before_the_first_that_arrived_count() {
        assert_eq!(uncovered(&fed([10, 8, 11])), (8, vec![Some(1), None, Some(0), Some(2)]));
    }

    #[test]
    fn what_was_covered_is_forgotten_after_the_window_and_nothing_else() {
        let mut arrivals = fed([1, 2, 4]);
        arrivals.forget(ms(9000), WINDOW);
        assert_eq!(arrivals.received().len(), 3, "nothing was covered yet");
        arrivals.covered();
        arrivals.forget(ms(501), WINDOW);
        assert_eq!(arrivals.received().len(), 2);
        // Whether 1 arrived is not known any more, and that 3 did not is.
        arrivals.observe(1, ms(501));
        assert!(!arrivals.pending());
        arrivals.observe(3, ms(501));
        assert_eq!(uncovered(&arrivals), (3, vec![Some(501), Some(2)]));
        arrivals.covered();
        arrivals.forget(ms(9000), WINDOW);
        assert!(arrivals.received().is_empty());
        arrivals.observe(3, ms(9000));
        arrivals.observe(4, ms(9000));
        assert!(!arrivals.pending());
        arrivals.observe(6, ms(9001));
        assert_eq!(uncovered(&arrivals), (5, vec![None, Some(9001)]));
    }

    #[test]
    fn rfc_8888_3_1_a_report_is_about_no_more_than_a_quarter_of_the_numbers() {
        let mut arrivals = Arrivals::default();
        let mut number = 0u16;
        for at in 0..200 {
            arrivals.observe(number, ms(at));
            let (uncovered, received) = (arrivals.uncovered().len() as u64, arrivals.received());
            assert!(uncovered <= MAX_SPAN && arrivals.newest() - received[0].number < MAX_SPAN);
            assert_eq!(arrivals.uncovered().flatten().count(), received.len());
            number = number.wrapping_add(MAX_DROPOUT);
        }
        assert_eq!((arrivals.uncovered().len(), arrivals.received().len()), (MAX_METRICS, 6));
        // And so are arrivals of a source whose packets come without end and without a report.
        let arrivals = fed((0..100_000u32).map(|number| number as u16));
        assert_eq!((arrivals.uncovered().len(), arrivals.received().len()), (MAX_METRICS, MAX_METRICS));
    }

    #[test]
    fn numbers_beyond_the_span_are_forgotten() {
        let mut arrivals = fed(0..20_000);
        arrivals.observe(20_000 - MAX_METRICS as u16 - 1, ms(30_000));
        assert_eq!((arrivals.uncovered().len(), arrivals.received().len()), (MAX_METRICS, MAX_METRICS));
    }

    #[test]
    fn one_stray_packet_is_not_believed() {
        let mut arrivals = fed([100, 20_100, 101, 102]);
        arrivals.observe(20_102, ms(9));
        arrivals.observe(60_000, ms(9));
        arrivals.observe(103, ms(9));
        assert_eq!(uncovered(&arrivals), (100, vec![Some(0), Some(2), Some(3), Some(9)]));
    }

    #[test]
    fn rfc_3550_a_1_two_in_sequence_from_far_away_are_a_source_that_begins_anew() {
        for first in [20_000, 5_000, 65_535] {
            let mut arrivals = fed([9_000, 9_001]);
            arrivals.observe(first, ms(7));
            arrivals.observe(first.wrapping_add(1), ms(8));
            arrivals.observe(first.wrapping_add(2), ms(9));
            assert_eq!(uncovered(&arrivals), (first, vec![Some(7), Some(8), Some(9)]));
        }
    }

    #[test]
    fn arrivals_made_of_nonsense_are_made_sense_of() {
        let arrival = |number| Arrival { number, at: ms(0) };
        for newest in [0, 5, u64::MAX] {
            assert_eq!(Arrivals::resume(Vec::new(), newest, 9, 9).newest(), 0);
        }
        let numbers = [70_002, 7, 70_001, 70_001].map(arrival).to_vec();
        let mut arrivals = Arrivals::resume(numbers, 80_000, 0, 0);
        assert_eq!((arrivals.received().len(), arrivals.newest()), (2, 70_002));
        assert_eq!(arrivals.uncovered().len() as u64, MAX_SPAN);
        arrivals.observe(70_003u32 as u16, ms(1));
        assert_eq!(arrivals.newest(), 70_003);
        assert_eq!(Arrivals::resume(vec![arrival(70_000)], 70_000, 0, u64::MAX).cursor(), 70_000);
        assert!(!Arrivals::resume(Vec::new(), 70_000, 0, 0).pending());
    }
}
