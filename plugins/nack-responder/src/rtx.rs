//! Retransmissions in a stream of their own (RFC 4588).

use sandbar_sdk::HeaderBuf;

/// The retransmission stream that belongs to a local stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rtx {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    /// The next packet's. Consecutive, from a random start (RFC 3550, 5.1).
    pub(crate) sequence_number: u16,
}

impl Rtx {
    /// The header under which a packet is retransmitted: the original's with its marker, timestamp, CSRCs and header
    /// extensions (RFC 4588, 4), in the retransmission stream. The original sequence number goes before the payload.
    ///
    /// The padding bit stays: RFC 4588 has the original's padding removed and allows the retransmission to be padded
    /// itself, and keeping the same padding at the payload's end comes to the same bytes.
    pub(crate) fn header(&self, original: &[u8]) -> Option<HeaderBuf> {
        let mut header = HeaderBuf::parse(original.to_vec()).ok()?;
        let mut edit = header.edit();
        edit.set_ssrc(self.ssrc);
        edit.set_payload_type(self.payload_type);
        edit.set_sequence_number(self.sequence_number);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4588_4_the_header_is_the_originals_in_another_stream() {
        let rtx = Rtx { ssrc: 0x0a0b_0c0d, payload_type: 97, sequence_number: 0x1234 };
        // Padding, extension, one CSRC, marker.
        let original = [0xb1, 0x80 | 96, 0, 7, 1, 2, 3, 4, 0, 0, 0, 1, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 0x10, 0x55, 0, 0];
        let mut expected = original;
        expected[1] = 0x80 | 97;
        expected[2..4].copy_from_slice(&[0x12, 0x34]);
        expected[8..12].copy_from_slice(&[0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(rtx.header(&original).unwrap().as_bytes(), expected);
    }

    #[test]
    fn what_is_no_header_is_not_sent() {
        let rtx = Rtx { ssrc: 1, payload_type: 97, sequence_number: 0 };
        assert!(rtx.header(&[0x80, 96, 0]).is_none());
    }
}
