//! What the stats plugin says agrees with what the links did.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sandbar_host::Kind;
use sandbar_tests::media::{Source, control};
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

#[test]
fn what_retransmission_brings_back_was_lost_and_every_packet_that_the_link_lost_is_accounted_for() {
    const SENT: u64 = 2_000;
    for seed in 1..4 {
        let profile = Profile {
            loss: Loss::Random(0.05),
            delay: Duration::from_secs_f64(DELAY),
            jitter: Duration::from_secs_f64(JITTER),
            reorder: (0.02, Duration::from_millis(15)),
            ..Profile::default()
        };
        let chain = |nack| session(["stats", nack, "report-receiver", "report-sender"].map(standard));
        let (mut world, left, right) = World::pair(seed, &profile, chain("nack-responder"), chain("nack-generator"));
        let source = Source::video(7);
        let flow = world.flow(left, right, source.clone(), source.info_with_rtx());
        world.play(flow, SENT);
        world.run_for(source.due(SENT) + Duration::from_secs(1));
        assert_eq!(world.link(left).poll_arrival(), None, "seed {seed}: nothing is under way");

        let inbound = statistics(&mut world, right, "inbound-rtp", source.ssrc);
        let outbound = statistics(&mut world, left, "outbound-rtp", source.ssrc);
        let index = |number: u16| u64::from(number.wrapping_sub(source.first_sequence_number));
        let first: BTreeSet<u64> = world
            .peer(right)
            .rtp()
            .filter(|packet| !packet.repaired())
            .map(|packet| index(packet.sequence_number()))
            .collect();
        let (arrived, last) = (first.len() as u64, first.last().copied().expect("packets"));
        let back = world.peer(right).rtp().filter(|packet| packet.repaired()).count() as u64;
        assert!(back > 80 && world.verdict(flow).lost < 5, "seed {seed}: {back}, {:?}", world.verdict(flow));
        assert_eq!(inbound["packetsReceived"], arrived + back, "seed {seed}");
        assert_eq!(inbound["retransmittedPacketsReceived"], back, "seed {seed}");
        // Nobody sees losses behind the last packet that came; a retransmission does not lower the others (RFC 4588, 6.3).
        assert_eq!(inbound["packetsLost"], last + 1 - arrived, "seed {seed}: {inbound}");

        let again = outbound["retransmittedPacketsSent"].as_u64().expect("a number");
        assert_eq!(outbound["packetsSent"], SENT + again, "seed {seed}");
        let rtcp = world.peer(left).sent(Kind::Rtcp).count() - world.peer(right).rtcp().count();
        let lost = (SENT - arrived) + (again - back) + rtcp as u64;
        assert_eq!(world.link(left).tally().lost, lost, "seed {seed}: {outbound}");

        // Of all feedback there is none but NACKs here.
        let nacks = |compound: Bytes| {
            control::kinds(&compound).expect("a compound").into_iter().filter(|kind| *kind == 205).count() as u64
        };
        let asked: u64 = world.peer(right).sent(Kind::Rtcp).cloned().map(nacks).sum();
        let heard: u64 = world.peer(left).rtcp().map(|compound| nacks(compound.bytes().clone())).sum();
        assert_eq!((&inbound["nackCount"], &outbound["nackCount"]), (&asked.into(), &heard.into()), "seed {seed}");
        assert!(heard < asked, "seed {seed}: some of the requests are lost too");
    }
}
