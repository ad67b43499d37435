//! Who follows a stream is shown its headers when it matters: they wait while its timer is set and nothing is missing.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Datagram, Isolation, Kind, MemberSpec, Metric, SessionSpec, ShardConfig, TenantId};
use sandbar_tests::media::{Source, control};
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{faults, guests, listener, member, report, seen, session, tell};

/// Follows, counts what it is shown, and has its timer set from the start, unless that is `None`.
fn follower(in_ms: Option<u64>) -> MemberSpec {
    let wake: Vec<_> = in_ms.iter().map(|in_ms| json!({ "do": "wake", "in_ms": in_ms })).collect();
    member(
        guests::PUPPET,
        json!({
            "access": "follow",
            "rtcp": "observe",
            "on_create": wake,
            "on_read": [{ "do": "count", "name": "shown", "add": 1 }],
        }),
    )
}

/// How many packets a follower has been shown, without asking it.
fn shown(world: &mut World, peer: PeerId, index: usize) -> u64 {
    match report(world, peer, index).metrics.as_slice() {
        [(_, Metric::Count(count))] => *count,
        _ => 0,
    }
}

/// Packets that come a millisecond after each other, and another millisecond.
fn arrive(world: &mut World, peer: PeerId, packets: impl IntoIterator<Item = Bytes>) {
    for packet in packets {
        world.receive(peer, [packet]);
        world.run_for(Duration::from_millis(1));
    }
}

/// The sequence numbers that a follower was shown, in order.
fn numbers(world: &mut World, peer: PeerId, index: usize) -> Vec<u16> {
    let seen = seen(world, peer, index);
    let read = seen["read"].as_array().cloned().unwrap_or_default();
    read.iter().map(|packet| packet[0].as_u64().unwrap_or_default() as u16).collect()
}

#[test]
fn headers_wait_from_one_tick_to_the_next() {
    let mut source = Source::video(7);
    let ticker = json!([{ "do": "wake-every", "ms": 10 }]);
    let spec = member(
        guests::PUPPET,
        json!({
            "access": "follow",
            "on_create": ticker,
            "on_read": [{ "do": "count", "name": "shown", "add": 1 }],
        }),
    );
    let (mut world, peer) = listener([spec], &source);
    let mut seen = Vec::new();
    for _ in 0..4 {
        arrive(&mut world, peer, source.packets(9));
        seen.push(shown(&mut world, peer, 0));
        arrive(&mut world, peer, source.packets(1));
        seen.push(shown(&mut world, peer, 0));
    }
    assert_eq!(seen, [1, 10, 10, 20, 20, 30, 30, 40]);
}

#[test]
fn headers_in_order_wait_for_the_timer_and_come_before_it_each_with_its_own_time() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([follower(Some(100))], &source);
    let begun = world.now();
    arrive(&mut world, peer, source.packets(1));
    assert_eq!(shown(&mut world, peer, 0), 1, "the first follows none");
    arrive(&mut world, peer, source.packets(8));
    world.run_until(begun + Duration::from_millis(99));
    assert_eq!(shown(&mut world, peer, 0), 1);
    world.run_until(begun + Duration::from_millis(100));
    assert_eq!(shown(&mut world, peer, 0), 9);
    arrive(&mut world, peer, source.packets(1));
    assert_eq!(shown(&mut world, peer, 0), 10, "no timer is set");
    let times: Vec<_> = (0..9).chain([100]).map(|ms| json!((begun + Duration::from_millis(ms)).as_nanos())).collect();
    let seen = seen(&mut world, peer, 0);
    let read = seen["read"].as_array().unwrap();
    assert_eq!(read.iter().map(|packet| packet[1].clone()).collect::<Vec<_>>(), times);
    assert_eq!(seen["timeouts"], json!([[(begun + Duration::from_millis(100)).as_nanos(), Value::Null]]));
}

#[test]
fn a_timer_that_is_cleared_has_nothing_wait_and_one_that_is_set_again_does() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([follower(Some(10_000))], &source);
    arrive(&mut world, peer, source.packets(3));
    assert_eq!(shown(&mut world, peer, 0), 1);
    for (in_ms, waits) in [(None, false), (Some(5_000), true), (None, false)] {
        tell(&mut world, peer, 0, json!([{ "do": "wake", "in_ms": in_ms }]));
        assert_eq!(shown(&mut world, peer, 0), source.made, "a call brings what waits");
        arrive(&mut world, peer, source.packets(2));
        assert_eq!(shown(&mut world, peer, 0), source.made - if waits { 2 } else { 0 }, "{in_ms:?}");
    }
}

#[test]
fn what_tells_of_a_loss_does_not_wait_nor_does_what_came_before() {
    let source = Source::video(7);
    let cases: [(&str, Vec<u64>); 5] = [
        ("a gap", vec![0, 1, 2, 4]),
        ("late", vec![0, 1, 3, 4, 5, 2]),
        ("double", vec![0, 1, 2, 2]),
        ("a jump back", vec![60, 61, 62, 5]),
        // Which wait in two places.
        ("a gap after many", (0..26).chain([27]).collect()),
    ];
    for (about, order) in cases {
        let (mut world, peer) = listener([follower(Some(10_000))], &source);
        let (last, before) = order.split_last().unwrap();
        arrive(&mut world, peer, before.iter().map(|index| source.nth(*index)));
        assert!(shown(&mut world, peer, 0) < before.len() as u64, "{about}");
        arrive(&mut world, peer, [source.nth(*last)]);
        assert_eq!(shown(&mut world, peer, 0), order.len() as u64, "{about}");
        let expected: Vec<_> = order.iter().map(|index| source.sequence_number(*index)).collect();
        assert_eq!(numbers(&mut world, peer, 0), expected, "{about}");
    }
}

#[test]
fn only_so_many_wait_and_take_one_call_together() {
    // A log holds 24 without extensions. Whole logs wait in the batch until it has 64, or half as many where a session has an
    // instance of its own, and one beside it.
    for (isolation, most, calls) in [(Isolation::Tenant, 3 * 24, 2..=4), (Isolation::Session, 2 * 24, 4..=7)] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([follower(Some(100_000)).isolated(isolation)], &source);
        arrive(&mut world, peer, source.packets(1));
        let before = report(&mut world, peer, 0).calls;
        for _ in 0..200 {
            arrive(&mut world, peer, source.packets(1));
            let waiting = source.made - shown(&mut world, peer, 0);
            assert!(waiting <= most, "{isolation:?}: {waiting} headers wait");
            let due = world.with(peer, |shard, now, _| shard.poll_timeout().map(|at| at - now));
            assert!(due > Some(Duration::from_secs(90)), "nothing is to be done for them: {due:?}");
        }
        let made = report(&mut world, peer, 0).calls - before;
        assert!(calls.contains(&made), "{isolation:?}: {made} calls for 200 packets");
    }
}

#[test]
fn where_the_application_says_so_nothing_waits() {
    let mut source = Source::video(7);
    let mut world = World::with_config(1, 1, ShardConfig { patient: false, ..ShardConfig::default() });
    let peer = world.open(session([follower(Some(100_000))]));
    world.bind_remote(peer, source.info());
    arrive(&mut world, peer, source.packets(5));
    assert_eq!(shown(&mut world, peer, 0), 5);
}

#[test]
fn many_at_once_are_handed_over_at_once() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([follower(Some(100_000))], &source);
    world.receive(peer, source.packets(1000));
    let waiting = 1000 - shown(&mut world, peer, 0);
    assert!(waiting < 100, "{waiting} headers wait");
}

#[test]
fn rtcp_unbinding_and_a_swap_bring_what_waits() {
    let mut source = Source::video(7);
    let mut world = World::new(1);
    let peer = world.open(session([follower(Some(100_000)), follower(Some(100_000))]));
    let stream = world.bind_remote(peer, source.info());
    arrive(&mut world, peer, source.packets(5));
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [1, 1]);
    world.receive(peer, [control::receiver_report(7)]);
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [5, 5]);
    arrive(&mut world, peer, source.packets(5));
    let next = follower(Some(100_000));
    // Among the others of its instance nobody is called.
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, next)).unwrap();
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [0, 5]);
    arrive(&mut world, peer, source.packets(2));
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [1, 11], "the successor is shown its first");
    let timeless = follower(None);
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 1, timeless)).unwrap();
    arrive(&mut world, peer, source.packets(2));
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [3, 2], "its predecessor's timer is not its own");
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [4, 2]);
    assert_eq!(faults(&world), []);
}

#[test]
fn who_comes_into_a_chain_or_leaves_it_changes_nothing_for_others() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([follower(Some(100_000)), follower(None)], &source);
    arrive(&mut world, peer, source.packets(5));
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [1, 5]);
    let passing = member(guests::PUPPET, json!({ "access": "pass" }));
    world.with(peer, |shard, now, session| shard.insert_member(now, session, 0, passing)).unwrap();
    world.run_for(Duration::from_millis(1));
    assert_eq!([1, 2].map(|index| shown(&mut world, peer, index)), [5, 5], "a change brings what waits");
    arrive(&mut world, peer, source.packets(4));
    assert_eq!([1, 2].map(|index| shown(&mut world, peer, index)), [6, 9], "the first after a change follows none");
    world.with(peer, |shard, now, session| shard.remove_member(now, session, 0)).unwrap();
    arrive(&mut world, peer, source.packets(4));
    assert_eq!([0, 1].map(|index| shown(&mut world, peer, index)), [10, 13]);
    let expected: Vec<_> = (0..13).map(|index| source.sequence_number(index)).collect();
    assert_eq!([0, 1].map(|index| numbers(&mut world, peer, index)), [expected.clone(), expected]);
}

/// Two sessions of a tenant in one instance, with a stream each.
fn neighbours(spec: &MemberSpec) -> (World, [PeerId; 2], [Source; 2]) {
    let mut world = World::new(1);
    let sources = [100, 200].map(Source::video);
    let peers = [0, 1].map(|n| {
        let chain = session([spec.clone().isolated(Isolation::Tenant)]);
        let peer = world.open(SessionSpec { tenant: TenantId(1), seed: n, ..chain });
        world.bind_remote(peer, sources[n as usize].info());
        peer
    });
    assert_eq!(world.with(peers[0], |shard, _, _| shard.instances()), 1);
    (world, peers, sources)
}

#[test]
fn what_is_called_for_one_session_brings_nothing_of_another() {
    let (mut world, [one, other], [mut of_one, mut of_other]) = neighbours(&follower(Some(100_000)));
    arrive(&mut world, one, of_one.packets(4));
    arrive(&mut world, other, of_other.packets(4));
    tell(&mut world, one, 0, json!([{ "do": "wake", "in_ms": 50 }]));
    assert_eq!([one, other].map(|peer| shown(&mut world, peer, 0)), [4, 1]);
    arrive(&mut world, one, of_one.packets(2));
    world.run_for(Duration::from_millis(50));
    assert_eq!([one, other].map(|peer| shown(&mut world, peer, 0)), [6, 1]);
    world.receive(other, [control::receiver_report(7)]);
    assert_eq!([one, other].map(|peer| shown(&mut world, peer, 0)), [6, 4]);
}

#[test]
fn a_neighbours_fault_takes_what_waits_and_no_more() {
    let (mut world, [one, other], [mut of_one, mut of_other]) = neighbours(&follower(Some(100_000)));
    arrive(&mut world, one, of_one.packets(3));
    arrive(&mut world, other, of_other.packets(3));
    let trap = json!([{ "do": "trap" }]).to_string();
    assert!(world.with(one, |shard, now, session| shard.control(now, session, 0, &trap)).is_err());
    arrive(&mut world, other, of_other.packets(5));
    let expected: Vec<_> = (3..8).map(|index| of_other.sequence_number(index)).collect();
    assert_eq!(numbers(&mut world, other, 0), expected, "its state is gone, and what would have been in it");
    assert_eq!(faults(&world).len(), 1);
}

#[test]
fn what_waits_is_tried_again_with_the_batch_that_failed() {
    let (mut world, peers, [mut of_one, mut of_other]) = neighbours(&follower(Some(100_000)));
    let [one, other] = peers;
    arrive(&mut world, one, of_one.packets(3));
    arrive(&mut world, other, of_other.packets(3));
    tell(&mut world, one, 0, json!([{ "do": "packets", "to": "trap" }]));
    // A gap brings the batch, and what follows it waits for later.
    of_other.made = 9;
    let packets = [(one, of_one.nth(9))].into_iter().chain(of_other.packets(3).into_iter().map(|bytes| (other, bytes)));
    let datagrams: Vec<_> =
        packets.map(|(peer, bytes)| Datagram { session: world.peer(peer).session, kind: Kind::Rtp, bytes }).collect();
    world.with(one, |shard, now, _| shard.read(now, datagrams));
    world.run_for(Duration::from_millis(1));
    let instances = world.with(one, |shard, _, _| shard.instances());
    assert_eq!(instances, 2, "nobody fails again, and each stays alone");
    arrive(&mut world, other, of_other.packets(2));
    let expected: Vec<_> = [1, 2, 9, 10, 11, 12, 13].map(|index| of_other.sequence_number(index)).into();
    assert_eq!(numbers(&mut world, other, 0), expected);
}
