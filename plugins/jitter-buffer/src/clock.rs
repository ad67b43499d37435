//! When a packet is played: by its RTP timestamp, so that packets leave as evenly as they were sampled.

use std::time::Duration;

use sandbar_sdk::Instant;
use sandbar_sdk::serde::{Deserialize, Serialize};

/// For how long a packet that came fast sets the pace: clocks that differ by 100 ppm drift apart by 1 ms in that time.
const WINDOW: Duration = Duration::from_secs(10);
/// A packet that is this much earlier or later than its timestamp says, besides the delay, has a timestamp of a new
/// timeline. Taken for one by mistake, it costs a stream no more than a moment of uneven playout.
const JUMP: Duration = Duration::from_secs(1);

/// Plays each packet `delay` after the fastest packet of late would have come with its timestamp, and never later than
/// `delay` after it came itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Nanoseconds of a timestamp unit; 0 where the clock rate is unknown, and then each packet is held for as long.
    unit: f64,
    delay: f64,
    pub(crate) timeline: Option<Timeline>,
}

/// A stretch of consistent timestamps. Transits are nanoseconds between sampling and arrival, less those of its first
/// packet, of which nobody knows how long they were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Timeline {
    /// Of the packet before.
    at: u64,
    timestamp: u32,
    transit: f64,
    /// The least transit of this window and of the one before.
    least: f64,
    before: f64,
    /// When the window ends.
    end: u64,
}

/// When a packet is to be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Play {
    pub(crate) at: Instant,
    /// A new timeline begins with it.
    pub(crate) jumped: bool,
}

impl Clock {
    pub(crate) fn new(clock_rate: u32, delay: Duration) -> Self {
        let unit = if clock_rate == 0 { 0.0 } else { 1e9 / f64::from(clock_rate) };
        Self { unit, delay: delay.as_nanos() as f64, timeline: None }
    }

    /// A packet has come. One that was repaired says nothing about how long others take.
    #[inline]
    pub(crate) fn play(&mut self, timestamp: u32, at: Instant, repaired: bool) -> Play {
        let arrived = at.as_nanos();
        let Some(line) = self.timeline.as_mut().filter(|_| self.unit != 0.0) else {
            if !repaired {
                self.timeline = Some(Timeline::begin(timestamp, arrived));
            }
            return self.held_for(at, self.delay, false);
        };
        let sampled = f64::from(timestamp.wrapping_sub(line.timestamp) as i32) * self.unit;
        let transit = line.transit + arrived.wrapping_sub(line.at) as i64 as f64 - sampled;
        let base = line.least.min(line.before);
        if repaired {
            return self.held_for(at, self.delay + base - transit, false);
        }
        if (transit - base).abs() > JUMP.as_nanos() as f64 + self.delay {
            *line = Timeline::begin(timestamp, arrived);
            return self.held_for(at, self.delay, true);
        }
        if arrived >= line.end {
            (line.before, line.least, line.end) =
                (line.least, transit, arrived.saturating_add(WINDOW.as_nanos() as u64));
        }
        line.least = line.least.min(transit);
        (line.at, line.timestamp, line.transit) = (arrived, timestamp, transit);
        let base = line.least.min(line.before);
        self.held_for(at, self.delay + base - transit, false)
    }

    fn held_for(&self, at: Instant, nanos: f64, jumped: bool) -> Play {
        let nanos = nanos.clamp(0.0, self.delay) as u64;
        Play { at: at + Duration::from_nanos(nanos), jumped }
    }
}

impl Timeline {
    fn begin(timestamp: u32, at: u64) -> Self {
        let end = at.saturating_add(WINDOW.as_nanos() as u64);
        Self { at, timestamp, transit: 0.0, least: 0.0, before: 0.0, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// A clock of 1000 Hz, so that timestamps are milliseconds.
    fn clock() -> Clock {
        Clock::new(1000, DELAY)
    }

    fn played(clock: &mut Clock, timestamp: u32, at: u64) -> u64 {
        let play = clock.play(timestamp, ms(at), false);
        assert!(!play.jumped);
        play.at.as_nanos() / 1_000_000
    }

    #[test]
    fn packets_are_played_as_far_apart_as_they_were_sampled() {
        let mut clock = clock();
        assert_eq!(played(&mut clock, 0, 1000), 1100);
        assert_eq!(played(&mut clock, 20, 1050), 1120);
        assert_eq!(played(&mut clock, 40, 1060), 1140);
        assert_eq!(played(&mut clock, 60, 1200), 1200, "too late for its time: at once");
        assert_eq!(played(&mut clock, 80, 1201), 1201);
        assert_eq!(played(&mut clock, 200, 1202), 1300);
    }

    #[test]
    fn a_faster_packet_sets_the_pace() {
        let mut clock = clock();
        assert_eq!(played(&mut clock, 0, 1080), 1180);
        assert_eq!(played(&mut clock, 20, 1020), 1120);
        assert_eq!(played(&mut clock, 40, 1060), 1140);
    }

    #[test]
    fn a_pace_that_is_no_longer_kept_is_given_up() {
        let mut clock = clock();
        played(&mut clock, 0, 1000);
        // From then on the path takes 60 ms more.
        for n in 1..997 {
            assert_eq!(played(&mut clock, n * 20, 1060 + u64::from(n) * 20), 1100 + u64::from(n) * 20);
        }
        // 21 s have passed, and with them the second window.
        for n in 997..1100 {
            assert_eq!(played(&mut clock, n * 20, 1060 + u64::from(n) * 20), 1160 + u64::from(n) * 20);
        }
    }

    #[test]
    fn a_drifting_clock_is_followed_both_ways() {
        for drift in [-1, 1] {
            let mut clock = clock();
            for n in 0..6000i64 {
                // A millisecond in every ten seconds: 100 ppm.
                let at = (10_000 + n * 20 + drift * n / 500) as u64;
                let held = played(&mut clock, n as u32 * 20, at) - at;
                assert!((97..=100).contains(&held), "{held} ms at packet {n}");
            }
        }
    }

    #[test]
    fn timestamps_wrap_and_run_backwards_with_reordered_frames() {
        let mut clock = clock();
        assert_eq!(played(&mut clock, u32::MAX - 19, 1000), 1100);
        assert_eq!(played(&mut clock, 20, 1040), 1140);
        assert_eq!(played(&mut clock, 0, 1041), 1120);
    }

    #[test]
    fn a_jump_of_the_timestamp_begins_a_new_timeline() {
        for jump in [5_000_000, 5_000_000u32.wrapping_neg()] {
            let mut clock = clock();
            played(&mut clock, 0, 1000);
            assert_eq!(clock.play(jump, ms(1020), false), Play { at: ms(1120), jumped: true });
            assert_eq!(played(&mut clock, jump.wrapping_add(20), 1045), 1140);
        }
    }

    #[test]
    fn a_pause_that_the_timestamp_does_not_know_of_begins_a_new_timeline() {
        let mut clock = clock();
        played(&mut clock, 0, 1000);
        assert_eq!(clock.play(20, ms(60_000), false), Play { at: ms(60_100), jumped: true });
        assert_eq!(clock.play(40 + 30_000, ms(90_020), false), Play { at: ms(90_120), jumped: false });
    }

    #[test]
    fn a_repaired_packet_keeps_its_time_and_sets_no_pace() {
        let mut clock = clock();
        played(&mut clock, 0, 1000);
        assert_eq!(clock.play(20, ms(1090), true).at, ms(1120));
        assert_eq!(clock.play(20, ms(1500), true).at, ms(1500));
        assert_eq!(clock.play(1 << 30, ms(1500), true).at, ms(1600));
        assert_eq!(played(&mut clock, 40, 1040), 1140);
    }

    #[test]
    fn without_a_clock_rate_each_packet_is_held_for_as_long() {
        let mut clock = Clock::new(0, DELAY);
        assert_eq!(played(&mut clock, 0, 1000), 1100);
        assert_eq!(played(&mut clock, 7_000_000, 1011), 1111);
    }

    #[test]
    fn no_timestamp_holds_a_packet_longer_than_the_delay() {
        let mut clock = Clock::new(1, DELAY);
        let mut seed = 1u64;
        for n in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = ms(1000 + n % 7000);
            let play = clock.play((seed >> 32) as u32, at, seed & 7 == 0);
            assert!(play.at >= at && play.at - at <= DELAY, "{:?}", play.at - at);
        }
    }
}
