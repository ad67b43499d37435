//! The packets that are protected together, and their repair packets.

use crate::repair::{Repair, header_for};

/// What becomes of a packet that is offered to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It belongs to the block.
    Yes,
    /// It came before, or is older than what the block can hold: nothing protects it.
    Old,
    /// It is so far ahead that the block has to end first.
    Ahead,
}

/// A block in the making. Its packets take turns in the repair packets, so that losses in a row meet different ones.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// How many packets it has when it is full.
    media_packets: usize,
    repairs: Vec<Repair>,
    numbers: Vec<u16>,
    /// Of the longest FEC header, in bytes, and how many packets in sequence that can tell apart.
    header: usize,
    span: u16,
    /// The newest packet's.
    timestamp: u32,
}

impl Block {
    pub(crate) fn new(media_packets: u16, repair_packets: u16) -> Self {
        let (header, span) = header_for(media_packets);
        Self {
            media_packets: usize::from(media_packets),
            repairs: vec![Repair::new(); usize::from(repair_packets)],
            numbers: Vec::with_capacity(usize::from(media_packets)),
            header,
            span,
            timestamp: 0,
        }
    }

    /// Bytes by which a repair packet is longer than the longest packet that it protects, at most.
    pub(crate) fn overhead(&self) -> usize {
        // A fixed RTP header of its own, for the one that is in the FEC header.
        self.header
    }

    /// The first number in sequence; 0 without packets.
    fn base(&self) -> u16 {
        let Some(first) = self.numbers.first() else { return 0 };
        let back = self.numbers.iter().map(|number| first.wrapping_sub(*number) as i16).max().unwrap_or(0);
        first.wrapping_sub(back as u16)
    }

    /// Whether a packet with this number can go into the block.
    pub(crate) fn fit(&self, sequence_number: u16) -> Fit {
        if self.numbers.is_empty() {
            return Fit::Yes;
        }
        let base = self.base();
        let ahead = sequence_number.wrapping_sub(base);
        if ahead < self.span {
            return if self.numbers.contains(&sequence_number) { Fit::Old } else { Fit::Yes };
        }
        if ahead < 1 << 15 {
            return Fit::Ahead;
        }
        // It comes late: with it, the block begins earlier.
        let newest = self.numbers.iter().map(|number| number.wrapping_sub(sequence_number)).max().unwrap_or(0);
        if newest < self.span { Fit::Yes } else { Fit::Old }
    }

    /// Adds a packet that fits, given as its whole header and what follows it. Says whether the block is full.
    pub(crate) fn add(&mut self, sequence_number: u16, timestamp: u32, header: &[u8], payload: &[u8]) -> bool {
        let turn = self.numbers.len() % self.repairs.len().max(1);
        if let Some(repair) = self.repairs.get_mut(turn) {
            repair.add(sequence_number, header, payload);
        }
        self.numbers.push(sequence_number);
        self.timestamp = timestamp;
        self.numbers.len() >= self.media_packets
    }

    /// Gives the payload of each repair packet for packets of `ssrc` to `send`, with the timestamp of the newest packet,
    /// and begins anew.
    pub(crate) fn finish(&mut self, ssrc: u32, mut send: impl FnMut(u32, &[u8])) {
        let base = self.base();
        for repair in self.repairs.iter_mut().filter(|repair| !repair.is_empty()) {
            send(self.timestamp, repair.payload(ssrc, base));
            repair.clear();
        }
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u16) -> Vec<u8> {
        let number = number.to_be_bytes();
        vec![0x80, 96, number[0], number[1], 0, 0, 0, 9, 0, 0, 0, 7]
    }

    /// Adds what fits, and gives the numbers in each repair packet, by its mask.
    fn masks(block: &mut Block, numbers: impl IntoIterator<Item = u16>) -> Vec<Vec<u16>> {
        for number in numbers {
            if block.fit(number) == Fit::Yes {
                block.add(number, 9, &header(number), b"media");
            }
        }
        let mut masks = Vec::new();
        block.finish(7, |timestamp, payload| {
            assert_eq!((timestamp, payload[8]), (9, 1));
            let base = u16::from_be_bytes([payload[16], payload[17]]);
            let bits = payload[18..].iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1)).skip(1);
            masks
                .push(bits.take(15).zip(0..).filter(|(bit, _)| *bit == 1).map(|(_, n)| base.wrapping_add(n)).collect());
        });
        masks
    }

    #[test]
    fn packets_take_turns_in_the_repair_packets() {
        assert_eq!(masks(&mut Block::new(5, 2), 100..105), [vec![100, 102, 104], vec![101, 103]]);
        let wrap = [65_534, 65_535, 0, 1, 2];
        assert_eq!(masks(&mut Block::new(5, 3), wrap), [vec![65_534, 1], vec![65_535, 2], vec![0]]);
        assert_eq!(masks(&mut Block::new(3, 3), 7..10), [[7], [8], [9]]);
        assert_eq!(masks(&mut Block::new(5, 2), [7]), [[7]], "one that ends early");
    }

    #[test]
    fn a_block_is_full_with_its_last_packet_and_then_begins_anew() {
        let mut block = Block::new(3, 1);
        let full: Vec<_> = (0..3).map(|number| block.add(number, 0, &header(number), b"")).collect();
        assert_eq!(full, [false, false, true]);
        block.finish(7, |_, _| {});
        assert_eq!(masks(&mut block, 30_000..30_003), [vec![30_000, 30_001, 30_002]]);
    }

    #[test]
    fn gaps_and_packets_out_of_order_are_protected_under_their_own_numbers() {
        let mut block = Block::new(5, 2);
        assert_eq!(masks(&mut block, [100, 103, 101, 107, 99]), [vec![99, 100, 101], vec![103, 107]]);
        assert_eq!(masks(&mut block, [2, 65_535, 0]), [vec![0, 2], vec![65_535]]);
    }

    #[test]
    fn no_packet_is_in_a_block_twice() {
        // It would cancel itself out.
        assert_eq!(masks(&mut Block::new(5, 1), [1, 2, 1, 2, 3]), [[1, 2, 3]]);
    }

    #[test]
    fn a_block_holds_what_its_masks_can_tell_apart() {
        for (media, span) in [(5, 15), (16, 46), (48, 109)] {
            let mut block = Block::new(media, 1);
            block.add(65_530, 0, &header(65_530), b"");
            let fit = |block: &Block, ahead: u16| block.fit(65_530u16.wrapping_add(ahead));
            assert_eq!((fit(&block, span - 1), fit(&block, span)), (Fit::Yes, Fit::Ahead));
            assert_eq!(fit(&block, 0u16.wrapping_sub(span - 1)), Fit::Yes);
            assert_eq!(fit(&block, 0u16.wrapping_sub(span)), Fit::Old);
            assert_eq!((fit(&block, 30_000), fit(&block, 40_000)), (Fit::Ahead, Fit::Old));
            block.add(65_535, 0, &header(65_535), b"");
            assert_eq!(fit(&block, 5u16.wrapping_sub(span - 1)), Fit::Yes);
            assert_eq!(fit(&block, 5u16.wrapping_sub(span)), Fit::Old);
        }
    }
}
