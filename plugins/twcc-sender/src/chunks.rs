//! Packet status chunks (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1.1 to 3.1.4).

/// What became of a packet, as two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    NotReceived = 0,
    /// One byte of delta.
    SmallDelta = 1,
    /// Two bytes of delta.
    LargeDelta = 2,
}

/// A run-length chunk has 13 bits for its length.
const MAX_RUN: usize = (1 << 13) - 1;
/// A status vector chunk has 14 statuses of one bit, or 7 of two.
const ONE_BIT: usize = 14;
const TWO_BIT: usize = 7;

/// The lowest bit of each status that waits.
const EACH: u32 = 0x0555_5555;

/// The bits of the statuses below a place; those from `ONE_BIT` on are not kept.
#[inline]
fn below(at: usize) -> u32 {
    (1 << (2 * at.min(ONE_BIT))) - 1
}

/// Bytes of one chunk.
pub(crate) const CHUNK: usize = 2;

/// Chunks as they are written, and the statuses that are not yet in one.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    bytes: Vec<u8>,
    /// The first of the statuses that wait, two bits each, from the lowest on: nearly all that is done to them is done to all.
    waiting: u32,
    /// How many wait. More than `waiting` holds only if they are all the same.
    count: usize,
    mixed: bool,
    large: bool,
}

impl Chunks {
    /// The most bytes there will be if `statuses` more of one kind are added, and nothing else.
    pub(crate) fn size_with(&self, statuses: usize) -> usize {
        // What waits takes two chunks at most, and so do statuses that start or end in the midst of one.
        self.bytes.len() + CHUNK * (4 + statuses / MAX_RUN)
    }

    /// How many more with this status can be added to a run that is all of it.
    #[inline]
    pub(crate) fn left_in_run(&self, status: Status) -> usize {
        if self.continues(status) { MAX_RUN.saturating_sub(self.count) } else { 0 }
    }

    /// Adds `statuses` packets with this status.
    #[inline]
    pub(crate) fn add(&mut self, status: Status, mut statuses: usize) {
        while statuses > 0 {
            let same = self.continues(status);
            let added = if same && self.count < MAX_RUN {
                statuses.min(MAX_RUN - self.count)
            } else if self.fits_a_vector(status) && !same {
                1
            } else {
                let chunk = self.take_one();
                self.bytes.extend_from_slice(&chunk);
                continue;
            };
            self.set(self.count, self.count + added, status);
            self.mixed |= !same;
            self.large |= status == Status::LargeDelta;
            self.count += added;
            statuses -= added;
        }
    }

    /// Whether all that wait have this status.
    #[inline]
    fn continues(&self, status: Status) -> bool {
        !self.mixed && (self.count == 0 || self.status(0) == status as u16)
    }

    /// One of those that wait.
    #[inline]
    fn status(&self, at: usize) -> u16 {
        (self.waiting >> (2 * at) & 3) as u16
    }

    /// Gives those from one place up to another this status.
    #[inline]
    fn set(&mut self, from: usize, to: usize, status: Status) {
        let these = below(to) & !below(from);
        self.waiting = self.waiting & !these | (EACH * status as u32) & these;
    }

    fn fits_a_vector(&self, status: Status) -> bool {
        self.count < TWO_BIT || (self.count < ONE_BIT && !self.large && status != Status::LargeDelta)
    }

    /// A chunk of as many of the waiting statuses as fill it.
    fn take_one(&mut self) -> [u8; CHUNK] {
        let chunk;
        if !self.mixed {
            chunk = self.status(0) << 13 | self.count as u16;
            self.count = 0;
        } else if self.count == ONE_BIT {
            chunk = self.one_bit();
            self.count = 0;
        } else {
            chunk = self.two_bits();
            self.waiting >>= 2 * TWO_BIT;
            self.count = self.count.saturating_sub(TWO_BIT);
        }
        self.mixed = (self.waiting ^ (EACH * u32::from(self.status(0)))) & below(self.count) != 0;
        // More than seven that are not all the same had none among them.
        self.large = false;
        chunk.to_be_bytes()
    }

    /// The chunks, and the last one by itself: mostly it is the only one. There is one, as something has been added.
    pub(crate) fn finish(mut self) -> (Vec<u8>, [u8; CHUNK]) {
        let last = if self.count > TWO_BIT && self.mixed {
            // No more than fourteen and no large delta among them, or they would have been written. What is left of
            // the vector says "not received" and is beyond the packet status count.
            self.set(self.count, ONE_BIT, Status::NotReceived);
            self.one_bit().to_be_bytes()
        } else {
            self.take_one()
        };
        (self.bytes, last)
    }

    fn one_bit(&self) -> u16 {
        0x8000 | (0..ONE_BIT).fold(0, |bits, at| bits << 1 | self.status(at))
    }

    fn two_bits(&mut self) -> u16 {
        self.set(self.count.min(TWO_BIT), TWO_BIT, Status::NotReceived);
        0xc000 | (0..TWO_BIT).fold(0, |bits, at| bits << 2 | self.status(at))
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{LargeDelta, NotReceived, SmallDelta};
    use super::*;

    fn all(chunks: Chunks) -> Vec<u8> {
        let (before, last) = chunks.finish();
        [before, last.to_vec()].concat()
    }

    fn chunks(runs: &[(Status, usize)]) -> Vec<u16> {
        let mut chunks = Chunks::default();
        for (status, statuses) in runs {
            chunks.add(*status, *statuses);
        }
        let bytes = all(chunks);
        bytes.chunks(CHUNK).map(|chunk| u16::from_be_bytes([chunk[0], chunk[1]])).collect()
    }

    /// The statuses that chunks stand for, the rest of the last one included.
    fn read(chunks: &[u16]) -> Vec<u8> {
        let statuses = chunks.iter().flat_map(|chunk| match chunk >> 14 {
            0 | 1 => vec![(chunk >> 13 & 3) as u8; usize::from(chunk & 0x1fff)],
            2 => (0..14).rev().map(|bit| (chunk >> bit & 1) as u8).collect(),
            _ => (0..7).rev().map(|pair| (chunk >> (2 * pair) & 3) as u8).collect(),
        });
        statuses.collect()
    }

    #[test]
    fn draft_3_1_3_the_examples_of_run_length_chunks() {
        assert_eq!(chunks(&[(NotReceived, 221)]), [0b0000_0000_1101_1101]);
        assert_eq!(chunks(&[(SmallDelta, 24)]), [0b0010_0000_0001_1000]);
    }

    #[test]
    fn draft_3_1_4_the_example_of_one_bit_statuses() {
        let runs = [(NotReceived, 1), (SmallDelta, 5), (NotReceived, 3), (SmallDelta, 3), (NotReceived, 2)];
        assert_eq!(chunks(&runs), [0b1001_1111_0001_1100]);
    }

    #[test]
    fn draft_3_1_4_statuses_with_large_deltas_take_two_bits() {
        let runs = [(NotReceived, 1), (LargeDelta, 1), (SmallDelta, 3), (NotReceived, 2)];
        assert_eq!(chunks(&runs), [0b1100_1001_0101_0000]);
    }

    #[test]
    fn draft_3_1_3_a_run_is_8191_long_at_most() {
        assert_eq!(chunks(&[(NotReceived, 8191)]), [0x1fff]);
        assert_eq!(chunks(&[(NotReceived, 20_000)]), [0x1fff, 0x1fff, 20_000 - 2 * 0x1fff]);
    }

    #[test]
    fn a_run_that_a_vector_can_hold_becomes_part_of_one() {
        assert_eq!(chunks(&[(SmallDelta, 13), (NotReceived, 1)]).len(), 1);
        assert_eq!(chunks(&[(SmallDelta, 14), (NotReceived, 1)]), [0x2000 | 14, 1]);
        assert_eq!(chunks(&[(LargeDelta, 7), (NotReceived, 1)]), [0x4000 | 7, 1]);
        assert_eq!(chunks(&[(SmallDelta, 8), (LargeDelta, 1)]), [0x2000 | 8, 0x4000 | 1]);
    }

    #[test]
    fn a_large_delta_splits_a_vector_of_small_ones() {
        let runs = [(SmallDelta, 1), (NotReceived, 1), (SmallDelta, 8), (LargeDelta, 1)];
        let chunks = chunks(&runs);
        assert_eq!(chunks.len(), 2);
        assert_eq!(read(&chunks)[..11], [1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    }

    #[test]
    fn whatever_is_added_is_read_again_and_no_larger_than_announced() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..3000 {
            let mut chunks = Chunks::default();
            let mut expected = Vec::new();
            for _ in 0..random(60) {
                let status = [NotReceived, SmallDelta, LargeDelta][random(3) as usize];
                let statuses = if random(50) == 0 { random(20_000) } else { random(17) } as usize;
                let announced = chunks.size_with(statuses + 1);
                chunks.add(status, statuses);
                chunks.add(SmallDelta, 1);
                expected.resize(expected.len() + statuses, status as u8);
                expected.push(1);
                let waiting = Chunks { bytes: chunks.bytes.clone(), ..chunks };
                assert!(all(waiting).len() <= announced);
            }
            let bytes = all(chunks);
            let chunks: Vec<_> = bytes.chunks(CHUNK).map(|chunk| u16::from_be_bytes([chunk[0], chunk[1]])).collect();
            let found = read(&chunks);
            assert!(found.len() >= expected.len() && found.len() < expected.len() + ONE_BIT);
            assert_eq!(found[..expected.len()], expected);
        }
    }
}
