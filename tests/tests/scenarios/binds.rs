//! What a plugin does not say that it has to do with passes it by.

use sandbar_host::{
    Datagram, FaultAction, FaultKind, FaultPolicy, Kind, MemberSpec, MemberState, SessionSpec, TenantId,
};
use sandbar_tests::engine::load;
use sandbar_tests::media::{Judge, Source, Verdict, control};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{faults, guests, heard, member, report, session, tell};

fn one_way() -> MemberSpec {
    member(guests::ONE_WAY, json!({}))
}

fn puppet() -> MemberSpec {
    member(guests::PUPPET, json!({ "unbound": true })).on_fault(FaultPolicy::Drop)
}

/// What became of the packets made so far of a source, on the wire.
fn spoken(world: &World, peer: PeerId, source: &Source) -> Verdict {
    let sent: Vec<_> = world.peer(peer).sent(Kind::Rtp).cloned().collect();
    Judge::all(source, &sent).verdict(source.made)
}

#[test]
fn a_plugin_is_asked_about_what_it_says_and_nothing_else() {
    for plugin in [load(guests::ONE_WAY), load(guests::ONE_WAY).in_typed_lane()] {
        let (mut read, mut written) = (Source::video(7), Source::video(8));
        let mut world = World::new(1);
        let peer = world.open(session([MemberSpec::new(plugin)]));
        let local = world.bind_local(peer, written.info());
        let remote = world.bind_remote(peer, read.info());
        world.receive(peer, read.packets(10));
        world.send(peer, written.packets(20));
        world.receive(peer, [control::receiver_report(8)]);
        world.send_rtcp(peer, control::receiver_report(7));
        assert_eq!(world.control(peer, 0, ""), "10 1");
        world.with(peer, |shard, now, _| shard.unbind_stream(now, local));
        world.with(peer, |shard, now, _| shard.unbind_stream(now, remote));
        assert_eq!(world.control(peer, 0, ""), "10 0");
        assert_eq!((report(&mut world, peer, 0).packets_in, faults(&world)), (10, vec![]));
        world.with(peer, |shard, now, session| shard.close_session(now, session));
        assert_eq!(heard(&world, peer, &read), Verdict::perfect(10));
        assert_eq!(spoken(&world, peer, &written), Verdict::perfect(20));
        assert_eq!((world.peer(peer).rtcp().count(), world.peer(peer).sent(Kind::Rtcp).count()), (1, 1));
        assert_eq!(faults(&world), []);
    }
}

#[test]
fn a_plugin_of_which_nothing_is_asked_is_in_no_packets_way() {
    let noop = || MemberSpec::new(load(sandbar_plugins::by_name("noop").expect("a standard plugin").component));
    let mut source = Source::video(7);
    let (mut world, peer) = crate::listener([noop(), puppet(), noop()], &source);
    world.receive(peer, source.packets(5));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(5));
    assert_eq!([0, 1, 2].map(|index| report(&mut world, peer, index).packets_in), [0, 5, 0]);
}

#[test]
fn what_a_predecessor_did_with_what_its_successor_is_not_asked_about_ends_with_it() {
    let mut written = Source::video(8);
    let mut world = World::new(1);
    let peer = world.open(session([puppet()]));
    world.bind_local(peer, written.info());
    let replace = |world: &mut World, spec: MemberSpec| {
        world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, spec)).expect("it takes over");
    };
    // What the predecessor holds goes on, for its successor cannot ask for it.
    tell(&mut world, peer, 0, json!([{ "do": "packets", "to": "hold" }]));
    world.send(peer, written.packets(3));
    assert_eq!(spoken(&world, peer, &written).received, 0);
    replace(&mut world, one_way());
    world.send(peer, written.packets(3));
    assert_eq!(spoken(&world, peer, &written), Verdict::perfect(6));
    // What is closed where the predecessor failed is open again.
    replace(&mut world, puppet());
    tell(&mut world, peer, 0, json!([{ "do": "packets", "to": "trap" }]));
    world.send(peer, written.packets(2));
    world.send(peer, written.packets(2));
    assert_eq!(faults(&world), [(FaultKind::Trap, FaultAction::Closed)]);
    assert_eq!(report(&mut world, peer, 0).state, MemberState::Closed);
    replace(&mut world, one_way());
    world.send(peer, written.packets(4));
    assert_eq!(spoken(&world, peer, &written), Verdict { lost: 4, ..Verdict::perfect(10) });
    // A plugin that has to do with it is asked again.
    replace(&mut world, puppet());
    tell(&mut world, peer, 0, json!([{ "do": "packets", "to": "drop" }]));
    world.send(peer, written.packets(1));
    assert_eq!(spoken(&world, peer, &written).received, 10);
}

#[test]
fn who_is_seated_again_after_anothers_fault_is_asked_no_more_than_before() {
    let mut world = World::new(1);
    let sources: Vec<_> = (0..6).map(|n| Source::video(100 + n)).collect();
    let guilty = json!({ "trap_on": sources[2].sequence_number(1) });
    let mut parties: Vec<_> = sources
        .into_iter()
        .map(|read| {
            let config = if read.ssrc == 102 { guilty.clone() } else { json!({}) };
            let spec = member(guests::ONE_WAY, config).on_fault(FaultPolicy::Bypass);
            let peer = world.open(SessionSpec { tenant: TenantId(1), ..session([spec]) });
            let written = Source::video(read.ssrc + 100);
            world.bind_local(peer, written.info());
            world.bind_remote(peer, read.info());
            (peer, read, written)
        })
        .collect();
    for _ in 0..5 {
        let mut burst = Vec::new();
        for (peer, read, _) in &mut parties {
            let session = world.peer(*peer).session;
            let bytes = read.packet();
            burst.push(Datagram { session, kind: Kind::Rtp, bytes });
        }
        world.with(parties[0].0, |shard, now, _| shard.read(now, burst));
        for (peer, _, written) in &mut parties {
            world.send(*peer, written.packets(3));
        }
    }
    assert_eq!(faults(&world), [(FaultKind::Trap, FaultAction::Bypassed)]);
    for (at, (peer, read, written)) in parties.iter().enumerate() {
        assert_eq!(heard(&world, *peer, read), Verdict::perfect(5));
        assert_eq!(spoken(&world, *peer, written), Verdict::perfect(15));
        if at != 2 {
            let report = report(&mut world, *peer, 0);
            assert!(matches!(report.state, MemberState::Running { shared: true }), "{:?}", report.state);
            assert_eq!(report.packets_in, 5);
        }
    }
}
