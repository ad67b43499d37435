//! What is said at the end, to people and to programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::claims::Claim;
use super::link::Profile;
use super::outcome::Outcome;
use super::style::{BAD, BOLD, GOOD, Paint};

/// Columns of text.
const WIDTH: usize = 79;

/// The claims, one after the other, and whether they hold.
pub(super) fn print(outcome: &Outcome, claims: &[Claim], seed: u64) -> io::Result<()> {
    let paint = Paint::of_stdout();
    let mut out = io::stdout().lock();
    writeln!(out)?;
    writeln!(out, "{}", paint.with(BOLD, "What this run has measured"))?;
    for claim in claims {
        let mark = if claim.holds { paint.with(GOOD, "  ok") } else { paint.with(BAD, "  NO") };
        writeln!(out, "{mark}  {}", paint.with(BOLD, claim.title))?;
        for line in wrap(&claim.measured, WIDTH - 6) {
            writeln!(out, "      {line}")?;
        }
    }
    if let Some(dropped) = outcome.kernel_drops.filter(|dropped| *dropped > 0) {
        let note = format!(
            "The kernel had no room for {dropped} datagrams between the demonstration's own sockets. They count as \
             lost, and are nobody's fault here: this machine is too busy to measure on."
        );
        for line in wrap(&note, WIDTH - 6) {
            writeln!(out, "      {line}")?;
        }
    }
    let broken = claims.iter().filter(|claim| !claim.holds).count();
    let verdict = match broken {
        0 => paint.with(GOOD, &format!("All {} claims hold.", claims.len())),
        broken => paint.with(BAD, &format!("{broken} of {} claims did not hold in this run.", claims.len())),
    };
    writeln!(out, "{verdict} It took {:.0} s, with the seed {seed}.", outcome.seconds)?;
    out.flush()
}

/// Everything, as one document.
pub(super) fn document(outcome: &Outcome, claims: &[Claim], seed: u64) -> Value {
    let acts = outcome.figures.iter().map(|(act, figures)| {
        let mut row = json!(figures);
        if let Some(row) = row.as_object_mut() {
            row.insert("act".to_owned(), json!(act));
        }
        row
    });
    let Profile { loss, delay, jitter, detours } = Profile::BAD;
    json!({
        "seed": seed,
        "seconds": outcome.seconds,
        "link": {
            "loss": loss,
            "delay_ms": delay.as_millis() as u64,
            "jitter_ms": jitter.as_millis() as u64,
            "detours": detours.0,
            "detour_ms": detours.1.as_millis() as u64,
        },
        "acts": acts.collect::<Vec<_>>(),
        "between": outcome.between,
        "loaded": outcome.loaded,
        "swaps": outcome.swaps,
        "crash": outcome.crash,
        "loop": outcome.r#loop,
        "kernel_drops": outcome.kernel_drops,
        "claims": claims,
        "holds": claims.iter().all(|claim| claim.holds),
        "relay": outcome.relay,
    })
}

/// Lines of at most `width` columns, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("seventeen is long", 4), ["seventeen", "is", "long"]);
    }
}
