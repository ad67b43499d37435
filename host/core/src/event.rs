//! What the application hears besides packets.

use serde::Serialize;

use crate::fault::FaultKind;
use crate::plugin::Digest;
use crate::session::SessionId;
use crate::tenant::QuotaExceeded;

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// Something happened.
    Info,
    /// For who looks for a mistake.
    Debug,
}

/// What became of a session's member after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultAction {
    /// Its packets go on without the plugin.
    Bypassed,
    /// What it stood before is closed.
    Closed,
    /// Its packets go on without the plugin, until it is started again.
    Restarting,
}

/// A plugin, in a session, as reports name it.
#[derive(Clone, Debug, Serialize)]
pub struct Culprit {
    /// The session.
    pub session: SessionId,
    /// The session's name.
    pub session_name: String,
    /// Whose the session is: the tenant's name.
    pub tenant: String,
    /// The plugin's place in the chain, 0 closest to the wire.
    pub member: usize,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Its component.
    pub digest: Digest,
}

impl std::fmt::Display for Culprit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (member {} of session {})", self.plugin, self.version, self.member, self.session_name)
    }
}

/// Something that the application may want to know or tell.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A plugin published a document.
    Published {
        /// Who.
        from: Culprit,
        /// The document's name.
        name: String,
        /// The document, meant to be JSON: the host does not look into it.
        json: String,
    },
    /// A plugin logged a line.
    Log {
        /// Who.
        from: Culprit,
        /// How much it matters.
        level: Level,
        /// The line.
        message: String,
    },
    /// A plugin failed, and this session is the one that it failed for.
    Fault {
        /// Who.
        from: Culprit,
        /// How.
        kind: FaultKind,
        /// What wasmtime or the host says about it.
        message: String,
        /// What became of it.
        action: FaultAction,
    },
    /// A shared instance ended because of another session; this one gets a new one with its next packet.
    Displaced {
        /// Who.
        from: Culprit,
    },
    /// A plugin runs again.
    Restarted {
        /// Who.
        from: Culprit,
    },
    /// A plugin would not start again for this session; it is bypassed.
    RestartRefused {
        /// Who.
        from: Culprit,
        /// Why.
        message: String,
    },
    /// A version failed too often, and will not be started again.
    Quarantined {
        /// Who failed last.
        from: Culprit,
        /// Why, in a sentence: the last fault.
        reason: String,
    },
    /// A session's peer sent bytes that are not RTP or RTCP; told at most every 10 seconds.
    Malformed {
        /// The session.
        session: SessionId,
        /// The session's name.
        session_name: String,
        /// What is wrong with the last of them.
        message: String,
        /// How many there have been.
        count: u64,
    },
    /// A tenant wanted more than its quota; told at most every 10 seconds for each quota.
    Quota(QuotaExceeded),
    /// Plugins answered each other with ever more packets; the rest was discarded.
    Storm {
        /// Packets discarded.
        discarded: usize,
    },
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Published { from, name, json } => write!(f, "{from} publishes {name}: {json}"),
            Self::Log { from, message, .. } => write!(f, "{from}: {message}"),
            Self::Fault { from, kind, message, action } => {
                let action = match action {
                    FaultAction::Bypassed => "bypassed",
                    FaultAction::Closed => "closed",
                    FaultAction::Restarting => "bypassed until it is restarted",
                };
                write!(f, "{from} failed ({kind}): {message}; it is {action}")
            }
            Self::Displaced { from } => write!(f, "{from} lost its shared instance to another session's fault"),
            Self::Restarted { from } => write!(f, "{from} runs again"),
            Self::RestartRefused { from, message } => {
                write!(f, "{from} does not start again: {message}; it is bypassed")
            }
            Self::Quarantined { from, reason } => {
                write!(f, "{} {} is quarantined and bypassed: {reason}", from.plugin, from.version)
            }
            Self::Malformed { session_name, message, count, .. } => {
                write!(f, "the peer of session {session_name} sends what cannot be read ({count} so far): {message}")
            }
            Self::Quota(exceeded) => exceeded.fmt(f),
            Self::Storm { discarded } => {
                write!(f, "plugins answered each other without end; {discarded} of their packets were discarded")
            }
        }
    }
}
