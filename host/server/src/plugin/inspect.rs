//! `sandbar plugin inspect`: what a component is, what it can do and what it wants.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::facts::{self, Facts};
use crate::tool::Tool;

/// What `sandbar plugin inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A component's file, or the name of a plugin that is part of this program
    #[arg(value_name = "FILE|NAME")]
    plugin: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Loads the component, everything granted, and tells.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let facts = inspect(args);
    let mut out = std::io::stdout().lock();
    if !args.json {
        write!(out, "{}", facts?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let code = if facts.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let told = facts.map_or_else(|error| json!({ "error": format!("{error:#}") }), |facts| json!(facts));
    writeln!(out, "{told:#}")?;
    Ok(code)
}

fn inspect(args: &Args) -> anyhow::Result<Facts> {
    let component = facts::read(&args.plugin)?;
    let plugin = facts::load(&Tool::strict()?, &component).with_context(|| args.plugin.display().to_string())?;
    Ok(Facts::of(&plugin))
}
