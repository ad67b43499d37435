//! Seeded arrivals of one stream: bursts with loss, reordering and duplication, across the wrap of sequence numbers.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// The sequence numbers of each burst, as they arrive. No burst begins with a loss.
pub(crate) fn bursts(seed: u64) -> Vec<Vec<u16>> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut next: u16 = 65_536u32.saturating_sub(rng.random_range(1..400)) as u16;
    let loss = rng.random_range(0.0..0.3);
    let mut late = Vec::new();
    let burst = |_| {
        let mut burst = Vec::new();
        for _ in 0..rng.random_range(1..30) {
            if burst.is_empty() || !rng.random_bool(loss) {
                burst.push(next);
            } else if rng.random_bool(0.5) {
                late.push(next);
            }
            next = next.wrapping_add(1);
        }
        for at in 2..burst.len() {
            if rng.random_bool(0.1) {
                burst.swap(at, at - 1);
            }
            if rng.random_bool(0.05) {
                burst.push(burst[at]);
            }
        }
        // What was late in earlier bursts arrives after this one's.
        if rng.random_bool(0.3) {
            burst.append(&mut late);
        }
        burst
    };
    (0..40).map(burst).collect()
}
