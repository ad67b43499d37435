//! The host keeps packets for a plugin that asks for it, shared and bounded.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Limits, MemberSpec, Value as Attribute};
use sandbar_tests::media::{Source, Verdict, fields};
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{faults, guests, heard, listener, member, speaker, tell};

fn puppet(config: Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

fn release(world: &mut World, peer: PeerId, member: usize, numbers: impl IntoIterator<Item = u16>) -> Vec<Value> {
    let commands: Vec<_> =
        numbers.into_iter().map(|number| json!({ "do": "release", "ssrc": 7, "sequence_number": number })).collect();
    tell(world, peer, member, json!(commands))
}

#[test]
fn what_is_held_is_let_go_later_as_it_came_and_without_a_copy() {
    let mut source = Source { extensions: vec![(5, vec![1, 2])], ..Source::video(7) };
    let (mut world, peer) = listener([puppet(json!({ "history": 64, "packets": "hold" }))], &source);
    let burst = source.packets(30);
    world.receive(peer, burst.clone());
    let arrived = world.now();
    assert_eq!(world.peer(peer).delivered.len(), 0);
    world.run_for(Duration::from_secs(1));
    let numbers: Vec<_> = (0..30).map(|index| source.sequence_number(index)).collect();
    let answers = release(&mut world, peer, 0, numbers);
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(30));
    for (came, went) in burst.iter().zip(world.peer(peer).rtp()) {
        assert_eq!(went.payload().as_ptr_range().end, came.as_ptr_range().end, "the media is the very same bytes");
        assert_eq!(went.time(), arrived, "it keeps the time at which it arrived");
    }
}

#[test]
fn what_is_let_go_to_the_wire_is_sent_when_it_is_let_go() {
    let mut source = Source::video(7);
    let watching = puppet(json!({ "access": "observe" }));
    let (mut world, peer) = speaker([watching, puppet(json!({ "history": 64, "packets": "hold" }))], &source);
    world.send(peer, source.packets(3));
    world.run_for(Duration::from_secs(1));
    let now = world.now().as_nanos();
    let answers = release(&mut world, peer, 1, (0..3).map(|index| source.sequence_number(index)));
    assert_eq!(answers, ["ok", "ok", "ok"]);
    let written = crate::seen(&mut world, peer, 0)["written"].clone();
    let times: Vec<_> = written.as_array().expect("packets").iter().map(|packet| packet[1].clone()).collect();
    assert_eq!(times, [now, now, now]);
}

#[test]
fn it_keeps_as_many_as_were_asked_for_and_the_operator_allows() {
    for (asked, allowed, kept) in [(16, 8192, 16), (64, 20, 20)] {
        let mut source = Source::video(7);
        let limits = Limits { history: allowed, ..Limits::default() };
        let spec = MemberSpec { limits, ..puppet(json!({ "history": asked, "packets": "hold" })) };
        let (mut world, peer) = listener([spec], &source);
        world.receive(peer, source.packets(100));
        let numbers: Vec<_> = (0..100).map(|index| source.sequence_number(index)).collect();
        let answers = release(&mut world, peer, 0, numbers);
        let gone = answers.iter().filter(|answer| *answer == "NotInHistory").count();
        assert_eq!(gone, 100 - kept, "{asked} of {allowed}");
        assert!(answers[..gone].iter().all(|answer| answer == "NotInHistory"), "the oldest go first");
    }
}

#[test]
fn what_was_never_there_cannot_be_sent() {
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([puppet(json!({ "history": 8 }))], &source);
    world.send(peer, source.packets(20));
    let header = source.nth(0).slice(..12).to_vec();
    for index in [0, 11, 20, 30_000] {
        let emit = json!([{ "do": "emit-rtp", "ssrc": 7, "header": header, "history": source.sequence_number(index) }]);
        assert_eq!(tell(&mut world, peer, 0, emit), ["NotInHistory"], "{index}");
    }
    assert_eq!(faults(&world), []);
}

#[test]
fn who_passes_may_have_a_history_too() {
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([puppet(json!({ "history": 8, "access": "pass" }))], &source);
    world.send(peer, source.packets(5));
    world.forget(peer);
    assert_eq!(release(&mut world, peer, 0, [source.sequence_number(3)]), ["ok"]);
    assert_eq!(world.peer(peer).sent[0].bytes, source.nth(3));
}

#[test]
fn a_retransmission_has_the_original_number_and_the_same_media() {
    // RFC 4588, 4: the original sequence number goes before the payload.
    let mut source = Source::video(7);
    let mut world = World::new(1);
    let peer = world.open(crate::session([puppet(json!({ "history": 8 }))]));
    world.bind_local(peer, source.info_with_rtx());
    world.send(peer, source.packets(5));
    world.forget(peer);
    let number = source.sequence_number(2);
    let mut header = source.nth(2).slice(..12).to_vec();
    header[11] = 8;
    let emit =
        json!([{ "do": "emit-rtp", "ssrc": 7, "header": header, "history": number, "payload": number.to_be_bytes() }]);
    assert_eq!(tell(&mut world, peer, 0, emit), ["ok"]);
    let sent: Vec<Bytes> = world.peer(peer).sent.iter().map(|sent| sent.bytes.clone()).collect();
    let (retransmitted, original) = (fields(&sent[0]).expect("RTP"), source.nth(2));
    assert_eq!(retransmitted.ssrc, 8);
    assert_eq!(retransmitted.payload[..2], number.to_be_bytes());
    assert_eq!(&retransmitted.payload[2..], fields(&original).expect("RTP").payload);
}

#[test]
fn packets_are_kept_as_they_were_at_the_plugins_place() {
    // On the way in, the outer puppet adds an extension: the inner one's history has it, an outer one's has not.
    let mut source = Source::video(7);
    let chain = [
        puppet(json!({ "history": 8, "access": "pass" })),
        puppet(json!({ "packets": { "extend": [3, [1, 2, 3]] } })),
        puppet(json!({ "history": 8, "access": "pass" })),
    ];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, [source.packet()]);
    let lookup = json!([{ "do": "lookup", "ssrc": 7, "sequence_number": source.sequence_number(0) }]);
    let size = |world: &mut World, member| tell(world, peer, member, lookup.clone()).remove(0)[1].clone();
    assert_eq!(size(&mut world, 0), 1012);
    assert_eq!(size(&mut world, 2), 1020);
}

#[test]
fn a_packet_that_is_let_go_keeps_its_attributes_and_gets_those_added() {
    let mut source = Source::video(7);
    let chain = [
        puppet(json!({ "packets": { "attribute": ["first", "one"] } })),
        puppet(json!({ "history": 8, "packets": "hold" })),
    ];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, [source.packet()]);
    let header = source.nth(0).slice(..12).to_vec();
    let emit = json!([{
        "do": "emit-rtp", "ssrc": 7, "header": header, "history": source.sequence_number(0), "attribute": ["second", "two"],
    }]);
    assert_eq!(tell(&mut world, peer, 1, emit), ["ok"]);
    let packet = world.peer(peer).rtp().next().expect("a packet");
    assert_eq!(packet.attributes().get("first"), Some(&Attribute::Text("one".into())));
    assert_eq!(packet.attributes().get("second"), Some(&Attribute::Text("two".into())));
}

#[test]
fn a_history_is_the_plugins_own_stream_alone() {
    let mut world = World::new(1);
    let (mut first, mut second) = (Source::video(7), Source::video(9));
    let peer = world.open(crate::session([puppet(json!({ "history": 8 }))]));
    world.bind_remote(peer, first.info());
    world.bind_remote(peer, second.info());
    world.receive(peer, [first.packet(), second.packet()]);
    let look =
        |ssrc: u32, index| json!([{ "do": "lookup", "ssrc": ssrc, "sequence_number": first.sequence_number(index) }]);
    for ssrc in [7u32, 9] {
        let header = tell(&mut world, peer, 0, look(ssrc, 0)).remove(0)[0].clone();
        assert_eq!(header[11], ssrc);
    }
}
