//! What this plugin reads in the peer's RTCP.

use sandbar_sdk::RtcpPart;

/// Transport-layer feedback (RFC 4585, 6.2).
const RTPFB: u8 = 205;
const GENERIC_NACK: u8 = 1;

/// The media SSRC of a generic NACK and the sequence numbers that it asks for, in its order (RFC 4585, 6.2.1).
pub(crate) fn nack<'a>(part: &RtcpPart<'a>) -> Option<(u32, impl Iterator<Item = u16> + use<'a>)> {
    if part.packet_type != RTPFB || part.count != GENERIC_NACK {
        return None;
    }
    let media = part.word(2)?;
    let entries = part.bytes.get(12..)?.chunks_exact(4);
    Some((media, entries.flat_map(|entry| requested([entry[0], entry[1]], [entry[2], entry[3]]))))
}

/// The packet that an entry names, and those among the following sixteen whose bits are set.
fn requested(packet_id: [u8; 2], mask: [u8; 2]) -> impl Iterator<Item = u16> {
    let (packet_id, mask) = (u16::from_be_bytes(packet_id), u16::from_be_bytes(mask));
    let following = (0..16).filter(move |bit| mask & (1 << bit) != 0);
    std::iter::once(packet_id).chain(following.map(move |bit| packet_id.wrapping_add(bit + 1)))
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::RtcpParts;

    use super::*;

    fn numbers(bytes: &[u8]) -> Vec<(u32, Vec<u16>)> {
        RtcpParts::of(bytes).filter_map(|part| nack(&part).map(|(ssrc, numbers)| (ssrc, numbers.collect()))).collect()
    }

    #[test]
    fn rfc_4585_6_2_1_bit_i_stands_for_the_packet_i_after_the_named_one() {
        let bytes = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 0x80, 0x05, 0, 100, 0, 0];
        assert_eq!(numbers(&bytes), [(2, vec![65_534, 65_535, 1, 14, 100])]);
    }

    #[test]
    fn other_feedback_and_broken_nacks_ask_for_nothing() {
        assert!(numbers(&[0x8f, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0]).is_empty());
        assert!(numbers(&[0x81, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0]).is_empty());
        assert!(numbers(&[0x81, 205, 0, 1, 0, 0, 0, 1]).is_empty());
        assert!(numbers(&[0x81, 205, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0]).is_empty());
        assert_eq!(numbers(&[0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]), [(2, Vec::<u16>::new())]);
    }
}
