//! Hundreds of sessions and everything that can be done to them, round after round, on their own and connected over links that
//! lose: nothing is lost but what is accounted for, and in the end there is as much as in the beginning. A moment of it is
//! part of every test run; `./x soak` is for as long as you like.

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use sandbar_tests::cast::Plugins;
use sandbar_tests::chaos::Chaos;
use sandbar_tests::network::Network;
use sandbar_tests::resident;

/// Memory that rounds may come to need beyond what the first ones did: caches and the allocator's fragments.
const GROWTH: usize = 64 << 20;
/// Rounds before memory is first looked at, of both kinds.
const WARM: u64 = 4;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Err(_) => default,
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number; found \"{text}\"")),
    }
}

/// The plugins of both kinds of round.
struct Soak {
    alone: Plugins,
    talking: Plugins,
    guests: Plugins,
    /// Sessions at once, and what is done to them in a round.
    sessions: usize,
    steps: usize,
}

impl Soak {
    /// One round under this seed. Gives sessions, packets and what else is to be said.
    fn round(&self, connected: bool, seed: u64) -> (usize, u64, String) {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        if connected {
            let ran = Network::new(self.talking.clone(), self.guests.clone(), rng, self.sessions).run(self.steps);
            let said =
                format!(" over links, {} lost there, {} restored, {} faults", ran.lost, ran.repaired, ran.faults);
            (ran.sessions, ran.packets, said)
        } else {
            let ran = Chaos::with_sessions(self.alone.clone(), rng, self.sessions).run(self.steps);
            let packets: usize = ran.iter().map(|(read, written)| read.len() + written.len()).sum();
            (ran.len(), packets as u64, String::new())
        }
    }
}

#[test]
fn rounds_end_as_they_began() {
    let (seconds, sessions) = (setting("SANDBAR_SOAK_SECONDS", 3), setting("SANDBAR_SOAK_SESSIONS", 24));
    let (seed, began) = (setting("SANDBAR_SOAK_SEED", 1), Instant::now());
    let soak = Soak {
        alone: Plugins::load().without("jitter-buffer"),
        talking: Plugins::talking(),
        // Woken each millisecond, it would take more of a round than all others together, and links need time to pass.
        guests: Plugins::guests().without("sandbar-guest-timer-storm"),
        sessions: sessions as usize,
        steps: 30 * sessions as usize,
    };
    let (mut round, mut warm, mut all) = (0, None, 0);
    while round <= WARM || began.elapsed() < Duration::from_secs(seconds) {
        // What is printed last before a failure says how to repeat it: both kinds of round have each seed in turn.
        print!("seed {}: ", seed + round / 2);
        let (was, packets, said) = soak.round(round % 2 == 1, seed + round / 2);
        all += packets;
        println!(
            "{was} sessions, {} operations, {packets} packets{said}, all accounted for; {} MiB, {} s",
            soak.steps,
            resident().unwrap_or_default() >> 20,
            began.elapsed().as_secs()
        );
        round += 1;
        if round == WARM {
            warm = resident();
        }
    }
    if let (Some(warm), Some(now)) = (warm, resident()) {
        assert!(now < warm + GROWTH, "{warm} bytes after {WARM} rounds, {now} after {round}");
    }
    println!("{round} rounds, {} operations, {all} packets", round * soak.steps as u64);
}
