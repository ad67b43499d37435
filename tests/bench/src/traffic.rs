//! What is sent: sessions in turn, each with a video stream, at a steady rate in virtual time.

use std::time::Duration;

/// Which way packets go through the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the peer to the application.
    Read,
    /// From the application to the peer.
    Write,
}

/// What one row of the table feeds its chains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) direction: Direction,
    /// Packets that come together.
    pub(crate) burst: u64,
    /// Sessions, in turn.
    pub(crate) sessions: u32,
    /// Virtual time from packet to packet.
    pub(crate) step: Duration,
}

/// Bytes of a packet on the wire.
pub(crate) const PACKET: usize = 1200;
/// RTP header with the transport-wide sequence number (RFC 8285, 4.2): 12 + 4 + 4.
pub(crate) const NUMBERED_HEADER: usize = 20;
/// The id under which packets carry the transport-wide sequence number.
pub(crate) const EXTENSION_ID: u8 = 5;
pub(crate) const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub(crate) const PAYLOAD_TYPE: u8 = 96;
pub(crate) const RTX_PAYLOAD_TYPE: u8 = 97;
pub(crate) const CLOCK_RATE: u32 = 90_000;
/// `a=rtcp-fb` lines of each stream.
pub(crate) const FEEDBACK: [(&str, &str); 3] = [("nack", ""), ("nack", "pli"), ("transport-cc", "")];

/// SSRCs of a session's streams and of their retransmissions (RFC 4588).
pub(crate) fn ssrc(direction: Direction, session: u32) -> (u32, u32) {
    match direction {
        Direction::Read => (0x1000_0000 + session, 0x2000_0000 + session),
        Direction::Write => (0x3000_0000 + session, 0x4000_0000 + session),
    }
}

/// One packet of a session's stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Media {
    pub(crate) session: u32,
    pub(crate) sequence_number: u16,
    /// The number for transport-wide congestion control that the peer gave it.
    pub(crate) transport: u16,
    pub(crate) timestamp: u32,
}

impl Media {
    /// The `index`th packet of a session, sent at `at` nanoseconds.
    pub(crate) fn nth(session: u32, index: u64, at: u64) -> Self {
        const FRAME: u64 = 1_000_000_000 / 30;
        // Streams begin anywhere in the sequence space, always at the same place: the seed is the session's number.
        let first = u64::from(session).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self {
            session,
            sequence_number: first.wrapping_add(index) as u16,
            transport: (first >> 16).wrapping_add(index) as u16,
            timestamp: (at / FRAME * (u64::from(CLOCK_RATE) / 30)) as u32,
        }
    }

    /// The fixed header (RFC 3550, 5.1) without extensions, as an application writes it.
    pub(crate) fn header(&self, direction: Direction) -> [u8; 12] {
        let mut header = [0; 12];
        header[0] = 0x80;
        header[1] = PAYLOAD_TYPE;
        header[2..4].copy_from_slice(&self.sequence_number.to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc(direction, self.session).0.to_be_bytes());
        header
    }

    /// The whole packet with its transport-wide sequence number, as the peer sends it.
    pub(crate) fn datagram(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PACKET);
        bytes.extend_from_slice(&self.header(Direction::Read));
        bytes[0] |= 0x10;
        let transport = self.transport.to_be_bytes();
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, EXTENSION_ID << 4 | 1, transport[0], transport[1], 0]);
        bytes.resize(PACKET, 0x5a);
        bytes
    }
}

/// Packets that come together.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    /// Nanoseconds since the start: when the last of them has come.
    pub(crate) at: u64,
    pub(crate) packets: Vec<Media>,
}

/// The packets of a load, in order.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    load: Load,
    sent: u64,
}

impl Traffic {
    pub(crate) fn new(load: Load) -> Self {
        Self { load, sent: 0 }
    }

    /// Packets so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Nanoseconds of virtual time so far.
    pub(crate) fn elapsed(&self) -> u64 {
        self.sent * self.load.step.as_nanos() as u64
    }

    /// Packets of one session so far.
    pub(crate) fn sent_by(&self, session: u32) -> u64 {
        let sessions = u64::from(self.load.sessions);
        (self.sent + sessions - 1 - u64::from(session)) / sessions
    }

    /// The next whole bursts, of together at most `packets` packets but at least one burst.
    pub(crate) fn next(&mut self, packets: u64) -> Vec<Burst> {
        let Load { burst, sessions, .. } = self.load;
        let bursts = (packets / burst).max(1);
        let make = |_| {
            let first = self.sent;
            self.sent += burst;
            let at = self.elapsed();
            let media =
                |number: u64| Media::nth((number % u64::from(sessions)) as u32, number / u64::from(sessions), at);
            Burst { at, packets: (first..self.sent).map(media).collect() }
        };
        (0..bursts).map(make).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_in_turn_and_each_counts_on() {
        let load = Load { direction: Direction::Read, burst: 8, sessions: 3, step: Duration::from_micros(10) };
        let mut traffic = Traffic::new(load);
        let bursts = traffic.next(20);
        assert_eq!(bursts.iter().map(|burst| burst.at).collect::<Vec<_>>(), [80_000, 160_000]);
        let packets: Vec<Media> = bursts.into_iter().flat_map(|burst| burst.packets).collect();
        for session in 0..3 {
            let own: Vec<_> = packets.iter().filter(|media| media.session == session).collect();
            assert_eq!(own.len() as u64, traffic.sent_by(session));
            for (index, media) in own.iter().enumerate() {
                assert_eq!(media.sequence_number, Media::nth(session, index as u64, 0).sequence_number);
            }
        }
        assert_eq!(traffic.sent(), 16);
    }
}
