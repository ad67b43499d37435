//! A lossy link in virtual time: what happens to a datagram between two peers, decided by a seed.
//!
//! Drawing order is part of the behaviour: every datagram draws loss, duplication, jitter and reordering in that order,
//! whether or not the profile uses them, so that a scenario that only changes one of them keeps the others' dice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sandbar_host::Instant;

/// What a link does to datagrams. The default is a perfect one: no loss, no delay.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Which datagrams never arrive.
    pub loss: Loss,
    /// How long a datagram travels at least.
    pub delay: Duration,
    /// Up to this much is added to the delay, evenly. A queue does not overtake itself: jitter alone never reorders.
    pub jitter: Duration,
    /// The part of datagrams, 0 to 1, that take a way of their own, and how much longer it is.
    pub reorder: (f64, Duration),
    /// The part of datagrams, 0 to 1, that arrive twice. The copy travels like a datagram of its own.
    pub duplicate: f64,
}

/// Which datagrams a link loses.
#[derive(Clone, Debug, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability, 0 to 1.
    Random(f64),
    /// In bursts: the two-state model of Gilbert and Elliott. In the good state nothing is lost, in the bad one each
    /// datagram with probability `loss`; each datagram may first change the state.
    Burst {
        /// Probability of going from good to bad.
        enter: f64,
        /// Probability of going from bad to good.
        leave: f64,
        /// Probability of a loss in the bad state.
        loss: f64,
    },
    /// Exactly these, counted from 0 in the order in which they were sent.
    These(BTreeSet<u64>),
    /// All: the link is cut.
    All,
}

impl Loss {
    /// Bursts in which everything is lost, of `length` datagrams on average, that lose the part `rate` of all.
    pub fn bursts(rate: f64, length: f64) -> Loss {
        let leave = 1.0 / length;
        Loss::Burst { enter: rate * leave / (1.0 - rate), leave, loss: 1.0 }
    }

    /// Exactly the datagrams with these numbers, counted from 0.
    pub fn these(numbers: impl IntoIterator<Item = u64>) -> Loss {
        Loss::These(numbers.into_iter().collect())
    }
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams given to the link.
    pub sent: u64,
    /// Of these, how many it lost.
    pub lost: u64,
    /// Copies it added.
    pub duplicated: u64,
    /// Datagrams that were sent on a longer way.
    pub reordered: u64,
}

/// One direction between two peers. Same profile, seed and sends: same arrivals.
pub struct Link<T> {
    profile: Profile,
    rng: Xoshiro256PlusPlus,
    bad: bool,
    tally: Tally,
    /// By time of arrival, then by order of sending.
    in_flight: BTreeMap<(Instant, u64), T>,
    numbered: u64,
    /// When the last datagram of the queue arrives: none behind it may be earlier.
    queue_ends: Instant,
}

impl<T: Clone> Link<T> {
    /// An empty link.
    pub fn new(profile: Profile, seed: u64) -> Self {
        Link {
            profile,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            bad: false,
            tally: Tally::default(),
            in_flight: BTreeMap::new(),
            numbered: 0,
            queue_ends: Instant::ZERO,
        }
    }

    /// From now on the link is another one; what is in flight arrives as it would have.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// What the link has done so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Datagrams that have not arrived yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes a datagram in.
    pub fn send(&mut self, now: Instant, datagram: T) {
        let number = self.tally.sent;
        self.tally.sent += 1;
        let lost = self.loses(number);
        let duplicated = self.rng.random_bool(self.profile.duplicate);
        if lost {
            self.tally.lost += 1;
        } else {
            let copy = duplicated.then(|| datagram.clone());
            self.carry(now, datagram);
            if let Some(copy) = copy {
                self.tally.duplicated += 1;
                self.carry(now, copy);
            }
        }
    }

    /// When the next datagram arrives.
    pub fn poll_arrival(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    /// A datagram that has arrived by now, in order of arrival.
    pub fn receive(&mut self, now: Instant) -> Option<T> {
        let first = self.in_flight.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn loses(&mut self, number: u64) -> bool {
        let (dice, state) = (self.rng.random::<f64>(), self.rng.random::<f64>());
        match &self.profile.loss {
            Loss::None => false,
            Loss::Random(part) => dice < *part,
            Loss::Burst { enter, leave, loss } => {
                self.bad = if self.bad { state >= *leave } else { state < *enter };
                self.bad && dice < *loss
            }
            Loss::These(numbers) => numbers.contains(&number),
            Loss::All => true,
        }
    }

    fn carry(&mut self, now: Instant, datagram: T) {
        let jitter = self.profile.jitter.mul_f64(self.rng.random::<f64>());
        let (part, detour) = self.profile.reorder;
        let own_way = self.rng.random_bool(part);
        let at = now + self.profile.delay + jitter;
        let at = if own_way {
            self.tally.reordered += 1;
            at + detour
        } else {
            self.queue_ends = self.queue_ends.max(at);
            self.queue_ends
        };
        self.in_flight.insert((at, self.numbered), datagram);
        self.numbered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` numbers, one a millisecond, and gives back what arrives, with its time in milliseconds.
    fn run(profile: Profile, seed: u64, count: u64) -> (Vec<(u64, u64)>, Tally) {
        let mut link = Link::new(profile, seed);
        for number in 0..count {
            link.send(Instant::from_millis(number), number);
        }
        let mut arrived = Vec::new();
        while let Some(at) = link.poll_arrival() {
            assert!(at == Instant::ZERO || link.receive(Instant::from_nanos(at.as_nanos() - 1)).is_none(), "too early");
            while let Some(number) = link.receive(at) {
                arrived.push((at.as_nanos() / 1_000_000, number));
            }
        }
        (arrived, link.tally())
    }

    fn numbers(arrived: &[(u64, u64)]) -> Vec<u64> {
        arrived.iter().map(|(_, number)| *number).collect()
    }

    #[test]
    fn a_perfect_link_delivers_everything_at_once_and_in_order() {
        let (arrived, tally) = run(Profile::default(), 1, 100);
        assert_eq!(arrived, (0..100).map(|n| (n, n)).collect::<Vec<_>>());
        assert_eq!(tally, Tally { sent: 100, ..Tally::default() });
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals_and_another_seed_others() {
        let profile = Profile {
            loss: Loss::Random(0.1),
            jitter: Duration::from_millis(5),
            reorder: (0.1, Duration::from_millis(9)),
            duplicate: 0.05,
            ..Profile::default()
        };
        assert_eq!(run(profile.clone(), 7, 1000), run(profile.clone(), 7, 1000));
        assert_ne!(run(profile.clone(), 7, 1000), run(profile, 8, 1000));
    }

    #[test]
    fn random_loss_loses_its_part() {
        let (arrived, tally) = run(Profile { loss: Loss::Random(0.1), ..Profile::default() }, 3, 10_000);
        assert_eq!(tally.lost + arrived.len() as u64, 10_000);
        assert!((900..1100).contains(&tally.lost), "{tally:?}");
    }

    #[test]
    fn burst_loss_loses_its_part_in_bursts_of_the_given_mean_length() {
        let (arrived, tally) = run(Profile { loss: Loss::bursts(0.05, 8.0), ..Profile::default() }, 3, 100_000);
        assert!((4_000..6_000).contains(&tally.lost), "{tally:?}");
        let bursts = numbers(&arrived).windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u64;
        let mean = tally.lost as f64 / bursts as f64;
        assert!((7.0..9.0).contains(&mean), "{mean}");
    }

    #[test]
    fn chosen_losses_are_exactly_those() {
        let (arrived, _) = run(Profile { loss: Loss::these([0, 2, 3, 9]), ..Profile::default() }, 1, 10);
        assert_eq!(numbers(&arrived), [1, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn jitter_delays_but_never_reorders() {
        let profile =
            Profile { delay: Duration::from_millis(20), jitter: Duration::from_millis(30), ..Profile::default() };
        let (arrived, _) = run(profile, 5, 1000);
        assert!(numbers(&arrived).is_sorted());
        assert!(arrived.iter().all(|(at, number)| (20..=50).contains(&(at - number))), "{arrived:?}");
        assert!(arrived.iter().any(|(at, number)| at - number > 40));
    }

    #[test]
    fn a_reordered_datagram_is_overtaken_and_nothing_is_lost() {
        let profile = Profile { reorder: (0.1, Duration::from_millis(4)), ..Profile::default() };
        let (arrived, tally) = run(profile, 5, 1000);
        let mut order = numbers(&arrived);
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        assert!((60..140).contains(&tally.reordered), "{tally:?}");
    }

    #[test]
    fn duplicates_arrive_twice() {
        let (arrived, tally) = run(Profile { duplicate: 0.1, ..Profile::default() }, 5, 1000);
        assert_eq!(arrived.len() as u64, 1000 + tally.duplicated);
        assert!((60..140).contains(&tally.duplicated), "{tally:?}");
    }

    #[test]
    fn a_new_profile_leaves_what_is_in_flight_alone() {
        let mut link = Link::new(Profile { delay: Duration::from_millis(10), ..Profile::default() }, 1);
        link.send(Instant::ZERO, "before");
        link.set_profile(Profile { loss: Loss::All, ..Profile::default() });
        link.send(Instant::ZERO, "after");
        assert_eq!(link.poll_arrival(), Some(Instant::from_millis(10)));
        assert_eq!(link.receive(Instant::from_millis(10)), Some("before"));
        assert_eq!(link.poll_arrival(), None);
    }
}
