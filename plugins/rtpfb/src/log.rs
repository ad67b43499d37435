//! What was sent under consecutive numbers, until it is too old for feedback.

use std::time::Duration;

use sandbar_sdk::Instant;
use sandbar_sdk::serde::{Deserialize, Serialize};

use crate::pieces::Pieces;

/// Most packets that are remembered: half of the numbers there are, so that none is taken for another.
const MOST: usize = 1 << 15;
/// Numbers left out that are taken for packets which were not sent here; more is another sequence.
const GAP: u16 = 1 << 7;

/// What is known of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) enum Fate {
    /// Nothing was sent under this number.
    Absent,
    /// Nothing was heard of it.
    InFlight,
    /// The peer has said that it has not come.
    Lost,
    Arrived,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Sent {
    /// Nanoseconds of the host's clock.
    pub(crate) at: u64,
    /// Bytes of the whole packet.
    pub(crate) size: u16,
    /// The pacer's probe that it was part of; 0 for none.
    pub(crate) probe: u32,
    pub(crate) fate: Fate,
}

/// The latest packets, by 16-bit number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    sent: Pieces<Sent>,
    /// The number after the newest.
    next: u16,
}

impl Log {
    /// A packet leaves under this number. What is older than `window` is forgotten.
    #[inline]
    pub(crate) fn push(&mut self, number: u16, sent: Sent, window: Duration) {
        self.forget(Instant::from_nanos(sent.at), window);
        if self.sent.len() == 0 {
            self.next = number;
        }
        let ahead = number.wrapping_sub(self.next);
        let behind = usize::from(self.next.wrapping_sub(number));
        if ahead < GAP {
            let absent = Sent { fate: Fate::Absent, ..sent };
            (0..ahead).for_each(|_| self.sent.push(absent));
            self.sent.push(sent);
        } else if let Some(at) = self.sent.len().checked_sub(behind) {
            // Late, or sent again under its number, as retransmissions are without RFC 4588.
            if let Some(known) = self.sent.get_mut(at).filter(|known| known.fate != Fate::Arrived) {
                *known = sent;
            }
            return;
        } else if behind < MOST {
            // Older than all that is remembered.
            return;
        } else {
            self.sent.clear();
            self.sent.push(sent);
        }
        self.next = number.wrapping_add(1);
        while self.sent.len() > MOST {
            self.sent.pop();
        }
    }

    /// Forgets what was sent longer than `window` ago.
    #[inline]
    pub(crate) fn forget(&mut self, now: Instant, window: Duration) {
        let oldest = (now - window).as_nanos();
        while self.sent.get(0).is_some_and(|sent| sent.at < oldest) {
            self.sent.pop();
        }
    }

    /// The packet that was sent under this number.
    #[inline]
    pub(crate) fn get_mut(&mut self, number: u16) -> Option<&mut Sent> {
        let behind = match self.next.wrapping_sub(number) {
            0 => 1 << 16,
            behind => usize::from(behind),
        };
        let at = self.sent.len().checked_sub(behind)?;
        self.sent.get_mut(at).filter(|sent| sent.fate != Fate::Absent)
    }

    /// The newest packets, at most so many, and the number after them.
    pub(crate) fn newest(&self, most: usize) -> (u16, Vec<Sent>) {
        (self.next, self.sent.from(self.sent.len().saturating_sub(most)).copied().collect())
    }

    pub(crate) fn resume(next: u16, sent: Vec<Sent>) -> Self {
        let over = sent.len().saturating_sub(MOST);
        Self { sent: sent.into_iter().skip(over).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(2);

    fn sent(millis: u64) -> Sent {
        Sent { at: Instant::from_millis(millis).as_nanos(), size: 100, probe: 0, fate: Fate::InFlight }
    }

    fn at(log: &mut Log, number: u16) -> Option<u64> {
        log.get_mut(number).map(|sent| sent.at / 1_000_000)
    }

    #[test]
    fn packets_are_found_by_number_across_the_wrap() {
        let mut log = Log::default();
        for n in 0..100u64 {
            log.push((65_500 + n) as u16, sent(n), WINDOW);
        }
        assert_eq!((at(&mut log, 65_500), at(&mut log, 65_535), at(&mut log, 0)), (Some(0), Some(35), Some(36)));
        assert_eq!((at(&mut log, 65_499), at(&mut log, 64)), (None, None));
    }

    #[test]
    fn nothing_is_kept_for_longer_than_the_window() {
        let mut log = Log::default();
        log.push(1, sent(0), WINDOW);
        log.push(2, sent(1_999), WINDOW);
        assert_eq!(at(&mut log, 1), Some(0));
        log.push(3, sent(2_001), WINDOW);
        assert_eq!((at(&mut log, 1), at(&mut log, 2)), (None, Some(1_999)));
        log.forget(Instant::from_millis(9_000), WINDOW);
        assert_eq!(log.sent.len(), 0);
    }

    #[test]
    fn numbers_that_were_left_out_are_not_packets_until_they_come_late() {
        let mut log = Log::default();
        log.push(10, sent(0), WINDOW);
        log.push(13, sent(1), WINDOW);
        assert_eq!((at(&mut log, 11), at(&mut log, 12), at(&mut log, 13)), (None, None, Some(1)));
        log.push(12, sent(2), WINDOW);
        log.push(5, sent(3), WINDOW);
        assert_eq!((at(&mut log, 12), at(&mut log, 5)), (Some(2), None));
        log.push(14, sent(4), WINDOW);
        assert_eq!((at(&mut log, 13), at(&mut log, 14)), (Some(1), Some(4)));
    }

    #[test]
    fn a_number_far_from_the_others_begins_another_sequence() {
        let mut log = Log::default();
        log.push(10, sent(0), WINDOW);
        log.push(10 + GAP + 1, sent(1), WINDOW);
        assert_eq!((at(&mut log, 10), at(&mut log, 11 + GAP)), (None, Some(1)));
    }

    #[test]
    fn a_packet_sent_again_under_its_number_is_the_later_one_until_it_has_arrived() {
        let mut log = Log::default();
        log.push(10, sent(0), WINDOW);
        log.push(11, sent(0), WINDOW);
        log.push(10, sent(50), WINDOW);
        assert_eq!(at(&mut log, 10), Some(50));
        log.get_mut(10).unwrap().fate = Fate::Arrived;
        log.push(10, sent(90), WINDOW);
        assert_eq!(at(&mut log, 10), Some(50));
    }

    #[test]
    fn a_flood_within_the_window_is_bounded() {
        let mut log = Log::default();
        for n in 0..200_000u32 {
            log.push(n as u16, sent(1), WINDOW);
        }
        assert_eq!(log.sent.len(), MOST);
        for n in 0..200_000u32 {
            log.push((n * 127) as u16, sent(1), WINDOW);
        }
        assert!(log.sent.len() <= MOST);
    }
}
