//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_report_sender::ReportSender;
use sandbar_sdk::rtcp::packet as rtcp_packet;
use sandbar_sdk::rtcp::sender_report::SenderReport;
use sandbar_sdk::testing::{Feed, Harness, Setup};
use sandbar_sdk::{Binding, HeaderBuf, Refusal, RtcpAccess, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const RATE: u32 = 90_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn info(ssrc: u32, clock_rate: u32) -> StreamInfo {
    StreamInfo { ssrc, clock_rate, ssrc_retransmission: Some(0x2222), ..StreamInfo::default() }
}

fn bound() -> (Harness<ReportSender>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_local_stream(&info(SSRC, RATE)).unwrap();
    (harness, stream)
}

fn packet(ssrc: u32, number: u16, timestamp: u32, payload: usize) -> Vec<u8> {
    let mut header = HeaderBuf::new(96, ssrc);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp(timestamp);
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(bytes.len() + payload, 7);
    bytes
}

/// Takes the reports of each emission.
fn reports(harness: &mut Harness<ReportSender>) -> Vec<Vec<SenderReport>> {
    let emitted = harness.emitted_rtcp();
    let reports = emitted.iter().map(|emission| {
        let packets = rtcp_packet::unmarshal(&mut &emission.bytes[..]).unwrap();
        packets.iter().map(|packet| packet.as_any().downcast_ref::<SenderReport>().unwrap().clone()).collect()
    });
    reports.collect()
}

#[test]
fn every_local_stream_is_observed() {
    let (mut harness, stream) = bound();
    assert_eq!(harness.binding(stream), Some(Binding::FOLLOW));
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Pass, RtcpAccess::Pass));
    let unknown = harness.bind_local_stream(&info(5, 0)).unwrap();
    assert_eq!(harness.binding(unknown), Some(Binding::PASS));
    assert!(harness.logs()[0].1.contains("0x00000005 has no clock rate"));
}

#[test]
fn nothing_is_reported_before_the_first_packet() {
    let (mut harness, _) = bound();
    harness.advance(ms(10_000));
    assert!(harness.emitted_rtcp().is_empty());
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn rfc_3550_6_4_1_the_report_tells_what_was_sent_and_where_the_timestamp_stands() {
    let (mut harness, stream) = bound();
    let begin = harness.now();
    harness.write(stream, packet(SSRC, 1, 1000, 100));
    harness.advance(ms(300));
    harness.write(stream, packet(SSRC, 2, 1000 + 27_000, 50));
    harness.advance(ms(700));
    let found = reports(&mut harness);
    assert_eq!((found.len(), found[0].len()), (1, 1));
    let report = &found[0][0];
    assert_eq!((report.ssrc, report.packet_count, report.octet_count), (SSRC, 2, 150));
    assert_eq!(report.ntp_time, Setup::default().ntp + (1 << 32), "a second after the session began");
    assert_eq!(report.rtp_time, 1000 + RATE);
    assert_eq!(harness.now(), begin + ms(1000));
    harness.write(stream, packet(SSRC, 3, 1000 + 90_000, 10));
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].octet_count, 160);
}

#[test]
fn rfc_3550_6_4_1_octets_are_without_header_and_padding() {
    let (mut harness, stream) = bound();
    let mut padded = packet(SSRC, 1, 1000, 100);
    padded[0] |= 0x20;
    *padded.last_mut().unwrap() = 60;
    harness.write(stream, padded);
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].octet_count, 40);
}

/// Two streams sampled together: a receiver that maps both timestamps to wall-clock time finds them together.
#[test]
fn two_streams_reports_put_the_same_moment_at_the_same_time() {
    let mut harness = Harness::<ReportSender>::new("{}").unwrap();
    let video = harness.bind_local_stream(&info(1, 90_000)).unwrap();
    let audio = harness.bind_local_stream(&info(2, 48_000)).unwrap();
    let (video_base, audio_base) = (u32::MAX - 1000, 77_777u32);
    for n in 0..150u32 {
        // Audio every 20 ms, video every 33.333 ms in three packets that take 5 ms to leave.
        if n % 5 == 0 {
            for part in 0..3 {
                let sampled = video_base.wrapping_add(n / 5 * 3 * 3000);
                harness.write(video, packet(1, (n + part) as u16, sampled, 1000));
                harness.advance(Duration::from_micros(2_500));
            }
            harness.advance(Duration::from_micros(12_500));
        } else {
            harness.advance(ms(20));
        }
        harness.write(audio, packet(2, n as u16, audio_base.wrapping_add((n + 1) * 960), 80));
    }
    let found = reports(&mut harness).pop().unwrap();
    assert_eq!(found[0].ntp_time, found[1].ntp_time);
    let since = |base: u32, rate: f64, report: &SenderReport| f64::from(report.rtp_time.wrapping_sub(base)) / rate;
    let video = since(video_base, 90_000.0, &found[0]);
    let audio = since(audio_base, 48_000.0, &found[1]);
    assert!((video - audio).abs() < 0.0005, "{video} s against {audio} s");
}

#[test]
fn the_clock_is_set_when_the_packet_was_sent_not_when_the_batch_comes() {
    let (mut harness, stream) = bound();
    let sent = harness.now();
    harness.advance(ms(7));
    harness.write(stream, Feed::new(packet(SSRC, 1, 0, 10)).at(sent));
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].rtp_time, 1007 * 90);
}

#[test]
fn retransmissions_and_repair_packets_are_not_the_streams() {
    let (mut harness, stream) = bound();
    harness.write(stream, packet(SSRC, 1, 0, 10));
    harness.write(stream, packet(0x2222, 500, 999_999, 10));
    harness.advance(ms(1000));
    let report = reports(&mut harness)[0][0].clone();
    assert_eq!((report.packet_count, report.octet_count, report.rtp_time), (1, 10, RATE));
}

#[test]
fn a_header_with_extensions_is_no_payload() {
    let (mut harness, stream) = bound();
    let mut header = HeaderBuf::new(96, SSRC);
    header.edit().set_extension(3, &[1, 2, 3]).unwrap();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(&[9; 33]);
    harness.write(stream, bytes);
    harness.advance(ms(1000));
    assert_eq!(reports(&mut harness)[0][0].octet_count, 33);
}

#[test]
fn rfc_3550_6_4_who_is_silent_stops_reporting_and_begins_again() {
    let (mut harness, stream) = bound();
    harness.write(stream, packet(SSRC, 1, 0, 10));
    harness.advance(ms(10_000));
    assert_eq!(reports(&mut harness).len(), 2);
    assert_eq!(harness.next_timeout(), None);
    harness.write(stream, packet(SSRC, 2, 900_000, 10));
    harness.advance(ms(1000));
    let report = reports(&mut harness)[0][0].clone();
    assert_eq!((report.packet_count, report.rtp_time), (2, 990_000));
}

#[test]
fn all_streams_report_together() {
    let (mut harness, first) = bound();
    let second = harness.bind_local_stream(&info(7, RATE)).unwrap();
    harness.write(first, packet(SSRC, 1, 0, 10));
    harness.write(second, packet(7, 1, 0, 10));
    harness.advance(ms(1000));
    let found = reports(&mut harness);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].iter().map(|report| report.ssrc).collect::<Vec<_>>(), [SSRC, 7]);
    assert_eq!(harness.counter("reports"), 2);
}

#[test]
fn an_unbound_stream_is_not_reported() {
    let (mut harness, stream) = bound();
    harness.write(stream, packet(SSRC, 1, 0, 10));
    harness.unbind_stream(stream);
    harness.advance(ms(5000));
    assert!(harness.emitted_rtcp().is_empty());
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn packets_out_of_order_may_set_the_clock_if_the_operator_wants_it() {
    for (config, expected) in [("{}", 9000 + 45_000), (r#"{"use_latest_packet": true}"#, 45_000)] {
        let mut harness = Harness::<ReportSender>::new(config).unwrap();
        let stream = harness.bind_local_stream(&info(SSRC, RATE)).unwrap();
        harness.write(stream, packet(SSRC, 10, 9000, 10));
        harness.write(stream, packet(SSRC, 9, 0, 10));
        harness.advance(ms(1000));
        assert_eq!(reports(&mut harness)[0][0].rtp_time, expected + 45_000);
    }
}

#[test]
fn a_successor_goes_on_counting() {
    let (mut old, stream) = bound();
    old.write(stream, packet(SSRC, 1, 0, 100));
    old.advance(ms(400));
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<ReportSender>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_local_stream(&info(SSRC, RATE)).unwrap();
    new.write(stream, packet(SSRC, 2, 0, 100));
    new.advance(ms(1000));
    let report = reports(&mut new)[0][0].clone();
    assert_eq!((report.packet_count, report.octet_count, report.rtp_time), (2, 200, 126_000));
    assert!(Harness::<ReportSender>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<ReportSender>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"interval": 5}"#).contains("unknown field `interval`, expected `interval_ms`"));
    assert!(refusal(r#"{"interval_ms": 60001}"#).contains("interval_ms is 60001; 10..=60000"));
    assert!(refusal(r#"{"use_latest_packet": 1}"#).contains("expected a boolean"));
}
