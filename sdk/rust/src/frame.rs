//! The frames of the batched lane: a head of 24 bytes and what it announces (`wit/batch.wit`).

use crate::packet::Facts;
use crate::short;
use crate::time::Instant;

pub(crate) const HEAD: usize = 24;

/// What a frame is about.
pub(crate) mod kind {
    pub(crate) const READ_RTP: u8 = 0;
    pub(crate) const WRITE_RTP: u8 = 1;
    pub(crate) const READ_RTCP: u8 = 2;
    pub(crate) const WRITE_RTCP: u8 = 3;
    pub(crate) const SESSION_TIMER: u8 = 4;
    pub(crate) const STREAM_TIMER: u8 = 5;
    pub(crate) const REFILL_STAMPS: u8 = 6;
}

/// A frame's head, as it came.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a>(&'a [u8; HEAD]);

impl Head<'_> {
    #[inline]
    fn word(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Kind, flags, bytes included and handle.
    #[inline]
    fn about(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn kind(&self) -> u8 {
        self.0[0]
    }

    #[inline]
    pub(crate) fn included(&self) -> usize {
        usize::from(u16::from_le_bytes([self.0[2], self.0[3]]))
    }

    /// A stream's or session's id.
    #[inline]
    pub(crate) fn handle(&self) -> u32 {
        self.word(4)
    }

    #[inline]
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            packet: self.word(20),
            time: Instant::from_nanos(u64::from(self.word(8)) | u64::from(self.word(12)) << 32),
            size: self.word(16) as u16,
            padding: self.0[18],
            repaired: self.0[1] & 2 != 0,
            attributes: self.0[1] & 1 != 0,
        }
    }

    /// Appends a frame with this head and other bytes: none for "as it came".
    #[inline]
    pub(crate) fn hand_on(&self, bytes: &[u8], burst: &mut Burst) {
        let mut head = *self.0;
        let included = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        [head[2], head[3]] = included.to_le_bytes();
        let Some((place, rest)) = burst.room(HEAD + bytes.len()).split_first_chunk_mut() else { return };
        *place = head;
        short::copy(rest, bytes);
    }
}

/// Frames to hand on, one after the other.
pub(crate) struct Burst {
    /// As long as a burst has ever been, so that room for a frame need not be cleared first.
    bytes: Vec<u8>,
    len: usize,
}

impl Burst {
    pub(crate) const fn new() -> Self {
        Burst { bytes: Vec::new(), len: 0 }
    }

    #[inline]
    pub(crate) fn frames(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Room for `len` more bytes, which then belong to the frames.
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        self.len += len;
        if self.len > self.bytes.len() {
            self.bytes.resize((2 * self.len).max(4096), 0);
        }
        self.bytes.get_mut(start..self.len).unwrap_or_default()
    }
}

/// The first frame's head.
#[inline]
pub(crate) fn first(frames: &[u8]) -> Option<Head<'_>> {
    frames.first_chunk().map(Head)
}

/// The heads of frames.
pub(crate) fn heads(mut frames: &[u8]) -> impl Iterator<Item = Head<'_>> {
    std::iter::from_fn(move || {
        let head = Head(frames.first_chunk()?);
        frames = frames.get(HEAD + head.included()..)?;
        Some(head)
    })
}

/// Takes the first frame off `frames`, whole; none if there is no whole one.
#[inline]
pub(crate) fn split<'a>(frames: &mut &'a mut [u8]) -> Option<&'a mut [u8]> {
    let len = HEAD + Head(frames.first_chunk()?).included();
    let (frame, rest) = std::mem::take(frames).split_at_mut_checked(len)?;
    *frames = rest;
    Some(frame)
}

/// The same if the frame is of this kind and about this stream; else it stays.
#[inline(always)]
pub(crate) fn split_if<'a>(frames: &mut &'a mut [u8], kind: u8, handle: u32) -> Option<(Head<'a>, &'a mut [u8])> {
    let head = Head(frames.first_chunk()?);
    // Both are in the first word, and compared at once.
    if head.about() & 0xffff_ffff_0000_00ff != u64::from(kind) | u64::from(handle) << 32 {
        return None;
    }
    parts(split(frames)?)
}

/// A frame's head and the bytes that it announces.
#[inline]
pub(crate) fn parts(frame: &mut [u8]) -> Option<(Head<'_>, &mut [u8])> {
    let (head, bytes) = frame.split_first_chunk_mut()?;
    Some((Head(head), bytes))
}
