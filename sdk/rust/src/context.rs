//! What a plugin can ask of the host.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use crate::attributes::{Attribute, Value};
use crate::error::{AttributeError, EmitError, SinkError, StampError};
use crate::frame::Burst;
use crate::host;
use crate::packet::RtpPacket;
use crate::slots::Slots;
use crate::stream::{SessionId, SessionInfo, StreamId};
use crate::time::Instant;

/// How much a line in the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something may not work.
    Warn,
    /// Something that people want to know.
    Info,
    /// Something for those who look for an error.
    Debug,
}

/// The payload of an emitted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// That of a packet in the stream's history, which does not pass through the plugin.
    History {
        /// The packet's sequence number.
        sequence_number: u16,
        /// Goes before the payload, such as RTX's original sequence number (RFC 4588, 4).
        prefix: &'a [u8],
    },
}

/// A packet in a stream's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The RTP header as the packet had it at this plugin's place in the chain. [`HeaderBuf`](crate::HeaderBuf) edits it.
    pub header: Vec<u8>,
    /// Bytes of the whole packet.
    pub size: usize,
    /// When it was entered.
    pub time: Instant,
}

/// The number of a packet that is held, among those of its session's plugin. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldId(pub(crate) u64);

impl HeldId {
    /// The host gives them; this is for tests.
    pub const fn new(number: u64) -> Self {
        HeldId(number)
    }

    /// The number itself.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A packet that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPacket {
    /// By which it is let go.
    pub id: HeldId,
    /// The RTP header as it came. [`HeaderBuf`](crate::HeaderBuf) edits it.
    pub header: Vec<u8>,
    /// Bytes of the whole packet.
    pub size: usize,
    /// The packet's [time](crate::RtpPacket::time).
    pub time: Instant,
    /// Whether it was lost and came back.
    pub repaired: bool,
}

/// A session.
struct Open {
    info: SessionInfo,
    /// What has been warned of.
    warned: RefCell<Vec<&'static str>>,
}

/// The host, as the session sees it whose method is called.
pub struct Context {
    /// Of all sessions of the instance, by slot; a free slot keeps what it had.
    sessions: Slots<Open>,
    slot: usize,
    now: Cell<Option<Instant>>,
    /// Frames to hand on.
    pub(crate) burst: Burst,
}

impl Context {
    pub(crate) const fn new() -> Self {
        Context { sessions: Slots::new(), slot: 0, now: Cell::new(None), burst: Burst::new() }
    }

    /// A call of the host's begins.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.now.set(None);
    }

    /// What the host's time is in this call, from what it brings: then it need not be asked for.
    pub(crate) fn tell_now(&self, now: Instant) {
        self.now.set(self.now.get().or(Some(now)));
    }

    /// What is called from now on belongs to the session in this slot.
    #[inline]
    pub(crate) fn enter(&mut self, slot: usize) {
        self.slot = slot;
    }

    /// Puts a session into a slot: one of those in use so far, or the one after them.
    pub(crate) fn open(&mut self, slot: usize, info: SessionInfo) {
        let open = Open { info, warned: RefCell::default() };
        match self.sessions.get_mut(slot) {
            Some(place) => *place = open,
            None => self.sessions.push(open),
        }
        self.enter(slot);
    }

    /// Hands on what was collected, so that what is emitted next comes after it.
    #[inline]
    pub(crate) fn flush(&mut self) {
        let frames = self.burst.frames();
        if !frames.is_empty() {
            host::next(frames);
            self.burst.clear();
        }
    }

    #[inline]
    fn id(&self) -> SessionId {
        self.session().id
    }

    /// The session: its id, MTU, CNAME and SSRC for RTCP.
    #[inline]
    pub fn session(&self) -> &SessionInfo {
        &self.sessions[self.slot].info
    }

    /// The host's time at the start of this call; it stands still during it.
    #[inline]
    pub fn now(&self) -> Instant {
        if let Some(now) = self.now.get() {
            return now;
        }
        let now = host::now();
        self.now.set(Some(now));
        now
    }

    /// Sets the session's one timer in place of what it was, or with `None` clears it. A time in the past is due at
    /// once, after this call. Timers are kept to the millisecond, rounded up. While it is set, headers of streams that the plugin
    /// [follows](crate::Binding::FOLLOW) may wait for it.
    pub fn wake_at(&mut self, at: Option<Instant>) {
        host::wake_session(self.id(), at, Duration::ZERO);
    }

    /// Sets the session's timer to `delay` from now.
    pub fn wake_after(&mut self, delay: Duration) {
        self.wake_at(Some(self.now() + delay));
    }

    /// Makes the session's timer a ticker: it is due `interval` from now, and again after each interval, until it is set otherwise.
    /// That is less work than to set it anew each time, and does not drift. A tick that the host could not tell of before the
    /// next is left out. The interval is rounded up to milliseconds; of nothing, it is as [`wake_after`](Self::wake_after) has it.
    pub fn wake_every(&mut self, interval: Duration) {
        host::wake_session(self.id(), Some(self.now() + interval), interval);
    }

    /// The same as [`wake_at`](Self::wake_at) for the stream's one timer.
    pub fn wake_stream_at(&mut self, stream: StreamId, at: Option<Instant>) {
        host::wake_stream(stream, at, Duration::ZERO);
    }

    /// The same as [`wake_every`](Self::wake_every) for the stream's one timer.
    pub fn wake_stream_every(&mut self, stream: StreamId, interval: Duration) {
        host::wake_stream(stream, Some(self.now() + interval), interval);
    }

    /// Sends an RTP packet of the plugin's own: it passes the plugins still ahead, towards the wire for a local stream and
    /// towards the application for a remote one. `header` is a whole RTP header; the padding that its P bit announces is
    /// part of the payload. A packet made of one in the history keeps its attributes, and `attributes` are added; of a
    /// remote stream it also keeps the time at which it arrived. Bytes on a remote stream's own SSRC did not arrive, and
    /// are marked [`repaired`](crate::RtpPacket::repaired).
    ///
    /// The plugin must want `emit_rtp`.
    ///
    /// # Errors
    /// See [`EmitError`]; then nothing was sent.
    pub fn emit_rtp(
        &mut self,
        stream: StreamId,
        header: &[u8],
        payload: Payload<'_>,
        attributes: &[Attribute],
    ) -> Result<(), EmitError> {
        self.flush();
        host::emit_rtp(stream, header, payload, attributes)
    }

    /// Holds a packet that the plugin transforms, as it came, until it is [let go](Self::release): the method that was given
    /// it then returns [`Outcome::Drop`](crate::Outcome::Drop). The host has it meanwhile, and what a plugin fails to let go
    /// is not lost: what is held of a stream goes on when that ends, and everything when the plugin is closed, removed or
    /// has failed.
    ///
    /// # Errors
    /// [`EmitError::Denied`]: the plugin only observes it. [`EmitError::Quota`]: too much is held for this session.
    pub fn hold(&mut self, packet: &RtpPacket<'_>) -> Result<HeldId, EmitError> {
        host::keep(packet.number())
    }

    /// Lets a packet go on that was held, with another header unless that is empty, and with `attributes` added to its own.
    /// One of a remote stream keeps the time at which it arrived.
    ///
    /// # Errors
    /// See [`EmitError`]; it is held still. [`EmitError::Unknown`]: it is not held.
    pub fn release(&mut self, id: HeldId, header: &[u8], attributes: &[Attribute]) -> Result<(), EmitError> {
        self.flush();
        host::release(self.id(), id, header, attributes)
    }

    /// Drops a packet that was held. False if it is not.
    pub fn discard(&mut self, id: HeldId) -> bool {
        host::discard(self.id(), id)
    }

    /// What earlier calls have held of a stream, in that order. In a swap, a successor hears by it while it binds the stream
    /// what its predecessor held, and may let it go from its next call on. What it does not ask for goes on at once.
    pub fn held(&self, stream: StreamId) -> Vec<HeldPacket> {
        host::held(stream)
    }

    /// Appends values for the header extension of the session's streams that are bound with
    /// [`Binding::stamp`](crate::Binding::stamp): each packet takes one, in this order. Those of a session have all the same
    /// length, 1 to 16 bytes. What a packet has taken is gone; what none has is still [left](Self::stamps_left).
    ///
    /// # Errors
    /// See [`StampError`]; then nothing was appended.
    pub fn supply_stamps<const N: usize>(&mut self, values: &[[u8; N]]) -> Result<(), StampError> {
        let size = u8::try_from(N).map_err(|_| StampError::Size)?;
        host::supply_stamps(self.id(), size, values.as_flattened())
    }

    /// Values that were supplied and that no packet has taken: what a successor has to begin with.
    pub fn stamps_left(&self) -> usize {
        host::stamps_left(self.id())
    }

    /// Sends RTCP of the plugin's own to the peer: one or more RTCP packets, back to back. The host merges what one tick
    /// brings into compounds within the MTU, with a report first and the SDES (RFC 3550, 6.1).
    ///
    /// The plugin must want `emit_rtcp`.
    ///
    /// # Errors
    /// See [`EmitError`]; then nothing was sent.
    pub fn emit_rtcp(&mut self, packets: &[u8]) -> Result<(), EmitError> {
        self.flush();
        host::emit_rtcp(self.id(), packets)
    }

    /// The packet of the stream's history with this sequence number, if it is still kept.
    pub fn history(&self, stream: StreamId, sequence_number: u16) -> Option<HistoryEntry> {
        host::lookup(stream, sequence_number)
    }

    /// A value of the session, set by any member of its chain or by the application: how plugins tell each other what
    /// they have found. What this call has set is seen by it at once, and by others once it has returned.
    pub fn session_attribute(&self, key: &str) -> Option<Value> {
        host::session_attribute(self.id(), key)
    }

    /// Sets a value that all members of the session's chain can read. It is then this plugin's, whoever set it before, and
    /// goes with it: when the plugin is removed, closed or has failed, nobody finds it any more. A successor that sets it
    /// in `create`, `restore` or a bind takes it over without a gap.
    ///
    /// # Errors
    /// The key is the host's, or there are too many or too large values of this plugin.
    pub fn set_session_attribute(&mut self, key: &str, value: impl Into<Value>) -> Result<(), AttributeError> {
        host::set_session_attribute(self.id(), key, Some(&value.into()))
    }

    /// Removes a value of the session that is this plugin's; nothing if there is none.
    ///
    /// # Errors
    /// As [`set_session_attribute`](Self::set_session_attribute).
    pub fn remove_session_attribute(&mut self, key: &str) -> Result<(), AttributeError> {
        host::set_session_attribute(self.id(), key, None)
    }

    /// The wall-clock time of an instant as a 64-bit NTP timestamp (RFC 3550, 4): seconds since 1900 in the upper half,
    /// fractions in the lower. The plugin must want `wall_clock`.
    pub fn ntp(&self, at: Instant) -> u64 {
        host::ntp(at)
    }

    /// A random number from the host's seeded generator. The plugin must want `randomness`.
    pub fn random(&self) -> u64 {
        host::random()
    }

    /// Appends bytes to where the operator keeps what this plugin writes at its place in the chain, such as a file; all of
    /// them or none, in order, and never waiting. Sessions may share the place, so a write is best whole in itself.
    ///
    /// The plugin must want `sink`.
    ///
    /// # Errors
    /// See [`SinkError`]; then nothing was written.
    pub fn write_sink(&self, bytes: &[u8]) -> Result<(), SinkError> {
        host::write_sink(self.id(), bytes)
    }

    /// Writes a line to the host's log, marked with the plugin and the session. See also [`info!`](crate::info) and its
    /// sisters.
    pub fn log(&self, level: Level, message: &str) {
        host::log(self.id(), level, message);
    }

    /// Writes a warning to the host's log, once in the session for each `reason`: for what a peer may do again and again. A
    /// counter of that name says how often it does.
    pub fn warn_once(&self, reason: &'static str, message: &str) {
        let mut warned = self.sessions[self.slot].warned.borrow_mut();
        if !warned.contains(&reason) {
            warned.push(reason);
            self.log(Level::Warn, message);
        }
    }

    /// Has the message of a panic written to the host's log before the panic ends the instance. Call it in
    /// [`create`](crate::Interceptor::create); natively it does nothing, for there panics are seen anyway.
    ///
    /// It is not done unasked, for it costs a component some kilobytes and an import.
    pub fn log_panics(&self) {
        #[cfg(target_family = "wasm")]
        {
            static ONCE: std::sync::Once = std::sync::Once::new();
            ONCE.call_once(|| {
                // Whose call it was is not known here; session 0 is the plugin itself.
                std::panic::set_hook(Box::new(|panic| host::log(SessionId::new(0), Level::Error, &panic.to_string())));
            });
        }
    }

    /// Hands the application a named JSON document, such as a report or an event.
    pub fn publish(&self, name: &str, json: &str) {
        host::publish(self.id(), name, json);
    }

    /// Adds to a counter of this session, made on first use.
    pub fn count(&self, name: &str, add: u64) {
        host::count(self.id(), name, add);
    }

    /// Sets a gauge of this session, made on first use.
    pub fn gauge(&self, name: &str, value: f64) {
        host::gauge(self.id(), name, value);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("session", &self.sessions.get(self.slot).map(|open| &open.info))
            .finish_non_exhaustive()
    }
}

/// Writes a formatted line to the host's log: `error!(cx, "no room for {n} packets")`.
#[macro_export]
macro_rules! error {
    ($cx:expr, $($format:tt)+) => { $cx.log($crate::Level::Error, &::std::format!($($format)+)) };
}

/// Writes a formatted line to the host's log: `warn!(cx, "no room for {n} packets")`.
#[macro_export]
macro_rules! warn {
    ($cx:expr, $($format:tt)+) => { $cx.log($crate::Level::Warn, &::std::format!($($format)+)) };
}

/// Writes a formatted line to the host's log: `info!(cx, "bound stream {id}")`.
#[macro_export]
macro_rules! info {
    ($cx:expr, $($format:tt)+) => { $cx.log($crate::Level::Info, &::std::format!($($format)+)) };
}

/// Writes a formatted line to the host's log: `debug!(cx, "packet {n}")`.
#[macro_export]
macro_rules! debug {
    ($cx:expr, $($format:tt)+) => { $cx.log($crate::Level::Debug, &::std::format!($($format)+)) };
}
