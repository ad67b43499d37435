//! Sender and receiver reports, read in place (RFC 3550, 6.4).

use crate::packet::RtcpPart;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
/// Words of a report block.
const BLOCK: usize = 6;

/// What a report says about one source (RFC 3550, 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Of the packets expected since the last report, those that were lost, in 1/256.
    pub fraction_lost: u8,
    /// Since the first packet; negative when there were more duplicates than losses. 24 bits.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest: u32,
    /// Interarrival jitter, in units of the RTP timestamp.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time (LSR); 0 before any.
    pub last_report: u32,
    /// How long ago that report arrived, in 1/65536 s (DLSR).
    pub delay: u32,
}

/// What a sender report says about its sender (RFC 3550, 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender.
    pub ssrc: u32,
    /// When the report was sent, as a 64-bit NTP timestamp; 0 where the sender has no clock.
    pub ntp: u64,
    /// The same moment on the stream's RTP clock.
    pub rtp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

impl SenderInfo {
    /// The middle 32 bits of the NTP timestamp, by which a receiver names the report.
    pub fn ntp_middle(&self) -> u32 {
        (self.ntp >> 16) as u32
    }
}

impl<'a> RtcpPart<'a> {
    /// The blocks of a sender or receiver report; none of any other packet. A count beyond the blocks that there are is of
    /// no consequence.
    pub fn report_blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        let part = *self;
        let first = match part.packet_type {
            SENDER_REPORT => Some(7),
            RECEIVER_REPORT => Some(2),
            _ => None,
        };
        let places =
            first.into_iter().flat_map(move |first| (0..usize::from(part.count)).map(move |n| first + n * BLOCK));
        places.map_while(move |at| {
            let losses = part.word(at + 1)?;
            Some(ReportBlock {
                ssrc: part.word(at)?,
                fraction_lost: (losses >> 24) as u8,
                // The sign is that of 24 bits.
                cumulative_lost: ((losses << 8) as i32) >> 8,
                highest: part.word(at + 2)?,
                jitter: part.word(at + 3)?,
                last_report: part.word(at + 4)?,
                delay: part.word(at + 5)?,
            })
        })
    }

    /// The sender of a sender report; none of any other packet.
    pub fn sender_info(&self) -> Option<SenderInfo> {
        if self.packet_type != SENDER_REPORT {
            return None;
        }
        Some(SenderInfo {
            ssrc: self.word(1)?,
            ntp: u64::from(self.word(2)?) << 32 | u64::from(self.word(3)?),
            rtp: self.word(4)?,
            packets: self.word(5)?,
            octets: self.word(6)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::RtcpParts;

    fn part(bytes: &[u8]) -> RtcpPart<'_> {
        RtcpParts::of(bytes).next().unwrap()
    }

    fn block(ssrc: u8) -> [u8; 24] {
        let mut block = [0; 24];
        (block[3], block[4], block[7], block[11]) = (ssrc, 64, 3, 9);
        (block[15], block[19], block[23]) = (5, 7, 8);
        block
    }

    #[test]
    fn rfc_3550_6_4_blocks_are_read_behind_both_kinds_of_head() {
        let receiver = [&[0x82, 201, 0, 13, 0, 0, 0, 1][..], &block(5), &block(6)].concat();
        let sender = [&[0x81, 200, 0, 12][..], &[1; 24], &block(8)].concat();
        let blocks: Vec<_> = part(&receiver).report_blocks().chain(part(&sender).report_blocks()).collect();
        let expected = |ssrc| ReportBlock {
            ssrc,
            fraction_lost: 64,
            cumulative_lost: 3,
            highest: 9,
            jitter: 5,
            last_report: 7,
            delay: 8,
        };
        assert_eq!(blocks, [5, 6, 8].map(expected));
    }

    #[test]
    fn rfc_3550_6_4_1_the_cumulative_loss_has_24_bits_and_a_sign() {
        let mut bytes = [&[0x81, 201, 0, 7, 0, 0, 0, 1][..], &block(5)].concat();
        bytes[12..16].copy_from_slice(&[0xff, 0xff, 0xff, 0xfe]);
        let found = part(&bytes).report_blocks().next().unwrap();
        assert_eq!((found.fraction_lost, found.cumulative_lost), (255, -2));
    }

    #[test]
    fn rfc_3550_6_4_1_a_sender_says_when_and_how_much_it_sent() {
        let mut bytes = vec![0x80, 200, 0, 6, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend([0, 0, 0, 9, 0, 0, 0, 10, 0, 0, 0, 11]);
        let info = part(&bytes).sender_info().unwrap();
        assert_eq!(info, SenderInfo { ssrc: 2, ntp: 0x0102_0304_0506_0708, rtp: 9, packets: 10, octets: 11 });
        assert_eq!(info.ntp_middle(), 0x0304_0506);
    }

    #[test]
    fn what_is_cut_short_or_another_packet_says_nothing() {
        assert_eq!(part(&[0x9f, 201, 0, 1, 0, 0, 0, 1]).report_blocks().count(), 0);
        assert_eq!(part(&[0x9f, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5]).report_blocks().count(), 0);
        assert_eq!(part(&[0x80, 200, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]).sender_info(), None);
        let nack = [&[0x81, 205, 0, 7, 0, 0, 0, 1][..], &block(5)].concat();
        assert!(part(&nack).report_blocks().next().is_none() && part(&nack).sender_info().is_none());
    }
}
