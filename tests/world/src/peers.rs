//! Peers and the links between them, stepped through virtual time.
//!
//! A [`World`] has any number of shards with sessions. A session is a [`PeerId`] here; what it sends goes over a link to the
//! peer that it is connected with, or nowhere. Flows of media are played at their own pace; everything that leaves a
//! session is kept for the scenario to look at.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{
    Datagram, End, Event, Instant, Kind, OpenError, Output, Packet, RtcpPacket, RtpPacket, SessionId, SessionSpec,
    Shard, ShardConfig, StreamId, StreamInfo, Tenant, TenantId, WallClock,
};

use crate::media::{Judge, Source, Verdict};
use crate::net::{Link, Profile};

/// A session in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(usize);

/// A stream from one peer to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(usize);

/// What a session gave to its application.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// When.
    pub at: Instant,
    /// The stream, for RTP of one that is bound.
    pub stream: Option<StreamId>,
    /// The packet.
    pub packet: Packet,
}

/// What a session gave to its socket.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// RTP or RTCP.
    pub kind: Kind,
    /// What is on the wire.
    pub bytes: Bytes,
}

/// One session, and what came out of it.
pub struct Peer {
    /// The session in its shard.
    pub session: SessionId,
    /// Everything for the application, in order.
    pub delivered: Vec<Delivered>,
    /// Everything for the wire, in order.
    pub sent: Vec<Sent>,
    /// Datagrams that came over the link from its peer.
    pub arrived: u64,
    shard: usize,
    link: Option<(Link<Bytes>, PeerId)>,
}

impl Peer {
    /// The RTP packets delivered to the application.
    pub fn rtp(&self) -> impl Iterator<Item = &RtpPacket> {
        self.delivered.iter().filter_map(|delivered| match &delivered.packet {
            Packet::Rtp(packet) => Some(packet),
            _ => None,
        })
    }

    /// The RTCP compounds delivered to the application.
    pub fn rtcp(&self) -> impl Iterator<Item = &RtcpPacket> {
        self.delivered.iter().filter_map(|delivered| match &delivered.packet {
            Packet::Rtcp(packet) => Some(packet),
            _ => None,
        })
    }

    /// What was sent of one kind.
    pub fn sent(&self, kind: Kind) -> impl Iterator<Item = &Bytes> {
        self.sent.iter().filter(move |sent| sent.kind == kind).map(|sent| &sent.bytes)
    }
}

struct Flow {
    source: Source,
    from: PeerId,
    to: PeerId,
    local: StreamId,
    remote: StreamId,
    /// When the packet with index 0 was, or would have been, sent.
    begun: Instant,
    /// Packets to be sent in all.
    until: u64,
}

impl Flow {
    fn due(&self) -> Option<Instant> {
        (self.source.made < self.until).then(|| self.begun + self.source.due(self.source.made))
    }
}

/// Shards, the peers on them, and the links between these.
pub struct World {
    now: Instant,
    seed: u64,
    shards: Vec<Shard>,
    peers: Vec<Peer>,
    flows: Vec<Flow>,
    /// What the shards told, with the time.
    pub events: Vec<(Instant, Event)>,
}

/// Rounds at one instant after which a scenario is stuck.
const STUCK: usize = 10_000;

impl World {
    /// A world with one shard. The seed decides what the links do.
    pub fn new(seed: u64) -> World {
        World::with_shards(seed, 1)
    }

    /// A world with so many shards.
    pub fn with_shards(seed: u64, shards: usize) -> World {
        World::with_config(seed, shards, ShardConfig::default())
    }

    /// A world with so many shards that work like this, but for their wall clock.
    pub fn with_config(seed: u64, shards: usize, config: ShardConfig) -> World {
        // Ten seconds into the year 2020, so that no wall-clock time is 0 by accident.
        let wall_clock = WallClock::from_unix(Instant::ZERO, Duration::from_secs(1_577_836_810));
        World {
            now: Instant::from_millis(1_000),
            seed,
            shards: (0..shards).map(|_| Shard::new(ShardConfig { wall_clock, ..config })).collect(),
            peers: Vec::new(),
            flows: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Two peers, each on a shard of its own, and a link for each direction with this profile.
    pub fn pair(seed: u64, profile: &Profile, left: SessionSpec, right: SessionSpec) -> (World, PeerId, PeerId) {
        let mut world = World::with_shards(seed, 2);
        let left = world.open_on(0, left).unwrap_or_else(|error| panic!("{error}"));
        let right = world.open_on(1, right).unwrap_or_else(|error| panic!("{error}"));
        world.connect(left, right, profile);
        (world, left, right)
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Says on all shards who a tenant is.
    pub fn set_tenant(&mut self, id: TenantId, tenant: &Tenant) {
        self.shards.iter_mut().for_each(|shard| shard.set_tenant(id, tenant.clone()));
    }

    /// A session on the first shard, which has to open.
    pub fn open(&mut self, spec: SessionSpec) -> PeerId {
        self.open_on(0, spec).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A session on the shard with this index.
    pub fn open_on(&mut self, shard: usize, spec: SessionSpec) -> Result<PeerId, OpenError> {
        let opened = self.shards[shard].open_session(self.now, spec).map(|session| {
            self.peers.push(Peer { session, delivered: Vec::new(), sent: Vec::new(), arrived: 0, shard, link: None });
            PeerId(self.peers.len() - 1)
        });
        self.drain();
        opened
    }

    /// A link for each direction between two peers.
    pub fn connect(&mut self, left: PeerId, right: PeerId, profile: &Profile) {
        for (from, to) in [(left, right), (right, left)] {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.peers[from.0].link = Some((Link::new(profile.clone(), self.seed), to));
        }
    }

    /// The link from a connected peer.
    pub fn link(&mut self, from: PeerId) -> &mut Link<Bytes> {
        match &mut self.peers[from.0].link {
            Some((link, _)) => link,
            None => panic!("{from:?} is not connected"),
        }
    }

    /// A peer, and what came out of it.
    pub fn peer(&self, peer: PeerId) -> &Peer {
        &self.peers[peer.0]
    }

    /// Forgets what came out of a peer so far.
    pub fn forget(&mut self, peer: PeerId) {
        self.peers[peer.0].delivered.clear();
        self.peers[peer.0].sent.clear();
    }

    /// Calls into a peer's shard, and takes what comes of it.
    pub fn with<T>(&mut self, peer: PeerId, call: impl FnOnce(&mut Shard, Instant, SessionId) -> T) -> T {
        let Peer { shard, session, .. } = self.peers[peer.0];
        let result = call(&mut self.shards[shard], self.now, session);
        self.drain();
        result
    }

    /// Asks a member of a peer's chain.
    pub fn control(&mut self, peer: PeerId, member: usize, request: &str) -> String {
        self.with(peer, |shard, now, session| shard.control(now, session, member, request))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Binds a stream that `peer` sends.
    pub fn bind_local(&mut self, peer: PeerId, info: StreamInfo) -> StreamId {
        self.with(peer, |shard, now, session| shard.bind_local_stream(now, session, info))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Binds a stream that `peer` receives.
    pub fn bind_remote(&mut self, peer: PeerId, info: StreamInfo) -> StreamId {
        self.with(peer, |shard, now, session| shard.bind_remote_stream(now, session, info))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets a burst arrive at a peer, as one receive call brings it.
    pub fn receive(&mut self, peer: PeerId, burst: impl IntoIterator<Item = Bytes>) {
        let session = self.peers[peer.0].session;
        let datagrams: Vec<_> = burst.into_iter().map(|bytes| datagram(session, bytes)).collect();
        self.with(peer, |shard, now, _| shard.read(now, datagrams));
    }

    /// Lets a peer's application send RTP packets, in one burst.
    pub fn send(&mut self, peer: PeerId, burst: impl IntoIterator<Item = Bytes>) {
        let packets: Vec<_> = burst.into_iter().map(rtp).collect();
        self.with(peer, |shard, now, session| shard.write(now, packets.into_iter().map(|packet| (session, packet))));
    }

    /// Lets a peer's application send an RTCP compound.
    pub fn send_rtcp(&mut self, peer: PeerId, compound: Bytes) {
        let packet = Packet::Rtcp(RtcpPacket::parse(compound).expect("a compound"));
        self.with(peer, |shard, now, session| shard.write(now, [(session, packet)]));
    }

    /// Binds a stream at both its ends. It is silent until it is played.
    pub fn flow(&mut self, from: PeerId, to: PeerId, source: Source, info: StreamInfo) -> FlowId {
        let local = self.bind_local(from, info.clone());
        let remote = self.bind_remote(to, info);
        self.flows.push(Flow { source, from, to, local, remote, begun: self.now, until: 0 });
        FlowId(self.flows.len() - 1)
    }

    /// Lets a flow send its next `packets` packets from now on, at its own pace.
    pub fn play(&mut self, flow: FlowId, packets: u64) {
        let now = self.now;
        let flow = &mut self.flows[flow.0];
        // What was sent so far took its time before now.
        let spent = flow.source.due(flow.source.made);
        flow.begun = Instant::from_nanos(now.as_nanos() - spent.as_nanos() as u64);
        flow.until = flow.source.made + packets;
    }

    /// The stream ids of a flow: at its sender, at its receiver.
    pub fn streams(&self, flow: FlowId) -> (StreamId, StreamId) {
        (self.flows[flow.0].local, self.flows[flow.0].remote)
    }

    /// What became of the packets that a flow has sent so far, at the receiver's application.
    pub fn verdict(&self, flow: FlowId) -> Verdict {
        self.judge(flow).verdict(self.flows[flow.0].source.made)
    }

    /// What arrived of a flow at the receiver's application.
    pub fn judge(&self, flow: FlowId) -> Judge {
        let flow = &self.flows[flow.0];
        let packets: Vec<Bytes> =
            self.peer(flow.to).delivered.iter().map(|delivered| delivered.packet.to_bytes()).collect();
        Judge::all(&flow.source, &packets)
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Steps from event to event until `end`, and ends there.
    pub fn run_until(&mut self, end: Instant) {
        let mut rounds = 0;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            rounds = if next > self.now { 0 } else { rounds + 1 };
            assert!(rounds < STUCK, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let timeouts = self.shards.iter().filter_map(Shard::poll_timeout);
        let arrivals = self.peers.iter().filter_map(|peer| peer.link.as_ref()?.0.poll_arrival());
        let flows = self.flows.iter().filter_map(Flow::due);
        timeouts.chain(arrivals).chain(flows).min()
    }

    /// Does what is due now: arrivals, what applications send, and timeouts, in this order.
    fn step(&mut self) {
        let now = self.now;
        // A receive call brings what has arrived for all sessions of a shard.
        let mut bursts: BTreeMap<usize, Vec<Datagram>> = BTreeMap::new();
        for from in 0..self.peers.len() {
            let Some((link, to)) = &mut self.peers[from].link else { continue };
            let to = *to;
            let arrived: Vec<Bytes> = std::iter::from_fn(|| link.receive(now)).collect();
            let Peer { shard, session, .. } = self.peers[to.0];
            self.peers[to.0].arrived += arrived.len() as u64;
            bursts.entry(shard).or_default().extend(arrived.into_iter().map(|bytes| datagram(session, bytes)));
        }
        for (shard, burst) in bursts.into_iter().filter(|(_, burst)| !burst.is_empty()) {
            self.shards[shard].read(now, burst);
        }
        for flow in &mut self.flows {
            let mut frame = Vec::new();
            while flow.due().is_some_and(|due| due <= now) {
                frame.push(rtp(flow.source.packet()));
            }
            if !frame.is_empty() {
                let Peer { shard, session, .. } = self.peers[flow.from.0];
                self.shards[shard].write(now, frame.into_iter().map(|packet| (session, packet)));
            }
        }
        for shard in &mut self.shards {
            if shard.poll_timeout().is_some_and(|due| due <= now) {
                shard.handle_timeout(now);
            }
        }
        self.drain();
    }

    /// Takes what the shards have for the wire and the applications.
    fn drain(&mut self) {
        let at = self.now;
        for shard in 0..self.shards.len() {
            let mut outputs = Vec::new();
            self.shards[shard].take_outputs(&mut outputs);
            for output in outputs {
                let of = self.peers.iter_mut().find(|peer| peer.shard == shard && peer.session == output.session);
                let peer = of.expect("output of a session that was opened");
                match output {
                    Output { to: End::Wire, packet, .. } => {
                        let bytes = packet.to_bytes();
                        peer.sent.push(Sent { at, kind: packet.kind(), bytes: bytes.clone() });
                        if let Some((link, _)) = &mut peer.link {
                            link.send(at, bytes);
                        }
                    }
                    Output { to: End::Application, stream, packet, .. } => {
                        peer.delivered.push(Delivered { at, stream, packet })
                    }
                }
            }
            while let Some(event) = self.shards[shard].poll_event() {
                self.events.push((at, event));
            }
        }
    }
}

fn datagram(session: SessionId, bytes: Bytes) -> Datagram {
    Datagram { session, kind: Kind::of(&bytes), bytes }
}

fn rtp(bytes: Bytes) -> Packet {
    Packet::Rtp(RtpPacket::parse(bytes).expect("an RTP packet"))
}
