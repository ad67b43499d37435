//! The harness itself.

use std::time::Duration;

use crate::attributes::Value;
use crate::binding::{Access, Binding, RtcpAccess, View};
use crate::context::{Context, Level};
use crate::describe::{Binds, Plugin};
use crate::error::Refusal;
use crate::frame::{self, kind};
use crate::instance::{Direction, Instance};
use crate::stream::{SessionId, SessionInfo, StreamId, StreamInfo};
use crate::testing::feed::{Feed, Packet};
use crate::testing::history::History;
use crate::testing::timer::Timer;
use crate::testing::world::{Shown, Stream, World, enter};
use crate::time::Instant;

/// The one session of a harness.
const SESSION: SessionId = SessionId::new(1);
/// Timers that may be due one after the other without time going on.
const TIMER_STORM: usize = 1000;

/// What the session of a harness is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The most bytes a packet may have. Default 1200.
    pub mtu: u16,
    /// The session's CNAME. Default `harness`.
    pub cname: String,
    /// The SSRC of RTCP packets that have no better one. Default 1.
    pub rtcp_ssrc: u32,
    /// Where random numbers begin. Default 0.
    pub seed: u64,
    /// The time at which the session begins. Default 1000 s, so that nothing relies on a clock that starts at zero.
    pub start: Instant,
    /// Whether the operator keeps what the plugin writes to its sink. Default true.
    pub sink: bool,
    /// The wall clock at that time, as an NTP timestamp. Default the first second of 2024.
    pub ntp: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            mtu: 1200,
            cname: "harness".to_owned(),
            rtcp_ssrc: 1,
            seed: 0,
            sink: true,
            start: Instant::from_millis(1_000_000),
            ntp: 3_913_056_000 << 32,
        }
    }
}

/// A plugin with one session, and a host around it in virtual time.
pub struct Harness<T: Plugin> {
    instance: Instance<T>,
    /// None only while the plugin is called.
    world: Option<World>,
    rtcp: [RtcpAccess; 2],
    streams: u32,
}

impl<T: Plugin> Harness<T> {
    /// Creates the plugin with this configuration, in a session like [`Setup::default`], and binds its RTCP.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn new(config: &str) -> Result<Self, Refusal> {
        Self::with(Setup::default(), config)
    }

    /// The same, in another session.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn with(setup: Setup, config: &str) -> Result<Self, Refusal> {
        Self::make(setup, config, None)
    }

    /// Restores the plugin from what another harness's [`save`](Self::save) gave.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn restored(setup: Setup, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Self::make(setup, config, Some(state))
    }

    /// Puts a successor in the plugin's place, as the host does in a swap: with the state that it saves, with the same streams,
    /// and with what is held of them and their histories. Gives the streams' new ids, in the order in which they were bound.
    ///
    /// # Errors
    /// The successor's refusal; then all is as it was.
    pub fn replace(&mut self, config: &str) -> Result<Vec<StreamId>, Refusal> {
        let state = self.save();
        let before = self.world();
        let setup = Setup { start: before.now, ..before.setup.clone() };
        let made = state.map(|state| Self::restored(setup.clone(), config, &state));
        let mut new = match made {
            Some(Ok(restored)) => restored,
            Some(Err(_)) | None => Self::with(setup, config)?,
        };
        let ids: Vec<StreamId> = (1..).map(StreamId::new).take(before.streams.len()).collect();
        new.world().inherit(before, &ids);
        for stream in &before.streams {
            let id = new.bind(stream.direction, &stream.info)?;
            if let Some(bound) = new.world().stream(id).filter(|bound| bound.binding.history == stream.binding.history)
            {
                bound.history = stream.history.clone();
            }
        }
        new.world().inherited();
        new.settle();
        *self = new;
        Ok(ids)
    }

    fn make(setup: Setup, config: &str, state: Option<&[u8]>) -> Result<Self, Refusal> {
        let info = SessionInfo { id: SESSION, mtu: setup.mtu, cname: setup.cname.clone(), rtcp_ssrc: setup.rtcp_ssrc };
        let world = Some(World::new(setup));
        let mut harness = Harness { instance: Instance::new(), world, rtcp: [RtcpAccess::Pass; 2], streams: 0 };
        harness.call(|instance| instance.create(info, config, state))?;
        let rtcp = [(Direction::Read, Binds::RTCP_READER), (Direction::Write, Binds::RTCP_WRITER)];
        for (at, (direction, bind)) in rtcp.into_iter().enumerate() {
            if T::DESCRIPTION.binds.contains(bind) {
                harness.rtcp[at] = harness.call(|instance| instance.bind_rtcp(SESSION.number(), direction))?;
            }
        }
        harness.settle();
        Ok(harness)
    }

    /// A stream that the peer sends.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn bind_remote_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.bind(Direction::Read, info)
    }

    /// A stream that this side sends.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn bind_local_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.bind(Direction::Write, info)
    }

    fn bind(&mut self, direction: Direction, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.streams += 1;
        let id = StreamId::new(self.streams);
        // The stream is there before the plugin answers: it may set its timer while it is being bound.
        let (info_, binding, history) = (info.clone(), Binding::PASS, History::new(0));
        self.world().streams.push(Stream { id, direction, info: info_, binding, history, timer: Timer::default() });
        if !asked::<T>(direction) {
            return Ok(id);
        }
        match self.call(|instance| instance.bind_stream(SESSION.number(), direction, id, info)) {
            Ok(binding) => {
                if let Some(stream) = self.world().stream(id) {
                    stream.binding = binding;
                    stream.history = History::new(binding.history);
                }
                self.settle();
                Ok(id)
            }
            Err(refusal) => {
                self.world().streams.retain(|stream| stream.id != id);
                Err(refusal)
            }
        }
    }

    /// Ends a stream, of either direction.
    pub fn unbind_stream(&mut self, stream: StreamId) {
        let Some(direction) = self.world().stream(stream).map(|stream| stream.direction) else { return };
        if asked::<T>(direction) {
            self.call(|instance| instance.unbind_stream(SESSION.number(), direction, stream));
        }
        self.world().release_held(|of| of == stream);
        self.world().streams.retain(|bound| bound.id != stream);
        self.settle();
    }

    /// What the plugin answered when the stream was bound, [`Binding::PASS`] if it is not asked; none if it has ended.
    pub fn binding(&self, stream: StreamId) -> Option<Binding> {
        self.world_ref().streams.iter().find(|bound| bound.id == stream).map(|bound| bound.binding)
    }

    /// What the plugin answered when RTCP from the peer was bound.
    pub fn rtcp_reader(&self) -> RtcpAccess {
        self.rtcp[0]
    }

    /// What the plugin answered when RTCP to the peer was bound.
    pub fn rtcp_writer(&self) -> RtcpAccess {
        self.rtcp[1]
    }

    /// For fuzz targets: any bytes as frames of a batch. Each is told apart by its place, whatever number it has, and stands
    /// for a packet that is whole.
    #[doc(hidden)]
    pub fn frames(&mut self, mut frames: Vec<u8>) -> Vec<Packet> {
        let world = self.world();
        world.shown.clear();
        let mut rest = frames.as_mut_slice();
        while let Some(whole) = frame::split(&mut rest) {
            if let Some(number) = whole.get_mut(20..24) {
                number.copy_from_slice(&(world.shown.len() as u32).to_le_bytes());
            }
            let Some((head, bytes)) = frame::parts(whole) else { break };
            let known = world.streams.iter().find(|stream| stream.id.number() == head.handle());
            let access = known.map_or(Access::Pass, |stream| stream.binding.access);
            let rtcp = matches!(head.kind(), kind::READ_RTCP | kind::WRITE_RTCP);
            world.shown.push(Shown {
                stream: (!rtcp).then(|| StreamId::new(head.handle())),
                view: match access {
                    Access::Observe(view) | Access::Transform(view) => view,
                    Access::Follow => View::Headers,
                    Access::Pass | Access::Stamp(_) => View::Packets,
                },
                transform: rtcp || matches!(access, Access::Transform(_)),
                bytes: bytes.to_vec(),
                attributes: Vec::new(),
                repaired: false,
                time: world.now,
                handed_on: false,
            });
        }
        self.process(frames);
        self.settle();
        std::mem::take(&mut self.world().went_on)
    }

    /// An RTP packet from the peer. Returns what goes on to the application in its place: the packet, what it was
    /// replaced by, or nothing. What the plugin emits is not among it.
    pub fn read(&mut self, stream: StreamId, packet: impl Into<Feed>) -> Vec<Packet> {
        self.read_burst([(stream, packet.into())])
    }

    /// An RTP packet to the peer. Returns what goes on to the wire in its place.
    pub fn write(&mut self, stream: StreamId, packet: impl Into<Feed>) -> Vec<Packet> {
        self.write_burst([(stream, packet.into())])
    }

    /// Several packets from the peer that the plugin is given in one call.
    pub fn read_burst(&mut self, packets: impl IntoIterator<Item = (StreamId, Feed)>) -> Vec<Packet> {
        self.rtp(kind::READ_RTP, packets)
    }

    /// Several packets to the peer that the plugin is given in one call.
    pub fn write_burst(&mut self, packets: impl IntoIterator<Item = (StreamId, Feed)>) -> Vec<Packet> {
        self.rtp(kind::WRITE_RTP, packets)
    }

    fn rtp(&mut self, kind: u8, packets: impl IntoIterator<Item = (StreamId, Feed)>) -> Vec<Packet> {
        let mut frames = Vec::new();
        self.world().shown.clear();
        for (id, feed) in packets {
            let world = self.world();
            let now = world.now;
            let header_len = match crate::Header::parse(&feed.bytes) {
                Ok(header) => header.len(),
                // The host forwards or drops what is malformed; no plugin sees it.
                Err(error) => panic!("the packet given to the harness is malformed: {error}"),
            };
            let Some(stream) = world.stream(id) else { panic!("{id:?} is not bound") };
            if crate::Header::parse(&feed.bytes).is_ok_and(|header| header.ssrc() == stream.info.ssrc) {
                stream.history.push(&feed, now);
            }
            let (view, transform) = match stream.binding.access {
                Access::Pass => {
                    world.pass(Some(id), feed);
                    continue;
                }
                Access::Observe(view) => {
                    world.pass(Some(id), feed.clone());
                    (view, false)
                }
                Access::Follow => {
                    world.pass(Some(id), feed.clone());
                    (View::Headers, false)
                }
                Access::Stamp(extension) => {
                    self.refill_stamps();
                    self.world().stamp(id, extension, feed);
                    continue;
                }
                Access::Transform(view) => (view, true),
            };
            let included = if view == View::Headers { header_len } else { feed.bytes.len() };
            push(&mut frames, kind, id.number(), world.shown.len(), &feed, now, included);
            let (stream, Feed { bytes, attributes, repaired, time }) = (Some(id), feed);
            let (time, handed_on) = (time.unwrap_or(now), false);
            world.shown.push(Shown { stream, view, transform, bytes, attributes, repaired, time, handed_on });
        }
        self.process(frames);
        self.settle();
        std::mem::take(&mut self.world().went_on)
    }

    /// A compound from the peer. Returns what goes on to the application in its place.
    pub fn read_rtcp(&mut self, compound: impl Into<Feed>) -> Vec<Packet> {
        self.rtcp(kind::READ_RTCP, self.rtcp[0], compound.into())
    }

    /// A compound to the peer. Returns what goes on to the wire in its place.
    pub fn write_rtcp(&mut self, compound: impl Into<Feed>) -> Vec<Packet> {
        self.rtcp(kind::WRITE_RTCP, self.rtcp[1], compound.into())
    }

    fn rtcp(&mut self, kind: u8, access: RtcpAccess, feed: Feed) -> Vec<Packet> {
        let world = self.world();
        world.shown.clear();
        if access != RtcpAccess::Transform {
            world.pass(None, feed.clone());
        }
        let mut frames = Vec::new();
        if access != RtcpAccess::Pass {
            push(&mut frames, kind, SESSION.number(), 0, &feed, world.now, feed.bytes.len());
            let Feed { bytes, attributes, repaired, time } = feed;
            let (transform, time) = (access == RtcpAccess::Transform, time.unwrap_or(world.now));
            world.shown.push(Shown {
                stream: None,
                view: View::Packets,
                transform,
                bytes,
                attributes,
                repaired,
                time,
                handed_on: false,
            });
        }
        self.process(frames);
        self.settle();
        std::mem::take(&mut self.world().went_on)
    }

    /// Lets time go on; timers that are due come in their order, each at its own time.
    pub fn advance(&mut self, by: Duration) {
        self.advance_to(self.now() + by);
    }

    /// Lets time go on to `until`; never back.
    pub fn advance_to(&mut self, until: Instant) {
        let mut at_once = 0;
        while let Some(due) = self.next_timeout().filter(|due| *due <= until) {
            let world = self.world();
            at_once = if due > world.now { 0 } else { at_once + 1 };
            assert!(at_once < TIMER_STORM, "the plugin sets a timer that is due at once, again and again");
            world.now = world.now.max(due);
            self.fire(due);
        }
        let world = self.world();
        world.now = world.now.max(until);
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.world_ref().now
    }

    /// When the next timer is due, of the session or a stream.
    pub fn next_timeout(&self) -> Option<Instant> {
        let world = self.world_ref();
        world.timer.at.into_iter().chain(world.streams.iter().filter_map(|stream| stream.timer.at)).min()
    }

    /// Calls the plugin for the timers that are due at `due`, in one batch as the host does.
    fn fire(&mut self, due: Instant) {
        let mut frames = Vec::new();
        let feed = Feed::default();
        let world = self.world();
        world.shown.clear();
        let mut packet = 0;
        if world.timer.ring(due) {
            push(&mut frames, kind::SESSION_TIMER, SESSION.number(), packet, &feed, world.now, 0);
            packet += 1;
        }
        for stream in &mut world.streams {
            if stream.timer.ring(due) {
                push(&mut frames, kind::STREAM_TIMER, stream.id.number(), packet, &feed, world.now, 0);
                packet += 1;
            }
        }
        self.process(frames);
    }

    /// A timer in the past is due at once, after the call that set it.
    fn settle(&mut self) {
        self.advance_to(self.now());
    }

    /// Asks the plugin, as the application or the operator does.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn control(&mut self, request: &str) -> Result<String, Refusal> {
        let answer = self.ask(|interceptor, cx| interceptor.control(cx, request));
        self.settle();
        answer
    }

    /// What the plugin hands to its successor.
    pub fn save(&mut self) -> Option<Vec<u8>> {
        self.ask(T::save)
    }

    /// Ends the session. What the plugin emits then can still be taken.
    pub fn close(&mut self) {
        self.ask(T::close);
        self.call(|instance| instance.remove(SESSION.number()));
        let world = self.world();
        world.release_held(|_| true);
        world.streams.clear();
        world.timer = Timer::default();
        world.own_values.clear();
    }

    /// Packets that the plugin holds.
    pub fn held(&self) -> usize {
        self.world_ref().held.len()
    }

    /// Looks at the plugin.
    ///
    /// # Panics
    /// After [`close`](Self::close).
    pub fn inspect<R>(&mut self, look: impl FnOnce(&mut T) -> R) -> R {
        self.ask(|interceptor, _| look(interceptor))
    }

    /// Takes what was emitted with [`Context::emit_rtp`], or held and let go, since it was last taken.
    pub fn emitted_rtp(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.world().emitted_rtp)
    }

    /// Takes what was emitted with [`Context::emit_rtcp`] since it was last taken, as it was emitted: the host merges it
    /// into compounds later.
    pub fn emitted_rtcp(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.world().emitted_rtcp)
    }

    /// A value of the session, whoever has set it.
    pub fn session_attribute(&self, key: &str) -> Option<Value> {
        self.world_ref().session_attribute(key).cloned()
    }

    /// Sets or, with `None`, removes a value of the session, as the application or another plugin of its chain does.
    pub fn set_session_attribute(&mut self, key: &str, value: Option<Value>) {
        self.world().others_set_session_attribute(key, value);
    }

    /// Takes the documents published since they were last taken: name and JSON.
    pub fn published(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.world().published)
    }

    /// Takes the lines logged since they were last taken.
    pub fn logs(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.world().logs)
    }

    /// Takes what was written with [`Context::write_sink`] since it was last taken, write by write.
    pub fn sunk(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.world().sunk)
    }

    /// The value of a counter; 0 if it has not been used.
    pub fn counter(&self, name: &str) -> u64 {
        self.world_ref().counters.get(name).copied().unwrap_or(0)
    }

    /// The value of a gauge.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.world_ref().gauges.get(name).copied()
    }

    /// Packets that went on without the header extension that the plugin stamps.
    pub fn unstamped(&self) -> u64 {
        self.world_ref().unstamped
    }

    /// Asks the plugin for more values for its stamps when few are left.
    fn refill_stamps(&mut self) {
        if let Some(wanted) = self.world().wanted_stamps() {
            self.ask(|interceptor, cx| interceptor.refill_stamps(cx, wanted));
        }
    }

    fn ask<R>(&mut self, ask: impl FnOnce(&mut T, &mut Context) -> R) -> R {
        match self.call(|instance| instance.call(SESSION.number(), ask)) {
            Some(answer) => answer,
            None => panic!("the session is closed"),
        }
    }

    fn process(&mut self, mut frames: Vec<u8>) {
        if !frames.is_empty() {
            self.call(|instance| instance.process::<true>(&mut frames));
        }
        self.world().shown.clear();
    }

    fn call<R>(&mut self, call: impl FnOnce(&mut Instance<T>) -> R) -> R {
        let Some(mut world) = self.world.take() else { panic!("the plugin has panicked") };
        world.begin();
        let (world, result) = enter(world, || call(&mut self.instance));
        self.world = Some(world);
        result
    }

    pub(super) fn world(&mut self) -> &mut World {
        match &mut self.world {
            Some(world) => world,
            None => panic!("the plugin has panicked"),
        }
    }

    fn world_ref(&self) -> &World {
        match &self.world {
            Some(world) => world,
            None => panic!("the plugin has panicked"),
        }
    }
}

/// Whether the plugin is asked about streams whose packets go this way.
fn asked<T: Plugin>(direction: Direction) -> bool {
    let bind = match direction {
        Direction::Read => Binds::REMOTE_STREAMS,
        Direction::Write => Binds::LOCAL_STREAMS,
    };
    T::DESCRIPTION.binds.contains(bind)
}

/// Appends a frame as the host lays it out (`wit/batch.wit`).
fn push(frames: &mut Vec<u8>, kind: u8, handle: u32, packet: usize, feed: &Feed, now: Instant, included: usize) {
    let flags = u8::from(!feed.attributes.is_empty()) | u8::from(feed.repaired) << 1;
    let bytes = feed.bytes.get(..included).unwrap_or_default();
    let Ok(included) = u16::try_from(bytes.len()) else { panic!("a packet has at most 65535 bytes") };
    frames.extend_from_slice(&[kind, flags]);
    frames.extend_from_slice(&included.to_le_bytes());
    frames.extend_from_slice(&handle.to_le_bytes());
    frames.extend_from_slice(&feed.time.unwrap_or(now).as_nanos().to_le_bytes());
    let padded =
        matches!(kind, kind::READ_RTP | kind::WRITE_RTP) && feed.bytes.first().is_some_and(|byte| byte & 0x20 != 0);
    let padding = feed.bytes.last().copied().filter(|_| padded).unwrap_or(0);
    frames.extend_from_slice(&(feed.bytes.len() as u16).to_le_bytes());
    frames.extend_from_slice(&[padding, 0]);
    frames.extend_from_slice(&(packet as u32).to_le_bytes());
    frames.extend_from_slice(bytes);
}
