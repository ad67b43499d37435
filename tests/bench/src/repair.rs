//! Repair over paths that lose packets: which part comes in time, and what that costs.

use std::fmt::Write as _;

use sandbar_repair::{Lossy, Outcome, PATHS, SCHEMES, Scheme, run};
use serde::Serialize;

use crate::sandbar::Plugins;

/// What to run.
pub(crate) struct Plan {
    /// Runs of each scheme over each path, with different dice.
    pub(crate) seeds: u64,
    /// Seconds of each run.
    pub(crate) seconds: u64,
}

/// One scheme over one path: means over the runs.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    path: String,
    in_time: f64,
    in_time_least: f64,
    overhead: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    media: &'static str,
    scheme: &'static str,
    paths: Vec<Cell>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    seeds: u64,
    seconds: u64,
    rows: Vec<Row>,
}

pub(crate) fn run_all(plan: &Plan) -> anyhow::Result<Report> {
    let mut names: Vec<String> = SCHEMES.iter().flat_map(|scheme| scheme.plugins()).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    let plugins = Plugins::load(&names)?;
    let cell = |scheme: Scheme, path: Lossy| {
        let outcomes: Vec<Outcome> =
            (1..=plan.seeds).map(|seed| run(scheme, path, seed, plan.seconds, &|name| plugins.named(name))).collect();
        let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
        Cell {
            path: path.name(),
            in_time: mean(|outcome| outcome.in_time),
            in_time_least: outcomes.iter().map(|outcome| outcome.in_time).fold(1.0, f64::min),
            overhead: mean(|outcome| outcome.overhead),
        }
    };
    let rows = SCHEMES.map(|scheme| Row {
        media: if scheme.audio { "audio" } else { "video" },
        scheme: scheme.name,
        paths: PATHS.map(|path| cell(scheme, path)).into(),
    });
    Ok(Report { seeds: plan.seeds, seconds: plan.seconds, rows: rows.into() })
}

impl Report {
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "packets in time for playout after 200 ms, and overhead: means of {} runs of {} s",
            self.seeds, self.seconds
        );
        let _ = write!(out, "{:<29}", "");
        for cell in self.rows.first().map(|row| &row.paths).into_iter().flatten() {
            let _ = write!(out, "{:>19}", cell.path);
        }
        let _ = writeln!(out);
        for Row { media, scheme, paths } in &self.rows {
            let _ = write!(out, "{media} {scheme:<23}");
            for Cell { in_time, overhead, .. } in paths {
                let _ = write!(out, "{:>10.2} %{:>+5.0} %", in_time * 100.0, overhead * 100.0);
            }
            let _ = writeln!(out);
        }
        out
    }
}
