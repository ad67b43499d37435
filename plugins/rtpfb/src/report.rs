//! The report that other plugins read: an attribute of the RTCP packet that brought the feedback.
//!
//! Integers of the head are little-endian. Varints have seven bits a byte, lowest first, the high bit set on all but the
//! last; signed ones are zigzag-coded (0, -1, 1, -2, ..).
//!
//! | at | type | field
//! | -- | ---- | -----
//! |  0 | u8   | version: 1
//! |  1 | u8   | source: 0 transport-wide feedback, 1 RFC 8888
//! |  2 | u16  | entries that follow
//! |  4 | u64  | microseconds of the host's clock, to which the first entry's send time is relative
//! | 12 | i64  | microseconds of the peer's clock, to which the first arrival is relative
//!
//! An entry for each packet, in the order of their numbers:
//!
//! | type          | field
//! | ------------- | -----
//! | u8            | bit 0: arrived; bit 1: it had been reported lost before; bit 2: the time of arrival is known; bit 3: its size is that of the entry before it; bit 4: part of a probe
//! | varint        | bytes of the packet, unless bit 3
//! | signed varint | microseconds from the send time of the entry before it
//! | signed varint | with bit 2, microseconds from the last arrival before it
//! | varint        | with bit 4, the number of the pacer's probe

/// The attribute's key.
pub const REPORT: &str = "rtpfb.report";

const VERSION: u8 = 1;
const HEAD: usize = 20;
/// Most bytes of a report. A packet carries 4096 bytes of attributes: this leaves room for others'.
const ROOM: usize = 3600;
/// Most bytes of an entry.
const ENTRY: usize = 1 + 3 + 10 + 10 + 5;

const ARRIVED: u8 = 1;
const WAS_LOST: u8 = 2;
const TIMED: u8 = 4;
const SAME_SIZE: u8 = 8;
const PROBE: u8 = 16;

/// Whose clock and numbers a report is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Transport = 0,
    Ccfb = 1,
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Microseconds of the host's clock.
    pub(crate) sent: u64,
    pub(crate) size: u16,
    pub(crate) arrived: bool,
    pub(crate) was_lost: bool,
    /// Microseconds of the peer's clock.
    pub(crate) at: Option<i64>,
    /// 0 for none.
    pub(crate) probe: u32,
}

/// Writes as many entries as there is room for; says how many.
pub(crate) fn write<'a>(source: Source, entries: impl IntoIterator<Item = &'a Entry>, out: &mut Vec<u8>) -> usize {
    out.clear();
    out.resize(HEAD, 0);
    let mut count: u16 = 0;
    let mut before: Option<Entry> = None;
    let mut arrival = None;
    for entry in entries {
        if out.len() + ENTRY > ROOM {
            break;
        }
        let same_size = before.is_some_and(|before| before.size == entry.size);
        let flags = [
            (entry.arrived, ARRIVED),
            (entry.was_lost, WAS_LOST),
            (entry.at.is_some(), TIMED),
            (same_size, SAME_SIZE),
            (entry.probe != 0, PROBE),
        ];
        out.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
        if !same_size {
            varint(entry.size.into(), out);
        }
        let base = before.map_or(entry.sent, |before| before.sent);
        signed(entry.sent.wrapping_sub(base) as i64, out);
        if let Some(at) = entry.at {
            let last = arrival.unwrap_or(at);
            signed(at.wrapping_sub(last), out);
            if arrival.is_none() {
                out[12..HEAD].copy_from_slice(&at.to_le_bytes());
            }
            arrival = Some(at);
        }
        if entry.probe != 0 {
            varint(entry.probe.into(), out);
        }
        if count == 0 {
            out[4..12].copy_from_slice(&entry.sent.to_le_bytes());
        }
        before = Some(*entry);
        count += 1;
    }
    out[0] = VERSION;
    out[1] = source as u8;
    out[2..4].copy_from_slice(&count.to_le_bytes());
    count.into()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)) as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sent: u64, size: u16, at: Option<i64>) -> Entry {
        Entry { sent, size, arrived: at.is_some(), was_lost: false, at, probe: 0 }
    }

    /// The bytes that readers of version 1 are written against: the reader of the plugin `gcc` has the same.
    #[test]
    fn version_1_is_laid_out_as_documented() {
        let entries = [
            entry(1_000_000, 1200, Some(-500)),
            entry(1_000_000, 1200, None),
            Entry { was_lost: true, ..entry(1_005_000, 90, Some(4_750)) },
            Entry { probe: 300, ..entry(1_004_999, 90, Some(4_500)) },
            Entry { arrived: true, ..entry(1_004_999, 90, None) },
        ];
        let mut out = Vec::new();
        assert_eq!(write(Source::Ccfb, &entries, &mut out), 5);
        let mut expected = vec![1, 1, 5, 0];
        expected.extend_from_slice(&1_000_000u64.to_le_bytes());
        expected.extend_from_slice(&(-500i64).to_le_bytes());
        expected.extend_from_slice(&[0b00101, 0xb0, 9, 0, 0]);
        expected.extend_from_slice(&[0b01000, 0]);
        expected.extend_from_slice(&[0b00111, 90, 0x90, 0x4e, 0x84, 0x52]);
        expected.extend_from_slice(&[0b11101, 1, 0xf3, 3, 0xac, 2]);
        expected.extend_from_slice(&[0b01001, 0]);
        assert_eq!(out, expected);
    }

    #[test]
    fn what_finds_no_room_is_left_for_the_next_report() {
        let entries: Vec<_> = (0..2000).map(|n| entry(n * 96, 1200, Some(n as i64 * 96))).collect();
        let mut out = Vec::new();
        let written = write(Source::Transport, &entries, &mut out);
        assert!((700..2000).contains(&written) && out.len() <= ROOM, "{written} in {} bytes", out.len());
        assert_eq!(usize::from(u16::from_le_bytes([out[2], out[3]])), written);
        // The largest entries there can be still fit.
        let extreme = |n: u64| Entry {
            sent: if n.is_multiple_of(2) { 0 } else { u64::MAX / 2 },
            size: u16::MAX - n as u16,
            arrived: true,
            was_lost: true,
            at: Some(if n.is_multiple_of(2) { i64::MIN } else { i64::MAX }),
            probe: u32::MAX,
        };
        let entries: Vec<_> = (0..2000).map(extreme).collect();
        assert!(write(Source::Transport, &entries, &mut out) > 100 && out.len() <= ROOM);
    }
}
