//! How much may be sent now.

use std::time::Duration;

use sandbar_sdk::Instant;

/// What has been sent ahead of the rate. It may be an interval's worth; the packet that exceeds that still goes, however
/// large it is, and the next ones wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bits.
    debt: f64,
    settled: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { debt: 0.0, settled: now }
    }

    /// Time has paid at this rate.
    #[inline]
    pub(crate) fn settle(&mut self, now: Instant, rate: f64) {
        self.debt = (self.debt - rate * (now - self.settled).as_secs_f64()).max(0.0);
        self.settled = self.settled.max(now);
    }

    #[inline]
    pub(crate) fn is_free(&self, rate: f64, interval: Duration) -> bool {
        self.debt < rate * interval.as_secs_f64()
    }

    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) {
        self.debt += bytes as f64 * 8.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(5);

    /// Sends packets of `size` as fast as allowed for `millis`; gives how many.
    fn run(rate: f64, size: usize, millis: u64) -> u64 {
        let mut budget = Budget::new(Instant::ZERO);
        let mut sent = 0;
        for tick in (0..millis).step_by(5) {
            budget.settle(Instant::from_millis(tick), rate);
            while budget.is_free(rate, INTERVAL) {
                budget.take(size);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_whatever_the_size_of_packets() {
        for size in [100, 1200, 9000] {
            let rate = run(2e6, size, 10_000) * size as u64 * 8 / 10;
            assert!((1_990_000..2_020_000).contains(&rate), "{size}: {rate}");
        }
    }

    #[test]
    fn a_packet_larger_than_a_burst_goes_and_is_paid_for() {
        // 125 bytes an interval.
        assert_eq!(run(2e5, 1250, 500), 10);
    }

    #[test]
    fn silence_saves_nothing_up() {
        let mut budget = Budget::new(Instant::ZERO);
        budget.settle(Instant::from_millis(60_000), 1e6);
        let mut burst = 0;
        while budget.is_free(1e6, INTERVAL) {
            budget.take(125);
            burst += 125;
        }
        assert_eq!(burst, 625);
    }
}
