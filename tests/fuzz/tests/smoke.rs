//! Each target for a moment, with the same inputs each time. `./x fuzz` looks further.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use sandbar_fuzz::{TARGETS, Target, mutate};

/// Inputs of a target whose weight is 1.
const INPUTS: usize = 4_000;

#[test]
fn every_target_holds_for_its_seeds_and_what_they_become() {
    let broken = TARGETS.iter().filter_map(|target| {
        let input = mutate::run(*target, INPUTS / target.weight).err()?;
        Some(format!("{} does not hold for {input:02x?}", target.name))
    });
    assert_eq!(broken.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_target_that_does_not_hold_is_found_with_its_input() {
    let strict = Target {
        name: "strict",
        about: "a packet without the bytes 0xff at its end",
        run: |bytes| assert_ne!(bytes.last(), Some(&0xff)),
        seeds: || vec![vec![1, 2, 3], vec![4; 20]],
        weight: 1,
    };
    let input = mutate::run(strict, INPUTS).unwrap_err();
    assert_eq!(input.last(), Some(&0xff));
    assert_eq!(mutate::run(strict, INPUTS), Err(input), "and the same one each time");
}

#[test]
fn every_standard_plugin_is_put_through_everything() {
    let plugins: Vec<_> = sandbar_fuzz::plugins().collect();
    let standard: Vec<_> = sandbar_plugins::ALL.iter().map(|plugin| plugin.name).collect();
    assert_eq!(plugins, standard);
}
