//! Headers that several instances are shown alike: written once, and copied into the batch of each when it is handed over.
//!
//! The members of a chain that only watch headers see the same frame under the same number, so a packet that goes past three
//! of them is one frame and not three. Who is called meanwhile for another reason takes what it has not read before that, so
//! that each sees its events in order.

use std::collections::HashMap;

use slotmap::{SlotMap, new_key_type};
use smallvec::SmallVec;

use crate::binding::View;
use crate::frame::{Frames, Words};
use crate::guest::Batch;
use crate::hops::{Action, Crowd};
use crate::instance::Instance;
use crate::session::{Direction, InstanceId, Member, MemberState, Stream, StreamId};
use crate::shard::Shard;
use crate::time::Instant;

new_key_type! {
    pub(crate) struct LogId;
}

/// Instances that read a log, in their chain's order. A session has one log, so that what it brings is in order.
pub(crate) type Readers = SmallVec<[InstanceId; 8]>;

/// Frames of packets for some of its readers each.
#[derive(Debug)]
pub(crate) struct Log {
    readers: Readers,
    frames: Frames,
    count: u32,
    runs: Vec<Run>,
    /// How far each reader has read.
    read: SmallVec<[Read; 8]>,
    /// A bit for each reader that has something to read.
    unread: u64,
    /// When its first frame was entered.
    since: Instant,
}

/// Frames in a row for the same readers.
#[derive(Clone, Copy, Debug)]
struct Run {
    readers: u64,
    /// Frames of the log up to its end, and their bytes.
    frames: u32,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Read {
    run: usize,
    frames: u32,
    bytes: usize,
}

impl Log {
    fn new(readers: Readers) -> Self {
        let read = SmallVec::from_elem(Read::default(), readers.len());
        let (frames, runs) = (Frames::default(), Vec::new());
        Self { readers, frames, count: 0, runs, read, unread: 0, since: Instant::ZERO }
    }

    /// When its first frame was entered, if there is one.
    #[inline]
    pub(crate) fn since(&self) -> Option<Instant> {
        (self.count > 0).then_some(self.since)
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Appends a packet's header for some readers. The answer has a bit for each of them that had nothing to read before.
    #[inline]
    pub(crate) fn push(&mut self, now: Instant, head: &Words, stream: u32, header: &[u8], readers: u64) -> u64 {
        if self.count == 0 {
            self.since = now;
        }
        self.frames.push_header(head, stream, self.count, header);
        self.count += 1;
        let (frames, bytes) = (self.count, self.frames.as_bytes().len());
        match self.runs.last_mut() {
            Some(run) if run.readers == readers => *run = Run { readers, frames, bytes },
            _ => self.runs.push(Run { readers, frames, bytes }),
        }
        let new = readers & !self.unread;
        self.unread |= readers;
        new
    }

    /// Copies what a reader has not read yet into its batch.
    fn read(&mut self, reader: u8, batch: &mut Batch) {
        let bit = 1 << reader;
        self.unread &= !bit;
        let Some(read) = self.read.get_mut(usize::from(reader)) else { return };
        let frames = self.frames.as_bytes();
        for run in self.runs.get(read.run..).unwrap_or_default() {
            if run.readers & bit != 0
                && let Some(bytes) = frames.get(read.bytes..run.bytes)
            {
                batch.append(self.since, bytes, read.frames, run.frames - read.frames);
            }
            (read.frames, read.bytes) = (run.frames, run.bytes);
        }
        // The last one may go on.
        read.run = self.runs.len().saturating_sub(1);
    }

    /// Empties it and keeps its memory.
    fn clear(&mut self) {
        self.frames.clear();
        self.count = 0;
        self.runs.clear();
        self.read.fill(Read::default());
        self.unread = 0;
    }
}

/// The logs of a shard, one for each list of instances that sessions have.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    logs: SlotMap<LogId, Log>,
    by_readers: HashMap<Readers, LogId>,
}

impl Logs {
    /// The log that these instances read.
    pub(crate) fn of(&mut self, readers: Readers, instances: &mut SlotMap<InstanceId, Box<Instance>>) -> LogId {
        if let Some(known) = self.by_readers.get(&readers) {
            return *known;
        }
        let id = self.logs.insert(Log::new(readers.clone()));
        for reader in &readers {
            instances.get_mut(*reader).into_iter().for_each(|instance| instance.logs.push(id));
        }
        self.by_readers.insert(readers, id);
        id
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: LogId) -> Option<&mut Log> {
        self.logs.get_mut(id)
    }

    pub(crate) fn get(&self, id: LogId) -> Option<&Log> {
        self.logs.get(id)
    }

    /// Copies into an instance's batch what it has not read of any log.
    #[inline]
    pub(crate) fn catch_up(&mut self, instance: &mut Instance) {
        if !instance.unread.is_empty() {
            self.read_all(instance);
        }
    }

    fn read_all(&mut self, instance: &mut Instance) {
        for (log, reader) in std::mem::take(&mut instance.unread) {
            if let Some(log) = self.logs.get_mut(log) {
                log.read(reader, &mut instance.waiting);
            }
        }
    }

    /// Empties a log after all of its readers have caught up, and forgets it if one of them has ended.
    pub(crate) fn clear(&mut self, id: LogId) {
        let Some(log) = self.logs.get_mut(id) else { return };
        log.clear();
        if self.by_readers.get(&log.readers) != Some(&id) {
            self.logs.remove(id);
        }
    }

    /// Forgets logs of which a reader ends, once the others that read them have done so.
    pub(crate) fn end(&mut self, logs: &[LogId]) {
        for id in logs {
            let Some(log) = self.logs.get(*id) else { continue };
            self.by_readers.remove(&log.readers);
            if log.count == 0 {
                self.logs.remove(*id);
            }
        }
    }
}

impl Shard {
    /// Finds the members of a stream's chain that can be shown one frame.
    #[cold]
    pub(crate) fn find_crowd(&mut self, id: StreamId) {
        let Self { sessions, streams, instances, logs, .. } = self;
        let Some(stream) = streams.get_mut(id) else { return };
        let members = sessions.get(stream.session).map(|session| session.members.as_slice()).unwrap_or_default();
        // What its session has brought so far goes before what will be in another log.
        for member in members {
            instances.get_mut(member.instance).into_iter().for_each(|instance| logs.catch_up(instance));
        }
        let readers = readers_of(members);
        let crowd = crowd(stream, &readers).map(|crowd| Crowd { log: logs.of(readers, instances), ..crowd });
        stream.hops.set_crowd(crowd.unwrap_or_default());
    }
}

/// Who reads the log of a session with these members: those of its instances that others share, so that the log is shared as
/// well, or where those are not several, its own.
fn readers_of(members: &[Member]) -> Readers {
    let of = |kind: bool| {
        let mut readers = Readers::new();
        for member in members {
            if member.state == (MemberState::Running { shared: kind }) && !readers.contains(&member.instance) {
                readers.push(member.instance);
            }
        }
        readers
    };
    let shared = of(true);
    if shared.len() > 1 { shared } else { of(false) }
}

/// The most members next to each other that watch headers of a stream and know it under one number.
fn crowd(stream: &Stream, readers: &Readers) -> Option<Crowd> {
    let (mut most, mut crowd) = (Crowd::default(), Crowd::default());
    for (member, hop) in stream.hops.busy(Direction::of_stream(stream.local)) {
        let watches = hop.action == Action::Observe(View::Headers) && !hop.history;
        let Some(reader) = readers.iter().position(|reader| watches && *reader == hop.instance) else {
            crowd = Crowd::default();
            continue;
        };
        if crowd.members == 0 || crowd.handle != hop.handle {
            crowd = Crowd { first: member, handle: hop.handle, ..Crowd::default() };
        }
        crowd.members |= 1 << member;
        crowd.readers |= 1 << reader;
        crowd.last = member;
        if crowd.members.count_ones() > most.members.count_ones() {
            most = crowd;
        }
    }
    (most.members.count_ones() > 1).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{self, FrameKind, Head};

    const HEAD: Head =
        Head { kind: FrameKind::ReadRtp, flags: 0, handle: 0, time: 7, size: 100, padding: 0, packet: 0 };

    /// Frames of streams that are numbered on.
    struct Writer {
        log: Log,
        streams: u32,
    }

    impl Writer {
        fn push(&mut self, readers: u64) -> u64 {
            self.streams += 1;
            let header = [self.streams as u8; 20];
            self.log.push(Instant::from_nanos(5), &HEAD.to_words(header.len()), self.streams, &header, readers)
        }
    }

    fn writer(readers: usize) -> Writer {
        Writer { log: Log::new(SmallVec::from_elem(InstanceId::default(), readers)), streams: 0 }
    }

    /// Which streams' frames a batch has, in order; they are numbered by their places, and whole.
    fn streams(batch: &Batch) -> Vec<u32> {
        let frames: Vec<_> = frame::iter(batch.frames.as_bytes()).collect();
        assert_eq!(frames.len(), batch.count as usize);
        for (at, (head, bytes)) in frames.iter().enumerate() {
            assert_eq!(*head, Head { handle: head.handle, packet: at as u32, ..HEAD });
            assert_eq!(*bytes, [head.handle as u8; 20]);
        }
        frames.iter().map(|(head, _)| head.handle).collect()
    }

    #[test]
    fn each_reads_what_is_for_it_once_and_in_order() {
        let mut writer = writer(3);
        let news: Vec<_> = [0b011, 0b011, 0b100, 0b111, 0b001].map(|readers| writer.push(readers)).into();
        assert_eq!(news, [0b011, 0, 0b100, 0, 0]);
        let mut batches: [Batch; 3] = Default::default();
        for (reader, expected) in [(0, vec![1, 2, 4, 5]), (1, vec![1, 2, 4]), (2, vec![3, 4])] {
            writer.log.read(reader, &mut batches[usize::from(reader)]);
            assert_eq!(streams(&batches[usize::from(reader)]), expected, "{reader}");
            assert_eq!(batches[usize::from(reader)].since(), Some(Instant::from_nanos(5)));
        }
    }

    #[test]
    fn a_log_is_forgotten_with_one_of_its_readers_but_not_unread() {
        let mut instances = SlotMap::with_key();
        let readers = |ids: [u64; 2]| ids.iter().map(|id| slotmap::KeyData::from_ffi(*id).into()).collect::<Readers>();
        let mut logs = Logs::default();
        let [one, other] = [[1, 2], [1, 3]].map(|ids| logs.of(readers(ids), &mut instances));
        assert_eq!(logs.of(readers([1, 2]), &mut instances), one);
        if let Some(log) = logs.get_mut(one) {
            log.push(Instant::ZERO, &HEAD.to_words(12), 1, &[0; 12], 0b10);
        }
        logs.end(&[one, other]);
        assert!(logs.get(one).is_some() && logs.get(other).is_none());
        assert_ne!(logs.of(readers([1, 2]), &mut instances), one, "who comes now has another");
        logs.clear(one);
        assert_eq!((logs.logs.len(), logs.by_readers.len()), (1, 1));
    }

    #[test]
    fn who_has_read_early_goes_on_where_it_was() {
        let mut writer = writer(2);
        let mut batch = Batch::default();
        writer.push(0b11);
        writer.log.read(0, &mut batch);
        assert_eq!(writer.push(0b11), 0b01, "the one has something to read again, the other still has");
        writer.push(0b11);
        writer.push(0b10);
        writer.log.read(0, &mut batch);
        assert_eq!(streams(&batch), [1, 2, 3]);
        let mut other = Batch::default();
        writer.log.read(1, &mut other);
        assert_eq!(streams(&other), [1, 2, 3, 4]);
        writer.log.read(1, &mut other);
        assert_eq!(streams(&other), [1, 2, 3, 4], "nothing is read twice");
        writer.log.clear();
        assert_eq!(writer.push(0b01), 0b01);
        batch.clear();
        writer.log.read(0, &mut batch);
        assert_eq!(streams(&batch), [5]);
    }
}
