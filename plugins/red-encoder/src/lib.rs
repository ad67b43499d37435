//! Repeats earlier frames in each packet of an audio stream (RED, RFC 2198), so that the peer can do without a lost one.
//!
//! ```text
//! write_rtp ──> Recent (the frames right before) ──> those that fit the block head and the MTU ──> red::write
//!                  └──────────<── this packet's frame, for those to come
//! ```

mod format;
mod options;
mod recent;
mod red;
mod state;

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, export};

use crate::format::Format;
use crate::options::{OPTIONS, Options};
use crate::recent::Recent;
use crate::state::StreamState;

/// Bytes left free for a header extension of those ahead: a transport-wide sequence number with its extension block.
const GROWTH: usize = 8;

/// The session's RED streams.
#[derive(Debug)]
pub struct RedEncoder {
    options: Options,
    streams: Vec<Stream>,
    /// Frames of a predecessor, until their streams are bound.
    resumed: Vec<StreamState>,
    /// Where a payload is put together.
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    format: Format,
    recent: Recent,
}

export!(RedEncoder, place = RepairEncoding, wants = [read_media], binds = [local_streams], options = OPTIONS);

impl Interceptor for RedEncoder {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self { options, streams: Vec::new(), resumed: Vec::new(), payload: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { resumed: state::parse(state)?, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        state::to_json(self.streams.iter().map(|stream| StreamState::new(stream.ssrc, &stream.recent)))
    }

    fn bind_local_stream(&mut self, _: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let Some(format) = Format::of(info) else { return Ok(Binding::PASS) };
        let resumed = self.resumed.iter().position(|resumed| resumed.ssrc == info.ssrc);
        let recent = resumed.map_or_else(Recent::default, |at| self.resumed.swap_remove(at).recent());
        self.streams.push(Stream { id: stream, ssrc: info.ssrc, format, recent });
        Ok(Binding::transform_packets())
    }

    fn unbind_local_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.retain(|bound| bound.id != stream);
    }

    #[inline]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        let (header, Some(payload)) = (packet.header(), packet.payload()) else { return Outcome::Forward };
        let payload_type = header.payload_type();
        if header.ssrc() != stream.ssrc || !stream.format.has_inside(payload_type) {
            return Outcome::Forward;
        }
        // The padding stays at the packet's end (RFC 3550, 5.1).
        let padding = if header.padding() { payload.last().map_or(0, |last| usize::from(*last)) } else { 0 };
        let (media, padding) = payload.split_at(payload.len().saturating_sub(padding));
        let taken = header.len() + padding.len() + red::OWN_HEAD + media.len();
        let room = usize::from(cx.session().mtu).saturating_sub(GROWTH).checked_sub(taken);
        let (sequence_number, timestamp) = (header.sequence_number(), header.timestamp());
        if let Some(room) = room {
            let frames = stream.recent.before(sequence_number, timestamp, self.options.redundancy, room);
            red::write(frames, payload_type, media, &mut self.payload);
            self.payload.extend_from_slice(padding);
        }
        stream.recent.insert(sequence_number, timestamp, payload_type, media);
        if room.is_some() {
            packet.set_payload(&self.payload);
            packet.header_mut().set_payload_type(stream.format.payload_type);
        } else {
            // Without any redundancy there is nothing to gain from a larger packet: it goes as it is.
            cx.count("left_plain", 1);
        }
        Outcome::Forward
    }
}
