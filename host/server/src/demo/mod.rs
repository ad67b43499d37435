//! `sandbar demo`: what the project is about, on real sockets, measured.
//!
//! A publisher sends video and audio over UDP to a relay in this process, which sends it over a lossy link to a
//! subscriber. Plugins are loaded into the live session, replaced and made to fail; what that does to every packet is
//! written down by those who handle it, and at the end claims are held against it.
//!
//! | module                            | what it is about                                     |
//! | --------------------------------- | ---------------------------------------------------- |
//! | `stage`                           | what runs: relay, publisher, link, subscriber        |
//! | `publisher`, `link`, `subscriber` | each of them, on `socket`s; `media` is what is sent  |
//! | `acts`, `script`                  | what happens, in order                               |
//! | `ledger`, `order`                 | what became of each packet                           |
//! | `outcome`, `claims`               | what was measured, and what is claimed               |
//! | `view`, `live`, `table`, `style`  | how it is shown while it runs                        |
//! | `summary`                         | how it is told at the end                            |

mod acts;
mod claims;
mod ledger;
mod link;
mod live;
mod media;
mod order;
mod outcome;
mod publisher;
mod script;
mod socket;
mod stage;
mod style;
mod subscriber;
mod summary;
mod table;
mod view;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use self::acts::Timing;
use self::script::{Interrupted, Play};
use self::stage::Stage;
use self::view::{Silent, View};
use crate::cli::Log;

/// What `sandbar demo` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Print the figures, and nothing else, as one JSON document
    #[arg(long)]
    json: bool,

    /// What the link loses, delays and reorders follows from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Shorter acts: long enough to measure, too short to watch
    #[arg(long)]
    quick: bool,
}

const HELP: &str = "\
On UDP sockets of this machine, a publisher sends video and audio through a relay and a lossy link to a viewer. While
media flows:
  1  without plugins, what the link loses is missing
  2  the nack-responder is loaded, and what is lost is retransmitted
  3  it is replaced by another version, again and again, without disturbing a packet
  4  somebody else's plugin is loaded and crashes
  5  another one is loaded and loops for ever

Exit status:
  0  every claim held in this run
  1  one did not, or something else went wrong
  130  interrupted

Examples:
  sandbar demo
  sandbar demo --json | jq '.claims[] | {claim, holds}'
  sandbar demo --seed 7 > demo.txt";

/// As shells have it for SIGINT.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(args: &Args, log: &Log) -> anyhow::Result<ExitCode> {
    // Plugins that fail are what is shown here, and no reason to warn.
    log.start(Some("error"))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut view: Box<dyn View> = if args.json { Box::new(Silent) } else { view::of_stdout() };
    let timing = if args.quick { Timing::QUICK } else { Timing::FULL };
    let stage = Stage::build(args.seed)?;
    let outcome = match Play::new(stage, view.as_mut(), timing, &interrupted).perform() {
        Err(error) if error.is::<Interrupted>() => {
            writeln!(std::io::stderr(), "interrupted")?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        outcome => outcome?,
    };
    let claims = claims::judge(&outcome);
    if args.json {
        writeln!(std::io::stdout(), "{:#}", summary::document(&outcome, &claims, args.seed))?;
    } else {
        summary::print(&outcome, &claims, args.seed)?;
    }
    Ok(if claims.iter().all(|claim| claim.holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
