//! What the application may ask of plugins, and what they tell it.

use sandbar_host::{ControlError, Event, Level, Metric, SessionSpec};
use sandbar_tests::media::Source;
use sandbar_tests::peers::World;
use serde_json::json;

use crate::{counts, faults, guests, listener, member, published, report, seen, session, tell};

#[test]
fn a_plugin_answers_or_refuses() {
    for guest in [guests::TYPED_COUNTER, guests::BATCHED_COUNTER] {
        let mut source = Source::video(7);
        let (mut world, peer) = listener([member(guest, json!({}))], &source);
        world.receive(peer, source.packets(4));
        assert_eq!(counts(&mut world, peer, 0)["read"], 4);
        let refusal = world.with(peer, |shard, now, session| shard.control(now, session, 0, "dance"));
        let refusal = refusal.expect_err("it only counts").to_string();
        assert!(refusal.contains("-counter") && refusal.contains("\"dance\"; the only request is counts"), "{refusal}");
        assert_eq!(faults(&world), [], "a refusal is not a fault");
    }
}

#[test]
fn who_is_not_there_is_named() {
    let (mut world, peer) = listener([member(guests::PUPPET, json!({}))], &Source::video(7));
    let error = world.with(peer, |shard, now, session| shard.control(now, session, 3, "")).expect_err("no such member");
    assert!(matches!(error, ControlError::Chain(_)));
    assert!(error.to_string().contains("1 members"), "{error}");
}

#[test]
fn what_a_plugin_publishes_reaches_the_application_with_its_source() {
    let mut world = World::new(1);
    let spec = member(guests::PUPPET, json!({}));
    let peer = world.open(SessionSpec { name: "stage".into(), ..session([member(guests::TRAP, json!({})), spec]) });
    let commands = json!([
        { "do": "publish", "name": "level", "json": "{\"db\":-30}" },
        { "do": "log", "line": "all is well" },
        { "do": "publish", "name": "level", "json": "{\"db\":-20}" },
    ]);
    tell(&mut world, peer, 1, commands);
    let told: Vec<_> = world.events.iter().map(|(_, event)| event).collect();
    assert_eq!(told.len(), 3);
    match told[0] {
        Event::Published { from, name, json } => {
            assert_eq!(
                (from.plugin.as_str(), from.member, from.session_name.as_str()),
                ("sandbar-guest-puppet", 1, "stage")
            );
            assert_eq!((name.as_str(), json.as_str()), ("level", "{\"db\":-30}"));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(told[1], Event::Log { level: Level::Info, message, .. } if message == "all is well"));
    assert_eq!(published(&world)[1].1, "{\"db\":-20}");
}

#[test]
fn counters_and_gauges_are_in_the_report_of_their_session() {
    let mut world = World::new(1);
    let spec = member(guests::PUPPET, json!({})).isolated(sandbar_host::Isolation::Tenant);
    let (one, other) = (world.open(session([spec.clone()])), world.open(session([spec])));
    let commands = json!([
        { "do": "count", "name": "frames", "add": 3 },
        { "do": "gauge", "name": "rate", "value": 1.5 },
        { "do": "count", "name": "frames", "add": 4 },
        { "do": "gauge", "name": "rate", "value": 2.5 },
    ]);
    tell(&mut world, one, 0, commands);
    let metrics = report(&mut world, one, 0).metrics;
    assert_eq!(metrics, [("frames".to_owned(), Metric::Count(7)), ("rate".to_owned(), Metric::Gauge(2.5))]);
    assert_eq!(report(&mut world, other, 0).metrics, []);
}

#[test]
fn a_report_counts_what_came_went_and_stayed() {
    let mut source = Source::video(7);
    let chain = [member(guests::BATCHED_COUNTER, json!({ "drop_every": 4 })), member(guests::PUPPET, json!({}))];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, source.packets(20));
    let first = report(&mut world, peer, 0);
    assert_eq!((first.packets_in, first.packets_out, first.dropped, first.emitted), (20, 15, 5, 0));
    assert_eq!((first.plugin.as_str(), first.faults.total()), ("sandbar-guest-batched-counter", 0));
    assert!(first.calls >= 1 && first.memory_bytes > 0);
    let second = report(&mut world, peer, 1);
    assert_eq!((second.packets_in, second.packets_out), (15, 15));
    let counts = world.with(peer, |shard, _, session| shard.session_report(session)).expect("a session").counts;
    assert_eq!((counts.read, counts.delivered, counts.written, counts.sent), (20, 15, 0, 0));
}

#[test]
fn a_plugin_is_told_of_its_session() {
    let mut world = World::new(1);
    let spec = SessionSpec {
        mtu: 900,
        cname: "ada@example.org".into(),
        rtcp_ssrc: Some(0xabcd_1234),
        ..session([member(guests::PUPPET, json!({}))])
    };
    let peer = world.open(spec);
    let seen = seen(&mut world, peer, 0);
    assert_eq!(
        (&seen["mtu"], &seen["cname"], &seen["rtcp_ssrc"]),
        (&json!(900), &json!("ada@example.org"), &json!(0xabcd_1234u32))
    );
}

#[test]
fn random_numbers_come_from_the_sessions_seed() {
    let numbers = |seed| {
        let mut world = World::new(1);
        let peer = world.open(SessionSpec { seed, ..session([member(guests::PUPPET, json!({}))]) });
        tell(&mut world, peer, 0, json!([{ "do": "random" }, { "do": "random" }, { "do": "random" }]))
    };
    let first = numbers(1);
    assert_eq!(first, numbers(1));
    assert_ne!(first, numbers(2));
    assert!(first[0] != first[1] && first[1] != first[2]);
}

#[test]
fn reports_and_events_are_json_for_machines() {
    let mut source = Source::video(7);
    let spec = member(guests::TRAP, json!({ "after": 2 })).on_fault(sandbar_host::FaultPolicy::Bypass);
    let (mut world, peer) = listener([spec, member(guests::PUPPET, json!({}))], &source);
    world.receive(peer, source.packets(1));
    tell(&mut world, peer, 1, json!([{ "do": "count", "name": "frames", "add": 3 }]));
    for _ in 0..3 {
        world.receive(peer, source.packets(1));
    }
    let report = world.with(peer, |shard, _, session| shard.session_report(session)).expect("a session");
    let report = serde_json::to_value(&report).expect("JSON");
    assert_eq!(report["name"], "session");
    let [failed, running] = [&report["members"][0], &report["members"][1]];
    assert_eq!((&failed["state"], &running["state"]), (&json!("bypassed"), &json!("running")));
    assert_eq!((&failed["faults"]["trap"], &failed["plugin"]), (&json!(1), &json!("sandbar-guest-trap")));
    assert_eq!((&running["packets_in"], &running["metrics"]), (&json!(4), &json!([["frames", 3]])));
    let events: Vec<_> = world.events.iter().map(|(_, event)| serde_json::to_value(event).expect("JSON")).collect();
    let fault = events.iter().find(|event| event["event"] == "fault").expect("a fault");
    assert_eq!((&fault["kind"], &fault["action"]), (&json!("trap"), &json!("bypassed")));
    assert_eq!(fault["from"]["session_name"], "session");
}
