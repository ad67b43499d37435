//! How packets go: a burst is walked chain member by chain member, one call per instance.

use crate::event::Event;
use crate::frame::FrameKind;
use crate::guest::{Batch, Note, Out, Replaced, Scope, Token};
use crate::packet::{Kind, Packet, RtcpPacket, RtpPacket};
use crate::rtcp;
use crate::session::{Action, Direction, Hop, InstanceId, Malformed, Owner, SessionId, StreamId};
use crate::shard::{Alarm, Datagram, Output, Shard};
use crate::time::Instant;

/// A packet on its way.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) session: SessionId,
    /// `None` for RTCP and for RTP of an SSRC that no stream has.
    pub(crate) stream: Option<StreamId>,
    /// Members that it has still to pass are counted from the wire: on a read, those from `next` on; on a write, those
    /// below `next`.
    pub(crate) next: u16,
    pub(crate) state: State,
    pub(crate) packet: Packet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On its way.
    Going,
    /// Shown to a transform of the current step, which has not handed it on yet.
    Waiting,
}

/// One member's step of a walk, while its transforms are called.
pub(crate) struct Step<'a> {
    pub(crate) direction: Direction,
    /// The member, counted from the wire.
    pub(crate) member: u16,
    pub(crate) slots: &'a mut Vec<Slot>,
    /// What goes on, in order, each with the place it belongs to: that of the last packet of the burst before it.
    moves: Vec<(u32, Moved)>,
    /// Whether anything was added or handed on in another order than it came.
    disordered: bool,
}

#[derive(Debug)]
enum Moved {
    Slot(u32),
    New(Box<Slot>),
}

/// How often plugins may answer each other's packets with packets within one call into the shard.
const MAX_ROUNDS: usize = 32;

impl Shard {
    /// Puts a datagram at the wire's end of its session's chain.
    pub(crate) fn enter_read(&mut self, now: Instant, datagram: Datagram, slots: &mut Vec<Slot>) {
        let Datagram { session: id, kind, bytes } = datagram;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.counts.read += 1;
        let (stream, packet) = match kind {
            Kind::Rtp => match RtpPacket::take(bytes) {
                Ok(mut packet) => {
                    packet.time = now;
                    let stream = session.stream(Direction::Read, packet.ssrc());
                    let info = stream.and_then(|stream| self.streams.get(stream)).map(|stream| &stream.info);
                    if let Some(info) = info
                        && info.ssrc_retransmission == Some(packet.ssrc())
                        && info.payload_type_retransmission == Some(packet.payload_type())
                        && let Some(original) = packet.unwrap_rtx(info.ssrc, info.payload_type)
                    {
                        session.counts.unwrapped += 1;
                        packet = original;
                    }
                    (stream, Packet::Rtp(packet))
                }
                Err((_, bytes)) => return self.malformed(id, Direction::Read, kind, bytes),
            },
            Kind::Rtcp => {
                if rtcp::check(&bytes).is_err() {
                    return self.malformed(id, Direction::Read, kind, bytes);
                }
                let mut packet = RtcpPacket::plain(bytes);
                packet.time = now;
                (None, Packet::Rtcp(packet))
            }
        };
        slots.push(Slot { session: id, stream, next: 0, state: State::Going, packet });
    }

    /// Puts a packet at the application's end of its session's chain.
    pub(crate) fn enter_write(&mut self, now: Instant, id: SessionId, mut packet: Packet, slots: &mut Vec<Slot>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.counts.written += 1;
        let stream = match &mut packet {
            Packet::Rtp(packet) => {
                packet.time = now;
                session.stream(Direction::Write, packet.ssrc())
            }
            Packet::Rtcp(packet) => {
                packet.time = now;
                None
            }
            Packet::Malformed(kind, bytes) => {
                let (kind, bytes) = (*kind, bytes.clone());
                return self.malformed(id, Direction::Write, kind, bytes);
            }
        };
        let next = session.members.len() as u16;
        slots.push(Slot { session: id, stream, next, state: State::Going, packet });
    }

    fn malformed(&mut self, id: SessionId, direction: Direction, kind: Kind, bytes: bytes::Bytes) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.counts.malformed += 1;
        if session.malformed == Malformed::Forward {
            let packet = Packet::Malformed(kind, bytes);
            self.deliver(direction, Slot { session: id, stream: None, next: 0, state: State::Going, packet });
        }
    }

    /// Takes the packets through what is left of their sessions' chains, and delivers them. Leaves `slots` empty.
    pub(crate) fn walk(&mut self, now: Instant, direction: Direction, slots: &mut Vec<Slot>) {
        let lengths = |shard: &Self, slots: &[Slot]| {
            let length = |slot: &Slot| shard.sessions.get(slot.session).map_or(0, |session| session.members.len());
            slots.iter().map(length).max().unwrap_or(0) as u16
        };
        match direction {
            Direction::Read => {
                let first = slots.iter().map(|slot| slot.next).min().unwrap_or(0);
                for member in first..lengths(self, slots) {
                    self.step(now, direction, member, slots);
                }
            }
            Direction::Write => {
                let last = slots.iter().map(|slot| slot.next).max().unwrap_or(0);
                for member in (0..last).rev() {
                    self.step(now, direction, member, slots);
                }
            }
        }
        for slot in slots.drain(..) {
            self.deliver(direction, slot);
        }
    }

    fn deliver(&mut self, direction: Direction, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot.session) else { return };
        match (direction, slot.packet) {
            (Direction::Read, packet) => {
                session.counts.delivered += 1;
                self.output.push_back(Output::Application { session: slot.session, stream: slot.stream, packet });
            }
            (Direction::Write, Packet::Rtcp(rtcp)) => {
                if session.rtcp_out.is_empty() {
                    self.talkers.push(slot.session);
                }
                session.rtcp_out.push(rtcp.bytes);
            }
            (Direction::Write, packet) => {
                session.counts.sent += 1;
                self.output.push_back(Output::Wire { session: slot.session, packet });
            }
        }
    }

    /// Whether a slot is about to pass `member`.
    pub(crate) fn stands_before(direction: Direction, member: u16, slot: &Slot) -> bool {
        match direction {
            Direction::Read => slot.next == member,
            Direction::Write => slot.next == member + 1,
        }
    }

    /// What the member does with a packet.
    fn hop(&mut self, direction: Direction, member: u16, slot: &Slot) -> Option<&mut Hop> {
        let member = usize::from(member);
        match (slot.stream, &slot.packet) {
            (Some(stream), _) => self.streams.get_mut(stream)?.hops.get_mut(member),
            (None, Packet::Rtcp(_)) => {
                Some(self.sessions.get_mut(slot.session)?.members.get_mut(member)?.rtcp(direction))
            }
            (None, _) => Some(self.sessions.get_mut(slot.session)?.members.get_mut(member)?.unbound(direction)),
        }
    }

    /// Takes all packets that stand before `member` past it.
    fn step(&mut self, now: Instant, direction: Direction, member: u16, slots: &mut Vec<Slot>) {
        let past = match direction {
            Direction::Read => member + 1,
            Direction::Write => member,
        };
        let mut transforms: smallvec::SmallVec<[InstanceId; 4]> = smallvec::SmallVec::new();
        let mut closed = false;
        let mut revived = false;
        for at in 0..slots.len() {
            if !Self::stands_before(direction, member, &slots[at]) {
                continue;
            }
            // Seating a member calls into its instance, which must not have packets of this step yet: hence first.
            if !revived && self.hop(direction, member, &slots[at]).is_some_and(|hop| hop.action == Action::Revive) {
                self.revive_all(now, direction, member, slots);
                revived = true;
            }
            let slot = &mut slots[at];
            let rtp = !matches!(slot.packet, Packet::Rtcp(_));
            let limit = self.config.batch_frames;
            let hop = match (slot.stream, rtp) {
                (Some(stream), _) => self.streams.get_mut(stream).and_then(|s| s.hops.get_mut(usize::from(member))),
                (None, rtp) => {
                    let member =
                        self.sessions.get_mut(slot.session).and_then(|s| s.members.get_mut(usize::from(member)));
                    member.map(|m| if rtp { m.unbound(direction) } else { m.rtcp(direction) })
                }
            };
            let Some(hop) = hop else {
                slot.next = past;
                continue;
            };
            if hop.action == Action::Pass && !hop.history {
                slot.next = past;
                continue;
            }
            if hop.action == Action::Closed {
                hop.packets += 1;
                hop.dropped += 1;
                slot.state = State::Waiting;
                closed = true;
                continue;
            }
            let Some(instance) = self.instances.get_mut(hop.instance) else {
                slot.next = past;
                continue;
            };
            let guest = instance.guest_mut();
            if hop.history
                && let Packet::Rtp(packet) = &slot.packet
                && let Some(bound) = guest.streams.get_mut(hop.handle)
                && bound.info.ssrc == packet.ssrc()
                && let Some(history) = &mut bound.history
            {
                history.push(packet, now);
            }
            let kind = match (rtp, direction) {
                (true, Direction::Read) => FrameKind::ReadRtp,
                (true, Direction::Write) => FrameKind::WriteRtp,
                (false, Direction::Read) => FrameKind::ReadRtcp,
                (false, Direction::Write) => FrameKind::WriteRtcp,
            };
            match hop.action {
                Action::Observe(view) => {
                    hop.packets += 1;
                    slot.next = past;
                    let batch = &mut guest.batch;
                    if batch.is_empty() {
                        self.waiting.push_back((now, hop.instance));
                    }
                    batch.push(now, kind, hop.handle, &slot.packet, view, Token::OBSERVED);
                    let instance = hop.instance;
                    if !rtp && !self.prompt.contains(&instance) {
                        self.prompt.push(instance);
                    }
                    if batch.tokens.len() >= limit && !batch.urgent {
                        self.flush(now, instance);
                    }
                }
                Action::Transform(view) => {
                    hop.packets += 1;
                    slot.state = State::Waiting;
                    guest.batch.push(now, kind, hop.handle, &slot.packet, view, at as u32);
                    if !transforms.contains(&hop.instance) {
                        transforms.push(hop.instance);
                    }
                }
                Action::Pass | Action::Closed | Action::Revive => slot.next = past,
            }
        }
        if transforms.is_empty() && !closed {
            return;
        }
        let mut step = Step { direction, member, slots, moves: Vec::new(), disordered: false };
        for instance in transforms {
            self.call_batch(now, instance, Some(&mut step));
        }
        self.finish(step);
    }

    /// Puts what goes on in its order, and counts what does not.
    fn finish(&mut self, step: Step<'_>) {
        let Step { direction, member, slots, mut moves, disordered } = step;
        for slot in slots.iter().filter(|slot| slot.state == State::Waiting) {
            if self.hop(direction, member, slot).is_some_and(|hop| hop.action != Action::Closed) {
                self.count_dropped(direction, member, slot);
            }
        }
        if !disordered {
            slots.retain(|slot| slot.state != State::Waiting);
            return;
        }
        let mut from: Vec<Option<Slot>> = slots.drain(..).map(Some).collect();
        let mut touched = vec![false; from.len()];
        for (_, moved) in &moves {
            if let Moved::Slot(at) = moved {
                touched[*at as usize] = true;
            }
        }
        for (at, slot) in from.iter().enumerate() {
            if !touched[at] && slot.as_ref().is_some_and(|slot| slot.state == State::Going) {
                moves.push((at as u32, Moved::Slot(at as u32)));
            }
        }
        moves.sort_by_key(|(anchor, _)| *anchor);
        slots.extend(moves.into_iter().filter_map(|(_, moved)| match moved {
            Moved::Slot(at) => from[at as usize].take(),
            Moved::New(slot) => Some(*slot),
        }));
    }

    pub(crate) fn count_dropped(&mut self, direction: Direction, member: u16, slot: &Slot) {
        if let Some(hop) = self.hop(direction, member, slot) {
            hop.dropped += 1;
        }
    }

    /// Hands an instance what waits for it. A batch that packets wait for is left to the step that they are in.
    pub(crate) fn flush(&mut self, now: Instant, id: InstanceId) {
        let batch = self.instances.get(id).map(|instance| &instance.guest().batch);
        if batch.is_some_and(|batch| !batch.is_empty() && !batch.urgent) {
            self.call_batch(now, id, None);
        }
    }

    pub(crate) fn call_batch(&mut self, now: Instant, id: InstanceId, step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        match instance.process(now) {
            Ok(()) => self.absorb_batch(now, id, step),
            Err(fault) => self.fail(now, id, fault, None, step),
        }
    }

    /// Takes what a call into an instance brought about that was not a batch.
    pub(crate) fn absorb(&mut self, now: Instant, id: InstanceId) {
        self.take_effects(now, id, &mut Batch::default(), None);
    }

    /// Takes what a batch brought about, and leaves the batch empty.
    pub(crate) fn absorb_batch(&mut self, now: Instant, id: InstanceId, step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let mut batch = std::mem::take(&mut instance.guest_mut().batch);
        self.take_effects(now, id, &mut batch, step);
        batch.clear();
        if let Some(instance) = self.instances.get_mut(id) {
            instance.guest_mut().batch = batch;
        }
    }

    fn take_effects(&mut self, now: Instant, id: InstanceId, batch: &mut Batch, mut step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let mut effects = instance.take_effects();
        if let Some(step) = &mut step {
            for (token, attributes, changed) in batch.attributes.drain(..) {
                let slot = batch.tokens.get(token as usize).map_or(Token::OBSERVED, |token| token.slot);
                if let Some(slot) = step.slots.get_mut(slot as usize).filter(|_| changed) {
                    slot.packet.set_attributes(attributes);
                }
            }
        }
        let waiting = batch.tokens.iter().map(|token| token.slot).filter(|slot| *slot != Token::OBSERVED);
        let mut anchor = waiting.min().unwrap_or(0);
        for out in effects.out.drain(..) {
            match (out, &mut step) {
                (Out::Handed { token, replaced }, Some(step)) => {
                    let Some(at) = batch.tokens.get(token as usize).map(|token| token.slot) else { continue };
                    step.hand_on(at, &mut anchor, replaced);
                }
                (Out::Added { token, packet }, Some(step)) => {
                    let Some(at) = batch.tokens.get(token as usize).map(|token| token.slot) else { continue };
                    step.add_in_place(at, &mut anchor, packet);
                }
                (Out::Handed { .. } | Out::Added { .. }, None) => {}
                (Out::Rtp { stream, packet }, step) => {
                    let Some(bound) = self.instances[id].guest().streams.get(stream) else { continue };
                    let (seat, key, direction) = (bound.seat, bound.stream, Direction::of_stream(bound.local));
                    self.emit(id, seat, direction, Some(key), packet.into(), step.as_deref_mut(), anchor);
                }
                (Out::Rtcp { seat, packets }, step) => {
                    let mut packet = RtcpPacket::plain(packets);
                    packet.time = now;
                    self.emit(id, seat, Direction::Write, None, packet.into(), step.as_deref_mut(), anchor);
                }
            }
        }
        for (scope, at) in effects.wakes.drain(..) {
            let alarm = match scope {
                Scope::Session(seat) => Alarm::Session(id, seat),
                Scope::Stream(stream) => Alarm::Stream(id, stream),
            };
            self.wheel.insert(at, alarm);
        }
        for (seat, note) in std::mem::take(&mut effects.notes) {
            self.note(id, seat, note);
        }
        if let Some(instance) = self.instances.get_mut(id) {
            instance.reuse(effects);
        }
    }

    /// Sends a packet of a plugin's own on its way: into the running step where it goes the same way, so that the order
    /// in which the plugin wrote is kept, and otherwise on a walk of its own.
    #[expect(clippy::too_many_arguments, reason = "one call, and all of them are of different types")]
    fn emit(
        &mut self,
        id: InstanceId,
        seat: u32,
        direction: Direction,
        stream: Option<StreamId>,
        packet: Packet,
        step: Option<&mut Step<'_>>,
        anchor: u32,
    ) {
        let Some(Owner { session, member }) = self.instances[id].guest().seats.get(seat).map(|seat| seat.owner) else {
            return;
        };
        let Some(owner) = self.sessions.get_mut(session) else { return };
        let Some(index) = owner.member(member) else { return };
        owner.members[index].emitted += 1;
        let next = match direction {
            Direction::Read => index as u16 + 1,
            Direction::Write => index as u16,
        };
        let slot = Slot { session, stream, next, state: State::Going, packet };
        match step {
            Some(step) if step.direction == direction && usize::from(step.member) == index => {
                step.disordered = true;
                step.moves.push((anchor, Moved::New(Box::new(slot))));
            }
            _ => self.emitted[direction as usize].push(slot),
        }
    }

    /// Of a call that failed nothing takes effect, but what it logged says why.
    pub(crate) fn hear_last_words(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let notes = std::mem::take(&mut instance.guest_mut().call.effects.notes);
        for (seat, note) in notes.into_iter().filter(|(_, note)| matches!(note, Note::Log { .. })) {
            self.note(id, seat, note);
        }
    }

    fn note(&mut self, id: InstanceId, seat: u32, note: Note) {
        let guest = self.instances[id].guest();
        let owner =
            guest.seats.get(seat).or_else(|| guest.seats.iter().next().map(|(_, seat)| seat)).map(|seat| seat.owner);
        let Some(from) = owner.and_then(|owner| self.culprit(owner.session, owner.member)) else { return };
        self.tell(match note {
            Note::Log { level, message } => Event::Log { from, level, message },
            Note::Published { name, json } => Event::Published { from, name, json },
        });
    }

    /// Walks what plugins emitted, and what others emit because of it.
    pub(crate) fn drain_emitted(&mut self, now: Instant) {
        for _ in 0..MAX_ROUNDS {
            if self.emitted.iter().all(Vec::is_empty) {
                return;
            }
            for direction in [Direction::Read, Direction::Write] {
                let mut slots = std::mem::take(&mut self.emitted[direction as usize]);
                self.walk(now, direction, &mut slots);
                if self.emitted[direction as usize].is_empty() {
                    self.emitted[direction as usize] = slots;
                }
            }
            for instance in std::mem::take(&mut self.prompt) {
                self.flush(now, instance);
            }
        }
        let discarded = self.emitted.iter().map(Vec::len).sum();
        if discarded > 0 {
            self.emitted.iter_mut().for_each(Vec::clear);
            self.tell(Event::Storm { discarded });
        }
    }

    /// Wakes whoever's timer is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.wheel.expire(now, &mut due);
        let mut called: Vec<InstanceId> = Vec::new();
        for alarm in due {
            let (id, kind, handle) = match alarm {
                Alarm::Session(id, seat) => (id, FrameKind::SessionTimer, seat),
                Alarm::Stream(id, stream) => (id, FrameKind::StreamTimer, stream),
                Alarm::Restart(session, member) => {
                    self.restart(now, session, member);
                    continue;
                }
            };
            let Some(instance) = self.instances.get_mut(id) else { continue };
            let guest = instance.guest_mut();
            let wake = match alarm {
                Alarm::Session(..) => guest.seats.get_mut(handle).map(|seat| &mut seat.wake),
                _ => guest.streams.get_mut(handle).map(|bound| &mut bound.wake),
            };
            // Set again, cleared or gone since.
            let Some(wake) = wake.filter(|wake| wake.is_some_and(|at| at <= now)) else { continue };
            *wake = None;
            guest.batch.push_timer(now, kind, handle);
            if guest.batch.tokens.len() >= self.config.batch_frames {
                self.flush(now, id);
            } else if !called.contains(&id) {
                called.push(id);
            }
        }
        for id in called {
            self.flush(now, id);
        }
    }
}

impl Step<'_> {
    /// Lets the packet at `at` go on.
    fn hand_on(&mut self, at: u32, anchor: &mut u32, replaced: Option<Replaced>) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        match (replaced, &mut slot.packet) {
            (Some(Replaced::Header(mut header)), Packet::Rtp(packet)) => {
                // Padding is at the end of the payload, which stays: so does the bit that announces it.
                header[0] = header[0] & !0x20 | packet.header()[0] & 0x20;
                packet.replace_header(&header);
            }
            (Some(Replaced::Packet(with)), Packet::Rtp(packet)) => packet.replace_packet(with),
            (Some(Replaced::Rtcp(bytes)), Packet::Rtcp(packet)) => packet.bytes = bytes,
            _ => {}
        }
        self.release(at);
        self.disordered |= at < *anchor;
        *anchor = at.max(*anchor);
        self.moves.push((*anchor, Moved::Slot(at)));
    }

    /// Marks the packet at `at` as past this member.
    pub(crate) fn release(&mut self, at: u32) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        slot.state = State::Going;
        slot.next = match self.direction {
            Direction::Read => self.member + 1,
            Direction::Write => self.member,
        };
    }

    /// Puts a packet where the one at `at` was.
    fn add_in_place(&mut self, at: u32, anchor: &mut u32, mut packet: Packet) {
        let Some(original) = self.slots.get(at as usize) else { return };
        packet.set_attributes(original.packet.attributes().clone());
        let next = match self.direction {
            Direction::Read => self.member + 1,
            Direction::Write => self.member,
        };
        let slot = Slot { session: original.session, stream: original.stream, next, state: State::Going, packet };
        *anchor = at.max(*anchor);
        self.disordered = true;
        self.moves.push((*anchor, Moved::New(Box::new(slot))));
    }
}
