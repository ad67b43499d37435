//! What the host keeps beside an instance's memory: its sessions and streams, the batch that waits for it, and what the
//! call that is running has brought about. Nothing of it takes effect before the call has returned without a fault.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;
use wasmtime::component::ResourceAny;

use crate::allowance::{Spent, Used};
use crate::attributes::Attributes;
use crate::binding::{Access, View};
use crate::chain::Limits;
use crate::fault::FaultKind;
use crate::frame::{self, FrameKind, Frames, Head, Words};
use crate::history::History;
use crate::hold::{Held, Hold, Inheritance};
use crate::ids::Ids;
use crate::packet::{Fixed, Packet, RtcpPacket, RtpPacket};
use crate::session::Direction;
use crate::stamps::Stamps;
use crate::stream::StreamInfo;
use crate::tenant::{Holdings, Quota, QuotaExceeded, Tenant};
use crate::time::{Instant, WallClock};
use crate::timers::{Scope, Timer};
use crate::values::{Changes, Values};
use crate::{packet, rtcp, sink};

/// One session's interceptor within an instance. Laid out as it is written: what a timer and what it brings about ask for lies
/// together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Seat {
    pub(crate) owner: crate::session::Owner,
    pub(crate) timer: Timer,
    pub(crate) mtu: u16,
    pub(crate) used: Used,
    /// What it has of its tenant's, and of that memory, bytes that its histories may come to.
    pub(crate) holdings: Holdings,
    pub(crate) histories: u64,
    /// The session's streams that the plugin was asked about.
    pub(crate) streams: SmallVec<[u32; 2]>,
    pub(crate) resource: Option<ResourceAny>,
    pub(crate) metrics: Vec<(String, Metric)>,
    /// Packets that went on as they came because the change would have made them larger than the MTU.
    pub(crate) oversize: u64,
    pub(crate) sink: sink::Outlet,
    /// The session's values, and what the running call has set of them.
    pub(crate) values: Values,
    pub(crate) changes: Changes,
    pub(crate) held: Held,
    pub(crate) stamps: Stamps,
    /// While it takes over from a predecessor.
    pub(crate) inheritance: Option<Box<Inheritance>>,
}

impl Seat {
    /// Counts for the tenant what is held, as it is now.
    pub(crate) fn count_held(&mut self) {
        let (packets, bytes) = self.held.total();
        self.holdings.set(Quota::HeldPackets, packets as u64);
        self.holdings.set(Quota::Memory, self.histories + bytes as u64);
    }
}

/// A counter's or a gauge's value.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Metric {
    /// Counts up.
    Count(u64),
    /// Is set.
    Gauge(f64),
}

/// One stream as an instance has it bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) stream: crate::session::StreamId,
    pub(crate) seat: u32,
    pub(crate) local: bool,
    /// The info's and the session's, here as each packet asks for them.
    pub(crate) ssrc: u32,
    pub(crate) mtu: u16,
    pub(crate) info: Arc<StreamInfo>,
    pub(crate) access: Access,
    /// Among the instance's histories, if the plugin wants one.
    pub(crate) history: Option<u32>,
    /// Bytes that the history may come to.
    pub(crate) reserved: u64,
    pub(crate) timer: Timer,
}

impl Bound {
    /// Keeps a packet, where the plugin wants a history. Companions' packets have sequence numbers of their own.
    #[inline]
    fn keep(&self, histories: &mut Ids<History>, now: Instant, packet: &RtpPacket) {
        if self.ssrc == packet.ssrc()
            && let Some(history) = self.history.and_then(|history| histories.get_mut(history))
        {
            history.push(packet, now);
        }
    }
}

/// A packet that waits in the burst for the guest to hand it on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// The number of its frame in the batch.
    pub(crate) packet: u32,
    /// Where it waits.
    pub(crate) slot: u32,
    pub(crate) handle: u32,
    /// The packet's, where it is RTP.
    ssrc: u32,
    /// Bytes of the header, where it is RTP, and of what follows it.
    pub(crate) header: u16,
    pub(crate) payload: u32,
    pub(crate) shown: Shown,
    /// Handed on, or held.
    pub(crate) handed: bool,
}

impl Token {
    #[inline(always)]
    fn new(packet: u32, slot: u32, handle: u32, sight: &Sight<'_>, shown: Shown) -> Self {
        let Sight { ssrc, payload, header, .. } = *sight;
        Self { packet, slot, handle, ssrc, header: header.len() as u16, payload, shown, handed: false }
    }

    /// The same packet in another instance's batch.
    pub(crate) fn again(self, packet: u32, handle: u32) -> Self {
        Self { packet, handle, handed: false, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Header,
    Packet,
    Rtcp,
}

/// A packet that is about to be shown to members of a chain, with what all of them are told of it.
pub(crate) struct Sight<'a> {
    pub(crate) packet: &'a Packet,
    /// Without handle and number.
    head: Head,
    /// The same of a frame with the header only, as it is written.
    pub(crate) words: Words,
    /// The header, of RTP.
    pub(crate) header: &'a [u8],
    ssrc: u32,
    payload: u32,
    /// Whether it is RTP without attributes, as nearly all is.
    pub(crate) plain: bool,
}

impl<'a> Sight<'a> {
    pub(crate) fn repaired(&self) -> bool {
        self.head.flags & frame::REPAIRED != 0
    }

    #[inline(always)]
    pub(crate) fn new(direction: Direction, packet: &'a Packet) -> Self {
        let (kind, time, header, payload, repaired) = match (packet, direction) {
            (Packet::Rtp(rtp), Direction::Read) => {
                (FrameKind::ReadRtp, rtp.time, rtp.header(), rtp.payload_len(), rtp.repaired)
            }
            (Packet::Rtp(rtp), Direction::Write) => {
                (FrameKind::WriteRtp, rtp.time, rtp.header(), rtp.payload_len(), rtp.repaired)
            }
            (Packet::Rtcp(rtcp), Direction::Read) => (FrameKind::ReadRtcp, rtcp.time, &[][..], 0, false),
            (Packet::Rtcp(rtcp), Direction::Write) => (FrameKind::WriteRtcp, rtcp.time, &[][..], 0, false),
            // Never shown to anyone.
            (Packet::Malformed(..), _) => (FrameKind::ReadRtp, Instant::ZERO, &[][..], 0, false),
        };
        let flags = if repaired { frame::REPAIRED } else { 0 };
        // No packet has more than 65535 bytes.
        let (size, payload) = ((header.len() + payload) as u16, payload as u32);
        let padding = match packet {
            Packet::Rtp(rtp) => rtp.padding(),
            _ => 0,
        };
        let head = Head { kind, flags, handle: 0, time: time.as_nanos(), size, padding, packet: 0 };
        let ssrc = if header.is_empty() { 0 } else { Fixed(header).ssrc() };
        let plain = !header.is_empty() && packet.attributes().is_empty();
        Self { packet, head, words: head.to_words(header.len()), header, ssrc, payload, plain }
    }
}

/// Frames that wait for the instance.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: Frames,
    /// How many.
    pub(crate) count: u32,
    /// Of those whose packets wait for this batch, in order. Observers' have none.
    pub(crate) tokens: Vec<Token>,
    /// Attributes of those packets that have any, by the frame's number; the flag says that the guest has changed them.
    pub(crate) attributes: Vec<(u32, Attributes, bool)>,
    /// When the first of its frames was entered that are not to wait long.
    since: Option<Instant>,
    /// How many of its frames are timers'.
    timers: u32,
}

/// Timers of one batch, at most. What one brings about, such as a session's feedback or all that a pacer lets go, takes many times as long
/// as a packet, and a call may not take as many times as long because it is for many sessions.
const MOST_TIMERS: u32 = 16;

impl Batch {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it has as many frames as there are to be, or as many timers as a call may have.
    #[inline]
    pub(crate) fn is_full(&self, frames: usize) -> bool {
        self.count as usize >= frames || self.timers >= MOST_TIMERS
    }

    /// When the first of its frames was entered that are not to wait long, if there is one.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Has what there is and what will be wait no longer than from now on. False: it is so already.
    #[inline]
    pub(crate) fn hurry(&mut self, now: Instant) -> bool {
        let new = self.since.is_none();
        if new {
            self.since = Some(now);
        }
        new
    }

    /// Whether packets wait for this batch.
    #[inline]
    pub(crate) fn urgent(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether a packet of the batch has this number, or those have it of which nothing is to be had.
    pub(crate) fn has(&self, packet: u32) -> bool {
        packet < self.count || packet == frame::UNNAMED
    }

    /// Of the packet with this number, if it waits.
    #[inline]
    pub(crate) fn token(&self, packet: u32) -> Option<&Token> {
        let at = self.token_at(packet)?;
        self.tokens.get(at)
    }

    /// Mostly all packets of a batch wait or none does, so that the number is the place.
    #[inline]
    pub(crate) fn token_at(&self, packet: u32) -> Option<usize> {
        match self.tokens.get(packet as usize) {
            Some(token) if token.packet == packet => Some(packet as usize),
            _ => self.tokens.binary_search_by_key(&packet, |token| token.packet).ok(),
        }
    }

    /// The attributes of a packet, with the guest's changes.
    pub(crate) fn attributes_of(&self, packet: u32) -> Option<&Attributes> {
        self.attributes.iter().find(|(known, ..)| *known == packet).map(|(_, attributes, _)| attributes)
    }

    /// The number of a frame that is about to be appended.
    #[inline]
    fn next(&mut self) -> u32 {
        self.count += 1;
        self.count - 1
    }

    /// Appends a packet's frame. `slot` is where it waits, if it does.
    #[inline(always)]
    pub(crate) fn push(&mut self, sight: &Sight<'_>, handle: u32, view: View, slot: Option<u32>) {
        if view == View::Packets || !sight.plain {
            return self.push_any(sight, handle, view, slot);
        }
        let packet = self.next();
        self.frames.push_header(&sight.words, handle, packet, sight.header);
        if let Some(slot) = slot {
            self.tokens.push(Token::new(packet, slot, handle, sight, Shown::Header));
        }
    }

    /// Whole packets, RTCP, and what has attributes.
    #[inline(never)]
    fn push_any(&mut self, sight: &Sight<'_>, handle: u32, view: View, slot: Option<u32>) {
        let packet = sight.packet;
        let (shown, included): (_, [&[u8]; 3]) = match (packet, view) {
            (Packet::Rtp(_), View::Headers) => (Shown::Header, [sight.header, &[], &[]]),
            (Packet::Rtp(rtp), View::Packets) => {
                let [prefix, payload] = rtp.payload_parts();
                (Shown::Packet, [sight.header, prefix, payload])
            }
            (Packet::Rtcp(rtcp), _) => (Shown::Rtcp, [&rtcp.bytes, &[], &[]]),
            (Packet::Malformed(..), _) => return,
        };
        let number = self.next();
        let mut flags = sight.head.flags;
        if !packet.attributes().is_empty() {
            flags |= frame::HAS_ATTRIBUTES;
            self.attributes.push((number, packet.attributes().clone(), false));
        }
        let size = packet.size() as u16;
        if let Some(slot) = slot {
            self.tokens.push(Token::new(number, slot, handle, sight, shown));
        }
        self.frames.push(Head { flags, handle, size, packet: number, ..sight.head }, included);
    }

    /// Appends `count` frames of packets that nothing can be asked about.
    pub(crate) fn append(&mut self, frames: &[u8], count: u32) {
        self.frames.append(frames);
        self.count += count;
    }

    /// Appends a timer's frame.
    pub(crate) fn push_timer(&mut self, now: Instant, kind: FrameKind, handle: u32) {
        let packet = self.next();
        self.timers += 1;
        self.frames
            .push(Head { kind, flags: 0, handle, time: now.as_nanos(), size: 0, padding: 0, packet }, [&[], &[], &[]]);
    }

    /// Asks for more values of a session's stamps.
    pub(crate) fn push_refill(&mut self, now: Instant, seat: u32, wanted: u16) {
        let (packet, kind, time) = (self.next(), FrameKind::RefillStamps, now.as_nanos());
        self.frames
            .push(Head { kind, flags: 0, handle: seat, time, size: wanted, padding: 0, packet }, [&[], &[], &[]]);
    }

    /// Takes over a frame of a batch that failed, under the handle that its stream or session has here.
    pub(crate) fn adopt(&mut self, from: &Self, head: Head, handle: u32, bytes: &[u8]) {
        let packet = self.next();
        for (_, attributes, _) in from.attributes.iter().filter(|(known, ..)| *known == head.packet) {
            self.attributes.push((packet, attributes.clone(), false));
        }
        self.tokens.extend(from.token(head.packet).map(|token| token.again(packet, handle)));
        self.frames.push(Head { handle, packet, ..head }, [bytes, &[], &[]]);
    }

    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.count = 0;
        self.tokens.clear();
        self.attributes.clear();
        self.since = None;
        self.timers = 0;
    }
}

/// A packet that leaves the guest, or does not. RTP of its own is among its [packets](Effects::packets), in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Out {
    /// One that it was given. In place of what was shown come these bytes of what it [handed](Effects::handed) back,
    /// unless they are none.
    Handed { token: u32, start: u32, end: u32 },
    /// One of several in place of one that it was given.
    Added { token: u32 },
    /// RTP of its own on a stream it has bound.
    Rtp { stream: u32 },
    /// RTCP of its own: these bytes of what it handed over.
    Rtcp { seat: u32, start: u32, end: u32 },
    /// The next of its [holds](Effects::holds).
    Hold,
}

/// What a guest says.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Log { level: crate::event::Level, message: String },
    Published { name: String, json: String },
}

/// What a call brought about.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) out: Vec<Out>,
    pub(crate) packets: Vec<Packet>,
    /// What packets that were handed on become, and RTCP.
    pub(crate) handed: Vec<u8>,
    pub(crate) holds: Vec<Hold>,
    /// Timers that have been set or cleared.
    pub(crate) wakes: Vec<Scope>,
    /// Under the seat's number, 0 for the instance as a whole.
    pub(crate) notes: Vec<(u32, Note)>,
    /// Bytes for sinks, by seat.
    pub(crate) written: Vec<(u32, bytes::Bytes)>,
    /// Seats that have set values of their sessions.
    pub(crate) changed: Vec<u32>,
    /// What the tenant's quotas refused, each once.
    pub(crate) exceeded: Vec<QuotaExceeded>,
    /// By all sessions together.
    pub(crate) spent: Spent,
}

impl Effects {
    /// Empties it and keeps its memory.
    pub(crate) fn reset(&mut self) {
        self.out.clear();
        self.packets.clear();
        self.handed.clear();
        self.holds.clear();
        self.wakes.clear();
        self.notes.clear();
        self.written.clear();
        self.changed.clear();
        self.exceeded.clear();
        self.spent = Spent::default();
    }

    pub(crate) fn hold(&mut self, hold: Hold) {
        self.out.push(Out::Hold);
        self.holds.push(hold);
    }

    /// Notes that a quota of the tenant's refused something.
    pub(crate) fn exceed(&mut self, exceeded: QuotaExceeded) {
        if !self.exceeded.iter().any(|known| known.quota == exceeded.quota) {
            self.exceeded.push(exceeded);
        }
    }

    /// Lets a packet of the guest's own leave.
    pub(crate) fn send(&mut self, out: Out, packet: impl Into<Packet>) {
        self.out.push(out);
        self.packets.push(packet.into());
    }
}

/// How much of the time that a call may take this one may. Where several sessions are in it, the one that it does not return for
/// has to be found by another call; together they take what one may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patience {
    /// All of it.
    #[default]
    Whole,
    /// Two thirds: it is for several sessions.
    Shared,
    /// The last third: it is for one session, after one for several has failed.
    Trial,
}

impl Patience {
    /// Its part of these nanoseconds.
    pub(crate) fn of(self, nanos: u64) -> u64 {
        match self {
            Self::Whole => nanos,
            Self::Shared => nanos - nanos / 3,
            Self::Trial => nanos / 3,
        }
    }
}

/// The call that is running.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) now: Instant,
    /// How often effects have been taken.
    pub(crate) turn: u64,
    pub(crate) effects: Box<Effects>,
    /// What kind of fault a trap of this call will be.
    pub(crate) blame: Option<FaultKind>,
    /// How many nanoseconds it may take, and as what part of what its version may.
    pub(crate) allowed: u64,
    pub(crate) patience: Patience,
    /// Ticks that have passed while it ran, and the processor time at the first.
    pub(crate) ticks: u64,
    pub(crate) cpu_at_first_tick: u64,
    /// Whether it takes a batch, so that packets may be handed on.
    pub(crate) processing: bool,
}

/// Memory that the instance has, and the bounds on it.
#[derive(Debug)]
pub(crate) struct Meter {
    memories: usize,
    tables: usize,
    limits: Limits,
    pub(crate) refused: bool,
    /// The tenant's quota that refused it, where one did.
    pub(crate) exceeded: Option<QuotaExceeded>,
    /// The instance, and its memory.
    pub(crate) holdings: Holdings,
}

/// What an element of a table takes.
const TABLE_ELEMENT: usize = 16;

/// The data of an instance's store.
pub(crate) struct Guest {
    pub(crate) seats: Ids<Seat>,
    pub(crate) streams: Ids<Bound>,
    /// Beside the streams, most of which have none.
    pub(crate) histories: Ids<History>,
    /// The one that the guest has been given; in a box, as it changes places with another one when it has been dealt with.
    pub(crate) batch: Box<Batch>,
    pub(crate) call: Call,
    /// What it has said that is no session's.
    pub(crate) used: Used,
    pub(crate) meter: Meter,
    pub(crate) limits: Limits,
    pub(crate) wall_clock: WallClock,
    /// State of the instance's random numbers; each session that joins stirs its seed in.
    pub(crate) random: u64,
    pub(crate) wasi: crate::wasi::Wasi,
}

/// Why a guest may not hand on or emit what it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Truncated(#[from] frame::Truncated),
    #[error("a packet was handed on outside of a batch")]
    NoBatch,
    #[error("packet {0} was handed on, and the batch has {1}")]
    NoPacket(u32, u32),
    #[error("packet {0} was handed on twice, or held and handed on")]
    Twice(u32),
    #[error("packet {0} was handed on by a plugin that only observes it")]
    Observed(u32),
    #[error("packet {0} was replaced by what is not RTP: {1}")]
    Rtp(u32, packet::RtpError),
    #[error("packet {0} was replaced by what is not RTCP: {1}")]
    Rtcp(u32, rtcp::RtcpError),
    #[error("packet {0} was replaced by {1} bytes, and the session's MTU is {2}")]
    Large(u32, usize, u16),
    #[error("packet {0} was given the SSRC {1:08x}, which is neither its stream's nor a companion's")]
    Ssrc(u32, u32),
}

impl Guest {
    pub(crate) fn new(limits: Limits, wall_clock: WallClock, holdings: Holdings) -> Self {
        let meter = Meter { memories: 0, tables: 0, limits, refused: false, exceeded: None, holdings };
        Self {
            seats: Ids::new(),
            streams: Ids::new(),
            histories: Ids::new(),
            batch: Box::default(),
            call: Call::default(),
            used: Used::default(),
            meter,
            limits,
            wall_clock,
            random: 0,
            wasi: crate::wasi::Wasi::default(),
        }
    }

    /// Keeps a packet that passes a stream's history.
    #[inline]
    pub(crate) fn keep(&mut self, now: Instant, stream: u32, packet: &RtpPacket) {
        if let Some(bound) = self.streams.get(stream) {
            bound.keep(&mut self.histories, now, packet);
        }
    }

    /// The history of a stream.
    pub(crate) fn history(&self, stream: u32) -> Option<&History> {
        self.histories.get(self.streams.get(stream)?.history?)
    }

    /// Gives a stream another history, or none; the answer is the one that it had.
    pub(crate) fn set_history(&mut self, stream: u32, history: Option<History>) -> Option<History> {
        let bound = self.streams.get_mut(stream)?;
        let had = bound.history.take().and_then(|history| self.histories.remove(history));
        bound.history = history.and_then(|history| self.histories.insert(history));
        had
    }

    /// Forgets a stream and what was kept of it.
    pub(crate) fn forget_stream(&mut self, stream: u32) -> Option<Bound> {
        let bound = self.streams.remove(stream)?;
        bound.history.and_then(|history| self.histories.remove(history));
        Some(bound)
    }

    /// The session of a stream and the values for its stamps.
    #[inline]
    pub(crate) fn stamps(&mut self, stream: u32) -> Option<(u32, &mut Stamps)> {
        let bound = self.streams.get(stream)?;
        let seat = self.seats.get_mut(bound.seat)?;
        Some((bound.seat, &mut seat.stamps))
    }

    /// Puts the next value of a stream on its packet, if there is one and room for it, and keeps the packet as it is then.
    /// False, and nothing is done, where the plugin should be asked for more before, unless that is `asked` already.
    #[inline]
    pub(crate) fn stamp(
        &mut self,
        now: Instant,
        stream: u32,
        extension: u8,
        packet: &mut RtpPacket,
        asked: bool,
    ) -> bool {
        let Some(bound) = self.streams.get(stream) else { return asked };
        let Some(Seat { stamps, .. }) = self.seats.get_mut(bound.seat) else { return asked };
        if !asked && !stamps.in_stock() {
            return false;
        }
        if stamps.next().is_some_and(|value| packet.stamp(extension, value, bound.mtu)) {
            stamps.take();
        } else {
            stamps.missed += 1;
        }
        bound.keep(&mut self.histories, now, packet);
        true
    }

    /// Takes packets as handed on, from frames in `handed` that begin at `start`.
    pub(crate) fn hand_on(&mut self, handed: &[u8], start: usize) -> Result<(), Refused> {
        for frame in frame::handed_on(&handed[start..]) {
            let (token, at) = frame?;
            let bytes = start + at.start..start + at.end;
            self.hand_on_one(token, handed, bytes)?;
        }
        Ok(())
    }

    /// Takes packet `token` as handed on, with those bytes of `handed` in place of what was shown unless they are none.
    #[inline]
    pub(crate) fn hand_on_one(&mut self, token: u32, handed: &[u8], bytes: Range<usize>) -> Result<(), Refused> {
        if !self.call.processing {
            return Err(Refused::NoBatch);
        }
        let batch = &mut self.batch;
        let Some(known) = batch.token_at(token).and_then(|at| batch.tokens.get_mut(at)) else {
            return Err(if token < batch.count {
                Refused::Observed(token)
            } else {
                Refused::NoPacket(token, batch.count)
            });
        };
        if std::mem::replace(&mut known.handed, true) {
            return Err(Refused::Twice(token));
        }
        let known = *known;
        let replaces = !bytes.is_empty() && self.may_replace(token, known, &handed[bytes.clone()])?;
        // What one call can make the host copy ends far below 4 GiB.
        let (start, end) = if replaces { (bytes.start as u32, bytes.end as u32) } else { (0, 0) };
        self.call.effects.out.push(Out::Handed { token, start, end });
        Ok(())
    }

    /// Whether these bytes take the place of what was shown. Not where with the part that was not shown the packet would
    /// become larger than the session's MTU: then it goes on as it came, and a plugin that adds to full packets is not at
    /// fault.
    fn may_replace(&mut self, token: u32, known: Token, bytes: &[u8]) -> Result<bool, Refused> {
        if known.shown == Shown::Rtcp {
            rtcp::check(bytes).map_err(|error| Refused::Rtcp(token, error))?;
            return Ok(true);
        }
        let rtp = |error| Refused::Rtp(token, error);
        let header = match known.shown {
            Shown::Packet => packet::check(bytes).map_err(rtp)?,
            _ => packet::header_len(bytes).map_err(rtp)?,
        };
        let ssrc = Fixed(bytes).ssrc();
        let bound = self.streams.get(known.handle);
        if ssrc != known.ssrc && !bound.is_some_and(|bound| bound.info.owns(ssrc)) {
            return Err(Refused::Ssrc(token, ssrc));
        }
        let (seat, mtu) = bound.map_or((0, u16::MAX), |bound| (bound.seat, bound.mtu));
        if bytes.len() > usize::from(mtu) {
            return Err(Refused::Large(token, bytes.len(), mtu));
        }
        if known.shown == Shown::Header && header != bytes.len() {
            return Err(rtp(packet::RtpError::Short { have: bytes.len(), need: header }));
        }
        let hidden = if known.shown == Shown::Header { known.payload as usize } else { 0 };
        let fits = bytes.len() + hidden <= usize::from(mtu);
        if !fits && let Some(seat) = self.seats.get_mut(seat) {
            seat.oversize += 1;
        }
        Ok(fits)
    }

    /// Adds a whole packet in place of one that the typed lane was shown, by the rules for what is emitted.
    pub(crate) fn add(&mut self, head: Head, bytes: Vec<u8>) -> Result<(), String> {
        let size = bytes.len();
        let seat = match head.kind.names_stream() {
            true => self.streams.get(head.handle).map_or(0, |bound| bound.seat),
            false => head.handle,
        };
        if !self.spend(seat, size) {
            return Err("more packets or bytes in place of packets than one call may add".to_owned());
        }
        let bytes = bytes::Bytes::from(bytes);
        if !head.kind.names_stream() {
            rtcp::check(&bytes).map_err(|error| format!("a packet was replaced by what is not RTCP: {error}"))?;
            self.call.effects.send(Out::Added { token: head.packet }, RtcpPacket::plain(bytes));
            return Ok(());
        }
        let mut packet =
            RtpPacket::parse(bytes).map_err(|error| format!("a packet was replaced by what is not RTP: {error}"))?;
        let bound = self.streams.get(head.handle);
        if !bound.is_some_and(|bound| bound.info.owns(packet.ssrc())) {
            return Err(format!("a packet was replaced by one with the foreign SSRC {:08x}", packet.ssrc()));
        }
        let mtu = bound.map_or(u16::MAX, |bound| bound.mtu);
        if size > usize::from(mtu) {
            return Err(format!("a packet was replaced by one of {size} bytes, and the session's MTU is {mtu}"));
        }
        packet.time = Instant::from_nanos(head.time);
        packet.repaired = bound.is_some_and(|bound| bound.repairs(packet.ssrc()));
        self.call.effects.send(Out::Added { token: head.packet }, packet);
        Ok(())
    }

    /// Whether the session may emit another packet of `bytes` bytes in this call.
    pub(crate) fn spend(&mut self, seat: u32, bytes: usize) -> bool {
        let Call { turn, effects, now, .. } = &mut self.call;
        let Some(seat) = self.seats.get_mut(seat) else { return false };
        if !seat.used.emit(*turn, &mut effects.spent, bytes, &self.limits) {
            return false;
        }
        seat.holdings.tenant().emit(*now, bytes).map_err(|exceeded| effects.exceed(exceeded)).is_ok()
    }

    /// What the session has used, or the instance for what is no session's.
    fn used(&mut self, seat: u32) -> &mut Used {
        match self.seats.get_mut(seat) {
            Some(seat) => &mut seat.used,
            None => &mut self.used,
        }
    }

    /// Whether the session may say another thing this second; what it may not is counted.
    pub(crate) fn may_speak(&mut self, seat: u32) -> bool {
        let (now, limits) = (self.call.now, self.limits);
        if !self.used(seat).speak(now, &limits) {
            return false;
        }
        let spent = self.meter.holdings.tenant().spend(Quota::Messages, now, 1);
        let may = spent.map_err(|exceeded| self.call.effects.exceed(exceeded)).is_ok();
        self.used(seat).unheard += u64::from(!may);
        may
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        self.meter.holdings.tenant()
    }

    /// Bytes of linear memory.
    pub(crate) fn memory(&self) -> usize {
        self.meter.memories
    }
}

impl Access {
    /// Whether the plugin stands between the packet and where it is going.
    pub(crate) fn transforms(self) -> bool {
        matches!(self, Self::Transform(_))
    }
}

impl Meter {
    /// Whether the tenant has room for so many bytes more, which are then taken.
    fn afford(&mut self, bytes: usize) -> bool {
        match self.holdings.take(Quota::Memory, bytes as u64) {
            Ok(()) => true,
            Err(exceeded) => {
                self.exceeded = Some(exceeded);
                false
            }
        }
    }
}

impl wasmtime::ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memories.saturating_sub(current).saturating_add(desired);
        let fits = total <= self.limits.memory && self.afford(desired.saturating_sub(current));
        if fits {
            self.memories = total;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.tables.saturating_sub(current).saturating_add(desired);
        let more = desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT);
        let fits = total <= self.limits.table_elements && self.afford(more);
        if fits {
            self.tables = total;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        32
    }

    fn tables(&self) -> usize {
        32
    }

    fn memories(&self) -> usize {
        8
    }
}
