//! What is sent from end to end: a camera's video and audio, as far as a relay and its plugins can see.

use std::fmt::Write as _;

use sandbar_host::{RtcpFeedback, StreamInfo};

/// A stream, as publisher and subscriber have agreed on it.
#[derive(Debug)]
pub(super) struct Media {
    pub(super) name: &'static str,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    /// Of retransmissions on the way to the subscriber (RFC 4588).
    pub(super) rtx_ssrc: u32,
    rtx_payload_type: u8,
    pub(super) clock_rate: u32,
    mime_type: &'static str,
    channels: u16,
}

/// The streams, numbered in this order.
pub(super) const MEDIA: [Media; 2] = [
    Media {
        name: "video",
        ssrc: 0x51de_0000,
        payload_type: 96,
        rtx_ssrc: 0x51de_0001,
        rtx_payload_type: 97,
        clock_rate: 90_000,
        mime_type: "video/VP8",
        channels: 0,
    },
    Media {
        name: "audio",
        ssrc: 0xa0d1_0000,
        payload_type: 111,
        rtx_ssrc: 0xa0d1_0001,
        rtx_payload_type: 112,
        clock_rate: 48_000,
        mime_type: "audio/opus",
        channels: 2,
    },
];
/// Its place in [`MEDIA`].
pub(super) const VIDEO: usize = 0;
/// Its place in [`MEDIA`].
pub(super) const AUDIO: usize = 1;

impl Media {
    /// As it is bound in the subscriber's session.
    pub(super) fn info(&self) -> StreamInfo {
        StreamInfo {
            id: self.name.to_owned(),
            ssrc: self.ssrc,
            ssrc_retransmission: Some(self.rtx_ssrc),
            payload_type: self.payload_type,
            payload_type_retransmission: Some(self.rtx_payload_type),
            mime_type: self.mime_type.to_owned(),
            clock_rate: self.clock_rate,
            channels: self.channels,
            rtcp_feedback: vec![RtcpFeedback { kind: "nack".to_owned(), parameter: String::new() }],
            ..StreamInfo::default()
        }
    }

    /// As the relay's configuration announces it.
    pub(super) fn toml(&self) -> String {
        let mut toml = String::from("[[routes.publisher.streams]]\n");
        // Writing to a string does not fail.
        let _ = writeln!(toml, "name = {:?}\nssrc = {}\npayload_type = {}", self.name, self.ssrc, self.payload_type);
        let _ = writeln!(toml, "mime_type = {:?}\nclock_rate = {}", self.mime_type, self.clock_rate);
        if self.channels > 0 {
            let _ = writeln!(toml, "channels = {}", self.channels);
        }
        let _ = writeln!(toml, "rtx = {{ ssrc = {}, payload_type = {} }}", self.rtx_ssrc, self.rtx_payload_type);
        toml + "rtcp_feedback = [\"nack\"]\n"
    }
}

/// Fills a packet's payload with bytes that only this packet has, so that the far end can tell whether it got it as it
/// was sent.
pub(super) fn fill(ssrc: u32, sequence: u16, payload: &mut [u8]) {
    let mut state = u64::from(ssrc) << 16 | u64::from(sequence);
    for chunk in payload.chunks_mut(8) {
        // Knuth's MMIX generator: any that is quick will do.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
    }
}

/// Whether a payload is what [`fill`] makes.
pub(super) fn is_intact(ssrc: u32, sequence: u16, payload: &[u8]) -> bool {
    let mut expected = vec![0; payload.len()];
    fill(ssrc, sequence, &mut expected);
    expected == payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_was_touched_or_exchanged_is_not_intact() {
        let mut payload = [0; 1188];
        fill(7, 100, &mut payload);
        assert!(is_intact(7, 100, &payload));
        assert!(!is_intact(7, 101, &payload));
        payload[1187] ^= 1;
        assert!(!is_intact(7, 100, &payload));
    }
}
