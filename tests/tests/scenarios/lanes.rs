//! The typed and the batched lane are one contract.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Attributes, FaultPolicy, Lane, MemberSpec, Packet};
use sandbar_tests::engine::load;
use sandbar_tests::media::{Source, control};
use sandbar_tests::net::{Loss, Profile};
use sandbar_tests::peers::World;
use serde_json::{Value, json};

use crate::{counts, faults, guests, listener, member, published, report, session};

/// All that can be seen of a plugin from outside.
#[derive(Debug, PartialEq)]
struct Behaviour {
    delivered: Vec<(u64, Bytes, Attributes)>,
    sent: Vec<(u64, Bytes)>,
    published: Vec<(String, String)>,
    counts: Option<Value>,
    faults: usize,
    packets: (u64, u64, u64),
}

/// A second of video in both directions over a link with loss, jitter and reordering, with RTCP in between.
fn behaviour(guest: &[u8], config: &Value) -> Behaviour {
    let profile = Profile {
        loss: Loss::Random(0.05),
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(10),
        reorder: (0.05, Duration::from_millis(15)),
        ..Profile::default()
    };
    let chain = session([member(guest, config.clone()).on_fault(FaultPolicy::Bypass)]);
    let (mut world, left, right) = World::pair(3, &profile, chain, session([]));
    let (out, back) = (Source::video(7), Source::video(9));
    let out = world.flow(left, right, out.clone(), out.info());
    let back = world.flow(right, left, back.clone(), back.info());
    world.play(out, 100);
    world.play(back, 100);
    for _ in 0..11 {
        world.run_for(Duration::from_millis(97));
        world.send_rtcp(left, [control::receiver_report(1), control::picture_loss(1, 9)].concat().into());
        world.send_rtcp(right, control::receiver_report(2));
    }
    world.run_for(Duration::from_millis(500));
    let running = faults(&world).is_empty();
    let counts = running.then(|| counts(&mut world, left, 0));
    let report = report(&mut world, left, 0);
    world.with(left, |shard, now, session| shard.close_session(now, session));
    let peer = world.peer(left);
    Behaviour {
        delivered: peer
            .delivered
            .iter()
            .map(|delivered| {
                let attributes = match &delivered.packet {
                    Packet::Rtp(packet) => packet.attributes().clone(),
                    _ => Attributes::NONE,
                };
                (delivered.at.as_nanos(), delivered.packet.to_bytes(), attributes)
            })
            .collect(),
        sent: peer.sent.iter().map(|sent| (sent.at.as_nanos(), sent.bytes.clone())).collect(),
        published: published(&world),
        counts,
        faults: faults(&world).len(),
        packets: (report.packets_in, report.packets_out, report.dropped),
    }
}

#[test]
fn a_plugin_does_the_same_in_both_lanes() {
    for config in [
        json!({}),
        json!({ "view": "packets" }),
        json!({ "access": "observe" }),
        json!({ "access": "observe", "view": "packets", "publish_ms": 50 }),
        json!({ "access": "follow" }),
        json!({ "access": "follow", "publish_ms": 50 }),
        json!({ "access": "pass" }),
        json!({ "drop_every": 7 }),
        json!({ "drop_every": 1 }),
        json!({ "payload_type": 101, "attribute": "count" }),
        json!({ "view": "packets", "payload_type": 101, "attribute": "count", "publish_ms": 30, "drop_every": 5 }),
    ] {
        let typed = behaviour(guests::TYPED_COUNTER, &config);
        let batched = behaviour(guests::BATCHED_COUNTER, &config);
        assert_eq!(typed, batched, "{config}");
        assert!(typed.delivered.len() > 10, "{config}");
        assert_eq!(typed.faults, 0, "{config}");
    }
}

#[test]
fn the_lanes_differ_in_the_number_of_calls() {
    let calls = |guest: &[u8]| {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([member(guest, json!({}))], &source);
        let before = report(&mut world, peer, 0).calls;
        world.receive(peer, source.packets(32));
        report(&mut world, peer, 0).calls - before
    };
    assert_eq!((calls(guests::TYPED_COUNTER), calls(guests::BATCHED_COUNTER)), (32, 1));
}

#[test]
fn packets_in_place_of_one_are_accounted_for_in_both_lanes() {
    let config = json!({ "read": "transform-packets", "on_read": "duplicate" }).to_string();
    let batched = load(guests::PROBE);
    for plugin in [batched.in_typed_lane(), batched] {
        let lane = plugin.lane();
        let mut source = Source::video(7);
        let (mut world, peer) = listener([MemberSpec::new(plugin).with_config(config.clone())], &source);
        world.receive(peer, source.packets(5));
        assert_eq!(world.peer(peer).delivered.len(), 10);
        let report = report(&mut world, peer, 0);
        assert_eq!((report.packets_in, report.dropped, report.emitted), (5, 5, 10), "{lane:?}");
        assert_eq!(report.packets_out, 10, "{lane:?}");
    }
}

#[test]
fn the_standard_plugins_put_the_same_bytes_on_the_wire_in_both_lanes() {
    let [batched, typed] = [Lane::Batched, Lane::Typed].map(|lane| crate::determinism::wire(3, 3, lane));
    assert!(batched.len() > 2_000);
    for (batched, typed) in batched.iter().zip(&typed) {
        assert_eq!(batched, typed);
    }
    assert_eq!(batched.len(), typed.len());
}
