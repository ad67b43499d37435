//! Builds Rust plugins to WebAssembly components on any machine.
//!
//! Two kinds of machine have to work: one whose rustup has the wasm target, and one with a distribution's Rust that
//! brings the standard library as source. [`Toolchain::find`] looks for both, in that order, and says in one line what to
//! install where neither is there; [`GuestBuild`] then builds any number of packages in one call of cargo.
//!
//! It may be called from a build script: the child's cargo is shielded from the variables of the one that is running, and
//! has a target directory, and so a lock, of its own.
//!
//! ```no_run
//! use sandbar_guest_build::GuestBuild;
//!
//! let components = GuestBuild::new("my-plugin/Cargo.toml", "my-plugin/target").build()?;
//! println!("{}", components[0].path.display());
//! # Ok::<(), sandbar_guest_build::Error>(())
//! ```

mod build;
mod environment;
mod toolchain;

pub use build::{Component, GuestBuild};
pub use toolchain::{Std, Target, Toolchain};

use std::path::PathBuf;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither kind of toolchain is installed; the message is one line that says what to install.
    #[error("{0}")]
    NoToolchain(String),
    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// What was to be run.
        program: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Cargo ended with an error, which it explains in `output`.
    #[error("building the guests {packages} failed:\n{output}")]
    Cargo {
        /// The packages asked for, or the manifest where none was named.
        packages: String,
        /// What cargo wrote, without its progress; empty where it went to the terminal.
        output: String,
    },
    /// The build went well, but a package made no component: its `crate-type` lacks `cdylib`.
    #[error(
        "package {package} made no component: add `crate-type = [\"cdylib\", \"rlib\"]` to its [lib] in Cargo.toml"
    )]
    NoComponent {
        /// The package, or the manifest where none was named.
        package: String,
    },
    /// A path does not exist or cannot be read.
    #[error("{}: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
