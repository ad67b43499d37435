//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_report_receiver::ReportReceiver;
use sandbar_sdk::rtcp::packet as rtcp_packet;
use sandbar_sdk::rtcp::receiver_report::ReceiverReport;
use sandbar_sdk::testing::{Feed, Harness, Setup, packet};
use sandbar_sdk::{Binding, HeaderBuf, Refusal, RtcpAccess, RtcpParts, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn info(ssrc: u32) -> StreamInfo {
    StreamInfo { ssrc, clock_rate: 90_000, ..StreamInfo::default() }
}

fn bound() -> (Harness<ReportReceiver>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    (harness, stream)
}

fn arrive(harness: &mut Harness<ReportReceiver>, stream: StreamId, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        assert_eq!(harness.read(stream, packet(SSRC, number, b"media")).len(), 1);
    }
}

/// Takes the reports of each emission.
fn reports(harness: &mut Harness<ReportReceiver>) -> Vec<Vec<ReceiverReport>> {
    let emitted = harness.emitted_rtcp();
    let reports = emitted.iter().map(|emission| {
        let packets = rtcp_packet::unmarshal(&mut &emission.bytes[..]).unwrap();
        packets.iter().map(|packet| packet.as_any().downcast_ref::<ReceiverReport>().unwrap().clone()).collect()
    });
    reports.collect()
}

fn sender_report(ssrc: u32, ntp: u64) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(&ntp.to_be_bytes());
    bytes.resize(28, 0);
    bytes
}

#[test]
fn every_remote_stream_is_observed_and_rtcp_with_it() {
    let (harness, stream) = bound();
    assert_eq!(harness.binding(stream), Some(Binding::FOLLOW));
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Observe, RtcpAccess::Pass));
}

#[test]
fn a_report_comes_a_second_after_the_first_packet_and_then_each_second() {
    let (mut harness, stream) = bound();
    harness.advance(ms(5000));
    assert!(harness.emitted_rtcp().is_empty());
    arrive(&mut harness, stream, [1, 2, 4]);
    harness.advance(ms(999));
    assert!(harness.emitted_rtcp().is_empty());
    harness.advance(ms(1));
    let found = reports(&mut harness);
    assert_eq!((found.len(), found[0].len(), found[0][0].ssrc, found[0][0].reports.len()), (1, 1, 1, 1));
    let block = &found[0][0].reports[0];
    assert_eq!((block.ssrc, block.last_sequence_number, block.total_lost, block.fraction_lost), (SSRC, 4, 1, 64));
    arrive(&mut harness, stream, [5]);
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].reports[0].last_sequence_number, 5);
}

#[test]
fn rfc_3550_6_4_2_silence_is_reported_without_blocks() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1]);
    harness.advance(ms(2000));
    let found = reports(&mut harness);
    assert_eq!(found.iter().map(|reports| reports[0].reports.len()).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn rfc_3550_6_4_1_what_comes_late_corrects_the_count_in_the_next_report() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 2, 5]);
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].reports[0].total_lost, 2);
    arrive(&mut harness, stream, [3, 6]);
    harness.advance(ms(1000));
    let block = reports(&mut harness)[0][0].reports[0].clone();
    assert_eq!((block.total_lost, block.fraction_lost), (1, 0));
}

#[test]
fn what_was_repaired_was_lost() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 3]);
    harness.read(stream, Feed::new(packet(SSRC, 2, b"")).repaired());
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].reports[0].total_lost, 1);
}

#[test]
fn repair_packets_are_another_sources() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1, 2]);
    for number in [700, 710, 800] {
        harness.read(stream, packet(SSRC + 1, number, b""));
    }
    harness.advance(ms(1000));
    let block = reports(&mut harness)[0][0].reports[0].clone();
    assert_eq!((block.last_sequence_number, block.total_lost), (2, 0));
}

#[test]
fn rfc_3550_a_8_jitter_is_taken_at_the_arrival_not_when_the_batch_comes() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    harness.advance(ms(100));
    for n in 0..50u32 {
        let mut header = HeaderBuf::new(96, SSRC);
        header.edit().set_sequence_number(n as u16);
        header.edit().set_timestamp(n * 180);
        // Every second packet is 1 ms late: a difference of 90 units each time.
        let at = begin + ms(u64::from(2 * n + n % 2));
        harness.read(stream, Feed::new(header.as_bytes()).at(at));
    }
    harness.advance(ms(1000));
    let jitter = reports(&mut harness)[0][0].reports[0].jitter;
    assert!((80..=90).contains(&jitter), "{jitter}");
}

#[test]
fn rfc_3550_6_4_1_the_last_sender_report_is_told_back() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1]);
    harness.advance(ms(250));
    let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
    compound.extend_from_slice(&sender_report(SSRC + 1, 0x1111_2222_3333_4444));
    compound.extend_from_slice(&sender_report(SSRC, 0xaaaa_bbbb_cccc_dddd));
    assert_eq!(harness.read_rtcp(&compound).len(), 1);
    for length in 0..compound.len() {
        harness.read_rtcp(&compound[..length]);
    }
    harness.advance(ms(750));
    let block = reports(&mut harness)[0][0].reports[0].clone();
    assert_eq!((block.last_sender_report, block.delay), (0xbbbb_cccc, 49_152));
}

#[test]
fn all_blocks_leave_together_at_most_31_a_packet() {
    let mut harness = Harness::<ReportReceiver>::new("{}").unwrap();
    for ssrc in 0..40 {
        let stream = harness.bind_remote_stream(&info(ssrc)).unwrap();
        harness.read(stream, packet(ssrc, 7, b""));
    }
    harness.advance(ms(1000));
    let found = reports(&mut harness);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].iter().map(|report| report.reports.len()).collect::<Vec<_>>(), [31, 9]);
    assert_eq!(harness.counter("blocks"), 40);
}

#[test]
fn reports_stay_within_the_mtu_with_the_sdes_behind_them() {
    let setup = Setup { mtu: 300, cname: "somebody@example.com".into(), ..Setup::default() };
    let mut harness = Harness::<ReportReceiver>::with(setup, "{}").unwrap();
    for ssrc in 0..40 {
        let stream = harness.bind_remote_stream(&info(ssrc)).unwrap();
        harness.read(stream, packet(ssrc, 7, b""));
    }
    harness.advance(ms(1000));
    let emitted = harness.emitted_rtcp();
    assert!(RtcpParts::of(&emitted[0].bytes).all(|part| part.bytes.len() + 32 <= 300));
    assert_eq!(RtcpParts::of(&emitted[0].bytes).map(|part| u32::from(part.count)).sum::<u32>(), 40);
}

#[test]
fn after_the_last_stream_there_are_no_reports() {
    let (mut harness, stream) = bound();
    arrive(&mut harness, stream, [1]);
    harness.unbind_stream(stream);
    assert_eq!(harness.next_timeout(), None);
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    arrive(&mut harness, stream, [900, 901]);
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].reports[0].total_lost, 0, "a new stream, a new count");
}

#[test]
fn a_successor_reports_what_its_predecessor_counted() {
    let (mut old, stream) = bound();
    arrive(&mut old, stream, [65_534, 65_535, 1]);
    old.advance(ms(1000));
    assert_eq!(reports(&mut old)[0][0].reports[0].total_lost, 1);
    old.read_rtcp(sender_report(SSRC, 0xaaaa_bbbb_cccc_dddd));
    old.advance(ms(500));
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<ReportReceiver>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&info(SSRC)).unwrap();
    arrive(&mut new, stream, [2, 4]);
    new.advance(ms(1000));
    let block = reports(&mut new)[0][0].reports[0].clone();
    assert_eq!((block.last_sequence_number, block.total_lost, block.fraction_lost), (0x1_0004, 2, (256 / 3) as u8));
    assert_eq!((block.last_sender_report, block.delay), (0xbbbb_cccc, 65_536 * 3 / 2));
    assert!(Harness::<ReportReceiver>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<ReportReceiver>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"interval": 5}"#).contains("unknown field `interval`, expected `interval_ms`"));
    assert!(refusal(r#"{"interval_ms": 9}"#).contains("interval_ms is 9; 10..=60000"));
}

#[test]
fn another_interval_is_kept() {
    let mut harness = Harness::<ReportReceiver>::new(r#"{"interval_ms": 200}"#).unwrap();
    let stream = harness.bind_remote_stream(&info(SSRC)).unwrap();
    arrive(&mut harness, stream, [1]);
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness).len(), 5);
}

/// Seeded loss, reordering and duplication: the count is what A.3 says it is.
#[test]
fn on_a_bad_link_the_counts_add_up() {
    let mut seed = 5u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut harness, stream) = bound();
    let mut order: Vec<(u64, u32)> = Vec::new();
    for n in 0..20_000u32 {
        for _ in 0..if random(50) == 0 { 2 } else { 1 } {
            if n == 0 || random(20) != 0 {
                order.push((u64::from(n) + if n > 0 && random(10) == 0 { random(60) } else { 0 }, n));
            }
        }
    }
    order.sort_by_key(|(at, _)| *at);
    for (at, n) in &order {
        let start = Setup::default().start;
        harness.advance_to(start + Duration::from_micros(500 * at));
        arrive(&mut harness, stream, [(60_000 + n) as u16]);
    }
    let highest = 60_000 + order.iter().map(|(_, n)| n).max().unwrap();
    harness.advance(ms(1000));
    let found = reports(&mut harness);
    let block = &found.last().unwrap()[0].reports[0];
    assert_eq!(block.last_sequence_number, highest);
    let lost = i64::from(highest - 60_000 + 1) - order.len() as i64;
    assert_eq!(i64::from(block.total_lost), lost);
    assert!(lost > 0 && found.len() > 5);
}
