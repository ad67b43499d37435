//! What plugins write for the operator to keep.

use std::time::Duration;

use sandbar_host::{Limits, MemberSpec, SinkId, SinkWrite};
use sandbar_tests::media::Source;
use sandbar_tests::peers::{PeerId, World};
use serde_json::{Value, json};

use crate::{faults, guests, listener, member, report, tell};

/// A puppet whose writes go to sink 3.
fn writer(config: Value) -> MemberSpec {
    MemberSpec { sink: Some(SinkId(3)), ..member(guests::PUPPET, config) }
}

fn write(bytes: usize) -> Value {
    json!({ "do": "write-sink", "bytes": bytes })
}

/// What waits for the embedder: sizes.
fn written(world: &mut World, peer: PeerId) -> Vec<usize> {
    writes(world, peer).iter().map(|write| write.bytes.len()).collect()
}

fn writes(world: &mut World, peer: PeerId) -> Vec<SinkWrite> {
    world.with(peer, |shard, _, _| std::iter::from_fn(|| shard.poll_sink()).collect())
}

#[test]
fn what_is_written_comes_out_whole_and_in_order() {
    let (mut world, peer) = listener([writer(json!({}))], &Source::video(7));
    let answers = tell(&mut world, peer, 0, json!([write(3), write(70_000), write(0), write(5)]));
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
    let session = world.with(peer, |_, _, session| session);
    let writes = writes(&mut world, peer);
    assert!(writes.iter().all(|write| (write.sink, write.session) == (SinkId(3), session)));
    assert_eq!(writes.iter().map(|write| write.bytes.len()).collect::<Vec<_>>(), [3, 70_000, 0, 5]);
    let sink = report(&mut world, peer, 0).sink;
    assert_eq!((sink.sink_bytes, sink.sink_refused), (70_008, 0));
}

#[test]
fn without_a_sink_it_is_told_so() {
    let (mut world, peer) = listener([member(guests::PUPPET, json!({}))], &Source::video(7));
    assert_eq!(tell(&mut world, peer, 0, json!([write(3)])), [json!("Denied")]);
    assert_eq!(written(&mut world, peer), [] as [usize; 0]);
    assert_eq!(report(&mut world, peer, 0).sink.sink_refused, 1);
}

#[test]
fn writing_within_the_limits_is_obeyed_and_beyond_them_refused_and_counted() {
    let limits = Limits { sink_call: 1000, sink_second: 1500, ..Limits::default() };
    let (mut world, peer) = listener([MemberSpec { limits, ..writer(json!({})) }], &Source::video(7));
    let mut ask = |sizes: &[usize]| {
        let commands: Vec<_> = sizes.iter().map(|size| write(*size)).collect();
        tell(&mut world, peer, 0, json!(commands)).iter().map(|answer| answer == "ok").collect::<Vec<_>>()
    };
    assert_eq!(ask(&[600, 400, 1]), [true, true, false], "of a call");
    assert_eq!(ask(&[501, 500]), [false, true], "of a second");
    world.run_for(Duration::from_secs(1));
    let mut ask = |size| tell(&mut world, peer, 0, json!([write(size)]));
    assert_eq!((ask(1001), ask(1000)), (vec![json!("Quota")], vec![json!("ok")]));
    let sink = report(&mut world, peer, 0).sink;
    assert_eq!((sink.sink_bytes, sink.sink_refused), (2500, 3));
}

#[test]
fn many_small_writes_are_bounded_too() {
    let limits = Limits { sink_call: 6400, ..Limits::default() };
    let (mut world, peer) = listener([MemberSpec { limits, ..writer(json!({})) }], &Source::video(7));
    let answers = tell(&mut world, peer, 0, json!(vec![write(0); 200]));
    assert_eq!(answers.iter().filter(|answer| *answer == "ok").count(), 100);
}

#[test]
fn what_nobody_takes_is_bounded_and_lost_a_whole_write_at_a_time() {
    let limits = Limits { sink_second: 1 << 30, ..Limits::default() };
    let (mut world, peer) = listener([MemberSpec { limits, ..writer(json!({})) }], &Source::video(7));
    for _ in 0..20 {
        assert_eq!(tell(&mut world, peer, 0, json!([write(1 << 20)])), [json!("ok")]);
    }
    assert_eq!(written(&mut world, peer), [1 << 20; 16]);
    let sink = report(&mut world, peer, 0).sink;
    assert_eq!((sink.sink_bytes, sink.sink_refused), (16 << 20, 4));
    tell(&mut world, peer, 0, json!([write(7)]));
    assert_eq!(written(&mut world, peer), [7], "once taken, there is room again");
}

#[test]
fn of_a_call_that_failed_nothing_is_written() {
    let broken = json!({ "on_read": [write(9)], "packets": { "replace": [1, 2, 3] } });
    let mut source = Source::video(7);
    let (mut world, peer) = listener([writer(broken)], &source);
    world.receive(peer, source.packets(3));
    assert_eq!(faults(&world).len(), 1);
    assert_eq!(written(&mut world, peer), [] as [usize; 0]);
}

#[test]
fn what_is_written_at_the_end_comes_out_also_when_a_successor_has_taken_over() {
    let (mut world, peer) = listener([writer(json!({ "on_close": [write(11)] }))], &Source::video(7));
    let next = MemberSpec { sink: Some(SinkId(4)), ..writer(json!({ "on_close": [write(12)] })) };
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, next)).expect("it is accepted");
    let last = world.with(peer, |shard, now, session| {
        shard.close_session(now, session);
        std::iter::from_fn(|| shard.poll_sink()).map(|write| (write.sink, write.bytes.len())).collect::<Vec<_>>()
    });
    assert_eq!(last, [(SinkId(3), 11), (SinkId(4), 12)]);
}
