//! Tells the peer when its packets arrived, for its congestion control: transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3).
//!
//! ```text
//! read_rtp ──> Arrivals (by transport-wide sequence number) ──timer──> Feedback (chunks, deltas) ──> emit_rtcp
//! ```

mod arrivals;
mod chunks;
mod feedback;
mod options;
mod state;

use std::hint::black_box;

use sandbar_sdk::{
    Binding, Context, Interceptor, Outcome, Refusal, RtpHeaderExtension, RtpPacket, SessionInfo, StreamId, StreamInfo,
    StreamMap, Ticker, export,
};

use crate::arrivals::Arrivals;
use crate::feedback::Feedback;
use crate::options::{OPTIONS, Options};
use crate::state::State;

/// Under which the extension is negotiated.
pub const URI: &str = RtpHeaderExtension::TRANSPORT_CC;

/// Bytes for the first arrival and the longest loss before it: whatever the MTU, feedback goes forward.
const LEAST: usize = 64;

/// The session's arrivals, of all its streams, and its timer, which runs while packets arrive.
#[derive(Debug)]
pub struct TwccSender {
    options: Options,
    /// Streams with the extension, and its id in them.
    streams: StreamMap<u8>,
    arrivals: Arrivals,
    /// SSRC of the latest packet: the feedback is about all, and names one.
    media: u32,
    /// Of feedback packets, so that the peer can tell when one is lost.
    count: u8,
    ticker: Ticker,
}

export!(TwccSender, place = ArrivalFeedback, wants = [emit_rtcp], binds = [remote_streams], options = OPTIONS);

impl Interceptor for TwccSender {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self {
            ticker: Ticker::new(options.interval()),
            options,
            streams: StreamMap::new(),
            arrivals: Arrivals::default(),
            media: 0,
            count: 0,
        })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let state = State::parse(state)?;
        let arrivals = state.arrivals();
        Ok(Self { arrivals, media: state.media, count: state.count, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        State::new(self.count, self.media, &self.arrivals).to_json()
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        let Some(id) = info.extension_id(URI).filter(|id| *id != 0) else { return Ok(Binding::PASS) };
        self.streams.insert(stream, id);
        if self.arrivals.pending() {
            self.ticker.start(cx);
        }
        // Probes come under SSRCs that nobody signalled, and are numbered like everything else.
        Ok(Binding::FOLLOW.with_unbound())
    }

    fn unbind_remote_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.remove(stream);
    }

    fn prefetch(&self, stream: StreamId) {
        black_box(self.streams.get(stream));
        self.arrivals.warm();
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(id) = self.streams.get(packet.stream()) else {
            return Outcome::Forward;
        };
        let header = packet.header();
        if let Some([high, low]) = header.extension(*id) {
            self.media = header.ssrc();
            self.arrivals.observe(u16::from_be_bytes([*high, *low]), packet.time());
            self.ticker.start(cx);
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        if self.arrivals.pending() {
            let packets = self.feedback(cx.session());
            if cx.emit_rtcp(&packets).is_err() {
                cx.count("refused", 1);
            }
        } else {
            // Nothing has come for an interval: the next packet starts the timer again.
            self.ticker.stop(cx);
        }
        self.arrivals.forget(cx.now(), self.options.window());
    }
}

impl TwccSender {
    /// Feedback for everything that none has covered, in as many packets as it takes.
    fn feedback(&mut self, session: &SessionInfo) -> Vec<u8> {
        let mut packets = Vec::new();
        let room = session.feedback_room().max(LEAST);
        while let Some(first) = self.arrivals.first_uncovered() {
            let mut feedback = Feedback::new(&mut packets, self.arrivals.cursor(), first, room);
            let mut added = 0;
            for arrivals in self.arrivals.uncovered() {
                let of_these = feedback.add_all(arrivals);
                added += of_these;
                if of_these < arrivals.len() {
                    break;
                }
            }
            // The first arrival always fits: what it takes is bounded, and within the room. So this goes forward.
            self.arrivals.covered(feedback.next(), added);
            feedback.finish(session.rtcp_ssrc, self.media, self.count);
            self.count = self.count.wrapping_add(1);
        }
        packets
    }
}
