//! Interarrival jitter (RFC 3550, 6.4.1 and A.8).

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// The smoothed difference between how far apart packets arrived and how far apart they were sampled, in units of the
/// RTP timestamp. Taken from each packet to the one that arrived before it, whatever their sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jitter {
    /// RTP timestamp units per nanosecond; 0 where the clock rate is unknown, and there is no jitter to tell then.
    rate: f64,
    /// In units of the RTP timestamp.
    pub value: f64,
    /// Arrival and RTP timestamp of the packet before; none where a sequence begins.
    pub last: Option<(Instant, u32)>,
}

impl Jitter {
    /// Of a source with this clock rate; 0 where that is unknown.
    pub fn new(clock_rate: u32) -> Self {
        Self { rate: f64::from(clock_rate) / 1e9, value: 0.0, last: None }
    }

    /// A packet with this RTP timestamp has arrived.
    #[inline(always)]
    pub fn observe(&mut self, at: Instant, timestamp: u32) {
        if let Some((last_at, last_timestamp)) = self.last {
            // Signed, so that neither a wrap of the timestamp nor packets of an earlier frame make a huge difference.
            let sampled = timestamp.wrapping_sub(last_timestamp) as i32;
            let arrived = at.as_nanos().wrapping_sub(last_at.as_nanos()) as i64;
            let difference = (arrived as f64 * self.rate - f64::from(sampled)).abs();
            // One step fewer waits for the value before than with the difference of both.
            self.value = self.value * (15.0 / 16.0) + difference / 16.0;
        }
        self.last = Some((at, timestamp));
    }

    /// As reports carry it, in units of the RTP timestamp.
    pub fn report(&self) -> u32 {
        if self.rate == 0.0 { 0 } else { self.value as u32 }
    }

    /// In seconds.
    pub fn seconds(&self) -> f64 {
        if self.rate == 0.0 { 0.0 } else { self.value / (self.rate * 1e9) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn rfc_3550_6_4_1_a_sixteenth_of_each_difference() {
        let mut jitter = Jitter::new(90_000);
        jitter.observe(ms(0), 42_378_934);
        jitter.observe(ms(1000), 42_378_934 + 60_000);
        assert_eq!(jitter.report(), 30_000 / 16);
        assert!((jitter.seconds() - 1.0 / 48.0).abs() < 1e-12, "a third of a second");
        jitter.observe(ms(2000), 42_378_934 + 150_000);
        assert_eq!(jitter.report(), 30_000 / 16 * 15 / 16);
    }

    /// The integer arithmetic of A.8, of which this is the floating-point form.
    #[test]
    fn rfc_3550_a_8_gives_the_same() {
        let mut jitter = Jitter::new(8000);
        let (mut scaled, mut transit) = (0i64, None);
        let mut seed = 1u64;
        for n in 0..5000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, timestamp) = (20 * n + (seed >> 59), (160 * n) as u32);
            jitter.observe(ms(at), timestamp);
            let now = at as i64 * 8 - i64::from(timestamp);
            if let Some(before) = transit.replace(now) {
                let difference: i64 = now - before;
                scaled += difference.abs() - ((scaled + 8) >> 4);
            }
        }
        assert!((i64::from(jitter.report()) - (scaled >> 4)).abs() <= 1, "{} {}", jitter.report(), scaled >> 4);
    }

    #[test]
    fn timestamps_wrap_and_run_backwards_without_a_jump() {
        let mut jitter = Jitter::new(90_000);
        jitter.observe(ms(0), u32::MAX - 449);
        jitter.observe(ms(10), 450);
        jitter.observe(ms(20), u32::MAX - 449);
        assert_eq!(jitter.report(), 1800 / 16);
    }

    #[test]
    fn without_a_clock_rate_there_is_no_jitter() {
        let mut jitter = Jitter::new(0);
        jitter.observe(ms(0), 0);
        jitter.observe(ms(10), 90_000);
        assert_eq!((jitter.report(), jitter.seconds()), (0, 0.0));
    }
}
