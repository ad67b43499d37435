//! What a plugin may send of its own, where it enters the chain, and what it is told when it may not.

use sandbar_host::{Kind, MemberSpec, SessionSpec};
use sandbar_tests::media::{Source, control, fields};
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{delivered, faults, guests, listener, member, seen, sent, session, speaker, tell};

fn puppet(config: Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

fn header(ssrc: u32) -> Vec<u8> {
    Source::video(ssrc).nth(0).slice(..12).to_vec()
}

fn emit(world: &mut World, peer: PeerId, stream: u32, header: &[u8], payload: &[u8]) -> String {
    let command = json!([{ "do": "emit-rtp", "ssrc": stream, "header": header, "payload": payload }]);
    tell(world, peer, 0, command).remove(0).as_str().unwrap_or_default().to_owned()
}

/// A speaker whose stream has companions for retransmission (8) and repair (9).
fn companions(config: Value) -> (World, PeerId) {
    let mut world = World::new(1);
    let peer = world.open(session([puppet(config)]));
    let mut info = Source::video(7).info_with_rtx();
    info.ssrc_forward_error_correction = Some(9);
    world.bind_local(peer, info);
    (world, peer)
}

#[test]
fn the_stream_and_its_companions_may_be_emitted_and_nothing_else() {
    let (mut world, peer) = companions(json!({}));
    for ssrc in [7, 8, 9] {
        assert_eq!(emit(&mut world, peer, 7, &header(ssrc), b"mine"), "ok");
    }
    for ssrc in [6, 10, 0, u32::MAX] {
        assert_eq!(emit(&mut world, peer, 7, &header(ssrc), b"not mine"), "ForeignSsrc");
    }
    let ssrcs: Vec<_> = world.peer(peer).sent(Kind::Rtp).map(|bytes| fields(bytes).expect("RTP").ssrc).collect();
    assert_eq!(ssrcs, [7, 8, 9]);
    assert!(world.peer(peer).sent(Kind::Rtp).all(|bytes| bytes.ends_with(b"mine")));
    assert_eq!(faults(&world), [], "a refusal is not a fault");
}

#[test]
fn an_observer_may_speak_for_companions_but_not_for_the_stream() {
    let (mut world, peer) = companions(json!({ "access": "observe", "history": 8 }));
    assert_eq!(emit(&mut world, peer, 7, &header(7), b"x"), "Denied");
    assert_eq!(emit(&mut world, peer, 7, &header(8), b"x"), "ok");
}

#[test]
fn what_is_not_rtp_is_not_emitted() {
    let (mut world, peer) = companions(json!({}));
    let good = header(7);
    let cut = &good[..11];
    let version = [&[0x40], &good[1..]].concat();
    let csrcs = [&[0x8f], &good[1..]].concat();
    let behind = [&good[..], &[0, 0, 0, 0]].concat();
    let extension = [&[0x90], &good[1..], &[0xbe, 0xde, 0, 9]].concat();
    for wrong in [cut, &version, &csrcs, &behind, &extension, &[]] {
        let answer = emit(&mut world, peer, 7, wrong, b"payload");
        assert!(answer.starts_with("Malformed"), "{wrong:?}: {answer}");
    }
    let padded = [&[0xa0], &good[1..]].concat();
    for payload in [&b""[..], &[0], &[9, 9, 4]] {
        let answer = emit(&mut world, peer, 7, &padded, payload);
        assert!(answer.starts_with("Malformed"), "{payload:?}: {answer}");
    }
    assert_eq!(emit(&mut world, peer, 7, &padded, &[9, 0, 0, 3]), "ok");
    assert_eq!(sent(&world, peer).len(), 1);
    assert_eq!(faults(&world), []);
}

#[test]
fn no_packet_is_larger_than_the_mtu() {
    let (mut world, peer) = companions(json!({}));
    assert_eq!(emit(&mut world, peer, 7, &header(7), &[0; 1188]), "ok");
    assert_eq!(emit(&mut world, peer, 7, &header(7), &[0; 1189]), "TooLarge");
    let longest = json!([{ "do": "emit-rtcp", "packets": rtcp(1200) }, { "do": "emit-rtcp", "packets": rtcp(1204) }]);
    assert_eq!(tell(&mut world, peer, 0, longest), ["ok", "TooLarge"]);
    for bytes in sent(&world, peer) {
        assert!(bytes.len() <= 1200, "{} bytes were sent", bytes.len());
    }
}

/// An application-defined RTCP packet of so many bytes.
fn rtcp(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 204, 0, 0, 0, 0, 0, 1, b't', b'e', b's', b't'];
    packet.resize(bytes, 0);
    packet[2..4].copy_from_slice(&((bytes / 4 - 1) as u16).to_be_bytes());
    packet
}

#[test]
fn a_header_that_grows_does_not_push_its_packet_over_the_mtu() {
    for (payload, grows) in [(1000, true), (1188, false)] {
        let mut source = Source { payload, ..Source::video(7) };
        let (mut world, peer) = speaker([puppet(json!({ "packets": { "extend": [3, vec![1; 16]] } }))], &source);
        world.send(peer, [source.packet()]);
        let sent = sent(&world, peer);
        assert!(
            sent.iter().all(|bytes| bytes.len() <= 1200),
            "{:?}",
            sent.iter().map(|bytes| bytes.len()).collect::<Vec<_>>()
        );
        if grows {
            assert_eq!(sent[0].len(), 12 + 24 + 1000);
        }
    }
}

#[test]
fn rtcp_that_is_none_is_not_emitted() {
    let (mut world, peer) = companions(json!({}));
    let good = control::picture_loss(1, 7).to_vec();
    let short = &good[..10];
    let version = [&[0x41], &good[1..]].concat();
    let kind = [&[0x81, 96], &good[2..]].concat();
    for wrong in [short, &version, &kind, &[]] {
        let answer = tell(&mut world, peer, 0, json!([{ "do": "emit-rtcp", "packets": wrong }])).remove(0);
        assert!(answer.as_str().is_some_and(|answer| answer.starts_with("Malformed")), "{answer}");
    }
    assert_eq!(sent(&world, peer).len(), 0);
}

#[test]
fn a_stream_that_is_unknown_or_gone_cannot_be_spoken_for() {
    let mut world = World::new(1);
    let peer = world.open(session([puppet(json!({}))]));
    let stream = world.bind_local(peer, Source::video(7).info());
    assert_eq!(emit(&mut world, peer, 99, &header(99), b"x"), "Unknown");
    assert_eq!(emit(&mut world, peer, 7, &header(7), b"x"), "ok");
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    assert_eq!(emit(&mut world, peer, 7, &header(7), b"x"), "Unknown");
    assert_eq!(sent(&world, peer).len(), 1);
}

#[test]
fn a_plugin_cannot_speak_for_another_session_of_its_instance() {
    // Sessions of an instance number their streams together; the puppet guesses the other's number.
    let spec = puppet(json!({})).isolated(sandbar_host::Isolation::Tenant);
    let mut world = World::new(1);
    let peers = [world.open(session([spec.clone()])), world.open(session([spec]))];
    world.bind_local(peers[0], Source::video(7).info());
    world.bind_local(peers[1], Source::video(9).info());
    assert_eq!(emit(&mut world, peers[0], 9, &header(9), b"x"), "Unknown");
    assert_eq!(sent(&world, peers[1]).len(), 0);
}

#[test]
fn what_is_emitted_passes_only_the_plugins_still_ahead_of_it() {
    let mut world = World::new(1);
    let watching = || puppet(json!({ "rtcp": "observe" }));
    let peer = world.open(session([watching(), puppet(json!({})), watching()]));
    world.bind_local(peer, Source::video(7).info());
    world.bind_remote(peer, Source::video(8).info());
    let commands = json!([
        { "do": "emit-rtp", "ssrc": 7, "header": header(7), "payload": [1] },
        { "do": "emit-rtp", "ssrc": 8, "header": header(8), "payload": [2] },
        { "do": "emit-rtcp", "packets": control::picture_loss(1, 8).to_vec() },
    ]);
    assert_eq!(tell(&mut world, peer, 1, commands), ["ok", "ok", "ok"]);
    let (outer, own, inner) = (seen(&mut world, peer, 0), seen(&mut world, peer, 1), seen(&mut world, peer, 2));
    let count = |seen: &Value, what: &str| seen[what].as_array().map_or(0, Vec::len);
    assert_eq!((count(&outer, "written"), count(&outer, "read"), count(&outer, "rtcp_written")), (1, 0, 1));
    assert_eq!((count(&own, "written"), count(&own, "read")), (0, 0));
    assert_eq!((count(&inner, "written"), count(&inner, "read"), count(&inner, "rtcp_written")), (0, 1, 0));
    assert_eq!(world.peer(peer).sent(Kind::Rtp).count(), 1);
    assert_eq!(delivered(&world, peer).len(), 1);
}

#[test]
fn what_is_emitted_in_a_remote_streams_place_is_marked_repaired() {
    // For those behind, such as loss detection and reports: the peer sent it, and it did not arrive.
    for batched in [true, false] {
        let lane = |spec: MemberSpec| MemberSpec {
            plugin: if batched { spec.plugin.clone() } else { spec.plugin.in_typed_lane() },
            ..spec
        };
        let mut world = World::new(1);
        let peer = world.open(session([lane(puppet(json!({ "history": 8 }))), puppet(json!({}))]));
        let mut source = Source::video(7);
        let mut info = source.info_with_rtx();
        info.ssrc_forward_error_correction = Some(9);
        world.bind_remote(peer, info);
        world.bind_local(peer, Source::video(11).info());
        world.receive(peer, [source.packet()]);
        for ssrc in [7, 8, 9] {
            assert_eq!(emit(&mut world, peer, 7, &header(ssrc), b"mine"), "ok");
        }
        let again = json!([{ "do": "emit-rtp", "ssrc": 7, "header": header(7).to_vec(), "history": source.sequence_number(0) }]);
        assert_eq!(tell(&mut world, peer, 0, again), ["ok"]);
        let several = json!({ "packets": [header(7).to_vec(), header(9).to_vec()] });
        tell(&mut world, peer, 0, json!([{ "do": "packets", "to": several }]));
        world.receive(peer, [source.packet()]);
        assert_eq!(emit(&mut world, peer, 11, &header(11), b"mine"), "ok");
        let behind = seen(&mut world, peer, 1)["read"].clone();
        let behind: Vec<_> = behind.as_array().into_iter().flatten().map(|seen| (&seen[5], &seen[4])).collect();
        let expected = [(7, false), (7, true), (8, false), (9, false), (7, false), (7, true), (9, false)];
        let expected = expected.map(|(ssrc, repaired)| (json!(ssrc), json!(repaired)));
        assert_eq!(behind, expected.iter().map(|(ssrc, repaired)| (ssrc, repaired)).collect::<Vec<_>>());
        assert_eq!(delivered(&world, peer).len(), 7);
    }
}

#[test]
fn what_is_emitted_for_a_packet_goes_before_it_and_behind_those_before() {
    let mut source = Source::video(7);
    let header = source.nth(0).slice(..12).to_vec();
    let emit = json!([{ "do": "emit-rtp", "ssrc": 7, "header": header, "payload": [9] }]);
    let (mut world, peer) = listener([puppet(json!({ "on_read": emit })), puppet(json!({}))], &source);
    world.receive(peer, source.packets(3));
    let sizes: Vec<_> = delivered(&world, peer).iter().map(|bytes| bytes.len()).collect();
    assert_eq!(sizes, [13, 1012, 13, 1012, 13, 1012]);
}

#[test]
fn streams_and_sessions_of_a_burst_keep_their_order_to_each_other() {
    // One session's puppet answers packets of its own accord, another's has one instance and adds nothing, and a third
    // stream passes both by.
    let mut world = World::new(1);
    let own = Source::video(7);
    let emit = json!([{ "do": "emit-rtp", "ssrc": 7, "header": own.nth(0).slice(..12).to_vec(), "payload": [9] }]);
    let peer = world.open(session([puppet(json!({ "on_read": emit }))]));
    let other = world.open(session([puppet(json!({}))]));
    let (mut own, mut passing, mut theirs) = (own, Source::audio(8), Source::video(9));
    world.bind_remote(peer, own.info());
    world.bind_remote(other, theirs.info());
    let (mine, not_mine) = (world.peer(peer).session, world.peer(other).session);
    let mut burst = Vec::new();
    for _ in 0..3 {
        for (session, source) in [(mine, &mut own), (mine, &mut passing), (not_mine, &mut theirs)] {
            burst.push(sandbar_host::Datagram { session, kind: Kind::Rtp, bytes: source.packet() });
        }
    }
    world.with(peer, |shard, now, _| shard.read(now, burst));
    let order: Vec<_> = delivered(&world, peer).iter().map(|bytes| (bytes[11], bytes.len())).collect();
    assert_eq!(order, [(7, 13), (7, 1012), (8, 112)].repeat(3));
    assert_eq!(crate::heard(&world, other, &theirs), sandbar_tests::media::Verdict::perfect(3));
}

#[test]
fn several_packets_may_stand_in_the_place_of_one() {
    let mut source = Source::video(7);
    let two = [Source::video(7).nth(5), Source::video(7).nth(6)];
    let packets = json!({ "packets": two.iter().map(|packet| packet.to_vec()).collect::<Vec<_>>() });
    let (mut world, peer) = listener([puppet(json!({ "view": "packets", "packets": packets }))], &source);
    world.receive(peer, source.packets(2));
    assert_eq!(delivered(&world, peer), [two[0].clone(), two[1].clone(), two[0].clone(), two[1].clone()]);
}

#[test]
fn a_header_may_not_be_given_a_foreign_ssrc() {
    let mut source = Source::video(7);
    let impostor = puppet(json!({ "packets": { "ssrc": 99 } })).on_fault(sandbar_host::FaultPolicy::Drop);
    let (mut world, peer) = speaker([impostor], &source);
    world.send(peer, [source.packet()]);
    assert_eq!(faults(&world).len(), 1);
    assert_eq!(sent(&world, peer).len(), 0);
}

#[test]
fn packets_of_unbound_ssrcs_are_shown_to_who_asks_for_them_and_may_be_dropped() {
    for packets in ["forward", "drop"] {
        let mut world = World::new(1);
        let peer = world.open(session([puppet(json!({ "unbound": true, "packets": packets })), puppet(json!({}))]));
        world.bind_remote(peer, Source::video(7).info());
        world.receive(peer, Source::audio(9).packets(3));
        let shown = seen(&mut world, peer, 0)["read"].clone();
        assert_eq!(shown.as_array().map(Vec::len), Some(3));
        assert!(shown.as_array().is_some_and(|shown| shown.iter().all(|packet| packet[5] == 9)));
        assert_eq!(seen(&mut world, peer, 1)["read"], json!([]), "who did not ask is not shown them");
        assert_eq!(delivered(&world, peer).len(), if packets == "drop" { 0 } else { 3 });
    }
}

#[test]
fn the_header_of_a_packet_of_an_unbound_ssrc_may_be_changed() {
    let mut world = World::new(1);
    let change = json!({ "unbound": true, "packets": { "extend": [3, [1, 2, 3, 4]] } });
    let peer = world.open(SessionSpec { mtu: 1400, ..session([puppet(change)]) });
    world.bind_remote(peer, Source::video(7).info());
    world.receive(peer, Source::audio(9).packets(3));
    assert_eq!(faults(&world), []);
    assert!(delivered(&world, peer).iter().all(|bytes| bytes[0] & 0x10 != 0 && bytes.len() == 112 + 4 + 8));
}

#[test]
fn what_leaves_is_valid_rtp_whatever_a_plugin_does_to_the_padding_bit() {
    // RFC 3550, 5.1: the last byte counts the padding, itself included. These end with all there is from 0 to 255.
    let mut source = Source { payload: 40, ..Source::video(7) };
    let liar = member(guests::LYING_BATCH, json!({ "lie": "padding" })).on_fault(sandbar_host::FaultPolicy::Bypass);
    for _ in 0..256 {
        let (mut world, peer) = speaker([liar.clone()], &source);
        world.send(peer, [source.packet()]);
        for bytes in sent(&world, peer) {
            assert!(
                sandbar_host::RtpPacket::parse(bytes.clone()).is_ok(),
                "a payload that ends with {:?}",
                bytes.last()
            );
        }
    }
}
