//! How a play is shown while it runs.

use std::io::{self, Write};
use std::time::Duration;

use sandbar_host::{MemberReport, MemberState};

use super::acts::Act;
use super::ledger::Figures;
use super::live::Live;
use super::outcome::ms;
use super::style::is_stdout_a_screen;
use super::table;

/// What there is to see at a moment.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) elapsed: Duration,
    /// `None` after the last one, while what was lost last is repaired.
    pub(super) act: Option<Act>,
    /// Those that have begun.
    pub(super) acts: &'a [(Act, Figures)],
    /// Of the leg to the subscriber, from the wire.
    pub(super) chain: &'a [MemberReport],
}

/// Where a play is shown.
pub(super) trait View {
    /// An act begins.
    fn act(&mut self, act: Act);

    /// Something happened.
    fn happened(&mut self, at: Duration, what: &str);

    /// This is how things are now; several times a second.
    fn show(&mut self, scene: &Scene<'_>) -> anyhow::Result<()>;

    /// This is how things are at the end.
    fn close(&mut self, scene: &Scene<'_>) -> anyhow::Result<()> {
        self.show(scene)
    }
}

/// Nowhere: for programs, who get figures at the end.
pub(super) struct Silent;

impl View for Silent {
    fn act(&mut self, _: Act) {}

    fn happened(&mut self, _: Duration, _: &str) {}

    fn show(&mut self, _: &Scene<'_>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The view that standard output is made for.
pub(super) fn of_stdout() -> Box<dyn View> {
    let fits = terminal_size::terminal_size().is_some_and(|(width, height)| width.0 >= 80 && height.0 >= 24);
    if is_stdout_a_screen() && fits { Box::new(Live::new()) } else { Box::new(Lines::new()) }
}

/// Line after line: for files, pipes, and terminals that are too small.
struct Lines {
    /// Written with the next scene.
    lines: Vec<String>,
    latest: Option<(Act, Figures)>,
}

impl Lines {
    fn new() -> Self {
        Self { lines: table::title().into(), latest: None }
    }

    fn so_far(&mut self) {
        if let Some((_, figures)) = self.latest.take() {
            self.lines.push(format!(
                "          so far: {} packets sent, {} lost by the link, {} missing ({:.1} %), {} retransmissions",
                figures.sent, figures.lost, figures.missing, figures.missing_percent, figures.resent,
            ));
        }
    }
}

impl View for Lines {
    fn act(&mut self, act: Act) {
        self.so_far();
        self.lines.extend([String::new(), format!("{}  {}", act.number(), act.announcement())]);
    }

    fn happened(&mut self, at: Duration, what: &str) {
        self.lines.push(happening(at, what));
    }

    fn show(&mut self, scene: &Scene<'_>) -> anyhow::Result<()> {
        self.latest = scene.acts.last().copied();
        let mut out = io::stdout().lock();
        for line in self.lines.drain(..) {
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()?;
        Ok(())
    }

    fn close(&mut self, scene: &Scene<'_>) -> anyhow::Result<()> {
        self.so_far();
        self.lines.push(String::new());
        self.lines.extend(table::figures(scene));
        self.lines.push(String::new());
        self.lines.extend(table::chain(scene.chain));
        self.show(scene)
    }
}

/// A line about something that happened.
pub(super) fn happening(at: Duration, what: &str) -> String {
    format!("  {:>5.1} s  {what}", ms(at) / 1e3)
}

/// A plugin's name without what the examples' packages have before theirs.
pub(super) fn plugin_name(name: &str) -> &str {
    name.strip_prefix("sandbar-example-").unwrap_or(name)
}

/// What a member of the chain is doing.
pub(super) fn member_state(member: &MemberReport) -> String {
    let faults = member.faults;
    let why = if faults.deadline > 0 { "did not return" } else { "crashed" };
    match member.state {
        MemberState::Running { .. } => "running".to_owned(),
        MemberState::Displaced => "waits for a packet".to_owned(),
        MemberState::Bypassed => format!("{why}, bypassed"),
        MemberState::Closed => format!("{why}, closed"),
        MemberState::Restarting => format!("{why}, restarting"),
    }
}
