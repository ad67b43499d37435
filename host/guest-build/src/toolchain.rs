//! Finding a Rust that can build guests.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, environment};

/// The first Rust that builds the SDK.
const OLDEST: (u32, u32) = (1, 95);

/// Where Debian's `wasi-libc` puts the C library that `wasm32-wasip2` links.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// What a guest is compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// A component that imports what its world names and nothing else: the target of the standard plugins.
    #[default]
    UnknownUnknown,
    /// With the WASI that its standard library imports, whether it is used or not.
    Wasip2,
}

impl Target {
    /// The target's name, as rustc has it.
    pub fn triple(self) -> &'static str {
        match self {
            Target::UnknownUnknown => "wasm32-unknown-unknown",
            Target::Wasip2 => "wasm32-wasip2",
        }
    }

    pub(crate) fn variable(self) -> String {
        self.triple().to_uppercase().replace('-', "_")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())
    }
}

/// Where a guest's standard library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Std {
    /// Installed with the toolchain, as rustup does.
    Installed,
    /// Built from the toolchain's sources, once per target directory; takes about a minute.
    FromSource,
}

/// A Rust that can build guests for one target.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    pub(crate) sysroot: PathBuf,
    pub(crate) std: Std,
    pub(crate) target: Target,
    /// Put before `PATH`: where `wasm-component-ld` and a `wasm-ld` for it are.
    pub(crate) linkers: Vec<PathBuf>,
}

impl Toolchain {
    /// The first toolchain on this machine that can build for `target`, of those that would be used in `directory`
    /// (whose `rust-toolchain.toml` counts): the surrounding cargo's or the one on the `PATH`, then `/usr/bin`'s. An
    /// installed target is preferred to building the standard library.
    ///
    /// # Errors
    /// [`Error::NoToolchain`] with one line that says what to install.
    pub fn find(target: Target, directory: &Path) -> Result<Self, Error> {
        let candidates = Rust::all(directory);
        let path = std::env::var_os("PATH").unwrap_or_default();
        choose(target, &candidates, &std::env::split_paths(&path).collect::<Vec<_>>())
    }

    /// Where the standard library comes from.
    pub fn std(&self) -> Std {
        self.std
    }

    /// Flags for rustc. `workspace` is the folder whose path is to be kept out of the component.
    pub(crate) fn rustflags(&self, workspace: &Path) -> Vec<OsString> {
        // No guest has a source of randomness but the host's; crates that ask for another get an error, not an import.
        let mut flags: Vec<OsString> = vec!["--cfg=getrandom_backend=\"unsupported\"".into()];
        // Panic messages name source files. Remapped, a component's digest does not depend on where it was built, and
        // does not tell either.
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
        let remapped =
            [(Some(workspace.to_owned()), "/plugin"), (home, "/cargo"), (Some(self.sysroot.clone()), "/rust")];
        for (from, to) in remapped {
            let Some(from) = from else { continue };
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(to);
            flags.push(flag);
        }
        if self.target == Target::Wasip2 && self.std == Std::FromSource {
            flags.push(format!("-L{WASI_LIBC}").into());
        }
        flags
    }

    /// `PATH` with the linkers first.
    pub(crate) fn path(&self) -> OsString {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths(self.linkers.iter().cloned().chain(std::env::split_paths(&rest))).unwrap_or(rest)
    }
}

/// One Rust of this machine.
struct Rust {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    host: String,
}

impl Rust {
    fn all(directory: &Path) -> Vec<Rust> {
        let from = |name, fallback: &str| std::env::var_os(name).map_or_else(|| PathBuf::from(fallback), PathBuf::from);
        let candidates = [
            (from("CARGO", "cargo"), from("RUSTC", "rustc")),
            ("cargo".into(), "rustc".into()),
            ("/usr/bin/cargo".into(), "/usr/bin/rustc".into()),
        ];
        let mut found: Vec<Rust> = Vec::new();
        for (cargo, rustc) in candidates {
            if let Some(rust) = Rust::ask(cargo, &rustc, directory)
                && !found.iter().any(|known| known.sysroot == rust.sysroot)
            {
                found.push(rust);
            }
        }
        found
    }

    fn ask(cargo: PathBuf, rustc: &Path, directory: &Path) -> Option<Rust> {
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(rustc);
            environment::scrub(&mut command);
            let output = command.args(arguments).current_dir(directory).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let about = ask(&["-vV"])?;
        let field = |name| about.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if version(field("release:")?)? < OLDEST {
            return None;
        }
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
        // The compiler itself in place of rustup's proxy, which would choose again.
        let own = sysroot.join("bin/rustc");
        let rustc = if own.is_file() { own } else { rustc.to_owned() };
        let own = sysroot.join("bin/cargo");
        let cargo = if own.is_file() { own } else { cargo };
        Some(Rust { cargo, rustc, sysroot, host: field("host:")?.to_owned() })
    }

    fn provides(&self, std: Std, target: Target) -> bool {
        let rustlib = self.sysroot.join("lib/rustlib");
        match std {
            Std::Installed => rustlib.join(target.triple()).join("lib").is_dir(),
            Std::FromSource => {
                // Sources without their dependencies would be fetched from the network; ask for both.
                let library = rustlib.join("src/rust/library");
                library.join("std/Cargo.toml").is_file()
                    && library.join("Cargo.lock").is_file()
                    && (target == Target::UnknownUnknown || Path::new(WASI_LIBC).is_dir())
            }
        }
    }

    fn linker_directories(&self) -> Vec<PathBuf> {
        let bin = self.sysroot.join("lib/rustlib").join(&self.host).join("bin");
        vec![bin.join("gcc-ld"), bin]
    }
}

/// The first of `candidates` that can build for `target`, with linkers from any of them or the `PATH`.
fn choose(target: Target, candidates: &[Rust], path: &[PathBuf]) -> Result<Toolchain, Error> {
    let own: Vec<PathBuf> = candidates.iter().flat_map(Rust::linker_directories).collect();
    let linkers = linkers(&[&own, path].concat());
    for std in [Std::Installed, Std::FromSource] {
        let Some(rust) = candidates.iter().find(|rust| rust.provides(std, target)) else { continue };
        let Some(linkers) = linkers else {
            return Err(Error::NoToolchain(format!(
                "{} can build guests but has no linker for components; install one: `apt-get install rust-web-llvm lld` \
                 or `cargo install wasm-component-ld`",
                rust.rustc.display()
            )));
        };
        let (cargo, rustc, sysroot) = (rust.cargo.clone(), rust.rustc.clone(), rust.sysroot.clone());
        return Ok(Toolchain { cargo, rustc, sysroot, std, target, linkers });
    }
    Err(Error::NoToolchain(format!(
        "no Rust {}.{} or newer here can build for {target}: run `rustup target add {target}`, or on Debian `apt-get \
         install rustc-web cargo-web rust-web-src rust-web-llvm lld{}`",
        OLDEST.0,
        OLDEST.1,
        if target == Target::Wasip2 { " wasi-libc" } else { "" },
    )))
}

/// The directories that hold `wasm-component-ld` and the `wasm-ld` that it calls; none if either is missing.
fn linkers(places: &[PathBuf]) -> Option<Vec<PathBuf>> {
    let holder = |name: &str| places.iter().find(|place| place.join(name).is_file()).cloned();
    let component = holder("wasm-component-ld")?;
    // `gcc-ld/wasm-ld` is a wrapper that looks for `rust-lld` in the directory above its own.
    let core = holder("wasm-ld").or_else(|| holder("rust-lld"))?;
    Some(vec![core, component])
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_channel_are_read() {
        assert_eq!(version("1.95.0"), Some((1, 95)));
        assert_eq!(version("1.97.0-nightly"), Some((1, 97)));
        assert_eq!(version("one"), None);
    }

    /// A folder with these files, in a Rust's or a machine's layout; gone with the value.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, files: &[&str]) -> Self {
            let root = std::env::temp_dir().join(format!("sandbar-toolchain-{}-{name}", std::process::id()));
            for file in files {
                let file = root.join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "").unwrap();
            }
            Machine(root)
        }

        fn rust(&self, name: &str) -> Rust {
            let sysroot = self.0.join(name);
            Rust { cargo: sysroot.join("bin/cargo"), rustc: sysroot.join("bin/rustc"), sysroot, host: "host".into() }
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const RUSTUP_LINKERS: [&str; 2] =
        ["rustup/lib/rustlib/host/bin/wasm-component-ld", "rustup/lib/rustlib/host/bin/gcc-ld/wasm-ld"];
    const SOURCES: [&str; 2] =
        ["debian/lib/rustlib/src/rust/library/std/Cargo.toml", "debian/lib/rustlib/src/rust/library/Cargo.lock"];

    #[test]
    fn an_installed_target_is_preferred_to_sources() {
        let installed = "rustup/lib/rustlib/wasm32-unknown-unknown/lib/libstd.rlib";
        let machine = Machine::new("both", &[&SOURCES[..], &RUSTUP_LINKERS, &[installed]].concat());
        let rusts = [machine.rust("debian"), machine.rust("rustup")];
        let found = choose(Target::UnknownUnknown, &rusts, &[]).unwrap();
        assert_eq!((found.std, found.rustc), (Std::Installed, machine.0.join("rustup/bin/rustc")));
    }

    #[test]
    fn sources_are_built_with_the_linkers_of_another_rust() {
        let machine = Machine::new("sources", &[&SOURCES[..], &RUSTUP_LINKERS].concat());
        let found = choose(Target::UnknownUnknown, &[machine.rust("rustup"), machine.rust("debian")], &[]).unwrap();
        assert_eq!((found.std, found.rustc), (Std::FromSource, machine.0.join("debian/bin/rustc")));
        let bin = machine.0.join("rustup/lib/rustlib/host/bin");
        assert_eq!(found.linkers, [bin.join("gcc-ld"), bin]);
    }

    #[test]
    fn linkers_are_found_on_the_path() {
        let machine = Machine::new("path", &[&SOURCES[..], &["bin/wasm-component-ld", "lld/wasm-ld"]].concat());
        let path = [machine.0.join("bin"), machine.0.join("lld")];
        let found = choose(Target::UnknownUnknown, &[machine.rust("debian")], &path).unwrap();
        assert_eq!(found.linkers, [machine.0.join("lld"), machine.0.join("bin")]);
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
        let machine = Machine::new("missing", &SOURCES);
        let without_linker = choose(Target::UnknownUnknown, &[machine.rust("debian")], &[]).unwrap_err().to_string();
        assert!(without_linker.contains("`apt-get install rust-web-llvm lld`"), "{without_linker}");
        let without_rust = choose(Target::Wasip2, &[machine.rust("rustup")], &[]).unwrap_err().to_string();
        assert!(without_rust.contains("`rustup target add wasm32-wasip2`"), "{without_rust}");
        assert!(without_rust.ends_with("rust-web-llvm lld wasi-libc`"), "{without_rust}");
        assert!(!without_linker.contains('\n') && !without_rust.contains('\n'));
    }

    #[test]
    fn targets_are_named_as_cargo_names_their_variables() {
        assert_eq!(Target::UnknownUnknown.variable(), "WASM32_UNKNOWN_UNKNOWN");
    }
}
