//! What is a plugin, and what an operator is told of a file that is none.

use std::sync::atomic::{AtomicU32, Ordering};

use sandbar_host::{Cache, CompileLimits, Engine, EngineConfig, Grants, Lane, LoadError, Plugin};
use sandbar_tests::engine::engine;

use crate::guests;

/// What the operator is told.
fn refusal(component: &[u8]) -> String {
    Plugin::load(engine(), component, &Grants { wasi: false, ..Grants::ALL }).expect_err("it is no plugin").to_string()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing from: {message}");
    }
    assert!(!message.contains('\n'), "one line: {message}");
}

#[test]
fn a_file_of_another_kind_is_named_for_what_it_is() {
    says(&refusal(b""), &["empty file", "not a WebAssembly component"]);
    says(&refusal(b"\x7fELF\x02\x01\x01"), &["native", "not a WebAssembly component"]);
    says(&refusal(b"fn main() {}\n"), &["text", "not a WebAssembly component"]);
    says(&refusal(b"(component)"), &["text", "not a WebAssembly component"]);
    says(&refusal(&[0x1f, 0x8b, 8, 0, 0]), &["not a WebAssembly component"]);
    // The least core module there is.
    says(&refusal(b"\0asm\x01\0\0\0"), &["core WebAssembly module", "wasm-tools component new"]);
}

#[test]
fn a_truncated_plugin_is_called_that_wherever_it_was_cut() {
    let whole = guests::BATCHED_COUNTER;
    for part in 1..50 {
        let cut = &whole[..whole.len() * part / 50];
        says(&refusal(cut), &["truncated or damaged"]);
    }
}

#[test]
fn a_damaged_plugin_is_refused_and_never_a_panic() {
    let whole = guests::TYPED_COUNTER;
    let mut refused = 0;
    for part in 0..60 {
        let mut damaged = whole.to_vec();
        let at = 8 + part * (whole.len() - 8) / 60;
        damaged[at..(at + 4).min(whole.len())].fill(0xff);
        refused += u32::from(Plugin::load(engine(), &damaged, &Grants::ALL).is_err());
    }
    // Damage in a name or in data may go unnoticed; most does not.
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_component_of_another_world_is_told_what_is_expected() {
    says(&refusal(guests::WRONG_WORLD), &["greetings:greeter/greet@1.0.0", "sandbar:interceptor/member@0.1.0"]);
}

#[test]
fn a_plugin_of_a_future_version_is_told_which_version_the_host_speaks() {
    says(&refusal(guests::FUTURE_VERSION), &["@0.2.0", "0.1.0", "update the host"]);
}

#[test]
fn a_plugin_that_is_too_large_is_not_compiled() {
    for (limits, what) in [
        (CompileLimits { bytes: 10_000, ..CompileLimits::default() }, "bytes"),
        (CompileLimits { functions: 10, ..CompileLimits::default() }, "functions"),
        (CompileLimits { types: 10, ..CompileLimits::default() }, "types"),
    ] {
        let engine = Engine::new(EngineConfig { compile: limits, ..EngineConfig::default() }).expect("an engine");
        let error = Plugin::load(&engine, guests::BATCHED_COUNTER, &Grants::ALL).expect_err("too large");
        assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
        says(&error.to_string(), &[what, "at most 10"]);
    }
}

#[test]
fn a_plugin_tells_about_itself() {
    let plugin = Plugin::load(engine(), guests::TYPED_COUNTER, &Grants::ALL).expect("a plugin");
    assert_eq!((plugin.name(), plugin.version(), plugin.lane()), ("typed-counter", "0.1.0", Lane::Typed));
    assert_eq!(plugin.description().summary, "Counts packets, one call each");
    assert!(plugin.reads_media());
    assert_eq!(plugin.size(), guests::TYPED_COUNTER.len());
    let other = Plugin::load(engine(), guests::BATCHED_COUNTER, &Grants::ALL).expect("a plugin");
    assert_eq!((other.name(), other.lane()), ("sandbar-guest-batched-counter", Lane::Batched));
    assert_ne!(plugin.digest(), other.digest());
    assert_eq!(plugin.digest().to_string().len(), 64);
    let names: Vec<_> = plugin.imports().iter().filter_map(|import| import.split(['/', '@']).nth(1)).collect();
    for needed in ["attributes", "telemetry", "time"] {
        assert!(names.contains(&needed), "{names:?}");
    }
    assert!(!names.contains(&"emit-rtp"), "what is not used is not imported: {names:?}");
}

/// A folder of this test's own, empty at first.
fn folder() -> std::path::PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{number}"));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn cached(folder: &std::path::Path, key: u8) -> Engine {
    let cache = Cache::open(folder, [key; 32]).expect("a folder");
    Engine::new(EngineConfig { cache: Some(cache), ..EngineConfig::default() }).expect("an engine")
}

/// Name, content and number of the file of the cache's entries: a file that was written anew has another number.
fn entries(folder: &std::path::Path) -> Vec<(String, Vec<u8>, u64)> {
    use std::os::unix::fs::MetadataExt;
    let entry = |entry: std::fs::DirEntry| {
        let content = std::fs::read(entry.path()).expect("readable");
        let number = entry.metadata().expect("readable").ino();
        (entry.file_name().to_string_lossy().into_owned(), content, number)
    };
    let mut entries: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().map(entry).collect();
    entries.sort();
    entries
}

#[test]
fn compiled_code_is_kept_and_used_again() {
    let folder = folder();
    let load = || Plugin::load(&cached(&folder, 1), guests::TRAP, &Grants::ALL).expect("a plugin");
    load();
    let first = entries(&folder);
    assert_eq!(first.len(), 1);
    assert!(first[0].0.starts_with(&load().digest().to_string()));
    load();
    assert_eq!(entries(&folder), first, "a hit writes nothing");
}

#[test]
fn code_that_was_changed_or_made_under_another_key_is_not_run() {
    let folder = folder();
    let load = |key| Plugin::load(&cached(&folder, key), guests::TRAP, &Grants::ALL).expect("a plugin");
    load(1);
    let good = entries(&folder);
    let file = folder.join(&good[0].0);
    for at in [0, 100, good[0].1.len() / 2, good[0].1.len() - 1] {
        let mut changed = good[0].1.clone();
        changed[at] ^= 1;
        std::fs::write(&file, &changed).expect("writable");
        load(1);
        assert_eq!(entries(&folder)[0].1, good[0].1, "what was changed at {at} is compiled and written anew");
    }
    std::fs::write(&file, b"").expect("writable");
    load(1);
    let before = entries(&folder);
    load(2);
    assert_ne!(entries(&folder)[0].1, before[0].1, "another key: compiled and written anew");
}

#[test]
fn a_cache_folder_that_is_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    std::fs::create_dir_all(&folder).expect("writable");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("own folder");
    let error = Cache::open(&folder, [1; 32]).expect_err("others can read it").to_string();
    assert!(error.contains("chmod 700"), "{error}");
}

#[test]
fn types_within_types_end_before_the_compiler_sees_them() {
    // A section with a type: an instance's, with one of an instance in it, and so on.
    let nested = |levels: u8| {
        let mut instances: Vec<u8> = (1..levels).flat_map(|_| [0x42, 1, 1]).collect();
        instances.extend([0x42, 0]);
        let mut component = sandbar_plugins::by_name("noop").expect("a standard plugin").component.to_vec();
        component.extend([7, instances.len() as u8 + 1, 1]);
        component.extend(instances);
        Plugin::load(sandbar_tests::engine::engine(), &component, &Grants::ALL)
    };
    // The component is the first level.
    assert!(nested(7).is_ok());
    let error = nested(30).unwrap_err();
    assert_eq!(error.to_string(), "the component has 31 levels of nesting, and at most 8 are compiled");
}
