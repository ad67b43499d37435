//! The paths that congestion control is tried on.

use crate::path::{Cross, Profile};
use crate::run::Scenario;
use crate::{Feedback, MILLISECOND, SECOND};

fn scenario(name: &'static str, profile: Profile) -> Scenario {
    Scenario {
        name,
        profile,
        flows: vec![0],
        duration: 60 * SECOND,
        measured_from: 5 * SECOND,
        encoder: Vec::new(),
        converges_from: 0,
        feedback: Feedback::TransportWide,
    }
}

/// 3 Mbit/s, nothing else.
pub fn steady() -> Scenario {
    scenario("steady 3 Mb/s", Profile::constant(3e6))
}

/// The same, where one packet in twenty is lost by chance.
pub fn one_in_twenty() -> Scenario {
    scenario("1 in 20 lost", Profile { loss: 0.05, ..Profile::constant(3e6) })
}

/// The same, where one packet in five is lost by chance.
pub fn one_in_five() -> Scenario {
    scenario("1 in 5 lost", Profile { loss: 0.2, ..Profile::constant(3e6) })
}

/// From 0.6 to 3 Mbit/s after 20 s.
pub fn step_up() -> Scenario {
    Scenario {
        duration: 50 * SECOND,
        measured_from: 25 * SECOND,
        converges_from: 20 * SECOND,
        ..scenario("0.6 to 3 Mb/s", Profile { rates: vec![(0, 0.6e6), (20 * SECOND, 3e6)], ..Profile::constant(0.0) })
    }
}

/// From 3 to 0.6 Mbit/s after 20 s.
pub fn step_down() -> Scenario {
    Scenario {
        duration: 50 * SECOND,
        measured_from: 25 * SECOND,
        converges_from: 20 * SECOND,
        ..scenario("3 to 0.6 Mb/s", Profile { rates: vec![(0, 3e6), (20 * SECOND, 0.6e6)], ..Profile::constant(0.0) })
    }
}

/// Two flows, the second 10 s later, its frames between those of the first.
pub fn two_flows() -> Scenario {
    Scenario {
        flows: vec![0, 10 * SECOND + 13 * MILLISECOND],
        duration: 120 * SECOND,
        measured_from: 40 * SECOND,
        ..scenario("two flows, 3 Mb/s", Profile::constant(3e6))
    }
}

/// Others take a third from 20 s to 40 s.
pub fn cross_traffic() -> Scenario {
    let cross = vec![Cross { rate: 1e6, from: 20 * SECOND, to: 40 * SECOND }];
    scenario("1 of 3 Mb/s others'", Profile { cross, ..Profile::constant(3e6) })
}

/// A queue of a few packets.
pub fn shallow() -> Scenario {
    scenario("queue of 20 ms", Profile { queue_ms: 20.0, ..Profile::constant(3e6) })
}

/// Delay that varies by itself.
pub fn jitter() -> Scenario {
    scenario("jitter of 15 ms", Profile { jitter: 15 * MILLISECOND, ..Profile::constant(3e6) })
}

/// An encoder that for 20 s produces a sixth of what the path carries.
pub fn little_to_send() -> Scenario {
    Scenario {
        encoder: vec![(0, 0.5e6), (20 * SECOND, f64::INFINITY)],
        duration: 50 * SECOND,
        measured_from: 25 * SECOND,
        converges_from: 20 * SECOND,
        ..scenario("0.5 Mb/s of 3 used", Profile::constant(3e6))
    }
}

/// Little, and far away.
pub fn thin() -> Scenario {
    scenario("0.2 Mb/s, 600 ms away", Profile { delay: 300 * MILLISECOND, ..Profile::constant(0.2e6) })
}

/// Much.
pub fn thick() -> Scenario {
    scenario("30 Mb/s", Profile::constant(30e6))
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        steady(),
        one_in_twenty(),
        one_in_five(),
        step_up(),
        step_down(),
        two_flows(),
        cross_traffic(),
        shallow(),
        jitter(),
        little_to_send(),
        thin(),
        thick(),
    ]
}
