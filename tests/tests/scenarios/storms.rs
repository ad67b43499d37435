//! Too much of everything is bounded: packets, words, timers.

use std::time::Duration;

use sandbar_host::{Event, FaultAction, FaultKind, FaultPolicy, Kind, Limits, MemberSpec, Metric};
use sandbar_tests::media::{Judge, Source, Verdict, control};
use serde_json::json;

use crate::{counts, faults, guests, heard, listener, member, published, report, sent, session, speaker};

fn metric(metrics: &[(String, Metric)], name: &str) -> f64 {
    match metrics.iter().find(|(known, _)| known == name) {
        Some((_, Metric::Count(count))) => *count as f64,
        Some((_, Metric::Gauge(value))) => *value,
        None => 0.0,
    }
}

#[test]
fn an_emission_storm_is_cut_off_at_the_quota_of_a_call() {
    let limits = Limits { emitted_packets: 50, ..Limits::default() };
    let storm = member(guests::EMISSION_STORM, json!({ "packets": 5_000 }));
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([MemberSpec { limits, ..storm }], &source);
    for _ in 0..4 {
        world.send(peer, [source.packet()]);
    }
    let report = report(&mut world, peer, 0);
    assert_eq!(metric(&report.metrics, "sent"), 200.0);
    assert_eq!(metric(&report.metrics, "refused"), 4.0 * 4_950.0);
    assert_eq!(report.emitted, 200);
    assert_eq!(world.peer(peer).sent(Kind::Rtp).count(), 204);
    assert_eq!(published(&world), [], "no other error was given");
}

#[test]
fn an_emission_storm_is_cut_off_at_the_bytes_of_a_call() {
    let limits = Limits { emitted_bytes: 11_200, ..Limits::default() };
    let storm = member(guests::EMISSION_STORM, json!({ "packets": 5_000, "payload": 100 }));
    let mut source = Source::video(7);
    let (mut world, peer) = speaker([MemberSpec { limits, ..storm }], &source);
    world.send(peer, [source.packet()]);
    // Each has a header of 12 bytes.
    assert_eq!(metric(&report(&mut world, peer, 0).metrics, "sent"), 100.0);
}

#[test]
fn a_storm_of_rtcp_is_cut_off_too() {
    let limits = Limits { emitted_packets: 50, ..Limits::default() };
    let storm = member(guests::EMISSION_STORM, json!({ "packets": 5_000, "rtcp": true }));
    let mut source = Source::video(7);
    let (mut world, peer) = listener([MemberSpec { limits, ..storm }], &source);
    world.receive(peer, [source.packet()]);
    assert_eq!(metric(&report(&mut world, peer, 0).metrics, "sent"), 50.0);
    assert!(world.peer(peer).sent(Kind::Rtcp).all(|compound| compound.len() <= 1200));
}

#[test]
fn plugins_that_answer_each_other_without_end_are_stopped() {
    // Inner answers each packet read with RTCP; outer answers each RTCP written with a packet read.
    let mut source = Source::video(7);
    let header = source.nth(0).slice(..12).to_vec();
    let answer = json!([{ "do": "emit-rtp", "ssrc": 7, "header": header, "payload": [1] }]);
    let outer = member(guests::PUPPET, json!({ "rtcp": "observe", "on_write_rtcp": answer }));
    let feedback = json!([{ "do": "emit-rtcp", "packets": control::picture_loss(1, 7).to_vec() }]);
    let inner = member(guests::PUPPET, json!({ "on_read": feedback }));
    let (mut world, peer) = listener([outer, inner], &source);
    world.receive(peer, [source.packet()]);
    assert!(world.events.iter().any(|(_, event)| matches!(event, Event::Storm { .. })), "{:?}", world.events);
    assert!(world.peer(peer).delivered.len() < 100);
    let dropped: u64 = [0, 1].map(|member| report(&mut world, peer, member).dropped).iter().sum();
    let discarded = world.events.iter().map(|(_, event)| match event {
        Event::Storm { discarded } => *discarded as u64,
        _ => 0,
    });
    assert_eq!(dropped, discarded.sum::<u64>(), "what is discarded is accounted for");
    world.run_for(Duration::from_secs(1));
    let (mut quiet, other) = (Source::video(9), world.open(session([])));
    world.receive(other, quiet.packets(3));
    assert_eq!(heard(&world, other, &quiet), Verdict::perfect(3));
}

#[test]
fn what_is_let_go_while_a_neighbour_does_not_return_goes_its_way() {
    let hold = |way: &str| member(guests::PROBE, json!({ way: "transform-headers", format!("on_{way}"): "hold" }));
    let looping = member(guests::ENDLESS_LOOP, json!({ "at": "read-rtp" })).on_fault(FaultPolicy::Bypass);
    // The timers of both sessions come together, and what the first one lets go is not dealt with before the deadline.
    let mut source = Source::video(7);
    let (mut world, peer) = listener([hold("read"), looping], &source);
    let other = world.open(session([hold("write")]));
    let mut quiet = Source::video(9);
    world.bind_local(other, quiet.info());
    world.receive(peer, [source.packet()]);
    world.send(other, quiet.packets(3));
    world.run_for(Duration::from_millis(50));
    assert_eq!(faults(&world), [(FaultKind::Deadline, FaultAction::Bypassed)]);
    let sent: Vec<_> = sent(&world, other);
    assert_eq!(Judge::all(&quiet, &sent).verdict(3), Verdict::perfect(3));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(1));
}

#[test]
fn a_log_storm_is_cut_off_and_counted() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([member(guests::LOG_STORM, json!({ "count": 300 }))], &source);
    let other = world.open(session([member(guests::PUPPET, json!({}))]));
    world.receive(peer, source.packets(5));
    assert_eq!(faults(&world), []);
    let said = world.events.len();
    assert!(said <= 200, "{said} within one second");
    world.run_for(Duration::from_secs(1));
    world.receive(peer, source.packets(5));
    assert!(world.events.len() > said, "and in the next second it may speak again");
    assert!(world.events.len() <= 400);
    let metrics = report(&mut world, peer, 0).metrics;
    assert_eq!(metrics.len(), 64, "counters and gauges are bounded");
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(10));
    world.control(other, 0, &json!([{ "do": "log", "line": "still heard" }]).to_string());
    assert!(
        world.events.iter().any(|(_, event)| matches!(event, Event::Log { message, .. } if message == "still heard"))
    );
}

#[test]
fn long_lines_are_cut_and_long_documents_refused() {
    let limits = Limits { message: 100, ..Limits::default() };
    let storm = member(guests::LOG_STORM, json!({ "count": 1, "length": 5_000 }));
    let mut source = Source::video(7);
    let (mut world, peer) = listener([MemberSpec { limits, ..storm }], &source);
    world.receive(peer, [source.packet()]);
    let lines: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Log { message, .. } => Some(message.len()),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [100]);
    assert_eq!(published(&world), []);
}

#[test]
fn a_timer_storm_wakes_a_plugin_once_a_millisecond_and_holds_nobody_up() {
    let source = Source::video(7);
    let watch = member(guests::BATCHED_COUNTER, json!({ "publish_ms": 100 }));
    let (mut world, peer) = listener([member(guests::TIMER_STORM, json!({})), watch], &source);
    world.bind_local(peer, source.info());
    let mut source = source;
    for _ in 0..100 {
        world.receive(peer, [source.packet()]);
        world.run_for(Duration::from_millis(10));
    }
    assert_eq!(faults(&world), []);
    let woken: u64 = world.control(peer, 0, "").parse().expect("a number");
    // The session and two streams, for a second.
    assert!((2_000..=3_100).contains(&woken), "{woken}");
    assert_eq!(counts(&mut world, peer, 1)["timeouts"], 10);
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(100));
}
