//! Parsers of the host library.

use bytes::Bytes;
use sandbar_host::{
    Kind, Packet, RtcpMode, RtcpPacket, RtpPacket, SecretKey, StreamInfo, fuzzing, header_len, signers,
};
use sandbar_sdk::{Header, RtcpParts};

use crate::input::{Input, Seed};
use crate::valid::{self, check_rtcp, check_rtp};

/// A packet, and a header to put in place of its own.
pub(crate) fn rtp(data: &[u8]) {
    let mut input = Input::new(data);
    let header = input.chunk();
    let bytes = Bytes::copy_from_slice(input.rest());
    let read = Header::parse(&bytes);
    assert_eq!(read.map(|header| header.len()).ok(), header_len(&bytes).ok(), "the SDK and the host do not agree");
    let Ok(packet) = RtpPacket::parse(bytes.clone()) else { return };
    let read = read.expect("the host took it");
    let fields = (packet.ssrc(), packet.sequence_number(), packet.timestamp(), packet.payload_type(), packet.marker());
    let said = (read.ssrc(), read.sequence_number(), read.timestamp(), read.payload_type(), read.marker());
    assert_eq!(fields, said);
    assert_eq!(Packet::from(packet.clone()).to_bytes(), bytes, "what was read is written again as it was");
    assert_eq!((packet.header(), packet.size()), (read.as_bytes(), bytes.len()));

    let mut other = packet.clone();
    if fuzzing::replace_header_only(&mut other, header) {
        check_rtp(&Packet::from(other.clone()).to_bytes(), usize::from(u16::MAX) + header.len());
        assert_eq!(other.payload(), packet.payload());
        assert_eq!(other.header()[1..], header[1..], "only the padding bit is the packet's");
    }
    let mut other = packet.clone();
    if other.set_header(header).is_ok() {
        assert_eq!((other.header(), other.payload()), (header, packet.payload()));
    }
    if let Some((original, again)) = fuzzing::unwrap_rtx(&packet, 7, 96) {
        let whole = Packet::from(original.clone()).to_bytes();
        check_rtp(&whole, bytes.len() - 2);
        assert_eq!((original.ssrc(), original.payload_type(), original.repaired()), (7, 96, true));
        assert_eq!(original.sequence_number().to_be_bytes(), packet.payload()[..2]);
        assert_eq!(original.payload(), packet.payload().slice(2..));
        assert_eq!(Packet::from(again).to_bytes(), bytes, "what was unwrapped is wrapped as it was");
    }
}

pub(crate) fn rtp_seeds() -> Vec<Vec<u8>> {
    let packets = [valid::rtp(7, 7, b"media"), valid::ornate(7), valid::rtp(8, 9, b"\x12\x34retransmitted")];
    let headers = [valid::rtp(7, 8, b""), valid::ornate(7)[..40].to_vec(), vec![0x80; 12]];
    packets.iter().flat_map(|packet| headers.iter().map(move |h| Seed::default().chunk(h).bytes(packet).0)).collect()
}

/// A mode, an MTU, a name, and the compounds of a tick.
pub(crate) fn rtcp(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = if input.byte() & 1 == 0 { RtcpMode::Compound } else { RtcpMode::ReducedSize };
    let mtu = input.word();
    let cname = String::from_utf8_lossy(input.chunk());
    let mut tick = Vec::new();
    while !input.is_empty() && tick.len() < 32 {
        let bytes = Bytes::copy_from_slice(input.chunk());
        if let Ok(compound) = RtcpPacket::parse(bytes.clone()) {
            assert_eq!(compound.bytes(), &bytes);
            check_rtcp(&bytes);
            tick.push(bytes);
        }
    }
    let split = |datagrams: &[Bytes]| -> Vec<Vec<u8>> {
        datagrams.iter().flat_map(|bytes| RtcpParts::of(bytes)).map(|part| unpadded(part.bytes)).collect()
    };
    let before = split(&tick);
    let merged = fuzzing::merge(&tick, mode, mtu, 1, &cname);
    let largest = tick.iter().flat_map(|bytes| RtcpParts::of(bytes)).map(|part| part.bytes.len()).max().unwrap_or(0);
    for datagram in &merged {
        check_rtcp(datagram);
        assert!(datagram.len() <= largest.max(mtu.into()), "{} bytes over the MTU of {mtu}", datagram.len());
    }
    // Every packet is there once; others are empty reports and descriptions of the host's own.
    let mut after = split(&merged);
    for packet in &before {
        let at = after.iter().position(|other| other == packet).expect("a packet was lost");
        after.swap_remove(at);
    }
    let own = after.iter().all(|packet| *packet == [0x80, 201, 0, 1, 0, 0, 0, 1] || packet[1] == 202);
    assert!(own && (mode == RtcpMode::Compound || after.is_empty()), "packets were made up: {after:02x?}");
    // What is neither a report nor a description keeps its order.
    let rest = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
        all.iter().filter(|packet| !(200..=202).contains(&packet[1])).cloned().collect()
    };
    assert_eq!(rest(&split(&merged)), rest(&before));
}

/// Without its padding, which goes where a packet is not a compound's last (RFC 3550, 6.4.1).
fn unpadded(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let padding = packet.last().copied().unwrap_or(0);
    let left = packet.len().saturating_sub(padding.into());
    if packet[0] & 0x20 != 0 && padding != 0 && padding % 4 == 0 && left >= 4 {
        packet.truncate(left);
        packet[0] &= !0x20;
        packet[3] = (left / 4 - 1) as u8;
        packet[2] = ((left / 4 - 1) >> 8) as u8;
    }
    packet
}

pub(crate) fn rtcp_seeds() -> Vec<Vec<u8>> {
    let seed = |mode: u8, mtu: u16| {
        let head = Seed::default().bytes([mode]).bytes(mtu.to_be_bytes()).chunk("sandbar@example");
        valid::compounds().into_iter().fold(head, Seed::chunk).0
    };
    vec![seed(0, 1200), seed(0, 100), seed(1, 200), seed(1, 1200)]
}

/// What is shown to a guest, and what it hands on.
pub(crate) fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let mtu = 64 + u16::from(input.byte());
    let info = StreamInfo { ssrc: 7, ssrc_retransmission: Some(8), ..StreamInfo::default() };
    let mut batch = fuzzing::Batch::new(info, mtu).expect("there is room for one");
    let mut shown = Vec::new();
    for _ in 0..input.byte() % 8 {
        let (flags, bytes) = (input.byte(), Bytes::copy_from_slice(input.chunk()));
        let packet = match Kind::of(&bytes) {
            Kind::Rtp => RtpPacket::parse(bytes).map(Packet::from).ok(),
            Kind::Rtcp => RtcpPacket::parse(bytes).map(Packet::from).ok(),
        };
        if let Some(packet) = packet {
            let (whole, waits) = (flags & 1 != 0, flags & 2 == 0);
            batch.show(&packet, whole, waits);
            shown.push((packet, whole, waits));
        }
    }
    // As it came, all of what waits: a guest that changes nothing.
    let frames = batch.frames().to_vec();
    let echo = input.byte() & 1 == 0;
    let handed = batch.hand_on(if echo { &frames } else { input.rest() });
    let fits = |(packet, ..): &(Packet, bool, bool)| match packet {
        Packet::Rtp(packet) => packet.size() <= mtu.into() && [7, 8].contains(&packet.ssrc()),
        _ => true,
    };
    if echo && shown.iter().all(|shown| fits(shown) && shown.2) {
        let handed = handed.as_ref().expect("what was shown may be handed on");
        assert_eq!(handed.len(), shown.len());
    }
    let Ok(handed) = handed else { return };
    let mut seen = vec![false; shown.len()];
    for (token, bytes) in handed {
        let (packet, whole, waits) = &shown[token as usize];
        assert!(*waits && !std::mem::replace(&mut seen[token as usize], true), "{token} may not be handed on (again)");
        if bytes.is_empty() {
            continue;
        }
        match packet {
            Packet::Rtcp(_) => check_rtcp(&bytes),
            Packet::Rtp(packet) => {
                let hidden = if *whole { 0 } else { packet.payload().len() };
                assert!(bytes.len() + hidden <= mtu.into(), "over the MTU");
                assert!(header_len(&bytes).is_ok_and(|len| len == bytes.len()) || *whole, "not a header");
                let mut after = packet.clone();
                let written = if *whole {
                    Bytes::from(bytes)
                } else {
                    assert!(fuzzing::replace_header_only(&mut after, &bytes));
                    Packet::from(after).to_bytes()
                };
                check_rtp(&written, mtu.into());
                let ssrc = RtpPacket::parse(written).expect("RTP").ssrc();
                assert!([7, 8, packet.ssrc()].contains(&ssrc), "the SSRC {ssrc} is foreign");
            }
            Packet::Malformed(..) => unreachable!("it is not shown"),
        }
    }
}

pub(crate) fn frames_seeds() -> Vec<Vec<u8>> {
    let shown = |mtu: u8| {
        Seed::default()
            .bytes([mtu, 4, 0])
            .chunk(valid::rtp(7, 1, b"media"))
            .bytes([1])
            .chunk(valid::ornate(7))
            .bytes([0])
            .chunk(&valid::compounds()[0])
            .bytes([3])
            .chunk(valid::rtp(8, 2, b"retransmitted"))
    };
    let frame = |packet: u8, bytes: &[u8]| {
        let mut head = [0; 24];
        (head[2], head[20]) = (bytes.len() as u8, packet);
        [&head[..], bytes].concat()
    };
    let handed = [
        frame(0, &valid::rtp(7, 1, b"")),
        frame(1, &valid::ornate(8)),
        frame(2, &valid::compounds()[1]),
        frame(0, &[]),
    ];
    let own = |handed: &[Vec<u8>]| shown(200).bytes([1]).bytes(handed.concat()).0;
    vec![shown(255).bytes([0]).0, own(&handed[..3]), own(&handed[1..]), own(&handed)]
}

/// A file that may be a plugin.
pub(crate) fn survey(data: &[u8]) {
    let found = fuzzing::survey(data);
    assert_eq!(found, fuzzing::survey(data), "the same file is the same plugin");
    match found {
        // The functions are as many as the file says: the compiler is not reached with more than may be.
        Ok((imports, _, modules)) => {
            let named: usize = imports.iter().map(String::len).sum();
            assert!(named <= data.len() && modules as usize <= data.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Where a byte is changed and how, and a file.
pub(crate) fn signature(data: &[u8]) {
    let mut input = Input::new(data);
    let (at, change) = (usize::from(input.word()), input.byte().max(1));
    let key = SecretKey::from_bytes(&[7; 32]);
    let mut signed = match key.sign(input.rest()) {
        Ok(signed) => signed,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(signers(&signed).is_ok_and(|by| by.contains(&key.public())), "what was signed is not found");
    let at = at % signed.len();
    signed[at] ^= change;
    assert!(!signers(&signed).is_ok_and(|by| by.contains(&key.public())), "byte {at} was changed by {change:#x}");
}

pub(crate) fn signature_seeds() -> Vec<Vec<u8>> {
    let other = SecretKey::from_bytes(&[9; 32]);
    let files = survey_seeds().into_iter();
    let signed = files.clone().filter_map(|file| other.sign(&file).ok());
    files.chain(signed).map(|file| [&[0, 40, 1][..], &file].concat()).collect()
}

pub(crate) fn survey_seeds() -> Vec<Vec<u8>> {
    let interface = |name: &str| format!("sandbar:interceptor/{name}@{}", sandbar_host::CONTRACT);
    let component = |version: &str| {
        format!(
            r#"(component
                 (import "{time}" (instance $time (export "now" (func (result u64)))))
                 (import "wasi:io/poll@0.2.0" (instance))
                 (core module (func (export "f") (result i32) i32.const 7))
                 (component (core module (func)))
                 (instance $empty)
                 (export "{member}{version}" (instance $empty))
                 (export "{description}" (instance $empty))
                 (export "{batch}" (instance $empty)))"#,
            time = interface("time"),
            member = interface("member"),
            description = interface("description"),
            batch = interface("batch"),
        )
    };
    let texts = [component(""), component("9"), "(component)".to_owned(), "(module (func))".to_owned()];
    let built = texts.iter().map(|text| wat::parse_str(text).expect("a component"));
    built.chain([b"(component)".to_vec(), b"\x7fELF".to_vec()]).collect()
}
