//! Traps at the sight of one SSRC: a bug that one session's packets meet. It sees headers only, so all sessions of a
//! tenant share its instance.

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, config};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The SSRC.
    ssrc: u32,
    /// Only with this sequence number.
    sequence_number: Option<u16>,
    /// Observes instead of transforming.
    observe: bool,
}

/// Guards against one SSRC, badly.
pub struct Guard {
    config: Config,
}

thread_local! {
    /// Packets that the instance has seen, of all its sessions.
    static SEEN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Guard {
    fn look(&mut self, packet: &mut RtpPacket<'_>) -> Outcome {
        SEEN.set(SEEN.get() + 1);
        let header = packet.header();
        let met = self.config.sequence_number.is_none_or(|number| number == header.sequence_number());
        assert!(header.ssrc() != self.config.ssrc || !met, "this SSRC again");
        Outcome::Forward
    }

    fn binding(&self) -> Binding {
        if self.config.observe { Binding::observe_headers() } else { Binding::transform_headers() }
    }
}

impl Interceptor for Guard {
    fn create(_cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Guard { config: config::parse(config)? })
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(self.binding())
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(self.binding())
    }

    fn read_rtp(&mut self, _cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.look(packet)
    }

    fn write_rtp(&mut self, _cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.look(packet)
    }

    /// Packets that the instance has seen: shows who shares it.
    fn control(&mut self, _cx: &mut Context, _request: &str) -> Result<String, Refusal> {
        Ok(SEEN.get().to_string())
    }
}

sandbar_sdk::export!(Guard, place = Anywhere);
