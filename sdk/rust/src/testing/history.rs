//! A stream's latest packets.

use crate::attributes::Attribute;
use crate::header::Header;
use crate::testing::feed::Feed;
use crate::time::Instant;

/// A packet that is kept.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) sequence_number: u16,
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) repaired: bool,
    pub(crate) entered: Instant,
}

/// As the host has it: a slot per sequence number modulo a power of two, so that a late packet finds its place and an old
/// one does not push out a newer.
#[derive(Clone, Default)]
pub(crate) struct History {
    slots: Vec<Option<Kept>>,
    newest: u16,
    used: bool,
}

impl History {
    pub(crate) fn new(packets: u32) -> Self {
        let capacity = if packets == 0 { 0 } else { packets.min(1 << 15).next_power_of_two() };
        History { slots: vec![None; capacity as usize], newest: 0, used: false }
    }

    pub(crate) fn push(&mut self, packet: &Feed, now: Instant) {
        let Feed { bytes, attributes, repaired, .. } = packet;
        let Ok(header) = Header::parse(bytes) else { return };
        let sequence_number = header.sequence_number();
        let ahead = sequence_number.wrapping_sub(self.newest);
        // RFC 1982: newer if ahead by less than half the space.
        if !self.used || ahead < 1 << 15 {
            self.newest = sequence_number;
        } else if usize::from(ahead.wrapping_neg()) >= self.slots.len() {
            return;
        }
        self.used = true;
        let Some(at) = self.slots.len().checked_sub(1).map(|mask| usize::from(sequence_number) & mask) else { return };
        self.slots[at] = Some(Kept {
            sequence_number,
            header: header.as_bytes().to_vec(),
            payload: bytes[header.len()..].to_vec(),
            attributes: attributes.clone(),
            repaired: *repaired,
            entered: now,
        });
    }

    pub(crate) fn lookup(&self, sequence_number: u16) -> Option<&Kept> {
        let mask = self.slots.len().checked_sub(1)?;
        let kept = self.slots[usize::from(sequence_number) & mask].as_ref()?;
        let age = usize::from(self.newest.wrapping_sub(sequence_number));
        (kept.sequence_number == sequence_number && age < self.slots.len()).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::packet;

    #[test]
    fn the_last_packets_are_found_also_across_the_wrap() {
        let mut history = History::new(5);
        for n in 65_530_u32..65_546 {
            history.push(&packet(1, n as u16, b"x").into(), Instant::ZERO);
        }
        for n in 65_538_u32..65_546 {
            assert_eq!(history.lookup(n as u16).unwrap().sequence_number, n as u16);
        }
        assert!(history.lookup(1).is_none() && history.lookup(10).is_none());
        assert!(History::new(0).lookup(0).is_none());
    }

    #[test]
    fn a_stale_packet_does_not_push_out_a_newer_one() {
        let mut history = History::new(4);
        for n in [100, 102, 101, 98] {
            history.push(&packet(1, n, b"x").into(), Instant::ZERO);
        }
        assert!(history.lookup(101).is_some() && history.lookup(102).is_some() && history.lookup(98).is_none());
    }
}
