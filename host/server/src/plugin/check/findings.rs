//! What a check finds.

use sandbar_host::{ChainError, ControlError, Event, Level};
use serde::Serialize;

/// Something wrong with a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// What was going on.
    pub(crate) phase: &'static str,
    /// What kind it is, such as `trap` or `too-large`.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// How often it came, in this phase.
    pub(crate) times: u64,
}

/// What happened in a phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// Packets given to the plugin's session, RTP and RTCP, in both directions.
    pub(crate) given: u64,
    pub(crate) to_application: u64,
    pub(crate) rtp_to_wire: u64,
    pub(crate) rtcp_to_wire: u64,
    pub(crate) wakes: u64,
    pub(crate) published: u64,
    pub(crate) log_lines: u64,
    pub(crate) problems: u64,
}

/// Problems, what is worth knowing, and the phases.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
    pub(crate) phases: Vec<Phase>,
}

impl Findings {
    pub(crate) fn begin(&mut self, name: &'static str) {
        self.phases.push(Phase { name, ..Phase::default() });
    }

    /// The phase that is running.
    pub(crate) fn phase(&mut self) -> &mut Phase {
        if self.phases.is_empty() {
            self.begin("load");
        }
        let last = self.phases.len() - 1;
        &mut self.phases[last]
    }

    pub(crate) fn problem(&mut self, kind: impl Into<String>, message: impl Into<String>) {
        let (kind, message) = (kind.into(), message.into());
        let phase = self.phase();
        phase.problems += 1;
        let name = phase.name;
        match self.problems.iter_mut().find(|known| known.phase == name && known.kind == kind) {
            Some(known) => known.times += 1,
            None => self.problems.push(Problem { phase: name, kind, message, times: 1 }),
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Why a session, a stream or a change was refused.
    pub(crate) fn refused(&mut self, what: &str, error: &ChainError) {
        match error {
            ChainError::Fault { kind, message, .. } => self.problem(kebab(kind), format!("{what}: {message}")),
            ChainError::Quarantined { .. } => self.problem("quarantined", format!("{what}: {error}")),
            error => self.problem("refusal", format!("{what}: {error}")),
        }
    }

    /// A refusal of control is an answer like any other; a fault is not.
    pub(crate) fn controlled(&mut self, request: &str, answer: Result<String, ControlError>) {
        if let Err(ControlError::Chain(error @ ChainError::Fault { .. })) = answer {
            self.refused(&format!("asked {request:?}"), &error);
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Fault { kind, message, .. } => self.problem(kebab(kind), message.clone()),
            Event::Storm { .. } => self.problem("storm", event.to_string()),
            Event::RestartRefused { message, .. } => {
                self.problem("refusal", format!("it does not start again: {message}"))
            }
            Event::Quarantined { .. } => self.problem("quarantined", event.to_string()),
            Event::Published { name, json, .. } => {
                self.phase().published += 1;
                if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
                    self.note(format!("what it publishes as {name:?} is not JSON"));
                }
            }
            Event::Log { level, message, .. } => {
                self.phase().log_lines += 1;
                if *level == Level::Error {
                    self.note(format!("it logs an error: {message}"));
                }
            }
            _ => {}
        }
    }
}

fn kebab(kind: &sandbar_host::FaultKind) -> String {
    kind.to_string().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_problem_is_told_once_per_phase_with_how_often_it_came() {
        let mut findings = Findings::default();
        for phase in ["one", "two"] {
            findings.begin(phase);
            findings.problem("trap", "first");
            findings.problem("trap", "second");
            findings.problem("memory", "third");
        }
        let told: Vec<_> =
            findings.problems.iter().map(|p| (p.phase, p.kind.as_str(), p.message.as_str(), p.times)).collect();
        assert_eq!(told[..2], [("one", "trap", "first", 2), ("one", "memory", "third", 1)]);
        assert_eq!(told.len(), 4);
        assert_eq!(findings.phases[1].problems, 3);
    }
}
