//! Each kind of fault under each policy, and none of it anybody else's business.

use std::time::Duration;

use sandbar_host::{
    Event, FaultAction, FaultKind, FaultPolicy, Isolation, Limits, MemberSpec, MemberState, SessionSpec, TenantId,
};
use sandbar_tests::media::{Source, Verdict};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{counts, faults, guests, heard, listener, load, member, report, session};

/// Packets that pass before the fault.
const BEFORE: u64 = 10;
/// Packets in all.
const ALL: u64 = 30;

/// A member that fails with its eleventh packet, for each way in which a plugin can.
fn failing() -> Vec<(&'static str, FaultKind, MemberSpec)> {
    let small = Limits { memory: 16 << 20, ..Limits::default() };
    let bomb = member(guests::MEMORY_BOMB, json!({ "per_packet": 1_500_000 }));
    let lie = |lie: &str| member(guests::LYING_BATCH, json!({ "lie": lie, "after": BEFORE }));
    vec![
        ("a trap", FaultKind::Trap, member(guests::TRAP, json!({ "at": "read-rtp", "after": BEFORE }))),
        (
            "a stack overflow",
            FaultKind::Trap,
            member(guests::TRAP, json!({ "at": "read-rtp", "after": BEFORE, "stack": true })),
        ),
        ("a trap in the typed lane", FaultKind::Trap, member(guests::TYPED_COUNTER, json!({ "trap_after": BEFORE }))),
        (
            "an endless loop",
            FaultKind::Deadline,
            member(guests::ENDLESS_LOOP, json!({ "at": "read-rtp", "after": BEFORE })),
        ),
        ("a memory bomb", FaultKind::Memory, MemberSpec { limits: small, ..bomb }),
        ("a packet handed on twice", FaultKind::BadBatch, lie("twice")),
        ("a packet handed on twice in two calls", FaultKind::BadBatch, lie("twice-apart")),
        ("a packet that was never shown", FaultKind::BadBatch, lie("unknown")),
        ("a frame without its head", FaultKind::BadBatch, lie("truncated-head")),
        ("a frame without its body", FaultKind::BadBatch, lie("truncated-body")),
        ("a header that is none", FaultKind::BadBatch, lie("not-rtp")),
        ("a header that is cut off", FaultKind::BadBatch, lie("short-header")),
        ("a header with bytes behind it", FaultKind::BadBatch, lie("long-header")),
        ("a header that is too large", FaultKind::BadBatch, lie("too-large")),
    ]
}

/// The member in one session, an honest one of the same plugin in another, and a stream of packets for both, one at a
/// time. Checks the neighbour, and gives back the world, the peer and what its application heard.
fn run(name: &str, member: MemberSpec, packets: u64) -> (World, PeerId, Verdict) {
    let honest = MemberSpec { config: "{}".into(), ..MemberSpec::new(load(guests::TRAP_ON_SSRC)) };
    let mut source = Source::video(7);
    let mut quiet = Source::video(9);
    let (mut world, peer) = listener([member.isolated(Isolation::Session)], &source);
    let neighbour = world.open(SessionSpec { tenant: TenantId(2), name: "neighbour".into(), ..session([honest]) });
    world.bind_remote(neighbour, quiet.info());
    for _ in 0..packets {
        world.receive(peer, [source.packet()]);
        world.receive(neighbour, [quiet.packet()]);
        world.run_for(Duration::from_millis(10));
    }
    assert_eq!(heard(&world, neighbour, &quiet), Verdict::perfect(packets), "{name}");
    assert_eq!(report(&mut world, neighbour, 0).faults.total(), 0, "{name}");
    let verdict = heard(&world, peer, &source);
    (world, peer, verdict)
}

#[test]
fn bypass_lets_every_packet_go_on_without_the_plugin() {
    for (name, kind, member) in failing() {
        let (mut world, peer, verdict) = run(name, member.on_fault(FaultPolicy::Bypass), ALL);
        assert_eq!(verdict, Verdict::perfect(ALL), "{name}");
        let told = faults(&world);
        assert_eq!(told, [(kind, FaultAction::Bypassed)], "{name}");
        let report = report(&mut world, peer, 0);
        assert_eq!((report.state, report.faults.total()), (MemberState::Bypassed, 1), "{name}");
        assert_eq!(report.dropped, 0, "{name}");
    }
}

#[test]
fn drop_keeps_what_the_plugin_stood_before_closed() {
    for (name, kind, member) in failing() {
        let (mut world, peer, verdict) = run(name, member.on_fault(FaultPolicy::Drop), ALL);
        assert_eq!(verdict.received, BEFORE, "{name}");
        assert_eq!((verdict.duplicated, verdict.reordered, verdict.changed), (0, 0, 0), "{name}");
        assert_eq!(faults(&world), [(kind, FaultAction::Closed)], "{name}");
        let report = report(&mut world, peer, 0);
        assert_eq!((report.state, report.faults.total()), (MemberState::Closed, 1), "{name}");
        assert_eq!((report.packets_in, report.dropped), (ALL, ALL - BEFORE), "{name}");
    }
}

#[test]
fn restart_lets_packets_go_on_and_starts_the_plugin_again() {
    for (name, kind, member) in failing() {
        // 300 ms: the fault comes at 100 ms, and the first pause is over at 200 ms.
        let (mut world, peer, verdict) = run(name, member.on_fault(FaultPolicy::Restart), ALL);
        assert_eq!(verdict, Verdict::perfect(ALL), "{name}");
        let restarted = world.events.iter().filter(|(_, event)| matches!(event, Event::Restarted { .. })).count();
        let state = report(&mut world, peer, 0).state;
        if kind == FaultKind::Deadline {
            // It would hold up everyone again.
            assert_eq!((faults(&world), restarted), (vec![(kind, FaultAction::Bypassed)], 0), "{name}");
            assert_eq!(state, MemberState::Bypassed, "{name}");
            continue;
        }
        assert_eq!((faults(&world)[0], restarted), ((kind, FaultAction::Restarting), 1), "{name}");
        assert!(matches!(state, MemberState::Running { .. } | MemberState::Restarting), "{name}");
    }
}

#[test]
fn the_pause_before_a_restart_doubles_and_a_version_that_keeps_failing_is_quarantined() {
    let spec = member(guests::TRAP, json!({ "at": "timeout" })).on_fault(FaultPolicy::Restart);
    let plugin = spec.plugin.clone();
    let (mut world, peer) = listener([spec.clone()], &Source::video(7));
    world.run_for(Duration::from_secs(3600));
    let at: Vec<_> = world
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Fault { .. }))
        .map(|(at, _)| at.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(at.len(), 20, "{at:?}");
    let pauses: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Each up to a quarter shorter than the doubled one.
    assert!(pauses[..8].iter().zip(0..).all(|(pause, n)| (75 << n..=(100 << n) + 1).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 30_001), "{pauses:?}");
    assert!(world.events.iter().any(|(_, event)| matches!(event, Event::Quarantined { .. })));
    assert_eq!(report(&mut world, peer, 0).state, MemberState::Bypassed);
    assert!(plugin.quarantined());
    let error = world.open_on(0, session([spec.clone()])).expect_err("it is quarantined").to_string();
    assert!(error.contains("quarantine") && error.contains("trap"), "{error}");
    plugin.lift_quarantine();
    world.open(session([spec]));
}

#[test]
fn sessions_that_fail_together_do_not_start_again_together_and_the_same_seeds_do_the_same() {
    let restarts = || {
        let mut world = World::new(1);
        for seed in 0..15 {
            let spec = member(guests::TRAP, json!({})).on_fault(FaultPolicy::Restart);
            let peer = world.open(sandbar_host::SessionSpec { seed, ..session([spec]) });
            world.bind_remote(peer, Source::video(7).info());
            world.receive(peer, [Source::video(7).packet()]);
        }
        world.run_for(Duration::from_millis(101));
        let restarted = world.events.iter().filter(|(_, event)| matches!(event, Event::Restarted { .. }));
        restarted.map(|(at, _)| at.as_nanos() / 1_000_000).collect::<Vec<_>>()
    };
    let mut at = restarts();
    assert_eq!(at, restarts());
    at.dedup();
    assert!(at.len() >= 8, "{at:?}");
}

#[test]
fn a_fault_names_the_plugin_its_version_the_session_and_what_happened() {
    let spec = member(guests::TRAP, json!({})).on_fault(FaultPolicy::Bypass);
    let version = spec.plugin.version().to_owned();
    let mut world = World::new(1);
    let peer = world.open(SessionSpec { name: "room 5, Ada".into(), ..session([spec]) });
    world.bind_remote(peer, Source::video(7).info());
    world.receive(peer, [Source::video(7).packet()]);
    let told: Vec<_> = world.events.iter().map(|(_, event)| event.to_string()).collect();
    let fault = told.iter().find(|told| told.contains("failed")).expect("a fault");
    for part in ["trap", &version, "room 5, Ada", "member 0", "bypassed"] {
        assert!(fault.contains(part), "{part} is missing: {fault}");
    }
}

#[test]
fn a_fault_in_any_call_is_contained() {
    let everywhere = ["unbind", "read-rtp", "write-rtp", "read-rtcp", "write-rtcp", "timeout", "control"];
    for at in everywhere {
        let mut read = Source::video(7);
        let mut written = Source::video(8);
        let (mut world, peer) =
            listener([member(guests::TRAP, json!({ "at": at })).on_fault(FaultPolicy::Bypass)], &read);
        let local = world.bind_local(peer, written.info());
        world.receive(peer, read.packets(3));
        world.send(peer, written.packets(3));
        world.receive(peer, [sandbar_tests::media::control::receiver_report(1)]);
        world.send_rtcp(peer, sandbar_tests::media::control::receiver_report(1));
        let answer = world.with(peer, |shard, now, session| shard.control(now, session, 0, "ping"));
        if at == "control" {
            assert!(answer.expect_err("it traps").to_string().contains("trap"));
        }
        world.with(peer, |shard, now, _| shard.unbind_stream(now, local));
        world.run_for(Duration::from_millis(10));
        assert_eq!(heard(&world, peer, &read), Verdict::perfect(3), "{at}");
        assert_eq!(world.peer(peer).sent(sandbar_host::Kind::Rtp).count(), 3, "{at}");
        assert_eq!(world.peer(peer).sent(sandbar_host::Kind::Rtcp).count(), 1, "{at}");
        assert_eq!(world.peer(peer).rtcp().count(), 1, "{at}");
        assert_eq!(faults(&world), [(FaultKind::Trap, FaultAction::Bypassed)], "{at}");
        // A bypassed member can be taken out, replaced and asked: it is still a member.
        let state = world.with(peer, |shard, now, session| shard.control(now, session, 0, "ping"));
        assert!(state.expect_err("it is not running").to_string().contains("not running"), "{at}");
        let spec = member(guests::BATCHED_COUNTER, json!({}));
        world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, spec)).expect("a successor");
        world.receive(peer, read.packets(3));
        assert_eq!(counts(&mut world, peer, 0)["read"], 3, "{at}");
    }
}

#[test]
fn what_an_observer_fails_on_has_gone_on_already() {
    for policy in [FaultPolicy::Bypass, FaultPolicy::Drop, FaultPolicy::Restart] {
        let spec = member(guests::TRAP, json!({ "after": BEFORE, "observe": true })).on_fault(policy);
        let (world, _, verdict) = run("an observer", spec, ALL);
        assert_eq!(verdict, Verdict::perfect(ALL), "{policy:?}");
        assert!(!faults(&world).is_empty(), "{policy:?}");
    }
}

#[test]
fn memory_is_given_up_to_the_limit_and_not_beyond_it() {
    for (limit, fits) in [(64 << 20, true), (16 << 20, false)] {
        let limits = Limits { memory: limit, ..Limits::default() };
        let bomb = member(guests::MEMORY_BOMB, json!({ "at_create": 20 << 20 }));
        let opened = World::new(1).open_on(0, session([MemberSpec { limits, ..bomb }]));
        assert_eq!(opened.is_ok(), fits, "{limit}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("memory"), "{error}");
        }
    }
}

#[test]
fn a_burst_is_dealt_with_whole_under_each_policy() {
    for (name, _, member) in failing() {
        for policy in [FaultPolicy::Bypass, FaultPolicy::Drop, FaultPolicy::Restart] {
            let mut source = Source::video(7);
            let (mut world, peer) = listener([member.clone().on_fault(policy)], &source);
            // The fault is in the middle of the one call for this burst.
            world.receive(peer, source.packets(ALL));
            let verdict = heard(&world, peer, &source);
            let expected = if policy == FaultPolicy::Drop { 0 } else { ALL };
            let early = if name.contains("typed") && policy == FaultPolicy::Drop { BEFORE } else { 0 };
            assert!(
                verdict == Verdict { lost: ALL - expected, ..Verdict::perfect(expected) }
                    || verdict == Verdict { lost: ALL - early, ..Verdict::perfect(early) },
                "{name} {policy:?}: {verdict:?}"
            );
            assert_eq!((verdict.duplicated, verdict.reordered, verdict.changed), (0, 0, 0), "{name} {policy:?}");
        }
    }
}
