//! Header extensions that the host puts on packets, with values that a plugin supplies ahead.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{FaultAction, FaultKind, FaultPolicy, Isolation, MemberSpec, RtpHeaderExtension, StreamInfo};
use sandbar_sdk::Header;
use sandbar_tests::media::Source;
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{faults, guests, member, report, seen, sent, session, standard, tell};

const URI: &str = sandbar_sdk::RtpHeaderExtension::TRANSPORT_CC;

fn info(source: &Source, id: u8) -> StreamInfo {
    StreamInfo { rtp_header_extensions: vec![RtpHeaderExtension { uri: URI.to_owned(), id }], ..source.info() }
}

fn stamper(config: serde_json::Value) -> MemberSpec {
    let mut all = json!({ "access": "stamp", "extension": 5 });
    if let (Some(all), Some(config)) = (all.as_object_mut(), config.as_object()) {
        all.extend(config.clone());
    }
    member(guests::PUPPET, all)
}

/// A world whose one peer sends the source to the wire through these members.
fn speaker(members: impl IntoIterator<Item = MemberSpec>, source: &Source) -> (World, PeerId) {
    let mut world = World::new(1);
    let peer = world.open(session(members));
    world.bind_local(peer, info(source, 5));
    (world, peer)
}

fn header(bytes: &[u8]) -> Header<'_> {
    Header::parse(bytes).expect("an RTP header")
}

/// The values of extension 5 of what was sent.
fn values(packets: &[Bytes]) -> Vec<Option<Vec<u8>>> {
    packets.iter().map(|bytes| header(bytes).extension(5).map(<[u8]>::to_vec)).collect()
}

fn number(value: &Option<Vec<u8>>) -> Option<u16> {
    value.as_ref().map(|value| u16::from_be_bytes([value[0], value[1]]))
}

/// Packets that left with the numbers from `first` on, in order and without a gap.
fn numbered(packets: &[Bytes], first: u16) -> usize {
    let values = values(packets);
    let expected = (0..values.len()).map(|at| Some(first.wrapping_add(at as u16)));
    assert!(values.iter().map(number).eq(expected), "{:?}", values.iter().map(number).collect::<Vec<_>>());
    values.len()
}

#[test]
fn packets_take_the_values_in_order_without_a_call_each() {
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([standard("twcc-header-extension")], &source);
    for burst in [1, 5, 64, 300, 1, 1, 129] {
        world.send(peer, source.packets(burst));
        world.run_for(Duration::from_millis(7));
    }
    assert_eq!(numbered(&sent(&world, peer), 0), 501);
    assert_eq!(heard_without_numbers(&sent(&world, peer), &source), 501);
    let report = report(&mut world, peer, 0);
    assert_eq!((report.packets_in, report.packets_out, report.unstamped, report.dropped), (501, 501, 0, 0));
    assert!(report.calls < 20, "{} calls", report.calls);
}

/// The packets as the source made them, but for the extension.
fn heard_without_numbers(packets: &[Bytes], source: &Source) -> usize {
    for (at, bytes) in packets.iter().enumerate() {
        let (made, header) = (source.nth(at as u64), header(bytes));
        assert_eq!((header.sequence_number(), header.len()), (source.sequence_number(at as u64), 20));
        assert_eq!(bytes[20..], made[12..]);
    }
    packets.len()
}

#[test]
fn all_streams_of_a_session_share_one_sequence_and_other_sessions_have_their_own() {
    let (mut first, mut second, mut other) = (Source::video(7), Source::audio(8), Source::video(7));
    let mut world = World::new(1);
    let shared = || standard("twcc-header-extension").isolated(Isolation::Tenant);
    let (peer, stranger) = (world.open(session([shared()])), world.open(session([shared()])));
    world.bind_local(peer, info(&first, 5));
    world.bind_local(peer, info(&second, 5));
    world.bind_local(stranger, info(&other, 5));
    for _ in 0..200 {
        world.send(peer, [first.packet(), second.packet()]);
        world.send(stranger, other.packets(1));
    }
    assert_eq!(numbered(&sent(&world, peer), 0), 400);
    assert_eq!(numbered(&sent(&world, stranger), 0), 200);
}

#[test]
fn those_ahead_see_what_was_stamped_and_those_behind_do_not() {
    let mut source = Source::video(7);
    let watching = || member(guests::PUPPET, json!({ "access": "observe" }));
    let supply = json!({ "on_refill": [{ "do": "supply", "size": 2, "values": [1, 2] }] });
    let (mut world, peer) = speaker([watching(), stamper(supply), watching()], &source);
    world.send(peer, source.packets(1));
    let sizes = |seen: serde_json::Value| seen["written"][0][3].as_u64();
    assert_eq!(values(&sent(&world, peer)), [Some(vec![1, 2])]);
    assert_eq!((sizes(seen(&mut world, peer, 0)), sizes(seen(&mut world, peer, 2))), (Some(20), Some(12)));
    assert_eq!(seen(&mut world, peer, 1)["written"], json!([]), "it is shown nothing");
}

#[test]
fn a_stream_from_the_peer_is_stamped_on_its_way_to_the_application() {
    let mut source = Source::video(7);
    let mut world = World::new(1);
    let supply = json!({ "on_refill": [{ "do": "supply", "size": 1, "values": [9, 8, 7] }] });
    let peer = world.open(session([stamper(supply)]));
    world.bind_remote(peer, info(&source, 5));
    world.receive(peer, source.packets(3));
    assert_eq!(values(&crate::delivered(&world, peer)), [Some(vec![9]), Some(vec![8]), Some(vec![7])]);
}

#[test]
fn the_host_asks_before_the_first_packet_and_goes_on_without_where_nothing_comes() {
    let mut source = Source::video(7);
    let supply = json!({ "on_refill": [{ "do": "supply", "size": 2, "values": [1, 1, 2, 2, 3, 3] }] });
    let (mut world, peer) = speaker([stamper(supply)], &source);
    world.send(peer, source.packets(7));
    let expected = [1, 2, 3, 1, 2, 3, 1].map(|byte| Some(vec![byte, byte]));
    assert_eq!(values(&sent(&world, peer)), expected, "it asks as often as it takes");
    assert_eq!(seen(&mut world, peer, 0)["refills"][0], json!([128, 0]));

    let mut source = Source::video(7);
    let (mut world, peer) = speaker([stamper(json!({}))], &source);
    world.send(peer, source.packets(50));
    assert_eq!(values(&sent(&world, peer)), vec![None; 50]);
    assert_eq!(seen(&mut world, peer, 0)["refills"], json!([[128, 0]]), "who does not answer is asked once");
    let answers = tell(&mut world, peer, 0, json!([{ "do": "supply", "size": 2, "values": [4, 2] }]));
    assert_eq!(answers, ["ok"]);
    world.send(peer, source.packets(2));
    assert_eq!(values(&sent(&world, peer))[50..], [Some(vec![4, 2]), None]);
    let report = report(&mut world, peer, 0);
    assert_eq!((report.unstamped, report.packets_in, report.packets_out), (51, 52, 52));
}

#[test]
fn what_is_no_stamp_is_refused() {
    let source = Source::video(7);
    let (mut world, peer) = speaker([stamper(json!({}))], &source);
    let supply = |size: usize, values: usize| json!({ "do": "supply", "size": size, "values": vec![7; values] });
    let commands = json!([supply(0, 0), supply(17, 17), supply(2, 2046), supply(1, 1), supply(2, 2), supply(2, 2)]);
    assert_eq!(tell(&mut world, peer, 0, commands), ["Size", "Size", "ok", "Size", "ok", "Quota"]);
}

#[test]
fn an_extension_that_the_stream_has_not_negotiated_is_refused() {
    let source = Source::video(7);
    for extension in [0, 4, 255] {
        let mut world = World::new(1);
        let peer = world.open(session([stamper(json!({ "extension": extension }))]));
        let bound = world.with(peer, |shard, now, session| shard.bind_local_stream(now, session, info(&source, 5)));
        let message = bound.unwrap_err().to_string();
        assert!(message.contains("a header extension that the stream has not negotiated"), "{message}");
    }
}

#[test]
fn a_packet_never_grows_beyond_the_mtu_and_then_takes_no_value() {
    let mut source = Source { payload: 1188, ..Source::video(7) };
    let (mut world, peer) = speaker([standard("twcc-header-extension")], &source);
    world.send(peer, source.packets(3));
    let mut small = Source { payload: 1180, first_sequence_number: 9, ..Source::video(7) };
    world.send(peer, small.packets(2));
    let numbers: Vec<_> = values(&sent(&world, peer)).iter().map(number).collect();
    assert_eq!(numbers, [None, None, None, Some(0), Some(1)]);
    assert_eq!(report(&mut world, peer, 0).unstamped, 3);
}

#[test]
fn a_swap_in_mid_stream_leaves_no_number_out_and_gives_none_twice() {
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([standard("twcc-header-extension")], &source);
    for burst in [1, 30, 31, 32, 33, 95, 96, 97, 128, 200] {
        world.send(peer, source.packets(burst));
        world
            .with(peer, |shard, now, session| shard.replace_member(now, session, 0, standard("twcc-header-extension")))
            .expect("a swap");
    }
    world.send(peer, source.packets(1));
    assert_eq!(numbered(&sent(&world, peer), 0), 744);
}

#[test]
fn retransmissions_and_what_plugins_emit_are_stamped_too() {
    let mut source = Source::video(7);
    let emitter = member(guests::PUPPET, json!({ "access": "pass", "history": 100 }));
    let (mut world, peer) = speaker([standard("twcc-header-extension"), emitter], &source);
    world.send(peer, source.packets(2));
    let again = source.nth(0)[..12].to_vec();
    let commands = json!([{ "do": "emit-rtp", "ssrc": 7, "header": again, "history": source.sequence_number(0) }]);
    assert_eq!(tell(&mut world, peer, 1, commands), ["ok"]);
    assert_eq!(numbered(&sent(&world, peer), 0), 3);
}

#[test]
fn a_failure_over_a_refill_is_dealt_with_by_the_policy_before_the_packet_goes_on() {
    let trap = || stamper(json!({ "on_refill": [{ "do": "trap" }] }));
    for (policy, action, left) in [
        (FaultPolicy::Bypass, FaultAction::Bypassed, 5),
        (FaultPolicy::Restart, FaultAction::Restarting, 5),
        (FaultPolicy::Drop, FaultAction::Closed, 0),
    ] {
        for isolation in [Isolation::Session, Isolation::Tenant] {
            let (mut source, mut neighbour) = (Source::video(7), Source::video(8));
            let mut world = World::new(1);
            let shared = || trap().on_fault(policy).isolated(isolation);
            let (peer, other) = (world.open(session([shared()])), world.open(session([shared()])));
            world.bind_local(peer, info(&source, 5));
            world.bind_local(other, info(&neighbour, 5));
            world.send(peer, source.packets(5));
            assert_eq!(faults(&world), [(FaultKind::Trap, action)], "{policy:?} {isolation:?}");
            world.send(other, neighbour.packets(5));
            assert_eq!(faults(&world), [(FaultKind::Trap, action); 2], "each session's is its own");
            for (peer, made) in [(peer, &source), (other, &neighbour)] {
                assert_eq!(sent(&world, peer).len(), left, "{policy:?} {isolation:?}");
                assert!(sent(&world, peer).iter().zip(0..).all(|(bytes, at)| *bytes == made.nth(at)));
                let report = report(&mut world, peer, 0);
                assert_eq!((report.packets_out + report.dropped, report.emitted), (report.packets_in, 0));
            }
        }
    }
}

#[test]
fn the_session_that_shares_an_instance_with_a_failed_one_is_stamped_again() {
    let (mut source, mut culprit) = (Source::video(7), Source::video(9));
    let mut world = World::new(1);
    let supply = json!({ "on_refill": [{ "do": "supply", "size": 2, "values": [1, 1, 2, 2, 3, 3] }] });
    let shared = || stamper(supply.clone()).isolated(Isolation::Tenant);
    let (peer, guilty) = (world.open(session([shared()])), world.open(session([shared()])));
    world.bind_local(peer, info(&source, 5));
    world.bind_local(guilty, info(&culprit, 5));
    world.send(peer, source.packets(2));
    world.send(guilty, culprit.packets(1));
    let _ = world.with(guilty, |shard, now, session| shard.control(now, session, 0, r#"[{ "do": "trap" }]"#));
    world.send(peer, source.packets(2));
    let numbers: Vec<_> = values(&sent(&world, peer)).into_iter().map(|value| value.map(|value| value[0])).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(1), Some(2)], "it begins anew, as nothing was handed over");
}

#[test]
fn what_is_stamped_goes_on_as_it_came_but_for_the_extension() {
    let mut source = Source { extensions: vec![(3, vec![1, 2, 3]), (5, vec![0, 0])], ..Source::video(7) };
    let (mut world, peer) = speaker([standard("twcc-header-extension")], &source);
    world.send(peer, source.packets(3));
    for (at, bytes) in sent(&world, peer).iter().enumerate() {
        let (made, header) = (source.nth(at as u64), header(bytes));
        assert_eq!((bytes.len(), header.extension(3)), (made.len(), Some(&[1, 2, 3][..])));
        assert_eq!(header.extension(5), Some(&(at as u16).to_be_bytes()[..]));
    }
    let mut plain = Source::video(8);
    world.bind_local(peer, StreamInfo { rtp_header_extensions: Vec::new(), ..plain.info() });
    world.send(peer, plain.packets(2));
    assert!(
        values(&sent(&world, peer)[3..]).iter().all(Option::is_none),
        "a stream without the extension is left alone"
    );
}
