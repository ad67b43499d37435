//! A repair packet's payload (draft-ietf-payload-flexible-fec-scheme-03, 4.2).
//!
//! | at | field
//! | -- | -----
//! |  0 | R (retransmission) and F (fixed masks), which are 0; then the parity of P, X, CC, M, PT
//! |  2 | parity of what follows the fixed headers, in bytes
//! |  4 | parity of the timestamps
//! |  8 | SSRCCount, which is 1, and 3 reserved bytes
//! | 12 | SSRC of the protected packets
//! | 16 | SN base, the first number that the masks can name
//! | 18 | k, which ends the masks, and a mask of 15 bits
//! | 20 | k and a mask of 31 bits, unless ended
//! | 24 | k and a mask of 63 bits, unless ended
//! |    | parity of what follows the fixed headers

/// What a repair packet says of the packets that it protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protected {
    /// The first one's number.
    pub(crate) base: u16,
    /// A bit for each: bit 0, which is set, is `base`.
    mask: u128,
    /// The parity of headers and lengths: the FEC header's first eight bytes.
    pub(crate) recovery: [u8; 8],
}

/// The payload is cut short, or is not of the kind that one stream is protected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Protected {
    /// Reads a repair packet's payload, for the stream with this SSRC: what it protects, and the parity of the rest.
    pub(crate) fn parse(payload: &[u8], ssrc: u32) -> Result<(Self, &[u8]), Malformed> {
        let (recovery, rest) = payload.split_first_chunk::<8>().ok_or(Malformed)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
        let (source, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
        let (base, rest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
        if recovery[0] & 0xC0 != 0 || count[0] != 1 || u32::from_be_bytes(*source) != ssrc {
            return Err(Malformed);
        }
        let (mask, parity) = mask(rest)?;
        let first = mask.trailing_zeros();
        if mask == 0 {
            return Err(Malformed);
        }
        let base = u16::from_be_bytes(*base).wrapping_add(first as u16);
        Ok((Self { base, mask: mask >> first, recovery: *recovery }, parity))
    }

    /// The numbers of the protected packets, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        let (base, mut mask) = (self.base, self.mask);
        std::iter::from_fn(move || {
            let distance = mask.trailing_zeros();
            mask &= mask.wrapping_sub(1);
            (distance < u128::BITS).then(|| base.wrapping_add(distance as u16))
        })
    }

    /// Whether it protects the packet with this number.
    pub(crate) fn has(&self, sequence_number: u16) -> bool {
        let distance = sequence_number.wrapping_sub(self.base);
        distance < 128 && self.mask >> distance & 1 == 1
    }
}

/// The masks, bit 0 for the first number; and what is behind them.
fn mask(rest: &[u8]) -> Result<(u128, &[u8]), Malformed> {
    // The k bit is shifted out: each mask's first bit is its highest.
    let (first, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let first = u16::from_be_bytes(*first);
    let mut mask = u128::from((first << 1).reverse_bits());
    if first >> 15 == 1 {
        return Ok((mask, rest));
    }
    let (second, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let second = u32::from_be_bytes(*second);
    mask |= u128::from((second << 1).reverse_bits()) << 15;
    if second >> 31 == 1 {
        return Ok((mask, rest));
    }
    let (third, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let third = u64::from_be_bytes(*third);
    mask |= u128::from((third << 1).reverse_bits()) << 46;
    // There is no fourth.
    if third >> 63 == 1 { Ok((mask, rest)) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(masks: &[u8]) -> Vec<u8> {
        [&[0x15, 0xE1, 0, 9, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 7, 0xFF, 0xFE][..], masks, b"parity"].concat()
    }

    fn numbers(masks: &[u8]) -> Vec<u16> {
        let payload = payload(masks);
        let (protected, parity) = Protected::parse(&payload, 7).unwrap();
        assert_eq!(parity, b"parity");
        assert_eq!(protected.recovery, payload[..8]);
        let numbers: Vec<_> = protected.numbers().collect();
        assert!((0..=u16::MAX).all(|number| protected.has(number) == numbers.contains(&number)));
        assert_eq!(protected.base, numbers[0]);
        numbers
    }

    #[test]
    fn draft_4_2_the_masks_name_the_packets_from_the_base_on() {
        let at = |distance: u16| 65_534u16.wrapping_add(distance);
        assert_eq!(numbers(&[0xC0, 0x01]), [at(0), at(14)]);
        assert_eq!(numbers(&[0x95, 0x00]), [at(2), at(4), at(6)]);
        assert_eq!(numbers(&[0x40, 0x00, 0xC0, 0, 0, 1]), [at(0), at(15), at(45)]);
        assert_eq!(numbers(&[0, 0, 0, 0, 0, 1, 0xC0, 0, 0, 0, 0, 0, 0, 1]), [at(45), at(46), at(108)]);
        let all = [vec![0x7F, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF], vec![0xFF; 8]].concat();
        assert_eq!(numbers(&all), (0..109).map(at).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_cut_short_is_malformed() {
        for masks in [&[0xC0, 0x01][..], &[0x40, 0, 0x80, 0, 0, 0], &[0x40, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]] {
            let whole = payload(masks);
            for len in 0..18 + masks.len() {
                assert_eq!(Protected::parse(&whole[..len], 7), Err(Malformed));
            }
            assert!(Protected::parse(&whole[..18 + masks.len()], 7).is_ok(), "the parity may be of empty packets");
        }
    }

    #[test]
    fn draft_4_2_other_schemes_and_masks_without_an_end_or_a_packet_are_malformed() {
        let good = payload(&[0xC0, 0x01]);
        // Retransmission; fixed masks; no SSRC, or two; another SSRC.
        for (at, byte) in [(0, 0x95), (0, 0x55), (8, 0), (8, 2), (15, 8)] {
            let mut other = good.clone();
            other[at] = byte;
            assert_eq!(Protected::parse(&other, 7), Err(Malformed), "{at}: {byte}");
        }
        assert_eq!(Protected::parse(&payload(&[0x40, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]), 7), Err(Malformed));
        assert_eq!(Protected::parse(&payload(&[0x80, 0]), 7), Err(Malformed));
        assert_eq!(Protected::parse(&payload(&[0, 0, 0x80, 0, 0, 0]), 7), Err(Malformed));
    }
}
