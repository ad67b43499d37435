//! Packets that are held: their numbers, for the host has them.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar_sdk::Instant;
use sandbar_sdk::serde::{Deserialize, Serialize};

/// A packet in its stream's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Held {
    pub(crate) ssrc: u32,
    pub(crate) sequence_number: u16,
    /// Bytes.
    pub(crate) size: u16,
    /// When it came, in nanoseconds of the host's clock.
    pub(crate) since: u64,
}

/// In the order in which they came, of all streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    held: VecDeque<Held>,
    bytes: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn push(&mut self, held: Held) {
        self.bytes += u64::from(held.size);
        self.held.push_back(held);
    }

    /// Puts back what `pop` gave.
    pub(crate) fn unpop(&mut self, held: Held) {
        self.bytes += u64::from(held.size);
        self.held.push_front(held);
    }

    pub(crate) fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= u64::from(held.size);
        Some(held)
    }

    /// Takes out a stream's.
    pub(crate) fn take(&mut self, ssrc: u32) -> VecDeque<Held> {
        let (of_stream, others) = self.held.iter().partition(|held| held.ssrc == ssrc);
        self.held = others;
        self.bytes = self.held.iter().map(|held| u64::from(held.size)).sum();
        of_stream
    }

    /// How long the oldest has been held.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.held.front().map_or(Duration::ZERO, |oldest| now - Instant::from_nanos(oldest.since))
    }

    /// The rate, in bits per second, at which nothing is held for longer than `longest`.
    pub(crate) fn pressure(&self, now: Instant, longest: Duration, interval: Duration) -> f64 {
        let left = longest.saturating_sub(self.age(now)).max(interval);
        self.bytes as f64 * 8.0 / left.as_secs_f64()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(ssrc: u32, sequence_number: u16, millis: u64) -> Held {
        Held { ssrc, sequence_number, size: 1000, since: Instant::from_millis(millis).as_nanos() }
    }

    #[test]
    fn a_stream_is_taken_out_in_its_order_and_the_others_keep_theirs() {
        let mut queue = Queue::default();
        for n in 0..10 {
            queue.push(held(u32::from(n % 3), n, 0));
        }
        let taken: Vec<_> = queue.take(1).iter().map(|held| held.sequence_number).collect();
        assert_eq!(taken, [1, 4, 7]);
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|held| held.sequence_number).collect();
        assert_eq!((rest, queue.bytes), (vec![0, 2, 3, 5, 6, 8, 9], 0));
    }

    #[test]
    fn the_longer_it_is_held_the_faster_it_has_to_go() {
        let (longest, interval) = (Duration::from_secs(2), Duration::from_millis(5));
        let mut queue = Queue::default();
        assert_eq!(queue.pressure(Instant::ZERO, longest, interval), 0.0);
        for n in 0..250 {
            queue.push(held(1, n, 0));
        }
        assert_eq!(queue.pressure(Instant::ZERO, longest, interval), 1e6);
        assert_eq!(queue.pressure(Instant::from_millis(1_000), longest, interval), 2e6);
        assert_eq!(queue.pressure(Instant::from_millis(9_000), longest, interval), 4e8);
    }
}
