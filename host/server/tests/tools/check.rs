//! What the check finds, and that it finds nothing where nothing is wrong.

use sandbar_tests::guests;
use serde_json::Value;

use crate::program::{file, folder, sandbar};

/// The kinds of problems that a check of a component found, with its exit code.
fn problems(component: &[u8], more: &[&str]) -> (i32, Vec<String>, Value) {
    let folder = folder();
    file(folder.path(), "plugin.wasm", component);
    let said = sandbar(folder.path(), &[&["plugin", "check", "plugin.wasm", "--json"][..], more].concat());
    let report = said.json();
    let kinds =
        report["problems"].as_array().unwrap().iter().map(|problem| problem["kind"].as_str().unwrap().to_owned());
    (said.code, kinds.collect(), report)
}

#[test]
fn nothing_is_wrong_with_the_standard_plugins() {
    let folder = folder();
    for plugin in sandbar_plugins::ALL {
        let said = sandbar(folder.path(), &["plugin", "check", plugin.name, "--json"]);
        let report = said.json();
        assert_eq!((said.code, &report["ok"]), (0, &Value::Bool(true)), "{}: {:#}", plugin.name, report["problems"]);
        // Some have to be granted what is not granted unasked.
        let granted = |note: &&Value| !note.as_str().unwrap().ends_with("a configuration has to grant it by name");
        assert_eq!(report["notes"].as_array().unwrap().iter().filter(granted).count(), 0, "{}", report["notes"]);
    }
}

#[test]
fn plugins_in_both_lanes_and_with_wasi_pass() {
    for component in [guests::TYPED_COUNTER, guests::BATCHED_COUNTER, guests::WASI_HELLO] {
        let (code, kinds, report) = problems(component, &[]);
        assert_eq!((code, kinds), (0, vec![]), "{report:#}");
    }
}

#[test]
fn every_kind_of_misbehaviour_is_found_and_named() {
    let cases: [(&[u8], &str, &str); 6] = [
        (guests::TRAP, "{}", "trap"),
        (guests::ENDLESS_LOOP, "{}", "deadline"),
        // More at once than it may have: filling it piece by piece may take longer than a call may.
        (guests::MEMORY_BOMB, "{\"per_packet\": 100000000}", "memory"),
        (guests::LYING_BATCH, "{}", "bad-batch"),
        (guests::TIMER_STORM, "{}", "timer-storm"),
        // As many lines as a call has the time for.
        (guests::LOG_STORM, "{\"count\": 1, \"length\": 1}", "log-storm"),
    ];
    for (component, config, expected) in cases {
        let (code, kinds, report) = problems(component, &["--config", config]);
        assert_eq!(code, 1);
        assert!(kinds.iter().any(|kind| kind == expected), "{expected}: {kinds:?} {:#}", report["problems"]);
    }
}

#[test]
fn a_fault_is_told_with_the_phase_that_it_came_in() {
    let (_, _, report) = problems(guests::TRAP, &[]);
    let phases: Vec<_> = report["problems"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert!(phases.contains(&"clean media") && phases.contains(&"bursts"), "{phases:?}");
    let quiet = report["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == "silence").unwrap();
    assert_eq!(quiet["problems"], 0);
}

#[test]
fn what_is_not_granted_and_what_is_refused_is_a_problem() {
    let folder = folder();
    let check = |more: &[&str]| sandbar(folder.path(), &[&["plugin", "check", "nack-generator"][..], more].concat());
    check(&["--grants", "none"]).fails_with(&["refusal", "nack-generator wants emit-rtcp"]);
    check(&["--grants", "emit-rtp,wall-clock"]).fails_with(&["nack-generator wants emit-rtcp"]);
    assert_eq!(check(&["--grants", "emit-rtcp"]).code, 0);
    check(&["--config", "{\"interval_ms\": 0}"]).fails_with(&["refusal", "interval_ms"]);
    check(&["--config", "{\"intervall_ms\": 5}"]).fails_with(&["intervall_ms"]);
    assert_eq!(check(&["--config", "{\"interval_ms\": 20}"]).code, 0);
    // Mistakes on the command line, before anything is loaded.
    check(&["--config", "{"]).fails_with(&["not JSON"]);
    check(&["--grants", "network"]).fails_with(&["\"network\"", "emit-rtcp"]);
    file(folder.path(), "wasi.wasm", guests::WASI_HELLO);
    sandbar(folder.path(), &["plugin", "check", "wasi.wasm", "--grants", "emit-rtcp"]).fails_with(&["wants wasi"]);
}
