//! Faults: what a plugin did that ended its instance, and who it concerns.

use serde::Serialize;

/// What kind of fault ended an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It trapped: unreachable code, a division by zero, an access out of bounds, a stack overflow.
    Trap,
    /// It did not return within the call deadline, or its fuel.
    Deadline,
    /// It trapped after it was refused memory.
    Memory,
    /// It handed on frames or packets that break the contract.
    BadBatch,
    /// It used the host's interface wrongly, or more of it than a call may.
    HostCall,
}

/// A fault as it was seen, before it is known whom it concerns.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::BadBatch => "bad batch",
            Self::HostCall => "host call",
        })
    }
}

/// Faults by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FaultCounts {
    /// Traps.
    pub trap: u64,
    /// Calls that did not return in time.
    pub deadline: u64,
    /// Traps after memory was refused.
    pub memory: u64,
    /// Batches or packets handed on against the contract.
    pub bad_batch: u64,
    /// Wrong use of the host's interface.
    pub host_call: u64,
}

impl FaultCounts {
    pub(crate) fn count(&mut self, kind: FaultKind) {
        *match kind {
            FaultKind::Trap => &mut self.trap,
            FaultKind::Deadline => &mut self.deadline,
            FaultKind::Memory => &mut self.memory,
            FaultKind::BadBatch => &mut self.bad_batch,
            FaultKind::HostCall => &mut self.host_call,
        } += 1;
    }

    /// Faults of all kinds.
    pub fn total(&self) -> u64 {
        self.trap + self.deadline + self.memory + self.bad_batch + self.host_call
    }
}
