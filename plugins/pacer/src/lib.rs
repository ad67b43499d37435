//! Sends at the estimated rate instead of in bursts, and probes for more when an estimator orders it.
//!
//! ```text
//! write_rtp ──video──> room in the budget, and nothing before it? ──yes──> on its way
//!                        └─no──> Queue, retransmissions first ──timer, 5 ms──> on its way
//!           ──audio──> on its way, at the cost of the others
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
    Attribute, Binding, Context, EmitError, Header, HeaderBuf, Instant, Interceptor, Outcome, Refusal, RtpPacket,
    StreamId, StreamInfo, Value, export, serde_json,
};

use crate::budget::Budget;
use crate::options::{OPTIONS, Options};
use crate::probe::Probe;
use crate::queue::{Held, Kind, Queue};
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
/// Packets of history: padding is made of the last ones that were sent.
const HISTORY: u32 = 64;

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

/// What a successor is handed, as JSON. What is held it gets from the host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct State {
    rtx: Vec<Numbers>,
    probed: u32,
}

export!(Pacer, place = Pacing, wants = [emit_rtp, randomness], binds = [local_streams], options = OPTIONS);

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
        Ok(Self { resumed: state.rtx, probed: state.probed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let rtx = self.streams.iter().filter_map(|stream| stream.rtx.as_ref()).map(|rtx| rtx.numbers);
        serde_json::to_vec(&State { rtx: rtx.collect(), probed: self.probed }).ok()
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let audio = info.mime_type.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("audio/"));
        let rtx = info.ssrc_retransmission.zip(info.payload_type_retransmission).filter(|_| !audio);
        let rtx = rtx.map(|(ssrc, payload_type)| {
            let resumed = self.resumed.iter().find(|numbers| numbers.ssrc == ssrc).copied();
            Rtx::new(resumed.unwrap_or(Numbers::new(ssrc)), payload_type)
        });
        let mut stream = Stream { id: stream, ssrc: info.ssrc, rtx, held: 0, audio };
        // Voice is not held: it is little, and late is as good as lost.
        if !audio {
            self.take_over(cx, &mut stream);
        }
        self.streams.push(stream);
        match audio {
            true => Ok(Binding::observe_headers()),
            false => Ok(Binding::transform_headers().with_history(HISTORY)),
        }
    }

    fn unbind_local_stream(&mut self, cx: &mut Context, stream: StreamId) {
        let Some(at) = self.streams.iter().position(|bound| bound.id == stream) else { return };
        self.streams.swap_remove(at);
        for held in self.queue.take(stream) {
            let_go(cx, &held);
        }
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
        if stream.audio {
            self.budget.take(size);
            return Outcome::Forward;
        }
        let kind = stream.kind(ssrc);
        let changed = match (kind, &mut stream.rtx) {
            (Kind::Retransmission, Some(rtx)) => Some(rtx.numbers.pass(number)).filter(|passed| *passed != number),
            _ => None,
        };
        let waits = self.queue.is_before(kind) || self.probe.is_some();
        if (waits || !self.budget.is_free(rate, self.options.interval())) && self.hold(cx, at, kind, packet, changed) {
            return Outcome::Drop;
        }
        if let Some(changed) = changed {
            packet.header_mut().set_sequence_number(changed);
        }
        self.budget.take(size);
        if kind == Kind::Media
            && let Some(rtx) = &mut self.streams[at].rtx
        {
            rtx.sent(number, size, Some(timestamp));
            if self.order.is_some() {
                self.wake(cx, PROBE_INTERVAL);
            }
        }
        Outcome::Forward
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
        while let Some(held) = self.queue.pop() {
            let_go(cx, &held);
        }
    }
}

impl Stream {
    fn kind(&self, ssrc: u32) -> Kind {
        if ssrc == self.ssrc {
            Kind::Media
        } else if self.rtx.as_ref().is_some_and(|rtx| rtx.numbers.ssrc == ssrc) {
            Kind::Retransmission
        } else {
            Kind::Repair
        }
    }
}

/// The header with another sequence number.
fn with_number(header: &[u8], number: u16) -> Vec<u8> {
    let Ok(mut header) = HeaderBuf::parse(header.to_vec()) else { return Vec::new() };
    header.edit().set_sequence_number(number);
    header.as_bytes().to_vec()
}

/// At the end: what cannot leave as it should leaves as it came, for the host lets it.
fn let_go(cx: &mut Context, held: &Held) {
    let _ = cx.release(held.id, &held.header, &[]);
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

    /// Goes on with what a predecessor held of a stream.
    fn take_over(&mut self, cx: &mut Context, stream: &mut Stream) {
        for held in cx.held(stream.id) {
            let Ok(header) = Header::parse(&held.header) else { continue };
            let (kind, number) = (stream.kind(header.ssrc()), header.sequence_number());
            let renumbered = match (kind, &stream.rtx) {
                (Kind::Retransmission, Some(rtx)) => rtx.numbers.passed(number),
                _ => number,
            };
            let header = (renumbered != number).then(|| with_number(&held.header, renumbered));
            stream.held += 1;
            self.queue.push(Held {
                id: held.id,
                stream: stream.id,
                kind,
                sequence_number: number,
                size: held.size,
                since: held.time,
                header: header.unwrap_or_default(),
            });
        }
        if !self.queue.is_empty() {
            self.wake(cx, self.options.interval());
        }
    }

    /// Holds a packet, unless the host will not; a retransmission whose number has changed leaves with that one.
    fn hold(&mut self, cx: &mut Context, at: usize, kind: Kind, packet: &RtpPacket<'_>, changed: Option<u16>) -> bool {
        while self.streams[at].held >= self.options.queue_packets as usize {
            cx.count("overflow", 1);
            if self.send(cx, None).is_err() {
                break;
            }
        }
        let Ok(id) = cx.hold(packet) else {
            cx.count("overflow", 1);
            return false;
        };
        let (sequence_number, size, since) = (packet.header().sequence_number(), packet.size(), cx.now());
        let header = changed.map(|changed| with_number(packet.header().as_bytes(), changed)).unwrap_or_default();
        let stream = &mut self.streams[at];
        stream.held += 1;
        self.queue.push(Held { id, stream: stream.id, kind, sequence_number, size, since, header });
        cx.count("held", 1);
        self.wake(cx, self.options.interval());
        true
    }

    /// Sends what the budget allows.
    fn release(&mut self, cx: &mut Context, now: Instant) {
        let rate = self.rate(now);
        self.budget.settle(now, rate);
        while !self.queue.is_empty() && self.budget.is_free(rate, self.options.interval()) {
            if let Ok(size) = self.send(cx, None) {
                self.budget.take(size);
            }
        }
    }

    /// Sends what is next; gives its size.
    fn send(&mut self, cx: &mut Context, probe: Option<u32>) -> Result<usize, EmitError> {
        let held = self.queue.pop().ok_or(EmitError::Unknown)?;
        let mark = probe.map(mark);
        let sent = cx.release(held.id, &held.header, mark.as_slice());
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == held.stream) {
            stream.held = stream.held.saturating_sub(1);
            if let (Ok(()), Kind::Media, Some(rtx)) = (&sent, held.kind, &mut stream.rtx) {
                rtx.sent(held.sequence_number, held.size, None);
            }
        }
        if sent.is_err() {
            // With its mark or its number it would not have fitted, or somebody is at fault: it leaves as it came.
            cx.release(held.id, &[], &[])?;
        }
        Ok(held.size)
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
