//! What a successor is handed: JSON, streams by SSRC, ticks of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Refusal, serde_json};

use crate::activity::Activity;
use crate::floor::Floor;

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    /// SSRC of the one who speaks.
    pub(crate) speaker: Option<u32>,
    pub(crate) streams: Vec<StreamState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct StreamState {
    pub(crate) ssrc: u32,
    tick: u64,
    held: u8,
    hold: u8,
    frames: u64,
    bands: u8,
    spoke: u64,
    /// The background's window: the quietest level in it, in the one before, and its frames.
    floor: (u8, u8, u16),
}

impl State {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

impl StreamState {
    pub(crate) fn new(ssrc: u32, activity: &Activity) -> Self {
        let Activity { tick, held, hold, frames, bands, spoke, .. } = *activity;
        let Floor { now, before, frames: window, .. } = activity.floor;
        Self { ssrc, tick, held, hold, frames, bands, spoke, floor: (now, before, window) }
    }

    /// What was known of the stream, for [`Activity::resume`].
    pub(crate) fn activity(&self) -> Activity {
        let mut activity = Activity::new(0, self.tick);
        (activity.held, activity.hold) = (self.held, self.hold);
        (activity.frames, activity.bands) = (self.frames, self.bands);
        activity.spoke = self.spoke;
        (activity.floor.now, activity.floor.before, activity.floor.frames) = self.floor;
        activity
    }
}
