//! RTCP: read whole, and sent in compounds that RFC 3550 or RFC 5506 allow.

use sandbar_host::{Kind, MemberSpec, RtcpMode, SessionSpec};
use sandbar_tests::media::{Source, control};
use sandbar_tests::peers::{PeerId, World};
use serde_json::json;

use crate::{counts, guests, member, seen, sent, session, tell};

const REPORTS: [u8; 2] = [200, 201];

fn puppet(rtcp: &str) -> MemberSpec {
    member(guests::PUPPET, json!({ "rtcp": rtcp }))
}

fn emitting(spec: SessionSpec) -> (World, PeerId) {
    let mut world = World::new(1);
    let peer = world.open(SessionSpec { chain: session([puppet("pass")]).chain, ..spec });
    (world, peer)
}

fn emit(world: &mut World, peer: PeerId, packets: impl IntoIterator<Item = Vec<u8>>) {
    let commands: Vec<_> = packets.into_iter().map(|packet| json!({ "do": "emit-rtcp", "packets": packet })).collect();
    let answers = tell(world, peer, 0, json!(commands));
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
}

fn report() -> Vec<u8> {
    control::receiver_report(1).to_vec()
}

fn loss() -> Vec<u8> {
    control::picture_loss(1, 7).to_vec()
}

/// A sender report without blocks (RFC 3550, 6.4.1).
fn sender_report() -> Vec<u8> {
    [&[0x80, 200, 0, 6][..], &[0; 24]].concat()
}

/// An application-defined packet of so many bytes (RFC 3550, 6.7).
fn large(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 204, 0, 0, 0, 0, 0, 1, b't', b'e', b's', b't'];
    packet.resize(bytes, 0);
    packet[2..4].copy_from_slice(&((bytes / 4 - 1) as u16).to_be_bytes());
    packet
}

/// The packet types of each datagram sent, checked against RFC 3550, 6.1: a report first, one SDES, within the MTU.
fn compounds(world: &World, peer: PeerId, mtu: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for bytes in sent(world, peer) {
        let kinds = control::kinds(&bytes).expect("lengths that add up");
        assert!(REPORTS.contains(&kinds[0]), "a compound begins with a report: {kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| **kind == 202).count(), 1, "a compound has an SDES: {kinds:?}");
        assert!(bytes.len() <= mtu, "{} bytes in a datagram: {kinds:?}", bytes.len());
        all.push(kinds);
    }
    all
}

#[test]
fn what_one_tick_brings_is_one_compound() {
    let (mut world, peer) = emitting(SessionSpec::default());
    emit(&mut world, peer, [loss(), report(), loss(), sender_report()]);
    assert_eq!(compounds(&world, peer, 1200), [[201, 200, 202, 206, 206]]);
}

#[test]
fn what_several_plugins_send_in_a_tick_is_one_compound() {
    // All three are woken by the same packet.
    let mut source = Source::video(7);
    let talk = json!({ "on_read": [{ "do": "emit-rtcp", "packets": loss() }] });
    let mut world = World::new(1);
    let peer = world.open(session([(); 3].map(|()| member(guests::PUPPET, talk.clone()))));
    world.bind_remote(peer, source.info());
    world.receive(peer, [source.packet()]);
    assert_eq!(compounds(&world, peer, 1200), [[201, 202, 206, 206, 206]]);
    world.receive(peer, [source.packet()]);
    assert_eq!(compounds(&world, peer, 1200).len(), 2);
}

#[test]
fn feedback_alone_is_sent_behind_an_empty_report_and_the_cname() {
    let spec = SessionSpec { cname: "ada@example.org".into(), rtcp_ssrc: Some(0x0a0b_0c0d), ..SessionSpec::default() };
    let (mut world, peer) = emitting(spec);
    emit(&mut world, peer, [loss()]);
    let bytes = sent(&world, peer).remove(0);
    assert_eq!(bytes[..8], [0x80, 201, 0, 1, 0x0a, 0x0b, 0x0c, 0x0d]);
    // RFC 3550, 6.5: one chunk with the CNAME, and zeroes to the end of its last word.
    assert_eq!(bytes[8..16], [0x81, 202, 0, 6, 0x0a, 0x0b, 0x0c, 0x0d]);
    assert_eq!(bytes[16..18], [1, 15]);
    assert_eq!(bytes[18..33], *b"ada@example.org");
    assert_eq!(bytes[33..36], [0; 3]);
    assert_eq!(bytes[36..], loss());
}

#[test]
fn a_cname_of_any_length_gives_a_well_formed_sdes() {
    for length in [0, 1, 2, 3, 4, 5, 254, 255, 256, 300] {
        let (mut world, peer) = emitting(SessionSpec { cname: "c".repeat(length), ..SessionSpec::default() });
        emit(&mut world, peer, [loss()]);
        assert_eq!(compounds(&world, peer, 1200), [[201, 202, 206]], "{length}");
    }
}

#[test]
fn reduced_size_rtcp_is_sent_as_it_is() {
    let (mut world, peer) = emitting(SessionSpec { rtcp: RtcpMode::ReducedSize, ..SessionSpec::default() });
    emit(&mut world, peer, [loss(), loss()]);
    let sent = sent(&world, peer);
    assert_eq!(sent, [[loss(), loss()].concat()]);
}

#[test]
fn a_tick_that_is_too_much_for_the_mtu_becomes_several_compounds() {
    for mode in [RtcpMode::Compound, RtcpMode::ReducedSize] {
        let (mut world, peer) = emitting(SessionSpec { mtu: 300, rtcp: mode, ..SessionSpec::default() });
        emit(&mut world, peer, (0..50).map(|_| loss()).chain((0..3).map(|_| sender_report())));
        let kinds: Vec<_> =
            sent(&world, peer).iter().map(|bytes| control::kinds(bytes).expect("well-formed")).collect();
        assert!(kinds.len() > 1);
        let all = kinds.concat();
        assert_eq!(all.iter().filter(|kind| **kind == 206).count(), 50, "nothing is lost");
        assert_eq!(all.iter().filter(|kind| **kind == 200).count(), 3);
        if mode == RtcpMode::Compound {
            compounds(&world, peer, 300);
        }
        assert!(sent(&world, peer).iter().all(|bytes| bytes.len() <= 300));
    }
}

#[test]
fn packets_of_every_size_are_packed_within_the_mtu() {
    for size in (12..=600).step_by(4) {
        let (mut world, peer) = emitting(SessionSpec { mtu: 600, ..SessionSpec::default() });
        emit(&mut world, peer, [large(size), loss(), large(size), report(), large(size)]);
        let bytes = sent(&world, peer);
        assert!(
            bytes.iter().all(|bytes| bytes.len() <= 600),
            "{size}: {:?}",
            bytes.iter().map(|b| b.len()).collect::<Vec<_>>()
        );
        let kinds: Vec<_> = bytes.iter().flat_map(|bytes| control::kinds(bytes).expect("well-formed")).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == 204).count(), 3, "{size}");
        assert_eq!(kinds.iter().filter(|kind| **kind == 206).count(), 1, "{size}");
        // A packet that fills the MTU alone leaves no room for a report and SDES beside it.
        if size <= 560 {
            compounds(&world, peer, 600);
        }
    }
}

#[test]
fn a_compound_from_the_peer_arrives_whole_and_once_at_each_plugin_and_the_application() {
    let mut world = World::new(1);
    let chain = [puppet("observe"), puppet("transform"), member(guests::TYPED_COUNTER, json!({})), puppet("pass")];
    let peer = world.open(session(chain));
    world.bind_remote(peer, Source::video(7).info());
    world.bind_remote(peer, Source::video(9).info());
    let compound = [report(), loss(), control::nack(1, 9, 5, 0).to_vec()].concat();
    world.receive(peer, [compound.clone().into()]);
    for watching in [0, 1] {
        assert_eq!(seen(&mut world, peer, watching)["rtcp_read"], json!([compound]));
    }
    assert_eq!(counts(&mut world, peer, 2)["rtcp_read"], 1);
    assert_eq!(seen(&mut world, peer, 3)["rtcp_read"], json!([]));
    let arrived: Vec<_> = world.peer(peer).rtcp().map(|packet| packet.bytes().to_vec()).collect();
    assert_eq!(arrived, [compound]);
}

#[test]
fn the_applications_own_rtcp_passes_the_chain() {
    let mut world = World::new(1);
    let peer = world.open(session([puppet("transform"), puppet("observe")]));
    world.send_rtcp(peer, [report(), loss()].concat().into());
    for member in [0, 1] {
        let written = seen(&mut world, peer, member)["rtcp_written"].clone();
        assert_eq!(written, json!(vec![[report(), loss()].concat()]));
    }
    assert_eq!(compounds(&world, peer, 1200), [[201, 202, 206]]);
    assert_eq!(world.peer(peer).sent(Kind::Rtcp).count(), 1);
}

#[test]
fn rtcp_does_not_wait_for_a_batch() {
    // Feedback is worth most when it is young: an observer of RTCP is called in the same tick.
    let mut world = World::new(1);
    let peer = world.open(session([puppet("observe")]));
    let before = crate::report(&mut world, peer, 0).calls;
    world.receive(peer, [report().into()]);
    assert_eq!(crate::report(&mut world, peer, 0).calls, before + 1);
    let next = world.with(peer, |shard, _, _| shard.poll_timeout());
    assert_eq!(next, None, "no deadline is left where no batch waits");
}

#[test]
fn a_transform_may_drop_shorten_and_multiply_compounds() {
    let compound = [report(), loss(), loss()].concat();
    for (action, expected) in [
        ("forward", vec![compound.clone()]),
        ("drop", vec![]),
        ("behead", vec![[loss(), loss()].concat()]),
        ("duplicate", vec![[compound.clone(), compound.clone()].concat()]),
    ] {
        let spec = member(guests::PROBE, json!({ "rtcp_read": "transform", "on_rtcp_read": action }));
        let mut world = World::new(1);
        let peer = world.open(session([spec, puppet("observe")]));
        world.receive(peer, [compound.clone().into()]);
        let arrived: Vec<_> = world.peer(peer).rtcp().map(|packet| packet.bytes().to_vec()).collect();
        assert_eq!(arrived, expected, "{action}");
        assert_eq!(seen(&mut world, peer, 1)["rtcp_read"], json!(expected), "{action}");
        assert_eq!(crate::faults(&world), [], "{action}");
    }
}
