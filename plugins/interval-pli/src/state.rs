//! What a successor is handed: JSON, streams by SSRC, instants in nanoseconds of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, StreamId, serde_json};

use crate::schedule::{Schedule, Stream};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    tick: Option<u64>,
    streams: Vec<StreamState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct StreamState {
    ssrc: u32,
    asked: Option<u64>,
    wanted: bool,
}

impl State {
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let streams = schedule.streams().iter().map(|stream| StreamState {
            ssrc: stream.ssrc,
            asked: stream.asked.map(Instant::as_nanos),
            wanted: stream.wanted,
        });
        Self { tick: schedule.tick().map(Instant::as_nanos), streams: streams.collect() }
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(crate) fn tick(&self) -> Option<Instant> {
        self.tick.map(Instant::from_nanos)
    }

    /// The stream as it was, if its predecessor knew it.
    pub(crate) fn take(&mut self, id: StreamId, ssrc: u32, now: Instant) -> Option<Stream> {
        let at = self.streams.iter().position(|stream| stream.ssrc == ssrc)?;
        let stream = self.streams.swap_remove(at);
        // Nobody was asked in the future, whatever the state says.
        let asked = stream.asked.map(|asked| Instant::from_nanos(asked).min(now));
        Some(Stream { id, ssrc, asked, wanted: stream.wanted })
    }
}
