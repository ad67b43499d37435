//! Packets that plugins hold: let go later, handed over, and never lost with their plugin.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{
    FaultAction, FaultKind, FaultPolicy, Isolation, Kind, Limits, MemberSpec, SessionSpec, TenantId, Value,
};
use sandbar_tests::media::{Source, Verdict, fields};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{delivered, faults, guests, heard, listener, member, report, seen, sent, session, speaker, tell};

fn puppet(config: serde_json::Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

fn holder() -> MemberSpec {
    puppet(json!({ "packets": "hold" }))
}

/// Asks for what is held when it is bound, as a successor does that goes on with it.
fn heir() -> MemberSpec {
    puppet(json!({ "packets": "hold", "on_bind": [{ "do": "held", "ssrc": 7 }] }))
}

fn release(
    world: &mut World,
    peer: PeerId,
    member: usize,
    ids: impl IntoIterator<Item = u64>,
) -> Vec<serde_json::Value> {
    let commands: Vec<_> = ids.into_iter().map(|id| json!({ "do": "release", "id": id })).collect();
    tell(world, peer, member, json!(commands))
}

/// At every moment, what came in and what is the plugin's own has gone out, was dropped or is held.
fn held(world: &mut World, peer: PeerId, member: usize) -> usize {
    let report = report(world, peer, member);
    let gone = report.packets_out + report.dropped + report.held as u64;
    assert_eq!(report.packets_in + report.emitted, gone, "{report:?}");
    report.held
}

/// Sequence numbers of the RTP that was delivered, counted from the source's first.
fn order(packets: &[Bytes], source: &Source) -> Vec<u16> {
    let rtp = packets.iter().filter(|bytes| Kind::of(bytes) == Kind::Rtp);
    let first = source.sequence_number(0);
    rtp.map(|bytes| u16::from_be_bytes([bytes[2], bytes[3]]).wrapping_sub(first)).collect()
}

#[test]
fn what_is_held_is_let_go_later_as_it_came_and_without_a_copy() {
    let mut source = Source { extensions: vec![(5, vec![1, 2])], ..Source::video(7) };
    let (mut world, peer) = listener([holder()], &source);
    let burst = source.packets(30);
    world.receive(peer, burst.clone());
    let arrived = world.now();
    assert_eq!((world.peer(peer).delivered.len(), held(&mut world, peer, 0)), (0, 30));
    world.run_for(Duration::from_secs(1));
    let answers = release(&mut world, peer, 0, 0..30);
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
    assert_eq!((heard(&world, peer, &source), held(&mut world, peer, 0)), (Verdict::perfect(30), 0));
    for (came, went) in burst.iter().zip(world.peer(peer).rtp()) {
        assert_eq!(went.payload().as_ptr_range().end, came.as_ptr_range().end, "the media is the very same bytes");
        assert_eq!(went.time(), arrived, "it keeps the time at which it arrived");
    }
    assert_eq!(release(&mut world, peer, 0, [0, 29, 30, u64::MAX]), ["Unknown"; 4], "each once");
}

#[test]
fn what_a_plugin_held_that_fails_over_a_streams_end_still_passes_those_behind_it() {
    let failing = || puppet(json!({ "packets": "hold", "on_unbind": [{ "do": "trap" }] }));
    for count in 1..3 {
        let mut source = Source::video(7);
        let mut world = World::new(1);
        let peer = world.open(session((0..count).map(|_| failing()).chain([puppet(json!({}))])));
        let stream = world.bind_remote(peer, source.info());
        world.receive(peer, source.packets(5));
        assert_eq!(world.peer(peer).delivered.len(), 0);
        world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
        assert_eq!(heard(&world, peer, &source), Verdict::perfect(5), "{count} holders");
        assert_eq!(report(&mut world, peer, count).packets_out, 5);
    }
}

#[test]
fn what_is_let_go_to_the_wire_is_sent_when_it_is_let_go() {
    let mut source = Source::video(7);
    let watching = puppet(json!({ "access": "observe" }));
    let (mut world, peer) = speaker([watching, holder()], &source);
    world.send(peer, source.packets(3));
    world.run_for(Duration::from_secs(1));
    let now = world.now().as_nanos();
    assert_eq!(release(&mut world, peer, 1, [2, 0, 1]), ["ok"; 3]);
    assert_eq!(order(&sent(&world, peer), &source), [2, 0, 1], "in the order in which they are let go");
    let written = seen(&mut world, peer, 0)["written"].clone();
    let times: Vec<_> = written.as_array().expect("packets").iter().map(|packet| packet[1].clone()).collect();
    assert_eq!(times, [now, now, now]);
}

#[test]
fn of_two_who_let_go_at_one_time_the_one_farther_out_does_not_overtake_the_other() {
    for way in ["read", "write"] {
        let hold = |every, hold_ms| {
            let on = format!("on_{way}");
            member(guests::PROBE, json!({ way: "transform-headers", on: "hold", "every": every, "hold_ms": hold_ms }))
        };
        // The first holds each packet, the second one every other. At 35 ms it lets the second packet go, and the first one
        // the third, which passes it.
        let (first, second) = (hold(1, 20), hold(2, 15));
        let chain = if way == "read" { [first, second] } else { [second, first] };
        let mut source = Source::video(7);
        let (mut world, peer) = if way == "read" { listener(chain, &source) } else { speaker(chain, &source) };
        let mut give = |world: &mut World, packets| match way {
            "read" => world.receive(peer, source.packets(packets)),
            _ => world.send(peer, source.packets(packets)),
        };
        give(&mut world, 2);
        world.run_for(Duration::from_millis(15));
        give(&mut world, 1);
        world.run_for(Duration::from_millis(20));
        let went = if way == "read" { delivered(&world, peer) } else { sent(&world, peer) };
        assert_eq!(order(&went, &source), [0, 1, 2], "{way}");
    }
}

#[test]
fn what_is_held_may_be_let_go_in_the_same_call_or_dropped() {
    let mut source = Source::video(7);
    let first = json!({ "do": "release", "id": 0 });
    // With each packet that comes, the first one that is still held.
    let (mut world, peer) = listener([puppet(json!({ "packets": "hold", "on_read": [first] }))], &source);
    world.receive(peer, source.packets(3));
    assert_eq!((order(&delivered(&world, peer), &source), held(&mut world, peer, 0)), (vec![0], 2));
    let discard = |id: u64| json!({ "do": "discard", "id": id });
    let answers = tell(&mut world, peer, 0, json!([discard(1), discard(1), discard(9), { "do": "release", "id": 1 }]));
    assert_eq!(answers, [json!(true), json!(false), json!(false), json!("Unknown")]);
    assert_eq!((held(&mut world, peer, 0), report(&mut world, peer, 0).dropped), (1, 1));
}

#[test]
fn a_packet_leaves_with_another_header_and_more_attributes_or_stays_held() {
    let mut source = Source::video(7);
    let marking = puppet(json!({ "packets": { "attribute": ["first", "one"] } }));
    let mut world = World::new(1);
    let peer = world.open(session([marking, holder()]));
    world.bind_remote(peer, source.info_with_rtx());
    let came = source.packet();
    world.receive(peer, [came.clone()]);
    let mut header = came.slice(..12).to_vec();
    let refused = |what: Vec<u8>| json!({ "do": "release", "id": 0, "header": what });
    let mut foreign = header.clone();
    foreign[11] = 99;
    let mut long = header.clone();
    long[0] |= 0x10;
    long.extend([0xbe, 0xde, 0, 100]);
    long.resize(12 + 4 + 400, 0);
    let answers = tell(&mut world, peer, 1, json!([refused(vec![1]), refused(foreign), refused(long)]));
    assert!(answers[0].as_str().is_some_and(|answer| answer.starts_with("Malformed")), "{answers:?}");
    assert_eq!(answers[1..], ["ForeignSsrc", "TooLarge"]);
    assert_eq!(held(&mut world, peer, 1), 1);
    header[3] = 42;
    let go = |attribute: &str| json!({ "do": "release", "id": 0, "header": header, "attribute": [attribute, "two"] });
    assert_eq!(tell(&mut world, peer, 1, json!([go("sandbar.mine"), go("second")])), ["Denied", "ok"]);
    let packet = world.peer(peer).rtp().next().expect("a packet");
    assert_eq!(packet.attributes().get("first"), Some(&Value::Text("one".into())));
    assert_eq!(packet.attributes().get("second"), Some(&Value::Text("two".into())));
    let (was, is) = (fields(&came).expect("RTP"), delivered(&world, peer).remove(0));
    assert_eq!((is[3], &is[12..]), (42, was.payload));
}

#[test]
fn no_more_is_held_than_the_operator_allows_and_what_is_let_go_makes_room_at_once() {
    for (limits, fits) in [
        (Limits { held_packets: 5, ..Limits::default() }, 5),
        (Limits { held_bytes: 3 * 1012, ..Limits::default() }, 3),
        (Limits { held_packets: 0, ..Limits::default() }, 0),
    ] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([MemberSpec { limits, ..holder() }], &source);
        world.receive(peer, source.packets(8));
        assert_eq!(seen(&mut world, peer, 0)["errors"], json!(vec!["Quota"; 8 - fits]));
        assert_eq!((held(&mut world, peer, 0), report(&mut world, peer, 0).held_bytes), (fits, fits * 1012));
        let go = json!({ "do": "release", "id": 0 });
        let spec = MemberSpec { limits, ..puppet(json!({ "packets": "hold", "on_read": [go] })) };
        let (mut world, peer) = listener([spec], &source);
        world.receive(peer, source.packets(8));
        assert_eq!(held(&mut world, peer, 0), fits, "one more fits after the first has gone");
        assert_eq!(delivered(&world, peer).len(), fits.min(1));
    }
}

#[test]
fn who_observes_holds_nothing_and_who_holds_does_not_hand_on() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([puppet(json!({ "access": "observe", "packets": "hold" }))], &source);
    world.receive(peer, source.packets(3));
    world.run_for(Duration::from_millis(2));
    assert_eq!(seen(&mut world, peer, 0)["errors"], json!(["Denied", "Denied", "Denied"]));
    assert_eq!((heard(&world, peer, &source), held(&mut world, peer, 0)), (Verdict::perfect(3), 0));

    let both = puppet(json!({ "packets": "hold-and-forward" })).on_fault(FaultPolicy::Bypass);
    let (mut world, peer) = listener([both], &source);
    world.receive(peer, [source.nth(0)]);
    assert_eq!(faults(&world), [(FaultKind::BadBatch, FaultAction::Bypassed)]);
    assert_eq!((delivered(&world, peer).len(), held(&mut world, peer, 0)), (1, 0), "once");
}

#[test]
fn a_successor_goes_on_with_what_its_predecessor_held() {
    for isolation in [Isolation::Session, Isolation::Tenant] {
        let mut source = Source::video(7);
        let spec = |spec: MemberSpec| spec.isolated(isolation);
        let (mut world, peer) = listener([spec(holder())], &source);
        world.receive(peer, source.packets(4));
        let arrived = world.now().as_nanos();
        release(&mut world, peer, 0, [1]);
        world.run_for(Duration::from_secs(1));
        world
            .with(peer, |shard, now, id| shard.replace_member(now, id, 0, spec(heir())))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((order(&delivered(&world, peer), &source), held(&mut world, peer, 0)), (vec![1], 3));
        let number = |index| source.sequence_number(index);
        let told = json!([
            [0, number(0), 1012, arrived, false],
            [2, number(2), 1012, arrived, false],
            [3, number(3), 1012, arrived, false]
        ]);
        assert_eq!(seen(&mut world, peer, 0)["held"], json!([told]));
        world.receive(peer, source.packets(1));
        // Its own are numbered on.
        assert_eq!(release(&mut world, peer, 0, [4, 0, 2, 3]), ["ok"; 4]);
        assert_eq!(order(&delivered(&world, peer), &source), [1, 4, 0, 2, 3]);
        assert_eq!(held(&mut world, peer, 0), 0);
        let counts = world.with(peer, |shard, _, id| shard.session_report(id)).expect("a session").counts;
        assert_eq!((counts.read, counts.delivered), (5, 5));
    }
}

#[test]
fn during_the_bind_what_is_inherited_cannot_be_touched_yet() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([holder()], &source);
    world.receive(peer, source.packets(2));
    let hasty = json!([{ "do": "held", "ssrc": 7 }, { "do": "release", "id": 0 }, { "do": "discard", "id": 1 }]);
    let hasty = puppet(json!({ "packets": "hold", "on_bind": hasty }));
    world
        .with(peer, |shard, now, id| shard.replace_member(now, id, 0, hasty))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        seen(&mut world, peer, 0)["answers"].as_array().map(|answers| answers[1..].to_vec()),
        Some(vec![json!("Unknown"), json!(false)])
    );
    assert_eq!((delivered(&world, peer).len(), held(&mut world, peer, 0)), (0, 2));
}

#[test]
fn what_a_successor_does_not_ask_for_goes_on_in_order_when_it_takes_over() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([holder()], &source);
    world.receive(peer, source.packets(6));
    world
        .with(peer, |shard, now, id| shard.replace_member(now, id, 0, puppet(json!({}))))
        .unwrap_or_else(|error| panic!("{error}"));
    world.receive(peer, source.packets(3));
    assert_eq!((heard(&world, peer, &source), held(&mut world, peer, 0)), (Verdict::perfect(9), 0));
}

#[test]
fn where_a_swap_fails_what_is_held_stays_with_who_held_it() {
    let refusing = puppet(json!({ "refuse": "bind", "on_bind": [{ "do": "held", "ssrc": 7 }] }));
    let failing = puppet(json!({ "on_bind": [{ "do": "held", "ssrc": 7 }, { "do": "trap" }] }));
    for successor in [refusing, failing] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([holder()], &source);
        world.receive(peer, source.packets(4));
        let result = world.with(peer, |shard, now, id| shard.replace_member(now, id, 0, successor));
        assert!(result.is_err());
        assert_eq!((delivered(&world, peer).len(), held(&mut world, peer, 0)), (0, 4));
        assert_eq!(release(&mut world, peer, 0, 0..4), ["ok"; 4]);
        assert_eq!(heard(&world, peer, &source), Verdict::perfect(4));
    }
}

#[test]
fn what_is_held_goes_on_when_its_plugin_is_removed() {
    let mut source = Source::video(7);
    let mark = puppet(json!({ "packets": { "extend": [3, [1, 2, 3]] } }));
    let mut world = World::new(1);
    let peer = world.open(SessionSpec { mtu: 1400, ..session([holder(), mark]) });
    world.bind_remote(peer, source.info());
    world.receive(peer, source.packets(5));
    world.with(peer, |shard, now, id| shard.remove_member(now, id, 0)).unwrap_or_else(|error| panic!("{error}"));
    world.receive(peer, source.packets(5));
    assert_eq!(order(&delivered(&world, peer), &source), (0..10).collect::<Vec<_>>());
    assert!(delivered(&world, peer).iter().all(|bytes| bytes.len() == 1012 + 8), "past those ahead");
}

#[test]
fn what_a_plugin_holds_that_fails_goes_on_in_order_before_what_it_failed_at() {
    for policy in [FaultPolicy::Bypass, FaultPolicy::Restart] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([holder().on_fault(policy)], &source);
        world.receive(peer, source.packets(4));
        tell(&mut world, peer, 0, json!([{ "do": "packets", "to": "trap" }]));
        world.receive(peer, source.packets(4));
        assert_eq!(faults(&world).len(), 1);
        assert_eq!((heard(&world, peer, &source), held(&mut world, peer, 0)), (Verdict::perfect(8), 0), "{policy:?}");
    }
}

#[test]
fn nothing_that_is_held_passes_a_plugin_that_has_failed_if_that_is_the_policy() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([holder().on_fault(FaultPolicy::Drop)], &source);
    world.receive(peer, source.packets(4));
    tell(&mut world, peer, 0, json!([{ "do": "packets", "to": "trap" }]));
    world.receive(peer, source.packets(4));
    assert_eq!((delivered(&world, peer).len(), held(&mut world, peer, 0)), (0, 0));
    assert_eq!(report(&mut world, peer, 0).dropped, 8);
}

#[test]
fn of_a_call_that_fails_nothing_takes_effect_and_what_it_let_go_goes_on_once() {
    let mut source = Source::video(7);
    let go = json!([{ "do": "release", "id": 2 }, { "do": "discard", "id": 1 }]);
    let spec = puppet(json!({ "packets": "hold", "on_read": go })).on_fault(FaultPolicy::Bypass);
    let (mut world, peer) = listener([spec], &source);
    world.receive(peer, source.packets(2));
    tell(&mut world, peer, 0, json!([{ "do": "packets", "to": "trap" }]));
    world.receive(peer, source.packets(1));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(3));
}

#[test]
fn a_fault_in_a_shared_instance_loses_nothing_that_other_sessions_hold() {
    let mut world = World::new(1);
    let mut sources: Vec<_> = (0..3).map(|n| Source::video(100 + n)).collect();
    let spec = holder().isolated(Isolation::Tenant);
    let peers: Vec<_> =
        (0..3).map(|_| world.open(SessionSpec { tenant: TenantId(1), ..session([spec.clone()]) })).collect();
    for (peer, source) in peers.iter().zip(&mut sources) {
        world.bind_remote(*peer, source.info());
        world.receive(*peer, source.packets(5));
    }
    tell(&mut world, peers[0], 0, json!([{ "do": "packets", "to": "trap" }]));
    world.receive(peers[0], sources[0].packets(2));
    assert_eq!(faults(&world).len(), 1);
    for (peer, source) in peers.iter().zip(&sources) {
        assert_eq!((heard(&world, *peer, source), held(&mut world, *peer, 0)), (Verdict::perfect(source.made), 0));
    }
    // Those that did not fail hold again.
    world.receive(peers[1], sources[1].packets(5));
    assert_eq!(held(&mut world, peers[1], 0), 5);
}

#[test]
fn packets_of_an_ssrc_that_no_stream_has_may_be_held_too() {
    let mut world = World::new(1);
    let peer = world.open(session([puppet(json!({ "unbound": true, "packets": "hold" }))]));
    let stream = world.bind_remote(peer, Source::video(7).info());
    let mut stranger = Source::audio(9);
    world.receive(peer, stranger.packets(3));
    assert_eq!(held(&mut world, peer, 0), 3);
    assert_eq!(release(&mut world, peer, 0, [0]), ["ok"]);
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    assert_eq!(heard(&world, peer, &stranger), Verdict::perfect(3));
}
