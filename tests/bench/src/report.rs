//! The table and the JSON document.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::chain::{Kind, Plan};
use crate::measure::Spread;
use crate::traffic::{Direction, PACKET};

/// What a benchmark has found: with serde for programs, and for people.
pub(crate) trait Findings: Serialize {
    fn table(&self) -> String;
}

/// Findings as they are written to a file: with what was run, and where.
#[derive(Serialize)]
pub(crate) struct Document<'a, F> {
    pub(crate) benchmark: &'a str,
    pub(crate) quick: bool,
    pub(crate) machine: String,
    #[serde(flatten)]
    pub(crate) findings: &'a F,
}

/// The samples of one row, in ns per packet, by side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<(Kind, Vec<f64>)>);

impl Figures {
    pub(crate) fn insert(&mut self, kind: Kind, samples: Vec<f64>) {
        self.0.push((kind, samples));
    }

    pub(crate) fn samples(&self, kind: Kind) -> Option<&[f64]> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, samples)| &samples[..])
    }

    fn spread(&self, kind: Kind) -> Option<Spread> {
        Spread::of(self.samples(kind)?.iter().copied())
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, spread: Option<Spread>, unit: &str, digits: f64| {
            let Some(Spread { median, min, max }) = spread else { return };
            for (what, value) in [("", median), ("_min", min), ("_max", max)] {
                object.insert(format!("{name}{what}{unit}"), json!((value * digits).round() / digits));
            }
        };
        for (name, kind) in SIDES {
            put(name, self.spread(kind), "_ns", 10.0);
        }
        put("ratio", self.ratio(Kind::Sandbar, Kind::Native), "", 1000.0);
        Value::Object(object)
    }
}

const SIDES: [(&str, Kind); 4] =
    [("sandbar", Kind::Sandbar), ("native", Kind::Native), ("typed", Kind::Typed), ("empty", Kind::Empty)];

/// What all rows gave.
#[derive(Debug)]
pub(crate) struct Report {
    quick: bool,
    rows: Vec<(Direction, &'static str, Figures)>,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { quick: plan.quick, rows: Vec::new() }
    }

    /// What a direction is called.
    pub(crate) fn key(direction: Direction) -> &'static str {
        match direction {
            Direction::Read => "read",
            Direction::Write => "write",
        }
    }

    pub(crate) fn add(&mut self, direction: Direction, key: &'static str, figures: Figures) {
        self.rows.push((direction, key, figures));
    }

    /// `{"read": {"1": {"sandbar_ns": .., "native_ns": .., "ratio": .., ..}, ..}, "write": ..}`, and what was measured
    /// where.
    pub(crate) fn to_json(&self) -> Value {
        let mut document = Map::new();
        document.insert("benchmark".to_owned(), json!("chain"));
        document.insert("quick".to_owned(), json!(self.quick));
        document.insert("machine".to_owned(), json!(machine()));
        document.insert("native".to_owned(), json!("rtc-interceptor 0.21"));
        for direction in [Direction::Read, Direction::Write] {
            let rows = self.rows.iter().filter(|(of, ..)| *of == direction);
            let rows: Map<String, Value> =
                rows.map(|(_, key, figures)| ((*key).to_owned(), figures.to_json())).collect();
            document.insert(Self::key(direction).to_owned(), rows.into());
        }
        document.into()
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let cell = |spread: Option<Spread>, digits| spread.map_or_else(|| "-".to_owned(), |spread| spread.cell(digits));
        let _ = writeln!(out, "ns per packet of {PACKET} bytes: median (least-most)    {}", machine());
        let _ = writeln!(
            out,
            "{:<30}{:>22}{:>22}{:>20}{:>22}{:>18}",
            "", "sandbar", "native", "ratio", "typed lane", "empty chain"
        );
        for (direction, key, figures) in &self.rows {
            let _ = writeln!(
                out,
                "{:<30}{:>22}{:>22}{:>20}{:>22}{:>18}",
                format!("{} {}", Self::key(*direction), label(key)),
                cell(figures.spread(Kind::Sandbar), 0),
                cell(figures.spread(Kind::Native), 0),
                cell(figures.ratio(Kind::Sandbar, Kind::Native), 2),
                cell(figures.spread(Kind::Typed), 0),
                cell(figures.spread(Kind::Empty), 0),
            );
        }
        if self.quick {
            let _ = writeln!(
                out,
                "A smoke run, with 32 sessions at most: the work was done and checked; the times mean nothing."
            );
        }
        out
    }
}

fn label(key: &str) -> String {
    match key.strip_prefix("sessions_") {
        Some(sessions) => format!("{sessions} sessions"),
        None if key == "1" => "one at a time".to_owned(),
        None if key == "streams_64" => "64 streams in a session".to_owned(),
        None if key == "loss" => "one in 20 lost".to_owned(),
        None if key == "whole" => "whole set of plugins".to_owned(),
        None if key == "rtcp" => "with RTCP from peers".to_owned(),
        None => format!("bursts of {key}"),
    }
}

/// The processor, its cores and the system.
pub(crate) fn machine() -> String {
    let file = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = file.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores, {} {}",
        model.unwrap_or("unknown processor"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}
