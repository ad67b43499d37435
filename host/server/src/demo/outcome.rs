//! What was measured, as a whole.

use std::time::Duration;

use sandbar_host::MemberState;
use serde::Serialize;

use super::acts::Act;
use super::ledger::Figures;
use super::script::Fault;
use crate::relay::RelayReport;

/// A play, over.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) seconds: f64,
    pub(super) figures: [(Act, Figures); Act::ALL.len()],
    /// Of the packets that belong to no act.
    pub(super) between: Figures,
    pub(super) loaded: Vec<Loaded>,
    pub(super) swaps: Swaps,
    pub(super) crash: Incident,
    pub(super) r#loop: Incident,
    /// Datagrams that the kernel had no room for, where it tells.
    pub(super) kernel_drops: Option<u64>,
    pub(super) relay: RelayReport,
}

impl Outcome {
    pub(super) fn of(&self, act: Act) -> &Figures {
        &self.figures[act.number() - 1].1
    }
}

/// A component that was loaded into the running relay.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Loaded {
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) bytes: usize,
    pub(super) compile_ms: f64,
    /// From asking the relay to its answer; `None` for one that took another's place.
    pub(super) insert_ms: Option<f64>,
}

/// A plugin that was replaced by another version of itself, to and fro.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Swaps {
    /// The old one and the new one.
    pub(super) versions: [String; 2],
    pub(super) digests: [String; 2],
    pub(super) swaps: usize,
    /// From asking the relay to its answer.
    pub(super) longest_ms: f64,
    /// Of the times before, between and after the swaps, those in which something was retransmitted.
    pub(super) spans_with_retransmissions: usize,
}

/// A plugin that was bound to fail.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Incident {
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) fault: Option<Fault>,
    /// Where the relay has it afterwards.
    #[serde(flatten)]
    pub(super) state: Option<MemberState>,
    /// The longest that a packet was in the relay from the plugin's arrival to its end.
    pub(super) pause_ms: f64,
    /// Media packets that the relay sent after the fault.
    pub(super) forwarded_after: u64,
}

/// For people and for JSON.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
