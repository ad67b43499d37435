//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1), read in place.

use sandbar_sdk::RtcpPart;

use crate::Read;
use crate::clock::Clock;

/// Transport-layer feedback (RFC 4585, 6.2), and the draft's message type.
const RTPFB: u8 = 205;
const TRANSPORT_CC: u8 = 15;
/// Bytes before the first chunk.
const HEAD: usize = 20;
/// Units of the reference time and of deltas, in microseconds.
const REFERENCE: i64 = 64_000;
const DELTA: i64 = 250;

/// A feedback packet whose chunks and deltas are all there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feedback<'a> {
    first: u16,
    count: u16,
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

pub(crate) fn read<'a>(part: &RtcpPart<'a>) -> Read<Feedback<'a>> {
    if part.packet_type != RTPFB || part.count != TRANSPORT_CC {
        return Read::Other;
    }
    parse(part).map_or(Read::Malformed, Read::Feedback)
}

fn parse<'a>(part: &RtcpPart<'a>) -> Option<Feedback<'a>> {
    let (numbers, reference) = (part.word(3)?, part.word(4)? >> 8);
    let chunks = part.bytes.get(HEAD..)?;
    let mut feedback =
        Feedback { first: (numbers >> 16) as u16, count: numbers as u16, reference, chunks, deltas: &[] };
    let mut symbols = feedback.symbols();
    let mut size = 0;
    for _ in 0..feedback.count {
        size += match symbols.next()? {
            0 => 0,
            1 => 1,
            2 => 2,
            // Reserved.
            _ => return None,
        };
    }
    feedback.deltas = chunks.get(symbols.at..).filter(|deltas| deltas.len() >= size)?;
    Some(feedback)
}

impl Feedback<'_> {
    /// How many numbers it is about.
    pub(crate) fn count(&self) -> usize {
        self.count.into()
    }

    /// Calls `each` with every number, and when it arrived: microseconds of the peer's clock.
    pub(crate) fn each(&self, clock: &mut Clock, mut each: impl FnMut(u16, Option<i64>)) {
        let mut at = clock.unwrap(self.reference, 24) * REFERENCE;
        let mut deltas = self.deltas;
        for (n, symbol) in self.symbols().take(self.count.into()).enumerate() {
            let delta = match (symbol, deltas) {
                (1, [small, rest @ ..]) => {
                    deltas = rest;
                    i64::from(*small)
                }
                (2, [high, low, rest @ ..]) => {
                    deltas = rest;
                    i64::from(i16::from_be_bytes([*high, *low]))
                }
                _ => {
                    each(self.first.wrapping_add(n as u16), None);
                    continue;
                }
            };
            at += delta * DELTA;
            each(self.first.wrapping_add(n as u16), Some(at));
        }
    }

    fn symbols(&self) -> Symbols<'_> {
        Symbols { chunks: self.chunks, at: 0, chunk: Chunk::Run { symbol: 0, left: 0 } }
    }
}

/// The chunk that symbols are taken from (3.1.3 and 3.1.4).
enum Chunk {
    Run {
        symbol: u8,
        left: u16,
    },
    /// Symbols of `width` bits, the next one highest.
    Vector {
        bits: u16,
        width: u32,
        left: u16,
    },
}

/// The packets' statuses; ends where the bytes do.
struct Symbols<'a> {
    chunks: &'a [u8],
    at: usize,
    chunk: Chunk,
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            match &mut self.chunk {
                Chunk::Run { symbol, left } if *left > 0 => {
                    *left -= 1;
                    return Some(*symbol);
                }
                Chunk::Vector { bits, width, left } if *left > 0 => {
                    *left -= 1;
                    let symbol = *bits >> (16 - *width);
                    *bits <<= *width;
                    return Some(symbol as u8);
                }
                _ => {}
            }
            let chunk = u16::from_be_bytes(*self.chunks.get(self.at..)?.first_chunk()?);
            self.at += 2;
            self.chunk = match chunk >> 14 {
                0 | 1 => Chunk::Run { symbol: (chunk >> 13 & 3) as u8, left: chunk & 0x1fff },
                2 => Chunk::Vector { bits: chunk << 2, width: 1, left: 14 },
                _ => Chunk::Vector { bits: chunk << 2, width: 2, left: 7 },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::RtcpParts;

    use super::*;

    /// A feedback packet about `count` numbers from 65,534 on, with the reference time 2.
    fn packet(count: u16, chunks: &[u16], deltas: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe];
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 2, 9]);
        bytes.extend(chunks.iter().flat_map(|chunk| chunk.to_be_bytes()));
        bytes.extend_from_slice(deltas);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let words = bytes.len() / 4 - 1;
        bytes[2..4].copy_from_slice(&(words as u16).to_be_bytes());
        bytes
    }

    /// What it says, or that it is malformed.
    fn statuses(bytes: &[u8]) -> Option<Vec<(u16, Option<i64>)>> {
        let part = RtcpParts::of(bytes).next().unwrap();
        match read(&part) {
            Read::Other => panic!("it is transport-wide feedback"),
            Read::Malformed => None,
            Read::Feedback(feedback) => {
                let mut found = Vec::new();
                feedback.each(&mut Clock::default(), |number, at| found.push((number, at)));
                assert_eq!(found.len(), feedback.count());
                Some(found)
            }
        }
    }

    #[test]
    fn draft_holmer_3_1_3_the_example_of_a_run_length_chunk() {
        // "0 | 00 | 0000011011101": packet not received, 221 times.
        let found = statuses(&packet(221, &[0b0000_0000_1101_1101], &[])).unwrap();
        assert_eq!(found.len(), 221);
        assert!(found.iter().all(|(_, at)| at.is_none()));
        // "0 | 11 | 0000000011000" is reserved by now; received with small deltas, 24 times, is:
        let found = statuses(&packet(24, &[0b0010_0000_0001_1000], &[4; 24])).unwrap();
        assert_eq!((found[0], found[2]), ((65_534, Some(129_000)), (0, Some(131_000))));
    }

    #[test]
    fn draft_holmer_3_1_4_the_examples_of_status_vector_chunks() {
        // "1 | 0 | 01111100011100": 1 not received, 5 received, 3 not, 3 received, 2 not.
        let found = statuses(&packet(14, &[0b1001_1111_0001_1100], &[0; 8])).unwrap();
        let arrived: Vec<_> = found.iter().map(|(_, at)| u8::from(at.is_some())).collect();
        assert_eq!(arrived, [0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0]);
        // "1 | 1 | 00 11 01 01 01 00 00" with 11, which is reserved by now, as a large delta: 2.
        let found = statuses(&packet(7, &[0b1100_1001_0101_0000], &[0xff, 0xfc, 4, 4, 4])).unwrap();
        let arrived: Vec<_> = found.iter().map(|(_, at)| *at).collect();
        assert_eq!(arrived, [None, Some(127_000), Some(128_000), Some(129_000), Some(130_000), None, None]);
    }

    #[test]
    fn draft_holmer_3_1_5_deltas_are_quarters_of_a_millisecond_and_large_ones_have_a_sign() {
        let found = statuses(&packet(3, &[0b1101_1010_0000_0000], &[255, 0x80, 0, 0x7f, 0xff])).unwrap();
        let at = 128_000 + 255 * 250;
        assert_eq!(found[0].1, Some(at));
        assert_eq!(found[1].1, Some(at - 8_192_000));
        assert_eq!(found[2].1, Some(at - 8_192_000 + 8_191_750));
    }

    #[test]
    fn draft_holmer_3_1_the_reference_time_goes_on_where_its_24_bits_wrap() {
        let mut clock = Clock::default();
        let mut arrival = |reference: u32| {
            let mut bytes = packet(1, &[0x2001], &[0]);
            bytes[16..19].copy_from_slice(&reference.to_be_bytes()[1..]);
            let part = RtcpParts::of(&bytes).next().unwrap();
            let Read::Feedback(feedback) = read(&part) else { panic!("it is transport-wide feedback") };
            let mut arrived = None;
            feedback.each(&mut clock, |_, at| arrived = at);
            arrived.unwrap()
        };
        let before = arrival(0xff_ffff);
        assert_eq!(arrival(0) - before, 64_000);
        assert_eq!(arrival(2) - before, 3 * 64_000);
        // Feedback that comes late is no second cycle.
        assert_eq!(arrival(0xff_fffe) - before, -64_000);
    }

    #[test]
    fn what_lies_about_its_length_says_nothing() {
        // Chunks that do not cover the count, deltas that are not there, a reserved symbol, no chunk at all.
        assert_eq!(statuses(&packet(15, &[0b1001_1111_0001_1100], &[0; 8])), None);
        assert_eq!(statuses(&packet(24, &[0b0010_0000_0001_1000], &[4; 20])), None);
        assert_eq!(statuses(&packet(4, &[0b0110_0000_0000_0100], &[4; 20])), None);
        assert_eq!(statuses(&packet(1, &[], &[])), None);
        assert_eq!(statuses(&packet(0, &[], &[])), Some(Vec::new()));
        for len in 8..20 {
            let mut short = packet(1, &[0x2001], &[0])[..len / 4 * 4].to_vec();
            short[3] = (short.len() / 4 - 1) as u8;
            assert_eq!(statuses(&short), None);
        }
        // Runs of nothing end with the bytes.
        assert_eq!(statuses(&packet(1, &[0; 64], &[])), None);
    }
}
