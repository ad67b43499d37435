//! Round-trip times: from when a report left to when it was answered, less what the answerer kept it (RFC 3550, 6.4.1).

use std::time::Duration;

use sandbar_sdk::Instant;
use sandbar_sdk::serde::{Deserialize, Serialize};

/// Reports that are remembered: an answer to an older one is of no use.
const KEPT: usize = 5;
/// How much longer than the whole trip the answerer may say that it kept the report: clocks are read to 1/65536 s, and a
/// report leaves at the end of the tick in which it was made.
const TOLERANCE: Duration = Duration::from_millis(5);
/// A round trip longer than this is an answer to another clock's report.
const PLAUSIBLE: Duration = Duration::from_secs(10);

/// The latest reports that left: the middle 32 bits of their NTP time, and when that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Reports {
    kept: [(u32, u64); KEPT],
    count: u64,
}

/// What an answer says: which report it answers (LSR, LRR) and how long that was kept (DLSR, DLRR), in 1/65536 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) last_report: u32,
    pub(crate) delay: u32,
}

impl Reports {
    pub(crate) fn left(&mut self, middle: u32, at: Instant) {
        self.kept[(self.count % KEPT as u64) as usize] = (middle, at.as_nanos());
        self.count += 1;
    }

    /// The round trip that an answer which came at `at` ends. `ntp` is the wall clock then: what leaves closer to the wire
    /// is not seen here, and then the answer is to a report of this host's clock.
    pub(crate) fn answered(&self, answer: Answer, at: Instant, ntp: impl FnOnce() -> u64) -> Option<Duration> {
        // Without a report to answer, or kept for no time, there is nothing to tell (webrtc-stats: roundTripTime).
        if answer.last_report == 0 || answer.delay == 0 {
            return None;
        }
        let kept = self.kept.get(..self.count.min(KEPT as u64) as usize).unwrap_or_default();
        if kept.is_empty() {
            let units = (ntp() >> 16) as u32;
            let round_trip = seconds(units.wrapping_sub(answer.last_report).wrapping_sub(answer.delay));
            return (round_trip < PLAUSIBLE).then_some(round_trip);
        }
        let (_, left) = kept.iter().find(|(middle, _)| *middle == answer.last_report)?;
        let (trip, delay) = (at - Instant::from_nanos(*left), seconds(answer.delay));
        (delay <= trip + TOLERANCE).then(|| trip.saturating_sub(delay))
    }
}

/// From 1/65536 s.
fn seconds(units: u32) -> Duration {
    Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16)
}

/// Round trips of one stream, as webrtc-stats adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct RoundTrips {
    /// In seconds.
    pub(crate) latest: Option<f64>,
    pub(crate) total: f64,
    pub(crate) measurements: u64,
}

impl RoundTrips {
    pub(crate) fn add(&mut self, round_trip: Option<Duration>) {
        if let Some(round_trip) = round_trip {
            self.latest = Some(round_trip.as_secs_f64());
            self.total += round_trip.as_secs_f64();
            self.measurements += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn answer(last_report: u32, delay_ms: u32) -> Answer {
        Answer { last_report, delay: delay_ms * 65_536 / 1000 }
    }

    fn never() -> u64 {
        panic!("the wall clock is not needed")
    }

    #[test]
    fn rfc_3550_6_4_1_the_example_of_figure_2() {
        // The report left at 0xb705:2000 and was kept for 0x0005:4000; the answer comes at 0xb710:8000: 6.125 s.
        let answer = Answer { last_report: 0xb705_2000, delay: 0x0005_4000 };
        let mut reports = Reports::default();
        assert_eq!(reports.answered(answer, ms(0), || 0x0000_b710_8000_0000), Some(Duration::from_millis(6125)));
        reports.left(0xb705_2000, ms(1000));
        assert_eq!(reports.answered(answer, ms(12_375), never), Some(Duration::from_millis(6125)));
    }

    #[test]
    fn the_last_five_reports_can_be_answered() {
        let mut reports = Reports::default();
        for n in 1..=7u32 {
            reports.left(n << 16, ms(u64::from(n) * 1000));
        }
        for n in 1..=7u32 {
            let found = reports.answered(answer(n << 16, 500), ms(8040), never);
            let expected = Duration::from_millis(8040 - u64::from(n) * 1000 - 500);
            assert_eq!(found, (n > 2).then_some(expected), "{n}");
        }
    }

    #[test]
    fn what_answers_nothing_or_another_clock_is_no_measurement() {
        let mut reports = Reports::default();
        let ntp = || 0xb44d_b705_2000_0000;
        for answer in [Answer { last_report: 0, delay: 9 }, Answer { last_report: 9, delay: 0 }, answer(1, 1)] {
            assert_eq!(reports.answered(answer, ms(0), ntp), None);
        }
        reports.left(7, ms(1000));
        assert_eq!(reports.answered(answer(8, 10), ms(1050), never), None);
        assert_eq!(reports.answered(answer(7, 1060), ms(1050), never), None, "kept for longer than it was away");
        assert_eq!(reports.answered(answer(7, 52), ms(1050), never), Some(Duration::ZERO));
    }

    #[test]
    fn measurements_add_up() {
        let mut trips = RoundTrips::default();
        for round_trip in [Some(Duration::from_millis(250)), None, Some(Duration::from_millis(500))] {
            trips.add(round_trip);
        }
        assert_eq!((trips.latest, trips.total, trips.measurements), (Some(0.5), 0.75, 2));
    }
}
