//! `sandbar plugin order`: the order of a chain in which its plugins do not defeat each other.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sandbar_host::{Chain, MemberSpec, Place, proposed_order};
use serde::Serialize;

use super::facts;
use crate::tool::Tool;

/// What `sandbar plugin order` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Components' files, or names of plugins that are part of this program, in any order
    #[arg(value_name = "FILE|NAME", required = true)]
    plugins: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is proposed.
#[derive(Debug, Serialize)]
struct Proposal {
    /// From the wire.
    order: Vec<Station>,
    /// What goes wrong in the order that was given.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Station {
    /// As it was said.
    plugin: String,
    place: Place,
}

/// Proposes an order from the wire, and tells what is wrong with the one that was given.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let proposal = propose(args)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", serde_json::to_value(&proposal)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wide = proposal.order.iter().map(|station| station.plugin.len()).max().unwrap_or(0);
    for Station { plugin, place } in &proposal.order {
        writeln!(out, "{plugin:<wide$}  {place}")?;
    }
    if !proposal.warnings.is_empty() {
        writeln!(out, "\nIn the order that was given:")?;
        proposal.warnings.iter().try_for_each(|warning| writeln!(out, "  {warning}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn propose(args: &Args) -> anyhow::Result<Proposal> {
    let tool = Tool::strict()?;
    let load = |said: &PathBuf| {
        let component = facts::read(said)?;
        facts::load(&tool, &component).with_context(|| said.display().to_string())
    };
    let plugins = args.plugins.iter().map(load).collect::<anyhow::Result<Vec<_>>>()?;
    let places: Vec<Place> = plugins.iter().map(|plugin| plugin.description().place).collect();
    let station = |index: usize| Station { plugin: args.plugins[index].display().to_string(), place: places[index] };
    Ok(Proposal {
        order: proposed_order(&places).into_iter().map(station).collect(),
        warnings: Chain::new(plugins.into_iter().map(MemberSpec::new)).warnings(),
    })
}
