//! An encoder that follows a target: frames of uneven size, and now and then a large one.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::{CLOCK_RATE, PAYLOAD_TYPE, SECOND, SSRC};

/// Frames per second, and how many there are about from one key frame to the next.
const FRAME_RATE: f64 = 30.0;
const KEY_FRAMES: std::ops::Range<u64> = 250..350;
/// How much larger a key frame is, and in how many frames that is made up for.
const KEY_FRAME: f64 = 4.0;
const MADE_UP_IN: f64 = 30.0;
/// Bytes of a packet's payload: with header and transport-wide number 1200 on the wire, or a little less.
const PAYLOAD: usize = 1180;

/// Makes the frames of one stream.
pub struct Encoder {
    rng: Xoshiro256PlusPlus,
    frames: u64,
    next_key: u64,
    /// Nanoseconds from frame to frame.
    interval: u64,
    begun: u64,
    sequence_number: u16,
    /// Bits that went beyond the target.
    debt: f64,
    /// The most that it produces, in bits per second.
    pub most: f64,
}

impl Encoder {
    /// One that begins at a time.
    pub fn new(seed: u64, begins: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // No two cameras run in step.
        let interval = (SECOND as f64 / FRAME_RATE * rng.random_range(0.98..1.02)) as u64;
        Encoder {
            rng,
            frames: 0,
            next_key: 0,
            interval,
            begun: begins,
            sequence_number: 0,
            debt: 0.0,
            most: f64::INFINITY,
        }
    }

    /// When the next frame is ready.
    pub fn due(&self) -> u64 {
        self.begun + self.frames * self.interval
    }

    /// The next frame's packets, at `target` bits per second.
    pub fn frame(&mut self, target: f64) -> Vec<Vec<u8>> {
        let fair = target.min(self.most) * self.interval as f64 / SECOND as f64;
        let is_key = self.frames == self.next_key;
        if is_key {
            self.next_key += self.rng.random_range(KEY_FRAMES);
        }
        let key = if is_key { KEY_FRAME } else { 1.0 };
        let noise = self.rng.random_range(0.8..1.2);
        let bits = (fair * key * noise - self.debt / MADE_UP_IN).max(fair * 0.1);
        self.debt += bits - fair;
        let bytes = ((bits / 8.0) as usize).max(50);
        let count = bytes.div_ceil(PAYLOAD);
        let timestamp = ((self.due() - self.begun) * u64::from(CLOCK_RATE) / SECOND) as u32;
        let packets = (0..count).map(|n| {
            let size = bytes * (n + 1) / count - bytes * n / count;
            self.packet(timestamp, n + 1 == count, size)
        });
        let packets = packets.collect();
        self.frames += 1;
        packets
    }

    fn packet(&mut self, timestamp: u32, marker: bool, payload: usize) -> Vec<u8> {
        let mut packet = vec![0x80, u8::from(marker) << 7 | PAYLOAD_TYPE];
        packet.extend_from_slice(&self.sequence_number.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&SSRC.to_be_bytes());
        packet.resize(packet.len() + payload, 0x5a);
        self.sequence_number = self.sequence_number.wrapping_add(1);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_it_produces_its_target() {
        for target in [1e5, 3e6] {
            let mut encoder = Encoder::new(1, 0);
            let bytes: usize = (0..900).flat_map(|_| encoder.frame(target)).map(|packet| packet.len() - 12).sum();
            let rate = bytes as f64 * 8.0 * SECOND as f64 / encoder.due() as f64;
            assert!((rate / target - 1.0).abs() < 0.03, "{rate} of {target}");
        }
    }
}
