//! A session with a peer and an application at its two ends: what each sends, remembers and is owed.

use std::collections::VecDeque;

use bytes::Bytes;
use sandbar_host::{RtcpFeedback, RtpHeaderExtension, RtpPacket, SessionId, StreamId, StreamInfo};

use super::packets::{ONE_BYTE, Rtp};
use crate::replay::sequence::Sequence;

/// The id of transport-wide sequence numbers.
pub(crate) const TRANSPORT_WIDE: u8 = 5;
/// The peer's SSRC in its feedback.
pub(crate) const PEER: u32 = 0x0bee;
pub(crate) const VIDEO_IN: u32 = 0x1001;
pub(crate) const VIDEO_IN_RTX: u32 = 0x1002;
pub(crate) const AUDIO_IN: u32 = 0x1003;
pub(crate) const VIDEO_OUT: u32 = 0x2001;
pub(crate) const VIDEO_OUT_RTX: u32 = 0x2002;
pub(crate) const AUDIO_OUT: u32 = 0x2003;
const VIDEO: u8 = 96;
const RTX: u8 = 97;
const AUDIO: u8 = 111;

/// A stream's packets as its sender makes them.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) ssrc: u32,
    payload_type: u8,
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
}

impl Source {
    fn new(ssrc: u32, payload_type: u8, sequence_number: u16) -> Self {
        // Timestamps wrap soon, too.
        Self { ssrc, payload_type, sequence_number, timestamp: u32::MAX - 100_000, packets: 0 }
    }

    pub(crate) fn packet(&mut self, marker: bool, payload: &[u8], number: Option<u16>) -> Bytes {
        let element = number.map(|number| {
            let [high, low] = number.to_be_bytes();
            [(TRANSPORT_WIDE << 4) | 1, high, low, 0]
        });
        let extension = element.as_ref().map(|words| (ONE_BYTE, &words[..]));
        let Self { ssrc, payload_type, sequence_number, timestamp, .. } = *self;
        self.sequence_number = sequence_number.wrapping_add(1);
        self.packets += 1;
        Rtp { ssrc, payload_type, sequence_number, timestamp, marker, extension, payload, ..Rtp::default() }.bytes()
    }
}

/// A session, and who is at its two ends.
pub(crate) struct Talk {
    pub(crate) session: SessionId,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) video_in: Source,
    pub(crate) audio_in: Source,
    pub(crate) video_out: Source,
    pub(crate) audio_out: Source,
    /// The peer's numbers of all it sends.
    pub(crate) transport_wide: u16,
    /// What the peer has sent of its video, to send again.
    pub(crate) sent: VecDeque<Bytes>,
    pub(crate) asked_for: Vec<u16>,
    pub(crate) late: Vec<Bytes>,
    /// Transport-wide numbers that arrived at the peer.
    pub(crate) arrived: Vec<u16>,
    pub(crate) feedback: u8,
    /// What came out of the chain: to the application, to the wire.
    pub(crate) out: [Sequence; 2],
}

impl Talk {
    pub(crate) fn new(session: SessionId) -> Self {
        Self {
            session,
            streams: Vec::new(),
            video_in: Source::new(VIDEO_IN, VIDEO, 65_300),
            audio_in: Source::new(AUDIO_IN, AUDIO, 1000),
            video_out: Source::new(VIDEO_OUT, VIDEO, 65_300),
            audio_out: Source::new(AUDIO_OUT, AUDIO, 1000),
            transport_wide: 65_000,
            sent: VecDeque::new(),
            asked_for: Vec::new(),
            late: Vec::new(),
            arrived: Vec::new(),
            feedback: 0,
            out: Default::default(),
        }
    }

    /// A packet of the peer's video once more (RFC 4588, 4).
    pub(crate) fn retransmit(&mut self, wanted: u16) -> Option<Bytes> {
        let parsed = self.sent.iter().filter_map(|packet| RtpPacket::parse(packet.clone()).ok());
        let original = parsed.into_iter().find(|packet| packet.sequence_number() == wanted)?;
        let payload = [&wanted.to_be_bytes()[..], &original.payload()].concat();
        let packet = Rtp {
            ssrc: VIDEO_IN_RTX,
            payload_type: RTX,
            sequence_number: self.video_in.packets as u16,
            timestamp: original.timestamp(),
            marker: original.marker(),
            payload: &payload,
            ..Rtp::default()
        };
        Some(packet.bytes())
    }
}

/// The numbers that a compound's NACKs ask for of a source.
pub(crate) fn asked_for(mut compound: &[u8], source: u32) -> Vec<u16> {
    let mut asked = Vec::new();
    while let [flags, kind, high, low, ..] = *compound {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some(packet) = compound.get(..length) else { break };
        if kind == 205 && flags & 31 == 1 && packet.get(8..12) == Some(&source.to_be_bytes()[..]) {
            for pair in packet[12..].chunks_exact(4) {
                let (first, following) =
                    (u16::from_be_bytes([pair[0], pair[1]]), u16::from_be_bytes([pair[2], pair[3]]));
                asked.push(first);
                let bits = (0..16).filter(|bit| following & (1 << bit) != 0);
                asked.extend(bits.map(|bit: u16| first.wrapping_add(bit + 1)));
            }
        }
        compound = &compound[length..];
    }
    asked
}

fn extensions() -> Vec<RtpHeaderExtension> {
    let twcc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let mid = "urn:ietf:params:rtp-hdrext:sdes:mid";
    [(mid, 4), (twcc, TRANSPORT_WIDE)].map(|(uri, id)| RtpHeaderExtension { uri: uri.to_owned(), id }).to_vec()
}

/// Video as browsers negotiate it.
pub(crate) fn video(ssrc: u32, rtx: u32) -> StreamInfo {
    let feedback = [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", ""), ("transport-cc", "")];
    StreamInfo {
        id: format!("video-{ssrc:x}"),
        ssrc,
        ssrc_retransmission: Some(rtx),
        payload_type: VIDEO,
        payload_type_retransmission: Some(RTX),
        rtp_header_extensions: extensions(),
        mime_type: "video/VP8".to_owned(),
        clock_rate: 90_000,
        rtcp_feedback: feedback
            .map(|(kind, parameter)| RtcpFeedback { kind: kind.to_owned(), parameter: parameter.to_owned() })
            .to_vec(),
        ..StreamInfo::default()
    }
}

pub(crate) fn audio(ssrc: u32) -> StreamInfo {
    StreamInfo {
        id: format!("audio-{ssrc:x}"),
        ssrc,
        payload_type: AUDIO,
        rtp_header_extensions: extensions(),
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![RtcpFeedback { kind: "transport-cc".to_owned(), parameter: String::new() }],
        ..StreamInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::packets;
    use super::*;

    #[test]
    fn what_a_nack_asks_for_is_read() {
        let compound = packets::nack(1, 7, &[(65_535, 0b11), (10, 0)]);
        assert_eq!(asked_for(&compound, 7), [65_535, 0, 1, 10]);
        assert!(asked_for(&compound, 8).is_empty());
        for length in 0..compound.len() {
            asked_for(&compound[..length], 7);
        }
    }
}
