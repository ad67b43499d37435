//! The harness itself.

use std::time::Duration;

use sandbar_host::{
    Attributes, Chain, ChainError, ControlError, Datagram, End, Event, FaultPolicy, Instant as HostInstant, Kind,
    MemberSpec, Metric, Output, Packet as HostPacket, Plugin, RtcpMode, RtcpPacket, RtpPacket, SessionId, SessionSpec,
    Shard, ShardConfig, SinkId, StreamId as HostStreamId, WallClock,
};
use sandbar_sdk::testing::{Drive, Feed, Packet, Setup};
use sandbar_sdk::{Instant, Level, Refusal, StreamId, StreamInfo, Value};

use crate::convert;
use crate::engine::load;

/// Timers that may be due one after the other without time going on.
const TIMER_STORM: usize = 1000;

/// A plugin's component with one session, in a host in virtual time. What the host calls a fault of the plugin panics, with
/// what the plugin logged before it.
pub struct ComponentHarness {
    shard: Shard,
    session: SessionId,
    now: HostInstant,
    /// All streams there ever were; the number of a stream is one more than its place.
    streams: Vec<Option<Bound>>,
    /// Of the next retransmission.
    retransmission: u16,
    order: u64,
    emitted_rtp: Vec<Packet>,
    emitted_rtcp: Vec<Packet>,
    published: Vec<(String, String)>,
    logs: Vec<(Level, String)>,
    /// What the plugin writes is kept.
    sink: bool,
    sunk: Vec<Vec<u8>>,
}

struct Bound {
    id: HostStreamId,
    local: bool,
    info: StreamInfo,
}

/// What a call returns of what leaves during it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    to_wire: bool,
    kind: Kind,
}

impl ComponentHarness {
    /// Creates the plugin with this configuration, in a session like [`Setup::default`].
    ///
    /// # Errors
    /// The plugin's refusal. The host does not tell [`Refusal::Unsupported`] from [`Refusal::Other`]; here both are the
    /// latter.
    ///
    /// # Panics
    /// If the component is no plugin; see [`load`].
    pub fn new(component: &[u8], config: &str) -> Result<Self, Refusal> {
        let plugin = load(component).unwrap_or_else(|error| panic!("{error}"));
        Self::with(Setup::default(), &plugin, config)
    }

    /// The same, in another session.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn with(setup: Setup, plugin: &Plugin, config: &str) -> Result<Self, Refusal> {
        let now = HostInstant::from_nanos(setup.start.as_nanos());
        let mut shard = Shard::new(ShardConfig {
            wall_clock: WallClock { at: now, ntp: setup.ntp },
            // Observers see each packet at once, as in the native harness.
            batch_age: Duration::ZERO,
            patient: false,
            ..ShardConfig::default()
        });
        let spec = SessionSpec {
            name: "harness".to_owned(),
            mtu: setup.mtu,
            cname: setup.cname,
            rtcp_ssrc: Some(setup.rtcp_ssrc),
            // Nothing of the host's own between what the plugin emits.
            rtcp: RtcpMode::ReducedSize,
            seed: setup.seed,
            chain: Chain::new([member(plugin, config, setup.sink)]),
            ..SessionSpec::default()
        };
        let session = shard.open_session(now, spec).map_err(refusal)?;
        let mut harness = ComponentHarness {
            shard,
            session,
            now,
            streams: Vec::new(),
            retransmission: 0,
            order: 0,
            emitted_rtp: Vec::new(),
            emitted_rtcp: Vec::new(),
            published: Vec::new(),
            logs: Vec::new(),
            sink: setup.sink,
            sunk: Vec::new(),
        };
        harness.settle(None);
        Ok(harness)
    }

    /// Puts a successor in the plugin's place, as a host does under traffic: with the state that the plugin saved, if both
    /// sides know how.
    ///
    /// # Errors
    /// The successor's refusal; the plugin stays.
    pub fn replace(&mut self, plugin: &Plugin, config: &str) -> Result<(), Refusal> {
        let changed = self.shard.replace_member(self.now, self.session, 0, member(plugin, config, self.sink));
        self.settle(None);
        changed.map_err(refusal)
    }

    /// When the next timer is due, of the session or a stream, to the host's knowledge: one that was cleared since may
    /// still be among them.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.shard.poll_timeout().map(|at| Instant::from_nanos(at.as_nanos()))
    }

    fn bind(&mut self, local: bool, info: &StreamInfo) -> Result<StreamId, Refusal> {
        let described = convert::stream_info(info);
        let bound = match local {
            true => self.shard.bind_local_stream(self.now, self.session, described),
            false => self.shard.bind_remote_stream(self.now, self.session, described),
        };
        let info = info.clone();
        self.streams.push(bound.as_ref().ok().map(|id| Bound { id: *id, local, info }));
        self.settle(None);
        bound.map_err(refusal)?;
        Ok(StreamId::new(self.streams.len() as u32))
    }

    fn bound(&self, stream: StreamId) -> &Bound {
        let at = (stream.number() as usize).checked_sub(1);
        match at.and_then(|at| self.streams.get(at)) {
            Some(Some(bound)) => bound,
            _ => panic!("{stream:?} is not bound"),
        }
    }

    /// The stream of an SSRC; of several, the latest.
    fn owner(&self, local: bool, ssrc: u32) -> Option<StreamId> {
        let owns = |bound: &Bound| {
            let StreamInfo { ssrc_retransmission, ssrc_forward_error_correction, .. } = bound.info;
            bound.local == local
                && [Some(bound.info.ssrc), ssrc_retransmission, ssrc_forward_error_correction].contains(&Some(ssrc))
        };
        let at = self.streams.iter().rposition(|bound| bound.as_ref().is_some_and(owns))?;
        Some(StreamId::new(at as u32 + 1))
    }

    /// The bytes to feed, on the stream to which the host will find that they belong.
    fn checked(&self, stream: StreamId, feed: &Feed) -> RtpPacket {
        assert!(feed.time.is_none(), "a host itself knows when a packet comes; only the native harness can pretend");
        let packet = RtpPacket::parse(feed.bytes.clone().into())
            .unwrap_or_else(|error| panic!("the packet given to the harness is malformed: {error}"));
        let owner = self.owner(self.bound(stream).local, packet.ssrc());
        assert!(owner.is_none_or(|owner| owner == stream), "the packet's SSRC is that of {owner:?}, not of {stream:?}");
        packet
    }

    /// The packet as its sender's retransmission (RFC 4588, 4), from which the host restores it.
    fn retransmitted(&mut self, stream: StreamId, packet: &RtpPacket) -> Vec<u8> {
        let info = &self.bound(stream).info;
        let (Some(ssrc), Some(payload_type)) = (info.ssrc_retransmission, info.payload_type_retransmission) else {
            panic!("a packet comes back to a component only by RTX, and {stream:?} has none");
        };
        let fits = (packet.ssrc(), packet.payload_type()) == (info.ssrc, info.payload_type);
        assert!(fits, "a retransmission brings back packets of the stream's own SSRC and payload type");
        let mut bytes = packet.header().to_vec();
        bytes[1] = bytes[1] & 0x80 | payload_type;
        bytes[2..4].copy_from_slice(&self.retransmission.to_be_bytes());
        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(&packet.sequence_number().to_be_bytes());
        bytes.extend_from_slice(&packet.payload());
        self.retransmission = self.retransmission.wrapping_add(1);
        bytes
    }

    /// Ends a call: what is due is done, and what has left is sorted.
    fn settle(&mut self, way: Option<Way>) -> Vec<Packet> {
        let mut returned = self.collect(way);
        let mut at_once = 0;
        while self.shard.poll_timeout().is_some_and(|due| due <= self.now) {
            at_once += 1;
            assert!(at_once < TIMER_STORM, "the plugin sets a timer that is due at once, again and again");
            self.shard.handle_timeout(self.now);
            returned.extend(self.collect(way));
        }
        returned
    }

    fn collect(&mut self, way: Option<Way>) -> Vec<Packet> {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Published { name, json, .. } => self.published.push((name, json)),
                Event::Log { level, message, .. } => self.logs.push((convert::level(level), message)),
                fault => panic!("{fault}; before it, it logged {:?}", self.logs),
            }
        }
        while let Some(write) = self.shard.poll_sink() {
            self.sunk.push(write.bytes.into());
        }
        let (mut returned, mut outputs) = (Vec::new(), Vec::new());
        self.shard.take_outputs(&mut outputs);
        for output in outputs {
            let (to_wire, packet) = match output {
                Output { to: End::Wire, packet, .. } => (true, packet),
                Output { to: End::Application, packet, .. } => (false, packet),
            };
            let (stream, attributes, repaired) = match &packet {
                HostPacket::Rtp(packet) => {
                    (self.owner(to_wire, packet.ssrc()), packet.attributes().clone(), packet.repaired())
                }
                HostPacket::Rtcp(packet) => (None, packet.attributes().clone(), false),
                HostPacket::Malformed(..) => (None, Attributes::NONE, false),
            };
            self.order += 1;
            let left = Packet {
                bytes: packet.to_bytes().into(),
                attributes: convert::attributes(&attributes),
                repaired,
                stream,
                time: self.now(),
                order: self.order,
            };
            match packet.kind() {
                kind if way == Some(Way { to_wire, kind }) => returned.push(left),
                Kind::Rtp => self.emitted_rtp.push(left),
                Kind::Rtcp => self.emitted_rtcp.push(left),
            }
        }
        returned
    }

    fn metric(&self, name: &str) -> Option<Metric> {
        let report = self.shard.session_report(self.session)?;
        let metrics = &report.members.first()?.metrics;
        metrics.iter().find(|(known, _)| known == name).map(|(_, metric)| *metric)
    }

    fn receive(&mut self, kind: Kind, bytes: Vec<u8>) -> Vec<Packet> {
        self.shard.read(self.now, [Datagram { session: self.session, kind, bytes: bytes.into() }]);
        self.settle(Some(Way { to_wire: false, kind }))
    }

    fn send(&mut self, packet: HostPacket) -> Vec<Packet> {
        let kind = packet.kind();
        self.shard.write(self.now, [(self.session, packet)]);
        self.settle(Some(Way { to_wire: true, kind }))
    }
}

impl Drive for ComponentHarness {
    fn bind_remote_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.bind(false, info)
    }

    fn bind_local_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.bind(true, info)
    }

    fn unbind_stream(&mut self, stream: StreamId) {
        self.shard.unbind_stream(self.now, self.bound(stream).id);
        self.settle(None);
        if let Some(bound) = self.streams.get_mut(stream.number() as usize - 1) {
            *bound = None;
        }
    }

    fn read(&mut self, stream: StreamId, packet: Feed) -> Vec<Packet> {
        assert!(packet.attributes.is_empty(), "packets from the peer come to the first plugin without attributes");
        let parsed = self.checked(stream, &packet);
        let bytes = if packet.repaired { self.retransmitted(stream, &parsed) } else { packet.bytes };
        self.receive(Kind::Rtp, bytes)
    }

    fn write(&mut self, stream: StreamId, packet: Feed) -> Vec<Packet> {
        assert!(!packet.repaired, "only what the peer sends comes back repaired");
        let mut parsed = self.checked(stream, &packet);
        for attribute in packet.attributes {
            let set = parsed.attributes_mut().set(&attribute.key, Some(convert::host_value(attribute.value)));
            set.unwrap_or_else(|error| panic!("{error}"));
        }
        self.send(HostPacket::Rtp(parsed))
    }

    fn read_rtcp(&mut self, compound: Feed) -> Vec<Packet> {
        self.receive(Kind::Rtcp, checked_rtcp(compound).bytes().to_vec())
    }

    fn write_rtcp(&mut self, compound: Feed) -> Vec<Packet> {
        self.send(HostPacket::Rtcp(checked_rtcp(compound)))
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.now.as_nanos())
    }

    fn advance_to(&mut self, until: Instant) {
        let until = HostInstant::from_nanos(until.as_nanos());
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.settle(None);
        }
        self.now = self.now.max(until);
    }

    fn control(&mut self, request: &str) -> Result<String, Refusal> {
        let answer = self.shard.control(self.now, self.session, 0, request);
        self.settle(None);
        answer.map_err(|error| match error {
            ControlError::Chain(error) => refusal(error),
            error @ ControlError::NotRunning { .. } => panic!("{error}"),
        })
    }

    fn close(&mut self) {
        self.shard.close_session(self.now, self.session);
        self.settle(None);
    }

    fn emitted_rtp(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.emitted_rtp)
    }

    fn emitted_rtcp(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.emitted_rtcp)
    }

    fn session_attribute(&self, key: &str) -> Option<Value> {
        self.shard.session_attribute(self.session, key).cloned().map(convert::value)
    }

    fn set_session_attribute(&mut self, key: &str, value: Option<Value>) {
        let set = self.shard.set_session_attribute(self.session, key, value.map(convert::host_value));
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    fn published(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.published)
    }

    fn logs(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.logs)
    }

    fn sunk(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sunk)
    }

    fn counter(&self, name: &str) -> u64 {
        match self.metric(name) {
            Some(Metric::Count(count)) => count,
            _ => 0,
        }
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        match self.metric(name) {
            Some(Metric::Gauge(value)) => Some(value),
            _ => None,
        }
    }
}

/// A fault stays one, for the harness to panic on.
fn member(plugin: &Plugin, config: &str, sink: bool) -> MemberSpec {
    // Faults of other tests are not this one's.
    plugin.lift_quarantine();
    let spec = MemberSpec::new(plugin.clone()).with_config(config).on_fault(FaultPolicy::Bypass);
    MemberSpec { sink: sink.then_some(SinkId(0)), ..spec }
}

fn checked_rtcp(compound: Feed) -> RtcpPacket {
    let plain = compound.attributes.is_empty() && !compound.repaired && compound.time.is_none();
    assert!(plain, "only the native harness can pretend what comes with a compound");
    RtcpPacket::parse(compound.bytes.into())
        .unwrap_or_else(|error| panic!("the compound given to the harness is malformed: {error}"))
}

/// What the plugin said; anything else is a fault of the plugin's or a mistake of the test's.
fn refusal(error: ChainError) -> Refusal {
    match error {
        ChainError::Config { message, .. } => Refusal::Config(message),
        ChainError::Refused { message, .. } => Refusal::Other(message),
        error => panic!("{error}"),
    }
}
