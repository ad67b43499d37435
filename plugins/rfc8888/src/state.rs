//! What a successor is handed: JSON, sources by SSRC, instants in nanoseconds of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, serde_json};

use crate::arrivals::{Arrival, Arrivals};

/// Arrivals that are handed over, at most, of all sources: what is left out was reported, but for sessions of hundreds
/// of Mbit/s.
const MAX_ARRIVALS: usize = 8192;

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct SourceState {
    pub(crate) ssrc: u32,
    newest: u64,
    cursor: u64,
    floor: u64,
    received: Vec<(u64, u64)>,
}

impl SourceState {
    /// One of `sources` that share what may be handed over.
    pub(crate) fn new(ssrc: u32, arrivals: &Arrivals, sources: usize) -> Self {
        let received = arrivals.received();
        let left_out = received.len().saturating_sub(MAX_ARRIVALS / sources.max(1));
        // What is left out is forgotten.
        let floor = match left_out.checked_sub(1).and_then(|last| received.get(last)) {
            Some(last) => last.number + 1,
            None => arrivals.floor(),
        };
        let kept = received.range(left_out..).map(|arrival| (arrival.number, arrival.at.as_nanos()));
        let received = kept.collect();
        Self { ssrc, newest: arrivals.newest(), cursor: arrivals.cursor(), floor, received }
    }

    pub(crate) fn arrivals(&self) -> Arrivals {
        let received =
            self.received.iter().map(|(number, at)| Arrival { number: *number, at: Instant::from_nanos(*at) });
        Arrivals::resume(received.collect(), self.newest, self.cursor, self.floor)
    }
}

pub(crate) fn parse(json: &[u8]) -> Result<Vec<SourceState>, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
}

pub(crate) fn to_json(sources: &[SourceState]) -> Option<Vec<u8>> {
    serde_json::to_vec(sources).ok()
}
