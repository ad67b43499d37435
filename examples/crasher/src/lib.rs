//! A plugin with a bug: it computes the frame rate from timestamps, and the packets of one frame share a timestamp.

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo};

/// The packets of one session's frame so far.
pub struct FrameRate(u32);

impl Interceptor for FrameRate {
    fn create(_: &mut Context, _config: &str) -> Result<Self, Refusal> {
        Ok(FrameRate(0))
    }
    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(if info.mime_type.starts_with("video/") { Binding::transform_headers() } else { Binding::PASS })
    }
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let timestamp = packet.header().timestamp();
        let rate = 90_000 / timestamp.wrapping_sub(self.0); // Divides by zero on the second packet of a frame.
        cx.gauge("frame_rate", f64::from(rate));
        self.0 = timestamp;
        Outcome::Forward
    }
}

sandbar_sdk::export!(FrameRate);
