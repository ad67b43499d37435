//! Tells the peer what was sent and how its timestamps relate to wall-clock time: RTCP sender reports (RFC 3550, 6.4.1).
//!
//! ```text
//! write_rtp ──> Source (counters, latest timestamp), per stream ──timer──> wire::write ──> emit_rtcp
//! ```

mod options;
mod source;
mod state;
mod wire;

use std::hint::black_box;

use sandbar_sdk::{
    Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, StreamMap, Ticker, export, warn,
};

use crate::options::{OPTIONS, Options};
use crate::source::Source;
use crate::state::SourceState;

/// The session's local streams and their one timer, which runs while something is sent.
#[derive(Debug)]
pub struct ReportSender {
    options: Options,
    streams: StreamMap<Stream>,
    ticker: Ticker,
    /// Streams of a predecessor, until they are bound.
    resumed: Vec<SourceState>,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    clock_rate: u32,
    source: Source,
}

export!(ReportSender, place = Reports, wants = [emit_rtcp, wall_clock], binds = [local_streams], options = OPTIONS);

impl Interceptor for ReportSender {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        let ticker = Ticker::new(options.interval());
        Ok(Self { options, streams: StreamMap::new(), ticker, resumed: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { resumed: state::parse(state)?, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let sources = self.streams.values().map(|stream| SourceState::new(stream.ssrc, &stream.source));
        state::to_json(&sources.collect::<Vec<_>>())
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        if info.clock_rate == 0 {
            warn!(cx, "stream {:#010x} has no clock rate: no sender reports for it", info.ssrc);
            return Ok(Binding::PASS);
        }
        let resumed = self.resumed.iter().position(|resumed| resumed.ssrc == info.ssrc);
        let source = resumed.map_or_else(Source::default, |at| self.resumed.swap_remove(at).source());
        if source.sampled.is_some() {
            self.ticker.start(cx);
        }
        self.streams.insert(stream, Stream { ssrc: info.ssrc, clock_rate: info.clock_rate, source });
        Ok(Binding::FOLLOW)
    }

    fn unbind_local_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.remove(stream);
    }

    fn prefetch(&self, stream: StreamId) {
        let bound = self.streams.get(stream);
        black_box(bound.map(|bound| bound.source.packets));
    }

    #[inline(always)]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.get_mut(packet.stream()) else {
            return Outcome::Forward;
        };
        let header = packet.header();
        // Retransmissions and repair packets are other sources' (RFC 4588, 8.3).
        if header.ssrc() != stream.ssrc {
            return Outcome::Forward;
        }
        // RFC 3550, 6.4.1: without header and padding.
        let payload = packet.size().saturating_sub(header.len() + packet.padding()) as u32;
        let any_order = self.options.use_latest_packet;
        stream.source.observe(header.sequence_number(), header.timestamp(), packet.time(), payload, any_order);
        self.ticker.start(cx);
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        let now = cx.now();
        let ntp = cx.ntp(now);
        let mut reports = Vec::new();
        for stream in self.streams.values_mut() {
            if let Some(report) = stream.source.report(now, stream.clock_rate) {
                wire::write(stream.ssrc, ntp, &report, &mut reports);
            }
        }
        if reports.is_empty() {
            // Nobody sends: the next packet starts the timer again.
            return self.ticker.stop(cx);
        }
        if cx.emit_rtcp(&reports).is_err() {
            cx.count("refused", 1);
        }
        cx.count("reports", (reports.len() / wire::SIZE) as u64);
    }
}
