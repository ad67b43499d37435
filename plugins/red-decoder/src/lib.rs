//! Takes audio out of RED packets (RFC 2198), and restores lost packets from what later ones repeat.
//!
//! ```text
//! read_rtp ──> Red (the packet's own frame, and those that it repeats)
//!                ├─ repeated ──> Window: whose packet is lost? ──> emit_rtp, the oldest first
//!                └─ own ──> the packet, as if it had never been RED
//! ```

mod format;
mod options;
mod red;
mod state;
mod window;

use sandbar_sdk::{
    Binding, Context, HeaderBuf, Interceptor, Outcome, Payload, Refusal, RtpPacket, StreamId, StreamInfo, export,
};

use crate::options::Options;
use crate::red::{Block, MOST, Red};
use crate::state::StreamState;
use crate::window::{Arrival, Packet, Place, Window};

/// The session's RED streams.
#[derive(Debug)]
pub struct RedDecoder {
    streams: Vec<Stream>,
    /// Windows of a predecessor, until their streams are bound.
    resumed: Vec<StreamState>,
    /// Where a packet's own frame is kept while it takes the payload's place.
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    /// Of packets that are RED.
    red: u8,
    window: Window,
}

export!(RedDecoder, place = RepairDecoding, wants = [emit_rtp, read_media], binds = [remote_streams]);

impl Interceptor for RedDecoder {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Options::parse(config)?;
        Ok(Self { streams: Vec::new(), resumed: Vec::new(), payload: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { resumed: state::parse(state)?, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        state::to_json(self.streams.iter().map(|stream| StreamState::new(stream.ssrc, &stream.window)))
    }

    fn bind_remote_stream(&mut self, _: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let Some(red) = format::payload_type(info) else { return Ok(Binding::PASS) };
        let resumed = self.resumed.iter().position(|resumed| resumed.ssrc == info.ssrc);
        let window = resumed.map_or_else(Window::default, |at| self.resumed.swap_remove(at).window());
        self.streams.push(Stream { id: stream, ssrc: info.ssrc, red, window });
        Ok(Binding::transform_packets())
    }

    fn unbind_remote_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.retain(|bound| bound.id != stream);
    }

    #[inline]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        let (header, Some(payload)) = (packet.header(), packet.payload()) else { return Outcome::Forward };
        if header.ssrc() != stream.ssrc {
            return Outcome::Forward;
        }
        let this = Packet { sequence_number: header.sequence_number(), timestamp: header.timestamp() };
        let arrival = stream.window.arrive(this);
        if arrival == Arrival::Restored {
            // It was only late. Those behind tell the two apart, and what arrives is not this plugin's to drop.
            cx.count("late", 1);
        }
        if header.payload_type() != stream.red {
            return Outcome::Forward;
        }
        // The padding stays at the packet's end (RFC 3550, 5.1).
        let padding = if header.padding() { payload.last().map_or(0, |last| usize::from(*last)) } else { 0 };
        let (inside, padding) = payload.split_at(payload.len().saturating_sub(padding));
        let Ok(red) = Red::parse(inside, stream.red) else {
            cx.count("malformed", 1);
            cx.warn_once("malformed", "the peer's packets are not RED as RFC 2198 has it; see the counter malformed");
            return Outcome::Forward;
        };
        if !red.repeated().is_empty() {
            stream.restore(cx, this, red.repeated());
        }
        self.payload.clear();
        self.payload.extend_from_slice(red.own.media);
        self.payload.extend_from_slice(padding);
        let payload_type = red.own.payload_type;
        packet.set_payload(&self.payload);
        packet.header_mut().set_payload_type(payload_type);
        Outcome::Forward
    }
}

impl Stream {
    /// Emits those packets that are lost and whose frames this packet repeats, in their order.
    fn restore(&mut self, cx: &mut Context, carrier: Packet, repeated: &[Block<'_>]) {
        let mut lost = [None; MOST];
        let (mut upper, mut unclear) = (carrier, 0);
        for (block, lost) in repeated.iter().zip(&mut lost).rev() {
            // Nothing to restore; RFC 2198 does not say what that is for, and the packet's own is not repeated.
            if block.media.is_empty() || block.offset == 0 {
                continue;
            }
            let timestamp = carrier.timestamp.wrapping_sub(block.offset);
            match self.window.place(&mut upper, timestamp) {
                Place::Known => {}
                Place::Lost(sequence_number) => *lost = Some(Packet { sequence_number, timestamp }),
                Place::Unclear => unclear += 1,
            }
        }
        for (block, lost) in repeated.iter().zip(lost) {
            let Some(lost) = lost else { continue };
            let mut header = HeaderBuf::new(block.payload_type, self.ssrc);
            header.edit().set_sequence_number(lost.sequence_number);
            header.edit().set_timestamp(lost.timestamp);
            if cx.emit_rtp(self.id, header.as_bytes(), Payload::Bytes(block.media), &[]).is_ok() {
                self.window.restored(lost);
                cx.count("restored", 1);
            } else {
                cx.count("refused", 1);
            }
        }
        if unclear > 0 {
            cx.count("unclear", unclear);
        }
    }
}
