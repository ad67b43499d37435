//! Streams and sessions come and go at any time.

use std::time::Duration;

use sandbar_host::{Event, Kind, MemberSpec};
use sandbar_tests::media::{Judge, Source, Verdict, control};
use sandbar_tests::peers::World;
use serde_json::{Value, json};

use crate::{counts, delivered, faults, guests, heard, listener, member, published, report, seen, session, tell};

fn puppet(config: Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

#[test]
fn a_stream_may_be_unbound_at_once() {
    let mut source = Source::video(7);
    let chain = [puppet(json!({})), member(guests::TYPED_COUNTER, json!({})), puppet(json!({ "access": "observe" }))];
    let mut world = World::new(1);
    let peer = world.open(session(chain));
    for _ in 0..100 {
        let remote = world.bind_remote(peer, source.info());
        let local = world.bind_local(peer, Source::video(8).info());
        world.with(peer, |shard, now, _| shard.unbind_stream(now, remote));
        world.with(peer, |shard, now, _| shard.unbind_stream(now, local));
        world.with(peer, |shard, now, _| shard.unbind_stream(now, local));
    }
    let seen_by_first = seen(&mut world, peer, 0);
    assert_eq!(seen_by_first["bound"].as_array().map(Vec::len), Some(200));
    assert_eq!(seen_by_first["unbound"].as_array().map(Vec::len), Some(200));
    world.receive(peer, source.packets(5));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(5), "an unbound stream's packets pass");
    assert_eq!(seen(&mut world, peer, 0)["read"], json!([]));
    assert_eq!(faults(&world), []);
}

#[test]
fn an_observer_sees_a_streams_packets_before_its_end() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([puppet(json!({ "access": "observe" }))], &source);
    let stream = world.bind_remote(peer, Source::audio(9).info());
    world.receive(peer, source.packets(3));
    world.receive(peer, Source::audio(9).packets(2));
    // No time has passed: the batch still waits.
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    let seen = seen(&mut world, peer, 0);
    assert_eq!(seen["read"].as_array().map(Vec::len), Some(5));
    assert_eq!(seen["unbound"], json!([9]));
}

#[test]
fn two_streams_of_a_direction_do_not_share_an_ssrc() {
    let source = Source::video(7);
    let (mut world, peer) = listener([], &source);
    for info in [source.info(), Source::video(6).info_with_rtx()] {
        let error = world.with(peer, |shard, now, session| shard.bind_remote_stream(now, session, info));
        assert!(error.expect_err("7 is taken").to_string().contains("00000007"));
    }
    world.bind_local(peer, source.info());
}

#[test]
fn a_stream_can_be_bound_again_and_begins_afresh() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([puppet(json!({ "history": 16 }))], &source);
    world.receive(peer, source.packets(4));
    let stream = world.peer(peer).delivered[0].stream.expect("a bound stream");
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    let again = world.bind_remote(peer, source.info());
    assert_ne!(stream, again);
    let lookup = json!([{ "do": "lookup", "ssrc": 7, "sequence_number": source.sequence_number(0) }]);
    assert_eq!(tell(&mut world, peer, 0, lookup), [Value::Null], "the history ended with the stream");
    world.receive(peer, source.packets(4));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(8));
    assert_eq!(world.peer(peer).delivered[4].stream, Some(again));
}

#[test]
fn what_a_plugin_emits_when_it_is_closed_still_goes_out() {
    let source = Source::video(7);
    let header = source.nth(0).slice(..12).to_vec();
    let farewell = json!([
        { "do": "emit-rtp", "ssrc": 7, "header": header, "payload": [1, 2, 3] },
        { "do": "emit-rtcp", "packets": control::picture_loss(1, 7).to_vec() },
        { "do": "publish", "name": "farewell", "json": "{}" },
    ]);
    for close in [true, false] {
        let mut world = World::new(1);
        let peer = world.open(session([puppet(json!({})), puppet(json!({ "on_close": farewell }))]));
        world.bind_local(peer, source.info());
        if close {
            world.with(peer, |shard, now, session| shard.close_session(now, session));
        } else {
            world.with(peer, |shard, now, session| shard.remove_member(now, session, 1)).expect("there is a member");
        }
        let rtcp: Vec<_> = world.peer(peer).sent(Kind::Rtcp).collect();
        assert_eq!(rtcp.len(), 1);
        assert_eq!(control::kinds(rtcp[0]), Some(vec![201, 202, 206]));
        assert_eq!(published(&world), [("farewell".to_owned(), "{}".to_owned())]);
        if !close {
            // The streams of a session that closes have ended before its plugins.
            assert_eq!(world.peer(peer).sent(Kind::Rtp).count(), 1);
        }
    }
}

#[test]
fn what_is_held_of_a_stream_still_goes_out_when_the_stream_ends() {
    // Held in the middle of a chain: what is let go still passes those ahead, which are told of the end later.
    let all = [(true, false), (true, true), (false, false), (false, true)];
    for (at, (local, close)) in [all, all].as_flattened().iter().copied().enumerate() {
        let mut source = Source::video(7);
        let numbers = (0..5).map(|index| source.sequence_number(index));
        let release: Vec<_> =
            numbers.map(|number| json!({ "do": "release", "ssrc": 7, "sequence_number": number })).collect();
        let mark = |id: u8| puppet(json!({ "packets": { "extend": [id, [1, 2, 3]] } }));
        // The first four let go by themselves; of the others it is the host that does.
        let holder = puppet(json!({ "packets": "hold", "on_unbind": if at < 4 { release } else { Vec::new() } }));
        let mut world = World::new(1);
        let peer = world.open(session([mark(3), holder, mark(4)]));
        let stream = if local { world.bind_local(peer, source.info()) } else { world.bind_remote(peer, source.info()) };
        let packets = source.packets(5);
        if local {
            world.send(peer, packets)
        } else {
            world.receive(peer, packets)
        }
        assert_eq!((world.peer(peer).delivered.len(), world.peer(peer).sent.len()), (0, 0));
        world.with(
            peer,
            |shard, now, session| {
                if close { shard.close_session(now, session) } else { shard.unbind_stream(now, stream) }
            },
        );
        let out = if local { crate::sent(&world, peer) } else { delivered(&world, peer) };
        let out: Vec<_> = out.into_iter().filter(|bytes| Kind::of(bytes) == Kind::Rtp).collect();
        assert_eq!(Judge::all(&source, &out).verdict(5), Verdict::perfect(5), "{local} {close}");
        assert!(out.iter().all(|bytes| bytes.len() == 1012 + 12), "each has both marks");
        assert_eq!(faults(&world), []);
    }
}

#[test]
fn after_a_session_is_closed_nothing_is_called_and_nothing_comes() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([member(guests::BATCHED_COUNTER, json!({ "publish_ms": 10 }))], &source);
    let (mut quiet, other) = (Source::video(9), world.open(session([])));
    world.receive(peer, source.packets(3));
    world.run_for(Duration::from_millis(15));
    world.with(peer, |shard, now, session| shard.close_session(now, session));
    world.with(peer, |shard, now, session| shard.close_session(now, session));
    let heard_so_far = published(&world);
    assert_eq!(heard_so_far.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["counts", "closed"]);
    world.receive(peer, source.packets(3));
    world.send(peer, source.packets(3));
    world.receive(other, quiet.packets(3));
    world.run_for(Duration::from_secs(1));
    assert_eq!(published(&world), heard_so_far);
    assert_eq!(delivered(&world, peer).len(), 3);
    assert_eq!(heard(&world, other, &quiet), Verdict::perfect(3));
    let left = world.with(peer, |shard, now, session| {
        let late = shard.control(now, session, 0, "counts").expect_err("closed").to_string();
        assert!(late.contains("no such session"), "{late}");
        assert!(shard.bind_remote_stream(now, session, Source::video(1).info()).is_err());
        assert!(shard.session_report(session).is_none());
        (shard.sessions().count(), shard.instances())
    });
    assert_eq!(left, (1, 0), "its instance is gone with it");
}

#[test]
fn a_session_that_closes_in_the_middle_of_a_burst_leaves_the_others_alone() {
    // Twenty sessions in one shared instance; one burst for all of them, then half are closed while observers' batches
    // still wait.
    let observe =
        member(guests::BATCHED_COUNTER, json!({ "access": "observe" })).isolated(sandbar_host::Isolation::Tenant);
    let mut world = World::new(1);
    let peers: Vec<_> = (0..20).map(|_| world.open(session([observe.clone()]))).collect();
    let mut sources: Vec<_> = (0..20).map(|n| Source::video(100 + n)).collect();
    for (peer, source) in peers.iter().zip(&sources) {
        world.bind_remote(*peer, source.info());
    }
    let mut feed = |world: &mut World| {
        for (peer, source) in peers.iter().zip(&mut sources) {
            world.receive(*peer, source.packets(3));
        }
    };
    feed(&mut world);
    for peer in peers.iter().step_by(2) {
        world.with(*peer, |shard, now, session| shard.close_session(now, session));
    }
    feed(&mut world);
    world.run_for(Duration::from_millis(10));
    let farewells: Vec<Value> =
        published(&world).iter().map(|(_, json)| serde_json::from_str(json).expect("JSON")).collect();
    assert_eq!(farewells.len(), 10);
    assert!(farewells.iter().all(|counts| counts["read"] == 3), "{farewells:?}");
    for (n, peer) in peers.iter().enumerate() {
        let expected = if n % 2 == 0 { 3 } else { 6 };
        assert_eq!(delivered(&world, *peer).len(), expected);
        if n % 2 == 1 {
            assert_eq!(counts(&mut world, *peer, 0)["read"], 6);
            assert_eq!(report(&mut world, *peer, 0).packets_in, 6);
        }
    }
    assert_eq!(faults(&world), []);
}

#[test]
fn a_plugin_that_fails_at_unbind_or_close_fails_alone() {
    for at in ["unbind", "close"] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([member(guests::TRAP, json!({ "at": at })), puppet(json!({}))], &source);
        let other = world.open(session([puppet(json!({}))]));
        world.receive(peer, source.packets(3));
        let stream = world.peer(peer).delivered[0].stream.expect("a bound stream");
        world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
        let unbound = seen(&mut world, peer, 1)["unbound"].clone();
        assert_eq!(unbound, json!([7]), "its neighbours are told all the same");
        world.with(peer, |shard, now, session| shard.close_session(now, session));
        assert_eq!(seen(&mut world, other, 0)["bound"], json!([]));
        let told = world.events.iter().any(|(_, event)| matches!(event, Event::Fault { .. }));
        assert!(told, "a fault at {at} is told");
    }
}
