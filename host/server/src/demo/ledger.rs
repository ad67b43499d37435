//! What became of every packet: written by publisher, link and subscriber as they handle it, read for the figures.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbar_host::Instant;
use serde::Serialize;

use super::acts::{Act, PerAct};
use super::media::MEDIA;
use super::order::{Disorder, Order};

/// Everything that was measured so far, shared by the threads of the demonstration.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug)]
struct State {
    /// What packets that are sent now belong to.
    act: Option<Act>,
    /// By stream, in the order in which they were sent.
    packets: [Vec<Fate>; MEDIA.len()],
    /// The first packet's sequence number, by stream.
    first: [Option<u16>; MEDIA.len()],
    /// Of what the relay sent: each stream's, then their retransmissions'.
    orders: [[Order; MEDIA.len()]; 2],
    resent: Vec<Resent>,
    damaged: PerAct<u64>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug)]
struct Fate {
    act: Option<Act>,
    sent: Instant,
    /// When it left the relay, and whether the link lost it then.
    left: Option<(Instant, bool)>,
    /// When it first arrived, and whether as a retransmission.
    arrived: Option<(Instant, bool)>,
}

/// A retransmission that left the relay.
#[derive(Clone, Copy, Debug)]
struct Resent {
    act: Option<Act>,
    at: Instant,
}

/// An act in figures. Packets are those of all streams.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Figures {
    /// By the publisher.
    pub(super) sent: u64,
    /// Of these, by the relay to the subscriber.
    pub(super) forwarded: u64,
    /// Of these, lost on the link.
    pub(super) lost: u64,
    /// Brought to the subscriber by a retransmission.
    pub(super) repaired: u64,
    /// Of those sent, never brought to the subscriber.
    pub(super) missing: u64,
    /// Missing, in percent of those sent that had time to arrive.
    pub(super) missing_percent: f64,
    /// Retransmissions that left the relay in this act.
    pub(super) resent: u64,
    /// Packets whose bytes were not those that were sent.
    pub(super) damaged: u64,
    /// What the relay did to the order of media, by sequence number, as it enters the link.
    pub(super) disorder: Disorder,
    /// The same for retransmissions, which are numbered by themselves.
    pub(super) resent_disorder: Disorder,
    /// From the publisher's socket through the relay to the link.
    pub(super) through_relay: Spread,
    /// From the publisher to the subscriber, for what came as a retransmission.
    pub(super) until_repaired: Spread,
}

/// Durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Spread {
    pub(super) median_ms: f64,
    pub(super) longest_ms: f64,
}

impl Spread {
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let ms = |duration: Option<&Duration>| duration.map_or(0.0, |duration| duration.as_secs_f64() * 1e3);
        Self { median_ms: ms(durations.get(durations.len() / 2)), longest_ms: ms(durations.last()) }
    }
}

impl Ledger {
    pub(super) fn new() -> Self {
        let orders = || std::array::from_fn(|_| Order::new());
        Self(Mutex::new(State {
            act: None,
            packets: Default::default(),
            first: [None; MEDIA.len()],
            orders: [orders(), orders()],
            resent: Vec::new(),
            damaged: PerAct::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on packets belong to this act.
    pub(super) fn begin(&self, act: Option<Act>) {
        self.state().act = act;
    }

    /// The publisher is about to send the next packet of a stream.
    pub(super) fn sent(&self, now: Instant, stream: usize, sequence: u16) {
        let mut state = self.state();
        let act = state.act;
        state.first[stream].get_or_insert(sequence);
        state.packets[stream].push(Fate { act, sent: now, left: None, arrived: None });
    }

    /// A packet of a stream has left the relay; `lost` says what the link did with it.
    pub(super) fn forwarded(&self, now: Instant, stream: usize, sequence: u16, lost: bool) {
        let mut state = self.state();
        let act = state.act;
        state.orders[0][stream].note(act, sequence);
        if let Some(fate) = state.fate(stream, sequence) {
            fate.left.get_or_insert((now, lost));
        }
    }

    /// A retransmission has left the relay, numbered in its own sequence.
    pub(super) fn resent(&self, now: Instant, stream: usize, sequence: u16) {
        let mut state = self.state();
        let act = state.act;
        state.orders[1][stream].note(act, sequence);
        state.resent.push(Resent { act, at: now });
    }

    /// The subscriber has a packet.
    pub(super) fn arrived(&self, now: Instant, stream: usize, sequence: u16, repaired: bool, intact: bool) {
        let mut state = self.state();
        let Some(fate) = state.fate(stream, sequence) else { return };
        fate.arrived.get_or_insert((now, repaired));
        let act = fate.act;
        *state.damaged.of(act) += u64::from(!intact);
    }

    /// An act so far; packets sent after `settled` are not yet called missing.
    pub(super) fn figures(&self, act: Option<Act>, settled: Instant) -> Figures {
        let state = self.state();
        let mut figures = Figures { damaged: state.damaged.get(act), ..Figures::default() };
        let (mut through, mut until, mut old) = (Vec::new(), Vec::new(), 0_u64);
        for fate in state.packets.iter().flatten().filter(|fate| fate.act == act) {
            figures.sent += 1;
            if let Some((at, lost)) = fate.left {
                figures.forwarded += 1;
                figures.lost += u64::from(lost);
                through.push(at - fate.sent);
            }
            if let Some((at, true)) = fate.arrived {
                figures.repaired += 1;
                until.push(at - fate.sent);
            }
            if fate.sent <= settled {
                old += 1;
                figures.missing += u64::from(fate.arrived.is_none());
            }
        }
        figures.missing_percent = 100.0 * figures.missing as f64 / old.max(1) as f64;
        figures.resent = state.resent.iter().filter(|resent| resent.act == act).count() as u64;
        let disorder =
            |orders: &[Order]| orders.iter().fold(Disorder::default(), |sum, order| sum.plus(order.disorder(act)));
        figures.disorder = disorder(&state.orders[0]);
        figures.resent_disorder = disorder(&state.orders[1]);
        figures.through_relay = Spread::of(through);
        figures.until_repaired = Spread::of(until);
        figures
    }

    /// Whether every packet of all acts has arrived.
    pub(super) fn is_whole(&self) -> bool {
        let state = self.state();
        let of_acts = |act: Option<Act>| act.is_some_and(|act| act != Act::Bare);
        state.packets.iter().flatten().filter(|fate| of_acts(fate.act)).all(|fate| fate.arrived.is_some())
    }

    /// When retransmissions left the relay in an act.
    pub(super) fn resent_at(&self, act: Act) -> Vec<Instant> {
        self.state().resent.iter().filter(|resent| resent.act == Some(act)).map(|resent| resent.at).collect()
    }

    /// Of the packets that were on their way through the relay at some time from `from` to `to`, the longest that one was.
    pub(super) fn longest_through_relay(&self, from: Instant, to: Instant) -> Duration {
        let state = self.state();
        let ways = state.packets.iter().flatten().filter_map(|fate| Some((fate.sent, fate.left?.0)));
        ways.filter(|(sent, left)| *left >= from && *sent <= to)
            .map(|(sent, left)| left - sent)
            .max()
            .unwrap_or_default()
    }

    /// Packets of a time that left the relay.
    pub(super) fn forwarded_since(&self, from: Instant) -> u64 {
        let state = self.state();
        state.packets.iter().flatten().filter(|fate| fate.left.is_some_and(|(at, _)| at > from)).count() as u64
    }
}

impl State {
    fn fate(&mut self, stream: usize, sequence: u16) -> Option<&mut Fate> {
        let number = sequence.wrapping_sub(self.first[stream]?);
        self.packets[stream].get_mut(usize::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1000 + ms)
    }

    #[test]
    fn every_packet_is_accounted_for() {
        let ledger = Ledger::new();
        ledger.begin(Some(Act::Repair));
        for (number, sequence) in [65_534, 65_535, 0, 1].into_iter().enumerate() {
            ledger.sent(at(number as u64), 0, sequence);
            ledger.forwarded(at(number as u64 + 1), 0, sequence, sequence == 65_535);
        }
        ledger.arrived(at(20), 0, 65_534, false, true);
        ledger.resent(at(30), 0, 7);
        ledger.arrived(at(61), 0, 65_535, true, true);
        ledger.arrived(at(70), 0, 65_535, false, false);
        let figures = ledger.figures(Some(Act::Repair), at(2));
        assert_eq!((figures.sent, figures.forwarded, figures.lost), (4, 4, 1));
        assert_eq!((figures.repaired, figures.missing, figures.resent, figures.damaged), (1, 1, 1, 1));
        assert!((figures.missing_percent - 100.0 / 3.0).abs() < 1e-9, "{figures:?}");
        assert_eq!((figures.until_repaired.longest_ms, figures.through_relay.longest_ms), (60.0, 1.0));
        assert_eq!(figures.disorder, Disorder::default());
        assert!(!ledger.is_whole());
        assert_eq!(ledger.figures(None, at(2)).sent, 0);
    }

    #[test]
    fn what_the_relay_holds_up_is_found() {
        let ledger = Ledger::new();
        for (sequence, sent, left) in [(1, 0, 1), (2, 10, 15), (3, 30, 31)] {
            ledger.sent(at(sent), 1, sequence);
            ledger.forwarded(at(left), 1, sequence, false);
        }
        assert_eq!(ledger.longest_through_relay(at(11), at(20)), Duration::from_millis(5));
        assert_eq!(ledger.longest_through_relay(at(16), at(40)), Duration::from_millis(1));
        assert_eq!(ledger.forwarded_since(at(1)), 2);
    }
}
