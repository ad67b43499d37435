//! The standard plugins do as components what they do natively, to the byte.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sandbar_harness::{ComponentHarness, Drive, Setup, load};
use sandbar_plugin_audio_level::{AudioLevel, URI as AUDIO_LEVEL};
use sandbar_plugin_flexfec_decoder::FlexfecDecoder;
use sandbar_plugin_flexfec_encoder::FlexfecEncoder;
use sandbar_plugin_gcc::Gcc;
use sandbar_plugin_interval_pli::IntervalPli;
use sandbar_plugin_jitter_buffer::JitterBuffer;
use sandbar_plugin_nack_generator::NackGenerator;
use sandbar_plugin_nack_responder::NackResponder;
use sandbar_plugin_noop::Noop;
use sandbar_plugin_pacer::Pacer;
use sandbar_plugin_packet_counter::PacketCounter;
use sandbar_plugin_packet_dump::PacketDump;
use sandbar_plugin_red_decoder::RedDecoder;
use sandbar_plugin_red_encoder::RedEncoder;
use sandbar_plugin_report_receiver::ReportReceiver;
use sandbar_plugin_report_sender::ReportSender;
use sandbar_plugin_rfc8888::Rfc8888;
use sandbar_plugin_rtpfb::Rtpfb;
use sandbar_plugin_stats::Stats;
use sandbar_plugin_twcc_header_extension::{TwccHeaderExtension, URI};
use sandbar_plugin_twcc_sender::TwccSender;
use sandbar_plugins::by_name;
use sandbar_sdk::testing::{Feed, Harness, Packet};
use sandbar_sdk::{
    HeaderBuf, Instant, Level, Plugin, Refusal, RtcpFeedback, RtcpParts, RtpHeaderExtension, StreamId, StreamInfo,
    Value, Wants,
};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const REPAIR: u32 = 0x3333;
const ID: u8 = 5;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn setup() -> Setup {
    Setup { mtu: 90, rtcp_ssrc: 0x0a0b_0c0d, seed: 7, ..Setup::default() }
}

/// A stream for which everything has been negotiated.
fn video() -> StreamInfo {
    let feedback = |kind: &str, parameter: &str| RtcpFeedback { kind: kind.into(), parameter: parameter.into() };
    StreamInfo {
        ssrc: SSRC,
        ssrc_retransmission: Some(RTX),
        payload_type: 96,
        payload_type_retransmission: Some(97),
        rtp_header_extensions: vec![RtpHeaderExtension { uri: URI.into(), id: ID }],
        clock_rate: 90_000,
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ack", "ccfb")],
        ..StreamInfo::default()
    }
}

/// The same without retransmissions.
fn plain() -> StreamInfo {
    StreamInfo { ssrc_retransmission: None, payload_type_retransmission: None, ..video() }
}

/// Its packets come or go every 3 ms.
fn packet(number: u16) -> Feed {
    let mut header = HeaderBuf::new(96, SSRC);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp(u32::from(number) * 270);
    header.edit().set_extension(ID, &number.wrapping_mul(3).to_be_bytes()).unwrap();
    Feed::new([header.as_bytes(), &number.to_be_bytes()].concat())
}

fn component<T: Plugin>() -> sandbar_harness::Plugin {
    load(by_name(T::DESCRIPTION.name).unwrap().component).unwrap()
}

/// All that the plugin is known to have done.
struct Seen {
    on: Vec<Packet>,
    rtp: Vec<Packet>,
    /// One by one: the host puts those of one tick into as few datagrams as their size allows.
    rtcp: Vec<(Instant, Vec<u8>)>,
    published: Vec<(String, String)>,
    logs: Vec<(Level, String)>,
    sunk: Vec<Vec<u8>>,
    metrics: Vec<(&'static str, u64, Option<f64>)>,
}

impl Seen {
    fn metric(&self, name: &str) -> (u64, Option<f64>) {
        let (_, count, gauge) = self.metrics.iter().find(|(known, ..)| *known == name).expect("one of METRICS");
        (*count, *gauge)
    }

    fn count(&self, name: &str) -> u64 {
        self.metric(name).0
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        self.metric(name).1
    }
}

/// What is compared of all plugins; nobody counts the last.
const METRICS: [&str; 25] = [
    "requested",
    "recovered",
    "abandoned",
    "retransmitted",
    "duplicate",
    "too_old",
    "refused",
    "blocks",
    "reports",
    "round_trip_ms",
    "requests",
    "changes",
    "malformed",
    "restored",
    "late",
    "given_up",
    "too_large",
    "left_plain",
    "lost",
    "depth",
    "held",
    "overflow",
    "arrived",
    "unknown",
    "no_such",
];

fn seen(harness: &mut dyn Drive, scenario: impl Fn(&mut dyn Drive) -> Vec<Packet>) -> Seen {
    let on = scenario(harness);
    let metrics = METRICS.map(|name| (name, harness.counter(name), harness.gauge(name))).to_vec();
    let parts = |compound: &Packet| {
        RtcpParts::of(&compound.bytes).map(|part| (compound.time, part.bytes.to_vec())).collect::<Vec<_>>()
    };
    // Datagrams of RTCP are counted, too.
    let unnumbered = |packets: Vec<Packet>| packets.into_iter().map(|packet| Packet { order: 0, ..packet }).collect();
    Seen {
        on: unnumbered(on),
        metrics,
        rtp: unnumbered(harness.emitted_rtp()),
        rtcp: harness.emitted_rtcp().iter().flat_map(parts).collect(),
        published: harness.published(),
        logs: harness.logs(),
        sunk: harness.sunk(),
    }
}

/// Runs a scenario natively and on the component in both lanes, and gives what all of them did.
fn both<T: Plugin>(config: &str, scenario: impl Fn(&mut dyn Drive) -> Vec<Packet>) -> Seen {
    fn same<T: Debug + PartialEq>(what: &str, done: &[T], native: &[T]) {
        for (at, (done, native)) in done.iter().zip(native).enumerate() {
            assert_eq!(done, native, "{what}, number {at}");
        }
        assert_eq!(done.len(), native.len(), "{what}");
    }
    let native = seen(&mut Harness::<T>::with(setup(), config).unwrap(), &scenario);
    for plugin in [component::<T>(), component::<T>().in_typed_lane()] {
        let done = seen(&mut ComponentHarness::with(setup(), &plugin, config).unwrap(), &scenario);
        let what = |what: &str| format!("{what} of {} ({:?}) is not what it is natively", plugin.name(), plugin.lane());
        same(&what("what goes on"), &done.on, &native.on);
        same(&what("emitted RTP"), &done.rtp, &native.rtp);
        same(&what("emitted RTCP"), &done.rtcp, &native.rtcp);
        same(&what("what is published"), &done.published, &native.published);
        same(&what("the log"), &done.logs, &native.logs);
        same(&what("what is written"), &done.sunk, &native.sunk);
        same(&what("a metric"), &done.metrics, &native.metrics);
    }
    native
}

/// The stream over a link that loses two of eleven packets and delays others, up to `last`; a third of the losses comes
/// back, and a sender report comes now and then. Returns what went on.
fn receive(harness: &mut dyn Drive, last: u16) -> Vec<Packet> {
    let stream = harness.bind_remote_stream(&video()).unwrap();
    let mut on = Vec::new();
    for n in 0..last {
        let number = n.wrapping_add(65_500);
        match n % 11 {
            3 | 4 => {}
            6 => on.extend(harness.read(stream, packet(number.wrapping_add(1)))),
            7 => on.extend(harness.read(stream, packet(number.wrapping_sub(1)))),
            _ => on.extend(harness.read(stream, packet(number))),
        }
        if n % 33 == 30 {
            on.extend(harness.read(stream, packet(number.wrapping_sub(5)).repaired()));
        }
        if n % 100 == 50 {
            let report = [&[0x80, 200, 0, 6][..], &SSRC.to_be_bytes(), &[7; 20]].concat();
            on.extend(harness.read_rtcp(report.into()));
        }
        harness.advance(Duration::from_micros(2950 + u64::from(n % 7) * 20));
    }
    on
}

/// The stream's packets up to `last`, of which the peer asks for one in ten, and again, and once for what never was.
fn send(harness: &mut dyn Drive, info: &StreamInfo, last: u16) -> Vec<Packet> {
    let stream = harness.bind_local_stream(info).unwrap();
    let mut on = Vec::new();
    for n in 0..last {
        on.extend(harness.write(stream, packet(n)));
        if n % 10 == 5 {
            let pair = [(n - 3).to_be_bytes(), [0, 0b101]].concat();
            let nack = [&[0x81, 205, 0, 3, 0, 0, 0, 9][..], &SSRC.to_be_bytes(), &pair].concat();
            on.extend(harness.read_rtcp(nack.into()));
        }
        harness.advance(ms(3));
    }
    on
}

#[test]
fn noop_lets_everything_by() {
    let seen = both::<Noop>("{}", |harness| {
        let (mut on, sent) = (receive(harness, 100), send(harness, &video(), 100));
        on.extend(sent);
        on.extend(harness.write_rtcp(vec![0x80, 201, 0, 1, 0, 0, 0, 1].into()));
        on
    });
    assert_eq!((seen.on.len(), seen.rtp.len(), seen.rtcp.len()), (82 + 3 + 1 + 100 + 10 + 1, 0, 0));
}

#[test]
fn packet_counter_publishes_the_same_counts() {
    let seen = both::<PacketCounter>("{}", |harness| receive(harness, 1000));
    assert_eq!(seen.published.len(), 3);
}

#[test]
fn jitter_buffer_plays_the_same_packets_at_the_same_times() {
    let seen = both::<JitterBuffer>(r#"{"delay_ms": 40}"#, |harness| {
        let on = receive(harness, 300);
        // Late, and twice.
        let stream = StreamId::new(1);
        let late = [packet(65_503), packet(263), packet(263)];
        let on = late.into_iter().fold(on, |mut on, packet| {
            on.extend(harness.read(stream, packet));
            on
        });
        harness.advance(ms(1100));
        on
    });
    // By the timer, or when the next packet came just before it.
    let mut played: Vec<_> = seen.rtp.iter().chain(seen.on.iter().filter(|packet| packet.stream.is_some())).collect();
    played.sort_by_key(|packet| packet.time);
    let played: Vec<_> = played.iter().map(|packet| packet.header().sequence_number()).collect();
    assert!(played.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]).wrapping_sub(1) < 3), "in order: {played:?}");
    // Of the losses, which are two in eleven, nine came back.
    assert_eq!((played.len(), seen.count("lost")), (300 - 54 + 9, 54 - 9));
    assert_eq!((seen.count("late"), seen.gauge("depth")), (1, Some(0.0)), "late, and held at the end");
}

#[test]
fn nack_generator_asks_for_the_same_packets_at_the_same_times() {
    let seen = both::<NackGenerator>("{}", |harness| {
        let on = receive(harness, 300);
        harness.advance(ms(2000));
        on
    });
    assert!(seen.rtcp.len() > 50);
    let (requested, recovered, abandoned) = (seen.count("requested"), seen.count("recovered"), seen.count("abandoned"));
    assert!(requested > 50 && recovered == 9 && abandoned > 0, "{:?}", seen.metrics);
    assert!(seen.gauge("round_trip_ms").is_some(), "the round trip is known");
}

#[test]
fn nack_responder_retransmits_the_same_bytes() {
    for info in [video(), StreamInfo { ssrc_retransmission: None, ..video() }] {
        let seen = both::<NackResponder>("{}", |harness| {
            let mut on = send(harness, &info, 100);
            for stream in [99, 90, 3, 70] {
                let nack = [&[0x81, 205, 0, 3, 0, 0, 0, 9][..], &SSRC.to_be_bytes(), &[0, stream, 0, 1]].concat();
                on.extend(harness.read_rtcp(nack.into()));
                harness.advance(ms(600));
            }
            on
        });
        assert!(seen.rtp.len() > 30, "{}", seen.rtp.len());
        let ssrc = info.ssrc_retransmission.unwrap_or(SSRC);
        assert!(seen.rtp.iter().all(|packet| packet.header().ssrc() == ssrc && packet.stream.is_some()));
        assert_eq!(seen.count("retransmitted"), seen.rtp.len() as u64);
    }
}

#[test]
fn packet_dump_writes_the_same_bytes() {
    for config in ["{}", r#"{"payload": true, "direction": "read", "flush_ms": 50}"#] {
        let seen = both::<PacketDump>(config, |harness| {
            let mut on = receive(harness, 150);
            on.extend(send(harness, &video(), 50));
            on.extend(harness.write_rtcp(vec![0x80, 201, 0, 1, 0, 0, 0, 1].into()));
            harness.close();
            on
        });
        // The section, its interface, and packets: 28 bytes of IP and UDP before each.
        let file = seen.sunk.concat();
        assert!(file.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) && seen.sunk.len() >= 3, "{}", seen.sunk.len());
        let packets = file.windows(2).filter(|bytes| *bytes == [0x45, 0]).count();
        assert!(packets >= 123, "{packets}");
    }
}

#[test]
fn report_receiver_reports_the_same() {
    let seen = both::<ReportReceiver>(r#"{"interval_ms": 150}"#, |harness| receive(harness, 400));
    assert_eq!(seen.rtcp.len(), 8);
}

#[test]
fn report_sender_reports_the_same() {
    let seen = both::<ReportSender>("{}", |harness| {
        let on = send(harness, &video(), 800);
        let unknown = StreamInfo { clock_rate: 0, ssrc: 5, ssrc_retransmission: None, ..video() };
        harness.bind_local_stream(&unknown).unwrap();
        on
    });
    assert_eq!((seen.rtcp.len(), seen.logs.len()), (2, 1));
}

#[test]
fn rfc8888_reports_the_same_arrivals() {
    let seen = both::<Rfc8888>("{}", |harness| {
        let screen = harness.bind_remote_stream(&StreamInfo { ssrc: 8, ..plain() }).unwrap();
        harness.read(screen, sandbar_sdk::testing::packet(8, 1, b"screen").into());
        receive(harness, 400)
    });
    // 33 numbers in 100 ms, of which 20 fit 90 bytes less the 28 of an empty report and an SDES.
    assert!(seen.rtcp.len() > 12 && seen.rtcp.iter().all(|(_, part)| part.len() <= 90 - 28), "{}", seen.rtcp.len());
    assert_eq!(seen.count("reports"), seen.rtcp.len() as u64);
}

#[test]
fn stats_tell_the_same() {
    let seen = both::<Stats>(r#"{"interval_ms": 500}"#, |harness| {
        let mut on = receive(harness, 300);
        on.extend(send(harness, &video(), 200));
        let report = [&[0x81, 201, 0, 7, 0, 0, 0, 9][..], &SSRC.to_be_bytes(), &[1; 20]].concat();
        on.extend(harness.read_rtcp(report.into()));
        harness.advance(ms(500));
        on
    });
    assert_eq!(seen.published.len(), 4);
    let last = &seen.published[3].1;
    for words in [
        r#""packetsReceived":255"#,
        r#""packetsLost":54"#,
        r#""retransmittedPacketsReceived":9"#,
        r#""packetsSent":200"#,
        r#""nackCount":20"#,
        r#""type":"remote-inbound-rtp""#,
        r#""type":"remote-outbound-rtp""#,
    ] {
        assert!(last.contains(words), "{words} is not in {last}");
    }
}

#[test]
fn twcc_header_extension_numbers_the_same() {
    let seen = both::<TwccHeaderExtension>(r#"{"initial_sequence_number": 65530}"#, |harness| {
        let audio = StreamInfo { ssrc: 7, ssrc_retransmission: None, ..video() };
        let audio = harness.bind_local_stream(&audio).unwrap();
        let mut on = send(harness, &video(), 10);
        on.extend(harness.write(audio, sandbar_sdk::testing::packet(7, 1, b"opus").into()));
        on
    });
    assert_eq!(seen.on.last().unwrap().header().extension(ID), Some(&4u16.to_be_bytes()[..]));
}

#[test]
fn twcc_sender_feeds_back_the_same() {
    let seen = both::<TwccSender>("{}", |harness| receive(harness, 400));
    assert!(seen.rtcp.len() > 12, "the feedback of 100 ms needs more than one packet");
    assert!(seen.rtcp.iter().all(|(_, part)| part.len() < 90));
}

/// A stream with repair packets.
fn protected() -> StreamInfo {
    StreamInfo {
        ssrc_forward_error_correction: Some(REPAIR),
        payload_type_forward_error_correction: Some(118),
        ..video()
    }
}

/// An audio stream whose packets repeat earlier ones.
fn red() -> StreamInfo {
    StreamInfo {
        payload_type: 63,
        mime_type: "audio/red".into(),
        sdp_fmtp_line: "111/111".into(),
        clock_rate: 48_000,
        ..video()
    }
}

/// Frames of 20 ms that each say which one they are.
fn frame(number: u16) -> Feed {
    let mut header = HeaderBuf::new(111, SSRC);
    header.edit().set_sequence_number(number);
    header.edit().set_timestamp(u32::from(number) * 960);
    Feed::new([header.as_bytes(), &number.to_be_bytes(), &[7; 9]].concat())
}

#[test]
fn flexfec_encoder_protects_with_the_same_bytes() {
    let seen = both::<FlexfecEncoder>("{}", |harness| {
        let mut on = send(harness, &protected(), 52);
        let mut large = packet(52);
        large.bytes.resize(90, 7);
        on.extend(harness.write(StreamId::new(1), large));
        on
    });
    let repair = seen.on.iter().filter(|packet| packet.header().ssrc() == REPAIR);
    assert_eq!((repair.count(), seen.on.len(), seen.count("too_large")), (20, 20 + 53 + 5, 1));
}

#[test]
fn flexfec_decoder_restores_the_same_packets() {
    // By an encoder of its own, with nothing numbered behind it.
    let mut encoder = Harness::<FlexfecEncoder>::with(setup(), "{}").unwrap();
    let mut sent = send(&mut encoder, &protected(), 300);
    // Not the requests that the application was given.
    sent.retain(|packet| [96, 118].contains(&packet.header().payload_type()));
    let seen = both::<FlexfecDecoder>("{}", |harness| {
        let stream = harness.bind_remote_stream(&protected()).unwrap();
        let mut on = Vec::new();
        for (at, packet) in sent.iter().enumerate() {
            let mut feed = Feed::new(packet.bytes.clone());
            match at % 17 {
                3 | 9 => continue,
                11 if packet.header().ssrc() == REPAIR => feed.bytes.truncate(30),
                13 if packet.header().ssrc() == SSRC => feed = feed.repaired(),
                _ => {}
            }
            on.extend(harness.read(stream, feed));
        }
        on.extend(harness.read(stream, packet(3)));
        on
    });
    let restored = seen.on.iter().filter(|packet| packet.repaired && packet.header().extension(ID).is_none());
    assert_eq!(restored.count() as u64, seen.count("restored"));
    assert!(seen.count("restored") > 10 && seen.count("malformed") > 0, "{:?}", seen.metrics);
    assert!(seen.on.iter().all(|packet| packet.header().ssrc() == SSRC));
}

#[test]
fn red_encoder_repeats_the_same_frames() {
    let seen = both::<RedEncoder>(r#"{"redundancy": 3}"#, |harness| {
        let stream = harness.bind_local_stream(&red()).unwrap();
        let mut on = Vec::new();
        for number in (0..60).filter(|number| number % 13 != 5) {
            on.extend(harness.write(stream, frame(number)));
        }
        let mut large = frame(60);
        large.bytes.resize(82, 7);
        on.extend(harness.write(stream, large));
        on
    });
    assert_eq!((seen.on.len(), seen.count("left_plain")), (56, 1));
    assert!(seen.on[..55].iter().all(|packet| packet.header().payload_type() == 63));
}

#[test]
fn red_decoder_restores_the_same_frames() {
    let mut encoder = Harness::<RedEncoder>::with(setup(), r#"{"redundancy": 2}"#).unwrap();
    let stream = Drive::bind_local_stream(&mut encoder, &red()).unwrap();
    let sent: Vec<_> = (0..200).flat_map(|number| encoder.write(stream, frame(number))).collect();
    let seen = both::<RedDecoder>("{}", |harness| {
        let stream = harness.bind_remote_stream(&red()).unwrap();
        let mut on = Vec::new();
        for (at, packet) in sent.iter().enumerate() {
            let mut feed = Feed::new(packet.bytes.clone());
            match at % 19 {
                3 | 8 | 9 => continue,
                12 => feed.bytes.truncate(14),
                15 => feed = feed.repaired(),
                _ => {}
            }
            on.extend(harness.read(stream, feed));
        }
        on.extend(harness.read(stream, Feed::new(sent[193].bytes.clone())));
        on
    });
    let restored = seen.on.iter().filter(|packet| packet.repaired).count() as u64;
    let (counted, late, malformed) = (seen.count("restored"), seen.count("late"), seen.count("malformed"));
    assert!(counted > 20 && restored > counted && late == 1 && malformed > 5, "{:?}", seen.metrics);
}

#[test]
fn audio_level_names_the_same_speakers_and_marks_the_same_packets() {
    let microphone = |ssrc| StreamInfo {
        id: format!("mic-{ssrc}"),
        ssrc,
        mime_type: "audio/opus".into(),
        rtp_header_extensions: vec![RtpHeaderExtension { uri: AUDIO_LEVEL.into(), id: ID }],
        ..StreamInfo::default()
    };
    for config in ["{}", r#"{"mark": true, "interval_ms": 100}"#] {
        let seen = both::<AudioLevel>(config, |harness| {
            let streams = [1, 2, 3].map(|ssrc| (ssrc, harness.bind_remote_stream(&microphone(ssrc)).unwrap()));
            let mut on = Vec::new();
            for n in 0..600 {
                for (ssrc, stream) in streams {
                    let level = if n / 150 == ssrc { 0x80 | (25 + n % 7) } else { 70 };
                    let mut header = HeaderBuf::new(111, ssrc);
                    let broken = n == 300 && ssrc == 3;
                    header.edit().set_extension(ID, &[level as u8, 0][..if broken { 2 } else { 1 }]).unwrap();
                    on.extend(harness.read(stream, header.as_bytes().into()));
                }
                harness.advance(Duration::from_micros(19_700));
            }
            harness.unbind_stream(streams[2].1);
            harness.advance(ms(5000));
            on
        });
        let speakers: Vec<_> = seen.published.iter().map(|(_, json)| json[8..12].to_owned()).collect();
        assert_eq!(speakers, ["1,\"s", "2,\"s", "3,\"s", "null"]);
        assert_eq!((seen.count("changes"), seen.count("malformed")), (4, 1));
        let marked = seen.on.iter().filter(|packet| packet.attribute("audio.level").is_some()).count();
        assert_eq!(marked, if config == "{}" { 0 } else { 1799 });
    }
}

#[test]
fn interval_pli_asks_for_key_frames_at_the_same_times() {
    let seen = both::<IntervalPli>("{}", |harness| {
        let audio = harness.bind_remote_stream(&StreamInfo { ssrc: 7, rtcp_feedback: Vec::new(), ..plain() }).unwrap();
        let screen = harness.bind_remote_stream(&StreamInfo { ssrc: 8, ..plain() }).unwrap();
        let on = receive(harness, 1200);
        for answer in [r#"{"asked":2,"waiting":0}"#, r#"{"asked":0,"waiting":2}"#] {
            assert_eq!(harness.control(r#"{"request":"key-frame"}"#).unwrap(), answer);
        }
        harness.unbind_stream(screen);
        harness.unbind_stream(audio);
        harness.advance(ms(4000));
        on
    });
    // Two at bind, two at the tick and two on request; then one that waited, and one at the next tick.
    assert_eq!((seen.rtcp.len(), seen.count("requests")), (8, 8));
}

/// What became of 30 transport-wide numbers from `first` on: they arrived a quarter of a millisecond apart.
fn arrived(first: u8) -> Vec<u8> {
    let mut feedback = vec![0x8f, 205, 0, 12, 0, 0, 0, 9, 0, 0, 0x11, 0x11, 0, first, 0, 30, 0, 0, 3, 0, 0x20, 30];
    feedback.resize(52, 1);
    feedback
}

#[test]
fn rtpfb_reports_the_same() {
    let seen = both::<Rtpfb>("{}", |harness| {
        send(harness, &video(), 60);
        harness.advance(ms(1_000));
        assert_eq!(harness.session_attribute("rtpfb.unanswered_ms"), Some(Value::Integer(1_000)));
        let mut on = harness.read_rtcp(arrived(0).into());
        on.extend(harness.read_rtcp([arrived(15), arrived(90)].concat().into()));
        assert_eq!(harness.session_attribute("rtpfb.unanswered_ms"), None);
        on
    });
    let reports = seen.on.iter().map(|packet| match packet.attribute("rtpfb.report") {
        Some(Value::Bytes(report)) => u16::from_le_bytes([report[2], report[3]]),
        other => panic!("{other:?}"),
    });
    // Every third number was sent; those from 15 to 29 are told twice.
    assert_eq!(reports.collect::<Vec<_>>(), [10, 5 + 10]);
}

#[test]
fn gcc_says_the_same() {
    let video = StreamInfo {
        rtcp_feedback: vec![RtcpFeedback { kind: "transport-cc".into(), parameter: String::new() }],
        ..video()
    };
    let seen = both::<Gcc>("{}", |harness| {
        assert_eq!(harness.session_attribute("gcc.target_bitrate"), Some(Value::Integer(300_000)));
        assert_eq!(harness.session_attribute("gcc.probes"), None);
        harness.bind_local_stream(&video).unwrap();
        let Some(Value::Bytes(probes)) = harness.session_attribute("gcc.probes") else { panic!("probes") };
        assert_eq!(probes.len(), 25);
        assert!(harness.control("").unwrap().contains("300000"));
        harness.read_rtcp(arrived(0).into())
    });
    assert_eq!((seen.published.len(), seen.logs.len(), seen.on.len()), (1, 1, 1));
}

#[test]
fn pacer_holds_and_lets_go_the_same() {
    let seen = both::<Pacer>(r#"{"bitrate": 40000, "factor": 1, "queue_packets": 32}"#, |harness| {
        let mut on = send(harness, &video(), 100);
        harness.set_session_attribute("gcc.target_bitrate", Some(Value::Integer(50_000)));
        let second = harness.bind_local_stream(&StreamInfo { ssrc: 6, ssrc_retransmission: None, ..video() }).unwrap();
        for n in 0..50 {
            on.extend(harness.write(second, sandbar_sdk::testing::packet(6, n, &[0; 60]).into()));
        }
        harness.advance(ms(100));
        harness.unbind_stream(second);
        harness.advance(ms(5_000));
        on
    });
    let media = || seen.on.iter().chain(&seen.rtp).filter(|packet| packet.bytes[1] & 0x7f == 96);
    let of = |ssrc| media().filter(|packet| packet.header().ssrc() == ssrc).count();
    assert_eq!((of(SSRC), of(6)), (100, 50));
    assert!(seen.rtp.len() > 50);
}

#[test]
fn a_wrong_option_is_refused_in_the_same_words() {
    fn refused<T: Plugin>() {
        let config = r#"{"no_such_option": 1}"#;
        let native = Harness::<T>::with(setup(), config).err().unwrap();
        assert!(matches!(native, Refusal::Config(_)), "{native:?}");
        assert_eq!(ComponentHarness::with(setup(), &component::<T>(), config).err(), Some(native));
    }
    refused::<AudioLevel>();
    refused::<FlexfecDecoder>();
    refused::<FlexfecEncoder>();
    refused::<Gcc>();
    refused::<IntervalPli>();
    refused::<JitterBuffer>();
    refused::<NackGenerator>();
    refused::<NackResponder>();
    refused::<Pacer>();
    refused::<PacketDump>();
    refused::<RedDecoder>();
    refused::<RedEncoder>();
    refused::<ReportReceiver>();
    refused::<ReportSender>();
    refused::<Rfc8888>();
    refused::<Rtpfb>();
    refused::<Stats>();
    refused::<TwccHeaderExtension>();
    refused::<TwccSender>();
}

#[test]
fn a_successor_goes_on_with_its_predecessors_state() {
    let plugin = component::<ReportReceiver>();
    let run = |swap: bool| {
        let mut harness = ComponentHarness::with(setup(), &plugin, "{}").unwrap();
        let stream = harness.bind_remote_stream(&video()).unwrap();
        for n in 0..600 {
            if n % 9 != 4 {
                harness.read(stream, packet(n));
            }
            harness.advance(ms(4));
            // Just after a report: a successor's first one is an interval away.
            if swap && n == 249 {
                harness.replace(&plugin, r#"{"interval_ms": 500}"#).unwrap();
            }
        }
        harness.emitted_rtcp()
    };
    let (swapped, unswapped) = (run(true), run(false));
    assert_eq!((swapped.len(), unswapped.len()), (3, 2), "the successor reports twice as often");
    // RFC 3550, 6.4.1: packets lost and the highest sequence number, since the first packet.
    assert_eq!(swapped[2].bytes[13..20], unswapped[1].bytes[13..20]);
    assert_ne!(swapped[2].bytes[13..16], [0; 3]);
}

#[test]
fn a_swap_asks_for_no_key_frame_and_loses_no_arrival() {
    let plugin = component::<IntervalPli>();
    let mut harness = ComponentHarness::with(setup(), &plugin, "{}").unwrap();
    harness.bind_remote_stream(&video()).unwrap();
    harness.advance(ms(1000));
    harness.replace(&plugin, "{}").unwrap();
    harness.advance(ms(2500));
    let begin = setup().start;
    let asked: Vec<_> = harness.emitted_rtcp().iter().map(|packet| packet.time - begin).collect();
    assert_eq!(asked, [ms(0), ms(3000)]);

    let plugin = component::<Rfc8888>();
    let mut harness = ComponentHarness::with(setup(), &plugin, "{}").unwrap();
    let stream = harness.bind_remote_stream(&video()).unwrap();
    harness.read(stream, packet(1));
    harness.replace(&plugin, "{}").unwrap();
    harness.read(stream, packet(3));
    harness.advance(ms(100));
    // RFC 8888, 3.1: from number 1 on three packets, the second of them lost, 102/1024 s ago.
    assert_eq!(harness.emitted_rtcp()[0].bytes[12..22], [0, 1, 0, 3, 0x80, 102, 0, 0, 0x80, 102]);
}

#[test]
fn what_a_predecessor_holds_is_played_by_its_successor_or_else_at_the_swap() {
    let plugin = component::<JitterBuffer>();
    let run = |successor: Option<&str>| {
        let mut harness = ComponentHarness::with(setup(), &plugin, "{}").unwrap();
        let stream = harness.bind_remote_stream(&video()).unwrap();
        for n in 0..200 {
            if n % 9 != 4 {
                harness.read(stream, packet(n));
            }
            if let Some(config) = successor.filter(|_| n == 99) {
                harness.replace(&plugin, config).unwrap();
            }
            harness.advance(ms(3));
        }
        harness.advance(ms(200));
        let played = harness.emitted_rtp().into_iter();
        played.map(|packet| (packet.time, packet.bytes)).collect::<Vec<_>>()
    };
    let unswapped = run(None);
    assert_eq!((unswapped.len(), run(Some("{}"))), (178, unswapped.clone()));
    let bytes = |played: Vec<(Instant, Vec<u8>)>| played.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert_eq!(bytes(run(Some(r#"{"packets": 600}"#))), bytes(unswapped), "without the history");
}

/// Those that repair what is inside packets.
const READ_MEDIA: [&str; 4] = ["flexfec-decoder", "flexfec-encoder", "red-decoder", "red-encoder"];

/// More than it needs would be a temptation, and less is refused by the host. That nothing else is imported is pinned
/// beside the plugins.
#[test]
fn each_plugin_wants_what_it_imports() {
    for embedded in sandbar_plugins::ALL {
        let plugin = load(embedded.component).unwrap();
        let imports = |interface: &str| plugin.imports().iter().any(|i| i.split(['/', '@']).nth(1) == Some(interface));
        let wants = plugin.description().wants;
        let wanted = [wants.emit_rtp, wants.emit_rtcp, wants.wall_clock, wants.randomness, wants.sink];
        let imported = ["emit-rtp", "emit-rtcp", "wall-clock", "random", "sink"].map(imports);
        assert_eq!(wanted, imported, "{}: {:?}", embedded.name, plugin.imports());
        let may = plugin.description().may_read_media;
        assert_eq!(may, embedded.name == "packet-dump", "{}", embedded.name);
        // Everything is granted here: who may read media does.
        assert_eq!(wants.read_media, may || READ_MEDIA.contains(&embedded.name), "{}", embedded.name);
        assert!(!wants.wasi, "{}", embedded.name);
    }
    assert_eq!(ReportSender::DESCRIPTION.wants, Wants::EMIT_RTCP.with(Wants::WALL_CLOCK));
}

#[test]
#[should_panic = "failed (trap)"]
fn a_fault_of_the_component_fails_the_test() {
    let crasher = load(sandbar_plugins::demo::CRASHER.component).unwrap();
    let mut harness = ComponentHarness::with(setup(), &crasher, "{}").unwrap();
    let stream = harness.bind_local_stream(&StreamInfo { mime_type: "video/VP8".into(), ..video() }).unwrap();
    harness.write(stream, packet(1));
    harness.write(stream, packet(1));
}

#[test]
fn a_mistake_of_the_tests_is_named() {
    let says = |mistake: fn(&mut ComponentHarness)| {
        let mut harness = ComponentHarness::with(setup(), &component::<Noop>(), "{}").unwrap();
        harness.bind_remote_stream(&StreamInfo { payload_type_retransmission: None, ..video() }).unwrap();
        harness.bind_remote_stream(&StreamInfo { ssrc: 7, ssrc_retransmission: None, ..video() }).unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| mistake(&mut harness))).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    assert!(says(|harness| drop(harness.read(StreamId::new(3), packet(1)))).contains("StreamId(3) is not bound"));
    assert!(says(|harness| drop(harness.read(StreamId::new(2), packet(1)))).contains("not of StreamId(2)"));
    assert!(says(|harness| drop(harness.read(StreamId::new(1), b"RTP".into()))).contains("malformed"));
    assert!(says(|harness| drop(harness.read_rtcp(b"RTCP".into()))).contains("malformed"));
    assert!(says(|harness| drop(harness.read(StreamId::new(1), packet(1).repaired()))).contains("has none"));
    assert!(says(|harness| drop(harness.bind_remote_stream(&video()))).contains("has a stream"));
}
