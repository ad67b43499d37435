//! What interceptor chains cost per packet: as components under Sandbar, and natively in `rtc-interceptor` 0.21, in one
//! process and in turn (`chain`); how the congestion control of both does (`cc`); what is repaired in time (`repair`);
//! and of Sandbar alone what each plugin costs (`plugins`), what sessions cost (`sessions`), how long they pause when a
//! plugin is replaced (`swap`), what forwarding costs (`fanout`), what further workers bring (`cores`), what is the
//! host's part of a packet's time (`overhead`), what the relay carries over sockets (`relay`), and how soon after its start
//! (`start`). Each checks what came out before it prints a figure.
//!
//! Of `chain`: both sides do the same work, and it is checked before a time is printed:
//!
//! | | |
//! | --- | --- |
//! | chain, from the wire | transport-wide numbering, NACK responder, NACK generator, transport-wide feedback, receiver reports, sender reports, each with its defaults |
//! | sessions | each with a remote and a local video stream bound (`streams_64`: 64 of each): generic NACK, RTX, transport-wide sequence numbers. What else is negotiated is only of use to the whole set of plugins |
//! | packets | 1200 bytes on the wire; nothing is lost, but for `loss`. They are made before the clock starts and freed after it has stopped. What is read is a datagram, and both sides parse it within the time; what is written has a header already |
//! | payloads | read: each packet's own. Written: shared by reference, as packets to several subscribers share them |
//! | time | virtual: 20 µs from packet to packet (2 µs with 10,000 sessions), of 100 sessions in `loss`, `rtcp` and `whole`; bursts come when their last packet has |
//! | peers | silent, but: in `loss` one packet in 20 is lost, drawn from a seed; what was lost on the way here comes again after 200 ms, and what was lost on the way there is asked for within 100 ms. In `rtcp` and `whole` each peer sends feedback about arrivals ten times a second, a report once, and asks for two packets. What comes so is parsed and answered within the time. Feedback is about the packets that a side has numbered: Sandbar all, the native chain only the streams' own; with `whole`, only where any were sent |
//! | `whole` | 15 standard plugins in Sandbar's chain, all that have something to do with a stream of video, beside 13 interceptors of the native one, which are all it has: its congestion control is Sandbar's `rtpfb` and `gcc` in one, and it has nothing like `stats`. Both pace at 20 Mbit/s, begin congestion control there and send two repair packets for each five |
//! | isolation | `tenant`: sessions share each plugin's instance. By default FlexFEC's, which see media, would have one for each session |
//! | timeouts | driven whenever the next deadline has come. The native chains' deadlines are kept in a heap |
//! | output | all of it is taken after each burst, media and RTCP; RTCP as bytes, which the native chain's is made into within the time |
//! | clock | processor time of the one thread that does all this |

mod cc;
mod chain;
mod check;
mod cores;
mod fanout;
mod feedback;
mod live;
mod measure;
mod native;
mod overhead;
mod peer;
mod plugins;
mod relay;
mod repair;
mod report;
mod runner;
mod sandbar;
mod sessions;
mod side;
mod start;
mod swap;
mod traffic;

use std::io::Write;
use std::path::PathBuf;
use std::process;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use crate::report::{Document, Findings};

#[derive(Parser)]
#[command(
    about = "What interceptor chains cost per packet, and how congestion control does, as components and natively",
    version
)]
enum Command {
    /// The default chain, one session and many, against rtc-interceptor's native chain
    Chain(ChainArguments),
    /// Congestion control on paths with a bottleneck, in virtual time, against rtc-interceptor's
    Cc(CcArguments),
    /// What each standard plugin costs: its size, its memory, its time per packet
    Plugins(Measured),
    /// Repair on paths that lose packets, in virtual time: what comes in time, and what that costs
    Repair(RepairArguments),
    /// What sessions cost beside their packets: time to set up and to tear down, and memory
    Sessions(SessionsArguments),
    /// A plugin replaced in a thousand live sessions under traffic: how long each pauses
    Swap(Measured),
    /// One publisher to 500 subscribers: what a forwarded packet costs, and what is copied for it
    Fanout(Measured),
    /// Throughput by the number of worker threads
    Cores(Measured),
    /// What the host adds to its calls into plugins
    Overhead(Measured),
    /// The relay over loopback sockets, against a forwarder with the same sockets and nothing else
    Relay(Measured),
    /// From a relay's start to the first packet, with all standard plugins
    Start(Measured),
    /// All of these, one after the other, each with its figures as JSON in target/bench
    All {
        /// Run everything once and briefly: checks the benchmarks, measures nothing
        #[arg(long)]
        quick: bool,
    },
}

#[derive(clap::Args)]
struct Measured {
    /// Where to write the figures as JSON [default: a file of the benchmark's name in target/bench, unless the run is
    /// quick]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run everything once and briefly: checks the benchmark, measures nothing
    #[arg(long)]
    quick: bool,
    /// How often each row is measured
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
}

#[derive(clap::Args)]
struct SessionsArguments {
    #[command(flatten)]
    measured: Measured,
    /// Measure the memory of such sessions alone: what the benchmark starts itself for
    #[arg(long, hide = true, value_name = "ISOLATION/SESSIONS")]
    memory: Option<sessions::Crowd>,
}

#[derive(clap::Args)]
struct RepairArguments {
    /// Where to write the figures as JSON [default: target/bench/repair.json, unless the run is quick]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run everything once and briefly
    #[arg(long)]
    quick: bool,
    /// Runs of each scheme over each path, with different dice
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

#[derive(clap::Args)]
struct CcArguments {
    /// Where to write the figures as JSON [default: target/bench/cc.json, unless the run is partial or quick]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run one scenario once
    #[arg(long)]
    quick: bool,
    /// Runs of each scenario, with different dice
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Only scenarios with this in their name, such as lost; may be repeated
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
}

#[derive(clap::Args)]
struct ChainArguments {
    /// Where to write the figures as JSON [default: target/bench/chain.json, unless the run is partial or quick]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run everything once and briefly: checks the benchmark, measures nothing
    #[arg(long)]
    quick: bool,
    /// How often each row is measured
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
    /// Only this row, such as read/32 or write/sessions_1000; may be repeated
    #[arg(long, value_name = "ROW")]
    row: Vec<String>,
    /// Only this side; may be repeated
    #[arg(long, value_name = "SIDE")]
    side: Vec<chain::Kind>,
    /// Another chain than the default one, from the wire, such as nack-generator,twcc-sender: to see what plugins cost
    #[arg(long, value_name = "PLUGINS", value_delimiter = ',')]
    chain: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Chain(arguments) => run_chain(arguments),
        Command::Cc(arguments) => run_cc(arguments),
        Command::Plugins(arguments) => measured("plugins", arguments, |samples, _| plugins::run(samples)),
        Command::Repair(arguments) => run_repair(arguments),
        Command::Sessions(arguments) => run_sessions(arguments),
        Command::Swap(arguments) => measured("swap", arguments, swap::run),
        Command::Fanout(arguments) => measured("fanout", arguments, fanout::run),
        Command::Cores(arguments) => measured("cores", arguments, cores::run),
        Command::Overhead(arguments) => measured("overhead", arguments, overhead::run),
        Command::Relay(arguments) => measured("relay", arguments, relay::run),
        Command::Start(arguments) => measured("start", arguments, start::run),
        Command::All { quick } => run_all(quick),
    }
}

/// Runs each benchmark in a process of its own, so that none finds another's memory.
fn run_all(quick: bool) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("the system does not say where this program is")?;
    let command = Command::command();
    for benchmark in command.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "all") {
        writeln!(std::io::stdout(), "== {benchmark}")?;
        let status = process::Command::new(&program).arg(benchmark).args(quick.then_some("--quick")).status()?;
        anyhow::ensure!(status.success(), "the benchmark {benchmark} failed: {status}");
    }
    Ok(())
}

/// Runs a benchmark with so many samples, and briefly or not, and tells what it has found.
fn measured<F: Findings>(
    benchmark: &str,
    arguments: Measured,
    run: impl FnOnce(usize, bool) -> anyhow::Result<F>,
) -> anyhow::Result<()> {
    let Measured { json, quick, samples } = arguments;
    let findings = run(if quick { 1 } else { samples.into() }, quick)?;
    std::io::stdout().write_all(findings.table().as_bytes())?;
    let path = json.or_else(|| (!quick).then(|| PathBuf::from(format!("target/bench/{benchmark}.json"))));
    let document = Document { benchmark, quick, machine: report::machine(), findings: &findings };
    write_json(path, || serde_json::to_string_pretty(&document))
}

fn run_sessions(SessionsArguments { measured: arguments, memory }: SessionsArguments) -> anyhow::Result<()> {
    match memory {
        Some(crowd) => Ok(serde_json::to_writer(std::io::stdout(), &sessions::memory(crowd)?)?),
        None => measured("sessions", arguments, sessions::run),
    }
}

fn run_repair(arguments: RepairArguments) -> anyhow::Result<()> {
    let RepairArguments { json, quick, seeds } = arguments;
    let plan = if quick { repair::Plan { seeds: 1, seconds: 2 } } else { repair::Plan { seeds, seconds: 60 } };
    let report = repair::run_all(&plan)?;
    std::io::stdout().write_all(report.table().as_bytes())?;
    write_json(json.or_else(|| (!quick).then(|| PathBuf::from("target/bench/repair.json"))), || report.to_json())
}

fn run_cc(arguments: CcArguments) -> anyhow::Result<()> {
    let CcArguments { json, quick, seeds, scenario } = arguments;
    let whole = scenario.is_empty() && !quick;
    let plan = match quick {
        true => cc::Plan { scenarios: vec!["steady".to_owned()], seeds: 1 },
        false => cc::Plan { scenarios: scenario, seeds },
    };
    let report = cc::run_all(&plan)?;
    std::io::stdout().write_all(report.table().as_bytes())?;
    write_json(json.or_else(|| whole.then(|| PathBuf::from("target/bench/cc.json"))), || report.to_json())
}

/// Writes the figures to a file, if there is to be one, and says where.
fn write_json(path: Option<PathBuf>, document: impl FnOnce() -> serde_json::Result<String>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let written = path.display();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(&path, document()? + "\n").with_context(|| format!("cannot write {written}"))?;
    writeln!(std::io::stdout(), "{written}")?;
    Ok(())
}

fn run_chain(arguments: ChainArguments) -> anyhow::Result<()> {
    let ChainArguments { json, quick, samples, row, side, chain } = arguments;
    let whole = row.is_empty() && side.is_empty() && chain.is_empty() && !quick;
    let samples = if quick { 1 } else { usize::from(samples) };
    let report = chain::run(&chain::Plan { quick, samples, rows: row, sides: side, chain })?;
    std::io::stdout().write_all(report.table().as_bytes())?;
    let path = json.or_else(|| whole.then(|| PathBuf::from("target/bench/chain.json")));
    write_json(path, || serde_json::to_string_pretty(&report.to_json()))
}
