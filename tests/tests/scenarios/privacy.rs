//! A plugin sees what it was bound to see, and no more; and who only looks changes nothing.

use std::time::Duration;

use sandbar_host::{FaultAction, FaultKind, FaultPolicy, Grants, Isolation, LoadError, MemberSpec, Plugin};
use sandbar_tests::engine::engine;
use sandbar_tests::media::{Source, Verdict};
use serde_json::{Value, json};

use crate::{counts, delivered, faults, guests, heard, listener, member, seen, speaker, tell};

/// 12 bytes, a CSRC, and an extension block of two words.
const HEADER: u64 = 12 + 4 + 4 + 8;

fn rich() -> Source {
    Source { csrcs: vec![1], extensions: vec![(5, vec![1, 2]), (1, vec![3; 4])], ..Source::video(7) }
}

#[test]
fn a_plugin_bound_to_headers_is_never_shown_media() {
    for access in ["transform", "observe", "follow"] {
        for guest in [guests::TYPED_COUNTER, guests::BATCHED_COUNTER] {
            let mut source = rich();
            let (mut world, peer) = listener([member(guest, json!({ "access": access }))], &source);
            world.bind_local(peer, source.info());
            world.receive(peer, source.packets(20));
            world.send(peer, source.packets(20));
            let counts = counts(&mut world, peer, 0);
            assert_eq!((&counts["read"], &counts["written"]), (&json!(20), &json!(20)));
            assert_eq!(counts["shown"], HEADER, "{access}");
        }
    }
}

#[test]
fn the_frames_of_a_batch_hold_headers_alone() {
    // By hand, as they are in the guest's memory: kind, flags, bytes included, handle, time, size of the whole packet.
    for access in ["transform", "observe", "follow"] {
        let mut source = rich();
        let (mut world, peer) = listener([member(guests::LYING_BATCH, json!({ "access": access }))], &source);
        world.receive(peer, source.packets(20));
        let frames: Vec<[u64; 6]> = serde_json::from_str(&world.control(peer, 0, "")).expect("a list of frames");
        assert_eq!(frames.len(), 20);
        for [kind, flags, included, _, time, size] in frames {
            assert_eq!((kind, flags, included, size), (0, 0, HEADER, HEADER + 1000));
            assert_eq!(time, world.now().as_nanos());
        }
    }
}

#[test]
fn a_history_gives_out_headers_alone() {
    let mut source = rich();
    let (mut world, peer) = listener([member(guests::PUPPET, json!({ "history": 16, "access": "pass" }))], &source);
    world.receive(peer, source.packets(3));
    let lookup = json!([{ "do": "lookup", "ssrc": 7, "sequence_number": source.sequence_number(1) }]);
    let entry = tell(&mut world, peer, 0, lookup).remove(0);
    assert_eq!(entry[0].as_array().map(Vec::len), Some(HEADER as usize));
    assert_eq!((&entry[1], &entry[2]), (&json!(HEADER + 1000), &json!(world.now().as_nanos())));
    assert_eq!(seen(&mut world, peer, 0)["read"], json!([]), "and who passes is never called");
}

#[test]
fn a_plugin_bound_to_packets_is_shown_them_whole() {
    for guest in [guests::TYPED_COUNTER, guests::BATCHED_COUNTER] {
        let mut source = rich();
        let (mut world, peer) = listener([member(guest, json!({ "view": "packets" }))], &source);
        world.receive(peer, source.packets(20));
        assert_eq!(counts(&mut world, peer, 0)["shown"], HEADER + 1000);
        assert_eq!(heard(&world, peer, &source), Verdict::perfect(20));
    }
}

#[test]
fn media_is_not_shown_to_who_does_not_want_it_granted() {
    let source = Source::video(7);
    let (mut world, peer) = listener([], &source);
    let spec = member(guests::LYING_BATCH, json!({ "access": "packets" }));
    let error = world.with(peer, |shard, now, session| shard.insert_member(now, session, 0, spec));
    let error = error.expect_err("it binds packets and wants no media").to_string();
    assert!(error.contains("lying-batch") && error.contains("read-media"), "{error}");
}

#[test]
fn a_plugin_that_may_read_media_reads_it_only_where_that_is_granted() {
    let component = sandbar_plugins::by_name("packet-dump").expect("a standard plugin").component;
    for (granted, config, accepted) in
        [(false, json!({}), true), (false, json!({ "payload": true }), false), (true, json!({ "payload": true }), true)]
    {
        let grants = Grants { read_media: granted, ..Grants::ALL };
        let plugin = Plugin::load(engine(), component, &grants).expect("it does without");
        assert_eq!(plugin.reads_media(), granted);
        let (mut world, peer) = listener([], &Source::video(7));
        let spec = MemberSpec::new(plugin).with_config(config.to_string());
        let isolation = spec.isolation();
        assert_eq!(isolation == Isolation::Session, granted, "who may see media is alone");
        let inserted = world.with(peer, |shard, now, session| shard.insert_member(now, session, 0, spec));
        assert_eq!(inserted.is_ok(), accepted, "{inserted:?}");
    }
}

#[test]
fn a_plugin_that_wants_more_than_it_is_granted_is_not_loaded() {
    for (guest, grants, missing) in [
        (guests::TYPED_COUNTER, Grants::default(), "read-media"),
        (guests::EMISSION_STORM, Grants { emit_rtp: false, ..Grants::ALL }, "emit-rtp"),
        (guests::EMISSION_STORM, Grants { emit_rtcp: false, ..Grants::ALL }, "emit-rtcp"),
        (guests::PUPPET, Grants { wall_clock: false, ..Grants::ALL }, "wall-clock"),
        (guests::PUPPET, Grants { randomness: false, ..Grants::ALL }, "randomness"),
        (guests::PUPPET, Grants { sink: false, ..Grants::ALL }, "sink"),
    ] {
        let error = Plugin::load(engine(), guest, &grants).expect_err("it wants more");
        assert!(matches!(error, LoadError::NotGranted { .. }), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn a_plugin_that_wants_nothing_loads_with_no_grants_and_imports_nothing_of_weight() {
    let plugin = Plugin::load(engine(), guests::LYING_BATCH, &Grants::NONE).expect("it wants nothing");
    for import in plugin.imports() {
        let harmless = ["types", "burst", "telemetry", "time", "attributes", "history", "hold"];
        assert!(harmless.iter().any(|name| import.contains(&format!("/{name}@"))), "{import}");
    }
}

#[test]
fn an_observer_changes_drops_and_delays_nothing() {
    let does = [
        json!("drop"),
        json!("hold"),
        json!({ "replace": [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7] }),
        json!({ "packets": [[1, 2, 3]] }),
        json!({ "extend": [3, [1, 2, 3]] }),
        json!({ "ssrc": 99 }),
        json!({ "attribute": ["key", "value"] }),
    ];
    for (access, packets) in
        ["observe", "follow"].into_iter().flat_map(|access| does.iter().map(move |does| (access, does)))
    {
        let mut source = rich();
        let wake = json!([{ "do": "wake", "in_ms": 1000 }]);
        let config = json!({ "access": access, "packets": packets, "on_create": wake });
        let observer = member(guests::PUPPET, config);
        let (mut world, peer) = listener([observer], &source);
        let burst = source.packets(10);
        world.receive(peer, burst.clone());
        // Delivered before time passes, and so before the observer was called.
        assert_eq!(delivered(&world, peer), burst, "{packets}");
        world.run_for(Duration::from_millis(2));
        assert_eq!(delivered(&world, peer), burst, "{packets}");
        assert!(world.peer(peer).rtp().all(|packet| packet.attributes().is_empty()));
        assert_eq!(faults(&world), [], "{packets}");
        let seen = seen(&mut world, peer, 0);
        assert_eq!(seen["read"].as_array().map(Vec::len), Some(10));
        if packets == "hold" || packets.get("attribute").is_some() {
            assert_eq!(seen["errors"], json!(vec!["Denied"; 10]));
        }
    }
}

#[test]
fn the_same_holds_for_an_observer_in_the_typed_lane() {
    for config in [json!({ "drop_every": 1 }), json!({ "payload_type": 1 }), json!({ "attribute": "key" })] {
        let mut source = rich();
        let mut config = config;
        config["access"] = json!("observe");
        let (mut world, peer) = listener([member(guests::TYPED_COUNTER, config.clone())], &source);
        let burst = source.packets(10);
        world.receive(peer, burst.clone());
        world.run_for(Duration::from_millis(2));
        assert_eq!(delivered(&world, peer), burst, "{config}");
        assert!(world.peer(peer).rtp().all(|packet| packet.attributes().is_empty()));
        assert_eq!(counts(&mut world, peer, 0)["read"], 10);
        assert_eq!(faults(&world), []);
    }
}

#[test]
fn handing_on_what_one_only_observes_is_a_fault() {
    let source = Source::video(7);
    for access in ["observe", "follow"] {
        let mut source = source.clone();
        let liar = member(guests::LYING_BATCH, json!({ "lie": "observed", "access": access }));
        let (mut world, peer) = listener([liar.on_fault(FaultPolicy::Bypass)], &source);
        world.receive(peer, source.packets(5));
        world.run_for(Duration::from_millis(2));
        assert_eq!(faults(&world), [(FaultKind::BadBatch, FaultAction::Bypassed)], "{access}");
        assert_eq!(heard(&world, peer, &source), Verdict::perfect(5), "{access}");
    }
}

#[test]
fn observers_get_their_packets_in_batches_each_with_its_own_time() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([member(guests::LYING_BATCH, json!({ "access": "observe" }))], &source);
    let mut times = Vec::new();
    for _ in 0..100 {
        times.push(world.now().as_nanos());
        world.receive(peer, [source.packet()]);
        world.run_for(Duration::from_micros(100));
    }
    world.run_for(Duration::from_millis(5));
    let calls = crate::report(&mut world, peer, 0).calls;
    assert!(calls < 25, "a call for about ten packets, a millisecond's worth: {calls}");
    let frames: Vec<[u64; 6]> = serde_json::from_str(&world.control(peer, 0, "")).expect("a list of frames");
    assert_eq!(frames.iter().map(|frame| frame[4]).collect::<Vec<_>>(), times);
}

#[test]
fn a_transform_may_reorder_and_drop() {
    for (lie, expected) in [
        ("reverse", Verdict { reordered: 9, ..Verdict::perfect(10) }),
        ("nothing", Verdict { lost: 10, ..Verdict::default() }),
    ] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([member(guests::LYING_BATCH, json!({ "lie": lie }))], &source);
        world.receive(peer, source.packets(10));
        assert_eq!(heard(&world, peer, &source), expected);
        assert_eq!(faults(&world), []);
        assert_eq!(crate::report(&mut world, peer, 0).dropped, expected.lost);
    }
}

#[test]
fn a_replaced_header_leaves_the_media_alone_and_shared() {
    for guest in [guests::TYPED_COUNTER, guests::BATCHED_COUNTER] {
        let mut source = rich();
        let (mut world, peer) = speaker([member(guest, json!({ "payload_type": 100 }))], &source);
        let burst = source.packets(10);
        world.send(peer, burst.clone());
        source.payload_type = 100;
        for (index, bytes) in world.peer(peer).sent(sandbar_host::Kind::Rtp).enumerate() {
            assert_eq!(*bytes, source.nth(index as u64));
        }
        let (mut world, peer) = listener([member(guest, json!({ "payload_type": 100 }))], &source);
        world.receive(peer, burst.clone());
        for (came, went) in burst.iter().zip(world.peer(peer).rtp()) {
            assert_eq!(went.payload().as_ptr_range().end, came.as_ptr_range().end);
            assert_eq!(went.payload_type(), 100);
        }
    }
}

#[test]
fn every_plugin_of_an_instance_sees_its_events_in_order() {
    // Observed packets wait in a batch; a control request must not overtake them.
    let observer = member(guests::BATCHED_COUNTER, json!({ "access": "observe" })).isolated(Isolation::Tenant);
    let mut source = Source::video(7);
    let (mut world, peer) = listener([MemberSpec { ..observer }], &source);
    for n in 1..10 {
        world.receive(peer, [source.packet()]);
        assert_eq!(counts(&mut world, peer, 0)["read"], Value::from(n));
    }
}
