//! One instance serves many sessions, and a fault in it is still only one session's.

use std::time::Duration;

use sandbar_host::{Event, FaultPolicy, Isolation, Limits, MemberSpec, MemberState, SessionSpec, TenantId};
use sandbar_tests::engine::{DEADLINE, spent};
use sandbar_tests::media::{Source, Verdict};
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{faults, guests, heard, member, report, session};

/// Sessions of one tenant with streams of the SSRCs 100, 101, ..., all in one instance.
struct Crowd {
    world: World,
    peers: Vec<PeerId>,
    sources: Vec<Source>,
}

impl Crowd {
    fn new(size: u32, spec: &MemberSpec) -> Crowd {
        let mut world = World::new(1);
        let mut peers = Vec::new();
        let sources: Vec<_> = (0..size).map(|n| Source::video(100 + n)).collect();
        for source in &sources {
            let name = format!("session-{}", source.ssrc);
            let peer = world.open(SessionSpec { name, tenant: TenantId(1), ..session([spec.clone()]) });
            world.bind_remote(peer, source.info());
            peers.push(peer);
        }
        Crowd { world, peers, sources }
    }

    /// One receive call that brings `each` packets for every session, in turn.
    fn burst(&mut self, each: u64) {
        let mut datagrams = Vec::new();
        for _ in 0..each {
            for (peer, source) in self.peers.iter().zip(&mut self.sources) {
                let session = self.world.peer(*peer).session;
                datagrams.push(sandbar_host::Datagram {
                    session,
                    kind: sandbar_host::Kind::Rtp,
                    bytes: source.packet(),
                });
            }
        }
        self.world.with(self.peers[0], |shard, now, _| shard.read(now, datagrams));
    }

    fn verdict(&self, n: usize) -> Verdict {
        heard(&self.world, self.peers[n], &self.sources[n])
    }

    fn instances(&mut self) -> usize {
        self.world.with(self.peers[0], |shard, _, _| shard.instances())
    }
}

fn guard(config: Value, policy: FaultPolicy) -> MemberSpec {
    member(guests::TRAP_ON_SSRC, config).on_fault(policy)
}

#[test]
fn sessions_of_a_tenant_share_an_instance_unless_the_operator_says_otherwise() {
    let mut crowd = Crowd::new(10, &guard(json!({}), FaultPolicy::Bypass));
    crowd.burst(3);
    assert_eq!(crowd.instances(), 1);
    assert_eq!(crowd.world.control(crowd.peers[0], 0, "seen"), "30");
    let mut apart = Crowd::new(10, &guard(json!({}), FaultPolicy::Bypass).isolated(Isolation::Session));
    apart.burst(3);
    assert_eq!(apart.instances(), 10);
    assert_eq!(apart.world.control(apart.peers[0], 0, "seen"), "3");
}

#[test]
fn a_plugin_that_may_see_media_does_not_share_by_default() {
    let mut crowd = Crowd::new(3, &member(guests::BATCHED_COUNTER, json!({})));
    assert_eq!(crowd.instances(), 3);
}

#[test]
fn two_tenants_never_share_an_instance() {
    let spec = guard(json!({}), FaultPolicy::Bypass).isolated(Isolation::Tenant);
    let mut crowd = Crowd::new(4, &spec);
    for tenant in 2..5 {
        let stranger = crowd.world.open(SessionSpec { tenant: TenantId(tenant), ..session([spec.clone()]) });
        crowd.world.bind_remote(stranger, Source::video(7).info());
        crowd.world.receive(stranger, Source::video(7).packets(2));
        assert_eq!(crowd.world.control(stranger, 0, "seen"), "2");
    }
    crowd.burst(1);
    assert_eq!(crowd.instances(), 4);
    assert_eq!(crowd.world.control(crowd.peers[0], 0, "seen"), "4");
}

#[test]
fn a_fault_in_a_shared_instance_costs_the_other_sessions_nothing() {
    for policy in [FaultPolicy::Bypass, FaultPolicy::Drop, FaultPolicy::Restart] {
        // Session 105 is guilty with its fifth packet, in the middle of a burst for all twenty.
        let fifth = Source::video(105).sequence_number(4);
        let mut crowd = Crowd::new(20, &guard(json!({ "ssrc": 105, "sequence_number": fifth }), policy));
        for _ in 0..4 {
            crowd.burst(3);
        }
        for n in (0..20).filter(|n| *n != 5) {
            assert_eq!(crowd.verdict(n), Verdict::perfect(12), "session {n}, {policy:?}");
            let peer = crowd.peers[n];
            let report = report(&mut crowd.world, peer, 0);
            assert_eq!(
                (report.faults.total(), report.dropped, report.packets_in),
                (0, 0, 12),
                "session {n}, {policy:?}"
            );
            assert!(matches!(report.state, MemberState::Running { .. }), "session {n}, {policy:?}: {:?}", report.state);
        }
        let guilty = crowd.verdict(5);
        let expected = if policy == FaultPolicy::Drop { 3 } else { 12 };
        assert_eq!(guilty, Verdict { lost: 12 - expected, ..Verdict::perfect(expected) }, "{policy:?}");
        assert_eq!(faults(&crowd.world).len(), 1, "{policy:?}");
        for (_, event) in &crowd.world.events {
            if let Event::Fault { from, .. } = event {
                assert_eq!(from.session_name, "session-105");
            }
        }
        // The others share again: one instance, and none for the guilty one, unless it has been started again.
        assert_eq!(crowd.instances(), 1, "{policy:?}");
    }
}

#[test]
fn several_guilty_sessions_in_one_burst_are_all_found() {
    // Traps on whichever SSRC its own session has: config is per session, and these three are guilty.
    let mut world = World::new(1);
    let plugin = crate::load(guests::TRAP_ON_SSRC);
    let sources: Vec<_> = (0..12u32).map(|n| Source::video(100 + n)).collect();
    let mut crowd = Crowd { peers: Vec::new(), sources, world: World::new(1) };
    for source in &crowd.sources {
        let ssrc = if source.ssrc % 4 == 0 { source.ssrc } else { 0 };
        let spec = MemberSpec::new(plugin.clone())
            .with_config(json!({ "ssrc": ssrc }).to_string())
            .on_fault(FaultPolicy::Drop);
        let peer = world.open(session([spec]));
        world.bind_remote(peer, source.info());
        crowd.peers.push(peer);
    }
    crowd.world = world;
    crowd.burst(3);
    crowd.burst(3);
    for n in 0..12 {
        let expected = if n % 4 == 0 { 0 } else { 6 };
        assert_eq!(crowd.verdict(n).received, expected, "session {n}");
        assert_eq!((crowd.verdict(n).duplicated, crowd.verdict(n).reordered), (0, 0));
    }
    assert_eq!(faults(&crowd.world).len(), 3);
}

#[test]
fn a_guilty_session_does_not_share_again_when_it_is_restarted() {
    let mut crowd = Crowd::new(6, &guard(json!({ "ssrc": 103 }), FaultPolicy::Restart));
    for _ in 0..20 {
        crowd.burst(1);
        crowd.world.run_for(Duration::from_millis(100));
    }
    for n in 0..6 {
        assert_eq!(crowd.verdict(n), Verdict::perfect(20), "session {n}");
    }
    let displaced = crowd.world.events.iter().filter(|(_, event)| matches!(event, Event::Displaced { .. })).count();
    assert_eq!(displaced, 5, "the others lost their instance once, however often the guilty one fails");
    assert!(faults(&crowd.world).len() > 1);
}

#[test]
fn an_observers_fault_in_a_shared_instance_is_one_sessions_too() {
    let mut crowd = Crowd::new(8, &guard(json!({ "ssrc": 102, "observe": true }), FaultPolicy::Drop));
    for _ in 0..5 {
        crowd.burst(2);
        crowd.world.run_for(Duration::from_millis(5));
    }
    for n in 0..8 {
        assert_eq!(crowd.verdict(n), Verdict::perfect(10), "session {n}");
        let peer = crowd.peers[n];
        let faults = report(&mut crowd.world, peer, 0).faults.total();
        assert_eq!(faults, u64::from(n == 2), "session {n}");
    }
}

#[test]
fn an_endless_loop_in_a_shared_instance_is_one_sessions_too() {
    let spec = |at: &str| member(guests::ENDLESS_LOOP, json!({ "at": at })).on_fault(FaultPolicy::Bypass);
    let mut world = World::new(1);
    let plugin = spec("x").plugin;
    let peers: Vec<_> = (0..4)
        .map(|n| {
            let at = if n == 1 { "read-rtp" } else { "never" };
            world.open(session([MemberSpec { plugin: plugin.clone(), ..spec(at) }]))
        })
        .collect();
    let mut crowd = Crowd { world, peers, sources: (0..4).map(|n| Source::video(100 + n)).collect() };
    for (peer, source) in crowd.peers.iter().zip(&crowd.sources) {
        crowd.world.bind_remote(*peer, source.info());
    }
    assert_eq!(crowd.instances(), 1);
    for _ in 0..4 {
        crowd.burst(2);
    }
    for n in 0..4 {
        assert_eq!(crowd.verdict(n), Verdict::perfect(8), "session {n}");
        let peer = crowd.peers[n];
        assert_eq!(report(&mut crowd.world, peer, 0).faults.deadline, u64::from(n == 1));
    }
}

#[test]
fn a_session_that_joins_or_leaves_does_not_disturb_the_others() {
    let mut crowd = Crowd::new(5, &guard(json!({}), FaultPolicy::Bypass));
    crowd.burst(2);
    let leaving = crowd.peers[2];
    crowd.world.with(leaving, |shard, now, session| shard.close_session(now, session));
    crowd.burst(2);
    assert_eq!(crowd.world.control(crowd.peers[0], 0, "seen"), "18");
    for n in [0, 1, 3, 4] {
        assert_eq!(crowd.verdict(n), Verdict::perfect(4));
    }
    assert_eq!(crowd.verdict(2).received, 2);
}

#[test]
fn a_fault_that_hangs_on_a_sessions_past_is_found_by_watching_it_alone() {
    // Session 101 fails with its fifth packet, counted by its own state: tried again in a fresh instance it does not.
    let spec = |at: &str| member(guests::TRAP, json!({ "at": at, "after": 4 })).on_fault(FaultPolicy::Bypass);
    let plugin = spec("x").plugin;
    let mut crowd =
        Crowd { world: World::new(1), peers: Vec::new(), sources: (0..6).map(|n| Source::video(100 + n)).collect() };
    for source in &crowd.sources {
        let at = if source.ssrc == 101 { "read-rtp" } else { "never" };
        let spec = MemberSpec { plugin: plugin.clone(), ..spec(at) };
        let peer = crowd.world.open(SessionSpec { name: format!("session-{}", source.ssrc), ..session([spec]) });
        crowd.world.bind_remote(peer, source.info());
        crowd.peers.push(peer);
    }
    assert_eq!(crowd.instances(), 1);
    for _ in 0..30 {
        crowd.burst(1);
        crowd.world.run_for(Duration::from_millis(10));
    }
    for n in 0..6 {
        assert_eq!(crowd.verdict(n), Verdict::perfect(30), "session {n}");
        let peer = crowd.peers[n];
        assert_eq!(report(&mut crowd.world, peer, 0).faults.total(), u64::from(n == 1), "session {n}");
    }
    assert_eq!(faults(&crowd.world).len(), 1);
    assert_eq!(crowd.instances(), 1, "the others share again");
}

#[test]
fn sessions_that_are_all_guilty_are_all_found() {
    let spec = member(guests::TRAP, json!({ "after": 4 })).on_fault(FaultPolicy::Bypass).isolated(Isolation::Tenant);
    let mut crowd = Crowd::new(4, &spec);
    for _ in 0..100 {
        crowd.burst(1);
        crowd.world.run_for(Duration::from_millis(10));
    }
    for n in 0..4 {
        assert_eq!(crowd.verdict(n), Verdict::perfect(100), "session {n}");
        let peer = crowd.peers[n];
        assert_eq!(report(&mut crowd.world, peer, 0).faults.total(), 1, "session {n}");
    }
    assert_eq!(faults(&crowd.world).len(), 4);
}

#[test]
fn an_instance_takes_as_many_sessions_as_the_operator_allows_and_no_more() {
    let limits = sandbar_host::Limits { sessions: 4, ..sandbar_host::Limits::default() };
    let mut crowd = Crowd::new(10, &MemberSpec { limits, ..guard(json!({}), FaultPolicy::Bypass) });
    crowd.burst(2);
    assert_eq!(crowd.instances(), 3);
    for n in 0..10 {
        assert_eq!(crowd.verdict(n), Verdict::perfect(2));
    }
    let shared = |crowd: &mut Crowd, n: usize| crowd.world.control(crowd.peers[n], 0, "seen");
    assert_eq!((shared(&mut crowd, 0), shared(&mut crowd, 9)), ("8".to_owned(), "4".to_owned()));
}

#[test]
fn a_session_may_have_the_same_plugin_twice_in_one_instance() {
    // Both places are in the shared instance; the second one fails, and the first one is none the worse.
    let plugin = guard(json!({}), FaultPolicy::Bypass).plugin;
    let place = |ssrc: u32| MemberSpec::new(plugin.clone()).with_config(json!({ "ssrc": ssrc }).to_string());
    let mut world = World::new(1);
    let chain = [place(0), place(100).on_fault(FaultPolicy::Bypass), place(0)];
    let peer = world.open(session(chain));
    let mut crowd = Crowd { world, peers: vec![peer], sources: vec![Source::video(100)] };
    crowd.world.bind_remote(peer, crowd.sources[0].info());
    assert_eq!(crowd.instances(), 1);
    for _ in 0..5 {
        crowd.burst(3);
    }
    assert_eq!(crowd.verdict(0), Verdict::perfect(15));
    let faults: Vec<_> = (0..3).map(|member| report(&mut crowd.world, peer, member).faults.total()).collect();
    assert_eq!(faults, [0, 1, 0]);
    assert_eq!(report(&mut crowd.world, peer, 2).packets_in, 15);
}

#[test]
fn a_session_that_is_flooded_uses_up_nothing_of_what_others_in_its_instance_have() {
    let emit = json!({ "do": "emit-rtp", "ssrc": 100, "header": [128, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 100] });
    let line = json!({ "do": "log", "line": "flood" });
    let sink = json!({ "do": "write-sink", "bytes": 1000 });
    let flood: Vec<_> = [emit, line, sink].into_iter().flat_map(|command| vec![command; 20]).collect();
    let quiet: Vec<_> = [
        json!({ "do": "emit-rtp", "ssrc": 101, "header": [128, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 101] }),
        json!({ "do": "log", "line": "quiet" }),
        json!({ "do": "write-sink", "bytes": 1000 }),
    ]
    .into();
    let limits = Limits { emitted_packets: 10, messages: 5, sink_call: 1000, ..Limits::default() };
    let mut crowd = Crowd { world: World::new(1), peers: Vec::new(), sources: Vec::new() };
    for (n, commands) in [flood, quiet].into_iter().enumerate() {
        let source = Source::video(100 + n as u32);
        let spec = MemberSpec {
            sink: Some(sandbar_host::SinkId(7)),
            limits,
            ..member(guests::PUPPET, json!({ "on_read": commands })).isolated(Isolation::Tenant)
        };
        let peer = crowd.world.open(SessionSpec { tenant: TenantId(1), ..session([spec]) });
        crowd.world.bind_remote(peer, source.info());
        crowd.peers.push(peer);
        crowd.sources.push(source);
    }
    assert_eq!(crowd.instances(), 1);
    crowd.burst(1);
    let [flooded, other] = [0, 1].map(|n| report(&mut crowd.world, crowd.peers[n], 0));
    assert_eq!((flooded.emitted, flooded.unheard, flooded.sink.sink_refused), (10, 15, 19));
    assert_eq!((other.emitted, other.unheard, other.sink.sink_refused, other.sink.sink_bytes), (1, 0, 0, 1000));
    let heard = |line: &str| {
        let said = |event: &Event| matches!(event, Event::Log { message, .. } if message == line);
        crowd.world.events.iter().filter(|(_, event)| said(event)).count()
    };
    assert_eq!((heard("flood"), heard("quiet")), (5, 1));
    assert_eq!(faults(&crowd.world), []);
}

#[test]
fn a_packet_that_stands_before_a_plugin_when_its_instance_ends_is_still_shown_to_it() {
    // The one's packet ends the instance while the other's, past a plugin that only watches, waits for it.
    let guard = guard(json!({ "ssrc": 100 }), FaultPolicy::Bypass).isolated(Isolation::Tenant);
    let watching = member(guests::PUPPET, json!({ "access": "observe" })).isolated(Isolation::Session);
    let mut world = World::new(1);
    let chains = [vec![guard.clone()], vec![watching, guard]];
    let mut sources = [100, 101].map(Source::video);
    let peers = chains.map(|chain| world.open(SessionSpec { tenant: TenantId(1), ..session(chain) }));
    for (peer, source) in peers.iter().zip(&sources) {
        world.bind_remote(*peer, source.info());
    }
    let burst: Vec<_> = peers
        .iter()
        .zip(&mut sources)
        .map(|(peer, source)| sandbar_host::Datagram {
            session: world.peer(*peer).session,
            kind: sandbar_host::Kind::Rtp,
            bytes: source.packet(),
        })
        .collect();
    world.with(peers[0], |shard, now, _| shard.read(now, burst));
    assert_eq!(faults(&world).len(), 1);
    assert_eq!(world.control(peers[1], 1, "seen"), "1");
    assert_eq!(heard(&world, peers[1], &sources[1]), Verdict::perfect(1));
}

#[test]
fn sessions_that_do_not_return_together_cost_one_deadline_until_their_version_is_gone() {
    for policy in [FaultPolicy::Bypass, FaultPolicy::Drop] {
        let looping = member(guests::ENDLESS_LOOP, json!({})).on_fault(policy).isolated(Isolation::Tenant);
        let mut crowd = Crowd::new(8, &looping);
        let mut other = Source::video(7);
        let stranger = crowd.world.open(SessionSpec { tenant: TenantId(2), ..session([]) });
        crowd.world.bind_remote(stranger, other.info());
        let mut taken = Duration::ZERO;
        for burst in 1..=5 {
            let begun = spent();
            crowd.burst(1);
            taken += spent() - begun;
            crowd.world.receive(stranger, [other.packet()]);
            // One is stopped with the others, and one alone; then it is not tried again who else would be.
            assert_eq!(faults(&crowd.world).len(), burst.min(3), "{policy:?} burst {burst}");
        }
        // Some more for the ticks in which calls begin, and for making and ending instances.
        assert!(taken < DEADLINE * 5 / 4, "{policy:?}: {taken:?}");
        assert_eq!(heard(&crowd.world, stranger, &other), Verdict::perfect(5));
        for n in 0..8 {
            let report = report(&mut crowd.world, crowd.peers[n], 0);
            assert_eq!(report.packets_out + report.dropped, report.packets_in);
            let heard = crowd.verdict(n);
            assert_eq!(heard.received + report.dropped, 5, "{policy:?} session {n}: {heard:?}");
            assert!(policy == FaultPolicy::Drop || heard == Verdict::perfect(5), "session {n}");
        }
    }
}

#[test]
fn after_three_calls_that_do_not_return_no_other_is_made_where_each_session_has_an_instance() {
    let looping = member(guests::ENDLESS_LOOP, json!({})).isolated(Isolation::Session);
    let mut crowd = Crowd::new(8, &looping);
    let begun = spent();
    crowd.burst(1);
    let taken = spent() - begun;
    assert!(taken < DEADLINE * 5 / 4, "{taken:?} for eight sessions that loop");
    assert_eq!(faults(&crowd.world).len(), 8, "each is told of");
    for n in 0..8 {
        assert_eq!(report(&mut crowd.world, crowd.peers[n], 0).state, MemberState::Bypassed);
        assert_eq!(crowd.verdict(n), Verdict::perfect(1), "session {n}");
    }
}
