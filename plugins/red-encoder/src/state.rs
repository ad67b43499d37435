//! What a successor is handed, as JSON: the frames that its first packets repeat, by SSRC.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Refusal, serde_json};

use crate::recent::{Frame, Recent};

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct StreamState {
    pub(crate) ssrc: u32,
    frames: Vec<FrameState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct FrameState {
    sequence_number: u16,
    timestamp: u32,
    payload_type: u8,
    media: Vec<u8>,
}

pub(crate) fn parse(json: &[u8]) -> Result<Vec<StreamState>, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
}

pub(crate) fn to_json(streams: impl Iterator<Item = StreamState>) -> Option<Vec<u8>> {
    serde_json::to_vec(&streams.collect::<Vec<_>>()).ok()
}

impl StreamState {
    pub(crate) fn new(ssrc: u32, recent: &Recent) -> Self {
        let state = |frame: &Frame| {
            let Frame { sequence_number, timestamp, payload_type, media } = frame.clone();
            FrameState { sequence_number, timestamp, payload_type, media }
        };
        Self { ssrc, frames: recent.frames().map(state).collect() }
    }

    pub(crate) fn recent(&self) -> Recent {
        let mut recent = Recent::default();
        for frame in &self.frames {
            recent.insert(frame.sequence_number, frame.timestamp, frame.payload_type, &frame.media);
        }
        recent
    }
}
