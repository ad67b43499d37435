//! The plugin as a host sees it, in virtual time. What it makes of whole paths is tried in `tests/congestion`.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_gcc::{Gcc, PROBES, TARGET};
use sandbar_sdk::testing::{Feed, Harness, Setup};
use sandbar_sdk::{Binding, Refusal, RtcpAccess, RtcpFeedback, StreamInfo, Value, serde_json};

const REPORT: &str = "rtpfb.report";
const UNANSWERED: &str = "rtpfb.unanswered_ms";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn video() -> StreamInfo {
    let feedback = RtcpFeedback { kind: "transport-cc".into(), parameter: String::new() };
    StreamInfo { ssrc: 7, rtcp_feedback: vec![feedback], ..StreamInfo::default() }
}

fn bound(config: &str) -> Harness<Gcc> {
    let mut harness = Harness::new(config).unwrap();
    harness.bind_local_stream(&video()).unwrap();
    harness
}

fn target(harness: &Harness<Gcc>) -> i64 {
    match harness.session_attribute(TARGET) {
        Some(Value::Integer(target)) => target,
        other => panic!("{other:?}"),
    }
}

/// Numbers and rates of the probes that are ordered.
fn orders(harness: &Harness<Gcc>) -> Vec<(u32, u32)> {
    let Some(Value::Bytes(orders)) = harness.session_attribute(PROBES) else { panic!("orders") };
    assert_eq!(orders[0], 1);
    let word = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
    orders[1..].chunks_exact(12).map(|order| (word(order), word(&order[4..]))).collect()
}

/// An empty receiver report (RFC 3550, 6.4.2), as what a report may ride on.
const COMPOUND: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];

/// One feedback interval of 100 ms: packets sent evenly at `rate`, of which each `lost`th did not arrive, over a path of
/// `capacity` with a queue of `queue` microseconds, which is given back.
fn feed_back(harness: &mut Harness<Gcc>, rate: f64, capacity: f64, lost: usize, queue: i64) -> i64 {
    let packets = (rate / 10.0 / 9600.0).round().max(2.0) as usize;
    let apart = 100_000 / packets as i64;
    let takes = (9600.0 / capacity * 1e6) as i64;
    let begun = (harness.now().as_nanos() / 1000) as i64;
    let mut report = vec![1, 0];
    report.extend_from_slice(&(packets as u16).to_le_bytes());
    report.extend_from_slice(&begun.to_le_bytes());
    report.extend_from_slice(&begun.to_le_bytes());
    let (mut free, mut sent, mut at) = (queue, 0, 0);
    for n in 0..packets as i64 {
        free = free.max(n * apart) + takes;
        let gone = lost != 0 && (n as usize).is_multiple_of(lost);
        report.push(if gone { 0 } else { 0b101 });
        varint(1200, &mut report);
        varint(2 * (n * apart - sent) as u64, &mut report);
        sent = n * apart;
        if !gone {
            varint(2 * (free - at) as u64, &mut report);
            at = free;
        }
    }
    harness.advance(ms(100));
    harness.read_rtcp(Feed::new(COMPOUND).attribute(REPORT, report));
    (free - 100_000).max(0)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The same for a while, sending what it says.
fn run(harness: &mut Harness<Gcc>, intervals: usize, capacity: f64, lost: usize) {
    let mut queue = 0;
    for _ in 0..intervals {
        let rate = target(harness) as f64;
        queue = feed_back(harness, rate, capacity, lost, queue);
    }
}

#[test]
fn it_only_listens_to_rtcp() {
    let mut harness = Harness::<Gcc>::new("{}").unwrap();
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Observe, RtcpAccess::Pass));
    let stream = harness.bind_local_stream(&video()).unwrap();
    assert_eq!(harness.binding(stream), Some(Binding::PASS));
    harness.unbind_stream(stream);
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn it_begins_with_what_is_configured_and_with_probes() {
    let harness = bound(r#"{"start_bitrate": 500000}"#);
    assert_eq!((target(&harness), orders(&harness)), (500_000, vec![(1, 1_500_000), (2, 3_000_000)]));
    let harness = bound(r#"{"start_bitrate": 500000, "max_bitrate": 600000}"#);
    assert_eq!(orders(&harness), [(1, 1_020_000), (2, 1_020_000)]);
    let harness = bound(r#"{"probing": false}"#);
    assert_eq!((target(&harness), harness.session_attribute(PROBES)), (300_000, None));
}

#[test]
fn it_grows_to_what_the_path_carries_and_stays_about_there() {
    let mut harness = bound(r#"{"probing": false}"#);
    run(&mut harness, 100, 3e6, 0);
    let mut sum = 0;
    for _ in 0..200 {
        run(&mut harness, 1, 3e6, 0);
        sum += target(&harness);
    }
    assert!((2_550_000..3_300_000).contains(&(sum / 200)), "{}", sum / 200);
}

#[test]
fn the_estimate_keeps_within_its_bounds() {
    let mut harness = bound(r#"{"probing": false, "min_bitrate": 200000, "max_bitrate": 900000}"#);
    run(&mut harness, 200, 50e6, 0);
    assert_eq!(target(&harness), 900_000);
    run(&mut harness, 300, 100e3, 2);
    assert_eq!(target(&harness), 200_000);
}

#[test]
fn loss_by_chance_does_not_make_it_collapse() {
    for lost in [20, 5] {
        let mut harness = bound(r#"{"probing": false}"#);
        run(&mut harness, 300, 3e6, lost);
        assert!(target(&harness) > 2_000_000, "1 in {lost}: {}", target(&harness));
    }
}

#[test]
fn changes_are_published_and_answered() {
    let mut harness = bound(r#"{"probing": false}"#);
    let first = harness.published();
    assert_eq!(first.len(), 1);
    run(&mut harness, 20, 3e6, 0);
    let published = harness.published();
    assert!((3..=10).contains(&published.len()), "at most five a second: {}", published.len());
    let (name, json) = published.last().unwrap();
    let document: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(name, "target-bitrate");
    assert!(document["target_bitrate"].as_i64().unwrap() > 600_000);
    let answer: serde_json::Value = serde_json::from_str(&harness.control("").unwrap()).unwrap();
    assert_eq!(answer["target_bitrate"], target(&harness));
    assert_eq!(harness.gauge("target_bitrate"), Some(target(&harness) as f64));
}

#[test]
fn without_word_from_the_peer_the_rate_falls_and_then_looks_for_the_path_anew() {
    let mut harness = bound("{}");
    harness.set_session_attribute(UNANSWERED, Some(Value::Integer(9_000)));
    harness.advance(ms(5_000));
    assert_eq!(target(&harness), 300_000, "nothing has ever been heard: feedback may not be there at all");
    harness.set_session_attribute(UNANSWERED, None);
    run(&mut harness, 50, 3e6, 0);
    let before = target(&harness);
    for silence in 1..=10 {
        harness.set_session_attribute(UNANSWERED, Some(Value::Integer(silence * 1000)));
        harness.advance(ms(1_000));
    }
    let silent = target(&harness);
    assert!(silent < before / 5, "{before}, then {silent}");
    harness.set_session_attribute(UNANSWERED, None);
    let last = orders(&harness).last().map_or(0, |(number, _)| *number);
    run(&mut harness, 1, 3e6, 0);
    assert!(orders(&harness).iter().filter(|(number, _)| *number > last).count() >= 2);
}

#[test]
fn feedback_without_a_report_is_a_mistake_that_is_told_once() {
    let mut harness = bound("{}");
    let feedback = [0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 3, 0];
    harness.read_rtcp(&COMPOUND);
    assert_eq!(harness.logs(), []);
    harness.read_rtcp(&feedback);
    harness.read_rtcp(&feedback);
    let logs = harness.logs();
    assert!(logs.len() == 1 && logs[0].1.contains("rtpfb"), "{logs:?}");
}

#[test]
fn what_is_no_report_changes_nothing() {
    let mut harness = bound(r#"{"probing": false}"#);
    run(&mut harness, 20, 3e6, 0);
    let before = target(&harness);
    let mut dice = 1u64;
    for len in 0..400 {
        let mut bytes = vec![1];
        bytes.extend((0..len).map(|_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 56) as u8
        }));
        bytes[0] = if len % 2 == 0 { 1 } else { bytes[0] };
        harness.read_rtcp(Feed::new(COMPOUND).attribute(REPORT, bytes));
        harness.read_rtcp(Feed::new(COMPOUND).attribute(REPORT, i64::from(len)));
        assert!((100_000..=100_000_000).contains(&target(&harness)));
    }
    assert!(target(&harness) <= 3 * before, "{} from {before}", target(&harness));
}

#[test]
fn a_successor_goes_on_with_the_estimate() {
    let mut harness = bound("{}");
    run(&mut harness, 50, 3e6, 0);
    let (before, last) = (target(&harness), orders(&harness).last().map_or(0, |(number, _)| *number));
    let state = harness.save().unwrap();
    let setup = Setup { start: harness.now(), ..Setup::default() };
    let mut successor = Harness::<Gcc>::restored(setup, "{}", &state).unwrap();
    assert_eq!(target(&successor), before, "as soon as it is there");
    successor.bind_local_stream(&video()).unwrap();
    assert_eq!(successor.session_attribute(PROBES), None, "the path is known");
    run(&mut successor, 50, 3e6, 0);
    assert!((2_300_000..3_300_000).contains(&target(&successor)), "{}", target(&successor));
    assert!(orders(&successor).iter().all(|(number, _)| *number > last));
    let Err(refusal) = Harness::<Gcc>::restored(Setup::default(), "{}", b"{}") else { panic!("refused") };
    assert!(matches!(refusal, Refusal::Unsupported(_)));
}

#[test]
fn wrong_options_are_refused_by_name() {
    for (config, says) in [
        (r#"{"start_bitrate": 1}"#, "start_bitrate is 1; 5000..=1000000000 is allowed"),
        (r#"{"min_bitrate": 4999}"#, "min_bitrate is 4999"),
        (r#"{"max_bitrate": 1000000001}"#, "max_bitrate is 1000000001"),
        (r#"{"min_bitrate": 2000000, "max_bitrate": 1000000}"#, "min_bitrate is 2000000, above max_bitrate, 1000000"),
        (r#"{"bitrate": 1}"#, "unknown field `bitrate`, expected one of `start_bitrate`"),
        (r#"{"probing": 1}"#, "expected a boolean"),
    ] {
        let Err(Refusal::Config(message)) = Harness::<Gcc>::new(config) else { panic!("refused") };
        assert!(message.contains(says), "{message}");
    }
}
