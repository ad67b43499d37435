//! A stream's latest frames, which the next packets repeat.

use crate::options::MOST;
use crate::red::{HEAD, MAX_LENGTH, MAX_OFFSET};

/// A frame as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
    /// Empty where there is none, or one that cannot be repeated.
    pub(crate) media: Vec<u8>,
}

/// As many frames as a packet may repeat, each at its sequence number modulo that many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent([Frame; MOST]);

impl Recent {
    fn slot(sequence_number: u16) -> usize {
        usize::from(sequence_number) % MOST
    }

    /// Keeps a frame for those to come. One that no block can hold leaves its place empty.
    pub(crate) fn insert(&mut self, sequence_number: u16, timestamp: u32, payload_type: u8, media: &[u8]) {
        let frame = &mut self.0[Self::slot(sequence_number)];
        (frame.sequence_number, frame.timestamp, frame.payload_type) = (sequence_number, timestamp, payload_type);
        frame.media.clear();
        if media.len() <= MAX_LENGTH {
            frame.media.extend_from_slice(media);
        }
    }

    /// The frames right before a packet that it can repeat within `room` bytes, at most `most`; oldest first, with their
    /// timestamp offsets. Behind the first that is missing or does not fit none is taken: receivers number the blocks by
    /// counting back from the packet's own, so a gap would shift those before it.
    pub(crate) fn before(
        &self,
        sequence_number: u16,
        timestamp: u32,
        most: u16,
        mut room: usize,
    ) -> impl Iterator<Item = (u32, &Frame)> + Clone {
        let back = move |back| self.back(sequence_number, timestamp, back);
        let fits = |frame: &&Frame| {
            let left = room.checked_sub(HEAD + frame.media.len());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let count = (1..=most).map_while(back).map(|(_, frame)| frame).take_while(fits).count();
        (1..=count as u16).rev().filter_map(back)
    }

    /// The frame so many packets before, if a block can hold it.
    fn back(&self, sequence_number: u16, timestamp: u32, back: u16) -> Option<(u32, &Frame)> {
        let wanted = sequence_number.wrapping_sub(back);
        let frame = &self.0[Self::slot(wanted)];
        let offset = timestamp.wrapping_sub(frame.timestamp);
        let there = frame.sequence_number == wanted && !frame.media.is_empty();
        (there && (1..=MAX_OFFSET).contains(&offset)).then_some((offset, frame))
    }

    /// The frames that there are, in no order.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().filter(|frame| !frame.media.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty milliseconds each, as many bytes as the number says.
    fn filled(numbers: impl IntoIterator<Item = u16>) -> Recent {
        let mut recent = Recent::default();
        for number in numbers {
            recent.insert(number, timestamp(number), 111, &vec![7; usize::from(number)]);
        }
        recent
    }

    fn timestamp(number: u16) -> u32 {
        u32::from(number).wrapping_mul(960).wrapping_sub(3000)
    }

    fn before(recent: &Recent, number: u16) -> Vec<(u32, u16)> {
        numbers(recent.before(number, timestamp(number), 4, 10_000))
    }

    fn numbers<'a>(frames: impl Iterator<Item = (u32, &'a Frame)>) -> Vec<(u32, u16)> {
        frames.map(|(offset, frame)| (offset, frame.sequence_number)).collect()
    }

    #[test]
    fn the_frames_right_before_come_oldest_first() {
        let recent = filled(1..=9);
        assert_eq!(before(&recent, 10), [(3840, 6), (2880, 7), (1920, 8), (960, 9)]);
        assert_eq!(numbers(recent.before(10, timestamp(10), 2, 10_000)), [(1920, 8), (960, 9)]);
        assert_eq!(before(&filled(3..=4), 5), [(1920, 3), (960, 4)]);
        assert_eq!(before(&filled([]), 1), []);
    }

    #[test]
    fn a_gap_ends_them() {
        assert_eq!(before(&filled([5, 6, 8, 9]), 10), [(1920, 8), (960, 9)]);
        assert_eq!(before(&filled([5, 6, 8, 9]), 11), []);
        // Reordered: 7 comes after 9.
        assert_eq!(before(&filled([6, 8, 9]), 7), [(960, 6)]);
    }

    #[test]
    fn so_does_one_for_which_there_is_no_room_though_an_older_one_would_fit() {
        let mut recent = Recent::default();
        for (number, len) in [(1, 10), (2, 100), (3, 10)] {
            recent.insert(number, timestamp(number), 111, &vec![7; len]);
        }
        let fit = |room| numbers(recent.before(4, timestamp(4), 4, room)).len();
        assert_eq!([13, 14, 14 + 103, 14 + 104, 28 + 103, 28 + 104].map(fit), [0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn sequence_numbers_and_timestamps_wrap() {
        let mut recent = Recent::default();
        for (number, timestamp) in [(65_534, u32::MAX - 1500), (65_535, u32::MAX - 540), (0, 419)] {
            recent.insert(number, timestamp, 111, b"opus");
        }
        assert_eq!(numbers(recent.before(1, 1379, 4, 1000)), [(2880, 65_534), (1920, 65_535), (960, 0)]);
    }

    #[test]
    fn rfc_2198_3_offsets_of_14_bits_and_lengths_of_10_are_the_most() {
        let mut recent = Recent::default();
        let count = |recent: &Recent, timestamp| recent.before(2, timestamp, 4, 10_000).count();
        recent.insert(1, 1000, 111, &[1; 1023]);
        assert_eq!(count(&recent, 1000 + 16_383), 1);
        assert_eq!(count(&recent, 1000 + 16_384), 0);
        assert_eq!(count(&recent, 1000), 0, "the same timestamp");
        assert_eq!(count(&recent, 999), 0, "a later one");
        recent.insert(1, 1000, 111, &[1; 1024]);
        assert_eq!(count(&recent, 1960), 0);
        recent.insert(1, 1000, 111, &[]);
        assert_eq!(count(&recent, 1960), 0, "nothing to repeat");
    }
}
