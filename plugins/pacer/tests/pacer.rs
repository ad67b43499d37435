//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_pacer::{PROBE, PROBES, Pacer, TARGET};
use sandbar_sdk::testing::{Drive, Feed, Harness, Packet};
use sandbar_sdk::{Binding, HeaderBuf, Instant, Refusal, StreamId, StreamInfo, Value};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const FEC: u32 = 0x3333;
/// Bytes of most packets here.
const SIZE: usize = 1000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn video() -> StreamInfo {
    StreamInfo {
        ssrc: SSRC,
        ssrc_retransmission: Some(RTX),
        ssrc_forward_error_correction: Some(FEC),
        payload_type: 96,
        payload_type_retransmission: Some(97),
        mime_type: "video/VP8".into(),
        ..StreamInfo::default()
    }
}

fn bound(config: &str) -> (Harness<Pacer>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_local_stream(&video()).unwrap();
    (harness, stream)
}

/// 1 Mbit/s at which nothing is exceeded: a packet of 1000 bytes takes 8 ms.
const CONFIG: &str = r#"{"bitrate": 1000000}"#;

fn packet(ssrc: u32, number: u16, size: usize) -> Feed {
    let mut header = HeaderBuf::new(96, ssrc);
    header.edit().set_sequence_number(number);
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(size, number as u8);
    Feed::new(bytes)
}

/// Writes a burst and lets `after` pass; gives what left, with the time since the burst, in milliseconds.
fn write(
    harness: &mut Harness<Pacer>,
    stream: StreamId,
    packets: impl IntoIterator<Item = Feed>,
    after: Duration,
) -> Vec<(u64, Packet)> {
    let begun = harness.now();
    let mut left: Vec<_> = packets.into_iter().flat_map(|packet| Drive::write(harness, stream, packet)).collect();
    harness.advance(after);
    left.extend(harness.emitted_rtp());
    left.sort_by_key(|packet| packet.order);
    left.into_iter().map(|packet| ((packet.time - begun).as_millis() as u64, packet)).collect()
}

fn numbers(left: &[(u64, Packet)]) -> Vec<u16> {
    left.iter().map(|(_, packet)| packet.header().sequence_number()).collect()
}

fn times(left: &[(u64, Packet)]) -> Vec<u64> {
    left.iter().map(|(at, _)| *at).collect()
}

/// Version 1: number, bits per second, 15 ms and 5 packets.
fn orders(list: &[(u32, u32)]) -> Value {
    let mut bytes = vec![1];
    for (number, rate) in list {
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&rate.to_le_bytes());
        bytes.extend_from_slice(&[15, 0, 5, 0]);
    }
    Value::Bytes(bytes)
}

#[test]
fn video_is_transformed_and_audio_only_counted() {
    let (mut harness, stream) = bound("{}");
    assert_eq!(harness.binding(stream).map(|binding| binding.access), Some(Binding::transform_headers().access));
    let audio = StreamInfo { ssrc: 7, mime_type: "Audio/opus".into(), ..StreamInfo::default() };
    let audio = harness.bind_local_stream(&audio).unwrap();
    assert_eq!(harness.binding(audio), Some(Binding::observe_headers()));
    let remote = harness.bind_remote_stream(&video()).unwrap();
    assert_eq!(harness.binding(remote), Some(Binding::PASS));
}

#[test]
fn a_burst_leaves_at_the_rate_whole_and_in_its_order() {
    let (mut harness, stream) = bound(CONFIG);
    let left = write(&mut harness, stream, (0..50).map(|n| packet(SSRC, n, SIZE)), ms(1_000));
    assert_eq!(numbers(&left), (0..50).collect::<Vec<_>>());
    let times = times(&left);
    assert!(times.is_sorted() && times[0] == 0);
    for (n, at) in times.iter().enumerate() {
        let due = n as u64 * 8;
        assert!(at.abs_diff(due) <= 8, "packet {n} at {at} ms, due at {due}");
    }
    for (n, (_, packet)) in left.iter().enumerate() {
        assert_eq!((packet.bytes.len(), packet.payload()[0]), (SIZE, n as u8));
    }
    assert_eq!((harness.counter("held"), harness.held(), harness.next_timeout()), (49, 0, None));
}

#[test]
fn what_comes_at_the_rate_goes_at_once() {
    let (mut harness, stream) = bound(CONFIG);
    for n in 0..100 {
        let left = write(&mut harness, stream, [packet(SSRC, n, SIZE)], ms(8));
        assert_eq!((numbers(&left), times(&left)), (vec![n], vec![0]));
    }
    assert_eq!(harness.counter("held"), 0);
}

#[test]
fn a_packet_larger_than_what_an_interval_allows_goes_and_is_waited_for() {
    let (mut harness, stream) = bound(r#"{"bitrate": 100000}"#);
    let left = write(&mut harness, stream, (0..4).map(|n| packet(SSRC, n, 1200)), ms(1_000));
    let times = times(&left);
    assert_eq!(times.len(), 4);
    assert!(times.windows(2).all(|pair| (90..=100).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[test]
fn it_follows_the_estimate_and_what_is_configured_where_there_is_none() {
    let (mut harness, stream) = bound(r#"{"bitrate": 1000000, "factor": 2}"#);
    let last = |harness: &mut Harness<Pacer>| {
        let left = write(harness, stream, (0..41).map(|n| packet(SSRC, n, SIZE)), ms(2_000));
        assert_eq!(left.len(), 41);
        times(&left)[40]
    };
    assert!((310..=320).contains(&last(&mut harness)));
    harness.set_session_attribute(TARGET, Some(Value::Integer(2_000_000)));
    assert!((70..=80).contains(&last(&mut harness)));
    harness.set_session_attribute(TARGET, None);
    assert!((310..=320).contains(&last(&mut harness)));
}

#[test]
fn the_estimate_may_change_while_packets_wait() {
    let (mut harness, stream) = bound(CONFIG);
    assert_eq!(write(&mut harness, stream, (0..100).map(|n| packet(SSRC, n, SIZE)), ms(80)).len(), 11);
    harness.set_session_attribute(TARGET, Some(Value::Integer(100_000_000)));
    harness.advance(ms(40));
    assert_eq!(harness.emitted_rtp().len(), 89);
}

#[test]
fn audio_goes_at_once_and_retransmissions_before_everything_else_that_waits() {
    let (mut harness, stream) = bound(CONFIG);
    let audio = StreamInfo { ssrc: 7, mime_type: "audio/opus".into(), ..StreamInfo::default() };
    let audio = harness.bind_local_stream(&audio).unwrap();
    assert_eq!(write(&mut harness, stream, (0..3).map(|n| packet(SSRC, n, SIZE)), ms(0)).len(), 1);
    for ssrc in [FEC, RTX] {
        assert!(write(&mut harness, stream, (0..3).map(|n| packet(ssrc, n, SIZE)), ms(0)).is_empty(), "{ssrc:x}");
    }
    assert_eq!(numbers(&write(&mut harness, audio, (0..5).map(|n| packet(7, n, SIZE)), ms(0))), [0, 1, 2, 3, 4]);
    let begun = harness.now();
    harness.advance(ms(500));
    let left = harness.emitted_rtp();
    let order: Vec<_> = left.iter().map(|packet| (packet.header().ssrc(), packet.header().sequence_number())).collect();
    let expected = [(RTX, 0), (RTX, 1), (RTX, 2), (SSRC, 1), (SSRC, 2), (FEC, 0), (FEC, 1), (FEC, 2)];
    assert_eq!(order, expected);
    // Six packets have left before the first of these, 8 ms each.
    for (n, packet) in left.iter().enumerate() {
        let (at, due) = ((packet.time - begun).as_millis(), 48 + 8 * n as u128);
        assert!(at.abs_diff(due) <= 8, "packet {n} at {at} ms, due at {due}");
    }
}

#[test]
fn a_retransmission_that_waits_leaves_with_the_number_that_padding_left_it() {
    let (mut harness, stream) = bound(CONFIG);
    write(&mut harness, stream, [packet(SSRC, 0, SIZE), packet(RTX, 9, SIZE)], ms(100));
    harness.set_session_attribute(PROBES, Some(orders(&[(1, 2_000_000)])));
    write(&mut harness, stream, [packet(SSRC, 1, SIZE)], ms(100));
    let padded = harness.counter("padding") as u16;
    let burst = [packet(SSRC, 2, SIZE), packet(SSRC, 3, SIZE), packet(RTX, 10, SIZE), packet(RTX, 11, SIZE)];
    assert_eq!(numbers(&write(&mut harness, stream, burst, ms(100))), [2, 10 + padded, 11 + padded, 3]);
    assert!(padded > 0);
}

#[test]
fn nothing_is_held_for_longer_than_allowed() {
    let (mut harness, stream) = bound(r#"{"bitrate": 100000, "queue_ms": 500}"#);
    let left = write(&mut harness, stream, (0..400).map(|n| packet(SSRC, n, SIZE)), ms(1_000));
    assert_eq!(numbers(&left), (0..400).collect::<Vec<_>>());
    assert!(times(&left)[399] <= 510, "{:?}", times(&left));
}

#[test]
fn what_exceeds_the_queue_lets_the_oldest_go_and_nothing_is_lost() {
    let (mut harness, stream) = bound(r#"{"bitrate": 100000, "queue_packets": 32, "queue_ms": 10000}"#);
    let left = write(&mut harness, stream, (0..200).map(|n| packet(SSRC, n, SIZE)), ms(0));
    assert_eq!(numbers(&left), (0..168).collect::<Vec<_>>());
    assert_eq!((harness.held(), harness.counter("overflow")), (32, 167));
    harness.advance(ms(10_000));
    assert_eq!((harness.emitted_rtp().len(), harness.held()), (32, 0));
}

#[test]
fn more_than_one_call_may_emit_goes_all_the_same_and_in_order() {
    let (mut harness, stream) = bound(r#"{"bitrate": 5000, "queue_ms": 10000}"#);
    let first = write(&mut harness, stream, (0..2000).map(|n| packet(SSRC, n, 100)), ms(20)).len();
    assert!(first < 10);
    harness.set_session_attribute(TARGET, Some(Value::Integer(1_000_000_000)));
    harness.advance(ms(60));
    let numbers: Vec<_> = harness.emitted_rtp().iter().map(|packet| packet.header().sequence_number()).collect();
    assert_eq!(numbers, (first as u16..2000).collect::<Vec<_>>());
}

#[test]
fn several_streams_share_the_rate_in_the_order_of_their_packets() {
    let (mut harness, first) = bound(CONFIG);
    let second = StreamInfo { ssrc: 9, ssrc_retransmission: None, ..video() };
    let second = harness.bind_local_stream(&second).unwrap();
    for n in 0..10 {
        harness.write(first, packet(SSRC, n, SIZE));
        harness.write(second, packet(9, n, SIZE));
    }
    harness.advance(ms(500));
    let order: Vec<_> = harness.emitted_rtp().iter().map(|packet| packet.header().ssrc()).collect();
    assert_eq!(order.len(), 19);
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

#[test]
fn a_probe_is_sent_at_its_rate_marked_and_once() {
    let (mut harness, stream) = bound(CONFIG);
    write(&mut harness, stream, [packet(SSRC, 1, SIZE)], ms(100));
    harness.set_session_attribute(PROBES, Some(orders(&[(1, 4_000_000), (2, 8_000_000)])));
    let left = write(&mut harness, stream, [packet(SSRC, 2, SIZE)], ms(200));
    let of = |number: i64| {
        let mark = Some(Value::Integer(number));
        let of: Vec<_> = left.iter().filter(|(_, packet)| packet.attribute(PROBE).cloned() == mark).collect();
        let bytes: usize = of[..of.len() - 1].iter().map(|(_, packet)| packet.bytes.len()).sum();
        let time = (of[of.len() - 1].1.time - of[0].1.time).as_secs_f64();
        (of.len(), bytes as f64 * 8.0 / time)
    };
    let ((first, slow), (second, fast)) = (of(1), of(2));
    assert!(first >= 8 && (3.6e6..4.4e6).contains(&slow), "{first} packets at {slow}");
    assert!(second >= 15 && (7.2e6..8.8e6).contains(&fast), "{second} packets at {fast}");
    assert_eq!(left.iter().filter(|(_, packet)| packet.header().ssrc() == SSRC).count(), 1);
    assert_eq!(left.len(), first + second + 1, "and nothing beside them and the packet that came first");
    let again = write(&mut harness, stream, [packet(SSRC, 3, SIZE)], ms(200));
    assert_eq!((again.len(), harness.counter("probes")), (1, 2));
}

#[test]
fn padding_is_media_that_was_just_sent_under_consecutive_retransmission_numbers() {
    let (mut harness, stream) = bound(CONFIG);
    write(&mut harness, stream, (0..3).map(|n| packet(SSRC, n, SIZE)), ms(100));
    assert_eq!(numbers(&write(&mut harness, stream, [packet(RTX, 500, SIZE)], ms(20))), [500]);
    harness.set_session_attribute(PROBES, Some(orders(&[(1, 2_000_000)])));
    let probe = write(&mut harness, stream, [packet(SSRC, 3, SIZE)], ms(100));
    let padding: Vec<_> = probe.iter().filter(|(_, packet)| packet.header().ssrc() == RTX).collect();
    assert!(padding.len() >= 4);
    for (n, (_, packet)) in padding.iter().enumerate() {
        let header = packet.header();
        assert_eq!((header.sequence_number(), header.payload_type()), (501 + n as u16, 97));
        // RFC 4588, 4: the original's number, and its payload.
        let original = u16::from_be_bytes([packet.payload()[0], packet.payload()[1]]);
        assert!(original < 4 && packet.payload()[2..].iter().all(|byte| *byte == original as u8));
        assert_eq!(packet.payload().len(), SIZE - 12 + 2);
    }
    let next = 501 + padding.len() as u16;
    assert_eq!(numbers(&write(&mut harness, stream, [packet(RTX, 501, SIZE)], ms(20))), [next]);
}

#[test]
fn where_media_is_too_small_padding_is_padding() {
    let (mut harness, stream) = bound(CONFIG);
    write(&mut harness, stream, [packet(SSRC, 0, 100)], ms(100));
    harness.set_session_attribute(PROBES, Some(orders(&[(1, 1_000_000)])));
    let left = write(&mut harness, stream, [packet(SSRC, 1, 100)], ms(100));
    let padding: Vec<_> = left.iter().filter(|(_, packet)| packet.header().ssrc() == RTX).collect();
    assert!(padding.len() >= 7, "{}", padding.len());
    // RFC 3550, 5.1: the last byte counts the padding.
    assert!(padding.iter().all(|(_, packet)| packet.header().padding() && packet.payload().len() == 255));
    assert!(padding.iter().all(|(_, packet)| packet.payload()[254] == 255));
}

#[test]
fn without_a_retransmission_stream_or_media_there_is_no_probe() {
    let mut harness = Harness::<Pacer>::new(CONFIG).unwrap();
    harness.set_session_attribute(PROBES, Some(orders(&[(1, 4_000_000)])));
    let bare = StreamInfo { ssrc_retransmission: None, ..video() };
    let stream = harness.bind_local_stream(&bare).unwrap();
    harness.advance(ms(100));
    let left = write(&mut harness, stream, (0..5).map(|n| packet(SSRC, n, SIZE)), ms(100));
    assert_eq!((left.len(), harness.counter("probes")), (5, 0));
    harness.unbind_stream(stream);
    harness.bind_local_stream(&video()).unwrap();
    harness.advance(ms(100));
    assert_eq!((harness.emitted_rtp().len(), harness.counter("probes")), (0, 0));
}

#[test]
fn what_is_no_order_is_ignored() {
    let (mut harness, stream) = bound(CONFIG);
    for value in [Value::Integer(7), Value::Bytes(vec![]), Value::Bytes(vec![1; 5]), Value::Bytes(vec![9; 200])] {
        harness.set_session_attribute(PROBES, Some(value));
        let target = Value::Text("fast".into());
        harness.set_session_attribute(TARGET, Some(target));
        assert_eq!(write(&mut harness, stream, [packet(SSRC, 1, SIZE)], ms(50)).len(), 1);
    }
    harness.set_session_attribute(TARGET, Some(Value::Integer(-5)));
    assert_eq!(write(&mut harness, stream, [packet(SSRC, 1, SIZE)], ms(50)).len(), 1);
    assert_eq!(harness.counter("probes"), 0);
}

#[test]
fn what_is_held_still_goes_out_at_the_end_of_its_stream_or_of_the_session() {
    for close in [false, true] {
        let (mut harness, stream) = bound(CONFIG);
        let second = StreamInfo { ssrc: 9, ssrc_retransmission: None, ..video() };
        let second = harness.bind_local_stream(&second).unwrap();
        for n in 0..20 {
            harness.write(stream, packet(SSRC, n, SIZE));
            harness.write(second, packet(9, n, SIZE));
        }
        harness.emitted_rtp();
        if close {
            Drive::close(&mut harness)
        } else {
            harness.unbind_stream(stream)
        }
        let out: Vec<_> = harness.emitted_rtp();
        let of = |ssrc| {
            out.iter().map(Packet::header).filter(move |header| header.ssrc() == ssrc).map(|h| h.sequence_number())
        };
        assert_eq!(of(SSRC).collect::<Vec<_>>(), (1..20).collect::<Vec<_>>());
        if close {
            assert_eq!(of(9).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        } else {
            harness.advance(ms(1_000));
            assert_eq!(harness.emitted_rtp().len(), 20, "the other stream's are still held");
        }
    }
}

#[test]
fn a_successor_goes_on_with_the_numbers_and_the_probes() {
    let (mut harness, stream) = bound(CONFIG);
    write(&mut harness, stream, [packet(SSRC, 0, SIZE)], ms(100));
    harness.set_session_attribute(PROBES, Some(orders(&[(1, 2_000_000)])));
    write(&mut harness, stream, [packet(RTX, 9, SIZE), packet(SSRC, 1, SIZE)], ms(100));
    let padded = harness.counter("padding") as u16;
    assert!(padded > 0);
    let state = harness.save().unwrap();
    let mut successor = Harness::<Pacer>::restored(Default::default(), CONFIG, &state).unwrap();
    let stream = successor.bind_local_stream(&video()).unwrap();
    successor.set_session_attribute(PROBES, Some(orders(&[(1, 2_000_000)])));
    let left = write(&mut successor, stream, [packet(SSRC, 2, SIZE), packet(RTX, 10, SIZE)], ms(100));
    assert_eq!(numbers(&left), [2, 10 + padded]);
    let Err(refusal) = Harness::<Pacer>::restored(Default::default(), "{}", b"[]") else { panic!("refused") };
    assert!(matches!(refusal, Refusal::Unsupported(_)));
}

#[test]
fn a_stream_may_be_bound_twice_and_unbound_at_once() {
    let (mut harness, first) = bound(CONFIG);
    let second = harness.bind_local_stream(&video()).unwrap();
    harness.unbind_stream(second);
    let left = write(&mut harness, first, (0..10).map(|n| packet(SSRC, n, SIZE)), ms(500));
    assert_eq!(left.len(), 10);
    harness.unbind_stream(first);
    assert_eq!(harness.next_timeout().filter(|at| *at < harness.now() + ms(1)), None::<Instant>);
}

#[test]
fn wrong_options_are_refused_by_name() {
    for (config, says) in [
        (r#"{"bitrate": 10}"#, "bitrate is 10; 5000..=1000000000 is allowed"),
        (r#"{"factor": 0.5}"#, "factor is 0.5; 1..=10 is allowed"),
        (r#"{"interval_ms": 0}"#, "interval_ms is 0"),
        (r#"{"queue_packets": 8193}"#, "queue_packets is 8193"),
        (r#"{"queue_ms": 1}"#, "queue_ms is 1"),
        (r#"{"rate": 1}"#, "unknown field `rate`, expected one of `bitrate`"),
    ] {
        let Err(Refusal::Config(message)) = Harness::<Pacer>::new(config) else { panic!("refused") };
        assert!(message.contains(says), "{message}");
    }
}
