//! Wants to be woken at once, for its session and for each of its streams, always: an attack on the shard's clock.

use std::collections::HashSet;

use sandbar_sdk::{Binding, Context, Instant, Interceptor, Refusal, StreamId, StreamInfo};

/// Makes a storm.
#[derive(Default)]
pub struct Storm {
    streams: HashSet<StreamId>,
    woken: u64,
}

impl Storm {
    fn wind(&self, cx: &mut Context) {
        // Over and over: each replaces the one before.
        for at in [Instant::ZERO, cx.now()].into_iter().cycle().take(100) {
            cx.wake_at(Some(at));
            for stream in &self.streams {
                cx.wake_stream_at(*stream, Some(at));
            }
        }
    }

    fn bind(&mut self, cx: &mut Context, stream: StreamId) -> Result<Binding, Refusal> {
        self.streams.insert(stream);
        self.wind(cx);
        Ok(Binding::transform_headers())
    }
}

impl Interceptor for Storm {
    fn create(cx: &mut Context, _config: &str) -> Result<Self, Refusal> {
        let storm = Storm::default();
        storm.wind(cx);
        Ok(storm)
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.bind(cx, stream)
    }

    fn bind_remote_stream(&mut self, cx: &mut Context, stream: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.bind(cx, stream)
    }

    fn handle_timeout(&mut self, cx: &mut Context, _stream: Option<StreamId>) {
        self.woken += 1;
        self.wind(cx);
    }

    /// How often it was woken.
    fn control(&mut self, _cx: &mut Context, _request: &str) -> Result<String, Refusal> {
        Ok(self.woken.to_string())
    }
}

sandbar_sdk::export!(Storm, place = Anywhere);
