//! A run of every row, briefly: the benchmark's own checks pass, and nothing is measured.

use std::process::Command;

/// The table of a brief run.
fn quick(benchmark: &str) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_sandbar-bench"))
        .args([benchmark, "--quick"])
        .output()
        .expect("the benchmark runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

#[test]
fn every_row_runs_and_its_checks_pass() {
    let table = quick("chain");
    for row in
        ["one at a time", "64 streams in a session", "one in 20 lost", "with RTCP from peers", "whole set of plugins"]
    {
        for direction in ["read", "write"] {
            assert!(table.contains(&format!("{direction} {row}")), "no {direction} {row} in\n{table}");
        }
    }
}

#[test]
fn every_plugin_is_tried_on_what_it_binds() {
    let table = quick("plugins");
    assert_eq!(table.lines().count(), 1 + 21, "{table}");
    // Only the noop and those who wait for RTCP have nothing to do with packets.
    let idle: Vec<_> =
        table.lines().filter(|line| line.split_whitespace().filter(|cell| *cell == "-").count() == 2).collect();
    assert!(
        idle.iter().all(|line| ["noop", "gcc", "interval-pli"].iter().any(|name| line.starts_with(name))),
        "{table}"
    );
}

#[test]
fn repair_is_tried_over_every_path() {
    let table = quick("repair");
    assert!(table.lines().any(|line| line.contains("FlexFEC, NACK and RTX")), "{table}");
    assert_eq!(table.lines().count(), 9, "{table}");
}

#[test]
fn congestion_control_runs_on_both_sides() {
    let table = quick("cc");
    for side in ["sandbar", "rtc-interceptor"] {
        assert!(table.lines().any(|line| line.contains(side) && line.contains(" ms")), "no {side} in\n{table}");
    }
}

#[test]
fn sessions_come_and_go_in_both_isolations() {
    let table = quick("sessions");
    for row in ["tenant, 1 open", "tenant, 32 open", "session, 1 open", "32 tenant", "32 session"] {
        assert!(table.lines().any(|line| line.starts_with(&format!("{row} "))), "no {row} in\n{table}");
    }
}

#[test]
fn plugins_are_replaced_under_traffic() {
    let table = quick("swap");
    assert_eq!(table.lines().count(), 1 + 2 * 3, "{table}");
}

#[test]
fn payloads_are_forwarded_where_they_are() {
    let table = quick("fanout");
    assert_eq!(
        table.lines().filter(|line| line.starts_with("bursts of") && line.ends_with(" 0")).count(),
        3,
        "{table}"
    );
}

#[test]
fn workers_run_side_by_side() {
    let table = quick("cores");
    assert!(table.lines().any(|line| line.starts_with("1 ")), "{table}");
}

#[test]
fn calls_are_told_from_what_is_around_them() {
    let table = quick("overhead");
    for direction in ["read", "write"] {
        assert!(table.lines().any(|line| line.starts_with(direction)), "no {direction} in\n{table}");
    }
}

#[test]
fn every_packet_comes_through_the_relay_and_through_nothing_but_its_sockets() {
    let table = quick("relay");
    for way in ["bare", "empty", "default"] {
        assert!(table.lines().any(|line| line.starts_with(way)), "no {way} in\n{table}");
    }
}

#[test]
fn the_relay_starts_twice() {
    let table = quick("start");
    assert!(table.contains("with 7 plugins") && table.contains("from the cache"), "{table}");
}
