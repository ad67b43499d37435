//! Restores a stream's lost packets (draft-ietf-payload-flexible-fec-scheme-03, 6.3).

use std::collections::VecDeque;

use sandbar_sdk::Header;

use crate::mutable::Mutable;
use crate::repair::{Malformed, Protected};
use crate::window::{Arrival, Window};

/// Bytes of a fixed RTP header.
const FIXED: usize = 12;
/// The most repair packets that wait.
const WAITING: usize = 64;

/// A repair packet that lacks packets which it protects.
#[derive(Clone, Debug)]
struct Waiting {
    protected: Protected,
    parity: Vec<u8>,
    /// How many.
    lacks: u32,
}

/// Repair that did not restore anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Repair packets that lacked more than one packet when they became too old or too many.
    pub(crate) given_up: u64,
    /// Repair packets that gave no packet: what they protect is not what came.
    pub(crate) failed: u64,
}

/// A protected stream.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    ssrc: u32,
    mutable: Mutable,
    window: Window,
    waiting: VecDeque<Waiting>,
    /// A predecessor saw the packets up to this number, and which of them came is not known.
    floor: Option<u16>,
    pub(crate) tally: Tally,
    /// The packet that is restored.
    packet: Vec<u8>,
}

impl Decoder {
    /// For the stream with this SSRC, of which the last `packets` are kept.
    pub(crate) fn new(ssrc: u32, mutable: Mutable, packets: u16, floor: Option<u16>) -> Self {
        let window = Window::new(packets, floor);
        Self { ssrc, mutable, window, waiting: VecDeque::new(), floor, tally: Tally::default(), packet: Vec::new() }
    }

    /// The newest packet's number.
    pub(crate) fn newest(&self) -> Option<u16> {
        self.window.newest()
    }

    /// A packet of the stream has come: its header, and all its bytes. `emit` is given those that it helps to restore.
    #[inline]
    pub(crate) fn media(
        &mut self,
        header: &Header<'_>,
        packet: &[u8],
        repaired: bool,
        emit: impl FnMut(&[u8]),
    ) -> Arrival {
        let number = header.sequence_number();
        let newest = self.window.newest();
        let arrival = self.window.arrive(number, repaired);
        // A retransmission carries header extensions of its own, which are not those that were protected.
        let kept = arrival == Arrival::New && !repaired;
        if kept {
            self.mutable.zero(header, self.window.keep(number, packet));
        }
        if !self.waiting.is_empty() || self.floor.is_some() {
            if newest != self.window.newest() {
                self.moved(newest);
            }
            if kept {
                self.filled(number);
                self.settle(emit);
            }
        }
        arrival
    }

    /// A repair packet has come: its payload without padding. `emit` is given the packets that are restored.
    pub(crate) fn repair(&mut self, payload: &[u8], emit: impl FnMut(&[u8])) -> Result<(), Malformed> {
        let (protected, parity) = Protected::parse(payload, self.ssrc)?;
        if !self.window.is_near(protected.base) {
            self.tally.given_up += 1;
            return Ok(());
        }
        let lacks = protected.numbers().filter(|number| self.window.packet(*number).is_none()).count() as u32;
        if lacks > 0 {
            if self.waiting.len() >= WAITING {
                self.waiting.pop_front();
                self.tally.given_up += 1;
            }
            self.waiting.push_back(Waiting { protected, parity: parity.to_vec(), lacks });
            self.settle(emit);
        }
        Ok(())
    }

    /// The window's newest number was `before` and is another one now: what is no longer near will not be repaired.
    fn moved(&mut self, before: Option<u16>) {
        let waited = self.waiting.len();
        let now = self.window.newest().unwrap_or(0);
        if before.is_some_and(|before| now.wrapping_sub(before) >= 1 << 15) {
            // The stream has begun anew.
            self.waiting.clear();
            self.floor = None;
        }
        self.waiting.retain(|waiting| self.window.is_near(waiting.protected.base));
        self.tally.given_up += (waited - self.waiting.len()) as u64;
        self.floor = self.floor.filter(|floor| self.window.is_near(*floor));
    }

    /// The packet with this number is kept now.
    fn filled(&mut self, number: u16) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.protected.has(number)) {
            waiting.lacks = waiting.lacks.saturating_sub(1);
        }
    }

    /// Uses repair that lacks one packet, and what another lacks may be restored by it (6.3.4).
    fn settle(&mut self, mut emit: impl FnMut(&[u8])) {
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.lacks <= 1)
            && let Some(waiting) = self.waiting.remove(at)
        {
            let Some(number) = self.lacking(&waiting) else { continue };
            if !self.combine(&waiting, number) {
                self.tally.failed += 1;
                continue;
            }
            let newest = self.window.newest();
            self.window.restore(number, &self.packet);
            if newest != self.window.newest() {
                self.moved(newest);
            }
            self.filled(number);
            emit(&self.packet);
        }
    }

    /// The one packet that a repair packet lacks, if it is one that is lost.
    fn lacking(&self, waiting: &Waiting) -> Option<u16> {
        let mut lacking = waiting.protected.numbers().filter(|number| self.window.packet(*number).is_none());
        let number = lacking.next().filter(|_| lacking.next().is_none())?;
        let unknown = self.floor.is_some_and(|floor| floor.wrapping_sub(number) < 1 << 15);
        (!unknown && !self.window.has(number) && self.window.is_near(number)).then_some(number)
    }

    /// Takes the others out of the parity, so that the packet with this number is left (6.3.2 and 6.3.3). Says whether
    /// it is one.
    fn combine(&mut self, waiting: &Waiting, number: u16) -> bool {
        let Self { ssrc, window, packet, .. } = self;
        let mut recovery = waiting.protected.recovery;
        packet.clear();
        packet.resize(FIXED, 0);
        packet.extend_from_slice(&waiting.parity);
        for other in waiting.protected.numbers().filter_map(|number| window.packet(number)) {
            let Some((fixed, rest)) = other.split_first_chunk::<FIXED>() else { return false };
            let len = (rest.len() as u16).to_be_bytes();
            let string = [fixed[0] & 0x3F, fixed[1], len[0], len[1], fixed[4], fixed[5], fixed[6], fixed[7]];
            for (parity, byte) in recovery.iter_mut().zip(string) {
                *parity ^= byte;
            }
            // None is longer than the longest.
            let Some(parity) = packet.get_mut(FIXED..FIXED + rest.len()) else { return false };
            xor(parity, rest);
        }
        let len = FIXED + usize::from(u16::from_be_bytes([recovery[2], recovery[3]]));
        // Where packets were protected that were shorter than what came, something is left behind the end.
        if packet.get(len..).is_none_or(|behind| behind.iter().any(|byte| *byte != 0)) {
            return false;
        }
        packet.truncate(len);
        let [n0, n1] = number.to_be_bytes();
        let [s0, s1, s2, s3] = ssrc.to_be_bytes();
        let [first, second, _, _, t0, t1, t2, t3] = recovery;
        if let Some(fixed) = packet.first_chunk_mut() {
            *fixed = [0x80 | first, second, n0, n1, t0, t1, t2, t3, s0, s1, s2, s3];
        }
        Header::parse(packet).is_ok()
    }
}

/// Adds bytes to those of a parity of the same length, eight at a time.
fn xor(parity: &mut [u8], bytes: &[u8]) {
    let (parity, parity_rest) = parity.as_chunks_mut::<8>();
    let (words, rest) = bytes.as_chunks::<8>();
    for (parity, word) in parity.iter_mut().zip(words) {
        *parity = (u64::from_ne_bytes(*parity) ^ u64::from_ne_bytes(*word)).to_ne_bytes();
    }
    for (parity, byte) in parity_rest.iter_mut().zip(rest) {
        *parity ^= byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 7;

    fn decoder() -> Decoder {
        Decoder::new(SSRC, Mutable::default(), 64, None)
    }

    /// A packet with something of its own in each field, and with CSRCs, an extension and padding in some.
    fn media(number: u16) -> Vec<u8> {
        let [n0, n1] = number.to_be_bytes();
        let mut packet = vec![0x80, 96 + (number % 3) as u8, n0, n1, 0, 0, n0, n1, 0, 0, 0, 7];
        if number.is_multiple_of(4) {
            packet[0] |= 2;
            packet.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, n1]);
        }
        if number.is_multiple_of(5) {
            packet[0] |= 0x10;
            packet.extend_from_slice(&[0xBE, 0xDE, 0, 1, 0x10, n1, 0, 0]);
        }
        if number.is_multiple_of(7) {
            packet[1] |= 0x80;
        }
        packet.resize(packet.len() + usize::from(number) * 13 % 50, n1 | 1);
        if number.is_multiple_of(3) {
            packet[0] |= 0x20;
            packet.extend_from_slice(&[0, 0, 3]);
        }
        packet
    }

    /// The repair of packets with these numbers, at most 14 apart from the first (draft, 6.2).
    fn repair(numbers: &[u16]) -> Vec<u8> {
        let (mut fields, mut parity, mut mask) = ([0u8; 8], Vec::new(), 0x8000u16);
        for number in numbers {
            let packet = media(*number);
            let len = (packet.len() as u16 - 12).to_be_bytes();
            let string = [packet[0] & 0x3F, packet[1], len[0], len[1], packet[4], packet[5], packet[6], packet[7]];
            fields.iter_mut().zip(string).for_each(|(field, byte)| *field ^= byte);
            parity.resize(parity.len().max(packet.len() - 12), 0);
            parity.iter_mut().zip(&packet[12..]).for_each(|(parity, byte)| *parity ^= byte);
            mask |= 0x4000 >> number.wrapping_sub(numbers[0]);
        }
        let base = numbers[0].to_be_bytes();
        [&fields[..], &[1, 0, 0, 0, 0, 0, 0, 7], &base, &mask.to_be_bytes(), &parity].concat()
    }

    fn come(decoder: &mut Decoder, number: u16) -> Vec<Vec<u8>> {
        let mut restored = Vec::new();
        let packet = media(number);
        decoder.media(&Header::parse(&packet).unwrap(), &packet, false, |packet| restored.push(packet.to_vec()));
        restored
    }

    fn repaired(decoder: &mut Decoder, numbers: &[u16]) -> Vec<Vec<u8>> {
        let mut restored = Vec::new();
        decoder.repair(&repair(numbers), |packet| restored.push(packet.to_vec())).unwrap();
        restored
    }

    #[test]
    fn draft_6_3_the_one_packet_that_is_lost_is_what_is_left() {
        for first in [0u16, 100, 65_530] {
            for count in 1..10u16 {
                let numbers: Vec<_> = (0..count).map(|n| first.wrapping_add(n)).collect();
                for lost in &numbers {
                    let mut decoder = decoder();
                    come(&mut decoder, first.wrapping_sub(1));
                    for number in numbers.iter().filter(|number| *number != lost) {
                        assert!(come(&mut decoder, *number).is_empty());
                    }
                    assert_eq!(repaired(&mut decoder, &numbers), [media(*lost)]);
                    assert!(repaired(&mut decoder, &numbers).is_empty(), "once");
                    assert_eq!(come(&mut decoder, *lost), [[0; 0]; 0]);
                }
            }
        }
    }

    #[test]
    fn without_a_loss_there_is_nothing_to_do_and_with_two_nothing_can_be_done_yet() {
        let mut decoder = decoder();
        for number in 0..5 {
            come(&mut decoder, number);
        }
        assert!(repaired(&mut decoder, &[0, 1, 2, 3, 4]).is_empty() && decoder.waiting.is_empty());
        come(&mut decoder, 7);
        assert!(repaired(&mut decoder, &[5, 6, 7]).is_empty());
        assert_eq!(decoder.waiting.len(), 1);
        assert_eq!(come(&mut decoder, 5), [media(6)], "one of them was only late");
        assert!(decoder.waiting.is_empty());
    }

    #[test]
    fn draft_6_3_4_what_one_repair_packet_restores_another_can_use() {
        // Rows and columns of nine packets, of which five are lost so that each step opens the next.
        let mut decoder = decoder();
        for number in [0, 1, 5, 8] {
            come(&mut decoder, number);
        }
        assert_eq!(repaired(&mut decoder, &[3, 4, 5]), [[0; 0]; 0]);
        assert_eq!(repaired(&mut decoder, &[6, 7, 8]), [[0; 0]; 0]);
        assert_eq!(repaired(&mut decoder, &[0, 3, 6]), [[0; 0]; 0]);
        assert_eq!(repaired(&mut decoder, &[1, 4, 7]), [[0; 0]; 0]);
        assert_eq!(repaired(&mut decoder, &[0, 1, 2]), [media(2)]);
        assert_eq!(repaired(&mut decoder, &[3, 8]), [media(3), media(4), media(6), media(7)]);
        assert!(decoder.waiting.is_empty());
        assert_eq!(decoder.tally, Tally::default());
    }

    #[test]
    fn a_packet_ahead_of_all_that_came_is_restored_too() {
        let mut decoder = decoder();
        come(&mut decoder, 1);
        come(&mut decoder, 2);
        assert_eq!(repaired(&mut decoder, &[1, 2, 3]), [media(3)]);
        assert_eq!(decoder.newest(), Some(3));
        // Before anything came, too: a single packet and its repair.
        let mut decoder = self::decoder();
        assert_eq!(repaired(&mut decoder, &[9]), [media(9)]);
    }

    #[test]
    fn a_retransmission_is_no_longer_lost_but_does_not_serve_for_repair() {
        let mut decoder = decoder();
        for number in [0, 1, 4] {
            come(&mut decoder, number);
        }
        let back = media(2);
        decoder.media(&Header::parse(&back).unwrap(), &back, true, |_| panic!("nothing to restore"));
        assert!(repaired(&mut decoder, &[0, 1, 2]).is_empty());
        assert!(repaired(&mut decoder, &[2, 3, 4]).is_empty(), "its extensions may differ");
        assert_eq!(repaired(&mut decoder, &[3, 4]), [media(3)]);
    }

    #[test]
    fn what_no_longer_fits_what_came_restores_nothing() {
        let mut decoder = decoder();
        for number in [1, 2, 3] {
            come(&mut decoder, number);
        }
        let whole = repair(&[1, 2, 3, 4]);
        let mut restored = Vec::new();
        // Cut short, the parity of the longest packet is not there; with more, it has what nobody sent.
        for wrong in [&whole[..whole.len() - 1], &[&whole[..], &[1]].concat()] {
            decoder.repair(wrong, |packet| restored.push(packet.to_vec())).unwrap();
        }
        // Of a length that the parity does not have.
        let mut long = whole.clone();
        long[2] ^= 0x80;
        decoder.repair(&long, |packet| restored.push(packet.to_vec())).unwrap();
        assert_eq!((restored.len(), decoder.tally.failed), (0, 3));
        decoder.repair(&[&whole[..], &[0]].concat(), |packet| restored.push(packet.to_vec())).unwrap();
        assert_eq!(restored, [media(4)], "zeros are no one's");
    }

    #[test]
    fn repair_that_waits_is_bounded_in_number_and_age() {
        let mut decoder = decoder();
        come(&mut decoder, 0);
        for number in 0..100u16 {
            assert!(repaired(&mut decoder, &[number % 50, number % 50 + 1, number % 50 + 2]).is_empty());
        }
        assert_eq!((decoder.waiting.len(), decoder.tally.given_up), (WAITING, 36));
        // Far ahead and far behind.
        assert!(repaired(&mut decoder, &[64]).is_empty());
        assert!(repaired(&mut decoder, &[65_472]).is_empty());
        assert_eq!((decoder.waiting.len(), decoder.tally.given_up), (WAITING, 38));
        come(&mut decoder, 150);
        assert_eq!((decoder.waiting.len(), decoder.tally.given_up), (0, 38 + 64));
    }

    #[test]
    fn repair_of_a_stream_that_begins_anew_is_forgotten() {
        let mut decoder = decoder();
        come(&mut decoder, 1000);
        assert!(repaired(&mut decoder, &[960, 961, 962]).is_empty());
        // Near enough for the repair, and in sequence.
        come(&mut decoder, 935);
        come(&mut decoder, 936);
        assert_eq!((decoder.newest(), decoder.waiting.len()), (Some(936), 0));
    }

    #[test]
    fn what_a_predecessor_may_have_seen_is_not_restored() {
        let mut decoder = Decoder::new(SSRC, Mutable::default(), 64, Some(65_534));
        assert!(repaired(&mut decoder, &[65_533]).is_empty() && repaired(&mut decoder, &[65_534]).is_empty());
        assert_eq!(repaired(&mut decoder, &[65_535]), [media(65_535)]);
        come(&mut decoder, 1);
        assert_eq!(repaired(&mut decoder, &[0, 1]), [media(0)]);
        assert_eq!(decoder.floor, Some(65_534));
        come(&mut decoder, 70);
        assert_eq!(decoder.floor, None, "it is no longer near");
    }

    #[test]
    fn parity_is_taken_over_every_length() {
        for len in 0..40u8 {
            let mut parity: Vec<u8> = (0..len).collect();
            xor(&mut parity, &(0..len).map(|byte| byte * 5 + 1).collect::<Vec<_>>());
            assert_eq!(parity, (0..len).map(|at| at ^ (at * 5 + 1)).collect::<Vec<_>>());
        }
    }
}
