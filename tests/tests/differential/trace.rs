//! Seeded traces, all across the wrap of sequence numbers: arrivals of one stream with loss, reordering and duplication, and
//! what a session of several streams sends.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sandbar_tests::media::Source;

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

/// A packet's arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Since the first one's.
    pub(crate) at: Duration,
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
}

/// Of the timestamps.
pub(crate) const CLOCK_RATE: u32 = 90_000;

/// Ten seconds of a stream of a packet each 20 ms, by the second in which they arrive, with jitter, loss, and reordering within
/// each second. With `late`, some come twice, and some a second late.
pub(crate) fn seconds(seed: u64, late: bool) -> Vec<Vec<Arrival>> {
    const PACE: Duration = Duration::from_millis(20);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let first = 65_536u32.saturating_sub(rng.random_range(1..400)) as u16;
    let loss = rng.random_range(0.02..0.2);
    let mut delayed = Vec::new();
    let second = |second: u32| {
        let mut numbers: Vec<u32> = Vec::new();
        for index in second * 50..(second + 1) * 50 {
            // Neither the first packet nor one at the end of a second, so that both know how far the sender has come.
            if index == 0 || index % 50 == 49 || !rng.random_bool(loss) {
                numbers.push(index);
            } else if late && rng.random_bool(0.5) {
                delayed.push(index);
            }
        }
        for at in 2..numbers.len() - 1 {
            if rng.random_bool(0.1) {
                numbers.swap(at, at - 1);
            }
        }
        if late && rng.random_bool(0.5) {
            let at = rng.random_range(1..numbers.len() - 1);
            numbers.insert(at, numbers[at]);
            numbers.splice(1..1, delayed.drain(..));
        }
        let step = Duration::from_secs(1) / (numbers.len() as u32 + 2);
        let arrivals = (0..).zip(&numbers).map(|(place, index)| {
            let jitter = if place == 0 { Duration::ZERO } else { step.mul_f64(rng.random_range(0.0..0.9)) };
            Arrival {
                at: Duration::from_secs(second.into()) + step * place + jitter,
                sequence_number: first.wrapping_add(*index as u16),
                timestamp: (PACE * *index).as_millis() as u32 * (CLOCK_RATE / 1000),
            }
        });
        arrivals.collect()
    };
    (0..10).map(second).collect()
}

/// A packet that a session sends.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    /// Since the first one's.
    pub(crate) at: Duration,
    /// Which of the sources sends it.
    pub(crate) source: usize,
    pub(crate) packet: Bytes,
}

/// What sources send in their first `seconds`, each with payloads of any size, frames in bursts, numbers left out, swapped
/// and sent twice, as a relay passes on what it was sent. Half-way each jumps ahead, in numbers and in timestamps.
pub(crate) fn sendings(seed: u64, sources: &[Source], seconds: u64) -> Vec<Sending> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut all = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        let mut source = source.clone();
        let each_second = u64::from(source.frame_rate) * source.packets_per_frame;
        let half = each_second * seconds / 2;
        let mut indices: Vec<u64> = (0..each_second * seconds).filter(|_| rng.random_bool(0.95)).collect();
        for place in 2..indices.len() {
            if rng.random_bool(0.05) && (indices[place] < half || indices[place - 1] >= half) {
                indices.swap(place, place - 1);
            }
        }
        let (mut due, mut jumped) = (Duration::ZERO, false);
        for index in indices {
            if index >= half && !jumped {
                jumped = true;
                source.first_sequence_number = source.first_sequence_number.wrapping_add(rng.random_range(1..30_000));
                source.first_timestamp = rng.random();
            }
            source.payload = rng.random_range(12..1100);
            due = due.max(source.due(index) + Duration::from_micros(rng.random_range(1..10_000)));
            let sending = Sending { at: due, source: at, packet: source.nth(index) };
            if rng.random_bool(0.03) {
                all.push(sending.clone());
            }
            all.push(sending);
        }
    }
    all.sort_by_key(|sending| sending.at);
    let first = all[0].at;
    all.iter_mut().for_each(|sending| sending.at -= first);
    all
}
