//! Probes that an estimator orders: short stretches at a rate of their own.

use std::time::Duration;

use sandbar_sdk::Instant;

/// Version 1: a byte, then 12 bytes an order, as the plugin `gcc` lays it out.
const VERSION: u8 = 1;
const ORDER: usize = 12;
/// Orders that are looked at.
const MOST: usize = 8;
/// The longest probe: what is ordered beyond is cut.
const LONGEST: Duration = Duration::from_millis(200);

/// One that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) number: u32,
    /// Bits per second.
    rate: u32,
    duration: Duration,
    packets: u16,
}

/// The first order after the last one that was sent.
pub(crate) fn next(orders: &[u8], last: u32) -> Option<Order> {
    let ([VERSION], orders) = orders.split_first_chunk()? else { return None };
    let orders = orders.chunks_exact(ORDER).take(MOST).filter_map(|order| {
        let word =
            |at: usize| order.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
        let (number, rate, bounds) = (word(0), word(4), word(8));
        let duration = Duration::from_millis(u64::from(bounds & 0xffff)).min(LONGEST);
        let packets = (bounds >> 16) as u16;
        // A number wraps as any sequence does (RFC 1982).
        let new = number.wrapping_sub(last).wrapping_sub(1) < 1 << 31;
        (new && rate > 0).then_some(Order { number, rate, duration, packets })
    });
    orders.min_by_key(|order| order.number.wrapping_sub(last))
}

/// One that is being sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) order: Order,
    begun: Instant,
    bytes: usize,
    packets: u16,
}

impl Probe {
    pub(crate) fn begin(order: Order, now: Instant) -> Self {
        Self { order, begun: now, bytes: 0, packets: 0 }
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.packets = self.packets.saturating_add(1);
    }

    /// Whether a packet is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let due = f64::from(self.order.rate) / 8.0 * (now - self.begun).as_secs_f64();
        self.bytes == 0 || (self.bytes as f64) < due
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let bytes = f64::from(self.order.rate) / 8.0 * self.order.duration.as_secs_f64();
        let enough = self.bytes as f64 >= bytes && self.packets >= self.order.packets;
        enough || now - self.begun > 2 * LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(list: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![1];
        for (number, rate) in list {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&rate.to_le_bytes());
            bytes.extend_from_slice(&[15, 0, 5, 0]);
        }
        bytes
    }

    #[test]
    fn orders_are_sent_once_and_in_their_order() {
        let two = orders(&[(u32::MAX, 900_000), (1, 1_800_000)]);
        let first = next(&two, u32::MAX - 1).unwrap();
        assert_eq!(
            (first.number, first.rate, first.duration, first.packets),
            (u32::MAX, 900_000, Duration::from_millis(15), 5)
        );
        assert_eq!(next(&two, u32::MAX).map(|order| order.number), Some(1));
        assert_eq!((next(&two, 1), next(&orders(&[]), 0)), (None, None));
    }

    #[test]
    fn what_is_no_order_is_not_sent() {
        assert_eq!(next(&[], 0), None);
        assert_eq!(next(&[2, 0, 0], 0), None);
        assert_eq!(next(&orders(&[(1, 1)])[..12], 0), None);
        assert_eq!(next(&orders(&[(1, 0)]), 0), None);
        let many = orders(&(1..100).map(|n| (100 - n, 1)).collect::<Vec<_>>());
        assert_eq!(next(&many, 0).map(|order| order.number), Some(92), "only the first are looked at");
    }

    #[test]
    fn a_probe_has_its_rate_and_as_many_packets_as_ordered() {
        for (rate, size) in [(900_000, 1200), (9_000_000, 1200), (900_000, 200)] {
            let order = next(&orders(&[(1, rate)]), 0).unwrap();
            let mut probe = Probe::begin(order, Instant::ZERO);
            let mut millis = 0;
            let mut sent = 0;
            while !probe.is_over(Instant::from_millis(millis)) {
                while probe.is_due(Instant::from_millis(millis)) && !probe.is_over(Instant::from_millis(millis)) {
                    probe.sent(size);
                    sent += 1;
                }
                millis += 1;
            }
            let measured = (sent - 1) * size * 8 * 1000 / (millis - 1).max(1) as usize;
            assert!(sent >= 5 && measured > rate as usize * 8 / 10, "{rate} {size}: {sent} packets in {millis} ms");
            assert!(measured < rate as usize * 12 / 10, "{rate} {size}: {measured}");
        }
    }
}
