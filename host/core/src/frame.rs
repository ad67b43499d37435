//! The frames of the batched lane, as `batch` in the contract lays them out.

use std::ops::Range;

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 24;

/// What a frame tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    ReadRtp = 0,
    WriteRtp = 1,
    ReadRtcp = 2,
    WriteRtcp = 3,
    SessionTimer = 4,
    StreamTimer = 5,
    RefillStamps = 6,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        use FrameKind::{ReadRtcp, ReadRtp, RefillStamps, SessionTimer, StreamTimer, WriteRtcp, WriteRtp};
        [ReadRtp, WriteRtp, ReadRtcp, WriteRtcp, SessionTimer, StreamTimer, RefillStamps]
            .get(usize::from(byte))
            .copied()
    }

    /// Whether the frame's handle is a stream rather than a session.
    pub(crate) fn names_stream(self) -> bool {
        matches!(self, Self::ReadRtp | Self::WriteRtp | Self::StreamTimer)
    }
}

/// A frame's head as it is written.
pub(crate) type Words = [u64; HEAD / 8];

/// The number of a packet that nothing can be asked about, as it has gone on and has no attributes.
pub(crate) const UNNAMED: u32 = u32::MAX;

/// Flag: the packet has attributes.
pub(crate) const HAS_ATTRIBUTES: u8 = 1;
/// Flag: the packet was lost and came back.
pub(crate) const REPAIRED: u8 = 2;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) handle: u32,
    pub(crate) time: u64,
    pub(crate) size: u16,
    pub(crate) padding: u8,
    pub(crate) packet: u32,
}

impl Head {
    /// In whole words: read back at once, what was stored in smaller parts would stall.
    #[inline]
    pub(crate) fn to_words(self, included: usize) -> Words {
        let about = u64::from(self.kind as u8) | u64::from(self.flags) << 8 | (included as u64 & 0xffff) << 16;
        let size = u64::from(self.size) | u64::from(self.padding) << 16;
        [about | u64::from(self.handle) << 32, self.time, size | u64::from(self.packet) << 32]
    }

    fn to_bytes(self, included: usize) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.to_words(included)) {
            *place = word.to_le_bytes();
        }
        bytes
    }
}

/// Frames, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// With room behind the last frame, so that a short one is written with stores of fixed size.
    bytes: Vec<u8>,
    len: usize,
}

/// Bytes of a header that is copied with stores of fixed size, at most. Nearly all are this short.
pub(crate) const SHORT: usize = 64;

impl Frames {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a frame. `included` are the header, the packet's parts, or the compound; together at most 65535 bytes.
    #[inline(never)]
    pub(crate) fn push(&mut self, head: Head, included: [&[u8]; 3]) {
        let size = included.iter().map(|part| part.len()).sum();
        if self.bytes.len() < self.len + HEAD + size {
            self.make_room(HEAD + size);
        }
        let head = head.to_bytes(size);
        for part in [&head[..]].into_iter().chain(included) {
            if let Some(place) = self.bytes.get_mut(self.len..self.len + part.len()) {
                place.copy_from_slice(part);
                self.len += part.len();
            }
        }
    }

    /// Appends whole frames.
    pub(crate) fn append(&mut self, frames: &[u8]) {
        if self.bytes.len() < self.len + frames.len() {
            self.make_room(frames.len());
        }
        let Some(place) = self.bytes.get_mut(self.len..self.len + frames.len()) else { return };
        place.copy_from_slice(frames);
        self.len += frames.len();
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, need: usize) {
        // By half: each instance has two of these, and a session may have six instances.
        self.bytes.resize(self.len + (self.len / 2).max(1024) + need, 0);
    }

    /// Appends a frame that includes a header only: what most frames are. `head` is one of this length, of handle and packet 0.
    #[inline(always)]
    pub(crate) fn push_header(&mut self, head: &Words, handle: u32, packet: u32, header: &[u8]) {
        if header.len() > SHORT || self.bytes.len() < self.len + HEAD + SHORT {
            self.make_room(HEAD + SHORT.max(header.len()));
        }
        if let Some(place) = self.bytes.get_mut(self.len..) {
            self.len += write_header(place, head, handle, packet, header).unwrap_or_default();
        }
    }
}

/// Writes a frame that includes a header only, as [`Frames::push_header`] does. The answer is its length, if there was room.
#[inline(always)]
pub(crate) fn write_header(place: &mut [u8], head: &Words, handle: u32, packet: u32, header: &[u8]) -> Option<usize> {
    let (place, rest) = place.split_first_chunk_mut::<HEAD>()?;
    let rest = rest.get_mut(..header.len())?;
    let words = [head[0] | u64::from(handle) << 32, head[1], head[2] | u64::from(packet) << 32];
    for (place, word) in place.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    copy_short(rest, header);
    Some(HEAD + header.len())
}

/// Copies a few bytes, as headers are; `to` is at least as long. Loads and stores of fixed size, two of them overlapping where
/// the length lies between, take a quarter of the time of a copy of any length.
#[inline]
pub(crate) fn copy_short(to: &mut [u8], from: &[u8]) {
    #[inline(always)]
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
        let Some(to) = to.get_mut(..from.len()) else { return };
        if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
            *to = *from;
        }
        if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk()) {
            *to = *from;
        }
    }
    match from.len() {
        32..=64 => ends::<32>(to, from),
        16..32 => ends::<16>(to, from),
        8..16 => ends::<8>(to, from),
        len => to[..len].copy_from_slice(from),
    }
}

/// Takes apart frames that the host wrote itself.
pub(crate) fn iter(frames: &[u8]) -> impl Iterator<Item = (Head, &[u8])> {
    let mut rest = frames;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<HEAD>()?;
        let (included, after) = after.split_at_checked(usize::from(u16::from_le_bytes([head[2], head[3]])))?;
        rest = after;
        Some((
            Head {
                kind: FrameKind::from_byte(head[0])?,
                flags: head[1],
                handle: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
                time: u64::from_le_bytes([
                    head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
                ]),
                size: u16::from_le_bytes([head[16], head[17]]),
                padding: head[18],
                packet: u32::from_le_bytes([head[20], head[21], head[22], head[23]]),
            },
            included,
        ))
    })
}

/// Why frames that a plugin handed on are a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {index} given to burst.next ends at byte {need} of {have}")]
pub(crate) struct Truncated {
    index: usize,
    need: usize,
    have: usize,
}

/// Takes apart frames that a plugin wrote, into packet and where its bytes are: of the head, only `packet` and `included`
/// count.
pub(crate) fn handed_on(frames: &[u8]) -> impl Iterator<Item = Result<(u32, Range<usize>), Truncated>> {
    let mut at = 0;
    let mut index = 0;
    std::iter::from_fn(move || {
        let rest = &frames[at..];
        if rest.is_empty() {
            return None;
        }
        let included = rest.get(2..4).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
        let (start, need) = (at + HEAD, at + HEAD + included);
        let Some(frame) = frames.get(at..need) else {
            at = frames.len();
            return Some(Err(Truncated { index, need, have: frames.len() }));
        };
        at = need;
        index += 1;
        Some(Ok((u32::from_le_bytes([frame[20], frame[21], frame[22], frame[23]]), start..need)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(head: Head, included: usize) -> Words {
        Head { handle: 0, packet: 0, ..head }.to_words(included)
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let head = Head {
            kind: FrameKind::WriteRtcp,
            flags: REPAIRED,
            handle: 7,
            time: 1 << 40,
            size: 5,
            padding: 2,
            packet: 3,
        };
        let mut frames = Frames::default();
        frames.push(head, [b"ab", b"c", b"de"]);
        let second = Head { handle: 8, packet: 5, ..head };
        frames.push_header(&blank(head, 40), 8, 5, &[7; 40]);
        frames.push(Head { packet: 4, ..head }, [b"", b"", b""]);
        let read: Vec<_> = iter(frames.as_bytes()).collect();
        assert_eq!(read, [(head, &b"abcde"[..]), (second, &[7; 40]), (Head { packet: 4, ..head }, &b""[..])]);
        let handed = handed_on(frames.as_bytes()).map(|frame| frame.map(|(packet, at)| (packet, at.len())));
        assert_eq!(handed.collect::<Result<Vec<_>, _>>(), Ok(vec![(3, 5), (5, 40), (4, 0)]));
    }

    #[test]
    fn headers_of_every_length_are_written_whole_and_nothing_beside_them() {
        let head = Head { kind: FrameKind::ReadRtp, flags: 0, handle: 1, time: 0, size: 3, padding: 0, packet: 0 };
        let header: Vec<u8> = (1..=80).collect();
        let mut frames = Frames::default();
        for round in 0..2 {
            frames.clear();
            (0..=80).for_each(|len| frames.push_header(&blank(head, len), 1, 0, &header[..len]));
            for (len, (_, included)) in iter(frames.as_bytes()).enumerate() {
                assert_eq!(included, &header[..len], "round {round}");
            }
            assert_eq!(iter(frames.as_bytes()).count(), 81);
        }
    }

    #[test]
    fn truncated_frames_are_named() {
        let mut frames = Frames::default();
        let head = Head { kind: FrameKind::ReadRtp, flags: 0, handle: 1, time: 0, size: 3, padding: 0, packet: 0 };
        frames.push(head, [b"abc", b"", b""]);
        let frames = frames.as_bytes();
        for cut in 1..frames.len() {
            let last = handed_on(&frames[..cut]).last().unwrap();
            assert!(last.is_err(), "{cut} bytes of a frame were taken for one");
        }
    }
}
