//! Reading an RTP header in place (RFC 3550, 5.1; extensions: RFC 8285).

use std::fmt;
use std::ops::Range;

/// Bytes before the CSRCs.
pub(crate) const FIXED: usize = 12;
/// The profile of an extension block in the one-byte form (RFC 8285, 4.2).
pub(crate) const ONE_BYTE: u16 = 0xBEDE;

/// The bytes are not an RTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedHeader {
    /// The version is not 2.
    Version(u8),
    /// The header announces more bytes than there are.
    Short,
}

impl fmt::Display for MalformedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MalformedHeader::Version(_) => "RTP version is not 2",
            MalformedHeader::Short => "RTP header is cut short",
        })
    }
}

impl std::error::Error for MalformedHeader {}

/// Where the parts of a header are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of the whole header.
    pub(crate) len: usize,
    /// Where the extension block begins, with its profile and length; 0 if there is none.
    pub(crate) extension: usize,
}

impl Layout {
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Result<Layout, MalformedHeader> {
        let Some(first) = bytes.first().filter(|_| bytes.len() >= FIXED) else { return Err(MalformedHeader::Short) };
        if first >> 6 != 2 {
            return Err(MalformedHeader::Version(first >> 6));
        }
        let mut layout = Layout { len: FIXED + 4 * usize::from(first & 0x0F), extension: 0 };
        if first & 0x10 != 0 {
            let words = bytes.get(layout.len + 2..layout.len + 4).ok_or(MalformedHeader::Short)?;
            layout.extension = layout.len;
            layout.len += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        if layout.len > bytes.len() { Err(MalformedHeader::Short) } else { Ok(layout) }
    }

    /// Of a header that is whole and that nothing follows, as the host has checked: what nobody asks for is not computed.
    #[inline]
    pub(crate) fn of_header(bytes: &[u8]) -> Result<Layout, MalformedHeader> {
        let Some(first) = bytes.first().filter(|_| bytes.len() >= FIXED) else { return Err(MalformedHeader::Short) };
        let fixed = FIXED + 4 * usize::from(first & 0x0F);
        let extension = if first & 0x10 != 0 && fixed + 4 <= bytes.len() { fixed } else { 0 };
        Ok(Layout { len: bytes.len(), extension })
    }
}

/// A whole and valid RTP header, read in place.
///
/// ```
/// use sandbar_sdk::Header;
///
/// let bytes = [0x90, 0xE0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0xBE, 0xDE, 0, 1, 0x10, 0x55, 0, 0];
/// let header = Header::parse(&bytes)?;
/// assert_eq!((header.sequence_number(), header.payload_type(), header.marker()), (7, 96, true));
/// assert_eq!(header.extension(1), Some(&[0x55][..]));
/// # Ok::<(), sandbar_sdk::MalformedHeader>(())
/// ```
#[derive(Clone, Copy)]
pub struct Header<'a> {
    bytes: &'a [u8],
    extension: usize,
}

impl<'a> Header<'a> {
    /// Checks that `bytes` begin with a whole RTP header; what follows it is left out of the view.
    ///
    /// # Errors
    /// Another version than 2, or fewer bytes than the header announces.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedHeader> {
        let layout = Layout::of(bytes)?;
        Ok(Header::within(bytes, layout))
    }

    #[inline]
    pub(crate) fn within(bytes: &'a [u8], layout: Layout) -> Self {
        Header { bytes: bytes.get(..layout.len).unwrap_or_default(), extension: layout.extension }
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn word(&self, at: usize) -> u32 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// The header's bytes.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the header, CSRCs and extensions included.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether padding ends the packet (RFC 3550, 5.1).
    #[inline]
    pub fn padding(&self) -> bool {
        self.byte(0) & 0x20 != 0
    }

    /// The marker bit.
    #[inline]
    pub fn marker(&self) -> bool {
        self.byte(1) & 0x80 != 0
    }

    /// The payload type, 0 to 127.
    #[inline]
    pub fn payload_type(&self) -> u8 {
        self.byte(1) & 0x7F
    }

    /// The sequence number.
    #[inline]
    pub fn sequence_number(&self) -> u16 {
        u16::from_be_bytes([self.byte(2), self.byte(3)])
    }

    /// The timestamp, in units of the stream's clock rate.
    #[inline]
    pub fn timestamp(&self) -> u32 {
        self.word(4)
    }

    /// The SSRC.
    #[inline]
    pub fn ssrc(&self) -> u32 {
        self.word(8)
    }

    /// The contributing sources, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        let end = FIXED + 4 * usize::from(self.byte(0) & 0x0F);
        let (words, _) = self.bytes.get(FIXED..end).unwrap_or_default().as_chunks();
        words.iter().map(|word| u32::from_be_bytes(*word))
    }

    /// The value of the extension that was negotiated with this id.
    #[inline]
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        // Often it is the first one, and then no loop is needed to find it.
        if self.extension > 0
            && let Some([p0, p1, _, _, first, rest @ ..]) = self.bytes.get(self.extension..)
            && u16::from_be_bytes([*p0, *p1]) == ONE_BYTE
            && first >> 4 == id
            && (1..=14).contains(&id)
        {
            return rest.get(..usize::from(first & 0x0F) + 1);
        }
        extension_behind(self.bytes, self.extension, id)
    }

    /// Where in the header that value lies.
    #[inline]
    pub fn extension_range(&self, id: u8) -> Option<Range<usize>> {
        Elements::of(self.bytes, self.extension).find(|element| element.id == id).map(|element| element.value())
    }

    /// The extensions with their ids, in both forms of RFC 8285. Ends where they stop making sense; an extension block
    /// of another profile (RFC 3550, 5.3.1) has none.
    #[inline]
    pub fn extensions(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        Elements::of(bytes, self.extension)
            .map(move |element| (element.id, bytes.get(element.value()).unwrap_or_default()))
    }
}

/// Not the first extension. Takes a header's parts, so that who asks for one need not have the header in memory.
#[inline(never)]
fn extension_behind(bytes: &[u8], block: usize, id: u8) -> Option<&[u8]> {
    Header { bytes, extension: block }.extensions().find(|(other, _)| *other == id).map(|(_, value)| value)
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("ssrc", &self.ssrc())
            .field("sequence_number", &self.sequence_number())
            .field("timestamp", &self.timestamp())
            .field("payload_type", &self.payload_type())
            .field("marker", &self.marker())
            .field("len", &self.len())
            .finish()
    }
}

/// How an extension block names and measures its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    OneByte,
    TwoByte,
}

impl Form {
    /// By the block's profile. The low four bits of the two-byte form's are the application's (RFC 8285, 4.3).
    pub(crate) fn of(profile: u16) -> Option<Form> {
        match profile {
            ONE_BYTE => Some(Form::OneByte),
            _ if profile & 0xFFF0 == 0x1000 => Some(Form::TwoByte),
            _ => None,
        }
    }

    /// Bytes before each value.
    pub(crate) fn head(self) -> usize {
        match self {
            Form::OneByte => 1,
            Form::TwoByte => 2,
        }
    }
}

/// An extension's place in the header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    pub(crate) id: u8,
    /// Where its head begins.
    pub(crate) at: usize,
    pub(crate) head: usize,
    /// Bytes of its value.
    pub(crate) len: usize,
}

impl Element {
    pub(crate) fn value(&self) -> Range<usize> {
        let start = self.at + self.head;
        start..start + self.len
    }

    pub(crate) fn end(&self) -> usize {
        self.at + self.head + self.len
    }
}

/// Walks the elements of an extension block.
pub(crate) struct Elements<'a> {
    header: &'a [u8],
    form: Option<Form>,
    at: usize,
    /// Something that cannot be read, or id 15 (RFC 8285, 4.2), ended the walk before the block's end.
    pub(crate) cut: bool,
}

impl<'a> Elements<'a> {
    /// Of a header whose extension block begins at `extension`; none if that is 0.
    #[inline]
    pub(crate) fn of(header: &'a [u8], extension: usize) -> Self {
        let profile = match header.get(extension..extension + 2) {
            Some(bytes) if extension > 0 => Form::of(u16::from_be_bytes([bytes[0], bytes[1]])),
            _ => None,
        };
        Elements { header, form: profile, at: extension + 4, cut: false }
    }
}

impl Iterator for Elements<'_> {
    type Item = Element;

    #[inline]
    fn next(&mut self) -> Option<Element> {
        let form = self.form?;
        // Zero bytes pad in both forms.
        while *self.header.get(self.at)? == 0 {
            self.at += 1;
        }
        let first = *self.header.get(self.at)?;
        let element = match form {
            // In the one-byte form, a byte whose id is 0 and whose length is not is to be ignored with what follows.
            Form::OneByte if first >> 4 == 0 || first >> 4 == 15 => None,
            Form::OneByte => Some(Element { id: first >> 4, at: self.at, head: 1, len: usize::from(first & 0x0F) + 1 }),
            Form::TwoByte => {
                let len = self.header.get(self.at + 1).map(|len| usize::from(*len));
                len.map(|len| Element { id: first, at: self.at, head: 2, len })
            }
        };
        match element {
            Some(element) if element.end() <= self.header.len() => {
                self.at = element.end();
                Some(element)
            }
            _ => {
                self.cut = true;
                self.form = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(extension: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x90, 96, 0x12, 0x34, 0, 0, 0, 5, 0xDE, 0xAD, 0xBE, 0xEF];
        bytes.extend_from_slice(extension);
        bytes
    }

    #[test]
    fn every_field_of_a_header_is_read() {
        let mut bytes = vec![0xA2, 0x80 | 111, 0xFF, 0xFE, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend_from_slice(b"payload");
        let header = Header::parse(&bytes).unwrap();
        assert!(header.padding() && header.marker());
        assert_eq!(header.payload_type(), 111);
        assert_eq!(header.sequence_number(), 0xFFFE);
        assert_eq!(header.timestamp(), 0x0102_0304);
        assert_eq!(header.ssrc(), 0x0506_0708);
        assert_eq!(header.csrcs().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(header.len(), 20);
        assert_eq!(header.extensions().count(), 0);
    }

    #[test]
    fn fifteen_csrcs_are_the_most_and_must_be_there() {
        let mut bytes = vec![0x8F; 12 + 15 * 4];
        assert_eq!(Header::parse(&bytes).unwrap().csrcs().count(), 15);
        bytes.pop();
        assert_eq!(Header::parse(&bytes).unwrap_err(), MalformedHeader::Short);
    }

    #[test]
    fn other_versions_and_short_headers_are_refused() {
        assert_eq!(Header::parse(&[0x40; 12]).unwrap_err(), MalformedHeader::Version(1));
        assert_eq!(Header::parse(&[0x80; 11]).unwrap_err(), MalformedHeader::Short);
        assert_eq!(Header::parse(&[]).unwrap_err(), MalformedHeader::Short);
        assert_eq!(Header::parse(&header(&[0xBE, 0xDE, 0])).unwrap_err(), MalformedHeader::Short);
        assert_eq!(Header::parse(&header(&[0xBE, 0xDE, 0, 2, 0, 0, 0, 0])).unwrap_err(), MalformedHeader::Short);
    }

    #[test]
    fn one_byte_extensions_are_found_past_padding() {
        let bytes = header(&[0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0, 0, 0x31, 1, 2, 0]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.extension(1), Some(&[0xAA][..]));
        assert_eq!(header.extension(3), Some(&[1, 2][..]));
        assert_eq!(header.extension(2), None);
        assert_eq!((header.extension_range(3), header.extension_range(2)), (Some(21..23), None));
        assert_eq!(header.extensions().map(|(id, _)| id).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn the_first_extension_is_found_like_any_other() {
        for block in [
            [0xBE, 0xDE, 0, 1, 0x12, 1, 2, 3],
            [0xBE, 0xDE, 0, 1, 0x13, 1, 2, 3],
            [0xBE, 0xDE, 0, 1, 0x00, 1, 2, 3],
            [0xBE, 0xDE, 0, 1, 0xF0, 1, 2, 3],
            [0x10, 0x00, 0, 1, 0x01, 1, 2, 3],
        ] {
            let bytes = header(&block);
            let header = Header::parse(&bytes).unwrap();
            for id in 0..=16 {
                assert_eq!(
                    header.extension(id),
                    extension_behind(header.bytes, header.extension, id),
                    "{block:x?} {id}"
                );
            }
        }
        // Without a block, the fixed header may look like one.
        let mut bytes = vec![0; 12 + 14 * 4];
        bytes[..5].copy_from_slice(&[0xAE, 0xDE, 0, 1, 0x10]);
        assert_eq!(Header::parse(&bytes).unwrap().extension(1), None);
    }

    #[test]
    fn two_byte_extensions_may_be_empty_and_have_large_ids() {
        let bytes = header(&[0x10, 0x05, 0, 2, 200, 0, 0, 15, 2, 7, 8, 0]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.extension(200), Some(&[][..]));
        assert_eq!(header.extension(15), Some(&[7, 8][..]));
    }

    #[test]
    fn id_fifteen_ends_the_one_byte_form() {
        let bytes = header(&[0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0xF0, 0, 0x20, 0xBB, 0, 0]);
        assert_eq!(Header::parse(&bytes).unwrap().extensions().count(), 1);
    }

    #[test]
    fn an_element_that_leaves_its_block_ends_the_walk() {
        let bytes = header(&[0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0x2F, 1]);
        assert_eq!(Header::parse(&bytes).unwrap().extensions().count(), 1);
        let bytes = header(&[0x10, 0, 0, 1, 1, 0, 2, 200]);
        assert_eq!(Header::parse(&bytes).unwrap().extensions().count(), 1);
    }

    #[test]
    fn a_block_of_another_profile_has_no_extensions() {
        let bytes = header(&[0xAB, 0xCD, 0, 1, 0x10, 0xAA, 0, 0]);
        assert_eq!(Header::parse(&bytes).unwrap().extensions().count(), 0);
    }
}
