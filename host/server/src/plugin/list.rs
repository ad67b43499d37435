//! `sandbar plugin list`: the plugins that are part of this program.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use super::facts::{self, Facts};
use crate::tool::Tool;

/// What `sandbar plugin list` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tells what each says about itself.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let tool = Tool::strict()?;
    let plugins = sandbar_plugins::ALL.iter().map(|embedded| {
        let plugin = facts::load(&tool, embedded.component).with_context(|| embedded.name.to_owned())?;
        Ok(Facts::of(&plugin))
    });
    let plugins = plugins.collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", serde_json::to_value(&plugins)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    plugins.iter().try_for_each(|facts| writeln!(out, "{}", facts.line()))?;
    Ok(ExitCode::SUCCESS)
}
