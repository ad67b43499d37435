//! Attributes ride with packets through the chain.

use sandbar_host::{MemberSpec, StreamInfo, Value as Attribute};
use sandbar_tests::media::Source;
use sandbar_tests::peers::World;
use serde_json::{Value, json};

use crate::{faults, guests, listener, member, seen, session};

fn puppet(packets: Value) -> MemberSpec {
    member(guests::PUPPET, json!({ "packets": packets }))
}

#[test]
fn a_value_goes_from_plugin_to_plugin_and_to_the_application() {
    let mut source = Source::video(7);
    let chain = [
        puppet(json!({ "recall": "colour" })),
        puppet(json!({ "attribute": ["colour", "blue"] })),
        puppet(json!({ "recall": "colour" })),
        member(guests::TYPED_COUNTER, json!({ "attribute": "count" })),
        member(guests::PUPPET, json!({ "packets": { "recall": "colour" }, "access": "observe" })),
    ];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, source.packets(3));
    assert_eq!(seen(&mut world, peer, 0)["attributes"], json!([null, null, null]));
    assert_eq!(seen(&mut world, peer, 2)["attributes"], json!(["blue", "blue", "blue"]));
    assert_eq!(seen(&mut world, peer, 4)["attributes"], json!(["blue", "blue", "blue"]));
    for (n, packet) in world.peer(peer).rtp().enumerate() {
        assert_eq!(packet.attributes().get("colour"), Some(&Attribute::Text("blue".into())));
        assert_eq!(packet.attributes().get("count"), Some(&Attribute::Integer(n as i64 + 1)));
    }
}

#[test]
fn a_packet_whose_header_is_changed_keeps_them() {
    let mut source = Source::video(7);
    let chain = [
        puppet(json!({ "attribute": ["k", "v"] })),
        puppet(json!({ "extend": [3, [1]] })),
        puppet(json!({ "recall": "k" })),
    ];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, source.packets(2));
    assert_eq!(seen(&mut world, peer, 2)["attributes"], json!(["v", "v"]));
}

#[test]
fn a_later_value_replaces_an_earlier_one() {
    let mut source = Source::video(7);
    let chain = [puppet(json!({ "attribute": ["k", "1"] })), puppet(json!({ "attribute": ["k", "2"] }))];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, [source.packet()]);
    let packet = world.peer(peer).rtp().next().expect("a packet");
    assert_eq!(packet.attributes().iter().collect::<Vec<_>>(), [("k", &Attribute::Text("2".into()))]);
}

#[test]
fn a_packet_carries_only_so_many() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([puppet(json!({ "attributes": 40 }))], &source);
    world.receive(peer, [source.packet()]);
    let errors = seen(&mut world, peer, 0)["errors"].clone();
    assert_eq!(errors, json!(vec!["Quota"; 24]));
    assert_eq!(world.peer(peer).rtp().next().expect("a packet").attributes().iter().count(), 16);
    assert_eq!(faults(&world), []);
}

#[test]
fn keys_and_values_are_bounded_and_the_hosts_keys_are_its_own() {
    for (key, value, error) in [
        ("k".repeat(200), "v".to_owned(), "Quota"),
        ("k".to_owned(), "v".repeat(100_000), "Quota"),
        ("sandbar.arrival".to_owned(), "v".to_owned(), "Denied"),
    ] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([puppet(json!({ "attribute": [key, value] }))], &source);
        world.receive(peer, [source.packet()]);
        assert_eq!(seen(&mut world, peer, 0)["errors"], json!([error]));
        assert!(world.peer(peer).rtp().next().expect("a packet").attributes().is_empty());
    }
}

#[test]
fn copies_of_a_burst_keep_their_own() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([member(guests::BATCHED_COUNTER, json!({ "attribute": "n" }))], &source);
    world.receive(peer, source.packets(50));
    let numbers: Vec<_> = world.peer(peer).rtp().map(|packet| packet.attributes().get("n").cloned()).collect();
    assert_eq!(numbers, (1..=50).map(|n| Some(Attribute::Integer(n))).collect::<Vec<_>>());
}

#[test]
fn a_streams_own_attributes_reach_its_plugins() {
    let mut world = World::new(1);
    let peer = world.open(session([puppet(json!("forward")), member(guests::TYPED_COUNTER, json!({}))]));
    let attributes = vec![
        ("room".to_owned(), Attribute::Text("5".into())),
        ("weight".to_owned(), Attribute::Float(0.5)),
        ("muted".to_owned(), Attribute::Boolean(true)),
        ("raw".to_owned(), Attribute::Bytes(vec![0, 255])),
    ];
    world.bind_remote(peer, StreamInfo { attributes, ..Source::video(7).info() });
    assert_eq!(seen(&mut world, peer, 0)["bound"], json!([7]));
    assert_eq!(seen(&mut world, peer, 0)["stream_attributes"], json!(["room", "weight", "muted", "raw"]));
}
