//! What plugins write for the embedder to keep, and the bounds on it.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;

use crate::bindings::sink::Error;
use crate::guest::{Call, Guest};
use crate::session::{InstanceId, SessionId};
use crate::shard::Shard;

/// Where a member's bytes go, by a number that means something to the embedder alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SinkId(pub u32);

/// Bytes that a plugin wrote, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkWrite {
    /// Where they go: what the chain says for the plugin's place.
    pub sink: SinkId,
    /// The session that they are of.
    pub session: SessionId,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a member wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkCounts {
    /// Bytes that were taken.
    pub sink_bytes: u64,
    /// Writes that were refused, or lost because the embedder did not take them in time.
    pub sink_refused: u64,
}

/// Bytes kept for an embedder that does not take them; what comes then is lost.
const MAX_QUEUED: usize = 16 << 20;
/// A write is counted as at least so many bytes: each costs memory, also an empty one.
const LEAST: usize = 64;

/// A session's way to its sink.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    to: Option<SinkId>,
    pub(crate) counts: SinkCounts,
}

impl Outlet {
    pub(crate) fn new(to: Option<SinkId>) -> Self {
        Self { to, counts: SinkCounts::default() }
    }
}

impl Guest {
    /// Takes what a session's plugin writes, if it is within its bounds.
    pub(crate) fn sink(&mut self, number: u32, bytes: Vec<u8>) -> Result<(), Error> {
        let Call { turn, now, effects, .. } = &mut self.call;
        let seat = self.seats.get_mut(number).ok_or(Error::Unknown)?;
        let size = bytes.len().max(LEAST);
        let taken = if seat.sink.to.is_none() {
            Err(Error::Denied)
        } else if !seat.used.sink((*turn, *now), &mut effects.spent, size, &self.limits) {
            Err(Error::Quota)
        } else {
            effects.written.push((number, bytes.into()));
            Ok(())
        };
        seat.sink.counts.sink_refused += u64::from(taken.is_err());
        taken
    }
}

/// What waits for the embedder.
#[derive(Debug, Default)]
pub(crate) struct SinkQueue {
    writes: VecDeque<SinkWrite>,
    bytes: usize,
}

impl SinkQueue {
    pub(crate) fn pop(&mut self) -> Option<SinkWrite> {
        let write = self.writes.pop_front()?;
        self.bytes -= write.bytes.len().max(LEAST);
        Some(write)
    }

    /// Whether there was room for it.
    fn push(&mut self, write: SinkWrite) -> bool {
        let size = write.bytes.len().max(LEAST);
        if self.bytes + size > MAX_QUEUED {
            return false;
        }
        self.bytes += size;
        self.writes.push_back(write);
        true
    }
}

impl Shard {
    /// Takes what a call wrote.
    pub(crate) fn keep(&mut self, id: InstanceId, written: &mut Vec<(u32, Bytes)>) {
        if written.is_empty() {
            return;
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        let seats = &mut instance.guest_mut().seats;
        for (seat, bytes) in written.drain(..) {
            let Some(seat) = seats.get_mut(seat) else { continue };
            let (session, Some(sink), size) = (seat.owner.session, seat.sink.to, bytes.len() as u64) else { continue };
            let counts = &mut seat.sink.counts;
            match self.sink.push(SinkWrite { sink, session, bytes }) {
                true => counts.sink_bytes += size,
                false => counts.sink_refused += 1,
            }
        }
    }
}
