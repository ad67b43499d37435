//! Any sequence of operations on sessions that talk to each other over links that lose, with plugins that fail in between: each
//! packet is accounted for, and what is heard was said.

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use sandbar_tests::cast::Plugins;
use sandbar_tests::network::{Network, Ran};

fn run(seed: u64) -> Ran {
    let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    Network::new(Plugins::talking(), Plugins::guests(), rng, 8).run(400)
}

#[test]
fn whatever_links_and_plugins_do_every_packet_is_accounted_for() {
    let (mut lost, mut repaired, mut faults) = (0, 0, 0);
    for seed in 1..=5 {
        let ran = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        lost += ran.lost;
        repaired += ran.repaired;
        faults += ran.faults;
    }
    assert!(lost > 100 && repaired > 20 && faults > 20, "{lost} lost, {repaired} repaired, {faults} faults");
}

#[test]
fn and_the_same_happens_again_under_the_same_seed() {
    assert_eq!(run(99), run(99));
}
