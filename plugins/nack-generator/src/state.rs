//! What a successor is handed: JSON, streams by SSRC, instants in nanoseconds of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, serde_json};

use crate::log::{Log, Missing, Policy};
use crate::rtt::RoundTrip;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    round_trip: (u64, u64),
    pub(crate) streams: Vec<StreamState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct StreamState {
    pub(crate) ssrc: u32,
    newest: u64,
    missing: Vec<MissingState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct MissingState {
    number: u64,
    first: u64,
    last: u64,
    due: u64,
    tries: u16,
}

impl State {
    pub(crate) fn new(round_trip: RoundTrip) -> Self {
        Self { round_trip: (round_trip.smoothed, round_trip.variation), streams: Vec::new() }
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(crate) fn round_trip(&self) -> RoundTrip {
        RoundTrip { smoothed: self.round_trip.0, variation: self.round_trip.1 }
    }
}

impl StreamState {
    pub(crate) fn new(ssrc: u32, log: &Log) -> Self {
        let missing = log.missing().iter().map(|missing| MissingState {
            number: missing.number,
            first: missing.first.as_nanos(),
            last: missing.last.as_nanos(),
            due: missing.due.as_nanos(),
            tries: missing.tries,
        });
        Self { ssrc, newest: log.newest(), missing: missing.collect() }
    }

    /// The log as it was, under the policy of now.
    pub(crate) fn log(&self, policy: Policy) -> Log {
        let missing = self.missing.iter().map(|missing| Missing {
            number: missing.number,
            first: Instant::from_nanos(missing.first),
            last: Instant::from_nanos(missing.last),
            due: Instant::from_nanos(missing.due),
            tries: missing.tries,
        });
        Log::resume(policy, self.newest, missing.collect())
    }
}
