//! Sends repair packets for a stream, from which the peer restores lost packets without a round trip (FlexFEC,
//! draft-ietf-payload-flexible-fec-scheme-03, which browsers negotiate as `flexfec-03`).
//!
//! ```text
//! write_rtp (a copy) ──> Mutable (what changes behind, as zeros) ──> Block ──full──> emit_rtp on the repair SSRC
//!                                                                      └─ Repair: parity of every n-th packet
//! ```

mod block;
mod mutable;
mod options;
mod repair;

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{
    Binding, Context, HeaderBuf, Interceptor, Outcome, Payload, Refusal, RtpHeaderExtension, RtpPacket, StreamId,
    StreamInfo, export, serde_json,
};

use crate::block::{Block, Fit};
use crate::mutable::Mutable;
use crate::options::{Extensions, OPTIONS, Options};

/// By how much a header grows at most when it is numbered: an extension block's head, and one word with id, length and
/// number.
const GROWTH: usize = 8;

/// The session's protected streams.
#[derive(Debug)]
pub struct FlexfecEncoder {
    options: Options,
    streams: Vec<Stream>,
    /// Next sequence numbers of a predecessor's repair streams.
    resumed: Vec<RepairState>,
    /// Where a header is put as it is protected.
    header: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    repair_ssrc: u32,
    repair_payload_type: u8,
    /// The next repair packet's. Consecutive, from a random start (RFC 3550, 5.1).
    sequence_number: u16,
    block: Block,
    mutable: Mutable,
    /// The extension for transport-wide sequence numbers, if packets are to be protected as if they had it.
    number: Option<u8>,
    /// Bytes that a repair packet has to leave of the MTU.
    growth: usize,
}

/// What a successor is handed, as JSON: a repair stream goes on where it was.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct RepairState {
    ssrc: u32,
    sequence_number: u16,
}

export!(
    FlexfecEncoder,
    place = RepairEncoding,
    wants = [emit_rtp, read_media, randomness],
    binds = [local_streams],
    options = OPTIONS,
);

impl Interceptor for FlexfecEncoder {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self { options, streams: Vec::new(), resumed: Vec::new(), header: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let resumed = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        Ok(Self { resumed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let state = |stream: &Stream| RepairState { ssrc: stream.repair_ssrc, sequence_number: stream.sequence_number };
        serde_json::to_vec(&self.streams.iter().map(state).collect::<Vec<_>>()).ok()
    }

    /// It looks on: media never waits for its repair.
    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let repair = info.ssrc_forward_error_correction.zip(info.payload_type_forward_error_correction);
        let Some((repair_ssrc, repair_payload_type)) = repair else { return Ok(Binding::PASS) };
        let Options { media_packets, repair_packets, extensions } = self.options;
        let numbered = info.extension_id(RtpHeaderExtension::TRANSPORT_CC).filter(|id| *id != 0);
        let resumed = self.resumed.iter().find(|resumed| resumed.ssrc == repair_ssrc);
        self.streams.push(Stream {
            id: stream,
            ssrc: info.ssrc,
            repair_ssrc,
            repair_payload_type,
            sequence_number: resumed.map_or_else(|| cx.random() as u16, |resumed| resumed.sequence_number),
            block: Block::new(media_packets, repair_packets),
            mutable: if extensions == Extensions::Kept { Mutable::default() } else { Mutable::of(info) },
            number: numbered.filter(|_| extensions == Extensions::Reserved),
            growth: if numbered.is_some() { GROWTH } else { 0 },
        });
        Ok(Binding::observe_packets())
    }

    fn unbind_local_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.retain(|bound| bound.id != stream);
    }

    #[inline]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        // Its companions are not protected.
        if packet.header().ssrc() == stream.ssrc {
            stream.protect(cx, packet, &mut self.header);
        }
        Outcome::Forward
    }
}

impl Stream {
    fn protect(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>, header: &mut Vec<u8>) {
        let mtu = usize::from(cx.session().mtu);
        // In the form in which those ahead add it. What is changed here is the observer's copy.
        if let Some(id) = self.number
            && packet.header().extension(id).is_none()
        {
            // An extension block of another kind gets no number there either.
            let _ = packet.header_mut().set_extension(id, &[0, 0]);
        }
        let (view, Some(payload)) = (packet.header(), packet.payload()) else { return };
        if view.len() + payload.len() + self.block.overhead() + self.growth > mtu {
            cx.count("too_large", 1);
            return;
        }
        header.clear();
        header.extend_from_slice(view.as_bytes());
        self.mutable.zero(&view, header);
        let (sequence_number, timestamp) = (view.sequence_number(), view.timestamp());
        match self.block.fit(sequence_number) {
            Fit::Yes => {}
            Fit::Old => return cx.count("too_old", 1),
            Fit::Ahead => self.finish(cx),
        }
        if self.block.add(sequence_number, timestamp, header, payload) {
            self.finish(cx);
        }
    }

    /// Sends the block's repair packets.
    fn finish(&mut self, cx: &mut Context) {
        let Self { id, ssrc, repair_ssrc, repair_payload_type, sequence_number, block, .. } = self;
        block.finish(*ssrc, |timestamp, payload| {
            let mut header = HeaderBuf::new(*repair_payload_type, *repair_ssrc);
            header.edit().set_sequence_number(*sequence_number);
            header.edit().set_timestamp(timestamp);
            match cx.emit_rtp(*id, header.as_bytes(), Payload::Bytes(payload), &[]) {
                Ok(()) => *sequence_number = sequence_number.wrapping_add(1),
                Err(_) => cx.count("refused", 1),
            }
        });
    }
}
