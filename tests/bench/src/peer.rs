//! What peers say by RTCP beside the media: ten times a second each, none at the same time as another.

use crate::feedback::nack;
use crate::traffic::{Direction, ssrc};

/// Milliseconds from one word of a session's peer to its next, which is a round; as many sessions can have peers that speak.
pub(crate) const INTERVAL: u64 = 100;
/// Rounds from one packet that is asked for to the next, where peers talk.
pub(crate) const ASKS: u64 = 5;

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

/// What a peer is sent that has a number for congestion control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// Packets a second, those that it has asked for not among them.
    pub(crate) rate: u32,
    /// Whether those have numbers, too.
    pub(crate) answers: bool,
}

/// Transport-wide feedback about the packets that were sent in the round before the last, evenly
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).
fn arrivals(session: u32, round: u64, sent: Numbered) -> Vec<u8> {
    let before = |round: u64| {
        let answers = if sent.answers { round.div_ceil(ASKS) } else { 0 };
        (round * INTERVAL * u64::from(sent.rate) / 1000 + answers) as u16
    };
    let (Some(last), Some(end)) = (round.checked_sub(2), round.checked_sub(1)) else { return Vec::new() };
    let (first, packets) = (before(last), before(end).wrapping_sub(before(last)));
    if packets == 0 {
        return Vec::new();
    }
    let (sender, source) = (ssrc(Direction::Read, session).0, ssrc(Direction::Write, session).0);
    let mut packet = vec![0x8f, 205, 0, 0];
    packet.extend_from_slice(&sender.to_be_bytes());
    packet.extend_from_slice(&source.to_be_bytes());
    packet.extend_from_slice(&first.to_be_bytes());
    packet.extend_from_slice(&packets.to_be_bytes());
    // A time before the first in units of 64 ms, and a count of feedback packets.
    let since = round * INTERVAL;
    packet.extend_from_slice(&(((since / 64) as u32) << 8 | u32::from(round as u8)).to_be_bytes());
    // A run of small deltas, in units of 250 us each; the first from that time on.
    packet.extend_from_slice(&(0x2000 | packets).to_be_bytes());
    let arrival = |packet: u64| 4 * INTERVAL * packet / u64::from(packets);
    packet.push((4 * (since % 64)) as u8);
    packet.extend((1..u64::from(packets)).map(|next| (arrival(next) - arrival(next - 1)) as u8));
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

/// A peer's word: where it talks, reports once a second, and the arrivals of what it was sent; and requests for packets that have
/// not arrived.
pub(crate) fn word(session: u32, at: u64, talks: Option<Numbered>, missing: &[u16]) -> Vec<u8> {
    let round = at / 1_000_000 / INTERVAL;
    let mut compound = Vec::new();
    if let Some(sent) = talks {
        if round.is_multiple_of(10) {
            compound.extend(report(session, at));
        }
        compound.extend(arrivals(session, round, sent));
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
        let sent = Numbered { rate: 500, answers: false };
        assert!(found.add(&word(3, 2_000_000_000, Some(sent), &[7, 9])));
        assert_eq!((found.sender_reports, found.arrival_reports, found.arrived), (1, 1, 50));
        assert_eq!(found.nacks, [(ssrc(Direction::Write, 3).0, 7), (ssrc(Direction::Write, 3).0, 9)]);
        assert!(word(3, 2_000_000_000, None, &[]).is_empty());
    }

    #[test]
    fn feedback_goes_on_where_the_last_one_ended() {
        let told = |round, answers| arrivals(0, round, Numbered { rate: 700, answers })[12..16].to_vec();
        assert_eq!([told(2, false), told(3, false)], [[0, 0, 0, 70], [0, 70, 0, 70]]);
        assert_eq!([told(2, true), told(3, true)], [[0, 0, 0, 71], [0, 71, 0, 70]], "one was asked for");
    }
}
