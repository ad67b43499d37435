//! What is sent: sessions in turn, each with its video streams, at a steady rate in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::peer::{self, Numbered};

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
    /// Streams of each session in each direction, in turn.
    pub(crate) streams: u32,
    pub(crate) peer: Peer,
    /// Virtual time from packet to packet.
    pub(crate) step: Duration,
}

/// What peers do beside sending or receiving media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nothing.
    Quiet,
    /// They lose one packet in 20. What they sent and lost comes again 200 ms later, as if they had been asked for it;
    /// what they should have received they ask for.
    Loses,
    /// They report, feed back ten times a second what has arrived of that which they were sent, and ask twice a second for a
    /// packet.
    Talks(Numbered),
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
/// FlexFEC, of which only the whole sets make use.
pub(crate) const REPAIR_PAYLOAD_TYPE: u8 = 98;
/// Bits per second that pacers let go and congestion control starts at, where there are any: four times a stream's.
pub(crate) const BITRATE: u32 = 20_000_000;
pub(crate) const CLOCK_RATE: u32 = 90_000;
/// `a=rtcp-fb` lines of each stream.
pub(crate) const FEEDBACK: [(&str, &str); 4] = [("nack", ""), ("nack", "pli"), ("transport-cc", ""), ("ack", "ccfb")];

/// SSRCs of a stream and of its retransmissions (RFC 4588). Streams are numbered over all sessions.
pub(crate) fn ssrc(direction: Direction, stream: u32) -> (u32, u32) {
    match direction {
        Direction::Read => (0x1000_0000 + stream, 0x2000_0000 + stream),
        Direction::Write => (0x3000_0000 + stream, 0x4000_0000 + stream),
    }
}

/// SSRC of a stream's repair packets.
pub(crate) fn repair_ssrc(direction: Direction, stream: u32) -> u32 {
    ssrc(direction, stream).1 + 0x4000_0000
}

impl Load {
    /// Streams of a session in one direction.
    pub(crate) fn streams_of(&self, session: u32) -> std::ops::Range<u32> {
        session * self.streams..(session + 1) * self.streams
    }

    /// Streams in one direction.
    pub(crate) fn all_streams(&self) -> u64 {
        u64::from(self.sessions) * u64::from(self.streams)
    }
}

/// One packet of a session's stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Media {
    pub(crate) session: u32,
    pub(crate) stream: u32,
    pub(crate) sequence_number: u16,
    /// The number for transport-wide congestion control that the peer gave it.
    pub(crate) transport: u16,
    pub(crate) timestamp: u32,
}

impl Media {
    /// The `index`th packet of a session with one stream, sent at `at` nanoseconds.
    pub(crate) fn nth(session: u32, index: u64, at: u64) -> Self {
        const FRAME: u64 = 1_000_000_000 / 30;
        // Streams begin anywhere in the sequence space, always at the same place: the seed is the stream's number.
        let first = u64::from(session).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self {
            session,
            stream: session,
            sequence_number: first.wrapping_add(index) as u16,
            transport: (first >> 16).wrapping_add(index) as u16,
            timestamp: (at / FRAME * (u64::from(CLOCK_RATE) / 30)) as u32,
        }
    }

    /// A load's packet with this number. Those of a session's streams are numbered together for congestion control.
    fn numbered(load: &Load, number: u64, at: u64) -> Self {
        let stream = (number % load.all_streams()) as u32;
        let index = number / load.all_streams();
        let session = stream / load.streams;
        let place = u64::from(stream % load.streams);
        let transport = Self::nth(session, index * u64::from(load.streams) + place, at).transport;
        Self { session, transport, ..Self::nth(stream, index, at) }
    }

    /// The fixed header (RFC 3550, 5.1) without extensions, as an application writes it.
    pub(crate) fn header(&self, direction: Direction) -> [u8; 12] {
        let mut header = [0; 12];
        header[0] = 0x80;
        header[1] = PAYLOAD_TYPE;
        header[2..4].copy_from_slice(&self.sequence_number.to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc(direction, self.stream).0.to_be_bytes());
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
    /// RTCP from sessions' peers, which comes before the packets.
    pub(crate) rtcp: Vec<(u32, Vec<u8>)>,
    pub(crate) packets: Vec<Media>,
}

/// A packet that was lost on its way from the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) at: u64,
    pub(crate) media: Media,
}

/// The packets of a load, in order.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    load: Load,
    sent: u64,
    /// Packets that went into chains.
    entered: u64,
    /// All that were lost, and those of them that are still to come again.
    lost: Vec<Lost>,
    repairs: VecDeque<Lost>,
    /// Packets of each session that have come again: the numbers for congestion control that these have taken.
    repaired: Vec<u16>,
    /// Packets that each session's peer misses, and how many were asked for.
    missing: Vec<Vec<u16>>,
    asked: u64,
    /// Milliseconds at which peers have spoken.
    spoken: u64,
}

/// Nanoseconds from a loss to the packet's second coming.
const REPAIR: u64 = 200_000_000;

impl Traffic {
    pub(crate) fn new(load: Load) -> Self {
        let sessions = load.sessions as usize;
        Self {
            load,
            sent: 0,
            entered: 0,
            lost: Vec::new(),
            repairs: VecDeque::new(),
            repaired: vec![0; sessions],
            missing: vec![Vec::new(); sessions],
            asked: 0,
            spoken: 0,
        }
    }

    /// Packets that went into chains so far.
    pub(crate) fn entered(&self) -> u64 {
        self.entered
    }

    /// Packets that peers have asked for so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Packets that were lost on their way from peers so far.
    pub(crate) fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Nanoseconds of virtual time so far.
    pub(crate) fn elapsed(&self) -> u64 {
        self.sent * self.load.step.as_nanos() as u64
    }

    /// Packets of one stream so far, those that were lost included.
    pub(crate) fn sent_of(&self, stream: u32) -> u64 {
        let streams = self.load.all_streams();
        (self.sent + streams - 1 - u64::from(stream)) / streams
    }

    /// The next whole bursts, of together at most `packets` packets but at least one burst.
    pub(crate) fn next(&mut self, packets: u64) -> Vec<Burst> {
        let bursts = (packets / self.load.burst).max(1);
        (0..bursts).map(|_| self.burst()).collect()
    }

    fn burst(&mut self) -> Burst {
        let at = self.elapsed() + self.load.burst * self.load.step.as_nanos() as u64;
        let rtcp = self.words(at);
        let mut packets = Vec::with_capacity(self.load.burst as usize);
        while let Some(Lost { mut media, .. }) = self.repairs.pop_front_if(|lost| lost.at + REPAIR <= at) {
            let next = Media::nth(media.session, self.sent_of(media.session), at);
            let repaired = &mut self.repaired[media.session as usize];
            media.transport = next.transport.wrapping_add(*repaired);
            *repaired = repaired.wrapping_add(1);
            packets.push(media);
        }
        for number in self.sent..self.sent + self.load.burst {
            let mut media = Media::numbered(&self.load, number, at);
            media.transport = media.transport.wrapping_add(self.repaired[media.session as usize]);
            let lost = self.load.peer == Peer::Loses && die(number).is_multiple_of(20);
            match self.load.direction {
                Direction::Read if lost => {
                    self.lost.push(Lost { at, media });
                    self.repairs.push_back(Lost { at, media });
                    continue;
                }
                Direction::Write if lost => self.missing[media.session as usize].push(media.sequence_number),
                _ => {}
            }
            packets.push(media);
        }
        self.sent += self.load.burst;
        self.entered += packets.len() as u64;
        Burst { at, rtcp, packets }
    }

    /// What peers say up to `at`, one each millisecond.
    fn words(&mut self, at: u64) -> Vec<(u32, Vec<u8>)> {
        let mut words = Vec::new();
        while self.load.peer != Peer::Quiet && self.spoken < at / 1_000_000 {
            self.spoken += 1;
            let (session, round) = ((self.spoken % peer::INTERVAL) as u32, self.spoken / peer::INTERVAL);
            if session >= self.load.sessions {
                continue;
            }
            let talks = match self.load.peer {
                Peer::Talks(sent) => Some(sent),
                _ => None,
            };
            // One that has left a moment ago.
            let latest = self.sent_of(session).checked_sub(10);
            let missing = &mut self.missing[session as usize];
            if talks.is_some() && self.load.direction == Direction::Write && round.is_multiple_of(peer::ASKS) {
                missing.extend(latest.map(|index| Media::nth(session, index, at).sequence_number));
            }
            self.asked += missing.len() as u64;
            words.push((session, peer::word(session, self.spoken * 1_000_000, talks, missing)));
            missing.clear();
        }
        words.retain(|(_, word)| !word.is_empty());
        words
    }
}

/// A number that looks drawn at random, always the same.
fn die(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_in_turn_and_each_counts_on() {
        let load = Load { burst: 8, sessions: 3, ..LOAD };
        let mut traffic = Traffic::new(load);
        let bursts = traffic.next(20);
        assert_eq!(bursts.iter().map(|burst| burst.at).collect::<Vec<_>>(), [80_000, 160_000]);
        let packets: Vec<Media> = bursts.into_iter().flat_map(|burst| burst.packets).collect();
        for session in 0..3 {
            let own: Vec<_> = packets.iter().filter(|media| media.session == session).collect();
            assert_eq!(own.len() as u64, traffic.sent_of(session));
            for (index, media) in own.iter().enumerate() {
                assert_eq!(media.sequence_number, Media::nth(session, index as u64, 0).sequence_number);
            }
        }
        assert_eq!(traffic.entered(), 16);
    }

    #[test]
    fn what_is_lost_comes_again_later_with_a_number_of_its_own() {
        let mut traffic = Traffic::new(Load { sessions: 2, peer: Peer::Loses, ..LOAD });
        let packets: Vec<Media> = traffic.next(100_000).into_iter().flat_map(|burst| burst.packets).collect();
        assert_eq!(packets.len() as u64, traffic.entered());
        let lost = traffic.lost().len();
        assert!((4_500..5_500).contains(&lost), "{lost}");
        for session in 0..2 {
            let transport: Vec<u16> =
                packets.iter().filter(|media| media.session == session).map(|m| m.transport).collect();
            let ahead = transport.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
            assert!(ahead.clone().all(|ahead| (1..10).contains(&ahead)));
            let missing: u64 = ahead.map(|ahead| u64::from(ahead - 1)).sum();
            let own = traffic.lost().iter().filter(|lost| lost.media.session == session).count() as u64;
            assert!(missing.abs_diff(own) < 10, "{missing} numbers are missing for {own} losses");
        }
    }

    #[test]
    fn streams_of_a_session_are_numbered_together() {
        let mut traffic = Traffic::new(Load { streams: 3, ..LOAD });
        let packets: Vec<Media> = traffic.next(96).into_iter().flat_map(|burst| burst.packets).collect();
        assert!(packets.windows(2).all(|pair| pair[1].transport == pair[0].transport.wrapping_add(1)));
        assert_eq!(packets.iter().filter(|media| media.stream == 2).count(), 32);
        assert!(packets.iter().all(|media| media.session == 0));
    }

    #[test]
    fn peers_speak_ten_times_a_second_and_ask_for_what_they_lost() {
        let load = Load { direction: Direction::Write, sessions: 4, peer: Peer::Loses, ..LOAD };
        let mut traffic = Traffic::new(load);
        // A second.
        let bursts = traffic.next(100_000);
        let words: Vec<u32> = bursts.iter().flat_map(|burst| &burst.rtcp).map(|(session, _)| *session).collect();
        assert_eq!(words.iter().filter(|session| **session == 3).count(), 10);
        assert!((4_000..5_500).contains(&traffic.asked()), "{}", traffic.asked());
        assert_eq!(traffic.entered(), 100_000);
    }

    const LOAD: Load = Load {
        direction: Direction::Read,
        burst: 32,
        sessions: 1,
        streams: 1,
        peer: Peer::Quiet,
        step: Duration::from_micros(10),
    };
}
