//! What a tenant may use: each quota kept and gone beyond, and never at another tenant's cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandbar_host::{
    ChainError, Clocks, Engine, EngineConfig, Event, FaultKind, FaultPolicy, Grants, Isolation, Kind, Limits,
    MemberSpec, MemberState, Plugin, Quota, QuotaExceeded, Quotas, SessionSpec, Tenant, TenantId,
};
use sandbar_tests::media::{Source, Verdict};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{faults, guests, heard, member, report, seen, session, standard, tell};

const ACME: TenantId = TenantId(7);
const OTHER: TenantId = TenantId(8);

fn puppet(config: serde_json::Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

/// A world in which the tenant `acme` has these quotas, and another tenant none.
fn world(quotas: Quotas) -> (World, Tenant) {
    let mut world = World::new(1);
    let tenant = Tenant::new("acme", quotas);
    world.set_tenant(ACME, &tenant);
    (world, tenant)
}

fn of(tenant: TenantId, members: impl IntoIterator<Item = MemberSpec>) -> SessionSpec {
    SessionSpec { tenant, ..session(members) }
}

/// The quotas that the world was told of.
fn exceeded(world: &World) -> Vec<(Quota, u64, u64)> {
    let exceeded = world.events.iter().filter_map(|(_, event)| match event {
        Event::Quota(QuotaExceeded { quota, limit, used, .. }) => Some((*quota, *limit, *used)),
        _ => None,
    });
    exceeded.collect()
}

fn listener(world: &mut World, tenant: TenantId, member: MemberSpec, source: &Source) -> PeerId {
    let peer = world.open(of(tenant, [member]));
    world.bind_remote(peer, source.info());
    peer
}

#[test]
fn sessions_are_counted_from_open_to_close() {
    let (mut world, tenant) = world(Quotas { sessions: Some(2), ..Quotas::default() });
    let first = world.open(of(ACME, []));
    world.open(of(ACME, []));
    let error = world.open_on(0, of(ACME, [])).unwrap_err();
    assert_eq!(error.to_string(), "the tenant acme has used up its quota of 2 sessions: 2 in use");
    assert!(world.open_on(0, of(OTHER, [])).is_ok(), "another tenant has its own");
    world.with(first, |shard, now, session| shard.close_session(now, session));
    assert_eq!(tenant.usage().sessions, 1);
    assert!(world.open_on(0, of(ACME, [])).is_ok());
    assert_eq!(tenant.usage().refused, [(Quota::Sessions, 1)]);
}

#[test]
fn a_session_that_does_not_open_counts_for_nothing() {
    let (mut world, tenant) = world(Quotas { sessions: Some(1), ..Quotas::default() });
    let refusing = || puppet(json!({ "unknown": 1 }));
    for _ in 0..3 {
        assert!(matches!(world.open_on(0, of(ACME, [refusing()])), Err(ChainError::Config { .. })));
    }
    let usage = tenant.usage();
    assert_eq!((usage.sessions, usage.instances, usage.memory_bytes, usage.timers), (0, 0, 0, 0));
}

#[test]
fn instances_are_counted_for_all_sessions_together() {
    let (mut world, tenant) = world(Quotas { instances: Some(2), ..Quotas::default() });
    let alone = || puppet(json!({})).isolated(Isolation::Session);
    let first = world.open(of(ACME, [alone()]));
    world.open(of(ACME, [alone()]));
    let error = world.open_on(0, of(ACME, [alone()])).unwrap_err();
    assert_eq!(error.to_string(), "the tenant acme has used up its quota of 2 instances: 2 in use");
    world.with(first, |shard, now, session| shard.remove_member(now, session, 0)).unwrap();
    assert_eq!(tenant.usage().instances, 1);
    assert!(world.with(first, |shard, now, session| shard.insert_member(now, session, 0, alone())).is_ok());
}

#[test]
fn memory_of_all_instances_is_one_sum_and_comes_back() {
    let (mut world, tenant) = world(Quotas::default());
    let peer = world.open(of(ACME, [puppet(json!({})).isolated(Isolation::Session)]));
    let one = tenant.usage().memory_bytes;
    assert!(one >= 1 << 20, "{one}");
    world.with(peer, |shard, now, session| shard.close_session(now, session));
    assert_eq!(tenant.usage().memory_bytes, 0);

    let (mut world, tenant) = self::world(Quotas { memory: Some(2 * one), ..Quotas::default() });
    for _ in 0..2 {
        world.open(of(ACME, [puppet(json!({})).isolated(Isolation::Session)]));
    }
    assert_eq!(tenant.usage().memory_bytes, 2 * one);
    match world.open_on(0, of(ACME, [puppet(json!({})).isolated(Isolation::Session)])) {
        Err(ChainError::Fault { kind: FaultKind::Memory, message, .. }) => {
            assert!(message.contains("the tenant acme has used up its quota of"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(tenant.usage().memory_bytes, 2 * one);
}

#[test]
fn a_history_counts_as_what_it_can_become() {
    let keeper = |history: u32| puppet(json!({ "access": "observe", "history": history }));
    let (mut world, tenant) = world(Quotas { memory: Some(8 << 20), ..Quotas::default() });
    let source = Source::video(7);
    let peer = world.open(of(ACME, [keeper(1000)]));
    let before = tenant.usage().memory_bytes;
    let stream = world.bind_remote(peer, source.info());
    let with = tenant.usage().memory_bytes;
    assert!(with - before > 1024 * 1200, "{before} {with}");
    world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
    assert_eq!(tenant.usage().memory_bytes, before);
    let greedy = world.open(of(ACME, [keeper(8192)]));
    let error = world.with(greedy, |shard, now, session| shard.bind_remote_stream(now, session, source.info()));
    assert!(matches!(error, Err(ChainError::Quota(QuotaExceeded { quota: Quota::Memory, .. }))), "{error:?}");
    assert!(world.with(peer, |shard, now, session| shard.bind_remote_stream(now, session, source.info())).is_ok());
}

#[test]
fn packets_that_are_held_are_one_sum_and_others_are_told_no() {
    let (mut world, tenant) = world(Quotas { held_packets: Some(5), ..Quotas::default() });
    let (mut source, mut second) = (Source::video(7), Source::video(7));
    let holder = || puppet(json!({ "packets": "hold" }));
    let peer = listener(&mut world, ACME, holder(), &source);
    let sibling = listener(&mut world, ACME, holder(), &second);
    let stranger = listener(&mut world, OTHER, holder(), &second);
    world.receive(peer, source.packets(3));
    world.receive(sibling, second.packets(4));
    world.receive(stranger, second.packets(4));
    assert_eq!(tenant.usage().held_packets, 5);
    assert_eq!(seen(&mut world, sibling, 0)["errors"], json!(["Quota", "Quota"]));
    assert_eq!(seen(&mut world, stranger, 0)["errors"], json!([]));
    assert_eq!(exceeded(&world), [(Quota::HeldPackets, 5, 5)], "told once in a while");
    let commands: Vec<_> = (0..3).map(|id| json!({ "do": "release", "id": id })).collect();
    assert_eq!(tell(&mut world, peer, 0, json!(commands)), ["ok"; 3]);
    assert_eq!(tenant.usage().held_packets, 2);
    world.with(sibling, |shard, now, session| shard.close_session(now, session));
    assert_eq!(tenant.usage().held_packets, 0);
}

#[test]
fn what_is_held_is_counted_through_swaps_and_faults() {
    let (mut world, tenant) = world(Quotas::default());
    let mut source = Source::video(7);
    let heir = || puppet(json!({ "packets": "hold", "on_bind": [{ "do": "held", "ssrc": 7 }] }));
    let peer = listener(&mut world, ACME, heir(), &source);
    world.receive(peer, source.packets(6));
    let held = tenant.usage();
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, heir())).unwrap();
    assert_eq!((tenant.usage().held_packets, tenant.usage().memory_bytes), (6, held.memory_bytes));
    let _ = world.with(peer, |shard, now, session| shard.control(now, session, 0, r#"[{ "do": "trap" }]"#));
    let usage = tenant.usage();
    assert_eq!((usage.held_packets, usage.instances, usage.memory_bytes), (0, 0, 0));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(6));
}

#[test]
fn timers_are_counted_while_they_are_set() {
    let (mut world, tenant) = world(Quotas { timers: Some(2), ..Quotas::default() });
    let source = Source::video(7);
    let peer = listener(&mut world, ACME, puppet(json!({})), &source);
    let sibling = listener(&mut world, ACME, puppet(json!({})), &source);
    let session = |ms: Option<u64>| json!({ "do": "wake", "in_ms": ms });
    let stream = |ms: Option<u64>| json!({ "do": "wake", "in_ms": ms, "ssrc": 7 });
    tell(&mut world, peer, 0, json!([session(Some(50)), session(Some(60)), stream(Some(100))]));
    tell(&mut world, sibling, 0, json!([session(Some(10))]));
    assert_eq!((tenant.usage().timers, exceeded(&world)), (2, vec![(Quota::Timers, 2, 2)]));
    tell(&mut world, peer, 0, json!([stream(None)]));
    tell(&mut world, sibling, 0, json!([session(Some(70))]));
    world.run_for(Duration::from_millis(200));
    assert_eq!(tenant.usage().timers, 0);
    let rung = |seen: serde_json::Value| seen["timeouts"].as_array().map(Vec::len);
    assert_eq!((rung(seen(&mut world, peer, 0)), rung(seen(&mut world, sibling, 0))), (Some(1), Some(1)));
    tell(&mut world, peer, 0, json!([{ "do": "wake-every", "ms": 10 }, stream(Some(500))]));
    world.run_for(Duration::from_millis(100));
    assert_eq!(tenant.usage().timers, 2, "a ticker is set, whenever it ticks");
    world.with(peer, |shard, now, session| shard.close_session(now, session));
    assert_eq!(tenant.usage().timers, 0);
}

#[test]
fn words_and_metrics_and_values_are_bounded() {
    let quotas = Quotas { messages: Some(3), metrics: Some(2), attribute_bytes: Some(10), ..Quotas::default() };
    let (mut world, tenant) = world(quotas);
    let source = Source::video(7);
    let peer = listener(&mut world, ACME, puppet(json!({})), &source);
    let log = json!({ "do": "log", "line": "words" });
    let count = |name: &str| json!({ "do": "count", "name": name, "add": 1 });
    let set = |key: &str, value: Option<&str>| json!({ "do": "set", "key": key, "value": value });
    tell(&mut world, peer, 0, json!([log, log, log, log, log]));
    tell(&mut world, peer, 0, json!([count("a"), count("b"), count("c"), count("a")]));
    let answers =
        tell(&mut world, peer, 0, json!([set("four", Some("1234")), set("k", Some("v")), set("l", Some("v"))]));
    assert_eq!(answers, ["ok", "ok", "Quota"]);
    tell(&mut world, peer, 0, json!([set("four", None)]));
    assert_eq!(tell(&mut world, peer, 0, json!([set("l", Some("v"))])), ["ok"]);
    let usage = tenant.usage();
    assert_eq!((usage.messages, usage.metrics, usage.attribute_bytes), (3, 2, 4));
    let lines = world.events.iter().filter(|(_, event)| matches!(event, Event::Log { .. })).count();
    assert_eq!(lines, 3);
    assert_eq!(report(&mut world, peer, 0).unheard, 3);
    let told: Vec<_> = exceeded(&world).into_iter().map(|(quota, ..)| quota).collect();
    assert_eq!(told, [Quota::Messages, Quota::Metrics, Quota::AttributeBytes]);
    world.run_for(Duration::from_secs(1));
    tell(&mut world, peer, 0, json!([log]));
    assert_eq!(tenant.usage().messages, 4, "words come back with time");
}

#[test]
fn no_tenant_makes_more_of_the_packets_than_it_may() {
    let quotas = Quotas { emitted_packets: Some(100), ..Quotas::default() };
    let (mut world, tenant) = world(quotas);
    let mut source = Source::video(7);
    let storm = || member(guests::EMISSION_STORM, json!({ "packets": 80 }));
    let speaker = |world: &mut World, tenant| {
        let peer = world.open(of(tenant, [storm()]));
        world.bind_local(peer, source.info());
        peer
    };
    let (first, second) = (speaker(&mut world, ACME), speaker(&mut world, ACME));
    let stranger = speaker(&mut world, OTHER);
    for peer in [first, second, stranger] {
        world.send(peer, [source.packet()]);
    }
    let sent = |world: &World, peer: PeerId| world.peer(peer).sent(Kind::Rtp).count();
    assert_eq!((sent(&world, first), sent(&world, second), sent(&world, stranger)), (81, 21, 81));
    assert_eq!(exceeded(&world), [(Quota::EmittedPackets, 100, 100)]);
    world.run_for(Duration::from_millis(500));
    world.send(first, [source.packet()]);
    assert_eq!((sent(&world, first), tenant.usage().emitted_packets), (81 + 1 + 50, 150));

    let (mut world, tenant) = self::world(Quotas { emitted_bytes: Some(1120), ..Quotas::default() });
    let peer = world.open(of(ACME, [member(guests::EMISSION_STORM, json!({ "packets": 80, "payload": 100 }))]));
    world.bind_local(peer, source.info());
    world.send(peer, [source.packet()]);
    assert_eq!((tenant.usage().emitted_packets, tenant.usage().emitted_bytes), (10, 1120));
}

/// A clock by which every reading takes a tenth of a millisecond.
fn slow_clock() -> u64 {
    static READ: AtomicU64 = AtomicU64::new(0);
    READ.fetch_add(100_000, Ordering::Relaxed)
}

#[test]
fn a_tenant_without_processor_time_goes_without_its_plugins_and_others_do_not() {
    let clocks = Clocks { monotonic: Some(slow_clock), thread_cpu: None };
    let engine = Engine::new(EngineConfig { clocks, ..EngineConfig::default() }).unwrap();
    let plugin = Plugin::load(&engine, guests::PUPPET, &Grants { wasi: false, ..Grants::ALL }).unwrap();
    // One call in 16 is timed and stands for all: each counts as 0.1 ms here.
    let quotas = Quotas { processor: Some(1), processor_burst: Some(20), ..Quotas::default() };
    for policy in [FaultPolicy::Bypass, FaultPolicy::Drop] {
        let (mut world, tenant) = world(quotas);
        let puppet = || MemberSpec::new(plugin.clone()).on_fault(policy);
        let (mut source, mut theirs) = (Source::video(7), Source::video(7));
        let peer = listener(&mut world, ACME, puppet(), &source);
        let stranger = listener(&mut world, OTHER, puppet(), &theirs);
        let ticker = json!({ "do": "wake-every", "ms": 1000, "ssrc": 7 });
        tell(&mut world, peer, 0, json!([{ "do": "wake", "in_ms": 1000 }, ticker]));
        for _ in 0..1000 {
            world.receive(peer, source.packets(1));
            world.receive(stranger, theirs.packets(1));
            world.run_for(Duration::from_millis(1));
        }
        let usage = tenant.usage();
        assert!((100..900).contains(&usage.starved_calls), "{usage:?}");
        // What it was given and a second's share, give or take a sample.
        assert!((20_000_000..35_000_000).contains(&usage.processor_ns), "{usage:?}");
        assert_eq!(exceeded(&world).first().map(|(quota, limit, _)| (*quota, *limit)), Some((Quota::Processor, 1)));
        let (report, theirs_report) = (report(&mut world, peer, 0), self::report(&mut world, stranger, 0));
        assert_eq!((report.packets_in, report.packets_out + report.dropped), (1000, 1000));
        if policy == FaultPolicy::Drop {
            // One of the calls was for the timer.
            assert_eq!(report.dropped + 1, usage.starved_calls, "nothing passes that it has not seen");
        } else {
            assert_eq!(heard(&world, peer, &source), Verdict::perfect(1000));
        }
        assert_eq!((theirs_report.packets_out, heard(&world, stranger, &theirs)), (1000, Verdict::perfect(1000)));
        assert_eq!(faults(&world), [], "to be short of time is no fault");
        world.run_for(Duration::from_secs(10));
        let timeouts = seen(&mut world, peer, 0)["timeouts"].as_array().cloned().unwrap_or_default();
        let (ticks, once): (Vec<_>, Vec<_>) = timeouts.iter().partition(|timeout| timeout[1] == 7);
        assert_eq!(once.len(), 1, "a timer comes, if late");
        assert!((10..=11).contains(&ticks.len()), "and a ticker goes on: {ticks:?}");
        assert_eq!(tenant.usage().timers, 1);
        world.receive(peer, source.packets(1));
        assert_eq!(tenant.usage().starved_calls, usage.starved_calls, "in time it is served again");
    }
}

#[test]
fn a_starved_plugin_still_numbers_what_it_has_numbers_for() {
    let clocks = Clocks { monotonic: Some(slow_clock), thread_cpu: None };
    let engine = Engine::new(EngineConfig { clocks, ..EngineConfig::default() }).unwrap();
    let numbering = sandbar_plugins::by_name("twcc-header-extension").unwrap().component;
    let plugin = Plugin::load(&engine, numbering, &Grants::default()).unwrap();
    let (mut world, tenant) = world(Quotas { processor: Some(1), processor_burst: Some(0), ..Quotas::default() });
    let mut source = Source::video(7);
    let peer = world.open(of(ACME, [MemberSpec::new(plugin)]));
    world.bind_local(peer, source.info());
    world.send(peer, source.packets(1000));
    let report = report(&mut world, peer, 0);
    assert_eq!((report.packets_out, tenant.usage().starved_calls > 0), (1000, true));
    assert!(report.unstamped > 0, "{report:?}");
}

#[test]
fn with_fuel_a_call_ends_at_the_same_instruction_and_without_a_clock() {
    let engine = Engine::new(EngineConfig { fuel: Some(2_000_000), ..EngineConfig::default() }).unwrap();
    let load = |component: &[u8]| Plugin::load(&engine, component, &Grants { wasi: false, ..Grants::ALL }).unwrap();
    let mut world = World::new(1);
    let mut source = Source::video(7);
    let looping = MemberSpec::new(load(guests::ENDLESS_LOOP)).on_fault(FaultPolicy::Bypass);
    let counting = MemberSpec::new(load(sandbar_plugins::by_name("packet-counter").unwrap().component));
    let peer = world.open(session([looping, counting]));
    world.bind_remote(peer, source.info());
    world.receive(peer, source.packets(10));
    assert_eq!(faults(&world).first().map(|(kind, _)| *kind), Some(FaultKind::Deadline));
    assert_eq!((heard(&world, peer, &source), report(&mut world, peer, 1).packets_in), (Verdict::perfect(10), 10));
}

#[test]
fn a_call_that_does_not_return_is_a_sessions_last_and_three_of_them_a_versions() {
    let looping = member(guests::ENDLESS_LOOP, json!({})).on_fault(FaultPolicy::Restart);
    let mut world = World::new(1);
    for number in 1..4 {
        let mut source = Source::video(number);
        let peer = world.open(session([looping.clone(), standard("packet-counter")]));
        world.bind_remote(peer, source.info());
        for _ in 0..20 {
            world.receive(peer, source.packets(1));
            world.run_for(Duration::from_millis(100));
        }
        assert_eq!(faults(&world).len(), number as usize);
        assert_eq!(report(&mut world, peer, 0).state, MemberState::Bypassed);
        assert_eq!(heard(&world, peer, &source), Verdict::perfect(20));
    }
    assert!(world.events.iter().any(|(_, event)| matches!(event, Event::Quarantined { .. })));
    let error = world.open_on(0, session([looping])).expect_err("it is quarantined").to_string();
    assert!(error.contains("deadline"), "{error}");
}

#[test]
fn a_version_is_quarantined_for_the_tenant_in_whose_sessions_it_failed() {
    let looping = member(guests::ENDLESS_LOOP, json!({}));
    let mut world = World::new(1);
    for number in 1..4 {
        let mut source = Source::video(number);
        let peer = listener(&mut world, ACME, looping.clone(), &source);
        world.receive(peer, source.packets(1));
    }
    assert!(looping.plugin.quarantined());
    let blamed = world.events.iter().filter_map(|(_, event)| match event {
        Event::Fault { from, .. } => Some((from.tenant.as_str(), from.digest)),
        _ => None,
    });
    assert_eq!(blamed.collect::<Vec<_>>(), [("tenant 7", looping.plugin.digest()); 3]);
    assert!(matches!(world.open_on(0, of(ACME, [looping.clone()])), Err(ChainError::Quarantined { .. })));
    let peer = world.open(of(OTHER, [looping.clone()]));
    assert_eq!(report(&mut world, peer, 0).quarantine, None);
    looping.plugin.lift_quarantine();
    world.open(of(ACME, [looping]));
}

#[test]
fn a_limit_of_a_plugin_holds_where_the_tenant_has_no_quota() {
    let (mut world, tenant) = world(Quotas::default());
    let mut source = Source::video(7);
    let limits = Limits { held_packets: 2, ..Limits::default() };
    let peer = listener(&mut world, ACME, MemberSpec { limits, ..puppet(json!({ "packets": "hold" })) }, &source);
    world.receive(peer, source.packets(5));
    assert_eq!((tenant.usage().held_packets, tenant.usage().refused), (2, vec![]));
    assert_eq!(exceeded(&world), []);
}
