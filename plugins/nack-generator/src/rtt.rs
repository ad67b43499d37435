//! The round-trip time to whoever answers the requests, from how long answers take.

use std::time::Duration;

use sandbar_sdk::Instant;

use crate::log::Missing;

/// Requests for one packet are never closer than this, whatever the estimate says.
const FLOOR: Duration = Duration::from_millis(10);
/// And never further apart: an estimate may be wrong, and media is of no use later.
const CEILING: Duration = Duration::from_secs(1);

/// A smoothed round-trip time in nanoseconds (RFC 6298, 2), shared by the session's streams: it is the path's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RoundTrip {
    /// 0 before the first sample.
    pub(crate) smoothed: u64,
    pub(crate) variation: u64,
}

impl RoundTrip {
    /// The smoothed round-trip time, if known.
    pub(crate) fn estimate(&self) -> Option<Duration> {
        (self.smoothed != 0).then(|| Duration::from_nanos(self.smoothed))
    }

    /// How long to wait for an answer before asking again: a round trip and its usual variation, and `unknown` as long
    /// as there is no estimate.
    pub(crate) fn spacing(&self, unknown: Duration) -> Duration {
        if self.smoothed == 0 {
            return unknown;
        }
        Duration::from_nanos(self.smoothed + self.variation).clamp(FLOOR, CEILING)
    }

    /// A packet that was asked for has arrived.
    pub(crate) fn answered(&mut self, missing: &Missing, at: Instant) {
        let since_first = nanos(at - missing.first);
        let since_last = nanos(at - missing.last);
        // After several requests nobody knows which was answered (Karn's algorithm). But when the last one is too
        // recent for that, the first was, and the estimate is too small: without this it could never grow.
        if missing.tries > 1 && self.smoothed != 0 && since_last >= self.smoothed / 2 {
            return;
        }
        self.sample(since_first);
    }

    fn sample(&mut self, nanos: u64) {
        let nanos = nanos.clamp(1, CEILING.as_nanos() as u64);
        if self.smoothed == 0 {
            *self = Self { smoothed: nanos, variation: nanos / 2 };
            return;
        }
        self.variation = (3 * self.variation + self.smoothed.abs_diff(nanos)) / 4;
        self.smoothed = (7 * self.smoothed + nanos) / 8;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Duration = Duration::from_millis(100);

    fn missing(tries: u16, first: u64, last: u64) -> Missing {
        let (first, last) = (Instant::from_millis(first), Instant::from_millis(last));
        Missing { number: 1, first, last, due: last, tries }
    }

    fn answered(round_trip: &mut RoundTrip, missing: Missing, at: u64) {
        round_trip.answered(&missing, Instant::from_millis(at));
    }

    #[test]
    fn the_spacing_is_what_is_configured_until_something_is_known() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.spacing(UNKNOWN), UNKNOWN);
        answered(&mut round_trip, missing(1, 0, 0), 40);
        assert_eq!(round_trip.estimate(), Some(Duration::from_millis(40)));
        assert_eq!(round_trip.spacing(UNKNOWN), Duration::from_millis(60));
    }

    #[test]
    fn steady_answers_bring_the_spacing_down_to_the_round_trip() {
        let mut round_trip = RoundTrip::default();
        for _ in 0..40 {
            answered(&mut round_trip, missing(1, 0, 0), 40);
        }
        let spacing = round_trip.spacing(UNKNOWN);
        assert!((Duration::from_millis(40)..Duration::from_millis(41)).contains(&spacing), "{spacing:?}");
    }

    #[test]
    fn karn_answers_to_one_of_several_requests_say_nothing() {
        let mut round_trip = RoundTrip::default();
        answered(&mut round_trip, missing(1, 0, 0), 40);
        let before = round_trip;
        answered(&mut round_trip, missing(2, 0, 60), 100);
        assert_eq!(round_trip, before);
    }

    #[test]
    fn an_estimate_that_is_too_small_grows() {
        let mut round_trip = RoundTrip::default();
        answered(&mut round_trip, missing(1, 0, 0), 20);
        for _ in 0..40 {
            // Asked for every 30 ms, while answers take 200.
            answered(&mut round_trip, missing(7, 0, 195), 200);
        }
        assert!(round_trip.spacing(UNKNOWN) > Duration::from_millis(180));
    }

    #[test]
    fn the_spacing_stays_within_bounds() {
        let mut round_trip = RoundTrip::default();
        answered(&mut round_trip, missing(1, 5, 5), 5);
        assert_eq!(round_trip.spacing(UNKNOWN), FLOOR);
        answered(&mut round_trip, missing(1, 0, 0), 100_000_000);
        for _ in 0..40 {
            answered(&mut round_trip, missing(1, 0, 0), 100_000_000);
        }
        assert_eq!(round_trip.spacing(UNKNOWN), CEILING);
    }
}
