//! Who an RTCP compound is from and which sources it is about, to find its place in a capture.

/// The SSRCs that a compound names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Who sends it.
    pub(crate) sender: Option<u32>,
    /// Whom it reports on or asks something of.
    pub(crate) about: Vec<u32>,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// Reads as much of a compound (RFC 3550, 6.1) as there is.
pub(crate) fn named(mut compound: &[u8]) -> Named {
    let mut named = Named::default();
    while let [flags, kind, high, low, ..] = *compound {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some(packet) = compound.get(..length).filter(|_| flags >> 6 == 2) else { break };
        let word =
            |at: usize| packet.get(at..at + 4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        named.sender = named.sender.or(word(4));
        // Report blocks have 24 bytes, the source first; feedback has the media source after its sender (RFC 4585, 6.1).
        let blocks = |first: usize| (0..usize::from(flags & 0x1f)).map_while(move |block| word(first + 24 * block));
        match kind {
            SENDER_REPORT => named.about.extend(blocks(28)),
            RECEIVER_REPORT => named.about.extend(blocks(8)),
            TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => named.about.extend(word(8).filter(|ssrc| *ssrc != 0)),
            _ => {}
        }
        compound = &compound[length..];
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_and_feedback_name_their_sources() {
        let mut report = vec![0x81, 201, 0, 7];
        report.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        report.extend([0; 20]);
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0, 5, 0, 0];
        let compound = [&report[..], &nack].concat();
        assert_eq!(named(&compound), Named { sender: Some(1), about: vec![2, 3] });
        for length in 0..compound.len() {
            named(&compound[..length]);
        }
        assert_eq!(named(&[0x80, 203, 0, 0]), Named::default());
    }
}
