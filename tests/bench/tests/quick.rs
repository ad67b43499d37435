//! A run of every row, briefly: the benchmark's own checks pass, and nothing is measured.

use std::process::Command;

#[test]
fn every_row_runs_and_its_checks_pass() {
    let run = Command::new(env!("CARGO_BIN_EXE_sandbar-bench")).args(["chain", "--quick"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let table = String::from_utf8_lossy(&run.stdout);
    for row in ["read", "write"] {
        assert!(table.contains(row), "no {row} in\n{table}");
    }
}

#[test]
fn every_plugin_is_tried_on_what_it_binds() {
    let run = Command::new(env!("CARGO_BIN_EXE_sandbar-bench")).args(["plugins", "--quick"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let table = String::from_utf8_lossy(&run.stdout);
    assert_eq!(table.lines().count(), 1 + 21, "{table}");
    // Only the noop and those who wait for RTCP have nothing to do with packets.
    let idle: Vec<_> = table.lines().filter(|line| line.matches(" -").count() == 2).collect();
    assert!(
        idle.iter().all(|line| ["noop", "gcc", "interval-pli"].iter().any(|name| line.starts_with(name))),
        "{table}"
    );
}

#[test]
fn repair_is_tried_over_every_path() {
    let run = Command::new(env!("CARGO_BIN_EXE_sandbar-bench")).args(["repair", "--quick"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let table = String::from_utf8_lossy(&run.stdout);
    assert!(table.lines().any(|line| line.contains("FlexFEC, NACK and RTX")), "{table}");
    assert_eq!(table.lines().count(), 9, "{table}");
}

#[test]
fn congestion_control_runs_on_both_sides() {
    let run = Command::new(env!("CARGO_BIN_EXE_sandbar-bench")).args(["cc", "--quick"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let table = String::from_utf8_lossy(&run.stdout);
    for side in ["sandbar", "rtc-interceptor"] {
        assert!(table.lines().any(|line| line.contains(side) && line.contains(" ms")), "no {side} in\n{table}");
    }
}
