//! A chain changes under traffic, and no packet is lost, duplicated or reordered by it.

use std::time::Duration;

use sandbar_host::{Kind, MemberSpec, Shard};
use sandbar_tests::media::{Source, Verdict};
use sandbar_tests::net::Profile;
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{counts, faults, guests, member, published, report, session};

fn counter(config: Value) -> MemberSpec {
    member(guests::BATCHED_COUNTER, config)
}

fn insert(world: &mut World, peer: PeerId, index: usize, spec: MemberSpec) {
    world
        .with(peer, |shard, now, session| shard.insert_member(now, session, index, spec))
        .expect("the member is accepted");
}

fn replace(world: &mut World, peer: PeerId, index: usize, spec: MemberSpec) {
    world
        .with(peer, |shard, now, session| shard.replace_member(now, session, index, spec))
        .expect("the successor is accepted");
}

fn remove(world: &mut World, peer: PeerId, index: usize) {
    world.with(peer, |shard, now, session| shard.remove_member(now, session, index)).expect("there is a member");
}

/// Two peers, five seconds of video, and one change of the chain in every half a second at both ends.
fn changing(mut change: impl FnMut(&mut World, PeerId, usize)) -> (World, PeerId, PeerId, Verdict) {
    let profile = Profile { delay: Duration::from_millis(7), ..Profile::default() };
    let (mut world, left, right) = World::pair(1, &profile, session([]), session([]));
    let source = Source { packets_per_frame: 1, frame_rate: 100, ..Source::video(7) };
    let flow = world.flow(left, right, source.clone(), source.info());
    world.play(flow, 500);
    for round in 0..10 {
        // Between two packets, and not always at the same distance.
        world.run_for(Duration::from_micros(497_300));
        change(&mut world, left, round);
        change(&mut world, right, round);
    }
    world.run_for(Duration::from_secs(1));
    let verdict = world.verdict(flow);
    (world, left, right, verdict)
}

#[test]
fn plugins_are_inserted_replaced_and_removed_without_a_gap() {
    let (mut world, left, right, verdict) = changing(|world, peer, round| match round {
        0 | 1 => insert(world, peer, 0, counter(json!({}))),
        2 => insert(world, peer, 1, member(guests::TYPED_COUNTER, json!({ "view": "packets" }))),
        3 => insert(world, peer, 3, counter(json!({ "access": "observe" }))),
        4 => replace(world, peer, 0, member(guests::TYPED_COUNTER, json!({}))),
        5 => replace(world, peer, 1, counter(json!({ "access": "observe", "view": "packets" }))),
        6 => remove(world, peer, 2),
        7 => replace(world, peer, 2, counter(json!({ "access": "pass" }))),
        8 => remove(world, peer, 0),
        _ => remove(world, peer, 1),
    });
    assert_eq!(verdict, Verdict::perfect(500));
    assert_eq!(faults(&world), []);
    for peer in [left, right] {
        let report = world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session");
        assert_eq!(report.members.len(), 1);
    }
}

#[test]
fn a_successor_in_another_lane_takes_over_the_counts_to_the_packet() {
    // Every other round another lane, in the same place, with the state handed over.
    let mut begun = false;
    let (mut world, left, right, verdict) = changing(|world, peer, round| {
        let spec = if round % 2 == 0 { counter(json!({})) } else { member(guests::TYPED_COUNTER, json!({})) };
        begun |= round == 1;
        if begun { replace(world, peer, 0, spec) } else { insert(world, peer, 0, spec) }
    });
    assert_eq!(verdict, Verdict::perfect(500));
    // The first came behind the first half second's packets: 0 to 490 ms, and the link's 7 ms at the receiver.
    assert_eq!(counts(&mut world, left, 0)["written"], 500 - 50);
    assert_eq!(counts(&mut world, right, 0)["read"], 500 - 50);
}

#[test]
fn what_an_observer_was_shown_adds_up_over_its_successors() {
    let (mut world, _, right, verdict) = changing(|world, peer, round| {
        let spec = counter(json!({ "access": "observe" }));
        if round == 0 { insert(world, peer, 0, spec) } else { replace(world, peer, 0, spec) }
    });
    assert_eq!(verdict, Verdict::perfect(500));
    assert_eq!(counts(&mut world, right, 0)["read"], 450);
    assert_eq!(report(&mut world, right, 0).packets_in, 450);
    // Each said farewell with what it had counted by then.
    let farewells = published(&world).into_iter().filter(|(name, _)| name == "closed").count();
    assert_eq!(farewells, 2 * 9);
}

/// Tries a change that must not succeed, in the middle of a stream, and gives back what was said.
fn refused(
    chain: &[MemberSpec],
    change: impl Fn(&mut Shard, sandbar_host::Instant, sandbar_host::SessionId) -> String,
) -> String {
    let profile = Profile::default();
    let (mut world, left, right) = World::pair(1, &profile, session([]), session(chain.to_vec()));
    let source = Source::video(7);
    let flow = world.flow(left, right, source.clone(), source.info());
    world.play(flow, 200);
    world.run_for(Duration::from_secs(1));
    let before = format!("{:?}", report(&mut world, right, 0).digest);
    let message = world.with(right, change);
    assert_eq!(format!("{:?}", report(&mut world, right, 0).digest), before);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.verdict(flow), Verdict::perfect(200));
    assert_eq!(counts(&mut world, right, 0)["read"], 200, "what ran before runs on");
    assert_eq!(faults(&world), [], "a fault before it took over is not the session's");
    assert_eq!(world.peer(right).sent(Kind::Rtp).count(), 0);
    message
}

#[test]
fn a_successor_that_refuses_or_fails_leaves_the_old_one_running() {
    let chain = [counter(json!({}))];
    for (spec, said) in [
        (counter(json!({ "refuse": "create" })), "told to refuse create"),
        (counter(json!({ "refuse": "bind" })), "told to refuse bind"),
        (member(guests::TYPED_COUNTER, json!({ "refuse": "bind" })), "told to refuse bind"),
        (counter(json!({ "acces": "observe" })), "acces"),
        (MemberSpec::new(crate::load(guests::BATCHED_COUNTER)).with_config("{"), "refuses its configuration"),
        (member(guests::TRAP, json!({ "at": "create" })), "trap"),
        (member(guests::TRAP, json!({ "at": "bind-rtcp" })), "trap"),
        (member(guests::TRAP, json!({ "at": "bind" })), "trap"),
        (member(guests::TRAP, json!({ "at": "bind", "stack": true })), "trap"),
        (member(guests::ENDLESS_LOOP, json!({ "at": "create" })), "deadline"),
        (member(guests::ENDLESS_LOOP, json!({ "at": "bind" })), "deadline"),
        (member(guests::MEMORY_BOMB, json!({ "at_create": 200 << 20 })), "memory"),
    ] {
        let message = refused(&chain, |shard, now, session| {
            shard.replace_member(now, session, 0, spec.clone()).expect_err("it refuses or fails").to_string()
        });
        assert!(message.contains(said) && message.contains(spec.plugin.name()), "{message}");
        let message = refused(&chain, |shard, now, session| {
            shard.insert_member(now, session, 1, spec.clone()).expect_err("it refuses or fails").to_string()
        });
        assert!(message.contains(said) && message.contains(spec.plugin.name()), "{message}");
    }
}

#[test]
fn a_place_that_the_chain_does_not_have_is_named() {
    let spec = counter(json!({}));
    let chain = [spec.clone()];
    for message in [
        refused(&chain, |shard, now, session| {
            shard.insert_member(now, session, 2, spec.clone()).expect_err("no place").to_string()
        }),
        refused(&chain, |shard, now, session| {
            shard.replace_member(now, session, 1, spec.clone()).expect_err("no place").to_string()
        }),
        refused(&chain, |shard, now, session| shard.remove_member(now, session, 1).expect_err("no place").to_string()),
    ] {
        assert!(message.contains("the chain has 1 members"), "{message}");
    }
}

#[test]
fn a_session_does_not_open_with_a_plugin_that_refuses_or_fails() {
    let mut world = World::new(1);
    for (spec, said) in [
        (counter(json!({ "refuse": "create" })), "told to refuse create"),
        (member(guests::TRAP, json!({ "at": "create" })), "trap"),
        (member(guests::ENDLESS_LOOP, json!({ "at": "create" })), "deadline"),
    ] {
        let error = world.open_on(0, session([counter(json!({})), spec])).expect_err("it refuses or fails").to_string();
        assert!(error.contains(said), "{error}");
    }
    let peer = world.open(session([counter(json!({}))]));
    let running = world.with(peer, |shard, _, _| (shard.sessions().count(), shard.instances()));
    assert_eq!(running, (1, 1), "nothing is left of the chains that were refused");
}

#[test]
fn a_stream_that_a_plugin_refuses_is_not_bound_and_nothing_else_changes() {
    let source = Source::video(7);
    let mut world = World::new(1);
    let peer = world.open(session([counter(json!({})), counter(json!({ "refuse": "bind" }))]));
    let error = world.with(peer, |shard, now, session| shard.bind_remote_stream(now, session, source.info()));
    let error = error.expect_err("it refuses").to_string();
    assert!(error.contains("told to refuse bind") && error.contains("batched-counter"), "{error}");
    world.receive(peer, source.clone().packets(10));
    assert_eq!(world.peer(peer).delivered.len(), 10);
    assert_eq!(counts(&mut world, peer, 0)["read"], 0, "the stream is unbound");
    remove(&mut world, peer, 1);
    world.bind_remote(peer, source.info());
    world.receive(peer, source.clone().packets(10));
    assert_eq!(counts(&mut world, peer, 0)["read"], 10);
}
