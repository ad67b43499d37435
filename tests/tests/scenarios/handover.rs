//! A successor continues from what its predecessor saved.

use sandbar_host::{Limits, MemberSpec};
use sandbar_tests::media::{Source, Verdict};
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{faults, guests, heard, listener, member, seen, tell};

fn puppet(config: Value) -> MemberSpec {
    member(guests::PUPPET, config)
}

fn replace(world: &mut World, peer: PeerId, spec: MemberSpec) {
    world
        .with(peer, |shard, now, session| shard.replace_member(now, session, 0, spec))
        .expect("the successor is accepted");
}

#[test]
fn state_goes_from_one_to_the_next() {
    let (mut world, peer) = listener([puppet(json!({ "state": "first" }))], &Source::video(7));
    assert_eq!(seen(&mut world, peer, 0)["restored"], Value::Null);
    replace(&mut world, peer, puppet(json!({ "state": "second" })));
    let seen_by_second = seen(&mut world, peer, 0);
    assert_eq!((&seen_by_second["restored"], &seen_by_second["bound"]), (&json!("first"), &json!([7])));
    replace(&mut world, peer, puppet(json!({})));
    assert_eq!(seen(&mut world, peer, 0)["restored"], "second");
    replace(&mut world, peer, puppet(json!({})));
    assert_eq!(seen(&mut world, peer, 0)["restored"], Value::Null, "the third saved nothing");
}

#[test]
fn a_successor_that_refuses_the_state_is_created_afresh() {
    let (mut world, peer) = listener([puppet(json!({ "state": "old" }))], &Source::video(7));
    replace(&mut world, peer, puppet(json!({ "refuse": "restore" })));
    assert_eq!(seen(&mut world, peer, 0)["restored"], Value::Null);
    assert_eq!(seen(&mut world, peer, 0)["bound"], json!([7]));
}

#[test]
fn state_within_the_limit_is_handed_over_and_state_beyond_it_is_not() {
    for (padding, handed_over) in [(1000, true), (1020, true), (1021, false), (1 << 20, false)] {
        let limits = Limits { state: 1024, ..Limits::default() };
        let mut old = puppet(json!({ "state": "much", "state_padding": padding }));
        old.limits = limits;
        let (mut world, peer) = listener([old], &Source::video(7));
        replace(&mut world, peer, puppet(json!({})));
        assert_eq!(seen(&mut world, peer, 0)["restored"].is_string(), handed_over, "{padding}");
    }
}

#[test]
fn a_predecessor_that_fails_to_save_is_replaced_all_the_same() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([member(guests::TRAP, json!({ "at": "save" }))], &source);
    world.receive(peer, source.packets(5));
    replace(&mut world, peer, puppet(json!({})));
    world.receive(peer, source.packets(5));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(10));
    assert_eq!(faults(&world).len(), 1, "the old one's fault is told");
    assert_eq!(seen(&mut world, peer, 0)["read"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_successor_that_fails_to_restore_is_not_taken() {
    let (mut world, peer) = listener([puppet(json!({ "state": "s" }))], &Source::video(7));
    let spec = member(guests::TRAP, json!({ "at": "restore" }));
    let error =
        world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, spec)).expect_err("it fails");
    assert!(error.to_string().contains("trap"), "{error}");
    assert_eq!(seen(&mut world, peer, 0)["bound"], json!([7]), "the old one runs on");
}

#[test]
fn a_predecessor_that_fails_to_close_is_gone_nonetheless() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([member(guests::TRAP, json!({ "at": "close" }))], &source);
    replace(&mut world, peer, puppet(json!({})));
    world.receive(peer, source.packets(5));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(5));
    assert_eq!(seen(&mut world, peer, 0)["read"].as_array().map(Vec::len), Some(5));
}

#[test]
fn what_a_successor_emits_while_it_is_made_goes_out_once_it_has_the_place() {
    for isolation in [sandbar_host::Isolation::Session, sandbar_host::Isolation::Tenant] {
        let (mut world, peer) = listener([puppet(json!({})).isolated(isolation)], &Source::video(7));
        let request = sandbar_tests::media::control::picture_loss(1, 7);
        let hello = json!([{ "do": "emit-rtcp", "packets": request.to_vec() }, { "do": "log", "line": "hello" }]);
        replace(&mut world, peer, puppet(json!({ "on_create": hello })).isolated(isolation));
        assert_eq!(world.peer(peer).sent(sandbar_host::Kind::Rtcp).count(), 1, "{isolation:?}");
        let said = |event: &sandbar_host::Event| event.to_string().ends_with(": hello");
        assert_eq!(world.events.iter().filter(|(_, event)| said(event)).count(), 1);
    }
}

#[test]
fn the_history_stays_when_its_keeper_is_replaced() {
    let mut source = Source::video(7);
    let (mut world, peer) = listener([puppet(json!({ "history": 64, "packets": "drop" }))], &source);
    world.receive(peer, source.packets(10));
    assert_eq!(world.peer(peer).delivered.len(), 0);
    replace(&mut world, peer, puppet(json!({ "history": 64 })));
    world.receive(peer, source.packets(10));
    let emit = |index| {
        let header = source.nth(index).slice(..12).to_vec();
        json!({ "do": "emit-rtp", "ssrc": 7, "header": header, "history": source.sequence_number(index) })
    };
    let answers = tell(&mut world, peer, 0, (0..10).map(emit).collect());
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
    let verdict = heard(&world, peer, &source);
    assert!(verdict.complete(), "{verdict:?}");
}
