//! Throughput of the read path by the number of worker threads, each with a shard and sessions of its own.
//!
//! They share the engine and the plugins' code. Every worker takes the same packets through its chains at the same
//! time, after all have got as far. Rates are by each worker's processor time, which other programs on the machine do
//! not use up; where one would wait for another it would sleep, and how often any slept is counted.

use std::fmt::Write as _;
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::measure::Spread;
use crate::report::Findings;
use crate::runner::Runner;
use crate::sandbar::Plugins;
use crate::traffic::{Direction, Load, Peer};

/// Seconds of virtual time of a sample.
const SECONDS: u32 = 4;

/// Some number of workers.
#[derive(Clone, Debug, Serialize)]
struct Row {
    workers: usize,
    /// Packets per second of processor time, of all workers together.
    packets_per_second: Spread,
    /// Beside half as many workers, sample by sample.
    doubling: Option<Spread>,
    /// Times that a worker gave up its processor, in all samples.
    sleeps: u64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// Tries 1, 2, 4 .. workers, as many as there are processors, `samples` times each.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let plugins = Plugins::of_default_chain()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<usize> = std::iter::successors(Some(1), |count| Some(2 * count))
        .take_while(|count| *count == 1 || *count <= processors)
        .collect();
    let (sessions, step) = if quick { (32, Duration::from_millis(1)) } else { (100, Duration::from_micros(20)) };
    let load = Load { direction: Direction::Read, burst: 32, sessions, streams: 1, peer: Peer::Quiet, step };
    let mut rates = vec![Vec::new(); counts.len()];
    let mut sleeps = vec![0; counts.len()];
    for _ in 0..samples {
        for (place, count) in counts.iter().enumerate() {
            let done = together(&plugins, load, *count)?;
            rates[place].push(done.iter().map(|done| 1e9 / done.nanos).sum::<f64>());
            sleeps[place] += done.iter().map(|done| done.sleeps).sum::<u64>();
        }
    }
    let row = |place: usize| {
        let half = place.checked_sub(1).map(|half| rates[half].iter());
        let doubling = half.and_then(|half| Spread::of(rates[place].iter().zip(half).map(|(two, one)| two / one)));
        let packets_per_second = Spread::of(rates[place].iter().copied()).context("no samples")?;
        Ok(Row { workers: counts[place], packets_per_second, doubling, sleeps: sleeps[place] })
    };
    Ok(Report { rows: (0..counts.len()).map(row).collect::<anyhow::Result<_>>()? })
}

/// What a worker has done in a sample.
struct Done {
    /// Nanoseconds per packet.
    nanos: f64,
    sleeps: u64,
}

/// Lets workers take a sample's packets at once.
fn together(plugins: &Plugins, load: Load, workers: usize) -> anyhow::Result<Vec<Done>> {
    let barrier = Barrier::new(workers);
    let work = || {
        let mut runner = plugins.batched(load).map(|side| Runner::new(Box::new(side), load));
        if let Ok(runner) = &mut runner {
            runner.second();
        }
        // Who could not start waits too, or the others would wait for ever.
        barrier.wait();
        let mut runner = runner?;
        let before = sleeps()?;
        let nanos = (0..SECONDS).map(|_| runner.second()).sum::<f64>() / f64::from(SECONDS);
        let sleeps = sleeps()? - before;
        let (sent, left) = (runner.traffic.entered(), runner.taken.media);
        ensure!(sent == left && runner.taken.complaints.is_empty(), "{sent} packets went in and {left} came out");
        Ok(Done { nanos, sleeps })
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined =
            running.into_iter().map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?);
        joined.collect()
    })
}

/// How often this thread has given up its processor to wait for something.
fn sleeps() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").context("/proc/thread-self/status")?;
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    switches.and_then(|switches| switches.trim().parse().ok()).context("/proc/thread-self/status")
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{:<12}{:>34}{:>22}{:>10}", "workers", "packets per second", "per doubling", "sleeps");
        for Row { workers, packets_per_second, doubling, sleeps } in &self.rows {
            let doubling = doubling.map_or_else(|| "-".to_owned(), |spread| spread.cell(2));
            let _ = writeln!(out, "{workers:<12}{:>34}{doubling:>22}{sleeps:>10}", packets_per_second.cell(0));
        }
        out
    }
}
