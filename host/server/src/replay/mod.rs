//! `sandbar replay`: a capture of RTP through a chain into another capture, in virtual time.
//!
//! | module     | what it is about                                                      |
//! | ---------- | --------------------------------------------------------------------- |
//! | `capture`  | reading pcap and pcapng                                               |
//! | `datagram` | from link layers to UDP datagrams, and back                           |
//! | `plan`     | who talks to whom: conversations, streams, RTCP                       |
//! | `formats`  | payload formats, as said, as standard or as measured                  |
//! | `chain`    | which chain it goes through                                           |
//! | `drive`    | the host's shard, fed at the times of the capture                     |
//! | `time`     | from a capture's times to the host's and back                         |
//! | `pcapng`   | writing                                                               |
//! | `summary`  | what is told in the end                                               |

mod capture;
pub(crate) mod chain;
mod datagram;
mod drive;
mod formats;
pub(crate) mod fuzzing;
mod pcapng;
mod plan;
mod rtcp;
pub(crate) mod sequence;
mod summary;
mod time;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use sandbar_host::{RtcpFeedback, RtcpMode, RtpHeaderExtension};

use crate::cli::Log;
use crate::config::units;
use crate::tool::Tool;
use drive::{Direction, Local, Setup};
use formats::{Format, Formats};
use summary::Summary;

/// What `sandbar replay` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The capture: pcap or pcapng, RTP over UDP
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// Where what comes out of the chain is written, as pcapng
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    chain: chain::ChainArgs,

    /// Where the chain is
    #[arg(long, value_enum, default_value = "read", value_name = "WHERE")]
    direction: Direction,

    /// This side's host or address: what goes there is read, what comes from there is written. Goes before --direction
    #[arg(long, value_name = "HOST|HOST:PORT", value_parser = local)]
    local: Option<Local>,

    /// Replay only what comes from or goes to this UDP port; can be repeated
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,

    /// What the sessions' random numbers come from
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    seed: u64,

    /// What a payload type carries; can be repeated [default: RFC 3551's, and otherwise the clock rate is measured]
    #[arg(long = "map", value_name = "PT=MIME/RATE[/CHANNELS]", value_parser = formats::parse_map, help_heading = "Streams")]
    maps: Vec<(u8, Format)>,

    /// The payload type of retransmissions, and that of what they retransmit; can be repeated
    #[arg(long = "rtx", value_name = "PT=PT", value_parser = formats::parse_companion, help_heading = "Streams")]
    rtx: Vec<(u8, u8)>,

    /// The payload type of repair packets (FlexFEC), and that of what they protect; can be repeated
    #[arg(long = "fec", value_name = "PT=PT", value_parser = formats::parse_companion, help_heading = "Streams")]
    fec: Vec<(u8, u8)>,

    /// A header extension of all streams: its id, and its URI or one of transport-cc, abs-send-time, mid, ..; can be repeated
    #[arg(long = "extension", value_name = "ID=URI", value_parser = formats::parse_extension, help_heading = "Streams")]
    extensions: Vec<RtpHeaderExtension>,

    /// Feedback negotiated for all streams, as in a=rtcp-fb; can be repeated [default: nack, nack pli, ccm fir,
    /// transport-cc]
    #[arg(long = "feedback", value_name = "FEEDBACK", value_parser = formats::parse_feedback, help_heading = "Streams")]
    feedback: Vec<RtcpFeedback>,

    /// Most bytes of a packet that plugins may send
    #[arg(long, default_value_t = 1200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(64..), help_heading = "Session")]
    mtu: u16,

    /// Send RTCP without the reports that RFC 3550 wants in every compound (RFC 5506)
    #[arg(long, help_heading = "Session")]
    reduced_size_rtcp: bool,

    /// How long after the last packet plugins may still speak
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = linger, help_heading = "Session")]
    linger: Duration,

    /// Replay a capture that is cut off or damaged as far as it goes
    #[arg(long)]
    allow_truncated: bool,

    /// Print the summary and all events as JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Time is that of the capture, so an hour takes seconds; the same capture, chain and seed give the same bytes.
Each pair of addresses with media is a session. Streams are bound when they are first heard. In OUT, what the
application would get is on the interface \"application\", and what the peer would get on \"wire\".

Examples:
  sandbar replay --plugin nack-generator --plugin report-receiver call.pcap out.pcapng
  sandbar replay --chain relay.toml --chain-name publisher --map 96=video/VP8/90000 --rtx 97=96 call.pcapng out.pcapng
  sandbar replay --direction write --plugin nack-responder sent.pcap out.pcapng
  sandbar replay --plugin flexfec-decoder --grants emit-rtp,read-media --fec 118=96 received.pcap out.pcapng
  sandbar replay --plugin ./my-plugin.wasm='{\"level\": 3}' --grants emit-rtcp,read-media --json call.pcap out.pcapng";

fn local(text: &str) -> Result<Local, String> {
    let host = || text.parse::<IpAddr>().map(Local::Host);
    let address = text.parse::<SocketAddr>().map(Local::Address);
    address
        .or_else(|_| host())
        .map_err(|_| "expected a host such as 192.0.2.1 or ::1, or an address such as 192.0.2.1:5004".to_owned())
}

fn linger(text: &str) -> Result<Duration, String> {
    let parsed = units::parse(text).filter(|duration| *duration <= Duration::from_secs(3600));
    parsed.ok_or_else(|| "a duration of at most 1h, such as 500ms or 10s, is expected".to_owned())
}

/// Replays, writes and tells.
pub(crate) fn run(args: &Args, log: &Log) -> anyhow::Result<ExitCode> {
    log.start(Some("warn"))?;
    let name = args.input.display().to_string();
    let file = Bytes::from(std::fs::read(&args.input).with_context(|| name.clone())?);
    let capture = capture::read(&file).with_context(|| name.clone())?;
    let mut warnings = Vec::new();
    match capture.ended_by {
        Some(why) if args.allow_truncated => warnings.push(why.to_string()),
        Some(why) => anyhow::bail!("{name}: {why}; --allow-truncated replays what comes before"),
        None => {}
    }
    let formats = Formats {
        mapped: args.maps.clone(),
        rtx: args.rtx.clone(),
        fec: args.fec.clone(),
        extensions: args.extensions.clone(),
        feedback: if args.feedback.is_empty() { formats::default_feedback() } else { args.feedback.clone() },
    };
    let plan = plan::plan(&file, &capture.packets, &formats, &args.ports);
    if plan.sources.is_empty() {
        anyhow::bail!("{name}: {}", no_media(&plan, capture.packets.len(), &args.ports));
    }
    let tool = Tool::patient()?;
    let (chain, order) = chain::load(&tool.engine, &args.chain)?;
    warnings.extend(order);
    if chain.members.is_empty() {
        warnings.push("the chain is empty; choose plugins with --plugin or --chain".to_owned());
    }
    let setup = Setup {
        chain,
        formats,
        direction: args.direction,
        local: args.local,
        seed: args.seed,
        mtu: args.mtu,
        rtcp: if args.reduced_size_rtcp { RtcpMode::ReducedSize } else { RtcpMode::Compound },
        linger: args.linger,
    };
    let outcome = drive::run(&plan, &setup)?;
    write(&args.output, &outcome.file).with_context(|| args.output.display().to_string())?;
    let reads = |conversation, way| setup.reads(&plan, conversation, way);
    let input = (args.input.clone(), capture.packets.len());
    let summary = Summary::new(input, args.output.clone(), &plan, &outcome, reads, warnings);
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?,
        false => write!(out, "{summary}")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is nothing to replay.
fn no_media(plan: &plan::Plan, packets: usize, ports: &[u16]) -> String {
    let skipped = &plan.skipped;
    let mut why = format!("there is no RTP in the capture's {packets} packets");
    let more = match skipped {
        _ if packets == 0 => "",
        _ if skipped.cut == packets as u64 => {
            "; they were not captured whole: capture with a larger snap length (tcpdump -s 0)"
        }
        _ if skipped.not_rtp == 0 && skipped.not_udp == packets as u64 => "; none is UDP",
        _ if !ports.is_empty() => "; --port may leave it out",
        _ => "; a stream is taken for RTP once two packets came in sequence",
    };
    why.push_str(more);
    plan.warnings.iter().for_each(|warning| why.push_str(&format!("; {warning}")));
    why
}

/// Puts a file in its place only once it is whole. What is no regular file, such as a pipe, is written to.
fn write(to: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::metadata(to).is_ok_and(|there| !there.is_file()) {
        return std::fs::write(to, bytes);
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, to)).inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })
}
