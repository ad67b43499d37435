//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use sandbar_plugin_red_encoder::RedEncoder;
use sandbar_sdk::testing::{Harness, Packet, Setup};
use sandbar_sdk::{Access, Binding, HeaderBuf, Refusal, StreamId, StreamInfo, View};

const SSRC: u32 = 0x1111;
const OPUS: u8 = 111;
const RED: u8 = 63;

fn audio() -> StreamInfo {
    StreamInfo {
        ssrc: SSRC,
        payload_type: RED,
        mime_type: "audio/red".into(),
        clock_rate: 48_000,
        sdp_fmtp_line: "111/111".into(),
        ..StreamInfo::default()
    }
}

fn bound(config: &str) -> (Harness<RedEncoder>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_local_stream(&audio()).unwrap();
    (harness, stream)
}

/// Frames of 20 ms, so that number 0 has timestamp 0.
fn frame(payload_type: u8, number: u16, media: &[u8]) -> Vec<u8> {
    let mut header = HeaderBuf::new(payload_type, SSRC);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp((number as i16 as u32).wrapping_mul(960));
    [header.as_bytes(), media].concat()
}

fn opus(number: u16, media: &[u8]) -> Vec<u8> {
    frame(OPUS, number, media)
}

fn write(harness: &mut Harness<RedEncoder>, stream: StreamId, packet: Vec<u8>) -> Packet {
    let mut on = harness.write(stream, packet);
    assert_eq!(on.len(), 1, "one packet stays one packet");
    on.remove(0)
}

/// Blocks of a RED payload (RFC 2198, 3): payload type, timestamp offset and bytes; the packet's own comes last.
fn blocks(mut payload: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut heads = Vec::new();
    while payload[0] & 0x80 != 0 {
        let word = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
        heads.push((payload[0] & 0x7F, word >> 10 & 0x3FFF, word as usize & 0x3FF));
        payload = &payload[4..];
    }
    let own = payload[0];
    payload = &payload[1..];
    let mut blocks = Vec::new();
    for (payload_type, offset, len) in heads {
        let (block, rest) = payload.split_at(len);
        blocks.push((payload_type, offset, block.to_vec()));
        payload = rest;
    }
    blocks.push((own, 0, payload.to_vec()));
    blocks
}

#[test]
fn only_streams_that_are_red_are_bound() {
    let (mut harness, stream) = bound("{}");
    let transform = Binding { access: Access::Transform(View::Packets), ..Binding::PASS };
    assert_eq!(harness.binding(stream), Some(transform));
    for (mime, fmtp, binding) in [
        ("audio/opus", "minptime=10;useinbandfec=1", Binding::PASS),
        ("audio/opus", "111/111", Binding::PASS),
        ("", "", Binding::PASS),
        ("", "111/111", transform),
        ("audio/RED", "", transform),
    ] {
        let info = StreamInfo { ssrc: 5, mime_type: mime.into(), sdp_fmtp_line: fmtp.into(), ..audio() };
        let stream = harness.bind_local_stream(&info).unwrap();
        assert_eq!(harness.binding(stream), Some(binding), "{mime} {fmtp}");
    }
    let remote = harness.bind_remote_stream(&audio()).unwrap();
    assert_eq!(harness.binding(remote), Some(Binding::PASS));
}

#[test]
fn each_packet_repeats_the_frame_before_it() {
    let (mut harness, stream) = bound("{}");
    for number in 65_533..=65_538u32 {
        let number = number as u16;
        let sent = write(&mut harness, stream, opus(number, &number.to_be_bytes()));
        let header = sent.header();
        assert_eq!((header.sequence_number(), header.payload_type(), header.ssrc()), (number, RED, SSRC));
        let own = (OPUS, 0, number.to_be_bytes().to_vec());
        let before = (OPUS, 960, number.wrapping_sub(1).to_be_bytes().to_vec());
        let expected = if number == 65_533 { vec![own] } else { vec![before, own] };
        assert_eq!(blocks(sent.payload()), expected);
    }
}

#[test]
fn as_many_frames_are_repeated_as_the_operator_wants_oldest_first() {
    let (mut harness, stream) = bound(r#"{"redundancy": 4}"#);
    let last = (0..9).map(|n| write(&mut harness, stream, opus(n, &[n as u8; 50]))).last().unwrap();
    let offsets: Vec<_> = blocks(last.payload()).iter().map(|(_, offset, media)| (*offset, media[0])).collect();
    assert_eq!(offsets, [(3840, 4), (2880, 5), (1920, 6), (960, 7), (0, 8)]);
    assert_eq!(last.bytes.len(), 12 + 4 * 4 + 1 + 5 * 50);
}

#[test]
fn the_rest_of_the_packet_stays_as_it_is() {
    let (mut harness, stream) = bound("{}");
    write(&mut harness, stream, opus(1, b"first"));
    let mut header = HeaderBuf::parse(opus(2, b"")).unwrap();
    header.edit().set_marker(true);
    header.edit().set_extension(3, b"ext").unwrap();
    let mut packet = [header.as_bytes(), b"second\0\0\x03"].concat();
    // Padding of three bytes.
    packet[0] |= 0x20;
    let sent = write(&mut harness, stream, packet);
    let after = sent.header();
    assert!(after.marker() && after.padding());
    assert_eq!((after.extension(3), after.timestamp()), (Some(&b"ext"[..]), 1920));
    let (red, padding) = sent.payload().split_at(sent.payload().len() - 3);
    assert_eq!(padding, b"\0\0\x03");
    assert_eq!(blocks(red), [(OPUS, 960, b"first".to_vec()), (OPUS, 0, b"second".to_vec())]);
}

#[test]
fn what_is_red_already_or_not_in_the_list_goes_by() {
    let (mut harness, stream) = bound("{}");
    write(&mut harness, stream, opus(1, b"first"));
    for other in [frame(RED, 2, b"\x6fred"), frame(126, 3, b"tone")] {
        assert_eq!(write(&mut harness, stream, other.clone()).bytes, other);
    }
    let sent = write(&mut harness, stream, opus(4, b"fourth"));
    assert_eq!(blocks(sent.payload()).len(), 1, "its predecessor was not opus");
    harness.unbind_stream(stream);
    let mut foreign = opus(5, b"fifth");
    foreign[11] = 0x12;
    let info = StreamInfo { ssrc_retransmission: Some(0x1112), ..audio() };
    let other = harness.bind_local_stream(&info).unwrap();
    assert_eq!(write(&mut harness, other, foreign.clone()).bytes, foreign);
}

#[test]
fn rfc_2198_3_a_frame_that_no_block_can_hold_is_left_out() {
    let (mut harness, stream) = bound(r#"{"redundancy": 2}"#);
    let mut counts = Vec::new();
    // Of 1023 bytes one can, of 1024 none.
    for (number, len) in [(1, 30), (2, 1024), (3, 30), (4, 1023), (5, 30), (6, 0), (7, 30)] {
        let sent = write(&mut harness, stream, opus(number, &vec![1; len]));
        assert!(sent.bytes.len() <= 1200);
        counts.push(blocks(sent.payload()).len());
    }
    assert_eq!(counts, [1, 2, 1, 2, 3, 3, 1]);
    // After a pause of 16384 units a frame is too old to be repeated, after one less it is not.
    for (pause, expected) in [(16_383, 2), (16_384, 1)] {
        let (mut harness, stream) = bound("{}");
        let mut second = opus(2, b"second");
        second[4..8].copy_from_slice(&(960u32 + pause).to_be_bytes());
        write(&mut harness, stream, opus(1, b"first"));
        let sent = write(&mut harness, stream, second);
        assert_eq!(blocks(sent.payload()).len(), expected, "{pause}");
    }
}

#[test]
fn no_packet_exceeds_the_mtu_and_room_for_a_number_is_left() {
    for padding in [0, 5] {
        for len in 1..1188 {
            let (mut harness, stream) = bound(r#"{"redundancy": 4}"#);
            for number in 0..6 {
                let mut packet = opus(number, &vec![number as u8; len.min(1188 - padding)]);
                if padding > 0 {
                    packet[0] |= 0x20;
                    packet.extend_from_slice(&[0, 0, 0, 0, padding as u8]);
                }
                let size = packet.len();
                let sent = write(&mut harness, stream, packet);
                if sent.header().payload_type() == RED {
                    assert!(sent.bytes.len() <= 1192, "{} bytes", sent.bytes.len());
                } else {
                    assert!(sent.bytes.len() == size && size + 1 > 1192);
                }
            }
        }
    }
}

#[test]
fn a_packet_that_is_too_large_for_red_goes_as_it_is() {
    let (mut harness, stream) = bound("{}");
    write(&mut harness, stream, opus(1, b"first"));
    let large = opus(2, &[7; 1188]);
    assert_eq!(write(&mut harness, stream, large.clone()).bytes, large);
    assert_eq!(harness.counter("left_plain"), 1);
}

#[test]
fn streams_keep_their_frames_apart_and_forget_them_at_their_end() {
    let (mut harness, stream) = bound("{}");
    let mut other = audio();
    other.ssrc = 0x2222;
    let other = harness.bind_local_stream(&other).unwrap();
    write(&mut harness, stream, opus(1, b"first"));
    let mut second = opus(2, b"other");
    second[8..12].copy_from_slice(&0x2222u32.to_be_bytes());
    assert_eq!(blocks(write(&mut harness, other, second).payload()).len(), 1);
    harness.unbind_stream(stream);
    let again = harness.bind_local_stream(&audio()).unwrap();
    assert_eq!(blocks(write(&mut harness, again, opus(2, b"second")).payload()).len(), 1);
}

#[test]
fn a_successors_first_packet_repeats_its_predecessors_last_frame() {
    let (mut old, stream) = bound("{}");
    write(&mut old, stream, opus(1, b"first"));
    write(&mut old, stream, opus(2, b"second"));
    let state = old.save().unwrap();
    let mut new = Harness::<RedEncoder>::restored(Setup::default(), r#"{"redundancy": 2}"#, &state).unwrap();
    let stream = new.bind_local_stream(&audio()).unwrap();
    let sent = write(&mut new, stream, opus(3, b"third"));
    let expected = [(1920, &b"first"[..]), (960, b"second"), (0, b"third")];
    assert_eq!(blocks(sent.payload()), expected.map(|(offset, media)| (OPUS, offset, media.to_vec())));
    assert!(Harness::<RedEncoder>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<RedEncoder>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"size": 5}"#).contains("unknown field `size`, expected `redundancy`"));
    assert!(refusal(r#"{"redundancy": 0}"#).contains("redundancy is 0; 1..=4"));
    assert!(refusal(r#"{"redundancy": 5}"#).contains("redundancy is 5"));
}
