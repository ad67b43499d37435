//! Counts the packets that the peer sends, and tells the application once per second.

use sandbar_sdk::prelude::*;

/// The packets of one session so far.
pub struct PacketCounter(u64);

impl Interceptor for PacketCounter {
    fn create(cx: &mut Context, _config: &str) -> Result<Self, Refusal> {
        cx.wake_every(Duration::from_secs(1));
        Ok(PacketCounter(0))
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::FOLLOW)
    }

    fn read_rtp(&mut self, _: &mut Context, _: &mut RtpPacket<'_>) -> Outcome {
        self.0 += 1;
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        cx.publish("packets", &self.0.to_string());
    }
}

sandbar_sdk::export!(PacketCounter, binds = [remote_streams]);
