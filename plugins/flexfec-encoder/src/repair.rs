//! One repair packet in the making (draft-ietf-payload-flexible-fec-scheme-03, 4.2 and 6.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|F|P|X|  CC   |M| PT recovery |        length recovery        |
//! |                          TS recovery                          |
//! |   SSRCCount   |                    reserved                   |
//! |                             SSRC_i                            |
//! |           SN base_i           |k|          mask 0-14          |
//! |k|                         mask 15-45                          |  unless k is set above
//! |k|                                                             |
//! +-+                         mask 46-108                         +  unless k is set above
//! |                                                               |
//! |                            parity ...                         |
//! ```

/// Bytes of a fixed RTP header, of which all but sequence number and SSRC are in the FEC header instead.
pub(crate) const FIXED: usize = 12;
/// Bytes of the FEC header with the most masks.
const MOST: usize = 32;

/// How far apart the packets of a block may be, for the header to have this many bytes.
const HEADERS: [(u16, usize); 3] = [(15, 20), (46, 24), (109, MOST)];

/// How long a header has to be to tell this many packets in sequence apart, and how many it then can.
pub(crate) fn header_for(packets: u16) -> (usize, u16) {
    let fitting = HEADERS.iter().find(|(span, _)| packets <= *span).unwrap_or(&HEADERS[2]);
    (fitting.1, fitting.0)
}

/// The parity of some packets.
#[derive(Clone, Debug)]
pub(crate) struct Repair {
    /// Of the packets' first two bytes, lengths and timestamps, as the FEC header has them.
    recovery: [u8; 8],
    /// Room for the longest FEC header, and then the parity of what follows the fixed RTP headers.
    bytes: Vec<u8>,
    numbers: Vec<u16>,
}

impl Repair {
    pub(crate) fn new() -> Self {
        Self { recovery: [0; 8], bytes: vec![0; MOST], numbers: Vec::new() }
    }

    /// Begins anew, in the same memory.
    pub(crate) fn clear(&mut self) {
        self.recovery = [0; 8];
        self.bytes.truncate(MOST);
        self.numbers.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Adds a packet, given as its whole header and what follows it (6.2: the bit string).
    pub(crate) fn add(&mut self, sequence_number: u16, header: &[u8], payload: &[u8]) {
        let Some((fixed, rest)) = header.split_first_chunk::<FIXED>() else { return };
        let len = ((rest.len() + payload.len()) as u16).to_be_bytes();
        let string = [fixed[0] & 0x3F, fixed[1], len[0], len[1], fixed[4], fixed[5], fixed[6], fixed[7]];
        for (parity, byte) in self.recovery.iter_mut().zip(string) {
            *parity ^= byte;
        }
        let end = MOST + rest.len() + payload.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let (before, after) = self.bytes.split_at_mut(MOST + rest.len());
        xor(before.get_mut(MOST..).unwrap_or_default(), rest);
        xor(after, payload);
        self.numbers.push(sequence_number);
    }

    /// The repair packet's payload, in which packets of `ssrc` are numbered from `base`. It has the masks that it needs.
    pub(crate) fn payload(&mut self, ssrc: u32, base: u16) -> &[u8] {
        let distances = self.numbers.iter().map(|number| number.wrapping_sub(base));
        let (header, _) = header_for(distances.clone().max().unwrap_or(0) + 1);
        let mask = distances.fold(0u128, |mask, distance| mask | 1 << 127 >> (distance % 128));
        // The first packet is the mask's first bit. Each k bit says that its mask is the last one.
        let last = |masks| u32::from(header == masks);
        let first = (mask >> 113) as u32 | last(HEADERS[0].1) << 15;
        let second = (mask >> 82) as u32 & 0x7FFF_FFFF | last(HEADERS[1].1) << 31;
        let third = (mask >> 19) as u64 & 0x7FFF_FFFF_FFFF_FFFF | u64::from(last(HEADERS[2].1)) << 63;
        let mut fields = [0; MOST];
        fields[..8].copy_from_slice(&self.recovery);
        // SSRCCount.
        fields[8] = 1;
        fields[12..16].copy_from_slice(&ssrc.to_be_bytes());
        fields[16..18].copy_from_slice(&base.to_be_bytes());
        fields[18..20].copy_from_slice(&(first as u16).to_be_bytes());
        fields[20..24].copy_from_slice(&second.to_be_bytes());
        fields[24..].copy_from_slice(&third.to_be_bytes());
        let begin = MOST.saturating_sub(header);
        if let (Some(place), Some(fields)) = (self.bytes.get_mut(begin..MOST), fields.get(..header)) {
            place.copy_from_slice(fields);
        }
        self.bytes.get(begin..).unwrap_or_default()
    }
}

/// Adds bytes to those of a parity, eight at a time.
fn xor(parity: &mut [u8], bytes: &[u8]) {
    let (parity_words, parity_rest) = parity.as_chunks_mut::<8>();
    let (words, rest) = bytes.as_chunks::<8>();
    for (parity, word) in parity_words.iter_mut().zip(words) {
        *parity = (u64::from_ne_bytes(*parity) ^ u64::from_ne_bytes(*word)).to_ne_bytes();
    }
    // The parity may be longer: what is left of the bytes belongs to its next word, or to its rest.
    let tail = match parity_words.get_mut(words.len()) {
        Some(word) => word.as_mut_slice(),
        None => parity_rest,
    };
    for (parity, byte) in tail.iter_mut().zip(rest) {
        *parity ^= byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two packets with every field set apart, of different lengths.
    const ONE: ([u8; 12], &[u8]) = ([0x80, 0x60, 0, 8, 0, 0, 0, 2, 0, 0, 0, 7], &[1, 2, 3, 4, 5]);
    const TWO: ([u8; 12], &[u8]) = ([0x80, 0xE0, 0, 10, 0, 0, 0x10, 3, 0, 0, 0, 7], &[6, 7]);

    fn of(numbers: &[u16]) -> Repair {
        let mut repair = Repair::new();
        for number in numbers {
            repair.add(*number, &ONE.0, ONE.1);
        }
        repair
    }

    /// Base and masks.
    fn masks(numbers: &[u16], base: u16) -> Vec<u8> {
        let mut repair = of(numbers);
        let payload = repair.payload(7, base);
        payload[16..payload.len() - ONE.1.len()].to_vec()
    }

    #[test]
    fn draft_6_2_the_fec_header_is_the_parity_of_the_headers_and_the_payload_that_of_the_rest() {
        let mut repair = Repair::new();
        repair.add(8, &ONE.0, ONE.1);
        repair.add(10, &TWO.0, TWO.1);
        let expected = [
            // R, F, P, X and CC; M and PT: the marker differs; length: 5 ^ 2; timestamp.
            &[0x00, 0x80, 0, 7, 0, 0, 0x10, 1][..],
            // SSRCCount, reserved, SSRC.
            &[1, 0, 0, 0, 0, 0, 0, 7],
            // SN base; k and the bits for 8 and 10.
            &[0, 8, 0x80 | 0x50, 0],
            &[1 ^ 6, 2 ^ 7, 3, 4, 5],
        ];
        assert_eq!(repair.payload(7, 8), expected.concat());
        repair.clear();
        assert!(repair.is_empty());
        repair.add(9, &TWO.0, TWO.1);
        assert_eq!(repair.payload(7, 9)[..8], [0, 0xE0, 0, 2, 0, 0, 0x10, 3]);
        assert_eq!(repair.payload(7, 9)[16..], [0, 9, 0xC0, 0, 6, 7]);
    }

    #[test]
    fn draft_6_2_csrcs_extensions_and_padding_are_protected_and_the_version_is_not() {
        let mut repair = Repair::new();
        // P, X, one CSRC; an extension word; two bytes and padding.
        let header = [0xB1, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9, 9, 9, 9, 0xBE, 0xDE, 0, 1, 0x10, 0x55, 0, 0];
        repair.add(1, &header, b"me\0\x02");
        let payload = repair.payload(7, 1);
        assert_eq!((payload[0], payload[1]), (0x31, 96));
        assert_eq!(payload[2..4], [0, 4 + 8 + 4]);
        assert_eq!(payload[20..], [&header[12..], b"me\0\x02"].concat());
    }

    #[test]
    fn draft_4_2_a_mask_bit_stands_for_its_distance_from_the_base() {
        assert_eq!(masks(&[65_530, 65_544u32 as u16], 65_530), [0xFF, 0xFA, 0xC0, 0x01]);
        assert_eq!(masks(&[100, 115], 100), [0, 100, 0x40, 0, 0x80 | 0x40, 0, 0, 0]);
        assert_eq!(masks(&[115, 145], 100), [0, 100, 0, 0, 0x80 | 0x40, 0, 0, 1]);
        assert_eq!(masks(&[100, 146], 100), [0, 100, 0x40, 0, 0, 0, 0, 0, 0x80 | 0x40, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(masks(&[208], 100), [0, 100, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_header_is_as_long_as_its_block_needs() {
        assert_eq!(
            [1, 15, 16, 46, 47, 48].map(header_for),
            [(20, 15), (20, 15), (24, 46), (24, 46), (32, 109), (32, 109)]
        );
    }

    #[test]
    fn parity_is_taken_over_every_length_and_offset() {
        for (len, shorter) in (0..40).flat_map(|len| (0..=len).map(move |shorter| (len, shorter))) {
            let mut parity: Vec<u8> = (0..len).collect();
            let bytes: Vec<u8> = (0..shorter).map(|byte| byte * 5 + 1).collect();
            xor(&mut parity, &bytes);
            let expected: Vec<u8> = (0..len).map(|at| if at < shorter { at ^ (at * 5 + 1) } else { at }).collect();
            assert_eq!(parity, expected, "{len} and {shorter}");
        }
    }
}
