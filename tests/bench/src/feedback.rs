//! RTCP that chains send, read to check that they did their work.

/// What was found in RTCP compounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feedback {
    /// Sender reports (RFC 3550, 6.4.1).
    pub(crate) sender_reports: u64,
    /// Report blocks in receiver reports (RFC 3550, 6.4.2).
    pub(crate) report_blocks: u64,
    /// Transport-wide congestion control feedback packets.
    pub(crate) arrival_reports: u64,
    /// Packets that those say have arrived, and those that they say have not.
    pub(crate) arrived: u64,
    pub(crate) missing: u64,
    /// Packets asked for (RFC 4585, 6.2.1): media SSRC and sequence number.
    pub(crate) nacks: Vec<(u32, u16)>,
}

impl Feedback {
    /// Counts what is in a compound; false if it is damaged.
    pub(crate) fn add(&mut self, compound: &[u8]) -> bool {
        let mut rest = compound;
        while let [first, kind, high, low, ..] = *rest {
            let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
            let Some((packet, after)) = rest.split_at_checked(length) else { return false };
            rest = after;
            let count = first & 0x1f;
            match (kind, count) {
                (200, _) => self.sender_reports += 1,
                (201, blocks) => self.report_blocks += u64::from(blocks),
                (205, 1) => self.add_nack(packet),
                (205, 15) => self.add_arrivals(packet),
                _ => {}
            }
        }
        rest.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sender_reports += other.sender_reports;
        self.report_blocks += other.report_blocks;
        self.arrival_reports += other.arrival_reports;
        self.arrived += other.arrived;
        self.missing += other.missing;
        self.nacks.extend(other.nacks);
    }

    fn add_nack(&mut self, packet: &[u8]) {
        let word = |at: usize| packet.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; 4]);
        let media = u32::from_be_bytes(word(8));
        for at in (12..packet.len()).step_by(4) {
            let [a, b, c, d] = word(at);
            let (first, mask) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let after = (0..16).filter(|bit| mask & (1 << bit) != 0).map(|bit| first.wrapping_add(bit + 1));
            self.nacks.extend(std::iter::once(first).chain(after).map(|number| (media, number)));
        }
    }

    /// draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1: a status count, and chunks that spell the statuses.
    fn add_arrivals(&mut self, packet: &[u8]) {
        let pair = |at: usize| packet.get(at..at + 2).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; 2]);
        self.arrival_reports += 1;
        let mut left = u32::from(u16::from_be_bytes(pair(14)));
        let mut at = 20;
        while left > 0 && at + 2 <= packet.len() {
            let chunk = u16::from_be_bytes(pair(at));
            at += 2;
            let mut status = |symbol: u16, run: u32| {
                let run = run.min(left);
                left -= run;
                *(if symbol == 0 { &mut self.missing } else { &mut self.arrived }) += u64::from(run);
            };
            match chunk >> 14 {
                0 | 1 => status(chunk >> 13 & 3, u32::from(chunk & 0x1fff)),
                2 => (0..14).rev().for_each(|bit| status(chunk >> bit & 1, 1)),
                _ => (0..7).rev().for_each(|two| status(chunk >> (2 * two) & 3, 1)),
            }
        }
    }
}

/// A request for packets (RFC 4585, 6.2.1) in a compound of its own.
pub(crate) fn nack(sender: u32, media: u32, sequence_numbers: &[u16]) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&sender.to_be_bytes());
    packet.extend_from_slice(&[0x81, 205, 0, 2 + sequence_numbers.len() as u8]);
    packet.extend_from_slice(&sender.to_be_bytes());
    packet.extend_from_slice(&media.to_be_bytes());
    for sequence_number in sequence_numbers {
        packet.extend_from_slice(&sequence_number.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_counted_by_kind() {
        let mut found = Feedback::default();
        assert!(found.add(&nack(1, 2, &[65_535])));
        assert_eq!(found.nacks, [(2, 65_535)]);
        // A run of 3 arrived, then a one-bit vector: arrived, missing, and 12 that the count of 5 leaves out.
        let mut arrivals = vec![0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0, 5, 0, 0, 0, 0];
        arrivals.extend_from_slice(&[0x20, 3, 0xa0, 0]);
        assert!(found.add(&arrivals));
        assert_eq!((found.arrival_reports, found.arrived, found.missing), (1, 4, 1));
        assert!(!found.add(&arrivals[..9]));
    }
}
