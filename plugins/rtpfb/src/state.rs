//! What a successor is handed: JSON, times in nanoseconds of the host's clock.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Refusal, serde_json};

use crate::clock::Clock;
use crate::log::{Log, Sent};

/// Packets of one sequence that are handed over, at most: more than a round trip of any stream.
const MOST: usize = 4096;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    pub(crate) transport_clock: Clock,
    pub(crate) ccfb_clock: Clock,
    numbered: Sequence,
    /// By SSRC.
    sources: Vec<(u32, Sequence)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct Sequence {
    next: u16,
    sent: Vec<Sent>,
}

impl Sequence {
    fn of(log: &Log) -> Self {
        let (next, sent) = log.newest(MOST);
        Self { next, sent }
    }

    fn log(self) -> Log {
        Log::resume(self.next, self.sent)
    }
}

impl State {
    pub(crate) fn new<'a>(numbered: &Log, sources: impl Iterator<Item = (u32, &'a Log)>) -> Self {
        let sources = sources.map(|(ssrc, log)| (ssrc, Sequence::of(log))).collect();
        Self { numbered: Sequence::of(numbered), sources, ..Self::default() }
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
    }

    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// The packets with transport-wide numbers, and those of each source.
    pub(crate) fn logs(self) -> (Log, Vec<(u32, Log)>) {
        let sources = self.sources.into_iter().map(|(ssrc, sequence)| (ssrc, sequence.log())).collect();
        (self.numbered.log(), sources)
    }
}
