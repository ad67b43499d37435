//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_stats::Stats;
use sandbar_sdk::serde_json::{self, Value, json};
use sandbar_sdk::testing::{Drive, Feed, Harness, Setup, packet};
use sandbar_sdk::{Binding, HeaderBuf, Refusal, RtcpAccess, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const FEC: u32 = 0x3333;
/// Of this side's RTCP.
const OURS: u32 = 1;
/// Setup's wall clock at its start, 2024-01-01T00:00:00Z, in milliseconds since 1970.
const START: f64 = 1_704_067_200_000.0;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn plain() -> StreamInfo {
    StreamInfo {
        id: "camera".into(),
        ssrc: SSRC,
        clock_rate: 90_000,
        mime_type: "video/VP8".into(),
        ..StreamInfo::default()
    }
}

fn rich() -> StreamInfo {
    StreamInfo {
        ssrc_retransmission: Some(RTX),
        payload_type_retransmission: Some(97),
        ssrc_forward_error_correction: Some(FEC),
        ..plain()
    }
}

/// Without publishing.
fn quiet() -> Harness<Stats> {
    Harness::new(r#"{"interval_ms": 0}"#).unwrap()
}

fn listening(info: &StreamInfo) -> (Harness<Stats>, StreamId) {
    let mut harness = quiet();
    let stream = harness.bind_remote_stream(info).unwrap();
    (harness, stream)
}

fn speaking(info: &StreamInfo) -> (Harness<Stats>, StreamId) {
    let mut harness = quiet();
    let stream = harness.bind_local_stream(info).unwrap();
    (harness, stream)
}

fn all(harness: &mut dyn Drive) -> Vec<Value> {
    serde_json::from_str(&harness.control("stats").unwrap()).unwrap()
}

/// The object of this type.
fn object(harness: &mut dyn Drive, r#type: &str) -> Value {
    let objects = all(harness);
    let mut found = objects.into_iter().filter(|object| object["type"] == r#type);
    let object = found.next().unwrap_or_else(|| panic!("no {}", r#type));
    assert!(found.next().is_none(), "several {}", r#type);
    object
}

/// Whether the object has all of this.
#[track_caller]
fn has(object: &Value, expected: Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&object[key], value, "{key} of {object:#}");
    }
}

fn sender_report(ssrc: u32, ntp: u64, packets: u32, octets: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(ntp.to_be_bytes());
    for word in [0, packets, octets] {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// A receiver report of the peer's about a stream.
fn receiver_report(ssrc: u32, fraction: u8, lost: u32, highest: u32, jitter: u32, lsr: u32, dlsr_ms: u32) -> Vec<u8> {
    let mut bytes = vec![0x81, 201, 0, 7, 0, 0, 0, 9];
    for word in [ssrc, u32::from(fraction) << 24 | lost, highest, jitter, lsr, dlsr_ms * 65_536 / 1000] {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

fn feedback(packet_type: u8, format: u8, media: u32, rest: &[u8]) -> Vec<u8> {
    let words = 2 + rest.len() / 4;
    [&[0x80 | format, packet_type, 0, words as u8, 0, 0, 0, 9][..], &media.to_be_bytes(), rest].concat()
}

fn nack(media: u32) -> Vec<u8> {
    feedback(205, 1, media, &[0, 9, 0, 1])
}

fn pli(media: u32) -> Vec<u8> {
    feedback(206, 1, media, &[])
}

fn fir(media: u32) -> Vec<u8> {
    feedback(206, 4, 0, &[&media.to_be_bytes()[..], &[1, 0, 0, 0]].concat())
}

#[test]
fn everything_is_observed_and_nothing_more() {
    let (mut harness, stream) = listening(&plain());
    let local = harness.bind_local_stream(&plain()).unwrap();
    assert_eq!(harness.binding(stream), Some(Binding::FOLLOW));
    assert_eq!(harness.binding(local), Some(Binding::FOLLOW));
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Observe, RtcpAccess::Observe));
}

#[test]
fn what_is_received_is_counted_as_webrtc_stats_has_it() {
    let (mut harness, stream) = listening(&plain());
    for number in [65_534, 65_535, 1, 2, 2, 0xfff0] {
        harness.advance(ms(10));
        harness.read(stream, packet(SSRC, number, &[7; 100]));
    }
    let inbound = object(&mut harness, "inbound-rtp");
    has(
        &inbound,
        json!({
            "id": "inbound-rtp-4369", "ssrc": SSRC, "kind": "video", "trackIdentifier": "camera",
            "packetsReceived": 6, "packetsLost": -1, "bytesReceived": 600, "headerBytesReceived": 72,
            "timestamp": START + 60.0, "lastPacketReceivedTimestamp": START + 60.0,
            "nackCount": 0, "pliCount": 0, "firCount": 0,
        }),
    );
    for absent in ["rtxSsrc", "retransmittedPacketsReceived", "fecSsrc", "remoteId"] {
        assert_eq!(inbound[absent], Value::Null, "{absent} has not been negotiated or heard");
    }
}

#[test]
fn rfc_3550_a_8_jitter_is_in_seconds_and_taken_at_arrival() {
    let (mut harness, stream) = listening(&plain());
    let begin = harness.now();
    for (number, millis) in [(0u16, 0), (1, 36), (2, 56)] {
        let mut header = HeaderBuf::new(96, SSRC);
        header.edit().set_sequence_number(number);
        header.edit().set_timestamp(u32::from(number) * 1800);
        // Seen later than it came, as behind a jitter buffer.
        harness.advance_to(begin + ms(500));
        harness.read(stream, Feed::new(header.as_bytes()).at(begin + ms(millis)));
    }
    let jitter = object(&mut harness, "inbound-rtp")["jitter"].as_f64().unwrap();
    assert!((jitter - 0.016 / 16.0 * 15.0 / 16.0).abs() < 1e-9, "{jitter}");
}

#[test]
fn rfc_4588_retransmissions_are_received_and_lower_no_loss() {
    let (mut harness, stream) = listening(&rich());
    for number in [1, 2, 5] {
        harness.read(stream, packet(SSRC, number, &[7; 100]));
    }
    harness.read(stream, Feed::new(packet(SSRC, 3, &[7; 50])).repaired());
    harness.read(stream, packet(RTX, 900, &[7; 30]));
    harness.read(stream, packet(FEC, 40, &[7; 20]));
    has(
        &object(&mut harness, "inbound-rtp"),
        json!({
            "packetsReceived": 6, "packetsLost": 2, "bytesReceived": 400, "headerBytesReceived": 72,
            "retransmittedPacketsReceived": 2, "retransmittedBytesReceived": 80, "rtxSsrc": RTX,
            "fecPacketsReceived": 1, "fecBytesReceived": 20, "fecSsrc": FEC,
        }),
    );
}

#[test]
fn what_was_restored_from_repair_packets_was_not_received() {
    let (mut harness, stream) = listening(&StreamInfo { ssrc_retransmission: None, ..rich() });
    for number in [1, 3] {
        harness.read(stream, packet(SSRC, number, &[7; 100]));
    }
    harness.read(stream, Feed::new(packet(SSRC, 2, &[7; 100])).repaired());
    has(&object(&mut harness, "inbound-rtp"), json!({ "packetsReceived": 2, "packetsLost": 1 }));
}

#[test]
fn what_is_sent_is_counted_as_webrtc_stats_has_it() {
    let (mut harness, stream) = speaking(&rich());
    for number in 1..=3 {
        harness.write(stream, packet(SSRC, number, &[7; 100]));
    }
    harness.write(stream, packet(RTX, 77, &[7; 102]));
    harness.write(stream, packet(FEC, 5, &[7; 40]));
    has(
        &object(&mut harness, "outbound-rtp"),
        json!({
            "id": "outbound-rtp-4369", "kind": "video", "packetsSent": 4, "bytesSent": 402, "headerBytesSent": 48,
            "retransmittedPacketsSent": 1, "retransmittedBytesSent": 102, "rtxSsrc": RTX,
        }),
    );
}

#[test]
fn without_rtx_what_is_sent_again_is_a_retransmission() {
    let (mut harness, stream) = speaking(&plain());
    for number in [1, 2, 3, 2] {
        harness.write(stream, packet(SSRC, number, &[7; 100]));
    }
    let outbound = object(&mut harness, "outbound-rtp");
    has(&outbound, json!({ "packetsSent": 4, "retransmittedPacketsSent": 1, "retransmittedBytesSent": 100 }));
    assert_eq!(outbound["rtxSsrc"], Value::Null);
}

#[test]
fn requests_count_for_whom_they_are_about() {
    let (mut harness, _) = listening(&plain());
    harness.bind_local_stream(&StreamInfo { ssrc: 5, ..plain() }).unwrap();
    harness.write_rtcp([nack(SSRC), nack(SSRC), pli(SSRC), fir(SSRC), nack(5), nack(99)].concat());
    harness.read_rtcp([nack(5), pli(5), pli(5), fir(5), fir(5), fir(5), pli(SSRC)].concat());
    has(&object(&mut harness, "inbound-rtp"), json!({ "nackCount": 2, "pliCount": 1, "firCount": 1 }));
    has(&object(&mut harness, "outbound-rtp"), json!({ "nackCount": 1, "pliCount": 2, "firCount": 3 }));
}

#[test]
fn there_are_no_picture_requests_for_audio() {
    let (mut harness, _) = listening(&StreamInfo { mime_type: "audio/opus".into(), ..plain() });
    harness.write_rtcp([nack(SSRC), pli(SSRC)].concat());
    let inbound = object(&mut harness, "inbound-rtp");
    has(&inbound, json!({ "kind": "audio", "nackCount": 1 }));
    assert!(inbound.get("pliCount").is_none() && inbound.get("firCount").is_none());
}

#[test]
fn the_peers_sender_reports_are_told() {
    let (mut harness, _) = listening(&plain());
    harness.read_rtcp(sender_report(SSRC, 0, 1, 2));
    assert!(object(&mut harness, "remote-outbound-rtp").get("remoteTimestamp").is_none(), "it has no clock");
    harness.advance(ms(250));
    let half_past = (Setup::default().ntp + (60 << 32)) | 1 << 31;
    harness.read_rtcp(sender_report(SSRC, half_past, 1000, 120_000));
    has(
        &object(&mut harness, "remote-outbound-rtp"),
        json!({
            "id": "remote-outbound-rtp-4369", "localId": "inbound-rtp-4369", "ssrc": SSRC, "kind": "video",
            "packetsSent": 1000, "bytesSent": 120_000, "reportsSent": 2,
            "timestamp": START + 250.0, "remoteTimestamp": START + 60_500.0,
            "totalRoundTripTime": 0.0, "roundTripTimeMeasurements": 0,
        }),
    );
    assert_eq!(object(&mut harness, "inbound-rtp")["remoteId"], "remote-outbound-rtp-4369");
}

#[test]
fn the_peers_reports_are_told_with_the_round_trip_to_it() {
    let (mut harness, stream) = speaking(&plain());
    for number in [65_530, 65_531] {
        harness.write(stream, packet(SSRC, number, b"media"));
    }
    // Five reports, of which the peer answers the first after 900 ms.
    for second in 0..5u64 {
        harness.write_rtcp(sender_report(SSRC, (second + 1) << 32, 2, 10));
        harness.advance(ms(100));
    }
    harness.advance(ms(500));
    harness.read_rtcp(receiver_report(SSRC, 64, 2, 0x1_0003, 900, 1 << 16, 900));
    let remote = object(&mut harness, "remote-inbound-rtp");
    has(
        &remote,
        json!({
            "id": "remote-inbound-rtp-4369", "localId": "outbound-rtp-4369", "packetsReceived": 8, "packetsLost": 2,
            "fractionLost": 0.25, "jitter": 0.01, "roundTripTimeMeasurements": 1, "timestamp": START + 1000.0,
        }),
    );
    let seconds = remote["roundTripTime"].as_f64().unwrap();
    assert!((seconds - 0.1).abs() < 0.0001 && remote["totalRoundTripTime"] == remote["roundTripTime"], "{seconds}");
    assert_eq!(object(&mut harness, "outbound-rtp")["remoteId"], "remote-inbound-rtp-4369");

    // A sixth report pushes the first one out, and a report that answers none is no measurement.
    harness.write_rtcp(sender_report(SSRC, 6 << 32, 2, 10));
    harness.read_rtcp(receiver_report(SSRC, 0, 2, 0x1_0003, 900, 1 << 16, 900));
    harness.read_rtcp(receiver_report(SSRC, 0, 0xff_fffe, 0x1_0003, 900, 0, 0));
    has(
        &object(&mut harness, "remote-inbound-rtp"),
        json!({ "roundTripTimeMeasurements": 1, "fractionLost": 0.0, "packetsLost": -2, "packetsReceived": 12 }),
    );
}

#[test]
fn behind_the_reports_sender_the_wall_clock_tells_the_round_trip() {
    let (mut harness, _) = speaking(&plain());
    let left = (Setup::default().ntp >> 16) as u32;
    harness.advance(ms(1000));
    harness.read_rtcp(receiver_report(SSRC, 0, 0, 9, 0, left, 960));
    let seconds = object(&mut harness, "remote-inbound-rtp")["roundTripTime"].as_f64().unwrap();
    assert!((seconds - 0.04).abs() < 0.0001, "{seconds}");
}

#[test]
fn rfc_3611_4_5_the_round_trip_to_a_sender_is_taken_from_its_answer_to_a_reference_time() {
    let (mut harness, _) = listening(&plain());
    harness.read_rtcp(sender_report(SSRC, 1 << 32, 1, 2));
    let reference = [&[0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2][..], &(7u64 << 32).to_be_bytes()].concat();
    harness.write_rtcp(reference);
    harness.advance(ms(300));
    let answer = |receiver: u32| {
        let head = [&[0x80, 207, 0, 5][..], &SSRC.to_be_bytes(), &[5, 0, 0, 3]].concat();
        let rest = [receiver, 7 << 16, 65_536 / 4].map(u32::to_be_bytes).concat();
        [head, rest].concat()
    };
    harness.read_rtcp(answer(77));
    assert!(object(&mut harness, "remote-outbound-rtp").get("roundTripTime").is_none(), "it is another's");
    harness.read_rtcp(answer(OURS));
    let remote = object(&mut harness, "remote-outbound-rtp");
    let seconds = remote["roundTripTime"].as_f64().unwrap();
    assert!((seconds - 0.05).abs() < 0.0001, "{seconds}");
    assert_eq!(remote["roundTripTimeMeasurements"], 1);
}

#[test]
fn what_is_published_is_what_is_asked_for_and_as_often_as_wanted() {
    let mut harness = Harness::<Stats>::new("{}").unwrap();
    harness.advance(ms(5000));
    assert_eq!(harness.next_timeout(), None, "without streams there is nothing to tell");
    let stream = harness.bind_remote_stream(&plain()).unwrap();
    harness.read(stream, packet(SSRC, 1, b"media"));
    harness.advance(ms(2999));
    let published = harness.published();
    assert_eq!(published.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["stats", "stats"]);
    harness.advance(ms(1));
    let (_, last) = harness.published().remove(0);
    assert_eq!(last, harness.control(" stats\n").unwrap());
    assert_eq!(last, harness.control("").unwrap());
    assert!(harness.control("everything").is_err());
    harness.unbind_stream(stream);
    assert_eq!((harness.next_timeout(), harness.control("").unwrap().as_str()), (None, "[]"));
}

#[test]
fn many_streams_take_several_documents_that_the_host_takes() {
    let mut harness = Harness::<Stats>::new("{}").unwrap();
    for ssrc in 0..300 {
        harness.bind_remote_stream(&StreamInfo { ssrc, ..plain() }).unwrap();
    }
    harness.advance(ms(1000));
    let published = harness.published();
    assert!(published.len() > 1 && published.iter().all(|(_, json)| json.len() <= 64 << 10), "{}", published.len());
    let lists = published.iter().map(|(_, json)| serde_json::from_str::<Vec<Value>>(json).unwrap());
    let ssrcs: Vec<_> = lists.flatten().map(|object| object["ssrc"].as_u64().unwrap()).collect();
    assert_eq!(ssrcs, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_stream_begins_and_ends_with_its_binding() {
    let (mut harness, stream) = listening(&plain());
    harness.read(stream, packet(SSRC, 1, b"media"));
    harness.unbind_stream(stream);
    harness.read_rtcp([sender_report(SSRC, 1, 2, 3), nack(SSRC)].concat());
    assert_eq!(all(&mut harness), Vec::<Value>::new());
    harness.bind_remote_stream(&plain()).unwrap();
    has(&object(&mut harness, "inbound-rtp"), json!({ "packetsReceived": 0, "packetsLost": 0, "jitter": 0.0 }));
}

#[test]
fn broken_rtcp_counts_as_far_as_it_can_be_read() {
    let (mut harness, _) = listening(&plain());
    harness.bind_local_stream(&plain()).unwrap();
    let mut compound = [sender_report(SSRC, 1 << 32, 5, 6), receiver_report(SSRC, 1, 1, 9, 1, 1, 1)].concat();
    compound.extend([fir(SSRC), nack(SSRC), pli(SSRC)].concat());
    compound.extend([0x80, 207, 0, 4, 0, 0, 0, 9, 5, 0, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]);
    for length in 0..=compound.len() {
        harness.read_rtcp(&compound[..length]);
        harness.write_rtcp(&compound[..length]);
    }
    for at in 0..compound.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = compound.clone();
            broken[at] = value;
            harness.read_rtcp(&broken);
            harness.write_rtcp(&broken);
        }
    }
    for object in all(&mut harness) {
        let numbers = object.as_object().unwrap().values().filter_map(Value::as_f64);
        assert!(numbers.into_iter().all(f64::is_finite), "{object:#}");
    }
}

#[test]
fn a_successor_goes_on_counting() {
    let run = |swap: bool| {
        let mut harness = quiet();
        let mut streams = None;
        for step in 0..200u16 {
            if streams.is_none() {
                streams =
                    Some((harness.bind_remote_stream(&rich()).unwrap(), harness.bind_local_stream(&plain()).unwrap()));
            }
            let (remote, local) = streams.unwrap();
            if step % 7 != 3 {
                harness.read(remote, packet(SSRC, step, &[7; 100]));
            }
            harness.write(local, packet(SSRC, step, &[7; 50]));
            if step % 50 == 10 {
                let ntp = (u64::from(step) + 1) << 32;
                harness.write_rtcp([sender_report(SSRC, ntp, 1, 2), nack(SSRC)].concat());
                harness.read_rtcp(sender_report(SSRC, ntp, 3, 4));
            }
            if step % 50 == 40 {
                let lsr = (u32::from(step) - 29) << 16;
                harness.read_rtcp([receiver_report(SSRC, 9, 3, step.into(), 5, lsr, 200), pli(SSRC)].concat());
            }
            harness.advance(ms(11));
            if swap && step == 75 {
                let state = harness.save().unwrap();
                let elapsed = harness.now() - Setup::default().start;
                let ntp = Setup::default().ntp + ((elapsed.as_nanos() << 32) / 1_000_000_000) as u64;
                let setup = Setup { start: harness.now(), ntp, ..Setup::default() };
                harness = Harness::restored(setup, r#"{"interval_ms": 0}"#, &state).unwrap();
                streams = None;
            }
        }
        all(&mut harness)
    };
    let (swapped, unswapped) = (run(true), run(false));
    assert_eq!(unswapped.len(), 4);
    for (swapped, unswapped) in swapped.iter().zip(&unswapped) {
        for (key, value) in unswapped.as_object().unwrap() {
            match value.as_f64() {
                Some(number) => assert!((swapped[key].as_f64().unwrap() - number).abs() < 0.01, "{key}"),
                None => assert_eq!(&swapped[key], value, "{key}"),
            }
        }
    }
    assert!(Harness::<Stats>::restored(Setup::default(), "{}", b"[]").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<Stats>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"period": 5}"#).contains("unknown field `period`, expected `interval_ms`"));
    assert!(refusal(r#"{"interval_ms": 99}"#).contains("interval_ms is 99; 100..=3600000"));
}
