//! A chain of nothing does nothing.

use bytes::Bytes;
use sandbar_host::{Kind, Packet, RtcpMode, SessionSpec};
use sandbar_tests::media::{Source, control};
use sandbar_tests::peers::World;

use crate::{delivered, heard, listener, sent, speaker};
use sandbar_tests::media::Verdict;

/// Packets with everything that a header can have.
fn rich(ssrc: u32) -> Source {
    Source {
        extensions: vec![(5, vec![1, 2]), (1, vec![0x80])],
        csrcs: vec![1, 2, 3],
        padding: 8,
        ..Source::video(ssrc)
    }
}

#[test]
fn everything_read_arrives_bit_exact() {
    let mut source = rich(7);
    let (mut world, peer) = listener([], &source);
    let mut packets = source.packets(50);
    packets.insert(20, Source::audio(9).packet());
    packets.insert(30, [control::receiver_report(1), control::nack(1, 7, 5, 3)].concat().into());
    world.receive(peer, packets.clone());
    assert_eq!(delivered(&world, peer), packets);
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(50));
}

#[test]
fn everything_written_leaves_bit_exact() {
    let mut source = rich(7);
    let (mut world, peer) = speaker([], &source);
    let mut packets = source.packets(50);
    packets.insert(20, Source::audio(9).packet());
    world.send(peer, packets.clone());
    assert_eq!(sent(&world, peer), packets);
}

#[test]
fn rtcp_written_leaves_bit_exact_where_it_is_a_compound_already() {
    let mut world = World::new(1);
    let peer = world.open(SessionSpec { rtcp: RtcpMode::ReducedSize, ..SessionSpec::default() });
    let compound: Bytes = [control::receiver_report(1), control::picture_loss(1, 7)].concat().into();
    world.send_rtcp(peer, compound.clone());
    assert_eq!(sent(&world, peer), [compound]);
}

#[test]
fn media_bytes_are_shared_with_what_the_socket_received() {
    let mut source = rich(7);
    let (mut world, peer) = listener([], &source);
    let packets = source.packets(3);
    world.receive(peer, packets.clone());
    for (received, delivered) in packets.iter().zip(&world.peer(peer).delivered) {
        let Packet::Rtp(packet) = &delivered.packet else { panic!("{delivered:?}") };
        let payload = packet.payload();
        assert_eq!(payload.as_ptr_range().end, received.as_ptr_range().end);
    }
}

#[test]
fn a_stream_is_named_with_its_packets_and_an_unbound_one_is_not() {
    let mut source = Source::video(7);
    let mut world = World::new(1);
    let peer = world.open(SessionSpec::default());
    let stream = world.bind_remote(peer, source.info_with_rtx());
    world.receive(peer, [source.packet(), Source::audio(9).packet(), control::receiver_report(1)]);
    let streams: Vec<_> = world.peer(peer).delivered.iter().map(|delivered| delivered.stream).collect();
    assert_eq!(streams, [Some(stream), None, None]);
    let kinds: Vec<_> = world.peer(peer).delivered.iter().map(|delivered| delivered.packet.kind()).collect();
    assert_eq!(kinds, [Kind::Rtp, Kind::Rtp, Kind::Rtcp]);
}

#[test]
fn a_retransmission_becomes_the_packet_that_was_lost() {
    // RFC 4588, 4: SSRC and payload type of the companion, and the original sequence number before the payload.
    let mut source = rich(7);
    let mut world = World::new(1);
    let peer = world.open(SessionSpec::default());
    let stream = world.bind_remote(peer, source.info_with_rtx());
    let packets = source.packets(3);
    let header = packets[1].len() - source.payload - usize::from(source.padding);
    let mut retransmission = packets[1][..header].to_vec();
    retransmission[1] = retransmission[1] & 0x80 | 97;
    retransmission[2..4].copy_from_slice(&[0x12, 0x34]);
    retransmission[11] = 8;
    retransmission.extend_from_slice(&packets[1][2..4]);
    retransmission.extend_from_slice(&packets[1][header..]);
    world.receive(peer, [packets[0].clone(), packets[2].clone(), retransmission.into()]);
    assert_eq!(delivered(&world, peer), [packets[0].clone(), packets[2].clone(), packets[1].clone()]);
    let repaired: Vec<_> = world.peer(peer).rtp().map(|packet| packet.repaired()).collect();
    assert_eq!(repaired, [false, false, true]);
    assert!(world.peer(peer).delivered.iter().all(|delivered| delivered.stream == Some(stream)));
}

#[test]
fn a_companions_packets_that_are_no_retransmissions_are_not_taken_for_the_streams() {
    // Probes for bandwidth are padding alone on the retransmissions' SSRC; others have another payload type.
    let source = Source::video(7);
    let mut world = World::new(1);
    let peer = world.open(SessionSpec::default());
    world.bind_remote(peer, source.info_with_rtx());
    let probe: Bytes = [&[0xa0, 97, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8][..], &[0, 0, 0, 4]].concat().into();
    let short: Bytes = [&[0x80, 97, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8][..], &[1]].concat().into();
    let other = Source { payload_type: 96, ..Source::video(8) }.nth(0);
    let burst = [probe, short, other];
    world.receive(peer, burst.clone());
    assert_eq!(delivered(&world, peer), burst);
    assert!(world.peer(peer).rtp().all(|packet| !packet.repaired() && packet.ssrc() == 8));
}

#[test]
fn bursts_of_any_size_are_taken() {
    let mut source = Source { payload: 12, ..Source::video(7) };
    let chain = [
        crate::member(crate::guests::BATCHED_COUNTER, serde_json::json!({ "view": "packets" })),
        crate::member(crate::guests::BATCHED_COUNTER, serde_json::json!({ "access": "observe" })),
    ];
    let (mut world, peer) = listener(chain, &source);
    world.receive(peer, []);
    world.receive(peer, source.packets(20_000));
    assert_eq!(heard(&world, peer, &source), Verdict::perfect(20_000));
    for member in [0, 1] {
        assert_eq!(crate::counts(&mut world, peer, member)["read"], 20_000);
    }
}
