//! Sends at the estimated rate instead of in bursts, and probes for more when an estimator orders it.
//!
//! ```text
//! write_rtp ──media──> room in the budget? ──yes──> on its way
//!                        └─no──> Queue ──timer, 5 ms──> on its way, from the host's history
//!           ──audio, retransmissions, repair──> on its way, at the cost of the others
//! gcc.target_bitrate ──> rate          gcc.probes ──> Probe: queue and padding at the rate ordered
//! ```

mod budget;
mod options;
mod probe;
mod queue;
mod rtx;

use std::time::Duration;

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{
    Attribute, Binding, Context, EmitError, Instant, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo,
    Value, export, serde_json,
};

use crate::budget::Budget;
use crate::options::{OPTIONS, Options};
use crate::probe::Probe;
use crate::queue::{Held, Queue};
use crate::rtx::{Numbers, Rtx};

/// Values of the session by which an estimator says what to send: bits per second, and probes.
pub const TARGET: &str = "gcc.target_bitrate";
/// See [`TARGET`].
pub const PROBES: &str = "gcc.probes";
/// By which the packets of a probe are marked, with its number.
pub const PROBE: &str = "pacer.probe";

/// How often the estimator is listened to.
const LISTEN: Duration = Duration::from_millis(20);
/// Time between the packets of a probe, at least.
const PROBE_INTERVAL: Duration = Duration::from_millis(1);

/// The session's packets that wait, and what says when they go.
#[derive(Debug)]
pub struct Pacer {
    options: Options,
    streams: Vec<Stream>,
    queue: Queue,
    budget: Budget,
    estimate: Option<i64>,
    listened: Option<Instant>,
    probe: Option<Probe>,
    /// The next one, if there is one that has not been sent, and the number of the last one that was.
    order: Option<probe::Order>,
    probed: u32,
    /// When the timer is due.
    due: Option<Instant>,
    /// A predecessor's retransmission streams.
    resumed: Vec<Numbers>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    rtx: Option<Rtx>,
    /// Of its packets, in the queue.
    held: usize,
    /// Its packets are only counted.
    audio: bool,
}

/// What a successor is handed, as JSON. The packets themselves are in the history, which the host hands over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct State {
    queue: Vec<Held>,
    rtx: Vec<Numbers>,
    probed: u32,
}

export!(Pacer, place = Pacing, wants = [emit_rtp, randomness], options = OPTIONS);

impl Interceptor for Pacer {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self {
            options: Options::parse(config)?,
            streams: Vec::new(),
            queue: Queue::default(),
            budget: Budget::new(cx.now()),
            estimate: None,
            listened: None,
            probe: None,
            order: None,
            probed: 0,
            due: None,
            resumed: Vec::new(),
        })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let state: State = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        let mut pacer = Self { resumed: state.rtx, probed: state.probed, ..Self::create(cx, config)? };
        for held in state.queue {
            pacer.queue.push(held);
        }
        if !pacer.queue.is_empty() {
            pacer.wake(cx, pacer.options.interval());
        }
        Ok(pacer)
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let rtx = self.streams.iter().filter_map(|stream| stream.rtx.as_ref()).map(|rtx| rtx.numbers);
        let state = State { queue: self.queue.iter().copied().collect(), rtx: rtx.collect(), probed: self.probed };
        serde_json::to_vec(&state).ok()
    }

    fn bind_local_stream(&mut self, _: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let audio = info.mime_type.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("audio/"));
        let rtx = info.ssrc_retransmission.zip(info.payload_type_retransmission).filter(|_| !audio);
        let rtx = rtx.map(|(ssrc, payload_type)| {
            let resumed = self.resumed.iter().find(|numbers| numbers.ssrc == ssrc).copied();
            Rtx::new(resumed.unwrap_or(Numbers::new(ssrc)), payload_type)
        });
        let held = self.queue.iter().filter(|held| held.ssrc == info.ssrc).count();
        self.streams.push(Stream { id: stream, ssrc: info.ssrc, rtx, held, audio });
        match audio {
            // Voice is not held: it is little, and late is as good as lost.
            true => Ok(Binding::observe_headers()),
            false => Ok(Binding::transform_headers().with_history(self.options.queue_packets)),
        }
    }

    fn unbind_local_stream(&mut self, cx: &mut Context, stream: StreamId) {
        let Some(at) = self.streams.iter().position(|bound| bound.id == stream) else { return };
        for held in self.queue.take(self.streams[at].ssrc) {
            // What the host has no longer cannot be sent by anybody.
            let _ = cx.release_rtp(stream, held.sequence_number, &[]);
        }
        self.streams.swap_remove(at);
    }

    #[inline]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(at) = self.streams.iter().position(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        let (now, size) = (cx.now(), packet.size());
        self.listen(cx, now);
        let rate = self.rate(now);
        self.budget.settle(now, rate);
        let stream = &mut self.streams[at];
        let header = packet.header();
        let (ssrc, number, timestamp) = (header.ssrc(), header.sequence_number(), header.timestamp());
        if stream.audio || ssrc != stream.ssrc {
            self.budget.take(size);
            if let Some(rtx) = stream.rtx.as_mut().filter(|rtx| rtx.numbers.ssrc == ssrc) {
                let passed = rtx.numbers.pass(number);
                if passed != number {
                    packet.header_mut().set_sequence_number(passed);
                }
            }
            return Outcome::Forward;
        }
        if self.queue.is_empty() && self.probe.is_none() && self.budget.is_free(rate, self.options.interval()) {
            self.budget.take(size);
            if let Some(rtx) = &mut stream.rtx {
                rtx.sent(number, size, Some(timestamp));
                if self.order.is_some() {
                    self.wake(cx, PROBE_INTERVAL);
                }
            }
            return Outcome::Forward;
        }
        self.hold(cx, at, Held { ssrc, sequence_number: number, size: size as u16, since: now.as_nanos() });
        Outcome::Drop
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        self.due = None;
        let now = cx.now();
        self.listen(cx, now);
        let ordered = self.order.take_if(|_| self.probe.is_none() && can_probe(&self.streams));
        if let Some(order) = ordered {
            self.probed = order.number;
            cx.count("probes", 1);
        }
        match self.probe.or(ordered.map(|order| Probe::begin(order, now))) {
            Some(probe) => self.probe(cx, now, probe),
            None => self.release(cx, now),
        }
        match self.probe {
            Some(_) => self.wake(cx, PROBE_INTERVAL),
            None if self.order.is_some() && can_probe(&self.streams) => self.wake(cx, PROBE_INTERVAL),
            None if !self.queue.is_empty() => self.wake(cx, self.options.interval()),
            None => {}
        }
    }

    fn close(&mut self, cx: &mut Context) {
        // Where a successor takes over, the history is no longer here, and what is held is its business.
        while let Some(held) = self.queue.pop() {
            if let Some(stream) = self.streams.iter().find(|stream| stream.ssrc == held.ssrc) {
                let _ = cx.release_rtp(stream.id, held.sequence_number, &[]);
            }
        }
    }
}

impl Pacer {
    fn wake(&mut self, cx: &mut Context, after: Duration) {
        let at = cx.now() + after;
        if self.due.is_none_or(|due| at < due) {
            self.due = Some(at);
            cx.wake_at(Some(at));
        }
    }

    /// Hears what an estimator says, now and then.
    #[inline]
    fn listen(&mut self, cx: &mut Context, now: Instant) {
        if self.listened.is_some_and(|at| now - at < LISTEN) {
            return;
        }
        self.listened = Some(now);
        self.estimate = match cx.session_attribute(TARGET) {
            Some(Value::Integer(target)) => Some(target),
            _ => None,
        };
        self.order = match cx.session_attribute(PROBES) {
            Some(Value::Bytes(orders)) => probe::next(&orders, self.probed),
            _ => None,
        };
    }

    /// Bits per second.
    fn rate(&self, now: Instant) -> f64 {
        let rate = self.options.rate(self.estimate);
        if self.queue.is_empty() {
            return rate;
        }
        rate.max(self.queue.pressure(now, self.options.longest(), self.options.interval()))
    }

    fn hold(&mut self, cx: &mut Context, at: usize, held: Held) {
        // The history keeps as many as may be held; what would push out one that is held lets it go first.
        while self.streams[at].held + 1 >= self.options.queue_packets as usize {
            cx.count("overflow", 1);
            if self.send(cx, None).is_err() {
                break;
            }
        }
        self.streams[at].held += 1;
        self.queue.push(held);
        cx.count("held", 1);
        self.wake(cx, self.options.interval());
    }

    /// Sends what the budget allows.
    fn release(&mut self, cx: &mut Context, now: Instant) {
        let rate = self.rate(now);
        self.budget.settle(now, rate);
        while !self.queue.is_empty() && self.budget.is_free(rate, self.options.interval()) {
            match self.send(cx, None) {
                Ok(size) => self.budget.take(size),
                // The rest of the call's quota is others'.
                Err(EmitError::Quota) => return,
                Err(_) => {}
            }
        }
    }

    /// Sends the oldest that is held; gives its size. What is over the quota stays.
    fn send(&mut self, cx: &mut Context, probe: Option<u32>) -> Result<usize, EmitError> {
        let held = self.queue.pop().ok_or(EmitError::Unknown)?;
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == held.ssrc) else {
            return Err(EmitError::Unknown);
        };
        let mark = probe.map(mark);
        match cx.release_rtp(stream.id, held.sequence_number, mark.as_slice()) {
            Err(EmitError::Quota) => {
                self.queue.unpop(held);
                return Err(EmitError::Quota);
            }
            Err(error) => {
                stream.held = stream.held.saturating_sub(1);
                cx.count("lost", 1);
                return Err(error);
            }
            Ok(()) => stream.held = stream.held.saturating_sub(1),
        }
        if let Some(rtx) = &mut stream.rtx {
            rtx.sent(held.sequence_number, held.size.into(), None);
        }
        Ok(held.size.into())
    }

    /// Sends what is due of a probe: what is held, and padding where nothing is.
    fn probe(&mut self, cx: &mut Context, now: Instant, mut probe: Probe) {
        while probe.is_due(now) && !probe.is_over(now) {
            let number = probe.order.number;
            let sent = if self.queue.is_empty() { self.pad(cx, number) } else { self.send(cx, Some(number)) };
            match sent {
                Ok(size) => probe.sent(size),
                Err(EmitError::Quota) => break,
                // The next one may be there.
                Err(_) if !self.queue.is_empty() => {}
                Err(_) => break,
            }
        }
        self.probe = (!probe.is_over(now)).then_some(probe);
        if self.probe.is_none() {
            // There may be another one.
            self.listened = None;
            self.listen(cx, now);
        }
    }

    fn pad(&mut self, cx: &mut Context, probe: u32) -> Result<usize, EmitError> {
        let stream = self.streams.iter_mut().find(|stream| stream.rtx.as_ref().is_some_and(Rtx::has_sent));
        let Some(Stream { id, rtx: Some(rtx), .. }) = stream else { return Err(EmitError::Unknown) };
        let size = rtx.pad(cx, *id, &[mark(probe)])?;
        cx.count("padding", 1);
        Ok(size)
    }
}

/// Whether there is something to fill a probe with.
fn can_probe(streams: &[Stream]) -> bool {
    streams.iter().any(|stream| stream.rtx.as_ref().is_some_and(Rtx::has_sent))
}

fn mark(probe: u32) -> Attribute {
    Attribute::new(PROBE, Value::from(probe))
}
