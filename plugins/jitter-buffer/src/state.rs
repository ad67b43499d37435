//! What a successor is handed: JSON, streams by SSRC, instants in nanoseconds of the host's clock. The packets themselves it
//! gets from the host.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Context, Header, Instant, Refusal, serde_json};

use crate::clock::Timeline;
use crate::sequence::Sequence;
use crate::stream::Stream;

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    streams: Vec<StreamState>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct StreamState {
    ssrc: u32,
    sequence: Sequence,
    timeline: Option<Timeline>,
    next: Option<u64>,
    /// Numbers and when they are due.
    held: Vec<(u64, u64)>,
}

impl State {
    pub(crate) fn new(streams: &[Stream]) -> Self {
        let streams = streams.iter().map(|stream| StreamState {
            ssrc: stream.ssrc,
            sequence: stream.sequence,
            timeline: stream.clock.timeline,
            next: stream.queue.next,
            held: stream.queue.iter().map(|held| (held.number, held.due.as_nanos())).collect(),
        });
        Self { streams: streams.collect() }
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Takes what is there for a stream. What the host holds of one of which nothing is here goes on.
    pub(crate) fn resume(&mut self, cx: &Context, stream: &mut Stream) {
        let Some(at) = self.streams.iter().position(|state| state.ssrc == stream.ssrc) else { return };
        let state = self.streams.swap_remove(at);
        (stream.sequence, stream.clock.timeline) = (state.sequence, state.timeline);
        stream.queue.next = state.next;
        for packet in cx.held(stream.id) {
            let sequence_number = Header::parse(&packet.header).map_or(0, |header| header.sequence_number());
            match state.held.iter().find(|(number, _)| *number as u16 == sequence_number) {
                Some((number, due)) => {
                    let due = Instant::from_nanos(*due);
                    stream.queue.insert(*number, due, due, || Some(packet.id));
                }
                None => stream.stray = Some(packet.id),
            }
        }
    }
}
