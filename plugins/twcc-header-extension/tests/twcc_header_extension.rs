//! The plugin as a host sees it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use sandbar_plugin_twcc_header_extension::{TwccHeaderExtension, URI};
use sandbar_sdk::testing::{Harness, Packet, Setup, packet};
use sandbar_sdk::{Binding, Header, HeaderBuf, Refusal, RtpHeaderExtension, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const FEC: u32 = 0x3333;

fn info(ssrc: u32, id: u8) -> StreamInfo {
    StreamInfo {
        ssrc,
        ssrc_retransmission: Some(RTX),
        ssrc_forward_error_correction: Some(FEC),
        rtp_header_extensions: vec![
            RtpHeaderExtension { uri: "urn:ietf:params:rtp-hdrext:sdes:mid".into(), id: 4 },
            RtpHeaderExtension { uri: URI.into(), id },
        ],
        ..StreamInfo::default()
    }
}

fn bound(id: u8) -> (Harness<TwccHeaderExtension>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_local_stream(&info(SSRC, id)).unwrap();
    (harness, stream)
}

fn number(packet: &Packet, id: u8) -> Option<u16> {
    packet.header().extension(id).map(|value| u16::from_be_bytes(value.try_into().unwrap()))
}

/// A packet with header extensions.
fn with_extensions(extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut header = HeaderBuf::new(96, SSRC);
    for (id, value) in extensions {
        header.edit().set_extension(*id, value).unwrap();
    }
    [header.as_bytes(), payload].concat()
}

#[test]
fn only_streams_with_the_extension_are_bound() {
    let (mut harness, stream) = bound(5);
    assert_eq!(harness.binding(stream), Some(Binding::stamp(5)));
    for other in [StreamInfo { rtp_header_extensions: Vec::new(), ..info(1, 5) }, info(2, 0)] {
        let other = harness.bind_local_stream(&other).unwrap();
        assert_eq!(harness.binding(other), Some(Binding::PASS));
    }
    let remote = harness.bind_remote_stream(&info(3, 5)).unwrap();
    assert_eq!(harness.binding(remote), Some(Binding::PASS));
}

#[test]
fn packets_are_numbered_in_the_order_in_which_they_leave() {
    let (mut harness, stream) = bound(5);
    for expected in 0..5 {
        let out = harness.write(stream, packet(SSRC, 1000 - expected, b"media"));
        assert_eq!(number(&out[0], 5), Some(expected));
        assert_eq!(out[0].payload(), b"media");
        assert_eq!(out[0].header().sequence_number(), 1000 - expected);
    }
}

#[test]
fn draft_2_one_sequence_for_all_streams() {
    let (mut harness, first) = bound(5);
    let second = harness.bind_local_stream(&info(7, 9)).unwrap();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(number(&harness.write(first, packet(SSRC, 0, b""))[0], 5));
        numbers.push(number(&harness.write(second, packet(7, 0, b""))[0], 9));
    }
    assert_eq!(numbers, (0..6).map(Some).collect::<Vec<_>>());
}

#[test]
fn retransmissions_and_repair_packets_are_transmissions() {
    let (mut harness, stream) = bound(5);
    let numbers: Vec<_> =
        [SSRC, RTX, FEC, SSRC].map(|ssrc| number(&harness.write(stream, packet(ssrc, 0, b""))[0], 5)).into();
    assert_eq!(numbers, (0..4).map(Some).collect::<Vec<_>>());
}

#[test]
fn the_number_wraps() {
    let mut harness = Harness::<TwccHeaderExtension>::new(r#"{"initial_sequence_number": 65535}"#).unwrap();
    let stream = harness.bind_local_stream(&info(SSRC, 5)).unwrap();
    let numbers: Vec<_> = (0..2).map(|_| number(&harness.write(stream, packet(SSRC, 0, b""))[0], 5)).collect();
    assert_eq!(numbers, [Some(65_535), Some(0)]);
}

#[test]
fn a_number_that_is_there_is_replaced_in_place() {
    let (mut harness, stream) = bound(5);
    let bytes = with_extensions(&[(4, b"mid"), (5, &[0xff, 0xff]), (1, &[7])], b"media");
    let out = harness.write(stream, &bytes);
    assert_eq!(out[0].bytes.len(), bytes.len());
    assert_eq!(number(&out[0], 5), Some(0));
    assert_eq!((out[0].header().extension(4), out[0].header().extension(1)), (Some(&b"mid"[..]), Some(&[7][..])));
    assert_eq!(out[0].payload(), b"media");
}

#[test]
fn rfc_8285_the_number_joins_what_is_there_in_its_form() {
    let one_byte = with_extensions(&[(4, b"mid")], b"media");
    let two_byte = with_extensions(&[(20, b"mid")], b"media");
    for (bytes, other) in [(one_byte, 4), (two_byte, 20)] {
        let (mut harness, stream) = bound(5);
        let out = harness.write(stream, &bytes);
        assert_eq!((number(&out[0], 5), out[0].header().extension(other)), (Some(0), Some(&b"mid"[..])));
        let profile = |bytes: &[u8]| [bytes[12], bytes[13]];
        assert_eq!(profile(&out[0].bytes), profile(&bytes));
        assert_eq!(out[0].payload(), b"media");
    }
}

#[test]
fn rfc_8285_4_3_an_id_beyond_14_takes_the_two_byte_form() {
    let (mut harness, stream) = bound(15);
    let out = harness.write(stream, packet(SSRC, 0, b"media"));
    assert_eq!(out[0].bytes[12..16], [0x10, 0, 0, 1]);
    assert_eq!(number(&out[0], 15), Some(0));
}

#[test]
fn what_has_no_place_for_a_number_goes_without_and_uses_none() {
    let (mut harness, stream) = bound(5);
    // Another profile, and an element that ends outside of its block.
    for block in [[0xab, 0xcd, 0, 1, 1, 2, 3, 4], [0xbe, 0xde, 0, 1, 0x2f, 2, 3, 4]] {
        let mut bytes = packet(SSRC, 0, b"");
        bytes[0] |= 0x10;
        bytes.extend_from_slice(&block);
        assert_eq!(harness.write(stream, &bytes)[0].bytes, bytes);
    }
    assert_eq!(number(&harness.write(stream, packet(SSRC, 0, b""))[0], 5), Some(0));
    assert_eq!(harness.unstamped(), 2);
}

#[test]
fn a_packet_never_grows_beyond_the_mtu() {
    let (mut harness, stream) = bound(5);
    for payload in 1170..=1188 {
        let out = harness.write(stream, packet(SSRC, 0, &vec![7; payload]));
        assert!(out[0].bytes.len() <= 1200);
        assert_eq!(number(&out[0], 5).is_some(), payload + 12 + 8 <= 1200);
    }
    let no_room = with_extensions(&[(4, &[1]), (5, &[1])], &[7; 1180]);
    assert_eq!(harness.write(stream, &no_room)[0].bytes, no_room);
    let room = with_extensions(&[(4, &[1]), (5, &[1, 1, 1])], &[7; 1176]);
    let out = harness.write(stream, &room);
    assert!(out[0].bytes.len() == 1200 && number(&out[0], 5).is_some());
    let full = with_extensions(&[(5, &[1, 1])], &[7; 1180]);
    let before = harness.unstamped();
    assert!(number(&harness.write(stream, &full)[0], 5).is_some());
    assert_eq!(harness.unstamped(), before);
}

#[test]
fn an_unbound_streams_packets_take_no_numbers() {
    let (mut harness, first) = bound(5);
    let second = harness.bind_local_stream(&info(7, 5)).unwrap();
    harness.write(first, packet(SSRC, 0, b""));
    harness.unbind_stream(first);
    assert_eq!(number(&harness.write(second, packet(7, 0, b""))[0], 5), Some(1));
}

#[test]
fn a_successor_goes_on_counting() {
    let (mut old, stream) = bound(5);
    for _ in 0..300 {
        old.write(stream, packet(SSRC, 0, b""));
    }
    let state = old.save().unwrap();
    let config = r#"{"initial_sequence_number": 7}"#;
    let mut new = Harness::<TwccHeaderExtension>::restored(Setup::default(), config, &state).unwrap();
    let stream = new.bind_local_stream(&info(SSRC, 5)).unwrap();
    assert_eq!(number(&new.write(stream, packet(SSRC, 0, b""))[0], 5), Some(300));
    assert!(Harness::<TwccHeaderExtension>::restored(Setup::default(), "{}", b"[]").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<TwccHeaderExtension>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"start": 5}"#).contains("unknown field `start`, expected `initial_sequence_number`"));
    assert!(refusal(r#"{"initial_sequence_number": 65536}"#).contains("65536"));
}

/// Whatever the header is like, what leaves is a header with the same fields.
#[test]
fn every_header_stays_valid() {
    let mut seed = 9u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut harness, stream) = bound(5);
    for _ in 0..5000 {
        let mut bytes = vec![0x80 | random(16) as u8 | (random(2) as u8) << 4, 96];
        bytes.resize(12 + 4 * usize::from(bytes[0] & 0x0f), 1);
        bytes[8..12].copy_from_slice(&SSRC.to_be_bytes());
        if bytes[0] & 0x10 != 0 {
            let words = random(6) as u8;
            bytes.extend_from_slice(if random(2) == 0 { &[0xbe, 0xde] } else { &[0x10, 0x07] });
            bytes.extend_from_slice(&[0, words]);
            bytes.extend((0..4 * words).map(|_| random(256) as u8 & random(256) as u8));
        }
        bytes.extend_from_slice(b"media");
        let out = harness.write(stream, &bytes);
        let (before, after) = (Header::parse(&bytes).unwrap(), out[0].header());
        assert_eq!((after.ssrc(), after.csrcs().collect::<Vec<_>>()), (SSRC, before.csrcs().collect()));
        assert_eq!(out[0].payload(), b"media");
        for (id, value) in before.extensions().filter(|(id, _)| *id != 5) {
            assert!(after.extensions().any(|extension| extension == (id, value)));
        }
    }
}
