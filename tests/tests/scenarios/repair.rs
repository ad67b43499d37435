//! Loss is repaired: the reason why people run interceptors.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Kind, MemberSpec, StreamInfo};
use sandbar_tests::media::{Source, Verdict, fields};
use sandbar_tests::net::{Loss, Profile};
use sandbar_tests::peers::World;

use crate::{session, standard};

/// What the way from left to right saw.
#[derive(Debug)]
struct Tally {
    lost: u64,
    retransmitted: usize,
}

/// Half a minute of video from left to right over links with this profile, with or without a NACK pair.
fn stream(seed: u64, profile: &Profile, repair: bool) -> (Verdict, Tally) {
    let chain = |name: &'static str| if repair { vec![name] } else { vec![] };
    stream_through(seed, profile, chain("nack-responder"), chain("nack-generator"))
}

/// The same with these standard plugins at the sender and at the receiver.
fn stream_through(seed: u64, profile: &Profile, left: Vec<&str>, right: Vec<&str>) -> (Verdict, Tally) {
    let chain = |names: Vec<&str>| session(names.into_iter().map(standard));
    let (mut world, left, right) = World::pair(seed, profile, chain(left), chain(right));
    let source = Source::video(7);
    let flow = world.flow(left, right, source.clone(), source.info_with_rtx());
    world.play(flow, 3_000);
    // The last packets of a stream are only missed when later ones arrive; these end the scenario.
    world.run_for(Duration::from_secs(32));
    let lost = world.link(left).tally().lost;
    let retransmission = |bytes: &&Bytes| fields(bytes).is_some_and(|fields| fields.ssrc == source.ssrc + 1);
    let retransmitted = world.peer(left).sent(Kind::Rtp).filter(retransmission).count();
    let tally = Tally { lost, retransmitted };
    (world.judge(flow).verdict(2_900), tally)
}

fn lossy(loss: Loss) -> Profile {
    Profile { loss, delay: Duration::from_millis(20), jitter: Duration::from_millis(5), ..Profile::default() }
}

#[test]
fn without_a_chain_loss_stays_loss() {
    let (verdict, tally) = stream(1, &lossy(Loss::Random(0.05)), false);
    assert!(verdict.lost > 100, "{verdict:?}");
    assert_eq!(tally.retransmitted, 0);
    assert_eq!((verdict.duplicated, verdict.reordered, verdict.changed), (0, 0, 0));
}

#[test]
fn random_loss_is_repaired_by_retransmission() {
    for seed in 1..4 {
        let (verdict, _) = stream(seed, &lossy(Loss::Random(0.05)), true);
        assert!(verdict.complete(), "seed {seed}: {verdict:?}");
        assert!(verdict.reordered > 100, "a repaired packet arrives late: {verdict:?}");
    }
}

#[test]
fn bursts_of_loss_are_repaired_by_retransmission() {
    for seed in 1..4 {
        let (verdict, _) = stream(seed, &lossy(Loss::bursts(0.05, 6.0)), true);
        assert!(verdict.complete(), "seed {seed}: {verdict:?}");
    }
}

#[test]
fn heavy_loss_in_both_directions_is_repaired_by_asking_again() {
    // With reports both sides know the round trip, and ask and answer as often as it allows.
    let left = vec!["nack-responder", "report-receiver", "report-sender"];
    let right = vec!["nack-generator", "report-receiver", "report-sender"];
    let (verdict, _) = stream_through(1, &lossy(Loss::Random(0.25)), left, right);
    // What was asked for again before it came, as jitter makes the round trip longer at times, comes twice.
    assert_eq!((verdict.lost, verdict.changed), (0, 0), "{verdict:?}");
    assert!(verdict.duplicated < 50, "{verdict:?}");
}

/// Video with repair packets, which are numbered for congestion control behind the encoder like everything else.
fn protected() -> (Source, StreamInfo) {
    // Room for a repair packet's header and for numbers.
    let source = Source { payload: 1100, extensions: vec![(3, b"mid".to_vec())], ..Source::video(7) };
    let info = StreamInfo {
        ssrc_forward_error_correction: Some(9),
        payload_type_forward_error_correction: Some(118),
        ..source.info()
    };
    (source, info)
}

#[test]
fn losses_are_repaired_from_repair_packets_without_asking_and_not_reported_as_received() {
    for seed in 1..4 {
        let left = session(["twcc-header-extension", "flexfec-encoder"].map(standard));
        let right = session(["twcc-sender", "flexfec-decoder", "nack-generator", "report-receiver"].map(standard));
        let (mut world, left, right) = World::pair(seed, &lossy(Loss::Random(0.03)), left, right);
        let (source, info) = protected();
        let flow = world.flow(left, right, source, info);
        world.play(flow, 3_000);
        world.run_for(Duration::from_secs(31));
        let verdict = world.judge(flow).verdict(2_900);
        let restored = world.peer(right).rtp().filter(|packet| packet.repaired()).count() as u64;
        // Two losses of one group, or a group's repair with one of it, stay lost: a tenth of them at this rate.
        assert!((1..30).contains(&verdict.lost), "seed {seed}: {verdict:?}");
        assert!(restored > 60 && restored > 3 * verdict.lost, "seed {seed}: {restored} of {verdict:?}");
        assert_eq!((verdict.duplicated, verdict.changed), (0, 0), "seed {seed}: {verdict:?}");
        assert!(world.peer(right).rtp().all(|packet| packet.ssrc() == 7), "repair ends at the decoder");
        // RFC 3550, 6.4.1: what the last report says was lost, of all that was sent.
        let reports = world.peer(right).sent(Kind::Rtcp).filter(|compound| compound[1] == 201 && compound.len() > 32);
        let lost = reports.last().map(|report| u32::from_be_bytes([0, report[13], report[14], report[15]]));
        assert!(u64::from(lost.expect("reports")) >= restored, "seed {seed}: {lost:?} of {restored}");
    }
}

#[test]
fn retransmission_and_repair_packets_together_leave_nothing_lost() {
    for seed in 1..4 {
        let left = session(["twcc-header-extension", "nack-responder", "flexfec-encoder"].map(standard));
        let right = session(["flexfec-decoder", "nack-generator"].map(standard));
        let (mut world, left, right) = World::pair(seed, &lossy(Loss::bursts(0.05, 4.0)), left, right);
        let (source, info) = protected();
        let info = StreamInfo { ssrc_retransmission: Some(8), payload_type_retransmission: Some(97), ..info };
        let flow = world.flow(left, right, source, info);
        world.play(flow, 3_000);
        world.run_for(Duration::from_secs(32));
        let verdict = world.judge(flow).verdict(2_900);
        assert_eq!((verdict.lost, verdict.changed), (0, 0), "seed {seed}: {verdict:?}");
    }
}

#[test]
fn audio_that_repeats_earlier_frames_is_restored_at_the_other_end() {
    for seed in 1..4 {
        let redundant = MemberSpec::with_config(standard("red-encoder"), r#"{"redundancy": 2}"#);
        let (left, right) = (session([redundant]), session([standard("red-decoder")]));
        let (mut world, left, right) = World::pair(seed, &lossy(Loss::Random(0.05)), left, right);
        let source = Source::audio(7);
        let info = StreamInfo {
            payload_type: 63,
            mime_type: "audio/red".into(),
            sdp_fmtp_line: "111/111".into(),
            ..source.info()
        };
        let flow = world.flow(left, right, source, info);
        world.play(flow, 3_000);
        world.run_for(Duration::from_secs(62));
        let verdict = world.judge(flow).verdict(2_900);
        let restored = world.peer(right).rtp().filter(|packet| packet.repaired()).count();
        // Only three losses in a row are too many.
        assert!(restored > 100 && verdict.lost < 6, "seed {seed}: {restored}, {verdict:?}");
        assert_eq!((verdict.duplicated, verdict.reordered), (0, 0), "seed {seed}: {verdict:?}");
        // RED does not say which repeated frames had the marker, as all of this source have.
        assert_eq!(verdict.changed, restored as u64, "seed {seed}: {verdict:?}");
    }
}

#[test]
fn reordering_alone_loses_nothing_and_changes_nothing() {
    let profile = Profile { reorder: (0.1, Duration::from_millis(25)), ..lossy(Loss::None) };
    let (verdict, _) = stream(1, &profile, true);
    assert_eq!((verdict.lost, verdict.changed), (0, 0), "{verdict:?}");
}

#[test]
fn a_perfect_link_carries_no_retransmissions() {
    let (verdict, tally) = stream(1, &lossy(Loss::None), true);
    assert_eq!(verdict, Verdict::perfect(2_900));
    assert_eq!(tally.retransmitted, 0);
}

#[test]
fn no_more_is_retransmitted_than_was_lost_and_lost_again() {
    let (verdict, tally) = stream(1, &lossy(Loss::Random(0.05)), true);
    assert!(verdict.complete());
    // Each loss is asked for about once more for each of its retransmissions that is lost too, or late.
    let lost = tally.lost as usize;
    assert!((lost / 2..lost * 2).contains(&tally.retransmitted), "{tally:?}");
}

#[test]
fn repair_goes_on_while_its_plugins_are_replaced() {
    // Every 300 ms, at both ends, with losses asked for and packets to be kept in between.
    for seed in 1..4 {
        let profile = lossy(Loss::Random(0.05));
        let (mut world, left, right) =
            World::pair(seed, &profile, session([standard("nack-responder")]), session([standard("nack-generator")]));
        let source = Source::video(7);
        let flow = world.flow(left, right, source.clone(), source.info_with_rtx());
        world.play(flow, 1_000);
        for _ in 0..40 {
            world.run_for(Duration::from_millis(300));
            for (peer, name) in [(left, "nack-responder"), (right, "nack-generator")] {
                let spec = standard(name);
                world
                    .with(peer, |shard, now, session| shard.replace_member(now, session, 0, spec))
                    .expect("the successor is accepted");
            }
        }
        let verdict = world.judge(flow).verdict(950);
        assert_eq!((verdict.lost, verdict.changed), (0, 0), "seed {seed}: {verdict:?}");
        // A successor may send again what its predecessor has just retransmitted, and only that.
        assert!(verdict.duplicated <= 2 && verdict.reordered > 20, "seed {seed}: {verdict:?}");
    }
}
