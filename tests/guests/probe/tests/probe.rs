//! The probe does what it is told: the tests that use it as a component rely on that.

use std::time::Duration;

use sandbar_guest_probe::Probe;
use sandbar_sdk::testing::{Feed, Harness, Setup, packet};
use sandbar_sdk::{StreamInfo, Value};

const VIDEO: u32 = 7;

fn video() -> StreamInfo {
    StreamInfo {
        ssrc: VIDEO,
        ssrc_retransmission: Some(8),
        payload_type_retransmission: Some(97),
        ..StreamInfo::default()
    }
}

fn numbers(packets: &[sandbar_sdk::testing::Packet]) -> Vec<u16> {
    packets.iter().map(|packet| packet.header().sequence_number()).collect()
}

#[test]
fn each_action_does_what_its_name_says() {
    for (bound, action, on, emitted) in [
        ("transform-headers", "forward", vec![5], vec![]),
        ("transform-headers", "drop", vec![], vec![]),
        ("transform-headers", "mark", vec![5], vec![]),
        ("transform-headers", "extend", vec![5], vec![]),
        ("transform-headers", "replace", vec![1005], vec![]),
        ("transform-packets", "replace", vec![1005], vec![]),
        ("transform-packets", "duplicate", vec![], vec![5, 5]),
        ("transform-headers", "duplicate", vec![5], vec![5]),
        ("observe-headers", "drop", vec![5], vec![]),
        ("pass", "drop", vec![5], vec![]),
    ] {
        let config = format!(
            r#"{{"read": "{bound}", "write": "{bound}", "history": 8, "on_read": "{action}", "on_write": "{action}"}}"#
        );
        let mut harness = Harness::<Probe>::new(&config).unwrap();
        let remote = harness.bind_remote_stream(&video()).unwrap();
        let local = harness.bind_local_stream(&video()).unwrap();
        for direction in ["read", "write"] {
            let bytes = packet(VIDEO, 5, b"media");
            let went_on = if direction == "read" { harness.read(remote, bytes) } else { harness.write(local, bytes) };
            assert_eq!(numbers(&went_on), on, "{bound} {action} {direction}");
            assert_eq!(numbers(&harness.emitted_rtp()), emitted, "{bound} {action} {direction}");
            if let Some(packet) = went_on.first().filter(|_| bound.starts_with("transform")) {
                assert_eq!(packet.header().marker(), action == "mark");
                assert_eq!(packet.header().extension(1).is_some(), action == "extend");
                assert_eq!(packet.payload(), b"media");
            }
        }
    }
}

#[test]
fn a_held_packet_comes_later_as_it_was() {
    let mut harness =
        Harness::<Probe>::new(r#"{"write": "transform-headers", "history": 8, "on_write": "hold", "hold_ms": 30}"#)
            .unwrap();
    let local = harness.bind_local_stream(&video()).unwrap();
    for n in [1, 2] {
        assert!(harness.write(local, Feed::new(packet(VIDEO, n, b"media")).attribute("n", i64::from(n))).is_empty());
        harness.advance(Duration::from_millis(10));
    }
    harness.advance(Duration::from_millis(10));
    let first = harness.emitted_rtp();
    assert_eq!(numbers(&first), [1]);
    assert_eq!((first[0].payload(), first[0].attribute("n")), (&b"media"[..], Some(&Value::Integer(1))));
    harness.advance(Duration::from_millis(10));
    assert_eq!(numbers(&harness.emitted_rtp()), [2]);
}

#[test]
fn a_nack_is_answered_from_the_history() {
    let config = r#"{"write": "observe-headers", "history": 8, "rtcp_read": "observe", "on_rtcp_read": "answer"}"#;
    let mut harness = Harness::<Probe>::new(config).unwrap();
    let local = harness.bind_local_stream(&video()).unwrap();
    for n in 1..=6 {
        harness.write(local, packet(VIDEO, n, &[n as u8]));
    }
    let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, VIDEO as u8, 0, 2, 0, 0b100];
    assert_eq!(harness.read_rtcp(&nack).len(), 1);
    let sent = harness.emitted_rtp();
    assert_eq!(numbers(&sent), [0, 1]);
    assert_eq!((sent[0].header().ssrc(), sent[0].header().payload_type()), (8, 97));
    assert_eq!((sent[0].payload(), sent[1].payload()), (&[0, 2, 2][..], &[0, 5, 5][..]));
}

#[test]
fn ticks_publish_count_and_emit() {
    let config = r#"{"tick_ms": 100, "on_tick": ["publish", "emit-rtcp", "metrics", "log"]}"#;
    let mut harness = Harness::<Probe>::new(config).unwrap();
    harness.bind_remote_stream(&video()).unwrap();
    harness.advance(Duration::from_millis(250));
    assert_eq!(harness.published().len(), 2);
    assert_eq!((harness.counter("ticks"), harness.gauge("ticks")), (2, Some(2.0)));
    assert_eq!(harness.logs().len(), 2);
    let pli = harness.emitted_rtcp();
    assert_eq!(pli[0].bytes, [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, VIDEO as u8]);
}

#[test]
fn attributes_are_set_and_told() {
    let config = r#"{"read": "transform-headers", "set_attribute": "n", "publish_attribute": "n"}"#;
    let mut harness = Harness::<Probe>::new(config).unwrap();
    let remote = harness.bind_remote_stream(&video()).unwrap();
    let on = harness.read(remote, packet(VIDEO, 1, b""));
    assert_eq!(on[0].attribute("n"), Some(&Value::Integer(1)));
    harness.read(remote, Feed::new(packet(VIDEO, 2, b"")).attribute("n", "text"));
    let told: Vec<_> = harness.published().into_iter().map(|(_, json)| json).collect();
    assert_eq!(told, ["null", "\"text\""]);
}

#[test]
fn state_is_handed_over() {
    let mut harness = Harness::<Probe>::new(r#"{"read": "observe-headers"}"#).unwrap();
    let remote = harness.bind_remote_stream(&video()).unwrap();
    harness.read(remote, packet(VIDEO, 1, b""));
    let state = harness.save().unwrap();
    let mut next = Harness::<Probe>::restored(Setup::default(), "{}", &state).unwrap();
    let counts = next.control("\"counts\"").unwrap();
    assert!(counts.contains("\"read\":1") && counts.contains("\"restored\":1"), "{counts}");
    assert!(Harness::<Probe>::restored(Setup::default(), "{}", b"other").is_err());
}

#[test]
fn it_refuses_on_demand() {
    assert!(Harness::<Probe>::new(r#"{"refuse": "create"}"#).is_err());
    assert!(Harness::<Probe>::new(r#"{"refuse": "bind-rtcp"}"#).is_err());
    assert!(Harness::<Probe>::new(r#"{"unknown": 1}"#).is_err());
    assert!(Harness::<Probe>::restored(Setup::default(), r#"{"refuse": "restore"}"#, b"{}").is_err());
    let mut harness = Harness::<Probe>::new(r#"{"refuse": "bind-stream"}"#).unwrap();
    assert!(harness.bind_local_stream(&video()).is_err());
    assert!(harness.control("\"refuse\"").is_err());
    assert!(harness.control("\"nonsense\"").is_err());
}

#[test]
fn control_reaches_every_import() {
    let mut harness = Harness::<Probe>::new(r#"{"write": "transform-headers", "history": 4}"#).unwrap();
    let local = harness.bind_local_stream(&video()).unwrap();
    harness.write(local, packet(VIDEO, 3, b"media"));
    assert_eq!(harness.control(r#"{"echo": {"a": [1]}}"#).unwrap(), r#"{"a":[1]}"#);
    for request in [
        r#"{"emit_rtp": {"stream": 7, "ssrc": 7, "sequence_number": 9, "payload": [1, 2]}}"#,
        r#"{"retransmit": {"stream": 7, "sequence_number": 3}}"#,
        r#"{"emit_rtcp": [129, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7]}"#,
        r#"{"configure": {"on_write": "drop"}}"#,
        r#"{"wake_ms": 5}"#,
    ] {
        assert_eq!(harness.control(request).unwrap(), "null", "{request}");
    }
    assert_eq!(numbers(&harness.emitted_rtp()), [9, 0]);
    assert_eq!(harness.emitted_rtcp().len(), 1);
    assert!(harness.next_timeout().is_some());
    assert!(harness.write(local, packet(VIDEO, 4, b"")).is_empty());
    let kept = harness.control(r#"{"lookup": {"stream": 7, "sequence_number": 3}}"#).unwrap();
    assert!(kept.contains("\"size\":17"), "{kept}");

    assert!(harness.control("\"random\"").unwrap() != harness.control("\"random\"").unwrap());
}
