//! The same seeds and the same calls give the same bytes at the same times.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Lane, MemberSpec, SessionSpec};
use sandbar_tests::media::Source;
use sandbar_tests::net::{Loss, Profile};
use sandbar_tests::peers::World;

use crate::{session, standard};

/// Everything that is on the wire of two peers with all standard plugins, in ten seconds.
pub(crate) fn wire(link_seed: u64, session_seed: u64, lane: Lane) -> Vec<(u64, Bytes)> {
    let profile = Profile {
        loss: Loss::bursts(0.05, 4.0),
        delay: Duration::from_millis(25),
        jitter: Duration::from_millis(10),
        reorder: (0.02, Duration::from_millis(10)),
        duplicate: 0.01,
    };
    let chain = || {
        let names = [
            "twcc-header-extension",
            "nack-responder",
            "nack-generator",
            "twcc-sender",
            "report-receiver",
            "report-sender",
        ];
        let member = |name| match (standard(name), lane) {
            (spec, Lane::Batched) => spec,
            (spec, Lane::Typed) => MemberSpec { plugin: spec.plugin.in_typed_lane(), ..spec },
        };
        SessionSpec { seed: session_seed, ..session(names.map(member)) }
    };
    let (mut world, left, right) = World::pair(link_seed, &profile, chain(), chain());
    for (n, (from, to)) in [(left, right), (right, left)].into_iter().enumerate() {
        let (video, audio) = (Source::video(100 + 10 * n as u32), Source::audio(200 + 10 * n as u32));
        for source in [video, audio] {
            let flow = world.flow(from, to, source.clone(), source.info_with_rtx());
            world.play(flow, 500);
        }
    }
    world.run_for(Duration::from_secs(10));
    let sent = [left, right].into_iter().flat_map(|peer| &world.peer(peer).sent);
    sent.map(|sent| (sent.at.as_nanos(), sent.bytes.clone())).collect()
}

#[test]
fn the_same_seeds_give_the_same_bytes_at_the_same_times() {
    let first = wire(1, 1, Lane::Batched);
    assert!(first.len() > 2_000);
    assert!(first == wire(1, 1, Lane::Batched));
}

#[test]
fn another_link_gives_other_repairs_and_another_session_other_numbers() {
    let first = wire(1, 1, Lane::Batched);
    assert!(first != wire(2, 1, Lane::Batched));
    assert!(first != wire(1, 2, Lane::Batched));
}
