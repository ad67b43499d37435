//! What a successor is handed: JSON, instants in nanoseconds of the host's clock, to the 250 us that feedback tells.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, serde_json};

use crate::arrivals::Arrivals;

/// Arrivals that are handed over, at most: what is left out was fed back, but for a stream of hundreds of Mbit/s.
const MAX_ARRIVALS: usize = 8192;

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    /// Of the last feedback packet.
    pub(crate) count: u8,
    pub(crate) media: u32,
    newest: u64,
    cursor: u64,
    floor: u64,
    received: Vec<(u64, u64)>,
}

impl State {
    pub(crate) fn new(count: u8, media: u32, arrivals: &Arrivals) -> Self {
        Self {
            count,
            media,
            newest: arrivals.newest(),
            cursor: arrivals.cursor(),
            floor: arrivals.floor(),
            received: arrivals.latest(MAX_ARRIVALS).map(|(number, at)| (number, at.as_nanos())).collect(),
        }
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(crate) fn arrivals(&self) -> Arrivals {
        let received = self.received.iter().map(|(number, at)| (*number, Instant::from_nanos(*at)));
        Arrivals::resume(received.collect(), self.newest, self.cursor, self.floor)
    }
}
