//! A plugin with a bug: to space packets out it waits in place, on a clock that stands still during a call.

use std::time::Duration;

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo};

/// One session's spacing.
pub struct Spacer;

impl Interceptor for Spacer {
    fn create(_: &mut Context, _config: &str) -> Result<Self, Refusal> {
        Ok(Spacer)
    }
    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }
    fn write_rtp(&mut self, cx: &mut Context, _: &mut RtpPacket<'_>) -> Outcome {
        let until = cx.now() + Duration::from_millis(1);
        while cx.now() < until {} // For ever. Context::wake_at would be the way.
        Outcome::Forward
    }
}

sandbar_sdk::export!(Spacer);
