//! What the stats plugin says agrees with what the links did.

use std::time::Duration;

use sandbar_tests::media::Source;
use sandbar_tests::net::{Loss, Profile};
use sandbar_tests::peers::{PeerId, World};
use serde_json::Value;

use crate::{session, standard};

const DELAY: f64 = 0.040;
const JITTER: f64 = 0.010;

/// The statistics of this type that a peer's first member has of a source.
fn statistics(world: &mut World, peer: PeerId, kind: &str, ssrc: u32) -> Value {
    let all: Value = serde_json::from_str(&world.control(peer, 0, "stats")).expect("JSON");
    let of = |one: &&Value| one["type"] == kind && one["ssrc"] == ssrc;
    all.as_array().and_then(|all| all.iter().find(of)).unwrap_or_else(|| panic!("no {kind} in {all}")).clone()
}

/// RFC 3550, A.8, from the packets as the receiver's application got them: seconds.
fn jitter(world: &World, peer: PeerId, source: &Source) -> f64 {
    let (mut jitter, mut last) = (0.0, None);
    for delivered in &world.peer(peer).delivered {
        let sandbar_host::Packet::Rtp(packet) = &delivered.packet else { continue };
        if packet.ssrc() != source.ssrc {
            continue;
        }
        if let Some((at, timestamp)) = last {
            let sampled = f64::from(packet.timestamp().wrapping_sub(timestamp) as i32) / f64::from(source.clock_rate);
            let arrived: Duration = delivered.at - at;
            jitter += ((arrived.as_secs_f64() - sampled).abs() - jitter) / 16.0;
        }
        last = Some((delivered.at, packet.timestamp()));
    }
    jitter
}

#[test]
fn loss_jitter_and_round_trip_are_what_the_links_made_them() {
    for (seed, source) in [(1, Source::video(7)), (2, Source::audio(7)), (3, Source::video(7))] {
        let profile = Profile {
            loss: Loss::Random(0.05),
            delay: Duration::from_secs_f64(DELAY),
            jitter: Duration::from_secs_f64(JITTER),
            ..Profile::default()
        };
        let chain = || session(["stats", "report-receiver", "report-sender"].map(standard));
        let (mut world, left, right) = World::pair(seed, &profile, chain(), chain());
        let flow = world.flow(left, right, source.clone(), source.info());
        world.play(flow, 2_000);
        let took = source.due(2_000) + Duration::from_secs(1);
        world.run_for(took);

        let inbound = statistics(&mut world, right, "inbound-rtp", source.ssrc);
        let verdict = world.verdict(flow);
        assert_eq!(inbound["packetsReceived"], 2_000 - verdict.lost, "seed {seed}");
        // Losses behind the last packet that came are nobody's to see (RFC 3550, A.3).
        let index = |number: u16| u64::from(number.wrapping_sub(source.first_sequence_number));
        let last = world.peer(right).rtp().map(|packet| index(packet.sequence_number())).max().expect("packets");
        let unseen = 1_999 - last;
        assert_eq!(inbound["packetsLost"], verdict.lost - unseen, "seed {seed}: {inbound}");
        let (said, made) = (inbound["jitter"].as_f64().unwrap(), jitter(&world, right, &source));
        assert!((said - made).abs() < 1e-4 && made > JITTER / 10.0, "seed {seed}: jitter {said}, made {made}");

        let remote = statistics(&mut world, left, "remote-inbound-rtp", source.ssrc);
        let round_trip = remote["roundTripTime"].as_f64().unwrap();
        let possible = 2.0 * DELAY - 0.001..2.0 * (DELAY + JITTER) + 0.002;
        assert!(possible.contains(&round_trip), "seed {seed}: {round_trip} s of {possible:?}");
        let mean =
            remote["totalRoundTripTime"].as_f64().unwrap() / remote["roundTripTimeMeasurements"].as_f64().unwrap();
        assert!(possible.contains(&mean), "seed {seed}: {mean} s on average");
        assert!(remote["packetsLost"].as_i64() <= inbound["packetsLost"].as_i64(), "seed {seed}: {remote}");
        assert!(remote["packetsLost"].as_u64().unwrap() > verdict.lost * 9 / 10, "seed {seed}: {remote}");
    }
}
