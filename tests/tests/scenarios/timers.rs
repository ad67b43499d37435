//! The host owns time, and wakes who asks for it.

use std::time::Duration;

use sandbar_host::MemberSpec;
use sandbar_tests::media::Source;
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{faults, guests, listener, member, seen, session, tell};

fn puppet() -> MemberSpec {
    member(guests::PUPPET, json!({}))
}

fn wake(world: &mut World, peer: PeerId, in_ms: Option<u64>, ssrc: Option<u32>) {
    tell(world, peer, 0, json!([{ "do": "wake", "in_ms": in_ms, "ssrc": ssrc }]));
}

/// When the puppet was woken, in milliseconds after `since`, and for which stream.
fn woken(world: &mut World, peer: PeerId, since: u64) -> Vec<(f64, Option<u64>)> {
    let seen = seen(world, peer, 0);
    let times = seen["timeouts"].as_array().cloned().unwrap_or_default();
    times.iter().map(|timeout| ((timeout[0].as_u64().unwrap_or(0) - since) as f64 / 1e6, timeout[1].as_u64())).collect()
}

#[test]
fn a_timer_comes_once_at_its_time() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let begun = world.now().as_nanos();
    wake(&mut world, peer, Some(25), None);
    wake(&mut world, peer, Some(40), Some(7));
    world.run_for(Duration::from_secs(10));
    assert_eq!(woken(&mut world, peer, begun), [(25.0, None), (40.0, Some(7))]);
}

#[test]
fn a_part_of_a_millisecond_is_rounded_up() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let begun = world.now().as_nanos();
    world.run_for(Duration::from_nanos(300_001));
    wake(&mut world, peer, Some(10), None);
    world.run_for(Duration::from_secs(1));
    assert_eq!(woken(&mut world, peer, begun), [(11.0, None)]);
}

#[test]
fn setting_a_timer_again_replaces_it_and_none_clears_it() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let begun = world.now().as_nanos();
    for (in_ms, ssrc) in [(Some(10), None), (Some(30), None), (Some(10), Some(7)), (None, Some(7))] {
        wake(&mut world, peer, in_ms, ssrc);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(woken(&mut world, peer, begun), [(30.0, None)]);
    wake(&mut world, peer, Some(5000), None);
    wake(&mut world, peer, Some(10), None);
    world.run_for(Duration::from_secs(10));
    assert_eq!(woken(&mut world, peer, begun), [(30.0, None), (1010.0, None)]);
}

#[test]
fn a_ticker_comes_at_each_interval_until_it_is_set_otherwise() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let begun = world.now().as_nanos();
    let ticker = |ms, ssrc| json!([{ "do": "wake-every", "ms": ms, "ssrc": ssrc }]);
    tell(&mut world, peer, 0, ticker(20, None::<u32>));
    tell(&mut world, peer, 0, ticker(50, Some(7)));
    world.run_for(Duration::from_millis(65));
    let mut ticks = vec![(20.0, None), (40.0, None), (50.0, Some(7)), (60.0, None)];
    assert_eq!(woken(&mut world, peer, begun), ticks);
    wake(&mut world, peer, Some(5), None);
    wake(&mut world, peer, None, Some(7));
    world.run_for(Duration::from_secs(1));
    ticks.push((70.0, None));
    assert_eq!(woken(&mut world, peer, begun), ticks, "once more, and no more");
    let next = world.with(peer, |shard, _, _| shard.poll_timeout());
    assert_eq!(next, None, "nothing is left of either");
}

#[test]
fn ticks_that_the_host_was_late_for_are_one_and_the_next_is_in_step() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let begun = world.now();
    tell(&mut world, peer, 0, json!([{ "do": "wake-every", "ms": 10 }]));
    world.with(peer, |shard, _, _| shard.handle_timeout(begun + Duration::from_millis(47)));
    let next = world.with(peer, |shard, _, _| shard.poll_timeout());
    assert_eq!(next, Some(begun + Duration::from_millis(50)));
    assert_eq!(woken(&mut world, peer, begun.as_nanos()), [(47.0, None)]);
}

#[test]
fn a_time_in_the_past_is_due_at_once() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let begun = world.now().as_nanos();
    wake(&mut world, peer, Some(0), None);
    assert_eq!(woken(&mut world, peer, begun), [], "but not within the call");
    world.run_for(Duration::from_millis(2));
    let woken = woken(&mut world, peer, begun);
    assert!(woken.len() == 1 && woken[0].0 <= 1.0, "{woken:?}");
}

#[test]
fn a_timer_ends_with_its_stream_and_its_session() {
    let mut world = World::new(1);
    let peer = world.open(session([puppet()]));
    let stream = world.bind_remote(peer, Source::video(7).info());
    wake(&mut world, peer, Some(10), Some(7));
    wake(&mut world, peer, Some(20), None);
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    let begun = world.now().as_nanos();
    world.run_for(Duration::from_millis(100));
    assert_eq!(woken(&mut world, peer, begun), [(20.0, None)]);
    wake(&mut world, peer, Some(10), None);
    world.with(peer, |shard, now, session| shard.close_session(now, session));
    world.run_for(Duration::from_millis(100));
    assert_eq!(faults(&world), []);
    let next = world.with(peer, |shard, _, _| shard.poll_timeout());
    assert_eq!(next, None, "and nothing is left to wait for");
}

#[test]
fn a_timer_of_a_plugin_that_was_replaced_does_not_wake_its_successor() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    wake(&mut world, peer, Some(10), None);
    wake(&mut world, peer, Some(10), Some(7));
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, puppet())).expect("a successor");
    world.run_for(Duration::from_millis(100));
    assert_eq!(seen(&mut world, peer, 0)["timeouts"], json!([]));
}

#[test]
fn timers_of_many_sessions_are_a_few_calls() {
    let mut world = World::new(1);
    let spec = member(guests::BATCHED_COUNTER, json!({ "publish_ms": 100 })).isolated(sandbar_host::Isolation::Tenant);
    let peers: Vec<_> = (0..500).map(|_| world.open(session([spec.clone()]))).collect();
    let before = crate::report(&mut world, peers[0], 0).calls;
    world.run_for(Duration::from_millis(1050));
    let calls = crate::report(&mut world, peers[0], 0).calls - before;
    assert_eq!(crate::published(&world).len().min(200), 200, "each was woken ten times, and may speak to the quota");
    // Sixteen in a call, as what a timer brings about may take its time.
    assert!((10 * 500 / 16..=10 * 500 / 16 + 20).contains(&calls), "{calls} calls for 5000 timers");
}

#[test]
fn a_plugin_is_told_the_time_of_the_call_and_the_walls() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let ntp = |world: &mut World| tell(world, peer, 0, json!([{ "do": "ntp" }])).remove(0).as_u64().unwrap_or(0);
    let first = ntp(&mut world);
    // The harness's wall clock shows 2020-01-01 00:00:11 after its first second (RFC 868: 1900 to 1970 in seconds).
    assert_eq!(first >> 32, 2_208_988_800 + 1_577_836_811);
    world.run_for(Duration::from_millis(1_500));
    let passed = ntp(&mut world) - first;
    assert_eq!(passed, (1 << 32) | (1 << 31));
}

#[test]
fn the_next_deadline_is_the_earliest_of_all() {
    let (mut world, peer) = listener([puppet()], &Source::video(7));
    let deadline = |world: &mut World| world.with(peer, |shard, now, _| shard.poll_timeout().map(|at| at - now));
    assert_eq!(deadline(&mut world), None);
    for (in_ms, expected) in [(5_000, 5_000), (90, 90), (8_000_000, 90)] {
        let ssrc = if in_ms == 90 { Some(7) } else { None };
        wake(&mut world, peer, Some(in_ms), ssrc);
        assert_eq!(deadline(&mut world), Some(Duration::from_millis(expected)));
    }
}
