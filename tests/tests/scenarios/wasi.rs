//! A plugin whose language's runtime needs WASI gets one that leads nowhere.

use std::time::Duration;

use sandbar_host::{Event, FaultAction, FaultKind, FaultPolicy, Grants, LoadError, MemberSpec, Plugin};
use sandbar_tests::engine::engine;
use sandbar_tests::media::{Source, Verdict};
use sandbar_tests::peers::{PeerId, World};
use serde_json::Value;

use crate::{faults, guests, heard, listener};

fn hello(grants: Grants) -> MemberSpec {
    MemberSpec::new(Plugin::load(engine(), guests::WASI_HELLO, &grants).expect("a plugin"))
        .on_fault(FaultPolicy::Bypass)
}

fn lines(world: &World) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::Log { message, .. } => Some(message.clone()),
        _ => None,
    };
    world.events.iter().filter_map(|(_, event)| line(event)).collect()
}

fn authority(world: &mut World, peer: PeerId) -> Value {
    serde_json::from_str(&world.control(peer, 0, "authority")).expect("JSON")
}

#[test]
fn without_what_it_wants_it_is_not_loaded() {
    for (grants, missing) in [
        (Grants::default(), "wasi"),
        (Grants { wall_clock: false, ..Grants::ALL }, "wall-clock"),
        (Grants { randomness: false, ..Grants::ALL }, "randomness"),
    ] {
        let error = Plugin::load(engine(), guests::WASI_HELLO, &grants).expect_err("it wants it");
        assert!(matches!(error, LoadError::NotGranted { .. }), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn with_the_grant_it_works_and_its_output_is_logged() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([hello(Grants::ALL)], &source);
    for _ in 0..25 {
        world.receive(peer, source.packets(10));
        world.run_for(Duration::from_millis(10));
    }
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(250));
    let lines = lines(&world);
    for said in ["Hello from session 1 with {}", "and from standard error", "100 packets", "200 packets"] {
        assert!(lines.iter().any(|line| line.trim_end() == said), "{said:?} is missing from {lines:?}");
    }
    assert_eq!(faults(&world), []);
}

#[test]
fn it_finds_no_files_and_no_environment() {
    let (mut world, peer) = listener([hello(Grants::ALL)], &Source::video(7));
    let found = authority(&mut world, peer);
    assert_eq!((&found["files"], &found["environment"]), (&Value::from(false), &Value::from(false)));
}

#[test]
fn its_clocks_are_the_hosts() {
    let (mut world, peer) = listener([hello(Grants::ALL)], &Source::video(7));
    world.run_for(Duration::from_millis(1_500));
    let found = authority(&mut world, peer);
    assert_eq!(found["elapsed_ns"], 1_500_000_000u64);
    // See the harness: 2020-01-01 00:00:10 at its zero, and it begins at one second.
    assert_eq!(found["unix"], 1_577_836_812u64);
}

#[test]
fn ending_the_process_ends_the_instance() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([hello(Grants::ALL)], &source);
    let answer = world.with(peer, |shard, now, session| shard.control(now, session, 0, "exit"));
    assert!(answer.is_err());
    assert_eq!(faults(&world), [(FaultKind::Trap, FaultAction::Bypassed)]);
    world.receive(peer, source.packets(5));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(5));
}
