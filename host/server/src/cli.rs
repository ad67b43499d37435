//! The command line. Each subcommand is a module with an `Args` and a `run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::logging::{self, LogFormat};
use crate::{compile, demo, plugin, relay_command, replay};

/// Runs RTP and RTCP through chains of sandboxed WebAssembly interceptors.
#[derive(Debug, Parser)]
#[command(name = "sandbar", version, about, long_about = None, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What is logged: a level, or one per module such as info,sandbar::relay=debug. Goes before the configuration's
    #[arg(long, global = true, value_name = "FILTER", env = "SANDBAR_LOG", help_heading = "Log")]
    log: Option<String>,

    /// What a line of the log, on standard error, looks like
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Log")]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sandbar demo                                what it is about, in 20 seconds
  sandbar relay --config relay.toml --check   say what is wrong with a configuration
  sandbar relay --config relay.toml           run it
  sandbar help relay                          what the relay does on signals, and what it prints
  sandbar plugin new my-counter               begin a plugin; `sandbar help plugin` says how it goes on
  sandbar replay --plugin nack-generator call.pcap out.pcapng";

#[derive(Debug, Subcommand)]
enum Command {
    /// See for yourself: plugins come, change and fail in a live session, and media flows on
    Demo(demo::Args),
    /// Forward media from publishers to subscribers over UDP, each leg through its chain
    Relay(relay_command::Args),
    /// Begin, build, inspect and check plugins
    Plugin(plugin::Args),
    /// What the program starts itself for, to compile a component: from standard input to standard output
    #[command(hide = true)]
    CompileComponent {
        /// Code that counts fuel
        #[arg(long)]
        fuel: bool,
    },
    /// Take a capture of RTP through a chain into another capture, in virtual time
    Replay(Box<replay::Args>),
}

/// How the subcommands log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    filter: Option<String>,
    format: LogFormat,
}

impl Log {
    /// Starts the log; `configured` is what a configuration says where the command line says nothing.
    pub(crate) fn start(&self, configured: Option<&str>) -> anyhow::Result<()> {
        logging::start([self.filter.as_deref(), configured], self.format)
    }
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let log = Log { filter: self.log, format: self.log_format };
        match self.command {
            Command::Demo(args) => demo::run(&args, &log),
            Command::Relay(args) => relay_command::run(&args, &log),
            Command::Plugin(args) => plugin::run(&args, &log),
            Command::CompileComponent { fuel } => compile::run(fuel),
            Command::Replay(args) => replay::run(&args, &log),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
