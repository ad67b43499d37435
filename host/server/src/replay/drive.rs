//! Plays a planned capture to sessions in virtual time, and writes down what comes of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use sandbar_host::{
    Chain, Datagram, End, Event, Kind, Output, Packet, RtcpMode, RtcpPacket, RtpPacket, SessionId, SessionSpec, Shard,
    ShardConfig, StreamId, StreamInfo,
};

use super::datagram;
use super::formats::Formats;
use super::pcapng::PcapngWriter;
use super::plan::{Plan, Source, Step, Way};
use super::sequence::Sequence;
use super::time::Timeline;

/// Which way of a conversation a chain reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// The chain is at the receiver of the capture's media: what goes as the first media does is read from the peer
    Read,
    /// The chain is at its sender: what goes as the first media does is written to the peer
    Write,
}

/// How a capture is replayed.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) chain: Chain,
    pub(crate) formats: Formats,
    pub(crate) direction: Direction,
    /// Goes before `direction` in conversations that it is an end of: this side's host, or address.
    pub(crate) local: Option<Local>,
    pub(crate) seed: u64,
    pub(crate) mtu: u16,
    pub(crate) rtcp: RtcpMode,
    /// How long after the last packet plugins may still speak.
    pub(crate) linger: Duration,
}

impl Setup {
    /// Whether a conversation's chain reads what goes this way; it writes the other.
    pub(crate) fn reads(&self, plan: &Plan, conversation: usize, way: Way) -> bool {
        let media = plan.conversations[conversation].media(way);
        match self.local {
            Some(local) if local.is(media.destination) => true,
            Some(local) if local.is(media.source) => false,
            _ => (way == Way::Forward) == (self.direction == Direction::Read),
        }
    }
}

/// A host, or an address of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Host(std::net::IpAddr),
    Address(SocketAddr),
}

impl Local {
    fn is(self, address: SocketAddr) -> bool {
        match self {
            Self::Host(host) => host == address.ip(),
            Self::Address(local) => local == address,
        }
    }
}

/// The interfaces of the capture that is written.
const INTERFACES: [(&str, &str); 2] =
    [("application", "from the chain to the application"), ("wire", "from the chain to the peer")];
const APPLICATION: u32 = 0;
const WIRE: u32 = 1;

/// Packets by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Kinds {
    pub(crate) rtp: u64,
    pub(crate) rtcp: u64,
    /// Neither, though it looked like one of them.
    pub(crate) malformed: u64,
}

impl Kinds {
    fn count(&mut self, packet: &Packet) {
        *match packet {
            Packet::Rtp(_) => &mut self.rtp,
            Packet::Rtcp(_) => &mut self.rtcp,
            Packet::Malformed(..) => &mut self.malformed,
        } += 1;
    }
}

/// What a stream was before and after the chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) before: Sequence,
    pub(crate) after: Sequence,
    /// Retransmissions and repair packets, before and after.
    pub(crate) rtx: [u64; 2],
    pub(crate) fec: [u64; 2],
    /// Lost and come back before the application had it.
    pub(crate) repaired: u64,
}

impl Tally {
    /// What counts a packet of a companion.
    fn companion(&mut self, packet: &RtpPacket, formats: &Formats) -> &mut [u64; 2] {
        if formats.protected_by(packet.payload_type()).is_some() { &mut self.fec } else { &mut self.rtx }
    }
}

/// What happened, with the time since the first packet.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Happened {
    pub(crate) at: f64,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// Events that are kept; the summary counts the rest.
const EVENTS: usize = 10_000;

/// What came of a replay.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The capture.
    pub(crate) file: Vec<u8>,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) to_application: Kinds,
    pub(crate) to_wire: Kinds,
    /// Packets that no IP packet holds, or that came of no session.
    pub(crate) unwritten: u64,
    pub(crate) sessions: Vec<sandbar_host::SessionReport>,
    pub(crate) events: Vec<Happened>,
    pub(crate) events_not_kept: u64,
    pub(crate) faults: u64,
    /// Plugins that asked to be woken without end.
    pub(crate) stalled: bool,
    pub(crate) time: Timeline,
}

struct Drive<'p> {
    plan: &'p Plan,
    setup: &'p Setup,
    shard: Shard,
    time: Timeline,
    out: PcapngWriter<Vec<u8>>,
    /// By conversation; opened with its first packet.
    sessions: Vec<Option<SessionId>>,
    conversations: HashMap<SessionId, usize>,
    /// By what identifies a packet's source, also that of retransmissions.
    sources: HashMap<(usize, Way, u32), usize>,
    /// By source; bound with its first packet.
    streams: Vec<Option<StreamId>>,
    outcome: Outcome,
}

/// Replays `plan`.
pub(crate) fn run(plan: &Plan, setup: &Setup) -> anyhow::Result<Outcome> {
    let first = plan.steps.first().map(|step| step.time).context("the capture has no RTP")?;
    let time = Timeline::new(first);
    let shard = Shard::new(ShardConfig { wall_clock: time.wall_clock(), ..ShardConfig::default() });
    let mut sources = HashMap::new();
    for (index, source) in plan.sources.iter().enumerate() {
        for ssrc in [Some(source.ssrc), source.rtx, source.fec].into_iter().flatten() {
            sources.entry((source.conversation, source.way, ssrc)).or_insert(index);
        }
    }
    let outcome = Outcome {
        file: Vec::new(),
        tallies: vec![Tally::default(); plan.sources.len()],
        to_application: Kinds::default(),
        to_wire: Kinds::default(),
        unwritten: 0,
        sessions: Vec::new(),
        events: Vec::new(),
        events_not_kept: 0,
        faults: 0,
        stalled: false,
        time: time.clone(),
    };
    let mut drive = Drive {
        plan,
        setup,
        shard,
        time,
        out: PcapngWriter::new(Vec::new(), &INTERFACES)?,
        sessions: vec![None; plan.conversations.len()],
        conversations: HashMap::new(),
        sources,
        streams: vec![None; plan.sources.len()],
        outcome,
    };
    for step in &plan.steps {
        drive.step(step)?;
    }
    drive.finish()
}

impl Drive<'_> {
    fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        let next = self.time.due(step.time);
        self.run_until(next.at)?;
        self.time.arrive(next);
        let now = self.time.now();
        let session = self.session(step.conversation)?;
        let rtp = if step.kind == Kind::Rtp { RtpPacket::parse(step.bytes.clone()).ok() } else { None };
        if let Some(packet) = &rtp
            && let Some(index) = self.sources.get(&(step.conversation, step.way, packet.ssrc())).copied()
        {
            self.bind(session, index)?;
            let tally = &mut self.outcome.tallies[index];
            match packet.ssrc() == self.plan.sources[index].ssrc {
                true => tally.before.note(packet.sequence_number()),
                false => tally.companion(packet, &self.setup.formats)[0] += 1,
            }
        }
        let bytes = step.bytes.clone();
        if self.reads(step.conversation, step.way) {
            self.shard.read(now, [Datagram { session, kind: step.kind, bytes }]);
        } else {
            let rtcp = || RtcpPacket::parse(step.bytes.clone()).ok().filter(|_| step.kind == Kind::Rtcp);
            let packet = rtp.map(Packet::Rtp).or_else(|| rtcp().map(Packet::Rtcp));
            self.shard.write(now, [(session, packet.unwrap_or(Packet::Malformed(step.kind, bytes)))]);
        }
        self.drain()
    }

    fn reads(&self, conversation: usize, way: Way) -> bool {
        self.setup.reads(self.plan, conversation, way)
    }

    fn session(&mut self, conversation: usize) -> anyhow::Result<SessionId> {
        if let Some(session) = self.sessions[conversation] {
            return Ok(session);
        }
        let way = if self.reads(conversation, Way::Forward) { Way::Backward } else { Way::Forward };
        let to_peer = self.plan.conversations[conversation].media(way);
        let spec = SessionSpec {
            name: format!("{} with {}", to_peer.source, to_peer.destination),
            mtu: self.setup.mtu,
            rtcp: self.setup.rtcp,
            malformed: sandbar_host::Malformed::Forward,
            // Sessions with one seed would draw the same numbers.
            seed: self.setup.seed.wrapping_add(conversation as u64),
            chain: self.setup.chain.clone(),
            ..SessionSpec::default()
        };
        let session = self.shard.open_session(self.time.now(), spec)?;
        self.sessions[conversation] = Some(session);
        self.conversations.insert(session, conversation);
        Ok(session)
    }

    fn bind(&mut self, session: SessionId, index: usize) -> anyhow::Result<()> {
        if self.streams[index].is_some() {
            return Ok(());
        }
        let source = &self.plan.sources[index];
        let now = self.time.now();
        let local = !self.reads(source.conversation, source.way);
        let info = self.info(source, local);
        let bound = match local {
            true => self.shard.bind_local_stream(now, session, info),
            false => self.shard.bind_remote_stream(now, session, info),
        };
        let stream = bound.with_context(|| format!("the stream {:#010x} cannot be bound", source.ssrc))?;
        self.streams[index] = Some(stream);
        Ok(())
    }

    fn info(&self, source: &Source, local: bool) -> StreamInfo {
        let formats = &self.setup.formats;
        let (rtx, fec) = (formats.rtx_of(source.payload_type), formats.fec_of(source.payload_type));
        // Where the capture has no retransmissions or repair packets, this side may still send them, from sources of their
        // own.
        let sources = || self.plan.sources.iter().flat_map(|other| [Some(other.ssrc), other.rtx, other.fec]).flatten();
        let own = |first: u32| {
            let next = |step| source.ssrc.wrapping_add(step);
            (first..).map(next).find(|ssrc| *ssrc != 0 && sources().all(|taken| taken != *ssrc)).filter(|_| local)
        };
        let rtx_ssrc = rtx.and(source.rtx.or_else(|| own(1)));
        let behind = rtx_ssrc.map_or(1, |rtx| rtx.wrapping_sub(source.ssrc).wrapping_add(1).max(1));
        let fec_ssrc = fec.and(source.fec.or_else(|| own(behind)));
        StreamInfo {
            id: format!("{:#010x}", source.ssrc),
            ssrc: source.ssrc,
            ssrc_retransmission: rtx_ssrc,
            ssrc_forward_error_correction: fec_ssrc,
            payload_type: source.payload_type,
            payload_type_retransmission: rtx.filter(|_| rtx_ssrc.is_some()),
            payload_type_forward_error_correction: fec.filter(|_| fec_ssrc.is_some()),
            rtp_header_extensions: formats.extensions.clone(),
            mime_type: source.format.mime_type.clone(),
            clock_rate: source.format.clock_rate,
            channels: source.format.channels,
            rtcp_feedback: formats.feedback.clone(),
            ..StreamInfo::default()
        }
    }

    /// Does what is due until `end`.
    fn run_until(&mut self, end: sandbar_host::Instant) -> anyhow::Result<()> {
        /// Rounds at one instant after which time is pushed on.
        const PATIENCE: u32 = 1000;
        let mut rounds = 0;
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= end) {
            rounds = if due > self.time.now() { 0 } else { rounds + 1 };
            self.time.pass(due);
            if rounds > PATIENCE {
                self.outcome.stalled = true;
                self.time.pass(self.time.now() + Duration::from_millis(1));
                if self.time.now() > end {
                    break;
                }
            }
            self.shard.handle_timeout(self.time.now());
            self.drain()?;
        }
        self.time.pass(end);
        Ok(())
    }

    /// Takes what the shard has to give.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut outputs = Vec::new();
        self.shard.take_outputs(&mut outputs);
        for output in outputs {
            match output {
                Output { to: End::Application, session, packet, .. } => self.write(APPLICATION, session, &packet)?,
                Output { to: End::Wire, session, packet, .. } => self.write(WIRE, session, &packet)?,
            }
        }
        while let Some(event) = self.shard.poll_event() {
            self.outcome.faults += u64::from(matches!(event, Event::Fault { .. }));
            match self.outcome.events.len() < EVENTS {
                true => self.outcome.events.push(Happened { at: self.time.elapsed().as_secs_f64(), event }),
                false => self.outcome.events_not_kept += 1,
            }
        }
        Ok(())
    }

    fn write(&mut self, interface: u32, session: SessionId, packet: &Packet) -> io::Result<()> {
        let Some(conversation) = self.conversations.get(&session).copied() else {
            self.outcome.unwritten += 1;
            return Ok(());
        };
        let read = interface == APPLICATION;
        let way = if self.reads(conversation, Way::Forward) == read { Way::Forward } else { Way::Backward };
        if read { &mut self.outcome.to_application } else { &mut self.outcome.to_wire }.count(packet);
        if let Packet::Rtp(packet) = packet
            && let Some(index) = self.source_after(conversation, way, packet.ssrc())
        {
            let tally = &mut self.outcome.tallies[index];
            match packet.ssrc() == self.plan.sources[index].ssrc {
                true => tally.after.note(packet.sequence_number()),
                false => tally.companion(packet, &self.setup.formats)[1] += 1,
            }
            tally.repaired += u64::from(packet.repaired());
        }
        let flow = match packet.kind() {
            Kind::Rtp => self.plan.conversations[conversation].media(way),
            Kind::Rtcp => self.plan.conversations[conversation].rtcp(way),
        };
        match datagram::packet(flow.source, flow.destination, &packet.to_bytes()) {
            Some(bytes) => self.out.packet(interface, self.time.shown(), &bytes),
            None => {
                self.outcome.unwritten += 1;
                Ok(())
            }
        }
    }

    /// The source that a packet behind the chain is of, also by the SSRC that this side's retransmissions were given.
    fn source_after(&self, conversation: usize, way: Way, ssrc: u32) -> Option<usize> {
        self.sources.get(&(conversation, way, ssrc)).copied().or_else(|| {
            let accompanies = |stream: &Option<StreamId>| {
                let info = stream.and_then(|stream| self.shard.stream_info(stream));
                info.is_some_and(|info| {
                    [info.ssrc_retransmission, info.ssrc_forward_error_correction].contains(&Some(ssrc))
                })
            };
            self.streams.iter().position(accompanies).filter(|index| {
                let source = &self.plan.sources[*index];
                source.conversation == conversation && source.way == way
            })
        })
    }

    fn finish(mut self) -> anyhow::Result<Outcome> {
        self.run_until(self.time.now() + self.setup.linger)?;
        for stream in self.streams.iter().flatten() {
            self.shard.unbind_stream(self.time.now(), *stream);
        }
        self.drain()?;
        for session in self.sessions.iter().flatten() {
            // A closed session has no report.
            self.outcome.sessions.extend(self.shard.session_report(*session));
            self.shard.close_session(self.time.now(), *session);
        }
        self.drain()?;
        Ok(Outcome { file: self.out.finish()?, time: self.time, ..self.outcome })
    }
}
