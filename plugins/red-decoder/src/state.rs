//! What a successor is handed, as JSON: which packets are known, by SSRC.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Refusal, serde_json};

use crate::window::{Packet, Window};

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct StreamState {
    pub(crate) ssrc: u32,
    step: u32,
    /// Sequence number, timestamp, and whether it was restored; the oldest first.
    packets: Vec<(u16, u32, bool)>,
}

pub(crate) fn parse(json: &[u8]) -> Result<Vec<StreamState>, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
}

pub(crate) fn to_json(streams: impl Iterator<Item = StreamState>) -> Option<Vec<u8>> {
    serde_json::to_vec(&streams.collect::<Vec<_>>()).ok()
}

impl StreamState {
    pub(crate) fn new(ssrc: u32, window: &Window) -> Self {
        let packets = window.packets().map(|(packet, restored)| (packet.sequence_number, packet.timestamp, restored));
        Self { ssrc, step: window.step(), packets: packets.collect() }
    }

    pub(crate) fn window(&self) -> Window {
        let packets = self.packets.iter().map(|(sequence_number, timestamp, restored)| {
            (Packet { sequence_number: *sequence_number, timestamp: *timestamp }, *restored)
        });
        Window::resume(self.step, packets)
    }
}
