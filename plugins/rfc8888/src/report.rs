//! One report packet (RFC 8888, 3.1).

use sandbar_sdk::Instant;

/// Version 2, feedback message type 11.
const FIRST_BYTE: u8 = 0x80 | 11;
/// Transport-layer feedback.
const RTPFB: u8 = 205;
/// Header and sender's SSRC.
const HEAD: usize = 8;
/// SSRC, first sequence number and number of metric blocks.
const BLOCK_HEAD: usize = 8;
/// A packet's metric block.
const METRIC: usize = 2;
/// The report timestamp, at the end.
const TIMESTAMP: usize = 4;
/// Metric blocks of one report block: a quarter of the sequence numbers.
pub(crate) const MAX_METRICS: usize = 1 << 14;
/// The smallest packet that says something. Metric blocks come in pairs, the last one filled up with zeroes.
const LEAST: usize = HEAD + BLOCK_HEAD + 2 * METRIC + TIMESTAMP;

const RECEIVED: u16 = 0x8000;
/// The latest arrival time offset that is told exactly, in 1/1024 s.
const MAX_OFFSET: u64 = 0x1FFD;
/// The packet arrived longer ago than that.
const OVER_RANGE: u16 = 0x1FFE;
/// It is not known when the packet arrived, or it was after the report.
const UNAVAILABLE: u16 = 0x1FFF;
const NANOS: u64 = 1_000_000_000;

/// What a report at `now` says of a packet. Its ECN mark, which no plugin is shown, is 0: not known or not used.
pub(crate) fn metric(arrived: Option<Instant>, now: Instant) -> u16 {
    let Some(arrived) = arrived else { return 0 };
    if arrived > now {
        return RECEIVED | UNAVAILABLE;
    }
    let scaled = (now.as_nanos() - arrived.as_nanos()).saturating_mul(1024);
    if scaled > MAX_OFFSET * NANOS {
        return RECEIVED | OVER_RANGE;
    }
    RECEIVED | ((scaled + NANOS / 2) / NANOS) as u16
}

/// A report packet in the making.
#[derive(Debug)]
pub(crate) struct Report {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Report {
    /// A packet from `sender` of at most `max_bytes`, which is a size that can say something.
    pub(crate) fn new(sender: u32, max_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(max_bytes);
        bytes.extend_from_slice(&[FIRST_BYTE, RTPFB, 0, 0]);
        bytes.extend_from_slice(&sender.to_be_bytes());
        Self { bytes, max_bytes: max_bytes.max(LEAST) }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD
    }

    /// How many metric blocks another report block may have.
    pub(crate) fn room(&self) -> usize {
        let bytes = self.max_bytes.saturating_sub(self.bytes.len() + BLOCK_HEAD + TIMESTAMP);
        (bytes / (2 * METRIC) * 2).min(MAX_METRICS)
    }

    /// Adds a report block: the metric blocks of as many packets of `media`, from the number `begin` on. There must be
    /// room for them.
    pub(crate) fn add(&mut self, media: u32, begin: u16, metrics: impl Iterator<Item = u16>) {
        self.bytes.extend_from_slice(&media.to_be_bytes());
        self.bytes.extend_from_slice(&begin.to_be_bytes());
        let start = self.bytes.len() + METRIC;
        self.bytes.extend_from_slice(&[0; METRIC]);
        for metric in metrics {
            self.bytes.extend_from_slice(&metric.to_be_bytes());
        }
        let count = (self.bytes.len() - start) / METRIC;
        self.put(start - METRIC, count as u16);
        if count % 2 == 1 {
            self.bytes.extend_from_slice(&[0; METRIC]);
        }
    }

    /// The packet. `timestamp` is the middle of the NTP timestamp of the moment that the arrivals were offset from.
    pub(crate) fn finish(mut self, timestamp: u32) -> Vec<u8> {
        self.bytes.extend_from_slice(&timestamp.to_be_bytes());
        self.put(2, (self.bytes.len() / 4 - 1) as u16);
        self.bytes
    }

    fn put(&mut self, at: usize, value: u16) {
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::rtcp::packet;
    use sandbar_sdk::rtcp::transport_feedbacks::cc_feedback_report::{CcFeedbackReport, Ecn};

    use super::*;

    const NOW: Instant = Instant::from_millis(100_000);

    /// A packet that arrived so many nanoseconds ago.
    fn ago(nanos: u64) -> u16 {
        metric(Some(Instant::from_nanos(NOW.as_nanos() - nanos)), NOW)
    }

    fn read(bytes: &[u8]) -> CcFeedbackReport {
        let packets = packet::unmarshal(&mut &bytes[..]).unwrap();
        assert_eq!(packets.len(), 1);
        packets[0].as_any().downcast_ref::<CcFeedbackReport>().unwrap().clone()
    }

    #[test]
    fn rfc_8888_3_1_a_packet_byte_by_byte() {
        let mut report = Report::new(0x0a0b_0c0d, 1200);
        // Half a second ago, lost, just now; and of another stream one packet, a quarter of a second ago.
        let metrics = [ago(500_000_000), metric(None, NOW), ago(0)];
        report.add(0x1111, 0xffff, metrics.into_iter());
        report.add(0x2222, 7, [ago(250_000_000)].into_iter());
        let expected = [
            [0x8b, 205, 0, 9],
            [0x0a, 0x0b, 0x0c, 0x0d],
            [0, 0, 0x11, 0x11],
            [0xff, 0xff, 0, 3],
            [0x82, 0x00, 0, 0],
            [0x80, 0x00, 0, 0],
            [0, 0, 0x22, 0x22],
            [0, 7, 0, 1],
            [0x81, 0x00, 0, 0],
            [0xde, 0xad, 0xbe, 0xef],
        ];
        assert_eq!(report.finish(0xdead_beef), expected.concat());
    }

    #[test]
    fn rfc_8888_3_1_an_offset_of_512_is_exactly_half_a_second() {
        assert_eq!(ago(500_000_000), 0x8000 | 512);
        assert_eq!(ago(NANOS), 0x8000 | 1024);
        // The nearest, not the next lower.
        assert_eq!((ago(488_281), ago(488_282)), (0x8000, 0x8001));
    }

    #[test]
    fn rfc_8888_3_1_more_than_8189_is_over_range() {
        let edge = 8189 * NANOS / 1024;
        assert_eq!(ago(edge), 0x8000 | 0x1ffd);
        assert_eq!(ago(edge + 1), 0x8000 | 0x1ffe, "also where it would be rounded down");
        assert_eq!(ago(60 * NANOS), 0x8000 | 0x1ffe);
        assert_eq!(metric(Some(Instant::ZERO), Instant::from_nanos(u64::MAX)), 0x8000 | 0x1ffe);
    }

    #[test]
    fn rfc_8888_3_1_an_arrival_after_the_report_is_unavailable() {
        assert_eq!(metric(Some(NOW + std::time::Duration::from_nanos(1)), NOW), 0x8000 | 0x1fff);
    }

    #[test]
    fn rfc_8888_3_1_what_did_not_arrive_is_all_zeroes() {
        assert_eq!(metric(None, NOW), 0);
    }

    #[test]
    fn rfc_8888_3_1_a_report_block_has_at_most_a_quarter_of_the_numbers() {
        assert_eq!(Report::new(1, 65_535).room(), 16_384);
    }

    #[test]
    fn whatever_the_size_it_is_kept_and_another_implementation_reads_it() {
        for max_bytes in LEAST..200 {
            let mut report = Report::new(1, max_bytes);
            assert!(report.is_empty());
            let mut added = Vec::new();
            for media in 1.. {
                let metrics = report.room().min(9);
                if metrics == 0 {
                    break;
                }
                report.add(media, media as u16 * 100, (0..metrics as u16).map(|n| RECEIVED | n));
                added.push(metrics);
            }
            assert!(!report.is_empty());
            let bytes = report.finish(3);
            assert!(bytes.len() <= max_bytes && bytes.len() + BLOCK_HEAD + 4 > max_bytes, "{max_bytes}");
            let read = read(&bytes);
            assert_eq!((read.sender_ssrc, read.report_timestamp), (1, 3));
            assert_eq!(read.report_blocks.len(), added.len());
            for ((media, block), metrics) in (1..).zip(&read.report_blocks).zip(added) {
                assert_eq!((block.media_ssrc, block.begin_sequence), (media, media as u16 * 100));
                let found = block.metric_blocks.iter().map(|metric| (metric.received, metric.arrival_time_offset));
                assert!(found.eq((0..metrics as u16).map(|n| (true, n))));
                assert!(block.metric_blocks.iter().all(|metric| metric.ecn == Ecn::NotEct));
            }
        }
    }

    #[test]
    fn a_size_too_small_for_anything_is_taken_for_the_least() {
        assert_eq!(Report::new(1, 0).room(), 2);
    }
}
