//! Answers the peer's requests for lost packets: generic NACK (RFC 4585, 6.2.1), with RTX (RFC 4588) where negotiated.
//!
//! The host keeps what was sent, so no packet passes through here, and a retransmission's media does not either:
//!
//! ```text
//! read_rtcp ──NACK──> not just sent? ──> in the history, young? ──> within budget? ──> emit_rtp from the history
//!     └─ report blocks ──> round-trip time, within which a repeated request is a duplicate
//! ```

mod budget;
mod feedback;
mod options;
mod recent;
mod round_trip;
mod rtx;

use std::time::Duration;

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{
    Binding, Context, EmitError, Interceptor, Outcome, Payload, Refusal, RtcpAccess, RtcpPacket, StreamId, StreamInfo,
    export, serde_json,
};

use crate::budget::Budget;
use crate::options::{OPTIONS, Options};
use crate::recent::Recent;
use crate::rtx::Rtx;

/// What a request that finds nothing takes from the budget, in bytes: a flood of them would otherwise cost the peer
/// nothing and the host a look into the history each.
const COST_OF_A_LOOK: u64 = 64;

/// The session's streams and what they share: a budget, and the round-trip time to the peer.
#[derive(Debug)]
pub struct NackResponder {
    options: Options,
    streams: Vec<Stream>,
    budget: Budget,
    /// As the peer's latest report has it.
    round_trip: Option<Duration>,
    /// Next sequence numbers of a predecessor's retransmission streams.
    resumed: Vec<RtxState>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    rtx: Option<Rtx>,
    recent: Recent,
}

/// What a successor is handed, as JSON: a retransmission stream goes on where it was.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct RtxState {
    ssrc: u32,
    sequence_number: u16,
}

/// What became of requests, to be counted once per compound.
#[derive(Debug, Default)]
struct Tally {
    requested: u64,
    retransmitted: u64,
    duplicate: u64,
    too_old: u64,
    over_budget: u64,
    refused: u64,
    unknown: u64,
}

export!(
    NackResponder,
    place = Retransmission,
    wants = [emit_rtp, wall_clock, randomness],
    binds = [rtcp_reader, local_streams],
    options = OPTIONS,
);

impl Interceptor for NackResponder {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        let budget = Budget::new(options.bits_per_second(), options.burst(), cx.now());
        Ok(Self { options, streams: Vec::new(), budget, round_trip: None, resumed: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let resumed = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        Ok(Self { resumed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let rtx = self.streams.iter().filter_map(|stream| stream.rtx);
        let state: Vec<_> = rtx.map(|rtx| RtxState { ssrc: rtx.ssrc, sequence_number: rtx.sequence_number }).collect();
        serde_json::to_vec(&state).ok()
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Observe)
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        if !info.has_feedback("nack", "") {
            return Ok(Binding::PASS);
        }
        let rtx = info.ssrc_retransmission.zip(info.payload_type_retransmission);
        let rtx = rtx.map(|(ssrc, payload_type)| Rtx { ssrc, payload_type, sequence_number: self.first(cx, ssrc) });
        self.streams.push(Stream { id: stream, ssrc: info.ssrc, rtx, recent: Recent::new(self.options.packets) });
        Ok(Binding::PASS.with_history(self.options.packets))
    }

    fn unbind_local_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.retain(|bound| bound.id != stream);
    }

    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        let mut tally = Tally::default();
        for part in packet.parts() {
            for block in part.report_blocks() {
                if self.streams.iter().any(|stream| stream.ssrc == block.ssrc) {
                    let round_trip = round_trip::measure(&block, cx.ntp(packet.time()));
                    self.round_trip = round_trip.or(self.round_trip);
                }
            }
            if let Some((ssrc, requested)) = feedback::nack(&part) {
                self.answer(cx, ssrc, requested, &mut tally);
            }
        }
        tally.count(cx);
        Outcome::Forward
    }
}

impl NackResponder {
    /// Where a retransmission stream begins.
    fn first(&self, cx: &Context, ssrc: u32) -> u16 {
        let resumed = self.resumed.iter().find(|resumed| resumed.ssrc == ssrc);
        resumed.map_or_else(|| cx.random() as u16, |resumed| resumed.sequence_number)
    }

    fn answer(&mut self, cx: &mut Context, ssrc: u32, requested: impl Iterator<Item = u16>, tally: &mut Tally) {
        let window = round_trip::within(self.options.duplicate(), self.round_trip);
        let max_age = self.options.max_age();
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) else {
            tally.unknown += 1;
            return;
        };
        let now = cx.now();
        for sequence_number in requested {
            tally.requested += 1;
            if stream.recent.has(sequence_number, now, window) {
                tally.duplicate += 1;
                continue;
            }
            if self.budget.is_spent(now) {
                tally.over_budget += 1;
                continue;
            }
            let Some(entry) = cx.history(stream.id, sequence_number).filter(|entry| now - entry.time <= max_age) else {
                self.budget.take(COST_OF_A_LOOK);
                tally.too_old += 1;
                continue;
            };
            self.budget.take(entry.size as u64);
            match stream.retransmit(cx, sequence_number, entry.header) {
                Ok(()) => {
                    stream.recent.insert(sequence_number, now);
                    tally.retransmitted += 1;
                }
                // The call's quota is used up: the peer will ask again.
                Err(EmitError::Quota) => {
                    tally.over_budget += 1;
                    return;
                }
                Err(_) => tally.refused += 1,
            }
        }
    }
}

impl Stream {
    fn retransmit(&mut self, cx: &mut Context, sequence_number: u16, header: Vec<u8>) -> Result<(), EmitError> {
        if let Some(rtx) = &mut self.rtx {
            let number = sequence_number.to_be_bytes();
            let payload = Payload::History { sequence_number, prefix: &number };
            let rtx_header = rtx.header(&header).ok_or(EmitError::NotInHistory)?;
            match cx.emit_rtp(self.id, rtx_header.as_bytes(), payload, &[]) {
                Ok(()) => rtx.sequence_number = rtx.sequence_number.wrapping_add(1),
                // No room for the original sequence number: better plain than not at all.
                Err(EmitError::TooLarge) => return self.repeat(cx, sequence_number, &header),
                Err(error) => return Err(error),
            }
            return Ok(());
        }
        self.repeat(cx, sequence_number, &header)
    }

    /// Sends the packet again as it was (RFC 4585 without RFC 4588).
    fn repeat(&self, cx: &mut Context, sequence_number: u16, header: &[u8]) -> Result<(), EmitError> {
        cx.emit_rtp(self.id, header, Payload::History { sequence_number, prefix: &[] }, &[])
    }
}

impl Tally {
    fn count(&self, cx: &Context) {
        for (name, count) in [
            ("requested", self.requested),
            ("retransmitted", self.retransmitted),
            ("duplicate", self.duplicate),
            ("too_old", self.too_old),
            ("over_budget", self.over_budget),
            ("refused", self.refused),
            ("unknown", self.unknown),
        ] {
            if count > 0 {
                cx.count(name, count);
            }
        }
        if self.over_budget > 0 {
            cx.warn_once("over_budget", "the peer asks for more than the budget; see the counter over_budget");
        }
        if self.unknown > 0 {
            cx.warn_once(
                "unknown",
                "the peer asks for packets of streams that are not answered for; see the counter unknown",
            );
        }
    }
}
