//! The round-trip time as the peer's reports tell it (RFC 3550, 6.4.1).

use std::time::Duration;

use sandbar_sdk::ReportBlock;

/// A round trip longer than this is an answer to somebody else's sender report.
const PLAUSIBLE: Duration = Duration::from_secs(10);
/// Requests closer than this are one request, however short the round trip is said to be.
const FLOOR: Duration = Duration::from_millis(5);

/// A - LSR - DLSR, where A is the NTP time at which the answer arrived. None where no sender report was answered, or
/// where the clock that was answered is not this one.
pub(crate) fn measure(block: &ReportBlock, arrival: u64) -> Option<Duration> {
    if block.last_report == 0 {
        return None;
    }
    let middle = (arrival >> 16) as u32;
    let units = middle.wrapping_sub(block.last_report).wrapping_sub(block.delay);
    let round_trip = Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16);
    (round_trip < PLAUSIBLE).then_some(round_trip)
}

/// For how long after a retransmission a request for the same packet was sent before it could arrive. Not quite a round
/// trip: jitter brings a peer's next request closer to its first than it was sent. An estimate only shortens what is
/// configured: in a relay, the report that was answered may carry another machine's clock.
pub(crate) fn within(configured: Duration, round_trip: Option<Duration>) -> Duration {
    round_trip.map_or(configured, |round_trip| (round_trip * 3 / 4).max(FLOOR).min(configured))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NTP: u64 = 0xb44d_b705_2000_0000;

    fn echo(last_report: u32, delay: u32) -> ReportBlock {
        ReportBlock { last_report, delay, ..ReportBlock::default() }
    }

    #[test]
    fn rfc_3550_6_4_1_the_example_of_figure_2() {
        // A 0xb710:8000, LSR 0xb705:2000, DLSR 0x0005:4000: 6.125 s.
        let arrival = 0x0000_b710_8000_0000;
        assert_eq!(measure(&echo(0xb705_2000, 0x0005_4000), arrival), Some(Duration::from_millis(6125)));
    }

    #[test]
    fn no_answer_and_an_answer_to_another_clock_say_nothing() {
        assert_eq!(measure(&echo(0, 0), NTP), None);
        assert_eq!(measure(&echo(0, 0), 5 << 32), None);
        assert_eq!(measure(&echo((NTP >> 16) as u32 + 1, 0), NTP), None);
        assert_eq!(measure(&echo(1, 0), NTP), None);
    }

    #[test]
    fn an_estimate_shortens_the_window_and_never_lengthens_it() {
        let (ms, configured) = (Duration::from_millis, Duration::from_millis(100));
        assert_eq!(within(configured, None), configured);
        assert_eq!(within(configured, Some(ms(40))), ms(30));
        assert_eq!(within(configured, Some(ms(4000))), configured);
        assert_eq!(within(configured, Some(ms(0))), FLOOR);
        assert_eq!(within(ms(0), Some(ms(40))), ms(0));
    }
}
