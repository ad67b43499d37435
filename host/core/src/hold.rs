//! What plugins hold: packets that they keep back and let go later. Here the host keeps them, and knows what to do with
//! them when their plugin, their stream or their session ends.

use std::collections::BTreeMap;

use crate::attributes::Attributes;
use crate::burst::{Slot, State, behind};
use crate::chain::FaultPolicy;
use crate::effects::Step;
use crate::guest::Batch;
use crate::packet::Packet;
use crate::seating::Prepared;
use crate::session::{Direction, InstanceId, Owner, SessionId, StreamId};
use crate::shard::{End, Shard};
use crate::time::Instant;

/// Of one session's interceptor, by their numbers, and so in the order in which they were held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    next: u64,
    packets: BTreeMap<u64, Kept>,
    bytes: usize,
    /// Packets and bytes that the running call lets go, or drops.
    leaving: (usize, usize),
}

/// A packet that is held.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The stream as the instance knows it.
    pub(crate) stream: u32,
    pub(crate) place: Place,
    /// Bytes of the packet, and of what follows its header.
    pub(crate) size: usize,
    pub(crate) payload: usize,
    leaving: bool,
}

/// Where a packet is.
#[derive(Debug)]
pub(crate) enum Place {
    /// Still in the burst that the running call was given, under this number.
    Burst(u32),
    /// Here.
    Host(Slot),
}

/// What a call does with packets that are held, or are to be; takes effect once it has returned.
#[derive(Debug)]
pub(crate) enum Hold {
    Keep {
        token: u32,
        seat: u32,
        id: u64,
    },
    /// With another header unless that is empty, and with these attributes if any were added.
    Release {
        seat: u32,
        id: u64,
        header: Vec<u8>,
        attributes: Option<Attributes>,
    },
    Discard {
        seat: u32,
        id: u64,
    },
}

/// What a predecessor holds, as its successor is told while it is bound to the streams.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(crate) packets: Vec<(u64, StreamId, Slot)>,
    /// Streams whose packets the successor has asked for.
    pub(crate) claimed: Vec<StreamId>,
}

impl Held {
    /// How many packets, and their bytes.
    pub(crate) fn total(&self) -> (usize, usize) {
        (self.packets.len(), self.bytes)
    }

    /// The same without those that the running call lets go.
    pub(crate) fn staying(&self) -> (usize, usize) {
        (self.packets.len() - self.leaving.0, self.bytes - self.leaving.1)
    }

    /// Takes a packet of the burst that the running call was given.
    pub(crate) fn insert(&mut self, stream: u32, token: u32, size: usize, payload: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        self.bytes += size;
        self.packets.insert(id, Kept { stream, place: Place::Burst(token), size, payload, leaving: false });
        id
    }

    /// A packet that the running call does not let go yet.
    pub(crate) fn get(&self, id: u64) -> Option<&Kept> {
        self.packets.get(&id).filter(|kept| !kept.leaving)
    }

    /// The running call lets a packet go, or drops it. False: it is not held.
    pub(crate) fn leave(&mut self, id: u64) -> bool {
        let Some(kept) = self.packets.get_mut(&id).filter(|kept| !kept.leaving) else { return false };
        kept.leaving = true;
        self.leaving.0 += 1;
        self.leaving.1 += kept.size;
        true
    }

    fn remove(&mut self, id: u64) -> Option<Kept> {
        let kept = self.packets.remove(&id)?;
        self.forget(&kept);
        Some(kept)
    }

    fn forget(&mut self, kept: &Kept) {
        self.bytes -= kept.size;
        if kept.leaving {
            self.leaving.0 -= 1;
            self.leaving.1 -= kept.size;
        }
    }

    /// Those that are here, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32, &Slot)> {
        self.packets.iter().filter_map(|(id, kept)| match &kept.place {
            Place::Host(output) if !kept.leaving => Some((*id, kept.stream, output)),
            _ => None,
        })
    }

    /// Takes out those that `wanted` says, by their streams, in their order.
    fn take(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<Slot> {
        let taken: Vec<_> = self.packets.extract_if(.., |_, kept| wanted(kept.stream)).collect();
        let mut outputs = Vec::with_capacity(taken.len());
        for (_, kept) in taken {
            self.forget(&kept);
            // What is still in its burst goes where that goes.
            if let Place::Host(output) = kept.place {
                outputs.push(output);
            }
        }
        outputs
    }

    /// The same under the handles that streams have elsewhere. Those of a stream that has none there are left out.
    fn moved(self, handle: impl Fn(u32) -> Option<u32>) -> Self {
        let mut moved = Self { next: self.next, ..Self::default() };
        for (id, kept) in self.packets {
            if let Some(stream) = handle(kept.stream) {
                moved.bytes += kept.size;
                moved.packets.insert(id, Kept { stream, ..kept });
            }
        }
        moved
    }
}

impl Slot {
    fn direction(&self) -> Direction {
        match self.to {
            End::Application => Direction::Read,
            End::Wire => Direction::Write,
        }
    }

    /// The packet as it goes on behind the member at `index`.
    fn behind(self, index: usize) -> Self {
        let next = behind(self.direction(), index as u16);
        Self { next, state: State::Going, ..self }
    }
}

impl Shard {
    /// Does what a call wanted of a packet that is held or is to be.
    pub(crate) fn apply_hold(
        &mut self,
        now: Instant,
        id: InstanceId,
        hold: Hold,
        batch: &Batch,
        step: Option<&mut Step<'_>>,
        anchor: u32,
    ) {
        let (Hold::Keep { seat, .. } | Hold::Release { seat, .. } | Hold::Discard { seat, .. }) = hold;
        let Some(seated) = self.seat_mut(id, seat) else { return };
        let owner = seated.owner;
        match hold {
            Hold::Keep { token, id, .. } => {
                let taken = step.zip(batch.token(token)).and_then(|(step, token)| step.take(token.slot));
                match (taken, seated.held.packets.get_mut(&id)) {
                    (Some(output), Some(kept)) => kept.place = Place::Host(output),
                    _ => drop(seated.held.remove(id)),
                }
                seated.count_held();
            }
            Hold::Release { id, header, attributes, .. } => {
                let kept = seated.held.remove(id);
                seated.count_held();
                let Some(Kept { place: Place::Host(mut output), .. }) = kept else { return };
                if let Packet::Rtp(packet) = &mut output.packet {
                    if !header.is_empty() {
                        packet.replace_header_only(&header);
                    }
                    if output.to == End::Wire {
                        packet.time = now;
                    }
                }
                if let Some(attributes) = attributes {
                    output.packet.set_attributes(attributes);
                }
                self.go_on(owner, output, step, anchor);
            }
            Hold::Discard { id, .. } => {
                let known = seated.held.remove(id).is_some();
                seated.count_held();
                if known {
                    self.count_dropped(owner, 1);
                }
            }
        }
    }

    /// Lets a packet go on from a member's place.
    fn go_on(&mut self, owner: Owner, output: Slot, step: Option<&mut Step<'_>>, anchor: u32) {
        let Some(index) = self.sessions.get(owner.session).and_then(|session| session.member(owner.member)) else {
            return;
        };
        let direction = output.direction();
        self.leave(direction, index, output.behind(index), step, anchor);
    }

    fn count_dropped(&mut self, owner: Owner, packets: usize) {
        if let Some(session) = self.sessions.get_mut(owner.session)
            && let Some(index) = session.member(owner.member)
        {
            session.members[index].past.dropped += packets as u64;
        }
    }

    /// Lets everything go on that a seat still holds, or what it holds of one stream, in order.
    pub(crate) fn release_held(&mut self, id: InstanceId, seat: u32, stream: Option<u32>) {
        let Some(seat) = self.seat_mut(id, seat) else { return };
        let (owner, outputs) = (seat.owner, seat.held.take(|of| stream.is_none_or(|stream| of == stream)));
        seat.count_held();
        for output in outputs {
            self.go_on(owner, output, None, 0);
        }
    }

    /// What a plugin held that has failed, or whose instance has: it goes on before what the failed batch had of its session,
    /// or ends here if the policy is that nothing passes.
    pub(crate) fn release_orphaned(&mut self, owner: Owner, mut held: Held, mut step: Option<&mut Step<'_>>) {
        let Some(session) = self.sessions.get(owner.session) else { return };
        let Some(index) = session.member(owner.member) else { return };
        let closed = session.members[index].spec.on_fault == FaultPolicy::Drop;
        let outputs = held.take(|_| true);
        if closed {
            return self.count_dropped(owner, outputs.len());
        }
        let mut first = Vec::new();
        for output in outputs {
            match &step {
                Some(step) if step.is_at(output.direction(), index) => first.push(output.behind(index)),
                _ => self.go_on(owner, output, None, 0),
            }
        }
        if let Some(step) = &mut step {
            step.add_before(owner.session, first);
        }
    }

    /// What the member at `index` holds, for a successor to ask for.
    pub(crate) fn inheritance(&self, id: SessionId, index: usize) -> Option<Box<Inheritance>> {
        let member = self.member_at(id, index).ok().filter(|member| member.running())?;
        let guest = self.instances.get(member.instance)?.guest();
        let held = &guest.seats.get(member.seat)?.held;
        let packets = held
            .iter()
            .filter_map(|(id, stream, output)| Some((id, guest.streams.get(stream)?.stream, output.clone())));
        Some(Box::new(Inheritance { packets: packets.collect(), claimed: Vec::new() }))
    }

    /// Gives a successor what its predecessor holds. What it did not ask for goes on.
    pub(crate) fn hand_over_held(&mut self, id: SessionId, index: usize, prepared: &Prepared) {
        let told = self.seat_mut(prepared.instance, prepared.seat).and_then(|seat| seat.inheritance.take());
        let claimed = told.map(|inheritance| inheritance.claimed).unwrap_or_default();
        let Ok(old) = self.member_at(id, index) else { return };
        if !old.running() {
            return;
        }
        let (from, old_seat) = (old.instance, old.seat);
        // The predecessor's handles of the streams that were asked for, and the successor's.
        let mut handles: Vec<(u32, u32)> = Vec::new();
        for (stream, handle, _) in prepared.streams.iter().filter(|(stream, ..)| claimed.contains(stream)) {
            let hop = self.streams.get(*stream).and_then(|stream| stream.hops.get(index));
            handles.extend(hop.map(|hop| (hop.handle, *handle)));
        }
        let new_handle = |old| handles.iter().find(|(known, _)| *known == old).map(|(_, new)| *new);
        let Some(seat) = self.seat_mut(from, old_seat) else { return };
        let (owner, mut held) = (seat.owner, std::mem::take(&mut seat.held));
        seat.count_held();
        for output in held.take(|stream| new_handle(stream).is_none()) {
            self.go_on(owner, output, None, 0);
        }
        if let Some(seat) = self.seat_mut(prepared.instance, prepared.seat) {
            seat.held = held.moved(new_handle);
            seat.count_held();
        }
    }
}
