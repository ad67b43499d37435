//! Seating plugins: finding them an instance, making their session's interceptor in it, offering it the streams, and the
//! way back. A member is prepared apart and installed only when all of that has worked.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::allowance::Used;
use crate::binding::{Access, Binding};
use crate::bindings::types;
use crate::chain::{Isolation, MemberSpec};
use crate::fault::Fault;
use crate::guest::{Batch, Bound, Effects, Patience, Seat};
use crate::history::History;
use crate::hold::{Held, Inheritance};
use crate::hops::{Action, Hop, Hops, MAX_MEMBERS};
use crate::imports::split_mix;
use crate::instance::{Instance, lower};
use crate::log::Hurry;
use crate::session::{Counts, Direction, InstanceId, Member, MemberState, Owner, SessionId, Source, Stream, StreamId};
use crate::shard::{BindError, ChainError, Shard, SharedKey};
use crate::sink::Outlet;
use crate::stamps::Stamps;
use crate::stream::StreamInfo;
use crate::tenant::{Holdings, Quota};
use crate::time::Instant;
use crate::timers::Timer;
use crate::values::Changes;

/// A member that is ready to take its place, and what its calls have brought about: that waits until it has the place, also
/// where it shares its predecessor's instance.
pub(crate) struct Prepared {
    pub(crate) instance: InstanceId,
    pub(crate) seat: u32,
    /// Those that it was asked about.
    pub(crate) streams: Vec<(StreamId, u32, Binding)>,
    rtcp: (Access, Access),
    shared: bool,
    effects: Box<Effects>,
}

/// What a member's predecessor leaves it.
#[derive(Default)]
pub(crate) struct Before<'a> {
    pub(crate) state: Option<&'a [u8]>,
    pub(crate) inheritance: Option<Box<Inheritance>>,
    /// How much time its calls have, in an instance of its own.
    pub(crate) patience: Patience,
}

/// Why a member could not be seated.
pub(crate) enum Failed {
    /// The plugin refuses, or the host does.
    Refused(ChainError),
    /// The plugin failed; its instance is gone already, and all sessions in it, this one too, have been seen to.
    Fault(Fault),
}

impl Failed {
    pub(crate) fn into_error(self, plugin: &str) -> ChainError {
        match self {
            Self::Refused(error) => error,
            Self::Fault(fault) => ChainError::fault(plugin.to_owned(), &fault),
        }
    }
}

impl Shard {
    /// Adds a member to a session's chain at `index`.
    pub(crate) fn add_member(
        &mut self,
        now: Instant,
        id: SessionId,
        index: usize,
        spec: MemberSpec,
    ) -> Result<(), ChainError> {
        let session = self.sessions.get_mut(id).ok_or(ChainError::NoSession)?;
        let members = session.members.len();
        if index > members || members >= MAX_MEMBERS {
            return Err(ChainError::NoMember { index, members });
        }
        let number = session.next_number();
        let prepared = self
            .prepare(now, id, number, &spec, Before::default(), false)
            .map_err(|failed| failed.into_error(spec.plugin.name()))?;
        // The log knows members by their places.
        self.unload(now, id, Hurry::ALL);
        let streams = self.streams_of(id);
        if let Some(session) = self.sessions.get_mut(id) {
            session.insert_member(index, Member::new(number, spec));
            session.own_hops_mut().for_each(|hops| hops.insert(index));
        }
        for stream in streams {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.hops.insert(index);
            }
        }
        self.install(now, id, index, prepared);
        Ok(())
    }

    /// The streams of a session, each once.
    pub(crate) fn streams_of(&self, id: SessionId) -> SmallVec<[StreamId; 6]> {
        let Some(session) = self.sessions.get(id) else { return SmallVec::new() };
        let mut streams: SmallVec<[StreamId; 6]> =
            session.local.iter().chain(&session.remote).map(|source| source.stream).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    fn instance_for(
        &mut self,
        now: Instant,
        id: SessionId,
        spec: &MemberSpec,
        (alone, patience): (bool, Patience),
    ) -> Result<(InstanceId, bool), Failed> {
        let Some(session) = self.sessions.get(id) else { return Err(Failed::Refused(ChainError::NoSession)) };
        let (tenant, mut holdings) = (session.tenant, Holdings::new(session.holdings.tenant().clone()));
        let (digest, lane, granted) = (spec.plugin.digest(), spec.plugin.lane(), spec.plugin.code().granted);
        let key = SharedKey { tenant, digest, lane, granted, limits: spec.limits };
        let shared = spec.isolation() == Isolation::Tenant && !alone;
        if shared
            && let Some(found) = self.shared.get(&key).copied()
            && let Some(instance) = self.instances.get(found)
            && instance.guest().seats.len() < spec.limits.sessions
        {
            self.flush(now, found);
            // The batch may have ended it.
            if self.instances.contains_key(found) {
                return Ok((found, true));
            }
        }
        holdings.take(Quota::Instances, 1).map_err(|exceeded| Failed::Refused(exceeded.into()))?;
        let sampler = split_mix(&mut self.random);
        let (code, wall_clock) = (spec.plugin.code(), self.config.wall_clock);
        let instance = Instance::new(code, spec.limits, wall_clock, now, (tenant, patience), (holdings, sampler));
        let mut instance = instance.map_err(Failed::Fault)?;
        instance.key = shared.then_some(key);
        let instance = self.instances.insert(Box::new(instance));
        if shared {
            self.shared.insert(key, instance);
        }
        Ok((instance, shared))
    }

    /// Makes the interceptor of a session's member, with all of the session's streams offered to it.
    pub(crate) fn prepare(
        &mut self,
        now: Instant,
        id: SessionId,
        number: u32,
        spec: &MemberSpec,
        before: Before<'_>,
        alone: bool,
    ) -> Result<Prepared, Failed> {
        let plugin = || spec.plugin.name().to_owned();
        let tenant = self.sessions.get(id).map(|session| session.tenant).unwrap_or_default();
        if let Some(reason) = spec.plugin.quarantine(tenant) {
            return Err(Failed::Refused(ChainError::Quarantined { plugin: plugin(), reason }));
        }
        let owner = Owner { session: id, member: number };
        let (instance, shared) = match self.instance_for(now, id, spec, (alone, before.patience)) {
            Ok(found) => found,
            Err(failed) => {
                if let Failed::Fault(fault) = &failed {
                    self.punish(now, owner, fault.clone());
                }
                return Err(failed);
            }
        };
        let Some(session) = self.sessions.get(id) else { return Err(Failed::Refused(ChainError::NoSession)) };
        let info = session.info.clone();
        let seat = Seat {
            owner,
            mtu: info.mtu,
            timer: Timer::default(),
            streams: SmallVec::new(),
            resource: None,
            metrics: Vec::new(),
            oversize: 0,
            sink: Outlet::new(spec.sink),
            values: session.values.clone(),
            changes: Changes::default(),
            used: Used::default(),
            held: Held::default(),
            stamps: Stamps::default(),
            holdings: Holdings::new(session.holdings.tenant().clone()),
            histories: 0,
            inheritance: before.inheritance,
        };
        let streams = self.streams_of(id);
        let Some(running) = self.instances.get_mut(instance) else {
            return Err(Failed::Refused(ChainError::NoSession));
        };
        let seat = match running.create(now, seat, &info, &spec.config, before.state) {
            Ok(Ok(seat)) => seat,
            Ok(Err(refusal)) => {
                self.withdraw(now, instance, None);
                return Err(Failed::Refused(ChainError::refused(plugin(), refusal)));
            }
            Err(fault) => return Err(self.failed(now, instance, owner, fault)),
        };
        let binds = spec.plugin.binds();
        let rtcp = match running.bind_rtcp(now, seat, binds) {
            Ok(Ok(access)) => access,
            Ok(Err(refusal)) => {
                self.withdraw(now, instance, Some(seat));
                return Err(Failed::Refused(ChainError::refused(plugin(), refusal)));
            }
            Err(fault) => return Err(self.failed(now, instance, owner, fault)),
        };
        let (bound, effects) = (Vec::with_capacity(streams.len()), Box::default());
        let mut prepared = Prepared { instance, seat, streams: bound, rtcp, shared, effects };
        for stream in streams {
            let known = self.streams.get(stream).filter(|known| binds.streams(known.local));
            let Some(info) = known.map(|known| lower(&known.info)) else { continue };
            match self.offer(now, (instance, shared), seat, (stream, &info), spec) {
                Ok((handle, binding)) => prepared.streams.push((stream, handle, binding)),
                Err(Failed::Refused(error)) => {
                    self.withdraw(now, instance, Some(seat));
                    return Err(Failed::Refused(error));
                }
                Err(Failed::Fault(fault)) => return Err(self.failed(now, instance, owner, fault)),
            }
        }
        if let Some(running) = self.instances.get_mut(instance) {
            prepared.effects = running.take_effects();
        }
        Ok(prepared)
    }

    fn failed(&mut self, now: Instant, instance: InstanceId, owner: Owner, fault: Fault) -> Failed {
        self.fail(now, instance, fault.clone(), Some(owner), None);
        Failed::Fault(fault)
    }

    /// Takes back a member that was not installed: what it brought about is forgotten.
    pub(crate) fn withdraw(&mut self, now: Instant, id: InstanceId, seat: Option<u32>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if let Some(seat) = seat {
            if let Err(fault) = instance.close(now, seat) {
                return self.fail(now, id, fault, None, None);
            }
            instance.leave(seat);
        }
        let effects = instance.take_effects();
        instance.reuse(effects);
        self.drop_if_empty(id);
    }

    /// Offers a seated plugin a stream, with its info as the contract has it, in an instance that others share or not.
    fn offer(
        &mut self,
        now: Instant,
        (id, shared): (InstanceId, bool),
        seat: u32,
        (stream, info): (StreamId, &types::StreamInfo),
        spec: &MemberSpec,
    ) -> Result<(u32, Binding), Failed> {
        let plugin = || spec.plugin.name().to_owned();
        let refused =
            |message: &str| Failed::Refused(ChainError::Refused { plugin: plugin(), message: message.to_owned() });
        let (Some(known), Some(instance)) = (self.streams.get(stream), self.instances.get_mut(id)) else {
            return Err(refused("the stream or the instance is gone"));
        };
        let mtu = self.sessions.get(known.session).map_or(0, |session| session.info.mtu);
        let bound = Bound {
            stream,
            seat,
            local: known.local,
            ssrc: known.info.ssrc,
            mtu,
            info: known.info.clone(),
            access: Access::Pass,
            history: None,
            reserved: 0,
            timer: Timer::default(),
        };
        let wanted = self.sessions.get(known.session).map_or(0, |session| session.handle(known, shared));
        let Some(handle) = instance.enter_stream(wanted, bound) else {
            return Err(refused("the instance has no number left for another stream"));
        };
        let binding = match instance.bind_stream(now, seat, handle, info).map_err(Failed::Fault)? {
            Ok(binding) => binding,
            Err(refusal) => {
                instance.forget_stream(handle);
                return Err(Failed::Refused(ChainError::refused(plugin(), refusal)));
            }
        };
        // Whose packets the others are, and what is negotiated for them, nobody knows.
        let unbound = binding.unbound && !matches!(binding.access, Access::Stamp(_));
        let binding = Binding { history: binding.history.min(spec.limits.history), unbound, ..binding };
        let reserved = History::room(binding.history, mtu);
        let negotiated = |id| known.info.rtp_header_extensions.iter().any(|known| known.id == id && id > 0);
        let wrong = match binding.access {
            access if access.sees_media() && !spec.plugin.reads_media() => {
                Some(refused("it binds whole packets, and read-media is not what it wants or is not granted"))
            }
            Access::Stamp(extension) if !negotiated(extension) => {
                Some(refused("it binds to stamp a header extension that the stream has not negotiated"))
            }
            _ => {
                let seat = instance.guest_mut().seats.get_mut(seat);
                let afforded = seat.map_or(Ok(()), |seat| seat.holdings.take(Quota::Memory, reserved));
                afforded.err().map(|exceeded| Failed::Refused(exceeded.into()))
            }
        };
        if let Some(wrong) = wrong {
            instance.unbind_stream(now, handle).map_err(Failed::Fault)?;
            instance.forget_stream(handle);
            return Err(wrong);
        }
        let guest = instance.guest_mut();
        guest.seats.get_mut(seat).into_iter().for_each(|seat| seat.histories += reserved);
        if let Some(bound) = guest.streams.get_mut(handle) {
            bound.access = binding.access;
            bound.reserved = reserved;
        }
        if binding.history > 0 {
            guest.set_history(handle, Some(History::new(binding.history)));
        }
        Ok((handle, binding))
    }

    /// Gives a prepared member its place, and lets what it brought about take effect.
    pub(crate) fn install(&mut self, now: Instant, id: SessionId, index: usize, prepared: Prepared) {
        let Prepared { instance, seat, streams, rtcp, shared, effects } = prepared;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(member) = session.members.get_mut(index) else { return };
        member.state = MemberState::Running { shared };
        session.seat_member(index, instance, seat, now);
        for (hops, access) in session.rtcp.iter_mut().zip([rtcp.0, rtcp.1]) {
            hops.change(index, |hop| hop.become_(access.into(), false, instance, seat));
        }
        for hops in session.unbound.iter_mut() {
            hops.change(index, |hop| hop.become_(Action::Pass, false, instance, 0));
        }
        // What the member is not asked about passes it by, whatever was in its place before.
        for stream in self.streams_of(id) {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.hops.change(index, |hop| {
                    hop.become_(Action::Pass, false, instance, 0);
                    hop.unbound = false;
                });
            }
        }
        for (stream, handle, binding) in streams {
            self.install_stream(id, index, instance, stream, handle, binding);
        }
        self.take_changes(instance, seat);
        self.apply(instance, effects, &mut Batch::default(), None);
    }

    fn install_stream(
        &mut self,
        id: SessionId,
        index: usize,
        instance: InstanceId,
        stream: StreamId,
        handle: u32,
        binding: Binding,
    ) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let direction = Direction::of_stream(known.local);
        known.hops.change(index, |hop| {
            hop.become_(binding.access.into(), binding.history > 0, instance, handle);
            hop.unbound = binding.unbound;
        });
        if binding.unbound {
            self.route_unbound(id, index, direction);
        }
    }

    /// Shows packets of unknown SSRCs to a member under the first of its streams that asks for them.
    fn route_unbound(&mut self, id: SessionId, index: usize, direction: Direction) {
        let hops = self.streams_of(id).into_iter().filter_map(|stream| {
            let stream = self.streams.get(stream)?;
            stream.hops.get(index).filter(|hop| hop.unbound && Direction::of_stream(stream.local) == direction)
        });
        let hop = hops.min_by_key(|hop| hop.handle).copied().unwrap_or_default();
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.members.get(index).is_some_and(Member::running) {
            session.unbound[direction as usize]
                .change(index, |own| own.become_(hop.action, false, hop.instance, hop.handle));
        }
    }

    pub(crate) fn bind_stream(
        &mut self,
        now: Instant,
        id: SessionId,
        local: bool,
        info: StreamInfo,
    ) -> Result<StreamId, BindError> {
        let session = self.sessions.get_mut(id).ok_or(ChainError::NoSession)?;
        let members = session.members.len();
        let ssrcs: Vec<u32> = info.ssrcs().collect();
        let retransmissions = info.ssrc_retransmission.zip(info.payload_type_retransmission);
        let known = session.by_ssrc(local);
        for (at, ssrc) in ssrcs.iter().enumerate() {
            if known.iter().any(|known| known.ssrc == *ssrc) || ssrcs[..at].contains(ssrc) {
                return Err(ChainError::SsrcTaken(*ssrc));
            }
        }
        // Once for all who are asked.
        let told = lower(&info);
        let stream = self.streams.insert(Stream { session: id, local, info: Arc::new(info), hops: Hops::new(members) });
        if let Some(session) = self.sessions.get_mut(id) {
            let known = session.by_ssrc(local);
            known.extend(ssrcs.iter().map(|ssrc| {
                let retransmissions = retransmissions.filter(|(own, _)| own == ssrc).map(|(_, payload)| payload);
                Source { ssrc: *ssrc, stream, retransmissions }
            }));
            known.sort_unstable_by_key(|known| known.ssrc);
        }
        for index in 0..members {
            if let Err(error) = self.bind_at(now, id, index, (stream, &told)) {
                self.end_stream(now, stream);
                self.settle(now);
                return Err(error);
            }
        }
        self.settle(now);
        Ok(stream)
    }

    /// Offers a stream to one member. A refusal is an error; a fault is seen to, and the stream goes on by the policy.
    fn bind_at(
        &mut self,
        now: Instant,
        id: SessionId,
        index: usize,
        (stream, info): (StreamId, &types::StreamInfo),
    ) -> Result<(), BindError> {
        let member = self.member_at(id, index)?;
        let local = self.streams.get(stream).is_some_and(|stream| stream.local);
        if !member.spec.plugin.binds().streams(local) {
            return Ok(());
        }
        let (instance, seat, number) = (member.instance, member.seat, member.number);
        let shared = match member.state {
            MemberState::Running { shared } => shared,
            MemberState::Displaced => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.hops.change(index, |hop| hop.become_(Action::Revive, false, instance, 0));
                }
                return Ok(());
            }
            MemberState::Bypassed | MemberState::Closed | MemberState::Restarting => return Ok(()),
        };
        let spec = member.spec.clone();
        self.flush_member(now, id, index);
        match self.offer(now, (instance, shared), seat, (stream, info), &spec) {
            Ok((handle, binding)) => {
                self.install_stream(id, index, instance, stream, handle, binding);
                self.absorb(instance);
                Ok(())
            }
            Err(Failed::Refused(error)) => {
                // What it said while refusing, such as a log line, is heard.
                self.absorb(instance);
                Err(error)
            }
            Err(Failed::Fault(fault)) => {
                self.fail(now, instance, fault, Some(Owner { session: id, member: number }), None);
                Ok(())
            }
        }
    }

    pub(crate) fn end_stream(&mut self, now: Instant, stream: StreamId) {
        let Some(known) = self.streams.get(stream) else { return };
        let (id, local, members) = (known.session, known.local, known.hops.len());
        // Who is nearer to where the packets go is told later: what others still let go passes it.
        for index in 0..members {
            let index = if local { members - 1 - index } else { index };
            let Some(hop) = self.streams.get(stream).and_then(|stream| stream.hops.get(index)).copied() else {
                continue;
            };
            let Ok(member) = self.member_at(id, index) else { continue };
            if member.running() && hop.handle != 0 && hop.instance == member.instance {
                let (seat, owner) = (member.seat, Owner { session: id, member: member.number });
                self.flush_member(now, id, index);
                match self.instances.get_mut(hop.instance).map(|instance| instance.unbind_stream(now, hop.handle)) {
                    Some(Ok(())) => {
                        self.absorb(hop.instance);
                        self.release_held(hop.instance, seat, Some(hop.handle));
                        if let Some(instance) = self.instances.get_mut(hop.instance) {
                            instance.forget_stream(hop.handle);
                        }
                        self.drain_emitted(now);
                    }
                    Some(Err(fault)) => {
                        self.fail(now, hop.instance, fault, Some(owner), None);
                        // What it held passes those that have not been told yet.
                        self.drain_emitted(now);
                    }
                    None => {}
                }
            }
            let counts =
                self.streams.get(stream).map_or_else(|| Counts::from(&hop), |stream| stream.hops.counts(index));
            if let Some(member) = self.sessions.get_mut(id).and_then(|session| session.members.get_mut(index)) {
                member.past.add(counts);
            }
            if hop.unbound {
                if let Some(ended) = self.streams.get_mut(stream) {
                    ended.hops.change(index, |hop| hop.unbound = false);
                }
                self.route_unbound(id, index, Direction::of_stream(local));
            }
        }
        self.streams.remove(stream);
        if let Some(session) = self.sessions.get_mut(id) {
            session.by_ssrc(local).retain(|known| known.stream != stream);
        }
    }

    /// Closes a member's interceptor and leaves its place empty.
    pub(crate) fn close_member(&mut self, now: Instant, id: SessionId, index: usize) {
        let Ok(member) = self.member_at(id, index) else { return };
        if !member.running() {
            return;
        }
        let (instance, seat, owner) = (member.instance, member.seat, Owner { session: id, member: member.number });
        self.flush_member(now, id, index);
        match self.instances.get_mut(instance).map(|instance| instance.close(now, seat)) {
            Some(Ok(())) => {
                self.absorb(instance);
                self.release_held(instance, seat, None);
                if let Some(instance) = self.instances.get_mut(instance) {
                    instance.leave(seat);
                }
                self.drop_if_empty(instance);
            }
            Some(Err(fault)) => self.fail(now, instance, fault, Some(owner), None),
            None => {}
        }
        self.clear_values(id, owner.member);
        self.set_hops(id, index, |_| Action::Pass);
    }

    /// A session's interceptor in an instance.
    pub(crate) fn seat_mut(&mut self, id: InstanceId, seat: u32) -> Option<&mut Seat> {
        self.instances.get_mut(id)?.guest_mut().seats.get_mut(seat)
    }

    /// Takes an instance out of the shard, with all that it was still to be handed.
    pub(crate) fn end_instance(&mut self, id: InstanceId) -> Option<Box<Instance>> {
        let instance = self.instances.remove(id)?;
        // When it was full, another one took its place among those that are shared.
        if let Some(key) = instance.key
            && self.shared.get(&key) == Some(&id)
        {
            self.shared.remove(&key);
        }
        Some(instance)
    }

    pub(crate) fn drop_if_empty(&mut self, id: InstanceId) {
        if self.instances.get(id).is_some_and(|instance| instance.guest().seats.len() == 0) {
            self.end_instance(id);
        }
    }

    /// Changes what a member does with all packets of its session.
    pub(crate) fn set_hops(&mut self, id: SessionId, index: usize, action: impl Fn(&Hop) -> Action) {
        for stream in self.streams_of(id) {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.hops.change(index, |hop| hop.become_(action(hop), false, hop.instance, 0));
            }
        }
        for hops in self.sessions.get_mut(id).into_iter().flat_map(|session| session.own_hops_mut()) {
            hops.change(index, |hop| hop.become_(action(hop), false, hop.instance, 0));
        }
    }
}
