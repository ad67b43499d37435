//! What the child's cargo must not inherit.

use std::process::Command;

/// Variables of cargo's that carry where and how to fetch, not what is being built.
const KEPT: &[&str] =
    &["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_COLOR"];

/// Set by cargo for a build script; they describe the outer build.
const BUILD_SCRIPT: &[&str] = &[
    "OUT_DIR",
    "TARGET",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "PROFILE",
    "DEBUG",
    "LD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
];

/// Takes from `command` what a surrounding cargo, rustup or user set for another build: the compiler and its wrappers,
/// flags, the target directory, the job server. Left in, they would build guests with the host's flags, or wait for a lock
/// that the outer cargo holds.
pub(crate) fn scrub(command: &mut Command) {
    let in_build_script = std::env::var_os("OUT_DIR").is_some();
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if foreign(name) || (in_build_script && (BUILD_SCRIPT.contains(&name) || name.starts_with("DEP_"))) {
            command.env_remove(name);
        }
    }
}

fn foreign(name: &str) -> bool {
    let cargo = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
    let rust =
        name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || name == "RUSTFLAGS" || name == "RUSTUP_TOOLCHAIN";
    cargo || rust || name == "MAKEFLAGS" || name == "MFLAGS" || name == "__CARGO_FIX_PLZ"
}

#[cfg(test)]
mod tests {
    use super::foreign;

    #[test]
    fn flags_of_the_outer_build_are_foreign_and_the_registry_is_not() {
        for name in [
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_CFG_TARGET_OS",
            "CARGO_MAKEFLAGS",
            "RUSTFLAGS",
        ] {
            assert!(foreign(name), "{name}");
        }
        for name in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_BOOTSTRAP", "RUSTUP_TOOLCHAIN"] {
            assert!(foreign(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_MINE_INDEX", "RUSTUP_HOME", "PATH", "HOME"] {
            assert!(!foreign(name), "{name}");
        }
    }
}
