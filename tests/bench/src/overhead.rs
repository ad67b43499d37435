//! What the host adds to its calls into plugins: the default chain's time per packet, less what the calls took.
//!
//! The calls' time is the host's own measurement, of one call in 16 at places drawn at random
//! (`MemberReport::time_ns`): from before wasmtime is entered until it has returned, with what the plugin does and what
//! it asks of the host meanwhile. What is left is everything else: parsing, finding streams, the frames of batches,
//! histories, stamps, timers, outputs. One session, bursts of 32; an empty chain does the same without plugins.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::chain::Kind;
use crate::check;
use crate::measure::Spread;
use crate::report::{Findings, Report as Rows};
use crate::runner::Runner;
use crate::sandbar::Plugins;
use crate::traffic::{Direction, Load, Peer};

/// One direction, in nanoseconds per packet.
#[derive(Clone, Debug, Serialize)]
struct Row {
    direction: &'static str,
    chain_ns: Spread,
    calls_ns: Spread,
    /// The difference, sample by sample.
    host_ns: Spread,
    empty_ns: Spread,
}

/// Both.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// Measures both directions, `samples` times.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let plugins = Plugins::of_default_chain()?;
    let step = Duration::from_micros(if quick { 1000 } else { 20 });
    let rows = [Direction::Read, Direction::Write].map(|direction| {
        let load = Load { direction, burst: 32, sessions: 1, streams: 1, peer: Peer::Quiet, step };
        let mut chain = Runner::new(Box::new(plugins.batched(load)?), load);
        let mut empty = Runner::new(Box::new(plugins.empty(load)?), load);
        chain.second();
        empty.second();
        let (mut whole, mut calls, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..samples {
            let before = (chain.side.called(), chain.traffic.entered());
            whole.push(chain.second());
            let packets = chain.traffic.entered() - before.1;
            calls.push((chain.side.called() - before.0) as f64 / packets as f64);
            nothing.push(empty.second());
        }
        let host: Vec<f64> = whole.iter().zip(&calls).map(|(whole, calls)| whole - calls).collect();
        let Runner { side, traffic, taken } = &mut chain;
        check::all(Kind::Sandbar, load, side.as_mut(), traffic, taken)?;
        let spread = |samples| Spread::of(samples).context("no samples");
        Ok(Row {
            direction: Rows::key(direction),
            chain_ns: spread(whole)?,
            calls_ns: spread(calls)?,
            host_ns: spread(host)?,
            empty_ns: spread(nothing)?,
        })
    });
    Ok(Report { rows: rows.into_iter().collect::<anyhow::Result<_>>()? })
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let titles = ["chain", "calls", "host", "empty chain"];
        let _ = writeln!(
            out,
            "{:<16}{:>20}{:>20}{:>20}{:>20}",
            "ns per packet", titles[0], titles[1], titles[2], titles[3]
        );
        for Row { direction, chain_ns, calls_ns, host_ns, empty_ns } in &self.rows {
            let [chain, calls, host, empty] = [chain_ns, calls_ns, host_ns, empty_ns].map(|spread| spread.cell(0));
            let _ = writeln!(out, "{direction:<16}{chain:>20}{calls:>20}{host:>20}{empty:>20}");
        }
        out
    }
}
