//! How much may be retransmitted: a token bucket over the session, against floods of NACKs.

use std::time::Duration;

use sandbar_sdk::Instant;

/// A token bucket in bytes. Without a rate it never runs dry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bits per second; 0 is no limit.
    rate: u64,
    /// Bytes that a full bucket holds.
    depth: u64,
    tokens: u64,
    filled: Instant,
}

impl Budget {
    /// A full bucket that fills at `rate` bits per second and holds what `burst` brings.
    pub(crate) fn new(rate: u64, burst: Duration, now: Instant) -> Self {
        let depth = bytes(rate, burst);
        Self { rate, depth, tokens: depth, filled: now }
    }

    /// Whether nothing may be sent at `now`.
    pub(crate) fn is_spent(&mut self, now: Instant) -> bool {
        let earned = bytes(self.rate, now - self.filled);
        // What is less than a byte is left to accumulate.
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.depth);
            self.filled = now;
        }
        self.rate != 0 && self.tokens == 0
    }

    /// Takes `size` bytes, or what there is: the packet that empties the bucket still goes, so that one larger than the
    /// bucket is not stuck for ever.
    pub(crate) fn take(&mut self, size: u64) {
        self.tokens = self.tokens.saturating_sub(size);
    }
}

fn bytes(rate: u64, over: Duration) -> u64 {
    let micros = u64::try_from(over.as_micros()).unwrap_or(u64::MAX);
    rate.saturating_mul(micros) / 8_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_empties_the_bucket_and_time_fills_it() {
        let mut budget = Budget::new(80_000, SECOND, Instant::ZERO);
        for _ in 0..10 {
            assert!(!budget.is_spent(Instant::ZERO));
            budget.take(1000);
        }
        assert!(budget.is_spent(Instant::ZERO));
        // 10,000 bytes a second.
        assert!(!budget.is_spent(Instant::from_millis(1)));
        budget.take(1000);
        assert!(budget.is_spent(Instant::from_millis(1)));
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let mut budget = Budget::new(80_000, SECOND, Instant::ZERO);
        budget.take(10_000);
        assert!(!budget.is_spent(Instant::from_millis(1_000_000)));
        budget.take(9_999);
        assert!(!budget.is_spent(Instant::from_millis(1_000_000)));
        budget.take(1);
        assert!(budget.is_spent(Instant::from_millis(1_000_000)));
    }

    #[test]
    fn time_too_short_for_a_byte_is_not_lost() {
        let mut budget = Budget::new(8_000, SECOND, Instant::ZERO);
        budget.take(1000);
        // A byte a millisecond, asked for ten times in each.
        let answers = (1..=100).filter(|tenth| {
            let free = !budget.is_spent(Instant::from_nanos(tenth * 100_000));
            if free {
                budget.take(1);
            }
            free
        });
        assert_eq!(answers.count(), 10);
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut budget = Budget::new(0, SECOND, Instant::ZERO);
        budget.take(u64::MAX);
        assert!(!budget.is_spent(Instant::ZERO));
    }
}
