//! `sandbar plugin build`: a plugin's project to a component, on a machine of either kind.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sandbar_guest_build::{Error, GuestBuild, Target};
use sandbar_host::Digest;
use serde_json::json;

use super::facts::{self, Facts};
use crate::tool::Tool;

/// What `sandbar plugin build` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plugin's folder, with its Cargo.toml
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,

    /// Keep names, and check assertions and overflow: a fault then says where it was
    #[arg(long)]
    debug: bool,

    /// What it is compiled for
    #[arg(long, value_enum, default_value = "bare", value_name = "TARGET")]
    target: Wasm,

    /// Where the component goes [default: DIR/NAME.wasm]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Where cargo keeps what it builds; plugins that share it share what they have in common [default: target/guests beside
    /// the project's Cargo.lock]
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Targets by the names that people use.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Wasm {
    /// wasm32-unknown-unknown: imports what the contract has, and only what is used of it
    #[value(alias = "wasm32-unknown-unknown")]
    Bare,
    /// wasm32-wasip2: imports WASI too, which has to be granted
    #[value(alias = "wasm32-wasip2")]
    Wasip2,
}

/// Builds, looks at what was built, and tells.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let manifest = args.folder.join("Cargo.toml");
    if !manifest.is_file() {
        bail!(
            "{} has no Cargo.toml; name a plugin's folder, or begin one with `sandbar plugin new NAME`",
            args.folder.display()
        );
    }
    let target_dir = args.target_dir.clone().unwrap_or_else(|| target_dir(&args.folder));
    let target = match args.target {
        Wasm::Bare => Target::UnknownUnknown,
        Wasm::Wasip2 => Target::Wasip2,
    };
    let build = GuestBuild::new(manifest, target_dir).target(target).debug(args.debug).to_terminal();
    let built = build.build().map_err(|error| match error {
        // Cargo has said why on the terminal.
        Error::Cargo { .. } => anyhow::anyhow!("{} does not build", args.folder.display()),
        error => error.into(),
    })?;
    let [component] = built.as_slice() else { bail!("{} components were built, and one was expected", built.len()) };
    let name = component.package.strip_prefix("sandbar-plugin-").unwrap_or(&component.package);
    let out = args.out.clone().unwrap_or_else(|| args.folder.join(name).with_extension("wasm"));
    let bytes = std::fs::read(&component.path).with_context(|| component.path.display().to_string())?;
    let plugin = facts::load(&Tool::strict()?, &bytes).with_context(|| {
        format!(
            "{} was built, but is no plugin (does it call sandbar_sdk::export! on its type?)",
            component.path.display()
        )
    })?;
    // A relay that watches the file takes it once it is whole.
    let part = out.with_extension("wasm.part");
    std::fs::write(&part, &bytes)
        .and_then(|()| std::fs::rename(&part, &out))
        .with_context(|| out.display().to_string())?;
    let facts = Facts::of(&plugin);
    let mut stdout = std::io::stdout().lock();
    if args.json {
        writeln!(
            stdout,
            "{:#}",
            json!({ "file": out, "size": bytes.len(), "digest": Digest::of(&bytes), "plugin": facts })
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(stdout, "{}", out.display())?;
    write!(stdout, "{facts}")?;
    Ok(ExitCode::SUCCESS)
}

/// Beside the nearest lock file, which is where cargo's own target directory is.
fn target_dir(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let root = absolute.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.unwrap_or(&absolute).join("target/guests")
}
