//! Chains: which plugins a session runs, in which order, and what happens when one of them fails.

use serde::{Deserialize, Serialize};

use crate::order;
use crate::plugin::Plugin;
use crate::sink::SinkId;

/// Who shares an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// An instance for each session.
    Session,
    /// An instance for all sessions that one tenant has on a shard.
    Tenant,
}

/// What becomes of a session's packets when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPolicy {
    /// They go on without the plugin.
    Bypass,
    /// What the plugin stands before as a transform stays closed; what it only observed goes on.
    Drop,
    /// They go on without it until it has been started again, after a pause that doubles with each fault. Where a call did not
    /// return, it is not started again.
    #[default]
    Restart,
}

/// What a plugin may use: an instance as a whole, or where noted each session in it. A call that serves several sessions may
/// emit and write as much as 16 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Bytes of linear memory. Default 64 MiB.
    pub memory: usize,
    /// Elements of all tables. Default 10,000.
    pub table_elements: usize,
    /// Packets that one call may emit, per session. Default 1024: what a NACK may ask for, twice.
    pub emitted_packets: u32,
    /// Bytes that one call may emit, per session. Default 2 MiB.
    pub emitted_bytes: usize,
    /// Packets of history per stream. Default 8192.
    pub history: u32,
    /// Packets that are held, per session. Default 8192.
    pub held_packets: usize,
    /// Bytes of those, per session. Default 16 MiB: 8192 packets of 2 KiB.
    pub held_bytes: usize,
    /// Bytes of saved state, per session. Default 1 MiB.
    pub state: usize,
    /// Log lines and published documents per second and session. Default 200.
    pub messages: u32,
    /// Bytes of a log line, a name or a published document; the rest is cut from a line and refused of a document.
    /// Default 64 KiB.
    pub message: usize,
    /// Counters and gauges per session. Default 64.
    pub metrics: usize,
    /// Sessions that share an instance. Default 4096.
    pub sessions: usize,
    /// Bytes that one call may write to a sink, per session. Default 1 MiB.
    pub sink_call: usize,
    /// Bytes that may be written to a sink per second and session. Default 8 MiB.
    pub sink_second: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            table_elements: 10_000,
            emitted_packets: 1024,
            emitted_bytes: 2 << 20,
            history: 8192,
            held_packets: 8192,
            held_bytes: 16 << 20,
            state: 1 << 20,
            messages: 200,
            message: 64 << 10,
            metrics: 64,
            sessions: 4096,
            sink_call: 1 << 20,
            sink_second: 8 << 20,
        }
    }
}

/// One plugin of a chain with what the operator says about it.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// What runs.
    pub plugin: Plugin,
    /// The plugin's configuration, JSON.
    pub config: String,
    /// Who shares its instance. `None`: [`Isolation::Tenant`] for a plugin that cannot see media,
    /// [`Isolation::Session`] for one that can.
    pub isolation: Option<Isolation>,
    /// What happens when it fails.
    pub on_fault: FaultPolicy,
    /// What its instance may use.
    pub limits: Limits,
    /// Where what it writes goes: see [`SinkWrite`](crate::SinkWrite). `None`: nowhere, and it is told so.
    pub sink: Option<SinkId>,
}

impl MemberSpec {
    /// The plugin with an empty configuration and defaults for the rest.
    pub fn new(plugin: Plugin) -> Self {
        Self {
            plugin,
            config: "{}".to_owned(),
            isolation: None,
            on_fault: FaultPolicy::default(),
            limits: Limits::default(),
            sink: None,
        }
    }

    /// The same with this configuration, JSON.
    pub fn with_config(mut self, config: impl Into<String>) -> Self {
        self.config = config.into();
        self
    }

    /// The same with this policy.
    pub fn on_fault(mut self, policy: FaultPolicy) -> Self {
        self.on_fault = policy;
        self
    }

    /// The same with this isolation.
    pub fn isolated(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// The isolation that holds: the operator's, or the default that follows from what the plugin may see.
    pub fn isolation(&self) -> Isolation {
        self.isolation.unwrap_or(if self.plugin.reads_media() { Isolation::Session } else { Isolation::Tenant })
    }
}

/// An ordered list of plugins. The first is closest to the wire, for reads and for writes.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The plugins, from the wire to the application.
    pub members: Vec<MemberSpec>,
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(members: impl IntoIterator<Item = MemberSpec>) -> Self {
        Self { members: members.into_iter().collect() }
    }

    /// Sentences about plugins that defeat each other in this order: each names both and says why. Another order is
    /// [`proposed_order`](crate::proposed_order)'s.
    pub fn warnings(&self) -> Vec<String> {
        let places: Vec<_> = self.members.iter().map(|member| member.plugin.description().place).collect();
        let describe = |index: usize| format!("{} ({})", self.members[index].plugin.name(), places[index]);
        order::conflicts(&places)
            .map(|(near, far, why)| format!("{} is closer to the wire than {}: {why}", describe(near), describe(far)))
            .collect()
    }
}
