//! `sandbar plugin check`: drives a component with a standard trace and says what is wrong with it.
//!
//! | module     | what it is about                                           |
//! | ---------- | ---------------------------------------------------------- |
//! | `trace`    | the phases, and what is wrong by the end of each           |
//! | `bench`    | the shard, and media through it in virtual time            |
//! | `talk`     | a session's peer and application, who behave               |
//! | `packets`  | RTP and RTCP, good and bad                                 |
//! | `findings` | problems and notes                                         |

mod bench;
mod findings;
mod packets;
mod talk;
mod trace;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sandbar_host::{Grants, MemberReport, Plugin};
use serde::Serialize;

use super::facts::{self, Facts};
use crate::replay::chain::grants;
use crate::tool::Tool;
use findings::Findings;

/// What `sandbar plugin check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// A component's file, or the name of a plugin that is part of this program
    #[arg(value_name = "FILE|NAME")]
    plugin: PathBuf,

    /// The plugin's configuration [default: none, and then its defaults and mistakes in it are tried too]
    #[arg(long, value_name = "JSON", value_parser = json)]
    config: Option<String>,

    /// What it may do: a list such as emit-rtcp,read-media, or all, or none
    #[arg(long, value_name = "GRANTS", value_parser = grants, default_value = "all")]
    grants: Grants,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
The trace: video with RTX and audio both ways, clean, with loss, reordering and duplicates, in bursts; odd RTP; RTCP of all
kinds, sense and nonsense; malformed packets; a second session; streams that come and go; silence; control; a replacement
by itself; the end. Exits 1 if anything is wrong: a refusal, a fault (trap, deadline, memory, bad batch, wrong use of the
host), packets larger than the path, storms, everything dropped.";

fn json(text: &str) -> Result<String, String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("not JSON: {error}"))
}

/// Everything about a check.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    plugin: Option<Facts>,
    #[serde(flatten)]
    findings: Findings,
    counters: Option<MemberReport>,
}

/// Checks and tells.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let component = facts::read(&args.plugin)?;
    let tool = Tool::strict()?;
    let mut findings = Findings::default();
    findings.begin("load");
    let report = match Plugin::load(&tool.engine, &component, &args.grants) {
        Ok(plugin) => check(&plugin, args, findings),
        Err(error) => {
            findings.problem("refusal", error.to_string());
            Report { ok: false, plugin: None, findings, counters: None }
        }
    };
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{:#}", serde_json::to_value(&report).context("the report")?)?,
        false => write!(out, "{report}")?,
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(plugin: &Plugin, args: &Args, findings: Findings) -> Report {
    let facts = Facts::of(plugin);
    let (mut findings, counters) = trace::run(plugin, args.config.as_deref(), findings);
    if !facts.wants_beyond_default.is_empty() {
        let wants = facts.wants_beyond_default.join(", ");
        findings.note(format!("it wants {wants}, which a configuration has to grant it by name"));
    }
    Report { ok: findings.problems.is_empty(), plugin: Some(facts), findings, counters }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(facts) = &self.plugin {
            writeln!(f, "{}", facts.line())?;
            writeln!(
                f,
                "\n{:<22} {:>8} {:>8} {:>8} {:>8} {:>6} {:>9}",
                "phase", "given", "to app", "RTP out", "RTCP out", "wakes", ""
            )?;
            for phase in &self.findings.phases {
                let verdict = match phase.problems {
                    0 => "fine".to_owned(),
                    1 => "1 problem".to_owned(),
                    problems => format!("{problems} problems"),
                };
                writeln!(
                    f,
                    "{:<22} {:>8} {:>8} {:>8} {:>8} {:>6}  {verdict}",
                    phase.name, phase.given, phase.to_application, phase.rtp_to_wire, phase.rtcp_to_wire, phase.wakes
                )?;
            }
        }
        if let Some(counters) = &self.counters {
            let MemberReport { packets_in, dropped, emitted, calls, time_ns, memory_bytes, .. } = counters;
            let each = if *calls > 0 { format!(" of {} ns", time_ns / calls) } else { String::new() };
            writeln!(
                f,
                "\nits last instance: {calls} calls{each}, {memory_bytes} bytes of memory; its first session: {packets_in} packets, \
                 {dropped} dropped, {emitted} emitted"
            )?;
        }
        for note in &self.findings.notes {
            writeln!(f, "note: {note}")?;
        }
        for problem in &self.findings.problems {
            let times = if problem.times > 1 { format!(" ({} times)", problem.times) } else { String::new() };
            writeln!(f, "problem in {}: {}{times}: {}", problem.phase, problem.kind, problem.message)?;
        }
        match self.findings.problems.len() {
            0 => writeln!(f, "fine: no problems"),
            1 => writeln!(f, "1 problem"),
            problems => writeln!(f, "{problems} problems"),
        }
    }
}
