//! A lossy link: a thread that forwards UDP datagrams between the relay and the subscriber, in both directions, and
//! loses, delays and reorders them as a seed says.
//!
//! What enters it from the relay is what the relay sent, in the relay's order: here the relay's egress is measured,
//! before anything is lost.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sandbar_host::{Instant, Kind, RtpPacket};
use serde::Serialize;

use super::ledger::Ledger;
use super::media::MEDIA;
use super::socket::{self, MAX_WAIT, Socket};
use crate::relay::clock;

/// What the link does to datagrams, in either direction.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Profile {
    /// The part that never arrives, from 0 to 1.
    pub(super) loss: f64,
    /// How long a datagram travels at least.
    pub(super) delay: Duration,
    /// Up to this much is added, evenly. A queue does not overtake itself.
    pub(super) jitter: Duration,
    /// The part that takes a way of its own, and how much longer that is.
    pub(super) detours: (f64, Duration),
}

impl Profile {
    /// A bad mobile network.
    pub(super) const BAD: Self = Self {
        loss: 0.05,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(4),
        detours: (0.02, Duration::from_millis(6)),
    };
}

/// One direction.
struct Way {
    profile: Profile,
    /// Of the dice: seeds that are near each other have nothing in common.
    salt: u64,
    /// By time of arrival, then by order of sending.
    in_flight: BTreeMap<(Instant, u64), Vec<u8>>,
    numbered: u64,
    /// When the last datagram of the queue arrives: none behind it may be earlier.
    queue_ends: Instant,
}

impl Way {
    fn new(profile: Profile, seed: u64) -> Self {
        let salt = Xoshiro256PlusPlus::seed_from_u64(seed).random();
        Self { profile, salt, in_flight: BTreeMap::new(), numbered: 0, queue_ends: Instant::ZERO }
    }

    /// Takes a datagram in. Returns whether it is lost. RTP is lost by source and sequence number, so that the same
    /// media packets are lost in every run with the same seed, however many others there are between them.
    fn take(&mut self, now: Instant, datagram: &[u8], rtp: Option<(u32, u16)>) -> bool {
        self.numbered += 1;
        let identity = match rtp {
            Some((ssrc, sequence)) => u64::from(ssrc) << 16 | u64::from(sequence),
            None => self.numbered | 1 << 63,
        };
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(self.salt ^ identity);
        if dice.random_bool(self.profile.loss) {
            return true;
        }
        let mut arrival = now + self.profile.delay + self.profile.jitter.mul_f64(dice.random::<f64>());
        let (part, detour) = self.profile.detours;
        if dice.random_bool(part) {
            arrival = arrival + detour;
        } else {
            self.queue_ends = self.queue_ends.max(arrival);
            arrival = self.queue_ends;
        }
        self.in_flight.insert((arrival, self.numbered), datagram.to_vec());
        false
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.in_flight.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// The link's two ends.
pub(super) struct Link {
    /// What the relay takes for the subscriber.
    near: Socket,
    /// What the subscriber takes for the relay.
    far: Socket,
    relay: SocketAddr,
    subscriber: SocketAddr,
    ways: [Way; 2],
    ledger: Arc<Ledger>,
}

impl Link {
    pub(super) fn new(
        near: UdpSocket,
        far: UdpSocket,
        [relay, subscriber]: [SocketAddr; 2],
        seed: u64,
        ledger: Arc<Ledger>,
    ) -> Self {
        let ways = [Way::new(Profile::BAD, seed), Way::new(Profile::BAD, !seed)];
        Self { near: near.into(), far: far.into(), relay, subscriber, ways, ledger }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        const NEAR: Token = Token(0);
        const FAR: Token = Token(1);
        let mut poll = Poll::new()?;
        poll.registry().register(&mut self.near.io, NEAR, Interest::READABLE)?;
        poll.registry().register(&mut self.far.io, FAR, Interest::READABLE)?;
        let mut events = Events::with_capacity(8);
        while !stop.load(Ordering::Relaxed) {
            let next = self.ways.iter().filter_map(Way::next_arrival).min();
            let patience = next.map_or(MAX_WAIT, |at| (at - clock::now()).min(MAX_WAIT));
            socket::wait(&mut poll, &mut events, patience)?;
            let (ledger, [down, up]) = (&self.ledger, &mut self.ways);
            self.near.receive(|datagram| {
                let now = clock::now();
                let rtp = identify(datagram);
                let lost = down.take(now, datagram, rtp);
                record(ledger, now, rtp, lost);
            })?;
            self.far.receive(|datagram| {
                up.take(clock::now(), datagram, None);
            })?;
            let now = clock::now();
            while let Some(datagram) = down.arrived(now) {
                self.far.send(self.subscriber, &datagram)?;
            }
            while let Some(datagram) = up.arrived(now) {
                self.near.send(self.relay, &datagram)?;
            }
        }
        Ok(())
    }
}

/// Source and sequence number of an RTP packet.
fn identify(datagram: &[u8]) -> Option<(u32, u16)> {
    if Kind::of(datagram) == Kind::Rtcp {
        return None;
    }
    let packet = RtpPacket::parse(bytes::Bytes::copy_from_slice(datagram)).ok()?;
    Some((packet.ssrc(), packet.sequence_number()))
}

fn record(ledger: &Ledger, now: Instant, rtp: Option<(u32, u16)>, lost: bool) {
    let Some((ssrc, sequence)) = rtp else { return };
    if let Some(stream) = MEDIA.iter().position(|media| media.ssrc == ssrc) {
        ledger.forwarded(now, stream, sequence, lost);
    } else if let Some(stream) = MEDIA.iter().position(|media| media.rtx_ssrc == ssrc) {
        ledger.resent(now, stream, sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` packets, one a millisecond, and gives back what is lost and what arrives, in order.
    fn run(seed: u64, count: u16) -> (Vec<u16>, Vec<(u64, u16)>) {
        let mut way = Way::new(Profile::BAD, seed);
        let (mut lost, mut arrived) = (Vec::new(), Vec::new());
        for sequence in 0..count {
            if way.take(Instant::from_millis(sequence.into()), &sequence.to_be_bytes(), Some((1, sequence))) {
                lost.push(sequence);
            }
        }
        while let Some(at) = way.next_arrival() {
            while let Some(datagram) = way.arrived(at) {
                let sequence = u16::from_be_bytes([datagram[0], datagram[1]]);
                arrived.push((at.as_nanos() / 1_000_000 - u64::from(sequence), sequence));
            }
        }
        (lost, arrived)
    }

    #[test]
    fn a_seed_decides_what_is_lost() {
        let (lost, arrived) = run(1, 2000);
        assert_eq!(lost.len() + arrived.len(), 2000);
        assert!((60..140).contains(&lost.len()), "{} lost", lost.len());
        assert_eq!(run(1, 2000).0, lost);
        assert_ne!(run(2, 2000).0, lost);
    }

    #[test]
    fn what_takes_a_way_of_its_own_is_overtaken() {
        let (_, arrived) = run(1, 2000);
        assert!(arrived.iter().all(|(travelled, _)| (20..31).contains(travelled)));
        let overtaken = arrived.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
        assert!((15..60).contains(&overtaken), "{overtaken} overtaken");
    }
}
