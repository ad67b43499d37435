//! What the path has delivered lately, by the peer's clock: the incoming rate of draft-ietf-rmcat-gcc-02, 5.5.

use std::collections::VecDeque;

/// Over how long it is measured, in microseconds; over longer where there are few packets, but never over more than
/// `LONGEST`.
const WINDOW: i64 = 300_000;
const LONGEST: i64 = 1_000_000;
/// Packets below which the window is longer.
const FEW: usize = 20;
/// Packets, and microseconds between them, below which nothing is said.
const FEWEST: usize = 5;
const SHORTEST: i64 = 50_000;
/// Arrivals further apart than this are not of one flow of packets.
const GAP: i64 = 3_000_000;
/// Packets within the longest window, at most.
const MOST: usize = 1 << 14;

/// The latest arrivals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throughput {
    /// When, and how many bytes.
    arrivals: VecDeque<(i64, u32)>,
    bytes: u64,
}

impl Throughput {
    pub(crate) fn add(&mut self, at: i64, size: u32) {
        if self.arrivals.back().is_some_and(|(newest, _)| (at - newest).abs() > GAP) {
            *self = Self::default();
        }
        // One that was overtaken counts when it has arrived, which is now.
        let at = self.arrivals.back().map_or(at, |(newest, _)| at.max(*newest));
        self.arrivals.push_back((at, size));
        self.bytes += u64::from(size);
        while let Some((oldest, size)) = self.arrivals.front().copied() {
            let age = at - oldest;
            let over = age > LONGEST || self.arrivals.len() > MOST || (age > WINDOW && self.arrivals.len() > FEW);
            if !over {
                break;
            }
            self.arrivals.pop_front();
            self.bytes -= u64::from(size);
        }
    }

    /// Bits per second.
    pub(crate) fn rate(&self) -> Option<f64> {
        let ((oldest, first), (newest, _)) = (self.arrivals.front()?, self.arrivals.back()?);
        let span = newest - oldest;
        if self.arrivals.len() < FEWEST || span < SHORTEST {
            return None;
        }
        // What came before the first arrival is not known, and so its packet does not count.
        Some((self.bytes - u64::from(*first)) as f64 * 8e6 / span as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_has_its_rate() {
        let mut throughput = Throughput::default();
        for n in 0..1000 {
            throughput.add(n * 4_000, 1_500);
            // 3 Mbit/s.
            assert!(n < 20 || throughput.rate() == Some(3e6), "{n}: {:?}", throughput.rate());
        }
        assert!(throughput.arrivals.len() < 100);
    }

    #[test]
    fn a_change_shows_within_the_window() {
        let mut throughput = Throughput::default();
        let mut at = 0;
        for n in 0..400 {
            at += if n < 200 { 4_000 } else { 8_000 };
            throughput.add(at, 1_500);
        }
        assert_eq!(throughput.rate(), Some(1.5e6));
    }

    #[test]
    fn a_thin_flow_is_measured_over_longer() {
        let mut throughput = Throughput::default();
        for n in 0..50 {
            throughput.add(n * 100_000, 1_250);
        }
        assert_eq!(throughput.rate(), Some(1e5));
    }

    #[test]
    fn too_little_and_a_long_pause_say_nothing() {
        let mut throughput = Throughput::default();
        for n in 0..4 {
            throughput.add(n * 100_000, 1_500);
            assert_eq!(throughput.rate(), None);
        }
        throughput.add(10_000_000, 1_500);
        assert_eq!((throughput.rate(), throughput.arrivals.len()), (None, 1));
    }

    #[test]
    fn reordering_neither_breaks_nor_inflates_it() {
        let mut throughput = Throughput::default();
        for n in 0..200i64 {
            throughput.add((n ^ 3) * 4_000, 1_500);
        }
        let rate = throughput.rate().unwrap();
        assert!((2.8e6..3.2e6).contains(&rate), "{rate}");
    }
}
