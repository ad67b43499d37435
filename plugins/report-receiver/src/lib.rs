//! Tells the peer how its packets arrive: RTCP receiver reports (RFC 3550, 6.4.2).
//!
//! ```text
//! read_rtp ──> Sequence (A.1, A.3) and Jitter (A.8), per source ──timer──> wire::receiver_reports ──> emit_rtcp
//! read_rtcp ──> sender reports, for LSR and DLSR ───────────────────────┘
//! ```

mod options;
mod source;
mod state;
mod wire;

use std::hint::black_box;

use sandbar_sdk::{
    Binding, Context, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo,
    StreamMap, Ticker, export,
};

use crate::options::{OPTIONS, Options};
use crate::source::Source;
use crate::state::SourceState;

/// The session's remote streams and their one timer, which starts with the first packet.
#[derive(Debug)]
pub struct ReportReceiver {
    streams: StreamMap<Stream>,
    /// Runs as long as there are streams, also while nothing arrives (RFC 3550, 6.4.2): the peer hears that we are still there.
    ticker: Ticker,
    /// Sources of a predecessor, until their streams are bound.
    resumed: Vec<SourceState>,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    source: Source,
}

export!(ReportReceiver, place = Reports, wants = [emit_rtcp], binds = [rtcp_reader, remote_streams], options = OPTIONS);

impl Interceptor for ReportReceiver {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let ticker = Ticker::new(Options::parse(config)?.interval());
        Ok(Self { streams: StreamMap::new(), ticker, resumed: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { resumed: state::parse(state)?, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let sources = self.streams.values().map(|stream| SourceState::new(stream.ssrc, &stream.source));
        state::to_json(&sources.collect::<Vec<_>>())
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Observe)
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        let resumed = self.resumed.iter().position(|resumed| resumed.ssrc == info.ssrc);
        let source = resumed
            .map_or_else(|| Source::new(info.clock_rate), |at| self.resumed.swap_remove(at).source(info.clock_rate));
        if source.heard {
            self.ticker.start(cx);
        }
        self.streams.insert(stream, Stream { ssrc: info.ssrc, source });
        Ok(Binding::FOLLOW)
    }

    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.streams.remove(stream);
        if self.streams.is_empty() {
            self.ticker.stop(cx);
        }
    }

    fn prefetch(&self, stream: StreamId) {
        let bound = self.streams.get(stream);
        black_box(bound.map(|bound| bound.source.heard));
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.get_mut(packet.stream()) else {
            return Outcome::Forward;
        };
        let header = packet.header();
        // A repaired packet was lost, whatever became of it (RFC 4588, 4); a repair packet is another source's.
        if packet.repaired() || header.ssrc() != stream.ssrc {
            return Outcome::Forward;
        }
        stream.source.observe(header.sequence_number(), header.timestamp(), packet.time());
        self.ticker.start(cx);
        Outcome::Forward
    }

    fn read_rtcp(&mut self, _: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        for info in packet.parts().filter_map(|part| part.sender_info()) {
            if let Some(stream) = self.streams.values_mut().find(|stream| stream.ssrc == info.ssrc) {
                stream.source.sender_report(info.ntp_middle(), packet.time());
            }
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        let now = cx.now();
        let blocks = self.streams.values_mut().filter_map(|stream| stream.source.block(stream.ssrc, now));
        let blocks: Vec<_> = blocks.collect();
        let reports = wire::receiver_reports(cx.session().rtcp_ssrc, &blocks, cx.session().report_room());
        if cx.emit_rtcp(&reports).is_err() {
            cx.count("refused", 1);
        }
        cx.count("blocks", blocks.len() as u64);
    }
}
