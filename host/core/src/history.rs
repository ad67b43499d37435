//! The latest packets of a stream, as they were at one plugin's place in the chain.

use std::array;
use std::hint::black_box;

use crate::packet::RtpPacket;
use crate::time::Instant;

/// A ring of packets by sequence number. A packet costs a slot and a share in its payload.
///
/// What every packet asks for comes first, beside the number under which the history is kept.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct History {
    kept: usize,
    /// Of what was entered, if anything was.
    newest: Option<u16>,
    fresh: u16,
    /// The sequence numbers of those that are recent.
    numbers: [u16; RECENT],
    /// The ring, made piece by piece as packets come to it, so that a stream costs what it has sent.
    pieces: Vec<Option<Box<Piece>>>,
    /// The packets that are not in the ring yet, `fresh` of them, in the order in which they came; the others are older ones, whose
    /// places the next will take. Where there are many streams, each ring is far from what the processor has at hand, and to go
    /// there with several packets takes hardly longer than with one.
    recent: [Entry; RECENT],
}

/// A packet, or a place for one.
#[derive(Debug)]
struct Entry {
    packet: RtpPacket,
    entered: Instant,
}

/// Packets that go to the ring together.
const RECENT: usize = 16;
/// Slots that are made together.
const PIECE: usize = 32;

type Piece = [Entry; PIECE];

impl Entry {
    fn empty() -> Self {
        Self { packet: RtpPacket::none(), entered: Instant::ZERO }
    }

    /// Whether it is this packet.
    #[inline]
    fn is(&self, sequence_number: u16) -> bool {
        !self.packet.is_none() && self.packet.sequence_number() == sequence_number
    }
}

/// Where in a ring of so many pieces the slot of a packet is.
#[inline]
fn piece_at(pieces: usize, sequence_number: u16) -> usize {
    (usize::from(sequence_number) / PIECE) & pieces.wrapping_sub(1)
}

/// The piece with the slot of a packet, made if need be.
#[inline]
fn piece_mut(pieces: &mut [Option<Box<Piece>>], sequence_number: u16) -> Option<&mut Piece> {
    let piece = pieces.get_mut(piece_at(pieces.len(), sequence_number))?;
    Some(piece.get_or_insert_with(|| Box::new(array::from_fn(|_| Entry::empty()))))
}

impl History {
    /// Keeps the last `packets` packets.
    pub(crate) fn new(packets: u32) -> Self {
        let recent = array::from_fn(|_| Entry::empty());
        let kept = Self::kept(packets);
        Self { kept, newest: None, fresh: 0, numbers: [0; RECENT], pieces: Vec::new(), recent }
    }

    /// How many packets are kept where so many are wanted.
    fn kept(packets: u32) -> usize {
        packets.clamp(1, 1 << 15) as usize
    }

    /// Slots of a ring for so many packets: a power of two of them.
    fn slots(kept: usize) -> usize {
        kept.next_power_of_two().max(PIECE)
    }

    /// Bytes that a ring for `packets` packets may come to, with their payloads.
    pub(crate) fn room(packets: u32, mtu: u16) -> u64 {
        if packets == 0 {
            return 0;
        }
        let most = Self::slots(Self::kept(packets)) + RECENT;
        (most * (size_of::<Entry>() + usize::from(mtu))) as u64
    }

    /// Whether a ring for `packets` packets has this one's size.
    pub(crate) fn serves(&self, packets: u32) -> bool {
        Self::kept(packets) == self.kept
    }

    /// Enters a packet, in place of the one that had its slot.
    #[inline]
    pub(crate) fn push(&mut self, packet: &RtpPacket, now: Instant) {
        let sequence_number = packet.sequence_number();
        let newest = self.newest.get_or_insert(sequence_number);
        // RFC 1982: newer if ahead by less than half the space.
        if sequence_number.wrapping_sub(*newest) < 1 << 15 {
            *newest = sequence_number;
        } else if usize::from(newest.wrapping_sub(sequence_number)) >= self.kept {
            return;
        }
        let fresh = usize::from(self.fresh);
        let (Some(place), Some(number)) = (self.recent.get_mut(fresh), self.numbers.get_mut(fresh)) else { return };
        *number = sequence_number;
        place.packet.clone_from(packet);
        place.entered = now;
        self.fresh += 1;
        if usize::from(self.fresh) == RECENT {
            self.settle();
        }
    }

    /// Takes what is recent to the ring.
    fn settle(&mut self) {
        if self.pieces.is_empty() {
            self.pieces.resize_with(Self::slots(self.kept) / PIECE, || None);
        }
        self.fresh = 0;
        let Self { recent, pieces, numbers, .. } = self;
        for number in *numbers {
            let piece = piece_mut(pieces, number);
            // First all are looked at, and come at once; what is let go below holds up what comes after it.
            black_box(piece.map(|piece| piece[usize::from(number) % PIECE].entered));
        }
        // Nearly always they follow one another, and lie in one piece or two.
        let ring = pieces.len();
        let (mut at, mut piece) = (usize::MAX, None);
        for (entry, number) in recent.iter_mut().zip(*numbers) {
            if piece_at(ring, number) != at {
                at = piece_at(ring, number);
                piece = piece_mut(pieces, number);
            }
            if let Some(piece) = &mut piece {
                let place = &mut piece[usize::from(number) % PIECE];
                place.packet.swap_from(&mut entry.packet);
                place.entered = entry.entered;
            }
        }
    }

    /// The packet with this sequence number and when it was entered, if it is still among the last ones.
    pub(crate) fn lookup(&self, sequence_number: u16) -> Option<(&RtpPacket, Instant)> {
        let recent = self.recent.get(..usize::from(self.fresh))?.iter().rev();
        let piece = self.pieces.get(piece_at(self.pieces.len(), sequence_number)).and_then(Option::as_ref);
        let kept = piece.map(|piece| &piece[usize::from(sequence_number) % PIECE]);
        let entry = recent.chain(kept).find(|entry| entry.is(sequence_number))?;
        let age = usize::from(self.newest?.wrapping_sub(sequence_number));
        (age < self.kept).then_some((&entry.packet, entry.entered))
    }

    /// Bytes held for the ring itself, without payloads, which are shared.
    pub(crate) fn memory(&self) -> usize {
        let pieces = self.pieces.iter().flatten().count();
        size_of::<Self>() + self.pieces.len() * size_of::<Option<Box<Piece>>>() + pieces * size_of::<Piece>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Value;

    fn packet(sequence_number: u16) -> RtpPacket {
        let mut bytes = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 42];
        bytes[2..4].copy_from_slice(&sequence_number.to_be_bytes());
        RtpPacket::parse(bytes.into()).unwrap()
    }

    #[test]
    fn the_last_packets_are_found_also_across_the_wrap() {
        let mut history = History::new(8);
        for n in 65_530u32..65_546 {
            history.push(&packet(n as u16), Instant::ZERO);
        }
        for n in 65_538u32..65_546 {
            assert_eq!(history.lookup(n as u16).unwrap().0.sequence_number(), n as u16);
        }
        assert!(history.lookup(65_537u32 as u16).is_none());
        assert!(history.lookup(10).is_none());
    }

    #[test]
    fn a_late_packet_fills_its_slot_and_a_stale_one_does_not_push_out_a_newer() {
        let mut history = History::new(4);
        history.push(&packet(100), Instant::ZERO);
        history.push(&packet(102), Instant::ZERO);
        history.push(&packet(101), Instant::ZERO);
        assert!(history.lookup(101).is_some());
        history.push(&packet(98), Instant::ZERO);
        assert!(history.lookup(102).is_some() && history.lookup(98).is_none());
    }

    #[test]
    fn a_ring_is_as_wide_as_what_it_has_to_keep() {
        let pieces = |history: &History| history.pieces.iter().flatten().count();
        for (kept, step) in [(1000, 1), (1000, 3), (1, 1), (64, 1), (65, 1), (200, 50)] {
            let mut history = History::new(kept);
            let sent: Vec<u16> = (0..3000u16).map(|n| 65_000u16.wrapping_add(n.wrapping_mul(step))).collect();
            for (at, number) in sent.iter().enumerate() {
                history.push(&packet(*number), Instant::ZERO);
                if at == 10 {
                    assert!(pieces(&history) <= 1 + 10 * usize::from(step) / PIECE + 1);
                }
                let last = |other: &&u16| u32::from(number.wrapping_sub(**other)) < kept;
                let to_keep = sent[..=at].iter().rev().take_while(last);
                assert!(to_keep.clone().all(|number| history.lookup(*number).is_some()), "{kept} {step} {at}");
            }
            assert!(pieces(&history) <= (kept as usize).div_ceil(PIECE).next_power_of_two());
        }
    }

    #[test]
    fn each_is_kept_as_it_was_whatever_had_its_place() {
        let mut history = History::new(64);
        let made = |n: u16| {
            let mut packet = packet(n);
            packet.time = Instant::from_nanos(u64::from(n) / 3);
            packet.repaired = n.is_multiple_of(5);
            if n.is_multiple_of(3) {
                assert!(packet.stamp(1, &n.to_be_bytes(), 1200));
            }
            if n.is_multiple_of(7) {
                packet.attributes_mut().set("n", Some(Value::Integer(n.into()))).unwrap();
            }
            (packet, Instant::from_nanos(n.into()))
        };
        for n in 0..500u16 {
            let (packet, entered) = made(n);
            history.push(&packet, entered);
            for known in n.saturating_sub(63)..=n {
                let ((expected, entered), found) = (made(known), history.lookup(known).unwrap());
                let all = |packet: &RtpPacket| {
                    let parts = (packet.header().to_vec(), packet.payload());
                    (parts, packet.time, packet.repaired, packet.attributes().clone())
                };
                assert_eq!((all(found.0), found.1), (all(&expected), entered), "{known} after {n}");
            }
        }
    }

    #[test]
    fn payloads_are_shared() {
        let mut history = History::new(4);
        let original = packet(1);
        history.push(&original, Instant::ZERO);
        assert_eq!(history.lookup(1).unwrap().0.payload().as_ptr(), original.payload().as_ptr());
    }
}
