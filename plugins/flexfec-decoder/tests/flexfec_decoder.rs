//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;

use sandbar_plugin_flexfec_decoder::FlexfecDecoder;
use sandbar_plugin_flexfec_encoder::FlexfecEncoder;
use sandbar_sdk::testing::{Drive, Feed, Harness, Packet, Setup};
use sandbar_sdk::{Access, Binding, Header, HeaderBuf, Level, Refusal, RtpHeaderExtension, StreamId, StreamInfo, View};

const SSRC: u32 = 0x1111;
const REPAIR: u32 = 0x3333;
const REPAIR_TYPE: u8 = 118;
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
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

/// The same with transport-wide sequence numbers and another extension.
fn numbered() -> StreamInfo {
    let extension = |uri: &str, id| RtpHeaderExtension { uri: uri.into(), id };
    StreamInfo { rtp_header_extensions: vec![extension(TRANSPORT_CC, ID), extension(MID, 3)], ..video() }
}

fn bound(config: &str, info: &StreamInfo) -> (Harness<FlexfecDecoder>, StreamId) {
    let mut harness = Harness::new(config).unwrap();
    let stream = harness.bind_remote_stream(info).unwrap();
    (harness, stream)
}

/// A packet with something of its own in each field; every fourth has an extension, and every sixth padding.
fn media(number: u16) -> Vec<u8> {
    let mut header = HeaderBuf::new(96 + (number % 2) as u8, SSRC);
    let mut edit = header.edit();
    edit.set_sequence_number(number);
    edit.set_timestamp(u32::from(number) * 3000);
    edit.set_marker(number.is_multiple_of(3));
    if number.is_multiple_of(4) {
        edit.set_extension(3, b"mid").unwrap();
    }
    let len = 20 + usize::from(number) * 37 % 400;
    let payload = (0..len).map(|at| (at * 3 + usize::from(number)) as u8);
    let mut packet: Vec<u8> = header.as_bytes().iter().copied().chain(payload).collect();
    if number.is_multiple_of(6) {
        packet[0] |= 0x20;
        packet.extend_from_slice(&[0, 0, 0, 4]);
    }
    packet
}

/// The repair packets of an encoder for packets, as they are sent.
fn repairs(config: &str, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut encoder = Harness::<FlexfecEncoder>::new(config).unwrap();
    let stream = encoder.bind_local_stream(&video()).unwrap();
    for packet in packets {
        encoder.write(stream, packet);
    }
    encoder.emitted_rtp().into_iter().map(|packet| packet.bytes).collect()
}

/// What goes on and is emitted, in its order.
fn read(harness: &mut Harness<FlexfecDecoder>, stream: StreamId, packet: impl Into<Feed>) -> Vec<Packet> {
    Drive::read(harness, stream, packet.into())
}

fn numbers(packets: &[Packet]) -> Vec<(u16, bool)> {
    packets.iter().map(|packet| (packet.header().sequence_number(), packet.repaired)).collect()
}

#[test]
fn only_streams_with_a_repair_ssrc_and_payload_type_are_bound() {
    let (mut harness, stream) = bound("{}", &video());
    let transform = Binding { access: Access::Transform(View::Packets), ..Binding::PASS };
    assert_eq!(harness.binding(stream), Some(transform));
    for info in [
        StreamInfo { payload_type_forward_error_correction: None, ..video() },
        StreamInfo { ssrc_forward_error_correction: None, ..video() },
    ] {
        let stream = harness.bind_remote_stream(&info).unwrap();
        assert_eq!(harness.binding(stream), Some(Binding::PASS));
    }
    let local = harness.bind_local_stream(&video()).unwrap();
    assert_eq!(harness.binding(local), Some(Binding::PASS));
}

#[test]
fn a_lost_packet_is_restored_as_it_was_and_marked_and_repair_ends_here() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (0..5u16).map(|n| media(65_534u16.wrapping_add(n))).collect();
    for (at, packet) in packets.iter().enumerate() {
        if at != 2 {
            let on = read(&mut harness, stream, packet);
            assert_eq!((on.len(), &on[0].bytes, on[0].repaired), (1, packet, false), "media goes on as it came");
        }
    }
    let [first, second] = &repairs("{}", &packets)[..] else { panic!("two") };
    let on = read(&mut harness, stream, first);
    assert_eq!((on.len(), &on[0].bytes, on[0].repaired), (1, &packets[2], true));
    assert_eq!(read(&mut harness, stream, second), []);
    assert_eq!(read(&mut harness, stream, first), [], "and again");
    assert_eq!((harness.counter("restored"), harness.counter("late")), (1, 0));
    // The original was only late: it goes on, too.
    assert_eq!(read(&mut harness, stream, &packets[2])[0].bytes, packets[2]);
    assert_eq!(harness.counter("late"), 1);
}

#[test]
fn repair_that_comes_before_its_packets_waits_for_them() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (10..15).map(media).collect();
    let repairs = repairs("{}", &packets);
    read(&mut harness, stream, &packets[0]);
    for repair in &repairs {
        assert_eq!(read(&mut harness, stream, repair), []);
    }
    // Of 10, 12 and 14, and of 11 and 13, what is restored goes before the packet that made it possible.
    assert_eq!(numbers(&read(&mut harness, stream, &packets[4])), [(12, true), (14, false)]);
    assert_eq!(numbers(&read(&mut harness, stream, &packets[3])), [(11, true), (13, false)]);
}

#[test]
fn padding_of_a_repair_packet_is_not_parity() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (1..6).map(media).collect();
    for packet in &packets[1..] {
        read(&mut harness, stream, packet);
    }
    let mut repair = repairs("{}", &packets).remove(0);
    repair[0] |= 0x20;
    repair.extend_from_slice(&[9, 9, 3]);
    assert_eq!(read(&mut harness, stream, repair)[0].bytes, packets[0]);
}

#[test]
fn a_retransmission_is_no_longer_lost() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (0..5).map(media).collect();
    for number in [0, 1, 3, 4] {
        read(&mut harness, stream, &packets[number]);
    }
    read(&mut harness, stream, Feed::new(packets[2].clone()).repaired());
    for repair in repairs("{}", &packets) {
        assert_eq!(read(&mut harness, stream, repair), []);
    }
    assert_eq!(harness.counter("restored"), 0);
}

/// What is known of a run over a link.
struct Run {
    /// As they were sent, with their numbers for the whole transport.
    sent: Vec<Vec<u8>>,
    /// Indexes of those that were lost, and of those that must be restored: alone in their group, whose repair came.
    lost: BTreeSet<usize>,
    expected: BTreeSet<usize>,
    out: Vec<Packet>,
    decoder: Harness<FlexfecDecoder>,
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Numbers a packet as those do who come behind the encoder.
fn number(packet: &[u8], next: &mut u16) -> Vec<u8> {
    let len = Header::parse(packet).unwrap().len();
    let mut header = HeaderBuf::parse(packet.to_vec()).unwrap();
    header.edit().set_extension(ID, &next.to_be_bytes()).unwrap();
    *next = next.wrapping_add(1);
    [header.as_bytes(), &packet[len..]].concat()
}

/// Blocks of packets from the encoder over a link that loses about one of `one_in`, with or without transport-wide numbers.
fn run(seed: u64, media_packets: usize, repair_packets: usize, one_in: u64, info: &StreamInfo) -> Run {
    let mut seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let config = format!(r#"{{"media_packets": {media_packets}, "repair_packets": {repair_packets}}}"#);
    let mut encoder = Harness::<FlexfecEncoder>::new(&config).unwrap();
    let local = encoder.bind_local_stream(info).unwrap();
    let (decoder, remote) = bound("{}", info);
    let (sent, lost, expected, out) = (Vec::new(), BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut run = Run { sent, lost, expected, out, decoder };
    let (first, mut next) = (65_300u16, 65_500u16);
    let mut on_the_wire = |packet: &[u8]| {
        if *info == numbered() { number(packet, &mut next) } else { packet.to_vec() }
    };
    for block in 0..600 / media_packets {
        let mut groups = vec![Vec::new(); repair_packets];
        for at in 0..media_packets {
            let index = block * media_packets + at;
            let packet = media(first.wrapping_add(index as u16));
            assert_eq!(encoder.write(local, &packet).len(), 1);
            let packet = on_the_wire(&packet);
            if random(&mut seed).is_multiple_of(one_in) {
                run.lost.insert(index);
                groups[at % repair_packets].push(index);
            } else {
                run.out.extend(read(&mut run.decoder, remote, &packet));
            }
            run.sent.push(packet);
        }
        let repairs = encoder.emitted_rtp();
        assert_eq!(repairs.len(), repair_packets);
        for (repair, group) in repairs.iter().zip(groups) {
            if random(&mut seed).is_multiple_of(one_in) {
                continue;
            }
            if let [alone] = group[..] {
                run.expected.insert(alone);
            }
            run.out.extend(read(&mut run.decoder, remote, on_the_wire(&repair.bytes)));
        }
    }
    run
}

#[test]
fn over_a_lossy_link_whatever_can_be_restored_is_and_nothing_else() {
    let mut restored = 0;
    for (seed, (media_packets, repair_packets)) in
        (0..).zip([(5, 2), (5, 5), (10, 3), (20, 4), (48, 12), (1, 1)].repeat(6))
    {
        for info in [video(), numbered()] {
            let run = run(seed, media_packets, repair_packets, 8, &info);
            let index = |packet: &Packet| usize::from(packet.header().sequence_number().wrapping_sub(65_300));
            let found: BTreeSet<_> = run.out.iter().filter(|packet| packet.repaired).map(index).collect();
            assert_eq!(found, run.expected, "seed {seed}: {media_packets} to {repair_packets}");
            assert_eq!(run.out.len(), run.sent.len() - run.lost.len() + found.len(), "each once");
            for packet in &run.out {
                let sent = &run.sent[index(packet)];
                if packet.repaired {
                    // As it was sent, without the number of its transmission.
                    let mut header = HeaderBuf::parse(sent.clone()).unwrap();
                    let payload = &sent[header.as_bytes().len()..];
                    header.edit().remove_extension(ID);
                    assert_eq!(packet.bytes, [header.as_bytes(), payload].concat());
                } else {
                    assert_eq!(&packet.bytes, sent);
                }
            }
            let counted = ["restored", "failed", "refused", "malformed", "late"].map(|name| run.decoder.counter(name));
            assert_eq!(counted, [found.len() as u64, 0, 0, 0, 0]);
            restored += found.len();
        }
    }
    assert!(restored > 2000, "{restored}");
}

#[test]
fn what_was_protected_as_it_is_is_restored_as_it_was() {
    // As Pion does, whose encoder stands behind the numbering; but a restored packet has no number for feedback.
    let kept = r#"{"extensions": "kept"}"#;
    let mut encoder = Harness::<FlexfecEncoder>::new(kept).unwrap();
    let local = encoder.bind_local_stream(&numbered()).unwrap();
    let mut next = 100;
    let packets: Vec<_> = (0..5).map(|n| number(&media(n), &mut next)).collect();
    for packet in &packets {
        encoder.write(local, packet);
    }
    let repairs = encoder.emitted_rtp();
    for (config, expected) in [(kept, 1), ("{}", 0)] {
        let (mut harness, stream) = bound(config, &numbered());
        for packet in &packets[1..] {
            read(&mut harness, stream, packet);
        }
        let on = read(&mut harness, stream, &repairs[0].bytes);
        let right = on.iter().filter(|packet| {
            let header = packet.header();
            header.extension(ID).is_none()
                && header.extension(3) == Some(b"mid")
                && packets[0].ends_with(packet.payload())
        });
        assert_eq!(right.count(), expected, "{config}");
    }
}

#[test]
fn what_is_no_repair_for_the_stream_ends_here_and_is_counted() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (0..5).map(media).collect();
    for packet in &packets[1..] {
        read(&mut harness, stream, packet);
    }
    let whole = repairs("{}", &packets).remove(0);
    for len in 12..12 + 20 {
        assert_eq!(read(&mut harness, stream, &whole[..len]), []);
    }
    let mut other = whole.clone();
    other[1] = 119;
    assert_eq!(read(&mut harness, stream, &other), []);
    assert_eq!(harness.counter("malformed"), 21);
    let warnings = harness.logs().iter().filter(|(level, _)| *level == Level::Warn).count();
    assert_eq!(warnings, 1, "once, however often");
    assert_eq!(read(&mut harness, stream, &whole)[0].bytes, packets[0], "the real one still serves");
    // Another source's packets are nothing to it.
    harness.unbind_stream(stream);
    let stream = harness.bind_remote_stream(&StreamInfo { ssrc_retransmission: Some(9), ..video() }).unwrap();
    let mut other = whole;
    other[8..12].copy_from_slice(&9u32.to_be_bytes());
    assert_eq!(read(&mut harness, stream, &other)[0].bytes, other);
}

#[test]
fn no_bytes_make_it_panic_or_grow_or_send_what_is_not_rtp() {
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let (mut harness, mut stream) = bound(r#"{"packets": 64}"#, &numbered());
    let mut first = 65_000u16;
    let mut restored = 0;
    for round in 0..8_000 {
        let packets: Vec<_> = (0..5u16).map(|n| media(first.wrapping_add(n))).collect();
        let mut all = repairs("{}", &packets);
        all.extend(packets);
        for _ in 0..random(&mut seed) % 4 {
            let (at, other) = (random(&mut seed) as usize % all.len(), random(&mut seed) as usize % all.len());
            all.swap(at, other);
        }
        for mut packet in all {
            match random(&mut seed) % 6 {
                0 => continue,
                1 => {
                    for _ in 0..1 + random(&mut seed) % 3 {
                        // Anything but what makes it RTP of these sources; often the FEC header.
                        let range = if random(&mut seed).is_multiple_of(2) { 20 } else { packet.len() - 12 };
                        let at = 12 + random(&mut seed) as usize % range.min(packet.len() - 12);
                        packet[at] = random(&mut seed) as u8;
                    }
                }
                2 => packet.truncate(12 + random(&mut seed) as usize % (packet.len() - 11)),
                3 => packet[2..4].copy_from_slice(&(random(&mut seed) as u16).to_be_bytes()),
                _ => {}
            }
            if Header::parse(&packet).is_err() {
                continue;
            }
            let repair = Header::parse(&packet).unwrap().ssrc() == REPAIR;
            let on = read(&mut harness, stream, packet);
            assert!(on.len() <= 65, "as many as can wait");
            assert_eq!(on.iter().filter(|packet| !packet.repaired).count(), usize::from(!repair));
            for packet in on {
                assert_eq!(packet.header().ssrc(), SSRC);
                restored += u32::from(packet.repaired);
            }
        }
        first = first.wrapping_add(5);
        if round % 1000 == 999 {
            harness.unbind_stream(stream);
            stream = harness.bind_remote_stream(&numbered()).unwrap();
        }
    }
    assert!(restored > 1000, "{restored}");
    for counter in ["malformed", "failed", "given_up", "late"] {
        assert!(harness.counter(counter) > 100, "{counter}: {}", harness.counter(counter));
    }
}

#[test]
fn a_flood_of_repair_that_cannot_be_used_stays_small_and_does_no_harm() {
    let (mut harness, stream) = bound("{}", &video());
    let packets: Vec<_> = (0..5).map(media).collect();
    read(&mut harness, stream, &packets[0]);
    // Masks of 109 packets that nobody sent.
    let mut flood = repairs("{}", &packets).remove(0);
    flood.truncate(12 + 18);
    flood.extend_from_slice(&[0x7F, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF]);
    flood.extend_from_slice(&[0xFF; 8 + 1100]);
    for number in 0..10_000u16 {
        flood[2..4].copy_from_slice(&number.to_be_bytes());
        assert_eq!(read(&mut harness, stream, &flood), []);
    }
    assert_eq!(harness.counter("given_up"), 10_000 - 64);
    read(&mut harness, stream, &packets[1]);
    read(&mut harness, stream, &packets[3]);
    read(&mut harness, stream, &packets[4]);
    assert_eq!(read(&mut harness, stream, &repairs("{}", &packets)[0])[0].bytes, packets[2]);
}

#[test]
fn a_successor_restores_nothing_that_its_predecessor_has_seen() {
    let packets: Vec<_> = (0..10u16).map(|n| media(65_533u16.wrapping_add(n))).collect();
    let repairs = repairs("{}", &packets);
    let (mut old, stream) = bound("{}", &video());
    for packet in &packets[..2] {
        read(&mut old, stream, packet);
    }
    let state = old.save().unwrap();
    let mut new = Harness::<FlexfecDecoder>::restored(Setup::default(), "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&video()).unwrap();
    for at in [2, 3, 4, 6, 7, 8, 9] {
        read(&mut new, stream, &packets[at]);
    }
    // Of the first block, the first packet's group and the second's have one packet each that the successor has not seen.
    assert_eq!(read(&mut new, stream, &repairs[0]), []);
    assert_eq!(read(&mut new, stream, &repairs[1]), []);
    assert_eq!(read(&mut new, stream, &repairs[2])[0].bytes, packets[5]);
    // A stream without packets has nothing to hand over.
    let (mut idle, _) = bound("{}", &video());
    assert_eq!(idle.save().as_deref(), Some(&b"[]"[..]));
    assert!(Harness::<FlexfecDecoder>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<FlexfecDecoder>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"size": 5}"#).contains("unknown field `size`, expected `packets` or `extensions`"));
    assert!(refusal(r#"{"packets": 63}"#).contains("packets is 63; 64..=2048"));
    assert!(refusal(r#"{"packets": 2049}"#).contains("packets is 2049"));
    assert!(refusal(r#"{"extensions": "reserved"}"#).contains(r#"extensions is "reserved"; "zeroed" or "kept""#));
}
