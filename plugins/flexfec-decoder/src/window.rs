//! A stream's latest packets, as they were protected.

/// What a packet is to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Its number is new.
    New,
    /// It was restored before it came.
    Restored,
    /// It came before.
    Duplicate,
    /// It is too old to be kept, or far from the rest.
    Stray,
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing.
    #[default]
    Missing,
    /// Its packet came, but not as it was protected.
    Seen,
    /// Its packet came and is kept.
    Kept,
    /// Its packet was restored and is kept.
    Restored,
}

/// What is known of a number, by that modulo the window's size. The memory stays when it is forgotten.
#[derive(Clone, Debug, Default)]
struct Slot {
    state: State,
    packet: Vec<u8>,
}

/// The latest packets of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    newest: Option<u16>,
    /// After a packet far from the rest, the number that would confirm a restart (RFC 3550, A.1: bad_seq).
    restart: Option<u16>,
    slots: Vec<Slot>,
}

impl Window {
    /// A window of at least this many packets. With a newest number, none of those up to it is known.
    pub(crate) fn new(packets: u16, newest: Option<u16>) -> Self {
        let size = usize::from(packets.clamp(1, 1 << 14)).next_power_of_two();
        Self { newest, restart: None, slots: vec![Slot::default(); size] }
    }

    /// How many packets it can hold.
    fn size(&self) -> u16 {
        self.slots.len() as u16
    }

    pub(crate) fn newest(&self) -> Option<u16> {
        self.newest
    }

    fn slot(&self, sequence_number: u16) -> usize {
        usize::from(sequence_number) & (self.slots.len() - 1)
    }

    /// Whether the number is among the latest, or so little ahead that it can be the next to be among them. While no
    /// packet has come, every number may be.
    pub(crate) fn is_near(&self, sequence_number: u16) -> bool {
        self.newest.is_none_or(|newest| {
            let age = newest.wrapping_sub(sequence_number);
            age < self.size() || age.wrapping_neg() < self.size()
        })
    }

    fn state(&self, sequence_number: u16) -> State {
        let known = self.newest.is_some_and(|newest| newest.wrapping_sub(sequence_number) < self.size());
        if known { self.slots[self.slot(sequence_number)].state } else { State::Missing }
    }

    /// Whether the packet came or was restored.
    pub(crate) fn has(&self, sequence_number: u16) -> bool {
        self.state(sequence_number) != State::Missing
    }

    /// The packet as it was protected.
    pub(crate) fn packet(&self, sequence_number: u16) -> Option<&[u8]> {
        let kept = matches!(self.state(sequence_number), State::Kept | State::Restored);
        kept.then(|| self.slots[self.slot(sequence_number)].packet.as_slice())
    }

    /// A packet has come. A new one is now seen, and may be kept. One that came back by retransmission does not say where
    /// the stream begins or begins anew.
    #[inline]
    pub(crate) fn arrive(&mut self, sequence_number: u16, repaired: bool) -> Arrival {
        match self.newest {
            None if repaired => return Arrival::Stray,
            None => self.begin(sequence_number),
            Some(newest) => {
                let ahead = sequence_number.wrapping_sub(newest);
                if (1..1 << 15).contains(&ahead) && (!repaired || ahead < self.size()) {
                    self.advance(newest, ahead);
                } else if newest.wrapping_sub(sequence_number) >= self.size() {
                    // Another one in sequence, and the stream has begun anew (RFC 3550, A.1).
                    if repaired || self.restart != Some(sequence_number) {
                        self.restart = (!repaired).then(|| sequence_number.wrapping_add(1)).or(self.restart);
                        return Arrival::Stray;
                    }
                    self.begin(sequence_number);
                }
            }
        }
        if !repaired {
            self.restart = None;
        }
        let slot = self.slot(sequence_number);
        let state = &mut self.slots[slot].state;
        match *state {
            State::Missing => *state = State::Seen,
            State::Restored => {
                *state = State::Kept;
                return Arrival::Restored;
            }
            // Now it came as it was protected.
            State::Seen if !repaired => {}
            State::Seen | State::Kept => return Arrival::Duplicate,
        }
        Arrival::New
    }

    /// Nothing but this number is known.
    fn begin(&mut self, sequence_number: u16) {
        self.newest = Some(sequence_number);
        self.slots.iter_mut().for_each(|slot| slot.state = State::Missing);
    }

    /// The newest number is now `ahead` further on, and of those up to it nothing is known.
    fn advance(&mut self, newest: u16, ahead: u16) {
        let to = newest.wrapping_add(ahead);
        self.newest = Some(to);
        for back in 0..ahead.min(self.size()) {
            let slot = self.slot(to.wrapping_sub(back));
            self.slots[slot].state = State::Missing;
        }
    }

    /// Keeps a packet that has come, and gives it to be made what was protected.
    #[inline]
    pub(crate) fn keep(&mut self, sequence_number: u16, packet: &[u8]) -> &mut [u8] {
        self.put(sequence_number, packet, State::Kept)
    }

    /// Keeps a packet that was restored; the number is near.
    pub(crate) fn restore(&mut self, sequence_number: u16, packet: &[u8]) {
        let newest = self.newest.unwrap_or(sequence_number);
        let ahead = sequence_number.wrapping_sub(newest);
        if ahead < 1 << 15 {
            self.advance(newest, ahead);
        }
        self.put(sequence_number, packet, State::Restored);
    }

    fn put(&mut self, sequence_number: u16, packet: &[u8], state: State) -> &mut [u8] {
        let at = self.slot(sequence_number);
        let slot = &mut self.slots[at];
        slot.state = state;
        slot.packet.clear();
        slot.packet.extend_from_slice(packet);
        &mut slot.packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(numbers: impl IntoIterator<Item = u16>) -> Window {
        let mut window = Window::new(64, None);
        for number in numbers {
            assert_eq!(window.arrive(number, false), Arrival::New, "{number}");
            window.keep(number, &number.to_be_bytes());
        }
        window
    }

    fn kept(window: &Window, numbers: impl IntoIterator<Item = u16>) -> Vec<u16> {
        numbers.into_iter().filter(|number| window.packet(*number) == Some(&number.to_be_bytes()[..])).collect()
    }

    #[test]
    fn the_latest_packets_are_kept_also_across_the_wrap() {
        let window = arrived((0..200u16).map(|n| 65_400u16.wrapping_add(n)));
        assert_eq!(window.newest(), Some(63));
        assert_eq!(kept(&window, 0..=u16::MAX), (0..64).collect::<Vec<_>>());
        assert!(!window.has(64) && !window.has(65_535) && window.has(0));
    }

    #[test]
    fn a_gap_is_missing_until_it_is_filled() {
        let mut window = arrived([65_530, 65_531, 5, 65_533]);
        assert_eq!(kept(&window, (0..20).map(|n| 65_525u16.wrapping_add(n))), [65_530, 65_531, 65_533, 5]);
        assert!(!window.has(65_532));
        window.restore(65_532, &65_532u16.to_be_bytes());
        assert_eq!(kept(&window, [65_532]), [65_532]);
        assert_eq!(window.arrive(65_532, false), Arrival::Restored);
        assert_eq!(window.arrive(65_532, false), Arrival::Duplicate);
        assert_eq!(window.arrive(5, false), Arrival::Duplicate);
    }

    #[test]
    fn what_an_old_number_left_behind_is_not_taken_for_a_new_one() {
        let mut window = arrived(0..64);
        window.arrive(100, false);
        assert_eq!(kept(&window, 0..=u16::MAX), (37..64).collect::<Vec<_>>());
        assert!(window.packet(100).is_none() && window.has(100));
        window.arrive(30_000, false);
        assert_eq!((0..=u16::MAX).filter(|number| window.has(*number)).collect::<Vec<_>>(), [30_000]);
    }

    #[test]
    fn a_packet_that_was_restored_ahead_of_the_newest_is_the_newest() {
        let mut window = arrived([1, 2]);
        window.restore(4, &4u16.to_be_bytes());
        assert_eq!((window.newest(), window.has(3)), (Some(4), false));
        assert_eq!(kept(&window, 0..9), [1, 2, 4]);
        let mut window = Window::new(64, None);
        window.restore(9, b"first");
        assert_eq!(window.packet(9), Some(&b"first"[..]));
    }

    #[test]
    fn one_that_came_back_is_seen_but_not_kept_and_moves_little() {
        let mut window = Window::new(64, None);
        assert_eq!(window.arrive(7, true), Arrival::Stray);
        let mut window = arrived([100, 101]);
        assert_eq!(window.arrive(99, true), Arrival::New);
        assert!(window.has(99) && window.packet(99).is_none());
        assert_eq!(window.arrive(99, true), Arrival::Duplicate);
        assert_eq!(window.arrive(99, false), Arrival::New, "as it was protected");
        assert_eq!(window.arrive(103, true), Arrival::New);
        assert_eq!(window.newest(), Some(103));
        for far in [103 + 64, 30_000, 1] {
            assert_eq!((window.arrive(far, true), window.newest()), (Arrival::Stray, Some(103)));
        }
        assert_eq!(window.arrive(2, true), Arrival::Stray, "two in sequence are no restart");
    }

    #[test]
    fn rfc_3550_a_1_two_in_sequence_far_from_the_rest_begin_anew() {
        let mut window = arrived([1000, 1001]);
        assert_eq!(window.arrive(10, false), Arrival::Stray);
        assert_eq!(window.arrive(1002, false), Arrival::New);
        assert_eq!(window.arrive(11, false), Arrival::Stray);
        assert_eq!(window.arrive(12, false), Arrival::New);
        assert_eq!(window.newest(), Some(12));
        assert_eq!((0..=u16::MAX).filter(|number| window.has(*number)).collect::<Vec<_>>(), [12]);
    }

    #[test]
    fn what_is_near_can_be_repaired() {
        let window = arrived([65_535]);
        let near: Vec<_> = (0..=u16::MAX).filter(|number| window.is_near(*number)).collect();
        assert_eq!(near.len(), 64 + 63);
        assert!(window.is_near(62) && !window.is_near(63) && window.is_near(65_472) && !window.is_near(65_471));
        assert!(Window::new(64, None).is_near(12_345));
    }
}
