//! Headers of a session's packets that can wait: written down once for all members that follow, and copied into the batch of
//! each when it is called for this session.
//!
//! A member that follows has no use for a header before its timer is due, RTCP comes or a packet is missing. Until then they
//! lie here, with the session, and no instance is called for one packet of each of many sessions in turn. The members of a chain
//! see the same frame under the same number, so a packet that goes past three of them is one frame and not three.

use slotmap::SlotMap;
use smallvec::SmallVec;

use crate::frame::{self, HEAD, SHORT, Words};
use crate::guest::Batch;
use crate::hops::{Action, Crowd};
use crate::session::{Direction, InstanceId, Owner, Place, Session, SessionId, Stream, StreamId};
use crate::shard::Shard;
use crate::time::Instant;

/// Bytes of frames: some twenty of them. They lie with the session, which every packet asks for, as what is elsewhere in memory takes
/// longer to reach than to write.
const ROOM: usize = 896;
/// Bytes of a header that is kept here, at most. Nearly all are this short.
pub(crate) const LONGEST: usize = SHORT;

/// Frames of a session, each for some of its members, named by their places in the chain. There is one for all its streams, so
/// that what it brings is in order. Laid out as it is written: what each packet asks for lies together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Log {
    /// A bit for each member that has something to read.
    unread: u64,
    /// And for each whose timer is set, so that it will be called for this session.
    patient: u64,
    /// And for each that the latest frames are for.
    members: u64,
    /// How many frames there are, and their bytes.
    end: End,
    frames: [u8; ROOM],
    /// Before the latest, frames for other members: whom for, and where they end.
    runs: SmallVec<[(u64, End); 1]>,
    /// How far those have come who have read a part.
    read: SmallVec<[(u16, End); 2]>,
}

/// Who has to read a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hurry {
    read: u64,
    /// And of these, who is to be shown it as soon as an observer.
    soon: u64,
}

impl Hurry {
    pub(crate) const ALL: Self = Self { read: u64::MAX, soon: u64::MAX };
}

/// So many frames, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    frames: u16,
    bytes: u16,
}

impl Default for Log {
    fn default() -> Self {
        let (runs, read) = (SmallVec::new(), SmallVec::new());
        Self { unread: 0, patient: 0, members: 0, end: End::default(), frames: [0; ROOM], runs, read }
    }
}

impl Log {
    /// Looks at where the next frame will be.
    #[inline]
    pub(crate) fn warm(&self) {
        std::hint::black_box(self.frames.get(usize::from(self.end.bytes) + HEAD));
    }

    /// Whether there is room for a header of so many bytes.
    #[inline]
    pub(crate) fn fits(&self, header: usize) -> bool {
        usize::from(self.end.bytes) + HEAD + header <= ROOM
    }

    /// Which of these members, who have something to read, have to read it now: those whose timers are not set.
    #[inline]
    pub(crate) fn hurry(&self, members: u64) -> Option<Hurry> {
        let soon = members & !self.patient;
        (soon != 0).then_some(Hurry { read: soon, soon })
    }

    /// There is no more room: all have to read, and those whose timers are set can wait on.
    #[cold]
    pub(crate) fn full(&self) -> Hurry {
        Hurry { read: u64::MAX, soon: !self.patient }
    }

    /// Notes whether a member's timer is set.
    pub(crate) fn set_patient(&mut self, member: usize, patient: bool) {
        self.patient = self.patient & !(1 << member) | u64::from(patient) << member;
    }

    /// Makes room for a member at `index`, as in the chain. Nobody has anything to read then.
    pub(crate) fn insert_member(&mut self, index: usize) {
        let before = (1 << index) - 1;
        self.patient = self.patient & before | (self.patient & !before) << 1;
    }

    pub(crate) fn remove_member(&mut self, index: usize) {
        let before = (1 << index) - 1;
        self.patient = self.patient & before | self.patient >> 1 & !before;
    }

    /// Appends a packet's header, which fits, for some members.
    #[inline(always)]
    pub(crate) fn push(&mut self, head: &Words, stream: u32, header: &[u8], members: u64) {
        if members != self.members {
            self.turn(members);
        }
        let End { frames, bytes } = self.end;
        if let Some(place) = self.frames.get_mut(bytes.into()..)
            && let Some(len) = frame::write_header(place, head, stream, frame::UNNAMED, header)
        {
            self.end = End { frames: frames + 1, bytes: bytes + len as u16 };
            self.unread |= members;
        }
    }

    /// Ends the frames for those members that the latest are for.
    #[cold]
    fn turn(&mut self, members: u64) {
        if self.end.frames > 0 {
            self.runs.push((self.members, self.end));
        }
        self.members = members;
    }

    /// Copies what a member has not read yet into its instance's batch.
    #[inline]
    pub(crate) fn catch_up(&mut self, member: usize, batch: &mut Batch) {
        if self.unread & 1 << member != 0 {
            self.read(member, batch);
        }
    }

    /// Forgets what a member has not read yet.
    pub(crate) fn forget(&mut self, member: usize) {
        self.catch_up(member, &mut Batch::default());
    }

    fn read(&mut self, member: usize, batch: &mut Batch) {
        let bit = 1 << member;
        self.unread &= !bit;
        let known = self.read.iter().position(|(known, _)| usize::from(*known) == member);
        let mut read = known.map_or_else(End::default, |at| self.read[at].1);
        for (members, end) in self.runs.iter().copied().chain([(self.members, self.end)]) {
            if end.frames <= read.frames {
                continue;
            }
            if members & bit != 0
                && let Some(bytes) = self.frames.get(read.bytes.into()..end.bytes.into())
            {
                batch.append(bytes, (end.frames - read.frames).into());
            }
            read = end;
        }
        match known {
            _ if self.unread == 0 => self.clear(),
            Some(at) => self.read[at].1 = read,
            None => self.read.push((member as u16, read)),
        }
    }

    fn clear(&mut self) {
        self.end = End::default();
        self.runs.clear();
        self.read.clear();
    }
}

impl Shard {
    /// Hands a member what it is still to be shown, before it is called for another reason.
    pub(crate) fn flush_member(&mut self, now: Instant, id: SessionId, index: usize) {
        let Some(Session { log, places, .. }) = self.sessions.get_mut(id) else { return };
        let Some(Place { instance, .. }) = places.get(index).copied() else { return };
        if let Some(running) = self.instances.get_mut(instance) {
            log.catch_up(index, &mut running.waiting);
        }
        self.flush(now, instance);
    }

    /// Has members read their session's log.
    pub(crate) fn hasten(&mut self, now: Instant, id: SessionId, hurry: Hurry) {
        for instance in self.unload(now, id, hurry) {
            self.flush(now, instance);
        }
    }

    /// Moves what these members have not read of a session's log into the batches of their instances. The answer is whose batch is
    /// full.
    pub(crate) fn unload(&mut self, now: Instant, id: SessionId, hurry: Hurry) -> SmallVec<[InstanceId; 4]> {
        let mut full = SmallVec::new();
        let Self { sessions, instances, waiting, config, .. } = self;
        let Some(Session { log, places, .. }) = sessions.get_mut(id) else { return full };
        let mut reading = hurry.read & log.unread;
        while reading != 0 {
            let index = reading.trailing_zeros() as usize;
            reading &= reading - 1;
            let Some((id, instance)) =
                places.get(index).and_then(|Place { instance, .. }| Some((*instance, instances.get_mut(*instance)?)))
            else {
                log.forget(index);
                continue;
            };
            let batch = &mut instance.waiting;
            if hurry.soon & 1 << index != 0 && batch.hurry(now) {
                waiting.push_back((now, id));
            }
            log.read(index, batch);
            // Who has an instance alone has half a batch: it takes memory there too.
            let most = if instance.key.is_some() { config.batch_frames } else { config.batch_frames / 2 };
            // A batch that packets wait for is left to the step that they are in.
            if batch.is_full(most) && !batch.urgent() {
                full.push(id);
            }
        }
        full
    }

    /// Finds the members of a stream's chain that can be shown one frame.
    #[cold]
    pub(crate) fn find_crowd(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(id) {
            let crowd = crowd(stream);
            stream.hops.set_crowd(crowd);
        }
    }
}

/// The log of a member's session, and the member's place.
#[inline]
pub(crate) fn log_of(sessions: &mut SlotMap<SessionId, Session>, owner: Owner) -> Option<(&mut Log, usize)> {
    let session = sessions.get_mut(owner.session)?;
    let member = session.member(owner.member)?;
    Some((&mut session.log, member))
}

/// The most members next to each other that follow a stream and know it under one number.
fn crowd(stream: &Stream) -> Crowd {
    let (mut most, mut crowd) = (Crowd::default(), Crowd::default());
    for (member, hop) in stream.hops.busy(Direction::of_stream(stream.local)) {
        if hop.action != Action::Follow || hop.history {
            crowd = Crowd::default();
            continue;
        }
        if crowd.members == 0 || crowd.handle != hop.handle {
            crowd = Crowd { first: member, handle: hop.handle, ssrc: stream.info.ssrc, ..Crowd::default() };
        }
        crowd.members |= 1 << member;
        crowd.last = member;
        if crowd.members.count_ones() > most.members.count_ones() {
            most = crowd;
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameKind, Head};

    const HEAD: Head =
        Head { kind: FrameKind::ReadRtp, flags: 0, handle: 0, time: 7, size: 100, padding: 0, packet: 0 };

    /// A log, and frames of streams that are numbered on.
    #[derive(Default)]
    struct Writer {
        log: Log,
        streams: u32,
    }

    impl Writer {
        fn push(&mut self, members: u64) {
            self.streams += 1;
            let header = [self.streams as u8; 20];
            self.log.push(&HEAD.to_words(header.len()), self.streams, &header, members);
        }

        fn read(&mut self, member: usize, batch: &mut Batch) {
            self.log.catch_up(member, batch);
        }
    }

    /// Which streams' frames a batch has, in order, and whole.
    fn streams(batch: &Batch) -> Vec<u32> {
        let frames: Vec<_> = frame::iter(batch.frames.as_bytes()).collect();
        assert_eq!(frames.len(), batch.count as usize);
        for (head, bytes) in &frames {
            assert_eq!(*head, Head { handle: head.handle, packet: frame::UNNAMED, ..HEAD });
            assert_eq!(*bytes, [head.handle as u8; 20]);
        }
        frames.iter().map(|(head, _)| head.handle).collect()
    }

    #[test]
    fn each_reads_what_is_for_it_once_and_in_order() {
        let mut writer = Writer::default();
        [0b011, 0b011, 0b100, 0b111, 0b001].into_iter().for_each(|members| writer.push(members));
        let mut batches: [Batch; 3] = Default::default();
        for (member, expected) in [(0, vec![1, 2, 4, 5]), (1, vec![1, 2, 4]), (2, vec![3, 4])] {
            assert_eq!(writer.log.end.frames, 5);
            writer.read(member, &mut batches[member]);
            assert_eq!(streams(&batches[member]), expected, "{member}");
            assert_eq!(batches[member].since(), None, "it can wait");
        }
        assert_eq!(writer.log.end.frames, 0, "all have read it");
    }

    #[test]
    fn who_has_read_early_goes_on_where_it_was() {
        let mut writer = Writer::default();
        let mut batch = Batch::default();
        writer.push(0b11);
        writer.read(0, &mut batch);
        writer.push(0b11);
        writer.push(0b10);
        writer.push(0b11);
        writer.read(0, &mut batch);
        assert_eq!(streams(&batch), [1, 2, 4]);
        let mut other = Batch::default();
        writer.read(1, &mut other);
        assert_eq!(streams(&other), [1, 2, 3, 4]);
        writer.read(1, &mut other);
        assert_eq!(streams(&other), [1, 2, 3, 4], "nothing is read twice");
        writer.push(0b01);
        batch.clear();
        writer.read(0, &mut batch);
        assert_eq!(streams(&batch), [5]);
    }

    #[test]
    fn who_has_a_timer_can_wait_wherever_it_is_in_the_chain() {
        let mut log = Log::default();
        [0, 2, 63].into_iter().for_each(|member| log.set_patient(member, true));
        log.set_patient(0, false);
        let soon = |log: &Log| log.hurry(0b1111).map(|hurry| (hurry.read, hurry.soon));
        assert_eq!(soon(&log), Some((0b1011, 0b1011)));
        log.remove_member(63);
        log.insert_member(2);
        assert_eq!(soon(&log), Some((0b0111, 0b0111)));
        log.insert_member(4);
        log.remove_member(0);
        assert_eq!(soon(&log), Some((0b1011, 0b1011)));
        assert_eq!(log.hurry(0b0100), None);
        assert_eq!(log.full(), Hurry { read: u64::MAX, soon: !0b0100 });
    }
}
