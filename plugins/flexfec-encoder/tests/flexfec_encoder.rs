//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use sandbar_plugin_flexfec_encoder::FlexfecEncoder;
use sandbar_sdk::testing::{Harness, Packet, Setup};
use sandbar_sdk::{Access, Binding, HeaderBuf, Refusal, RtpHeaderExtension, StreamId, StreamInfo, View};

const SSRC: u32 = 0x1111;
const REPAIR: u32 = 0x3333;
const REPAIR_TYPE: u8 = 118;
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ID: u8 = 5;

fn video() -> StreamInfo {
    StreamInfo {
        ssrc: SSRC,
        ssrc_forward_error_correction: Some(REPAIR),
        payload_type: 96,
        payload_type_forward_error_correction: Some(REPAIR_TYPE),
        ..StreamInfo::default()
    }
}

fn numbered() -> StreamInfo {
    let extension = RtpHeaderExtension { uri: TRANSPORT_CC.into(), id: ID };
    StreamInfo { rtp_header_extensions: vec![extension], ..video() }
}

fn bound(config: &str, info: &StreamInfo) -> (Harness<FlexfecEncoder>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_local_stream(info).unwrap();
    (harness, stream)
}

/// A packet with something of its own in each field; every third has the marker.
fn media(number: u16) -> Vec<u8> {
    let mut header = HeaderBuf::new(96 + (number % 2) as u8, SSRC);
    let mut edit = header.edit();
    edit.set_sequence_number(number);
    edit.set_timestamp(u32::from(number) * 3000);
    edit.set_marker(number.is_multiple_of(3));
    let len = 20 + usize::from(number) * 37 % 400;
    let payload = (0..len).map(|at| (at * 3 + usize::from(number)) as u8);
    header.as_bytes().iter().copied().chain(payload).collect()
}

/// Writes packets, each of which has to leave as it is, and gives what was emitted.
fn write(harness: &mut Harness<FlexfecEncoder>, stream: StreamId, packets: &[Vec<u8>]) -> Vec<Packet> {
    for packet in packets {
        let on = harness.write(stream, packet);
        assert_eq!(on.iter().map(|on| &on.bytes).collect::<Vec<_>>(), [packet]);
    }
    harness.emitted_rtp()
}

/// The numbers that a repair packet of the shortest header protects (draft, 4.2).
fn protected(repair: &Packet) -> Vec<u16> {
    let payload = repair.payload();
    let (base, mask) = (u16::from_be_bytes([payload[16], payload[17]]), u16::from_be_bytes([payload[18], payload[19]]));
    assert_eq!(mask >> 15, 1, "a single mask");
    (0..15).filter(|bit| mask >> (14 - bit) & 1 == 1).map(|bit| base.wrapping_add(bit)).collect()
}

/// What is left of a repair packet when all packets but the one with this number are taken out of it (draft, 6.3).
fn restore(repair: &Packet, others: &[Vec<u8>], number: u16) -> Vec<u8> {
    let payload = repair.payload();
    let mut fields = payload[..8].to_vec();
    let mut rest = payload[20..].to_vec();
    for other in others {
        let len = (other.len() as u16 - 12).to_be_bytes();
        let string = [other[0] & 0x3F, other[1], len[0], len[1], other[4], other[5], other[6], other[7]];
        fields.iter_mut().zip(string).for_each(|(field, byte)| *field ^= byte);
        rest.iter_mut().zip(&other[12..]).for_each(|(parity, byte)| *parity ^= byte);
    }
    let len = usize::from(u16::from_be_bytes([fields[2], fields[3]]));
    assert!(rest[len..].iter().all(|byte| *byte == 0), "what is longer belongs to no one");
    let mut packet = vec![0x80 | fields[0], fields[1]];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&fields[4..8]);
    packet.extend_from_slice(&payload[12..16]);
    packet.extend_from_slice(&rest[..len]);
    packet
}

#[test]
fn only_streams_with_a_repair_ssrc_and_payload_type_are_bound_and_only_watched() {
    let observe = Binding { access: Access::Observe(View::Packets), ..Binding::PASS };
    let (mut harness, stream) = bound("{}", &video());
    assert_eq!(harness.binding(stream), Some(observe));
    for info in [
        StreamInfo { payload_type_forward_error_correction: None, ..video() },
        StreamInfo { ssrc_forward_error_correction: None, ..video() },
    ] {
        let stream = harness.bind_local_stream(&info).unwrap();
        assert_eq!(harness.binding(stream), Some(Binding::PASS));
    }
    let remote = harness.bind_remote_stream(&video()).unwrap();
    assert_eq!(harness.binding(remote), Some(Binding::PASS));
}

#[test]
fn two_repair_packets_follow_each_five_packets_in_a_stream_of_their_own() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (0..15u16).map(|n| media(65_530u16.wrapping_add(n))).collect();
    let mut numbers = Vec::new();
    for block in packets.chunks(5) {
        assert!(write(&mut harness, stream, &block[..4]).is_empty());
        let repairs = write(&mut harness, stream, &block[4..]);
        let first = u16::from_be_bytes([block[0][2], block[0][3]]);
        let at = |n: u16| first.wrapping_add(n);
        assert_eq!(repairs.iter().map(protected).collect::<Vec<_>>(), [vec![at(0), at(2), at(4)], vec![at(1), at(3)]]);
        for repair in &repairs {
            let header = repair.header();
            assert_eq!((header.ssrc(), header.payload_type(), header.len()), (REPAIR, REPAIR_TYPE, 12));
            assert!(!header.marker() && !header.padding());
            assert_eq!(header.timestamp(), u32::from(at(4)) * 3000, "the time at which it is sent");
            assert_eq!(repair.stream, Some(stream));
            numbers.push(header.sequence_number());
        }
    }
    let expected: Vec<_> = (0..6).map(|n| numbers[0].wrapping_add(n)).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn rfc_3550_5_1_repair_streams_begin_at_random() {
    let starts = [1, 2].map(|seed| {
        let mut harness = Harness::<FlexfecEncoder>::with(Setup { seed, ..Setup::default() }, "{}").unwrap();
        let stream = harness.bind_local_stream(&video()).unwrap();
        write(&mut harness, stream, &(0..5).map(media).collect::<Vec<_>>())[0].header().sequence_number()
    });
    assert_ne!(starts[0], starts[1]);
}

#[test]
fn draft_6_3_each_packet_is_what_is_left_of_its_repair_packet_without_the_others() {
    for (config, count) in [("{}", 5), (r#"{"media_packets": 13, "repair_packets": 3}"#, 13)] {
        let (mut harness, stream) = bound(config, &video());
        let packets: Vec<_> = (0..count).map(|n| media(65_530u16.wrapping_add(n))).collect();
        let repairs = write(&mut harness, stream, &packets);
        for repair in &repairs {
            let group: Vec<_> = protected(repair);
            for lost in &group {
                let others: Vec<_> =
                    group.iter().filter(|number| *number != lost).map(|number| media(*number)).collect();
                assert_eq!(restore(repair, &others, *lost), media(*lost));
            }
        }
        let covered: usize = repairs.iter().map(|repair| protected(repair).len()).sum();
        assert_eq!(covered, packets.len());
    }
}

#[test]
fn gaps_and_late_packets_stay_protected_and_a_jump_ends_the_block() {
    let (mut harness, stream) = bound("{}", &video());
    let of = |numbers: &[u16]| numbers.iter().map(|number| media(*number)).collect::<Vec<_>>();
    let repairs = write(&mut harness, stream, &of(&[10, 13, 12, 9, 20]));
    assert_eq!(repairs.iter().map(protected).collect::<Vec<_>>(), [vec![10, 12, 20], vec![9, 13]]);
    let repairs = write(&mut harness, stream, &of(&[30, 31, 32, 5000]));
    assert_eq!(repairs.iter().map(protected).collect::<Vec<_>>(), [vec![30, 32], vec![31]]);
    let repairs = write(&mut harness, stream, &of(&[5001, 33, 5001, 5002, 5003, 5004]));
    assert_eq!(repairs.iter().map(protected).collect::<Vec<_>>(), [vec![5000, 5002, 5004], vec![5001, 5003]]);
    assert_eq!(harness.counter("too_old"), 2);
}

#[test]
fn companions_of_the_stream_are_not_protected() {
    let (mut harness, stream) = bound(r#"{"media_packets": 1, "repair_packets": 1}"#, &video());
    let mut other = media(1);
    other[8..12].copy_from_slice(&REPAIR.to_be_bytes());
    assert!(write(&mut harness, stream, &[other]).is_empty());
    assert_eq!(write(&mut harness, stream, &[media(2)]).len(), 1);
}

#[test]
fn no_repair_packet_exceeds_the_mtu() {
    for (config, info, overhead) in [
        (r#"{"media_packets": 1, "repair_packets": 1}"#, video(), 20),
        (r#"{"media_packets": 16, "repair_packets": 1}"#, video(), 24),
        (r#"{"media_packets": 47, "repair_packets": 1}"#, video(), 32),
        // It may be numbered on its way, and what it protects may be, too.
        (r#"{"media_packets": 1, "repair_packets": 1}"#, numbered(), 20 + 8 + 8),
        (r#"{"media_packets": 1, "repair_packets": 1, "extensions": "zeroed"}"#, numbered(), 20 + 8),
    ] {
        let (mut harness, stream) = bound(config, &info);
        let packet = |number: u16, len: usize| {
            let mut packet = media(number);
            packet.resize(len, 7);
            packet
        };
        let (mut number, mut largest) = (0, 0);
        for len in 1100..=1200 {
            for _ in 0..48 {
                number += 1;
                for repair in write(&mut harness, stream, &[packet(number, len)]) {
                    largest = largest.max(repair.bytes.len() + if info == numbered() { 8 } else { 0 });
                }
            }
        }
        assert_eq!(largest, 1200, "{config}");
        assert_eq!(harness.counter("too_large"), overhead * 48, "{config}");
        assert_eq!(harness.counter("refused"), 0);
    }
}

#[test]
fn numbers_that_are_put_on_later_are_protected_as_zeros_in_their_place() {
    let one = r#"{"media_packets": 1, "repair_packets": 1}"#;
    let with = |config: &str, extensions: &[(u8, &[u8])]| {
        let (mut harness, stream) = bound(config, &numbered());
        let mut header = HeaderBuf::parse(media(1)).unwrap();
        for (id, value) in extensions {
            header.edit().set_extension(*id, value).unwrap();
        }
        let packet = [header.as_bytes(), b"media"].concat();
        let repairs = write(&mut harness, stream, &[packet]);
        restore(&repairs[0], &[], 1)
    };
    let mut zeros = HeaderBuf::parse(media(1)).unwrap();
    zeros.edit().set_extension(ID, &[0, 0]).unwrap();
    let zeros = [zeros.as_bytes(), b"media"].concat();
    // Whether the number is there already or comes later, and whatever it is.
    assert_eq!(with(one, &[(ID, &[0x12, 0x34])]), zeros);
    assert_eq!(with(one, &[]), zeros);
    // With another extension before it.
    let mut both = HeaderBuf::parse(media(1)).unwrap();
    both.edit().set_extension(3, b"other").unwrap();
    both.edit().set_extension(ID, &[0, 0]).unwrap();
    assert_eq!(with(one, &[(3, b"other")]), [both.as_bytes(), b"media"].concat());
    // Those who do not number.
    let zeroed = r#"{"media_packets": 1, "repair_packets": 1, "extensions": "zeroed"}"#;
    let plain = [&media(1)[..12], b"media"].concat();
    assert_eq!(with(zeroed, &[]), plain);
    assert_eq!(with(zeroed, &[(ID, &[0x12, 0x34])]), zeros);
    let kept = r#"{"media_packets": 1, "repair_packets": 1, "extensions": "kept"}"#;
    assert_eq!(with(kept, &[]), plain);
    assert!(with(kept, &[(ID, &[0x12, 0x34])]).windows(2).any(|bytes| bytes == [0x12, 0x34]));
}

#[test]
fn streams_keep_their_blocks_apart_and_forget_them_at_their_end() {
    let (mut harness, stream) = bound("{}", &video());
    let other = StreamInfo { ssrc: 0x2222, ssrc_forward_error_correction: Some(0x4444), ..video() };
    let other = harness.bind_local_stream(&other).unwrap();
    write(&mut harness, stream, &(0..4).map(media).collect::<Vec<_>>());
    let mut packet = media(4);
    packet[8..12].copy_from_slice(&0x2222u32.to_be_bytes());
    assert!(write(&mut harness, other, &[packet]).is_empty());
    harness.unbind_stream(stream);
    let again = harness.bind_local_stream(&video()).unwrap();
    assert!(write(&mut harness, again, &[media(4)]).is_empty());
    assert_eq!(write(&mut harness, again, &(5..9).map(media).collect::<Vec<_>>()).len(), 2);
}

#[test]
fn a_successors_repair_packets_go_on_in_sequence() {
    let (mut old, stream) = bound("{}", &video());
    let last = write(&mut old, stream, &(0..5).map(media).collect::<Vec<_>>())[1].header().sequence_number();
    let state = old.save().unwrap();
    let setup = Setup { seed: 99, ..Setup::default() };
    let mut new = Harness::<FlexfecEncoder>::restored(setup, "{}", &state).unwrap();
    let stream = new.bind_local_stream(&video()).unwrap();
    let next = write(&mut new, stream, &(5..10).map(media).collect::<Vec<_>>())[0].header().sequence_number();
    assert_eq!(next, last.wrapping_add(1));
    assert!(Harness::<FlexfecEncoder>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<FlexfecEncoder>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"size": 5}"#).contains("unknown field `size`, expected one of `media_packets`"));
    assert!(refusal(r#"{"media_packets": 0}"#).contains("media_packets is 0; 1..=48"));
    assert!(refusal(r#"{"media_packets": 49}"#).contains("media_packets is 49"));
    assert!(refusal(r#"{"repair_packets": 6}"#).contains("repair_packets is 6; 1..=5"));
    assert!(refusal(r#"{"repair_packets": 0}"#).contains("repair_packets is 0"));
    assert!(refusal(r#"{"extensions": "gone"}"#).contains(r#"extensions is "gone"; "reserved", "zeroed" or "kept""#));
}
