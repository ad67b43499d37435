//! Tells the peer when the packets of each stream arrived, for its congestion control (RFC 8888).
//!
//! ```text
//! read_rtp ──> Arrivals (by sequence number, per source) ──timer──> Report (blocks of all sources) ──> emit_rtcp
//! ```

mod arrivals;
mod options;
mod report;
mod state;

use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, Ticker, export,
};

use crate::arrivals::Arrivals;
use crate::options::{OPTIONS, Options};
use crate::report::{Report, metric};
use crate::state::SourceState;

/// The session's sources and their one timer, which runs while packets arrive.
#[derive(Debug)]
pub struct Rfc8888 {
    options: Options,
    sources: Vec<Source>,
    ticker: Ticker,
    /// What a predecessor left, and when: the streams of that moment are offered before time goes on.
    resumed: Option<(Vec<SourceState>, Instant)>,
}

/// An SSRC of a stream: its own or a companion's.
#[derive(Debug)]
struct Source {
    stream: StreamId,
    ssrc: u32,
    arrivals: Arrivals,
}

export!(Rfc8888, place = ArrivalFeedback, wants = [emit_rtcp, wall_clock], binds = [remote_streams], options = OPTIONS);

impl Interceptor for Rfc8888 {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self { ticker: Ticker::new(options.interval()), options, sources: Vec::new(), resumed: None })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let resumed = Some((state::parse(state)?, cx.now()));
        Ok(Self { resumed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let count = self.sources.len();
        let sources = self.sources.iter().map(|source| SourceState::new(source.ssrc, &source.arrivals, count));
        state::to_json(&sources.collect::<Vec<_>>())
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        if !info.has_feedback("ack", "ccfb") {
            return Ok(Binding::PASS);
        }
        // Retransmissions that the host unwraps no longer have the number under which they arrived, and to report the
        // rest of their numbers would be to report losses.
        let rtx = info.ssrc_retransmission.filter(|_| info.payload_type_retransmission.is_none());
        for ssrc in [Some(info.ssrc), info.ssrc_forward_error_correction, rtx].into_iter().flatten() {
            let arrivals = self.resume(cx.now(), ssrc);
            if arrivals.pending() {
                self.ticker.start(cx);
            }
            self.sources.push(Source { stream, ssrc, arrivals });
        }
        Ok(Binding::FOLLOW)
    }

    fn unbind_remote_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.sources.retain(|source| source.stream != stream);
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let ssrc = packet.header().ssrc();
        let source = self.sources.iter_mut().find(|source| source.ssrc == ssrc && source.stream == packet.stream());
        // A repaired packet arrived under another number than its own.
        if let Some(source) = source.filter(|_| !packet.repaired()) {
            source.arrivals.observe(packet.header().sequence_number(), packet.time());
            self.ticker.start(cx);
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        if self.sources.iter().any(|source| source.arrivals.pending()) {
            self.report(cx);
        } else {
            // Nothing has come for an interval: the next packet starts the timer again.
            self.ticker.stop(cx);
        }
        let now = cx.now();
        for source in &mut self.sources {
            source.arrivals.covered();
            source.arrivals.forget(now, self.options.window());
        }
    }
}

impl Rfc8888 {
    /// What a predecessor knew of a source.
    fn resume(&mut self, now: Instant, ssrc: u32) -> Arrivals {
        let resumed = self.resumed.as_ref().filter(|(_, at)| *at == now);
        let known = resumed.and_then(|(sources, _)| sources.iter().find(|source| source.ssrc == ssrc));
        known.map_or_else(Arrivals::default, SourceState::arrivals)
    }

    /// Reports everything that no report has covered, in as many packets as it takes.
    fn report(&self, cx: &mut Context) {
        let now = cx.now();
        // The middle of an NTP timestamp, of the moment from which the arrivals are offset (RFC 8888, 3.1).
        let timestamp = (cx.ntp(now) >> 16) as u32;
        let (sender, max_bytes) = (cx.session().rtcp_ssrc, self.options.max_bytes().min(cx.session().feedback_room()));
        let mut report = Report::new(sender, max_bytes);
        for source in &self.sources {
            let mut begin = source.arrivals.cursor() as u16;
            let mut metrics = source.arrivals.uncovered().map(|arrived| metric(arrived, now));
            while metrics.len() > 0 {
                if report.room() == 0 {
                    emit(cx, std::mem::replace(&mut report, Report::new(sender, max_bytes)).finish(timestamp));
                }
                let count = report.room().min(metrics.len());
                report.add(source.ssrc, begin, metrics.by_ref().take(count));
                begin = begin.wrapping_add(count as u16);
            }
        }
        if !report.is_empty() {
            emit(cx, report.finish(timestamp));
        }
    }
}

fn emit(cx: &mut Context, packet: Vec<u8>) {
    match cx.emit_rtcp(&packet) {
        Ok(()) => cx.count("reports", 1),
        Err(_) => cx.count("refused", 1),
    }
}
