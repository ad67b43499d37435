//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};

use sandbar_plugin_red_decoder::RedDecoder;
use sandbar_plugin_red_encoder::RedEncoder;
use sandbar_sdk::testing::{Drive, Feed, Harness, Packet, Setup};
use sandbar_sdk::{Access, Binding, Header, HeaderBuf, Level, Refusal, StreamId, StreamInfo, View};

const SSRC: u32 = 0x1111;
const OPUS: u8 = 111;
const RED: u8 = 63;
/// 20 ms.
const STEP: u32 = 960;

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

fn bound() -> (Harness<RedDecoder>, StreamId) {
    let mut harness = Harness::new("{}").unwrap();
    let stream = harness.bind_remote_stream(&audio()).unwrap();
    (harness, stream)
}

fn frame(payload_type: u8, number: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = HeaderBuf::new(payload_type, SSRC);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp(timestamp);
    [header.as_bytes(), payload].concat()
}

/// What is in the frame with this number: something of its own.
fn media(number: u16) -> Vec<u8> {
    let len = 3 + usize::from(number) * 7 % 90;
    (0..len).map(|at| (usize::from(number) * 31 + at * 7) as u8).collect()
}

/// Number 0 has timestamp 0, and those shortly before it are shortly before the wrap.
fn timestamp(number: u16) -> u32 {
    (number as i16 as u32).wrapping_mul(STEP)
}

/// A RED packet of the stream whose frames are 20 ms long, that repeats the frames so
/// many back, oldest first.
fn red(number: u16, back: &[u16]) -> Vec<u8> {
    let timestamp = timestamp(number);
    let mut payload = Vec::new();
    for back in back {
        let word = 1 << 31
            | u32::from(OPUS) << 24
            | (u32::from(*back) * STEP) << 10
            | media(number.wrapping_sub(*back)).len() as u32;
        payload.extend_from_slice(&word.to_be_bytes());
    }
    payload.push(OPUS);
    for back in back {
        payload.extend_from_slice(&media(number.wrapping_sub(*back)));
    }
    payload.extend_from_slice(&media(number));
    frame(RED, number, timestamp, &payload)
}

/// What goes on and is emitted, in its order.
fn read(harness: &mut Harness<RedDecoder>, stream: StreamId, packet: impl Into<Feed>) -> Vec<Packet> {
    Drive::read(harness, stream, packet.into())
}

/// Numbers of packets, and whether they were restored. Each has to be plain, and to be what was sent under its number.
fn plain(packets: &[Packet]) -> Vec<(u16, bool)> {
    let check = |packet: &Packet| {
        let header = packet.header();
        let number = header.sequence_number();
        assert_eq!((header.payload_type(), header.ssrc()), (OPUS, SSRC));
        assert_eq!(packet.payload(), media(number), "{number}");
        (number, packet.repaired)
    };
    packets.iter().map(check).collect()
}

#[test]
fn only_streams_that_are_red_are_bound() {
    let (mut harness, stream) = bound();
    let transform = Binding { access: Access::Transform(View::Packets), ..Binding::PASS };
    assert_eq!(harness.binding(stream), Some(transform));
    let opus = StreamInfo { ssrc: 5, mime_type: "audio/opus".into(), ..audio() };
    let opus = harness.bind_remote_stream(&opus).unwrap();
    assert_eq!(harness.binding(opus), Some(Binding::PASS));
    let local = harness.bind_local_stream(&audio()).unwrap();
    assert_eq!(harness.binding(local), Some(Binding::PASS));
}

#[test]
fn a_packet_goes_on_with_its_own_frame_as_if_it_had_never_been_red() {
    let (mut harness, stream) = bound();
    let mut header = HeaderBuf::parse(red(65_535, &[])).unwrap();
    header.edit().set_marker(true);
    header.edit().set_extension(3, b"ext").unwrap();
    let payload = &red(65_535, &[2, 1])[12..];
    let mut packet = [header.as_bytes(), payload, b"\0\0\0\x04"].concat();
    packet[0] |= 0x20;
    let on = read(&mut harness, stream, packet);
    assert_eq!(on.len(), 1, "what was before the first packet is not lost");
    let after = on[0].header();
    assert!(after.marker() && after.padding() && !on[0].repaired);
    assert_eq!((after.sequence_number(), after.timestamp()), (65_535, timestamp(65_535)));
    assert_eq!((after.payload_type(), after.extension(3)), (OPUS, Some(&b"ext"[..])));
    assert_eq!(on[0].payload(), [&media(65_535)[..], b"\0\0\0\x04"].concat());
}

#[test]
fn a_lost_packet_is_restored_from_the_next_and_goes_before_it() {
    let (mut harness, stream) = bound();
    for first in [10, 65_533] {
        let at = |n: u16| u16::wrapping_add(first, n);
        read(&mut harness, stream, red(at(0), &[1]));
        read(&mut harness, stream, red(at(1), &[1]));
        let on = read(&mut harness, stream, red(at(3), &[1]));
        assert_eq!(plain(&on), [(at(2), true), (at(3), false)]);
        let lost = on[0].header();
        assert_eq!(lost.timestamp(), timestamp(at(2)));
        assert!(!lost.marker() && lost.len() == 12);
    }
    assert_eq!(harness.counter("restored"), 2);
}

#[test]
fn each_is_restored_once_however_often_it_is_repeated() {
    let (mut harness, stream) = bound();
    let back = [4, 3, 2, 1];
    assert_eq!(plain(&read(&mut harness, stream, red(100, &back))), [(100, false)]);
    let on = read(&mut harness, stream, red(103, &back));
    assert_eq!(plain(&on), [(101, true), (102, true), (103, false)]);
    for number in 104..110 {
        assert_eq!(plain(&read(&mut harness, stream, red(number, &back))), [(number, false)]);
    }
    // More than the packet repeats.
    let on = read(&mut harness, stream, red(116, &back));
    assert_eq!(plain(&on), [(112, true), (113, true), (114, true), (115, true), (116, false)]);
    // And with a reordered packet, the rest, the nearest of which is known by now.
    let on = read(&mut harness, stream, red(111, &back));
    assert_eq!(plain(&on), [(110, true), (111, false)]);
}

#[test]
fn one_that_was_only_late_goes_on_too_and_is_counted() {
    let (mut harness, stream) = bound();
    read(&mut harness, stream, red(1, &[1]));
    assert_eq!(plain(&read(&mut harness, stream, red(3, &[1]))), [(2, true), (3, false)]);
    assert_eq!(plain(&read(&mut harness, stream, red(2, &[1]))), [(2, false)]);
    assert_eq!((harness.counter("restored"), harness.counter("late")), (1, 1));
    assert_eq!(plain(&read(&mut harness, stream, red(4, &[1]))), [(4, false)]);
}

#[test]
fn a_retransmission_counts_as_come_and_helps_like_any_other() {
    let (mut harness, stream) = bound();
    read(&mut harness, stream, red(1, &[]));
    read(&mut harness, stream, red(4, &[]));
    let on = read(&mut harness, stream, Feed::new(red(3, &[1])).repaired());
    assert_eq!(plain(&on), [(2, true), (3, true)]);
    assert_eq!(plain(&read(&mut harness, stream, red(5, &[4, 3, 2, 1]))), [(5, false)]);
}

#[test]
fn plain_packets_of_the_stream_are_known_too() {
    let (mut harness, stream) = bound();
    read(&mut harness, stream, red(1, &[]));
    let opus = frame(OPUS, 2, 2 * STEP, &media(2));
    assert_eq!(plain(&read(&mut harness, stream, opus)), [(2, false)]);
    assert_eq!(plain(&read(&mut harness, stream, red(3, &[2, 1]))), [(3, false)]);
    // Another source's are nothing to it.
    let rtx = StreamInfo { ssrc_retransmission: Some(9), ..audio() };
    harness.unbind_stream(stream);
    let stream = harness.bind_remote_stream(&rtx).unwrap();
    let mut other = red(3, &[1]);
    other[8..12].copy_from_slice(&9u32.to_be_bytes());
    assert_eq!(read(&mut harness, stream, other.clone())[0].bytes, other);
}

#[test]
fn a_pause_is_not_a_loss() {
    let (mut harness, stream) = bound();
    let mut timestamp = 0u32;
    let mut number = 65_530u16;
    // Frames of 20 ms with pauses of 40 to 300 ms between some, each repeating the one before: nothing is lost.
    let mut before = 0;
    for step in [1, 1, 2, 1, 15, 1, 1, 3, 1, 8, 1].map(|steps| steps * STEP) {
        timestamp += step;
        number = number.wrapping_add(1);
        let word = 1 << 31 | u32::from(OPUS) << 24 | step << 10 | before;
        let repeated = if before > 0 { media(number.wrapping_sub(1)) } else { Vec::new() };
        let payload = [&word.to_be_bytes()[..], &[OPUS], &repeated, &media(number)].concat();
        let on = read(&mut harness, stream, frame(RED, number, timestamp, &payload));
        assert_eq!(plain(&on), [(number, false)]);
        before = media(number).len() as u32;
    }
    assert_eq!(harness.counter("unclear"), 0);
}

#[test]
fn what_cannot_be_read_goes_on_as_it_is() {
    let (mut harness, stream) = bound();
    read(&mut harness, stream, red(1, &[]));
    let whole = red(2, &[1]);
    for len in 12..whole.len() {
        let cut = whole[..len].to_vec();
        let on = read(&mut harness, stream, cut.clone());
        assert_eq!(on.len(), 1);
        let red = on[0].header().payload_type() == RED;
        assert_eq!(on[0].bytes == cut, red, "cut to {len} bytes");
        assert_eq!(red, len < 12 + 5 + media(1).len(), "its own frame may have any length");
    }
    assert_eq!(harness.counter("malformed"), (5 + media(1).len()) as u64);
    let warnings = harness.logs().iter().filter(|(level, _)| *level == Level::Warn).count();
    assert_eq!(warnings, 1, "once, however often");
    assert_eq!(harness.counter("restored"), 0);
}

/// The frames of an encoder over a link; what went in by number, and what came out in order.
struct Run {
    sent: BTreeMap<u16, Vec<u8>>,
    lost: Vec<u16>,
    out: Vec<Packet>,
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Seven seconds of frames, of which about one in `one_in` is lost, with pauses now and then, from the encoder over a link
/// to the decoder.
fn run(seed: u64, redundancy: usize, one_in: u64, pauses: bool) -> (Run, Harness<RedDecoder>) {
    let mut seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let mut encoder = Harness::<RedEncoder>::new(&format!(r#"{{"redundancy": {redundancy}}}"#)).unwrap();
    let local = encoder.bind_local_stream(&audio()).unwrap();
    let (mut decoder, remote) = bound();
    let mut run = Run { sent: BTreeMap::new(), lost: Vec::new(), out: Vec::new() };
    let mut timestamp = u32::MAX - 30 * STEP - random(&mut seed) as u32 % 5000;
    for n in 0..350u32 {
        let number = (65_400 + n) as u16;
        timestamp = timestamp.wrapping_add(STEP);
        if pauses && random(&mut seed).is_multiple_of(20) {
            timestamp = timestamp.wrapping_add(STEP * (1 + random(&mut seed) as u32 % 30));
        }
        let packet = frame(OPUS, number, timestamp, &media(number));
        run.sent.insert(number, packet.clone());
        let on = encoder.write(local, packet);
        if n > 0 && random(&mut seed).is_multiple_of(one_in) {
            run.lost.push(number);
        } else {
            run.out.extend(read(&mut decoder, remote, on[0].bytes.clone()));
        }
    }
    (run, decoder)
}

#[test]
fn what_comes_out_is_what_went_in_and_only_long_bursts_leave_gaps() {
    for seed in 0..20 {
        for redundancy in 1..=4 {
            let (run, decoder) = run(seed, redundancy, 6, false);
            for packet in &run.out {
                assert_eq!(packet.bytes, run.sent[&packet.header().sequence_number()]);
            }
            let numbers: Vec<_> = run.out.iter().map(|packet| packet.header().sequence_number()).collect();
            assert!(numbers.is_sorted_by_key(|number| number.wrapping_sub(65_400)), "in order");
            assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "each once");
            let last = *numbers.last().unwrap();
            // Every loss is restored that one of the packets behind it repeats.
            let repeated = |lost: u16| (1..=redundancy as u16).any(|n| !run.lost.contains(&lost.wrapping_add(n)));
            for lost in run.lost.iter().filter(|lost| lost.wrapping_sub(65_400) < last.wrapping_sub(65_400)) {
                assert_eq!(numbers.contains(lost), repeated(*lost), "{lost} of seed {seed}, {redundancy}");
            }
            let restored: Vec<_> = run.out.iter().filter(|packet| packet.repaired).collect();
            assert!(restored.iter().all(|packet| run.lost.contains(&packet.header().sequence_number())));
            assert_eq!(decoder.counter("restored"), restored.len() as u64);
            assert_eq!((decoder.counter("unclear"), decoder.counter("late")), (0, 0));
        }
    }
}

#[test]
fn with_pauses_between_the_frames_nothing_gets_a_wrong_number() {
    let (mut restored, mut unclear) = (0, 0);
    for seed in 0..60 {
        let (run, decoder) = run(seed, 1 + seed as usize % 4, 4, true);
        for packet in &run.out {
            assert_eq!(packet.bytes, run.sent[&packet.header().sequence_number()], "seed {seed}");
        }
        restored += decoder.counter("restored");
        unclear += decoder.counter("unclear");
    }
    assert!(restored > 2000 && unclear < restored / 20, "{restored} restored, {unclear} unclear");
}

#[test]
fn reordering_makes_duplicates_at_most_and_no_wrong_packet() {
    for mut seed in 1..30u64 {
        let (mut decoder, remote) = bound();
        let mut packets: Vec<_> = (0..300u16).map(|n| red(65_400u16.wrapping_add(n), &[3, 2, 1])).collect();
        for at in 1..packets.len() - 4 {
            if random(&mut seed).is_multiple_of(8) {
                packets.swap(at, at + 1 + random(&mut seed) as usize % 3);
            }
        }
        let mut out = Vec::new();
        for packet in packets {
            out.extend(read(&mut decoder, remote, packet));
        }
        let restored = plain(&out).into_iter().filter(|(_, restored)| *restored).count();
        assert_eq!(out.len(), 300 + restored);
        assert_eq!(decoder.counter("late"), restored as u64, "all of them were only late");
    }
}

#[test]
fn no_bytes_make_it_panic_or_say_more_than_was_sent() {
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let (mut decoder, mut stream) = bound();
    let mut number = 65_000u16;
    for round in 0..40_000 {
        number = number.wrapping_add(1 + (random(&mut seed) % 7 / 5) as u16);
        let back: Vec<u16> = (1..=random(&mut seed) as u16 % 5).rev().collect();
        let mut packet = red(number, &back);
        for _ in 0..random(&mut seed) % 4 {
            // Of the header, only what leaves it one.
            let at = 1 + random(&mut seed) as usize % (packet.len() - 1);
            if !(8..12).contains(&at) {
                packet[at] = random(&mut seed) as u8;
            }
        }
        if random(&mut seed).is_multiple_of(5) {
            packet.truncate(12 + random(&mut seed) as usize % (packet.len() - 11));
        }
        assert!(Header::parse(&packet).is_ok());
        let payload = packet[12..].to_vec();
        let on = read(&mut decoder, stream, packet);
        assert!(!on.is_empty() && on.len() <= 1 + 31);
        for packet in &on {
            let inside = payload.windows(packet.payload().len().max(1)).any(|window| window == packet.payload());
            assert!(packet.payload().is_empty() || inside, "what goes on was in the packet");
        }
        if round % 1000 == 999 {
            decoder.unbind_stream(stream);
            stream = decoder.bind_remote_stream(&audio()).unwrap();
        }
    }
    assert!(decoder.counter("restored") > 1000 && decoder.counter("malformed") > 1000);
}

#[test]
fn a_successor_restores_nothing_twice() {
    let (mut old, stream) = bound();
    let back = [4, 3, 2, 1];
    for number in [65_530, 65_531, 65_534] {
        read(&mut old, stream, red(number, &back));
    }
    let state = old.save().unwrap();
    let mut new = Harness::<RedDecoder>::restored(Setup::default(), "{}", &state).unwrap();
    let stream = new.bind_remote_stream(&audio()).unwrap();
    let on = read(&mut new, stream, red(0, &back));
    assert_eq!(plain(&on), [(65_535, true), (0, false)]);
    assert_eq!(plain(&read(&mut new, stream, red(65_533, &back))), [(65_533, false)]);
    assert_eq!(new.counter("late"), 1);
    assert!(Harness::<RedDecoder>::restored(Setup::default(), "{}", b"{}").is_err());
}

#[test]
fn a_stream_that_is_bound_again_begins_anew() {
    let (mut harness, stream) = bound();
    read(&mut harness, stream, red(1, &[]));
    harness.unbind_stream(stream);
    let stream = harness.bind_remote_stream(&audio()).unwrap();
    assert_eq!(plain(&read(&mut harness, stream, red(3, &[1]))), [(3, false)]);
}

#[test]
fn it_has_no_options() {
    let refusal = Harness::<RedDecoder>::new(r#"{"redundancy": 1}"#).err();
    assert!(matches!(refusal, Some(Refusal::Config(message)) if message.contains("unknown field `redundancy`")));
}
