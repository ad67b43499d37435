//! The example does what it says.

use std::process::Command;

#[test]
fn the_lost_packet_arrives_after_all() {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbar-example-embed")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let after = |text: &str| said.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{said}"));
    let steps = ["the link loses 5", "sends RTCP", "sends a retransmission", "application gets 5, repaired"];
    assert!(steps.map(after).is_sorted(), "{said}");
    let got = said.lines().filter_map(|line| line.split_once("application gets "));
    let mut got: Vec<u16> = got.filter_map(|(_, number)| number.split(',').next()?.parse().ok()).collect();
    got.sort_unstable();
    assert_eq!(got, Vec::from_iter(1..=10), "{said}");
}
