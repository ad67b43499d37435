//! The latest packets of a stream, as they were at one plugin's place in the chain.

use crate::packet::RtpPacket;
use crate::time::Instant;

/// A ring of packets by sequence number. A packet costs a slot and a share in its payload.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// A slot for each packet that is kept, rounded up to a power of two; none before the first packet, so that a stream
    /// that never sends costs nothing.
    slots: Vec<Option<Entry>>,
    kept: usize,
    newest: u16,
}

#[derive(Debug)]
struct Entry {
    packet: RtpPacket,
    entered: Instant,
}

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
            self.slots.resize_with(self.kept.next_power_of_two(), || None);
            self.newest = sequence_number;
        }
        let slot = usize::from(sequence_number) & (self.slots.len() - 1);
        // RFC 1982: newer if ahead by less than half the space.
        if sequence_number.wrapping_sub(self.newest) < 1 << 15 {
            self.newest = sequence_number;
        } else if usize::from(self.newest.wrapping_sub(sequence_number)) >= self.kept {
            return;
        }
        match &mut self.slots[slot] {
            Some(entry) => {
                entry.packet.clone_from(packet);
                entry.entered = now;
            }
            empty => *empty = Some(Entry { packet: packet.clone(), entered: now }),
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
    fn payloads_are_shared() {
        let mut history = History::new(4);
        let original = packet(1);
        history.push(&original, Instant::ZERO);
        assert_eq!(history.lookup(1).unwrap().0.payload().as_ptr(), original.payload().as_ptr());
    }
}
