//! One call of cargo that builds guests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::toolchain::{Std, Target, Toolchain};
use crate::{Error, environment};

/// The profile, given on the command line so that a crate outside this workspace is built alike. What no one calls must go,
/// with the imports that it would need.
const PROFILE: &[&str] = &[
    "profile.guest.inherits='release'",
    "profile.guest.opt-level=3",
    "profile.guest.lto='fat'",
    "profile.guest.codegen-units=1",
    "profile.guest.panic='abort'",
    "profile.guest.strip=true",
    "profile.guest.debug=false",
];

/// The profile for finding mistakes. Optimised across crates all the same: what no one calls would be imported otherwise.
const DEBUG_PROFILE: &[&str] = &[
    "profile.guest-debug.inherits='release'",
    "profile.guest-debug.opt-level=1",
    "profile.guest-debug.lto='fat'",
    "profile.guest-debug.codegen-units=1",
    "profile.guest-debug.panic='abort'",
    "profile.guest-debug.strip=false",
    "profile.guest-debug.debug='line-tables-only'",
    "profile.guest-debug.debug-assertions=true",
    "profile.guest-debug.overflow-checks=true",
];

/// What to build, and where: one call of cargo, however many packages, unless they are [`optimized`](Self::optimized).
#[derive(Clone, Debug)]
pub struct GuestBuild {
    manifest: PathBuf,
    target_dir: PathBuf,
    packages: Vec<String>,
    target: Target,
    optimized: bool,
    to_terminal: bool,
    version: Option<String>,
    debug: bool,
}

/// What a package was built to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The package's name.
    pub package: String,
    /// The component, in the target directory.
    pub path: PathBuf,
}

impl GuestBuild {
    /// Builds the package of `manifest`, a path to a `Cargo.toml`, in `target_dir`. That must not be the directory of a
    /// cargo that waits for this build: both would wait for its lock.
    pub fn new(manifest: impl Into<PathBuf>, target_dir: impl Into<PathBuf>) -> Self {
        GuestBuild {
            manifest: manifest.into(),
            target_dir: target_dir.into(),
            packages: Vec::new(),
            target: Target::default(),
            optimized: false,
            to_terminal: false,
            version: None,
            debug: false,
        }
    }

    /// Keeps the names of functions, so that a fault says where it was, and checks assertions and overflow.
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = debug;
        self
    }

    /// Stamps plugins with this version in place of their package's.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Builds these packages of the manifest's workspace in place of the manifest's own.
    pub fn packages(mut self, packages: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.packages.extend(packages.into_iter().map(Into::into));
        self
    }

    /// Compiles for another target than [`Target::UnknownUnknown`].
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Optimises across crates also packages that are an `rlib` beside their `cdylib`, which cargo leaves out otherwise.
    /// Takes a call of cargo and some seconds per package; measured on the standard plugins, a call takes 20 ns less and
    /// a packet in a batch of 32 a tenth less. A manifest's own package is always built so.
    pub fn optimized(mut self) -> Self {
        self.optimized = true;
        self
    }

    /// Lets cargo write its progress and errors to standard error, instead of keeping them for [`Error::Cargo`].
    pub fn to_terminal(mut self) -> Self {
        self.to_terminal = true;
        self
    }

    /// Builds, and returns the components in the order in which the packages were named.
    ///
    /// # Errors
    /// No toolchain, an unreadable manifest, code that does not build, or a package without a `cdylib`.
    pub fn build(&self) -> Result<Vec<Component>, Error> {
        // Flags name the folder: one folder under two names would be two builds, each undoing the other.
        let manifest = std::fs::canonicalize(&self.manifest).map_err(at(&self.manifest))?;
        let target_dir = std::path::absolute(&self.target_dir).map_err(at(&self.target_dir))?;
        let directory = manifest.parent().unwrap_or(Path::new("."));
        let toolchain = Toolchain::find(self.target, directory)?;

        let at = Place { toolchain: &toolchain, manifest: &manifest, directory, target_dir: &target_dir };
        if self.packages.is_empty() {
            let own = |(component, from): (Component, PathBuf)| (from == manifest).then_some(component);
            let built: Vec<_> = self.cargo(at, &Call::Optimized(None))?.into_iter().filter_map(own).collect();
            return if built.is_empty() { Err(Error::NoComponent { package: named(&manifest) }) } else { Ok(built) };
        }
        let built = if self.optimized {
            let each = self.packages.iter().map(|package| self.cargo(at, &Call::Optimized(Some(package))));
            each.collect::<Result<Vec<_>, _>>()?.concat()
        } else {
            self.cargo(at, &Call::Together(&self.packages))?
        };
        self.packages
            .iter()
            .map(|package| {
                let found = built.iter().find(|(component, _)| component.package == *package);
                found
                    .map(|(component, _)| component.clone())
                    .ok_or_else(|| Error::NoComponent { package: package.clone() })
            })
            .collect()
    }

    /// One call of cargo: the components that it made, with their manifests.
    fn cargo(&self, at: Place<'_>, call: &Call<'_>) -> Result<Vec<(Component, PathBuf)>, Error> {
        let mut command = self.command(at, call);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if self.to_terminal { Stdio::inherit() } else { Stdio::piped() });
        let output = command
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .map_err(|source| Error::Spawn { program: at.toolchain.cargo.clone(), source })?;
        if output.status.success() {
            return Ok(components(&output.stdout));
        }
        let packages = match call {
            Call::Together(packages) => packages.join(", "),
            Call::Optimized(Some(package)) => (*package).to_owned(),
            Call::Optimized(None) => named(at.manifest),
        };
        Err(Error::Cargo { packages, output: without_progress(&output.stderr) })
    }

    fn command(&self, at: Place<'_>, call: &Call<'_>) -> Command {
        let toolchain = at.toolchain;
        let mut command = Command::new(&toolchain.cargo);
        environment::scrub(&mut command);
        command.current_dir(at.directory);
        match call {
            Call::Together(packages) => {
                command.arg("build").args(packages.iter().flat_map(|package| ["-p", package]));
            }
            Call::Optimized(package) => {
                command
                    .args(["rustc", "--crate-type", "cdylib"])
                    .args(package.iter().flat_map(|package| ["-p", package]));
            }
        }
        command.arg("--lib").arg("--manifest-path").arg(at.manifest).arg("--target-dir").arg(at.target_dir);
        let (profile, settings) = if self.debug { ("guest-debug", DEBUG_PROFILE) } else { ("guest", PROFILE) };
        command.args(["--target", self.target.triple(), "--profile", profile]);
        command.arg("--message-format=json-render-diagnostics");
        for setting in settings {
            command.args(["--config", setting]);
        }
        match &self.version {
            Some(version) => command.env("SANDBAR_PLUGIN_VERSION", version),
            None => command.env_remove("SANDBAR_PLUGIN_VERSION"),
        };
        if toolchain.std == Std::FromSource {
            // Building the standard library is a nightly feature of cargo that stable compilers have behind this switch.
            command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
        }
        let mut flags = OsString::new();
        for (index, flag) in toolchain.rustflags(at.directory).into_iter().enumerate() {
            if index > 0 {
                flags.push("\u{1f}");
            }
            flags.push(flag);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        command.env(format!("CARGO_TARGET_{}_LINKER", self.target.variable()), "wasm-component-ld");
        command.env("RUSTC", &toolchain.rustc).env("PATH", toolchain.path());
        command
    }
}

/// With what and where cargo is called.
#[derive(Clone, Copy)]
struct Place<'a> {
    toolchain: &'a Toolchain,
    manifest: &'a Path,
    directory: &'a Path,
    target_dir: &'a Path,
}

/// What one call of cargo builds.
enum Call<'a> {
    /// Several packages, as their manifests have it.
    Together(&'a [String]),
    /// One, or the manifest's own, as a component alone: cargo optimises across crates only what is not an `rlib` as well.
    Optimized(Option<&'a str>),
}

/// The manifest's package, for messages.
fn named(manifest: &Path) -> String {
    manifest.display().to_string()
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Path { path, source }
}

/// Of cargo's messages, one line of JSON each, those that say what was built.
fn components(messages: &[u8]) -> Vec<(Component, PathBuf)> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        #[serde(default)]
        package_id: String,
        #[serde(default)]
        manifest_path: PathBuf,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let parsed = messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    parsed
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| {
            let path = message.filenames.iter().find(|path| path.extension().is_some_and(|end| end == "wasm"))?.clone();
            Some((Component { package: package_name(&message.package_id)?.to_owned(), path }, message.manifest_path))
        })
        .collect()
}

/// From a package id: `path+file:///folder/name#1.0.0` where the folder has the package's name, else
/// `path+file:///folder#name@1.0.0`.
fn package_name(id: &str) -> Option<&str> {
    let (location, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => location.rsplit('/').next(),
    }
}

/// Cargo's output from its first error on; all of it if there is none.
fn without_progress(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let start = text.lines().scan(0, |at, line| {
        let begin = *at;
        *at += line.len() + 1;
        Some((begin, line))
    });
    let error = start.into_iter().find(|(_, line)| line.starts_with("error")).map_or(0, |(begin, _)| begin);
    text.get(error..).unwrap_or(&text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_of_both_forms_are_read() {
        assert_eq!(package_name("path+file:///a/plugins/noop#sandbar-plugin-noop@0.1.0"), Some("sandbar-plugin-noop"));
        assert_eq!(package_name("path+file:///a/meter#0.1.0"), Some("meter"));
        assert_eq!(package_name("nonsense"), None);
    }

    #[test]
    fn only_artifacts_that_are_components_are_taken() {
        let messages = br#"{"reason":"compiler-artifact","package_id":"path+file:///a/b#b@1.0.0","manifest_path":"/a/b/Cargo.toml","filenames":["/t/libb.rlib","/t/b.wasm"]}
{"reason":"compiler-artifact","package_id":"x#serde@1.0.0","manifest_path":"/s/Cargo.toml","filenames":["/t/libserde.rlib"]}
not json
{"reason":"build-finished","success":true}"#;
        let built = components(messages);
        assert_eq!(built.len(), 1);
        assert_eq!(built[0].0, Component { package: "b".into(), path: "/t/b.wasm".into() });
    }

    #[test]
    fn the_error_is_shown_without_the_progress_before_it() {
        let shown = without_progress(b"   Compiling a\nwarning: x\nerror[E0425]: cannot find\n --> src\n\n");
        assert_eq!(shown, "error[E0425]: cannot find\n --> src");
        assert_eq!(without_progress(b"killed"), "killed");
    }

    #[test]
    fn a_missing_manifest_is_named() {
        let error = GuestBuild::new("/nonexistent/Cargo.toml", "/nonexistent/target").build().unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/Cargo.toml: "), "{error}");
    }
}
