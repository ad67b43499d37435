//! What a call into an instance brought about: packets that it handed on take their places in the burst, those of its own
//! go on their way, timers are set, and what it says is told.

use slotmap::SlotMap;

use crate::burst::{Slot, State, behind};
use crate::event::Event;
use crate::fault::{Fault, FaultKind};
use crate::guest::{Batch, Effects, Guest, Note, Out, Shown};
use crate::hops::Action;
use crate::packet::{Kind, Packet, RtcpPacket, RtpPacket};
use crate::rtcp;
use crate::session::{Direction, InstanceId, Owner, Session, SessionId, StreamId};
use crate::shard::Shard;
use crate::time::Instant;

/// One member's step of a walk, while its transforms are called.
pub(crate) struct Step<'a> {
    pub(crate) direction: Direction,
    /// The member, counted from the wire.
    pub(crate) member: u16,
    pub(crate) slots: &'a mut Vec<Slot>,
    /// Once anything was added or handed on in another order than it came: what goes on, in order, each with the place it
    /// belongs to, that of the last packet of the burst before it.
    moves: Option<Vec<(u32, Moved)>>,
    /// Those of `moves` from here on are new and before the next packet that is handed on, if one is.
    loose: usize,
}

#[derive(Debug)]
enum Moved {
    Slot(u32),
    New(Box<Slot>),
}

/// How often plugins may answer each other's packets with packets within one call into the shard, as long as that takes a
/// quarter of the time that one call of theirs may, after the first round. A repaired packet that is asked for, sent, protected
/// and paced takes four.
const MAX_ROUNDS: usize = 6;

impl Shard {
    /// Puts what goes on in its order, and counts what does not.
    pub(crate) fn finish(&mut self, step: Step<'_>) {
        let Step { direction, member, slots, moves, .. } = step;
        let mut fewer = false;
        for slot in slots.iter().filter(|slot| !slot.stays()) {
            fewer = true;
            if slot.state == State::Waiting
                && let Some(hop) = self.hop(direction, member, slot).filter(|hop| hop.action != Action::Closed)
            {
                hop.dropped += 1;
            }
        }
        let Some(mut moves) = moves else {
            if fewer {
                slots.retain(Slot::stays);
            }
            return;
        };
        let mut from: Vec<Option<Slot>> = slots.drain(..).map(Some).collect();
        let mut touched = vec![false; from.len()];
        for (_, moved) in &moves {
            if let Moved::Slot(at) = moved {
                touched[*at as usize] = true;
            }
        }
        for (at, slot) in from.iter().enumerate() {
            if !touched[at] && slot.as_ref().is_some_and(Slot::stays) {
                moves.push((at as u32, Moved::Slot(at as u32)));
            }
        }
        moves.sort_by_key(|(anchor, _)| *anchor);
        slots.extend(moves.into_iter().filter_map(|(_, moved)| match moved {
            Moved::Slot(at) => from[at as usize].take(),
            Moved::New(slot) => Some(*slot),
        }));
    }

    /// Hands an instance what waits for it. A batch that packets wait for is left to the step that they are in.
    pub(crate) fn flush(&mut self, now: Instant, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !instance.waiting.is_empty() && !instance.waiting.urgent() {
            self.call_batch(now, id, None);
        }
    }

    pub(crate) fn call_batch(&mut self, now: Instant, id: InstanceId, step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if let Some(until) = instance.guest().tenant().starved_until(now) {
            return self.starve(now, id, until, step);
        }
        if instance.is_out_of_the_way() {
            let message = "its version is quarantined as its calls do not return".to_owned();
            return self.fail(now, id, Fault { kind: FaultKind::Deadline, message }, None, step);
        }
        match instance.process(now) {
            Ok(()) => self.absorb_batch(id, step),
            Err(fault) => self.fail(now, id, fault, None, step),
        }
    }

    /// Takes what a call into an instance brought about that was not a batch.
    pub(crate) fn absorb(&mut self, id: InstanceId) {
        self.take_effects(id, &mut Batch::default(), None);
    }

    /// Takes what a batch brought about, and leaves the batch empty.
    pub(crate) fn absorb_batch(&mut self, id: InstanceId, step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let mut batch = instance.take_batch();
        self.take_effects(id, &mut batch, step);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.reuse_batch(batch);
        }
    }

    fn take_effects(&mut self, id: InstanceId, batch: &mut Batch, step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let effects = instance.take_effects();
        self.apply(id, effects, batch, step);
    }

    /// Lets what calls brought about take effect.
    pub(crate) fn apply(
        &mut self,
        id: InstanceId,
        mut effects: Box<Effects>,
        batch: &mut Batch,
        mut step: Option<&mut Step<'_>>,
    ) {
        if !self.instances.contains_key(id) {
            return;
        }
        if let Some(step) = &mut step {
            step.begin();
            for (packet, attributes, _) in batch.attributes.iter_mut().filter(|(.., changed)| *changed) {
                let slot = batch.tokens.iter().find(|token| token.packet == *packet).map(|token| token.slot as usize);
                if let Some(slot) = slot.and_then(|slot| step.slots.get_mut(slot)) {
                    slot.packet.set_attributes(std::mem::take(attributes));
                }
            }
        }
        let mut anchor = match step {
            Some(_) => batch.tokens.iter().map(|token| token.slot).min().unwrap_or(0),
            None => 0,
        };
        let mut packets = effects.packets.drain(..);
        let mut holds = std::mem::take(&mut effects.holds).into_iter();
        for out in effects.out.drain(..) {
            match out {
                Out::Handed { token, start, end } => {
                    if let (Some(token), Some(step)) = (batch.token(token), &mut step) {
                        let bytes = effects.handed.get(start as usize..end as usize).unwrap_or_default();
                        step.hand_on(token.slot, &mut anchor, token.shown, bytes);
                    }
                }
                Out::Added { token } => {
                    let Some(packet) = packets.next() else { break };
                    if let (Some(token), Some(step)) = (batch.token(token), &mut step)
                        && let Some(session) = step.add_in_place(token.slot, &mut anchor, packet)
                        && let Some(session) = self.sessions.get_mut(session)
                        && let Some(place) = session.places.get_mut(usize::from(step.member))
                    {
                        place.emitted += 1;
                    }
                }
                Out::Rtp { stream } => {
                    let Some(packet) = packets.next() else { break };
                    let Some(bound) = self.instances[id].guest().streams.get(stream) else { continue };
                    let (seat, key, direction) = (bound.seat, bound.stream, Direction::of_stream(bound.local));
                    self.emit(id, seat, direction, key, packet, step.as_deref_mut(), anchor);
                }
                Out::Hold => {
                    let Some(hold) = holds.next() else { break };
                    let now = self.instances[id].guest().call.now;
                    self.apply_hold(now, id, hold, batch, step.as_deref_mut(), anchor);
                }
                Out::Rtcp { seat, start, end } => {
                    let bytes = effects.handed.get(start as usize..end as usize).unwrap_or_default();
                    self.emit_rtcp(id, seat, bytes, step.as_deref_mut(), anchor);
                }
            }
        }
        drop(packets);
        for scope in effects.wakes.drain(..) {
            self.arm(id, scope);
        }
        for exceeded in effects.exceeded.drain(..) {
            let now = self.instances[id].guest().call.now;
            self.tell_exceeded(now, exceeded);
        }
        for (seat, note) in effects.notes.drain(..) {
            self.note(id, seat, note);
        }
        self.keep(id, &mut effects.written);
        for seat in effects.changed.drain(..) {
            self.take_changes(id, seat);
        }
        if let Some(instance) = self.instances.get_mut(id) {
            instance.reuse(effects);
        }
    }

    /// Sends RTCP of a plugin's own on its way: to the end of it, where none of the members ahead has to do with it.
    fn emit_rtcp(&mut self, id: InstanceId, seat: u32, bytes: &[u8], step: Option<&mut Step<'_>>, anchor: u32) {
        let Self { instances, sessions, talkers, compounds, .. } = self;
        let guest = instances[id].guest();
        let Some((session, owner, index)) = count_emitted(guest, sessions, seat) else { return };
        let next = behind(Direction::Write, index as u16);
        let bytes = rtcp::put(compounds, &[bytes]);
        if owner.rtcp[Direction::Write as usize].ahead(Direction::Write, next).is_none() {
            owner.speak(session, bytes, talkers);
            return;
        }
        let packet = Packet::Rtcp(RtcpPacket { time: guest.call.now, ..RtcpPacket::plain(bytes) });
        self.leave(Direction::Write, index, Slot::new(session, None, Direction::Write, next, packet), step, anchor);
    }

    /// Sends RTP of a plugin's own on its way.
    #[expect(clippy::too_many_arguments, reason = "one call, and all of them are of different types")]
    fn emit(
        &mut self,
        id: InstanceId,
        seat: u32,
        direction: Direction,
        stream: StreamId,
        packet: Packet,
        step: Option<&mut Step<'_>>,
        anchor: u32,
    ) {
        let emitted = count_emitted(self.instances[id].guest(), &mut self.sessions, seat);
        let Some((session, _, index)) = emitted else { return };
        let next = behind(direction, index as u16);
        self.leave(direction, index, Slot::new(session, Some(stream), direction, next, packet), step, anchor);
    }

    /// Lets a packet go on that comes from a member: into the running step where it goes the same way, so that the order
    /// in which the plugin wrote is kept, and otherwise on a walk of its own.
    pub(crate) fn leave(
        &mut self,
        direction: Direction,
        index: usize,
        slot: Slot,
        step: Option<&mut Step<'_>>,
        anchor: u32,
    ) {
        match step {
            Some(step) if step.is_at(direction, index) => step.add(anchor, slot),
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
        let mut since = None;
        for walk in 0..2 * MAX_ROUNDS {
            if self.emitted.iter().all(Vec::is_empty) {
                return;
            }
            // What is emitted or let go answers nothing yet in its first round, and goes its way however long others take.
            if walk >= 2
                && let Some((time, of_a_call)) = self.instances.values().next().and_then(|instance| instance.clock())
                && time.saturating_sub(*since.get_or_insert(time)) > of_a_call / 4
            {
                break;
            }
            let direction = [Direction::Read, Direction::Write][walk % 2];
            let mut slots = std::mem::take(&mut self.emitted[direction as usize]);
            // Who has come farther was ahead, whoever was let go first: of one stream none overtakes another. Mostly all are of one
            // member, and then they need not be moved.
            if !slots.is_sorted_by_key(|slot| slot.left(direction)) {
                slots.sort_by_key(|slot| slot.left(direction));
            }
            self.walk(now, direction, &mut slots);
            if self.emitted[direction as usize].is_empty() {
                self.emitted[direction as usize] = slots;
            }
            for instance in std::mem::take(&mut self.prompt) {
                self.flush(now, instance);
            }
        }
        self.discard_emitted();
    }

    /// Ends a storm. What is discarded was dropped by whom it came from.
    fn discard_emitted(&mut self) {
        let mut discarded = 0;
        for direction in [Direction::Read, Direction::Write] {
            for slot in std::mem::take(&mut self.emitted[direction as usize]) {
                discarded += 1;
                let session = self.sessions.get_mut(slot.session);
                if let Some(member) = session.and_then(|session| session.members.get_mut(slot.passed(direction))) {
                    member.past.dropped += 1;
                }
            }
        }
        if discarded > 0 {
            self.tell(Event::Storm { discarded });
        }
    }
}

/// Counts a packet of a member's own. The answer is its session and its place there.
#[inline]
fn count_emitted<'s>(
    guest: &Guest,
    sessions: &'s mut SlotMap<SessionId, Session>,
    seat: u32,
) -> Option<(SessionId, &'s mut Session, usize)> {
    let Owner { session: id, member } = guest.seats.get(seat)?.owner;
    let session = sessions.get_mut(id)?;
    let index = session.member(member)?;
    session.places[index].emitted += 1;
    Some((id, session, index))
}

impl<'a> Step<'a> {
    pub(crate) fn new(direction: Direction, member: u16, slots: &'a mut Vec<Slot>) -> Self {
        Self { direction, member, slots, moves: None, loose: 0 }
    }

    /// Whether it is this member's.
    pub(crate) fn is_at(&self, direction: Direction, index: usize) -> bool {
        self.direction == direction && usize::from(self.member) == index
    }

    /// Takes the packet at `at` out of the burst.
    pub(crate) fn take(&mut self, at: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(at as usize).filter(|slot| slot.state == State::Waiting)?;
        slot.state = State::Taken;
        let packet = std::mem::replace(&mut slot.packet, Packet::Malformed(Kind::Rtp, bytes::Bytes::new()));
        Some(Slot { packet, ..*slot })
    }

    /// Lets the packet at `at` go on, with `bytes` in place of what was shown unless they are none; they have been checked.
    fn hand_on(&mut self, at: u32, anchor: &mut u32, shown: Shown, bytes: &[u8]) {
        if at < *anchor {
            self.disordered(*anchor);
        }
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        match (&mut slot.packet, shown) {
            _ if bytes.is_empty() => {}
            (Packet::Rtp(packet), Shown::Header) => packet.replace_header_only(bytes),
            (Packet::Rtp(packet), Shown::Packet) => {
                if let Ok(with) = RtpPacket::parse(bytes::Bytes::copy_from_slice(bytes)) {
                    packet.replace_packet(with);
                }
            }
            (Packet::Rtcp(packet), Shown::Rtcp) => packet.bytes = bytes::Bytes::copy_from_slice(bytes),
            _ => {}
        }
        slot.pass(self.direction, self.member);
        *anchor = at.max(*anchor);
        if let Some(moves) = &mut self.moves {
            moves.iter_mut().skip(self.loose).for_each(|(before, _)| *before = *anchor);
            moves.push((*anchor, Moved::Slot(at)));
            self.loose = moves.len();
        }
    }

    /// What another instance hands on begins.
    fn begin(&mut self) {
        self.loose = self.moves.as_ref().map_or(0, Vec::len);
    }

    /// Lets the packet at `at` go on as it is.
    pub(crate) fn release(&mut self, at: u32) {
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.pass(self.direction, self.member);
        }
    }

    /// Puts a packet where the one at `at` was; gives whose session that is.
    fn add_in_place(&mut self, at: u32, anchor: &mut u32, mut packet: Packet) -> Option<SessionId> {
        let original = self.slots.get(at as usize)?;
        packet.set_attributes(original.packet.attributes().clone());
        let next = behind(self.direction, self.member);
        let session = original.session;
        let slot = Slot::new(session, original.stream, self.direction, next, packet);
        *anchor = at.max(*anchor);
        self.add(*anchor, slot);
        Some(session)
    }

    /// Puts a new packet behind the one at `anchor`.
    fn add(&mut self, anchor: u32, slot: Slot) {
        self.disordered(anchor).push((anchor, Moved::New(Box::new(slot))));
    }

    /// Puts new packets before those of their session that have not gone on.
    pub(crate) fn add_before(&mut self, session: SessionId, new: Vec<Slot>) {
        if new.is_empty() {
            return;
        }
        let waits = |slot: &Slot| slot.session == session && slot.state == State::Waiting;
        let anchor = self.slots.iter().position(waits).unwrap_or(0) as u32;
        let added = new.len();
        let moves = self.disordered(anchor);
        moves.splice(0..0, new.into_iter().map(|slot| (anchor, Moved::New(Box::new(slot)))));
        self.loose += added;
    }

    /// From now on, the order has to be written down. What has gone on so far did so in the order in which it came.
    fn disordered(&mut self, anchor: u32) -> &mut Vec<(u32, Moved)> {
        let (slots, loose) = (&self.slots, &mut self.loose);
        self.moves.get_or_insert_with(|| {
            let gone = (0..).zip(slots.iter().take(anchor as usize + 1)).filter(|(_, slot)| slot.state == State::Going);
            let moves: Vec<_> = gone.map(|(at, _)| (at, Moved::Slot(at))).collect();
            *loose = moves.len();
            moves
        })
    }
}
