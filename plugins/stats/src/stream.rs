//! What is known of a stream from its negotiation.

use sandbar_sdk::{StreamId, StreamInfo};

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) handle: StreamId,
    /// The application's name for it.
    pub(crate) id: String,
    pub(crate) ssrc: u32,
    /// SSRC of retransmissions (RFC 4588).
    pub(crate) rtx: Option<u32>,
    /// SSRC of repair packets.
    pub(crate) fec: Option<u32>,
    pub(crate) clock_rate: u32,
    /// `audio` or `video`, where the MIME type tells.
    pub(crate) kind: Option<&'static str>,
}

impl Stream {
    pub(crate) fn new(handle: StreamId, info: &StreamInfo) -> Self {
        let kind = info.mime_type.split('/').next().unwrap_or_default();
        let kinds = ["audio", "video"];
        Self {
            handle,
            id: info.id.clone(),
            ssrc: info.ssrc,
            rtx: info.ssrc_retransmission,
            fec: info.ssrc_forward_error_correction,
            clock_rate: info.clock_rate,
            kind: kinds.into_iter().find(|known| known.eq_ignore_ascii_case(kind)),
        }
    }

    /// A count that does not exist for audio.
    pub(crate) fn unless_audio(&self, count: u64) -> Option<u64> {
        (self.kind != Some("audio")).then_some(count)
    }
}
