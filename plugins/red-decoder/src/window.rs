//! Which of a stream's latest packets have come, and which number a frame has that a later packet repeats.
//!
//! RED says of a repeated frame only how much earlier it is. Its number follows from the timestamps of the packets around
//! it: those that came, and those that were restored. A frame between two of them, with one number missing between, has
//! that one. Where several are missing, a frame has the number right below the upper packet if it is one step earlier, a
//! step being what lies between packets in sequence. A frame further off is not placed: it may be several numbers below,
//! or the speaker may have paused.

/// How many packets are known.
const SIZE: u16 = 64;

/// What a packet is to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Its number is new.
    New,
    /// It was restored before it came.
    Restored,
    /// It came before.
    Duplicate,
    /// It is too old to be known, or far from the rest.
    Stray,
}

/// A frame that a packet repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its packet came or was restored, or was before the stream's first.
    Known,
    /// It is that of the packet with this number, which is lost.
    Lost(u16),
    /// Its packet is lost, but there are several, and the timestamps do not tell which it is.
    Unclear,
}

/// A packet that is known, by its number modulo [`SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    known: bool,
    restored: bool,
    timestamp: u32,
}

/// A known packet, as a frame's neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
}

/// The latest packets of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    newest: Option<u16>,
    /// After a packet far from the rest, the number that would confirm a restart (RFC 3550, A.1: bad_seq).
    restart: Option<u16>,
    entries: [Entry; SIZE as usize],
    /// What last lay between two packets in sequence, in timestamp units; 0 while unknown.
    step: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { newest: None, restart: None, entries: [Entry::default(); SIZE as usize], step: 0 }
    }
}

impl Window {
    fn slot(sequence_number: u16) -> usize {
        usize::from(sequence_number % SIZE)
    }

    /// What is known of a number that is not newer than the newest.
    fn entry(&self, sequence_number: u16) -> Option<Entry> {
        let age = self.newest?.wrapping_sub(sequence_number);
        let entry = self.entries[Self::slot(sequence_number)];
        (age < SIZE && entry.known).then_some(entry)
    }

    fn set(&mut self, packet: Packet, restored: bool) {
        self.entries[Self::slot(packet.sequence_number)] = Entry { known: true, restored, timestamp: packet.timestamp };
    }

    /// A packet has come.
    #[inline]
    pub(crate) fn arrive(&mut self, packet: Packet) -> Arrival {
        let number = packet.sequence_number;
        let Some(newest) = self.newest else {
            self.begin(packet);
            return Arrival::New;
        };
        let ahead = number.wrapping_sub(newest);
        if (1..1 << 15).contains(&ahead) {
            self.advance(newest, ahead);
        } else if newest.wrapping_sub(number) >= SIZE {
            // Another one in sequence, and the stream has begun anew (RFC 3550, A.1).
            if self.restart == Some(number) {
                self.begin(packet);
                return Arrival::New;
            }
            self.restart = Some(number.wrapping_add(1));
            return Arrival::Stray;
        }
        self.restart = None;
        let entry = &mut self.entries[Self::slot(number)];
        if entry.known {
            let restored = std::mem::take(&mut entry.restored);
            return if restored { Arrival::Restored } else { Arrival::Duplicate };
        }
        self.set(packet, false);
        if let Some(before) = self.entry(number.wrapping_sub(1)) {
            let step = packet.timestamp.wrapping_sub(before.timestamp);
            // What is more than any offset is a pause.
            if (1..1 << 14).contains(&step) {
                self.step = step;
            }
        }
        Arrival::New
    }

    /// The stream's first packet. What was before it is nobody's loss.
    fn begin(&mut self, packet: Packet) {
        *self = Self { newest: Some(packet.sequence_number), step: self.step, ..Self::default() };
        self.set(packet, false);
    }

    /// The newest number is now `ahead` further on, and of those up to it nothing is known.
    fn advance(&mut self, newest: u16, ahead: u16) {
        self.newest = Some(newest.wrapping_add(ahead));
        for further in 1..=ahead.min(SIZE) {
            let number = newest.wrapping_add(ahead.wrapping_sub(further).wrapping_add(1));
            self.entries[Self::slot(number)] = Entry::default();
        }
    }

    /// The frame of a packet with this timestamp, which is below `upper`, a known packet or one that was just placed.
    /// Moves `upper` down to the frame's packet or right above it, so that older frames are found from there.
    pub(crate) fn place(&self, upper: &mut Packet, timestamp: u32) -> Place {
        match upper.timestamp.wrapping_sub(timestamp) {
            0 => return Place::Known,
            // Frames come in their order.
            distance if distance >= 1 << 31 => return Place::Unclear,
            _ => {}
        }
        loop {
            let Some(lower) = self.below(upper.sequence_number) else { return Place::Known };
            let above = timestamp.wrapping_sub(lower.timestamp);
            if above == 0 || above >= 1 << 31 {
                *upper = lower;
                if above == 0 {
                    return Place::Known;
                }
                continue;
            }
            let missing = upper.sequence_number.wrapping_sub(lower.sequence_number).wrapping_sub(1);
            let number = match missing {
                0 => None,
                1 => Some(lower.sequence_number.wrapping_add(1)),
                _ => self.right_below(*upper, lower, timestamp, missing),
            };
            let Some(sequence_number) = number else { return Place::Unclear };
            *upper = Packet { sequence_number, timestamp };
            return Place::Lost(sequence_number);
        }
    }

    /// The nearest known packet below a number.
    fn below(&self, sequence_number: u16) -> Option<Packet> {
        let below = (1..SIZE).map(|back| sequence_number.wrapping_sub(back));
        let mut known = below.filter_map(|number| {
            let entry = self.entry(number)?;
            Some(Packet { sequence_number: number, timestamp: entry.timestamp })
        });
        known.next()
    }

    /// The number of a frame between two packets with so many missing between them, if it is the uppermost's.
    fn right_below(&self, upper: Packet, lower: Packet, timestamp: u32, missing: u16) -> Option<u16> {
        let (span, parts) = (upper.timestamp.wrapping_sub(lower.timestamp), u32::from(missing) + 1);
        let even = if span.is_multiple_of(parts) { span / parts } else { 0 };
        let distance = upper.timestamp.wrapping_sub(timestamp);
        (distance == self.step || distance == even).then(|| upper.sequence_number.wrapping_sub(1))
    }

    /// A lost packet has been restored.
    pub(crate) fn restored(&mut self, packet: Packet) {
        self.set(packet, true);
    }

    /// The latest step.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// The known packets, oldest first, and whether they were restored.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (Packet, bool)> {
        let first = self.newest.map(|newest| newest.wrapping_sub(SIZE - 1));
        let numbers = first.into_iter().flat_map(|first| (0..SIZE).map(move |n| first.wrapping_add(n)));
        numbers.filter_map(|sequence_number| {
            let entry = self.entry(sequence_number)?;
            Some((Packet { sequence_number, timestamp: entry.timestamp }, entry.restored))
        })
    }

    /// A window that continues another one's, from its packets in order.
    pub(crate) fn resume(step: u32, packets: impl Iterator<Item = (Packet, bool)>) -> Self {
        let mut window = Self::default();
        for (packet, restored) in packets {
            if window.arrive(packet) == Arrival::New && restored {
                window.restored(packet);
            }
        }
        window.step = step;
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u32 = 960;

    fn packet(sequence_number: u16, timestamp: u32) -> Packet {
        Packet { sequence_number, timestamp }
    }

    /// Number 0 at timestamp 0, also across both wraps.
    fn even(number: i32) -> Packet {
        packet(number as u16, (number as u32).wrapping_mul(STEP))
    }

    fn arrived(numbers: impl IntoIterator<Item = i32>) -> Window {
        let mut window = Window::default();
        for number in numbers {
            assert_eq!(window.arrive(even(number)), Arrival::New, "{number}");
        }
        window
    }

    /// Where the frames of these packets are found in a packet, newest first.
    fn places(window: &Window, carrier: i32, frames: &[i32]) -> Vec<Place> {
        let mut upper = even(carrier);
        frames.iter().map(|frame| window.place(&mut upper, even(*frame).timestamp)).collect()
    }

    #[test]
    fn what_came_is_known_and_what_did_not_is_lost() {
        let window = arrived([-3, -2, 0, 1]);
        assert_eq!(places(&window, 0, &[-1, -2]), [Place::Lost(65_535), Place::Known]);
        assert_eq!(
            places(&window, 1, &[0, -1, -2, -3]),
            [Place::Known, Place::Lost(65_535), Place::Known, Place::Known]
        );
    }

    #[test]
    fn several_losses_are_counted_down_from_the_packet_that_repeats_them() {
        for first in [-70, -2, 65_530, 1000] {
            let lost = |number: i32| Place::Lost((first + number) as u16);
            // While the step is unknown, that it would be an even one will do.
            for window in [arrived([first, first + 4]), arrived([first - 1, first, first + 4])] {
                assert_eq!(places(&window, first + 4, &[first + 3, first + 2]), [lost(3), lost(2)]);
                assert_eq!(places(&window, first + 4, &[first + 2]), [Place::Unclear], "is it one or two below?");
                let frames = [first + 3, first + 1, first];
                assert_eq!(places(&window, first + 4, &frames), [lost(3), Place::Unclear, Place::Known]);
                let frames = [first + 3, first + 2, first + 1, first];
                assert_eq!(places(&window, first + 4, &frames), [lost(3), lost(2), lost(1), Place::Known]);
            }
        }
    }

    #[test]
    fn what_was_before_the_first_packet_is_not_lost() {
        let window = arrived([10]);
        assert_eq!(places(&window, 10, &[9, 8]), [Place::Known, Place::Known]);
    }

    #[test]
    fn a_pause_between_packets_is_told_from_a_loss() {
        // 20 ms each up to 11; then 100 ms nothing, in sequence.
        let mut window = arrived([9, 10, 11]);
        let after = |number: u16, steps: u32| packet(number, (11 + steps) * STEP);
        window.arrive(after(12, 6));
        let mut upper = after(12, 6);
        assert_eq!(window.place(&mut upper, 11 * STEP), Place::Known);
        // 13 is lost, 14 repeats it and 12.
        window.arrive(after(14, 8));
        let mut upper = after(14, 8);
        assert_eq!(window.place(&mut upper, after(13, 7).timestamp), Place::Lost(13));
        assert_eq!(window.place(&mut upper, after(12, 6).timestamp), Place::Known);
        // 15 and, after a pause, 16 are lost: found by the step, and then by what is left. But where the pause is right
        // before the packet, its length in steps is no number.
        let mut window = arrived([13, 14]);
        let after = |number: u16, steps: u32| packet(number, (14 + steps) * STEP);
        window.arrive(after(17, 9));
        let mut upper = after(17, 9);
        assert_eq!(window.place(&mut upper, after(16, 8).timestamp), Place::Lost(16));
        assert_eq!(window.place(&mut upper, after(15, 1).timestamp), Place::Lost(15));
        let mut upper = after(17, 9);
        assert_eq!(window.place(&mut upper, after(16, 2).timestamp), Place::Unclear);
        assert_eq!(upper, after(17, 9));
    }

    #[test]
    fn what_the_timestamps_do_not_tell_is_not_guessed() {
        let mut window = arrived([1, 2]);
        // Frames of 20 ms become frames of 30, and three are lost.
        window.arrive(packet(6, 2 * STEP + 4 * 1440 - 480));
        let mut upper = packet(6, 2 * STEP + 4 * 1440 - 480);
        let before = upper;
        assert_eq!(window.place(&mut upper, before.timestamp - 1440), Place::Unclear);
        assert_eq!(upper, before);
        // Something between two packets in sequence.
        let mut upper = even(2);
        assert_eq!(window.place(&mut upper, STEP + 1), Place::Unclear);
        // Twice the same, and one later than the one before.
        let mut upper = even(4);
        assert_eq!(arrived([1, 4]).place(&mut upper, 3 * STEP), Place::Lost(3));
        assert_eq!(arrived([1, 4]).place(&mut upper, 3 * STEP), Place::Known);
        assert_eq!(arrived([1, 4]).place(&mut upper, 3 * STEP + 1), Place::Unclear);
        // As far back as a number that came, or further than any that is missing.
        let window = arrived([1, 2, 5]);
        let mut upper = even(5);
        assert_eq!(window.place(&mut upper, 2 * STEP + 1), Place::Unclear);
    }

    #[test]
    fn a_restored_packet_is_known_and_told_from_one_that_came() {
        let mut window = arrived([1, 3]);
        window.restored(even(2));
        assert_eq!(places(&window, 3, &[2, 1]), [Place::Known, Place::Known]);
        assert_eq!(window.arrive(even(2)), Arrival::Restored);
        assert_eq!(window.arrive(even(2)), Arrival::Duplicate);
        assert_eq!(window.arrive(even(3)), Arrival::Duplicate);
    }

    #[test]
    fn what_is_older_than_the_window_is_not_known() {
        let mut window = arrived([0, 2]);
        assert_eq!(window.arrive(even(65)), Arrival::New);
        assert_eq!(places(&window, 65, &[64]), [Place::Lost(64)]);
        assert_eq!(window.arrive(even(1)), Arrival::Stray);
        assert_eq!(window.arrive(even(66)), Arrival::New);
        // A jump forward leaves nothing behind.
        assert_eq!(window.arrive(even(66 + 64 * 7)), Arrival::New);
        assert_eq!(places(&window, 66 + 64 * 7, &[65 + 64 * 7]), [Place::Known]);
        assert_eq!(window.arrive(even(66 + 64 * 6 + 1)), Arrival::New, "late");
    }

    #[test]
    fn rfc_3550_a_1_two_in_sequence_far_from_the_rest_begin_anew() {
        let mut window = arrived([1000, 1001]);
        assert_eq!(window.arrive(even(10)), Arrival::Stray);
        assert_eq!(window.arrive(even(1002)), Arrival::New);
        assert_eq!(window.arrive(even(11)), Arrival::Stray);
        assert_eq!(window.arrive(even(12)), Arrival::New);
        assert_eq!(places(&window, 12, &[11]), [Place::Known]);
        assert_eq!(window.arrive(even(14)), Arrival::New);
        assert_eq!(places(&window, 14, &[13]), [Place::Lost(13)]);
    }

    #[test]
    fn a_window_goes_on_where_it_was() {
        let mut window = arrived([65_500, 65_501, 65_535, 65_537]);
        window.restored(even(65_536));
        let packets: Vec<_> = window.packets().collect();
        let mut resumed = Window::resume(window.step(), packets.iter().copied());
        assert_eq!(resumed.packets().collect::<Vec<_>>(), packets);
        assert_eq!(resumed.step(), STEP);
        assert_eq!(resumed.arrive(even(65_536)), Arrival::Restored);
        assert_eq!(Window::resume(0, [].into_iter()).arrive(even(5)), Arrival::New);
    }
}
