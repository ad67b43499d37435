//! What sessions cost beside their packets: time to set them up and to tear them down, and memory, by isolation.
//!
//! Each has the default chain and a video stream bound in each direction. Set-up is from an empty session to its second
//! stream, tear-down of one that has had a few packets; where instances are shared, another session has them already, or
//! thousands have.
//! Memory is measured in a process of its own, when the histories for retransmission are full: a stream of 50 packets a
//! second each way, whose payloads all sessions share.

use std::fmt::Write as _;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, ensure};
use sandbar_host::{Isolation, Packet, Shard, ShardConfig};
use serde::{Deserialize, Serialize};

use crate::live::{BURST, Live, Opening, exchange};
use crate::measure::{Spread, resident, thread_cpu};
use crate::report::Findings;
use crate::sandbar::{Plugins, instant, template};
use crate::traffic::Media;

/// Sessions that are set up and torn down together.
const TOGETHER: u32 = 64;
/// Sessions that are open where there are many.
const MANY: u32 = 10_000;
/// Packets each way that a session has before it is torn down.
const PACKETS: u64 = 8;
/// Packets each way after which a history of 1024 is full.
const PERIODS: u64 = 1100;
/// Bytes of memory of the machine that is asked about.
const MACHINE: usize = 16 << 30;
/// Addresses of a process.
const ADDRESSES: usize = 1 << 47;
const MOST_MAPPINGS: &str = "/proc/sys/vm/max_map_count";

/// How long a session takes.
#[derive(Clone, Debug, Serialize)]
struct Times {
    isolation: Isolation,
    /// Sessions that are open meanwhile.
    others: u32,
    set_up_us: Spread,
    tear_down_us: Spread,
}

/// What a session takes of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    isolation: Isolation,
    sessions: usize,
    /// Bytes of physical memory of a session.
    bytes: usize,
    /// Bytes of those that are its histories': headers and references to payloads.
    history: usize,
    /// Mappings of memory that the kernel keeps for a session, of which a process has `vm.max_map_count` at most.
    mappings: f64,
    /// Bytes of addresses that a session reserves, of which a process has 128 TiB.
    addresses: usize,
    /// Sessions that fit in 16 GiB, and in what a process may have of mappings and addresses.
    fit: usize,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    times: Vec<Times>,
    memory: Vec<Memory>,
}

/// Which memory is measured, such as `tenant/1000`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    isolation: Isolation,
    sessions: usize,
}

impl FromStr for Crowd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("tenant/1000 or session/1000, not {text}");
        let (isolation, sessions) = text.split_once('/').ok_or_else(wanted)?;
        let isolation = match isolation {
            "tenant" => Isolation::Tenant,
            "session" => Isolation::Session,
            _ => return Err(wanted()),
        };
        Ok(Self { isolation, sessions: sessions.parse().map_err(|_| wanted())? })
    }
}

/// Measures times here and memory in processes of their own.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let plugins = Plugins::of_default_chain()?;
    let many = if quick { 32 } else { MANY };
    let times = [(Isolation::Tenant, 1), (Isolation::Tenant, many), (Isolation::Session, 1)]
        .map(|(isolation, others)| times(&plugins, isolation, others, samples));
    let crowds: &[&str] = match quick {
        true => &["tenant/32", "session/32"],
        false => &["tenant/1000", "tenant/20000", "session/1000", "session/2500"],
    };
    let memory = crowds.iter().map(|crowd| measured_apart(crowd).with_context(|| format!("memory of {crowd}")));
    Ok(Report {
        times: times.into_iter().collect::<anyhow::Result<_>>()?,
        memory: memory.collect::<anyhow::Result<_>>()?,
    })
}

fn times(plugins: &Plugins, isolation: Isolation, others: u32, samples: usize) -> anyhow::Result<Times> {
    let chain = plugins.chain(isolation);
    let (now, template) = (instant(0), template()?);
    let (mut set_up, mut tear_down) = (Vec::new(), Vec::new());
    let mut shard = Shard::new(ShardConfig::default());
    for number in 0..others {
        Opening::new(TOGETHER + 1 + number, chain.clone()).open(&mut shard, now)?;
    }
    let instances = shard.instances();
    // The first sample finds everything cold.
    for _ in 0..=samples {
        let openings: Vec<_> = (1..=TOGETHER).map(|number| Opening::new(number, chain.clone())).collect();
        let started = thread_cpu();
        let opened = openings.into_iter().map(|opening| opening.open(&mut shard, now));
        let opened = opened.collect::<anyhow::Result<Vec<_>>>()?;
        set_up.push((thread_cpu() - started) as f64 / 1e3 / f64::from(TOGETHER));
        for index in 0..PACKETS {
            let media = (1..).map(|number| Media::nth(number, index, 0));
            exchange(&mut shard, now, &template, opened.iter().copied().zip(media))?;
        }
        let mut outputs = Vec::new();
        shard.take_outputs(&mut outputs);
        let left = outputs.iter().filter(|output| matches!(output.packet, Packet::Rtp(_))).count() as u64;
        ensure!(left == 2 * PACKETS * u64::from(TOGETHER), "{left} packets left the sessions");
        let started = thread_cpu();
        for session in opened {
            shard.close_session(now, session);
        }
        tear_down.push((thread_cpu() - started) as f64 / 1e3 / f64::from(TOGETHER));
        shard.take_outputs(&mut Vec::new());
        let (sessions, left) = (shard.sessions().count(), shard.instances());
        ensure!((sessions, left) == (others as usize, instances), "{sessions} sessions, {left} instances are left");
        if let Some(event) = shard.poll_event() {
            anyhow::bail!("{event}");
        }
    }
    let spread = |samples: Vec<f64>| Spread::of(samples.into_iter().skip(1)).context("no samples");
    Ok(Times { isolation, others, set_up_us: spread(set_up)?, tear_down_us: spread(tear_down)? })
}

fn measured_apart(crowd: &str) -> anyhow::Result<Memory> {
    let run = Command::new(std::env::current_exe()?).args(["sessions", "--memory", crowd]).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(serde_json::from_slice(&run.stdout)?)
}

/// Opens the sessions and measures what this process takes for them.
pub(crate) fn memory(Crowd { isolation, sessions }: Crowd) -> anyhow::Result<Memory> {
    let chain = Plugins::of_default_chain()?.chain(isolation);
    // What is made once, such as the code's pages, is not a session's.
    Live::new(&chain, BURST as usize)?.run(2)?;
    let before = Taken::now()?;
    let mut live = Live::new(&chain, sessions)?;
    live.run(PERIODS)?;
    live.finish()?;
    let after = Taken::now()?;
    let reports = live.sessions.iter().filter_map(|session| live.shard.session_report(*session));
    let history: usize = reports.flat_map(|report| report.members).map(|member| member.history_bytes).sum();
    let bytes = after.resident.saturating_sub(before.resident) / sessions;
    let mappings = after.mappings.saturating_sub(before.mappings) as f64 / sessions as f64;
    let addresses = after.addresses.saturating_sub(before.addresses) / sessions;
    let most = std::fs::read_to_string(MOST_MAPPINGS).context(MOST_MAPPINGS)?;
    let most_mappings: f64 = most.trim().parse().context(MOST_MAPPINGS)?;
    let fit = (MACHINE / bytes.max(1)).min(ADDRESSES / addresses.max(1)).min((most_mappings / mappings) as usize);
    Ok(Memory { isolation, sessions, bytes, history: history / sessions, mappings, addresses, fit })
}

/// What this process has of the machine.
struct Taken {
    resident: usize,
    mappings: usize,
    addresses: usize,
}

impl Taken {
    fn now() -> anyhow::Result<Self> {
        let mappings = std::fs::read_to_string("/proc/self/maps").context("/proc/self/maps")?.lines().count();
        let pages = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
        let pages: usize = pages.split(' ').next().and_then(|pages| pages.parse().ok()).context("/proc/self/statm")?;
        Ok(Self { resident: resident()?, mappings, addresses: pages * rustix::param::page_size() })
    }
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{:<24}{:>24}{:>24}", "us per session", "set-up", "tear-down");
        for Times { isolation, others, set_up_us, tear_down_us } in &self.times {
            let (case, set_up, tear_down) = (name(*isolation), set_up_us.cell(1), tear_down_us.cell(1));
            let _ = writeln!(out, "{:<24}{set_up:>24}{tear_down:>24}", format!("{case}, {others} open"));
        }
        let titles = ["memory", "of it history", "mappings", "addresses", "fit in 16 GiB"];
        let _ = writeln!(
            out,
            "{:<24}{:>16}{:>16}{:>16}{:>16}{:>16}",
            "", titles[0], titles[1], titles[2], titles[3], titles[4]
        );
        for Memory { isolation, sessions, bytes, history, mappings, addresses, fit } in &self.memory {
            let (memory, history) = (kib(*bytes), kib(*history));
            let _ = writeln!(
                out,
                "{:<24}{memory:>16}{history:>16}{mappings:>16.2}{:>12} MiB{fit:>16}",
                format!("{} {}", sessions, name(*isolation)),
                addresses >> 20
            );
        }
        out
    }
}

fn kib(bytes: usize) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}

fn name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Tenant => "tenant",
        Isolation::Session => "session",
    }
}
