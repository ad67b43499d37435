//! Tells what each stream has sent, received and lost, in the words of W3C's webrtc-stats.
//!
//! ```text
//! read_rtp ──> Inbound      write_rtp ──> Outbound            ┐
//! read_rtcp ─┬> sender reports: what the peer sent            ├─ Report ──> publish, control
//!            └> report blocks: what the peer received, RTT    │
//! write_rtcp ──> sender reports of this side (for RTT), NACK, PLI, FIR ┘
//! ```

mod feedback;
mod inbound;
mod options;
mod outbound;
mod report;
mod round_trip;
mod state;
mod stream;
mod volume;

use std::time::Duration;

use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo,
    Ticker, export,
};

use crate::inbound::{Arrival, Inbound};
use crate::options::{OPTIONS, Options};
use crate::outbound::Outbound;
use crate::report::{Report, millis};
use crate::round_trip::Reports;
use crate::state::State;
use crate::stream::Stream;

/// Most bytes of a published document: what the host takes, with room to spare.
const DOCUMENT: usize = 60 << 10;
/// When the timer is set to where nothing is published.
const IDLE: Duration = Duration::from_secs(60);

/// The session's streams in both directions, and its timer, which runs while there are any.
#[derive(Debug)]
pub struct Stats {
    options: Options,
    inbound: Vec<(Stream, Inbound)>,
    outbound: Vec<(Stream, Outbound)>,
    /// Reference times that this side has sent (RFC 3611, 4.4).
    reference_times: Reports,
    /// At which the statistics are published. Where they are not, headers wait for it all the same.
    ticker: Ticker,
    /// A predecessor's streams, until they are bound.
    resumed: State,
}

export!(
    Stats,
    place = Anywhere,
    wants = [wall_clock],
    binds = [rtcp_reader, rtcp_writer, local_streams, remote_streams],
    options = OPTIONS,
);

impl Interceptor for Stats {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self {
            ticker: Ticker::new(options.interval().unwrap_or(IDLE)),
            options,
            inbound: Vec::new(),
            outbound: Vec::new(),
            reference_times: Reports::default(),
            resumed: State::default(),
        })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let resumed = State::parse(state)?;
        Ok(Self { reference_times: resumed.reference_times, resumed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let state = State {
            inbound: self.inbound.iter().map(|(stream, inbound)| (stream.ssrc, inbound.clone())).collect(),
            outbound: self.outbound.iter().map(|(stream, outbound)| (stream.ssrc, outbound.clone())).collect(),
            reference_times: self.reference_times,
        };
        state.to_json()
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Observe)
    }

    fn bind_rtcp_writer(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Observe)
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let outbound = state::resume(&mut self.resumed.outbound, info.ssrc).unwrap_or_default();
        self.outbound.push((Stream::new(stream, info), outbound));
        self.ticker.start(cx);
        Ok(Binding::FOLLOW)
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        let inbound = state::resume(&mut self.resumed.inbound, info.ssrc);
        let inbound = inbound.unwrap_or_else(|| Inbound::new(info.clock_rate));
        self.inbound.push((Stream::new(stream, info), inbound));
        self.ticker.start(cx);
        Ok(Binding::FOLLOW)
    }

    fn unbind_local_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.outbound.retain(|(bound, _)| bound.handle != stream);
        self.rest(cx);
    }

    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.inbound.retain(|(bound, _)| bound.handle != stream);
        self.rest(cx);
    }

    #[inline(always)]
    fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some((stream, inbound)) = self.inbound.iter_mut().find(|(bound, _)| bound.handle == packet.stream()) else {
            return Outcome::Forward;
        };
        let header = packet.header();
        let ssrc = Some(header.ssrc());
        let arrival = match () {
            // Restored from repair packets by a plugin closer to the wire: it never arrived.
            () if packet.repaired() && stream.rtx.is_none() => return Outcome::Forward,
            () if packet.repaired() || ssrc == stream.rtx => Arrival::Retransmission,
            () if ssrc == stream.fec => Arrival::Repair,
            () => Arrival::Media,
        };
        inbound.observe(&header, packet.size(), packet.time(), arrival);
        Outcome::Forward
    }

    #[inline(always)]
    fn write_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some((stream, outbound)) = self.outbound.iter_mut().find(|(bound, _)| bound.handle == packet.stream())
        else {
            return Outcome::Forward;
        };
        let (header, size) = (packet.header(), packet.size());
        if header.ssrc() == stream.ssrc {
            outbound.media(&header, size, stream.rtx.is_some());
        } else if Some(header.ssrc()) == stream.rtx {
            outbound.retransmission(&header, size);
        }
        Outcome::Forward
    }

    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        let (now, reporter) = (packet.time(), cx.session().rtcp_ssrc);
        for part in packet.parts() {
            if let Some(info) = part.sender_info()
                && let Some(inbound) = of(&mut self.inbound, info.ssrc)
            {
                inbound.reported(&info, now);
            }
            for block in part.report_blocks() {
                if let Some(outbound) = of(&mut self.outbound, block.ssrc) {
                    outbound.reported(&block, now, || cx.ntp(now));
                }
            }
            for (ssrc, ask) in feedback::asks(&part) {
                if let Some(outbound) = of(&mut self.outbound, ssrc) {
                    outbound.asked.add(ask);
                }
            }
            for (_, answer) in feedback::answers(&part).filter(|(receiver, _)| *receiver == reporter) {
                let round_trip = self.reference_times.answered(answer, now, || cx.ntp(now));
                let inbound = part.word(1).and_then(|sender| of(&mut self.inbound, sender));
                if let Some(remote) = inbound.and_then(|inbound| inbound.remote.as_mut()) {
                    remote.round_trips.add(round_trip);
                }
            }
        }
        Outcome::Forward
    }

    fn write_rtcp(&mut self, _: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        let now = packet.time();
        for part in packet.parts() {
            if let Some(info) = part.sender_info()
                && let Some(outbound) = of(&mut self.outbound, info.ssrc)
            {
                outbound.report(info.ntp_middle(), now);
            }
            for (ssrc, ask) in feedback::asks(&part) {
                if let Some(inbound) = of(&mut self.inbound, ssrc) {
                    inbound.asked.add(ask);
                }
            }
            if let Some(middle) = feedback::reference_time(&part) {
                self.reference_times.left(middle, now);
            }
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        if self.options.interval().is_some() {
            for document in self.report(cx, DOCUMENT) {
                cx.publish("stats", &document);
            }
        }
    }

    fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
        match request.trim() {
            "" | "stats" => Ok(self.report(cx, usize::MAX).concat()),
            _ => Err(Refusal::unsupported("\"stats\" is all that may be asked for")),
        }
    }
}

impl Stats {
    /// Nothing is published while there are no streams.
    fn rest(&mut self, cx: &mut Context) {
        if self.inbound.is_empty() && self.outbound.is_empty() {
            self.ticker.stop(cx);
        }
    }

    /// All objects, as lists of at most so many bytes.
    fn report(&self, cx: &Context, bytes: usize) -> Vec<String> {
        let clock = |nanos| millis(cx.ntp(Instant::from_nanos(nanos)));
        let mut report = Report { clock: &clock, now: clock(cx.now().as_nanos()), objects: Vec::new() };
        self.inbound.iter().for_each(|(stream, inbound)| report.inbound(stream, inbound));
        self.outbound.iter().for_each(|(stream, outbound)| report.outbound(stream, outbound));
        report.documents(bytes)
    }
}

/// What is kept of the stream with this SSRC.
fn of<T>(streams: &mut [(Stream, T)], ssrc: u32) -> Option<&mut T> {
    streams.iter_mut().find(|(stream, _)| stream.ssrc == ssrc).map(|(_, kept)| kept)
}
