//! The stage: an attacker's session and a neighbour's on one shard, under traffic, and what is asked of both.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{
    Chain, ChainError, Datagram, Event, FaultKind, Grants, Instant, Kind, Limits, LoadError, MemberReport, MemberSpec,
    Packet, Plugin, RtcpPacket, RtpPacket, SessionId, SessionSpec, Shard, SinkId, StreamId, TenantId,
};
use sandbar_tests::engine::{DEADLINE, engine, spent};
use sandbar_tests::media::{Judge, Source, Verdict, control};
use sandbar_tests::peers::{PeerId, World};

use crate::compose::component;

/// What becomes of an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is not loaded, and the operator is told so in these words.
    NotLoaded(&'static str),
    /// No session is opened with it.
    NotOpened(&'static str),
    /// No stream is bound with it.
    NotBound(&'static str),
    /// It does not take its predecessor's place.
    NotSwapped(&'static str),
    /// Its instance ends, again and again, and its packets go on without it.
    Fault(FaultKind),
    /// It gets nowhere: all its packets go on, in order.
    Harmless,
    /// The same, and this number of its report says how often it tried.
    Counted(&'static str),
    /// It hands its packets on in another order.
    Reordered,
    /// It does with its packets what a plugin may: they are accounted for.
    Accounted,
    /// Twice in a chain, it answers itself without end: the host ends that.
    Storm,
}

/// What calls into a shard took, in processor time, where no attacker was stopped in them and where one was.
#[derive(Debug, Default)]
struct Times {
    quiet: Vec<Duration>,
    stopping: Vec<Duration>,
}

/// One session and its traffic.
struct Party {
    peer: PeerId,
    read: Source,
    written: Source,
    /// RTCP from the peer and to it.
    compounds: u64,
    streams: Vec<StreamId>,
}

/// A world with a neighbour in it, and then an attacker.
pub(crate) struct Stage {
    world: World,
    name: String,
    neighbour: Party,
    times: Times,
}

/// An attacker may use little, so that it is soon at its bounds.
const MEMORY: usize = 32 << 20;
/// Deadlines that the calls together may take in which an attacker is stopped: one, and as much again for a machine that is busy,
/// instances that go and those that come.
const STOPPING: u32 = 2;

/// Loads an attacker, with everything granted but WASI.
pub(crate) fn load(name: &str) -> Result<Plugin, LoadError> {
    Plugin::load(engine(), &component(name), &Grants { wasi: false, ..Grants::ALL })
}

/// The attacker as a member, by the default policy.
fn member(plugin: &Plugin) -> MemberSpec {
    // What became of other sessions of this version is not what is asked here.
    plugin.lift_quarantine();
    let limits = Limits { memory: MEMORY, ..Limits::default() };
    MemberSpec { limits, sink: Some(SinkId(1)), ..MemberSpec::new(plugin.clone()) }
}

/// Sets the stage for the attacker `name`, plays, and asks.
pub(crate) fn play(name: &str, expected: Expected) {
    let plugin = match (load(name), expected) {
        (Ok(plugin), _) => plugin,
        (Err(error), Expected::NotLoaded(words)) => return says(&error.to_string(), words),
        (Err(error), _) => panic!("{name} is not loaded: {error}"),
    };
    assert!(!matches!(expected, Expected::NotLoaded(_)), "{name} is loaded");
    let mut stage = Stage::new(name);
    stage.rounds(5, None);
    let members = if expected == Expected::Storm { 2 } else { 1 };
    match stage.open(&plugin, members) {
        Ok(mut attacker) => {
            stage.attack(&mut attacker, &plugin, expected);
            stage.close(&attacker);
            stage.ask_attacker(&attacker, expected);
        }
        Err(error) => match expected {
            Expected::NotOpened(words) => {
                says(&error.to_string(), words);
                says(&error.to_string(), name);
                assert_eq!(stage.faults().count(), 0, "{name}: a fault of no session");
            }
            _ => panic!("{name} is not opened: {error}"),
        },
    }
    stage.rounds(5, None);
    stage.ask_neighbour();
    stage.ask_times();
}

fn says(told: &str, words: &str) {
    assert!(told.contains(words), "{words:?} is missing from: {told}");
}

impl Party {
    fn new(peer: PeerId, ssrc: u32) -> Self {
        let source = |ssrc| Source { payload: 200, ..Source::video(ssrc) };
        Self { peer, read: source(ssrc), written: source(ssrc + 1), compounds: 0, streams: Vec::new() }
    }

    fn bind(&mut self, world: &mut World) -> Result<(), ChainError> {
        let (read, written) = (self.read.info(), self.written.info());
        let bound = world.with(self.peer, |shard, now, session| {
            let remote = shard.bind_remote_stream(now, session, read)?;
            Ok::<_, ChainError>([remote, shard.bind_local_stream(now, session, written)?])
        })?;
        self.streams.extend(bound);
        Ok(())
    }

    /// What comes from the peer in a round.
    fn arriving(&mut self, session: SessionId) -> Vec<Datagram> {
        let mut bytes = self.read.packets(2);
        bytes.push(control::receiver_report(self.read.ssrc));
        bytes.into_iter().map(|bytes| Datagram { session, kind: Kind::of(&bytes), bytes }).collect()
    }

    /// What goes to the peer in a round.
    fn leaving(&mut self, session: SessionId) -> Vec<(SessionId, Packet)> {
        let rtp = |bytes| Packet::Rtp(RtpPacket::parse(bytes).expect("an RTP packet"));
        let report = control::receiver_report(self.written.ssrc);
        let report = Packet::Rtcp(RtcpPacket::parse(report).expect("a compound"));
        self.compounds += 1;
        self.written.packets(2).into_iter().map(rtp).chain([report]).map(|packet| (session, packet)).collect()
    }

    /// What became of the packets that were made, by direction.
    fn verdicts(&self, world: &World) -> [Verdict; 2] {
        let peer = world.peer(self.peer);
        let heard: Vec<Bytes> = peer.rtp().map(|packet| Packet::Rtp(packet.clone()).to_bytes()).collect();
        let sent: Vec<Bytes> = peer.sent(Kind::Rtp).cloned().collect();
        [(&self.read, &heard), (&self.written, &sent)]
            .map(|(source, packets)| Judge::all(source, packets).verdict(source.made))
    }
}

impl Stage {
    /// A world in which a neighbour with three standard plugins is alone.
    pub(crate) fn new(name: &str) -> Self {
        let mut world = World::new(1);
        let chain = ["twcc-sender", "nack-generator", "report-receiver"].map(|name| {
            let embedded = sandbar_plugins::by_name(name).expect("a standard plugin");
            MemberSpec::new(sandbar_tests::engine::load(embedded.component))
        });
        let spec = SessionSpec {
            name: "neighbour".into(),
            tenant: TenantId(1),
            chain: Chain::new(chain),
            ..SessionSpec::default()
        };
        let mut neighbour = Party::new(world.open(spec), 100);
        neighbour.bind(&mut world).expect("the neighbour's streams");
        Self { world, name: name.to_owned(), neighbour, times: Times::default() }
    }

    /// A session of another tenant with the attacker `members` times in its chain.
    fn open(&mut self, plugin: &Plugin, members: usize) -> Result<Party, ChainError> {
        let chain = Chain::new((0..members).map(|_| member(plugin)));
        let spec = SessionSpec { name: "attacker".into(), tenant: TenantId(2), chain, ..SessionSpec::default() };
        let name = self.name.clone();
        let before = self.instances();
        let opened = self.world.open_on(0, spec).map(|peer| Party::new(peer, 200));
        if opened.is_err() {
            assert_eq!(self.instances(), before, "{name}: an instance is left of a session that was not opened");
        }
        opened
    }

    /// A whole life of an attacker's session.
    fn attack(&mut self, attacker: &mut Party, plugin: &Plugin, expected: Expected) {
        let name = self.name.clone();
        assert!(!matches!(expected, Expected::NotOpened(_)), "{name} is opened");
        match (self.managed(|stage| attacker.bind(&mut stage.world)), expected) {
            (Err(error), Expected::NotBound(words)) => {
                says(&error.to_string(), words);
                says(&error.to_string(), &name);
            }
            (bound, _) => {
                assert!(!matches!(expected, Expected::NotBound(_)), "{name} is bound");
                bound.unwrap_or_else(|error| panic!("{name} is not bound: {error}"));
            }
        }
        // A storm brings as much in a round as others in all of them.
        let long = if expected == Expected::Storm { 5 } else { 25 };
        self.rounds(long, Some(attacker));
        let _ = self.managed(|stage| {
            stage.world.with(attacker.peer, |shard, now, session| shard.control(now, session, 0, "{}"))
        });
        self.rounds(10, Some(attacker));
        let spec = member(plugin);
        let swapped = self.managed(|stage| {
            stage.world.with(attacker.peer, |shard, now, session| shard.replace_member(now, session, 0, spec))
        });
        match (swapped, expected) {
            (Err(error), Expected::NotSwapped(words)) => {
                says(&error.to_string(), words);
                says(&error.to_string(), &name);
            }
            (Err(_), Expected::Fault(_)) => {}
            (swapped, _) => {
                assert!(!matches!(expected, Expected::NotSwapped(_)), "{name} takes its predecessor's place");
                swapped.unwrap_or_else(|error| panic!("{name} does not take its own place: {error}"));
            }
        }
        self.rounds(long, Some(attacker));
        self.account(attacker, expected);
        if let [remote, local] = attacker.streams[..] {
            self.managed(|stage| {
                stage.world.with(attacker.peer, |shard, now, _| {
                    shard.unbind_stream(now, remote);
                    shard.unbind_stream(now, local);
                });
            });
        }
        self.rounds(1, Some(attacker));
    }

    /// A session of an attacker that lives for so many rounds, and nothing kept of what came out.
    pub(crate) fn live(&mut self, plugin: &Plugin, rounds: usize) {
        let mut attacker = self.open(plugin, 1).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        attacker.bind(&mut self.world).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        for _ in 0..rounds {
            self.rounds(1, Some(&mut attacker));
            self.forget(&attacker);
        }
        self.close(&attacker);
        self.forget(&attacker);
    }

    fn forget(&mut self, attacker: &Party) {
        for peer in [attacker.peer, self.neighbour.peer] {
            self.world.forget(peer);
        }
        self.world.events.clear();
        self.times = Times::default();
    }

    /// Closes the attacker's session: nothing is left of it.
    fn close(&mut self, attacker: &Party) {
        self.managed(|stage| stage.world.with(attacker.peer, |shard, now, id| shard.close_session(now, id)));
        let left = self.world.with(attacker.peer, |shard, _, id| shard.session_report(id).is_some());
        assert!(!left, "{}: the session is left", self.name);
        assert_eq!(self.instances(), 3, "{}: an instance is left", self.name);
    }

    /// Ten milliseconds each, in which packets arrive and leave in bursts that all sessions share.
    fn rounds(&mut self, count: usize, mut attacker: Option<&mut Party>) {
        for _ in 0..count {
            let (mut arriving, mut leaving) = (Vec::new(), Vec::new());
            // The attacker's first: its neighbour's are behind it.
            for party in attacker.iter_mut().map(|party| &mut **party).chain([&mut self.neighbour]) {
                let session = self.world.peer(party.peer).session;
                arriving.extend(party.arriving(session));
                leaving.extend(party.leaving(session));
            }
            self.timed(|shard, now| shard.read(now, arriving));
            self.timed(|shard, now| shard.write(now, leaving));
            let faults = self.faults().count();
            let begun = spent();
            self.world.run_for(Duration::from_millis(10));
            self.note(spent() - begun, faults);
        }
    }

    /// A call into the shard, with its time.
    fn timed(&mut self, call: impl FnOnce(&mut Shard, Instant)) {
        let faults = self.faults().count();
        let took = self.world.with(self.neighbour.peer, |shard, now, _| {
            let begun = spent();
            call(shard, now);
            while shard.poll_sink().is_some() {}
            spent() - begun
        });
        self.note(took, faults);
    }

    /// A call for the attacker alone, in which it may be stopped as often as it is called.
    fn managed<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> T {
        let begun = spent();
        let result = call(self);
        self.times.stopping.push(spent() - begun);
        result
    }

    fn note(&mut self, took: Duration, faults: usize) {
        let stopped = self.faults().count() > faults;
        if stopped { self.times.stopping.push(took) } else { self.times.quiet.push(took) }
    }

    fn instances(&mut self) -> usize {
        self.world.with(self.neighbour.peer, |shard, _, _| shard.instances())
    }

    fn faults(&self) -> impl Iterator<Item = (FaultKind, &str, SessionId)> {
        self.world.events.iter().filter_map(|(_, event)| match event {
            Event::Fault { from, kind, .. } => Some((*kind, from.plugin.as_str(), from.session)),
            _ => None,
        })
    }

    /// The counters of a member add up, to each other and to what has come out.
    fn account(&mut self, attacker: &Party, expected: Expected) {
        let report = self.world.with(attacker.peer, |shard, _, session| shard.session_report(session));
        let report = report.expect("an open session");
        let written = serde_json::to_value(&report).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if let Expected::Counted(what) = expected {
            let counted = written["members"][0][what].as_u64();
            assert!(counted > Some(0), "{}: {what} is {counted:?}", self.name);
        }
        for member in &report.members {
            let MemberReport { packets_in, packets_out, dropped, held, emitted, .. } = *member;
            assert_eq!(packets_in + emitted, packets_out + dropped + held as u64, "{}: {member:?}", self.name);
        }
        let [member] = &report.members[..] else { return };
        let peer = self.world.peer(attacker.peer);
        let out = (peer.rtp().count() + peer.sent(Kind::Rtp).count()) as u64;
        let made = attacker.read.made + attacker.written.made;
        if member.emitted == 0 {
            let rtcp = peer.rtcp().count() + peer.sent(Kind::Rtcp).count();
            let all = out + rtcp as u64 + member.dropped + member.held as u64;
            assert_eq!(made + 2 * attacker.compounds, all, "{}: {member:?}", self.name);
        }
    }

    /// What the attacker did to itself.
    fn ask_attacker(&self, attacker: &Party, expected: Expected) {
        let name = &self.name;
        let mut kinds: Vec<_> = self.faults().map(|(kind, ..)| kind).collect();
        kinds.dedup();
        match expected {
            Expected::Fault(kind) => assert_eq!(kinds, [kind], "{name}"),
            _ => assert_eq!(kinds, [], "{name}: {:?}", self.world.events),
        }
        let storms = self.world.events.iter().any(|(_, event)| matches!(event, Event::Storm { .. }));
        assert_eq!(storms, expected == Expected::Storm, "{name}: a storm");
        if matches!(expected, Expected::Accounted | Expected::Storm) {
            return;
        }
        for (verdict, source) in attacker.verdicts(&self.world).iter().zip([&attacker.read, &attacker.written]) {
            match expected {
                Expected::Reordered => assert!(verdict.complete() && verdict.reordered > 0, "{name}: {verdict:?}"),
                _ => assert_eq!(*verdict, Verdict::perfect(source.made), "{name}"),
            }
        }
    }

    /// The neighbour has noticed nothing.
    fn ask_neighbour(&mut self) {
        let name = self.name.clone();
        let Party { peer, read, written, compounds, .. } = &self.neighbour;
        let (peer, made) = (*peer, [read.made, written.made]);
        assert_eq!(self.neighbour.verdicts(&self.world), made.map(Verdict::perfect), "{name}: the neighbour's packets");
        assert_eq!(self.world.peer(peer).rtcp().count() as u64, *compounds, "{name}: the neighbour's RTCP");
        let session = self.world.peer(peer).session;
        for (kind, plugin, of) in self.faults() {
            assert!(of != session && plugin == name, "{name}: {plugin} is blamed for a {kind}");
        }
        let report = self.world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session");
        for member in &report.members {
            assert_eq!((member.faults.total(), member.dropped, member.held), (0, 0, 0), "{name}: {member:?}");
            assert!(matches!(member.state, sandbar_host::MemberState::Running { .. }), "{name}: {member:?}");
        }
    }

    /// The neighbour has not waited, in processor time: how busy the machine is does not count.
    fn ask_times(&mut self) {
        let Times { quiet, stopping } = &mut self.times;
        quiet.sort();
        let p99 = quiet[quiet.len() * 99 / 100 - 1];
        assert!(p99 <= DEADLINE, "{}: 1 call of 100 takes {p99:?} or more", self.name);
        let stopping = stopping.iter().sum::<Duration>();
        assert!(stopping <= DEADLINE * STOPPING, "{}: calls in which it is stopped take {stopping:?}", self.name);
    }
}
