//! The table: acts in figures, and the chain they are about. No line is longer than 79 columns.

use sandbar_host::MemberReport;

use super::acts::Act;
use super::ledger::Figures;
use super::link::Profile;
use super::view::{Scene, member_state, plugin_name};

/// What this is about.
pub(super) fn title() -> [String; 2] {
    let Profile { loss, delay, .. } = Profile::BAD;
    [
        "Sandbar: plugins come, change and fail in a live session, and media flows on".to_owned(),
        format!(
            "  publisher → relay and plugins → link: {:.0} % loss, {} ms, reordering → viewer",
            loss * 100.0,
            delay.as_millis()
        ),
    ]
}

/// A row for each act, below two rows that say what is in it.
pub(super) fn figures(scene: &Scene<'_>) -> Vec<String> {
    let row = |act: &str, [sent, lost, missing, resent, disturbed, slowest]: [&str; 6]| {
        format!("{act:<20}{sent:>6}{lost:>9}{missing:>13}{resent:>8}{disturbed:>11}{slowest:>10}")
    };
    let mut rows = vec![
        row("", ["", "lost", "missing", "sent", "disturbed", "slowest"]),
        row("  act", ["sent", "by link", "at viewer", "again", "by relay", "in relay"]),
    ];
    for act in Act::ALL {
        let marker = if scene.act == Some(act) { "▸" } else { " " };
        let name = format!("{marker} {} {}", act.number(), act.title());
        let Some((_, figures)) = scene.acts.iter().find(|(begun, _)| *begun == act) else {
            rows.push(row(&name, [""; 6]));
            continue;
        };
        let Figures { sent, lost, missing, missing_percent, resent, disorder, resent_disorder, through_relay, .. } =
            figures;
        rows.push(row(
            &name,
            [
                &sent.to_string(),
                &lost.to_string(),
                &format!("{missing} {missing_percent:>5.1} %"),
                &resent.to_string(),
                &disorder.plus(*resent_disorder).total().to_string(),
                &format!("{:.1} ms", through_relay.longest_ms),
            ],
        ));
    }
    rows
}

/// A row for each plugin, below one that says what is in it.
pub(super) fn chain(members: &[MemberReport]) -> Vec<String> {
    let row = |[plugin, version, state, calls, time, memory]: [&str; 6]| {
        format!("  {plugin:<17}{version:<9}{state:<26}{calls:>6}{time:>10}{memory:>9}")
    };
    let mut rows = vec![row(["viewer's chain", "version", "state", "calls", "each", "memory"])];
    rows.extend(members.iter().map(|member| {
        let (calls, time, memory) = match member.calls {
            0 => Default::default(),
            calls => (
                calls.to_string(),
                format!("{:.1} µs", member.time_ns as f64 / calls as f64 / 1e3),
                format!("{} KiB", member.memory_bytes >> 10),
            ),
        };
        row([plugin_name(&member.plugin), &member.version, &member_state(member), &calls, &time, &memory])
    }));
    if members.is_empty() {
        rows.push("  (empty)".to_owned());
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::view::happening;
    use super::*;

    #[test]
    fn rows_fit_into_a_terminal() {
        let figures = Figures { sent: 12_345, lost: 617, missing: 617, missing_percent: 5.0, ..Figures::default() };
        let acts = Act::ALL.map(|act| (act, figures));
        let scene = Scene { elapsed: Duration::ZERO, act: Some(Act::Crash), acts: &acts, chain: &[] };
        let rows = [super::figures(&scene), chain(&[]), title().to_vec()].concat();
        let announced = Act::ALL.map(|act| happening(Duration::from_secs(100), act.announcement()));
        let rows = [rows, announced.to_vec()].concat();
        assert!(rows.iter().all(|row| row.chars().count() < 80), "{rows:#?}");
    }
}
