//! How packets go: each past the members that only watch, until one has to be called for it; and those of a burst that
//! wait for the same instance in one call.

use std::collections::VecDeque;
use std::hint::black_box;
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use slotmap::SlotMap;
use smallvec::SmallVec;

use crate::binding::View;
use crate::effects::Step;
use crate::event::Event;
use crate::guest::Sight;
use crate::hops::{Action, Crowd, Hop};
use crate::instance::Instance;
use crate::log::{Hurry, LONGEST, Log};
use crate::packet::{self, Fixed, Kind, Packet, RtcpPacket, RtpPacket};
use crate::rtcp;
use crate::session::{Direction, InstanceId, Session, SessionId, Stream, StreamId};
use crate::shard::{Datagram, End, Shard, ShardConfig};
use crate::time::Instant;

/// Time between two events that tell of what a peer sends and nobody can read.
const MALFORMED_PAUSE: Duration = Duration::from_secs(10);

/// A packet on its way, as it will leave. Its stream is `None` for RTCP and for RTP of an SSRC that no stream has.
///
/// Members that it has still to pass are counted from the wire: on a read, those from `next` on; on a write, those below
/// `next`.
pub(crate) use crate::shard::Output as Slot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On its way, or at its end.
    Going,
    /// Before a member that has to be called with it.
    Stopped,
    /// Before a member that has to be seated first.
    Unseated,
    /// Shown to a transform of the current step, which has not handed it on yet.
    Waiting,
    /// Taken out by a transform of the current step, which holds it.
    Taken,
}

impl Slot {
    /// A packet that stands at `next`.
    #[inline]
    pub(crate) fn new(
        session: SessionId,
        stream: Option<StreamId>,
        direction: Direction,
        next: u16,
        packet: Packet,
    ) -> Self {
        let to = match direction {
            Direction::Read => End::Application,
            Direction::Write => End::Wire,
        };
        Self { session, stream, to, packet, next, state: State::Going }
    }

    /// Whether it is among those that go on when a step ends.
    pub(crate) fn stays(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Taken)
    }

    /// Whether the packet waits for this member to be called.
    pub(crate) fn stopped_at(&self, direction: Direction, member: u16) -> bool {
        self.stopped() && self.member(direction) == member
    }

    fn stopped(&self) -> bool {
        matches!(self.state, State::Stopped | State::Unseated)
    }

    /// The member that it is before.
    fn member(&self, direction: Direction) -> u16 {
        ahead(direction, self.next)
    }

    /// How far it has still to go, for comparison with others of its direction.
    pub(crate) fn left(&self, direction: Direction) -> u16 {
        match direction {
            Direction::Read => u16::MAX - self.next,
            Direction::Write => self.next,
        }
    }

    /// The member that it has passed last, if it has passed one.
    pub(crate) fn passed(&self, direction: Direction) -> usize {
        match direction {
            Direction::Read => usize::from(self.next).wrapping_sub(1),
            Direction::Write => self.next.into(),
        }
    }

    /// Puts it behind a member, on its way.
    pub(crate) fn pass(&mut self, direction: Direction, member: u16) {
        self.state = State::Going;
        self.next = behind(direction, member);
    }
}

/// The member, counted from the wire, that a packet at `next` is before; none has that number when there is none.
fn ahead(direction: Direction, next: u16) -> u16 {
    match direction {
        Direction::Read => next,
        Direction::Write => next.wrapping_sub(1),
    }
}

/// Where a packet stands that has passed `member`.
pub(crate) fn behind(direction: Direction, member: u16) -> u16 {
    match direction {
        Direction::Read => member + 1,
        Direction::Write => member,
    }
}

/// Where a packet stands that is before `member`.
fn before(direction: Direction, member: u16) -> u16 {
    match direction {
        Direction::Read => member,
        Direction::Write => member + 1,
    }
}

/// What the member does with a packet.
#[inline]
fn hop<'a>(
    sessions: &'a mut SlotMap<SessionId, Session>,
    streams: &'a mut SlotMap<StreamId, Stream>,
    direction: Direction,
    member: u16,
    slot: &Slot,
) -> Option<&'a mut Hop> {
    let member = usize::from(member);
    let Slot { session, stream, packet, .. } = slot;
    match stream {
        Some(stream) => streams.get_mut(*stream)?.hops.get_mut(member),
        None => sessions.get_mut(*session)?.hops(direction, packet).get_mut(member),
    }
}

/// How far a packet goes by itself.
enum Passed {
    /// Past all members.
    All,
    /// Up to one that has to be called with it, or to be seated first: the state says which.
    Stopped(State),
    /// Past one whose batch is full now.
    Full(InstanceId),
    /// Past those that follow, or up to them where their log has no room: these have to read what is in it.
    Told(Hurry),
    /// Nowhere: who of those ahead can be shown one frame is still to be found.
    Scattered,
    /// Up to one of whose values for this header extension few are left.
    Short { extension: u8, instance: InstanceId, handle: u32, member: u16 },
}

/// Whom packets are shown to.
struct Audience<'a> {
    instances: &'a mut SlotMap<InstanceId, Box<Instance>>,
    /// The session's.
    log: &'a mut Log,
    waiting: &'a mut VecDeque<(Instant, InstanceId)>,
    prompt: &'a mut Vec<InstanceId>,
    config: &'a ShardConfig,
}

impl Audience<'_> {
    /// Takes a packet past all of a crowd.
    #[inline(always)]
    fn show_crowd(&mut self, crowd: &mut Crowd, sight: &Sight<'_>) -> Passed {
        self.log.push(&sight.words, crowd.handle, sight.header, crowd.members);
        crowd.packets += 1;
        let calm = crowd.is_in_order(sight.header, sight.repaired()) && self.config.patient;
        let hurry = if calm { self.log.hurry(crowd.members) } else { Some(Hurry::ALL) };
        hurry.map_or(Passed::All, Passed::Told)
    }

    /// Takes a packet past a member that need not be called with it now.
    #[inline(always)]
    fn pass(&mut self, now: Instant, direction: Direction, member: u16, hop: &mut Hop, packet: &mut Packet) -> Passed {
        match hop.action {
            Action::Observe(view) => self.show(now, member, hop, view, &Sight::new(direction, packet)),
            Action::Follow => self.show(now, member, hop, View::Headers, &Sight::new(direction, packet)),
            Action::Stamp(extension) => self.stamp(now, hop, member, extension, packet),
            Action::Pass => {
                if hop.history
                    && let Packet::Rtp(packet) = packet
                    && let Some(instance) = self.instances.get_mut(hop.instance)
                {
                    instance.guest_mut().keep(now, hop.handle, packet);
                }
                Passed::All
            }
            Action::Transform(_) | Action::Closed => Passed::Stopped(State::Stopped),
            Action::Revive => Passed::Stopped(State::Unseated),
        }
    }

    /// Puts the next value of a member's header extension on a packet.
    #[inline(always)]
    fn stamp(&mut self, now: Instant, hop: &mut Hop, member: u16, extension: u8, packet: &mut Packet) -> Passed {
        let (Packet::Rtp(packet), Some(instance)) = (packet, self.instances.get_mut(hop.instance)) else {
            return Passed::All;
        };
        if !instance.guest_mut().stamp(now, hop.handle, extension, packet, false) {
            return Passed::Short { extension, instance: hop.instance, handle: hop.handle, member };
        }
        hop.packets += 1;
        Passed::All
    }

    /// Shows a packet to a member that watches.
    #[inline(always)]
    fn show(&mut self, now: Instant, member: u16, hop: &mut Hop, view: View, sight: &Sight<'_>) -> Passed {
        let Some(instance) = self.instances.get_mut(hop.instance) else { return Passed::All };
        if hop.history
            && let Packet::Rtp(packet) = sight.packet
        {
            instance.guest_mut().keep(now, hop.handle, packet);
        }
        hop.packets += 1;
        let batch = &mut instance.waiting;
        if batch.hurry(now) {
            self.waiting.push_back((now, hop.instance));
        }
        self.log.catch_up(member.into(), batch);
        batch.push(sight, hop.handle, view, None);
        if matches!(sight.packet, Packet::Rtcp(_)) && !self.prompt.contains(&hop.instance) {
            self.prompt.push(hop.instance);
        }
        // A batch that packets wait for is left to the step that they are in.
        if batch.is_full(self.config.batch_frames) && !batch.urgent() {
            Passed::Full(hop.instance)
        } else {
            Passed::All
        }
    }
}

impl Shard {
    /// Puts a datagram at the wire's end of its session's chain.
    #[inline]
    pub(crate) fn enter_read(&mut self, now: Instant, datagram: Datagram, slots: &mut Vec<Slot>) {
        let Datagram { session: id, kind, bytes } = datagram;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.counts.read += 1;
        let direction = Direction::Read;
        let enter = |stream, next, packet| Slot::new(id, stream, direction, next, packet);
        if kind == Kind::Rtcp {
            if let Err(error) = rtcp::check(&bytes) {
                return self.enter_malformed(now, id, kind, bytes, &error, slots);
            }
            return slots.push(enter(None, 0, Packet::Rtcp(RtcpPacket { time: now, ..RtcpPacket::plain(bytes) })));
        }
        let header = match packet::check(&bytes) {
            Ok(header) => header,
            Err(error) => return self.enter_malformed(now, id, kind, bytes, &error, slots),
        };
        let fixed = Fixed(&bytes);
        let source = session.source(direction, fixed.ssrc());
        session.log.warm();
        let stream = source.map(|source| source.stream);
        let retransmission = source.is_some_and(|source| source.retransmissions == Some(fixed.payload_type()));
        // Made where it stays, for moving it is a good part of what reading costs: unlike a push, this makes room first.
        slots.extend(iter::once_with(|| enter(stream, 0, Packet::Rtp(RtpPacket::checked(bytes, header, now)))));
        if retransmission && let Some(slot) = slots.last_mut() {
            self.unwrap_rtx(slot);
        }
    }

    /// Counts what a peer sent that cannot be read, and tells of it now and then. If it may go on, it is for no member to see.
    #[cold]
    fn enter_malformed(
        &mut self,
        now: Instant,
        id: SessionId,
        kind: Kind,
        bytes: Bytes,
        error: &dyn std::fmt::Display,
        slots: &mut Vec<Slot>,
    ) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let past_all = session.members.len() as u16;
        let kept = session.malformed(kind, bytes);
        slots.extend(kept.map(|packet| Slot::new(id, None, Direction::Read, past_all, packet)));
        if session.told_malformed.is_none_or(|told| now - told >= MALFORMED_PAUSE) {
            session.told_malformed = Some(now);
            let (session_name, message, count) = (session.name.clone(), error.to_string(), session.counts.malformed);
            self.tell(Event::Malformed { session: id, session_name, message, count });
        }
    }

    /// Puts a packet that was lost in place of its retransmission (RFC 4588).
    #[cold]
    fn unwrap_rtx(&mut self, slot: &mut Slot) {
        let Slot { session, stream: Some(stream), packet: Packet::Rtp(packet), .. } = slot else {
            return;
        };
        let Some(info) = self.streams.get(*stream).map(|stream| &stream.info) else { return };
        let Some(original) = packet.unwrap_rtx(info.ssrc, info.payload_type) else { return };
        *packet = original;
        if let Some(session) = self.sessions.get_mut(*session) {
            session.counts.unwrapped += 1;
        }
    }

    /// Puts a packet at the application's end of its session's chain.
    #[inline]
    pub(crate) fn enter_write(&mut self, now: Instant, id: SessionId, packet: Packet, slots: &mut Vec<Slot>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.counts.written += 1;
        let (direction, next) = (Direction::Write, session.members.len() as u16);
        // As on the other way.
        slots.extend(iter::once_with(|| Slot::new(id, None, direction, next, packet)));
        let Some(Slot { next, stream, packet, .. }) = slots.last_mut() else { return };
        match packet {
            Packet::Rtp(packet) => {
                packet.time = now;
                *stream = session.source(direction, packet.ssrc()).map(|source| source.stream);
                session.log.warm();
            }
            Packet::Rtcp(packet) => packet.time = now,
            Packet::Malformed(kind, bytes) => {
                *next = 0;
                match session.malformed(*kind, std::mem::take(bytes)) {
                    Some(kept) => *packet = kept,
                    None => drop(slots.pop()),
                }
            }
        }
    }

    /// Looks at what the walk will ask of every packet's stream: where there are many sessions, little of it is in the
    /// processor's cache, and what is asked for at once comes at once and not one after the other.
    pub(crate) fn warm(&self, slots: &[Slot]) {
        // First the streams, then what they point to.
        self.each_stream(slots, |stream| {
            black_box(stream.hops.len());
        });
        self.each_stream(slots, |stream| stream.hops.warm());
    }

    /// Looks at the streams of packets, once where several of one come in a row.
    #[inline]
    fn each_stream(&self, slots: &[Slot], look: impl Fn(&Stream)) {
        let mut last = None;
        for stream in slots.iter().map(|slot| slot.stream) {
            if stream != last
                && let Some(stream) = stream.and_then(|stream| self.streams.get(stream))
            {
                look(stream);
            }
            last = stream;
        }
    }

    /// Takes the packets through what is left of their sessions' chains, and delivers them. Leaves `slots` empty.
    pub(crate) fn walk(&mut self, now: Instant, direction: Direction, slots: &mut Vec<Slot>) {
        while let Some(member) = self.advance_all(now, direction, slots) {
            self.step(now, direction, member, slots);
        }
        self.deliver(direction, slots);
    }

    /// Takes every packet as far as it goes by itself. The answer is the first member that packets stand before, in the
    /// way they go.
    fn advance_all(&mut self, now: Instant, direction: Direction, slots: &mut [Slot]) -> Option<u16> {
        let mut nearest = None;
        for slot in slots {
            if slot.state == State::Going {
                let Slot { next, state, session, stream, packet, .. } = slot;
                loop {
                    match self.advance(now, direction, (*session, *stream, packet), next) {
                        Passed::All => break,
                        Passed::Stopped(before) => {
                            *state = before;
                            break;
                        }
                        Passed::Full(instance) => self.flush(now, instance),
                        Passed::Told(hurry) => self.hasten(now, *session, hurry),
                        Passed::Scattered => stream.iter().for_each(|stream| self.find_crowd(*stream)),
                        Passed::Short { extension, instance, handle, member } => {
                            // Else its member has failed, and what becomes of the packet is another question.
                            if self.stamp_last(now, (instance, handle), extension, packet) {
                                *next = behind(direction, member);
                                let stream = stream.and_then(|stream| self.streams.get_mut(stream));
                                let hop = stream.and_then(|stream| stream.hops.get_mut(member.into()));
                                hop.into_iter().for_each(|hop| hop.packets += 1);
                            }
                        }
                    }
                }
            }
            if slot.stopped() {
                let member = slot.member(direction);
                nearest = Some(nearest.map_or(member, |nearest: u16| match direction {
                    Direction::Read => nearest.min(member),
                    Direction::Write => nearest.max(member),
                }));
            }
        }
        nearest
    }

    /// Takes a packet past the members ahead of it for as long as none has to be called.
    #[inline]
    fn advance(
        &mut self,
        now: Instant,
        direction: Direction,
        (session, stream, packet): (SessionId, Option<StreamId>, &mut Packet),
        next: &mut u16,
    ) -> Passed {
        // As after the last transform: nobody has to be asked.
        if direction == Direction::Write && *next == 0 {
            return Passed::All;
        }
        let Self { sessions, streams, instances, waiting, prompt, config, .. } = self;
        let Some(session) = sessions.get_mut(session) else { return Passed::All };
        let (log, own) = session.log_and_hops(direction, packet);
        let mut audience = Audience { instances, log, waiting, prompt, config };
        let hops = match stream {
            Some(stream) => match streams.get_mut(stream) {
                Some(stream) if stream.hops.stale => return Passed::Scattered,
                Some(stream) => &mut stream.hops,
                None => return Passed::All,
            },
            None => own,
        };
        while let Some(member) = hops.ahead(direction, *next) {
            let crowd = &mut hops.crowd;
            if crowd.members != 0 && crowd.first == member {
                let sight = Sight::new(direction, packet);
                if sight.plain && sight.header.len() <= LONGEST {
                    if !audience.log.fits(sight.header.len()) {
                        return Passed::Told(audience.log.full());
                    }
                    *next = behind(direction, crowd.last);
                    match audience.show_crowd(crowd, &sight) {
                        Passed::All => continue,
                        told => return told,
                    }
                }
            }
            let Some(hop) = hops.get_mut(usize::from(member)) else { break };
            match audience.pass(now, direction, member, hop, packet) {
                Passed::All => *next = behind(direction, member),
                full @ Passed::Full(_) => {
                    *next = behind(direction, member);
                    return full;
                }
                stopped => {
                    *next = before(direction, member);
                    return stopped;
                }
            }
        }
        Passed::All
    }

    /// Asks a member for more values for its header extension, of which few are left, and puts the next on a packet; where none
    /// is left the member is called first. False if it has lost its instance over that.
    #[cold]
    fn stamp_last(
        &mut self,
        now: Instant,
        (id, handle): (InstanceId, u32),
        extension: u8,
        packet: &mut Packet,
    ) -> bool {
        let Packet::Rtp(packet) = packet else { return true };
        self.refill(now, id, handle);
        let stock = self.instances.get_mut(id).and_then(|instance| instance.guest_mut().stamps(handle));
        if stock.is_some_and(|(_, stamps)| stamps.next().is_none()) {
            self.flush(now, id);
        }
        let Some(instance) = self.instances.get_mut(id) else { return false };
        instance.guest_mut().stamp(now, handle, extension, packet, true)
    }

    /// Asks for more values where few are left.
    fn refill(&mut self, now: Instant, id: InstanceId, handle: u32) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some((seat, stamps)) = instance.guest_mut().stamps(handle) else { return };
        let Some(wanted) = stamps.ask() else { return };
        if instance.waiting.hurry(now) {
            self.waiting.push_back((now, id));
        }
        instance.waiting.push_refill(now, seat, wanted);
    }

    /// What the member does with a packet.
    pub(crate) fn hop(&mut self, direction: Direction, member: u16, slot: &Slot) -> Option<&mut Hop> {
        hop(&mut self.sessions, &mut self.streams, direction, member, slot)
    }

    /// Calls a member with all packets that wait for it.
    fn step(&mut self, now: Instant, direction: Direction, member: u16, slots: &mut Vec<Slot>) {
        // Seating a member calls into its instance, which must not have packets of this step yet: hence first.
        if slots.iter().any(|slot| slot.state == State::Unseated && slot.stopped_at(direction, member)) {
            self.revive_all(now, direction, member, slots);
        }
        let mut called: SmallVec<[InstanceId; 4]> = SmallVec::new();
        let mut closed = false;
        let Self { sessions, streams, instances, .. } = self;
        for (at, slot) in slots.iter_mut().enumerate() {
            if !slot.stopped_at(direction, member) {
                continue;
            }
            let Some(hop) = hop(sessions, streams, direction, member, slot) else {
                slot.pass(direction, member);
                continue;
            };
            match hop.action {
                Action::Transform(view) => {
                    let Some(instance) = instances.get_mut(hop.instance) else {
                        slot.pass(direction, member);
                        continue;
                    };
                    hop.packets += 1;
                    slot.state = State::Waiting;
                    let Hop { handle, history, instance: id, .. } = *hop;
                    if history && let Packet::Rtp(packet) = &slot.packet {
                        instance.guest_mut().keep(now, handle, packet);
                    }
                    if let Some(Session { log, .. }) = sessions.get_mut(slot.session) {
                        log.catch_up(member.into(), &mut instance.waiting);
                    }
                    instance.waiting.push(&Sight::new(direction, &slot.packet), handle, view, Some(at as u32));
                    if !called.contains(&id) {
                        called.push(id);
                    }
                }
                Action::Closed => {
                    hop.packets += 1;
                    hop.dropped += 1;
                    slot.state = State::Waiting;
                    closed = true;
                }
                // It was seated just now, and need not be called with this packet after all.
                Action::Pass | Action::Observe(_) | Action::Follow | Action::Stamp(_) => slot.state = State::Going,
                // It has lost its instance since the packet stopped before it: the next round seats it first.
                Action::Revive if slot.state == State::Stopped => slot.state = State::Unseated,
                Action::Revive => slot.pass(direction, member),
            }
        }
        if called.is_empty() && !closed {
            return;
        }
        let mut step = Step::new(direction, member, slots);
        for instance in called {
            self.call_batch(now, instance, Some(&mut step));
        }
        self.finish(step);
    }

    /// Puts packets that are through their chains where they are asked for. Leaves `slots` empty.
    fn deliver(&mut self, direction: Direction, slots: &mut Vec<Slot>) {
        let Self { sessions, talkers, .. } = self;
        // Packets of one session in a row are counted at once.
        let mut run = (SessionId::default(), 0);
        let count = |sessions: &mut SlotMap<SessionId, Session>, (id, packets): (SessionId, u64)| {
            if let Some(session) = sessions.get_mut(id) {
                match direction {
                    Direction::Read => session.counts.delivered += packets,
                    Direction::Write => session.counts.sent += packets,
                }
            }
        };
        slots.retain_mut(|slot| {
            let Slot { session: id, packet, .. } = slot;
            if *id != run.0 {
                count(sessions, std::mem::take(&mut run));
                if !sessions.contains_key(*id) {
                    return false;
                }
                run.0 = *id;
            }
            match packet {
                Packet::Rtcp(rtcp) if direction == Direction::Write => {
                    let Some(session) = sessions.get_mut(*id) else { return false };
                    session.speak(*id, std::mem::take(&mut rtcp.bytes), talkers);
                    false
                }
                _ => {
                    run.1 += 1;
                    true
                }
            }
        });
        count(sessions, run);
        if self.output.is_empty() {
            // Mostly all that came before has been taken: then the burst is what is asked for, where it stands.
            std::mem::swap(slots, &mut self.output);
        } else {
            self.output.append(slots);
        }
    }
}
