//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_interval_pli::IntervalPli;
use sandbar_sdk::testing::{Harness, Setup, packet};
use sandbar_sdk::{Binding, Instant, Refusal, RtcpFeedback, RtcpParts, StreamId, StreamInfo};

const KEY_FRAME: &str = r#"{"request":"key-frame"}"#;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn video(ssrc: u32) -> StreamInfo {
    let feedback = |parameter: &str| RtcpFeedback { kind: "nack".into(), parameter: parameter.into() };
    StreamInfo { ssrc, rtcp_feedback: vec![feedback(""), feedback("pli")], ..StreamInfo::default() }
}

/// A session with these streams, and what was asked at their binds taken.
fn bound(config: &str, ssrcs: &[u32]) -> (Harness<IntervalPli>, Vec<StreamId>) {
    let mut harness = Harness::new(config).unwrap();
    let streams = ssrcs.iter().map(|ssrc| harness.bind_remote_stream(&video(*ssrc)).unwrap()).collect();
    assert_eq!(asked(&mut harness).len(), ssrcs.len());
    (harness, streams)
}

/// Takes what was asked for: when, and of whom, per emission.
fn asked(harness: &mut Harness<IntervalPli>) -> Vec<(Instant, Vec<u32>)> {
    let emitted = harness.emitted_rtcp();
    let requests = emitted.iter().map(|emission| {
        let media = RtcpParts::of(&emission.bytes).map(|part| {
            assert_eq!((part.packet_type, part.count, part.bytes.len(), part.word(1)), (206, 1, 12, Some(1)));
            part.word(2).unwrap()
        });
        (emission.time, media.collect())
    });
    requests.collect()
}

#[test]
fn only_streams_with_pli_are_asked_and_their_packets_are_not_seen() {
    let mut harness = Harness::<IntervalPli>::new("{}").unwrap();
    let feedback = |kind: &str, parameter: &str| RtcpFeedback { kind: kind.into(), parameter: parameter.into() };
    let others = vec![feedback("nack", ""), feedback("ccm", "fir"), feedback("ack", "pli")];
    let without = StreamInfo { rtcp_feedback: others, ..video(1) };
    let without = harness.bind_remote_stream(&without).unwrap();
    let with = harness.bind_remote_stream(&video(2)).unwrap();
    for stream in [without, with] {
        assert_eq!(harness.binding(stream), Some(Binding::PASS));
    }
    let now = harness.now();
    assert_eq!(asked(&mut harness), [(now, vec![2])]);
    harness.bind_local_stream(&video(3)).unwrap();
    assert!(asked(&mut harness).is_empty());
}

#[test]
fn rfc_4585_6_3_1_the_request_goes_out_in_the_sessions_name() {
    let setup = Setup { rtcp_ssrc: 0x0a0b_0c0d, ..Setup::default() };
    let mut harness = Harness::<IntervalPli>::with(setup, "{}").unwrap();
    harness.bind_remote_stream(&video(0x1111)).unwrap();
    let bytes = [0x81, 206, 0, 2, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0x11, 0x11];
    assert_eq!(harness.emitted_rtcp()[0].bytes, bytes);
}

#[test]
fn all_streams_are_asked_each_three_seconds_in_one_emission() {
    let (mut harness, _) = bound("{}", &[1, 2]);
    let begin = harness.now();
    harness.advance(ms(1000));
    harness.bind_remote_stream(&video(3)).unwrap();
    assert_eq!(asked(&mut harness), [(begin + ms(1000), vec![3])]);
    harness.advance(ms(8500));
    let ticks = [3000, 6000, 9000].map(|at| (begin + ms(at), vec![1, 2, 3]));
    assert_eq!(asked(&mut harness), ticks);
    assert_eq!(harness.counter("requests"), 12);
}

#[test]
fn requests_end_with_their_stream() {
    let (mut harness, streams) = bound("{}", &[1, 2]);
    harness.unbind_stream(streams[0]);
    harness.advance(ms(3000));
    assert_eq!(asked(&mut harness)[0].1, [2]);
    harness.control(KEY_FRAME).unwrap();
    harness.unbind_stream(streams[1]);
    assert_eq!(harness.next_timeout(), None);
    harness.advance(ms(9000));
    assert!(asked(&mut harness).is_empty());
}

#[test]
fn a_stream_bound_and_unbound_at_once_leaves_nothing_behind() {
    let (mut harness, _) = bound("{}", &[]);
    for ssrc in [1, 1, 2] {
        let stream = harness.bind_remote_stream(&video(ssrc)).unwrap();
        harness.unbind_stream(stream);
    }
    assert_eq!(asked(&mut harness).len(), 3);
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn the_application_asks_now() {
    let (mut harness, _) = bound("{}", &[1, 2]);
    harness.advance(ms(1000));
    let now = harness.now();
    assert_eq!(harness.control(KEY_FRAME).unwrap(), r#"{"asked":2,"waiting":0}"#);
    assert_eq!(asked(&mut harness), [(now, vec![1, 2])]);
    harness.advance(ms(600));
    assert_eq!(harness.control(r#"{"request":"key-frame","ssrc":2}"#).unwrap(), r#"{"asked":1,"waiting":0}"#);
    assert_eq!(asked(&mut harness)[0].1, [2]);
}

#[test]
fn a_flood_of_requests_becomes_two() {
    let (mut harness, _) = bound("{}", &[1]);
    harness.advance(ms(1000));
    let now = harness.now();
    for n in 0..400 {
        let answer = harness.control(KEY_FRAME).unwrap();
        assert_eq!(answer, if n == 0 { r#"{"asked":1,"waiting":0}"# } else { r#"{"asked":0,"waiting":1}"# });
        harness.advance(ms(1));
    }
    harness.advance(ms(1000));
    assert_eq!(asked(&mut harness), [(now, vec![1]), (now + ms(500), vec![1])]);
    // What was asked at bind counts, too.
    let late = harness.bind_remote_stream(&video(2)).unwrap();
    harness.control(r#"{"request":"key-frame","ssrc":2}"#).unwrap();
    assert_eq!(asked(&mut harness).len(), 1);
    harness.unbind_stream(late);
}

#[test]
fn a_request_that_is_none_is_refused() {
    let (mut harness, _) = bound("{}", &[1]);
    harness.advance(ms(1000));
    for request in ["", "key-frame", "{}", r#"{"request":"dance"}"#, r#"{"request":"key-frame","ssrc":-1}"#] {
        assert!(matches!(harness.control(request), Err(Refusal::Unsupported(_))), "{request}");
    }
    let unknown = harness.control(r#"{"request":"key-frame","sscr":1}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `sscr`"), "{unknown}");
    let nobody = harness.control(r#"{"request":"key-frame","ssrc":9}"#).unwrap_err();
    assert_eq!(nobody, Refusal::other("no stream that takes PLI has the SSRC 9"));
    assert!(asked(&mut harness).is_empty());
}

#[test]
fn without_an_interval_only_binds_and_the_application_ask() {
    let (mut harness, streams) = bound(r#"{"interval_ms": 0}"#, &[1]);
    assert_eq!(harness.next_timeout(), None);
    harness.read(streams[0], packet(1, 1, b"media"));
    harness.advance(ms(60_000));
    assert!(asked(&mut harness).is_empty());
    harness.control(KEY_FRAME).unwrap();
    assert_eq!(asked(&mut harness).len(), 1);
}

#[test]
fn a_successor_keeps_the_time_and_asks_nobody_by_itself() {
    let (mut old, _) = bound("{}", &[1, 2]);
    let begin = old.now();
    old.advance(ms(2800));
    old.control(r#"{"request":"key-frame","ssrc":2}"#).unwrap();
    old.control(r#"{"request":"key-frame","ssrc":2}"#).unwrap();
    let state = old.save().unwrap();
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<IntervalPli>::restored(setup, "{}", &state).unwrap();
    for ssrc in [1, 2, 3] {
        new.bind_remote_stream(&video(ssrc)).unwrap();
    }
    // The third is new.
    assert_eq!(asked(&mut new), [(begin + ms(2800), vec![3])]);
    new.advance(ms(3300));
    let expected = [(begin + ms(3000), vec![1]), (begin + ms(3300), vec![2]), (begin + ms(6000), vec![1, 2, 3])];
    assert_eq!(asked(&mut new), expected);
}

#[test]
fn a_stream_that_comes_after_the_swap_is_new_whatever_its_ssrc() {
    let (mut old, streams) = bound("{}", &[1, 2]);
    let state = old.save().unwrap();
    old.unbind_stream(streams[1]);
    let setup = Setup { start: old.now(), ..Setup::default() };
    let mut new = Harness::<IntervalPli>::restored(setup, "{}", &state).unwrap();
    new.bind_remote_stream(&video(1)).unwrap();
    new.advance(ms(1000));
    assert!(asked(&mut new).is_empty());
    new.bind_remote_stream(&video(2)).unwrap();
    assert_eq!(asked(&mut new)[0].1, [2]);
}

#[test]
fn a_state_that_is_none_is_refused_and_one_from_the_future_made_sense_of() {
    for state in [&b""[..], b"{}", b"[1]", b"\xff"] {
        let restored = Harness::<IntervalPli>::restored(Setup::default(), "{}", state);
        assert!(matches!(restored.err(), Some(Refusal::Unsupported(_))));
    }
    let state = format!(r#"{{"tick":{max},"streams":[{{"ssrc":1,"asked":{max},"wanted":true}}]}}"#, max = u64::MAX);
    let mut harness = Harness::<IntervalPli>::restored(Setup::default(), "{}", state.as_bytes()).unwrap();
    harness.bind_remote_stream(&video(1)).unwrap();
    let begin = harness.now();
    harness.advance(ms(3000));
    assert_eq!(asked(&mut harness), [(begin + ms(500), vec![1]), (begin + ms(3000), vec![1])]);
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<IntervalPli>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    let unknown = refusal(r#"{"interval": 5}"#);
    assert!(unknown.contains("unknown field `interval`, expected `interval_ms` or `min_interval_ms`"), "{unknown}");
    assert!(refusal(r#"{"interval_ms": 99}"#).contains("interval_ms is 99; 100..=3600000"));
    assert!(refusal(r#"{"min_interval_ms": 60001, "interval_ms": 0}"#).contains("min_interval_ms is 60001; 0..=60000"));
    assert!(refusal(r#"{"interval_ms": 400}"#).contains("min_interval_ms is 500; 0..=400"));
}
