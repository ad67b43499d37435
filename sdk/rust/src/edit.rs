//! Changing an RTP header in place, and where it cannot be, in a copy that grows.

use std::fmt;

use crate::header::{Elements, FIXED, Form, Header, Layout, MalformedHeader, ONE_BYTE};
use crate::short;

/// Why an extension was not set. The header is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionError {
    /// The header's extensions are in the one-byte form, which has ids from 1 to 14 and values of 1 to 16 bytes; or the
    /// id is 0, or the value has more than 255 bytes.
    Unrepresentable,
    /// The header has an extension block of another profile (RFC 3550, 5.3.1).
    OtherProfile,
    /// The header's extensions cannot be read to their end, so nothing can follow them.
    Malformed,
    /// The packet would have more than 65,535 bytes.
    TooLong,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExtensionError::Unrepresentable => "the header's form of extensions has no room for this id or length",
            ExtensionError::OtherProfile => "the header's extension block has another profile",
            ExtensionError::Malformed => "the header's extensions are malformed",
            ExtensionError::TooLong => "the packet would be too long",
        })
    }
}

impl std::error::Error for ExtensionError {}

/// What is known of bytes that begin with a header and can be edited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    pub(crate) layout: Layout,
    pub(crate) changed: bool,
    /// The bytes are in the copy, for they had to grow.
    pub(crate) grown: bool,
}

/// An RTP header to change. Setting a field costs a store; an extension is overwritten, put into padding, or makes the
/// header grow.
pub struct HeaderMut<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) copy: &'a mut Vec<u8>,
    pub(crate) state: &'a mut State,
}

impl HeaderMut<'_> {
    #[inline]
    fn current(&mut self) -> &mut [u8] {
        if self.state.grown { self.copy } else { self.bytes }
    }

    #[inline]
    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if let Some(place) = self.current().get_mut(at..at + N) {
            place.copy_from_slice(&value);
            self.state.changed = true;
        }
    }

    /// The header as it is now.
    #[inline]
    pub fn view(&mut self) -> Header<'_> {
        let layout = self.state.layout;
        Header::within(self.current(), layout)
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence_number(&mut self, sequence_number: u16) {
        self.put(2, sequence_number.to_be_bytes());
    }

    /// Sets the timestamp, in units of the stream's clock rate.
    #[inline]
    pub fn set_timestamp(&mut self, timestamp: u32) {
        self.put(4, timestamp.to_be_bytes());
    }

    /// Sets the SSRC. What leaves a plugin must have the stream's, or its retransmission or repair companion.
    #[inline]
    pub fn set_ssrc(&mut self, ssrc: u32) {
        self.put(8, ssrc.to_be_bytes());
    }

    /// Sets the marker bit.
    #[inline]
    pub fn set_marker(&mut self, marker: bool) {
        let payload_type = self.view().payload_type();
        self.put(1, [(u8::from(marker) << 7) | payload_type]);
    }

    /// Sets the payload type, of which the low 7 bits count.
    #[inline]
    pub fn set_payload_type(&mut self, payload_type: u8) {
        let marker = self.view().marker();
        self.put(1, [(u8::from(marker) << 7) | (payload_type & 0x7F)]);
    }

    /// Gives the extension with this id a value, in the form (one-byte or two-byte, RFC 8285) that the header already
    /// has, else in the smaller one that can hold it. The packet grows by whole words where there is no room.
    ///
    /// # Errors
    /// See [`ExtensionError`]; the header is then as it was.
    pub fn set_extension(&mut self, id: u8, value: &[u8]) -> Result<(), ExtensionError> {
        let layout = self.state.layout;
        if layout.extension == 0 {
            return self.first_extension(id, value);
        }
        // By far the most frequent case is first and short: the value is there and is overwritten.
        let bytes = self.current();
        let old = Elements::of(bytes.get(..layout.len).unwrap_or_default(), layout.extension).find(|old| old.id == id);
        if let Some(old) = old.filter(|old| old.len == value.len()) {
            short::copy(bytes.get_mut(old.value()).unwrap_or_default(), value);
            self.state.changed = true;
            return Ok(());
        }
        self.add_extension(id, value)
    }

    /// Takes the extension with this id out, and says whether it was there. Padding takes its place: nothing moves.
    pub fn remove_extension(&mut self, id: u8) -> bool {
        let layout = self.state.layout;
        let bytes = self.current();
        let old = Elements::of(bytes.get(..layout.len).unwrap_or_default(), layout.extension).find(|old| old.id == id);
        if let Some(old) = old {
            short::zero(bytes.get_mut(old.at..old.end()).unwrap_or_default());
            self.state.changed = true;
        }
        old.is_some()
    }

    /// An extension that is not there or has another length.
    #[inline(never)]
    fn add_extension(&mut self, id: u8, value: &[u8]) -> Result<(), ExtensionError> {
        let layout = self.state.layout;
        let header = self.view().as_bytes();
        let profile = header.get(layout.extension..).and_then(|block| block.first_chunk());
        let form =
            profile.and_then(|profile| Form::of(u16::from_be_bytes(*profile))).ok_or(ExtensionError::OtherProfile)?;
        let head = element_head(form, id, value.len()).ok_or(ExtensionError::Unrepresentable)?;
        let mut elements = Elements::of(header, layout.extension);
        let (mut old, mut end) = (None, layout.extension + 4);
        for element in elements.by_ref() {
            if element.id == id && old.is_none() {
                old = Some(element);
            } else {
                end = element.end();
            }
        }
        if elements.cut {
            return Err(ExtensionError::Malformed);
        }
        // The old value stays until there is room for the new one, so that an error changes nothing.
        let need = form.head() + value.len();
        let more = need.saturating_sub(layout.len - end).next_multiple_of(4);
        self.grow(layout.len, more)?;
        if more > 0 {
            let words = (self.state.layout.len - layout.extension - 4) / 4;
            self.put(layout.extension + 2, (words as u16).to_be_bytes());
        }
        if let Some(old) = old {
            short::zero(self.current().get_mut(old.at..old.end()).unwrap_or_default());
        }
        self.put_element(end, form, head, value);
        Ok(())
    }

    /// The header's first extension: with it comes the block.
    #[inline]
    fn first_extension(&mut self, id: u8, value: &[u8]) -> Result<(), ExtensionError> {
        match element_head(Form::OneByte, id, value.len()) {
            Some([head, _]) if value.len() <= 3 && !self.state.grown => self.first_word(head, value),
            _ => self.first_block(id, value),
        }
    }

    /// What sequence numbers and levels are: a block of one word, written with the copy that makes room for it.
    #[inline]
    fn first_word(&mut self, head: u8, value: &[u8]) -> Result<(), ExtensionError> {
        const BLOCK: usize = 8;
        let at = self.state.layout.len;
        let len = self.bytes.len() + BLOCK;
        if len > usize::from(u16::MAX) {
            return Err(ExtensionError::TooLong);
        }
        // The copy is as long as its last packet was, mostly just right.
        if self.copy.len() != len {
            self.copy.resize(len, 0);
        }
        let [p0, p1] = ONE_BYTE.to_be_bytes();
        let mut block = [p0, p1, 0, 1, head, 0, 0, 0];
        short::copy(&mut block[5..], value);
        if let (Some((before, after)), Some((to_before, rest))) =
            (self.bytes.split_at_checked(at), self.copy.split_at_mut_checked(at))
            && let Some((place, to_after)) = rest.split_first_chunk_mut::<BLOCK>()
        {
            short::copy(to_before, before);
            *place = block;
            short::copy(to_after, after);
        }
        if let Some(first) = self.copy.first_mut() {
            *first |= 0x10;
        }
        *self.state = State { layout: Layout { len: at + BLOCK, extension: at }, changed: true, grown: true };
        Ok(())
    }

    /// Any other block.
    #[inline(never)]
    fn first_block(&mut self, id: u8, value: &[u8]) -> Result<(), ExtensionError> {
        let one_byte = element_head(Form::OneByte, id, value.len()).map(|head| (Form::OneByte, head, ONE_BYTE));
        let (form, head, profile) = one_byte
            .or_else(|| element_head(Form::TwoByte, id, value.len()).map(|head| (Form::TwoByte, head, 0x1000)))
            .ok_or(ExtensionError::Unrepresentable)?;
        let block = (form.head() + value.len()).next_multiple_of(4);
        let at = self.state.layout.len;
        self.grow(at, 4 + block)?;
        self.state.layout.extension = at;
        let first = self.current().first().copied().unwrap_or(0);
        self.put(0, [first | 0x10]);
        let [w0, w1] = ((block / 4) as u16).to_be_bytes();
        let [p0, p1] = profile.to_be_bytes();
        self.put(at, [p0, p1, w0, w1]);
        self.put_element(at + 4, form, head, value);
        Ok(())
    }

    /// Makes room for `more` zero bytes at `at`, in the copy; the header is then that much longer.
    fn grow(&mut self, at: usize, more: usize) -> Result<(), ExtensionError> {
        if more == 0 {
            return Ok(());
        }
        let old = self.current().len();
        let block = self.state.layout.len + more - FIXED;
        if old + more > usize::from(u16::MAX) || block / 4 > usize::from(u16::MAX) {
            return Err(ExtensionError::TooLong);
        }
        // The copy is as long as its last packet was, often just right; only what is new is cleared by this.
        self.copy.resize(old + more, 0);
        if self.state.grown {
            self.copy.copy_within(at..old, at + more);
        } else if let (Some((before, after)), Some((to_before, rest))) =
            (self.bytes.split_at_checked(at), self.copy.split_at_mut_checked(at))
        {
            short::copy(to_before, before);
            short::copy(rest.get_mut(more..).unwrap_or_default(), after);
            self.state.grown = true;
        }
        short::zero(self.copy.get_mut(at..at + more).unwrap_or_default());
        self.state.layout.len += more;
        self.state.changed = true;
        Ok(())
    }

    /// Writes an element where there is room for it.
    #[inline]
    fn put_element(&mut self, at: usize, form: Form, head: [u8; 2], value: &[u8]) {
        let Some(place) = self.current().get_mut(at..at + form.head() + value.len()) else { return };
        let rest = match (form, place) {
            (Form::OneByte, [first, rest @ ..]) => {
                *first = head[0];
                rest
            }
            (Form::TwoByte, [first, second, rest @ ..]) => {
                (*first, *second) = (head[0], head[1]);
                rest
            }
            _ => return,
        };
        short::copy(rest, value);
        self.state.changed = true;
    }
}

/// What goes before a value, of which [`Form::head`] bytes count; none if the form cannot hold it.
fn element_head(form: Form, id: u8, len: usize) -> Option<[u8; 2]> {
    match form {
        Form::OneByte => {
            let fits = (1..=14).contains(&id) && (1..=16).contains(&len);
            fits.then(|| [(id << 4) | (len.wrapping_sub(1) as u8 & 0x0F), 0])
        }
        Form::TwoByte => u8::try_from(len).ok().filter(|_| id > 0).map(|len| [id, len]),
    }
}

/// An RTP header of one's own: to send a packet again under other numbers, or to send a new one.
///
/// ```
/// use sandbar_sdk::HeaderBuf;
///
/// let mut header = HeaderBuf::new(96, 0x1234);
/// header.edit().set_sequence_number(7);
/// header.edit().set_extension(3, &[1, 2])?;
/// assert_eq!(header.view().extension(3), Some(&[1, 2][..]));
/// assert_eq!(header.as_bytes().len(), 20);
/// # Ok::<(), sandbar_sdk::ExtensionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeaderBuf {
    bytes: Vec<u8>,
    state: State,
}

impl HeaderBuf {
    /// A header of 12 bytes, everything else 0.
    pub fn new(payload_type: u8, ssrc: u32) -> Self {
        let mut bytes = vec![0; FIXED];
        bytes[0] = 0x80;
        let layout = Layout { len: FIXED, extension: 0 };
        let mut header = HeaderBuf { bytes, state: State { layout, changed: true, grown: true } };
        header.edit().set_payload_type(payload_type);
        header.edit().set_ssrc(ssrc);
        header
    }

    /// A header as it is on the wire, such as one from the history. What follows it is cut off.
    ///
    /// # Errors
    /// Another version than 2, or fewer bytes than the header announces.
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, MalformedHeader> {
        let layout = Layout::of(&bytes)?;
        bytes.truncate(layout.len);
        Ok(HeaderBuf { bytes, state: State { layout, changed: true, grown: true } })
    }

    /// The header, to read.
    pub fn view(&self) -> Header<'_> {
        Header::within(&self.bytes, self.state.layout)
    }

    /// The header, to change.
    pub fn edit(&mut self) -> HeaderMut<'_> {
        HeaderMut { bytes: &mut [], copy: &mut self.bytes, state: &mut self.state }
    }

    /// The header's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet as a transform sees it: bytes in a frame, and a copy to grow into.
    struct Packet {
        frame: Vec<u8>,
        copy: Vec<u8>,
        state: State,
    }

    impl Packet {
        fn new(extension: &[u8], payload: &[u8]) -> Self {
            let first = if extension.is_empty() { 0x80 } else { 0x90 };
            let mut frame = vec![first, 96, 0x12, 0x34, 0, 0, 0, 5, 0xDE, 0xAD, 0xBE, 0xEF];
            frame.extend_from_slice(extension);
            let layout = Layout::of(&frame).unwrap();
            frame.extend_from_slice(payload);
            Packet { frame, copy: vec![0xEE; 3], state: State { layout, changed: false, grown: false } }
        }

        fn edit(&mut self) -> HeaderMut<'_> {
            HeaderMut { bytes: &mut self.frame, copy: &mut self.copy, state: &mut self.state }
        }

        fn bytes(&self) -> &[u8] {
            if self.state.grown { &self.copy } else { &self.frame }
        }

        fn extensions(&self) -> Vec<(u8, Vec<u8>)> {
            let header = Header::parse(self.bytes()).unwrap();
            assert_eq!(header.len(), self.state.layout.len, "the layout follows the header");
            header.extensions().map(|(id, value)| (id, value.to_vec())).collect()
        }
    }

    #[test]
    fn fields_are_set_in_place_and_leave_their_neighbours_alone() {
        let mut packet = Packet::new(&[], b"media");
        packet.edit().set_marker(true);
        packet.edit().set_payload_type(0xFF);
        packet.edit().set_sequence_number(0xFFFF);
        packet.edit().set_timestamp(0x0A0B_0C0D);
        packet.edit().set_ssrc(1);
        assert_eq!(packet.bytes(), b"\x80\xff\xff\xff\x0a\x0b\x0c\x0d\x00\x00\x00\x01media");
        packet.edit().set_marker(false);
        assert_eq!(packet.bytes()[1], 0x7F);
        assert!(packet.state.changed && !packet.state.grown);
    }

    #[test]
    fn the_first_extension_brings_a_block_and_moves_the_payload() {
        let mut packet = Packet::new(&[], b"media");
        packet.edit().set_extension(5, &[0xAB, 0xCD]).unwrap();
        assert_eq!(packet.bytes()[12..], *b"\xbe\xde\x00\x01\x51\xab\xcd\x00media");
        assert_eq!(packet.bytes()[0], 0x90);
        assert_eq!(packet.extensions(), [(5, vec![0xAB, 0xCD])]);
    }

    #[test]
    fn a_first_extension_of_one_word_is_what_any_block_of_it_would_be() {
        for (id, len) in (1..=14).flat_map(|id| (1..=4).map(move |len| (id, len))) {
            let value = vec![0x5A; len];
            let (mut quick, mut slow) = (Packet::new(&[], b"media"), Packet::new(&[], b"media"));
            quick.edit().set_extension(id, &value).unwrap();
            slow.edit().first_block(id, &value).unwrap();
            assert_eq!((quick.bytes(), quick.state.layout), (slow.bytes(), slow.state.layout));
            assert_eq!(quick.extensions(), [(id, value)]);
        }
    }

    #[test]
    fn a_first_extension_that_needs_it_is_in_the_two_byte_form() {
        for (id, value) in [(200, vec![1]), (1, vec![]), (1, vec![7; 17]), (255, vec![9; 255])] {
            let mut packet = Packet::new(&[], b"media");
            packet.edit().set_extension(id, &value).unwrap();
            assert_eq!(packet.bytes()[12..14], [0x10, 0]);
            assert_eq!(packet.extensions(), [(id, value)]);
            assert!(packet.bytes().ends_with(b"media"));
        }
    }

    #[test]
    fn a_value_of_the_same_length_is_overwritten() {
        let mut packet = Packet::new(&[0xBE, 0xDE, 0, 1, 0x11, 1, 2, 0], b"media");
        packet.edit().set_extension(1, &[3, 4]).unwrap();
        assert_eq!(packet.extensions(), [(1, vec![3, 4])]);
        assert!(!packet.state.grown && packet.state.changed);
    }

    #[test]
    fn padding_takes_an_extension_without_growing() {
        let mut packet = Packet::new(&[0xBE, 0xDE, 0, 2, 0x10, 1, 0, 0, 0, 0, 0, 0], b"media");
        packet.edit().set_extension(2, &[5, 6, 7]).unwrap();
        assert_eq!(packet.extensions(), [(1, vec![1]), (2, vec![5, 6, 7])]);
        assert!(!packet.state.grown);
    }

    #[test]
    fn a_full_block_grows_by_whole_words() {
        let mut packet = Packet::new(&[0xBE, 0xDE, 0, 1, 0x12, 1, 2, 3], b"media");
        packet.edit().set_extension(2, &[5, 6]).unwrap();
        assert_eq!(packet.extensions(), [(1, vec![1, 2, 3]), (2, vec![5, 6])]);
        assert_eq!(packet.bytes().len(), 12 + 4 + 8 + 5);
        assert!(packet.bytes().ends_with(b"media"));
        packet.edit().set_extension(3, &[1; 16]).unwrap();
        assert_eq!(packet.extensions().len(), 3);
        assert!(packet.bytes().ends_with(b"media"), "a copy that grows again keeps the payload");
    }

    #[test]
    fn another_length_replaces_the_old_value() {
        let mut packet = Packet::new(&[0xBE, 0xDE, 0, 2, 0x12, 1, 2, 3, 0x20, 9, 0, 0], b"media");
        packet.edit().set_extension(1, &[7]).unwrap();
        assert_eq!(packet.extensions(), [(2, vec![9]), (1, vec![7])]);
        packet.edit().set_extension(1, &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(packet.extensions(), [(2, vec![9]), (1, vec![1, 2, 3, 4, 5])]);
    }

    #[test]
    fn errors_leave_the_packet_as_it_was() {
        let cases: [(&[u8], u8, usize, ExtensionError); 7] = [
            (&[], 0, 1, ExtensionError::Unrepresentable),
            (&[], 1, 256, ExtensionError::Unrepresentable),
            (&[0xBE, 0xDE, 0, 1, 0x12, 1, 2, 3], 15, 1, ExtensionError::Unrepresentable),
            (&[0xBE, 0xDE, 0, 1, 0x12, 1, 2, 3], 1, 17, ExtensionError::Unrepresentable),
            (&[0xBE, 0xDE, 0, 1, 0x12, 1, 2, 3], 2, 0, ExtensionError::Unrepresentable),
            (&[0xAB, 0xCD, 0, 0], 1, 1, ExtensionError::OtherProfile),
            (&[0xBE, 0xDE, 0, 1, 0xF0, 0, 0, 0], 1, 1, ExtensionError::Malformed),
        ];
        for (extension, id, len, error) in cases {
            let mut packet = Packet::new(extension, b"media");
            let before = packet.frame.clone();
            assert_eq!(packet.edit().set_extension(id, &vec![1; len]), Err(error));
            assert_eq!(packet.bytes(), before);
            assert!(!packet.state.changed);
        }
        let mut long = Packet::new(&[], &vec![0; 65_535 - 12 - 4]);
        assert_eq!(long.edit().set_extension(1, &[1]), Err(ExtensionError::TooLong));
        assert!(!long.state.changed && long.bytes()[0] == 0x80);
    }

    #[test]
    fn no_bytes_make_an_edit_panic_or_an_invalid_header() {
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random() % 48).map(|_| random() as u8 & random() as u8).collect();
            if let Some(first) = bytes.first_mut() {
                *first = 0x80 | (*first & 0x3F);
            }
            let Ok(layout) = Layout::of(&bytes) else { continue };
            if let Some(block) = bytes.get_mut(layout.extension..).filter(|_| layout.extension > 0) {
                let profile = if random() % 2 == 0 { 0xBEDE_u16 } else { 0x1000 };
                block[..2].copy_from_slice(&profile.to_be_bytes());
            }
            let payload = bytes[layout.len..].to_vec();
            let mut packet =
                Packet { frame: bytes, copy: Vec::new(), state: State { layout, changed: false, grown: false } };
            for _ in 0..4 {
                let (id, value) = (random() as u8 % 18, vec![0x5A; random() as usize % 20]);
                if packet.edit().set_extension(id, &value).is_ok() {
                    let found = packet.extensions().into_iter().find(|(other, _)| *other == id);
                    assert_eq!(found, Some((id, value)));
                }
                assert!(packet.bytes().ends_with(&payload));
                let _ = packet.extensions();
            }
        }
    }

    #[test]
    fn what_is_removed_leaves_padding_and_nothing_moves() {
        let block = [0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0x31, 1, 2, 0x50, 0xBB, 0];
        let mut packet = Packet::new(&block, b"payload");
        assert!(!packet.edit().remove_extension(2) && !packet.state.changed);
        assert!(packet.edit().remove_extension(3));
        assert_eq!(packet.extensions(), [(1, vec![0xAA]), (5, vec![0xBB])]);
        assert_eq!(packet.bytes()[16..], *b"\x10\xAA\0\0\0\x50\xBB\0payload");
        assert!(!packet.edit().remove_extension(3));
        let mut packet = Packet::new(&[0x10, 0, 0, 1, 200, 2, 7, 8], b"");
        assert!(packet.edit().remove_extension(200));
        assert_eq!(packet.bytes()[12..], [0x10, 0, 0, 1, 0, 0, 0, 0]);
        assert!(!Packet::new(&[], b"payload").edit().remove_extension(1));
    }

    #[test]
    fn a_header_of_ones_own_is_cut_to_its_length() {
        let header = HeaderBuf::parse(b"\x80\x60\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03media".to_vec()).unwrap();
        assert_eq!(header.as_bytes().len(), 12);
        assert_eq!(header.view().ssrc(), 3);
        assert!(HeaderBuf::parse(vec![0; 12]).is_err());
    }
}
