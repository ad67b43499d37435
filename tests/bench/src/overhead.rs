//! What the host adds to its calls into plugins: a chain's time per packet, less what the calls took.
//!
//! The calls' time is the host's own measurement, of one call in 16 at places drawn at random
//! (`MemberReport::time_ns`): from before wasmtime is entered until it has returned, with what the plugin does and what
//! it asks of the host meanwhile. What is left is everything else: parsing, finding streams, the frames of batches,
//! histories, stamps, timers, outputs. Bursts of 32; the default chain in one session, and the whole set of plugins in 100 as
//! `chain` has it; an empty chain does the same without plugins.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::chain::{Kind, talking};
use crate::check;
use crate::measure::Spread;
use crate::report::{Findings, Report as Rows};
use crate::runner::Runner;
use crate::sandbar::{Plugins, Sandbar, WHOLE_SET};
use crate::traffic::{Direction, Load, Peer};

/// A chain in one direction, in nanoseconds per packet.
#[derive(Clone, Debug, Serialize)]
struct Row {
    chain: &'static str,
    direction: &'static str,
    chain_ns: Spread,
    calls_ns: Spread,
    /// The difference, sample by sample.
    host_ns: Spread,
    empty_ns: Spread,
    plugins: Vec<Share>,
}

/// A plugin's part of the calls.
#[derive(Clone, Debug, Serialize)]
struct Share {
    plugin: String,
    /// Packets to a call.
    packets_per_call: f64,
    /// Nanoseconds per packet of the chain.
    ns: f64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// Measures both chains in both directions, `samples` times.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let mut rows = Vec::new();
    for whole in [false, true] {
        let plugins = if whole { Plugins::load(&WHOLE_SET.map(str::to_owned))? } else { Plugins::of_default_chain()? };
        for direction in [Direction::Read, Direction::Write] {
            rows.push(row(&plugins, whole, direction, samples, quick)?);
        }
    }
    Ok(Report { rows })
}

fn row(plugins: &Plugins, whole: bool, direction: Direction, samples: usize, quick: bool) -> anyhow::Result<Row> {
    let step = Duration::from_micros(if quick { 1000 } else { 20 });
    let one = Load { direction, burst: 32, sessions: 1, streams: 1, peer: Peer::Quiet, step };
    let (name, load, check): (_, _, check::Check) = match whole {
        false => ("default", one, check::all),
        true => {
            let sessions = if quick { 32 } else { 100 };
            let load = Load { sessions, ..one };
            ("whole set", Load { peer: talking(Kind::Sandbar, &load, true), ..load }, check::whole)
        }
    };
    let mut chain = Runner::new(Box::new(plugins.batched(load)?), load);
    let mut empty = Runner::new(Box::new(plugins.empty(load)?), load);
    chain.second();
    empty.second();
    let before = (chain.side.members(), chain.traffic.entered());
    let (mut all, mut calls, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        let before = (called(&chain.side), chain.traffic.entered());
        all.push(chain.second());
        let packets = chain.traffic.entered() - before.1;
        calls.push((called(&chain.side) - before.0) as f64 / packets as f64);
        nothing.push(empty.second());
    }
    let packets = (chain.traffic.entered() - before.1) as f64;
    let members = chain.side.members();
    let shares = before.0.iter().zip(members).map(|(before, after)| Share {
        packets_per_call: packets / (after.calls - before.calls).max(1) as f64,
        ns: (after.time_ns - before.time_ns) as f64 / packets,
        plugin: after.plugin,
    });
    let shares = shares.collect();
    let host: Vec<f64> = all.iter().zip(&calls).map(|(all, calls)| all - calls).collect();
    let Runner { side, traffic, taken } = &mut chain;
    check(Kind::Sandbar, load, side.as_mut(), traffic, taken)?;
    let spread = |samples| Spread::of(samples).context("no samples");
    Ok(Row {
        chain: name,
        direction: Rows::key(direction),
        chain_ns: spread(all)?,
        calls_ns: spread(calls)?,
        host_ns: spread(host)?,
        empty_ns: spread(nothing)?,
        plugins: shares,
    })
}

/// Nanoseconds that calls into the chain's plugins took so far.
fn called(side: &Sandbar) -> u64 {
    side.members().iter().map(|member| member.time_ns).sum()
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let titles = ["chain", "calls", "host", "empty chain"];
        let _ = writeln!(
            out,
            "{:<24}{:>20}{:>20}{:>20}{:>20}",
            "ns per packet", titles[0], titles[1], titles[2], titles[3]
        );
        for Row { chain, direction, chain_ns, calls_ns, host_ns, empty_ns, .. } in &self.rows {
            let name = format!("{direction}, {chain}");
            let [chain, calls, host, empty] = [chain_ns, calls_ns, host_ns, empty_ns].map(|spread| spread.cell(0));
            let _ = writeln!(out, "{name:<24}{chain:>20}{calls:>20}{host:>20}{empty:>20}");
        }
        for Row { chain, direction, plugins, .. } in &self.rows {
            let _ = writeln!(
                out,
                "\n{:<24}{:>20}{:>20}",
                format!("{direction}, {chain}"),
                "ns per packet",
                "packets per call"
            );
            for Share { plugin, packets_per_call, ns } in plugins {
                let _ = writeln!(out, "{plugin:<24}{ns:>20.1}{packets_per_call:>20.1}");
            }
        }
        out
    }
}
