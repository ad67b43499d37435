//! `sandbar plugin`: from a template to a component, and what a component is.

mod build;
mod check;
mod facts;
mod inspect;
mod list;
mod new;
mod order;
mod signing;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Log;

/// What `sandbar plugin` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sandbar plugin new my-counter        a Rust project in ./my-counter, with the SDK in it
  sandbar plugin build my-counter      makes my-counter/my-counter.wasm
  sandbar plugin check my-counter/my-counter.wasm
  sandbar plugin inspect nack-generator
  sandbar plugin keygen acme           acme.key and acme.pub
  sandbar plugin sign my-counter/my-counter.wasm --key acme.key
  sandbar plugin verify my-counter/my-counter.wasm --key acme.pub
  sandbar plugin order nack-generator my-counter/my-counter.wasm twcc-sender";

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a plugin in Rust: a project that builds anywhere
    New(new::Args),
    /// Build a plugin's project to a component
    Build(build::Args),
    /// Say what a plugin is, what it can do, and what it wants to be granted
    Inspect(inspect::Args),
    /// Drive a plugin with a standard trace, and say what is wrong with it
    Check(check::Args),
    /// List the plugins that are part of this program
    List(list::Args),
    /// Propose the order of a chain, from the wire, in which its plugins do not defeat each other
    Order(order::Args),
    /// Make a pair of keys to sign plugins with
    Keygen(signing::KeygenArgs),
    /// Put a signature into a plugin's file
    Sign(signing::SignArgs),
    /// Say who has signed a plugin's file, and whether that is one of these keys
    Verify(signing::VerifyArgs),
}

/// Does what the command line says.
pub(crate) fn run(args: &Args, log: &Log) -> anyhow::Result<ExitCode> {
    log.start(Some("warn"))?;
    match &args.command {
        Command::New(args) => new::run(args),
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Check(args) => check::run(args),
        Command::List(args) => list::run(args),
        Command::Order(args) => order::run(args),
        Command::Keygen(args) => signing::keygen(args),
        Command::Sign(args) => signing::sign(args),
        Command::Verify(args) => signing::verify(args),
    }
}
