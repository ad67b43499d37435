//! What a successor is handed: JSON, sources by SSRC, instants in nanoseconds of the host's clock.

use sandbar_sdk::reception::Sequence;
use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Instant, Refusal, serde_json};

use crate::source::Source;

#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct SourceState {
    pub(crate) ssrc: u32,
    base: u32,
    highest: u32,
    received: u32,
    expected_prior: u32,
    received_prior: u32,
    restart: Option<u16>,
    jitter: f64,
    last_packet: Option<(u64, u32)>,
    last_report: Option<(u32, u64)>,
    heard: bool,
}

pub(crate) fn parse(json: &[u8]) -> Result<Vec<SourceState>, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::unsupported(error.to_string()))
}

pub(crate) fn to_json(sources: &[SourceState]) -> Option<Vec<u8>> {
    serde_json::to_vec(sources).ok()
}

impl SourceState {
    pub(crate) fn new(ssrc: u32, source: &Source) -> Self {
        let sequence = &source.sequence;
        Self {
            ssrc,
            base: sequence.base,
            highest: sequence.highest,
            received: sequence.received,
            expected_prior: sequence.expected_prior,
            received_prior: sequence.received_prior,
            restart: sequence.restart,
            jitter: source.jitter.value,
            last_packet: source.jitter.last.map(|(at, timestamp)| (at.as_nanos(), timestamp)),
            last_report: source.last_report.map(|(middle, at)| (middle, at.as_nanos())),
            heard: source.heard,
        }
    }

    pub(crate) fn source(&self, clock_rate: u32) -> Source {
        let mut source = Source::new(clock_rate);
        source.sequence = Sequence {
            base: self.base,
            highest: self.highest,
            received: self.received,
            expected_prior: self.expected_prior,
            received_prior: self.received_prior,
            restart: self.restart,
        };
        source.jitter.value = self.jitter;
        source.jitter.last = self.last_packet.map(|(at, timestamp)| (Instant::from_nanos(at), timestamp));
        source.last_report = self.last_report.map(|(middle, at)| (middle, Instant::from_nanos(at)));
        source.heard = self.heard;
        source
    }
}
