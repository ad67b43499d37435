//! One direction of a path: a queue before a bottleneck whose rate changes, random loss behind it, and a delay.

use std::collections::VecDeque;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::{MILLISECOND, SECOND};

/// What a path is like.
#[derive(Clone, Debug)]
pub struct Profile {
    /// From when on which rate, in bits per second; the first from the beginning.
    pub rates: Vec<(u64, f64)>,
    /// What the queue holds, in milliseconds of the rate at the time.
    pub queue_ms: f64,
    /// The part of packets that is lost behind the bottleneck, 0 to 1.
    pub loss: f64,
    /// How long it takes behind the bottleneck.
    pub delay: u64,
    /// Up to this much is added to the delay, evenly; packets do not overtake each other by it.
    pub jitter: u64,
    /// Traffic of others through the same bottleneck.
    pub cross: Vec<Cross>,
}

impl Profile {
    /// A rate that does not change, a queue of 300 ms and 25 ms of delay.
    pub fn constant(rate: f64) -> Self {
        Profile {
            rates: vec![(0, rate)],
            queue_ms: 300.0,
            loss: 0.0,
            delay: 25 * MILLISECOND,
            jitter: 0,
            cross: Vec::new(),
        }
    }

    /// The rate at a time.
    pub fn rate(&self, now: u64) -> f64 {
        self.rates.iter().rev().find(|(from, _)| *from <= now).or(self.rates.first()).map_or(1.0, |(_, rate)| *rate)
    }

    /// What others leave of it on average between two times.
    pub fn free(&self, from: u64, to: u64) -> f64 {
        let steps = 1000;
        let at = |n: u64| from + (to - from) * n / steps;
        let taken = |now: u64| self.cross.iter().filter(|cross| cross.is_on(now)).map(|cross| cross.rate).sum::<f64>();
        (0..steps).map(|n| (self.rate(at(n)) - taken(at(n))).max(0.0)).sum::<f64>() / steps as f64
    }
}

/// Traffic at a constant rate that follows nobody.
#[derive(Clone, Copy, Debug)]
pub struct Cross {
    /// Bits per second.
    pub rate: f64,
    /// From when on.
    pub from: u64,
    /// Until when.
    pub to: u64,
}

impl Cross {
    fn is_on(&self, now: u64) -> bool {
        (self.from..self.to).contains(&now)
    }

    fn interval(&self) -> u64 {
        (PACKET as f64 * 8.0 / self.rate * SECOND as f64) as u64
    }
}

/// Bytes of others' packets.
const PACKET: usize = 1200;

/// A packet on the path.
#[derive(Clone, Debug)]
struct Queued {
    /// `None` for others' traffic.
    flow: Option<usize>,
    bytes: Vec<u8>,
    size: usize,
    entered: u64,
}

/// A packet that has come through.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Which flow's.
    pub flow: usize,
    /// When.
    pub at: u64,
    /// As it is on the wire.
    pub bytes: Vec<u8>,
}

/// What the bottleneck did with a packet of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Which flow's.
    pub flow: usize,
    /// When it left the bottleneck, or was dropped before it.
    pub at: u64,
    /// Bytes.
    pub size: usize,
    /// How long it waited, without its own time on the line; `None` where the queue was full.
    pub waited: Option<u64>,
}

/// The path itself.
pub struct Path {
    profile: Profile,
    rng: Xoshiro256PlusPlus,
    queue: VecDeque<Queued>,
    queued: usize,
    /// When the packet at the head of the queue has left.
    done: Option<u64>,
    /// When the last packet arrives: none behind it may be earlier.
    last: u64,
    next_cross: Vec<u64>,
    arrivals: VecDeque<Arrival>,
    served: Vec<Served>,
}

impl Path {
    /// An empty path.
    pub fn new(profile: Profile, seed: u64) -> Self {
        let next_cross = profile.cross.iter().map(|cross| cross.from).collect();
        Path {
            profile,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            queue: VecDeque::new(),
            queued: 0,
            done: None,
            last: 0,
            next_cross,
            arrivals: VecDeque::new(),
            served: Vec::new(),
        }
    }

    /// Takes a packet in.
    pub fn send(&mut self, now: u64, flow: usize, bytes: Vec<u8>) {
        let size = bytes.len();
        self.enter(now, Queued { flow: Some(flow), bytes, size, entered: now });
    }

    /// When something happens next.
    pub fn poll_timeout(&self) -> Option<u64> {
        let cross = self.next_cross.iter().zip(&self.profile.cross).filter(|(at, cross)| **at < cross.to);
        let cross = cross.map(|(at, _)| *at);
        cross.chain(self.done).chain(self.arrivals.front().map(|arrival| arrival.at)).min()
    }

    /// Lets what is due happen.
    pub fn handle_timeout(&mut self, now: u64) {
        for n in 0..self.next_cross.len() {
            let cross = self.profile.cross[n];
            while self.next_cross[n] <= now && self.next_cross[n] < cross.to {
                let entered = self.next_cross[n];
                self.next_cross[n] += cross.interval();
                self.serve(entered);
                self.enter(entered, Queued { flow: None, bytes: Vec::new(), size: PACKET, entered });
            }
        }
        self.serve(now);
    }

    /// A packet that has arrived by now.
    pub fn receive(&mut self, now: u64) -> Option<Arrival> {
        self.arrivals.pop_front_if(|arrival| arrival.at <= now)
    }

    /// Takes what the bottleneck has done with flows' packets since this was last taken.
    pub fn served(&mut self) -> Vec<Served> {
        std::mem::take(&mut self.served)
    }

    fn enter(&mut self, now: u64, packet: Queued) {
        let most = (self.profile.rate(now) / 8.0 * self.profile.queue_ms / 1000.0) as usize;
        if self.queued + packet.size > most.max(3 * PACKET) {
            if let Some(flow) = packet.flow {
                self.served.push(Served { flow, at: now, size: packet.size, waited: None });
            }
            return;
        }
        self.queued += packet.size;
        if self.done.is_none() {
            self.done = Some(now + self.time(now, packet.size));
        }
        self.queue.push_back(packet);
    }

    fn time(&self, now: u64, size: usize) -> u64 {
        (size as f64 * 8.0 / self.profile.rate(now) * SECOND as f64) as u64
    }

    fn serve(&mut self, now: u64) {
        while let Some(at) = self.done.filter(|at| *at <= now) {
            let Some(packet) = self.queue.pop_front() else { break };
            self.queued -= packet.size;
            let line = self.time(at, packet.size);
            self.done = self.queue.front().map(|next| at + self.time(at, next.size));
            // Each packet draws, whatever becomes of it.
            let (lost, jitter) = (self.rng.random_bool(self.profile.loss), self.rng.random::<f64>());
            let Some(flow) = packet.flow else { continue };
            let waited = Some((at - packet.entered).saturating_sub(line));
            self.served.push(Served { flow, at, size: packet.size, waited });
            if !lost {
                let jitter = (self.profile.jitter as f64 * jitter) as u64;
                self.last = self.last.max(at + self.profile.delay + jitter);
                self.arrivals.push_back(Arrival { flow, at: self.last, bytes: packet.bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spread_to_the_rate_and_what_exceeds_the_queue_is_dropped() {
        // 1.2 Mbit/s: 1200 bytes in 8 ms; 80 ms hold ten packets.
        let profile = Profile { queue_ms: 80.0, ..Profile::constant(1.2e6) };
        let mut path = Path::new(profile, 1);
        for _ in 0..15 {
            path.send(0, 0, vec![0; 1200]);
        }
        let mut arrived = Vec::new();
        while let Some(at) = path.poll_timeout() {
            path.handle_timeout(at);
            while let Some(arrival) = path.receive(at) {
                arrived.push(arrival.at / MILLISECOND);
            }
        }
        assert_eq!(arrived, (1..=10).map(|n| n * 8 + 25).collect::<Vec<_>>());
        let served = path.served();
        assert_eq!(served.iter().filter(|served| served.waited.is_none()).count(), 5);
        let waited: Vec<_> = served.iter().filter_map(|served| served.waited).map(|at| at / MILLISECOND).collect();
        assert_eq!(waited, (0..10).map(|n| n * 8).collect::<Vec<_>>());
    }

    #[test]
    fn others_take_their_part() {
        let cross = vec![Cross { rate: 6e5, from: 0, to: SECOND }];
        let profile = Profile { cross, ..Profile::constant(1.2e6) };
        assert_eq!(profile.free(0, SECOND), 6e5);
        assert_eq!(profile.free(0, 2 * SECOND), 9e5);
        let mut path = Path::new(profile, 1);
        let mut now = 0;
        while now < 2 * SECOND {
            now += 8 * MILLISECOND;
            path.handle_timeout(now);
            path.send(now, 0, vec![0; 1200]);
        }
        let served = path.served();
        let dropped = served.iter().filter(|served| served.waited.is_none()).count();
        // For a second a third is too much, 75,000 bytes, of which the queue takes 45,000; some are the others'.
        assert!((15..30).contains(&dropped), "{dropped}");
    }
}
