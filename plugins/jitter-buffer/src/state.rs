//! What a successor is handed: JSON, streams by SSRC, instants in nanoseconds of the host's clock. The packets themselves
//! are in the history, which the host hands over to a successor that asks for as many of them.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, serde_json};

use crate::clock::Timeline;
use crate::sequence::{Kept, Sequence};
use crate::stream::Stream;

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    /// Of each stream's history.
    packets: u16,
    streams: Vec<StreamState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct StreamState {
    ssrc: u32,
    sequence: Sequence,
    kept: Kept,
    timeline: Option<Timeline>,
    next: Option<u64>,
    /// Numbers and when they are due.
    held: Vec<(u64, u64)>,
}

impl State {
    pub(crate) fn new(packets: u16, streams: &[Stream]) -> Self {
        let streams = streams.iter().map(|stream| StreamState {
            ssrc: stream.ssrc,
            sequence: stream.sequence,
            kept: stream.kept,
            timeline: stream.clock.timeline,
            next: stream.queue.next,
            held: stream.queue.iter().map(|held| (held.number, held.due.as_nanos())).collect(),
        });
        Self { packets, streams: streams.collect() }
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Takes what is there for a stream whose history has so many packets.
    pub(crate) fn resume(&mut self, stream: &mut Stream, packets: u16) {
        let Some(at) = self.streams.iter().position(|state| state.ssrc == stream.ssrc) else { return };
        let state = self.streams.swap_remove(at);
        (stream.sequence, stream.kept, stream.clock.timeline) = (state.sequence, state.kept, state.timeline);
        stream.queue.next = state.next;
        for (number, due) in state.held {
            if packets == self.packets {
                stream.queue.insert(number, Instant::from_nanos(due), &[]);
            } else {
                // The predecessor keeps its history, and plays what it holds when it is closed.
                stream.queue.played(number);
            }
        }
    }
}
