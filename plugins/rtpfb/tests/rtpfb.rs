//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_rtpfb::{PROBE, REPORT, Rtpfb, UNANSWERED, URI};
use sandbar_sdk::testing::{Feed, Harness, Packet, Setup};
use sandbar_sdk::{
    Binding, HeaderBuf, Level, Refusal, RtcpAccess, RtcpFeedback, RtpHeaderExtension, StreamId, StreamInfo, Value,
};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const ID: u8 = 5;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn numbered() -> StreamInfo {
    let extension = RtpHeaderExtension { uri: URI.into(), id: ID };
    StreamInfo { ssrc: SSRC, rtp_header_extensions: vec![extension], ..StreamInfo::default() }
}

fn ccfb() -> StreamInfo {
    let feedback = RtcpFeedback { kind: "ack".into(), parameter: "ccfb".into() };
    StreamInfo { ssrc: SSRC, ssrc_retransmission: Some(RTX), rtcp_feedback: vec![feedback], ..StreamInfo::default() }
}

fn bound(info: &StreamInfo) -> (Harness<Rtpfb>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_local_stream(info).unwrap();
    (harness, stream)
}

/// A packet of `size` bytes.
fn packet(ssrc: u32, number: u16, size: usize) -> Feed {
    let mut header = HeaderBuf::new(96, ssrc);
    header.edit().set_sequence_number(number);
    header.edit().set_extension(ID, &number.to_be_bytes()).unwrap();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(size, 0);
    Feed::new(bytes)
}

/// Sends packets 10 ms apart.
fn send(harness: &mut Harness<Rtpfb>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        assert_eq!(harness.write(stream, packet(SSRC, number, 1000)).len(), 1);
        harness.advance(ms(10));
    }
}

/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1): from `first` on, when each packet
/// arrived, in quarters of a millisecond after the last one; one chunk per packet, so that it is simple.
fn transport(first: u16, reference: u32, arrivals: &[Option<u8>]) -> Vec<u8> {
    let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    bytes.extend_from_slice(&first.to_be_bytes());
    bytes.extend_from_slice(&(arrivals.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&(reference << 8).to_be_bytes());
    for arrival in arrivals {
        let symbol: u16 = u16::from(arrival.is_some()) << 13;
        bytes.extend_from_slice(&(symbol | 1).to_be_bytes());
    }
    bytes.extend(arrivals.iter().flatten());
    complete(bytes)
}

/// RFC 8888, 3.1: of one source, from `first` on, how many 1/1024 s before the timestamp each packet arrived.
fn rfc_8888(ssrc: u32, first: u16, timestamp: u32, arrivals: &[Option<u16>]) -> Vec<u8> {
    let mut bytes = vec![0x8b, 205, 0, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(&first.to_be_bytes());
    bytes.extend_from_slice(&(arrivals.len() as u16).to_be_bytes());
    bytes.extend(arrivals.iter().flat_map(|arrival| arrival.map_or(0, |offset| 0x8000 | offset).to_be_bytes()));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    complete(bytes)
}

fn complete(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = bytes.len() / 4 - 1;
    bytes[2..4].copy_from_slice(&(words as u16).to_be_bytes());
    bytes
}

/// An entry of a report, with times relative to the report's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    sent: i64,
    size: u64,
    arrived: Option<i64>,
    was_lost: bool,
    probe: u64,
}

/// The report of the one packet that went on, as it is documented: source, base of send times, entries.
fn report(on: &[Packet]) -> Option<(u8, u64, Vec<Entry>)> {
    assert_eq!(on.len(), 1);
    let Some(Value::Bytes(bytes)) = on[0].attribute(REPORT) else { return None };
    assert_eq!(bytes[0], 1);
    let count = u16::from_le_bytes([bytes[2], bytes[3]]);
    let mut rest = &bytes[20..];
    let varint = |rest: &mut &[u8]| {
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let (byte, after) = rest.split_first().unwrap();
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    };
    let signed = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
    let (mut sent, mut at, mut size) = (0, i64::from_le_bytes(*bytes[12..].first_chunk().unwrap()), 0);
    let entries = (0..count).map(|_| {
        let (flags, after) = rest.split_first().unwrap();
        rest = after;
        if flags & 8 == 0 {
            size = varint(&mut rest);
        }
        sent += signed(varint(&mut rest));
        if flags & 4 != 0 {
            at += signed(varint(&mut rest));
        }
        let probe = if flags & 16 != 0 { varint(&mut rest) } else { 0 };
        Entry { sent, size, arrived: (flags & 1 != 0).then_some(at), was_lost: flags & 2 != 0, probe }
    });
    let entries = entries.collect();
    assert!(rest.is_empty());
    Some((bytes[1], u64::from_le_bytes(*bytes[4..].first_chunk().unwrap()), entries))
}

fn entries(on: &[Packet]) -> Vec<Entry> {
    report(on).map(|(.., entries)| entries).unwrap_or_default()
}

fn lost(sent: i64) -> Entry {
    Entry { sent, size: 1000, arrived: None, was_lost: false, probe: 0 }
}

fn arrived(sent: i64, at: i64) -> Entry {
    Entry { arrived: Some(at), ..lost(sent) }
}

#[test]
fn it_observes_headers_of_streams_with_feedback_and_stands_before_the_peers_rtcp() {
    let mut harness = Harness::<Rtpfb>::new("{}").unwrap();
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Transform, RtcpAccess::Pass));
    for (info, binding) in
        [(numbered(), Binding::FOLLOW), (ccfb(), Binding::FOLLOW), (StreamInfo::default(), Binding::PASS)]
    {
        let stream = harness.bind_local_stream(&info).unwrap();
        assert_eq!(harness.binding(stream), Some(binding));
        harness.unbind_stream(stream);
    }
    let remote = harness.bind_remote_stream(&numbered()).unwrap();
    assert_eq!(harness.binding(remote), Some(Binding::PASS));
}

#[test]
fn transport_wide_feedback_becomes_a_report_of_each_packet() {
    let (mut harness, stream) = bound(&numbered());
    send(&mut harness, stream, 65_534..=65_535);
    send(&mut harness, stream, 0..2);
    let start = Setup::default().start.as_nanos() / 1000;
    let on = harness.read_rtcp(transport(65_534, 3, &[Some(4), None, Some(80), Some(0)]));
    let (source, base, entries) = report(&on).unwrap();
    assert_eq!((source, base), (0, start));
    assert_eq!(entries, [arrived(0, 193_000), lost(10_000), arrived(20_000, 213_000), arrived(30_000, 213_000)]);
    assert_eq!(on[0].bytes, transport(65_534, 3, &[Some(4), None, Some(80), Some(0)]), "the packet is as it came");
    assert_eq!((harness.counter("feedback"), harness.counter("arrived"), harness.counter("lost")), (1, 3, 1));
}

#[test]
fn rfc_8888_feedback_becomes_a_report_of_each_packet() {
    let (mut harness, stream) = bound(&ccfb());
    send(&mut harness, stream, 10..13);
    harness.write(stream, packet(RTX, 900, 500));
    let both = [rfc_8888(SSRC, 10, 5 << 16, &[Some(1024), None, Some(512)]), rfc_8888(RTX, 900, 5 << 16, &[Some(0)])];
    let (source, _, entries) = report(&harness.read_rtcp(both.concat())).unwrap();
    assert_eq!(source, 1);
    let rtx = Entry { size: 500, ..arrived(30_000, 5_000_000) };
    assert_eq!(entries, [arrived(0, 4_000_000), lost(10_000), arrived(20_000, 4_500_000), rtx]);
}

#[test]
fn an_arrival_without_a_time_is_reported_without() {
    let (mut harness, stream) = bound(&ccfb());
    send(&mut harness, stream, 10..11);
    // RFC 8888, 3.1: 0x1fff, not available.
    let on = harness.read_rtcp(rfc_8888(SSRC, 10, 5 << 16, &[Some(0x1fff)]));
    let Some(Value::Bytes(bytes)) = on[0].attribute(REPORT) else { panic!("a report") };
    assert_eq!(bytes[20] & 0b111, 0b001);
}

#[test]
fn a_packet_was_sent_when_it_was_let_go() {
    let (mut harness, stream) = bound(&numbered());
    let at = harness.now();
    harness.advance(ms(3));
    // As a host shows it to an observer, a batch later.
    harness.write(stream, packet(SSRC, 0, 1000).at(at));
    let (_, base, _) = report(&harness.read_rtcp(transport(0, 3, &[Some(0)]))).unwrap();
    assert_eq!(base, at.as_nanos() / 1000);
}

#[test]
fn nothing_is_reported_twice_but_a_loss_that_was_none() {
    let (mut harness, stream) = bound(&numbered());
    send(&mut harness, stream, 0..4);
    assert_eq!(entries(&harness.read_rtcp(transport(0, 3, &[Some(0), None, Some(4)]))).len(), 3);
    let again = entries(&harness.read_rtcp(transport(0, 3, &[Some(0), Some(0), Some(4), None])));
    let late = Entry { was_lost: true, ..arrived(0, 192_000) };
    assert_eq!(again, [late, lost(20_000)]);
    assert_eq!(report(&harness.read_rtcp(transport(0, 3, &[Some(0), None, None, None]))), None);
}

#[test]
fn the_packets_of_a_probe_are_told() {
    let (mut harness, stream) = bound(&numbered());
    harness.write(stream, packet(SSRC, 0, 1000).attribute(PROBE, 7_i64));
    harness.write(stream, packet(SSRC, 1, 1000).attribute("other", true));
    harness.write(stream, packet(SSRC, 2, 1000).attribute(PROBE, -7_i64));
    let found = entries(&harness.read_rtcp(transport(0, 3, &[Some(0), Some(0), Some(0)])));
    assert_eq!(found.iter().map(|entry| entry.probe).collect::<Vec<_>>(), [7, 0, 0]);
}

#[test]
fn what_is_older_than_the_history_is_unknown() {
    let mut harness = Harness::<Rtpfb>::new(r#"{"history_ms": 100}"#).unwrap();
    let stream = harness.bind_local_stream(&numbered()).unwrap();
    send(&mut harness, stream, 0..20);
    let found = entries(&harness.read_rtcp(transport(0, 3, &[Some(0); 20])));
    assert_eq!((found.len(), harness.counter("unknown")), (11, 9));
}

#[test]
fn a_report_that_is_too_large_is_continued_with_the_next_feedback() {
    let (mut harness, stream) = bound(&numbered());
    for number in 0..3000 {
        harness.write(stream, packet(SSRC, number, 1000 + usize::from(number % 2)));
        harness.advance(Duration::from_micros(200));
    }
    let mut found = entries(&harness.read_rtcp(transport(0, 3, &[Some(1); 3000]))).len();
    assert!((500..3000).contains(&found), "{found}");
    for _ in 0..10 {
        found += entries(&harness.read_rtcp(transport(0, 3, &[Some(1)]))).len();
    }
    assert_eq!(found, 3000);
}

#[test]
fn hostile_feedback_is_counted_and_reports_nothing() {
    let (mut harness, stream) = bound(&numbered());
    send(&mut harness, stream, 0..4);
    // A run of 8191 lost packets, eight times over, in 36 bytes; many of them.
    let mut flood = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xf8, 0, 0, 3, 0];
    flood.extend([0x1f, 0xff].repeat(8));
    let flood = complete(flood).repeat(30);
    harness.read_rtcp(flood);
    assert_eq!((harness.counter("excess"), harness.counter("feedback")), (30, 0));
    let mut lying = transport(0, 3, &[Some(0); 8]);
    lying[15] = 200;
    assert_eq!(report(&harness.read_rtcp(lying)), None);
    assert_eq!(harness.counter("malformed"), 1);
    let warnings = harness.logs().iter().filter(|(level, _)| *level == Level::Warn).count();
    assert_eq!(warnings, 2, "of what is malformed and of excess, once each");
    for cut in (4..36).step_by(4) {
        let mut short = transport(0, 3, &[Some(0); 8])[..cut].to_vec();
        short[3] = (cut / 4 - 1) as u8;
        harness.read_rtcp(short);
    }
    // About packets that were never sent, of a stream that is not there.
    assert_eq!(report(&harness.read_rtcp(transport(1000, 3, &[Some(0); 8]))), None);
    assert_eq!(report(&harness.read_rtcp(rfc_8888(77, 0, 1, &[Some(0); 8]))), None);
    assert_eq!(harness.counter("unknown"), 16);
    assert_eq!(entries(&harness.read_rtcp(transport(0, 3, &[Some(0); 4]))).len(), 4, "and what is right still is");
}

#[test]
fn silence_is_told_while_packets_leave_and_not_after_the_peer_is_heard() {
    let (mut harness, stream) = bound(&numbered());
    harness.advance(ms(5_000));
    assert_eq!(harness.session_attribute(UNANSWERED), None);
    send(&mut harness, stream, 0..49);
    assert_eq!(harness.session_attribute(UNANSWERED), None);
    send(&mut harness, stream, 49..160);
    assert_eq!(harness.session_attribute(UNANSWERED), Some(Value::Integer(1500)));
    harness.read_rtcp(transport(0, 3, &[Some(0)]));
    assert_eq!((harness.session_attribute(UNANSWERED), harness.next_timeout()), (None, None));
    send(&mut harness, stream, 160..255);
    assert_eq!(harness.session_attribute(UNANSWERED), Some(Value::Integer(500)));
}

#[test]
fn a_stream_may_be_bound_twice_and_unbound_at_once() {
    let (mut harness, first) = bound(&ccfb());
    let second = harness.bind_local_stream(&ccfb()).unwrap();
    harness.unbind_stream(second);
    send(&mut harness, first, 0..2);
    assert_eq!(entries(&harness.read_rtcp(rfc_8888(SSRC, 0, 1 << 16, &[Some(0); 2]))).len(), 2);
    harness.unbind_stream(first);
    assert_eq!(report(&harness.read_rtcp(rfc_8888(SSRC, 0, 1 << 16, &[Some(0); 2]))), None);
}

#[test]
fn a_successor_knows_what_was_sent_and_what_was_said() {
    for info in [numbered(), ccfb()] {
        let (mut harness, stream) = bound(&info);
        send(&mut harness, stream, 0..4);
        let feedback = |first, arrivals: &[Option<u8>]| match info.rtp_header_extensions.is_empty() {
            false => transport(first, 0xff_ffff, arrivals),
            true => rfc_8888(SSRC, first, u32::MAX, &arrivals.iter().map(|at| at.map(u16::from)).collect::<Vec<_>>()),
        };
        harness.read_rtcp(feedback(0, &[Some(0), None]));
        let state = harness.save().unwrap();
        let setup = Setup { start: harness.now(), ..Setup::default() };
        let mut successor = Harness::<Rtpfb>::restored(setup, "{}", &state).unwrap();
        let stream = successor.bind_local_stream(&info).unwrap();
        send(&mut successor, stream, 4..5);
        let found = entries(&successor.read_rtcp(feedback(0, &[Some(0), Some(0), Some(0), Some(0), Some(0)])));
        assert_eq!(found.len(), 4);
        assert!(found[0].was_lost && !found[1].was_lost);
        let sent: Vec<_> = found.iter().map(|entry| entry.sent).collect();
        assert_eq!(sent, [0, 10_000, 20_000, 30_000]);
    }
    let Err(refusal) = Harness::<Rtpfb>::restored(Setup::default(), "{}", b"{") else { panic!("refused") };
    assert!(matches!(refusal, Refusal::Unsupported(_)));
}

#[test]
fn wrong_options_are_refused_by_name() {
    for (config, says) in [
        (r#"{"history_ms": 99}"#, "history_ms is 99; 100..=10000 is allowed"),
        (r#"{"history_ms": 10001}"#, "history_ms is 10001"),
        (r#"{"history": 1}"#, "unknown field `history`, expected `history_ms`"),
    ] {
        let Err(Refusal::Config(message)) = Harness::<Rtpfb>::new(config) else { panic!("refused") };
        assert!(message.contains(says), "{message}");
    }
}
