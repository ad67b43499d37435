//! Where several plugins follow the same packets the host writes each of them down once, and shows it later: every plugin sees
//! what it would see if it were alone and nothing waited.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Isolation, Limits, MemberSpec, SessionSpec, ShardConfig, SinkId, TenantId};
use sandbar_tests::media::{Source, control};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{counts, faults, guests, member, report, session, standard};

/// A dump of what it sees, in an instance that it shares with no other of its chain.
fn dump(number: u32, isolation: Isolation, rtcp: bool) -> MemberSpec {
    // Who has other limits is in another instance.
    let limits = Limits { held_packets: 1000 + number as usize, ..Limits::default() };
    let config = json!({ "rtcp": rtcp, "flush_ms": 20 }).to_string();
    MemberSpec { sink: Some(SinkId(number)), limits, ..standard("packet-dump") }.with_config(config).isolated(isolation)
}

/// What was written to each sink for each session.
type Written = HashMap<(SinkId, usize), Vec<u8>>;

/// Sessions of one tenant with a chain each, two streams from their peers and one to them.
struct Stage {
    world: World,
    peers: Vec<PeerId>,
    sources: Vec<[Source; 3]>,
    written: Written,
    random: u64,
}

/// The next of a row of numbers.
fn next(random: &mut u64) -> usize {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) as usize
}

impl Stage {
    fn new(chains: &[Vec<MemberSpec>], seed: u64) -> Self {
        Self::with(ShardConfig::default(), chains, seed)
    }

    fn with(config: ShardConfig, chains: &[Vec<MemberSpec>], seed: u64) -> Self {
        let mut world = World::with_config(seed, 1, config);
        let mut sources = Vec::new();
        let mut peers = Vec::new();
        for (number, chain) in chains.iter().enumerate() {
            let spec = SessionSpec { tenant: TenantId(1), seed: number as u64, ..session(chain.clone()) };
            let peer = world.open(spec);
            let [one, other, local] = [0, 1, 2].map(|n| Source::video(100 * (number as u32 + 1) + n));
            world.bind_remote(peer, one.info());
            world.bind_remote(peer, other.info());
            world.bind_local(peer, local.info());
            sources.push([one, other, local]);
            peers.push(peer);
        }
        Self { world, peers, sources, written: Written::new(), random: seed }
    }

    fn draw(&mut self, below: usize) -> usize {
        next(&mut self.random) % below
    }

    fn packets(&mut self, of: usize, streams: &[usize]) -> Vec<Bytes> {
        let of_which: Vec<_> = (0..=self.draw(6)).map(|_| streams[self.draw(streams.len())]).collect();
        of_which.into_iter().map(|at| self.sources[of][at].packet()).collect()
    }

    /// Something of what happens to sessions.
    fn step(&mut self) {
        let of = self.draw(self.peers.len());
        let peer = self.peers[of];
        match self.draw(10) {
            0 => self.world.receive(peer, [control::receiver_report(7)]),
            1..=3 => {
                let packets = self.packets(of, &[2]);
                self.world.send(peer, packets);
            }
            4 => {
                let millis = self.draw(4) as u64;
                self.world.run_for(Duration::from_millis(millis));
            }
            _ => {
                let packets = self.packets(of, &[0, 1]);
                self.world.receive(peer, packets);
            }
        }
        self.collect();
    }

    fn collect(&mut self) {
        for of in 0..self.peers.len() {
            let writes = self.world.with(self.peers[of], |shard, _, session| {
                std::iter::from_fn(|| shard.poll_sink())
                    .map(|write| (write.session == session, write))
                    .collect::<Vec<_>>()
            });
            for (own, write) in writes {
                let of = if own { of } else { self.number_of(write.session) };
                self.written.entry((write.sink, of)).or_default().extend_from_slice(&write.bytes);
            }
        }
    }

    fn number_of(&self, session: sandbar_host::SessionId) -> usize {
        self.peers.iter().position(|peer| self.world.peer(*peer).session == session).expect("a session of the stage")
    }

    /// Ends all sessions. The answer is what was written.
    fn end(mut self) -> Written {
        assert_eq!(faults(&self.world), []);
        for peer in self.peers.clone() {
            self.world.with(peer, |shard, now, session| shard.close_session(now, session));
            self.collect();
        }
        self.written
    }
}

const SESSIONS: usize = 3;
const STEPS: usize = 400;

/// What one dump writes where it is the only one and nothing waits for it.
fn alone(seed: u64, isolation: Isolation, rtcp: bool) -> Written {
    let hasty = ShardConfig { patient: false, ..ShardConfig::default() };
    let mut stage = Stage::with(hasty, &vec![vec![dump(0, isolation, rtcp)]; SESSIONS], seed);
    for _ in 0..STEPS {
        stage.step();
    }
    stage.end()
}

fn same(written: &Written, sink: u32, alone: &Written, about: &str) {
    for of in 0..SESSIONS {
        let (found, expected) = (&written[&(SinkId(sink), of)], &alone[&(SinkId(0), of)]);
        assert!(expected.len() > 4000, "{} bytes are little to compare", expected.len());
        assert!(
            found == expected,
            "{about}: sink {sink} of session {of} has {} of {} bytes",
            found.len(),
            expected.len()
        );
    }
}

#[test]
fn those_who_watch_together_see_what_each_would_see_alone() {
    for (seed, isolation) in [(1, Isolation::Tenant), (2, Isolation::Session), (3, Isolation::Tenant)] {
        let about = format!("seed {seed}, {isolation:?}");
        // RTCP does not wait as packets do, and the second is told of none.
        let chain: Vec<_> = [(1, true), (2, false), (3, true)].map(|(n, rtcp)| dump(n, isolation, rtcp)).into();
        let mut stage = Stage::new(&vec![chain; SESSIONS], seed);
        for _ in 0..STEPS {
            stage.step();
        }
        let written = stage.end();
        let (with, without) = (alone(seed, isolation, true), alone(seed, isolation, false));
        same(&written, 1, &with, &about);
        same(&written, 2, &without, &about);
        same(&written, 3, &with, &about);
    }
}

#[test]
fn what_was_read_waits_no_more() {
    for (seed, isolation) in [(1, Isolation::Tenant), (2, Isolation::Session)] {
        let watching = |guest| member(guest, json!({ "access": "observe" })).isolated(isolation);
        let chains = vec![vec![watching(guests::BATCHED_COUNTER), watching(guests::PUPPET)]; SESSIONS];
        let mut stage = Stage::new(&chains, seed);
        let peer = stage.peers[0];
        for n in 1..10 {
            let packet = stage.sources[0][0].packet();
            stage.world.receive(peer, [packet]);
            let due = |world: &mut World| world.with(peer, |shard, now, _| shard.poll_timeout().map(|at| at - now));
            assert_eq!(due(&mut stage.world), Some(Duration::from_millis(1)));
            stage.world.run_for(Duration::from_millis(1));
            assert_eq!(due(&mut stage.world), None);
            assert_eq!(counts(&mut stage.world, peer, 0)["read"], json!(n));
        }
    }
}

#[test]
fn those_who_watch_together_miss_nothing_while_chains_change_around_them() {
    let others = [
        // Stands between, and so parts those around it.
        member(guests::PUPPET, json!({ "access": "transform" })),
        member(guests::PUPPET, json!({ "access": "transform" })).isolated(Isolation::Session),
        // Watches with them.
        member(guests::PUPPET, json!({ "access": "observe" })).isolated(Isolation::Tenant),
        member(guests::PUPPET, json!({ "access": "follow" })).isolated(Isolation::Tenant),
        member(guests::BATCHED_COUNTER, json!({ "access": "observe" })).isolated(Isolation::Session),
        // Watches, and keeps packets.
        member(guests::PUPPET, json!({ "access": "observe", "history": 8 })).isolated(Isolation::Tenant),
    ];
    for seed in 1..5_u64 {
        let isolation = if seed.is_multiple_of(2) { Isolation::Session } else { Isolation::Tenant };
        let chain: Vec<_> = (1..=3).map(|n| dump(n, isolation, true)).collect();
        let mut stage = Stage::new(&vec![chain; SESSIONS], seed);
        // Where an inserted member is, if one is.
        let mut inserted = [None; SESSIONS];
        let mut changes = seed;
        for _ in 0..STEPS {
            stage.step();
            // A number of its own: what happens to the packets is the same as without changes.
            let draw = next(&mut changes);
            let (of, place, which) = (draw % SESSIONS, draw / 8 % 4, draw / 64 % others.len());
            if !draw.is_multiple_of(7) {
                continue;
            }
            let peer = stage.peers[of];
            let (change, other) = (inserted[of].take(), others[which].clone());
            let done = stage.world.with(peer, |shard, now, session| match change {
                Some(at) if draw.is_multiple_of(2) => shard.replace_member(now, session, at, other),
                Some(at) => shard.remove_member(now, session, at),
                None => shard.insert_member(now, session, place, other),
            });
            assert!(done.is_ok(), "{done:?}");
            inserted[of] = match change {
                Some(at) if draw.is_multiple_of(2) => Some(at),
                Some(_) => None,
                None => Some(place),
            };
        }
        for (of, inserted) in inserted.into_iter().enumerate() {
            let first = usize::from(inserted == Some(0));
            let report = report(&mut stage.world, stage.peers[of], first);
            let sent = stage.sources[of].iter().map(|source| source.made).sum::<u64>();
            assert!(report.packets_in >= sent, "seed {seed}: {report:?} of {sent}");
        }
        let (written, alone) = (stage.end(), alone(seed, isolation, true));
        (1..=3).for_each(|sink| same(&written, sink, &alone, &format!("seed {seed}, {isolation:?}")));
    }
}
