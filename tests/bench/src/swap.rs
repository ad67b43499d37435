//! A plugin is replaced in a thousand live sessions, one after the other, while all of them send and receive.
//!
//! Between two replacements comes a burst of 32 sessions' packets each way. The successor is the same plugin with a
//! configuration that is written otherwise, so it is an instance of its own and takes over its predecessor's state. A
//! session's pause is the processor time of its replacement: for so long its shard does nothing else. No packet may be
//! lost, repeated or out of order, and numbering goes on without a gap.

use std::fmt::Write as _;

use anyhow::{Context, ensure};
use sandbar_host::{Isolation, MemberSpec, MemberState};
use serde::Serialize;

use crate::live::Live;
use crate::measure::{Spread, thread_cpu};
use crate::report::Findings;
use crate::sandbar::{DEFAULT_CHAIN, Plugins};

/// Plugins that hand over something each: state, a history, values that are stamped.
const REPLACED: [&str; 3] = ["nack-generator", "nack-responder", "twcc-header-extension"];

/// One plugin's replacement in all sessions, of several times.
#[derive(Clone, Debug, Serialize)]
struct Row {
    plugin: &'static str,
    isolation: Isolation,
    sessions: usize,
    /// Pauses of sessions.
    p50_us: Spread,
    p99_us: Spread,
    max_us: Spread,
    /// All pauses together.
    total_ms: Spread,
    /// Packets that sessions sent and received meanwhile, each of them once.
    packets: u64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// Replaces each plugin, `samples` times.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let plugins = Plugins::of_default_chain()?;
    let sessions = if quick { 32 } else { 1000 };
    let mut rows = Vec::new();
    for isolation in [Isolation::Tenant, Isolation::Session] {
        for plugin in REPLACED {
            let row = row(&plugins, plugin, isolation, sessions, samples);
            rows.push(row.with_context(|| format!("{plugin}, isolation {isolation:?}"))?);
        }
    }
    Ok(Report { rows })
}

fn row(
    plugins: &Plugins,
    plugin: &'static str,
    isolation: Isolation,
    sessions: usize,
    samples: usize,
) -> anyhow::Result<Row> {
    let index = DEFAULT_CHAIN.iter().position(|name| *name == plugin).context("not in the chain")?;
    let mut live = Live::new(&plugins.chain(isolation), sessions)?;
    live.run(50)?;
    let before = live.passed();
    let instances = live.shard.instances();
    let (mut p50, mut p99, mut max, mut total) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for sample in 0..samples {
        let config = ["{ }", "{}"][sample % 2];
        let spec = MemberSpec::new(plugins.named(plugin)).with_config(config).isolated(isolation);
        let mut pauses = Vec::new();
        for session in live.sessions.clone() {
            let (spec, now) = (spec.clone(), live.now());
            let started = thread_cpu();
            live.shard.replace_member(now, session, index, spec)?;
            pauses.push((thread_cpu() - started) as f64 / 1e3);
            live.burst()?;
        }
        live.run(1)?;
        let running = |session| {
            let report = live.shard.session_report(session);
            report.is_some_and(|report| matches!(report.members[index].state, MemberState::Running { .. }))
        };
        ensure!(live.sessions.iter().all(|session| running(*session)), "a successor does not run");
        ensure!(live.shard.instances() == instances, "{} instances in place of {instances}", live.shard.instances());
        pauses.sort_by(f64::total_cmp);
        p50.push(pauses[sessions / 2]);
        p99.push(pauses[sessions * 99 / 100]);
        max.push(pauses[sessions - 1]);
        total.push(pauses.iter().sum::<f64>() / 1e3);
    }
    live.finish()?;
    let packets = live.passed() - before;
    let spread = |samples| Spread::of(samples).context("no samples");
    Ok(Row {
        plugin,
        isolation,
        sessions,
        p50_us: spread(p50)?,
        p99_us: spread(p99)?,
        max_us: spread(max)?,
        total_ms: spread(total)?,
        packets,
    })
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let titles = ["pause, us: p50", "p99", "most", "all, ms"];
        let _ = writeln!(
            out,
            "{:<24}{:<9}{:>22}{:>22}{:>24}{:>22}{:>10}",
            "", "shared", titles[0], titles[1], titles[2], titles[3], "packets"
        );
        for row in &self.rows {
            let shared = if row.isolation == Isolation::Tenant { "tenant" } else { "session" };
            let _ = writeln!(
                out,
                "{:<24}{shared:<9}{:>22}{:>22}{:>24}{:>22}{:>10}",
                row.plugin,
                row.p50_us.cell(1),
                row.p99_us.cell(1),
                row.max_us.cell(0),
                row.total_ms.cell(1),
                row.packets
            );
        }
        out
    }
}
