//! From nothing to a plugin: `new`, `build`, `check`, and what happens to who gets it wrong.

use std::path::{Path, PathBuf};

use crate::program::{file, folder, sandbar};

/// Kept from run to run, with what cargo built there: building the standard library takes a minute.
fn workshop() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("project")
}

#[test]
fn a_new_project_becomes_a_plugin_that_passes_the_check() {
    let workshop = workshop();
    let project = workshop.join("my-counter");
    let _ = std::fs::remove_dir_all(&project);
    std::fs::create_dir_all(&workshop).unwrap();
    let said = sandbar(&workshop, &["plugin", "new", "my-counter"]).fine();
    assert!(said.out.contains("sandbar plugin build"), "{}", said.out);

    let build = |more: &[&str]| {
        sandbar(&workshop, &[&["plugin", "build", "my-counter", "--target-dir", "guests"][..], more].concat())
    };
    let built = build(&["--json"]).fine().json();
    assert_eq!(built["plugin"]["name"], "my-counter");
    assert_eq!(built["plugin"]["wants"], serde_json::json!([]));
    let component = std::fs::read(project.join("my-counter.wasm")).unwrap();
    assert_eq!(built["digest"], sandbar_host::Digest::of(&component).to_string());
    // Nothing of the machine that it was built on is in it.
    let path = workshop.to_str().unwrap().as_bytes();
    assert!(!component.windows(path.len()).any(|bytes| bytes == path));
    // The dependencies are those that the SDK was tested with.
    let ours = include_str!("../../../../Cargo.lock");
    let theirs = std::fs::read_to_string(project.join("Cargo.lock")).unwrap();
    for package in theirs.split("[[package]]").skip(1).filter(|package| package.contains("checksum")) {
        let head = package.trim().lines().take(4).collect::<Vec<_>>().join("\n");
        assert!(ours.contains(&head), "{head}");
    }

    let check = sandbar(&workshop, &["plugin", "check", "my-counter/my-counter.wasm"]).fine();
    assert!(check.out.contains("fine: no problems"), "{}", check.out);

    // What does not build leaves what was built.
    let source = project.join("src/lib.rs");
    let good = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, good.replace("self.0 += 1", "self.1 += 1")).unwrap();
    build(&[]).fails_with(&["no field `1`", "my-counter does not build"]);
    assert_eq!(std::fs::read(project.join("my-counter.wasm")).unwrap(), component);
    // Nor does what builds and is no plugin.
    std::fs::write(&source, "").unwrap();
    build(&[]).fails_with(&["is no plugin", "sandbar_sdk::export!"]);
    assert_eq!(std::fs::read(project.join("my-counter.wasm")).unwrap(), component);
    std::fs::write(&source, good).unwrap();

    sandbar(&workshop, &["plugin", "new", "my-counter"]).fails_with(&["my-counter is there already and not empty"]);
}

#[test]
fn what_cannot_be_built_is_said_before_anything_is_built() {
    let folder = folder();
    sandbar(folder.path(), &["plugin", "build"]).fails_with(&["has no Cargo.toml", "sandbar plugin new"]);
    sandbar(folder.path(), &["plugin", "build", "nowhere"]).fails_with(&["nowhere has no Cargo.toml"]);
    sandbar(folder.path(), &["plugin", "new", "My Counter"]).fails_with(&["lower-case letters"]);
    let file = file(folder.path(), "taken", "");
    sandbar(folder.path(), &["plugin", "new", "taken", "--path", file.to_str().unwrap()]).fails_with(&["taken"]);
}
