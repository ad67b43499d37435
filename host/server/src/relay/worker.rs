//! A worker: one thread that owns a shard, the sockets of its routes' legs, and nothing that others touch.
//!
//! Other threads reach it by jobs, closures that run between two bursts of packets, so that a chain is never changed
//! while a packet is on its way through it. One turn of its loop:
//!
//! 1. wait until a socket has something, a job came, or the shard or a route has something due
//! 2. run jobs
//! 3. receive from sockets, in turn and by the batch, and hand the shard one burst
//! 4. do what is due
//! 5. take what leaves the shard: to subscribers' sessions, then to sockets
//! 6. send by the batch; tell events; hand on what plugins wrote

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mio::{Events, Poll, Token, Waker};
use quinn_udp::BATCH_SIZE;
use sandbar_host::{Datagram, End, Instant, Kind, Output, Packet, RtcpPacket, RtpPacket, SessionId, Shard};
use slotmap::SecondaryMap;
use smallvec::SmallVec;

use super::clock;
use super::events::{Events as Told, RelayEvent};
use super::leg::{LegState, Role};
use super::peer::{Endpoint, Source};
use super::route::{RouteState, SubscriberRefusal, Writes};
use super::sinks::Sinks;
use super::socket::{Progress, Received, Scratch, keep, source};
use super::streams::Verdict;

/// Datagrams of one turn. A worker that is behind still does what is due, and others' sockets still have their turn.
pub(crate) const MAX_BURST: usize = 512;
/// The waker's token; sockets count from 0.
const WAKE: Token = Token(usize::MAX);
/// The longest wait: nothing depends on it.
const IDLE: Duration = Duration::from_secs(60);

/// Something to do for a worker between two bursts.
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// What a worker drives.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) legs: Vec<LegState>,
    pub(crate) routes: Vec<RouteState>,
    by_session: SecondaryMap<SessionId, usize>,
    poll: Poll,
    /// The sockets, by token.
    ports: Vec<Port>,
    /// Sockets that may have more to receive, by token.
    ready: VecDeque<usize>,
    /// Legs with packets to send.
    dirty: Vec<usize>,
    scratch: Scratch,
    arrivals: Vec<Arrival>,
    burst: Vec<Datagram>,
    writes: Writes,
    /// What has left the shard; kept to reuse its memory.
    outputs: Vec<Output>,
    told: Told,
    sinks: Sinks,
    /// When to give up saying goodbye, once it has begun.
    ending: Option<Instant>,
}

/// A socket of a leg.
struct Port {
    leg: usize,
    kind: Kind,
    /// Whether it is on the list of those that may have more to receive.
    ready: bool,
}

/// A datagram from the peer, or from somebody who may become it.
struct Arrival {
    leg: usize,
    port: Kind,
    candidate: Option<Endpoint>,
    bytes: Bytes,
}

/// The other threads' end of a worker.
pub(crate) struct WorkerHandle {
    jobs: std::sync::mpsc::Sender<Job>,
    waker: Arc<Waker>,
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

/// The worker's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has stopped")]
pub struct Stopped;

impl WorkerHandle {
    /// Has the worker do something and waits for what comes of it.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.begin(job).recv().map_err(|_| Stopped)
    }

    /// Has the worker do something; what comes of it arrives later, or the channel closes.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker, Instant) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (answer, result): (SyncSender<T>, Receiver<T>) = sync_channel(1);
        let job: Job = Box::new(move |worker| {
            let _ = answer.send(job(worker, clock::now()));
        });
        // A worker that has gone drops the job, and with it the answer's sender.
        if self.jobs.send(job).is_ok() {
            let _ = self.waker.wake();
        }
        result
    }

    /// Whether the thread runs.
    pub(crate) fn is_running(&self) -> bool {
        self.thread().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits for the thread's end. `false`: it could not wait for its sockets, or it panicked, a bug of the host.
    pub(crate) fn join(&self) -> bool {
        let thread = self.thread().take();
        thread.is_none_or(|thread| matches!(thread.join(), Ok(Ok(()))))
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<io::Result<()>>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    pub(crate) fn new(shard: Shard, told: Told, sinks: Sinks) -> io::Result<Self> {
        Ok(Self {
            shard,
            legs: Vec::new(),
            routes: Vec::new(),
            by_session: SecondaryMap::new(),
            poll: Poll::new()?,
            ports: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            scratch: Scratch::new(),
            arrivals: Vec::new(),
            burst: Vec::new(),
            writes: Vec::new(),
            outputs: Vec::new(),
            told,
            sinks,
            ending: None,
        })
    }

    /// Takes a leg; returns its number.
    pub(crate) fn add_leg(&mut self, mut leg: LegState) -> io::Result<usize> {
        let index = self.legs.len();
        let sockets = &mut leg.sockets;
        for (kind, socket) in [(Kind::Rtp, Some(&mut sockets.rtp)), (Kind::Rtcp, sockets.rtcp.as_mut())] {
            let Some(socket) = socket else { continue };
            socket.register(self.poll.registry(), Token(self.ports.len()))?;
            // What came between binding and registering has no event of its own.
            self.ready.push_back(self.ports.len());
            self.ports.push(Port { leg: index, kind, ready: true });
        }
        self.by_session.insert(leg.session, index);
        self.legs.push(leg);
        Ok(index)
    }

    /// Runs on a thread of its own.
    pub(crate) fn spawn(mut self, name: String) -> io::Result<WorkerHandle> {
        let waker = Arc::new(Waker::new(self.poll.registry(), WAKE)?);
        let (jobs, inbox) = channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || self.run(&inbox))?;
        Ok(WorkerHandle { jobs, waker, thread: Mutex::new(Some(thread)) })
    }

    fn run(&mut self, inbox: &Receiver<Job>) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            match self.poll.poll(&mut events, Some(self.patience())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "the worker cannot wait for its sockets");
                    return Err(error);
                }
                _ => self.note(&events),
            }
            for job in inbox.try_iter() {
                job(self);
            }
            let now = clock::now();
            if self.ending.is_none() {
                self.receive(now);
            }
            self.do_what_is_due(now);
            self.deliver(now);
            self.flush();
            self.tell();
            if self.ending.is_some_and(|deadline| self.dirty.is_empty() || now >= deadline) {
                return Ok(());
            }
        }
    }

    /// How long to wait for sockets.
    fn patience(&self) -> Duration {
        if !self.ready.is_empty() && self.ending.is_none() {
            return Duration::ZERO;
        }
        let routes = self.routes.iter().filter_map(RouteState::poll_timeout);
        let due = self.shard.poll_timeout().into_iter().chain(self.ending).chain(routes).min();
        due.map_or(IDLE, |due| (due - clock::now()).min(IDLE))
    }

    fn note(&mut self, events: &Events) {
        // Legs whose sockets had no more room are on the list of those with something to send: that a socket has room
        // again only has to end the wait.
        for event in events.iter().filter(|event| event.is_readable()) {
            // The waker's token is no port's.
            let Some(port) = self.ports.get_mut(event.token().0) else { continue };
            if !std::mem::replace(&mut port.ready, true) {
                self.ready.push_back(event.token().0);
            }
        }
    }

    /// Takes batches from sockets in turn until they have nothing more or the burst is full.
    fn receive(&mut self, now: Instant) {
        while self.arrivals.len() < MAX_BURST
            && let Some(token) = self.ready.pop_front()
        {
            let Port { leg: index, kind: port, .. } = self.ports[token];
            let LegState { sockets, peer, counts, .. } = &mut self.legs[index];
            let mut received = SmallVec::<[_; BATCH_SIZE]>::new();
            let progress = sockets.of(port).receive(&mut self.scratch, |Received { source, local, bytes }| {
                let candidate = match peer.judge(now, port, source) {
                    Source::Peer => None,
                    Source::Candidate => Some(Endpoint { address: source, local }),
                    Source::Foreign => {
                        counts.foreign_packets += 1;
                        return;
                    }
                };
                received.push((candidate, bytes));
            });
            let arrivals = &mut self.arrivals;
            keep(&received, |candidate, bytes| arrivals.push(Arrival { leg: index, port, candidate, bytes }));
            match progress {
                Progress::More => self.ready.push_back(token),
                Progress::Blocked => self.ports[token].ready = false,
            }
        }
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrival in arrivals.drain(..) {
            self.arrive(now, arrival);
        }
        self.arrivals = arrivals;
        if !self.burst.is_empty() {
            self.shard.read(now, self.burst.drain(..));
        }
    }

    /// Decides what a datagram is to its leg, and puts it into the burst.
    fn arrive(&mut self, now: Instant, arrival: Arrival) {
        let Arrival { leg: index, port, candidate, mut bytes } = arrival;
        let kind = Kind::of(&bytes);
        let leg = &mut self.legs[index];
        if let Some(endpoint) = candidate {
            // An earlier datagram of this burst may have decided who the peer is.
            let judged = leg.peer.judge(now, port, endpoint.address);
            let learned = judged == Source::Candidate && self.routes[leg.route].vouches(leg.role, kind, &bytes);
            if judged == Source::Foreign || judged == Source::Candidate && !learned {
                leg.counts.foreign_packets += 1;
                return;
            }
            if learned && leg.peer.learn(now, port, endpoint) {
                self.told.tell(RelayEvent::Peer { leg: leg.name.clone(), address: endpoint.address });
            }
        }
        if let (Role::Publisher, Kind::Rtp, Some((ssrc, payload_type))) = (leg.role, kind, source(&bytes)) {
            let (route, session) = (leg.route, leg.session);
            match self.routes[route].streams.judge(now, ssrc, payload_type) {
                Verdict::Bound => {}
                Verdict::Companion(shown) => bytes = with_ssrc(bytes, shown),
                Verdict::Unknown => leg.counts.unknown_ssrc_packets += 1,
                Verdict::New(stream) => {
                    // What came before belongs before: a source may take another's place.
                    self.shard.read(now, self.burst.drain(..));
                    self.bind(now, route, stream, ssrc);
                }
            }
            self.burst.push(Datagram { session, kind, bytes });
            return;
        }
        self.burst.push(Datagram { session: leg.session, kind, bytes });
    }

    fn bind(&mut self, now: Instant, route: usize, stream: usize, ssrc: u32) {
        // What the old source brought is on its way to subscribers as long as the stream is bound.
        self.deliver(now);
        let leg = self.legs[self.routes[route].publisher].name.clone();
        match self.routes[route].bind(now, &mut self.shard, stream, ssrc) {
            Ok(refusals) => {
                let declared = self.routes[route].streams.get(stream);
                let stream = declared.map(|declared| declared.stream.name.clone()).unwrap_or_default();
                self.told.tell(RelayEvent::Stream { leg, stream, ssrc });
                self.tell_refusals(refusals);
            }
            Err(error) => self.told.tell(RelayEvent::StreamRefused { leg, ssrc, message: error.to_string() }),
        }
    }

    fn tell_refusals(&mut self, refusals: Vec<SubscriberRefusal>) {
        for SubscriberRefusal { leg, ssrc, error, .. } in refusals {
            let leg = self.legs[leg].name.clone();
            self.told.tell(RelayEvent::StreamRefused { leg, ssrc, message: error.to_string() });
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        if self.shard.poll_timeout().is_some_and(|due| due <= now) {
            self.shard.handle_timeout(now);
        }
        for route in &mut self.routes {
            if route.poll_timeout().is_some_and(|due| due <= now) {
                let passed = route.handle_timeout(now, &mut self.writes);
                self.legs[route.publisher].counts.key_frame_requests += passed;
            }
        }
    }

    /// Takes what leaves the shard until there is nothing more.
    fn deliver(&mut self, now: Instant) {
        let mut outputs = std::mem::take(&mut self.outputs);
        loop {
            if !self.writes.is_empty() {
                self.shard.write(now, self.writes.drain(..));
            }
            // Routing may have brought about more, such as when a stream ends.
            self.shard.take_outputs(&mut outputs);
            if outputs.is_empty() {
                break;
            }
            for output in outputs.drain(..) {
                match output {
                    Output { to: End::Wire, session, packet, .. } => {
                        let Some(index) = self.by_session.get(session) else { continue };
                        if self.legs[*index].send(packet) {
                            self.dirty.push(*index);
                        }
                    }
                    Output { to: End::Application, session, stream, packet, .. } => {
                        self.route(now, session, stream, &packet)
                    }
                }
            }
        }
        self.outputs = outputs;
    }

    /// Passes on what came from a peer and through its leg's chain.
    fn route(&mut self, now: Instant, session: SessionId, stream: Option<sandbar_host::StreamId>, packet: &Packet) {
        let Some(index) = self.by_session.get(session).copied() else { return };
        let leg = &mut self.legs[index];
        let route = &mut self.routes[leg.route];
        match (leg.role, packet) {
            (Role::Publisher, Packet::Rtp(_)) => {
                if let Some(stream) = stream {
                    route.media(stream, packet, &mut self.writes);
                }
            }
            (Role::Publisher, Packet::Rtcp(rtcp)) => {
                route.publisher_rtcp(now, &mut self.shard, rtcp.bytes(), &mut self.writes);
            }
            (Role::Publisher, Packet::Malformed(..)) => route.malformed(packet, &mut self.writes),
            (Role::Subscriber(_), Packet::Rtcp(rtcp)) => {
                let (asked, passed) = route.subscriber_rtcp(now, rtcp.bytes(), &mut self.writes);
                leg.counts.key_frame_requests += asked;
                let publisher = route.publisher;
                self.legs[publisher].counts.key_frame_requests += passed;
            }
            (Role::Subscriber(_), Packet::Malformed(..)) => self.writes.push((route.session, packet.clone())),
            // A subscriber sends no media to anybody; its packets open paths through address translators (RFC 6263).
            (Role::Subscriber(_), Packet::Rtp(_)) => {}
        }
    }

    fn flush(&mut self) {
        let (legs, scratch) = (&mut self.legs, &mut self.scratch);
        self.dirty.retain(|index| {
            let leg = &mut legs[*index];
            leg.sockets.flush(scratch);
            leg.dirty = !leg.sockets.is_idle();
            leg.dirty
        });
    }

    fn tell(&mut self) {
        while let Some(event) = self.shard.poll_event() {
            self.told.tell(RelayEvent::Plugin(event));
        }
        while let Some(write) = self.shard.poll_sink() {
            self.sinks.write(write);
        }
    }

    /// After a chain was changed: streams that a subscriber's old chain refused may be welcome now.
    pub(crate) fn bind_missing(&mut self, now: Instant, leg: usize) {
        let route = self.legs[leg].route;
        let refusals = self.routes[route].bind_subscribers(now, &mut self.shard);
        self.tell_refusals(refusals);
    }

    /// Says goodbye on all legs and ends the thread when that has been sent, or at `deadline`.
    pub(crate) fn end(&mut self, now: Instant, deadline: Instant) {
        for route in &self.routes {
            let spoke = self.legs[route.publisher].counts.rtcp_sent > 0;
            route.farewell(spoke, &mut self.writes);
        }
        self.deliver(now);
        for index in 0..self.legs.len() {
            self.shard.close_session(now, self.legs[index].session);
        }
        self.deliver(now);
        self.ending = Some(deadline);
    }
}

impl RouteState {
    /// Whether a datagram is reason enough to take its source for the peer: media that was announced, or RTCP.
    fn vouches(&self, role: Role, kind: Kind, bytes: &Bytes) -> bool {
        match (role, kind) {
            (_, Kind::Rtcp) => RtcpPacket::parse(bytes.clone()).is_ok(),
            (Role::Publisher, Kind::Rtp) => RtpPacket::parse(bytes.clone())
                .is_ok_and(|packet| self.streams.announced(packet.ssrc(), packet.payload_type())),
            (Role::Subscriber(_), Kind::Rtp) => RtpPacket::parse(bytes.clone()).is_ok(),
        }
    }
}

/// The same packet from another source; changed in place if its memory is its alone.
fn with_ssrc(bytes: Bytes, ssrc: u32) -> Bytes {
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    if let Some(field) = bytes.get_mut(8..12) {
        field.copy_from_slice(&ssrc.to_be_bytes());
    }
    bytes.freeze()
}
