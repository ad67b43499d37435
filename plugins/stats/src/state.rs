//! What a successor is handed: JSON, streams by SSRC, instants in nanoseconds of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Refusal, serde_json};

use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::round_trip::Reports;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    pub(crate) inbound: Vec<(u32, Inbound)>,
    pub(crate) outbound: Vec<(u32, Outbound)>,
    pub(crate) reference_times: Reports,
}

impl State {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

/// Takes what is there for a stream.
pub(crate) fn resume<T>(resumed: &mut Vec<(u32, T)>, ssrc: u32) -> Option<T> {
    let at = resumed.iter().position(|(known, _)| *known == ssrc)?;
    Some(resumed.swap_remove(at).1)
}
