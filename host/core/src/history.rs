//! The latest packets of a stream, as they were at one plugin's place in the chain.

use crate::packet::RtpPacket;
use crate::time::Instant;

/// A ring of packets by sequence number. A packet costs a slot and a share in its payload.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// A power of two of them, as many as packets are kept in the end; none before the first packet, and few at first, so
    /// that a stream costs what it has sent.
    slots: Vec<Option<Entry>>,
    kept: usize,
    newest: u16,
}

#[derive(Debug)]
struct Entry {
    packet: RtpPacket,
    entered: Instant,
}

/// Slots at first.
const FEW: usize = 64;

impl History {
    /// Keeps the last `packets` packets.
    pub(crate) fn new(packets: u32) -> Self {
        Self { slots: Vec::new(), kept: packets.clamp(1, 1 << 15) as usize, newest: 0 }
    }

    /// Bytes that a ring for `packets` packets may come to, with their payloads.
    pub(crate) fn room(packets: u32, mtu: u16) -> u64 {
        if packets == 0 {
            return 0;
        }
        let kept = Self::new(packets).kept.next_power_of_two();
        (kept * (size_of::<Option<Entry>>() + usize::from(mtu))) as u64
    }

    /// Whether a ring for `packets` packets has this one's size.
    pub(crate) fn serves(&self, packets: u32) -> bool {
        Self::new(packets).kept == self.kept
    }

    /// Enters a packet, in place of the one that had its slot.
    pub(crate) fn push(&mut self, packet: &RtpPacket, now: Instant) {
        let sequence_number = packet.sequence_number();
        if self.slots.is_empty() {
            self.slots.resize_with(self.kept.next_power_of_two().min(FEW), || None);
            self.newest = sequence_number;
        }
        // RFC 1982: newer if ahead by less than half the space.
        if sequence_number.wrapping_sub(self.newest) < 1 << 15 {
            self.newest = sequence_number;
        } else if usize::from(self.newest.wrapping_sub(sequence_number)) >= self.kept {
            return;
        }
        while self.slots.len() < self.kept && self.has_other(sequence_number) {
            self.widen();
        }
        let slot = self.slot(sequence_number);
        match &mut self.slots[slot] {
            Some(entry) => {
                entry.packet.clone_from(packet);
                entry.entered = now;
            }
            empty => *empty = Some(Entry { packet: packet.clone(), entered: now }),
        }
    }

    #[inline]
    fn slot(&self, sequence_number: u16) -> usize {
        usize::from(sequence_number) & (self.slots.len() - 1)
    }

    /// Whether a packet that is to be kept still has the slot of this one.
    fn has_other(&self, sequence_number: u16) -> bool {
        let entry = self.slots.get(self.slot(sequence_number)).and_then(Option::as_ref);
        let other = entry.map(|entry| entry.packet.sequence_number()).filter(|other| *other != sequence_number);
        other.is_some_and(|other| usize::from(self.newest.wrapping_sub(other)) < self.kept)
    }

    #[cold]
    fn widen(&mut self) {
        let wider = std::iter::repeat_with(|| None).take(2 * self.slots.len()).collect();
        for entry in std::mem::replace(&mut self.slots, wider).into_iter().flatten() {
            let slot = self.slot(entry.packet.sequence_number());
            self.slots[slot] = Some(entry);
        }
    }

    /// The packet with this sequence number and when it was entered, if it is still among the last ones.
    pub(crate) fn lookup(&self, sequence_number: u16) -> Option<(&RtpPacket, Instant)> {
        let slot = usize::from(sequence_number) & self.slots.len().checked_sub(1)?;
        let entry = self.slots.get(slot)?.as_ref()?;
        let age = usize::from(self.newest.wrapping_sub(sequence_number));
        (entry.packet.sequence_number() == sequence_number && age < self.kept).then_some((&entry.packet, entry.entered))
    }

    /// Bytes held for the ring itself, without payloads, which are shared.
    pub(crate) fn memory(&self) -> usize {
        self.slots.len() * size_of::<Option<Entry>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (kept, step) in [(1000, 1), (1000, 3), (1, 1), (64, 1), (65, 1), (200, 50)] {
            let mut history = History::new(kept);
            let sent: Vec<u16> = (0..3000u16).map(|n| 65_000u16.wrapping_add(n.wrapping_mul(step))).collect();
            for (at, number) in sent.iter().enumerate() {
                history.push(&packet(*number), Instant::ZERO);
                if at == 10 {
                    assert!(history.slots.len() <= FEW);
                }
                let last = |other: &&u16| u32::from(number.wrapping_sub(**other)) < kept;
                let to_keep = sent[..=at].iter().rev().take_while(last);
                assert!(to_keep.clone().all(|number| history.lookup(*number).is_some()), "{kept} {step} {at}");
            }
            assert!(history.slots.len() <= (kept as usize).next_power_of_two());
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
