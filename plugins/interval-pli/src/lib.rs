//! Asks the peer for key frames, when a stream begins, at intervals and on request: picture loss indication (RFC 4585,
//! 6.3.1).
//!
//! ```text
//! bind ────────┐
//! timer ───────┼──> Schedule (whom to ask, and not too often) ──> pli::write ──> emit_rtcp
//! control ─────┘
//! ```

mod options;
mod pli;
mod schedule;
mod state;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{Binding, Context, Instant, Interceptor, Refusal, StreamId, StreamInfo, export, serde_json};

use crate::options::{OPTIONS, Options};
use crate::schedule::{Schedule, Stream};
use crate::state::State;

/// The session's remote streams that can be asked, and their one timer.
#[derive(Debug)]
pub struct IntervalPli {
    schedule: Schedule,
    /// When the timer is due.
    wake: Option<Instant>,
    /// What a predecessor left, and when: the streams of that moment are offered before time goes on.
    resumed: Option<(State, Instant)>,
}

/// What can be asked for: `{"request": "key-frame"}` of every stream, or with `"ssrc"` of one.
#[derive(Debug, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    KeyFrame { ssrc: Option<u32> },
}

export!(IntervalPli, place = EncoderRequests, wants = [emit_rtcp], binds = [remote_streams], options = OPTIONS);

impl Interceptor for IntervalPli {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self { schedule: Schedule::new(Options::parse(config)?.policy()), wake: None, resumed: None })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let resumed = Some((State::parse(state)?, cx.now()));
        Ok(Self { resumed, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        State::new(&self.schedule).to_json()
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        if !info.has_feedback("nack", "pli") {
            return Ok(Binding::PASS);
        }
        let now = cx.now();
        let resumed = self.resumed.as_mut().filter(|(_, at)| *at == now).map(|(state, _)| state);
        let tick = resumed.as_ref().and_then(|state| state.tick());
        let known = resumed.and_then(|state| state.take(stream, info.ssrc, now));
        let new = Stream { id: stream, ssrc: info.ssrc, asked: None, wanted: true };
        self.schedule.add(known.unwrap_or(new), tick, now);
        self.ask(cx);
        // It asks for packets and sees none.
        Ok(Binding::PASS)
    }

    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.schedule.remove(stream);
        self.plan(cx);
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        self.wake = None;
        self.ask(cx);
    }

    fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
        let request = serde_json::from_str(request).map_err(|error| Refusal::unsupported(error.to_string()))?;
        let Request::KeyFrame { ssrc } = request;
        let wanted = self.schedule.want(ssrc);
        if let Some(ssrc) = ssrc.filter(|_| wanted == 0) {
            return Err(Refusal::other(format!("no stream that takes PLI has the SSRC {ssrc}")));
        }
        let asked = self.ask(cx);
        let waiting = self.schedule.waiting();
        Ok(format!(r#"{{"asked":{asked},"waiting":{waiting}}}"#))
    }
}

impl IntervalPli {
    /// Asks who is to be asked now, all in one emission. Returns how many that is.
    fn ask(&mut self, cx: &mut Context) -> usize {
        let due = self.schedule.take_due(cx.now());
        if !due.is_empty() {
            let mut packets = Vec::new();
            for media in &due {
                pli::write(cx.session().rtcp_ssrc, *media, &mut packets);
            }
            match cx.emit_rtcp(&packets) {
                Ok(()) => cx.count("requests", due.len() as u64),
                Err(_) => cx.count("refused", 1),
            }
        }
        self.plan(cx);
        due.len()
    }

    /// Sets the timer, unless it is set as it should be.
    fn plan(&mut self, cx: &mut Context) {
        let due = self.schedule.next_due();
        if due != self.wake {
            self.wake = due;
            cx.wake_at(due);
        }
    }
}
