//! What has not arrived of one stream, and when to ask for it.

use std::time::Duration;

use sandbar_sdk::Instant;

/// A jump forward by at least this much is a new sequence rather than a loss (RFC 3550, A.1: MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;

/// Where the extended sequence numbers of a stream begin: far enough from 0 to count back from the first packet.
const ORIGIN: u64 = 1 << 16;

/// Which arrivals of packets that were asked for measure the round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    /// Retransmissions have a stream of their own (RFC 4588): a packet on the original one was merely late.
    Repaired,
    /// Retransmissions look like late packets.
    Late,
    /// Packets also come back by forward error correction, which says nothing about the round trip.
    Never,
}

/// How the log behaves; the plugin's options as the log needs them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Packets behind the newest that are worth asking for.
    pub(crate) packets: u16,
    /// How long a packet may be late before it is taken for lost.
    pub(crate) reorder: Duration,
    /// The newest packets, not asked for.
    pub(crate) skip_last: u16,
    /// Requests per packet; 0 is no limit.
    pub(crate) max_tries: u16,
}

/// A packet that has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Extended sequence number.
    pub(crate) number: u64,
    /// When it was first asked for; before that, when the gap was seen.
    pub(crate) first: Instant,
    /// When it was last asked for.
    pub(crate) last: Instant,
    /// When to ask for it next.
    pub(crate) due: Instant,
    /// How often it was asked for.
    pub(crate) tries: u16,
}

/// What an arrival means beyond "as expected".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing to do.
    Quiet,
    /// Something is to be asked for at this time, perhaps earlier than anything else.
    Due(Instant),
    /// It had been asked for.
    Recovered(Missing),
}

/// What a look at the log brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// When to look again.
    pub(crate) next: Option<Instant>,
    /// Packets given up: asked for often enough, or too old.
    pub(crate) abandoned: u64,
}

/// The missing packets of one stream among its last `Policy::packets`. In order, a packet costs one comparison.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    policy: Policy,
    /// Extended sequence number of the newest packet; 0 before the first.
    newest: u64,
    /// In order of sequence numbers; at most `Policy::packets`.
    missing: Vec<Missing>,
    /// How many of the last ones in `missing` are still protected by `Policy::skip_last`.
    held: usize,
    /// After a packet far from the rest, the sequence number that would confirm a restart (RFC 3550, A.1: bad_seq).
    restart: Option<u16>,
    /// Given up since the last look.
    abandoned: u64,
}

impl Log {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, newest: 0, missing: Vec::new(), held: 0, restart: None, abandoned: 0 }
    }

    /// A log that continues another one's. What makes no sense in it is left out.
    pub(crate) fn resume(policy: Policy, newest: u64, mut missing: Vec<Missing>) -> Self {
        let mut log = Self::new(policy);
        if newest >= ORIGIN {
            missing.retain(|missing| missing.number < newest);
            missing.sort_by_key(|missing| missing.number);
            log.newest = newest;
            log.missing = missing;
            log.forget_old();
        }
        log
    }

    /// Extended sequence number of the newest packet, 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// A packet has arrived.
    #[inline(always)]
    pub(crate) fn observe(&mut self, sequence_number: u16, at: Instant, repaired: bool) -> Arrival {
        if sequence_number.wrapping_sub(self.newest as u16) == 1 && self.held == 0 && self.newest != 0 {
            self.newest += 1;
            self.restart = None;
            return Arrival::Quiet;
        }
        self.observe_unexpected(sequence_number, at, repaired)
    }

    #[cold]
    #[inline(never)]
    fn observe_unexpected(&mut self, sequence_number: u16, at: Instant, repaired: bool) -> Arrival {
        if self.newest == 0 {
            // What was repaired says nothing about where the sequence stands.
            if !repaired {
                self.newest = ORIGIN + u64::from(sequence_number);
            }
            return Arrival::Quiet;
        }
        let reach = self.policy.packets.max(MAX_DROPOUT);
        let ahead = sequence_number.wrapping_sub(self.newest as u16);
        let behind = ahead.wrapping_neg();
        if ahead == 0 {
            return Arrival::Quiet;
        }
        if ahead < reach {
            self.restart = None;
            return self.advance(u64::from(ahead), at);
        }
        if behind < reach {
            self.restart = None;
            return self.late(self.newest - u64::from(behind));
        }
        self.stray(sequence_number, repaired)
    }

    /// When to look at the log, if anything is missing.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.missing[..self.missing.len() - self.held].iter().map(|missing| missing.due).min()
    }

    /// Adds the packets to ask for at `now` to `numbers`, in order, and plans their next request `spacing` later.
    pub(crate) fn due(&mut self, now: Instant, spacing: Duration, numbers: &mut Vec<u16>) -> Round {
        self.forget_old();
        let mut round = Round { next: None, abandoned: std::mem::take(&mut self.abandoned) };
        let policy = self.policy;
        let mut armed = self.missing.len() - self.held;
        self.missing.retain_mut(|missing| {
            if armed == 0 {
                return true;
            }
            armed -= 1;
            if missing.due <= now {
                if policy.max_tries != 0 && missing.tries >= policy.max_tries {
                    round.abandoned += 1;
                    return false;
                }
                numbers.push(missing.number as u16);
                if missing.tries == 0 {
                    missing.first = now;
                }
                missing.tries = missing.tries.saturating_add(1);
                missing.last = now;
                missing.due = now + spacing;
            }
            round.next = Some(round.next.map_or(missing.due, |next| next.min(missing.due)));
            true
        });
        round
    }

    /// The newest packet is now `ahead` further on; what lies between is missing.
    fn advance(&mut self, ahead: u64, at: Instant) -> Arrival {
        let old = self.newest;
        self.newest = old + ahead;
        if ahead > 1 {
            let oldest = (self.newest + 1).saturating_sub(u64::from(self.policy.packets));
            let from = (old + 1).max(oldest);
            self.abandoned += from - (old + 1);
            self.forget_old();
            let due = at + self.policy.reorder;
            let entry = |number| Missing { number, first: at, last: at, due, tries: 0 };
            self.missing.extend((from..self.newest).map(entry));
            self.held += (self.newest - from) as usize;
        }
        self.release()
    }

    /// Lets go of what is no longer among the newest `skip_last`.
    fn release(&mut self) -> Arrival {
        let mut due: Option<Instant> = None;
        while self.held > 0 {
            let candidate = &self.missing[self.missing.len() - self.held];
            if self.newest - candidate.number < u64::from(self.policy.skip_last) {
                break;
            }
            due = Some(due.map_or(candidate.due, |due| due.min(candidate.due)));
            self.held -= 1;
        }
        due.map_or(Arrival::Quiet, Arrival::Due)
    }

    fn late(&mut self, number: u64) -> Arrival {
        let Ok(at) = self.missing.binary_search_by_key(&number, |missing| missing.number) else {
            return Arrival::Quiet;
        };
        if at >= self.missing.len() - self.held {
            self.held -= 1;
        }
        let missing = self.missing.remove(at);
        if missing.tries == 0 { Arrival::Quiet } else { Arrival::Recovered(missing) }
    }

    /// A packet from far away: one may be an error on the path, two in sequence are a restart (RFC 3550, A.1).
    fn stray(&mut self, sequence_number: u16, repaired: bool) -> Arrival {
        if repaired {
            return Arrival::Quiet;
        }
        if self.restart == Some(sequence_number) {
            self.restart = None;
            self.abandoned += self.missing.len() as u64;
            self.missing.clear();
            self.held = 0;
            self.newest = ORIGIN + u64::from(sequence_number);
        } else {
            self.restart = Some(sequence_number.wrapping_add(1));
        }
        Arrival::Quiet
    }

    /// Gives up what is no longer among the last `Policy::packets`.
    fn forget_old(&mut self) {
        let oldest = (self.newest + 1).saturating_sub(u64::from(self.policy.packets));
        let old = self.missing.partition_point(|missing| missing.number < oldest);
        if old > 0 {
            self.missing.drain(..old);
            self.held = self.held.min(self.missing.len());
            self.abandoned += old as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { packets: 512, reorder: Duration::from_millis(5), skip_last: 0, max_tries: 10 };
    const SPACING: Duration = Duration::from_millis(100);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn fed(policy: Policy, numbers: impl IntoIterator<Item = u16>) -> Log {
        let mut log = Log::new(policy);
        for number in numbers {
            log.observe(number, ms(0), false);
        }
        log
    }

    /// What is asked for at `at`.
    fn due(log: &mut Log, at: Instant) -> Vec<u16> {
        let mut numbers = Vec::new();
        log.due(at, SPACING, &mut numbers);
        numbers
    }

    #[test]
    fn in_order_nothing_is_missing_from_any_start_and_across_the_wrap() {
        for start in [0, 1, 32_767, 32_768, 65_534, 65_535u16] {
            let mut log = fed(POLICY, (0..1200).map(|n| start.wrapping_add(n)));
            assert_eq!(log.next_due(), None);
            assert!(due(&mut log, ms(1000)).is_empty());
        }
    }

    #[test]
    fn a_gap_is_asked_for_after_the_reordering_window_and_not_before() {
        let mut log = fed(POLICY, [65_533, 65_534]);
        assert_eq!(log.observe(1, ms(10), false), Arrival::Due(ms(15)));
        assert!(due(&mut log, ms(14)).is_empty());
        assert_eq!(due(&mut log, ms(15)), [65_535, 0]);
    }

    #[test]
    fn each_gap_has_its_own_window() {
        let mut log = fed(POLICY, [1]);
        log.observe(3, ms(0), false);
        log.observe(5, ms(4), false);
        let mut numbers = Vec::new();
        let round = log.due(ms(5), SPACING, &mut numbers);
        assert_eq!((numbers, round.next), (vec![2], Some(ms(9))));
    }

    #[test]
    fn what_comes_late_is_not_asked_for() {
        let mut log = fed(POLICY, [1, 4]);
        assert_eq!(log.observe(3, ms(2), false), Arrival::Quiet);
        assert_eq!(log.observe(2, ms(2), true), Arrival::Quiet);
        assert_eq!(log.next_due(), None);
    }

    #[test]
    fn requests_are_spaced_and_end_with_the_packet() {
        let mut log = fed(POLICY, [1, 3]);
        assert_eq!(due(&mut log, ms(5)), [2]);
        assert!(due(&mut log, ms(104)).is_empty());
        assert_eq!(due(&mut log, ms(105)), [2]);
        let Arrival::Recovered(missing) = log.observe(2, ms(120), true) else { panic!("it was asked for") };
        assert_eq!((missing.tries, missing.first, missing.last), (2, ms(5), ms(105)));
        assert_eq!(log.next_due(), None);
    }

    #[test]
    fn a_packet_is_given_up_after_its_tries() {
        let mut log = fed(Policy { max_tries: 3, ..POLICY }, [1, 3]);
        let asked = (0..10).map(|n| due(&mut log, ms(5 + 100 * n)).len()).sum::<usize>();
        assert_eq!(asked, 3);
        assert_eq!(log.next_due(), None);
        let mut log = fed(Policy { max_tries: 0, ..POLICY }, [1, 3]);
        assert_eq!((0..1000).map(|n| due(&mut log, ms(5 + 100 * n)).len()).sum::<usize>(), 1000);
    }

    #[test]
    fn giving_up_is_counted_once() {
        let mut log = fed(Policy { max_tries: 1, ..POLICY }, [1, 4]);
        let mut abandoned = 0;
        for n in 0..5 {
            abandoned += log.due(ms(5 + 100 * n), SPACING, &mut Vec::new()).abandoned;
        }
        assert_eq!(abandoned, 2);
    }

    #[test]
    fn only_the_last_packets_of_a_long_loss_are_asked_for() {
        let mut log = fed(POLICY, [1000, 3000]);
        assert_eq!(log.missing().len(), 511);
        let mut asked = Vec::new();
        let round = log.due(ms(5), SPACING, &mut asked);
        assert_eq!(asked, (2489..=2999).collect::<Vec<_>>());
        assert_eq!(round.abandoned, 2488 - 1000);
    }

    #[test]
    fn the_log_is_bounded_and_forgets_the_oldest() {
        let mut log = Log::new(POLICY);
        for n in 0..40_000u32 {
            log.observe((n * 2) as u16, ms(0), false);
            assert!(log.missing().len() <= 512);
        }
        let asked = due(&mut log, ms(5));
        assert_eq!(asked.len(), 256);
        assert!(asked.iter().all(|number| (79_998u32 as u16).wrapping_sub(*number) < 512));
    }

    #[test]
    fn in_order_packets_age_what_is_missing() {
        let mut log = fed(POLICY, [1, 3]);
        for n in 4..=513 {
            log.observe(n, ms(1), false);
        }
        assert_eq!(due(&mut log, ms(5)), [2]);
        log.observe(514, ms(6), false);
        let round = log.due(ms(200), SPACING, &mut Vec::new());
        assert_eq!(round, Round { next: None, abandoned: 1 });
    }

    #[test]
    fn the_newest_packets_can_be_left_alone() {
        let mut log = fed(Policy { skip_last: 3, ..POLICY }, [1]);
        assert_eq!(log.observe(4, ms(0), false), Arrival::Quiet);
        assert!(due(&mut log, ms(50)).is_empty());
        assert_eq!(log.next_due(), None);
        // 2 is now three behind, 3 is two.
        assert_eq!(log.observe(5, ms(60), false), Arrival::Due(ms(5)));
        assert_eq!(due(&mut log, ms(60)), [2]);
        assert_eq!(log.observe(6, ms(61), false), Arrival::Due(ms(5)));
        assert_eq!(due(&mut log, ms(61)), [3]);
    }

    #[test]
    fn a_packet_among_the_newest_may_still_come() {
        let mut log = fed(Policy { skip_last: 3, ..POLICY }, [1, 5]);
        log.observe(4, ms(1), false);
        log.observe(3, ms(1), false);
        assert_eq!(log.observe(6, ms(2), false), Arrival::Quiet);
        assert_eq!(due(&mut log, ms(50)), [2]);
        log.observe(2, ms(51), false);
        log.observe(7, ms(51), false);
        assert_eq!(log.next_due(), None);
    }

    #[test]
    fn duplicates_change_nothing() {
        let mut log = fed(POLICY, [1, 2, 4, 4, 4, 2, 1]);
        assert_eq!(due(&mut log, ms(5)), [3]);
    }

    #[test]
    fn rfc_3550_a_1_one_stray_packet_is_not_believed_and_two_are_a_restart() {
        let mut log = fed(POLICY, [100, 102]);
        assert_eq!(log.observe(40_000, ms(1), false), Arrival::Quiet);
        assert_eq!(log.observe(103, ms(1), false), Arrival::Quiet);
        assert_eq!(due(&mut log, ms(5)), [101], "the stray packet changed nothing");
        log.observe(40_000, ms(6), false);
        log.observe(40_001, ms(6), false);
        assert_eq!(log.next_due(), None, "what the old sequence missed is gone");
        assert_eq!(log.observe(40_003, ms(6), false), Arrival::Due(ms(11)));
        assert_eq!(due(&mut log, ms(11)), [40_002]);
    }

    #[test]
    fn a_repaired_packet_never_restarts_or_starts_a_sequence() {
        let mut log = Log::new(POLICY);
        log.observe(7, ms(0), true);
        assert_eq!(log.newest(), 0);
        log.observe(100, ms(0), false);
        log.observe(40_000, ms(0), true);
        log.observe(40_001, ms(0), true);
        assert_eq!(log.observe(102, ms(0), false), Arrival::Due(ms(5)));
    }

    #[test]
    fn a_resumed_log_asks_for_what_the_old_one_would_have() {
        let mut log = fed(POLICY, [1, 4]);
        due(&mut log, ms(5));
        let mut resumed = Log::resume(POLICY, log.newest(), log.missing().to_vec());
        assert_eq!(resumed.next_due(), Some(ms(105)));
        assert_eq!(resumed.observe(6, ms(106), false), Arrival::Due(ms(111)));
        assert_eq!(due(&mut resumed, ms(111)), [2, 3, 5]);
    }

    #[test]
    fn a_log_made_of_nonsense_is_an_empty_one() {
        let nonsense = Missing { number: 9, first: ms(0), last: ms(0), due: ms(0), tries: 0 };
        assert_eq!(Log::resume(POLICY, 5, vec![nonsense]).newest(), 0);
        let log = Log::resume(POLICY, ORIGIN + 5, vec![Missing { number: u64::MAX, ..nonsense }]);
        assert!(log.missing().is_empty());
    }
}
