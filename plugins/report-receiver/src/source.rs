//! One source: its packets and sender reports, and the report block about it (RFC 3550, 6.4).

use std::time::Duration;

use sandbar_sdk::reception::{Jitter, Sequence};
use sandbar_sdk::{Instant, ReportBlock};

#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) sequence: Sequence,
    pub(crate) jitter: Jitter,
    /// Middle 32 bits of the last sender report's NTP time, and when it arrived.
    pub(crate) last_report: Option<(u32, Instant)>,
    /// Something arrived since the last report.
    pub(crate) heard: bool,
}

impl Source {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self { sequence: Sequence::default(), jitter: Jitter::new(clock_rate), last_report: None, heard: false }
    }

    #[inline(always)]
    pub(crate) fn observe(&mut self, sequence_number: u16, timestamp: u32, at: Instant) {
        if !self.sequence.observe(sequence_number) {
            return;
        }
        self.heard = true;
        if self.sequence.received == 1 {
            // Where the sequence begins anew, so do the timestamps.
            self.jitter.last = None;
        }
        self.jitter.observe(at, timestamp);
    }

    pub(crate) fn sender_report(&mut self, middle: u32, at: Instant) {
        self.last_report = Some((middle, at));
    }

    /// The block about this source, if it was heard of since the last one (RFC 3550, 6.4).
    pub(crate) fn block(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        if !std::mem::take(&mut self.heard) {
            return None;
        }
        let losses = self.sequence.report();
        Some(ReportBlock {
            ssrc,
            fraction_lost: losses.fraction,
            cumulative_lost: losses.cumulative,
            highest: self.sequence.highest,
            jitter: self.jitter.report(),
            last_report: self.last_report.map_or(0, |(middle, _)| middle),
            delay: self.last_report.map_or(0, |(_, at)| units(now - at)),
        })
    }
}

/// In 1/65536 s, at most what the field holds: 18 hours.
fn units(delay: Duration) -> u32 {
    let part = (u64::from(delay.subsec_nanos()) << 16) / 1_000_000_000;
    u32::try_from(delay.as_secs().saturating_mul(1 << 16).saturating_add(part)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn rfc_3550_6_4_a_source_not_heard_since_the_last_report_has_no_block() {
        let mut source = Source::new(90_000);
        assert!(source.block(1, ms(0)).is_none());
        source.observe(1, 0, ms(0));
        assert!(source.block(1, ms(1000)).is_some());
        assert!(source.block(1, ms(2000)).is_none());
    }

    #[test]
    fn rfc_3550_6_4_1_the_delay_counts_from_the_sender_reports_arrival() {
        let mut source = Source::new(90_000);
        source.observe(1, 0, ms(0));
        let block = source.block(1, ms(1)).unwrap();
        assert_eq!((block.last_report, block.delay), (0, 0));
        source.sender_report(0x5678_0000, ms(500));
        source.observe(2, 0, ms(600));
        let block = source.block(1, ms(1750)).unwrap();
        assert_eq!((block.last_report, block.delay), (0x5678_0000, 65_536 + 16_384));
    }

    #[test]
    fn rfc_3550_6_4_1_the_delay_is_in_65536ths_and_at_most_what_32_bits_hold() {
        let mut source = Source::new(90_000);
        source.sender_report(1, ms(0));
        let mut delay = |at| {
            source.observe(1, 0, at);
            source.block(1, at).unwrap().delay
        };
        assert_eq!(delay(Instant::from_nanos(15_259)), 1);
        assert_eq!(delay(Instant::from_nanos(15_258)), 0);
        assert_eq!(delay(ms(65_535_000)), 65_535 << 16);
        assert_eq!(delay(ms(65_536_000)), u32::MAX);
        assert_eq!(delay(ms(1_000_000_000)), u32::MAX);
    }

    #[test]
    fn a_restart_is_no_jitter() {
        let mut source = Source::new(90_000);
        source.observe(1, 0, ms(0));
        source.observe(2, 900, ms(10));
        source.observe(40_000, 2_000_000_000, ms(20));
        source.observe(40_001, 2_000_000_900, ms(30));
        source.observe(40_002, 2_000_001_800, ms(40));
        assert_eq!(source.block(1, ms(50)).unwrap().jitter, 0);
    }
}
