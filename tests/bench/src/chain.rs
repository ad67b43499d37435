//! The default chain as components and natively, side by side: A B A B.

use std::time::Duration;

use anyhow::Context;

use crate::check;
use crate::measure::Spread;
use crate::native::native;
use crate::peer::Numbered;
use crate::report::{Figures, Report};
use crate::runner::Runner;
use crate::sandbar::{DEFAULT_CHAIN, Plugins, WHOLE_SET};
use crate::side::Side;
use crate::traffic::{Direction, Load, Peer};

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) samples: usize,
    /// Rows to run, all if empty.
    pub(crate) rows: Vec<String>,
    /// Sides to run, all if empty.
    pub(crate) sides: Vec<Kind>,
    /// Plugins of another chain, from the wire, to see what each costs; the default chain if empty.
    pub(crate) chain: Vec<String>,
}

/// A side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The default chain as components, in the batched lane.
    Sandbar,
    /// The default chain of rtc-interceptor.
    Native,
    /// The default chain as components, in the typed lane.
    Typed,
    /// Sandbar without plugins.
    Empty,
}

/// A row of the table, before the direction is known.
struct Row {
    key: &'static str,
    burst: u64,
    sessions: u32,
    streams: u32,
    peer: Peer,
    /// Whether both sides have their whole sets in place of the default chain.
    whole: bool,
    step: Duration,
    kinds: &'static [Kind],
    samples: usize,
}

impl Plan {
    /// Packets come every 20 µs, a busy core's rate; with 10,000 sessions every 2 µs, for the 50 packets a second that
    /// 1,000 sessions send each, and with 20 every millisecond. Of 100 sessions, whose peers speak, each so has 500 packets a
    /// second.
    fn rows(&self) -> Vec<Row> {
        let all = &[Kind::Sandbar, Kind::Native, Kind::Typed, Kind::Empty];
        let both = &[Kind::Sandbar, Kind::Native];
        let few = (self.samples / 3).clamp(self.samples.min(3), self.samples);
        let row = |key, burst, sessions, micros, kinds, samples| {
            // A smoke run has fewer packets in the same time.
            let (sessions, micros) = if self.quick { (u32::min(sessions, 32), 1000) } else { (sessions, micros) };
            let (streams, peer, whole) = (1, Peer::Quiet, false);
            Row { key, burst, sessions, streams, peer, whole, step: Duration::from_micros(micros), kinds, samples }
        };
        // What they confirm depends on the side.
        let talks = Peer::Talks(Numbered::default());
        vec![
            row("1", 1, 1, 20, all, self.samples),
            row("8", 8, 1, 20, all, self.samples),
            row("32", 32, 1, 20, all, self.samples),
            row("sessions_20", 1, 20, 1_000, both, self.samples),
            row("sessions_1000", 32, 1_000, 20, both, self.samples),
            row("sessions_10000", 32, 10_000, 2, both, few),
            Row { streams: 64, ..row("streams_64", 32, 1, 20, both, self.samples) },
            Row { peer: Peer::Loses, ..row("loss", 32, 100, 20, both, self.samples) },
            Row { peer: talks, ..row("rtcp", 32, 100, 20, both, self.samples) },
            Row { whole: true, peer: talks, ..row("whole", 32, 100, 20, both, self.samples) },
        ]
    }
}

/// Runs the plan's rows. An error is a benchmark that did not do what it is meant to time.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Report> {
    let default: Vec<String> = DEFAULT_CHAIN.map(str::to_owned).to_vec();
    let is_default = plan.chain.is_empty() || plan.chain == default;
    let plugins = Plugins::load(if is_default { &default } else { &plan.chain })?;
    let mut report = Report::new(plan);
    for direction in [Direction::Read, Direction::Write] {
        for row in plan.rows() {
            let name = format!("{}/{}", Report::key(direction), row.key);
            if !plan.rows.is_empty() && !plan.rows.contains(&name) {
                continue;
            }
            // It is a chain of its own.
            if row.whole && !is_default {
                continue;
            }
            let Row { burst, sessions, streams, peer, step, .. } = row;
            let load = Load { direction, burst, sessions, streams, peer, step };
            let mut kinds = row.kinds.to_vec();
            kinds.retain(|kind| plan.sides.is_empty() || plan.sides.contains(kind));
            // There is nothing to compare another chain with, and it is not known what it should put out.
            kinds.retain(|kind| is_default || *kind != Kind::Native);
            let whole = row.whole.then(|| Plugins::load(&WHOLE_SET.map(str::to_owned))).transpose()?;
            let check = match is_default {
                true if row.whole => check::whole,
                true => check::all,
                false => check::media,
            };
            let plugins = whole.as_ref().unwrap_or(&plugins);
            let figures = row_figures(plugins, load, &kinds, row.samples, row.whole, check)
                .with_context(|| format!("row {name}"))?;
            report.add(direction, row.key, figures);
        }
    }
    Ok(report)
}

/// What peers do that talk: they confirm what a side numbers, of what is written. That is the streams' own packets; with Sandbar
/// also those that are asked for, and where the whole set protects packets, two more for each five.
pub(crate) fn talking(kind: Kind, load: &Load, whole: bool) -> Peer {
    let media = 1_000_000_000 / (load.step.as_nanos() as u32 * load.sessions);
    let sandbar = kind != Kind::Native;
    let all = if whole && sandbar { media * 7 / 5 } else { media };
    // Who is only sent to confirms nothing with the whole set, which tells where that cannot be.
    let rate = if whole && load.direction == Direction::Read { 0 } else { all };
    Peer::Talks(Numbered { rate, answers: sandbar && rate > 0 })
}

fn row_figures(
    plugins: &Plugins,
    load: Load,
    kinds: &[Kind],
    samples: usize,
    whole: bool,
    check: check::Check,
) -> anyhow::Result<Figures> {
    let make = |kind: &Kind| {
        let peer = if matches!(load.peer, Peer::Talks(_)) { talking(*kind, &load, whole) } else { load.peer };
        let load = Load { peer, ..load };
        let side: Box<dyn Side> = match kind {
            Kind::Sandbar => Box::new(plugins.batched(load)?),
            Kind::Native => Box::new(native(load, whole)),
            Kind::Typed => Box::new(plugins.typed(load)?),
            Kind::Empty => Box::new(plugins.empty(load)?),
        };
        anyhow::Ok((*kind, Runner::new(side, load), Vec::new()))
    };
    let mut runners = kinds.iter().map(make).collect::<anyhow::Result<Vec<_>>>()?;
    for (_, runner, _) in &mut runners {
        runner.second();
    }
    for _ in 0..samples {
        for (_, runner, nanos) in &mut runners {
            nanos.push(runner.second());
        }
    }
    let mut figures = Figures::default();
    for (kind, mut runner, nanos) in runners {
        let Runner { side, traffic, taken } = &mut runner;
        check(kind, load, side.as_mut(), traffic, taken).with_context(|| format!("{kind:?}"))?;
        figures.insert(kind, nanos);
    }
    Ok(figures)
}

impl Figures {
    /// The ratio of two sides, sample by sample as they were taken one after the other.
    pub(crate) fn ratio(&self, of: Kind, to: Kind) -> Option<Spread> {
        Spread::of(self.samples(of)?.iter().zip(self.samples(to)?).map(|(one, other)| one / other))
    }
}
