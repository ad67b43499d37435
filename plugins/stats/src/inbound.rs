//! What has come of one stream of the peer's, and what the peer says that it sent.

use sandbar_sdk::reception::{Jitter, Sequence};
use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Header, Instant, SenderInfo};

use crate::round_trip::RoundTrips;
use crate::volume::{Asked, Volume};

/// Counters since the stream was first bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Inbound {
    /// Everything, retransmissions and repair packets included.
    pub(crate) received: Volume,
    pub(crate) retransmitted: Volume,
    pub(crate) repair: Volume,
    /// The stream's own packets, without retransmissions.
    sequence: Sequence,
    /// Lost before the sequence began anew.
    lost_before: i64,
    pub(crate) jitter: Jitter,
    /// When the last packet arrived, in nanoseconds of the host's clock.
    pub(crate) last: Option<u64>,
    /// Of the peer by this side.
    pub(crate) asked: Asked,
    pub(crate) remote: Option<RemoteOutbound>,
}

/// What the peer's latest sender report says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct RemoteOutbound {
    /// When it arrived, in nanoseconds of the host's clock.
    pub(crate) at: u64,
    pub(crate) ntp: u64,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    pub(crate) reports: u64,
    pub(crate) round_trips: RoundTrips,
}

/// What a packet is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Its own, on its way for the first time.
    Media,
    /// Sent again (RFC 4588).
    Retransmission,
    /// On the repair companion's SSRC.
    Repair,
}

impl Inbound {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self {
            received: Volume::default(),
            retransmitted: Volume::default(),
            repair: Volume::default(),
            sequence: Sequence::default(),
            lost_before: 0,
            jitter: Jitter::new(clock_rate),
            last: None,
            asked: Asked::default(),
            remote: None,
        }
    }

    #[inline]
    pub(crate) fn observe(&mut self, header: &Header<'_>, size: usize, at: Instant, arrival: Arrival) {
        self.received.add(header.len(), size);
        self.last = Some(at.as_nanos());
        match arrival {
            // A packet that was retransmitted was lost, whatever became of it (RFC 4588, 4).
            Arrival::Retransmission => self.retransmitted.add(header.len(), size),
            Arrival::Repair => self.repair.add(header.len(), size),
            Arrival::Media => self.own(header, at),
        }
    }

    fn own(&mut self, header: &Header<'_>, at: Instant) {
        let lost = self.lost();
        if !self.sequence.observe(header.sequence_number()) {
            return;
        }
        if self.sequence.received == 1 {
            // The sequence begins anew, and with it the timestamps; what was lost stays lost.
            self.lost_before = lost;
            self.jitter.last = None;
        }
        self.jitter.observe(at, header.timestamp());
    }

    /// Packets lost so far (RFC 3550, 6.4.1 and A.3): negative where duplicates outnumber losses.
    pub(crate) fn lost(&self) -> i64 {
        self.lost_before + i64::from(self.sequence.lost())
    }

    /// A sender report of the peer's about the stream.
    pub(crate) fn reported(&mut self, info: &SenderInfo, at: Instant) {
        let remote = self.remote.get_or_insert_default();
        (remote.at, remote.ntp) = (at.as_nanos(), info.ntp);
        (remote.packets, remote.octets) = (info.packets, info.octets);
        remote.reports += 1;
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::HeaderBuf;

    use super::*;

    fn header(number: u16, timestamp: u32) -> HeaderBuf {
        let mut header = HeaderBuf::new(96, 7);
        header.edit().set_sequence_number(number);
        header.edit().set_timestamp(timestamp);
        header
    }

    fn fed(packets: &[(u16, Arrival)]) -> Inbound {
        let mut inbound = Inbound::new(90_000);
        for (at, (number, arrival)) in packets.iter().enumerate() {
            let header = header(*number, 0);
            inbound.observe(&header.view(), 112, Instant::from_millis(at as u64), *arrival);
        }
        inbound
    }

    #[test]
    fn rfc_3550_a_3_losses_are_what_was_expected_and_not_received() {
        let inbound = fed(&[1, 2, 5, 4, 4, 9].map(|number| (number, Arrival::Media)));
        assert_eq!((inbound.received.packets, inbound.lost()), (6, 3));
        assert_eq!(fed(&[1, 1, 1].map(|number| (number, Arrival::Media))).lost(), -2);
    }

    #[test]
    fn rfc_4588_4_a_retransmission_is_received_and_was_lost() {
        let inbound = fed(&[(1, Arrival::Media), (3, Arrival::Media), (2, Arrival::Retransmission)]);
        assert_eq!((inbound.received.packets, inbound.lost(), inbound.retransmitted.packets), (3, 1, 1));
        assert_eq!((inbound.retransmitted.payload, inbound.received.payload, inbound.received.headers), (100, 300, 36));
    }

    #[test]
    fn repair_packets_have_a_sequence_of_their_own() {
        let inbound = fed(&[(1, Arrival::Media), (900, Arrival::Repair), (2, Arrival::Media)]);
        assert_eq!((inbound.received.packets, inbound.lost(), inbound.repair.payload), (3, 0, 100));
    }

    #[test]
    fn what_was_lost_before_a_restart_stays_lost() {
        let numbers = [1, 4, 40_000, 40_001, 40_003, 40_004];
        assert_eq!(fed(&numbers.map(|number| (number, Arrival::Media))).lost(), 2 + 1);
    }

    #[test]
    fn rfc_3550_a_8_jitter_is_taken_between_packets_of_the_stream_alone() {
        let mut inbound = Inbound::new(1000);
        for (number, timestamp, at, arrival) in [
            (1, 0, 0, Arrival::Media),
            (900, 77_777, 5, Arrival::Repair),
            (2, 20, 36, Arrival::Media),
            (1, 0, 900, Arrival::Retransmission),
        ] {
            let header = header(number, timestamp);
            inbound.observe(&header.view(), 112, Instant::from_millis(at), arrival);
        }
        // 16 ms late, of which a sixteenth counts.
        assert!((inbound.jitter.seconds() - 0.001).abs() < 1e-9, "{}", inbound.jitter.seconds());
    }
}
