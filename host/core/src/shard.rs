//! The shard: what one worker thread drives.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use slotmap::SlotMap;
use smallvec::SmallVec;

use crate::bindings::types::Refusal;
use crate::burst::{Slot, State};
use crate::chain::Limits;
use crate::event::{Culprit, Event};
use crate::fault::Fault;
use crate::hops::Hops;
use crate::imports::split_mix;
use crate::instance::{Instance, SessionInfo};
use crate::log::Log;
use crate::packet::{Kind, Packet};
use crate::plugin::{Digest, Grants, Lane};
use crate::rtcp::{self, Speaker};
use crate::session::{
    Direction, InstanceId, Member, MemberState, Owner, Session, SessionCounts, SessionId, SessionSpec, Sources, Stream,
    StreamId, TenantId,
};
use crate::sink::{SinkQueue, SinkWrite};
use crate::stream::StreamInfo;
use crate::tenant::{Holdings, Quota, QuotaExceeded, Quotas, Tenant};
use crate::time::{Instant, WallClock};
use crate::timers::{CROWDED, Scope};
use crate::values::Values;
use crate::wheel::Wheel;

/// How a [`Shard`] works.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// What the wall clock showed at some instant.
    pub wall_clock: WallClock,
    /// Frames after which a batch for observers is handed over. Default 64.
    pub batch_frames: usize,
    /// Age after which a batch for observers is handed over. Default 1 ms.
    pub batch_age: Duration,
    /// Whether headers of packets in order wait for who follows their streams; without, it is shown them as an observer is.
    /// Default true.
    pub patient: bool,
    /// What the shard's own random numbers come from, which no plugin may foresee: which of its calls are timed. Draw it at
    /// random outside of tests. Default 0.
    pub seed: u64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            wall_clock: WallClock::default(),
            batch_frames: 64,
            batch_age: Duration::from_millis(1),
            patient: true,
            seed: 0,
        }
    }
}

/// Bytes that a socket received for a session.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Whose peer sent them.
    pub session: SessionId,
    /// What they are said to be.
    pub kind: Kind,
    /// The bytes. Shared, not copied: a slice of a large buffer keeps the whole buffer while a history holds it.
    pub bytes: Bytes,
}

/// The two ends of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The session's peer: what comes here is to be sent to it.
    Wire,
    /// What uses the session: for it is what its peer has sent.
    Application,
}

/// A packet that leaves the shard.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whose packet it is.
    pub session: SessionId,
    /// The stream it belongs to, where it is RTP of one that is bound.
    pub stream: Option<StreamId>,
    /// Where it leaves.
    pub to: End,
    /// The packet.
    pub packet: Packet,
    /// How far it has come, while it is on its way.
    pub(crate) next: u16,
    pub(crate) state: State,
}

/// Why a chain or a change of it is refused. What ran before runs on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// The plugin does not accept its configuration.
    #[error("the plugin {plugin} refuses its configuration: {message}")]
    Config {
        /// The plugin.
        plugin: String,
        /// What it says.
        message: String,
    },
    /// The plugin will not serve the session or one of its streams.
    #[error("the plugin {plugin} refuses: {message}")]
    Refused {
        /// The plugin.
        plugin: String,
        /// What it says.
        message: String,
    },
    /// The plugin failed.
    #[error("the plugin {plugin} failed ({kind}): {message}")]
    Fault {
        /// The plugin.
        plugin: String,
        /// How.
        kind: crate::fault::FaultKind,
        /// What wasmtime or the host says about it.
        message: String,
    },
    /// The version failed too often.
    #[error("the plugin {plugin} is quarantined: {reason}; lift the quarantine to use it again")]
    Quarantined {
        /// The plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// No such session.
    #[error("there is no such session")]
    NoSession,
    /// No such member of its chain.
    #[error("the chain has {members} members; there is no place {index}")]
    NoMember {
        /// Where.
        index: usize,
        /// How many there are.
        members: usize,
    },
    /// The SSRC is taken.
    #[error("the session has a stream in this direction with the SSRC {0:08x} already")]
    SsrcTaken(u32),
    /// The tenant has used up a quota.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// A field of the session or stream cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// Why a session is not opened.
pub type OpenError = ChainError;
/// Why a stream is not bound.
pub type BindError = ChainError;
/// Why a chain is not changed.
pub type ChangeError = ChainError;

/// Why a plugin does not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    /// No such session or member.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It is not running.
    #[error("the plugin {plugin} is not running ({state:?})")]
    NotRunning {
        /// The plugin.
        plugin: String,
        /// Where it is.
        state: MemberState,
    },
}

/// Which instances are shared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedKey {
    pub(crate) tenant: TenantId,
    pub(crate) digest: Digest,
    pub(crate) lane: Lane,
    pub(crate) granted: Grants,
    pub(crate) limits: Limits,
}

impl Hash for SharedKey {
    /// Of the rest a tenant has seldom two for a plugin, and to hash it takes a tenth of opening a session.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tenant.hash(state);
        self.digest.hash(state);
    }
}

/// What comes at its time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alarm {
    Timer(InstanceId, Scope),
    Restart(SessionId, u32),
}

/// The sessions that one thread drives, with their plugins' instances.
///
/// Feed it what sockets and the application bring, and time; then take what it has for them: [`take_outputs`], and where
/// wanted [`poll_event`] and [`poll_sink`], until they are empty, and call [`handle_timeout`] when [`poll_timeout`] has
/// come. It has no sockets, threads or clock, and never panics on what a plugin or a peer does.
///
/// Invariant: between two calls, a packet is in a history, held by a plugin's own state as a number, or in the output
/// queue; none is on its way.
///
/// [`take_outputs`]: Self::take_outputs
/// [`poll_event`]: Self::poll_event
/// [`poll_sink`]: Self::poll_sink
/// [`handle_timeout`]: Self::handle_timeout
/// [`poll_timeout`]: Self::poll_timeout
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) sessions: SlotMap<SessionId, Session>,
    pub(crate) streams: SlotMap<StreamId, Stream>,
    pub(crate) instances: SlotMap<InstanceId, Box<Instance>>,
    pub(crate) shared: HashMap<SharedKey, InstanceId>,
    pub(crate) wheel: Wheel<Alarm>,
    /// Instances whose batches wait, by when they began; an entry counts only while the batch's frames are that old.
    pub(crate) waiting: VecDeque<(Instant, InstanceId)>,
    /// Instances whose batches have RTCP, which does not wait.
    pub(crate) prompt: Vec<InstanceId>,
    /// Packets that plugins emitted, on their way in each direction.
    pub(crate) emitted: [Vec<Slot>; 2],
    /// Faults whose guilty session is not yet known, by number: the sessions that are watched for it.
    pub(crate) incidents: HashMap<u64, Vec<Owner>>,
    pub(crate) next_incident: u64,
    /// Sessions that are no longer watched, as the guilty one was found.
    pub(crate) cleared: Vec<Owner>,
    /// Sessions with RTCP to merge.
    pub(crate) talkers: Vec<SessionId>,
    /// Room for compounds that are put together: many in one piece of memory.
    pub(crate) compounds: BytesMut,
    /// Packets that are through their chains.
    pub(crate) output: Vec<Output>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) sink: SinkQueue,
    /// Kept to reuse its memory.
    pub(crate) spare: Vec<Slot>,
    /// State of the shard's own random numbers.
    pub(crate) random: u64,
    tenants: HashMap<TenantId, Tenant>,
    /// When quotas were last told of.
    exceeded: HashMap<(Arc<str>, Quota), Instant>,
    /// Entries of the wheel at which it is looked through.
    pub(crate) crowded: usize,
}

/// Time between two events that tell of one quota.
const EXCEEDED_PAUSE: Duration = Duration::from_secs(10);

/// Most events kept for an application that does not take them; the oldest go first.
const MAX_EVENTS: usize = 65_536;

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig) -> Self {
        Self {
            config,
            sessions: SlotMap::with_key(),
            streams: SlotMap::with_key(),
            instances: SlotMap::with_key(),
            shared: HashMap::new(),
            wheel: Wheel::new(),
            waiting: VecDeque::new(),
            prompt: Vec::new(),
            emitted: [Vec::new(), Vec::new()],
            incidents: HashMap::new(),
            next_incident: 0,
            cleared: Vec::new(),
            talkers: Vec::new(),
            compounds: BytesMut::new(),
            output: Vec::new(),
            events: VecDeque::new(),
            sink: SinkQueue::default(),
            spare: Vec::new(),
            random: config.seed,
            tenants: HashMap::new(),
            exceeded: HashMap::new(),
            crowded: CROWDED,
        }
    }

    /// Says who a tenant is, and so what its sessions may use together; on all shards that are given copies of `tenant`. For
    /// sessions that are opened from now on. Of whom nothing is said has no quotas.
    pub fn set_tenant(&mut self, id: TenantId, tenant: Tenant) {
        self.tenants.insert(id, tenant);
    }

    /// A tenant that has been said something of, or has had a session.
    pub fn tenant(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(&id)
    }

    /// Makes a session and its chain. A plugin that refuses or fails refuses the whole chain.
    pub fn open_session(&mut self, now: Instant, spec: SessionSpec) -> Result<SessionId, OpenError> {
        if spec.mtu < 64 {
            return Err(ChainError::Invalid(format!("an MTU of {}; at least 64 is needed", spec.mtu)));
        }
        let unknown = || Tenant::new(&format!("tenant {}", spec.tenant.0), Quotas::default());
        let mut holdings = Holdings::new(self.tenants.entry(spec.tenant).or_insert_with(unknown).clone());
        holdings.take(Quota::Sessions, 1)?;
        let mut seed = spec.seed;
        let rtcp_ssrc = spec.rtcp_ssrc.unwrap_or_else(|| split_mix(&mut seed) as u32);
        let info = SessionInfo { mtu: spec.mtu, cname: spec.cname.clone(), rtcp_ssrc, seed: split_mix(&mut seed) };
        let id = self.sessions.insert(Session {
            name: spec.name,
            tenant: spec.tenant,
            holdings,
            malformed: spec.malformed,
            info,
            speaker: Speaker::new(spec.rtcp, spec.mtu, rtcp_ssrc, &spec.cname),
            members: Vec::with_capacity(spec.chain.members.len()),
            places: SmallVec::new(),
            next_member: 0,
            rtcp: [Hops::new(0), Hops::new(0)],
            unbound: Box::new([Hops::new(0), Hops::new(0)]),
            local: Sources::new(),
            remote: Sources::new(),
            rtcp_out: SmallVec::new(),
            counts: SessionCounts::default(),
            log: Log::default(),
            told_malformed: None,
            random: split_mix(&mut seed),
            values: Values::default(),
        });
        for (index, member) in spec.chain.members.into_iter().enumerate() {
            if let Err(error) = self.add_member(now, id, index, member) {
                self.end_session(now, id);
                self.discard_output(id);
                return Err(error);
            }
        }
        self.settle(now);
        Ok(id)
    }

    /// Ends a session: its streams are unbound and its plugins closed, and what they emit last still goes out.
    pub fn close_session(&mut self, now: Instant, id: SessionId) {
        self.end_session(now, id);
        self.settle(now);
    }

    fn end_session(&mut self, now: Instant, id: SessionId) {
        for stream in self.streams_of(id) {
            self.end_stream(now, stream);
        }
        let members = self.sessions.get(id).map_or(0, |session| session.members.len());
        for index in (0..members).rev() {
            self.close_member(now, id, index);
        }
        self.drain_emitted(now);
        self.merge_rtcp();
        self.sessions.remove(id);
    }

    /// A session that was never opened has nothing to say.
    fn discard_output(&mut self, id: SessionId) {
        self.output.retain(|output| output.session != id);
    }

    /// Binds a stream that this side sends. Plugins of the chain are asked in its order.
    pub fn bind_local_stream(
        &mut self,
        now: Instant,
        session: SessionId,
        info: StreamInfo,
    ) -> Result<StreamId, BindError> {
        self.bind_stream(now, session, true, info)
    }

    /// Binds a stream that the peer sends. Where the info names an SSRC and a payload type for retransmissions, those are
    /// unwrapped (RFC 4588) before the first plugin and marked repaired.
    pub fn bind_remote_stream(
        &mut self,
        now: Instant,
        session: SessionId,
        info: StreamInfo,
    ) -> Result<StreamId, BindError> {
        self.bind_stream(now, session, false, info)
    }

    /// Ends a stream. Its timers and history end with it.
    pub fn unbind_stream(&mut self, now: Instant, stream: StreamId) {
        self.end_stream(now, stream);
        self.settle(now);
    }

    /// Takes what came from peers: the datagrams of one receive call, of any sessions, in the order of their arrival.
    pub fn read(&mut self, now: Instant, burst: impl IntoIterator<Item = Datagram>) {
        let mut slots = std::mem::take(&mut self.spare);
        for datagram in burst {
            self.enter_read(now, datagram, &mut slots);
        }
        self.warm(&slots);
        self.walk(now, Direction::Read, &mut slots);
        self.spare = slots;
        self.settle(now);
    }

    /// Takes what the application sends: packets for any sessions' peers, in order.
    pub fn write(&mut self, now: Instant, burst: impl IntoIterator<Item = (SessionId, Packet)>) {
        let mut slots = std::mem::take(&mut self.spare);
        for (session, packet) in burst {
            self.enter_write(now, session, packet, &mut slots);
        }
        self.warm(&slots);
        self.walk(now, Direction::Write, &mut slots);
        self.spare = slots;
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        self.settle(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let frames = self.waiting.front().map(|(since, _)| *since + self.config.batch_age);
        frames.into_iter().chain(self.wheel.next_due()).min()
    }

    /// Appends all packets for peers and applications, in order. Best to an empty list: that becomes the shard's next, and nothing
    /// is copied.
    #[inline]
    pub fn take_outputs(&mut self, to: &mut Vec<Output>) {
        match to.is_empty() {
            true => std::mem::swap(to, &mut self.output),
            false => to.append(&mut self.output),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next bytes that a plugin wrote to its sink. What is not taken in time is lost, and counted so.
    pub fn poll_sink(&mut self) -> Option<SinkWrite> {
        self.sink.pop()
    }

    /// Asks a member of a session's chain. A plugin's refusal is an error; its fault is one too, and its policy applies.
    pub fn control(
        &mut self,
        now: Instant,
        id: SessionId,
        index: usize,
        request: &str,
    ) -> Result<String, ControlError> {
        let member = self.member_at(id, index)?;
        let plugin = member.spec.plugin.name().to_owned();
        if !member.running() {
            return Err(ControlError::NotRunning { plugin, state: member.state });
        }
        let (instance, seat, number) = (member.instance, member.seat, member.number);
        self.flush_member(now, id, index);
        let Some(running) = self.instances.get_mut(instance) else {
            return Err(ControlError::NotRunning { plugin, state: MemberState::Displaced });
        };
        let answer = running.control(now, seat, request);
        let result = match answer {
            Ok(answer) => {
                self.absorb(instance);
                answer.map_err(|refusal| ChainError::refused(plugin, refusal).into())
            }
            Err(fault) => {
                let error = ChainError::fault(plugin, &fault);
                self.fail(now, instance, fault, Some(Owner { session: id, member: number }), None);
                Err(error.into())
            }
        };
        self.settle(now);
        result
    }

    pub(crate) fn member_at(&self, id: SessionId, index: usize) -> Result<&Member, ChainError> {
        let session = self.sessions.get(id).ok_or(ChainError::NoSession)?;
        let members = session.members.len();
        session.members.get(index).ok_or(ChainError::NoMember { index, members })
    }

    /// Ends a call into the shard: batches that are due are handed over, what plugins emitted goes its way, and the
    /// tick's RTCP is merged.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some((since, instance)) = self.oldest() {
            if now - since < self.config.batch_age {
                break;
            }
            self.waiting.pop_front();
            self.flush(now, instance);
        }
        if !self.prompt.is_empty() {
            for instance in std::mem::take(&mut self.prompt) {
                self.flush(now, instance);
            }
        }
        self.drain_emitted(now);
        if !self.cleared.is_empty() {
            self.release_cleared(now);
        }
        self.merge_rtcp();
        self.oldest();
    }

    /// Whose frames have waited longest, and since when. Leaves the list without entries before it, whose frames have been
    /// handed over since.
    fn oldest(&mut self) -> Option<(Instant, InstanceId)> {
        while let Some((since, id)) = self.waiting.front().copied() {
            if self.instances.get(id).and_then(|instance| instance.waiting.since()) == Some(since) {
                return Some((since, id));
            }
            self.waiting.pop_front();
        }
        None
    }

    pub(crate) fn merge_rtcp(&mut self) {
        for id in self.talkers.drain(..) {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let merged = rtcp::merge(&session.rtcp_out, &session.speaker, &mut self.compounds);
            session.rtcp_out.clear();
            for bytes in merged {
                session.counts.sent += 1;
                let packet = Packet::Rtcp(crate::packet::RtcpPacket::plain(bytes));
                self.output.push(Slot::new(id, None, Direction::Write, 0, packet));
            }
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Tells that a quota was used up, now and then.
    pub(crate) fn tell_exceeded(&mut self, now: Instant, exceeded: QuotaExceeded) {
        let key = (exceeded.tenant.clone(), exceeded.quota);
        if self.exceeded.get(&key).is_none_or(|told| now - *told >= EXCEEDED_PAUSE) {
            self.exceeded.insert(key, now);
            self.tell(Event::Quota(exceeded));
        }
    }

    /// How reports name a member of a session.
    pub(crate) fn culprit(&self, id: SessionId, number: u32) -> Option<Culprit> {
        let session = self.sessions.get(id)?;
        let index = session.member(number)?;
        let plugin = &session.members[index].spec.plugin;
        Some(Culprit {
            session: id,
            session_name: session.name.clone(),
            tenant: session.holdings.tenant().name().to_owned(),
            member: index,
            plugin: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest(),
        })
    }

    /// The info of a bound stream.
    pub fn stream_info(&self, stream: StreamId) -> Option<&Arc<StreamInfo>> {
        self.streams.get(stream).map(|stream| &stream.info)
    }
}

impl ChainError {
    pub(crate) fn refused(plugin: String, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Config(message) => Self::Config { plugin, message },
            Refusal::Unsupported(message) | Refusal::Other(message) => Self::Refused { plugin, message },
        }
    }

    pub(crate) fn fault(plugin: String, fault: &Fault) -> Self {
        Self::Fault { plugin, kind: fault.kind, message: fault.message.clone() }
    }
}
