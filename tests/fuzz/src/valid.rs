//! Valid packets, to begin from; and what has to be true of every packet that comes out of anything.

use bytes::Bytes;
use sandbar_host::{RtcpPacket, RtpPacket};
use sandbar_sdk::{HeaderBuf, RtcpParts};

/// Whether the host takes bytes for RTP; what it does not take, no plugin is shown.
pub(crate) fn is_rtp(bytes: &[u8]) -> bool {
    RtpPacket::parse(Bytes::copy_from_slice(bytes)).is_ok()
}

/// Whether the host takes bytes for RTCP.
pub(crate) fn is_rtcp(bytes: &[u8]) -> bool {
    RtcpPacket::parse(Bytes::copy_from_slice(bytes)).is_ok()
}

/// What leaves has to be RTP, and within the MTU unless it came larger.
#[track_caller]
pub(crate) fn check_rtp(bytes: &[u8], most: usize) {
    assert!(is_rtp(bytes), "this is not RTP: {bytes:02x?}");
    assert!(bytes.len() <= most, "{} bytes, and {most} are allowed", bytes.len());
}

/// What leaves has to be whole RTCP packets.
#[track_caller]
pub(crate) fn check_rtcp(bytes: &[u8]) {
    assert!(is_rtcp(bytes), "this is not RTCP: {bytes:02x?}");
    let parts: usize = RtcpParts::of(bytes).map(|part| part.bytes.len()).sum();
    assert_eq!(parts, bytes.len(), "the SDK and the host do not agree");
}

/// A packet with everything that a header can have.
pub(crate) fn rtp(ssrc: u32, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = HeaderBuf::new(96, ssrc);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp(u32::from(number) * 960);
    for (id, value) in [(5, &number.to_be_bytes()[..]), (6, &[0x9e])] {
        assert!(header.edit().set_extension(id, value).is_ok());
    }
    [header.as_bytes(), payload].concat()
}

/// The same with CSRCs, padding and two-byte extensions.
pub(crate) fn ornate(ssrc: u32) -> Vec<u8> {
    let head = [0xb2, 0xe0, 0, 7, 0, 0, 9, 0];
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x10, 0, 0, 2, 5, 2, 0, 7, 200, 0, 0, 0];
    [&head[..], &ssrc.to_be_bytes(), &rest, b"media", &[0, 0, 3]].concat()
}

/// An RTCP packet: its first byte's count, its type, and what follows its header.
pub(crate) fn rtcp(count: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80 | count, kind, 0, 0];
    packet.extend_from_slice(body);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

/// Sources of the sessions of plugin targets: a stream of each direction with its retransmissions and its repair.
pub(crate) const REMOTE: [u32; 3] = [7, 8, 9];
pub(crate) const LOCAL: [u32; 3] = [17, 18, 19];

/// Compounds of every kind that someone reads.
pub(crate) fn compounds() -> Vec<Vec<u8>> {
    let about = |ssrc: u8, body: &[u8]| [&[0, 0, 0, 1, 0, 0, 0, ssrc][..], body].concat();
    let block = |ssrc: u8| [&[0, 0, 0, ssrc, 3, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 5][..], &[1; 8]].concat();
    let receiver = rtcp(2, 201, &[&[0, 0, 0, 1][..], &block(17), &block(18)].concat());
    let sender = rtcp(1, 200, &[&[0, 0, 0, 7][..], &[1; 20], &block(17)].concat());
    let sdes = rtcp(1, 202, b"\0\0\0\x01\x01\x03a@b\0\0\0");
    let nack = rtcp(1, 205, &about(17, &[0, 1, 0xff, 0, 0xff, 0xfe, 0, 3]));
    let pli = rtcp(1, 206, &about(17, &[]));
    let fir = rtcp(4, 206, &about(0, &[0, 0, 0, 17, 1, 0, 0, 0]));
    // A run of 3 small deltas, a vector of two-bit symbols: 2 bytes, 1 byte, none.
    let twcc = rtcp(15, 205, &about(17, &[0, 1, 0, 6, 0, 0, 1, 7, 0x20, 3, 0xe4, 0, 4, 5, 6, 0x12, 0x34, 9]));
    let ccfb = rtcp(11, 205, &[0, 0, 0, 1, 0, 0, 0, 17, 0, 1, 0, 3, 0x80, 9, 0, 0, 0x9f, 0xfe, 0, 0, 0, 1, 0, 0]);
    let xr = rtcp(0, 207, &[&[0, 0, 0, 7, 4, 0, 0, 2][..], &[1; 8], &[5, 0, 0, 3, 0, 0, 0, 1], &[2; 8]].concat());
    let bye = rtcp(1, 203, &[0, 0, 0, 7]);
    // The padding bit is next to the count.
    let padded = rtcp(1 | 0x20, 203, &[0, 0, 0, 7, 0, 0, 0, 4]);
    let all = [receiver.clone(), sdes, nack.clone(), pli, fir, twcc.clone(), ccfb.clone(), xr.clone()].concat();
    vec![receiver, sender, nack, twcc, ccfb, xr, padded, bye, all]
}
