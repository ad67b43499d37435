//! One plugin in a store of its own, and the calls into it.

use std::sync::Arc;

use wasmtime::component::ResourceAny;
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::attributes::Value;
use crate::binding::{Access, Binding, Binds};
use crate::bindings::{self, BatchLane, Interceptor, describe, member, types};
use crate::chain::Limits;
use crate::engine::TICK;
use crate::fault::{Fault, FaultKind};
use crate::frame::{self, FrameKind, Head};
use crate::guest::{Batch, Bound, Effects, Guest, Patience, Seat};
use crate::imports::split_mix;
use crate::plugin::Code;
use crate::quarantine::Standing;
use crate::session::TenantId;
use crate::shard::SharedKey;
use crate::stream::StreamInfo;
use crate::tenant::{Holdings, Quota};
use crate::time::{Instant, WallClock};
use crate::wasi::Wasi;

/// A plugin's answer: what was asked for, or why not.
pub(crate) type Answer<T> = Result<T, types::Refusal>;

/// Of so many calls one is timed, on average. Which ones a plugin cannot know, or it would be quick in just those.
const SAMPLE: u64 = 16;
/// Bytes that the host copies from a guest in one of its calls.
const HOSTCALL_BYTES: usize = 8 << 20;

/// One plugin in a store of its own.
pub(crate) struct Instance {
    /// Frames for the next batch: here and not with the guest, as every packet asks for them.
    pub(crate) waiting: Batch,
    store: Store<Guest>,
    exports: Interceptor,
    batched: Option<BatchLane>,
    code: Arc<Code>,
    /// Whose sessions it serves.
    pub(crate) tenant: TenantId,
    /// By what sessions find it that share it.
    pub(crate) key: Option<SharedKey>,
    /// Its version's, when last asked.
    standing: Standing,
    /// Calls into it, and nanoseconds that they took.
    pub(crate) calls: u64,
    pub(crate) nanos: u64,
    /// Calls before the next one that is timed, and where that number comes from.
    untimed: u64,
    sampler: u64,
    /// What changes places with the guest's while it is being dealt with; kept to reuse its memory.
    spare_effects: Option<Box<Effects>>,
    spare_batch: Option<Box<Batch>>,
}

impl Instance {
    /// Instantiates the plugin. Its start code runs under the deadline.
    pub(crate) fn new(
        code: &Arc<Code>,
        limits: Limits,
        wall_clock: WallClock,
        now: Instant,
        (tenant, patience): (TenantId, Patience),
        (holdings, sampler): (Holdings, u64),
    ) -> Result<Self, Fault> {
        let engine = &code.engine.0;
        let mut store = Store::new(&engine.wasmtime, Guest::new(limits, wall_clock, holdings));
        store.data_mut().wasi = Wasi::new(&code.granted);
        store.limiter(|guest| &mut guest.meter);
        // What one call may make the host copy from the guest: a burst handed on, what is emitted, a saved state.
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        // A handle for each session, and no more.
        store.set_max_component_handles(limits.sessions.saturating_add(16));
        let clock = engine.config.clocks.thread_cpu;
        store.epoch_deadline_callback(move |mut context| {
            let call = &mut context.data_mut().call;
            call.ticks += 1;
            let over = match clock {
                // The first tick may come at once; from there on, processor time counts.
                Some(clock) if call.ticks == 1 => {
                    call.cpu_at_first_tick = clock();
                    false
                }
                Some(clock) => clock().saturating_sub(call.cpu_at_first_tick) >= call.allowed,
                None => (call.ticks - 1).saturating_mul(TICK.as_nanos() as u64) >= call.allowed,
            };
            if !over {
                return Ok(UpdateDeadline::Continue(1));
            }
            call.blame = Some(FaultKind::Deadline);
            Err(wasmtime::Error::msg("the call did not return within its deadline"))
        });
        let mut standing = Standing::default();
        let allowed = patience.of(code.quarantine.allowance(tenant, &mut standing, engine.call_deadline));
        store.data_mut().call = crate::guest::Call { now, allowed, patience, ..Default::default() };
        bound(&mut store, engine.config.fuel);
        let instantiate = |store: &mut Store<Guest>| {
            let instance = code.pre.instantiate(&mut *store)?;
            let exports = code.typed.load(&mut *store, &instance)?;
            let batched = code.batched.as_ref().map(|batched| batched.load(&mut *store, &instance)).transpose()?;
            wasmtime::Result::Ok((exports, batched))
        };
        let (exports, batched) = instantiate(&mut store).map_err(|error| fault(store.data(), &error))?;
        Ok(Self {
            waiting: Batch::default(),
            store,
            exports,
            batched,
            code: code.clone(),
            tenant,
            key: None,
            standing,
            calls: 0,
            nanos: 0,
            untimed: 0,
            sampler,
            spare_effects: None,
            spare_batch: None,
        })
    }

    pub(crate) fn guest(&self) -> &Guest {
        self.store.data()
    }

    #[inline]
    pub(crate) fn guest_mut(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    /// Whether it is called no more, as calls of its version do not return.
    #[inline]
    pub(crate) fn is_out_of_the_way(&mut self) -> bool {
        self.code.quarantine.stops_calls(self.tenant, &mut self.standing)
    }

    /// Nanoseconds on the clock that deadlines are counted by, where there is one, and how many a call may take.
    pub(crate) fn clock(&self) -> Option<(u64, u64)> {
        let engine = &self.code.engine.0;
        let clocks = engine.config.clocks;
        let time = clocks.thread_cpu.or(clocks.monotonic)?();
        Some((time, engine.call_deadline / 2))
    }

    /// Runs one call into the guest under its deadline. After a fault the instance must not be used again.
    fn call<T>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Store<Guest>, &Interceptor) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let started = self.begin(now);
        let result = call(&mut self.store, &self.exports);
        self.end(started, result)
    }

    /// What goes before a call. The answer is when it began, where it is timed.
    #[inline]
    fn begin(&mut self, now: Instant) -> Option<u64> {
        let engine = &self.code.engine.0;
        let allowed = self.code.quarantine.allowance(self.tenant, &mut self.standing, engine.call_deadline);
        let guest = self.store.data_mut();
        guest.call.now = now;
        guest.call.allowed = guest.call.patience.of(allowed);
        guest.call.blame = None;
        // The calls of one batch in the typed lane share a deadline.
        guest.call.ticks = if guest.call.processing { guest.call.ticks } else { 0 };
        guest.meter.refused = false;
        guest.meter.exceeded = None;
        bound(&mut self.store, engine.config.fuel);
        // Reading a clock takes as long as a short call: one call in so many stands for the others.
        self.calls += 1;
        if self.untimed > 0 {
            self.untimed -= 1;
            return None;
        }
        self.untimed = split_mix(&mut self.sampler) % (2 * SAMPLE - 1);
        engine.config.clocks.monotonic.map(|clock| clock())
    }

    #[inline]
    fn end<T>(&mut self, started: Option<u64>, result: wasmtime::Result<T>) -> Result<T, Fault> {
        if let Some(started) = started
            && let Some(clock) = self.code.engine.0.config.clocks.monotonic
        {
            let nanos = SAMPLE * clock().saturating_sub(started);
            self.nanos += nanos;
            let guest = self.store.data();
            guest.tenant().charge(guest.call.now, nanos);
        }
        result.map_err(|error| fault(self.store.data(), &error))
    }

    pub(crate) fn describe(&mut self) -> Result<describe::Description, Fault> {
        self.call(Instant::ZERO, |store, exports| exports.sandbar_interceptor_description().call_describe(store))
    }

    /// Takes what the last call brought about. Give it back to [`reuse`](Self::reuse) when done.
    pub(crate) fn take_effects(&mut self) -> Box<Effects> {
        let call = &mut self.store.data_mut().call;
        call.turn += 1;
        std::mem::replace(&mut call.effects, self.spare_effects.take().unwrap_or_default())
    }

    /// Keeps the memory of effects that have been dealt with.
    pub(crate) fn reuse(&mut self, mut effects: Box<Effects>) {
        effects.reset();
        self.spare_effects = Some(effects);
    }

    /// Puts what waits where a batch that failed would be, unless that is what failed: so nothing of it is forgotten.
    pub(crate) fn give_up_waiting(&mut self) {
        if self.guest().batch.is_empty() {
            std::mem::swap(&mut self.waiting, &mut self.store.data_mut().batch);
        }
    }

    /// Takes the batch that was handed over. Give it back to [`reuse_batch`](Self::reuse_batch) when done.
    pub(crate) fn take_batch(&mut self) -> Box<Batch> {
        std::mem::replace(&mut self.store.data_mut().batch, self.spare_batch.take().unwrap_or_default())
    }

    /// Keeps the memory of a batch that has been dealt with.
    pub(crate) fn reuse_batch(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.spare_batch = Some(batch);
    }

    /// Ends a trial: calls may take what those of any instance may.
    pub(crate) fn trust(&mut self) {
        self.store.data_mut().call.patience = Patience::Whole;
    }

    /// Hands the waiting batch to the guest, which leaves what each token named.
    pub(crate) fn process(&mut self, now: Instant) -> Result<(), Fault> {
        let guest = self.store.data_mut();
        let patience = guest.call.patience;
        std::mem::swap(&mut self.waiting, &mut guest.batch);
        let frames = std::mem::take(&mut guest.batch.frames);
        guest.call.ticks = 0;
        guest.call.processing = true;
        if guest.seats.len() > 1 {
            guest.call.patience = Patience::Shared;
        }
        let result = if self.batched.is_some() {
            let started = self.begin(now);
            let result = match &self.batched {
                Some(lane) => lane.sandbar_interceptor_batch().call_process(&mut self.store, frames.as_bytes()),
                None => Ok(()),
            };
            self.end(started, result)
        } else {
            self.process_typed(now, frames.as_bytes())
        };
        let guest = self.store.data_mut();
        guest.call.processing = false;
        guest.call.patience = patience;
        guest.batch.frames = frames;
        result
    }

    /// The typed lane: a call per frame.
    fn process_typed(&mut self, now: Instant, frames: &[u8]) -> Result<(), Fault> {
        for (head, bytes) in frame::iter(frames) {
            let guest = self.store.data();
            let (seat, stream) = match head.kind.names_stream() {
                true => (guest.streams.get(head.handle).map_or(0, |bound| bound.seat), Some(head.handle)),
                false => (head.handle, None),
            };
            // Unbound or closed since the frame was entered.
            let Some(resource) = guest.seats.get(seat).and_then(|seat| seat.resource) else { continue };
            if let Some(outcome) = self.deliver(now, head, bytes, resource, stream)? {
                self.settle(head, outcome)?;
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        now: Instant,
        head: Head,
        bytes: &[u8],
        resource: ResourceAny,
        stream: Option<u32>,
    ) -> Result<Option<member::Outcome>, Fault> {
        let rtp = member::RtpPacket {
            packet: head.packet,
            stream: head.handle,
            time: head.time,
            size: head.size.into(),
            padding: head.padding,
            repaired: head.flags & frame::REPAIRED != 0,
            bytes: bytes.to_vec(),
        };
        let rtcp = member::RtcpPacket { packet: head.packet, time: head.time, bytes: bytes.to_vec() };
        self.call(now, |store, exports| {
            let guest = exports.sandbar_interceptor_member().interceptor();
            match head.kind {
                FrameKind::ReadRtp => guest.call_read_rtp(store, resource, &rtp).map(Some),
                FrameKind::WriteRtp => guest.call_write_rtp(store, resource, &rtp).map(Some),
                FrameKind::ReadRtcp => guest.call_read_rtcp(store, resource, &rtcp).map(Some),
                FrameKind::WriteRtcp => guest.call_write_rtcp(store, resource, &rtcp).map(Some),
                FrameKind::RefillStamps => guest.call_refill_stamps(store, resource, head.size.into()).map(|()| None),
                FrameKind::SessionTimer | FrameKind::StreamTimer => {
                    guest.call_handle_timeout(store, resource, head.time, stream).map(|()| None)
                }
            }
        })
    }

    /// Does what a typed outcome says, by the same rules as for the batched lane.
    fn settle(&mut self, head: Head, outcome: member::Outcome) -> Result<(), Fault> {
        let guest = self.store.data_mut();
        if guest.batch.token(head.packet).is_none() {
            return Ok(());
        }
        let bad = |message: String| Fault { kind: FaultKind::BadBatch, message };
        match outcome {
            member::Outcome::Forward => {
                guest.hand_on_one(head.packet, &[], 0..0).map_err(|error| bad(error.to_string()))
            }
            member::Outcome::Replace(bytes) if bytes.is_empty() => Err(bad("a packet was replaced by nothing".into())),
            member::Outcome::Replace(bytes) => {
                let mut handed = std::mem::take(&mut guest.call.effects.handed);
                let start = handed.len();
                handed.extend_from_slice(&bytes);
                let result = guest.hand_on_one(head.packet, &handed, start..handed.len());
                guest.call.effects.handed = handed;
                result.map_err(|error| bad(error.to_string()))
            }
            member::Outcome::Drop => Ok(()),
            member::Outcome::Packets(packets) => {
                packets.into_iter().try_for_each(|bytes| guest.add(head, bytes)).map_err(bad)
            }
        }
    }

    /// Makes a session's interceptor, from `state` if there is some and the plugin takes it.
    pub(crate) fn create(
        &mut self,
        now: Instant,
        seat: Seat,
        session: &SessionInfo,
        config: &str,
        state: Option<&[u8]>,
    ) -> Result<Answer<u32>, Fault> {
        let guest = self.store.data_mut();
        guest.random ^= session.seed;
        let Some(id) = guest.seats.insert(seat) else {
            return Ok(Err(types::Refusal::Other("the instance has no number left for another session".into())));
        };
        let info =
            types::SessionInfo { id, mtu: session.mtu, cname: session.cname.clone(), rtcp_ssrc: session.rtcp_ssrc };
        let mut answer = match state {
            Some(state) => self.call(now, |store, exports| {
                exports.sandbar_interceptor_member().interceptor().call_restore(store, &info, config, state)
            })?,
            None => Err(types::Refusal::Other(String::new())),
        };
        if answer.is_err() {
            answer = self.call(now, |store, exports| {
                exports.sandbar_interceptor_member().interceptor().call_create(store, &info, config)
            })?;
        }
        let guest = self.store.data_mut();
        Ok(match answer {
            Ok(resource) => {
                if let Some(seat) = guest.seats.get_mut(id) {
                    seat.resource = Some(resource);
                }
                Ok(id)
            }
            Err(refusal) => {
                guest.seats.remove(id);
                Err(refusal)
            }
        })
    }

    fn resource(&self, seat: u32) -> Result<ResourceAny, Fault> {
        // Only the host's own numbers come here; a missing one would be its mistake, and must not take down a shard.
        self.store.data().seats.get(seat).and_then(|seat| seat.resource).ok_or_else(|| Fault {
            kind: FaultKind::HostCall,
            message: format!("the host lost session {seat} of this instance"),
        })
    }

    /// What the plugin needs of RTCP: from the peer, and to it. It is asked what it says it has to do with.
    pub(crate) fn bind_rtcp(
        &mut self,
        now: Instant,
        seat: u32,
        binds: Binds,
    ) -> Result<Answer<(Access, Access)>, Fault> {
        let resource = self.resource(seat)?;
        let mut read = Ok(types::RtcpAccess::Pass);
        if binds.rtcp_reader {
            read = self.call(now, |store, exports| {
                exports.sandbar_interceptor_member().interceptor().call_bind_rtcp_reader(store, resource)
            })?;
        }
        let read = match read {
            Ok(access) => access,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut write = Ok(types::RtcpAccess::Pass);
        if binds.rtcp_writer {
            write = self.call(now, |store, exports| {
                exports.sandbar_interceptor_member().interceptor().call_bind_rtcp_writer(store, resource)
            })?;
        }
        Ok(write.map(|write| (read.into(), write.into())))
    }

    /// Enters a stream of a seat's session, under the number `wanted` if it can have that; `None` when there is none left for it.
    pub(crate) fn enter_stream(&mut self, wanted: u32, bound: Bound) -> Option<u32> {
        let (guest, seat) = (self.store.data_mut(), bound.seat);
        let handle = guest.streams.insert_as(wanted, bound)?;
        guest.seats.get_mut(seat).into_iter().for_each(|seat| seat.streams.push(handle));
        Some(handle)
    }

    /// Offers the plugin a stream that has been entered as `handle`, with its info as the contract has it.
    pub(crate) fn bind_stream(
        &mut self,
        now: Instant,
        seat: u32,
        handle: u32,
        info: &types::StreamInfo,
    ) -> Result<Answer<Binding>, Fault> {
        let resource = self.resource(seat)?;
        let Some(local) = self.store.data().streams.get(handle).map(|bound| bound.local) else {
            return Ok(Err(types::Refusal::Other("the stream is gone".into())));
        };
        let answer = self.call(now, |store, exports| {
            let guest = exports.sandbar_interceptor_member().interceptor();
            match local {
                true => guest.call_bind_local_stream(store, resource, handle, info),
                false => guest.call_bind_remote_stream(store, resource, handle, info),
            }
        })?;
        Ok(answer.map(Into::into))
    }

    /// Tells the plugin that a stream ends. The stream is kept until [`forget_stream`](Self::forget_stream), so that what
    /// the plugin emits of it last finds it.
    pub(crate) fn unbind_stream(&mut self, now: Instant, handle: u32) -> Result<(), Fault> {
        let Some(bound) = self.store.data().streams.get(handle) else { return Ok(()) };
        let (resource, local) = (self.resource(bound.seat)?, bound.local);
        self.call(now, |store, exports| {
            let guest = exports.sandbar_interceptor_member().interceptor();
            match local {
                true => guest.call_unbind_local_stream(store, resource, handle),
                false => guest.call_unbind_remote_stream(store, resource, handle),
            }
        })
    }

    pub(crate) fn forget_stream(&mut self, handle: u32) {
        let guest = self.store.data_mut();
        let Some(bound) = guest.forget_stream(handle) else { return };
        let Some(seat) = guest.seats.get_mut(bound.seat) else { return };
        seat.streams.retain(|known| *known != handle);
        seat.holdings.give(Quota::Timers, u64::from(bound.timer.wake.is_some()));
        seat.histories -= bound.reserved;
        seat.count_held();
    }

    pub(crate) fn save(&mut self, now: Instant, seat: u32) -> Result<Option<Vec<u8>>, Fault> {
        let resource = self.resource(seat)?;
        let saved = self.call(now, |store, exports| {
            exports.sandbar_interceptor_member().interceptor().call_save(store, resource)
        })?;
        let limit = self.store.data().limits.state;
        Ok(saved.filter(|state| state.len() <= limit))
    }

    pub(crate) fn control(&mut self, now: Instant, seat: u32, request: &str) -> Result<Answer<String>, Fault> {
        let resource = self.resource(seat)?;
        self.call(now, |store, exports| {
            exports.sandbar_interceptor_member().interceptor().call_control(store, resource, request)
        })
    }

    /// Ends a session's interceptor. Its seat is kept until [`leave`](Self::leave), so that what it emits last finds it.
    pub(crate) fn close(&mut self, now: Instant, seat: u32) -> Result<(), Fault> {
        let resource = self.resource(seat)?;
        self.call(now, |store, exports| {
            exports.sandbar_interceptor_member().interceptor().call_close(&mut *store, resource)?;
            resource.resource_drop(store)
        })
    }

    /// Forgets a session and its streams.
    pub(crate) fn leave(&mut self, seat: u32) {
        let guest = self.store.data_mut();
        for stream in guest.seats.remove(seat).into_iter().flat_map(|seat| seat.streams) {
            guest.forget_stream(stream);
        }
    }
}

/// Bounds the call that is about to be made.
#[inline]
fn bound(store: &mut Store<Guest>, fuel: Option<u64>) {
    match fuel {
        None => store.set_epoch_deadline(1),
        // It fails only where the engine counts none.
        Some(fuel) => drop(store.set_fuel(fuel)),
    }
}

/// What a session's interceptors are told of it.
#[derive(Clone, Debug)]
pub(crate) struct SessionInfo {
    pub(crate) mtu: u16,
    pub(crate) cname: String,
    pub(crate) rtcp_ssrc: u32,
    pub(crate) seed: u64,
}

/// Names what went wrong. A limit that the host enforced is blamed before the trap that it led to.
fn fault(guest: &Guest, error: &wasmtime::Error) -> Fault {
    let kind = match (guest.call.blame, error.downcast_ref::<Trap>()) {
        (Some(kind), _) => kind,
        (None, Some(Trap::OutOfFuel)) => FaultKind::Deadline,
        (None, Some(_)) if guest.meter.refused => FaultKind::Memory,
        (None, Some(_)) => FaultKind::Trap,
        (None, None) if guest.meter.refused => FaultKind::Memory,
        (None, None) => FaultKind::HostCall,
    };
    let message = match (error.downcast_ref::<Trap>(), &guest.meter.exceeded) {
        (_, Some(exceeded)) if kind == FaultKind::Memory => exceeded.to_string(),
        (Some(trap), _) => trap.to_string(),
        (None, _) => error.root_cause().to_string(),
    };
    Fault { kind, message: message.lines().next().unwrap_or_default().to_owned() }
}

/// A stream's info as the contract has it.
pub(crate) fn lower(info: &StreamInfo) -> types::StreamInfo {
    types::StreamInfo {
        id: info.id.clone(),
        attributes: info.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        ssrc: info.ssrc,
        ssrc_retransmission: info.ssrc_retransmission,
        ssrc_forward_error_correction: info.ssrc_forward_error_correction,
        payload_type: info.payload_type,
        payload_type_retransmission: info.payload_type_retransmission,
        payload_type_forward_error_correction: info.payload_type_forward_error_correction,
        rtp_header_extensions: info
            .rtp_header_extensions
            .iter()
            .map(|extension| types::RtpHeaderExtension { uri: extension.uri.clone(), id: extension.id })
            .collect(),
        mime_type: info.mime_type.clone(),
        clock_rate: info.clock_rate,
        channels: info.channels,
        sdp_fmtp_line: info.sdp_fmtp_line.clone(),
        rtcp_feedback: info
            .rtcp_feedback
            .iter()
            .map(|line| types::RtcpFeedback { kind: line.kind.clone(), parameter: line.parameter.clone() })
            .collect(),
    }
}

fn attribute(key: &str, value: &Value) -> bindings::types::Attribute {
    bindings::types::Attribute { key: key.to_owned(), value: value.into() }
}
