//! Sandbar's side: chains of components.

use anyhow::{Context, ensure};
use bytes::Bytes;
use sandbar_host::{
    Chain, Clocks, Datagram, End, Engine, EngineConfig, Event, Grants, Instant, Isolation, Kind, Lane, Level,
    MemberReport, MemberSpec, Output, Packet, Plugin, RtcpFeedback, RtpHeaderExtension, RtpPacket, SessionId,
    SessionSpec, Shard, ShardConfig, StreamInfo, TICK,
};
use std::collections::HashMap;
use std::time::Duration;

use crate::measure::thread_cpu;
use crate::side::{Side, Taken};
use crate::traffic::{
    BITRATE, Burst, CLOCK_RATE, Direction, EXTENSION_ID, FEEDBACK, Load, NUMBERED_HEADER, PACKET, PAYLOAD_TYPE,
    REPAIR_PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, TRANSPORT_CC, repair_ssrc, ssrc,
};

/// The default chain, from the wire.
pub(crate) const DEFAULT_CHAIN: [&str; 6] =
    ["twcc-header-extension", "nack-responder", "nack-generator", "twcc-sender", "report-receiver", "report-sender"];

/// The standard plugins that have a stream of video to do with and fit together, from the wire.
pub(crate) const WHOLE_SET: [&str; 15] = [
    "rtpfb",
    "twcc-header-extension",
    "pacer",
    "gcc",
    "nack-responder",
    "flexfec-encoder",
    "twcc-sender",
    "rfc8888",
    "stats",
    "flexfec-decoder",
    "nack-generator",
    "report-receiver",
    "report-sender",
    "interval-pli",
    "jitter-buffer",
];

/// The most bytes of a session's packets: room for what FlexFEC adds to the largest that it protects.
const MTU: u16 = 1280;

/// Payloads that written packets share, as packets to several subscribers do: histories hold them by reference.
const PAYLOADS: usize = 1024;

/// What calls may take: ten times the default. All sessions begin together here and need memory together, and on a busy virtual
/// machine a call of half a millisecond was seen to take two, in one run of ten. A deadline costs the same however long it is.
const DEADLINE: Duration = Duration::from_millis(60);

/// Where the clock of all shards starts.
const START: u64 = 3_600_000_000_000;

/// A chain's plugins, compiled for both lanes.
pub(crate) struct Plugins {
    batched: Vec<Plugin>,
    typed: Vec<Plugin>,
}

impl Plugins {
    /// Compiles the plugins, with the engine set up as the relay does it but for the deadline, and starts the thread that ticks.
    pub(crate) fn load(chain: &[String]) -> anyhow::Result<Self> {
        let clocks = Clocks { monotonic: Some(monotonic), thread_cpu: Some(thread_cpu) };
        let engine = Engine::new(EngineConfig { clocks, call_deadline: Some(DEADLINE), ..EngineConfig::default() })?;
        let ticking = engine.clone();
        std::thread::Builder::new().name("tick".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(TICK);
                ticking.tick();
            }
        })?;
        let (mut batched, mut typed) = (Vec::new(), Vec::new());
        for name in chain {
            let embedded = sandbar_plugins::by_name(name).with_context(|| format!("{name} is not embedded"))?;
            let plugin = Plugin::load(&engine, embedded.component, &Grants { wasi: false, ..Grants::ALL })?;
            ensure!(plugin.lane() == Lane::Batched, "{name} is not in the batched lane");
            typed.push(plugin.in_typed_lane());
            batched.push(plugin);
        }
        Ok(Self { batched, typed })
    }

    /// One of the chain's plugins, in the batched lane.
    ///
    /// # Panics
    /// If it is not of the chain.
    pub(crate) fn named(&self, name: &str) -> Plugin {
        let plugin = self.batched.iter().find(|plugin| plugin.name() == name);
        plugin.unwrap_or_else(|| panic!("{name} is not of the chain")).clone()
    }

    /// The default chain's plugins.
    pub(crate) fn of_default_chain() -> anyhow::Result<Self> {
        Self::load(&DEFAULT_CHAIN.map(str::to_owned))
    }

    /// The chain in the batched lane.
    pub(crate) fn chain(&self, isolation: Isolation) -> Chain {
        Chain::new(self.batched.iter().map(|plugin| MemberSpec::new(plugin.clone()).isolated(isolation)))
    }

    /// A side with the chain in the batched lane.
    pub(crate) fn batched(&self, load: Load) -> anyhow::Result<Sandbar> {
        Sandbar::new(&self.batched, load)
    }

    /// A side with the chain in the typed lane: a call per packet and plugin.
    pub(crate) fn typed(&self, load: Load) -> anyhow::Result<Sandbar> {
        Sandbar::new(&self.typed, load)
    }

    /// A side without plugins.
    pub(crate) fn empty(&self, load: Load) -> anyhow::Result<Sandbar> {
        Sandbar::new(&[], load)
    }
}

/// What a plugin is told so that it does its work within this benchmark.
fn config(plugin: &str) -> String {
    match plugin {
        "pacer" => format!(r#"{{"bitrate": {BITRATE}}}"#),
        "gcc" => format!(r#"{{"start_bitrate": {BITRATE}}}"#),
        _ => "{}".to_owned(),
    }
}

fn monotonic() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

/// One shard with all sessions of a load.
pub(crate) struct Sandbar {
    shard: Shard,
    direction: Direction,
    sessions: Vec<SessionId>,
    numbers: HashMap<SessionId, u32>,
    payloads: Vec<RtpPacket>,
    next_payload: usize,
    /// When each came, and how many datagrams and packets it has.
    bursts: Vec<(Instant, usize, usize)>,
    datagrams: Vec<Datagram>,
    packets: Vec<(SessionId, Packet)>,
    out: Out,
    keep_media: bool,
}

/// What has been polled.
#[derive(Default)]
struct Out {
    /// Of each burst, as it was taken.
    packets: Vec<Vec<Output>>,
    /// Empty ones, for the next bursts.
    spare: Vec<Vec<Output>>,
    events: Vec<Event>,
}

impl Sandbar {
    fn new(plugins: &[Plugin], load: Load) -> anyhow::Result<Self> {
        let mut shard = Shard::new(ShardConfig::default());
        let start = instant(0);
        let mut sessions = Vec::new();
        for number in 0..load.sessions {
            let member = |plugin: &Plugin| {
                // Natively nothing is isolated. By default, who can see media has an instance for each session.
                MemberSpec::new(plugin.clone()).with_config(config(plugin.name())).isolated(Isolation::Tenant)
            };
            let chain = Chain::new(plugins.iter().map(member));
            let (name, seed) = (number.to_string(), u64::from(number));
            let session =
                shard.open_session(start, SessionSpec { name, seed, chain, mtu: MTU, ..SessionSpec::default() })?;
            for number in load.streams_of(number) {
                shard.bind_remote_stream(start, session, stream(Direction::Read, number))?;
                shard.bind_local_stream(start, session, stream(Direction::Write, number))?;
            }
            sessions.push(session);
        }
        let numbers = sessions.iter().copied().zip(0..).collect();
        let payloads = (0..PAYLOADS).map(|_| template()).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            shard,
            direction: load.direction,
            sessions,
            numbers,
            payloads,
            next_payload: 0,
            bursts: Vec::new(),
            datagrams: Vec::new(),
            packets: Vec::new(),
            out: Out::default(),
            keep_media: false,
        })
    }

    /// What the first session's plugins have done so far, for all sessions that share their instances.
    pub(crate) fn members(&self) -> Vec<MemberReport> {
        let report = self.sessions.first().and_then(|session| self.shard.session_report(*session));
        report.map_or(Vec::new(), |report| report.members)
    }
}

/// A packet whose header is still to be set. Numbering will add its extension.
pub(crate) fn template() -> anyhow::Result<RtpPacket> {
    let mut bytes = vec![0x5a; PACKET - NUMBERED_HEADER + 12];
    bytes[0] = 0x80;
    Ok(RtpPacket::parse(Bytes::from(bytes))?)
}

/// Nanoseconds after a benchmark's start, as its shards are told them.
pub(crate) fn instant(at: u64) -> Instant {
    Instant::from_nanos(START + at)
}

/// A stream in one direction.
pub(crate) fn stream(direction: Direction, number: u32) -> StreamInfo {
    let (own, retransmission) = ssrc(direction, number);
    StreamInfo {
        id: format!("video {number}"),
        ssrc: own,
        ssrc_retransmission: Some(retransmission),
        payload_type: PAYLOAD_TYPE,
        payload_type_retransmission: Some(RTX_PAYLOAD_TYPE),
        rtp_header_extensions: vec![RtpHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: EXTENSION_ID }],
        mime_type: "video/VP8".to_owned(),
        clock_rate: CLOCK_RATE,
        ssrc_forward_error_correction: Some(repair_ssrc(direction, number)),
        payload_type_forward_error_correction: Some(REPAIR_PAYLOAD_TYPE),
        rtcp_feedback: FEEDBACK
            .map(|(kind, parameter)| RtcpFeedback { kind: kind.to_owned(), parameter: parameter.to_owned() })
            .to_vec(),
        ..StreamInfo::default()
    }
}

impl Out {
    #[inline]
    fn drain(&mut self, shard: &mut Shard) {
        let mut packets = self.spare.pop().unwrap_or_default();
        shard.take_outputs(&mut packets);
        self.packets.push(packets);
        while let Some(event) = shard.poll_event() {
            // What plugins tell the application is part of their work.
            if !matches!(event, Event::Published { .. } | Event::Log { level: Level::Info | Level::Debug, .. }) {
                self.events.push(event);
            }
        }
    }
}

impl Side for Sandbar {
    fn load(&mut self, bursts: &[Burst]) {
        for burst in bursts {
            let before = (self.datagrams.len(), self.packets.len());
            for (session, compound) in &burst.rtcp {
                let session = self.sessions[*session as usize];
                let bytes = Bytes::copy_from_slice(compound);
                self.datagrams.push(Datagram { session, kind: Kind::Rtcp, bytes });
            }
            for media in &burst.packets {
                let session = self.sessions[media.session as usize];
                match self.direction {
                    Direction::Read => {
                        let bytes = Bytes::from(media.datagram());
                        self.datagrams.push(Datagram { session, kind: Kind::Rtp, bytes });
                    }
                    Direction::Write => {
                        let mut packet = self.payloads[self.next_payload].clone();
                        self.next_payload = (self.next_payload + 1) % PAYLOADS;
                        if packet.set_header(&media.header(Direction::Write)).is_ok() {
                            self.packets.push((session, packet.into()));
                        }
                    }
                }
            }
            let (datagrams, packets) = (self.datagrams.len() - before.0, self.packets.len() - before.1);
            self.bursts.push((instant(burst.at), datagrams, packets));
        }
    }

    fn drive(&mut self) {
        let Self { shard, bursts, datagrams, packets, out, .. } = self;
        let (mut datagrams, mut packets) = (datagrams.drain(..), packets.drain(..));
        for (now, read, written) in bursts.drain(..) {
            if shard.poll_timeout().is_some_and(|at| at <= now) {
                shard.handle_timeout(now);
                out.drain(shard);
            }
            if read > 0 {
                shard.read(now, datagrams.by_ref().take(read));
            }
            if written > 0 {
                shard.write(now, packets.by_ref().take(written));
            }
            out.drain(shard);
        }
    }

    fn advance(&mut self, at: u64) {
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= instant(at)) {
            self.shard.handle_timeout(due);
            self.out.drain(&mut self.shard);
        }
    }

    fn read_rtcp(&mut self, at: u64, session: u32, compound: &[u8]) {
        let session = self.sessions[session as usize];
        let bytes = Bytes::copy_from_slice(compound);
        self.shard.read(instant(at), [Datagram { session, kind: Kind::Rtcp, bytes }]);
        self.out.drain(&mut self.shard);
    }

    fn take(&mut self) -> Taken {
        let mut taken = Taken::default();
        for Output { session, packet, to, .. } in self.out.packets.iter_mut().flat_map(|packets| packets.drain(..)) {
            match packet {
                Packet::Rtp(_) => {
                    taken.media += 1;
                    if self.keep_media {
                        let number = self.numbers.get(&session).copied().unwrap_or(u32::MAX);
                        taken.kept.push((number, packet.to_bytes().to_vec()));
                    }
                }
                // From the peer, and the chain has taken its part of it.
                _ if to == End::Application => {}
                packet if taken.feedback.add(&packet.to_bytes()) => {}
                packet => taken.complaints.push(format!("damaged RTCP: {packet:?}")),
            }
        }
        self.out.spare.append(&mut self.out.packets);
        taken.complaints.extend(self.out.events.drain(..).map(|event| event.to_string()));
        taken
    }

    fn keep_media(&mut self, keep: bool) {
        self.keep_media = keep;
    }
}
