//! What a successor is handed: JSON, streams by SSRC, instants in nanoseconds of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, serde_json};

use crate::source::{Sampled, Source};

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct SourceState {
    pub(crate) ssrc: u32,
    packets: u32,
    octets: u32,
    sampled: Option<(u64, u32)>,
    newest: u16,
    reported: u32,
    silent: u8,
}

pub(crate) fn parse(json: &[u8]) -> Result<Vec<SourceState>, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
}

pub(crate) fn to_json(sources: &[SourceState]) -> Option<Vec<u8>> {
    serde_json::to_vec(sources).ok()
}

impl SourceState {
    pub(crate) fn new(ssrc: u32, source: &Source) -> Self {
        Self {
            ssrc,
            packets: source.packets,
            octets: source.octets,
            sampled: source.sampled.map(|sampled| (sampled.at.as_nanos(), sampled.timestamp)),
            newest: source.newest,
            reported: source.reported,
            silent: source.silent,
        }
    }

    pub(crate) fn source(&self) -> Source {
        let sampled = self.sampled.map(|(at, timestamp)| Sampled { at: Instant::from_nanos(at), timestamp });
        Source {
            packets: self.packets,
            octets: self.octets,
            sampled,
            newest: self.newest,
            reported: self.reported,
            silent: self.silent,
        }
    }
}
