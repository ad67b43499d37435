//! Says more than anyone can read with every packet: lines, documents and counters.

use sandbar_sdk::{Binding, Context, Interceptor, Level, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, config};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Of each, for each packet.
    count: u64,
    /// Bytes of each line and document.
    length: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { count: 10_000, length: 100 }
    }
}

/// Makes a storm.
pub struct Storm(Config);

impl Interceptor for Storm {
    fn create(_cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Storm(config::parse(config)?))
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }

    fn read_rtp(&mut self, cx: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        let text = "x".repeat(self.0.length);
        let json = format!("\"{text}\"");
        for number in 0..self.0.count {
            cx.log(Level::Warn, &text);
            cx.publish("storm", &json);
            cx.count(&format!("counter-{number}"), 1);
            cx.gauge(&format!("gauge-{number}"), 1.0);
        }
        Outcome::Forward
    }
}

sandbar_sdk::export!(Storm, place = Anywhere);
