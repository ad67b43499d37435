//! Sender reports on the wire (RFC 3550, 6.4.1).

use crate::source::Report;

const SENDER_REPORT: u8 = 200;
/// Version 2, no padding, no report blocks: what was received is the receiver reports' to tell.
const FIRST_BYTE: u8 = 0x80;
/// Bytes of a report.
pub(crate) const SIZE: usize = 28;

/// Appends a sender report.
pub(crate) fn write(ssrc: u32, ntp: u64, report: &Report, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FIRST_BYTE, SENDER_REPORT]);
    out.extend_from_slice(&((SIZE / 4 - 1) as u16).to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    for word in [report.timestamp, report.packets, report.octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::rtcp::packet;
    use sandbar_sdk::rtcp::sender_report::SenderReport;

    use super::*;

    #[test]
    fn rfc_3550_6_4_1_another_implementation_reads_what_was_written() {
        let mut bytes = Vec::new();
        write(7, 0x0102_0304_0506_0708, &Report { timestamp: 9, packets: 10, octets: 11 }, &mut bytes);
        write(8, 1, &Report { timestamp: 2, packets: 3, octets: 4 }, &mut bytes);
        assert_eq!(bytes.len(), 2 * SIZE);
        let packets = packet::unmarshal(&mut &bytes[..]).unwrap();
        let report = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
        assert_eq!((report.ssrc, report.ntp_time, report.rtp_time), (7, 0x0102_0304_0506_0708, 9));
        assert_eq!((report.packet_count, report.octet_count, report.reports.len()), (10, 11, 0));
        assert_eq!(packets[1].as_any().downcast_ref::<SenderReport>().unwrap().ssrc, 8);
    }
}
