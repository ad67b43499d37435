//! What RTCP asks for and answers: NACK, PLI, FIR, and the reference times of extended reports.

use sandbar_sdk::RtcpPart;

use crate::round_trip::Answer;

/// Transport-layer feedback (RFC 4585, 6.2).
const RTPFB: u8 = 205;
/// Payload-specific feedback (RFC 4585, 6.3).
const PSFB: u8 = 206;
/// Extended reports (RFC 3611, 2).
const XR: u8 = 207;
/// Block types of extended reports (RFC 3611, 4.4 and 4.5).
const RECEIVER_REFERENCE_TIME: u8 = 4;
const DLRR: u8 = 5;

/// What feedback asks of a media stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Lost packets (RFC 4585, 6.2.1).
    Nack,
    /// A picture after a loss (RFC 4585, 6.3.1).
    Pli,
    /// A full picture (RFC 5104, 4.3.1).
    Fir,
}

/// What a packet asks for, and of which SSRCs.
pub(crate) fn asks<'a>(part: &RtcpPart<'a>) -> impl Iterator<Item = (u32, Ask)> + use<'a> {
    let ask = match (part.packet_type, part.count) {
        (RTPFB, 1) => Some(Ask::Nack),
        (PSFB, 1) => Some(Ask::Pli),
        (PSFB, 4) => Some(Ask::Fir),
        _ => None,
    };
    let part = *part;
    // A FIR names its streams in entries of two words, the others theirs in the head.
    let (first, step) = if ask == Some(Ask::Fir) { (3, 2) } else { (2, usize::MAX) };
    let words = std::iter::successors(Some(first), move |word: &usize| word.checked_add(step));
    ask.into_iter().flat_map(move |ask| words.clone().map_while(move |word| Some((part.word(word)?, ask))))
}

/// The reference time of a receiver, in the middle 32 bits of NTP time (RFC 3611, 4.4).
pub(crate) fn reference_time(part: &RtcpPart<'_>) -> Option<u32> {
    let (_, block) = blocks(part).find(|(kind, _)| *kind == RECEIVER_REFERENCE_TIME)?;
    let time: [u8; 8] = *block.first_chunk()?;
    Some((u64::from_be_bytes(time) >> 16) as u32)
}

/// What a sender answers to a receiver's reference times: the receiver's SSRC, and the answer (RFC 3611, 4.5).
pub(crate) fn answers<'a>(part: &RtcpPart<'a>) -> impl Iterator<Item = (u32, Answer)> + use<'a> {
    blocks(part).filter(|(kind, _)| *kind == DLRR).flat_map(|(_, block)| {
        let (entries, _) = block.as_chunks::<12>();
        entries.iter().map(|entry| {
            let word = |at: usize| u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
            (word(0), Answer { last_report: word(4), delay: word(8) })
        })
    })
}

/// The blocks of an extended report: type and contents. Ends at the first that is cut short.
fn blocks<'a>(part: &RtcpPart<'a>) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
    let mut rest = if part.packet_type == XR { part.bytes.get(8..).unwrap_or_default() } else { &[] };
    std::iter::from_fn(move || {
        let [kind, _, high, low] = *rest.first_chunk()?;
        let end = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let block = rest.get(4..end)?;
        rest = rest.get(end..).unwrap_or_default();
        Some((kind, block))
    })
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::RtcpParts;

    use super::*;

    fn asked(bytes: &[u8]) -> Vec<(u32, Ask)> {
        RtcpParts::of(bytes).flat_map(|part| asks(&part)).collect()
    }

    #[test]
    fn rfc_4585_6_2_1_and_6_3_1_nack_and_pli_name_their_stream_in_the_head() {
        let nack = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0, 1, 0, 20, 0, 0];
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3];
        assert_eq!(asked(&[&nack[..], &pli].concat()), [(2, Ask::Nack), (3, Ask::Pli)]);
    }

    #[test]
    fn rfc_5104_4_3_1_a_fir_names_its_streams_in_entries() {
        let head = [0x84, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0];
        let entries = [0, 0, 0, 5, 7, 0, 0, 0, 0, 0, 0, 6, 1, 0, 0, 0];
        assert_eq!(asked(&[&head[..], &entries].concat()), [(5, Ask::Fir), (6, Ask::Fir)]);
    }

    #[test]
    fn other_feedback_asks_for_nothing() {
        for head in [[0x8f, 205], [0x8f, 206], [0x82, 206], [0x81, 201]] {
            assert!(asked(&[&head[..], &[0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0]].concat()).is_empty());
        }
        assert!(asked(&[0x81, 205, 0, 1, 0, 0, 0, 1]).is_empty(), "no media SSRC");
        assert!(asked(&[0x84, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]).is_empty(), "no entry");
    }

    #[test]
    fn rfc_3611_4_4_and_4_5_reference_times_and_their_answers_are_read() {
        let mut bytes = vec![0x80, 207, 0, 10, 0, 0, 0, 9];
        bytes.extend([4, 0, 0, 2, 0, 1, 2, 3, 4, 5, 6, 7]);
        bytes.extend([5, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 0, 1, 0, 0]);
        bytes.extend([99, 0, 0, 1, 0, 0, 0, 0]);
        let part = RtcpParts::of(&bytes).next().unwrap();
        assert_eq!(reference_time(&part), Some(0x0203_0405));
        let answer = Answer { last_report: 0x0203_0405, delay: 0x1_0000 };
        assert_eq!(answers(&part).collect::<Vec<_>>(), [(1, answer)]);
    }

    #[test]
    fn a_block_that_lies_about_its_length_ends_the_reading() {
        for length in [3, 255] {
            let bytes = [0x80, 207, 0, 3, 0, 0, 0, 9, 4, 0, 0, length, 1, 2, 3, 4];
            let part = RtcpParts::of(&bytes).next().unwrap();
            assert_eq!((reference_time(&part), answers(&part).count()), (None, 0));
        }
        let bytes = [0x80, 207, 0, 0];
        assert_eq!(reference_time(&RtcpParts::of(&bytes).next().unwrap()), None);
    }
}
