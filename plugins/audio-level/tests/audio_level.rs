//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_audio_level::{AudioLevel, URI};
use sandbar_sdk::serde_json::{Value as Json, from_str};
use sandbar_sdk::testing::{Feed, Harness, Setup};
use sandbar_sdk::{
    Binding, HeaderBuf, Instant, Level, Plugin, Refusal, RtpHeaderExtension, StreamId, StreamInfo, Value, Wants,
};

const ID: u8 = 6;
const SPEECH: u8 = 30;
const QUIET: u8 = 90;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn audio(ssrc: u32) -> StreamInfo {
    StreamInfo {
        id: format!("mic-{ssrc}"),
        ssrc,
        mime_type: "audio/opus".into(),
        rtp_header_extensions: vec![RtpHeaderExtension { uri: URI.into(), id: ID }],
        ..StreamInfo::default()
    }
}

/// Packets of a stream are told apart by their SSRC alone: nothing here depends on their numbers.
fn packet(ssrc: u32, value: &[u8]) -> Feed {
    let mut header = HeaderBuf::new(111, ssrc);
    header.edit().set_extension(ID, value).unwrap();
    Feed::new(header.as_bytes())
}

/// A meeting: streams with the SSRCs 1, 2, ..
struct Meeting {
    harness: Harness<AudioLevel>,
    streams: Vec<StreamId>,
    begin: Instant,
}

impl Meeting {
    fn of(people: u32, config: &str) -> Self {
        let mut harness = Harness::new(config).unwrap();
        let streams = (1..=people).map(|ssrc| harness.bind_remote_stream(&audio(ssrc)).unwrap()).collect();
        let begin = harness.now();
        Meeting { harness, streams, begin }
    }

    /// For so many frames of 20 ms, each stream has a packet of its level.
    fn frames(&mut self, count: usize, levels: &[u8]) {
        for _ in 0..count {
            for (place, level) in levels.iter().enumerate() {
                let on = self.harness.read(self.streams[place], packet(place as u32 + 1, &[*level]));
                assert_eq!(on.len(), 1, "an observer keeps nothing back");
            }
            self.harness.advance(ms(20));
        }
    }

    /// Takes who was said to speak.
    fn speakers(&mut self) -> Vec<Option<u64>> {
        let published = self.harness.published();
        let speakers = published.iter().map(|(name, json)| {
            assert_eq!(name, "active-speaker");
            let json: Json = from_str(json).unwrap();
            let ssrc = json["ssrc"].as_u64();
            assert_eq!(json["stream"].as_str(), ssrc.map(|ssrc| format!("mic-{ssrc}")).as_deref());
            assert_eq!(json["level"].is_null(), ssrc.is_none());
            ssrc
        });
        speakers.collect()
    }

    fn elapsed(&self) -> Duration {
        self.harness.now() - self.begin
    }
}

#[test]
fn only_audio_with_the_extension_is_observed() {
    let mut harness = Harness::<AudioLevel>::new("{}").unwrap();
    let other = RtpHeaderExtension { uri: "urn:ietf:params:rtp-hdrext:csrc-audio-level".into(), id: ID };
    let infos = [
        (audio(1), Binding::observe_headers()),
        (StreamInfo { mime_type: "AUDIO/opus".into(), ..audio(2) }, Binding::observe_headers()),
        (StreamInfo { mime_type: String::new(), ..audio(3) }, Binding::observe_headers()),
        (StreamInfo { mime_type: "video/VP8".into(), ..audio(4) }, Binding::PASS),
        (StreamInfo { rtp_header_extensions: vec![other], ..audio(5) }, Binding::PASS),
        (StreamInfo { rtp_header_extensions: Vec::new(), ..audio(6) }, Binding::PASS),
    ];
    for (info, expected) in infos {
        let stream = harness.bind_remote_stream(&info).unwrap();
        assert_eq!(harness.binding(stream), Some(expected), "{info:?}");
    }
    assert_eq!(AudioLevel::DESCRIPTION.wants, Wants::NONE);
}

#[test]
fn who_speaks_is_published_and_so_is_that_nobody_does() {
    let mut meeting = Meeting::of(2, "{}");
    meeting.frames(50, &[QUIET, QUIET]);
    assert!(meeting.harness.published().is_empty());
    meeting.frames(30, &[QUIET, SPEECH]);
    let expected = [("active-speaker".to_owned(), r#"{"ssrc":2,"stream":"mic-2","level":-30}"#.to_owned())];
    assert_eq!(meeting.harness.published(), expected);
    meeting.frames(100, &[QUIET, QUIET]);
    assert!(meeting.harness.published().is_empty(), "a pause is not the end");
    meeting.frames(16, &[QUIET, QUIET]);
    let expected = [("active-speaker".to_owned(), r#"{"ssrc":null,"stream":null,"level":null}"#.to_owned())];
    assert_eq!(meeting.harness.published(), expected);
    assert_eq!(meeting.harness.counter("changes"), 2);
}

#[test]
fn the_level_is_the_loudest_since_the_decision_before() {
    let mut meeting = Meeting::of(1, "{}");
    meeting.frames(15, &[10]);
    meeting.frames(200, &[QUIET]);
    // Decisions come at 4.5 s and, when he has spoken for long enough, at 4.8 s.
    for (count, level) in [(5, 20), (10, 40), (1, 35), (9, 40)] {
        assert_eq!(meeting.harness.published().len(), if count == 5 { 2 } else { 0 });
        meeting.frames(count, &[level]);
    }
    assert!(meeting.harness.published()[0].1.ends_with(r#""level":-35}"#));
}

#[test]
fn who_takes_over_is_the_speaker_within_a_second() {
    let mut meeting = Meeting::of(2, "{}");
    meeting.frames(100, &[SPEECH, QUIET]);
    assert_eq!(meeting.speakers(), [Some(1)]);
    meeting.frames(25, &[QUIET, SPEECH]);
    assert!(meeting.speakers().is_empty());
    meeting.frames(25, &[QUIET, SPEECH]);
    assert_eq!(meeting.speakers(), [Some(2)]);
}

#[test]
fn neither_an_interjection_nor_a_louder_voice_takes_over() {
    let mut meeting = Meeting::of(2, "{}");
    meeting.frames(100, &[SPEECH, QUIET]);
    meeting.frames(20, &[QUIET, SPEECH]);
    meeting.frames(50, &[SPEECH, QUIET]);
    meeting.frames(100, &[SPEECH, 10]);
    assert_eq!(meeting.speakers(), [Some(1)]);
}

#[test]
fn a_click_makes_nobody_a_speaker() {
    let mut meeting = Meeting::of(1, "{}");
    for _ in 0..50 {
        meeting.frames(4, &[20]);
        meeting.frames(46, &[QUIET]);
    }
    assert!(meeting.speakers().is_empty());
}

#[test]
fn who_stops_sending_is_silent() {
    let mut meeting = Meeting::of(1, "{}");
    meeting.frames(100, &[SPEECH]);
    assert_eq!(meeting.speakers(), [Some(1)]);
    // The level of the last packet is held for 120 ms, silence_ms are 2000, and a decision comes each 300.
    meeting.harness.advance(ms(2000));
    assert!(meeting.speakers().is_empty());
    meeting.harness.advance(ms(440));
    assert_eq!(meeting.speakers(), [None]);
    assert_eq!(meeting.harness.next_timeout(), None, "nobody is woken while nothing is heard");
    meeting.harness.advance(ms(60_000));
    // And is heard again like at first.
    meeting.frames(30, &[SPEECH]);
    assert_eq!(meeting.speakers(), [Some(1)]);
}

#[test]
fn comfort_noise_is_silence() {
    let mut meeting = Meeting::of(1, "{}");
    meeting.frames(100, &[SPEECH]);
    for _ in 0..7 {
        meeting.frames(1, &[75]);
        meeting.harness.advance(ms(380));
    }
    assert_eq!(meeting.speakers(), [Some(1), None]);
}

#[test]
fn when_the_speaker_leaves_another_one_speaks_or_nobody() {
    for (other, expected) in [(SPEECH, Some(2)), (QUIET, None)] {
        let mut meeting = Meeting::of(3, "{}");
        meeting.frames(100, &[SPEECH, QUIET, QUIET]);
        meeting.frames(100, &[SPEECH, other, QUIET]);
        assert_eq!(meeting.speakers(), [Some(1)]);
        let speaker = meeting.streams[0];
        meeting.harness.unbind_stream(speaker);
        assert_eq!(meeting.speakers(), [expected], "at once");
        let listener = meeting.streams[2];
        meeting.harness.unbind_stream(listener);
        assert!(meeting.speakers().is_empty());
    }
}

#[test]
fn a_stream_bound_twice_and_unbound_at_once_leaves_nothing_behind() {
    let mut meeting = Meeting::of(1, "{}");
    for _ in 0..3 {
        let again = meeting.harness.bind_remote_stream(&audio(1)).unwrap();
        meeting.harness.unbind_stream(again);
    }
    meeting.frames(50, &[SPEECH]);
    assert_eq!(meeting.speakers(), [Some(1)]);
}

#[test]
fn arrival_counts_so_timestamps_may_wrap_and_packets_come_in_any_order() {
    let run = |number: u16, timestamp: u32, swap: bool| {
        let mut meeting = Meeting::of(1, "{}");
        for n in 0..300u16 {
            let n = if swap { n ^ 1 } else { n };
            let mut header = HeaderBuf::new(111, 1);
            header.edit().set_sequence_number(number.wrapping_add(n));
            header.edit().set_timestamp(timestamp.wrapping_add(u32::from(n) * 960));
            let level = if (100..200).contains(&n) { SPEECH } else { QUIET };
            header.edit().set_extension(ID, &[level]).unwrap();
            meeting.harness.read(meeting.streams[0], header.as_bytes());
            meeting.harness.advance(ms(20));
        }
        meeting.harness.published()
    };
    let plain = run(0, 0, false);
    assert_eq!(plain.len(), 1);
    for (number, timestamp, swap) in [(65_400, u32::MAX - 100_000, false), (0, 0, true)] {
        assert_eq!(run(number, timestamp, swap), plain);
    }
}

#[test]
fn the_time_of_arrival_counts_not_when_the_batch_comes() {
    let mut meeting = Meeting::of(1, "{}");
    meeting.harness.advance(ms(1000));
    for n in 0..50 {
        let at = meeting.begin + ms(20 * n);
        meeting.harness.read(meeting.streams[0], packet(1, &[SPEECH]).at(at));
    }
    meeting.harness.advance(ms(300));
    // He was silent for the last 180 ms.
    assert!(meeting.speakers().is_empty());
    let mut meeting = Meeting::of(1, r#"{"interval_ms": 100}"#);
    meeting.harness.advance(ms(300));
    for n in 0..30 {
        let at = meeting.begin + ms(10 * n);
        meeting.harness.read(meeting.streams[0], packet(1, &[SPEECH]).at(at));
    }
    meeting.harness.advance(ms(100));
    assert_eq!(meeting.speakers(), [Some(1)], "he has spoken for 300 ms");
}

#[test]
fn packets_of_60_ms_are_as_good() {
    let mut meeting = Meeting::of(1, "{}");
    for _ in 0..10 {
        meeting.frames(1, &[SPEECH]);
        meeting.harness.advance(ms(40));
    }
    assert_eq!(meeting.speakers(), [Some(1)]);
}

#[test]
fn a_steady_noise_is_not_speech_for_long() {
    let mut meeting = Meeting::of(2, "{}");
    meeting.frames(600, &[45, QUIET]);
    meeting.speakers();
    // Somebody else speaks, and then the noisy one above his noise.
    meeting.frames(100, &[45, SPEECH]);
    assert_eq!(meeting.speakers(), [Some(2)]);
    meeting.frames(100, &[25, QUIET]);
    assert_eq!(meeting.speakers(), [Some(1)]);
}

#[test]
fn the_operator_says_what_is_loud_enough() {
    for (config, expected) in [("{}", 0), (r#"{"threshold_dbov": -60}"#, 1)] {
        let mut meeting = Meeting::of(1, config);
        meeting.frames(100, &[55]);
        assert_eq!(meeting.speakers().len(), expected, "{config}");
    }
}

#[test]
fn decisions_come_as_often_as_the_operator_says() {
    let first = |config| {
        let mut meeting = Meeting::of(1, config);
        while meeting.speakers().is_empty() {
            meeting.frames(1, &[SPEECH]);
        }
        meeting.elapsed()
    };
    assert_eq!(first("{}"), ms(300));
    assert_eq!(first(r#"{"interval_ms": 100}"#), ms(300));
    assert_eq!(first(r#"{"interval_ms": 2000}"#), ms(2000));
}

#[test]
fn companions_and_repaired_packets_are_not_heard() {
    let mut meeting = Meeting::of(1, "{}");
    for _ in 0..100 {
        meeting.harness.read(meeting.streams[0], packet(77, &[SPEECH]));
        meeting.harness.read(meeting.streams[0], packet(1, &[SPEECH]).repaired());
        meeting.frames(1, &[QUIET]);
    }
    assert!(meeting.speakers().is_empty());
}

#[test]
fn rfc_6464_3_a_level_of_another_length_is_counted_and_not_heard() {
    let mut meeting = Meeting::of(1, "{}");
    for _ in 0..100 {
        meeting.harness.read(meeting.streams[0], packet(1, &[SPEECH, SPEECH]));
        meeting.harness.advance(ms(20));
    }
    meeting.harness.read(meeting.streams[0], HeaderBuf::new(111, 1).as_bytes());
    meeting.harness.advance(ms(300));
    assert!(meeting.speakers().is_empty());
    assert_eq!(meeting.harness.counter("malformed"), 100);
    let warnings = meeting.harness.logs().iter().filter(|(level, _)| *level == Level::Warn).count();
    assert_eq!(warnings, 1, "once, however often");
    assert_eq!(meeting.harness.next_timeout(), None);
}

#[test]
fn rfc_6464_3_packets_are_marked_where_the_operator_wants_it() {
    let mut meeting = Meeting::of(1, r#"{"mark": true}"#);
    let stream = meeting.streams[0];
    assert_eq!(meeting.harness.binding(stream), Some(Binding::transform_headers()));
    for (value, level, voice) in [(0x80 | 33, -33, true), (0, 0, false), (0xff, -127, true), (127, -127, false)] {
        let feed = packet(1, &[value]).attribute("before", 7i64);
        let on = meeting.harness.read(stream, feed.clone());
        assert_eq!(on[0].attribute("audio.level"), Some(&Value::Integer(level)));
        assert_eq!(on[0].attribute("audio.voice"), Some(&Value::Boolean(voice)));
        assert_eq!((on[0].attribute("before"), &on[0].bytes), (Some(&Value::Integer(7)), &feed.bytes));
    }
    let repaired = meeting.harness.read(stream, packet(1, &[40]).repaired());
    assert_eq!(repaired[0].attribute("audio.level"), Some(&Value::Integer(-40)));
    for other in [packet(1, &[1, 2]), packet(77, &[40]), Feed::new(HeaderBuf::new(111, 1).as_bytes())] {
        assert!(meeting.harness.read(stream, other)[0].attributes.is_empty());
    }
    // No room for two more attributes.
    let full = (0..15).fold(packet(1, &[40]), |feed, n| feed.attribute(&format!("other-{n}"), n as i64));
    assert_eq!(meeting.harness.read(stream, full).len(), 1);
    meeting.harness.advance(ms(300));
    assert_eq!((meeting.harness.counter("unmarked"), meeting.harness.counter("malformed")), (1, 1));
    meeting.frames(50, &[SPEECH]);
    assert_eq!(meeting.speakers(), [Some(1)]);
}

#[test]
fn without_the_option_nothing_is_marked() {
    let mut meeting = Meeting::of(1, "{}");
    let on = meeting.harness.read(meeting.streams[0], packet(1, &[0x80 | 33]));
    assert!(on[0].attributes.is_empty());
}

#[test]
fn a_successor_knows_who_speaks_and_does_not_say_it_again() {
    let mut old = Meeting::of(2, "{}");
    old.frames(100, &[SPEECH, QUIET]);
    old.frames(30, &[QUIET, SPEECH]);
    old.speakers();
    let swap = |streams: &[u32], old: &mut Meeting| {
        let setup = Setup { start: old.harness.now(), ..Setup::default() };
        let state = old.harness.save().unwrap();
        let mut harness = Harness::<AudioLevel>::restored(setup, "{}", &state).unwrap();
        let streams = streams.iter().map(|ssrc| harness.bind_remote_stream(&audio(*ssrc)).unwrap()).collect();
        let begin = harness.now();
        Meeting { harness, streams, begin }
    };
    // It knows how long each has spoken.
    let mut new = swap(&[1, 2], &mut old);
    new.frames(16, &[QUIET, SPEECH]);
    assert_eq!(new.speakers(), [Some(2)]);
    let mut same = swap(&[1, 2], &mut new);
    same.frames(50, &[QUIET, SPEECH]);
    assert!(same.speakers().is_empty());
    // The speaker's stream ended with the swap.
    for others in [&[1][..], &[]] {
        let mut left = swap(others, &mut same);
        left.harness.advance(ms(300));
        assert_eq!(left.speakers(), [None]);
    }
}

#[test]
fn a_stream_that_comes_after_the_swap_is_new_whatever_its_ssrc() {
    let mut old = Meeting::of(1, "{}");
    old.frames(14, &[SPEECH]);
    let state = old.harness.save().unwrap();
    let setup = Setup { start: old.harness.now(), ..Setup::default() };
    let mut harness = Harness::<AudioLevel>::restored(setup, "{}", &state).unwrap();
    harness.advance(ms(20));
    let streams = vec![harness.bind_remote_stream(&audio(1)).unwrap()];
    let begin = harness.now();
    let mut new = Meeting { harness, streams, begin };
    assert_eq!(new.harness.next_timeout(), None);
    new.frames(5, &[SPEECH]);
    new.harness.advance(ms(120));
    assert!(new.speakers().is_empty());
}

#[test]
fn a_state_that_is_none_is_refused_and_one_of_nonsense_survived() {
    for state in [&b""[..], b"{}", b"[1]", b"\xff", br#"{"speaker":1,"streams":[{"ssrc":1}]}"#] {
        let restored = Harness::<AudioLevel>::restored(Setup::default(), "{}", state);
        assert!(matches!(restored.err(), Some(Refusal::Unsupported(_))));
    }
    for tick in [0, u64::MAX] {
        let max = u64::MAX;
        let state = format!(
            r#"{{"speaker":9,"streams":[{{"ssrc":1,"tick":{tick},"held":255,"hold":255,"frames":{max},"bands":255,
            "spoke":{max},"floor":[255,255,65535]}}]}}"#
        );
        let mut harness = Harness::<AudioLevel>::restored(Setup::default(), "{}", state.as_bytes()).unwrap();
        let streams = vec![harness.bind_remote_stream(&audio(1)).unwrap()];
        let begin = harness.now();
        let mut meeting = Meeting { harness, streams, begin };
        meeting.frames(100, &[SPEECH]);
        assert_eq!(meeting.speakers(), [Some(1)]);
    }
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config| match Harness::<AudioLevel>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    let unknown = refusal(r#"{"marks": true}"#);
    assert!(unknown.contains("unknown field `marks`, expected one of `interval_ms`, `silence_ms`,"), "{unknown}");
    assert!(refusal(r#"{"interval_ms": 99}"#).contains("interval_ms is 99; 100..=2000"));
    assert!(refusal(r#"{"silence_ms": 499}"#).contains("silence_ms is 499; 500..=60000"));
    assert!(refusal(r#"{"threshold_dbov": 50}"#).contains("threshold_dbov is 50; -90..=-20"));
}

/// Seeded turns of four people, with syllables, breaths and pauses, over backgrounds of their own, some of them without
/// packets while silent: each turn is found within 1.5 s, and nobody else is ever named.
#[test]
fn in_a_conversation_every_turn_is_found_and_nothing_else() {
    let mut seed = 5u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut meeting = Meeting::of(4, "{}");
    let backgrounds = [70, 60, 55, 90];
    let mut last = 0;
    for _ in 0..100 {
        let turn = (last + 1 + random(3) as usize) % 4;
        last = turn;
        let (mut named, mut since) = (None, 0);
        for frame in 0..150 + random(300) {
            for (place, background) in backgrounds.iter().enumerate() {
                // Sentences of 3 s with pauses of 300 ms, syllables of 200 ms with a dip at their end.
                let speaks = place == turn && frame % 165 < 150 && frame % 10 < 8;
                let level = if speaks { 25 + random(15) } else { background + random(5) };
                // Two of them send nothing while they are silent, and others say "yes" now and then.
                let listens = place != turn;
                if listens && place % 2 == 1 {
                    continue;
                }
                let interjects = listens && frame % 200 > 185;
                let level = if interjects { 35 } else { level };
                let feed = packet(place as u32 + 1, &[level as u8]);
                // One packet of 50 is lost.
                if random(50) != 0 {
                    meeting.harness.read(meeting.streams[place], feed);
                }
            }
            meeting.harness.advance(ms(20));
            since += 20;
            for speaker in meeting.speakers() {
                assert_eq!(speaker, Some(turn as u64 + 1), "{since} ms into the turn");
                named = named.or(Some(since));
            }
        }
        assert!(named.is_some_and(|named| named <= 1500), "{named:?}");
    }
    assert_eq!(meeting.harness.counter("changes"), 100);
}
