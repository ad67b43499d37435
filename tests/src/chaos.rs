//! Any sequence of operations, with plugins that fail in any way in between: under the policies that let packets go on,
//! every packet of every session goes on, once and in order, and after each operation each is accounted for.

use std::time::Duration;

use bytes::Bytes;
use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};
use sandbar_host::{
    Chain, ChainError, Datagram, FaultPolicy, Isolation, Kind, MemberSpec, Plugin, Quotas, SessionSpec, Tenant,
    TenantId,
};
use serde_json::{Value, json};

use crate::engine::load;
use crate::guests;
use crate::media::{Judge, Source, Verdict, control};
use crate::peers::{PeerId, World};

/// A session, and all streams that it ever had: what is unbound passes untouched.
struct Party {
    peer: PeerId,
    read: Source,
    written: Source,
    open: bool,
    members: usize,
}

/// The tenant that has little; the one after it has no quotas.
const BOUNDED: TenantId = TenantId(1);

/// Sessions, and the choices of what is done to them.
pub struct Chaos<R> {
    rng: R,
    world: World,
    plugins: Plugins,
    parties: Vec<Party>,
    next_ssrc: u32,
    /// Sessions at once, at most.
    most: usize,
    /// One of the two tenants, which has little of everything.
    bounded: Tenant,
}

/// Sessions at once, where nothing else is said.
const OPEN: usize = 8;

/// What is little for [`OPEN`] sessions, half of which are the tenant's. Of what decides when packets that are held go on there
/// is enough: who may not hold one lets it pass those that it holds.
fn little(sessions: usize) -> Quotas {
    let each = sessions.div_ceil(OPEN) as u64;
    Quotas {
        sessions: Some(3 * each),
        instances: Some(6 * each),
        emitted_packets: Some(10 * each),
        messages: Some(5 * each),
        metrics: Some(4 * each),
        attribute_bytes: Some(20 * each),
        ..Quotas::default()
    }
}

/// What sessions' chains are made of: plugins, and each one's configurations.
#[derive(Clone)]
pub struct Plugins(Vec<(Plugin, Vec<Value>)>);

impl Plugins {
    /// Guests that behave and that fail, in every way that lets packets go on.
    pub fn load() -> Self {
        let lies =
            ["none", "twice", "twice-apart", "unknown", "truncated-head", "truncated-body", "not-rtp", "short-header"];
        let places = [
            "create",
            "restore",
            "save",
            "bind-rtcp",
            "bind",
            "unbind",
            "read-rtp",
            "write-rtp",
            "read-rtcp",
            "write-rtcp",
            "timeout",
            "control",
            "close",
        ];
        let counters = vec![
            json!({}),
            json!({ "access": "observe" }),
            json!({ "access": "pass" }),
            json!({ "view": "packets" }),
            json!({ "access": "observe", "view": "packets", "publish_ms": 7 }),
            json!({ "attribute": "n", "publish_ms": 20 }),
            json!({ "trap_after": 5 }),
            json!({ "trap_after": 3, "access": "observe" }),
            json!({ "refuse": "create" }),
            json!({ "refuse": "bind" }),
            json!({ "refuse": "restore" }),
        ];
        let hold =
            json!({ "read": "transform-headers", "on_read": "hold", "write": "transform-headers", "on_write": "hold" });
        let holders = [(20, None), (5, Some("timeout")), (20, Some("close")), (20, Some("unbind")), (20, Some("save"))]
            .map(|(hold_ms, fault)| {
                let mut config = hold.clone();
                config["hold_ms"] = json!(hold_ms);
                fault.into_iter().for_each(|fault| config["fault"] = json!(fault));
                config
            });
        let trap = |observe: bool| places.map(|at| json!({ "at": at, "after": 3, "observe": observe }));
        Self(vec![
            (load(guests::TYPED_COUNTER), counters.clone()),
            (load(guests::BATCHED_COUNTER), counters),
            (load(guests::TRAP), trap(true).into_iter().chain(trap(false)).collect()),
            (load(guests::LYING_BATCH), lies.map(|lie| json!({ "lie": lie, "after": 5 })).to_vec()),
            (
                load(guests::LYING_BATCH),
                vec![json!({ "access": "observe" }), json!({ "access": "observe", "lie": "observed" })],
            ),
            (load(guests::TRAP_ON_SSRC), (1..9).map(|n| json!({ "ssrc": 10 * n, "observe": n % 2 == 0 })).collect()),
            (load(guests::TIMER_STORM), vec![json!({})]),
            (load(guests::LOG_STORM), vec![json!({ "count": 5 })]),
            (load(guests::MEMORY_BOMB), vec![json!({ "per_packet": 9 << 20 })]),
            (load(guests::PROBE), holders.to_vec()),
            (standard("jitter-buffer"), vec![json!({}), json!({ "delay_ms": 10, "packets": 16 })]),
            (standard("twcc-header-extension"), vec![json!({})]),
            (standard("pacer"), vec![json!({ "bitrate": 200_000 }), json!({ "bitrate": 50_000, "queue_packets": 16 })]),
            (load(guests::PUPPET), vec![json!({ "history": 32, "unbound": true, "rtcp": "transform", "state": "s" })]),
        ])
    }
}

impl Plugins {
    /// The same without one: a jitter buffer behind a holder that fails has a right to drop what comes late by that.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(plugin, _)| plugin.name() != name);
        self
    }
}

fn standard(name: &str) -> Plugin {
    let embedded = sandbar_plugins::by_name(name).unwrap_or_else(|| panic!("no standard plugin is called {name}"));
    load(embedded.component)
}

impl<R: Rng> Chaos<R> {
    /// Nothing yet. The choices come from `rng`.
    pub fn new(plugins: Plugins, rng: R) -> Self {
        Self::with_sessions(plugins, rng, OPEN)
    }

    /// The same, with up to so many sessions at once.
    pub fn with_sessions(plugins: Plugins, rng: R, most: usize) -> Self {
        let (mut world, bounded) = (World::new(1), Tenant::new("bounded", little(most)));
        world.set_tenant(BOUNDED, &bounded);
        Self { rng, world, plugins, parties: Vec::new(), next_ssrc: 1, most, bounded }
    }

    fn spec(&mut self) -> MemberSpec {
        let (plugin, configs) = self.plugins.0.choose(&mut self.rng).expect("plugins");
        let config = configs.choose(&mut self.rng).expect("configurations").to_string();
        let policy = [FaultPolicy::Bypass, FaultPolicy::Restart][self.rng.random_range(0..2)];
        let isolation = [None, Some(Isolation::Session), Some(Isolation::Tenant)][self.rng.random_range(0..3)];
        // The liar keeps one configuration for its instance, not one for each session.
        let isolation = if plugin.name().ends_with("lying-batch") { Some(Isolation::Session) } else { isolation };
        // A quarantined version would end the trouble early.
        plugin.lift_quarantine();
        MemberSpec { isolation, ..MemberSpec::new(plugin.clone()).with_config(config).on_fault(policy) }
    }

    fn open_party(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.parties.len()).filter(|n| self.parties[*n].open).collect();
        open.choose(&mut self.rng).copied()
    }

    fn source(&mut self) -> Source {
        self.next_ssrc += 1;
        Source { payload: 40, ..Source::video(self.next_ssrc) }
    }

    fn open(&mut self) {
        let members: Vec<_> = (0..self.rng.random_range(0..4)).map(|_| self.spec()).collect();
        let (count, tenant) = (members.len(), TenantId(self.rng.random_range(BOUNDED.0..=BOUNDED.0 + 1)));
        if let Ok(peer) =
            self.world.open_on(0, SessionSpec { tenant, chain: Chain::new(members), ..SessionSpec::default() })
        {
            let (read, written) = (self.source(), self.source());
            self.parties.push(Party { peer, read, written, open: true, members: count });
            self.bind(self.parties.len() - 1);
        }
    }

    /// Binds both streams where they are not; a plugin may refuse them, and then they stay unbound.
    fn bind(&mut self, n: usize) {
        let Party { peer, read, written, .. } = &self.parties[n];
        let (read, written) = (read.info(), written.info());
        self.world.with(*peer, |shard, now, session| {
            let _ = shard.bind_remote_stream(now, session, read);
            let _ = shard.bind_local_stream(now, session, written);
        });
    }

    fn unbind(&mut self, n: usize) {
        let peer = self.parties[n].peer;
        let last = self.world.peer(peer).delivered.iter().rev().find_map(|delivered| delivered.stream);
        if let Some(stream) = last {
            self.world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
        }
    }

    fn read(&mut self) {
        let mut burst = Vec::new();
        for _ in 0..self.rng.random_range(1..12) {
            let Some(n) = self.open_party() else { return };
            let party = &mut self.parties[n];
            let session = self.world.peer(party.peer).session;
            let rtcp = self.rng.random_bool(0.1);
            let bytes: Bytes = if rtcp { control::picture_loss(1, party.written.ssrc) } else { party.read.packet() };
            burst.push(Datagram { session, kind: Kind::of(&bytes), bytes });
        }
        let peer = self.parties[0].peer;
        self.world.with(peer, |shard, now, _| shard.read(now, burst));
    }

    fn write(&mut self, n: usize) {
        let count = self.rng.random_range(1..5);
        let party = &mut self.parties[n];
        let packets = party.written.packets(count);
        self.world.send(party.peer, packets);
        if self.rng.random_bool(0.2) {
            self.world.send_rtcp(self.parties[n].peer, control::receiver_report(1));
        }
    }

    fn change(&mut self, n: usize) {
        let spec = self.spec();
        let Party { peer, members, .. } = self.parties[n];
        let index = self.rng.random_range(0..=members);
        let what = self.rng.random_range(0..3);
        let result = self.world.with(peer, |shard, now, session| match what {
            0 => shard.insert_member(now, session, index, spec).map(|()| members + 1),
            1 => shard.replace_member(now, session, index, spec).map(|()| members),
            _ => shard.remove_member(now, session, index).map(|()| members - 1),
        });
        match result {
            Ok(members) => self.parties[n].members = members,
            Err(ChainError::NoSession) => panic!("an open session is not there"),
            Err(ChainError::NoMember { index: no, members: said }) => assert!(no >= said.min(members)),
            Err(_) => {}
        }
        let report = self.world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session");
        assert_eq!(report.members.len(), self.parties[n].members, "a chain has the members that were accepted");
    }

    fn step(&mut self) {
        let open = self.parties.iter().filter(|party| party.open).count();
        if open == 0 || (open < self.most && self.rng.random_bool(if self.most > OPEN { 0.3 } else { 0.05 })) {
            return self.open();
        }
        let Some(n) = self.open_party() else { return };
        match self.rng.random_range(0..100) {
            0..45 => self.read(),
            45..65 => self.write(n),
            65..78 => self.world.run_for(Duration::from_micros(self.rng.random_range(0..30_000))),
            78..90 => self.change(n),
            90..93 => self.unbind(n),
            93..95 => self.bind(n),
            95..98 => {
                let peer = self.parties[n].peer;
                let _ = self.world.with(peer, |shard, now, session| shard.control(now, session, 0, "[]"));
            }
            _ => {
                self.parties[n].open = false;
                self.world.with(self.parties[n].peer, |shard, now, session| shard.close_session(now, session));
            }
        }
    }

    /// What was sent in a session is out, or was dropped, or is held by a plugin of its chain.
    fn account(&mut self, n: usize) {
        let Party { peer, read, written, .. } = &self.parties[n];
        let (peer, made) = (*peer, read.made + written.made);
        let report = self.world.with(peer, |shard, _, session| shard.session_report(session));
        let members = report.map(|report| report.members).unwrap_or_default();
        let (held, dropped): (usize, u64) =
            members.iter().fold((0, 0), |(held, dropped), member| (held + member.held, dropped + member.dropped));
        let out = self.world.peer(peer).rtp().count() + self.world.peer(peer).sent(Kind::Rtp).count();
        assert_eq!(made, (out + held) as u64 + dropped, "session {n}: {out} out, {held} held, {dropped} dropped");
    }

    /// Runs so many steps, and holds each session to what it was sent. Gives what each application and each wire had.
    ///
    /// # Panics
    /// If a packet is lost, doubled or out of place, or a session leaves something behind.
    pub fn run(mut self, steps: usize) -> Vec<(Vec<Bytes>, Vec<Bytes>)> {
        for _ in 0..steps {
            self.step();
            // Each after each step; of very many, some.
            let looked_at = self.rng.random_range(0..self.parties.len().div_ceil(4 * OPEN).max(1));
            for n in (looked_at..self.parties.len()).step_by(self.parties.len().div_ceil(4 * OPEN).max(1)) {
                if self.parties[n].open {
                    self.account(n);
                }
            }
        }
        // As long as the slowest pacer takes for what it may hold.
        self.world.run_for(Duration::from_secs(3));
        let mut all = Vec::new();
        for (n, party) in self.parties.iter().enumerate() {
            let wire: Vec<_> = self.world.peer(party.peer).sent(Kind::Rtp).cloned().collect();
            let delivered = &self.world.peer(party.peer).delivered;
            let read: Vec<_> = delivered.iter().map(|delivered| delivered.packet.to_bytes()).collect();
            for (source, packets) in [(&party.read, &read), (&party.written, &wire)] {
                let verdict = Judge::all(source, packets).verdict(source.made);
                assert_eq!(verdict, Verdict::perfect(source.made), "session {n}, {:x}", source.ssrc);
            }
            all.push((read, wire));
        }
        for n in 0..self.parties.len() {
            let peer = self.parties[n].peer;
            let report = self.world.with(peer, |shard, _, session| shard.session_report(session));
            for member in report.into_iter().flat_map(|report| report.members) {
                let went = member.packets_in - member.dropped - member.held as u64 + member.emitted;
                assert_eq!(member.packets_out, went, "{member:?}");
                assert_eq!((member.dropped, member.held), (0, 0), "{member:?}");
            }
        }
        let Some(Party { peer, .. }) = self.parties.first() else { return all };
        let peer = *peer;
        for n in 0..self.parties.len() {
            let Party { peer, open, .. } = self.parties[n];
            if open {
                self.world.with(peer, |shard, now, session| shard.close_session(now, session));
            }
        }
        let left = self.world.with(peer, |shard, _, _| (shard.sessions().count(), shard.instances()));
        assert_eq!(left, (0, 0), "nothing is left of sessions that are closed");
        let usage = self.bounded.usage();
        let held =
            [usage.sessions, usage.instances, usage.memory_bytes, usage.held_packets, usage.timers, usage.metrics];
        assert_eq!((held, usage.attribute_bytes), ([0; 6], 0), "nothing is left of what a tenant has had");
        all
    }
}
