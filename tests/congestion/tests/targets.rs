//! What congestion control is to achieve on each path, with the plugins run natively. The figures are worse than what is
//! usually reached, so that a change which costs a few percent fails and another seed does not.
#![allow(clippy::print_stdout, reason = "what a failed test shows")]

use sandbar_congestion::Feedback;
use sandbar_congestion::native::Native;
use sandbar_congestion::run::{Outcome, Scenario, run};
use sandbar_congestion::scenarios;

/// The same scenario with different dice.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=4;

fn run_each(scenario: &Scenario, check: impl Fn(&Outcome)) {
    for seed in SEEDS {
        let outcome = run(scenario, seed, |start| Box::new(Native::new(start, "{}", "{}")));
        // Shown where the check fails.
        println!("{}, seed {seed}: {outcome:.3?}", scenario.name);
        check(&outcome);
    }
}

/// Within so many seconds.
fn converges(outcome: &Outcome, seconds: f64) {
    assert!(outcome.converged.is_some_and(|after| after <= seconds));
}

#[test]
fn a_steady_path_is_used_soon_and_without_a_queue() {
    run_each(&scenarios::steady(), |outcome| {
        assert!(outcome.utilisation >= 0.9 && outcome.loss < 0.001);
        assert!(outcome.delay_p50 < 20.0 && outcome.delay_p95 < 60.0);
        converges(outcome, 1.0);
    });
}

#[test]
fn one_packet_in_twenty_lost_by_chance_costs_little() {
    run_each(&scenarios::one_in_twenty(), |outcome| {
        assert!(outcome.utilisation >= 0.8);
        converges(outcome, 5.0);
    });
}

#[test]
fn one_packet_in_five_lost_by_chance_is_no_collapse() {
    run_each(&scenarios::one_in_five(), |outcome| assert!(outcome.utilisation >= 0.7));
}

#[test]
fn a_path_that_opens_is_used_soon() {
    run_each(&scenarios::step_up(), |outcome| {
        assert!(outcome.utilisation >= 0.85);
        converges(outcome, 5.0);
    });
}

#[test]
fn a_path_that_narrows_is_not_flooded() {
    run_each(&scenarios::step_down(), |outcome| {
        assert!(outcome.utilisation >= 0.8 && outcome.delay_p95 < 100.0);
        // At 20 s; the queue holds 300 ms.
        assert!(outcome.delays[24..].iter().all(|delay| *delay < 250.0));
    });
}

#[test]
fn two_flows_share() {
    run_each(&scenarios::two_flows(), |outcome| {
        let share = outcome.rates[0] / outcome.rates.iter().sum::<f64>();
        assert!((0.4..=0.6).contains(&share), "{share}");
        assert!(outcome.utilisation >= 0.9 && outcome.delay_p95 < 100.0);
    });
}

#[test]
fn what_others_leave_is_used_and_not_what_they_need() {
    run_each(&scenarios::cross_traffic(), |outcome| {
        assert!(outcome.utilisation >= 0.85 && outcome.delay_p95 < 100.0);
    });
}

#[test]
fn where_no_queue_can_build_up_loss_is_the_sign() {
    run_each(&scenarios::shallow(), |outcome| assert!(outcome.utilisation >= 0.8 && outcome.loss < 0.08));
}

#[test]
fn delay_that_varies_by_itself_is_no_congestion() {
    run_each(&scenarios::jitter(), |outcome| {
        assert!(outcome.utilisation >= 0.85);
        converges(outcome, 5.0);
    });
}

#[test]
fn an_application_that_has_little_to_send_finds_the_path_when_it_has_more() {
    run_each(&scenarios::little_to_send(), |outcome| {
        assert!(outcome.utilisation >= 0.85);
        converges(outcome, 5.0);
        // While a sixth is used, the estimate is known to be higher.
        assert!(outcome.targets[15] > 1.2e6, "{}", outcome.targets[15]);
    });
}

#[test]
fn a_thin_path_far_away_and_a_thick_one_are_used() {
    // Its queue is full from the first frame on, and so does not grow.
    run_each(&scenarios::thin(), |outcome| assert!(outcome.utilisation >= 0.85 && outcome.delay_p95 < 150.0));
    run_each(&scenarios::thick(), |outcome| {
        assert!(outcome.utilisation >= 0.85 && outcome.delay_p95 < 60.0);
        converges(outcome, 5.0);
    });
}

#[test]
fn without_probes_a_path_is_found_by_growth() {
    for seed in SEEDS {
        let config = r#"{"probing": false}"#;
        let outcome = run(&scenarios::steady(), seed, |start| Box::new(Native::new(start, config, "{}")));
        assert!(outcome.utilisation >= 0.85, "{outcome:.3?}");
        converges(&outcome, 5.0);
    }
}

#[test]
fn feedback_by_rfc_8888_serves_as_well() {
    for scenario in [scenarios::steady(), scenarios::one_in_twenty(), scenarios::step_down()] {
        let scenario = Scenario { feedback: Feedback::Rfc8888, ..scenario };
        for seed in SEEDS {
            let outcome = run(&scenario, seed, |start| Box::new(Native::with(start, "{}", "{}", scenario.feedback)));
            println!("{}, seed {seed}: {outcome:.3?}", scenario.name);
            assert!(outcome.utilisation >= 0.8 && outcome.delay_p95 < 100.0);
            // Padding is not reported where the peer takes retransmissions for what they bring back, so growth finds the path.
            converges(&outcome, 10.0);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let once = |seed| run(&scenarios::one_in_twenty(), seed, |start| Box::new(Native::new(start, "{}", "{}")));
    let (first, again, other) = (once(1), once(1), once(2));
    assert_eq!((&first.rates, &first.targets), (&again.rates, &again.targets));
    assert_ne!(first.rates, other.rates);
}
