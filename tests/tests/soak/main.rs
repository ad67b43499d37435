//! Hundreds of sessions and everything that can be done to them, round after round: nothing is lost, and in the end there is
//! as much as in the beginning. A moment of it is part of every test run; `./x soak` is for as long as you like.

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use sandbar_tests::chaos::{Chaos, Plugins};
use sandbar_tests::resident;

/// Memory that rounds may come to need beyond what the first ones did: caches and the allocator's fragments.
const GROWTH: usize = 64 << 20;
/// Rounds before memory is first looked at.
const WARM: u64 = 2;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Err(_) => default,
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number; found \"{text}\"")),
    }
}

#[test]
fn rounds_end_as_they_began() {
    let (seconds, sessions) = (setting("SANDBAR_SOAK_SECONDS", 3), setting("SANDBAR_SOAK_SESSIONS", 24));
    let (seed, began) = (setting("SANDBAR_SOAK_SEED", 1), Instant::now());
    let steps = 30 * sessions as usize;
    let plugins = Plugins::load().without("jitter-buffer");
    let (mut round, mut warm, mut packets) = (0, None, 0);
    while round <= WARM || began.elapsed() < Duration::from_secs(seconds) {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed + round);
        // What is printed last before a failure says how to repeat it.
        print!("seed {}: ", seed + round);
        let ran = Chaos::with_sessions(plugins.clone(), rng, sessions as usize).run(steps);
        let came: usize = ran.iter().map(|(read, written)| read.len() + written.len()).sum();
        packets += came;
        let (was, now) = (ran.len(), resident());
        drop(ran);
        println!(
            "{was} sessions, {steps} operations, {came} packets, all accounted for; {} MiB, {} s",
            now.unwrap_or_default() >> 20,
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
    println!("{round} rounds, {} operations, {packets} packets", round * steps as u64);
}
