//! Receiver reports as written (RFC 3550, 6.4.2).

use sandbar_sdk::ReportBlock;

const RECEIVER_REPORT: u8 = 201;
/// Version 2, no padding.
const VERSION: u8 = 0x80;
/// Header and the reporter's SSRC.
const HEAD: usize = 8;
const BLOCK: usize = 24;
/// What the five-bit count allows.
const MAX_BLOCKS: usize = 31;

/// Receiver reports with these blocks, each packet at most `max_bytes`; one without blocks where there are none.
pub(crate) fn receiver_reports(reporter: u32, blocks: &[ReportBlock], max_bytes: usize) -> Vec<u8> {
    let per_packet = (max_bytes.saturating_sub(HEAD) / BLOCK).clamp(1, MAX_BLOCKS);
    let mut out = Vec::with_capacity(HEAD * (1 + blocks.len() / per_packet) + BLOCK * blocks.len());
    if blocks.is_empty() {
        head(reporter, 0, &mut out);
    }
    for part in blocks.chunks(per_packet) {
        head(reporter, part.len(), &mut out);
        for block in part {
            out.extend_from_slice(&block.ssrc.to_be_bytes());
            let lost = (block.cumulative_lost as u32) & 0xff_ffff;
            out.extend_from_slice(&(u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
            for word in [block.highest, block.jitter, block.last_report, block.delay] {
                out.extend_from_slice(&word.to_be_bytes());
            }
        }
    }
    out
}

fn head(reporter: u32, blocks: usize, out: &mut Vec<u8>) {
    let words = (HEAD + BLOCK * blocks) / 4 - 1;
    out.extend_from_slice(&[VERSION | blocks as u8, RECEIVER_REPORT]);
    out.extend_from_slice(&(words as u16).to_be_bytes());
    out.extend_from_slice(&reporter.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::RtcpParts;
    use sandbar_sdk::rtcp::packet;
    use sandbar_sdk::rtcp::receiver_report::ReceiverReport;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<ReceiverReport> {
        let packets = packet::unmarshal(&mut &bytes[..]).unwrap();
        packets.iter().map(|packet| packet.as_any().downcast_ref::<ReceiverReport>().unwrap().clone()).collect()
    }

    fn blocks(count: u32) -> Vec<ReportBlock> {
        (0..count).map(|ssrc| ReportBlock { ssrc, ..ReportBlock::default() }).collect()
    }

    #[test]
    fn rfc_3550_6_4_2_another_implementation_reads_what_was_written() {
        let block = ReportBlock {
            ssrc: 0x0102_0304,
            fraction_lost: 85,
            cumulative_lost: 0x01_0203,
            highest: 0x1_0007,
            jitter: 9,
            last_report: 0xb705_2000,
            delay: 0x0005_4000,
        };
        let read = read(&receiver_reports(7, &[block], 1200));
        assert_eq!((read.len(), read[0].ssrc, read[0].reports.len()), (1, 7, 1));
        let report = &read[0].reports[0];
        assert_eq!((report.ssrc, report.fraction_lost, report.total_lost), (block.ssrc, 85, 0x01_0203));
        assert_eq!((report.last_sequence_number, report.jitter), (0x1_0007, 9));
        assert_eq!((report.last_sender_report, report.delay), (block.last_report, block.delay));
    }

    #[test]
    fn negative_losses_are_24_bits_of_twos_complement() {
        let block = ReportBlock { fraction_lost: 1, cumulative_lost: -2, ..ReportBlock::default() };
        let bytes = receiver_reports(7, &[block], 1200);
        assert_eq!(bytes[12..16], [1, 0xff, 0xff, 0xfe]);
    }

    #[test]
    fn more_than_31_sources_take_several_packets() {
        let read = read(&receiver_reports(7, &blocks(70), 1200));
        assert_eq!(read.iter().map(|report| report.reports.len()).collect::<Vec<_>>(), [31, 31, 8]);
        let ssrcs: Vec<_> = read.iter().flat_map(|report| &report.reports).map(|block| block.ssrc).collect();
        assert_eq!(ssrcs, (0..70).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_mtu_takes_more_packets() {
        for (max, packets) in [(500, 4), (80, 24), (10, 70)] {
            let bytes = receiver_reports(7, &blocks(70), max);
            assert_eq!(RtcpParts::of(&bytes).count(), packets);
            assert!(RtcpParts::of(&bytes).all(|part| part.bytes.len() <= max.max(32)));
            assert_eq!(read(&bytes).iter().map(|report| report.reports.len()).sum::<usize>(), 70);
        }
    }

    #[test]
    fn rfc_3550_6_4_2_nothing_to_report_is_a_report_without_blocks() {
        assert_eq!(receiver_reports(0x0a0b_0c0d, &[], 1200), [0x80, 201, 0, 1, 0x0a, 0x0b, 0x0c, 0x0d]);
    }
}
