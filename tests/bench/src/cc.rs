//! Congestion control on paths with a bottleneck: Sandbar's plugins as components, and `rtc-interceptor`'s, over the same
//! paths with the same dice.

mod interceptors;

use std::fmt::Write as _;

use anyhow::ensure;
use sandbar_congestion::Sender;
use sandbar_congestion::component::{CHAIN, Components};
use sandbar_congestion::run::{Outcome, Scenario, run};
use sandbar_congestion::scenarios;
use serde::Serialize;

use crate::sandbar::Plugins;

/// What to run.
pub(crate) struct Plan {
    /// Scenarios whose names contain one of these; all if there are none.
    pub(crate) scenarios: Vec<String>,
    /// Runs of each, with different dice.
    pub(crate) seeds: u64,
}

/// Means over the runs, and the worst of them.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    /// Of what others leave of the path.
    utilisation: f64,
    utilisation_least: f64,
    loss: f64,
    /// Milliseconds in the bottleneck's queue.
    delay_p50: f64,
    delay_p95: f64,
    delay_p95_most: f64,
    /// Seconds until 85 % were used for a second; none if in one of the runs that did not happen.
    converged: Option<f64>,
    converged_most: Option<f64>,
    /// Of the flow that has most, where there are several.
    largest_share: Option<f64>,
}

/// One scenario on both sides.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: &'static str,
    sandbar: Figures,
    #[serde(rename = "rtc-interceptor")]
    interceptors: Figures,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    seeds: u64,
    rows: Vec<Row>,
}

pub(crate) fn run_all(plan: &Plan) -> anyhow::Result<Report> {
    let plugins = Plugins::load(&CHAIN.map(str::to_owned))?;
    let wanted = |scenario: &Scenario| {
        plan.scenarios.is_empty() || plan.scenarios.iter().any(|part| scenario.name.contains(part.as_str()))
    };
    let rows: Vec<Row> = scenarios::all()
        .into_iter()
        .filter(wanted)
        .map(|scenario| Row {
            name: scenario.name,
            sandbar: figures(&scenario, plan.seeds, |start| {
                Box::new(Components::new(start, |name| plugins.named(name)))
            }),
            interceptors: figures(&scenario, plan.seeds, |start| interceptors::sender(start)),
        })
        .collect();
    ensure!(!rows.is_empty(), "no scenario has such a name");
    Ok(Report { seeds: plan.seeds, rows })
}

fn figures<'a>(scenario: &Scenario, seeds: u64, make: impl Fn(u64) -> Box<dyn Sender + 'a>) -> Figures {
    let outcomes: Vec<Outcome> = (1..=seeds).map(|seed| run(scenario, seed, &make)).collect();
    let mean = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(value).sum::<f64>() / outcomes.len() as f64;
    let most = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(value).fold(f64::MIN, f64::max);
    let share = |outcome: &Outcome| {
        outcome.rates.iter().fold(0.0_f64, |most, rate| most.max(*rate)) / outcome.rates.iter().sum::<f64>()
    };
    let all_converged = outcomes.iter().all(|outcome| outcome.converged.is_some());
    let converged = |outcome: &Outcome| outcome.converged.unwrap_or(f64::INFINITY);
    Figures {
        utilisation: mean(&|outcome| outcome.utilisation),
        utilisation_least: -most(&|outcome| -outcome.utilisation),
        loss: mean(&|outcome| outcome.loss),
        delay_p50: mean(&|outcome| outcome.delay_p50),
        delay_p95: mean(&|outcome| outcome.delay_p95),
        delay_p95_most: most(&|outcome| outcome.delay_p95),
        converged: all_converged.then(|| mean(&converged)),
        converged_most: all_converged.then(|| most(&converged)),
        largest_share: (scenario.flows.len() > 1).then(|| mean(&share)),
    }
}

impl Report {
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "means of {} runs; converged: seconds until 85 % of the path were used for a second; share: of the larger flow",
            self.seeds
        );
        let _ = writeln!(
            out,
            "{:<23}{:<17}{:>7}{:>8}{:>11}{:>11}{:>11}{:>7}",
            "", "", "used", "lost", "queue p50", "queue p95", "converged", "share"
        );
        for row in &self.rows {
            for (name, side, figures) in
                [(row.name, "sandbar", &row.sandbar), ("", "rtc-interceptor", &row.interceptors)]
            {
                let converged = figures.converged.map_or_else(|| "not".to_owned(), |after| format!("{after:.1} s"));
                let share = figures.largest_share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
                let _ = writeln!(
                    out,
                    "{name:<23}{side:<17}{:>5.0} %{:>6.1} %{:>8.0} ms{:>8.0} ms{converged:>11}{share:>7}",
                    figures.utilisation * 100.0,
                    figures.loss * 100.0,
                    figures.delay_p50,
                    figures.delay_p95,
                );
            }
        }
        out
    }
}
