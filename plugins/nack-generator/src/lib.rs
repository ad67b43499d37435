//! Asks the peer for lost packets: generic NACK (RFC 4585, 6.2.1).
//!
//! ```text
//! read_rtp ──> Log (what is missing, per stream) ──due──> timer ──> nack::write ──> emit_rtcp
//!                 └─ recovered ──> RoundTrip (how long to wait before asking again)
//! ```

mod log;
mod nack;
mod options;
mod rtt;
mod state;

use std::hint::black_box;
use std::time::Duration;

use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, StreamMap, export,
};

use crate::log::{Arrival, Log, Missing, Sample};
use crate::options::{OPTIONS, Options};
use crate::rtt::RoundTrip;
use crate::state::{State, StreamState};

/// When the timer is set to while nothing is missing: headers of packets in order wait for it, and it has nothing to do.
const IDLE: Duration = Duration::from_secs(60);

/// The session's streams and their one timer.
#[derive(Debug)]
pub struct NackGenerator {
    options: Options,
    streams: StreamMap<Stream>,
    round_trip: RoundTrip,
    /// When the timer is due.
    wake: Option<Instant>,
    /// Logs of a predecessor, until their streams are bound.
    resumed: Vec<StreamState>,
    /// Recovered and abandoned packets that are not yet counted.
    recovered: u64,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    log: Log,
    sample: Sample,
}

export!(NackGenerator, place = LossDetection, wants = [emit_rtcp], binds = [remote_streams], options = OPTIONS);

impl Interceptor for NackGenerator {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        let round_trip = RoundTrip::default();
        Ok(Self { options, streams: StreamMap::new(), round_trip, wake: None, resumed: Vec::new(), recovered: 0 })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let state = State::parse(state)?;
        let mut this = Self::create(cx, config)?;
        this.round_trip = state.round_trip();
        this.resumed = state.streams;
        Ok(this)
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let mut state = State::new(self.round_trip);
        state.streams.extend(self.streams.values().map(|stream| StreamState::new(stream.ssrc, &stream.log)));
        state.to_json()
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        if !info.has_feedback("nack", "") {
            return Ok(Binding::PASS);
        }
        let policy = self.options.policy();
        let resumed = self.resumed.iter().position(|resumed| resumed.ssrc == info.ssrc);
        let log = resumed.map_or_else(|| Log::new(policy), |at| self.resumed.swap_remove(at).log(policy));
        self.wake_by(cx, log.next_due().unwrap_or(cx.now() + IDLE));
        self.streams.insert(stream, Stream { ssrc: info.ssrc, log, sample: sample(info) });
        Ok(Binding::FOLLOW)
    }

    fn unbind_remote_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.remove(stream);
    }

    fn prefetch(&self, stream: StreamId) {
        let bound = self.streams.get(stream);
        black_box(bound.map(|bound| bound.log.newest()));
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.get_mut(packet.stream()) else {
            return Outcome::Forward;
        };
        let header = packet.header();
        // Repair packets have sequence numbers of their own.
        if header.ssrc() != stream.ssrc {
            return Outcome::Forward;
        }
        match stream.log.observe(header.sequence_number(), packet.time(), packet.repaired()) {
            Arrival::Quiet => {}
            Arrival::Due(due) => self.wake_by(cx, due),
            Arrival::Recovered(missing) => {
                self.recovered += 1;
                let sample = stream.sample;
                self.measure(sample, &missing, packet.time(), packet.repaired());
            }
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        let now = cx.now();
        let room = cx.session().feedback_room();
        let sender = cx.session().rtcp_ssrc;
        let spacing = self.round_trip.spacing(self.options.interval());
        let (mut next, mut requested, mut abandoned) = (None::<Instant>, 0, 0);
        let (mut packets, mut numbers) = (Vec::new(), Vec::new());
        for stream in self.streams.values_mut() {
            let round = stream.log.due(now, spacing, &mut numbers);
            nack::write(sender, stream.ssrc, &numbers, room, &mut packets);
            requested += numbers.len() as u64;
            abandoned += round.abandoned;
            next = next.into_iter().chain(round.next).min();
            numbers.clear();
        }
        // Requests that are due within a moment of each other share a packet.
        let next = next.map(|next| next.max(now + self.options.reorder() / 2));
        self.wake = next.or_else(|| (!self.streams.is_empty()).then(|| now + IDLE));
        cx.wake_at(self.wake);
        if !packets.is_empty() && cx.emit_rtcp(&packets).is_err() {
            cx.count("refused", 1);
        }
        self.count(cx, requested, abandoned);
    }
}

impl NackGenerator {
    /// Sets the timer, unless it is due earlier anyway.
    #[cold]
    #[inline(never)]
    fn wake_by(&mut self, cx: &mut Context, due: Instant) {
        if self.wake.is_none_or(|wake| due < wake) {
            self.wake = Some(due);
            cx.wake_at(self.wake);
        }
    }

    /// A packet that was asked for has arrived: how long did it take?
    #[cold]
    #[inline(never)]
    fn measure(&mut self, sample: Sample, missing: &Missing, at: Instant, repaired: bool) {
        let taken = at - missing.first;
        let answers = match sample {
            Sample::Repaired => repaired,
            // One that comes so soon was on its way when it was asked for.
            Sample::Late => taken >= self.options.reorder(),
            Sample::Never => false,
        };
        if answers && !taken.is_zero() {
            self.round_trip.answered(missing, at);
        }
    }

    fn count(&mut self, cx: &mut Context, requested: u64, abandoned: u64) {
        let recovered = std::mem::take(&mut self.recovered);
        for (name, count) in [("requested", requested), ("recovered", recovered), ("abandoned", abandoned)] {
            if count > 0 {
                cx.count(name, count);
            }
        }
        if recovered > 0
            && let Some(estimate) = self.round_trip.estimate()
        {
            cx.gauge("round_trip_ms", estimate.as_secs_f64() * 1e3);
        }
    }
}

fn sample(info: &StreamInfo) -> Sample {
    let retransmissions = info.ssrc_retransmission.is_some() && info.payload_type_retransmission.is_some();
    if info.ssrc_forward_error_correction.is_some() {
        Sample::Never
    } else if retransmissions {
        Sample::Repaired
    } else {
        Sample::Late
    }
}
