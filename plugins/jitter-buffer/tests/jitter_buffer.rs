//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::HashMap;
use std::time::Duration;

use sandbar_plugin_jitter_buffer::JitterBuffer;
use sandbar_sdk::testing::{Feed, Harness, Packet, Setup};
use sandbar_sdk::{Access, Binding, HeaderBuf, Instant, Refusal, StreamId, StreamInfo, View};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const FEC: u32 = 0x3333;
/// Between packets: 90 timestamp units.
const MS: u32 = 90;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn info() -> StreamInfo {
    StreamInfo {
        ssrc: SSRC,
        ssrc_retransmission: Some(RTX),
        ssrc_forward_error_correction: Some(FEC),
        clock_rate: 90_000,
        ..StreamInfo::default()
    }
}

fn bound(config: &str) -> (Harness<JitterBuffer>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_remote_stream(&info()).unwrap();
    (harness, stream)
}

fn packet(number: u16, timestamp: u32) -> Feed {
    let mut header = HeaderBuf::new(96, SSRC);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp(timestamp);
    Feed::new([header.as_bytes(), &number.to_be_bytes()].concat())
}

/// A packet of a stream of one packet a millisecond.
fn nth(number: u16) -> Feed {
    packet(number, u32::from(number) * MS)
}

/// Lets packets come one by one, a millisecond apart. None of them goes on as it comes.
fn come(harness: &mut Harness<JitterBuffer>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        assert!(harness.read(stream, nth(number)).is_empty());
        harness.advance(ms(1));
    }
}

fn numbers(packets: &[Packet]) -> Vec<u16> {
    packets.iter().map(|packet| packet.header().sequence_number()).collect()
}

/// What has been played: sequence numbers, and milliseconds since `begin`.
fn played(harness: &mut Harness<JitterBuffer>, begin: Instant) -> Vec<(u16, u64)> {
    let packets = harness.emitted_rtp();
    packets.iter().map(|packet| (packet.header().sequence_number(), (packet.time - begin).as_millis() as u64)).collect()
}

/// The counters, brought up to date.
fn counter(harness: &mut Harness<JitterBuffer>, name: &str) -> u64 {
    harness.advance(ms(1000));
    harness.counter(name)
}

#[test]
fn the_packets_stay_with_the_host() {
    let (mut harness, stream) = bound("{}");
    let access = Access::Transform(View::Headers);
    assert_eq!(harness.binding(stream), Some(Binding { access, history: 0, unbound: false }));
    come(&mut harness, stream, [1, 2, 4]);
    assert_eq!(harness.held(), 3);
}

#[test]
fn each_packet_is_played_whole_after_the_delay() {
    let (mut harness, stream) = bound("{}");
    let begin = harness.now();
    harness.read(stream, nth(7).attribute("layer", 2u32));
    harness.advance(ms(119));
    assert!(harness.emitted_rtp().is_empty());
    harness.advance(ms(1));
    let played = harness.emitted_rtp();
    assert_eq!((played.len(), played[0].time - begin), (1, ms(120)));
    assert_eq!((&played[0].bytes, played[0].stream), (&nth(7).bytes, Some(stream)));
    assert_eq!(played[0].attribute("layer"), Some(&2u32.into()));
    harness.advance(ms(5000));
    assert!(harness.emitted_rtp().is_empty());
    assert_eq!(harness.next_timeout(), None, "nobody is woken while nothing comes");
}

#[test]
fn jitter_within_the_delay_does_not_come_out() {
    let (mut harness, stream) = bound(r#"{"delay_ms": 50}"#);
    let begin = harness.now();
    let mut seed = 1u64;
    let mut arrivals: Vec<(u64, u16)> = (1..500u16)
        .map(|number| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (10 * u64::from(number) + (seed >> 40) % 50, number)
        })
        .collect();
    arrivals.push((0, 0));
    arrivals.sort_unstable();
    for (at, number) in arrivals {
        harness.advance_to(begin + ms(at));
        assert!(harness.read(stream, packet(number, u32::from(number) * 10 * MS)).is_empty());
    }
    harness.advance(ms(1000));
    let expected: Vec<_> = (0..500u16).map(|number| (number, 10 * u64::from(number) + 50)).collect();
    assert_eq!(played(&mut harness, begin), expected);
    for name in ["late", "lost", "duplicates", "early", "unheld", "resets", "refused"] {
        assert_eq!(harness.counter(name), 0, "{name}");
    }
}

#[test]
fn a_gap_is_waited_for_until_what_is_behind_it_is_due() {
    let (mut harness, stream) = bound("{}");
    let begin = harness.now();
    come(&mut harness, stream, [1, 3]);
    harness.advance(ms(300));
    // Packet 3 came a millisecond after packet 1.
    assert_eq!(played(&mut harness, begin), [(1, 120), (3, 121)]);
    assert_eq!(counter(&mut harness, "lost"), 1);
}

#[test]
fn a_packet_that_comes_in_time_fills_its_gap_also_if_it_was_repaired() {
    let (mut harness, stream) = bound("{}");
    harness.read(stream, packet(65_534, 0));
    harness.read(stream, packet(1, 3 * MS));
    harness.advance(ms(100));
    harness.read(stream, packet(65_535, MS).repaired());
    harness.read(stream, packet(0, 2 * MS));
    harness.advance(ms(300));
    assert_eq!(numbers(&harness.emitted_rtp()), [65_534, 65_535, 0, 1]);
}

#[test]
fn a_packet_whose_place_was_played_is_dropped_and_counted() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, [1, 2, 4]);
    harness.advance(ms(200));
    for late in [3, 2, 3] {
        assert!(harness.read(stream, nth(late)).is_empty());
    }
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), [1, 2, 4]);
    assert_eq!((counter(&mut harness, "late"), harness.counter("lost")), (3, 1));
}

#[test]
fn a_packet_that_comes_twice_is_played_once() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, [1, 2, 2, 1, 3]);
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), [1, 2, 3]);
    assert_eq!(counter(&mut harness, "duplicates"), 2);
}

#[test]
fn losses_of_every_length_wedge_nothing() {
    for gap in [1, 2, 100, 447, 448, 511, 512, 2998] {
        let (mut harness, stream) = bound("{}");
        come(&mut harness, stream, 0..10);
        harness.advance(ms(200));
        let begin = harness.now();
        come(&mut harness, stream, (0..10).map(|n| 10 + gap + n));
        harness.advance(ms(200));
        let played = played(&mut harness, begin);
        assert_eq!(
            played.iter().map(|(number, _)| *number).collect::<Vec<_>>()[10..],
            (10 + gap..20 + gap).collect::<Vec<_>>()
        );
        assert!(played[10..].iter().all(|(_, at)| *at <= 130), "{played:?}");
        assert_eq!(counter(&mut harness, "lost"), u64::from(gap));
    }
}

#[test]
fn companions_pass_at_once() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, [5]);
    for ssrc in [RTX, FEC] {
        let packet = sandbar_sdk::testing::packet(ssrc, 900, b"repair");
        assert_eq!(harness.read(stream, packet.clone())[0].bytes, packet);
    }
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), [5]);
}

#[test]
fn a_flood_takes_no_more_than_is_allowed_and_none_of_it_is_lost() {
    let (mut harness, stream) = bound(r#"{"packets": 64, "delay_ms": 10000}"#);
    for burst in 0..100u16 {
        let packets: Vec<_> = (0..8).map(|n| (stream, nth(burst * 8 + n))).collect();
        assert!(harness.read_burst(packets).is_empty());
        assert!(harness.held() <= 64, "{}", harness.held());
    }
    harness.advance(ms(20_000));
    assert_eq!(numbers(&harness.emitted_rtp()), (0..800).collect::<Vec<_>>());
    assert_eq!((counter(&mut harness, "early"), harness.counter("lost")), (800 - 64, 0));
}

#[test]
fn more_than_one_call_may_emit_is_played_all_the_same() {
    let (mut harness, stream) = bound(r#"{"packets": 8192, "delay_ms": 10000}"#);
    for n in 0..3000 {
        harness.read(stream, nth(n));
    }
    let now = harness.now();
    harness.advance(ms(10_000));
    let played = played(&mut harness, now);
    assert_eq!(played.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
}

#[test]
fn rfc_3550_a_1_a_stream_that_begins_anew_ahead_is_followed_from_its_first_packet() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, 100..105);
    harness.advance(ms(200));
    let begin = harness.now();
    for n in 0..5u16 {
        assert!(harness.read(stream, packet(20_000 + n, 77_000_000 + u32::from(n) * MS)).is_empty());
        harness.advance(ms(1));
    }
    harness.advance(ms(200));
    let expected: Vec<_> = (0..5).map(|n| (20_000 + n, 121 + u64::from(n).saturating_sub(1))).collect();
    assert_eq!(played(&mut harness, begin)[5..], expected);
    assert_eq!((counter(&mut harness, "resets"), harness.counter("lost")), (1, 0));
}

#[test]
fn rfc_3550_a_1_a_stream_that_begins_anew_behind_is_followed_from_its_first_packet_too() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, 20_000..20_005);
    for number in [7, 8, 10, 9, 11] {
        assert!(harness.read(stream, nth(number)).is_empty());
    }
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), (20_000..20_005).chain(7..12).collect::<Vec<_>>());
    assert_eq!((counter(&mut harness, "resets"), harness.counter("late"), harness.held()), (1, 0, 0));
}

#[test]
fn a_stray_packet_harms_no_other() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, 100..103);
    assert!(harness.read(stream, nth(30_000)).is_empty());
    for number in 103..110 {
        assert!(harness.read(stream, nth(number)).is_empty());
        harness.advance(ms(1));
    }
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), (100..110).collect::<Vec<_>>());
    assert_eq!((counter(&mut harness, "strays"), harness.counter("lost"), harness.held()), (1, 0, 0));
}

#[test]
fn of_strays_at_most_one_is_held_and_it_ends_with_the_stream() {
    let (mut harness, stream) = bound("{}");
    come(&mut harness, stream, [100]);
    for number in [30_000, 10_000, 50_000] {
        come(&mut harness, stream, [number]);
        assert_eq!(harness.held(), 2);
    }
    harness.unbind_stream(stream);
    assert_eq!((numbers(&harness.emitted_rtp()), harness.held()), (vec![100], 0));
}

#[test]
fn a_jump_of_the_timestamp_delays_nothing_beyond_the_delay() {
    let (mut harness, stream) = bound("{}");
    let begin = harness.now();
    for (number, timestamp) in [(1, 0), (2, MS), (3, 400_000_000), (4, 400_000_000 + MS), (5, 3 * MS), (6, 4 * MS)] {
        harness.read(stream, packet(number, timestamp));
        harness.advance(ms(1));
    }
    harness.advance(ms(200));
    let played = played(&mut harness, begin);
    assert_eq!(played.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(played.iter().all(|(_, at)| *at <= 125));
    assert_eq!(counter(&mut harness, "resets"), 2);
}

#[test]
fn frames_that_are_not_in_the_order_of_their_timestamps_leave_in_that_of_their_numbers() {
    let (mut harness, stream) = bound("{}");
    for (number, frame) in [(1, 0), (2, 3), (3, 1), (4, 2), (5, 6), (6, 4), (7, 5)] {
        harness.read(stream, packet(number, frame * 33 * MS));
        harness.advance(ms(33));
    }
    harness.advance(ms(300));
    assert_eq!(numbers(&harness.emitted_rtp()), (1..8).collect::<Vec<_>>());
}

#[test]
fn a_packet_that_the_host_would_not_hold_goes_at_once_behind_those_before_it() {
    let (mut harness, first) = bound(r#"{"packets": 8192, "delay_ms": 10000}"#);
    let second = StreamInfo { ssrc: 5, ssrc_retransmission: None, ssrc_forward_error_correction: None, ..info() };
    let second = harness.bind_remote_stream(&second).unwrap();
    let other = |number| Feed::new(sandbar_sdk::testing::packet(5, number, b"audio"));
    for number in 0..3 {
        harness.read(second, other(number));
    }
    // The host holds 8192 for a session.
    come(&mut harness, first, 0..8189);
    assert_eq!(harness.held(), 8192);
    assert_eq!(numbers(&harness.read(second, other(3))), [3]);
    assert_eq!(numbers(&harness.emitted_rtp()), [0, 1, 2]);
    assert_eq!(counter(&mut harness, "unheld"), 1);
}

#[test]
fn packets_beyond_the_mtu_and_with_padding_that_does_not_fit_are_played_as_they_came() {
    let (mut harness, stream) = bound("{}");
    let mut lying = nth(2);
    lying.bytes[0] |= 0x20;
    *lying.bytes.last_mut().unwrap() = 200;
    harness.read(stream, lying);
    harness.read(stream, Feed::new([&nth(3).bytes[..], &[0; 1200]].concat()));
    come(&mut harness, stream, [1]);
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), [1, 2, 3]);
}

#[test]
fn without_a_clock_rate_each_packet_is_held_for_the_delay() {
    let mut harness = Harness::<JitterBuffer>::new("{}").unwrap();
    let stream = harness.bind_remote_stream(&StreamInfo { clock_rate: 0, ..info() }).unwrap();
    let begin = harness.now();
    come(&mut harness, stream, [1, 2, 3]);
    harness.advance(ms(200));
    assert_eq!(played(&mut harness, begin), [(1, 120), (2, 121), (3, 122)]);
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let (mut harness, first) = bound("{}");
    let second = harness
        .bind_remote_stream(&StreamInfo {
            ssrc: 5,
            ssrc_retransmission: None,
            ssrc_forward_error_correction: None,
            ..info()
        })
        .unwrap();
    let other = |number| Feed::new(sandbar_sdk::testing::packet(5, number, b"audio"));
    come(&mut harness, first, [1, 3]);
    harness.read(second, other(9));
    harness.advance(ms(119));
    assert_eq!(numbers(&harness.emitted_rtp()), [1, 3]);
    harness.advance(ms(1));
    assert_eq!(numbers(&harness.emitted_rtp()), [9]);
}

#[test]
fn what_is_held_at_the_end_is_played_in_order() {
    for close in [false, true] {
        let (mut harness, stream) = bound("{}");
        come(&mut harness, stream, [1, 2, 5, 4]);
        if close {
            harness.close()
        } else {
            harness.unbind_stream(stream)
        }
        assert_eq!(numbers(&harness.emitted_rtp()), [1, 2, 4, 5]);
        assert_eq!((harness.gauge("depth"), harness.counter("lost")), (Some(0.0), 1));
    }
}

#[test]
fn a_stream_may_end_at_once_and_begin_again() {
    let (mut harness, stream) = bound("{}");
    harness.unbind_stream(stream);
    let stream = harness.bind_remote_stream(&info()).unwrap();
    come(&mut harness, stream, [40_000]);
    harness.unbind_stream(stream);
    let stream = harness.bind_remote_stream(&info()).unwrap();
    come(&mut harness, stream, [5]);
    harness.advance(ms(200));
    assert_eq!(numbers(&harness.emitted_rtp()), [40_000, 5]);
}

#[test]
fn the_depth_is_told_while_there_is_one() {
    let (mut harness, stream) = bound(r#"{"delay_ms": 1500}"#);
    come(&mut harness, stream, 0..10);
    harness.advance(ms(1000));
    assert_eq!(harness.gauge("depth"), Some(10.0));
    harness.advance(ms(1000));
    assert_eq!(harness.gauge("depth"), Some(0.0));
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn a_successor_goes_on_with_what_is_held_on_its_predecessors_timeline() {
    for config in ["{}", r#"{"packets": 600}"#] {
        let (mut harness, stream) = bound("{}");
        come(&mut harness, stream, [1, 2, 3, 5]);
        harness.advance(ms(117));
        assert_eq!(numbers(&harness.emitted_rtp()), [1, 2], "and 3 is due in a millisecond");
        let begin = harness.now();
        let streams = harness.replace(config).unwrap();
        assert_eq!(harness.held(), 2);
        assert!(harness.read(streams[0], nth(2)).is_empty(), "has been played");
        assert!(harness.read(streams[0], nth(3)).is_empty(), "is held");
        harness.read(streams[0], nth(121));
        harness.advance(ms(200));
        assert_eq!(played(&mut harness, begin), [(3, 1), (5, 2), (121, 118)]);
        assert_eq!((counter(&mut harness, "late"), harness.counter("duplicates"), harness.held()), (1, 1, 0));
    }
    for broken in [&b"{}"[..], b"", b"\xff"] {
        assert!(Harness::<JitterBuffer>::restored(Setup::default(), "{}", broken).is_err());
    }
}

/// Whatever comes, packets leave in order, each once, none later than the delay after it came (or after it was believed),
/// and each is accounted for.
#[test]
fn no_stream_of_packets_breaks_the_order_or_the_delay() {
    for seed in 1..30u64 {
        // With strays and restarts there is no order to compare with.
        let wild = seed % 2 == 0;
        let (mut harness, stream) = bound(r#"{"packets": 128, "delay_ms": 40}"#);
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut next, mut sent) = (random(1 << 16), 0u64);
        let mut came = HashMap::new();
        let mut left = Vec::new();
        for _ in 0..3000 {
            next += match random(200) {
                0 if wild => random(1 << 16),
                0..10 => random(200),
                _ => 1,
            };
            let stray = if wild && random(300) == 0 { random(1 << 16) } else { 0 };
            let number = (next + stray - random(8).min(next)) as u16;
            let timestamp = if random(100) == 0 { random(1 << 32) as u32 } else { (next * 90) as u32 };
            // The payload tells one packet from another.
            let bytes = [&packet(number, timestamp).bytes[..12], &sent.to_be_bytes()].concat();
            came.insert(sent, harness.now());
            sent += 1;
            left.extend(harness.read(stream, Feed { repaired: random(10) == 0, ..Feed::new(bytes) }));
            harness.advance(Duration::from_micros(random(3000)));
        }
        harness.advance(ms(100));
        left.extend(harness.emitted_rtp());
        left.sort_by_key(|packet| packet.order);
        for packet in &left {
            let came = came.remove(&u64::from_be_bytes(packet.payload().try_into().unwrap())).expect("each once");
            assert!(packet.time - came <= ms(45), "{:?}", packet.time - came);
        }
        let in_order = |pair: &[u16]| (1..1 << 15).contains(&pair[1].wrapping_sub(pair[0]));
        assert!(wild || numbers(&left).windows(2).all(in_order), "seed {seed}");
        let dropped: u64 = ["late", "duplicates", "strays"].map(|name| counter(&mut harness, name)).iter().sum();
        assert!(left.len() as u64 + dropped + harness.counter("lost") >= sent, "seed {seed}");
        assert!(left.len() > 500, "seed {seed}: {}", left.len());
    }
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<JitterBuffer>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"depth": 5}"#).contains("unknown field `depth`, expected `delay_ms` or `packets`"));
    assert!(refusal(r#"{"delay_ms": 0}"#).contains("delay_ms is 0; 1..=10000"));
    assert!(refusal(r#"{"delay_ms": 10001}"#).contains("delay_ms"));
    assert!(refusal(r#"{"packets": 15}"#).contains("packets is 15; 16..=8192"));
}
