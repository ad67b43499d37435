//! Packets on their way through a plugin.

use crate::attributes::{Attribute, Value};
use crate::binding::View;
use crate::edit::{HeaderMut, State};
use crate::error::AttributeError;
use crate::header::{Header, Layout, MalformedHeader};
use crate::host;
use crate::short;
use crate::stream::StreamId;
use crate::time::Instant;

/// What becomes of a packet. From an observer, anything but `Forward` is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on, with what was changed in place.
    #[default]
    Forward,
    /// It goes on with these bytes in place of those shown: a header (view `Headers`: the payload stays as it is), a
    /// whole packet, or a whole compound. Without bytes, it is dropped.
    Replace(Vec<u8>),
    /// It ends here, unless it is [held](crate::Context::hold).
    Drop,
    /// Whole packets in its place, in this order. RTP packets count as emitted, so the plugin must want `emit_rtp`; RTCP
    /// packets are joined into one compound.
    Packets(Vec<Vec<u8>>),
}

/// Facts about a packet that are not in its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) packet: u32,
    pub(crate) time: Instant,
    pub(crate) size: u16,
    pub(crate) padding: u8,
    pub(crate) repaired: bool,
    pub(crate) attributes: bool,
}

/// An RTP packet on its way through the plugin.
pub struct RtpPacket<'a> {
    stream: StreamId,
    facts: Facts,
    view: View,
    bytes: &'a mut [u8],
    copy: &'a mut Vec<u8>,
    state: State,
}

impl<'a> RtpPacket<'a> {
    /// `copy` is where the packet goes if it has to grow; what is in it is lost then.
    #[inline]
    pub(crate) fn new(
        stream: StreamId,
        facts: Facts,
        view: View,
        bytes: &'a mut [u8],
        copy: &'a mut Vec<u8>,
    ) -> Result<Self, MalformedHeader> {
        let layout = match view {
            View::Headers => Layout::of_header(bytes)?,
            View::Packets => Layout::of(bytes)?,
        };
        let state = State { layout, changed: false, grown: false };
        Ok(RtpPacket { stream, facts, view, bytes, copy, state })
    }

    /// The host's number for it in the running call.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.facts.packet
    }

    /// The stream it belongs to.
    #[inline]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// When it entered the host, or a plugin emitted it; for an observer that is before now. What was held, or is
    /// made of the history, keeps the time at which it arrived if its stream is remote.
    #[inline]
    pub fn time(&self) -> Instant {
        self.facts.time
    }

    /// Bytes of the whole packet as it came, also under the view `Headers`.
    #[inline]
    pub fn size(&self) -> usize {
        self.facts.size.into()
    }

    /// Bytes of padding at its end, as it came (RFC 3550, 5.1); 0 without the P bit. Also under the view `Headers`.
    #[inline]
    pub fn padding(&self) -> usize {
        self.facts.padding.into()
    }

    /// It was lost and came back: not a new arrival of its own sequence number, though a retransmission's header
    /// extensions are those of the packet that carried it. Set for what the host unwraps (RFC 4588), and for what a
    /// plugin emits with a payload of its own on a remote stream's own SSRC.
    #[inline]
    pub fn repaired(&self) -> bool {
        self.facts.repaired
    }

    /// Its header, with what was changed so far.
    #[inline]
    pub fn header(&self) -> Header<'_> {
        Header::within(self.bytes(), self.state.layout)
    }

    /// Its header, to change. The changes go on with [`Outcome::Forward`].
    #[inline]
    pub fn header_mut(&mut self) -> HeaderMut<'_> {
        HeaderMut { bytes: self.bytes, copy: self.copy, state: &mut self.state }
    }

    /// What follows the header, padding included; none under the view `Headers`.
    #[inline]
    pub fn payload(&self) -> Option<&[u8]> {
        match self.view {
            View::Headers => None,
            View::Packets => self.bytes().get(self.state.layout.len..),
        }
    }

    /// What follows the header, to change in place; none under the view `Headers`.
    #[inline]
    pub fn payload_mut(&mut self) -> Option<&mut [u8]> {
        if self.view == View::Headers {
            return None;
        }
        self.state.changed = true;
        let start = self.state.layout.len;
        let bytes: &mut [u8] = if self.state.grown { self.copy } else { self.bytes };
        bytes.get_mut(start..)
    }

    /// Puts other bytes in place of what follows the header, at their end the padding that it announces, if any. Nothing
    /// happens under the view `Headers`.
    pub fn set_payload(&mut self, payload: &[u8]) {
        if self.view == View::Headers {
            return;
        }
        let header = self.state.layout.len;
        self.copy.resize(header + payload.len(), 0);
        if let Some((before, after)) = self.copy.split_at_mut_checked(header) {
            if !self.state.grown {
                short::copy(before, self.bytes);
            }
            short::copy(after, payload);
        }
        self.state.grown = true;
        self.state.changed = true;
    }

    /// The bytes shown, with what was changed so far: the header or the whole packet, by the view.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        if self.state.grown { self.copy } else { self.bytes }
    }

    /// The attribute with this key.
    #[inline]
    pub fn attribute(&self, key: &str) -> Option<Value> {
        if self.facts.attributes { host::attribute(self.facts.packet, key) } else { None }
    }

    /// All attributes.
    #[inline]
    pub fn attributes(&self) -> Vec<Attribute> {
        if self.facts.attributes { host::attributes(self.facts.packet) } else { Vec::new() }
    }

    /// Sets an attribute, for plugins ahead and the application.
    ///
    /// # Errors
    /// The plugin only observes the packet, the key is the host's, or there are too many or too large attributes.
    pub fn set_attribute(&mut self, key: &str, value: impl Into<Value>) -> Result<(), AttributeError> {
        set_attribute(&mut self.facts, key, Some(&value.into()))
    }

    /// Removes an attribute; nothing if there is none.
    ///
    /// # Errors
    /// As [`set_attribute`](Self::set_attribute).
    pub fn remove_attribute(&mut self, key: &str) -> Result<(), AttributeError> {
        set_attribute(&mut self.facts, key, None)
    }

    #[inline]
    pub(crate) fn changed(&self) -> bool {
        self.state.changed
    }
}

/// An RTCP compound on its way through the plugin, whole.
pub struct RtcpPacket<'a> {
    facts: Facts,
    bytes: &'a mut [u8],
    changed: bool,
}

impl<'a> RtcpPacket<'a> {
    #[inline]
    pub(crate) fn new(facts: Facts, bytes: &'a mut [u8]) -> Self {
        RtcpPacket { facts, bytes, changed: false }
    }

    /// When it entered the host, which for an observer is before now.
    #[inline]
    pub fn time(&self) -> Instant {
        self.facts.time
    }

    /// The compound.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The compound, to change in place. The changes go on with [`Outcome::Forward`].
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.changed = true;
        self.bytes
    }

    /// The packets of the compound, read in place.
    #[inline]
    pub fn parts(&self) -> RtcpParts<'_> {
        RtcpParts { rest: self.bytes }
    }

    /// The packets of the compound as values of [`rtcp`](crate::rtcp).
    ///
    /// # Errors
    /// A packet that this crate cannot read; the compound is then best passed on as it is.
    #[cfg(feature = "rtcp")]
    pub fn parse(&self) -> Result<Vec<Box<dyn rtcp::packet::Packet>>, RtcpError> {
        let mut bytes: &[u8] = self.bytes;
        rtcp::packet::unmarshal(&mut bytes).map_err(|_| RtcpError)
    }

    /// The attribute with this key.
    #[inline]
    pub fn attribute(&self, key: &str) -> Option<Value> {
        if self.facts.attributes { host::attribute(self.facts.packet, key) } else { None }
    }

    /// All attributes.
    #[inline]
    pub fn attributes(&self) -> Vec<Attribute> {
        if self.facts.attributes { host::attributes(self.facts.packet) } else { Vec::new() }
    }

    /// Sets an attribute, for plugins ahead and the application.
    ///
    /// # Errors
    /// The plugin only observes the packet, the key is the host's, or there are too many or too large attributes.
    pub fn set_attribute(&mut self, key: &str, value: impl Into<Value>) -> Result<(), AttributeError> {
        set_attribute(&mut self.facts, key, Some(&value.into()))
    }

    #[inline]
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }
}

fn set_attribute(facts: &mut Facts, key: &str, value: Option<&Value>) -> Result<(), AttributeError> {
    host::set_attribute(facts.packet, key, value)?;
    // From now on there is something to ask for.
    facts.attributes = true;
    Ok(())
}

/// An RTCP packet that cannot be read.
#[cfg(feature = "rtcp")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpError;

#[cfg(feature = "rtcp")]
impl std::fmt::Display for RtcpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed RTCP packet")
    }
}

#[cfg(feature = "rtcp")]
impl std::error::Error for RtcpError {}

/// One RTCP packet of a compound (RFC 3550, 6.4), read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpPart<'a> {
    /// Such as 200 for a sender report, 205 for transport feedback, 206 for payload feedback.
    pub packet_type: u8,
    /// The five bits after the padding bit: report count, or feedback message type.
    pub count: u8,
    /// The whole packet with its header.
    pub bytes: &'a [u8],
}

impl<'a> RtcpPart<'a> {
    /// The 32-bit word at this index; 0 is the header, 1 the sender's SSRC, 2 a feedback packet's media SSRC.
    pub fn word(&self, index: usize) -> Option<u32> {
        self.bytes.get(index * 4..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// The packets of a compound. Ends at the first that is cut short or has another version.
#[derive(Clone, Debug)]
pub struct RtcpParts<'a> {
    rest: &'a [u8],
}

impl<'a> RtcpParts<'a> {
    /// Of one or more RTCP packets, back to back.
    pub fn of(bytes: &'a [u8]) -> Self {
        RtcpParts { rest: bytes }
    }
}

impl<'a> Iterator for RtcpParts<'a> {
    type Item = RtcpPart<'a>;

    fn next(&mut self) -> Option<RtcpPart<'a>> {
        let head: &[u8; 4] = self.rest.first_chunk()?;
        let len = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (bytes, rest) = self.rest.split_at_checked(len).filter(|_| head[0] >> 6 == 2)?;
        self.rest = rest;
        Some(RtcpPart { packet_type: head[1], count: head[0] & 0x1F, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_replaced_by_a_shorter_or_longer_one_behind_the_header_as_it_is_by_then() {
        let facts = Facts { packet: 0, time: Instant::ZERO, size: 17, padding: 0, repaired: false, attributes: false };
        let whole = crate::testing::packet(7, 5, b"media");
        for view in [View::Packets, View::Headers] {
            let (mut bytes, mut copy) = (whole.clone(), vec![0xEE; 40]);
            let stream = StreamId::new(1);
            let mut packet = RtpPacket::new(stream, facts, view, &mut bytes, &mut copy).unwrap();
            packet.header_mut().set_sequence_number(6);
            packet.set_payload(b"other media");
            packet.header_mut().set_extension(1, &[1, 2, 3]).unwrap();
            packet.set_payload(b"less");
            let header = packet.header();
            assert_eq!((header.sequence_number(), header.extension(1)), (6, Some(&[1, 2, 3][..])));
            let shown = view == View::Packets;
            assert_eq!(packet.payload(), shown.then_some(&b"less"[..]));
            assert_eq!(packet.bytes().len(), if shown { 20 + 4 } else { 20 + 5 });
        }
    }

    #[test]
    fn a_compound_is_read_up_to_what_makes_no_sense() {
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
        compound.extend_from_slice(&pli);
        compound.extend_from_slice(&[0x80, 200, 0, 9]);
        let parts: Vec<_> = RtcpParts::of(&compound).collect();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[1].packet_type, parts[1].count, parts[1].bytes), (206, 1, &pli[..]));
        assert_eq!((parts[1].word(2), parts[1].word(3)), (Some(2), None));
        assert_eq!(RtcpParts::of(&[0x40, 200, 0, 0]).count(), 0);
        assert_eq!(RtcpParts::of(&[0x80]).count(), 0);
    }
}
