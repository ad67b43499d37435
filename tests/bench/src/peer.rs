//! What peers say by RTCP beside the media: ten times a second each, none at the same time as another.

use crate::feedback::nack;
use crate::traffic::{Direction, ssrc};

/// Milliseconds from one word of a session's peer to its next; as many sessions can have peers that speak.
pub(crate) const INTERVAL: u64 = 100;

/// A sender report with a report block about what this side sends (RFC 3550, 6.4.1).
fn report(session: u32, at: u64) -> Vec<u8> {
    let (sender, source) = (ssrc(Direction::Read, session).0, ssrc(Direction::Write, session).0);
    let mut packet = vec![0x81, 200, 0, 12];
    let seconds = (at / 1_000_000_000) as u32;
    let timestamp = (at / 1_000 * 90 / 1_000) as u32;
    let counts = (at / 2_000_000) as u32;
    // Jitter and losses are none; the latest report from here is not named, so there is no round trip to compute.
    for word in [sender, seconds, 0, timestamp, counts, counts.wrapping_mul(1200), source, 0, counts, 0, 0, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet
}

/// Transport-wide feedback about 50 packets that arrived a millisecond after each other
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).
fn arrivals(session: u32, round: u64) -> Vec<u8> {
    const PACKETS: u16 = 50;
    let (sender, source) = (ssrc(Direction::Read, session).0, ssrc(Direction::Write, session).0);
    let mut packet = vec![0x8f, 205, 0, 0];
    packet.extend_from_slice(&sender.to_be_bytes());
    packet.extend_from_slice(&source.to_be_bytes());
    packet.extend_from_slice(&(round as u16).wrapping_mul(PACKETS).to_be_bytes());
    packet.extend_from_slice(&PACKETS.to_be_bytes());
    // The time of the first in units of 64 ms, and a count of feedback packets.
    packet.extend_from_slice(&(((round * INTERVAL / 64) as u32) << 8 | u32::from(round as u8)).to_be_bytes());
    // A run of small deltas, in units of 250 us each.
    packet.extend_from_slice(&(0x2000 | PACKETS).to_be_bytes());
    packet.extend_from_slice(&[4; PACKETS as usize]);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

/// A peer's word: reports once a second, what has arrived, and requests for packets that have not.
pub(crate) fn word(session: u32, at: u64, talks: bool, missing: &[u16]) -> Vec<u8> {
    let round = at / 1_000_000 / INTERVAL;
    let mut compound = Vec::new();
    if talks {
        if round.is_multiple_of(10) {
            compound.extend(report(session, at));
        }
        compound.extend(arrivals(session, round));
    }
    if !missing.is_empty() {
        compound.extend(nack(ssrc(Direction::Read, session).0, ssrc(Direction::Write, session).0, missing));
    }
    compound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::Feedback;

    #[test]
    fn what_a_peer_says_is_whole() {
        let mut found = Feedback::default();
        assert!(found.add(&word(3, 2_000_000_000, true, &[7, 9])));
        assert_eq!((found.sender_reports, found.arrival_reports, found.arrived), (1, 1, 50));
        assert_eq!(found.nacks, [(ssrc(Direction::Write, 3).0, 7), (ssrc(Direction::Write, 3).0, 9)]);
        assert!(word(3, 2_000_000_000, false, &[]).is_empty());
    }
}
