//! Streams as an encoder sends them, and the judge at the far end: what was lost, repeated, reordered or changed, by
//! sequence number. Both are written from RFC 3550 alone, so that they also judge the host's parsing.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{RtcpFeedback, RtpHeaderExtension, StreamInfo};

/// The extension by which a sender numbers its packets for congestion control.
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// One stream: frames of several packets, a frame sharing a timestamp and ending with the marker.
#[derive(Clone, Debug)]
pub struct Source {
    /// The stream's SSRC.
    pub ssrc: u32,
    /// RTP payload type.
    pub payload_type: u8,
    /// RTP timestamp units per second.
    pub clock_rate: u32,
    /// The first packet's sequence number.
    pub first_sequence_number: u16,
    /// The first packet's timestamp.
    pub first_timestamp: u32,
    /// Frames per second.
    pub frame_rate: u32,
    /// Packets of a frame.
    pub packets_per_frame: u64,
    /// Bytes of a payload, at least 12.
    pub payload: usize,
    /// Header extensions that each packet carries (RFC 8285, one-byte form): id and 1 to 16 bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Contributing sources that each packet names.
    pub csrcs: Vec<u32>,
    /// Bytes of padding at the end of each packet, the count included; 0 for none.
    pub padding: u8,
    /// Packets made so far.
    pub made: u64,
}

impl Source {
    /// VP8 at 25 frames a second, 4 packets of 1000 bytes each: 100 packets a second. The numbering begins shortly
    /// before both sequence number and timestamp wrap, so that every scenario crosses both.
    pub fn video(ssrc: u32) -> Source {
        Source {
            ssrc,
            payload_type: 96,
            clock_rate: 90_000,
            first_sequence_number: u16::MAX - 20,
            first_timestamp: u32::MAX - 9_000,
            frame_rate: 25,
            packets_per_frame: 4,
            payload: 1000,
            extensions: Vec::new(),
            csrcs: Vec::new(),
            padding: 0,
            made: 0,
        }
    }

    /// Opus at 50 packets a second of 100 bytes.
    pub fn audio(ssrc: u32) -> Source {
        Source {
            payload_type: 111,
            clock_rate: 48_000,
            frame_rate: 50,
            packets_per_frame: 1,
            payload: 100,
            ..Source::video(ssrc)
        }
    }

    /// What a peer would negotiate for the stream: NACK, PLI and transport-wide congestion control.
    pub fn info(&self) -> StreamInfo {
        let feedback = |kind: &str, parameter: &str| RtcpFeedback { kind: kind.into(), parameter: parameter.into() };
        StreamInfo {
            id: format!("stream-{:x}", self.ssrc),
            ssrc: self.ssrc,
            payload_type: self.payload_type,
            mime_type: if self.clock_rate == 48_000 { "audio/opus" } else { "video/VP8" }.into(),
            clock_rate: self.clock_rate,
            channels: if self.clock_rate == 48_000 { 2 } else { 0 },
            rtp_header_extensions: vec![RtpHeaderExtension { uri: TRANSPORT_CC.into(), id: 5 }],
            rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("transport-cc", "")],
            ..StreamInfo::default()
        }
    }

    /// The same with a companion for retransmissions (RFC 4588): SSRC + 1 and payload type + 1.
    pub fn info_with_rtx(&self) -> StreamInfo {
        StreamInfo {
            ssrc_retransmission: Some(self.ssrc + 1),
            payload_type_retransmission: Some(self.payload_type + 1),
            ..self.info()
        }
    }

    /// When the packet with this index is sent, after the first one: all packets of a frame together.
    pub fn due(&self, index: u64) -> Duration {
        let frame = index / self.packets_per_frame;
        Duration::from_nanos(frame * 1_000_000_000 / u64::from(self.frame_rate))
    }

    /// The sequence number of the packet with this index.
    pub fn sequence_number(&self, index: u64) -> u16 {
        self.first_sequence_number.wrapping_add(index as u16)
    }

    /// The next packet, as it is on the wire.
    pub fn packet(&mut self) -> Bytes {
        let packet = self.nth(self.made);
        self.made += 1;
        packet
    }

    /// The next `count` packets.
    pub fn packets(&mut self, count: u64) -> Vec<Bytes> {
        (0..count).map(|_| self.packet()).collect()
    }

    /// The packet with this index, counted from 0. RFC 3550, 5.1 and 5.3.1; RFC 8285, 4.2.
    pub fn nth(&self, index: u64) -> Bytes {
        let frame = index / self.packets_per_frame;
        let marker = (index + 1).is_multiple_of(self.packets_per_frame);
        let timestamp = frame * u64::from(self.clock_rate / self.frame_rate);
        let (padded, extended) = (self.padding > 0, !self.extensions.is_empty());
        let mut bytes = Vec::with_capacity(64 + self.payload);
        bytes.push(0x80 | u8::from(padded) << 5 | u8::from(extended) << 4 | self.csrcs.len() as u8);
        bytes.push(u8::from(marker) << 7 | self.payload_type);
        bytes.extend_from_slice(&self.sequence_number(index).to_be_bytes());
        bytes.extend_from_slice(&self.first_timestamp.wrapping_add(timestamp as u32).to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend(self.csrcs.iter().flat_map(|csrc| csrc.to_be_bytes()));
        if extended {
            let mut elements = Vec::new();
            for (id, data) in &self.extensions {
                elements.push(id << 4 | (data.len() - 1) as u8);
                elements.extend_from_slice(data);
            }
            elements.resize(elements.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(&[0xbe, 0xde]);
            bytes.extend_from_slice(&((elements.len() / 4) as u16).to_be_bytes());
            bytes.extend_from_slice(&elements);
        }
        bytes.extend_from_slice(&payload(self.ssrc, index, self.payload));
        if padded {
            bytes.resize(bytes.len() + usize::from(self.padding) - 1, 0);
            bytes.push(self.padding);
        }
        bytes.into()
    }
}

/// A payload that says which one it is, and is different in each packet: SSRC, index, and bytes that follow from both.
fn payload(ssrc: u32, index: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes.extend((12..length).map(|at| (at as u64 ^ index.wrapping_mul(31) ^ u64::from(ssrc)) as u8));
    bytes
}

/// The fields of a packet that a judge looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The SSRC.
    pub ssrc: u32,
    /// The payload type.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence_number: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// What is behind the header, without padding.
    pub payload: &'a [u8],
}

/// Reads a packet (RFC 3550, 5.1); `None` if it isn't RTP.
pub fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let first = *bytes.first().filter(|first| **first >> 6 == 2)?;
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let mut header = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        header += 4 + 4 * (word(header)? & 0xffff) as usize;
    }
    let padding = if first & 0x20 != 0 { usize::from(*bytes.last()?) } else { 0 };
    Some(Fields {
        ssrc: word(8)?,
        payload_type: bytes[1] & 0x7f,
        sequence_number: word(0)? as u16,
        timestamp: word(4)?,
        marker: bytes[1] & 0x80 != 0,
        payload: bytes.get(header..bytes.len().checked_sub(padding)?)?,
    })
}

/// Judges what arrives of one stream.
#[derive(Clone, Debug)]
pub struct Judge {
    source: Source,
    /// Indices in order of arrival, by sequence number.
    order: Vec<u64>,
    highest: u64,
    /// Packets whose timestamp, marker or payload is not what was sent under their sequence number.
    changed: usize,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Different packets that arrived, of those asked for.
    pub received: u64,
    /// Those that did not.
    pub lost: u64,
    /// Arrivals of a packet that had arrived already.
    pub duplicated: u64,
    /// Packets that arrived behind one sent later (RFC 4737, 3).
    pub reordered: u64,
    /// Packets that are not what was sent under their sequence number.
    pub changed: u64,
}

impl Verdict {
    /// All of `count` packets, once each, in order and unchanged.
    pub fn perfect(count: u64) -> Verdict {
        Verdict { received: count, ..Verdict::default() }
    }

    /// The same, but any order will do.
    pub fn complete(self) -> bool {
        (self.lost, self.duplicated, self.changed) == (0, 0, 0)
    }
}

impl Judge {
    /// A judge of what arrives of `source`.
    pub fn of(source: &Source) -> Judge {
        Judge { source: source.clone(), order: Vec::new(), highest: 0, changed: 0 }
    }

    /// Judges a whole sequence of packets: a shorthand for tests that have them all.
    pub fn all<'a>(source: &Source, packets: impl IntoIterator<Item = &'a Bytes>) -> Judge {
        let mut judge = Judge::of(source);
        for packet in packets {
            judge.take(packet);
        }
        judge
    }

    /// Takes a packet in; of other streams it takes none.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some(fields) = fields(bytes).filter(|fields| fields.ssrc == self.source.ssrc) else { return };
        // The nearest index to the highest so far with this sequence number.
        let ahead = fields.sequence_number.wrapping_sub(self.source.sequence_number(self.highest)) as i16;
        let index = self.highest.saturating_add_signed(i64::from(ahead));
        self.highest = self.highest.max(index);
        self.order.push(index);
        let expected = self.source.nth(index);
        let same = self::fields(&expected).is_some_and(|expected| {
            (fields.timestamp, fields.marker, fields.payload_type, fields.payload)
                == (expected.timestamp, expected.marker, expected.payload_type, expected.payload)
        });
        self.changed += usize::from(!same);
    }

    /// Which packets arrived, by index, in order of arrival.
    pub fn order(&self) -> &[u64] {
        &self.order
    }

    /// What became of the first `count` packets of the stream.
    pub fn verdict(&self, count: u64) -> Verdict {
        let mut seen = vec![false; count as usize];
        let mut verdict = Verdict { changed: self.changed as u64, ..Verdict::default() };
        let mut highest = None;
        for &index in self.order.iter().filter(|index| **index < count) {
            let seen = &mut seen[index as usize];
            if *seen {
                verdict.duplicated += 1;
            } else {
                verdict.received += 1;
                verdict.reordered += u64::from(highest > Some(index));
            }
            *seen = true;
            highest = highest.max(Some(index));
        }
        verdict.lost = count - verdict.received;
        verdict
    }
}

/// The feedback that plugins are tested with, and malformed input, as bytes.
pub mod control {
    use bytes::Bytes;

    /// A receiver report without blocks (RFC 3550, 6.4.2).
    pub fn receiver_report(ssrc: u32) -> Bytes {
        [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat().into()
    }

    /// A generic NACK for up to 17 packets: `first` and those of the mask behind it (RFC 4585, 6.2.1).
    pub fn nack(sender: u32, media: u32, first: u16, mask: u16) -> Bytes {
        let (sender, media) = (sender.to_be_bytes(), media.to_be_bytes());
        [&[0x81, 205, 0, 3][..], &sender, &media, &first.to_be_bytes(), &mask.to_be_bytes()].concat().into()
    }

    /// A picture loss indication (RFC 4585, 6.3.1).
    pub fn picture_loss(sender: u32, media: u32) -> Bytes {
        [&[0x81, 206, 0, 2][..], &sender.to_be_bytes(), &media.to_be_bytes()].concat().into()
    }

    /// The packet types of a compound, in order; `None` if its lengths do not add up (RFC 3550, A.2).
    pub fn kinds(compound: &[u8]) -> Option<Vec<u8>> {
        let mut kinds = Vec::new();
        let mut rest = compound;
        while !rest.is_empty() {
            let [first, kind, high, low, ..] = *rest else { return None };
            if first >> 6 != 2 {
                return None;
            }
            kinds.push(kind);
            rest = rest.get(4 + 4 * usize::from(u16::from_be_bytes([high, low]))..)?;
        }
        Some(kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_shares_timestamps_within_frames_and_crosses_both_wraps() {
        let mut source = Source::video(7);
        let packets = source.packets(60);
        let fields: Vec<_> = packets.iter().map(|packet| fields(packet).unwrap()).collect();
        assert_eq!(fields[0].sequence_number, 65_515);
        assert_eq!(fields[21].sequence_number, 0);
        assert!(fields[..4].iter().all(|fields| fields.timestamp == u32::MAX - 9_000));
        assert_eq!(fields[4].timestamp, u32::MAX - 9_000 + 3_600);
        assert_eq!(fields[12].timestamp, (u32::MAX - 9_000).wrapping_add(3 * 3_600));
        let markers: Vec<_> = (0..60).filter(|n| fields[*n].marker).collect();
        assert_eq!(markers, (3..60).step_by(4).collect::<Vec<_>>());
        assert_eq!(
            (source.due(3), source.due(4), source.due(100)),
            (Duration::ZERO, 40 * MILLISECOND, 25 * 40 * MILLISECOND)
        );
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn extensions_csrcs_and_padding_are_around_the_payload() {
        let plain = Source::video(7);
        let full =
            Source { extensions: vec![(5, vec![1, 2]), (3, vec![9])], csrcs: vec![1, 2], padding: 4, ..plain.clone() };
        let (plain, full) = (plain.nth(0), full.nth(0));
        assert_eq!(full[0], 0x80 | 0x20 | 0x10 | 2);
        assert_eq!(full[12..36], [0, 0, 0, 1, 0, 0, 0, 2, 0xbe, 0xde, 0, 2, 0x51, 1, 2, 0x30, 9, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(full.len(), plain.len() + 8 + 12 + 4);
        assert_eq!(fields(&full).unwrap(), fields(&plain).unwrap());
    }

    #[test]
    fn what_is_not_rtp_has_no_fields() {
        let packet = Source::video(7).nth(0);
        assert_eq!(fields(&packet[..11]), None);
        assert_eq!(fields(&[&[0x40], &packet[1..]].concat()), None);
        assert_eq!(fields(&[&[0x90], &packet[1..12], &[0xbe, 0xde, 0, 9]].concat()), None);
    }

    #[test]
    fn a_judge_tells_lost_duplicated_reordered_and_changed_apart() {
        let mut source = Source::video(7);
        let sent = source.packets(100);
        assert_eq!(Judge::all(&source, &sent).verdict(100), Verdict::perfect(100));

        let mut arrived = sent.clone();
        arrived.swap(30, 31);
        arrived.insert(50, sent[49].clone());
        arrived.remove(60);
        arrived.remove(0);
        let verdict = Judge::all(&source, &arrived).verdict(100);
        assert_eq!(verdict, Verdict { received: 98, lost: 2, duplicated: 1, reordered: 1, changed: 0 });

        for at in [1, 5, 12, 500] {
            let mut broken = sent[40].to_vec();
            broken[at] ^= 1;
            assert_eq!(Judge::all(&source, &[broken.into()]).verdict(100).changed, 1);
        }
    }

    #[test]
    fn a_judge_ignores_other_streams() {
        let judge = Judge::all(&Source::video(7), &Source::video(8).packets(3));
        assert_eq!(judge.order(), [0; 0]);
    }

    #[test]
    fn a_judge_follows_a_stream_over_many_wraps_and_losses() {
        let mut source = Source { payload: 12, ..Source::video(7) };
        let mut judge = Judge::of(&source);
        for index in 0..200_000 {
            let packet = source.packet();
            if index % 3 == 0 {
                judge.take(&packet);
            }
        }
        assert_eq!(judge.verdict(200_000).received, 66_667);
        assert_eq!(judge.verdict(200_000).changed, 0);
        assert_eq!(judge.order()[66_666], 199_998);
    }

    #[test]
    fn feedback_is_well_formed() {
        let compound = [control::receiver_report(1), control::nack(1, 2, 3, 0), control::picture_loss(1, 2)].concat();
        assert_eq!(control::kinds(&compound), Some(vec![201, 205, 206]));
        assert_eq!(control::kinds(&compound[..compound.len() - 1]), None);
    }
}
