//! A RED payload (RFC 2198, 3): heads of four bytes for the frames that it repeats, one of a single byte for its own, and then
//! the bytes of all in that order. The own frame's length is what is left.

/// The most frames that a payload may repeat; libwebrtc takes as many.
pub(crate) const MOST: usize = 31;
const HEAD: usize = 4;

/// An audio frame in a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    pub(crate) payload_type: u8,
    /// How much earlier it is than the packet's own, in timestamp units.
    pub(crate) offset: u32,
    pub(crate) media: &'a [u8],
}

/// A payload, taken apart in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Red<'a> {
    repeated: [Block<'a>; MOST],
    count: usize,
    pub(crate) own: Block<'a>,
}

/// The payload is cut short, or announces more than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Red<'a> {
    /// Takes a payload apart whose padding has been taken off, in packets of payload type `red`. RED in RED is not taken.
    pub(crate) fn parse(payload: &'a [u8], red: u8) -> Result<Self, Malformed> {
        let mut this = Self { repeated: [Block::default(); MOST], count: 0, own: Block::default() };
        let heads = payload.chunks_exact(HEAD).take_while(|head| head[0] & 0x80 != 0).count();
        let (heads, rest) = payload.split_at_checked(heads * HEAD).ok_or(Malformed)?;
        let (own, mut media) = rest.split_first().ok_or(Malformed)?;
        if *own & 0x80 != 0 || *own == red || heads.len() > MOST * HEAD {
            return Err(Malformed);
        }
        let (heads, _) = heads.as_chunks::<HEAD>();
        for (block, head) in this.repeated.iter_mut().zip(heads) {
            let word = u32::from_be_bytes(*head);
            block.payload_type = head[0] & 0x7F;
            block.offset = word >> 10 & 0x3FFF;
            (block.media, media) = media.split_at_checked(word as usize & 0x3FF).ok_or(Malformed)?;
        }
        this.count = heads.len();
        this.own = Block { payload_type: *own, offset: 0, media };
        Ok(this)
    }

    /// The frames that it repeats, in their order: the oldest first.
    pub(crate) fn repeated(&self) -> &[Block<'a>] {
        self.repeated.get(..self.count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: u8 = 63;

    #[test]
    fn rfc_2198_4_the_example_packet() {
        // A DVI4 frame (PT 5) of 84 bytes, and before it the one 20 ms earlier as LPC (PT 7) in 14.
        let payload = [&[0x87, 0x02, 0x80, 0x0E, 0x05][..], &[0xAA; 14], &[0xBB; 84]].concat();
        let red = Red::parse(&payload, RED).unwrap();
        assert_eq!(red.repeated(), [Block { payload_type: 7, offset: 160, media: &[0xAA; 14] }]);
        assert_eq!(red.own, Block { payload_type: 5, offset: 0, media: &[0xBB; 84] });
    }

    #[test]
    fn rfc_2198_3_offsets_of_14_bits_and_lengths_of_10_are_read_to_their_last_bit() {
        let mut payload = vec![0xFF, 0xFF, 0xFF, 0xFF, 0x80, 0x00, 0x04, 0x00, 0x6F];
        payload.resize(9 + 1023 + 2, 7);
        let red = Red::parse(&payload, RED).unwrap();
        let [first, second] = red.repeated() else { panic!("two") };
        assert_eq!((first.payload_type, first.offset, first.media.len()), (127, 16_383, 1023));
        assert_eq!((second.payload_type, second.offset, second.media.len()), (0, 1, 0));
        assert_eq!((red.own.payload_type, red.own.media), (111, &[7, 7][..]));
    }

    #[test]
    fn a_frame_may_be_alone_and_empty() {
        let red = Red::parse(&[0x6F], RED).unwrap();
        assert_eq!((red.repeated().len(), red.own.payload_type, red.own.media.len()), (0, 111, 0));
    }

    #[test]
    fn what_is_cut_short_or_lies_is_malformed() {
        for payload in [
            &[][..],
            // Heads without the packet's own.
            &[0xEF, 0x0F, 0x00, 0x00],
            &[0xEF, 0x0F, 0x00],
            &[0xEF],
            // A block longer than what there is.
            &[0xEF, 0x0F, 0x00, 0x03, 0x6F, 1, 2],
            &[0xEF, 0x0F, 0xFF, 0xFF, 0x6F, 1, 2],
            // The second one's.
            &[0xEF, 0x0F, 0x00, 0x02, 0xEF, 0x0F, 0x00, 0x01, 0x6F, 1, 2],
            // RED in RED.
            &[RED, 0x6F, 1],
        ] {
            assert!(Red::parse(payload, RED).is_err(), "{payload:?}");
        }
    }

    #[test]
    fn more_blocks_than_anyone_sends_are_malformed() {
        let payload = |blocks| [[0xEF, 0x0F, 0x00, 0x00].repeat(blocks), vec![0x6F, 1]].concat();
        assert_eq!(Red::parse(&payload(MOST), RED).unwrap().repeated().len(), MOST);
        assert!(Red::parse(&payload(MOST + 1), RED).is_err());
        assert!(Red::parse(&payload(300), RED).is_err());
    }
}
