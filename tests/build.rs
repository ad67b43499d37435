//! Builds the guests, each a plugin that behaves in one way, and writes `guests.rs`: a constant for each with its bytes.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sandbar_guest_build::{GuestBuild, Target};

/// Guests for `wasm32-wasip2`; the others import nothing but the contract.
const WASI: &[&str] = &["wasi-hello"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Build scripts run in their package's folder. Paths that are not compiled in are right in every checkout that shares a
    // target folder.
    let root = Path::new("..").canonicalize()?;
    for input in ["tests/guests", "sdk/rust", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed=../{input}");
    }
    let (wasi, bare) = guests(&root.join("tests/guests"))?.into_iter().partition(|name| WASI.contains(&name.as_str()));
    let mut source = String::new();
    for (target, names) in [(Target::UnknownUnknown, bare), (Target::Wasip2, wasi)] {
        let names: Vec<String> = names;
        let packages = names.iter().map(|name| format!("sandbar-guest-{name}"));
        let target_dir = target_dir(&out).join("guests");
        let built = GuestBuild::new(root.join("Cargo.toml"), target_dir).packages(packages).target(target).build()?;
        for (name, component) in names.iter().zip(built) {
            let file = out.join(format!("{name}.wasm"));
            fs::copy(&component.path, &file)?;
            let constant = name.to_uppercase().replace('-', "_");
            source += &format!("/// The guest `{name}`.\npub const {constant}: &[u8] = include_bytes!({file:?});\n");
        }
    }
    fs::write(out.join("guests.rs"), source)?;
    Ok(())
}

/// The folders with a crate in them, sorted.
fn guests(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().into_string().map_err(|name| format!("{name:?} is no crate's name"))?);
        }
    }
    names.sort();
    Ok(names)
}

/// Cargo's target directory: `OUT_DIR` is `target/PROFILE/build/PACKAGE/out`.
fn target_dir(out: &Path) -> &Path {
    out.ancestors().nth(4).unwrap_or(out)
}
