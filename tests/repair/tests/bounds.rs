//! What repair is to achieve at least, with other dice than the table's.

use sandbar_repair::{Lossy, Outcome, SCHEMES, Scheme, run};

fn plugin(name: &str) -> sandbar_host::Plugin {
    let embedded = sandbar_plugins::by_name(name).unwrap_or_else(|| panic!("no standard plugin is called {name}"));
    sandbar_tests::engine::load(embedded.component)
}

/// The mean of two runs of twenty seconds.
fn outcome(audio: bool, name: &str, path: Lossy) -> Outcome {
    let scheme: Scheme =
        SCHEMES.into_iter().find(|scheme| scheme.audio == audio && scheme.name == name).expect("a scheme");
    let outcomes = [101, 102].map(|seed| run(scheme, path, seed, 20, &plugin));
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
    Outcome { in_time: mean(|outcome| outcome.in_time), overhead: mean(|outcome| outcome.overhead) }
}

/// Asserts that at least this part comes in time for at most this overhead.
#[track_caller]
fn at_least(audio: bool, name: &str, path: Lossy, in_time: f64, overhead: f64) {
    let outcome = outcome(audio, name, path);
    assert!(outcome.in_time >= in_time && outcome.overhead <= overhead, "{name} at {}: {outcome:?}", path.name());
}

#[test]
fn without_repair_what_is_lost_is_lost() {
    for audio in [false, true] {
        let outcome = outcome(audio, "nothing", Lossy::Random(0.1));
        assert!((0.87..0.93).contains(&outcome.in_time) && outcome.overhead == 0.0, "{outcome:?}");
    }
}

#[test]
fn retransmission_repairs_nearly_all_in_time_for_little_more_than_what_was_lost() {
    at_least(false, "NACK and RTX", Lossy::Random(0.01), 0.999, 0.03);
    at_least(false, "NACK and RTX", Lossy::Random(0.05), 0.99, 0.08);
    at_least(false, "NACK and RTX", Lossy::Bursts, 0.97, 0.09);
}

#[test]
fn repair_packets_repair_single_losses_without_a_round_trip() {
    at_least(false, "FlexFEC", Lossy::Random(0.01), 0.999, 0.45);
    at_least(false, "FlexFEC", Lossy::Random(0.05), 0.99, 0.45);
}

#[test]
fn both_together_repair_more_than_each() {
    let path = Lossy::Random(0.1);
    let of = |name| outcome(false, name, path).in_time;
    let (both, fec, nack) = (of("FlexFEC, NACK and RTX"), of("FlexFEC"), of("NACK and RTX"));
    assert!(both > fec && both > nack, "{both} of {fec} and {nack}");
    at_least(false, "FlexFEC, NACK and RTX", path, 0.98, 0.5);
}

#[test]
fn repeated_audio_repairs_losses_that_are_apart() {
    at_least(true, "RED", Lossy::Random(0.05), 0.99, 1.0);
    at_least(true, "RED and NACK", Lossy::Random(0.05), 0.998, 1.2);
    let red = outcome(true, "RED", Lossy::Bursts).in_time;
    at_least(true, "RED and NACK", Lossy::Bursts, red + 0.005, 1.2);
}
