//! Congestion control feedback (RFC 8888, 3.1), read in place.

use sandbar_sdk::RtcpPart;

use crate::Read;
use crate::clock::Clock;

/// Transport-layer feedback (RFC 4585, 6.2), and the message type (RFC 8888, 3.1).
const RTPFB: u8 = 205;
const CCFB: u8 = 11;
/// Bytes before the first block.
const HEAD: usize = 8;
/// Most reports of a block (RFC 8888, 3.1).
const MOST: usize = 16_384;
/// Arrival time offsets that say nothing of the time: too long ago, and not available.
const NO_TIME: u16 = 0x1ffe;

/// How the peer has received a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    No,
    /// At a time that it does not say.
    Sometime,
    /// In microseconds of its clock.
    At(i64),
}

/// A feedback packet whose blocks are all there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feedback<'a> {
    blocks: &'a [u8],
    timestamp: u32,
    count: usize,
}

pub(crate) fn read<'a>(part: &RtcpPart<'a>) -> Read<Feedback<'a>> {
    if part.packet_type != RTPFB || part.count != CCFB {
        return Read::Other;
    }
    parse(part).map_or(Read::Malformed, Read::Feedback)
}

fn parse<'a>(part: &RtcpPart<'a>) -> Option<Feedback<'a>> {
    let (blocks, timestamp) = part.bytes.get(HEAD..)?.split_last_chunk()?;
    let mut rest = blocks;
    let mut count = 0;
    while !rest.is_empty() {
        let (block, after) = split(rest)?;
        count += block.reports.len() / 2;
        rest = after;
    }
    Some(Feedback { blocks, timestamp: u32::from_be_bytes(*timestamp), count })
}

/// What is said of one source.
struct Block<'a> {
    ssrc: u32,
    first: u16,
    reports: &'a [u8],
}

fn split(bytes: &[u8]) -> Option<(Block<'_>, &[u8])> {
    let (ssrc, rest) = bytes.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(*count));
    if count > MOST {
        return None;
    }
    // An odd number of reports is padded to a whole word.
    let (padded, after) = rest.split_at_checked(2 * count.next_multiple_of(2))?;
    let block =
        Block { ssrc: u32::from_be_bytes(*ssrc), first: u16::from_be_bytes(*first), reports: padded.get(..2 * count)? };
    Some((block, after))
}

impl Feedback<'_> {
    /// How many packets it is about.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Calls `each` with every packet's SSRC and sequence number, and how it was received.
    pub(crate) fn each(&self, clock: &mut Clock, mut each: impl FnMut(u32, u16, Reception)) {
        // The middle 32 bits of NTP time: 1/65536 s.
        let now = clock.unwrap(self.timestamp, 32).saturating_mul(15_625) >> 10;
        let mut rest = self.blocks;
        while let Some((block, after)) = split(rest) {
            for (n, report) in block.reports.chunks_exact(2).enumerate() {
                let report = u16::from_be_bytes([report[0], report[1]]);
                let reception = match (report >> 15, report & 0x1fff) {
                    (0, _) => Reception::No,
                    (_, NO_TIME..) => Reception::Sometime,
                    // 1/1024 s.
                    (_, offset) => Reception::At(now - i64::from(offset) * 15_625 / 16),
                };
                each(block.ssrc, block.first.wrapping_add(n as u16), reception);
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::RtcpParts;

    use super::*;

    fn packet(blocks: &[(u32, u16, &[u16])], timestamp: u32) -> Vec<u8> {
        let mut bytes = vec![0x8b, 205, 0, 0, 0, 0, 0, 1];
        for (ssrc, first, reports) in blocks {
            bytes.extend_from_slice(&ssrc.to_be_bytes());
            bytes.extend_from_slice(&first.to_be_bytes());
            bytes.extend_from_slice(&(reports.len() as u16).to_be_bytes());
            bytes.extend(reports.iter().flat_map(|report| report.to_be_bytes()));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        let words = bytes.len() / 4 - 1;
        bytes[2..4].copy_from_slice(&(words as u16).to_be_bytes());
        bytes
    }

    fn receptions(bytes: &[u8]) -> Option<Vec<(u32, u16, Reception)>> {
        let part = RtcpParts::of(bytes).next().unwrap();
        match read(&part) {
            Read::Other => panic!("it is congestion control feedback"),
            Read::Malformed => None,
            Read::Feedback(feedback) => {
                let mut found = Vec::new();
                feedback.each(&mut Clock::default(), |ssrc, number, how| found.push((ssrc, number, how)));
                assert_eq!(found.len(), feedback.count());
                Some(found)
            }
        }
    }

    #[test]
    fn rfc_8888_3_1_offsets_count_back_from_the_report_timestamp() {
        // Received 1024/1024 s before, not received, received ECN-CE marked half a second before.
        let reports = [0x8000 | 1024, 0, 0x8000 | 0x6000 | 512];
        let bytes = packet(&[(7, 65_535, &reports), (8, 3, &[0x8000])], 3 << 16);
        let at = Reception::At;
        assert_eq!(
            receptions(&bytes).unwrap(),
            [(7, 65_535, at(2_000_000)), (7, 0, Reception::No), (7, 1, at(2_500_000)), (8, 3, at(3_000_000))]
        );
    }

    #[test]
    fn rfc_8888_3_1_an_offset_may_say_nothing() {
        let bytes = packet(&[(7, 0, &[0x9fff, 0x9ffe, 0x9ffd])], 10 << 16);
        let found: Vec<_> = receptions(&bytes).unwrap().into_iter().map(|(_, _, how)| how).collect();
        assert_eq!(found[..2], [Reception::Sometime; 2]);
        assert_eq!(found[2], Reception::At(10_000_000 - 0x1ffd * 15_625 / 16));
    }

    #[test]
    fn rfc_8888_3_1_the_report_timestamp_goes_on_where_its_16_bits_of_seconds_wrap() {
        let mut clock = Clock::default();
        let mut arrival = |timestamp: u32| {
            let bytes = packet(&[(7, 0, &[0x8000])], timestamp);
            let part = RtcpParts::of(&bytes).next().unwrap();
            let Read::Feedback(feedback) = read(&part) else { panic!("it is congestion control feedback") };
            let mut arrived = None;
            feedback.each(&mut clock, |_, _, how| arrived = Some(how));
            let Some(Reception::At(at)) = arrived else { panic!("it arrived") };
            at
        };
        let before = arrival(0xffff_8000);
        assert_eq!(arrival(0x0000_8000) - before, 1_000_000);
    }

    #[test]
    fn what_lies_about_its_length_says_nothing() {
        assert_eq!(receptions(&packet(&[], 1)), Some(Vec::new()));
        let mut lying = packet(&[(7, 0, &[0x8000; 4])], 1);
        for count in [5u16, 6, 16_384, 16_385, u16::MAX] {
            lying[14..16].copy_from_slice(&count.to_be_bytes());
            assert_eq!(receptions(&lying), None, "{count}");
        }
        let short = [0x8b, 205, 0, 1, 0, 0, 0, 1];
        assert_eq!(receptions(&short), None);
    }
}
