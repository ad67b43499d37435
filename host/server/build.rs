//! Lists what a new plugin project is made of: the template, the SDK and the contract, embedded so that `sandbar plugin new`
//! needs nothing but itself.
#![allow(clippy::print_stdout, reason = "how a build script talks to cargo")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    // Where build scripts run. A path that is not compiled in is right in every checkout that shares a target folder.
    let root = Path::new("../..").canonicalize()?;
    // What of the project goes where in a new one. The lock file makes the dependencies those that the SDK is tested with;
    // cargo takes from it what it needs.
    let copied = [
        ("host/server/template/plugin", ""),
        // With the contract, to which it has a link.
        ("sdk/rust", "vendor/sandbar-sdk"),
        ("LICENSE-MIT", "vendor/sandbar-sdk/LICENSE-MIT"),
        ("LICENSE-APACHE", "vendor/sandbar-sdk/LICENSE-APACHE"),
        ("Cargo.lock", "Cargo.lock"),
    ];
    let mut table = String::from("&[\n");
    for (from, to) in copied {
        println!("cargo::rerun-if-changed=../../{from}");
        let mut files = Vec::new();
        collect(&root.join(from), Path::new(to), &mut files)?;
        files.sort();
        for (to, from) in files {
            writeln!(table, "    (\"{}\", include_bytes!({from:?})),", to.display())?;
        }
    }
    table.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("project.rs"), table)?;
    Ok(())
}

/// All files at `from`, with where they go.
fn collect(from: &Path, to: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> std::io::Result<()> {
    if !from.is_dir() {
        files.push((to.to_owned(), from.to_owned()));
        return Ok(());
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // Not what editors and builds leave beside the files.
        if !name.to_string_lossy().starts_with('.') && name != "target" {
            collect(&entry.path(), &to.join(entry.file_name()), files)?;
        }
    }
    Ok(())
}
