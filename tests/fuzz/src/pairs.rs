//! Plugins that undo what another did, over a path that loses packets: what comes out is what went in.

use std::collections::BTreeMap;
use std::time::Duration;

use sandbar_plugin_flexfec_decoder::FlexfecDecoder;
use sandbar_plugin_flexfec_encoder::FlexfecEncoder;
use sandbar_plugin_nack_responder::NackResponder;
use sandbar_plugin_packet_dump::PacketDump;
use sandbar_plugin_red_decoder::RedDecoder;
use sandbar_plugin_red_encoder::RedEncoder;
use sandbar_plugin_rfc8888::Rfc8888;
use sandbar_plugin_rtpfb::Rtpfb;
use sandbar_plugin_twcc_sender::TwccSender;
use sandbar_sdk::rtcp::packet as rtcp_packet;
use sandbar_sdk::testing::{Feed, Harness};
use sandbar_sdk::{Header, Plugin, RtcpFeedback, RtpHeaderExtension, StreamInfo};

use crate::input::{Input, Seed};
use crate::valid::{self, check_rtcp, check_rtp, is_rtcp, is_rtp};

const SSRC: u32 = 17;
const RTX: u32 = 18;
const REPAIR: u32 = 19;
/// What a packet has at most, so that it is within the MTU with what is added to it.
const MOST: usize = 900;

fn harness<T: Plugin>(config: &str) -> Harness<T> {
    Harness::new(config).unwrap_or_else(|refusal| panic!("{config} is refused: {refusal:?}"))
}

/// Which feedback, and for each packet how long after the one before it was sent, and whether and how late it arrives.
pub(crate) fn feedback(data: &[u8]) {
    let mut input = Input::new(data);
    let transport = input.byte() & 1 == 0;
    let first = input.word();
    let extension = RtpHeaderExtension { uri: RtpHeaderExtension::TRANSPORT_CC.into(), id: 5 };
    let ccfb = RtcpFeedback { kind: "ack".into(), parameter: "ccfb".into() };
    let info = match transport {
        true => StreamInfo { ssrc: SSRC, rtp_header_extensions: vec![extension], ..StreamInfo::default() },
        false => StreamInfo { ssrc: SSRC, rtcp_feedback: vec![ccfb], ..StreamInfo::default() },
    };
    let mut sender = harness::<Rtpfb>("{}");
    let local = sender.bind_local_stream(&info).expect("it measures the stream");
    match transport {
        true => told(&mut input, first, &mut sender, local, &mut harness::<TwccSender>("{}"), &info),
        false => told(&mut input, first, &mut sender, local, &mut harness::<Rfc8888>("{}"), &info),
    }
}

fn told<T: Plugin>(
    input: &mut Input<'_>,
    first: u16,
    sender: &mut Harness<Rtpfb>,
    local: sandbar_sdk::StreamId,
    receiver: &mut Harness<T>,
    info: &StreamInfo,
) {
    let remote = receiver.bind_remote_stream(info).expect("it watches the stream");
    let mut arrived = 0;
    let mut number = first;
    let pass = |sender: &mut Harness<Rtpfb>, receiver: &mut Harness<T>, time: Duration| {
        receiver.advance(time);
        sender.advance(time);
        for compound in receiver.emitted_rtcp() {
            check_rtcp(&compound.bytes);
            assert!(rtcp_packet::unmarshal(&mut &compound.bytes[..]).is_ok(), "{:02x?}", compound.bytes);
            sender.read_rtcp(&compound.bytes[..]);
        }
    };
    for _ in 0..100 {
        if input.is_empty() {
            break;
        }
        let (gap, fate) = (input.byte(), input.byte());
        pass(sender, receiver, Duration::from_micros(u64::from(gap) * 100));
        let packet = valid::rtp(SSRC, number, b"media");
        number = number.wrapping_add(1);
        sender.write(local, &packet[..]);
        if fate & 3 != 0 {
            arrived += 1;
            receiver.read(remote, &packet[..]);
        }
    }
    // Until everything has been told.
    for _ in 0..10 {
        pass(sender, receiver, Duration::from_millis(100));
    }
    assert_eq!(sender.counter("malformed"), 0, "what one writes the other reads");
    assert_eq!(
        (sender.counter("arrived"), sender.counter("unknown")),
        (arrived, 0),
        "what arrived is told to have arrived"
    );
}

pub(crate) fn feedback_seeds() -> Vec<Vec<u8>> {
    let steps = |every: usize, gap: u8| -> Vec<u8> {
        (1..80usize).flat_map(|at| [gap.wrapping_mul(at as u8), u8::from(!at.is_multiple_of(every))]).collect()
    };
    let seed = |kind: u8, first: u16, every, gap| {
        Seed::default().bytes([kind]).bytes(first.to_be_bytes()).bytes(steps(every, gap)).0
    };
    [0, 1].iter().flat_map(|kind| [seed(*kind, 0, 3, 1), seed(*kind, 65_500, 7, 200), seed(*kind, 9, 2, 0)]).collect()
}

/// Media packets, one after the other, and which of them are lost: the first byte of each says.
fn media<'a>(input: &mut Input<'a>, first: u16) -> Vec<(Vec<u8>, bool)> {
    let mut packets = Vec::new();
    while !input.is_empty() && packets.len() < 60 {
        let (fate, body) = (input.byte(), input.chunk());
        let mut bytes = body.get(..MOST.min(body.len())).unwrap_or_default().to_vec();
        if bytes.len() < 12 {
            bytes = valid::rtp(SSRC, 0, &bytes);
        }
        bytes[2..4].copy_from_slice(&first.wrapping_add(packets.len() as u16).to_be_bytes());
        bytes[8..12].copy_from_slice(&SSRC.to_be_bytes());
        if is_rtp(&bytes) {
            packets.push((bytes, fate & 3 == 0));
        }
    }
    packets
}

fn media_seeds(head: &[&[u8]], packet: fn(u16) -> Vec<u8>) -> Vec<Vec<u8>> {
    let packets = |every: u16| {
        (1..20)
            .fold(Seed::default(), |seed, at| seed.bytes([u8::from(!u16::is_multiple_of(at, every))]).chunk(packet(at)))
    };
    head.iter()
        .flat_map(|head| [3, 5, 17, 99].map(|every| Seed::default().bytes(head).bytes(packets(every).0).0))
        .collect()
}

/// How many packets a block and its repair have, where to begin, and packets.
pub(crate) fn flexfec(data: &[u8]) {
    let mut input = Input::new(data);
    let media_packets = 1 + input.byte() % 48;
    let repair_packets = 1 + input.byte() % media_packets;
    let first = input.word();
    let info = StreamInfo {
        ssrc: SSRC,
        ssrc_forward_error_correction: Some(REPAIR),
        payload_type: 96,
        payload_type_forward_error_correction: Some(118),
        ..StreamInfo::default()
    };
    let config = format!(r#"{{"media_packets": {media_packets}, "repair_packets": {repair_packets}}}"#);
    let (mut encoder, mut decoder) = (harness::<FlexfecEncoder>(&config), harness::<FlexfecDecoder>("{}"));
    let local = encoder.bind_local_stream(&info).expect("it protects the stream");
    let remote = decoder.bind_remote_stream(&info).expect("it restores the stream");
    let packets = media(&mut input, first);
    let mut restored = Vec::new();
    for (packet, lost) in &packets {
        let on = encoder.write(local, &packet[..]);
        assert!(on.len() == 1 && on[0].bytes == *packet, "an observer changes nothing");
        if !lost {
            decoder.read(remote, &packet[..]);
        }
        for repair in encoder.emitted_rtp() {
            check_rtp(&repair.bytes, 1200);
            decoder.read(remote, &repair.bytes[..]);
        }
        for packet in decoder.emitted_rtp() {
            let same = packets.iter().any(|(sent, lost)| *lost && *sent == packet.bytes);
            assert!(same, "this was never sent, or not lost: {:02x?}", packet.bytes);
            restored.push(packet.bytes);
        }
    }
    // Of one that is lost behind the stream's beginning, alone in its block, some repair packet lacks nothing else.
    let begun = packets.iter().position(|(_, lost)| !lost).unwrap_or(packets.len());
    for (at, block) in packets.chunks_exact(media_packets.into()).enumerate() {
        let mut lost = block.iter().enumerate().filter(|(_, (_, lost))| *lost);
        if let (Some((place, (packet, _))), None) = (lost.next(), lost.next())
            && at * usize::from(media_packets) + place > begun
        {
            assert!(restored.contains(packet), "this could be restored: {packet:02x?}");
        }
    }
    assert_eq!(decoder.counter("malformed"), 0);
}

pub(crate) fn flexfec_seeds() -> Vec<Vec<u8>> {
    let packet = |at: u16| match at % 3 {
        0 => valid::ornate(SSRC),
        _ => valid::rtp(SSRC, at, &[at as u8; 40][..usize::from(at)]),
    };
    media_seeds(&[&[4, 1, 0, 0], &[18, 2, 0xff, 0xf8], &[0, 0, 0, 9]], packet)
}

/// Where a packet's frame is, without its padding.
fn frame(packet: &[u8]) -> (usize, usize) {
    let header = Header::parse(packet).expect("RTP");
    let padding = if header.padding() { usize::from(*packet.last().unwrap_or(&0)) } else { 0 };
    (header.len(), packet.len() - padding)
}

/// How many frames are repeated, where to begin, and packets with frames of 20 ms.
pub(crate) fn red(data: &[u8]) {
    let mut input = Input::new(data);
    let redundancy = 1 + input.byte() % 4;
    let first = input.word();
    let info = StreamInfo {
        ssrc: SSRC,
        payload_type: 63,
        mime_type: "audio/red".into(),
        clock_rate: 48_000,
        sdp_fmtp_line: "111/111".into(),
        ..StreamInfo::default()
    };
    let config = format!(r#"{{"redundancy": {redundancy}}}"#);
    let (mut encoder, mut decoder) = (harness::<RedEncoder>(&config), harness::<RedDecoder>("{}"));
    let local = encoder.bind_local_stream(&info).expect("it encodes the stream");
    let remote = decoder.bind_remote_stream(&info).expect("it decodes the stream");
    let mut sent = Vec::new();
    for (mut packet, lost) in media(&mut input, first) {
        packet[1] = packet[1] & 0x80 | 111;
        packet[4..8].copy_from_slice(&(sent.len() as u32 * 960).to_be_bytes());
        let on = encoder.write(local, &packet[..]);
        assert_eq!(on.len(), 1, "one packet stays one packet");
        check_rtp(&on[0].bytes, 1200);
        sent.push((packet.clone(), lost));
        if lost {
            continue;
        }
        let out = decoder.read(remote, &on[0].bytes[..]);
        assert!(out.len() == 1 && out[0].bytes == packet, "{:02x?} became {out:02x?}", packet);
        let emitted = decoder.emitted_rtp();
        // A short frame that is lost alone is in the packet right behind it.
        if let [.., (_, false), (alone, true), _] = &sent[..]
            && let (from, to) = frame(alone)
            && (1..100).contains(&(to - from))
        {
            assert!(emitted.iter().any(|restored| restored.payload() == &alone[from..to]), "{alone:02x?} is in it");
        }
        for restored in emitted {
            let (header, payload) = (restored.header(), restored.payload());
            let number = header.sequence_number();
            let (original, lost) = &sent[usize::from(number.wrapping_sub(first))];
            let was = Header::parse(original).expect("RTP");
            let (from, to) = frame(original);
            assert_eq!((*lost, header.timestamp(), payload), (true, was.timestamp(), &original[from..to]));
        }
    }
    assert_eq!(decoder.counter("malformed"), 0);
}

pub(crate) fn red_seeds() -> Vec<Vec<u8>> {
    let packet = |at: u16| match at % 7 {
        0 => valid::ornate(SSRC),
        _ => valid::rtp(SSRC, at, &[at as u8; 40][..usize::from(at)]),
    };
    media_seeds(&[&[0, 0, 0], &[2, 0xff, 0xf8], &[3, 0, 9]], packet)
}

/// Whether there is RTX, packets, and a compound.
pub(crate) fn nack(data: &[u8]) {
    let mut input = Input::new(data);
    let (rtx, first, compound) = (input.byte() & 1 == 0, input.word(), input.chunk());
    let nack = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    let info = StreamInfo {
        ssrc: SSRC,
        ssrc_retransmission: rtx.then_some(RTX),
        payload_type: 96,
        payload_type_retransmission: rtx.then_some(97),
        rtcp_feedback: vec![nack],
        ..StreamInfo::default()
    };
    let mut responder = harness::<NackResponder>("{}");
    let local = responder.bind_local_stream(&info).expect("it answers for the stream");
    let packets = media(&mut input, first);
    for (packet, _) in &packets {
        responder.write(local, &packet[..]);
    }
    if !is_rtcp(compound) {
        return;
    }
    let on = responder.read_rtcp(compound);
    assert!(on.len() == 1 && on[0].bytes == compound, "what was asked goes on");
    let sent = responder.emitted_rtp();
    assert!(sent.len() <= packets.len(), "each at most once");
    for again in sent {
        check_rtp(&again.bytes, 1200);
        let original = match rtx {
            false => again.bytes.clone(),
            true => {
                // RFC 4588, 4: the payload is the original sequence number, and what was sent.
                let (header, payload) = (again.header(), again.payload());
                assert_eq!((header.ssrc(), header.payload_type()), (RTX, 97));
                let found = packets.iter().find(|(packet, _)| packet[2..4] == payload[..2]);
                let (packet, _) = found.expect("a packet that was sent");
                let mut original = [header.as_bytes(), &payload[2..]].concat();
                original[1] = original[1] & 0x80 | packet[1] & 0x7f;
                original[2..4].copy_from_slice(&payload[..2]);
                original[8..12].copy_from_slice(&SSRC.to_be_bytes());
                original
            }
        };
        assert!(packets.iter().any(|(packet, _)| *packet == original), "this was never sent: {original:02x?}");
    }
}

pub(crate) fn nack_seeds() -> Vec<Vec<u8>> {
    let packet = |at: u16| match at % 4 {
        0 => valid::ornate(SSRC),
        _ => valid::rtp(SSRC, at, b"media"),
    };
    let ask = valid::rtcp(1, 205, &[0, 0, 0, 1, 0, 0, 0, 17, 0, 1, 0x00, 0xff, 0xff, 0xfe, 0, 3]);
    let head = |rtx: u8, first: u16| Seed::default().bytes([rtx]).bytes(first.to_be_bytes()).chunk(&ask).0;
    media_seeds(&[&head(0, 0), &head(1, 0), &head(0, 65_533)], packet)
}

/// Packets of every kind and direction, as they are and as the dump has them.
pub(crate) fn dump(data: &[u8]) {
    let mut input = Input::new(data);
    let mut dump = harness::<PacketDump>(r#"{"payload": true, "rtp": true, "rtcp": true}"#);
    let info = StreamInfo { ssrc: SSRC, ..StreamInfo::default() };
    let remote = dump.bind_remote_stream(&info).expect("it takes any stream");
    let local = dump.bind_local_stream(&info).expect("it takes any stream");
    let mut went = Vec::new();
    while !input.is_empty() && went.len() < 60 {
        let (what, bytes) = (input.byte(), input.chunk());
        match what % 5 {
            0 if is_rtp(bytes) => drop(dump.read(remote, bytes)),
            1 if is_rtp(bytes) => drop(dump.write(local, Feed::new(bytes).repaired())),
            2 if is_rtcp(bytes) => drop(dump.read_rtcp(bytes)),
            3 if is_rtcp(bytes) => drop(dump.write_rtcp(bytes)),
            _ => {
                dump.advance(Duration::from_millis(u64::from(what)));
                continue;
            }
        }
        went.push(bytes);
    }
    dump.close();
    let file = dump.sunk().concat();
    if went.is_empty() {
        return;
    }
    let (packets, ended) = sandbar::fuzzing::capture(&file).expect("a capture");
    assert_eq!(ended, None);
    let payloads: Vec<_> = packets.iter().map(|(_, _, payload)| payload.expect("a datagram")).collect();
    assert_eq!(payloads, went);
    let times: BTreeMap<_, ()> = packets.iter().map(|(time, ..)| (*time, ())).collect();
    assert!(times.len() <= packets.len() && times.keys().all(|time| !time.is_zero()));
}

pub(crate) fn dump_seeds() -> Vec<Vec<u8>> {
    let rtp = [valid::rtp(SSRC, 1, b"media"), valid::ornate(SSRC), valid::rtp(SSRC, 2, b"")];
    let seed = rtp.iter().fold(Seed::default(), |seed, packet| seed.bytes([0]).chunk(packet).bytes([1]).chunk(packet));
    let seed = valid::compounds().iter().fold(seed, |seed, compound| seed.bytes([2]).chunk(compound).bytes([4, 0, 0]));
    vec![seed.clone().0, seed.bytes([3]).chunk(&valid::compounds()[0]).0]
}
