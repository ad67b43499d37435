//! The host keeps packets for a plugin that asks for it, shared and bounded.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Limits, MemberSpec, Value as Attribute};
use sandbar_tests::media::{Source, fields};
use sandbar_tests::peers::World;
use serde_json::{Value, json};

use crate::{faults, guests, listener, member, speaker, tell};

fn puppet(config: Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

fn emit(source: &Source, index: u64) -> Value {
    let header = source.nth(index).slice(..12).to_vec();
    json!({ "do": "emit-rtp", "ssrc": 7, "header": header, "history": source.sequence_number(index) })
}

#[test]
fn it_keeps_as_many_as_were_asked_for_and_the_operator_allows() {
    for (asked, allowed, kept) in [(16, 8192, 16), (64, 20, 20)] {
        let mut source = Source::video(7);
        let limits = Limits { history: allowed, ..Limits::default() };
        let spec = MemberSpec { limits, ..puppet(json!({ "history": asked, "packets": "drop" })) };
        let (mut world, peer) = listener([spec], &source);
        world.receive(peer, source.packets(100));
        let answers = tell(&mut world, peer, 0, (0..100).map(|index| emit(&source, index)).collect());
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
    for index in [0, 11, 20, 30_000] {
        assert_eq!(tell(&mut world, peer, 0, json!([emit(&source, index)])), ["NotInHistory"], "{index}");
    }
    assert_eq!(faults(&world), []);
}

#[test]
fn who_passes_may_have_a_history_too() {
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([puppet(json!({ "history": 8, "access": "pass" }))], &source);
    world.send(peer, source.packets(5));
    world.forget(peer);
    assert_eq!(tell(&mut world, peer, 0, json!([emit(&source, 3)])), ["ok"]);
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
fn a_packet_made_of_one_in_the_history_keeps_its_attributes_and_its_time_and_gets_those_added() {
    let mut source = Source::video(7);
    let chain = [
        puppet(json!({ "packets": { "attribute": ["first", "one"] } })),
        puppet(json!({ "history": 8, "packets": "drop" })),
    ];
    let (mut world, peer) = listener(chain, &source);
    let came = source.packet();
    world.receive(peer, [came.clone()]);
    let arrived = world.now();
    world.run_for(Duration::from_secs(1));
    let mut emit = emit(&source, 0);
    emit["attribute"] = json!(["second", "two"]);
    assert_eq!(tell(&mut world, peer, 1, json!([emit])), ["ok"]);
    let packet = world.peer(peer).rtp().next().expect("a packet");
    assert_eq!(packet.attributes().get("first"), Some(&Attribute::Text("one".into())));
    assert_eq!(packet.attributes().get("second"), Some(&Attribute::Text("two".into())));
    assert_eq!(packet.time(), arrived);
    assert_eq!(packet.payload().as_ptr_range().end, came.as_ptr_range().end, "the media is the very same bytes");
}

#[test]
fn the_padding_bit_stays_as_the_payload_has_it_so_that_its_last_byte_cannot_be_made_to_show() {
    for padded in [false, true] {
        let mut source = Source::video(7);
        let (mut world, peer) =
            speaker([puppet(json!({ "access": "observe" })), puppet(json!({ "history": 8 }))], &source);
        let mut bytes = source.packet().to_vec();
        bytes[0] |= u8::from(padded) << 5;
        *bytes.last_mut().expect("a payload") = 9;
        world.send(peer, [bytes.clone().into()]);
        let mut emit = emit(&source, 0);
        emit["header"][0] = json!(0xa0 & !(u8::from(padded) << 5));
        assert_eq!(tell(&mut world, peer, 1, json!([emit])), ["ok"]);
        assert_eq!(crate::sent(&world, peer), [bytes.clone(), bytes], "{padded}");
        let shown = crate::seen(&mut world, peer, 0)["padding"].clone();
        assert_eq!(shown, if padded { json!([9, 9]) } else { json!([0, 0]) });
    }
}

#[test]
fn no_plugin_sets_the_hosts_attributes_on_what_it_emits() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([puppet(json!({ "history": 8 }))], &source);
    world.receive(peer, [source.packet()]);
    for (key, answer) in [("sandbar.time", "Denied"), (&"k".repeat(129), "Quota"), ("time", "ok")] {
        let mut emit = emit(&source, 0);
        emit["attribute"] = json!([key, "now"]);
        assert_eq!(tell(&mut world, peer, 0, json!([emit])), [answer], "{key}");
    }
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
