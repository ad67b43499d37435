//! `sandbar`: see `sandbar --help`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sandbar::compile::in_processes_of_their_own();
    match sandbar::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // There may be no log yet, and nothing can be done about a standard error that is closed.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}
