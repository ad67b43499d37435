//! Allocates with every packet and gives nothing back: a leak, or an attack on the host's memory.

use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, config};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Bytes that each packet costs.
    per_packet: usize,
    /// Bytes that `create` costs.
    at_create: usize,
}

/// Keeps what it allocates.
pub struct Bomb {
    config: Config,
    kept: Vec<Vec<u8>>,
}

impl Bomb {
    fn allocate(&mut self, bytes: usize) {
        self.kept.push(std::hint::black_box(vec![0xff; bytes]));
    }
}

impl Interceptor for Bomb {
    fn create(_cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        let mut bomb = Bomb { config: config::parse(config)?, kept: Vec::new() };
        bomb.allocate(bomb.config.at_create);
        Ok(bomb)
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }

    fn read_rtp(&mut self, _cx: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        self.allocate(self.config.per_packet);
        Outcome::Forward
    }
}

sandbar_sdk::export!(Bomb, place = Anywhere);
