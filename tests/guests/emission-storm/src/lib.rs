//! Answers every packet with as many of its own as it may, and some more: an attack on the peer and the path.

use sandbar_sdk::{
    Binding, Context, EmitError, Interceptor, Outcome, Payload, Refusal, RtpPacket, StreamId, StreamInfo, config,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Packets for each packet.
    packets: u32,
    /// Bytes of each payload.
    payload: usize,
    /// Emits RTCP in place of RTP.
    rtcp: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { packets: 100_000, payload: 100, rtcp: false }
    }
}

/// Makes a storm.
pub struct Storm(Config);

impl Storm {
    fn storm(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let (mut sent, mut refused) = (0u64, 0u64);
        let header = packet.header().as_bytes()[..12].to_vec();
        // Without CSRCs, extensions and padding, whatever the packet had.
        let header = [&[0x80], &header[1..]].concat();
        let payload = vec![0; self.0.payload];
        for _ in 0..self.0.packets {
            let result = if self.0.rtcp {
                cx.emit_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1])
            } else {
                cx.emit_rtp(packet.stream(), &header, Payload::Bytes(&payload), &[])
            };
            match result {
                Ok(()) => sent += 1,
                Err(EmitError::Quota) => refused += 1,
                Err(other) => cx.publish("unexpected", &format!("{:?}", other.to_string())),
            }
        }
        cx.count("sent", sent);
        cx.count("refused", refused);
        Outcome::Forward
    }
}

impl Interceptor for Storm {
    fn create(_cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Storm(config::parse(config)?))
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }

    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.storm(cx, packet)
    }

    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.storm(cx, packet)
    }
}

sandbar_sdk::export!(Storm, place = Anywhere, wants = [emit_rtp, emit_rtcp]);
