//! Builds guests and says where they are: those of this workspace by their packages' names, or with a path to a
//! `Cargo.toml` another crate's.
//!
//! `cargo run -p sandbar-guest-build --example guests -- [--optimized] sandbar-plugin-noop`
#![allow(clippy::print_stdout, reason = "a program for people")]

use sandbar_guest_build::{Error, GuestBuild};

fn main() -> Result<(), Error> {
    let (flags, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|name| name == "--optimized");
    let (manifests, packages): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.ends_with(".toml"));
    let mut builds: Vec<_> = manifests
        .iter()
        .map(|manifest| GuestBuild::new(manifest, std::path::Path::new(manifest).with_file_name("target")))
        .collect();
    if !packages.is_empty() {
        let build = GuestBuild::new("Cargo.toml", "target/guests").packages(packages);
        builds.push(if flags.is_empty() { build } else { build.optimized() });
    }
    for build in builds {
        for component in build.to_terminal().build()? {
            let size = std::fs::metadata(&component.path).map_or(0, |file| file.len());
            println!("{}  {size} bytes  {}", component.package, component.path.display());
        }
    }
    Ok(())
}
