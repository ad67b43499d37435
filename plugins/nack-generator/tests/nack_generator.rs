//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandbar_plugin_nack_generator::NackGenerator;
use sandbar_sdk::rtcp::packet as rtcp_packet;
use sandbar_sdk::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use sandbar_sdk::testing::{Feed, Harness, Setup, packet};
use sandbar_sdk::{Binding, Instant, Refusal, RtcpFeedback, RtcpParts, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A stream with RTX.
fn video(ssrc: u32) -> StreamInfo {
    StreamInfo {
        ssrc,
        ssrc_retransmission: Some(RTX),
        payload_type_retransmission: Some(97),
        rtcp_feedback: vec![RtcpFeedback { kind: "nack".into(), parameter: String::new() }],
        ..StreamInfo::default()
    }
}

fn bound(config: &str) -> (Harness<NackGenerator>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_remote_stream(&video(SSRC)).unwrap();
    (harness, stream)
}

fn arrive(harness: &mut Harness<NackGenerator>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        let on = harness.read(stream, packet(SSRC, number, b"media"));
        assert_eq!(on.len(), 1, "an observer keeps nothing back");
    }
}

/// Takes the requests: media SSRC and numbers of each NACK, per emission.
fn requests(harness: &mut Harness<NackGenerator>) -> Vec<Vec<(u32, Vec<u16>)>> {
    let emitted = harness.emitted_rtcp();
    let nacks = emitted.iter().map(|emission| {
        let packets = rtcp_packet::unmarshal(&mut &emission.bytes[..]).unwrap();
        let nacks = packets.iter().map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>().unwrap());
        nacks.map(|nack| (nack.media_ssrc, nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect())).collect()
    });
    nacks.collect()
}

fn asked(harness: &mut Harness<NackGenerator>) -> Vec<u16> {
    requests(harness).into_iter().flatten().flat_map(|(_, numbers)| numbers).collect()
}

#[test]
fn only_streams_with_generic_nack_are_observed() {
    let mut harness = Harness::<NackGenerator>::new("{}").unwrap();
    let pli = RtcpFeedback { kind: "nack".into(), parameter: "pli".into() };
    let without = StreamInfo { rtcp_feedback: vec![pli], ..video(1) };
    let without = harness.bind_remote_stream(&without).unwrap();
    let with = harness.bind_remote_stream(&video(2)).unwrap();
    assert_eq!(harness.binding(without), Some(Binding::PASS));
    assert_eq!(harness.binding(with), Some(Binding::FOLLOW));
}

#[test]
fn a_loss_is_asked_for_after_the_reordering_window_in_the_sessions_name() {
    let setup = Setup { rtcp_ssrc: 0x0a0b_0c0d, ..Setup::default() };
    let mut harness = Harness::<NackGenerator>::with(setup, "{}").unwrap();
    let stream = harness.bind_remote_stream(&video(SSRC)).unwrap();
    arrive(&mut harness, stream, [10, 13]);
    harness.advance(ms(4));
    assert!(harness.emitted_rtcp().is_empty());
    harness.advance(ms(1));
    let emitted = harness.emitted_rtcp();
    assert_eq!(emitted.len(), 1);
    let bytes = [0x81, 205, 0, 3, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0x11, 0x11, 0, 11, 0, 1];
    assert_eq!(emitted[0].bytes, bytes);
}

/// Whether there is nothing to be woken for soon. A timer that is set has headers wait for it.
fn at_rest(harness: &Harness<NackGenerator>) -> bool {
    harness.next_timeout().is_some_and(|at| at > harness.now() + ms(10_000))
}

#[test]
fn nobody_is_woken_while_nothing_is_missing() {
    let (mut harness, stream) = bound("{}");
    arrive(&mut harness, stream, (0..1000).map(|n| 65_000u16.wrapping_add(n)));
    assert!(at_rest(&harness));
    arrive(&mut harness, stream, [500]);
    assert!(!at_rest(&harness));
    arrive(&mut harness, stream, 464..500);
    harness.advance(ms(1000));
    assert!(at_rest(&harness));
    assert!(asked(&mut harness).is_empty());
}

#[test]
fn reordering_within_the_window_is_no_loss() {
    let (mut harness, stream) = bound("{}");
    arrive(&mut harness, stream, [1, 3]);
    harness.advance(ms(4));
    arrive(&mut harness, stream, [2, 5, 4]);
    harness.advance(ms(500));
    assert!(asked(&mut harness).is_empty());
}

#[test]
fn the_window_counts_from_the_arrival_also_when_the_batch_came_later() {
    let (mut harness, stream) = bound("{}");
    harness.advance(ms(10));
    let arrived = harness.now() - ms(6);
    arrive(&mut harness, stream, [1]);
    harness.read(stream, Feed::new(packet(SSRC, 3, b"")).at(arrived));
    assert_eq!(asked(&mut harness), [2], "due at once, after the call");
}

#[test]
fn a_repaired_packet_and_a_late_one_end_the_requests() {
    let (mut harness, stream) = bound("{}");
    arrive(&mut harness, stream, [1, 4]);
    harness.advance(ms(5));
    assert_eq!(asked(&mut harness), [2, 3]);
    harness.advance(ms(20));
    harness.read(stream, Feed::new(packet(SSRC, 2, b"")).repaired());
    arrive(&mut harness, stream, [3]);
    harness.advance(ms(2000));
    assert!(asked(&mut harness).is_empty());
    assert_eq!((harness.counter("requested"), harness.counter("recovered")), (2, 2));
}

#[test]
fn a_repaired_packet_does_not_hide_a_loss() {
    let (mut harness, stream) = bound("{}");
    arrive(&mut harness, stream, [1]);
    harness.read(stream, Feed::new(packet(SSRC, 3, b"")).repaired());
    harness.advance(ms(5));
    assert_eq!(asked(&mut harness), [2]);
}

#[test]
fn requests_are_100_ms_apart_while_the_round_trip_is_unknown_and_end_after_ten() {
    let (mut harness, stream) = bound("{}");
    arrive(&mut harness, stream, [1, 3]);
    harness.advance(ms(5));
    for _ in 0..9 {
        assert_eq!(asked(&mut harness), [2]);
        harness.advance(ms(99));
        assert!(asked(&mut harness).is_empty());
        harness.advance(ms(1));
    }
    assert_eq!(asked(&mut harness), [2]);
    harness.advance(ms(5000));
    assert!(asked(&mut harness).is_empty());
    assert!(at_rest(&harness));
    assert_eq!(harness.counter("abandoned"), 1);
}

#[test]
fn requests_are_a_round_trip_apart_once_it_is_known() {
    for round_trip in [20, 60, 240] {
        let (mut harness, stream) = bound("{}");
        let mut next = 0;
        arrive(&mut harness, stream, [next]);
        for _ in 0..30 {
            arrive(&mut harness, stream, [next + 2]);
            harness.advance(ms(5 + round_trip));
            harness.read(stream, Feed::new(packet(SSRC, next + 1, b"")).repaired());
            harness.advance(ms(1000));
            next += 2;
        }
        harness.emitted_rtcp();
        arrive(&mut harness, stream, [next + 2]);
        harness.advance(ms(5 + 4 * round_trip + round_trip / 2));
        let count = asked(&mut harness).len();
        assert!((4..=5).contains(&count), "{count} requests in 4.5 round trips of {round_trip} ms");
        let gauge = harness.gauge("round_trip_ms").unwrap();
        assert!((gauge - round_trip as f64).abs() < 0.1 * round_trip as f64, "{gauge}");
    }
}

#[test]
fn with_retransmissions_of_their_own_late_packets_do_not_measure_the_round_trip() {
    let (mut harness, stream) = bound("{}");
    for n in 0..20 {
        arrive(&mut harness, stream, [2 * n, 2 * n + 2]);
        harness.advance(ms(6));
        arrive(&mut harness, stream, [2 * n + 1]);
        harness.advance(ms(500));
    }
    assert_eq!(harness.gauge("round_trip_ms"), None);
}

#[test]
fn with_repair_packets_nothing_measures_the_round_trip() {
    let mut harness = Harness::<NackGenerator>::new("{}").unwrap();
    let info = StreamInfo { ssrc_forward_error_correction: Some(7), ..video(SSRC) };
    let stream = harness.bind_remote_stream(&info).unwrap();
    arrive(&mut harness, stream, [1, 3]);
    harness.advance(ms(25));
    harness.read(stream, Feed::new(packet(SSRC, 2, b"")).repaired());
    // The repair packet has a sequence of its own.
    harness.read(stream, packet(7, 40_000, b""));
    harness.read(stream, packet(7, 40_001, b""));
    arrive(&mut harness, stream, [4, 6]);
    harness.emitted_rtcp();
    harness.advance(ms(5));
    assert_eq!(asked(&mut harness), [5]);
    harness.advance(ms(500));
    assert_eq!(harness.gauge("round_trip_ms"), None);
}

#[test]
fn one_tick_is_one_emission_for_all_streams() {
    let (mut harness, first) = bound("{}");
    let second = harness.bind_remote_stream(&video(0x3333)).unwrap();
    arrive(&mut harness, first, [1, 3]);
    for number in [100, 104] {
        harness.read(second, packet(0x3333, number, b""));
    }
    harness.advance(ms(50));
    assert_eq!(requests(&mut harness), [[(SSRC, vec![2]), (0x3333, vec![101, 102, 103])]]);
}

#[test]
fn losses_close_to_each_other_share_a_tick() {
    let (mut harness, stream) = bound(r#"{"reorder_ms": 20}"#);
    let mut ticks = 0;
    arrive(&mut harness, stream, [0]);
    for n in 1..=100 {
        arrive(&mut harness, stream, [2 * n]);
        harness.advance(ms(1));
        ticks += requests(&mut harness).len();
    }
    assert!((8..=12).contains(&ticks), "{ticks} emissions in 80 ms with a window of 20 ms");
}

#[test]
fn no_packet_exceeds_the_mtu_with_what_the_host_puts_before_it() {
    let setup = Setup { mtu: 300, cname: "somebody@example.com".into(), ..Setup::default() };
    let mut harness = Harness::<NackGenerator>::with(setup, r#"{"packets": 2048}"#).unwrap();
    let stream = harness.bind_remote_stream(&video(SSRC)).unwrap();
    for n in 0..100 {
        arrive(&mut harness, stream, [n * 20]);
    }
    harness.advance(ms(5));
    let emitted = harness.emitted_rtcp();
    assert_eq!(emitted.len(), 1);
    let lengths: Vec<_> = RtcpParts::of(&emitted[0].bytes).map(|part| part.bytes.len()).collect();
    // An empty report of 8 bytes and an SDES with a chunk of 28.
    assert!(lengths.len() > 1 && lengths.iter().all(|length| length + 8 + 32 <= 300), "{lengths:?}");
    assert_eq!(lengths[0], 260, "filled as far as whole entries go");
}

#[test]
fn the_newest_packets_can_be_left_alone() {
    let (mut harness, stream) = bound(r#"{"skip_last": 2}"#);
    arrive(&mut harness, stream, [1, 3]);
    harness.advance(ms(200));
    assert!(asked(&mut harness).is_empty());
    arrive(&mut harness, stream, [4]);
    harness.advance(ms(5));
    assert_eq!(asked(&mut harness), [2]);
}

#[test]
fn an_unbound_stream_is_forgotten() {
    let (mut harness, stream) = bound("{}");
    arrive(&mut harness, stream, [1, 3]);
    harness.unbind_stream(stream);
    harness.advance(ms(1000));
    assert!(asked(&mut harness).is_empty());
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn a_successor_goes_on_where_its_predecessor_was() {
    let (mut old, stream) = bound("{}");
    arrive(&mut old, stream, [1, 4]);
    old.advance(ms(5));
    assert_eq!(asked(&mut old), [2, 3]);
    arrive(&mut old, stream, [6]);
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<NackGenerator>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&video(SSRC)).unwrap();
    arrive(&mut new, stream, [3, 7]);
    new.advance(ms(5));
    assert_eq!(asked(&mut new), [5], "what was asked for a moment ago is not asked for again");
    new.advance(ms(95));
    assert_eq!(asked(&mut new), [2]);
}

#[test]
fn a_state_that_is_none_is_refused() {
    for state in [&b""[..], b"{}", b"[1]", b"\xff"] {
        let restored = Harness::<NackGenerator>::restored(Setup::default(), "{}", state);
        assert!(matches!(restored.err(), Some(Refusal::Unsupported(_))));
    }
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<NackGenerator>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"interval": 5}"#).contains("unknown field `interval`, expected one of `packets`"));
    assert!(refusal(r#"{"packets": 63}"#).contains("packets is 63; 64..=32768"));
    assert!(refusal(r#"{"skip_last": 64}"#).contains("skip_last"));
    assert!(refusal(r#"{"reorder_ms": -1}"#).contains("-1"));
    assert!(refusal(r#"{"interval_ms": 9}"#).contains("interval_ms is 9"));
}

/// A link that loses one packet in ten both ways, reorders, and takes 30 ms each way; at its end, somebody who answers.
#[test]
fn on_a_lossy_link_all_is_recovered_and_little_is_asked_for_twice() {
    let mut seed = 11u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut harness, stream) = bound("{}");
    let mut arriving: BTreeMap<(Instant, u32), bool> = BTreeMap::new();
    let (mut sent, mut lost, mut arrived) = (0u32, 0u32, BTreeSet::new());
    while sent < 5000 || !arriving.is_empty() {
        let now = harness.now();
        if sent < 5000 {
            if !(10..=4990).contains(&sent) || random(10) != 0 {
                let delay = 30_000 + random(2_000) + if random(20) == 0 { 3_000 } else { 0 };
                arriving.insert((now + Duration::from_micros(delay), sent), false);
            } else {
                lost += 1;
            }
            sent += 1;
        }
        harness.advance(ms(2));
        let now = harness.now();
        let later = arriving.split_off(&(now, 0));
        for ((at, number), repaired) in std::mem::replace(&mut arriving, later) {
            arrived.insert(number);
            let feed = Feed::new(packet(SSRC, 60_000u16.wrapping_add(number as u16), b"")).at(at);
            harness.read(stream, if repaired { feed.repaired() } else { feed });
        }
        for number in asked(&mut harness) {
            let number = number.wrapping_sub(60_000);
            if random(10) != 0 && random(10) != 0 {
                arriving.insert((now + ms(60), number.into()), true);
            }
        }
    }
    assert_eq!(arrived.len(), 5000);
    assert!(lost > 400);
    // A fifth of the requests or their answers is lost.
    let requested = harness.counter("requested");
    assert!(requested < u64::from(lost) * 3 / 2, "{requested} requests for {lost} losses");
    assert_eq!(harness.counter("abandoned"), 0);
    harness.advance(ms(1000));
    assert!(at_rest(&harness));
}
