//! What this plugin reads in the peer's RTCP.

use sandbar_sdk::RtcpPart;

/// Transport-layer feedback (RFC 4585, 6.2).
const RTPFB: u8 = 205;
const GENERIC_NACK: u8 = 1;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
/// Words of a report block.
const BLOCK: usize = 6;

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

/// Of a report block that answers a sender report: whom it is about, and when that report was sent (LSR) and how long
/// it was held (DLSR), in the middle 32 bits of NTP time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) ssrc: u32,
    pub(crate) last_report: u32,
    pub(crate) delay: u32,
}

/// The answers in a sender or receiver report (RFC 3550, 6.4).
pub(crate) fn echoes<'a>(part: &RtcpPart<'a>) -> impl Iterator<Item = Echo> + use<'a> {
    let part = *part;
    let blocks = match part.packet_type {
        SENDER_REPORT => Some(7),
        RECEIVER_REPORT => Some(2),
        _ => None,
    };
    let blocks = blocks.into_iter().flat_map(move |first| (0..usize::from(part.count)).map(move |n| first + n * BLOCK));
    blocks.map_while(move |block| {
        Some(Echo { ssrc: part.word(block)?, last_report: part.word(block + 4)?, delay: part.word(block + 5)? })
    })
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

    #[test]
    fn rfc_3550_6_4_report_blocks_are_read_behind_both_kinds_of_head() {
        let block = |ssrc: u8| {
            let mut block = [0; 24];
            (block[3], block[19], block[23]) = (ssrc, 7, 9);
            block
        };
        let mut receiver = vec![0x82, 201, 0, 13, 0, 0, 0, 1];
        receiver.extend_from_slice(&block(5));
        receiver.extend_from_slice(&block(6));
        let mut sender = vec![0x81, 200, 0, 12];
        sender.resize(28, 1);
        sender.extend_from_slice(&block(8));
        let bytes = [receiver, sender].concat();
        let found: Vec<_> = RtcpParts::of(&bytes).flat_map(|part| echoes(&part).collect::<Vec<_>>()).collect();
        assert_eq!(found, [5, 6, 8].map(|ssrc| Echo { ssrc, last_report: 7, delay: 9 }));
    }

    #[test]
    fn a_report_count_beyond_the_blocks_is_harmless() {
        let bytes = [0x9f, 201, 0, 1, 0, 0, 0, 1];
        assert!(RtcpParts::of(&bytes).all(|part| echoes(&part).next().is_none()));
    }
}
