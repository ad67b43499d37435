//! Inputs from seeds: what libFuzzer does, without its sight.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::Target;

/// Bytes at which parsers turn.
const EDGES: [u8; 9] = [0, 1, 2, 0x0f, 0x7f, 0x80, 0x90, 0xfe, 0xff];

/// Runs a target with its seeds, and with `count` inputs made of them; the same ones each time. Gives the input that it
/// panicked on.
pub fn run(target: Target, count: usize) -> Result<(), Vec<u8>> {
    let seeds = (target.seeds)();
    let seed = target.name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mutants = (0..count).map(|_| mutant(&mut rng, &seeds));
    for input in seeds.iter().cloned().chain(mutants) {
        std::panic::catch_unwind(|| (target.run)(&input)).map_err(|_| input)?;
    }
    Ok(())
}

/// One of the seeds, or the beginning of one and the end of another, with a few changes.
fn mutant(rng: &mut Xoshiro256PlusPlus, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).cloned().unwrap_or_default();
    if rng.random_bool(0.1) {
        let other = seeds.choose(rng).cloned().unwrap_or_default();
        bytes.truncate(rng.random_range(0..=bytes.len()));
        bytes.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
    }
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        let len = rng.random_range(0..=(bytes.len() - at).min(32));
        match rng.random_range(0..7) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.random()),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = *EDGES.choose(rng).unwrap_or(&0)),
            3 => drop(bytes.drain(at..at + len)),
            4 => {
                let copy = bytes[at..at + len].to_vec();
                let to = rng.random_range(0..=bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            5 => bytes.insert(at, rng.random()),
            _ => bytes.truncate(at),
        }
    }
    bytes
}
