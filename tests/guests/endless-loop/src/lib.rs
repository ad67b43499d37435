//! Does not return: an author's bug, or an attack on the thread that all sessions share.

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, config};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The method that does not return.
    at: String,
    /// How often that method returns before it no longer does.
    after: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { at: "read-rtp".into(), after: 0 }
    }
}

/// Does not return.
pub struct Endless(Config);

impl Endless {
    fn reach(&mut self, place: &str) {
        if self.0.at == place {
            match self.0.after {
                0 => loop {
                    std::hint::black_box(());
                },
                _ => self.0.after -= 1,
            }
        }
    }
}

impl Interceptor for Endless {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        let mut endless = Endless(config::parse(config)?);
        endless.reach("create");
        if endless.0.at == "timeout" {
            cx.wake_at(Some(cx.now()));
        }
        Ok(endless)
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.reach("bind");
        Ok(Binding::transform_headers())
    }

    fn read_rtp(&mut self, _cx: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        self.reach("read-rtp");
        Outcome::Forward
    }

    fn write_rtp(&mut self, _cx: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        self.reach("write-rtp");
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _stream: Option<StreamId>) {
        self.reach("timeout");
        cx.wake_at(Some(cx.now()));
    }

    fn control(&mut self, _cx: &mut Context, request: &str) -> Result<String, Refusal> {
        self.reach("control");
        Ok(request.to_owned())
    }
}

sandbar_sdk::export!(Endless, place = Anywhere);
