//! Any sequence of operations on sessions that talk to each other over links that lose, delay, reorder and double datagrams, with
//! the standard plugins at work at both ends and plugins that fail among them. See [`chaos`](crate::chaos) for sessions
//! on their own: there nothing may be missing in the end; here all that is missing has to be accounted for.

use std::hash::Hasher as _;
use std::time::Duration;

use rand::{Rng, RngExt as _};
use sandbar_host::{
    Chain, ChainError, Event, Isolation, MemberSpec, Place, Quotas, RtcpFeedback, RtcpMode, SessionReport, SessionSpec,
    Shard, StreamId, StreamInfo, Tenant,
};

use crate::cast::{BOUNDED, OPEN, Plugins, any_open, assert_nothing_left, little, opens, tenant};
use crate::engine::load;
use crate::guests;
use crate::ledger::{Ledger, Way, weigh};
use crate::media::{Source, control};
use crate::net::{Loss, Profile};
use crate::peers::{PeerId, World};

/// Most members of a chain.
const LONG: usize = 12;

/// One end of a connection.
struct Party {
    peer: PeerId,
    /// What it sends to the other.
    way: Way,
    info: StreamInfo,
    /// Its own stream and the other's, where they are bound.
    bound: [Option<StreamId>; 2],
    /// Where the members of its chain stand, without the guard.
    places: Vec<Place>,
    open: bool,
    ledger: Ledger,
}

/// Connected sessions, and the choices of what is done to them.
pub struct Network<R> {
    rng: R,
    world: World,
    /// Plugins that behave, which talk to each other.
    talking: Plugins,
    /// Those that fail.
    guests: Plugins,
    /// Stands closest to the wire in every chain and watches the RTCP that is written.
    guard: MemberSpec,
    /// Those with the numbers 2 n and 2 n + 1 are connected.
    parties: Vec<Party>,
    /// Sessions at once, at most.
    most: usize,
    bounded: Tenant,
    faults: u64,
}

/// What has been done and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Sessions that were opened.
    pub sessions: usize,
    /// Packets that came out of them.
    pub packets: u64,
    /// Datagrams that the links lost.
    pub lost: u64,
    /// Packets that were restored and heard.
    pub repaired: u64,
    /// Faults of plugins.
    pub faults: u64,
    /// Of all that came out of each session, and when.
    pub digests: Vec<u64>,
}

impl<R: Rng> Network<R> {
    /// Nothing yet. The choices come from `rng`: what is done, and what the links do.
    pub fn new(talking: Plugins, guests: Plugins, mut rng: R, most: usize) -> Self {
        let mut world = World::with_shards(rng.random(), 2);
        // Long chains, in which nearly everything may have an instance of its own.
        let instances = little(most).instances.map(|instances| 4 * instances);
        let bounded = Tenant::new("bounded", Quotas { instances, ..little(most) });
        world.set_tenant(BOUNDED, &bounded);
        let guard = MemberSpec::new(load(guests::PROBE)).with_config(r#"{"rtcp_write": "observe"}"#);
        let guard = MemberSpec { isolation: Some(Isolation::Session), ..guard };
        Self { rng, world, talking, guests, guard, parties: Vec::new(), most, bounded, faults: 0 }
    }

    fn profile(&mut self) -> Profile {
        let rng = &mut self.rng;
        let (rate, length) = (rng.random_range(0.0..0.1), rng.random_range(2.0..8.0));
        let loss = [Loss::None, Loss::Random(rate), Loss::bursts(rate, length)][rng.random_range(0..3)].clone();
        let mut up_to = |ms: u64| Duration::from_millis(rng.random_range(0..=ms));
        let (delay, jitter, detour) = (up_to(60), up_to(20), up_to(30));
        let (reorder, duplicate) = (rng.random_range(0.0..0.05), rng.random_range(0.0..0.03));
        Profile { loss, delay, jitter, reorder: (reorder, detour), duplicate }
    }

    fn open_party(&mut self) -> Option<usize> {
        any_open(&mut self.rng, self.parties.iter().map(|party| party.open))
    }

    /// A session with some of those who talk, in an order that defeats none of them, and a few that fail anywhere among them.
    fn session(&mut self) -> SessionSpec {
        let mut members = self.talking.some(0.6, &mut self.rng);
        for _ in 0..self.rng.random_range(0..3) {
            let at = self.rng.random_range(0..=members.len());
            members.insert(at, self.guests.any(&mut self.rng));
        }
        members.truncate(LONG);
        members.insert(0, self.guard.clone());
        let rtcp = [RtcpMode::Compound, RtcpMode::ReducedSize][self.rng.random_range(0..2)];
        let (tenant, seed) = (tenant(&mut self.rng), self.rng.random());
        SessionSpec { tenant, seed, rtcp, chain: Chain::new(members), ..SessionSpec::default() }
    }

    fn open(&mut self) {
        let specs = [self.session(), self.session()];
        let places = specs.each_ref().map(|spec| spec.chain.members[1..].iter().map(place).collect::<Vec<_>>());
        let [left, right] = specs;
        let Ok(left) = self.world.open_on(0, left) else { return };
        let Ok(right) = self.world.open_on(1, right) else {
            return self.world.with(left, |shard, now, session| shard.close_session(now, session));
        };
        let (profile, protected) = (self.profile(), self.rng.random());
        self.world.connect(left, right, &profile);
        for (peer, places) in [left, right].into_iter().zip(places) {
            let ssrc = 1 + 3 * self.parties.len() as u32;
            let payload = [40, 400, 1150, 1182][self.rng.random_range(0..4)];
            let source = Source { payload, ..Source::video(ssrc) };
            let (info, way, ledger) = (info(&source, protected), Way::new(source), Ledger::default());
            self.parties.push(Party { peer, way, info, bound: [None; 2], places, open: true, ledger });
        }
        self.bind(self.parties.len() - 2);
        self.bind(self.parties.len() - 1);
    }

    /// Binds what a party sends at both ends, where it is not; a plugin may refuse it, and then it stays unbound.
    fn bind(&mut self, n: usize) {
        let info = self.parties[n].info.clone();
        for (n, stream) in [(n, 0), (n ^ 1, 1)] {
            let Party { peer, open, bound, .. } = &mut self.parties[n];
            if *open && bound[stream].is_none() {
                let info = info.clone();
                let bind = [Shard::bind_local_stream, Shard::bind_remote_stream][stream];
                bound[stream] = self.world.with(*peer, |shard, now, session| bind(shard, now, session, info).ok());
            }
        }
    }

    fn unbind(&mut self, n: usize) {
        let stream = self.rng.random_range(0..2);
        let Party { peer, bound, .. } = &mut self.parties[n];
        if let Some(stream) = bound[stream].take() {
            self.world.with(*peer, |shard, now, _| shard.unbind_stream(now, stream));
        }
    }

    /// Some applications send a frame each, and some of these ask for a picture.
    fn write(&mut self) {
        for _ in 0..self.rng.random_range(1..8) {
            let Some(n) = self.open_party() else { return };
            let (frame, ask) = (self.rng.random_range(1..8), self.rng.random_bool(0.1));
            let ssrc = self.parties[n ^ 1].way.source.ssrc;
            let Party { peer, way, ledger, .. } = &mut self.parties[n];
            ledger.written += frame + u64::from(ask);
            self.world.send(*peer, way.source.packets(frame));
            if ask {
                self.world.send_rtcp(*peer, control::picture_loss(1, ssrc));
            }
        }
    }

    fn change(&mut self, n: usize) {
        let members = self.parties[n].places.len();
        match self.rng.random_range(0..3) {
            0 if members < LONG => self.insert(n),
            1 if members > 0 => self.replace(n),
            2 if members > 0 => {
                let index = self.rng.random_range(1..=members);
                self.remove(n, index);
            }
            _ => {}
        }
    }

    /// Puts in one that fails anywhere, or one that talks at its station, if it is not there yet.
    fn insert(&mut self, n: usize) {
        let (peer, places) = (self.parties[n].peer, self.parties[n].places.clone());
        let spec = if self.rng.random_bool(0.4) { &self.guests } else { &self.talking }.any(&mut self.rng);
        let place = place(&spec);
        let index = match place {
            Place::Anywhere => self.rng.random_range(0..=places.len()),
            _ if self.report(n).members.iter().any(|member| member.plugin == spec.plugin.name()) => return,
            _ => places.iter().position(|other| *other != Place::Anywhere && *other > place).unwrap_or(places.len()),
        };
        let inserted = self.world.with(peer, |shard, now, session| shard.insert_member(now, session, 1 + index, spec));
        if accepted(inserted) {
            self.parties[n].places.insert(index, place);
        }
    }

    /// Puts in place of a member another one of its kind, or one that fails.
    fn replace(&mut self, n: usize) {
        let (peer, members) = (self.parties[n].peer, self.parties[n].places.len());
        let index = self.rng.random_range(1..=members);
        let name = self.report(n).members[index].plugin.clone();
        let same = if self.rng.random_bool(0.7) { self.talking.called(&name, &mut self.rng) } else { None };
        let spec = same.unwrap_or_else(|| self.guests.any(&mut self.rng));
        let place = place(&spec);
        let replaced = self.world.with(peer, |shard, now, session| shard.replace_member(now, session, index, spec));
        if accepted(replaced) {
            self.parties[n].places[index - 1] = place;
        }
    }

    /// Takes a member out, and what it has counted with it. It has been asked something before: with that, it has seen all that
    /// it was to see, and speaks no more when it is told to go.
    fn remove(&mut self, n: usize, index: usize) {
        self.control(n, index);
        let peer = self.parties[n].peer;
        let last = self.report(n).members.swap_remove(index);
        self.parties[n].ledger.dismiss(&last);
        let removed = self.world.with(peer, |shard, now, session| shard.remove_member(now, session, index));
        assert!(accepted(removed), "a member can always be removed");
        self.parties[n].places.remove(index - 1);
        self.look(n / 2);
    }

    fn control(&mut self, n: usize, index: usize) {
        let _ = self.world.with(self.parties[n].peer, |shard, now, session| shard.control(now, session, index, "[]"));
    }

    fn close(&mut self, n: usize) {
        let party = &mut self.parties[n];
        (party.open, party.bound) = (false, [None; 2]);
        self.world.with(party.peer, |shard, now, session| shard.close_session(now, session));
    }

    fn report(&mut self, n: usize) -> SessionReport {
        let peer = self.parties[n].peer;
        self.world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session")
    }

    fn step(&mut self) {
        let open = self.parties.iter().filter(|party| party.open).count();
        if opens(&mut self.rng, open, self.most) {
            return self.open();
        }
        let Some(n) = self.open_party() else { return };
        match self.rng.random_range(0..100) {
            0..40 => self.write(),
            40..72 => self.world.run_for(Duration::from_micros(self.rng.random_range(0..40_000))),
            72..84 => self.change(n),
            84..87 => self.unbind(n),
            87..92 => self.bind(n),
            92..95 => {
                let index = self.rng.random_range(1..=1 + self.parties[n].places.len());
                self.control(n, index);
            }
            95..98 => {
                let profile = self.profile();
                self.world.link(self.parties[n].peer).set_profile(profile);
            }
            _ => self.close(n),
        }
    }

    /// Holds a connection's links and sessions to what they were given.
    fn look(&mut self, connection: usize) {
        let ends = [2 * connection, 2 * connection + 1];
        for n in ends {
            let Party { peer, way, .. } = &mut self.parties[n];
            way.take_sent(self.world.peer(*peer));
        }
        for n in ends {
            let peer = self.parties[n].peer;
            self.parties[n ^ 1].way.take_heard(self.world.peer(peer));
            self.parties[n].ledger.take(self.world.peer(peer));
            self.world.forget(peer);
        }
        for n in ends {
            let Party { peer, open, ref ledger, .. } = self.parties[n];
            let (sent, arrived) = (ledger.sent, self.world.peer(self.parties[n ^ 1].peer).arrived);
            let link = self.world.link(peer);
            weigh(link.tally(), link.in_flight(), sent, arrived);
            if open {
                let report = self.report(n);
                assert_eq!(report.members.len(), 1 + self.parties[n].places.len(), "{:#?}", report.members);
                self.parties[n].ledger.balance(&report, self.world.peer(peer).arrived);
            }
        }
        self.hear();
    }

    /// Only plugins that fail may have failed, and nothing else may have gone wrong.
    fn hear(&mut self) {
        for (_, event) in self.world.events.drain(..) {
            match &event {
                Event::Fault { from, .. }
                | Event::Displaced { from }
                | Event::RestartRefused { from, .. }
                | Event::Quarantined { from, .. } => {
                    assert!(!self.talking.names().any(|name| name == from.plugin), "{event}");
                    self.faults += u64::from(matches!(event, Event::Fault { .. }));
                }
                Event::Malformed { .. } | Event::Storm { .. } => panic!("{event}"),
                Event::Published { .. } | Event::Log { .. } | Event::Restarted { .. } | Event::Quota(_) => {}
            }
        }
    }

    /// Runs so many steps, and holds each session and link to what it was given.
    ///
    /// # Panics
    /// If a packet is unaccounted for, an application has what the other one did not send, a plugin fails that should not, or a
    /// session leaves something behind.
    pub fn run(mut self, steps: usize) -> Ran {
        for _ in 0..steps {
            self.step();
            // Each after each step; of very many, some.
            let connections = self.parties.len() / 2;
            let some = connections.div_ceil(2 * OPEN).max(1);
            for connection in (self.rng.random_range(0..some)..connections).step_by(some) {
                self.look(connection);
            }
        }
        self.end();
        self.sum()
    }

    /// All members are removed, what is on its way arrives, and the sessions are closed.
    fn end(&mut self) {
        for n in 0..self.parties.len() {
            while self.parties[n].open && !self.parties[n].places.is_empty() {
                self.remove(n, self.parties[n].places.len());
            }
        }
        self.world.run_for(Duration::from_secs(1));
        for n in 0..self.parties.len() {
            self.look(n / 2);
            let link = self.world.link(self.parties[n].peer);
            assert_eq!(link.in_flight(), 0, "all that is not lost arrives");
            let tally = link.tally();
            self.parties[n].way.judge(tally);
        }
        for n in 0..self.parties.len() {
            if self.parties[n].open {
                self.close(n);
            }
        }
        // One on each shard.
        let peers: Vec<PeerId> = self.parties.iter().take(2).map(|party| party.peer).collect();
        assert_nothing_left(&mut self.world, peers, &self.bounded);
    }

    fn sum(mut self) -> Ran {
        let mut ran = Ran { sessions: self.parties.len(), faults: self.faults, ..Ran::default() };
        for Party { peer, way, ledger, .. } in &self.parties {
            ran.packets += ledger.sent + ledger.delivered;
            ran.lost += self.world.link(*peer).tally().lost;
            ran.repaired += way.repaired;
            ran.digests.push(ledger.digest.finish());
        }
        ran
    }
}

fn place(spec: &MemberSpec) -> Place {
    spec.plugin.description().place
}

/// Whether a change was made. A plugin may refuse it, or a quota; but not for want of the session or the member.
fn accepted(result: Result<(), ChainError>) -> bool {
    assert!(!matches!(result, Err(ChainError::NoSession | ChainError::NoMember { .. })), "{result:?}");
    result.is_ok()
}

/// A stream with retransmissions, feedback by RFC 8888, and either repair packets or transport-wide sequence numbers. Both together
/// need packets to be numbered for as long as they are protected, as repair is of numbered packets; and here, who numbers them may
/// go at any time.
fn info(source: &Source, protected: bool) -> StreamInfo {
    let mut info = source.info_with_rtx();
    info.rtcp_feedback.push(RtcpFeedback { kind: "ack".into(), parameter: "ccfb".into() });
    if protected {
        info.rtp_header_extensions.clear();
        info.ssrc_forward_error_correction = Some(source.ssrc + 2);
        info.payload_type_forward_error_correction = Some(118);
    }
    info
}
