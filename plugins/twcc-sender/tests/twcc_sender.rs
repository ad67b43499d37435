//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use sandbar_plugin_twcc_sender::{TwccSender, URI};
use sandbar_sdk::rtcp::packet as rtcp_packet;
use sandbar_sdk::rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use sandbar_sdk::testing::{Feed, Harness, Setup};
use sandbar_sdk::{Binding, HeaderBuf, Instant, Refusal, RtcpParts, RtpHeaderExtension, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const ID: u8 = 5;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn info(ssrc: u32) -> StreamInfo {
    let extension = RtpHeaderExtension { uri: URI.into(), id: ID };
    StreamInfo { ssrc, rtp_header_extensions: vec![extension], ..StreamInfo::default() }
}

fn bound() -> (Harness<TwccSender>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    (harness, stream)
}

fn packet(ssrc: u32, number: u16) -> Feed {
    let mut header = HeaderBuf::new(96, ssrc);
    header.edit().set_extension(ID, &number.to_be_bytes()).unwrap();
    Feed::new(header.as_bytes())
}

fn arrive(harness: &mut Harness<TwccSender>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        assert_eq!(harness.read(stream, packet(SSRC, number)).len(), 1);
    }
}

/// A feedback packet, with what it says of each number: when it arrived, in microseconds, or that it did not.
struct Feedback {
    packet: TransportLayerCc,
    statuses: Vec<(u16, Option<i64>)>,
}

fn read(bytes: &[u8]) -> Vec<Feedback> {
    let packets = rtcp_packet::unmarshal(&mut &bytes[..]).unwrap();
    let feedback = packets.iter().map(|packet| {
        let packet = packet.as_any().downcast_ref::<TransportLayerCc>().unwrap().clone();
        let symbols = packet.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => vec![run.packet_status_symbol; run.run_length.into()],
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        let mut time = i64::from(packet.reference_time) * 64_000;
        let mut deltas = packet.recv_deltas.iter();
        let statuses = symbols.take(packet.packet_status_count.into()).enumerate().map(|(n, symbol)| {
            let arrived = symbol != SymbolTypeTcc::PacketNotReceived;
            if arrived {
                time += deltas.next().unwrap().delta;
            }
            (packet.base_sequence_number.wrapping_add(n as u16), arrived.then_some(time))
        });
        let statuses = statuses.collect();
        Feedback { packet, statuses }
    });
    feedback.collect()
}

/// Takes the feedback of each emission.
fn feedback(harness: &mut Harness<TwccSender>) -> Vec<Vec<Feedback>> {
    harness.emitted_rtcp().iter().map(|emission| read(&emission.bytes)).collect()
}

fn numbers(feedback: &[Feedback]) -> Vec<(u16, bool)> {
    feedback.iter().flat_map(|one| one.statuses.iter().map(|(number, at)| (*number, at.is_some()))).collect()
}

fn micros(at: Instant) -> i64 {
    at.as_nanos() as i64 / 1000
}

#[test]
fn streams_with_the_extension_are_observed_and_with_them_what_no_stream_has() {
    let (mut harness, stream) = bound();
    assert_eq!(harness.binding(stream), Some(Binding::FOLLOW.with_unbound()));
    let without = harness.bind_remote_stream(&StreamInfo { ssrc: 1, ..StreamInfo::default() }).unwrap();
    assert_eq!(harness.binding(without), Some(Binding::PASS));
}

#[test]
fn feedback_comes_100_ms_after_the_first_packet_and_then_each_100_ms() {
    let (mut harness, stream) = bound();
    harness.advance(ms(1000));
    assert_eq!(harness.next_timeout(), None);
    let begin = harness.now();
    for number in 0..30 {
        arrive(&mut harness, stream, [65_530u16.wrapping_add(number)]);
        harness.advance(ms(10));
    }
    let emitted = harness.emitted_rtcp();
    let times: Vec<_> = emitted.iter().map(|packet| packet.time - begin).collect();
    assert_eq!(times, [ms(100), ms(200), ms(300)]);
    let found: Vec<_> = emitted.iter().flat_map(|packet| read(&packet.bytes)).collect();
    let arrived: Vec<_> = found.iter().flat_map(|one| one.statuses.clone()).collect();
    let expected: Vec<_> =
        (0..30u16).map(|n| (65_530u16.wrapping_add(n), Some(micros(begin + ms(10 * u64::from(n)))))).collect();
    assert_eq!(arrived, expected);
    assert_eq!(found.iter().map(|one| one.packet.fb_pkt_count).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((found[0].packet.sender_ssrc, found[0].packet.media_ssrc), (1, SSRC));
}

#[test]
fn nobody_is_woken_while_nothing_arrives() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1]);
    harness.advance(ms(5000));
    assert_eq!(feedback(&mut harness).len(), 1);
    assert_eq!(harness.next_timeout(), None);
    arrive(&mut harness, stream, [2]);
    harness.advance(ms(100));
    assert_eq!(numbers(&feedback(&mut harness)[0]), [(2, true)]);
}

#[test]
fn losses_between_and_within_feedback_are_told_once() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 2, 5]);
    harness.advance(ms(100));
    arrive(&mut harness, stream, [8]);
    harness.advance(ms(100));
    let found = feedback(&mut harness);
    assert_eq!(numbers(&found[0]), [(1, true), (2, true), (3, false), (4, false), (5, true)]);
    assert_eq!(numbers(&found[1]), [(6, false), (7, false), (8, true)]);
}

#[test]
fn feedback_is_repeated_from_a_packet_that_came_late() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    arrive(&mut harness, stream, [1, 3, 4]);
    harness.advance(ms(150));
    arrive(&mut harness, stream, [2, 5]);
    harness.advance(ms(50));
    let found = feedback(&mut harness);
    let (then, now) = (Some(micros(begin)), Some(micros(begin + ms(150))));
    assert_eq!(found[1][0].statuses, [(2, now), (3, then), (4, then), (5, now)]);
}

#[test]
fn what_is_older_than_the_window_is_not_repeated() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 3, 4]);
    harness.advance(ms(700));
    arrive(&mut harness, stream, [5]);
    harness.advance(ms(100));
    arrive(&mut harness, stream, [2, 6]);
    harness.advance(ms(100));
    let found = feedback(&mut harness);
    assert_eq!(numbers(found.last().unwrap()), [(6, true)]);
}

#[test]
fn of_copies_the_first_counts() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    arrive(&mut harness, stream, [1, 2]);
    harness.advance(ms(20));
    arrive(&mut harness, stream, [1, 2]);
    harness.advance(ms(200));
    let found = feedback(&mut harness);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0][0].statuses, [(1, Some(micros(begin))), (2, Some(micros(begin)))]);
}

#[test]
fn one_sequence_for_all_streams_and_for_what_no_stream_has() {
    let (mut harness, first) = bound();
    let second = harness.bind_remote_stream(&info(0x2222)).unwrap();
    harness.read(first, packet(SSRC, 1));
    harness.read(second, packet(0x2222, 2));
    // A probe of an SSRC that nobody signalled, and a packet that brings a repaired one.
    harness.read(first, packet(0x9999, 3));
    harness.read(first, packet(SSRC, 4).repaired());
    harness.advance(ms(100));
    let found = feedback(&mut harness);
    assert_eq!(numbers(&found[0]), [(1, true), (2, true), (3, true), (4, true)]);
}

#[test]
fn the_arrival_counts_not_when_the_batch_comes() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    harness.advance(ms(9));
    harness.read(stream, packet(SSRC, 1).at(begin + ms(3)));
    harness.read(stream, packet(SSRC, 2).at(begin + ms(7)));
    harness.advance(ms(100));
    let found = feedback(&mut harness);
    assert_eq!(found[0][0].statuses, [(1, Some(micros(begin + ms(3)))), (2, Some(micros(begin + ms(7))))]);
}

#[test]
fn packets_without_the_extension_or_with_a_broken_one_say_nothing() {
    let (mut harness, stream) = bound();
    harness.read(stream, HeaderBuf::new(96, SSRC).as_bytes());
    let mut header = HeaderBuf::new(96, SSRC);
    header.edit().set_extension(ID, &[1, 2, 3]).unwrap();
    harness.read(stream, header.as_bytes());
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn feedback_is_split_at_the_mtu_with_what_the_host_puts_before_it() {
    let setup = Setup { mtu: 300, cname: "somebody@example.com".into(), ..Setup::default() };
    let mut harness = Harness::<TwccSender>::with(setup, "{}").unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    arrive(&mut harness, stream, 0..1000);
    harness.advance(ms(100));
    let emitted = harness.emitted_rtcp();
    assert_eq!(emitted.len(), 1);
    assert!(RtcpParts::of(&emitted[0].bytes).all(|part| part.bytes.len() + 8 + 32 <= 300));
    let found = read(&emitted[0].bytes);
    assert_eq!(numbers(&found), (0..1000).map(|number| (number, true)).collect::<Vec<_>>());
    let counts: Vec<_> = found.iter().map(|one| usize::from(one.packet.fb_pkt_count)).collect();
    assert!((4..=6).contains(&counts.len()), "{} packets", counts.len());
    assert_eq!(counts, (0..counts.len()).collect::<Vec<_>>());
}

#[test]
fn draft_3_1_5_arrivals_too_far_apart_for_a_delta_begin_another_packet() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    harness.advance(ms(10_000));
    harness.read(stream, packet(SSRC, 1).at(begin));
    harness.read(stream, packet(SSRC, 2).at(begin + ms(9_000)));
    harness.advance(ms(100));
    let found = feedback(&mut harness);
    assert_eq!(found[0].len(), 2);
    assert_eq!(found[0][1].statuses, [(2, Some(micros(begin + ms(9_000))))]);
}

#[test]
fn a_counter_that_begins_anew_is_followed() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, 20_000..20_100);
    harness.advance(ms(100));
    arrive(&mut harness, stream, 0..10);
    harness.advance(ms(100));
    let found = feedback(&mut harness);
    assert_eq!(numbers(&found[1]), (0..10).map(|number| (number, true)).collect::<Vec<_>>());
}

#[test]
fn after_a_stream_ends_the_others_feedback_goes_on() {
    let (mut harness, first) = bound();
    let second = harness.bind_remote_stream(&info(0x2222)).unwrap();
    harness.read(first, packet(SSRC, 1));
    harness.unbind_stream(first);
    harness.read(second, packet(0x2222, 2));
    harness.advance(ms(100));
    assert_eq!(numbers(&feedback(&mut harness)[0]), [(1, true), (2, true)]);
}

#[test]
fn a_successor_tells_what_its_predecessor_heard_and_counts_on() {
    let (mut old, stream) = bound();
    arrive(&mut old, stream, [1, 3]);
    old.advance(ms(100));
    arrive(&mut old, stream, [4]);
    old.advance(ms(50));
    feedback(&mut old);
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<TwccSender>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&info(SSRC)).unwrap();
    assert!(new.next_timeout().is_some(), "what was heard is told also if nothing more comes");
    arrive(&mut new, stream, [2, 6]);
    new.advance(ms(100));
    let found = feedback(&mut new);
    assert_eq!(numbers(&found[0]), [(2, true), (3, true), (4, true), (5, false), (6, true)]);
    assert_eq!(found[0][0].packet.fb_pkt_count, 1);
    assert!(Harness::<TwccSender>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<TwccSender>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"interval": 5}"#).contains("unknown field `interval`, expected `interval_ms` or `window_ms`"));
    assert!(refusal(r#"{"interval_ms": 5}"#).contains("interval_ms is 5; 10..=1000"));
    assert!(refusal(r#"{"window_ms": 10001}"#).contains("window_ms is 10001"));
}

/// Seeded loss, reordering, duplication and pauses, across wraps: each arrival is told, to a quarter of a millisecond,
/// and nothing that did not arrive is said to have.
#[test]
fn on_a_bad_link_every_arrival_is_told() {
    let mut seed = 21u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut harness, stream) = bound();
    let mut arrivals: Vec<(u64, u64)> = Vec::new();
    let mut sent = micros(harness.now()) as u64;
    for number in 0..100_000u64 {
        sent += random(800) + if random(5_000) == 0 { 400_000 } else { 0 };
        for _ in 0..if random(100) == 0 { 2 } else { 1 } {
            if random(20) != 0 {
                arrivals.push((sent + random(300) + if random(30) == 0 { random(20_000) } else { 0 }, number));
            }
        }
    }
    arrivals.sort_unstable();
    let mut expected = BTreeMap::new();
    for (at, number) in &arrivals {
        let at = Instant::from_nanos(at * 1000);
        expected.entry(*number).or_insert(at);
        harness.advance_to(at);
        harness.read(stream, packet(SSRC, *number as u16));
    }
    harness.advance(ms(1000));
    let mut told = BTreeMap::new();
    let mut newest = 0u64;
    for one in feedback(&mut harness).into_iter().flatten() {
        for (number, at) in one.statuses {
            // The plugin's numbers have 16 bits, and advance.
            let ahead = number.wrapping_sub(newest as u16) as i16;
            let number = newest.wrapping_add_signed(ahead.into());
            newest = newest.max(number);
            if let Some(at) = at {
                told.insert(number, at);
            }
        }
    }
    assert_eq!(told.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (number, at) in told {
        assert!((at - micros(expected[&number])).abs() <= 126, "{number}");
    }
}
