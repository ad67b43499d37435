//! Restores lost packets from repair packets (FlexFEC, draft-ietf-payload-flexible-fec-scheme-03, which browsers negotiate as
//! `flexfec-03`).
//!
//! ```text
//! read_rtp ─ media ──> Window (the latest packets, as they were protected) ──> on, as it came
//!          └ repair ─> Protected (which packets, and their parity) ──> one lost? ──> emit_rtp
//!                         └─ more than one ──> waits for packets, and for what other repair restores
//! ```

mod decoder;
mod mutable;
mod options;
mod repair;
mod window;

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{
    Binding, Context, HeaderBuf, Interceptor, Outcome, Payload, Refusal, RtpPacket, StreamId, StreamInfo, export,
    serde_json,
};

use crate::decoder::{Decoder, Tally};
use crate::mutable::Mutable;
use crate::options::{OPTIONS, Options};
use crate::window::Arrival;

/// The session's protected streams.
#[derive(Debug)]
pub struct FlexfecDecoder {
    options: Options,
    streams: Vec<Stream>,
    /// How far a predecessor's streams had come.
    resumed: Vec<StreamState>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    repair_ssrc: u32,
    repair_payload_type: u8,
    mutable: Mutable,
    decoder: Decoder,
}

/// What a successor is handed, as JSON: what was seen is not restored again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct StreamState {
    ssrc: u32,
    newest: u16,
}

export!(
    FlexfecDecoder,
    place = RepairDecoding,
    wants = [emit_rtp, read_media],
    binds = [remote_streams],
    options = OPTIONS,
);

impl Interceptor for FlexfecDecoder {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self { options: Options::parse(config)?, streams: Vec::new(), resumed: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let resumed = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        Ok(Self { resumed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let state = |stream: &Stream| Some(StreamState { ssrc: stream.ssrc, newest: stream.decoder.newest()? });
        serde_json::to_vec(&self.streams.iter().filter_map(state).collect::<Vec<_>>()).ok()
    }

    fn bind_remote_stream(&mut self, _: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let repair = info.ssrc_forward_error_correction.zip(info.payload_type_forward_error_correction);
        let Some((repair_ssrc, repair_payload_type)) = repair else { return Ok(Binding::PASS) };
        let resumed = self.resumed.iter().position(|resumed| resumed.ssrc == info.ssrc);
        let floor = resumed.map(|at| self.resumed.swap_remove(at).newest);
        let mutable = Mutable::of(info, self.options.zeroed);
        let decoder = Decoder::new(info.ssrc, mutable.clone(), self.options.packets, floor);
        self.streams.push(Stream { id: stream, ssrc: info.ssrc, repair_ssrc, repair_payload_type, mutable, decoder });
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
        let ssrc = packet.header().ssrc();
        if ssrc == stream.repair_ssrc {
            stream.repair(cx, packet);
            return Outcome::Drop;
        }
        if ssrc == stream.ssrc {
            stream.media(cx, packet);
        }
        Outcome::Forward
    }
}

impl Stream {
    #[inline]
    fn media(&mut self, cx: &mut Context, packet: &RtpPacket<'_>) {
        let Self { id, mutable, decoder, .. } = self;
        let emit = |restored: &[u8]| emit(cx, *id, mutable, restored);
        let arrival = decoder.media(&packet.header(), packet.bytes(), packet.repaired(), emit);
        if arrival == Arrival::Restored {
            // It was only late. Those behind tell the two apart, and what arrives is not this plugin's to drop.
            cx.count("late", 1);
        }
        self.count(cx);
    }

    fn repair(&mut self, cx: &mut Context, packet: &RtpPacket<'_>) {
        let (header, payload) = (packet.header(), packet.payload().unwrap_or_default());
        let padding = if header.padding() { payload.last().map_or(0, |last| usize::from(*last)) } else { 0 };
        let payload = payload.get(..payload.len().saturating_sub(padding)).unwrap_or_default();
        let Self { id, mutable, decoder, .. } = self;
        let emit = |restored: &[u8]| emit(cx, *id, mutable, restored);
        let known = header.payload_type() == self.repair_payload_type;
        if !known || decoder.repair(payload, emit).is_err() {
            cx.count("malformed", 1);
            cx.warn_once("malformed", "the peer's repair packets are not FlexFEC-03; see the counter malformed");
        }
        self.count(cx);
    }

    #[inline]
    fn count(&mut self, cx: &Context) {
        if self.decoder.tally == Tally::default() {
            return;
        }
        let Tally { given_up, failed } = std::mem::take(&mut self.decoder.tally);
        for (name, count) in [("given_up", given_up), ("failed", failed)] {
            if count > 0 {
                cx.count(name, count);
            }
        }
    }
}

/// Sends a restored packet on its way, without what said when and as the how-manieth it was sent.
fn emit(cx: &mut Context, stream: StreamId, mutable: &Mutable, packet: &[u8]) {
    let Ok(mut header) = HeaderBuf::parse(packet.to_vec()) else { return };
    let payload = packet.get(header.as_bytes().len()..).unwrap_or_default();
    mutable.remove(&mut header);
    match cx.emit_rtp(stream, header.as_bytes(), Payload::Bytes(payload), &[]) {
        Ok(()) => cx.count("restored", 1),
        Err(_) => cx.count("refused", 1),
    }
}
