//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_nack_responder::NackResponder;
use sandbar_sdk::testing::{Harness, Packet, Setup, packet};
use sandbar_sdk::{Access, Binding, HeaderBuf, Level, Refusal, RtcpAccess, RtcpFeedback, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn plain(ssrc: u32) -> StreamInfo {
    let nack = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    StreamInfo { ssrc, payload_type: 96, rtcp_feedback: vec![nack], ..StreamInfo::default() }
}

fn with_rtx() -> StreamInfo {
    StreamInfo { ssrc_retransmission: Some(RTX), payload_type_retransmission: Some(97), ..plain(SSRC) }
}

fn bound(config: &str, info: &StreamInfo) -> (Harness<NackResponder>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_local_stream(info).unwrap();
    (harness, stream)
}

fn send(harness: &mut Harness<NackResponder>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        harness.write(stream, packet(SSRC, number, &number.to_be_bytes()));
    }
}

/// One packet per entry, with nothing in the bit masks.
fn nack(ssrc: u32, numbers: &[u16]) -> Vec<u8> {
    let mut bytes = vec![0x81, 205];
    bytes.extend_from_slice(&((2 + numbers.len()) as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 9]);
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    bytes
}

fn ask(harness: &mut Harness<NackResponder>, numbers: &[u16]) -> Vec<Packet> {
    harness.read_rtcp(nack(SSRC, numbers));
    harness.emitted_rtp()
}

fn originals(packets: &[Packet]) -> Vec<u16> {
    packets.iter().map(|packet| u16::from_be_bytes([packet.payload()[0], packet.payload()[1]])).collect()
}

#[test]
fn media_stays_with_the_host() {
    let (mut harness, stream) = bound(r#"{"packets": 300}"#, &plain(SSRC));
    assert_eq!(harness.binding(stream), Some(Binding { access: Access::Pass, history: 300, unbound: false }));
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Observe, RtcpAccess::Pass));
    let pli = RtcpFeedback { kind: "nack".into(), parameter: "pli".into() };
    let other = harness.bind_local_stream(&StreamInfo { rtcp_feedback: vec![pli], ..plain(5) }).unwrap();
    assert_eq!(harness.binding(other), Some(Binding::PASS));
}

#[test]
fn without_rtx_the_packet_is_sent_again_as_it_was() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, 10..20);
    let sent = ask(&mut harness, &[12, 17]);
    assert_eq!(sent[0].bytes, packet(SSRC, 12, &[0, 12]));
    assert_eq!(sent[1].bytes, packet(SSRC, 17, &[0, 17]));
    assert_eq!(sent.len(), 2);
}

#[test]
fn rtx_needs_both_its_ssrc_and_its_payload_type() {
    for info in [
        StreamInfo { payload_type_retransmission: None, ..with_rtx() },
        StreamInfo { ssrc_retransmission: None, ..with_rtx() },
    ] {
        let (mut harness, stream) = bound("{}", &info);
        send(&mut harness, stream, [1]);
        assert_eq!(ask(&mut harness, &[1])[0].header().ssrc(), SSRC);
    }
}

#[test]
fn rfc_4588_4_a_retransmission_is_the_original_behind_its_number_in_a_stream_of_its_own() {
    let (mut harness, stream) = bound("{}", &with_rtx());
    let mut header = HeaderBuf::new(96, SSRC);
    let mut edit = header.edit();
    edit.set_sequence_number(0xabcd);
    edit.set_timestamp(0x0102_0304);
    edit.set_marker(true);
    edit.set_extension(3, b"ext").unwrap();
    let mut bytes = header.as_bytes().to_vec();
    // Padding of four bytes.
    bytes[0] |= 0x20;
    bytes.extend_from_slice(b"media\0\0\0\x04");
    harness.write(stream, &bytes);
    let sent = ask(&mut harness, &[0xabcd]);
    let header = sent[0].header();
    assert_eq!((header.ssrc(), header.payload_type(), header.marker()), (RTX, 97, true));
    assert_eq!((header.timestamp(), header.extension(3)), (0x0102_0304, Some(&b"ext"[..])));
    assert!(header.padding());
    assert_eq!(sent[0].payload(), b"\xab\xcdmedia\0\0\0\x04");
}

#[test]
fn rfc_3550_5_1_retransmissions_are_numbered_from_a_random_start_without_a_gap() {
    let starts = [1, 2].map(|seed| {
        let setup = Setup { seed, ..Setup::default() };
        let mut harness = Harness::<NackResponder>::with(setup, "{}").unwrap();
        let stream = harness.bind_local_stream(&with_rtx()).unwrap();
        send(&mut harness, stream, 0..100);
        let sent = ask(&mut harness, &[50, 3, 99, 200, 7]);
        let numbers: Vec<_> = sent.iter().map(|packet| packet.header().sequence_number()).collect();
        let expected: Vec<_> = (0..4).map(|n| numbers[0].wrapping_add(n)).collect();
        assert_eq!(numbers, expected, "also where one was not found");
        assert_eq!(originals(&sent), [50, 3, 99, 7]);
        numbers[0]
    });
    assert_ne!(starts[0], starts[1]);
}

#[test]
fn the_bit_mask_is_answered_in_order_across_the_wrap() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, (0..30).map(|n| 65_530u16.wrapping_add(n)));
    let mut request = nack(SSRC, &[65_534]);
    request[14..].copy_from_slice(&[0x80, 0x03]);
    harness.read_rtcp(request);
    assert_eq!(originals(&harness.emitted_rtp()), [65_534, 65_535, 0, 14]);
}

#[test]
fn a_request_for_another_ssrc_or_an_unknown_packet_is_not_answered() {
    let (mut harness, stream) = bound("{}", &with_rtx());
    send(&mut harness, stream, 0..10);
    harness.read_rtcp(nack(SSRC + 1, &[5]));
    harness.read_rtcp(nack(RTX, &[5]));
    harness.read_rtcp(nack(SSRC, &[11, 60_000]));
    assert!(harness.emitted_rtp().is_empty());
    assert_eq!(harness.counter("too_old"), 2);
}

#[test]
fn several_packets_of_a_compound_are_answered_and_what_is_broken_is_not() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, 0..10);
    let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
    compound.extend_from_slice(&nack(SSRC, &[1]));
    compound.extend_from_slice(&nack(SSRC, &[2]));
    compound.extend_from_slice(&[0x81, 205, 0, 200, 0, 0, 0, 9]);
    compound.extend_from_slice(&nack(SSRC, &[3]));
    assert_eq!(harness.read_rtcp(&compound).len(), 1, "the application gets it in any case");
    assert_eq!(originals(&harness.emitted_rtp()), [1, 2]);
    for length in 0..compound.len() {
        harness.read_rtcp(&compound[..length]);
    }
}

#[test]
fn a_repeated_request_within_a_round_trip_is_one_request() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, 0..10);
    assert_eq!(ask(&mut harness, &[5, 5]).len(), 1);
    harness.advance(ms(99));
    assert_eq!(ask(&mut harness, &[5]).len(), 0);
    harness.advance(ms(1));
    assert_eq!(ask(&mut harness, &[5]).len(), 1);
    assert_eq!(harness.counter("duplicate"), 2);
}

#[test]
fn the_round_trip_is_taken_from_the_peers_reports() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, 0..10);
    harness.advance(ms(1000));
    // The report left at the session's start, was held for 960 ms, and 40 ms are the two ways.
    let setup = Setup::default();
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 9];
    report.extend_from_slice(&SSRC.to_be_bytes());
    report.extend_from_slice(&[0; 12]);
    report.extend_from_slice(&((setup.ntp >> 16) as u32).to_be_bytes());
    report.extend_from_slice(&(65_536u32 * 960 / 1000).to_be_bytes());
    harness.read_rtcp(report);
    assert_eq!(ask(&mut harness, &[5]).len(), 1);
    harness.advance(ms(29));
    assert_eq!(ask(&mut harness, &[5]).len(), 0);
    harness.advance(ms(2));
    assert_eq!(ask(&mut harness, &[5]).len(), 1);
}

#[test]
fn every_request_is_answered_if_the_operator_wants_it() {
    let (mut harness, stream) = bound(r#"{"duplicate_ms": 0}"#, &plain(SSRC));
    send(&mut harness, stream, 0..10);
    assert_eq!(ask(&mut harness, &[5, 5, 5]).len(), 3);
}

#[test]
fn old_packets_are_of_no_use() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, [1, 2]);
    harness.advance(ms(2000));
    assert_eq!(ask(&mut harness, &[1]).len(), 1);
    harness.advance(ms(1));
    assert_eq!(ask(&mut harness, &[2]).len(), 0);
    let (mut harness, stream) = bound(r#"{"max_age_ms": 0}"#, &plain(SSRC));
    send(&mut harness, stream, [1]);
    harness.advance(ms(1_000_000));
    assert_eq!(ask(&mut harness, &[1]).len(), 1);
}

#[test]
fn a_flood_of_requests_costs_no_more_than_the_budget() {
    let (mut harness, stream) = bound(r#"{"budget_kbps": 800, "burst_ms": 100, "duplicate_ms": 0}"#, &plain(SSRC));
    for number in 0..1000 {
        harness.write(stream, packet(SSRC, number, &[0; 988]));
    }
    let mut bytes = 0;
    for _ in 0..100 {
        for sent in ask(&mut harness, &(0..250).collect::<Vec<_>>()) {
            bytes += sent.bytes.len();
        }
        harness.advance(ms(10));
    }
    // 100 kB/s for a second, and the burst of 10 kB, to the nearest packet per look.
    assert!((100_000..=120_000).contains(&bytes), "{bytes}");
    assert!(harness.counter("over_budget") > 20_000);
    let warnings = harness.logs().iter().filter(|(level, _)| *level == Level::Warn).count();
    assert_eq!(warnings, 1, "once, however often");
}

#[test]
fn requests_that_find_nothing_use_the_budget_up_too() {
    let (mut harness, stream) = bound(r#"{"budget_kbps": 80, "burst_ms": 1000}"#, &plain(SSRC));
    send(&mut harness, stream, 0..10);
    assert!(ask(&mut harness, &(1000..1200).collect::<Vec<_>>()).is_empty());
    // 10,000 bytes at 64 a look.
    assert_eq!(harness.counter("too_old"), 157);
    assert_eq!(ask(&mut harness, &[5]).len(), 0);
    harness.advance(ms(100));
    assert_eq!(ask(&mut harness, &[5]).len(), 1);
}

#[test]
fn a_retransmission_without_room_for_its_number_goes_as_it_was() {
    let (mut harness, stream) = bound("{}", &with_rtx());
    harness.write(stream, packet(SSRC, 1, &[7; 1200 - 12]));
    harness.write(stream, packet(SSRC, 2, &[7; 1200 - 14]));
    let sent = ask(&mut harness, &[1, 2]);
    assert_eq!(sent.iter().map(|packet| packet.header().ssrc()).collect::<Vec<_>>(), [SSRC, RTX]);
    assert_eq!(sent[0].bytes, packet(SSRC, 1, &[7; 1200 - 12]));
    assert_eq!(sent[1].bytes.len(), 1200);
}

#[test]
fn what_one_call_may_emit_is_emitted_and_the_rest_is_asked_for_again() {
    let (mut harness, stream) = bound(r#"{"packets": 2048, "budget_kbps": 0}"#, &with_rtx());
    send(&mut harness, stream, 0..2000);
    let first = ask(&mut harness, &(0..2000).collect::<Vec<_>>());
    assert!(first.len() < 2000);
    let second = ask(&mut harness, &(0..2000).collect::<Vec<_>>());
    assert_eq!(first.len() + second.len(), 2000);
    let last = first.last().unwrap().header().sequence_number();
    assert_eq!(second[0].header().sequence_number(), last.wrapping_add(1));
}

#[test]
fn an_unbound_stream_is_not_answered_for() {
    let (mut harness, stream) = bound("{}", &plain(SSRC));
    send(&mut harness, stream, [1]);
    harness.unbind_stream(stream);
    assert!(ask(&mut harness, &[1]).is_empty());
    assert_eq!(harness.counter("requested"), 0);
}

#[test]
fn a_successors_retransmissions_go_on_in_sequence() {
    let (mut old, stream) = bound("{}", &with_rtx());
    send(&mut old, stream, 0..10);
    let last = ask(&mut old, &[1, 2]).last().unwrap().header().sequence_number();
    let state = old.save().unwrap();
    let setup = Setup { seed: 99, ..Setup::default() };
    let mut new = Harness::<NackResponder>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_local_stream(&with_rtx()).unwrap();
    send(&mut new, stream, 0..10);
    assert_eq!(ask(&mut new, &[3])[0].header().sequence_number(), last.wrapping_add(1));
    assert!(Harness::<NackResponder>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<NackResponder>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"size": 5}"#).contains("unknown field `size`, expected one of `packets`"));
    assert!(refusal(r#"{"packets": 0}"#).contains("packets is 0; 1..=8192"));
    assert!(refusal(r#"{"burst_ms": 1}"#).contains("burst_ms is 1"));
    assert!(refusal(r#"{"duplicate_ms": 10001}"#).contains("duplicate_ms"));
    assert!(refusal(r#"{"max_age_ms": 60001}"#).contains("max_age_ms"));
    assert!(refusal(r#"{"budget_kbps": 10000001}"#).contains("budget_kbps"));
}
