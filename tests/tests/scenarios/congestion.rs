//! Congestion control as components: on a path with a bottleneck it does what it does natively, and its plugins may be
//! swapped while they hold packets.

use std::time::Duration;

use sandbar_congestion::component::{CHAIN, Components};
use sandbar_congestion::native::Native;
use sandbar_congestion::run::{Outcome, Scenario, run};
use sandbar_congestion::{SECOND, Sender, scenarios};
use sandbar_host::{Instant, Kind, MemberSpec, MemberState, Metric, Plugin, StreamInfo, Value as Attribute};
use sandbar_tests::media::{Judge, Source, Verdict};
use sandbar_tests::peers::{PeerId, World};

use crate::{faults, load, report, sent, session, standard};

fn component(name: &str) -> Plugin {
    load(sandbar_plugins::by_name(name).unwrap_or_else(|| panic!("no plugin is called {name}")).component)
}

fn as_components(scenario: &Scenario) -> Outcome {
    run(scenario, 1, |start| Box::new(Components::new(start, component)))
}

#[test]
fn components_do_what_the_plugins_do_natively() {
    for scenario in [scenarios::steady(), scenarios::one_in_twenty(), scenarios::two_flows()] {
        let components = as_components(&scenario);
        let native = run(&scenario, 1, |start| Box::new(Native::new(start, "{}", "{}")));
        for (second, (components, native)) in components.targets.iter().zip(&native.targets).enumerate() {
            assert_eq!(components, native, "{} after {second} s", scenario.name);
        }
        assert_eq!(components.rates, native.rates, "{}", scenario.name);
        assert!(components.utilisation > 0.8, "{}: {components:?}", scenario.name);
    }
}

/// A sender whose plugins are replaced in turn, one each half a second.
struct Swapped {
    chain: Components,
    next: u64,
    swaps: usize,
}

impl Swapped {
    fn swap(&mut self, now: u64) {
        while self.next <= now {
            self.next += SECOND / 2;
            let member = self.swaps % CHAIN.len();
            self.swaps += 1;
            let (shard, session) = self.chain.shard();
            let replaced = shard.replace_member(Instant::from_nanos(now), session, member, standard(CHAIN[member]));
            replaced.expect("the successor is accepted");
        }
    }
}

impl Sender for Swapped {
    fn write(&mut self, now: u64, packets: Vec<Vec<u8>>) {
        // A part of the frame is held when the next one comes.
        self.chain.write(now, packets);
        self.swap(now);
    }
    fn feedback(&mut self, now: u64, compound: &[u8]) {
        self.chain.feedback(now, compound);
    }
    fn poll_timeout(&self) -> Option<u64> {
        self.chain.poll_timeout()
    }
    fn handle_timeout(&mut self, now: u64) {
        self.chain.handle_timeout(now);
    }
    fn poll_wire(&mut self) -> Option<Vec<u8>> {
        self.chain.poll_wire()
    }
    fn target(&self) -> f64 {
        self.chain.target()
    }
}

#[test]
fn a_chain_whose_plugins_are_replaced_all_the_time_goes_on_as_before() {
    let scenario = scenarios::steady();
    let outcome = run(&scenario, 1, |start| {
        let chain = Components::new(start, component);
        Box::new(Swapped { chain, next: start + SECOND / 2, swaps: 0 })
    });
    assert!(outcome.utilisation > 0.85 && outcome.loss < 0.001 && outcome.delay_p95 < 100.0, "{outcome:?}");
    assert!(outcome.targets[2..].iter().all(|target| *target > 2e6), "{:?}", outcome.targets);
}

fn pacer(config: &str) -> MemberSpec {
    standard("pacer").with_config(config)
}

/// A source whose frames are bursts, and a speaker whose pacer holds most of them.
fn holding(config: &str) -> (World, PeerId, Source) {
    let source = Source::video(7);
    let mut world = World::new(1);
    let peer = world.open(session([pacer(config)]));
    let info = StreamInfo { mime_type: "video/VP8".into(), ..source.info() };
    world.bind_local(peer, info);
    (world, peer, source)
}

fn verdict(world: &World, peer: PeerId, source: &Source) -> Verdict {
    Judge::all(source, &sent(world, peer)).verdict(source.made)
}

#[test]
fn a_pacer_is_swapped_while_it_holds_packets() {
    let config = r#"{"bitrate": 500000}"#;
    let (mut world, peer, mut source) = holding(config);
    for _ in 0..10 {
        world.send(peer, source.packets(20));
        world.run_for(Duration::from_millis(40));
        let before = world.peer(peer).sent(Kind::Rtp).count();
        world
            .with(peer, |shard, now, session| shard.replace_member(now, session, 0, pacer(config)))
            .expect("the successor is accepted");
        assert_eq!(world.peer(peer).sent(Kind::Rtp).count(), before, "it goes on holding");
    }
    assert!(world.peer(peer).sent(Kind::Rtp).count() < 100);
    world.run_for(Duration::from_secs(5));
    assert_eq!(verdict(&world, peer, &source), Verdict::perfect(200));
}

#[test]
fn a_pacer_with_another_queue_lets_go_what_its_predecessor_held() {
    let (mut world, peer, mut source) = holding(r#"{"bitrate": 500000, "queue_packets": 256}"#);
    world.send(peer, source.packets(50));
    let spec = pacer(r#"{"bitrate": 500000, "queue_packets": 128}"#);
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 0, spec)).expect("it is accepted");
    world.send(peer, source.packets(20));
    world.run_for(Duration::from_secs(3));
    assert_eq!(verdict(&world, peer, &source), Verdict::perfect(70));
}

#[test]
fn what_a_pacer_holds_goes_out_when_it_is_removed_or_its_stream_ends() {
    for end in ["remove", "unbind", "close"] {
        let (mut world, peer, mut source) = holding(r#"{"bitrate": 100000}"#);
        let second = Source::video(9);
        let stream = world.bind_local(peer, StreamInfo { mime_type: "video/VP8".into(), ..second.info() });
        let mut second = second;
        world.send(peer, source.packets(30));
        world.send(peer, second.packets(30));
        world.with(peer, |shard, now, session| match end {
            "remove" => shard.remove_member(now, session, 0).expect("there is a member"),
            "unbind" => shard.unbind_stream(now, stream),
            _ => shard.close_session(now, session),
        });
        assert_eq!(verdict(&world, peer, &second), Verdict::perfect(30), "{end}");
        let held = 30 - verdict(&world, peer, &source).received;
        assert_eq!(held > 0, end == "unbind", "{end}: the other stream is still paced");
        world.run_for(Duration::from_secs(10));
        assert_eq!(verdict(&world, peer, &source), Verdict::perfect(30), "{end}");
    }
}

#[test]
fn a_pacer_follows_an_application_that_estimates_for_itself() {
    let (mut world, peer, mut source) = holding(r#"{"bitrate": 500000, "factor": 1}"#);
    let mut count = |world: &mut World| {
        world.forget(peer);
        world.send(peer, source.packets(100));
        world.run_for(Duration::from_millis(200));
        let count = world.peer(peer).sent(Kind::Rtp).count();
        world.run_for(Duration::from_secs(5));
        count
    };
    // 1012 bytes a packet.
    assert!((11..=14).contains(&count(&mut world)));
    let rate = |rate| Some(Attribute::Integer(rate));
    world
        .with(peer, |shard, _, session| shard.set_session_attribute(session, "gcc.target_bitrate", rate(2_000_000)))
        .expect("the session is open");
    assert!((48..=52).contains(&count(&mut world)), "the application's estimate");
    world
        .with(peer, |shard, _, session| shard.set_session_attribute(session, "gcc.target_bitrate", None))
        .expect("the session is open");
    assert!((11..=14).contains(&count(&mut world)));
}

#[test]
fn an_estimate_goes_on_with_a_successor_and_ends_with_its_estimator() {
    let mut world = World::new(1);
    let peer = world.open(session([standard("rtpfb"), standard("gcc"), pacer("{}")]));
    world.bind_local(peer, Source::video(7).info());
    let target = |world: &mut World| {
        world.with(peer, |shard, _, session| shard.session_attribute(session, "gcc.target_bitrate").cloned())
    };
    assert_eq!(target(&mut world), Some(Attribute::Integer(300_000)));
    let spec = standard("gcc").with_config(r#"{"start_bitrate": 400000}"#);
    world.with(peer, |shard, now, session| shard.replace_member(now, session, 1, spec)).expect("it is accepted");
    assert_eq!(target(&mut world), Some(Attribute::Integer(300_000)), "the successor goes on with what is known");
    world.with(peer, |shard, now, session| shard.remove_member(now, session, 1)).expect("there is a member");
    assert_eq!(target(&mut world), None);
    assert_eq!(faults(&world), []);
}

#[test]
fn a_pacer_loses_nothing_of_many_streams_over_many_seconds() {
    let mut world = World::new(1);
    let peer = world.open(session([standard("twcc-header-extension"), standard("pacer")]));
    let mut sources: Vec<_> = (0..6).map(|n| Source::video(100 + 2 * n)).collect();
    for source in &sources {
        world.bind_local(peer, StreamInfo { mime_type: "video/VP8".into(), ..source.info_with_rtx() });
    }
    for frame in 0..250 {
        for source in sources.iter_mut().take(1 + frame % 6) {
            world.send(peer, source.packets(1 + frame as u64 % 5));
        }
        world.run_for(Duration::from_millis(40));
    }
    world.run_for(Duration::from_secs(5));
    for source in &sources {
        assert_eq!(verdict(&world, peer, source), Verdict::perfect(source.made), "{}", source.ssrc);
    }
    let pacer = report(&mut world, peer, 1);
    assert!(matches!(pacer.state, MemberState::Running { .. }));
    let metric = |name: &str| pacer.metrics.iter().find(|(known, _)| known == name).map(|(_, metric)| *metric);
    assert!(matches!(metric("held"), Some(Metric::Count(held)) if held > 100));
    assert_eq!(metric("lost"), None);
}
