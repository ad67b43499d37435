//! What one stream has sent, and where its RTP timestamp stands at any moment (RFC 3550, 6.4.1).

use sandbar_sdk::Instant;

/// A packet at least this far behind the newest is a new sequence rather than one out of order (RFC 3550, A.1, with
/// room for today's packet rates).
const MAX_MISORDER: u16 = 1000;
/// A stream that has sent nothing during this many intervals is no longer a sender (RFC 3550, 6.4: "since issuing the
/// last report or the previous one").
const SILENT_INTERVALS: u8 = 2;

/// A sampling instant: an RTP timestamp and when the first packet with it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampled {
    pub(crate) at: Instant,
    pub(crate) timestamp: u32,
}

/// Counters of one SSRC since it began, and its latest timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) packets: u32,
    /// Payload bytes.
    pub(crate) octets: u32,
    /// None before the first packet.
    pub(crate) sampled: Option<Sampled>,
    /// Sequence number of the newest packet.
    pub(crate) newest: u16,
    /// `packets` at the last report.
    pub(crate) reported: u32,
    /// Intervals without a packet.
    pub(crate) silent: u8,
}

/// What a sender report says about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

impl Source {
    /// A packet with `payload` bytes behind its header is being sent. With `any_order`, a packet counts as the newest
    /// whatever its sequence number.
    #[inline(always)]
    pub(crate) fn observe(&mut self, sequence_number: u16, timestamp: u32, at: Instant, payload: u32, any_order: bool) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload);
        let behind = self.newest.wrapping_sub(sequence_number);
        let late = behind < MAX_MISORDER && !any_order;
        match self.sampled {
            Some(_) if late => {}
            // Of a frame that takes several packets the first is closest to when it was sampled; the others would
            // report how long the frame took to send.
            Some(sampled) if sampled.timestamp == timestamp => self.newest = sequence_number,
            _ => {
                self.newest = sequence_number;
                self.sampled = Some(Sampled { at, timestamp });
            }
        }
    }

    /// The report for `now`, if the stream is a sender: it has sent something since the last report or the one before.
    pub(crate) fn report(&mut self, now: Instant, clock_rate: u32) -> Option<Report> {
        let sampled = self.sampled?;
        self.silent = if self.packets == self.reported { self.silent.saturating_add(1) } else { 0 };
        self.reported = self.packets;
        if self.silent >= SILENT_INTERVALS {
            return None;
        }
        let timestamp = sampled.timestamp.wrapping_add(units(sampled.at, now, clock_rate));
        Some(Report { timestamp, packets: self.packets, octets: self.octets })
    }
}

/// How far the RTP clock runs from `from` to `to`, rounded to the nearest unit.
fn units(from: Instant, to: Instant, clock_rate: u32) -> u32 {
    let elapsed = to - from;
    let whole = elapsed.as_secs().wrapping_mul(u64::from(clock_rate));
    let part = (u64::from(elapsed.subsec_nanos()) * u64::from(clock_rate) + 500_000_000) / 1_000_000_000;
    whole.wrapping_add(part) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 90_000;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn report(source: &mut Source, at: u64) -> Option<Report> {
        source.report(ms(at), RATE)
    }

    #[test]
    fn there_is_no_report_before_the_first_packet() {
        assert_eq!(report(&mut Source::default(), 1000), None);
    }

    #[test]
    fn rfc_3550_6_4_1_the_timestamp_is_that_of_the_reports_moment() {
        let mut source = Source::default();
        source.observe(1, u32::MAX - 44_999, ms(100), 10, false);
        assert_eq!(report(&mut source, 1100).unwrap().timestamp, 45_000);
        source.observe(2, 90, ms(1101), 10, false);
        let report = source.report(Instant::from_nanos(1_101_016_667), RATE).unwrap();
        assert_eq!(report.timestamp, 92, "rounded to the nearest, not down");
    }

    #[test]
    fn no_clock_rate_and_no_elapsed_time_overflow() {
        let mut source = Source::default();
        source.observe(1, 0, ms(0), 0, false);
        let days = Instant::from_nanos(u64::MAX);
        let expected =
            (days.as_nanos() / 1_000_000_000 * 48_000 + days.as_nanos() % 1_000_000_000 * 48 / 1_000_000) as u32;
        assert!(source.report(days, 48_000).unwrap().timestamp.wrapping_sub(expected) <= 1);
        assert!(source.report(days, u32::MAX).is_some());
    }

    #[test]
    fn the_first_packet_of_a_frame_counts() {
        let mut source = Source::default();
        source.observe(1, 9000, ms(100), 10, false);
        source.observe(2, 9000, ms(107), 10, false);
        source.observe(3, 9000, ms(115), 10, false);
        assert_eq!(report(&mut source, 200).unwrap().timestamp, 9000 + 9000);
    }

    #[test]
    fn a_timestamp_of_zero_is_one_like_any_other() {
        let mut source = Source::default();
        source.observe(1, 0, ms(100), 10, false);
        source.observe(2, 0, ms(150), 10, false);
        assert_eq!(report(&mut source, 200).unwrap().timestamp, 9000);
    }

    #[test]
    fn a_packet_out_of_order_counts_but_does_not_set_the_clock() {
        let late = |any_order| {
            let mut source = Source::default();
            source.observe(0, 9000, ms(100), 10, any_order);
            source.observe(u16::MAX, 6000, ms(110), 10, any_order);
            report(&mut source, 200).unwrap()
        };
        assert_eq!(late(false), Report { timestamp: 18_000, packets: 2, octets: 20 });
        assert_eq!(late(true).timestamp, 6000 + 8100);
    }

    #[test]
    fn a_new_sequence_sets_the_clock_wherever_it_begins() {
        let mut source = Source::default();
        source.observe(5000, 9000, ms(100), 10, false);
        source.observe(10, 700_000, ms(110), 10, false);
        assert_eq!(report(&mut source, 110).unwrap().timestamp, 700_000);
    }

    #[test]
    fn rfc_3550_6_4_1_counters_wrap() {
        let mut source = Source { packets: u32::MAX, octets: u32::MAX - 3, ..Source::default() };
        source.observe(1, 0, ms(0), 10, false);
        let report = report(&mut source, 0).unwrap();
        assert_eq!((report.packets, report.octets), (0, 6));
    }

    #[test]
    fn rfc_3550_6_4_who_was_silent_for_two_intervals_is_no_sender() {
        let mut source = Source::default();
        source.observe(1, 0, ms(0), 10, false);
        assert!(report(&mut source, 1000).is_some());
        assert!(report(&mut source, 2000).is_some(), "sent since the report before the last");
        assert!(report(&mut source, 3000).is_none());
        source.observe(2, 3, ms(3500), 10, false);
        assert!(report(&mut source, 4000).is_some());
    }
}
