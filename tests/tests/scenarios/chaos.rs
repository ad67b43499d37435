//! Any sequence of operations, with plugins that fail in any way in between: under the policies that let packets go on,
//! every packet of every session goes on, once and in order. The fuzz target `session` has the same.

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use sandbar_tests::cast::Plugins;
use sandbar_tests::chaos::Chaos;

fn run(seed: u64) -> Vec<(Vec<Bytes>, Vec<Bytes>)> {
    Chaos::new(Plugins::load(), Xoshiro256PlusPlus::seed_from_u64(seed)).run(400)
}

#[test]
fn whatever_plugins_do_and_whatever_is_done_to_them_packets_go_on() {
    for seed in 1..=10 {
        let ran = std::panic::catch_unwind(|| run(seed));
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[test]
fn and_the_same_happens_again_under_the_same_seed() {
    assert!(run(99) == run(99));
}
