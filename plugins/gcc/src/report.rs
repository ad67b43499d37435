//! The report that the plugin `rtpfb` attaches to the RTCP packet that brought feedback: version 1, as its documentation
//! lays it out.

/// The attribute's key.
pub(crate) const REPORT: &str = "rtpfb.report";

/// No clock shows more microseconds, which are a century, and no packet has more bytes.
const LATEST: u64 = 1 << 52;
const LARGEST: u32 = u16::MAX as u32;

const VERSION: u8 = 1;
const HEAD: usize = 20;

const ARRIVED: u8 = 1;
const WAS_LOST: u8 = 2;
const TIMED: u8 = 4;
const SAME_SIZE: u8 = 8;
const PROBE: u8 = 16;

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// When it left, in microseconds of this host's clock.
    pub(crate) sent: i64,
    /// Bytes.
    pub(crate) size: u32,
    pub(crate) arrived: bool,
    /// It was said to be lost before.
    pub(crate) was_lost: bool,
    /// When it arrived, in microseconds of the peer's clock.
    pub(crate) at: Option<i64>,
    /// The probe that it was part of.
    pub(crate) probe: Option<u32>,
}

/// The packets of a report; none of what is not one. Ends where it stops making sense.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = Packet> {
    let (head, entries) = bytes.split_at_checked(HEAD).unwrap_or_default();
    let word =
        |at: usize| head.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map_or(0, |b| i64::from_le_bytes(*b));
    let count = match head {
        [VERSION, _, low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    Reader { rest: entries, left: count, sent: word(4), size: 0, at: word(12) }
}

struct Reader<'a> {
    rest: &'a [u8],
    left: u16,
    /// Of the entry before.
    sent: i64,
    size: u32,
    at: i64,
}

impl Iterator for Reader<'_> {
    type Item = Packet;

    #[inline]
    fn next(&mut self) -> Option<Packet> {
        self.left = self.left.checked_sub(1)?;
        let (flags, rest) = self.rest.split_first()?;
        self.rest = rest;
        if flags & SAME_SIZE == 0 {
            self.size = u32::try_from(self.varint()?).ok()?;
        }
        self.sent = self.sent.wrapping_add(self.signed()?);
        if flags & TIMED != 0 {
            self.at = self.at.wrapping_add(self.signed()?);
        }
        if self.sent.unsigned_abs().max(self.at.unsigned_abs()) > LATEST || self.size > LARGEST {
            return None;
        }
        let probe = if flags & PROBE != 0 { Some(self.varint()? as u32) } else { None };
        Some(Packet {
            sent: self.sent,
            size: self.size,
            arrived: flags & ARRIVED != 0,
            was_lost: flags & WAS_LOST != 0,
            at: (flags & TIMED != 0).then_some(self.at),
            probe,
        })
    }
}

impl Reader<'_> {
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    #[inline]
    fn signed(&mut self) -> Option<i64> {
        self.varint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that the plugin `rtpfb` writes; its test has the same.
    fn version_1() -> Vec<u8> {
        let mut bytes = vec![1, 1, 5, 0];
        bytes.extend_from_slice(&1_000_000u64.to_le_bytes());
        bytes.extend_from_slice(&(-500i64).to_le_bytes());
        bytes.extend_from_slice(&[0b00101, 0xb0, 9, 0, 0]);
        bytes.extend_from_slice(&[0b01000, 0]);
        bytes.extend_from_slice(&[0b00111, 90, 0x90, 0x4e, 0x84, 0x52]);
        bytes.extend_from_slice(&[0b11101, 1, 0xf3, 3, 0xac, 2]);
        bytes.extend_from_slice(&[0b01001, 0]);
        bytes
    }

    #[test]
    fn version_1_is_read_as_it_is_written() {
        let packet = |sent, size, at: Option<i64>| Packet {
            sent,
            size,
            arrived: at.is_some(),
            was_lost: false,
            at,
            probe: None,
        };
        let expected = [
            packet(1_000_000, 1200, Some(-500)),
            packet(1_000_000, 1200, None),
            Packet { was_lost: true, ..packet(1_005_000, 90, Some(4_750)) },
            Packet { probe: Some(300), ..packet(1_004_999, 90, Some(4_500)) },
            Packet { arrived: true, ..packet(1_004_999, 90, None) },
        ];
        assert_eq!(read(&version_1()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn another_version_and_what_is_cut_short_are_not_read() {
        let whole = version_1();
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).count() < 5, "{len}");
        }
        let other = [&[2], &whole[1..]].concat();
        assert_eq!(read(&other).count(), 0);
        // Times of no clock, and a size of no packet.
        for entry in [&[0b00001, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0b00001, 0xff, 0xff, 7, 0]] {
            let wild = [&whole[..20], entry].concat();
            assert_eq!(read(&wild).count(), 0);
        }
        // A varint without end, and more entries announced than there are.
        let endless = [&whole[..20], &[0b00001], &[0xff; 30][..]].concat();
        assert_eq!(read(&endless).count(), 0);
        let lying = [&[1, 0, 0xff, 0xff], &whole[4..]].concat();
        assert_eq!(read(&lying).count(), 5);
    }
}
