//! Values of a session: set by one plugin of its chain, read by all, gone with the one that set them.

use std::time::Duration;

use sandbar_host::{FaultPolicy, Isolation, MemberSpec, SessionAttributeError, Value as Attribute};
use sandbar_tests::media::Source;
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{faults, guests, listener, member, session, tell};

fn puppet(config: Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

fn set(world: &mut World, peer: PeerId, member: usize, key: &str, value: Option<&str>) -> Value {
    tell(world, peer, member, json!([{ "do": "set", "key": key, "value": value }])).remove(0)
}

fn get(world: &mut World, peer: PeerId, member: usize, key: &str) -> Value {
    tell(world, peer, member, json!([{ "do": "get", "key": key }])).remove(0)
}

/// What the application finds.
fn found(world: &mut World, peer: PeerId, key: &str) -> Option<Attribute> {
    world.with(peer, |shard, _, session| shard.session_attribute(session, key).cloned())
}

fn text(value: &str) -> Option<Attribute> {
    Some(Attribute::Text(value.into()))
}

fn open(members: impl IntoIterator<Item = MemberSpec>) -> (World, PeerId) {
    let mut world = World::new(1);
    let peer = world.open(session(members));
    (world, peer)
}

#[test]
fn what_one_sets_all_members_and_the_application_read() {
    let (mut world, peer) = open([puppet(json!({})), puppet(json!({})), puppet(json!({}))]);
    assert_eq!(get(&mut world, peer, 0, "rate"), Value::Null);
    assert_eq!(set(&mut world, peer, 1, "rate", Some("300")), "ok");
    for reader in 0..3 {
        assert_eq!(get(&mut world, peer, reader, "rate"), "300");
    }
    assert_eq!(found(&mut world, peer, "rate"), text("300"));
    let report = world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session");
    assert_eq!(report.attributes, [("rate".to_owned(), Attribute::Text("300".into()))]);
    assert_eq!(set(&mut world, peer, 1, "rate", None), "ok");
    assert_eq!(get(&mut world, peer, 0, "rate"), Value::Null);
    assert_eq!(found(&mut world, peer, "rate"), None);
}

#[test]
fn what_the_application_sets_every_member_reads() {
    let (mut world, peer) = open([puppet(json!({})), puppet(json!({}))]);
    let set_it = |world: &mut World, key: &str, value: Option<Attribute>| {
        world.with(peer, |shard, _, session| shard.set_session_attribute(session, key, value))
    };
    assert_eq!(set_it(&mut world, "room", text("5")), Ok(()));
    assert_eq!(get(&mut world, peer, 1, "room"), "5");
    // A newcomer and a successor find it too.
    for change in 0..2 {
        let spec = puppet(json!({}));
        world
            .with(peer, |shard, now, session| match change {
                0 => shard.insert_member(now, session, 0, spec),
                _ => shard.replace_member(now, session, 0, spec),
            })
            .expect("it is accepted");
        assert_eq!(get(&mut world, peer, 0, "room"), "5");
    }
    assert_eq!(set_it(&mut world, "sandbar.room", text("5")), Err(SessionAttributeError::Denied));
    assert_eq!(set_it(&mut world, "big", text(&"x".repeat(5000))), Err(SessionAttributeError::TooMany));
    assert_eq!(set_it(&mut world, "room", None), Ok(()));
    assert_eq!(get(&mut world, peer, 1, "room"), Value::Null);
    world.with(peer, |shard, now, session| shard.close_session(now, session));
    assert_eq!(set_it(&mut world, "room", text("5")), Err(SessionAttributeError::NoSession));
}

#[test]
fn the_last_to_set_a_value_has_it() {
    let (mut world, peer) = open([puppet(json!({})), puppet(json!({}))]);
    set(&mut world, peer, 0, "rate", Some("first"));
    set(&mut world, peer, 1, "rate", Some("second"));
    assert_eq!(set(&mut world, peer, 0, "rate", None), "ok");
    assert_eq!(get(&mut world, peer, 0, "rate"), "second", "it was no longer the first one's to remove");
    world.with(peer, |shard, now, session| shard.remove_member(now, session, 0)).expect("there is a member");
    assert_eq!(found(&mut world, peer, "rate"), text("second"));
    world.with(peer, |shard, now, session| shard.remove_member(now, session, 0)).expect("there is a member");
    assert_eq!(found(&mut world, peer, "rate"), None);
}

#[test]
fn a_value_is_gone_with_a_member_that_fails_under_any_policy() {
    for policy in [FaultPolicy::Bypass, FaultPolicy::Drop, FaultPolicy::Restart] {
        let mut source = Source::video(7);
        let failing = puppet(json!({ "on_read": [{ "do": "trap" }] })).on_fault(policy).isolated(Isolation::Session);
        let (mut world, peer) = listener([failing, puppet(json!({ "access": "pass" }))], &source);
        set(&mut world, peer, 0, "rate", Some("300"));
        set(&mut world, peer, 1, "kept", Some("yes"));
        world.receive(peer, source.packets(1));
        assert_eq!(faults(&world).len(), 1, "{policy:?}");
        assert_eq!(get(&mut world, peer, 1, "rate"), Value::Null, "{policy:?}");
        assert_eq!(found(&mut world, peer, "rate"), None, "{policy:?}");
        assert_eq!(get(&mut world, peer, 1, "kept"), "yes");
        world.run_for(Duration::from_secs(1));
        assert_eq!(found(&mut world, peer, "rate"), None, "{policy:?}");
    }
}

#[test]
fn what_a_call_that_fails_has_set_is_never_seen() {
    let mut source = Source::video(7);
    let config = json!({ "on_read": [{ "do": "set", "key": "rate", "value": "1" }, { "do": "trap" }] });
    let failing = puppet(config).on_fault(FaultPolicy::Bypass).isolated(Isolation::Session);
    let (mut world, peer) = listener([failing], &source);
    world.receive(peer, source.packets(1));
    assert_eq!(faults(&world).len(), 1);
    assert_eq!(found(&mut world, peer, "rate"), None);
}

#[test]
fn a_value_is_gone_while_another_sessions_fault_has_displaced_its_member() {
    // Two sessions share an instance; one of them makes it fail.
    let spec = |config| puppet(config).on_fault(FaultPolicy::Bypass).isolated(Isolation::Tenant);
    let mut world = World::new(1);
    let failing = spec(json!({ "on_read": [{ "do": "trap" }] }));
    let honest = MemberSpec { config: "{}".into(), ..failing.clone() };
    let (guilty, displaced) = (world.open(session([failing])), world.open(session([honest])));
    let (mut bad, mut good) = (Source::video(7), Source::video(9));
    world.bind_remote(guilty, bad.info());
    world.bind_remote(displaced, good.info());
    set(&mut world, displaced, 0, "rate", Some("300"));
    world.receive(guilty, bad.packets(1));
    assert_eq!(found(&mut world, displaced, "rate"), None);
    world.receive(displaced, good.packets(1));
    assert_eq!(set(&mut world, displaced, 0, "rate", Some("400")), "ok");
    assert_eq!(found(&mut world, displaced, "rate"), text("400"), "seated again, it sets it again");
}

#[test]
fn a_successor_takes_over_what_it_sets_and_the_rest_is_gone() {
    for isolation in [Isolation::Session, Isolation::Tenant] {
        let set_rate = |value| json!({ "on_create": [{ "do": "set", "key": "rate", "value": value }] });
        let spec = puppet(set_rate("old")).isolated(isolation);
        // The same plugin with another configuration: where instances are shared, in its predecessor's.
        let successor = MemberSpec { config: set_rate("new").to_string(), ..spec.clone() };
        let (mut world, peer) = open([spec, puppet(json!({}))]);
        assert_eq!(get(&mut world, peer, 1, "rate"), "old");
        set(&mut world, peer, 0, "other", Some("old"));
        world
            .with(peer, |shard, now, session| shard.replace_member(now, session, 0, successor))
            .expect("the successor is accepted");
        assert_eq!(get(&mut world, peer, 1, "rate"), "new");
        assert_eq!(get(&mut world, peer, 1, "other"), Value::Null);
    }
}

#[test]
fn a_change_that_is_refused_leaves_the_values_alone() {
    let (mut world, peer) = open([puppet(json!({})), puppet(json!({}))]);
    world.bind_remote(peer, Source::video(7).info());
    set(&mut world, peer, 0, "rate", Some("old"));
    let refusing = json!({ "refuse": "bind", "on_create": [{ "do": "set", "key": "rate", "value": "new" }] });
    let successor = puppet(refusing);
    let replaced = world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, successor));
    assert!(replaced.is_err());
    assert_eq!(get(&mut world, peer, 1, "rate"), "old");
}

#[test]
fn a_call_sees_at_once_what_it_has_set() {
    let (mut world, peer) = open([puppet(json!({}))]);
    let answers = tell(
        &mut world,
        peer,
        0,
        json!([
            { "do": "set", "key": "k", "value": "1" }, { "do": "get", "key": "k" },
            { "do": "set", "key": "k", "value": null }, { "do": "get", "key": "k" },
        ]),
    );
    assert_eq!(answers, [json!("ok"), json!("1"), json!("ok"), Value::Null]);
}

#[test]
fn each_member_has_room_of_its_own_and_no_more() {
    let (mut world, peer) = open([puppet(json!({})), puppet(json!({}))]);
    let many: Vec<_> = (0..40).map(|n| json!({ "do": "set", "key": format!("key-{n}"), "value": "x" })).collect();
    let answers = tell(&mut world, peer, 0, json!(many));
    assert_eq!(answers.iter().filter(|answer| *answer == "ok").count(), 16);
    assert!(answers[16..].iter().all(|answer| answer == "Quota"));
    assert_eq!(set(&mut world, peer, 1, "own", Some("x")), "ok", "the first has not taken the second one's room");
    for (key, value, answer) in [
        ("k".repeat(200), "v".to_owned(), "Quota"),
        ("k".to_owned(), "v".repeat(100_000), "Quota"),
        ("sandbar.rate".to_owned(), "v".to_owned(), "Denied"),
    ] {
        assert_eq!(set(&mut world, peer, 1, &key, Some(&value)), answer);
        assert_eq!(found(&mut world, peer, &key), None);
    }
    assert_eq!(faults(&world), []);
}

#[test]
fn sessions_that_share_an_instance_share_no_values() {
    let spec = puppet(json!({})).isolated(Isolation::Tenant);
    let mut world = World::new(1);
    let peers = [world.open(session([spec.clone()])), world.open(session([spec]))];
    set(&mut world, peers[0], 0, "rate", Some("300"));
    assert_eq!(get(&mut world, peers[1], 0, "rate"), Value::Null);
}
