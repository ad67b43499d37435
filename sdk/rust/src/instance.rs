//! The sessions of one instance, kept apart.

use std::hint::black_box;

use crate::binding::{Access, Binding, RtcpAccess, View};
use crate::context::{Context, Payload};
use crate::error::Refusal;
use crate::frame::{self, kind};
use crate::header::Layout;
use crate::host;
use crate::idmap::IdMap;
use crate::interceptor::Interceptor;
use crate::packet::{Outcome, RtcpPacket, RtpPacket};
use crate::slots::Slots;
use crate::stream::{SessionInfo, StreamId, StreamInfo};

/// Which way a packet goes: from the peer or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// What is known of a bound stream.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    slot: u32,
    pub(crate) view: View,
    transform: bool,
}

impl Default for Bound {
    fn default() -> Self {
        Bound { slot: 0, view: View::Headers, transform: false }
    }
}

/// A session's interceptor and what it answered when RTCP was bound.
struct Slot<T> {
    interceptor: T,
    read_rtcp: RtcpAccess,
    write_rtcp: RtcpAccess,
}

/// So many frames of one stream in a row make looking ahead in their batch not worth the while.
const FEW_SESSIONS: u32 = 4;

/// All sessions of one instance of a plugin.
pub(crate) struct Instance<T> {
    cx: Context,
    /// By the host's id, the slot.
    sessions: IdMap<u32>,
    pub(crate) streams: IdMap<Bound>,
    slots: Slots<Option<Slot<T>>>,
    /// By slot, the streams that its session has: apart, as packets do not ask for them.
    bound: Slots<Vec<u32>>,
    free: Vec<u32>,
    /// Where a packet goes that has to grow.
    pub(crate) copy: Vec<u8>,
}

impl<T: Interceptor> Instance<T> {
    pub(crate) const fn new() -> Self {
        Instance {
            cx: Context::new(),
            sessions: IdMap::new(),
            streams: IdMap::new(),
            slots: Slots::new(),
            bound: Slots::new(),
            free: Vec::new(),
            copy: Vec::new(),
        }
    }

    /// Makes a session's interceptor, from `state` if there is some.
    pub(crate) fn create(&mut self, info: SessionInfo, config: &str, state: Option<&[u8]>) -> Result<(), Refusal> {
        let id = info.id.number();
        self.cx.begin();
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.cx.open(slot as usize, info);
        let made = match state {
            None => T::create(&mut self.cx, config),
            Some(state) => T::restore(&mut self.cx, config, state),
        };
        let (filled, result) = match made {
            Ok(interceptor) => {
                self.sessions.insert(id, slot);
                (Some(Slot { interceptor, read_rtcp: RtcpAccess::Pass, write_rtcp: RtcpAccess::Pass }), Ok(()))
            }
            Err(refusal) => {
                self.free.push(slot);
                (None, Err(refusal))
            }
        };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = filled,
            None => {
                self.slots.push(filled);
                self.bound.push(Vec::new());
            }
        }
        result
    }

    /// Forgets a session and its streams.
    pub(crate) fn remove(&mut self, session: u32) {
        if let Some(slot) = self.sessions.remove(session)
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            *place = None;
            self.free.push(slot);
            for stream in self.bound.get_mut(slot as usize).into_iter().flat_map(|bound| bound.drain(..)) {
                self.streams.remove(stream);
            }
        }
    }

    /// Calls a session's interceptor; none if there is no such session.
    pub(crate) fn call<R>(&mut self, session: u32, call: impl FnOnce(&mut T, &mut Context) -> R) -> Option<R> {
        let slot = self.sessions.get(session)? as usize;
        let member = self.slots.get_mut(slot)?.as_mut()?;
        self.cx.begin();
        self.cx.enter(slot);
        Some(call(&mut member.interceptor, &mut self.cx))
    }

    pub(crate) fn bind_rtcp(&mut self, session: u32, direction: Direction) -> Result<RtcpAccess, Refusal> {
        let answer = self.call(session, |interceptor, cx| match direction {
            Direction::Read => interceptor.bind_rtcp_reader(cx),
            Direction::Write => interceptor.bind_rtcp_writer(cx),
        });
        let access = answer.unwrap_or(Ok(RtcpAccess::Pass))?;
        if let Some(slot) = self.sessions.get(session)
            && let Some(Some(member)) = self.slots.get_mut(slot as usize)
        {
            match direction {
                Direction::Read => member.read_rtcp = access,
                Direction::Write => member.write_rtcp = access,
            }
        }
        Ok(access)
    }

    pub(crate) fn bind_stream(
        &mut self,
        session: u32,
        direction: Direction,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        let answer = self.call(session, |interceptor, cx| match direction {
            Direction::Read => interceptor.bind_remote_stream(cx, stream, info),
            Direction::Write => interceptor.bind_local_stream(cx, stream, info),
        });
        let binding = answer.unwrap_or(Ok(Binding::PASS))?;
        if let Some(slot) = self.sessions.get(session) {
            let (view, transform) = match binding.access {
                Access::Pass | Access::Follow | Access::Stamp(_) => (View::Headers, false),
                Access::Observe(view) => (view, false),
                Access::Transform(view) => (view, true),
            };
            // A stream that passes is kept too: its timer and its history are the plugin's all the same.
            self.streams.insert(stream.number(), Bound { slot, view, transform });
            self.bound.get_mut(slot as usize).into_iter().for_each(|bound| bound.push(stream.number()));
        }
        Ok(binding)
    }

    pub(crate) fn unbind_stream(&mut self, session: u32, direction: Direction, stream: StreamId) {
        self.call(session, |interceptor, cx| match direction {
            Direction::Read => interceptor.unbind_remote_stream(cx, stream),
            Direction::Write => interceptor.unbind_local_stream(cx, stream),
        });
        let slot = self.streams.remove(stream.number()).map(|bound| bound.slot as usize);
        if let Some(bound) = slot.and_then(|slot| self.bound.get_mut(slot)) {
            bound.retain(|known| *known != stream.number());
        }
    }

    /// The batched lane: events of any sessions, in their order. `EMIT_RTP` is whether the plugin wants that; if it does
    /// not, no code may be left that would import it.
    #[inline]
    pub(crate) fn process<const EMIT_RTP: bool>(&mut self, mut frames: &mut [u8]) {
        self.cx.begin();
        self.warm(frames);
        while let Some(kind) = frame::first(frames).map(|head| head.kind()) {
            if kind == kind::READ_RTP {
                frames = self.rtp_run::<EMIT_RTP, true>(frames);
            } else if kind == kind::WRITE_RTP {
                frames = self.rtp_run::<EMIT_RTP, false>(frames);
            } else if let Some(frame) = frame::split(&mut frames) {
                self.rare_frame(kind, frame);
            } else {
                break;
            }
        }
        self.cx.flush();
    }

    /// Looks at the state of every stream of a batch before the first is served: where there are many sessions, little of
    /// it is in the processor's cache, and what is asked for at once comes at once and not one after the other.
    fn warm(&self, frames: &[u8]) {
        let (mut last, mut again) = (0, 0);
        for head in frame::heads(frames) {
            if head.kind() > kind::WRITE_RTP {
                if head.kind() == kind::SESSION_TIMER {
                    let slot = self.sessions.get(head.handle()).and_then(|slot| self.slots.get(slot as usize));
                    black_box(slot.is_some_and(Option::is_some));
                }
                continue;
            }
            if head.handle() == last {
                again += 1;
                // Few sessions: what there is of them is soon at hand.
                if again > FEW_SESSIONS {
                    return;
                }
                continue;
            }
            (last, again) = (head.handle(), 0);
            let place = self.streams.get(last).and_then(|bound| self.slots.get(bound.slot as usize));
            if let Some(Some(member)) = place {
                member.interceptor.prefetch(StreamId::new(last));
            }
        }
    }

    /// Packets of one stream in a row: what is looked up for the first serves all. Gives what follows them.
    #[inline]
    fn rtp_run<'a, const EMIT_RTP: bool, const READ: bool>(&mut self, mut frames: &'a mut [u8]) -> &'a mut [u8] {
        let Some(handle) = frame::first(frames).map(|head| head.handle()) else { return &mut [] };
        let bound = self.streams.get(handle);
        let member = bound.and_then(|bound| Some((bound, self.slots.get_mut(bound.slot as usize)?.as_mut()?)));
        let Some((bound, Slot { interceptor, .. })) = member else {
            frame::split(&mut frames);
            return frames;
        };
        self.cx.enter(bound.slot as usize);
        let run = Run { cx: &mut self.cx, copy: &mut self.copy, stream: StreamId::new(handle) };
        match (bound.transform, bound.view) {
            (false, View::Headers) => run.observe::<T, READ, true>(interceptor, frames),
            (false, View::Packets) => run.observe::<T, READ, false>(interceptor, frames),
            (true, view) => run.transform::<T, EMIT_RTP, READ>(interceptor, view, frames),
        }
    }

    /// What is no packet of a stream: kept out of the loop, which is quicker without its code.
    #[inline(never)]
    fn rare_frame(&mut self, kind: u8, frame: &mut [u8]) {
        match kind {
            kind::READ_RTCP => self.rtcp_frame(Direction::Read, frame),
            kind::WRITE_RTCP => self.rtcp_frame(Direction::Write, frame),
            kind::SESSION_TIMER | kind::STREAM_TIMER => self.timer_frame(frame),
            kind::REFILL_STAMPS => self.refill_frame(frame),
            // A later version's; what it adds is not for this plugin.
            _ => {}
        }
    }

    fn rtcp_frame(&mut self, direction: Direction, frame: &mut [u8]) {
        let Some((head, bytes)) = frame::parts(frame) else { return };
        let Some(slot) = self.sessions.get(head.handle()) else { return };
        let Some(Some(member)) = self.slots.get_mut(slot as usize) else { return };
        self.cx.enter(slot as usize);
        let mut packet = RtcpPacket::new(head.facts(), bytes);
        let (access, outcome) = match direction {
            Direction::Read => (member.read_rtcp, member.interceptor.read_rtcp(&mut self.cx, &mut packet)),
            Direction::Write => (member.write_rtcp, member.interceptor.write_rtcp(&mut self.cx, &mut packet)),
        };
        if access != RtcpAccess::Transform {
            return;
        }
        let replacement = match outcome {
            Outcome::Forward => {
                let bytes = if packet.changed() { packet.bytes() } else { &[] };
                head.hand_on(bytes, &mut self.cx.burst);
                return;
            }
            Outcome::Replace(bytes) => bytes,
            Outcome::Packets(packets) => packets.concat(),
            Outcome::Drop => return,
        };
        if !replacement.is_empty() {
            head.hand_on(&replacement, &mut self.cx.burst);
        }
    }

    fn timer_frame(&mut self, frame: &mut [u8]) {
        let Some((head, _)) = frame::parts(frame) else { return };
        let (slot, stream) = match head.kind() {
            kind::SESSION_TIMER => (self.sessions.get(head.handle()), None),
            _ => (self.streams.get(head.handle()).map(|bound| bound.slot), Some(StreamId::new(head.handle()))),
        };
        let Some(slot) = slot else { return };
        if let Some(Some(member)) = self.slots.get_mut(slot as usize) {
            self.cx.enter(slot as usize);
            self.cx.tell_now(head.facts().time);
            member.interceptor.handle_timeout(&mut self.cx, stream);
        }
    }

    fn refill_frame(&mut self, frame: &mut [u8]) {
        let Some((head, _)) = frame::parts(frame) else { return };
        let Some(slot) = self.sessions.get(head.handle()) else { return };
        if let Some(Some(member)) = self.slots.get_mut(slot as usize) {
            self.cx.enter(slot as usize);
            member.interceptor.refill_stamps(&mut self.cx, head.facts().size.into());
        }
    }
}

/// What packets of one stream share.
struct Run<'a> {
    cx: &'a mut Context,
    copy: &'a mut Vec<u8>,
    stream: StreamId,
}

impl Run<'_> {
    /// Shows frames for as long as they are this run's, and gives those that follow.
    ///
    /// The plugin's method is inlined, so that a packet never exists in memory; and in a function of its own for each
    /// direction and view, so that what the loop keeps at hand fits the processor's registers.
    #[inline(never)]
    fn observe<'f, T: Interceptor, const READ: bool, const HEADERS: bool>(
        self,
        interceptor: &mut T,
        mut frames: &'f mut [u8],
    ) -> &'f mut [u8] {
        let Self { cx, copy, stream } = self;
        let view = if HEADERS { View::Headers } else { View::Packets };
        while let Some((head, bytes)) = frame::split_if(&mut frames, kind_of::<READ>(), stream.number()) {
            if let Ok(mut packet) = RtpPacket::new(stream, head.facts(), view, bytes, copy) {
                call::<T, READ>(interceptor, cx, &mut packet);
            }
        }
        frames
    }

    /// The same, and hands on what the interceptor makes of them.
    #[inline(never)]
    fn transform<'f, T: Interceptor, const EMIT_RTP: bool, const READ: bool>(
        self,
        interceptor: &mut T,
        view: View,
        mut frames: &'f mut [u8],
    ) -> &'f mut [u8] {
        let Self { cx, copy, stream } = self;
        while let Some((head, bytes)) = frame::split_if(&mut frames, kind_of::<READ>(), stream.number()) {
            let Ok(mut packet) = RtpPacket::new(stream, head.facts(), view, bytes, copy) else {
                // Not for the plugin to judge: it goes on as it came.
                head.hand_on(&[], &mut cx.burst);
                continue;
            };
            match call::<T, READ>(interceptor, cx, &mut packet) {
                Outcome::Forward => {
                    let bytes = if packet.changed() { packet.bytes() } else { &[] };
                    head.hand_on(bytes, &mut cx.burst);
                }
                Outcome::Replace(bytes) if !bytes.is_empty() => head.hand_on(&bytes, &mut cx.burst),
                Outcome::Replace(_) | Outcome::Drop => {}
                Outcome::Packets(packets) if EMIT_RTP => emit_all(cx, stream, &packets),
                Outcome::Packets(_) => panic!("Outcome::Packets of RTP without `emit_rtp` among the plugin's wants"),
            }
        }
        frames
    }
}

/// The kind of frames that go this way.
const fn kind_of<const READ: bool>() -> u8 {
    if READ { kind::READ_RTP } else { kind::WRITE_RTP }
}

/// Shows a packet to an interceptor.
#[inline(always)]
fn call<T: Interceptor, const READ: bool>(
    interceptor: &mut T,
    cx: &mut Context,
    packet: &mut RtpPacket<'_>,
) -> Outcome {
    if READ { interceptor.read_rtp(cx, packet) } else { interceptor.write_rtp(cx, packet) }
}

/// Packets in one packet's place, as the batched lane has it: after what was handed on before.
fn emit_all(cx: &mut Context, stream: StreamId, packets: &[Vec<u8>]) {
    cx.flush();
    for packet in packets {
        if let Ok(layout) = Layout::of(packet) {
            let (header, payload) = packet.split_at(layout.len);
            // The host counts what it refuses; there is no one else to tell.
            let _ = host::emit_rtp(stream, header, Payload::Bytes(payload), &[]);
        }
    }
}
