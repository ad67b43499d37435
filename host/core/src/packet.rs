//! RTP and RTCP packets on their way through a chain: payloads shared by reference count, headers replaceable.

use bytes::Bytes;

use crate::attributes::Attributes;
use crate::frame::copy_short;
use crate::time::Instant;
use crate::{extension, rtcp};

/// Whether bytes from a socket are RTP or RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Media, or its retransmission or repair.
    Rtp,
    /// Control.
    Rtcp,
}

impl Kind {
    /// Tells RTCP from RTP on a shared port by the second byte (RFC 5761, 4).
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.get(1) {
            Some(192..=223) => Self::Rtcp,
            _ => Self::Rtp,
        }
    }
}

/// Why bytes are not an RTP packet (RFC 3550, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Fewer bytes than the header announces.
    #[error("{have} bytes, and the RTP header alone needs {need}")]
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes that the header says it has.
        need: usize,
    },
    /// Another version than 2.
    #[error("RTP version {0}; only 2 is known")]
    Version(u8),
    /// The padding count is 0 or larger than what follows the header.
    #[error("{0} bytes of padding in {1} bytes of payload")]
    Padding(u8, usize),
    /// More than a datagram holds.
    #[error("{0} bytes; an RTP packet has at most 65535")]
    Long(usize),
}

/// Bytes of the RTP header at the start of `bytes`, with CSRCs and extensions.
pub fn header_len(bytes: &[u8]) -> Result<usize, RtpError> {
    let have = bytes.len();
    let need = |need: usize| if have < need { Err(RtpError::Short { have, need }) } else { Ok(need) };
    need(12)?;
    if bytes[0] >> 6 != 2 {
        return Err(RtpError::Version(bytes[0] >> 6));
    }
    let fixed = need(12 + 4 * usize::from(bytes[0] & 0x0f))?;
    if bytes[0] & 0x10 == 0 {
        return Ok(fixed);
    }
    need(fixed + 4)?;
    let words = u16::from_be_bytes([bytes[fixed + 2], bytes[fixed + 3]]);
    need(fixed + 4 + 4 * usize::from(words))
}

/// Bytes of the header, after checking the packet as a whole.
pub(crate) fn check(bytes: &[u8]) -> Result<usize, RtpError> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(RtpError::Long(bytes.len()));
    }
    let header = header_len(bytes)?;
    if bytes[0] & 0x20 != 0 {
        check_padding(bytes[bytes.len() - 1], bytes.len() - header)?;
    }
    Ok(header)
}

/// RFC 3550, 5.1: the last byte counts the padding, itself included.
fn check_padding(padding: u8, payload: usize) -> Result<(), RtpError> {
    if padding == 0 || usize::from(padding) > payload { Err(RtpError::Padding(padding, payload)) } else { Ok(()) }
}

/// The fixed fields of a header that `header_len` has accepted.
#[derive(Clone, Copy)]
pub(crate) struct Fixed<'a>(pub(crate) &'a [u8]);

impl Fixed<'_> {
    pub(crate) fn sequence_number(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    pub(crate) fn timestamp(self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    pub(crate) fn ssrc(self) -> u32 {
        u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    pub(crate) fn payload_type(self) -> u8 {
        self.0[1] & 0x7f
    }
}

/// Bytes that stand in for a header on the wire, at most; a header of that length is rare, and is put together with its
/// payload.
const FRONT: usize = 40;

/// An RTP packet. A copy costs a reference count: the payload is shared, and so is the header until it is replaced.
#[derive(Debug)]
pub struct RtpPacket {
    /// Header and payload as they arrived, or only the payload where the header was replaced by one of its own.
    wire: Bytes,
    pub(crate) time: Instant,
    pub(crate) attributes: Attributes,
    /// A header in place of the one in `wire`, and behind it what goes before the payload in `wire`.
    front: [u8; FRONT],
    /// Bytes of `front` that are in use; 0 while the header is the one in `wire`.
    front_len: u8,
    pub(crate) repaired: bool,
    /// Bytes of the header, wherever it is.
    header_len: u16,
    /// Where the payload begins in `wire`.
    payload_at: u16,
}

impl Clone for RtpPacket {
    #[inline]
    fn clone(&self) -> Self {
        let mut copy = Self::checked(Bytes::new(), 0, self.time);
        copy.clone_from(self);
        copy
    }

    /// Field by field, each to where it stays: a history's packets take the place of earlier ones, and putting a packet
    /// together to move it there takes longer than all the rest.
    #[inline]
    fn clone_from(&mut self, from: &Self) {
        self.wire = from.wire.clone();
        self.time = from.time;
        if !(self.attributes.is_empty() && from.attributes.is_empty()) {
            self.attributes = from.attributes.clone();
        }
        self.front = from.front;
        self.front_len = from.front_len;
        self.repaired = from.repaired;
        self.header_len = from.header_len;
        self.payload_at = from.payload_at;
    }
}

impl RtpPacket {
    /// Takes what `from` is, which is left with what this was, as far as that is shared with others.
    #[inline]
    pub(crate) fn swap_from(&mut self, from: &mut Self) {
        std::mem::swap(&mut self.wire, &mut from.wire);
        if !(self.attributes.is_empty() && from.attributes.is_empty()) {
            std::mem::swap(&mut self.attributes, &mut from.attributes);
        }
        self.time = from.time;
        self.front = from.front;
        self.front_len = from.front_len;
        self.repaired = from.repaired;
        self.header_len = from.header_len;
        self.payload_at = from.payload_at;
    }

    /// Takes a packet as it is on the wire. Bytes are shared, not copied.
    pub fn parse(bytes: Bytes) -> Result<Self, RtpError> {
        let header = check(&bytes)?;
        Ok(Self::checked(bytes, header, Instant::ZERO))
    }

    /// A packet that `check` has accepted, whose header has `header` bytes.
    #[inline]
    pub(crate) fn checked(bytes: Bytes, header: usize, time: Instant) -> Self {
        Self {
            wire: bytes,
            time,
            attributes: Attributes::NONE,
            front: [0; FRONT],
            front_len: 0,
            repaired: false,
            header_len: header as u16,
            payload_at: header as u16,
        }
    }

    /// No packet: where one is to be put.
    pub(crate) fn none() -> Self {
        Self::checked(Bytes::new(), 0, Instant::ZERO)
    }

    /// Whether it is no packet.
    pub(crate) fn is_none(&self) -> bool {
        self.header_len == 0
    }

    /// Puts `header`, which `header_len` has accepted as a whole, before a payload.
    pub(crate) fn assemble(header: &[u8], payload: Bytes) -> Self {
        let mut packet = Self { header_len: 0, payload_at: 0, ..Self::checked(payload, 0, Instant::ZERO) };
        packet.replace_header(header);
        packet
    }

    /// The RTP header with CSRCs and extensions.
    #[inline]
    pub fn header(&self) -> &[u8] {
        let from = if self.front_len > 0 { &self.front[..] } else { &self.wire[..] };
        from.get(..usize::from(self.header_len)).unwrap_or_default()
    }

    /// What follows the header, padding included: shared, and copied only where something was put before it.
    pub fn payload(&self) -> Bytes {
        match self.payload_parts() {
            [[], _] => self.wire.slice(usize::from(self.payload_at)..),
            parts => parts.concat().into(),
        }
    }

    /// The same, borrowed: what was put before the payload as it arrived, such as RTX's original sequence number, and
    /// that payload.
    #[inline]
    pub fn payload_parts(&self) -> [&[u8]; 2] {
        let prefix = self.front.get(usize::from(self.header_len)..usize::from(self.front_len)).unwrap_or_default();
        [prefix, &self.wire[usize::from(self.payload_at)..]]
    }

    /// The last byte of the packet, which counts the padding where there is some.
    pub(crate) fn last_byte(&self) -> Option<u8> {
        let [prefix, payload] = self.payload_parts();
        payload.last().or(prefix.last()).copied()
    }

    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        self.payload_parts().iter().map(|part| part.len()).sum()
    }

    /// Replaces the header and leaves the payload alone.
    pub fn set_header(&mut self, header: &[u8]) -> Result<(), RtpError> {
        let need = header_len(header)?;
        if need != header.len() {
            return Err(RtpError::Short { have: header.len(), need });
        }
        let size = header.len() + self.payload_len();
        if size > usize::from(u16::MAX) {
            return Err(RtpError::Long(size));
        }
        self.replace_header(header);
        Ok(())
    }

    /// Puts a header extension on the packet. False, and the packet is as it was, where its header cannot hold it or the
    /// packet would become larger than `mtu`.
    #[inline]
    pub(crate) fn stamp(&mut self, extension: u8, value: &[u8], mtu: u16) -> bool {
        if self.header()[0] & 0x10 == 0
            && self.payload_len() + usize::from(self.header_len) + 8 <= usize::from(mtu)
            && let Some(block) = extension::short_block(extension, value)
            && self.append_block(block)
        {
            return true;
        }
        let Some(header) = extension::set(self.header(), extension, value) else { return false };
        let grows = header.len() > usize::from(self.header_len);
        let fits = !grows || header.len() + self.payload_len() <= usize::from(mtu);
        if fits {
            self.replace_header(&header);
        }
        fits
    }

    /// Puts an extension block behind the header, which has none, where that is short and nothing stands before the payload.
    #[inline]
    fn append_block(&mut self, block: [u8; 8]) -> bool {
        let len = usize::from(self.header_len);
        if len + block.len() > FRONT || usize::from(self.front_len) > len {
            return false;
        }
        if self.front_len == 0 {
            copy_short(&mut self.front, &self.wire[..len]);
        }
        if let Some(place) = self.front[len..].first_chunk_mut() {
            *place = block;
        }
        // As much at once as was written at once: to read a part of that and write a byte back takes longer than all this.
        if let Some(beginning) = self.front.first_chunk_mut() {
            *beginning = (u64::from_le_bytes(*beginning) | 0x10).to_le_bytes();
        }
        self.header_len += block.len() as u16;
        self.front_len = self.header_len as u8;
        true
    }

    /// What a plugin that sees headers makes of this packet's. Padding is at the end of the payload, which stays: so does
    /// the bit that announces it.
    pub(crate) fn replace_header_only(&mut self, header: &[u8]) {
        let padding = self.header()[0] & 0x20;
        if header[0] & 0x20 == padding {
            return self.replace_header(header);
        }
        let mut header = header.to_vec();
        header[0] ^= 0x20;
        self.replace_header(&header);
    }

    /// `set_header` for a header that has been checked.
    #[inline]
    pub(crate) fn replace_header(&mut self, header: &[u8]) {
        let old = usize::from(self.header_len);
        let prefix = usize::from(self.front_len).saturating_sub(old);
        let len = header.len() + prefix;
        if len > FRONT {
            return self.put_together(header, &[]);
        }
        if prefix > 0 {
            self.front.copy_within(old..old + prefix, header.len());
        }
        copy_short(&mut self.front, header);
        self.front_len = len as u8;
        self.header_len = header.len() as u16;
    }

    /// Puts bytes between the header and the payload, which stays shared.
    pub(crate) fn put_before_payload(&mut self, prefix: &[u8]) {
        let header = self.header().to_vec();
        let before = [prefix, self.payload_parts()[0]].concat();
        if header.len() + before.len() > FRONT {
            return self.put_together(&header, prefix);
        }
        self.front[..header.len()].copy_from_slice(&header);
        self.front[header.len()..header.len() + before.len()].copy_from_slice(&before);
        self.front_len = (header.len() + before.len()) as u8;
    }

    /// Makes one piece of a header and a payload with something before it.
    #[cold]
    fn put_together(&mut self, header: &[u8], prefix: &[u8]) {
        let [before, payload] = self.payload_parts();
        self.wire = [header, prefix, before, payload].concat().into();
        self.front_len = 0;
        self.header_len = header.len() as u16;
        self.payload_at = header.len() as u16;
    }

    /// Bytes of padding at its end (RFC 3550, 5.1).
    #[inline]
    pub(crate) fn padding(&self) -> u8 {
        if self.header()[0] & 0x20 == 0 { 0 } else { self.last_byte().unwrap_or(0) }
    }

    /// Checks the padding that the header announces.
    pub(crate) fn check_padding(&self) -> Result<(), RtpError> {
        match self.header()[0] & 0x20 {
            0 => Ok(()),
            _ => check_padding(self.last_byte().unwrap_or(0), self.payload_len()),
        }
    }

    /// Takes another packet's header and payload, and keeps time, attributes and `repaired`.
    pub(crate) fn replace_packet(&mut self, packet: Self) {
        let Self { time, repaired, .. } = *self;
        *self = Self { time, repaired, attributes: std::mem::take(&mut self.attributes), ..packet };
    }

    /// Unwraps a retransmission (RFC 4588, 4): the original sequence number is the payload's first two bytes. `None`
    /// where the payload is too short to be one, as in padding that probes a path.
    pub(crate) fn unwrap_rtx(&self, ssrc: u32, payload_type: u8) -> Option<Self> {
        let payload = &self.wire[usize::from(self.payload_at)..];
        let padding = match self.header()[0] & 0x20 {
            0 => 0,
            _ => usize::from(*payload.last()?),
        };
        if payload.len() < 2 + padding {
            return None;
        }
        let mut header = self.header().to_vec();
        header[1] = header[1] & 0x80 | payload_type & 0x7f;
        header[2..4].copy_from_slice(&payload[..2]);
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut original = Self { payload_at: self.payload_at + 2, repaired: true, ..self.clone() };
        original.replace_header(&header);
        Some(original)
    }

    /// The sequence number.
    #[inline]
    pub fn sequence_number(&self) -> u16 {
        Fixed(self.header()).sequence_number()
    }

    /// The timestamp, in units of the stream's clock rate.
    #[inline]
    pub fn timestamp(&self) -> u32 {
        Fixed(self.header()).timestamp()
    }

    /// The synchronisation source.
    #[inline]
    pub fn ssrc(&self) -> u32 {
        Fixed(self.header()).ssrc()
    }

    /// The payload type.
    #[inline]
    pub fn payload_type(&self) -> u8 {
        Fixed(self.header()).payload_type()
    }

    /// The marker bit.
    pub fn marker(&self) -> bool {
        self.header()[1] & 0x80 != 0
    }

    /// Bytes on the wire.
    pub fn size(&self) -> usize {
        self.header().len() + self.payload_len()
    }

    /// When the packet entered the host.
    pub fn time(&self) -> Instant {
        self.time
    }

    /// Whether the packet was lost and came back by retransmission or repair.
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// What rides with the packet.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// What rides with the packet, to change.
    pub fn attributes_mut(&mut self) -> &mut Attributes {
        &mut self.attributes
    }
}

/// An RTCP compound.
#[derive(Clone, Debug)]
pub struct RtcpPacket {
    pub(crate) bytes: Bytes,
    pub(crate) time: Instant,
    pub(crate) attributes: Attributes,
}

impl RtcpPacket {
    /// Takes a compound as it is on the wire, after checking that its packets' lengths add up. Shared, not copied.
    pub fn parse(bytes: Bytes) -> Result<Self, rtcp::RtcpError> {
        rtcp::check(&bytes)?;
        Ok(Self::plain(bytes))
    }

    /// A compound that has been checked.
    pub(crate) fn plain(bytes: Bytes) -> Self {
        Self { bytes, time: Instant::ZERO, attributes: Attributes::NONE }
    }

    /// The compound's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// When the packet entered the host.
    pub fn time(&self) -> Instant {
        self.time
    }

    /// What rides with the packet.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }
}

/// A packet of either kind. A copy costs a reference count.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Media, or its retransmission or repair.
    Rtp(RtpPacket),
    /// Control.
    Rtcp(RtcpPacket),
    /// Bytes that are not what they were said to be, passed on as they are where the session allows it.
    Malformed(Kind, Bytes),
}

impl Packet {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Rtp(_) => Kind::Rtp,
            Self::Rtcp(_) => Kind::Rtcp,
            Self::Malformed(kind, _) => *kind,
        }
    }

    /// Bytes on the wire.
    pub fn size(&self) -> usize {
        match self {
            Self::Rtp(packet) => packet.size(),
            Self::Rtcp(packet) => packet.bytes.len(),
            Self::Malformed(_, bytes) => bytes.len(),
        }
    }

    /// Appends the packet as it is on the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Rtp(packet) => {
                out.extend_from_slice(packet.header());
                packet.payload_parts().iter().for_each(|part| out.extend_from_slice(part));
            }
            Self::Rtcp(packet) => out.extend_from_slice(&packet.bytes),
            Self::Malformed(_, bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The packet as it is on the wire: shared where its header is as it arrived, copied otherwise.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Rtp(packet) if packet.front_len == 0 => packet.wire.clone(),
            Self::Rtp(_) => {
                let mut out = Vec::with_capacity(self.size());
                self.write_to(&mut out);
                out.into()
            }
            Self::Rtcp(packet) => packet.bytes.clone(),
            Self::Malformed(_, bytes) => bytes.clone(),
        }
    }

    pub(crate) fn attributes(&self) -> &Attributes {
        match self {
            Self::Rtp(packet) => &packet.attributes,
            Self::Rtcp(packet) => &packet.attributes,
            Self::Malformed(..) => &Attributes::NONE,
        }
    }

    pub(crate) fn set_attributes(&mut self, attributes: Attributes) {
        match self {
            Self::Rtp(packet) => packet.attributes = attributes,
            Self::Rtcp(packet) => packet.attributes = attributes,
            Self::Malformed(..) => {}
        }
    }
}

impl From<RtpPacket> for Packet {
    fn from(packet: RtpPacket) -> Self {
        Self::Rtp(packet)
    }
}

impl From<RtcpPacket> for Packet {
    fn from(packet: RtcpPacket) -> Self {
        Self::Rtcp(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7];
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn rfc_3550_5_1_the_header_ends_after_csrcs_and_extension() {
        let bytes = packet(0x80 | 0x10 | 2, &[1, 1, 1, 1, 2, 2, 2, 2, 0xbe, 0xde, 0, 1, 0x10, 7, 0, 0, 42]);
        let parsed = RtpPacket::parse(bytes.into()).unwrap();
        assert_eq!(parsed.header().len(), 28);
        assert_eq!(parsed.payload(), [42][..]);
        assert_eq!((parsed.ssrc(), parsed.sequence_number(), parsed.timestamp()), (7, 0x1234, 9));
        assert_eq!((parsed.payload_type(), parsed.marker()), (96, true));
    }

    #[test]
    fn rfc_3550_5_1_what_is_short_or_lies_is_refused() {
        for (bytes, error) in [
            (packet(0x80, &[])[..11].to_vec(), RtpError::Short { have: 11, need: 12 }),
            (packet(0x40, &[]), RtpError::Version(1)),
            (packet(0x8f, &[0; 8]), RtpError::Short { have: 20, need: 72 }),
            (packet(0x90, &[0xbe, 0xde, 0xff, 0xff]), RtpError::Short { have: 16, need: 16 + 4 * 0xffff }),
            (packet(0xa0, &[0]), RtpError::Padding(0, 1)),
            (packet(0xa0, &[9, 3]), RtpError::Padding(3, 2)),
        ] {
            assert_eq!(RtpPacket::parse(bytes.into()).unwrap_err(), error);
        }
    }

    #[test]
    fn a_replaced_header_leaves_the_payload_shared() {
        let mut parsed = RtpPacket::parse(packet(0x80, b"media").into()).unwrap();
        let payload = parsed.payload();
        let mut header = parsed.header().to_vec();
        header[3] = 0x35;
        parsed.set_header(&header).unwrap();
        assert_eq!(parsed.payload().as_ptr(), payload.as_ptr());
        assert_eq!(parsed.sequence_number(), 0x1235);
        assert_eq!(parsed.size(), 17);
        assert!(parsed.set_header(&header[..11]).is_err());
        header.push(0);
        assert!(parsed.set_header(&header).is_err());
    }

    #[test]
    fn a_header_of_any_length_may_stand_in_with_something_behind_it() {
        for words in 0..20u8 {
            let mut packet = RtpPacket::parse(packet(0x80, b"media").into()).unwrap();
            let mut header = [packet.header(), &[0xbe, 0xde, 0, words]].concat();
            header.resize(header.len() + 4 * usize::from(words), 7);
            header[0] |= 0x10;
            let short = packet.header().to_vec();
            packet.put_before_payload(b"os");
            packet.set_header(&header).unwrap();
            assert_eq!((packet.header(), &packet.payload()[..]), (&header[..], &b"osmedia"[..]), "{words}");
            packet.put_before_payload(b"n");
            assert_eq!(packet.payload(), b"nosmedia"[..], "{words}");
            packet.set_header(&short).unwrap();
            assert_eq!(Packet::Rtp(packet).to_bytes()[12..], b"nosmedia"[..], "{words}");
        }
    }

    #[test]
    fn a_header_that_makes_the_packet_too_long_is_refused() {
        let mut long = RtpPacket::parse(packet(0x80, &[0; 65_000]).into()).unwrap();
        let mut header = [long.header(), &[0xbe, 0xde, 1, 0]].concat();
        header[0] |= 0x10;
        header.resize(16 + 4 * 256, 0);
        assert_eq!(long.set_header(&header), Err(RtpError::Long(66_040)));
    }

    #[test]
    fn what_goes_before_the_payload_leaves_it_shared() {
        let mut packet = RtpPacket::parse(packet(0x80, b"media").into()).unwrap();
        let media = packet.payload_parts()[1].as_ptr();
        packet.put_before_payload(b"os");
        assert_eq!(packet.payload(), b"osmedia"[..]);
        let header = [packet.header(), &[]].concat();
        packet.set_header(&header).unwrap();
        assert_eq!(packet.payload_parts()[1].as_ptr(), media);
        let bytes = Packet::Rtp(packet.clone()).to_bytes();
        assert_eq!((bytes.len(), &bytes[12..]), (packet.size(), &b"osmedia"[..]));
    }

    #[test]
    fn rfc_4588_4_a_retransmission_becomes_the_packet_that_was_lost() {
        let rtx = RtpPacket::parse(packet(0x80, &[0xab, 0xcd, 1, 2, 3]).into()).unwrap();
        let original = rtx.unwrap_rtx(0x1111, 100).unwrap();
        assert_eq!((original.ssrc(), original.payload_type(), original.sequence_number()), (0x1111, 100, 0xabcd));
        assert_eq!(original.payload(), [1, 2, 3][..]);
        assert!(original.repaired() && original.marker());
        let probe = RtpPacket::parse(packet(0xa0, &[0, 0, 3]).into()).unwrap();
        assert!(probe.unwrap_rtx(0x1111, 100).is_none());
    }
}
