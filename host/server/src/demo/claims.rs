//! What the demonstration claims, held against what was measured.

use std::time::Duration;

use sandbar_host::{FaultKind, MemberState};
use serde::Serialize;

use super::acts::Act;
use super::ledger::Figures;
use super::order::Disorder;
use super::outcome::{Incident, Outcome, ms};
use super::view::plugin_name;

/// The longest pause that a plugin may cause. A call is stopped after a few milliseconds of processor time; the rest is
/// for machines that have other things to do.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Requests and retransmissions are lost, too: one packet in so many may stay missing where losses are repaired.
const ONE_MISSING_IN: u64 = 200;

/// A claim.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Claim {
    pub(super) claim: &'static str,
    /// The same for people.
    pub(super) title: &'static str,
    pub(super) holds: bool,
    /// What was measured, whether it holds or not.
    pub(super) measured: String,
}

/// All claims, in the order of the acts.
pub(super) fn judge(outcome: &Outcome) -> Vec<Claim> {
    vec![
        loss_shows(outcome.of(Act::Bare)),
        loss_is_repaired(outcome.of(Act::Repair)),
        swaps_disturb_nothing(outcome),
        swaps_hand_over(outcome),
        crash_is_contained(outcome),
        loop_is_stopped(outcome),
        media_is_untouched(outcome),
    ]
}

fn loss_shows(act: &Figures) -> Claim {
    let Figures { sent, lost, missing, missing_percent, .. } = act;
    Claim {
        claim: "loss-shows",
        title: "Without plugins, loss shows",
        holds: *lost > 0 && missing == lost && act.resent == 0,
        measured: format!(
            "The link lost {lost} of {sent} packets, and the viewer misses {missing} ({missing_percent:.1} %)."
        ),
    }
}

fn loss_is_repaired(act: &Figures) -> Claim {
    let Figures { sent, lost, repaired, missing, missing_percent, .. } = act;
    Claim {
        claim: "loss-is-repaired",
        title: "Loaded into the live session, the nack-responder repairs it",
        holds: *lost > 0 && *repaired > 0 && is_repaired(act),
        measured: format!(
            "The link lost {lost} of {sent} packets, and the viewer misses {missing} ({missing_percent:.1} %): \
             {repaired} came as retransmissions, half of them within {:.0} ms of being sent first.",
            act.until_repaired.median_ms
        ),
    }
}

fn swaps_disturb_nothing(outcome: &Outcome) -> Claim {
    let (act, swaps) = (outcome.of(Act::Swap), &outcome.swaps);
    let [old, new] = &swaps.versions;
    Claim {
        claim: "swaps-disturb-nothing",
        title: "A swap disturbs no packet",
        holds: swaps.swaps > 0
            && old != new
            && swaps.digests[0] != swaps.digests[1]
            && act.forwarded == act.sent
            && act.disorder.total() == 0,
        measured: format!(
            "Versions {old} and {new} took each other's place {} times, in {:.1} ms at most. {}.",
            swaps.swaps,
            swaps.longest_ms,
            passage(act),
        ),
    }
}

fn swaps_hand_over(outcome: &Outcome) -> Claim {
    let (act, swaps) = (outcome.of(Act::Swap), &outcome.swaps);
    Claim {
        claim: "swaps-hand-over-state",
        title: "Each version goes on where the other stopped",
        holds: swaps.spans_with_retransmissions >= 2 && act.resent_disorder.total() == 0 && is_repaired(act),
        measured: format!(
            "{} retransmissions were made, in {} of the {} spans between swaps: by their numbers, {}. The viewer \
             misses {} packets.",
            act.resent,
            swaps.spans_with_retransmissions,
            swaps.swaps + 1,
            disorder(act.resent_disorder),
            act.missing,
        ),
    }
}

fn crash_is_contained(outcome: &Outcome) -> Claim {
    let (act, crash) = (outcome.of(Act::Crash), &outcome.crash);
    Claim {
        claim: "crash-is-contained",
        title: "A plugin that crashes ends alone",
        holds: is_bypassed(crash, FaultKind::Trap) && is_undisturbed(act),
        measured: format!("{}. {}; the viewer misses {}.", end(crash), passage(act), act.missing),
    }
}

fn loop_is_stopped(outcome: &Outcome) -> Claim {
    let (act, incident) = (outcome.of(Act::Loop), &outcome.r#loop);
    Claim {
        claim: "loop-is-stopped",
        title: "A plugin that loops for ever is stopped",
        holds: is_bypassed(incident, FaultKind::Deadline)
            && is_undisturbed(act)
            && incident.pause_ms > 0.0
            && incident.pause_ms <= ms(LONGEST_PAUSE),
        measured: format!(
            "{}. It held up a packet for {:.1} ms at most (half of them take {:.1} ms through the relay). {}; the \
             viewer misses {}.",
            end(incident),
            incident.pause_ms,
            act.through_relay.median_ms,
            passage(act),
            act.missing,
        ),
    }
}

fn media_is_untouched(outcome: &Outcome) -> Claim {
    let all = outcome.figures.iter().map(|(_, figures)| figures).chain([&outcome.between]);
    let whole = all.fold(Figures::default(), |sum, act| Figures {
        sent: sum.sent + act.sent,
        forwarded: sum.forwarded + act.forwarded,
        damaged: sum.damaged + act.damaged,
        disorder: sum.disorder.plus(act.disorder).plus(act.resent_disorder),
        ..Figures::default()
    });
    let damaged = match whole.damaged {
        0 => "All that reached the viewer have the bytes that were sent".to_owned(),
        damaged => format!("{damaged} that reached the viewer have other bytes than were sent"),
    };
    Claim {
        claim: "media-is-untouched",
        title: "All that time, media was untouched",
        holds: whole.sent == whole.forwarded && whole.disorder.total() == 0 && whole.damaged == 0,
        measured: format!("{}. {damaged}.", passage(&whole)),
    }
}

fn is_repaired(act: &Figures) -> bool {
    act.resent > 0 && act.missing * ONE_MISSING_IN <= act.sent
}

fn is_undisturbed(act: &Figures) -> bool {
    act.sent == act.forwarded && act.disorder.total() == 0 && act.resent_disorder.total() == 0 && is_repaired(act)
}

fn is_bypassed(incident: &Incident, kind: FaultKind) -> bool {
    incident.fault.as_ref().is_some_and(|fault| fault.kind == kind)
        && incident.state == Some(MemberState::Bypassed)
        && incident.forwarded_after > 0
}

/// How it ended for a plugin.
fn end(incident: &Incident) -> String {
    let state = match incident.state {
        Some(MemberState::Bypassed) => "is bypassed",
        _ => "is not bypassed",
    };
    let plugin = plugin_name(&incident.plugin);
    match &incident.fault {
        Some(fault) => format!("The {plugin} failed ({}) and {state}", fault.kind),
        None => format!("The {plugin} has not failed and {state}"),
    }
}

/// How packets got through the relay.
fn passage(act: &Figures) -> String {
    format!("{} of {} packets left the relay, {}", act.forwarded, act.sent, disorder(act.disorder))
}

fn disorder(found: Disorder) -> String {
    if found.total() == 0 {
        return "none lost, duplicated or reordered".to_owned();
    }
    format!("{} lost, {} duplicated, {} reordered", found.lost, found.duplicated, found.reordered)
}

#[cfg(test)]
mod tests {
    use sandbar_host::Instant;

    use super::super::ledger::Spread;
    use super::super::outcome::Swaps;
    use super::super::script::Fault;
    use super::*;
    use crate::relay::RelayReport;

    fn act() -> Figures {
        Figures { sent: 400, forwarded: 400, lost: 20, repaired: 20, resent: 22, ..Figures::default() }
    }

    fn incident(kind: FaultKind) -> Incident {
        let fault = Fault { kind, message: String::new(), at: Instant::ZERO };
        let state = Some(MemberState::Bypassed);
        let (plugin, version) = ("sandbar-example-x".to_owned(), "0.1.0".to_owned());
        Incident { plugin, version, fault: Some(fault), state, pause_ms: 4.0, forwarded_after: 9 }
    }

    /// As it should be.
    fn outcome() -> Outcome {
        let bare = Figures { repaired: 0, resent: 0, missing: 20, missing_percent: 5.0, ..act() };
        Outcome {
            seconds: 20.0,
            figures: Act::ALL.map(|number| (number, if number == Act::Bare { bare } else { act() })),
            between: Figures { sent: 5, forwarded: 5, ..Figures::default() },
            loaded: Vec::new(),
            swaps: Swaps {
                versions: ["0.1.0".to_owned(), "0.2.0".to_owned()],
                digests: ["a".to_owned(), "b".to_owned()],
                swaps: 3,
                longest_ms: 1.0,
                spans_with_retransmissions: 4,
            },
            crash: incident(FaultKind::Trap),
            r#loop: incident(FaultKind::Deadline),
            kernel_drops: Some(0),
            relay: RelayReport::default(),
        }
    }

    fn broken(change: impl FnOnce(&mut Outcome)) -> Vec<&'static str> {
        let mut outcome = outcome();
        change(&mut outcome);
        judge(&outcome).into_iter().filter(|claim| !claim.holds).map(|claim| claim.claim).collect()
    }

    fn figures(outcome: &mut Outcome, act: Act) -> &mut Figures {
        &mut outcome.figures[act.number() - 1].1
    }

    #[test]
    fn all_claims_hold_when_everything_is_as_it_should_be() {
        assert!(broken(|_| {}).is_empty());
    }

    #[test]
    fn a_swap_that_loses_duplicates_or_reorders_a_packet_breaks_its_claim() {
        for change in [
            |found: &mut Disorder| found.lost = 1,
            |found: &mut Disorder| found.duplicated = 1,
            |found: &mut Disorder| found.reordered = 1,
        ] {
            let media = broken(|outcome| change(&mut figures(outcome, Act::Swap).disorder));
            assert_eq!(media, ["swaps-disturb-nothing", "media-is-untouched"]);
            let retransmissions = broken(|outcome| change(&mut figures(outcome, Act::Swap).resent_disorder));
            assert_eq!(retransmissions, ["swaps-hand-over-state", "media-is-untouched"]);
        }
        let never_left = broken(|outcome| figures(outcome, Act::Swap).forwarded -= 1);
        assert_eq!(never_left, ["swaps-disturb-nothing", "media-is-untouched"]);
    }

    #[test]
    fn a_swap_by_the_same_component_is_none() {
        assert_eq!(broken(|outcome| outcome.swaps.digests[1] = "a".to_owned()), ["swaps-disturb-nothing"]);
        assert_eq!(broken(|outcome| outcome.swaps.spans_with_retransmissions = 1), ["swaps-hand-over-state"]);
    }

    #[test]
    fn loss_has_to_show_and_to_be_repaired() {
        assert_eq!(broken(|outcome| figures(outcome, Act::Bare).missing = 19), ["loss-shows"]);
        let nothing = |outcome: &mut Outcome| {
            *figures(outcome, Act::Bare) = Figures { sent: 400, forwarded: 400, ..Figures::default() }
        };
        assert_eq!(broken(nothing), ["loss-shows"]);
        assert_eq!(broken(|outcome| figures(outcome, Act::Repair).missing = 3), ["loss-is-repaired"]);
        assert!(broken(|outcome| figures(outcome, Act::Repair).missing = 2).is_empty());
        assert_eq!(broken(|outcome| figures(outcome, Act::Repair).repaired = 0), ["loss-is-repaired"]);
    }

    #[test]
    fn a_plugin_has_to_fail_as_announced_and_to_be_bypassed() {
        assert_eq!(broken(|outcome| outcome.crash.fault = None), ["crash-is-contained"]);
        assert_eq!(broken(|outcome| outcome.crash = incident(FaultKind::Deadline)), ["crash-is-contained"]);
        assert_eq!(broken(|outcome| outcome.r#loop.state = Some(MemberState::Restarting)), ["loop-is-stopped"]);
        assert_eq!(broken(|outcome| outcome.r#loop.pause_ms = 251.0), ["loop-is-stopped"]);
        assert_eq!(broken(|outcome| outcome.r#loop.forwarded_after = 0), ["loop-is-stopped"]);
        assert_eq!(broken(|outcome| figures(outcome, Act::Loop).missing = 100), ["loop-is-stopped"]);
    }

    #[test]
    fn a_packet_with_other_bytes_breaks_a_claim() {
        assert_eq!(broken(|outcome| outcome.between.damaged = 1), ["media-is-untouched"]);
        let spread = Spread { median_ms: 1e6, longest_ms: 1e6 };
        assert!(broken(|outcome| figures(outcome, Act::Swap).through_relay = spread).is_empty());
    }
}
