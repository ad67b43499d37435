//! How much of the delay is a queue: what exceeds the least delay of the last while. The two clocks' difference is in both.

/// For how long the least delay counts, once to twice, in microseconds: longer than a queue lasts that is not a path's own,
/// and short enough that clocks which run apart do not matter.
const WHILE: i64 = 10_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueDelay {
    /// The least of this while and of the one before, and when this one began.
    least: Option<(i64, i64)>,
    began: i64,
    latest: i64,
}

impl QueueDelay {
    /// A packet's times, in microseconds of two clocks.
    #[inline]
    pub(crate) fn add(&mut self, sent: i64, arrived: i64) {
        let delay = arrived.wrapping_sub(sent);
        self.latest = delay;
        self.least = match self.least {
            None => {
                self.began = sent;
                Some((delay, delay))
            }
            Some((this, _)) if sent.wrapping_sub(self.began) > WHILE => {
                self.began = sent;
                Some((delay, this))
            }
            Some((this, before)) => Some((this.min(delay), before)),
        };
    }

    /// Of the latest packet, in microseconds.
    pub(crate) fn now(&self) -> i64 {
        self.least.map_or(0, |(this, before)| self.latest.wrapping_sub(this.min(before)).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_what_exceeds_the_least_delay_of_late() {
        let mut queue = QueueDelay::default();
        assert_eq!(queue.now(), 0);
        for n in 0..500 {
            queue.add(n * 10_000, n * 10_000 + 7_000_000 + (n % 100) * 1_000);
            assert_eq!(queue.now(), (n % 100) * 1_000);
        }
        // A longer way: for a while it looks like a queue.
        for n in 500..3_000 {
            queue.add(n * 10_000, n * 10_000 + 7_500_000);
        }
        assert_eq!(queue.now(), 0);
        // A shorter one.
        queue.add(30_000_000, 36_000_000);
        assert_eq!(queue.now(), 0);
    }
}
