//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use sandbar_plugin_rfc8888::Rfc8888;
use sandbar_sdk::rtcp::packet as rtcp_packet;
use sandbar_sdk::rtcp::transport_feedbacks::cc_feedback_report::{CcFeedbackReport, Ecn};
use sandbar_sdk::testing::{Feed, Harness, Setup, packet};
use sandbar_sdk::{Binding, Instant, Refusal, RtcpFeedback, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const FEC: u32 = 0x2222;
const RTX: u32 = 0x3333;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn info(ssrc: u32) -> StreamInfo {
    let feedback = RtcpFeedback { kind: "ack".into(), parameter: "ccfb".into() };
    StreamInfo { ssrc, rtcp_feedback: vec![feedback], ..StreamInfo::default() }
}

fn bound() -> (Harness<Rfc8888>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    (harness, stream)
}

fn arrive(harness: &mut Harness<Rfc8888>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        let on = harness.read(stream, packet(SSRC, number, b"media"));
        assert_eq!(on.len(), 1, "an observer keeps nothing back");
    }
}

/// Of each number how many 1/1024 s before the report it arrived, or that it did not.
type Numbers = Vec<(u16, Option<u16>)>;

/// A report packet, with what it says of each source.
struct Report {
    at: Instant,
    bytes: usize,
    timestamp: u32,
    blocks: Vec<(u32, Numbers)>,
}

/// Takes the reports, one of each emission.
fn reports(harness: &mut Harness<Rfc8888>) -> Vec<Report> {
    let emitted = harness.emitted_rtcp();
    let reports = emitted.iter().map(|emission| {
        let packets = rtcp_packet::unmarshal(&mut &emission.bytes[..]).unwrap();
        assert_eq!(packets.len(), 1);
        let report = packets[0].as_any().downcast_ref::<CcFeedbackReport>().unwrap();
        assert_eq!(report.sender_ssrc, 1);
        let blocks = report.report_blocks.iter().map(|block| {
            let numbers = block.metric_blocks.iter().enumerate().map(|(n, metric)| {
                assert_eq!(metric.ecn, Ecn::NotEct);
                let number = block.begin_sequence.wrapping_add(n as u16);
                (number, metric.received.then_some(metric.arrival_time_offset))
            });
            (block.media_ssrc, numbers.collect())
        });
        Report {
            at: emission.time,
            bytes: emission.bytes.len(),
            timestamp: report.report_timestamp,
            blocks: blocks.collect(),
        }
    });
    reports.collect()
}

/// Whether each number of the one source of a report arrived.
fn arrived(report: &Report) -> Vec<(u16, bool)> {
    assert_eq!(report.blocks.len(), 1);
    report.blocks[0].1.iter().map(|(number, at)| (*number, at.is_some())).collect()
}

#[test]
fn only_streams_with_ccfb_are_observed() {
    let (mut harness, stream) = bound();
    assert_eq!(harness.binding(stream), Some(Binding::FOLLOW));
    let other = RtcpFeedback { kind: "nack".into(), parameter: "ccfb".into() };
    let without = harness.bind_remote_stream(&StreamInfo { rtcp_feedback: vec![other], ..info(1) }).unwrap();
    assert_eq!(harness.binding(without), Some(Binding::PASS));
}

#[test]
fn rfc_8888_3_1_the_report_timestamp_is_the_middle_of_the_ntp_timestamp() {
    // A quarter of a second past a full one, and where 16 bits of seconds wrap.
    let setup = Setup { ntp: 0x0001_ffff_4000_0000, rtcp_ssrc: 0x0a0b_0c0d, ..Setup::default() };
    let mut harness = Harness::<Rfc8888>::with(setup, "{}").unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    harness.advance(ms(900));
    arrive(&mut harness, stream, [9]);
    harness.advance(ms(50));
    arrive(&mut harness, stream, [11]);
    harness.advance(ms(50));
    let head = [0x8b, 205, 0, 6, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0x11, 0x11, 0, 9, 0, 3];
    // 100 ms are 102.4 units, 50 ms 51.2.
    let tail = [0x80, 102, 0, 0, 0x80, 51, 0, 0, 0x00, 0x00, 0x40, 0x00];
    assert_eq!(harness.emitted_rtcp()[0].bytes, [&head[..], &tail].concat());
}

#[test]
fn reports_come_100_ms_after_the_first_packet_and_then_each_100_ms() {
    let (mut harness, stream) = bound();
    harness.advance(ms(1000));
    assert_eq!(harness.next_timeout(), None);
    let begin = harness.now();
    for number in 0..30 {
        arrive(&mut harness, stream, [65_530u16.wrapping_add(number)]);
        harness.advance(ms(10));
    }
    let found = reports(&mut harness);
    assert_eq!(found.iter().map(|report| report.at - begin).collect::<Vec<_>>(), [ms(100), ms(200), ms(300)]);
    let numbers: Vec<_> = found.iter().flat_map(arrived).collect();
    assert_eq!(numbers, (0..30u16).map(|n| (65_530u16.wrapping_add(n), true)).collect::<Vec<_>>());
    let offsets: Vec<_> = found[0].blocks[0].1.iter().map(|(_, at)| at.unwrap()).collect();
    assert_eq!(offsets, [102, 92, 82, 72, 61, 51, 41, 31, 20, 10]);
    assert_eq!((harness.counter("reports"), harness.counter("refused")), (3, 0));
}

#[test]
fn nobody_is_woken_while_nothing_arrives() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1]);
    harness.advance(ms(5000));
    assert_eq!(reports(&mut harness).len(), 1);
    assert_eq!(harness.next_timeout(), None);
    arrive(&mut harness, stream, [2]);
    harness.advance(ms(100));
    assert_eq!(arrived(&reports(&mut harness)[0]), [(2, true)]);
}

#[test]
fn losses_between_and_within_reports_are_told_once() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 2, 5]);
    harness.advance(ms(100));
    arrive(&mut harness, stream, [8]);
    harness.advance(ms(100));
    arrive(&mut harness, stream, [9]);
    harness.advance(ms(100));
    let found = reports(&mut harness);
    assert_eq!(arrived(&found[0]), [(1, true), (2, true), (3, false), (4, false), (5, true)]);
    assert_eq!(arrived(&found[1]), [(6, false), (7, false), (8, true)]);
    assert_eq!(arrived(&found[2]), [(9, true)]);
}

#[test]
fn rfc_8888_3_1_a_late_packet_is_told_with_all_that_came_after_it() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 3, 4]);
    harness.advance(ms(150));
    arrive(&mut harness, stream, [2, 5]);
    harness.advance(ms(50));
    let found = reports(&mut harness);
    assert_eq!(found[1].blocks[0].1, [(2, Some(51)), (3, Some(205)), (4, Some(205)), (5, Some(51))]);
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
    assert_eq!(arrived(reports(&mut harness).last().unwrap()), [(6, true)]);
}

#[test]
fn rfc_8888_3_1_of_copies_the_first_counts() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 2]);
    harness.advance(ms(50));
    arrive(&mut harness, stream, [1, 2]);
    harness.advance(ms(200));
    let found = reports(&mut harness);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].blocks[0].1, [(1, Some(102)), (2, Some(102))]);
}

#[test]
fn the_arrival_counts_not_when_the_batch_comes() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    harness.advance(ms(9));
    harness.read(stream, Feed::new(packet(SSRC, 1, b"")).at(begin));
    // Nothing comes from the future, and if it did, its time would not be known (RFC 8888, 3.1).
    harness.read(stream, Feed::new(packet(SSRC, 2, b"")).at(begin + ms(9000)));
    harness.advance(ms(100));
    assert_eq!(reports(&mut harness)[0].blocks[0].1, [(1, Some(112)), (2, Some(0x1fff))]);
}

#[test]
fn rfc_8888_3_1_every_ssrc_has_a_block_and_they_share_a_packet() {
    let mut harness = Harness::<Rfc8888>::new("{}").unwrap();
    let with_fec = StreamInfo { ssrc_forward_error_correction: Some(FEC), ..info(SSRC) };
    let first = harness.bind_remote_stream(&with_fec).unwrap();
    let second = harness.bind_remote_stream(&info(7)).unwrap();
    harness.bind_remote_stream(&info(8)).unwrap();
    harness.read(second, packet(7, 500, b""));
    harness.read(first, packet(SSRC, 1, b""));
    harness.read(first, packet(FEC, 40_000, b""));
    harness.read(first, packet(SSRC, 2, b""));
    // Of no SSRC that was negotiated.
    harness.read(first, packet(9, 1, b""));
    harness.advance(ms(100));
    let found = reports(&mut harness);
    assert_eq!(found.len(), 1);
    let blocks: Vec<_> = found[0].blocks.iter().map(|(ssrc, numbers)| (*ssrc, numbers.len())).collect();
    assert_eq!(blocks, [(SSRC, 2), (FEC, 1), (7, 1)], "and none for who was silent");
}

#[test]
fn what_the_host_unwraps_is_not_reported_and_what_it_does_not_is() {
    for (payload_type, expected) in [(Some(97), vec![(SSRC, 1)]), (None, vec![(SSRC, 1), (RTX, 1)])] {
        let mut harness = Harness::<Rfc8888>::new("{}").unwrap();
        let rtx =
            StreamInfo { ssrc_retransmission: Some(RTX), payload_type_retransmission: payload_type, ..info(SSRC) };
        let stream = harness.bind_remote_stream(&rtx).unwrap();
        arrive(&mut harness, stream, [1]);
        harness.read(stream, Feed::new(packet(SSRC, 5, b"")).repaired());
        // A probe, of padding alone, or a retransmission that the host has no payload type for.
        harness.read(stream, packet(RTX, 800, b""));
        harness.advance(ms(100));
        let found = reports(&mut harness);
        let blocks: Vec<_> = found[0].blocks.iter().map(|(ssrc, numbers)| (*ssrc, numbers.len())).collect();
        assert_eq!(blocks, expected);
    }
}

#[test]
fn reports_are_split_at_the_mtu_with_what_the_host_puts_before_them() {
    let setup = Setup { mtu: 300, cname: "somebody@example.com".into(), ..Setup::default() };
    let mut harness = Harness::<Rfc8888>::with(setup, "{}").unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    let other = harness.bind_remote_stream(&info(7)).unwrap();
    arrive(&mut harness, stream, 65_000..=u16::MAX);
    harness.read(other, packet(7, 1, b""));
    harness.advance(ms(100));
    let found = reports(&mut harness);
    // An empty report of 8 bytes and an SDES with a chunk of 28 leave 260; 240 of them are for 120 packets.
    assert_eq!(found.iter().map(|report| report.bytes).collect::<Vec<_>>(), [260, 260, 260, 260, 20 + 112 + 12]);
    assert!(found.iter().all(|report| report.timestamp == found[0].timestamp));
    let numbers = found.iter().flat_map(|report| &report.blocks[0].1).map(|(number, at)| (*number, at.is_some()));
    assert_eq!(numbers.collect::<Vec<_>>(), (65_000..=u16::MAX).map(|number| (number, true)).collect::<Vec<_>>());
    assert_eq!(found[4].blocks[1], (7, vec![(1, Some(102))]));
}

#[test]
fn the_operator_may_have_smaller_reports_but_not_larger_ones_than_the_mtu() {
    for (mtu, max_bytes, expected) in [(1200, 100, 100), (200, 1200, 200 - 8 - 20), (30, 1200, 24)] {
        let setup = Setup { mtu, ..Setup::default() };
        let config = format!(r#"{{"max_bytes": {max_bytes}}}"#);
        let mut harness = Harness::<Rfc8888>::with(setup, &config).unwrap();
        let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
        arrive(&mut harness, stream, 0..500);
        harness.advance(ms(100));
        let found = reports(&mut harness);
        assert_eq!(found.iter().map(|report| report.bytes).max(), Some(expected));
        assert_eq!(found.iter().flat_map(arrived).count(), 500);
    }
}

#[test]
fn a_hostile_jump_costs_one_report_of_losses_and_a_new_beginning_none() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [10, 10 + 3000]);
    harness.advance(ms(100));
    assert_eq!(reports(&mut harness).iter().flat_map(arrived).count(), 3001);
    arrive(&mut harness, stream, [30_000, 3011, 50_000, 20_000, 30_001]);
    harness.advance(ms(100));
    assert_eq!(reports(&mut harness).iter().flat_map(arrived).collect::<Vec<_>>(), [(3011, true)]);
    arrive(&mut harness, stream, [40_000, 40_001, 40_003]);
    harness.advance(ms(100));
    let expected = [(40_000, true), (40_001, true), (40_002, false), (40_003, true)];
    assert_eq!(arrived(&reports(&mut harness)[0]), expected);
}

#[test]
fn however_far_the_numbers_jump_reports_stay_bounded() {
    let (mut harness, stream) = bound();
    let mut number = 0u16;
    for _ in 0..2000 {
        number = number.wrapping_add(2999);
        arrive(&mut harness, stream, [number]);
    }
    harness.advance(ms(100));
    let found = reports(&mut harness);
    assert_eq!(found.iter().flat_map(arrived).count(), 16_384);
    assert!(found.len() < 32, "{}", found.len());
}

#[test]
fn what_is_known_of_a_stream_ends_with_it() {
    let (mut harness, first) = bound();
    let second = harness.bind_remote_stream(&info(7)).unwrap();
    arrive(&mut harness, first, [1, 2]);
    harness.read(second, packet(7, 1, b""));
    harness.unbind_stream(first);
    harness.advance(ms(100));
    assert_eq!(reports(&mut harness)[0].blocks, [(7, vec![(1, Some(102))])]);
    // The same SSRC again is another stream: what its numbers were before says nothing.
    let first = harness.bind_remote_stream(&info(SSRC)).unwrap();
    arrive(&mut harness, first, [30_000]);
    harness.unbind_stream(second);
    harness.advance(ms(100));
    assert_eq!(arrived(&reports(&mut harness)[0]), [(30_000, true)]);
    harness.unbind_stream(first);
    harness.advance(ms(1000));
    assert!(reports(&mut harness).is_empty() && harness.next_timeout().is_none());
}

#[test]
fn a_successor_tells_what_its_predecessor_heard() {
    let (mut old, stream) = bound();
    arrive(&mut old, stream, [1, 3]);
    old.advance(ms(100));
    arrive(&mut old, stream, [4]);
    old.advance(ms(50));
    reports(&mut old);
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<Rfc8888>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&info(SSRC)).unwrap();
    assert!(new.next_timeout().is_some(), "what was heard is told also if nothing more comes");
    arrive(&mut new, stream, [2, 6]);
    new.advance(ms(100));
    let found = reports(&mut new);
    let expected = [(2, Some(102)), (3, Some(256)), (4, Some(154)), (5, None), (6, Some(102))];
    assert_eq!(found[0].blocks[0].1, expected);
}

#[test]
fn a_stream_that_comes_after_the_swap_is_new_whatever_its_ssrc() {
    let (mut old, stream) = bound();
    arrive(&mut old, stream, [1, 2]);
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<Rfc8888>::restored(setup, "{}", &state).unwrap();
    new.advance(ms(1));
    let stream = new.bind_remote_stream(&info(SSRC)).unwrap();
    arrive(&mut new, stream, [9]);
    new.advance(ms(100));
    assert_eq!(arrived(&reports(&mut new)[0]), [(9, true)]);
}

#[test]
fn a_successor_of_many_arrivals_repeats_those_that_it_was_handed() {
    let (mut old, stream) = bound();
    arrive(&mut old, stream, (0..10_000).filter(|number| *number != 5000));
    old.advance(ms(100));
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<Rfc8888>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&info(SSRC)).unwrap();
    // Whether 1000 arrived is not known any more, and nothing is said of it.
    arrive(&mut new, stream, [1000, 5000]);
    new.advance(ms(100));
    let told: Vec<_> = reports(&mut new).iter().flat_map(arrived).collect();
    assert_eq!(told, (5000..10_000).map(|number| (number, true)).collect::<Vec<_>>());
}

#[test]
fn a_state_that_is_none_is_refused_and_one_of_nonsense_survived() {
    for state in [&b""[..], b"{}", b"[1]", b"\xff"] {
        let restored = Harness::<Rfc8888>::restored(Setup::default(), "{}", state);
        assert!(matches!(restored.err(), Some(Refusal::Unsupported(_))));
    }
    let max = u64::MAX;
    for (newest, received) in [(max, format!("[[{max},{max}]]")), (70_000, format!("[[69000,{max}],[70000,0]]"))] {
        let state = format!(r#"[{{"ssrc":{SSRC},"newest":{newest},"cursor":{max},"floor":0,"received":{received}}}]"#,);
        let mut harness = Harness::<Rfc8888>::restored(Setup::default(), "{}", state.as_bytes()).unwrap();
        let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
        arrive(&mut harness, stream, [4465, 4463, 4465]);
        harness.advance(ms(100));
        assert!(reports(&mut harness).iter().flat_map(arrived).any(|told| told == (4465, true)));
    }
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<Rfc8888>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    let unknown = refusal(r#"{"interval": 5}"#);
    let expected = "unknown field `interval`, expected one of `interval_ms`, `max_bytes`, `window_ms`";
    assert!(unknown.contains(expected), "{unknown}");
    assert!(refusal(r#"{"interval_ms": 5}"#).contains("interval_ms is 5; 10..=1000"));
    assert!(refusal(r#"{"max_bytes": 63}"#).contains("max_bytes is 63; 64..=65535"));
    assert!(refusal(r#"{"window_ms": 7001}"#).contains("window_ms is 7001"));
}

/// Seeded loss, reordering, duplication and pauses of two sources, across wraps: each arrival is told, to half a
/// 1024th of a second; what was told to have arrived is never told to have not (RFC 8888, 3.1); and nothing is told for
/// ever.
#[test]
fn on_a_bad_link_every_arrival_is_told_and_nothing_for_ever() {
    let mut seed = 21u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut harness = Harness::<Rfc8888>::new("{}").unwrap();
    let streams = [SSRC, 7].map(|ssrc| (ssrc, harness.bind_remote_stream(&info(ssrc)).unwrap()));
    let mut arrivals: Vec<(u64, usize, u64)> = Vec::new();
    let mut sent = harness.now().as_nanos() / 1000;
    for number in 0..80_000u64 {
        sent += random(800) + if random(5_000) == 0 { 400_000 } else { 0 };
        for _ in 0..if random(100) == 0 { 2 } else { 1 } {
            if random(20) != 0 {
                let late = if random(30) == 0 { random(20_000) } else { 0 };
                arrivals.push((sent + random(300) + late, (number % 2) as usize, 65_000 + number / 2));
            }
        }
    }
    arrivals.sort_unstable();
    let mut expected = BTreeMap::new();
    for (at, source, number) in &arrivals {
        let at = Instant::from_nanos(at * 1000);
        expected.entry((*source, *number)).or_insert(at);
        harness.advance_to(at);
        let (ssrc, stream) = streams[*source];
        harness.read(stream, packet(ssrc, *number as u16, b""));
    }
    harness.advance(ms(1000));
    let mut told = BTreeMap::new();
    let mut newest = [65_000u64; 2];
    let mut count = 0;
    for report in reports(&mut harness) {
        assert!(report.bytes <= 1200 - 8 - 20);
        for (ssrc, numbers) in report.blocks {
            let source = usize::from(ssrc == 7);
            for (number, offset) in numbers {
                let ahead = number.wrapping_sub(newest[source] as u16) as i16;
                let number = newest[source].wrapping_add_signed(ahead.into());
                newest[source] = newest[source].max(number);
                let at = offset.map(|offset| report.at.as_nanos() as i64 - i64::from(offset) * 1_000_000_000 / 1024);
                let before = told.insert((source, number), at).flatten();
                assert!(before.is_none() || at.is_some(), "{number} did arrive");
                count += 1;
            }
        }
    }
    let arrived: Vec<_> = told.iter().filter(|(_, at)| at.is_some()).map(|(number, _)| number).collect();
    assert_eq!(arrived, expected.keys().collect::<Vec<_>>());
    for (number, at) in told.iter().filter_map(|(number, at)| Some((number, (*at)?))) {
        let error = at - expected[number].as_nanos() as i64;
        assert!(error.abs() <= 1_000_000_000 / 2048 + 1, "{number:?}: {error} ns");
    }
    assert!(count < told.len() * 2, "{count} told of {} packets", told.len());
}
