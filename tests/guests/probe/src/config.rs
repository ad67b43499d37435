//! What the probe is told to do.

use sandbar_sdk::{Binding, Refusal, RtcpAccess, config};
use serde::Deserialize;

/// The probe's configuration; the crate's documentation says what each key does.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bound to remote streams.
    pub read: Bound,
    /// Bound to local streams.
    pub write: Bound,
    /// Bound to the peer's RTCP.
    pub rtcp_read: BoundRtcp,
    /// Bound to RTCP to the peer.
    pub rtcp_write: BoundRtcp,
    /// Packets of history, both directions.
    pub history: u32,
    /// Asks for packets of unknown SSRCs, both directions.
    pub unbound: bool,
    /// What becomes of packets from the peer.
    pub on_read: Action,
    /// What becomes of packets to the peer.
    pub on_write: Action,
    /// What becomes of compounds from the peer.
    pub on_rtcp_read: RtcpAction,
    /// What becomes of compounds to the peer.
    pub on_rtcp_write: RtcpAction,
    /// Acts on one packet in so many of each direction.
    pub every: u64,
    /// How long packets are held.
    pub hold_ms: u64,
    /// The header extension that `extend` sets.
    pub extension: u8,
    /// Sets this attribute of each packet to its count.
    pub set_attribute: Option<String>,
    /// Publishes this attribute of each packet.
    pub publish_attribute: Option<String>,
    /// The session timer's period.
    pub tick_ms: u64,
    /// What a tick does.
    pub on_tick: Vec<Tick>,
    /// What is refused.
    pub refuse: Option<Refused>,
    /// Where the probe breaks.
    pub fault: Option<Fault>,
    /// Logged at creation.
    pub log: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            read: Bound::Pass,
            write: Bound::Pass,
            rtcp_read: BoundRtcp::Pass,
            rtcp_write: BoundRtcp::Pass,
            history: 0,
            unbound: false,
            on_read: Action::Forward,
            on_write: Action::Forward,
            on_rtcp_read: RtcpAction::Forward,
            on_rtcp_write: RtcpAction::Forward,
            every: 1,
            hold_ms: 20,
            extension: 1,
            set_attribute: None,
            publish_attribute: None,
            tick_ms: 0,
            on_tick: Vec::new(),
            refuse: None,
            fault: None,
            log: None,
        }
    }
}

impl Config {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let config: Config = config::parse(json)?;
        config::in_range("every", config.every, 1..=u64::MAX)?;
        Ok(config)
    }

    pub(crate) fn binding(&self, bound: Bound) -> Binding {
        let binding = match bound {
            Bound::Pass => Binding::PASS,
            Bound::ObserveHeaders => Binding::observe_headers(),
            Bound::ObservePackets => Binding::observe_packets(),
            Bound::TransformHeaders => Binding::transform_headers(),
            Bound::TransformPackets => Binding::transform_packets(),
        };
        Binding { unbound: self.unbound, ..binding.with_history(self.history) }
    }
}

/// `read` and `write`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Not on the path.
    Pass,
    /// Sees headers.
    ObserveHeaders,
    /// Sees packets.
    ObservePackets,
    /// Changes headers.
    TransformHeaders,
    /// Changes packets.
    TransformPackets,
}

/// `rtcp_read` and `rtcp_write`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundRtcp {
    /// Not on the path.
    Pass,
    /// Sees compounds.
    Observe,
    /// Changes compounds.
    Transform,
}

impl From<BoundRtcp> for RtcpAccess {
    fn from(bound: BoundRtcp) -> Self {
        match bound {
            BoundRtcp::Pass => RtcpAccess::Pass,
            BoundRtcp::Observe => RtcpAccess::Observe,
            BoundRtcp::Transform => RtcpAccess::Transform,
        }
    }
}

/// `on_read` and `on_write`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It goes on.
    Forward,
    /// It does not.
    Drop,
    /// Its marker bit is set, in place.
    Mark,
    /// It gets a header extension, and grows.
    Extend,
    /// Other bytes take its place: its sequence number is 1000 higher.
    Replace,
    /// It goes on twice.
    Duplicate,
    /// It goes on later, from the history.
    Hold,
}

/// `on_rtcp_read` and `on_rtcp_write`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RtcpAction {
    /// It goes on.
    Forward,
    /// It does not.
    Drop,
    /// It goes on twice, as one compound.
    Duplicate,
    /// Without its first packet.
    Behead,
    /// It goes on, and what its NACKs ask for is sent from the history.
    Answer,
}

/// What a tick does.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tick {
    /// Publishes the counts under `counts`.
    Publish,
    /// Emits a PLI for the first remote stream.
    EmitRtcp,
    /// Sets the gauge `ticks` and adds one to the counter `ticks`.
    Metrics,
    /// Logs `tick`.
    Log,
}

/// `refuse`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// To be created.
    Create,
    /// To be restored.
    Restore,
    /// To have RTCP bound.
    BindRtcp,
    /// To have a stream bound.
    BindStream,
}

/// `fault`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// In `create` and `restore`.
    Create,
    /// In a bind.
    Bind,
    /// In an unbind.
    Unbind,
    /// On a packet.
    Packet,
    /// On a compound.
    Rtcp,
    /// On a timer.
    Timeout,
    /// On a control request.
    Control,
    /// In `save`.
    Save,
    /// In `close`.
    Close,
}
