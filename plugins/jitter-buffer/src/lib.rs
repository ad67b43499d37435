//! Holds a peer's packets for a moment, and plays them out in order and as evenly as they were sampled.
//!
//! The packets are held by the host; here are their numbers and times:
//!
//! ```text
//! read_rtp ──> Sequence (which place?) ──> Clock (when?) ──> Queue ──stream timer──> on its way
//!     │                                                        └─ a gap is skipped when what is behind it is due
//!     └─ companions, and what the host would not hold, go on at once
//! ```

mod clock;
mod options;
mod queue;
mod sequence;
mod state;
mod stream;
mod tally;

use std::time::Duration;

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, export};

use crate::options::{OPTIONS, Options};
use crate::state::State;
use crate::stream::{Stream, Verdict};
use crate::tally::Tally;

/// How often the counters are brought up to date.
const TELL: Duration = Duration::from_secs(1);

/// The session's remote streams, each with a timer of its own. The session's timer is for its counters.
#[derive(Debug)]
pub struct JitterBuffer {
    options: Options,
    streams: Vec<Stream>,
    tally: Tally,
    /// The session's timer is set.
    telling: bool,
    /// A predecessor's streams, until they are bound.
    resumed: Option<State>,
}

export!(JitterBuffer, place = Playout, binds = [remote_streams], options = OPTIONS);

impl Interceptor for JitterBuffer {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self { options, streams: Vec::new(), tally: Tally::default(), telling: false, resumed: None })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { resumed: Some(State::parse(state)?), ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        State::new(&self.streams).to_json()
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        let mut stream = Stream::new(stream, info, self.options);
        if let Some(state) = &mut self.resumed {
            state.resume(cx, &mut stream);
            stream.plan(cx);
        }
        self.streams.push(stream);
        Ok(Binding::transform_headers())
    }

    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {
        if let Some(at) = self.streams.iter().position(|bound| bound.id == stream) {
            self.streams.swap_remove(at).release_all(cx, &mut self.tally);
            self.tell(cx);
        }
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Self { streams, tally, telling, .. } = self;
        let Some(stream) = streams.iter_mut().find(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        // Repair packets and probes are not played.
        if packet.header().ssrc() != stream.ssrc {
            return Outcome::Forward;
        }
        if !*telling {
            *telling = true;
            cx.wake_after(TELL);
        }
        match stream.arrive(cx, packet, tally) {
            Verdict::Hold => {
                stream.release(cx, packet.time(), tally);
                Outcome::Drop
            }
            Verdict::Drop => Outcome::Drop,
            Verdict::Pass(number) => {
                stream.release(cx, packet.time(), tally);
                tally.lost += stream.queue.played(number);
                Outcome::Forward
            }
        }
    }

    fn handle_timeout(&mut self, cx: &mut Context, stream: Option<StreamId>) {
        let Self { streams, tally, telling, .. } = self;
        match stream {
            Some(id) => {
                if let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) {
                    stream.wake(cx, tally);
                }
            }
            None => {
                *telling = false;
                self.tell(cx);
            }
        }
    }

    fn close(&mut self, cx: &mut Context) {
        for stream in &mut self.streams {
            stream.release_all(cx, &mut self.tally);
        }
        self.tell(cx);
    }
}

impl JitterBuffer {
    /// Brings the counters up to date, and again after a while if by then they will have changed.
    fn tell(&mut self, cx: &mut Context) {
        self.tally.tell(cx);
        let depth: usize = self.streams.iter().map(|stream| stream.queue.len()).sum();
        cx.gauge("depth", depth as f64);
        if depth > 0 && !self.telling {
            self.telling = true;
            cx.wake_after(TELL);
        }
    }
}
