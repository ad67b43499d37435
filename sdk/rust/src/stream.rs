//! What a plugin is told of its session and streams.

use crate::attributes::Attribute;

/// One session (one peer's connection) as the plugin's instance knows it; never reused while the instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u32);

/// One bound stream as the plugin's instance knows it; never reused while the instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl SessionId {
    /// The id with this number.
    pub const fn new(number: u32) -> Self {
        SessionId(number)
    }

    /// The id's number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl StreamId {
    /// The id with this number.
    pub const fn new(number: u32) -> Self {
        StreamId(number)
    }

    /// The id's number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// What a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session.
    pub id: SessionId,
    /// The most bytes a packet may have on the wire, RTP or RTCP, without IP and UDP headers.
    pub mtu: u16,
    /// RTCP canonical name of this endpoint (RFC 3550, 6.5.1).
    pub cname: String,
    /// The SSRC to put as the sender of RTCP packets that have no better one, the same for all plugins of the session.
    pub rtcp_ssrc: u32,
}

impl SessionInfo {
    /// Bytes that an RTCP packet may have, so that it is within the MTU also with the empty report and the SDES that the
    /// host may have to put before it (RFC 3550, 6.1).
    pub fn feedback_room(&self) -> usize {
        const EMPTY_REPORT: usize = 8;
        self.report_room().saturating_sub(EMPTY_REPORT)
    }

    /// The same for a report, behind which there is only the SDES.
    pub fn report_room(&self) -> usize {
        // The head with the SSRC, the item's head, and at least one zero up to a whole word (RFC 3550, 6.5).
        let description = (10 + self.cname.len().min(255) + 4) & !3;
        usize::from(self.mtu).saturating_sub(description)
    }
}

/// Everything known about a stream when it is bound. What was not negotiated is 0, empty or `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamInfo {
    /// The application's name for the stream, for people and logs.
    pub id: String,
    /// What the application or earlier plugins attached to the stream.
    pub attributes: Vec<Attribute>,
    /// SSRC of the stream's media packets.
    pub ssrc: u32,
    /// SSRC of its retransmissions (RFC 4588).
    pub ssrc_retransmission: Option<u32>,
    /// SSRC of its repair packets.
    pub ssrc_forward_error_correction: Option<u32>,
    /// Payload type of the stream's media packets.
    pub payload_type: u8,
    /// Payload type of its retransmissions.
    pub payload_type_retransmission: Option<u8>,
    /// Payload type of its repair packets.
    pub payload_type_forward_error_correction: Option<u8>,
    /// RTP header extensions as negotiated (RFC 8285).
    pub rtp_header_extensions: Vec<RtpHeaderExtension>,
    /// Such as `video/VP8`.
    pub mime_type: String,
    /// RTP timestamp units per second.
    pub clock_rate: u32,
    /// Audio channels.
    pub channels: u16,
    /// The parameters of `a=fmtp`.
    pub sdp_fmtp_line: String,
    /// The lines of `a=rtcp-fb`.
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

impl StreamInfo {
    /// Whether `a=rtcp-fb` names this feedback, such as `("nack", "")` or `("nack", "pli")`.
    pub fn has_feedback(&self, kind: &str, parameter: &str) -> bool {
        self.rtcp_feedback.iter().any(|line| line.kind == kind && line.parameter == parameter)
    }

    /// The id under which packets carry the header extension with this URI.
    pub fn extension_id(&self, uri: &str) -> Option<u8> {
        self.rtp_header_extensions.iter().find(|extension| extension.uri == uri).map(|extension| extension.id)
    }
}

/// An RTP header extension as negotiated (RFC 8285): `id` is what the packets carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpHeaderExtension {
    /// Names the extension.
    pub uri: String,
    /// 1 to 14 in the one-byte form, 1 to 255 in the two-byte form.
    pub id: u8,
}

impl RtpHeaderExtension {
    /// Under which transport-wide sequence numbers are negotiated (draft-holmer-rmcat-transport-wide-cc-extensions-01, 2).
    pub const TRANSPORT_CC: &'static str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
}

/// A line of `a=rtcp-fb` (RFC 4585, 4.2), such as `nack`, `nack pli`, `transport-cc`, `ccm fir`, `ack ccfb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcpFeedback {
    /// The first word.
    pub kind: String,
    /// The rest, or empty.
    pub parameter: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3550_6_5_the_description_is_left_room_for() {
        let rooms = |mtu, cname: &str| {
            let session = SessionInfo { id: SessionId(1), mtu, cname: cname.to_owned(), rtcp_ssrc: 2 };
            (session.report_room(), session.feedback_room())
        };
        // Eight bytes, the item's two and the name's, and one to four zeros.
        assert_eq!(rooms(1200, "a@b"), (1200 - 16, 1200 - 24));
        assert_eq!(rooms(1200, "ab@cde"), (1200 - 20, 1200 - 28));
        assert_eq!(rooms(1200, &"x".repeat(1000)), (1200 - 268, 1200 - 276));
        assert_eq!(rooms(20, "ab@cde"), (0, 0));
    }
}
