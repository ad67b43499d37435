//! The view of a terminal: a picture that is drawn over itself.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use super::acts::Act;
use super::style::{BOLD, DIM, PLAIN, Paint};
use super::table;
use super::view::{Scene, View, happening};

/// Lines about what happened last. With them the picture has 22 lines at most, and so fits into 24.
const HAPPENINGS: usize = 4;
/// Members that the chain has at its end.
const MEMBERS: usize = 4;
/// Columns that are used.
const WIDTH: usize = 79;

/// A picture on standard output.
pub(super) struct Live {
    paint: Paint,
    announced: Option<Act>,
    happened: VecDeque<String>,
    /// Lines that the last picture has.
    drawn: usize,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { paint: Paint::of_stdout(), announced: None, happened: VecDeque::new(), drawn: 0 }
    }

    fn picture(&self, scene: &Scene<'_>) -> Vec<String> {
        let [title, path] = table::title();
        let mut lines = vec![(BOLD, title), (PLAIN, path), (PLAIN, String::new())];
        for (number, line) in table::figures(scene).into_iter().enumerate() {
            let current = number >= 2 && scene.act.is_some_and(|act| act.number() == number - 1);
            let style = if number < 2 {
                DIM
            } else if current {
                BOLD
            } else {
                PLAIN
            };
            lines.push((style, line));
        }
        lines.push((PLAIN, String::new()));
        for (number, line) in table::chain(scene.chain).into_iter().enumerate() {
            lines.push((if number == 0 { DIM } else { PLAIN }, line));
        }
        // What is below stays where it is while the chain grows.
        let to_come = MEMBERS.saturating_sub(scene.chain.len().max(1));
        lines.extend(std::iter::repeat_n((PLAIN, String::new()), to_come + 1));
        let announcement = scene.act.map_or("All acts are over.", Act::announcement);
        lines.push((BOLD, happening(scene.elapsed, announcement)));
        lines.extend(self.happened.iter().map(|line| (PLAIN, line.clone())));
        // A longer line would take two, and the next picture would be drawn too low.
        let clip = |line: String| line.chars().take(WIDTH).collect::<String>();
        lines.into_iter().map(|(style, line)| self.paint.with(style, &clip(line))).collect()
    }
}

impl View for Live {
    fn act(&mut self, act: Act) {
        if self.announced.replace(act) != Some(act) {
            self.happened.clear();
        }
    }

    fn happened(&mut self, at: Duration, what: &str) {
        if self.happened.len() == HAPPENINGS {
            self.happened.pop_front();
        }
        self.happened.push_back(happening(at, what));
    }

    fn show(&mut self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let lines = self.picture(scene);
        let mut frame = String::new();
        if self.drawn > 0 {
            // Cursor up to where the last picture begins (ECMA-48, CUU).
            frame += &format!("\x1b[{}A", self.drawn);
        }
        for line in &lines {
            // The rest of what was in the line goes (EL).
            frame += line;
            frame += "\x1b[K\n";
        }
        // And what was below it (ED).
        frame += "\x1b[J";
        self.drawn = lines.len();
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}
