//! Congestion control feedback (RFC 8888, 3.1): what both tell of each packet of two streams, each 100 ms.

use std::collections::BTreeMap;
use std::time::Duration;

use rtc_interceptor::{Interceptor as _, Rfc8888Builder, StreamInfo as Info};
use sandbar_plugin_rfc8888::Rfc8888;
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};
use sandbar_sdk::rtcp::transport_feedbacks::cc_feedback_report::{CcFeedbackReport, Ecn};
use sandbar_sdk::testing::{Harness, packet};
use sandbar_sdk::{RtcpFeedback, StreamInfo};

use crate::native::{Native, rtp};
use crate::trace::{Arrival, seconds};

const SSRCS: [u32; 2] = [7, 8];
const INTERVAL: Duration = Duration::from_millis(100);

/// Of each packet when it arrived, in 1/1024 s before the report, or that it did not.
type Metrics = Vec<(u16, Option<u16>)>;

/// What was told of each stream at a time, and the report timestamp.
type Told = BTreeMap<(Duration, u32), (Metrics, u32)>;

/// Seven seconds of two streams, so that what comes late is not older than ours remembers.
fn arrivals(seed: u64, late: bool) -> Vec<(u32, Arrival)> {
    let of = |ssrc, seed| seconds(seed, late).into_iter().take(7).flatten().map(move |arrival| (ssrc, arrival));
    let mut arrivals: Vec<_> = of(SSRCS[0], seed).chain(of(SSRCS[1], seed + 1_000)).collect();
    arrivals.sort_by_key(|(_, arrival)| arrival.at);
    arrivals
}

fn tell(told: &mut Told, at: Duration, packets: &[Box<dyn Rtcp>]) {
    for report in packets.iter().map(|packet| packet.as_any().downcast_ref::<CcFeedbackReport>().unwrap()) {
        for block in &report.report_blocks {
            let (metrics, timestamp) = told.entry((at, block.media_ssrc)).or_default();
            *timestamp = report.report_timestamp;
            for (number, metric) in (0u16..).zip(&block.metric_blocks) {
                assert_eq!(metric.ecn, Ecn::NotEct);
                let arrived = metric.received.then_some(metric.arrival_time_offset);
                metrics.push((block.begin_sequence.wrapping_add(number), arrived));
            }
        }
    }
}

fn ours(arrivals: &[(u32, Arrival)]) -> Told {
    let mut harness = Harness::<Rfc8888>::new(r#"{"window_ms": 7000}"#).unwrap();
    let feedback = RtcpFeedback { kind: "ack".into(), parameter: "ccfb".into() };
    let streams = SSRCS.map(|ssrc| {
        let info = StreamInfo { ssrc, rtcp_feedback: vec![feedback.clone()], ..StreamInfo::default() };
        harness.bind_remote_stream(&info).unwrap()
    });
    let begun = harness.now();
    for (ssrc, arrival) in arrivals {
        harness.advance_to(begun + arrival.at);
        harness.read(streams[usize::from(*ssrc != SSRCS[0])], packet(*ssrc, arrival.sequence_number, b"media"));
    }
    harness.advance(INTERVAL);
    let mut told = Told::new();
    for sent in harness.emitted_rtcp() {
        tell(&mut told, sent.time - begun, &unmarshal(&mut &sent.bytes[..]).unwrap());
    }
    told
}

fn theirs(arrivals: &[(u32, Arrival)]) -> Told {
    // Ours takes several packets where one is full; theirs leaves out the oldest.
    let mut native = Native::new(Rfc8888Builder::new().with_interval(INTERVAL).with_max_report_size(60_000).build());
    for ssrc in SSRCS {
        native.chain.bind_remote_stream(&Info { ssrc, ..Info::default() });
    }
    let mut last = Duration::ZERO;
    for (ssrc, arrival) in arrivals {
        last = arrival.at;
        native.advance_to(last);
        native.read(rtp(&packet(*ssrc, arrival.sequence_number, b"media")));
    }
    native.advance_to(last + INTERVAL);
    let mut told = Told::new();
    for (at, packets) in native.sent_rtcp() {
        tell(&mut told, at, &packets);
    }
    told
}

/// The time between arrival and report in 1/1024 s, to the nearest.
fn offset(arrival: Duration, report: Duration) -> u16 {
    (((report - arrival).as_nanos() * 1024 + 500_000_000) / 1_000_000_000) as u16
}

/// Holds what both tell of one trace against each other, and against the trace. Returns of how many packets theirs tells when
/// a copy arrived.
///
/// Theirs may differ in this alone:
/// - it goes back to the first packet that is still lost in each report; ours goes back to a packet that came late. "Generally
///   contiguous, but overlapping reports MAY be sent (and need to be sent in cases where RTP packet reordering occurs across
///   the boundary between consecutive reports)". What is repeated has to be as it was: "if an RTP packet was reported as
///   received in one report, that packet MUST also be reported as received in any overlapping reports".
/// - it cuts offsets, which ours rounds.
/// - it tells of a copy: "if duplicate copies of a particular RTP packet are received, then the arrival time of the first
///   copy to arrive MUST be reported".
fn compare(seed: u64, arrivals: &[(u32, Arrival)]) -> u32 {
    let (ours, theirs) = (ours(arrivals), theirs(arrivals));
    assert!(ours.keys().all(|key| theirs.contains_key(key)), "seed {seed}");
    let mut known: BTreeMap<(u32, u16), bool> = BTreeMap::new();
    let mut times: BTreeMap<(u32, u16), Vec<Duration>> = BTreeMap::new();
    for (ssrc, arrival) in arrivals {
        times.entry((*ssrc, arrival.sequence_number)).or_default().push(arrival.at);
    }
    let mut copies = 0;
    for ((at, ssrc), (theirs, _)) in &theirs {
        let ours = ours.get(&(*at, *ssrc)).map_or(&[][..], |(metrics, _)| metrics);
        let (repeated, theirs) = theirs.split_at(theirs.len() - ours.len());
        for (number, arrived) in repeated {
            assert_eq!(known.get(&(*ssrc, *number)), Some(&arrived.is_some()), "seed {seed}: {number} at {at:?}");
        }
        for ((number, ours), (their_number, theirs)) in ours.iter().zip(theirs) {
            assert_eq!(number, their_number, "seed {seed}: at {at:?}");
            known.insert((*ssrc, *number), ours.is_some());
            // Timers come before packets of the same moment.
            let times = times.get(&(*ssrc, *number)).map_or(&[][..], |times| times);
            let times = &times[..times.partition_point(|time| time < at)];
            let expected = times.first().map(|first| offset(*first, *at));
            assert_eq!(*ours, expected, "seed {seed}: {number} at {at:?}");
            match (ours, theirs) {
                (Some(ours), Some(theirs)) if ours.wrapping_sub(*theirs) > 1 => {
                    assert!(times.len() > 1 && ours > theirs, "seed {seed}: {number} at {at:?}: {ours} {theirs}");
                    copies += 1;
                }
                _ => assert_eq!(ours.is_some(), theirs.is_some(), "seed {seed}: {number} at {at:?}"),
            }
        }
    }
    for ssrc in SSRCS {
        let last = arrivals.iter().rfind(|(of, _)| *of == ssrc).unwrap().1.sequence_number;
        assert_eq!(known.get(&(ssrc, last)), Some(&true), "seed {seed}");
    }
    // The report timestamp counts 65536ths of a second.
    let (begun, (_, from)) = ours.first_key_value().unwrap();
    for ((at, _), (_, timestamp)) in &ours {
        let expected = ((*at - begun.0).as_nanos() << 16) / 1_000_000_000;
        assert!(timestamp.wrapping_sub(*from).abs_diff(expected as u32) <= 1, "seed {seed}");
    }
    copies
}

#[test]
fn both_tell_the_same_of_each_packet_of_two_streams() {
    for seed in 0..100 {
        assert_eq!(compare(seed, &arrivals(seed, false)), 0, "seed {seed}");
    }
}

#[test]
fn both_tell_the_same_of_what_comes_late_and_only_ours_of_the_first_copy() {
    let copies: u32 = (0..100).map(|seed| compare(seed, &arrivals(seed, true))).sum();
    assert!(copies > 100, "{copies}");
}
