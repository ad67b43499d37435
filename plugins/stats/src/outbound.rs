//! What has been sent of one stream, and what the peer says that came of it.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Header, Instant, ReportBlock};

use crate::round_trip::{Answer, Reports, RoundTrips};
use crate::volume::{Asked, Volume};

/// Counters since the stream was first bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Outbound {
    /// Everything but repair packets.
    pub(crate) sent: Volume,
    pub(crate) retransmitted: Volume,
    /// Sequence number of the first packet.
    first: Option<u16>,
    recent: Recent,
    /// Of this side by the peer.
    pub(crate) asked: Asked,
    /// Sender reports about it.
    reports: Reports,
    pub(crate) remote: Option<RemoteInbound>,
}

/// What the peer's latest report block says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct RemoteInbound {
    /// When it arrived, in nanoseconds of the host's clock.
    pub(crate) at: u64,
    pub(crate) received: u64,
    pub(crate) lost: i32,
    /// In 1/256.
    pub(crate) fraction_lost: u8,
    /// In units of the RTP timestamp.
    pub(crate) jitter: u32,
    pub(crate) round_trips: RoundTrips,
}

impl Outbound {
    /// A packet on the stream's own SSRC. Without RTX, retransmissions go there too, and are known by their number.
    #[inline]
    pub(crate) fn media(&mut self, header: &Header<'_>, size: usize, rtx: bool) {
        self.sent.add(header.len(), size);
        self.first = self.first.or(Some(header.sequence_number()));
        if !rtx && self.recent.again(header.sequence_number()) {
            self.retransmitted.add(header.len(), size);
        }
    }

    /// A packet on the SSRC of the stream's retransmissions (RFC 4588).
    #[inline]
    pub(crate) fn retransmission(&mut self, header: &Header<'_>, size: usize) {
        self.sent.add(header.len(), size);
        self.retransmitted.add(header.len(), size);
    }

    /// A sender report about the stream leaves.
    pub(crate) fn report(&mut self, middle: u32, at: Instant) {
        self.reports.left(middle, at);
    }

    /// A report block of the peer's about the stream. `ntp` is the wall clock at its arrival.
    pub(crate) fn reported(&mut self, block: &ReportBlock, at: Instant, ntp: impl FnOnce() -> u64) {
        let answer = Answer { last_report: block.last_report, delay: block.delay };
        let round_trip = self.reports.answered(answer, at, ntp);
        let remote = self.remote.get_or_insert_default();
        remote.round_trips.add(round_trip);
        // A.3 for the sender's side (webrtc-stats: packetsReceived): what was expected, less what is said to be lost.
        let expected = i64::from(block.highest) - i64::from(self.first.unwrap_or_default()) + 1;
        remote.received = u64::try_from(expected - i64::from(block.cumulative_lost)).unwrap_or(0);
        (remote.at, remote.lost) = (at.as_nanos(), block.cumulative_lost);
        (remote.fraction_lost, remote.jitter) = (block.fraction_lost, block.jitter);
    }
}

/// The latest sequence numbers that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct Recent {
    newest: Option<u16>,
    /// By the number's low bits; those ahead of `newest` are of numbers behind it.
    sent: [u64; Self::NUMBERS as usize / 64],
}

impl Recent {
    const NUMBERS: u16 = 1024;

    /// Whether the number was sent before. From now on it was.
    #[inline]
    fn again(&mut self, number: u16) -> bool {
        let ahead = self.newest.map_or(1, |newest| number.wrapping_sub(newest));
        if ahead == 0 || ahead.wrapping_neg() < Self::NUMBERS {
            return self.set(number);
        }
        // Newer (RFC 1982), or so far behind that it begins a sequence anew: what is skipped was not sent.
        if ahead >= Self::NUMBERS {
            self.sent = Default::default();
        } else {
            for skipped in 0..ahead {
                self.clear(number.wrapping_sub(skipped));
            }
        }
        self.newest = Some(number);
        self.set(number);
        false
    }

    #[inline]
    fn bit(&mut self, number: u16) -> (&mut u64, u64) {
        let at = usize::from(number % Self::NUMBERS);
        (&mut self.sent[at / 64], 1 << (at % 64))
    }

    /// Whether it was set.
    #[inline]
    fn set(&mut self, number: u16) -> bool {
        let (word, bit) = self.bit(number);
        let was = *word & bit != 0;
        *word |= bit;
        was
    }

    #[inline]
    fn clear(&mut self, number: u16) {
        let (word, bit) = self.bit(number);
        *word &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::HeaderBuf;

    use super::*;

    fn sent(numbers: impl IntoIterator<Item = u16>, rtx: bool) -> Outbound {
        let mut outbound = Outbound::default();
        for number in numbers {
            let mut header = HeaderBuf::new(96, 7);
            header.edit().set_sequence_number(number);
            outbound.media(&header.view(), 112, rtx);
        }
        outbound
    }

    fn block(highest: u32, lost: i32) -> ReportBlock {
        ReportBlock { ssrc: 7, highest, cumulative_lost: lost, ..ReportBlock::default() }
    }

    #[test]
    fn without_rtx_a_number_that_is_sent_again_is_a_retransmission() {
        let outbound = sent([65_534, 65_535, 1, 0, 65_535, 1, 2, 2], false);
        assert_eq!(
            (outbound.sent.packets, outbound.retransmitted.packets, outbound.retransmitted.payload),
            (8, 3, 300)
        );
        assert_eq!(sent([5, 5, 5], true).retransmitted.packets, 0, "with RTX it is the application's");
    }

    #[test]
    fn every_number_of_a_long_stream_is_new() {
        let outbound = sent((0..200_000u32).map(|number| number as u16), false);
        assert_eq!((outbound.sent.packets, outbound.retransmitted.packets), (200_000, 0));
        let swapped = (0..4000u16).map(|number| number ^ 1);
        assert_eq!(sent(swapped, false).retransmitted.packets, 0, "also out of order");
        let jumps = (0..2000u32).map(|n| (n * 700) as u16);
        assert_eq!(sent(jumps, false).retransmitted.packets, 0);
        assert_eq!(sent([5000, 100, 101, 100], false).retransmitted.packets, 1, "a sequence that begins anew");
    }

    #[test]
    fn rfc_3550_a_3_what_the_peer_received_is_what_it_expected_less_what_it_lost() {
        let mut outbound = sent([65_530, 65_531], true);
        // Ten packets from 65,530 on, over the wrap.
        outbound.reported(&block(0x1_0003, 2), Instant::ZERO, || 0);
        assert_eq!(outbound.remote.unwrap().received, 8);
        outbound.reported(&block(3, 0x7f_ffff), Instant::ZERO, || 0);
        assert_eq!(outbound.remote.unwrap().received, 0, "nonsense is nothing");
    }

    #[test]
    fn a_stream_of_which_nothing_was_seen_may_be_reported_about() {
        let mut outbound = Outbound::default();
        outbound.reported(&block(u32::MAX, i32::MIN), Instant::ZERO, || 0);
        assert_eq!(outbound.remote.unwrap().lost, i32::MIN);
    }
}
