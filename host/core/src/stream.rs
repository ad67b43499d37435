//! What is known about a stream when it is bound.

use crate::attributes::Value;

/// An RTP header extension as negotiated (RFC 8285).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtpHeaderExtension {
    /// What it means.
    pub uri: String,
    /// What the packets carry.
    pub id: u8,
}

/// A line of `a=rtcp-fb` (RFC 4585, 4.2), such as `nack`, `nack pli`, `transport-cc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtcpFeedback {
    /// Such as `nack`.
    pub kind: String,
    /// Such as `pli`; empty for a plain NACK.
    pub parameter: String,
}

/// Everything known about a stream when it is bound; Pion's `StreamInfo`. What was not negotiated is 0, empty or `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamInfo {
    /// The application's name for the stream, for people and logs.
    pub id: String,
    /// The application's own values, for plugins.
    pub attributes: Vec<(String, Value)>,
    /// The stream's source.
    pub ssrc: u32,
    /// The source of its retransmissions (RFC 4588).
    pub ssrc_retransmission: Option<u32>,
    /// The source of its repair packets.
    pub ssrc_forward_error_correction: Option<u32>,
    /// What its packets carry.
    pub payload_type: u8,
    /// What its retransmissions carry.
    pub payload_type_retransmission: Option<u8>,
    /// What its repair packets carry.
    pub payload_type_forward_error_correction: Option<u8>,
    /// Header extensions, as negotiated.
    pub rtp_header_extensions: Vec<RtpHeaderExtension>,
    /// Such as `video/VP8`.
    pub mime_type: String,
    /// RTP timestamp units per second.
    pub clock_rate: u32,
    /// Audio channels.
    pub channels: u16,
    /// Format parameters, as in `a=fmtp`.
    pub sdp_fmtp_line: String,
    /// Feedback, as negotiated.
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

impl StreamInfo {
    /// Whether packets with this SSRC are the stream's own or its companions'.
    pub(crate) fn owns(&self, ssrc: u32) -> bool {
        self.ssrc == ssrc || self.ssrc_retransmission == Some(ssrc) || self.ssrc_forward_error_correction == Some(ssrc)
    }

    /// The stream's SSRC and those of its companions.
    pub(crate) fn ssrcs(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.ssrc).chain(self.ssrc_retransmission).chain(self.ssrc_forward_error_correction)
    }
}
