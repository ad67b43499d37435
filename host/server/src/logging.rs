//! The log: lines on standard error, as text or as JSON.

use std::io::IsTerminal;

use anyhow::Context;
use clap::ValueEnum;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object per line, for programs.
    Json,
}

/// Starts the log for the process, with the filter that was asked for in `filters`, the first that is there.
pub(crate) fn start(filters: [Option<&str>; 2], format: LogFormat) -> anyhow::Result<()> {
    let filter = filters.into_iter().flatten().next().unwrap_or("info");
    let filter = self::filter(filter)
        .with_context(|| format!("\"{filter}\" is no log filter such as info, or info,sandbar::relay=debug"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(true);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second start is another one's log, which serves as well.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    Ok(())
}

/// A filter: a level, levels of modules, or both, separated by commas. `None` for anything else: a word alone would be
/// a module, and is more likely a level that is misspelt.
pub(crate) fn filter(text: &str) -> Option<Targets> {
    let plain = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    text.split(',').all(plain).then(|| text.parse().ok())?
}
