//! Turns the peer's congestion control feedback into a report of each packet that was sent: how large it was, when it left
//! and when it arrived, for a bandwidth estimator to read. Feedback is transport-wide
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01) or RFC 8888.
//!
//! ```text
//! write_rtp ──> Log, by transport-wide number or by SSRC and sequence number
//!                 │
//! read_rtcp ──feedback──> each packet's fate ──> report ──> the RTCP packet's attribute `rtpfb.report`
//! ```

mod ccfb;
mod clock;
mod log;
mod options;
mod pieces;
mod report;
mod state;
mod transport;

use std::collections::VecDeque;
use std::time::Duration;

use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpHeaderExtension, RtpPacket,
    StreamId, StreamInfo, Value, export,
};

use crate::ccfb::Reception;
use crate::clock::Clock;
use crate::log::{Fate, Log, Sent};
use crate::options::{OPTIONS, Options};
use crate::report::{Entry, Source};
use crate::state::State;

pub use crate::report::REPORT;

/// What a part of a compound is to who looks for feedback of one kind.
#[derive(Clone, Copy, Debug)]
enum Read<F> {
    Other,
    Malformed,
    Feedback(F),
}

/// Under which the transport-wide sequence number is negotiated.
pub const URI: &str = RtpHeaderExtension::TRANSPORT_CC;

/// By which the pacer marks the packets of a probe, with its number.
pub const PROBE: &str = "pacer.probe";

/// A value of the session, in milliseconds: for how long packets have left since the peer was last heard of. There is
/// none while feedback comes.
pub const UNANSWERED: &str = "rtpfb.unanswered_ms";

/// Numbers that one compound may be about: more than any that is meant, and little enough to look at.
const NUMBERS: usize = 1 << 14;
/// Entries that wait for the next report, at most.
const PENDING: usize = 1 << 13;
/// Silence that is worth telling, and how often it is told.
const SILENCE: Duration = Duration::from_millis(500);

/// What the session has sent, and what the peer has said of it.
#[derive(Debug)]
pub struct Rtpfb {
    options: Options,
    streams: Vec<Stream>,
    /// By transport-wide sequence number.
    numbered: Log,
    /// By RTP sequence number, of streams with RFC 8888.
    sources: Vec<(StreamId, u32, Log)>,
    /// A predecessor's sources, until their streams send.
    resumed: Vec<(u32, Log)>,
    transport_clock: Clock,
    ccfb_clock: Clock,
    /// Of the entries that wait for a report.
    source: Source,
    pending: VecDeque<Entry>,
    report: Vec<u8>,
    /// When the first packet left that no feedback came after, and whether the silence has been told.
    unanswered: Option<Instant>,
    told: bool,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// Of the transport-wide sequence number.
    extension: Option<u8>,
    ccfb: bool,
}

/// What was found in a compound.
#[derive(Debug, Default)]
struct Tally {
    feedback: u64,
    malformed: u64,
    excess: u64,
    arrived: u64,
    lost: u64,
    unknown: u64,
    unreported: u64,
}

export!(Rtpfb, place = SendHistory, binds = [rtcp_reader, local_streams], options = OPTIONS);

impl Interceptor for Rtpfb {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self {
            options: Options::parse(config)?,
            streams: Vec::new(),
            numbered: Log::default(),
            sources: Vec::new(),
            resumed: Vec::new(),
            transport_clock: Clock::default(),
            ccfb_clock: Clock::default(),
            source: Source::Transport,
            pending: VecDeque::new(),
            report: Vec::new(),
            unanswered: None,
            told: false,
        })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let state = State::parse(state)?;
        let (transport_clock, ccfb_clock) = (state.transport_clock, state.ccfb_clock);
        let (numbered, resumed) = state.logs();
        Ok(Self { numbered, resumed, transport_clock, ccfb_clock, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let mut state = State::new(&self.numbered, self.sources.iter().map(|(_, ssrc, log)| (*ssrc, log)));
        (state.transport_clock, state.ccfb_clock) = (self.transport_clock, self.ccfb_clock);
        state.to_json()
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        // Only who transforms a packet may set its attributes.
        Ok(RtcpAccess::Transform)
    }

    fn bind_local_stream(&mut self, _: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let extension = info.extension_id(URI).filter(|id| *id != 0);
        let ccfb = info.has_feedback("ack", "ccfb");
        if extension.is_none() && !ccfb {
            return Ok(Binding::PASS);
        }
        self.streams.push(Stream { id: stream, extension, ccfb });
        Ok(Binding::FOLLOW)
    }

    fn unbind_local_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.retain(|bound| bound.id != stream);
        self.sources.retain(|(id, ..)| *id != stream);
    }

    #[inline]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.iter().find(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        let probe = match packet.attribute(PROBE) {
            Some(Value::Integer(probe)) => u32::try_from(probe).unwrap_or(0),
            _ => 0,
        };
        // A released packet's time is that at which it was let go.
        let at = packet.time();
        let size = u16::try_from(packet.size()).unwrap_or(u16::MAX);
        let sent = Sent { at: at.as_nanos(), size, probe, fate: Fate::InFlight };
        let (window, header) = (self.options.history(), packet.header());
        if let Some([high, low]) = stream.extension.and_then(|id| header.extension(id)) {
            self.numbered.push(u16::from_be_bytes([*high, *low]), sent, window);
        }
        if stream.ccfb {
            let (id, ssrc) = (stream.id, header.ssrc());
            let at = self.sources.iter().position(|(_, known, _)| *known == ssrc).unwrap_or_else(|| {
                let resumed = self.resumed.iter().position(|(known, _)| *known == ssrc);
                let log = resumed.map(|at| self.resumed.swap_remove(at).1).unwrap_or_default();
                self.sources.push((id, ssrc, log));
                self.sources.len() - 1
            });
            self.sources[at].2.push(header.sequence_number(), sent, window);
        }
        if self.unanswered.is_none() {
            self.unanswered = Some(at);
            cx.wake_at(Some(at + SILENCE));
        }
        Outcome::Forward
    }

    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        let mut tally = Tally::default();
        let mut numbers = NUMBERS;
        for part in packet.parts() {
            match transport::read(&part) {
                Read::Malformed => tally.malformed += 1,
                Read::Feedback(feedback) if feedback.count() > numbers => tally.excess += 1,
                Read::Feedback(feedback) => {
                    numbers -= feedback.count();
                    self.take_transport(&feedback, &mut tally);
                }
                Read::Other => match ccfb::read(&part) {
                    Read::Other => {}
                    Read::Malformed => tally.malformed += 1,
                    Read::Feedback(feedback) if feedback.count() > numbers => tally.excess += 1,
                    Read::Feedback(feedback) => {
                        numbers -= feedback.count();
                        self.take_ccfb(&feedback, &mut tally);
                    }
                },
            }
        }
        if tally.feedback > 0 {
            self.answered(cx);
            self.tell(cx, packet, &mut tally);
        }
        tally.count(cx);
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        let Some(since) = self.unanswered else { return };
        let silence = cx.now() - since;
        if silence >= SILENCE {
            let millis = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
            self.told |= cx.set_session_attribute(UNANSWERED, millis).is_ok();
        }
        cx.wake_after(SILENCE);
    }
}

impl Rtpfb {
    fn take_transport(&mut self, feedback: &transport::Feedback<'_>, tally: &mut Tally) {
        self.switch(Source::Transport);
        tally.feedback += 1;
        let (log, pending) = (&mut self.numbered, &mut self.pending);
        feedback.each(&mut self.transport_clock, |number, at| {
            let reception = at.map_or(Reception::No, Reception::At);
            take(log.get_mut(number), reception, pending, tally);
        });
    }

    fn take_ccfb(&mut self, feedback: &ccfb::Feedback<'_>, tally: &mut Tally) {
        self.switch(Source::Ccfb);
        tally.feedback += 1;
        let (sources, pending) = (&mut self.sources, &mut self.pending);
        feedback.each(&mut self.ccfb_clock, |ssrc, number, reception| {
            let log = sources.iter_mut().find(|(_, known, _)| *known == ssrc);
            take(log.and_then(|(.., log)| log.get_mut(number)), reception, pending, tally);
        });
    }

    /// A report speaks of one clock.
    fn switch(&mut self, source: Source) {
        if self.source != source {
            self.source = source;
            self.pending.clear();
        }
    }

    /// Attaches the report to the packet that brought the feedback.
    fn tell(&mut self, cx: &Context, packet: &mut RtcpPacket<'_>, tally: &mut Tally) {
        let over = self.pending.len().saturating_sub(PENDING);
        self.pending.drain(..over);
        tally.unreported += over as u64;
        if self.pending.is_empty() {
            return;
        }
        let written = report::write(self.source, &self.pending, &mut self.report);
        if packet.set_attribute(REPORT, self.report.clone()).is_ok() {
            self.pending.drain(..written);
        } else {
            cx.count("refused", 1);
        }
    }

    fn answered(&mut self, cx: &mut Context) {
        self.unanswered = None;
        cx.wake_at(None);
        if self.told {
            self.told = cx.remove_session_attribute(UNANSWERED).is_err();
        }
    }
}

/// Notes what the peer says of a packet, where that is new.
#[inline]
fn take(sent: Option<&mut Sent>, reception: Reception, pending: &mut VecDeque<Entry>, tally: &mut Tally) {
    let Some(sent) = sent else {
        tally.unknown += 1;
        return;
    };
    let arrived = reception != Reception::No;
    let news = match sent.fate {
        Fate::InFlight => true,
        Fate::Lost => arrived,
        Fate::Arrived | Fate::Absent => false,
    };
    if !news {
        return;
    }
    let was_lost = sent.fate == Fate::Lost;
    sent.fate = if arrived { Fate::Arrived } else { Fate::Lost };
    *(if arrived { &mut tally.arrived } else { &mut tally.lost }) += 1;
    let at = match reception {
        Reception::At(at) => Some(at),
        Reception::No | Reception::Sometime => None,
    };
    pending.push_back(Entry { sent: sent.at / 1000, size: sent.size, arrived, was_lost, at, probe: sent.probe });
}

impl Tally {
    fn count(&self, cx: &Context) {
        for (name, count) in [
            ("feedback", self.feedback),
            ("malformed", self.malformed),
            ("excess", self.excess),
            ("arrived", self.arrived),
            ("lost", self.lost),
            ("unknown", self.unknown),
            ("unreported", self.unreported),
        ] {
            if count > 0 {
                cx.count(name, count);
            }
        }
        if self.malformed > 0 {
            cx.warn_once("malformed", "the peer's feedback cannot be read; see the counter malformed");
        }
        if self.excess > 0 {
            cx.warn_once("excess", "the peer's feedback covers more than was sent; see the counter excess");
        }
    }
}
