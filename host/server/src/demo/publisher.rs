//! A camera: sends video of 30 frames a second and audio of 50 packets a second, each packet at its time.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sandbar_host::Instant;

use super::ledger::Ledger;
use super::media::{AUDIO, MEDIA, VIDEO, fill};
use super::socket::MAX_WAIT;
use crate::relay::clock;

/// Bytes of a full packet, from RTP header to end.
const PACKET: usize = 1200;
const HEADER: usize = 12;
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// A key frame every two seconds.
const KEY_FRAME: u64 = 60;
/// 64 kbit/s in packets of 20 ms.
const AUDIO_PACKET: (Duration, usize) = (Duration::from_millis(20), 160);

/// Where a stream is.
struct Source {
    stream: usize,
    sequence: u16,
    timestamp: u32,
}

/// A packet to be sent at its time.
struct Planned {
    at: Instant,
    size: usize,
    marker: bool,
}

/// Sends what was made up, until told to stop.
pub(super) struct Publisher {
    socket: UdpSocket,
    relay: SocketAddr,
    ledger: Arc<Ledger>,
    dice: Xoshiro256PlusPlus,
    packet: Vec<u8>,
}

impl Publisher {
    pub(super) fn new(socket: UdpSocket, relay: SocketAddr, seed: u64, ledger: Arc<Ledger>) -> Self {
        Self { socket, relay, ledger, dice: Xoshiro256PlusPlus::seed_from_u64(seed), packet: Vec::new() }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let start = clock::now();
        // So near the end of their numbers that they begin again on the way.
        let mut source = |stream| Source { stream, sequence: u16::MAX - 300, timestamp: self.dice.random() };
        let (mut video, mut audio) = (source(VIDEO), source(AUDIO));
        let mut frame = Vec::new().into_iter().peekable();
        let (mut frames, mut next_audio) = (0_u64, start);
        while !stop.load(Ordering::Relaxed) {
            if frame.peek().is_none() {
                frame = self.frame(start + FRAME.mul_f64(frames as f64), frames.is_multiple_of(KEY_FRAME)).peekable();
                // Of all its packets, the same (RFC 3550, 5.1).
                video.timestamp = video.timestamp.wrapping_add(MEDIA[VIDEO].clock_rate / 30);
                frames += 1;
            }
            let now = clock::now();
            let due = frame.peek().map_or(next_audio, |planned| planned.at.min(next_audio));
            if due > now {
                std::thread::sleep((due - now).min(MAX_WAIT));
            } else if let Some(planned) = frame.next_if(|planned| planned.at <= next_audio) {
                self.send(&mut video, planned.size, planned.marker)?;
            } else {
                let (spacing, payload) = AUDIO_PACKET;
                self.send(&mut audio, HEADER + payload, false)?;
                audio.timestamp = audio.timestamp.wrapping_add(MEDIA[AUDIO].clock_rate / 50);
                next_audio = next_audio + spacing;
            }
        }
        Ok(())
    }

    /// The packets of a frame: full ones and a shorter last one, spread as a pacer would.
    fn frame(&mut self, at: Instant, key: bool) -> std::vec::IntoIter<Planned> {
        let count: u32 = if key { 18 } else { self.dice.random_range(3..=6) };
        let spacing = (FRAME / count).mul_f64(0.8).min(Duration::from_millis(3));
        let packets = (0..count).map(|number| {
            let marker = number + 1 == count;
            let size = if marker { self.dice.random_range(300..=PACKET) } else { PACKET };
            Planned { at: at + spacing * number, size, marker }
        });
        packets.collect::<Vec<_>>().into_iter()
    }

    fn send(&mut self, source: &mut Source, size: usize, marker: bool) -> io::Result<()> {
        let media = &MEDIA[source.stream];
        let sequence = source.sequence;
        source.sequence = sequence.wrapping_add(1);
        self.packet.clear();
        self.packet.extend_from_slice(&[0x80, media.payload_type | u8::from(marker) << 7]);
        self.packet.extend_from_slice(&sequence.to_be_bytes());
        self.packet.extend_from_slice(&source.timestamp.to_be_bytes());
        self.packet.extend_from_slice(&media.ssrc.to_be_bytes());
        self.packet.resize(size, 0);
        fill(media.ssrc, sequence, &mut self.packet[HEADER..]);
        self.ledger.sent(clock::now(), source.stream, sequence);
        match self.socket.send_to(&self.packet, self.relay) {
            // Refused is what an earlier packet was; at its end the relay goes first.
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }
}
