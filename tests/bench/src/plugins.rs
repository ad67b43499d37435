//! What each standard plugin costs: its size, its memory, and its time per packet of a stream that it binds.
//!
//! A session with the plugin alone and one without any take the same packets, in bursts of 32, in turn; the difference is the
//! plugin's. There is one stream of 1000 packets a second of virtual time, video or, where the plugin is for that, audio, and
//! no RTCP from the peer. What a decoder reads, its encoder has written.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use sandbar_host::{
    Chain, Datagram, End, Event, Instant, Isolation, Kind, MemberSpec, Packet, Plugin, RtcpFeedback,
    RtpHeaderExtension, RtpPacket, SessionId, SessionSpec, Shard, ShardConfig, SinkId, StreamInfo,
};
use sandbar_world::media::{Source, TRANSPORT_CC};
use serde::Serialize;

use crate::measure::{Spread, resident, thread_cpu};
use crate::report::Findings;
use crate::sandbar::Plugins;

/// Packets that come together.
const BURST: usize = 32;
/// Packets of a sample: two seconds.
const PACKETS: usize = 64 * BURST;
const SSRC: u32 = 7;
/// RFC 6464.
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// What a plugin costs.
#[derive(Clone, Debug, Serialize)]
struct Row {
    plugin: &'static str,
    /// Bytes of the component.
    size: usize,
    /// Bytes of physical memory that a session takes which has an instance of its own and a stream in each direction, after
    /// a few packets.
    memory: usize,
    /// Nanoseconds per packet from the peer, where the plugin sees them.
    read_ns: Option<Spread>,
    /// Nanoseconds per packet to the peer, where the plugin sees them.
    write_ns: Option<Spread>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// How a plugin is tried.
struct Case {
    config: &'static str,
    audio: bool,
    /// Whose output it reads.
    partner: Option<&'static str>,
}

impl Case {
    fn of(plugin: &str) -> Self {
        let (audio, partner) = match plugin {
            "red-encoder" | "audio-level" => (true, None),
            "red-decoder" => (true, Some("red-encoder")),
            "flexfec-decoder" => (false, Some("flexfec-encoder")),
            _ => (false, None),
        };
        // Twice what the stream needs, so that nothing is held for long.
        let config = if plugin == "pacer" { r#"{"bitrate": 20000000}"# } else { "{}" };
        Self { config, audio, partner }
    }

    fn source(&self) -> Source {
        let source = if self.audio { Source::audio(SSRC) } else { Source::video(SSRC) };
        let frame_rate = 1000 / source.packets_per_frame as u32;
        // Numbers for congestion control are the same in all packets where nobody sets them, which is as good for this.
        let extensions = if self.audio { vec![(1, vec![30])] } else { vec![(5, vec![0, 1])] };
        Source { frame_rate, extensions, ..source }
    }

    fn info(&self) -> StreamInfo {
        let extension = |uri: &str, id| RtpHeaderExtension { uri: uri.to_owned(), id };
        let mut info = StreamInfo {
            ssrc_retransmission: Some(SSRC + 1),
            payload_type_retransmission: Some(97),
            rtp_header_extensions: vec![extension(TRANSPORT_CC, 5), extension(AUDIO_LEVEL, 1)],
            ..self.source().info()
        };
        info.rtcp_feedback.push(RtcpFeedback { kind: "ack".to_owned(), parameter: "ccfb".to_owned() });
        if self.audio {
            // RFC 2198, 5: RED of Opus.
            (info.mime_type, info.sdp_fmtp_line) = ("audio/red".to_owned(), "111/111".to_owned());
        } else {
            info.ssrc_forward_error_correction = Some(SSRC + 2);
            info.payload_type_forward_error_correction = Some(118);
        }
        info
    }
}

/// A session with a stream in one direction.
struct Side {
    shard: Shard,
    session: SessionId,
    now: Instant,
    read: bool,
    wire: Vec<Bytes>,
}

impl Side {
    fn new(case: &Case, plugin: Option<&Plugin>, read: bool) -> anyhow::Result<Self> {
        let mut shard = Shard::new(ShardConfig::default());
        let now = Instant::from_millis(1_000);
        let member = |plugin: &Plugin| MemberSpec {
            sink: Some(SinkId(0)),
            ..MemberSpec::new(plugin.clone()).with_config(case.config).isolated(Isolation::Session)
        };
        let chain = Chain::new(plugin.map(member));
        let session = shard.open_session(now, SessionSpec { chain, ..SessionSpec::default() })?;
        if read {
            shard.bind_remote_stream(now, session, case.info())?;
        } else {
            shard.bind_local_stream(now, session, case.info())?;
        }
        Ok(Self { shard, session, now, read, wire: Vec::new() })
    }

    /// Takes packets through the chain, a millisecond after each other. The answer is how long that took, in nanoseconds.
    fn drive(&mut self, packets: &[Bytes]) -> anyhow::Result<f64> {
        let mut taken = 0;
        for burst in packets.chunks(BURST) {
            let now = self.now + Duration::from_millis(burst.len() as u64);
            let made: Vec<_> = burst.iter().map(|bytes| RtpPacket::parse(bytes.clone())).collect::<Result<_, _>>()?;
            let mut out = Vec::with_capacity(4 * BURST);
            let started = thread_cpu();
            while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= now) {
                self.shard.handle_timeout(due);
            }
            if self.read {
                let session = self.session;
                let datagram = |bytes: &Bytes| Datagram { session, kind: Kind::Rtp, bytes: bytes.clone() };
                self.shard.read(now, burst.iter().map(datagram));
            } else {
                self.shard.write(now, made.into_iter().map(|packet| (self.session, packet.into())));
            }
            self.shard.take_outputs(&mut out);
            taken += thread_cpu() - started;
            self.now = now;
            let wire = out.iter().filter(|output| output.to == End::Wire && matches!(output.packet, Packet::Rtp(_)));
            self.wire.extend(wire.map(|output| output.packet.to_bytes()));
            while let Some(event) = self.shard.poll_event() {
                ensure!(!matches!(event, Event::Fault { .. }), "{event}");
            }
            while self.shard.poll_sink().is_some() {}
        }
        Ok(taken as f64)
    }
}

/// Bytes of physical memory that a session of the plugin's takes: of some, one after the other.
fn memory(case: &Case, plugin: &Plugin) -> anyhow::Result<usize> {
    const SESSIONS: usize = 64;
    let packets = case.source().packets(BURST as u64);
    let session = || {
        let mut side = Side::new(case, Some(plugin), true)?;
        side.shard.bind_local_stream(side.now, side.session, StreamInfo { ssrc: 100, ..StreamInfo::default() })?;
        side.drive(&packets)?;
        side.wire = Vec::new();
        anyhow::Ok(side)
    };
    // What is made once, such as the code's pages, is not a session's.
    let _first = session()?;
    let before = resident()?;
    let sessions = (0..SESSIONS).map(|_| session()).collect::<anyhow::Result<Vec<_>>>()?;
    let after = resident()?;
    drop(sessions);
    Ok(after.saturating_sub(before) / SESSIONS)
}

/// Tries every standard plugin, `samples` times.
pub(crate) fn run(samples: usize) -> anyhow::Result<Report> {
    let names: Vec<String> = sandbar_plugins::ALL.iter().map(|plugin| plugin.name.to_owned()).collect();
    let plugins = Plugins::load(&names)?;
    // What the process takes for the first sessions of all is none of them's.
    memory(&Case::of("noop"), &plugins.named("noop"))?;
    let row = |embedded: &sandbar_plugins::Embedded| {
        let (plugin, case) = (plugins.named(embedded.name), Case::of(embedded.name));
        let (size, memory) = (embedded.component.len(), memory(&case, &plugin)?);
        let mut row = Row { plugin: embedded.name, size, memory, read_ns: None, write_ns: None };
        for read in [true, false] {
            let mut source = case.source();
            let mut packets = source.packets(((samples + 1) * PACKETS) as u64);
            if let (Some(partner), true) = (case.partner, read) {
                let mut encoder = Side::new(&case, Some(&plugins.named(partner)), false)?;
                encoder.drive(&packets)?;
                packets = encoder.wire;
            }
            let (mut with, mut without) = (Side::new(&case, Some(&plugin), read)?, Side::new(&case, None, read)?);
            let mut costs = Vec::new();
            for chunk in packets.chunks_exact(packets.len() / (samples + 1)) {
                costs.push((with.drive(chunk)? - without.drive(chunk)?) / chunk.len() as f64);
                with.wire.clear();
                without.wire.clear();
            }
            let report = with.shard.session_report(with.session).map(|report| report.members).unwrap_or_default();
            let Some(member) = report.first() else { continue };
            if member.packets_in > 0 || member.history_bytes > 0 {
                // The first sample finds everything cold.
                let cost = Spread::of(costs.into_iter().skip(1));
                if read { row.read_ns = cost } else { row.write_ns = cost }
            }
        }
        anyhow::Ok(row)
    };
    Ok(Report { rows: sandbar_plugins::ALL.iter().map(row).collect::<anyhow::Result<_>>()? })
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{:<23}{:>9}{:>9}{:>25}{:>25}",
            "", "size", "memory", "ns per packet read", "ns per packet written"
        );
        let cost = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.cell(0));
        for Row { plugin, size, memory, read_ns, write_ns } in &self.rows {
            let _ = writeln!(
                out,
                "{plugin:<23}{:>5} KiB{:>5} KiB{:>25}{:>25}",
                size.div_ceil(1024),
                memory.div_ceil(1024),
                cost(*read_ns),
                cost(*write_ns)
            );
        }
        out
    }
}
