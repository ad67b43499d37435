//! Bytes that are not RTP or RTCP are counted, go on or end by policy, and never reach a plugin or anyone else.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sandbar_host::{Kind, Malformed, MemberSpec, RtcpFeedback, RtpHeaderExtension, SessionSpec};
use sandbar_tests::media::{Source, Verdict, control};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{counts, delivered, faults, guests, heard, member, session, standard};

/// What is wrong, and the bytes.
fn wrong() -> Vec<(&'static str, Kind, Vec<u8>)> {
    let rtp =
        Source { extensions: vec![(5, vec![1, 2])], csrcs: vec![1, 2], padding: 4, ..Source::video(7) }.nth(0).to_vec();
    let with = |at: usize, value: u8| {
        let mut bytes = rtp.clone();
        bytes[at] = value;
        bytes
    };
    let report = control::receiver_report(1).to_vec();
    let last = rtp.len() - 1;
    vec![
        ("nothing", Kind::Rtp, Vec::new()),
        ("one byte", Kind::Rtp, vec![0x80]),
        ("a header that is cut off", Kind::Rtp, rtp[..11].to_vec()),
        ("CSRCs that are cut off", Kind::Rtp, rtp[..18].to_vec()),
        ("an extension block that is cut off", Kind::Rtp, rtp[..22].to_vec()),
        ("an extension block that is too long", Kind::Rtp, with(22, 0xff)),
        ("version 0", Kind::Rtp, with(0, 0x32)),
        ("version 1", Kind::Rtp, with(0, 0x72)),
        ("version 3", Kind::Rtp, with(0, 0xf2)),
        ("no padding where some was announced", Kind::Rtp, with(last, 0)),
        ("RTCP of three bytes", Kind::Rtcp, report[..3].to_vec()),
        ("RTCP that is cut off", Kind::Rtcp, report[..6].to_vec()),
        ("RTCP of version 1", Kind::Rtcp, [&[0x40], &report[1..]].concat()),
        ("RTCP that is longer than its lengths", Kind::Rtcp, [&report[..], &[0; 3]].concat()),
        ("RTCP that is shorter than its lengths", Kind::Rtcp, [&[0x80, 201, 0, 9], &report[4..]].concat()),
        ("STUN", Kind::Rtp, vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("DTLS", Kind::Rtp, vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5]),
    ]
}

fn receive(world: &mut World, peer: PeerId, kind: Kind, bytes: Bytes) {
    world.with(peer, |shard, now, session| {
        shard.read(now, [sandbar_host::Datagram { session, kind, bytes }]);
    });
}

fn watching() -> [MemberSpec; 2] {
    [
        member(guests::BATCHED_COUNTER, json!({ "view": "packets" })),
        member(guests::TYPED_COUNTER, json!({ "access": "observe" })),
    ]
}

#[test]
fn what_a_peer_sends_and_nobody_can_read_is_told_every_ten_seconds() {
    let mut world = World::new(1);
    let peer = world.open(SessionSpec { name: "door".to_owned(), ..session(watching()) });
    let other = world.open(session([]));
    for _ in 0..250 {
        for (_, kind, bytes) in wrong() {
            receive(&mut world, peer, kind, bytes.into());
        }
        world.run_for(Duration::from_millis(100));
    }
    receive(&mut world, other, Kind::Rtcp, Bytes::from_static(&[0x80, 201, 0]));
    let told: Vec<_> =
        world.events.iter().map(|(at, event)| (at.as_nanos() / 1_000_000_000, event.to_string())).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    let says =
        "the peer of session door sends what cannot be read (1 so far): 0 bytes, and the RTP header alone needs 12";
    assert_eq!(told[0], (1, says.to_owned()));
    let each = wrong().len() as u64;
    assert!(told[1].0 == 11 && told[1].1.contains(&format!("({} so far)", 100 * each + 1)), "{told:?}");
    assert!(told[3].1.contains("of session session sends"), "each session by itself");
}

#[test]
fn it_is_counted_and_goes_on_or_ends_by_policy() {
    for policy in [Malformed::Drop, Malformed::Forward] {
        let mut world = World::new(1);
        let peer = world.open(SessionSpec { malformed: policy, ..session(watching()) });
        let mut source = Source::video(7);
        world.bind_remote(peer, source.info());
        for (name, kind, bytes) in wrong() {
            world.forget(peer);
            receive(&mut world, peer, kind, bytes.clone().into());
            let expected = if policy == Malformed::Forward { vec![Bytes::from(bytes)] } else { Vec::new() };
            assert_eq!(delivered(&world, peer), expected, "{name}");
        }
        let report = world.with(peer, |shard, _, session| shard.session_report(session)).expect("a session");
        assert_eq!(report.counts.malformed, wrong().len() as u64);
        for member in [0, 1] {
            let counts = counts(&mut world, peer, member);
            assert_eq!((&counts["read"], &counts["rtcp_read"]), (&json!(0), &json!(0)), "no plugin is shown it");
        }
        world.forget(peer);
        world.receive(peer, source.packets(5));
        assert_eq!(heard(&world, peer, &source), Verdict::perfect(5), "and what is good goes on");
        assert_eq!(faults(&world), []);
    }
}

#[test]
fn a_good_packet_in_the_same_burst_is_none_the_worse() {
    let mut world = World::new(1);
    let peer = world.open(session(watching()));
    let other = world.open(session(watching()));
    let (mut source, mut quiet) = (Source::video(7), Source::video(9));
    world.bind_remote(peer, source.info());
    world.bind_remote(other, quiet.info());
    let (mine, theirs) = (world.peer(peer).session, world.peer(other).session);
    let mut burst = Vec::new();
    for (_, kind, bytes) in wrong() {
        let datagram = |session, kind, bytes| sandbar_host::Datagram { session, kind, bytes };
        burst.push(datagram(mine, Kind::Rtp, source.packet()));
        burst.push(datagram(mine, kind, bytes.into()));
        burst.push(datagram(theirs, Kind::Rtp, quiet.packet()));
    }
    world.with(peer, |shard, now, _| shard.read(now, burst));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(source.made));
    assert_eq!(heard(&world, other, &quiet), Verdict::perfect(quiet.made));
}

/// Every standard plugin, and a session whose streams have everything negotiated.
fn everything(world: &mut World) -> PeerId {
    let names = [
        "twcc-header-extension",
        "nack-responder",
        "nack-generator",
        "twcc-sender",
        "report-receiver",
        "report-sender",
        "packet-counter",
        "noop",
        "rfc8888",
        "interval-pli",
        "audio-level",
    ];
    let peer = world.open(session(names.map(standard).into_iter().chain(watching())));
    let mut video = Source::video(7).info_with_rtx();
    video.rtcp_feedback.push(RtcpFeedback { kind: "ack".into(), parameter: "ccfb".into() });
    world.bind_remote(peer, video);
    let mut audio = Source::audio(27).info();
    let uri = "urn:ietf:params:rtp-hdrext:ssrc-audio-level".into();
    audio.rtp_header_extensions.push(RtpHeaderExtension { uri, id: 6 });
    world.bind_remote(peer, audio);
    world.bind_local(peer, Source::video(17).info_with_rtx());
    peer
}

#[test]
fn every_part_of_a_good_packet_is_survived_by_all_plugins() {
    let mut world = World::new(1);
    let peer = everything(&mut world);
    let packets = [
        Source { extensions: vec![(5, vec![0, 1])], csrcs: vec![1], padding: 4, payload: 20, ..Source::video(7) }
            .nth(0),
        Source { payload: 20, padding: 2, payload_type: 97, ..Source::video(8) }.nth(0),
        Source { extensions: vec![(5, vec![0, 2]), (6, vec![30])], payload: 20, ..Source::audio(27) }.nth(0),
        [control::receiver_report(1), control::nack(1, 17, 65_515, 0xffff), control::picture_loss(1, 17)]
            .concat()
            .into(),
    ];
    for packet in packets {
        for end in 0..=packet.len() {
            for kind in [Kind::Rtp, Kind::Rtcp] {
                receive(&mut world, peer, kind, packet.slice(..end));
            }
        }
    }
    world.run_for(std::time::Duration::from_secs(2));
    assert_eq!(faults(&world), []);
}

#[test]
fn noise_and_damaged_packets_are_survived_by_all_plugins_and_their_neighbours() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut world = World::new(1);
    let peer = everything(&mut world);
    let other = everything(&mut world);
    let mut quiet = Source::video(7);
    let good = [
        Source { extensions: vec![(5, vec![0, 1])], payload: 40, ..Source::video(7) }.nth(0),
        Source { payload: 40, payload_type: 97, ..Source::video(8) }.nth(0),
        Source { extensions: vec![(6, vec![30])], payload: 40, ..Source::audio(27) }.nth(0),
        [control::receiver_report(1), control::nack(1, 17, 65_515, 0xffff)].concat().into(),
        [&[0x8f, 205, 0, 5][..], &[0; 20]].concat().into(),
        [&[0x82, 200, 0, 18][..], &[7; 72]].concat().into(),
    ];
    for round in 0..4_000u64 {
        let mut bytes = good[rng.random_range(0..good.len())].to_vec();
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        bytes.truncate(rng.random_range(1..=bytes.len()));
        let kind = Kind::of(&bytes);
        receive(&mut world, peer, kind, bytes.into());
        if round.is_multiple_of(40) {
            world.receive(other, [quiet.packet()]);
            world.run_for(std::time::Duration::from_millis(10));
        }
    }
    assert_eq!(faults(&world), []);
    assert_eq!(heard(&world, other, &quiet), Verdict::perfect(100));
}
