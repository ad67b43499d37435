//! Says that it has to do with streams that the peer sends, and fails when it is called for anything else. It sees headers
//! only, so all sessions of a tenant share its instance.

use sandbar_sdk::{
    Binding, Context, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo, config,
};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Fails at a packet with this sequence number too.
    trap_on: Option<u16>,
}

/// Counts what comes to it.
pub struct OneWay {
    config: Config,
    read: u64,
    /// Streams bound and not unbound.
    bound: u64,
}

impl Interceptor for OneWay {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(OneWay { config: config::parse(config)?, read: 0, bound: 0 })
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        panic!("asked about RTCP from the peer")
    }

    fn bind_rtcp_writer(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        panic!("asked about RTCP to the peer")
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        panic!("asked about a stream that this side sends")
    }

    fn unbind_local_stream(&mut self, _: &mut Context, _: StreamId) {
        panic!("told of the end of a stream that this side sends")
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.bound += 1;
        Ok(Binding::transform_headers())
    }

    fn unbind_remote_stream(&mut self, _: &mut Context, _: StreamId) {
        self.bound -= 1;
    }

    fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        assert_ne!(self.config.trap_on, Some(packet.header().sequence_number()), "told to fail at it");
        self.read += 1;
        Outcome::Forward
    }

    fn write_rtp(&mut self, _: &mut Context, _: &mut RtpPacket<'_>) -> Outcome {
        panic!("shown a packet to the peer")
    }

    fn read_rtcp(&mut self, _: &mut Context, _: &mut RtcpPacket<'_>) -> Outcome {
        panic!("shown RTCP from the peer")
    }

    fn write_rtcp(&mut self, _: &mut Context, _: &mut RtcpPacket<'_>) -> Outcome {
        panic!("shown RTCP to the peer")
    }

    /// Packets and bound streams.
    fn control(&mut self, _: &mut Context, _: &str) -> Result<String, Refusal> {
        Ok(format!("{} {}", self.read, self.bound))
    }
}

sandbar_sdk::export!(OneWay, binds = [remote_streams]);
