//! Picture loss indications on the wire (RFC 4585, 6.3.1).

/// Version 2, feedback message type 1.
const FIRST_BYTE: u8 = 0x80 | 1;
/// Payload-specific feedback.
const PSFB: u8 = 206;
/// In words less one: the header and both SSRCs, and nothing that follows them.
const LENGTH: u16 = 2;

/// Appends a request for a key frame of `media`.
pub(crate) fn write(sender: u32, media: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FIRST_BYTE, PSFB]);
    out.extend_from_slice(&LENGTH.to_be_bytes());
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::rtcp::packet;
    use sandbar_sdk::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

    use super::*;

    #[test]
    fn rfc_4585_6_3_1_a_picture_loss_indication_is_two_ssrcs_and_no_parameters() {
        let mut out = vec![9];
        write(0x0a0b_0c0d, 0x1122_3344, &mut out);
        assert_eq!(out, [9, 0x81, 206, 0, 2, 0x0a, 0x0b, 0x0c, 0x0d, 0x11, 0x22, 0x33, 0x44]);
    }

    #[test]
    fn another_implementation_reads_what_was_written() {
        let mut out = Vec::new();
        write(1, u32::MAX, &mut out);
        write(1, 0, &mut out);
        let packets = packet::unmarshal(&mut &out[..]).unwrap();
        let media = packets.iter().map(|packet| {
            let pli = packet.as_any().downcast_ref::<PictureLossIndication>().unwrap();
            assert_eq!(pli.sender_ssrc, 1);
            pli.media_ssrc
        });
        assert_eq!(media.collect::<Vec<_>>(), [u32::MAX, 0]);
    }
}
