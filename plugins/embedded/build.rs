//! Builds the plugin crates beside this one and writes the table that embeds their components, and builds the guests of
//! the demonstration.
#![allow(clippy::print_stdout, reason = "how a build script talks to cargo")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sandbar_guest_build::{GuestBuild, Target};

/// The examples that the demonstration loads.
const EXAMPLES: [&str; 2] = ["crasher", "looper"];

fn main() -> ExitCode {
    // Build scripts run in their package's folder. A path that is not compiled in is right in every checkout that shares a
    // target folder.
    let root = Path::new("../..");
    // What the components are made of; cargo looks into folders by itself.
    let sources =
        ["plugins", "sdk/rust/src", "sdk/rust/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock"].map(PathBuf::from);
    for source in sources.into_iter().chain(EXAMPLES.map(|name| Path::new("examples").join(name))) {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    match root.canonicalize().map_err(Into::into).and_then(|root| build(&root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build(root: &Path) -> Result<(), Box<dyn Error>> {
    let names = plugins(&root.join("plugins"))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("guests");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let packages = names.iter().map(|name| format!("sandbar-plugin-{name}"));
    let examples = EXAMPLES.iter().map(|name| format!("sandbar-example-{name}"));
    // Both versions of a plugin are built to the same file, so another build script of this crate has to wait.
    std::fs::create_dir_all(&target)?;
    let turn = std::fs::File::create(target.join("embedded.lock"))?;
    turn.lock()?;
    let guests = || {
        let guests = GuestBuild::new(root.join("Cargo.toml"), &target).target(Target::UnknownUnknown);
        // What is tested may take less time to build than what is shipped.
        if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
            guests.optimized()
        } else {
            guests
        }
    };
    let components = guests().packages(packages.chain(examples)).build()?;
    let mut table = String::from("&[\n");
    let files = names.iter().map(String::as_str).chain(EXAMPLES);
    for (at, (name, component)) in files.zip(components).enumerate() {
        // A copy, so that what is embedded stays what was built here.
        let copy = out.join(name).with_extension("wasm");
        std::fs::copy(&component.path, &copy)?;
        if at < names.len() {
            writeln!(table, "    Embedded {{ name: {name:?}, component: include_bytes!({copy:?}) }},")?;
        }
    }
    table.push_str("]\n");
    std::fs::write(out.join("table.rs"), table)?;
    // What the nack-responder's next release would be to a host: the same name, a higher version, another digest.
    let next = guests().packages(["sandbar-plugin-nack-responder"]).version(next_minor()?).build()?;
    for component in next {
        std::fs::copy(&component.path, out.join("next-nack-responder.wasm"))?;
    }
    Ok(())
}

/// The version after this one.
fn next_minor() -> Result<String, std::num::ParseIntError> {
    let minor: u64 = env!("CARGO_PKG_VERSION_MINOR").parse()?;
    Ok(format!("{}.{}.0", env!("CARGO_PKG_VERSION_MAJOR"), minor + 1))
}

/// The names of the folders with a plugin, in order.
fn plugins(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && name != "embedded"
            && entry.path().join("Cargo.toml").is_file()
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
