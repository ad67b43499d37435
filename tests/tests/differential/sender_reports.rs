//! Sender reports (RFC 3550, 6.4.1): what both say of each stream after each second.

use std::collections::BTreeMap;
use std::time::Duration;

use rtc_interceptor::{Interceptor as _, SenderReportBuilder, StreamInfo as Info};
use sandbar_plugin_report_sender::ReportSender;
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};
use sandbar_sdk::rtcp::sender_report::SenderReport;
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{Header, StreamInfo};
use sandbar_tests::media::Source;

use crate::native::{Native, rtp};
use crate::trace::{Sending, sendings};

const SECOND: Duration = Duration::from_secs(1);
const SECONDS: u64 = 5;

/// By when it was sent and whose it is.
type Reports = BTreeMap<(Duration, u32), SenderReport>;

fn sources() -> [Source; 3] {
    let screen = Source { frame_rate: 5, packets_per_frame: 6, ..Source::video(9) };
    [Source { packets_per_frame: 2, ..Source::video(7) }, Source::audio(8), screen]
}

fn reports(at: Duration, packets: &[Box<dyn Rtcp>]) -> impl Iterator<Item = ((Duration, u32), SenderReport)> {
    packets.iter().map(move |packet| {
        let report = packet.as_any().downcast_ref::<SenderReport>().unwrap();
        ((at, report.ssrc), report.clone())
    })
}

fn ours(sendings: &[Sending]) -> Reports {
    let mut harness = Harness::<ReportSender>::new("{}").unwrap();
    let streams = sources().map(|source| {
        let info = StreamInfo { ssrc: source.ssrc, clock_rate: source.clock_rate, ..StreamInfo::default() };
        harness.bind_local_stream(&info).unwrap()
    });
    let begun = harness.now();
    for sending in sendings {
        harness.advance_to(begun + sending.at);
        harness.write(streams[sending.source], &sending.packet[..]);
    }
    harness.advance(SECOND);
    let sent = harness.emitted_rtcp();
    let each = sent.iter().map(|sent| (sent.time - begun, unmarshal(&mut &sent.bytes[..]).unwrap()));
    each.flat_map(|(at, packets)| reports(at, &packets).collect::<Vec<_>>()).collect()
}

fn theirs(sendings: &[Sending]) -> Reports {
    let mut native = Native::new(SenderReportBuilder::new().with_interval(SECOND).build());
    for source in sources() {
        native.chain.bind_local_stream(&Info { ssrc: source.ssrc, clock_rate: source.clock_rate, ..Info::default() });
    }
    let mut last = Duration::ZERO;
    for sending in sendings {
        last = sending.at;
        native.advance_to(last);
        native.write(rtp(&sending.packet));
    }
    native.advance_to(last + SECOND);
    native.sent_rtcp().into_iter().flat_map(|(at, packets)| reports(at, &packets).collect::<Vec<_>>()).collect()
}

/// Ours is rounded to the nearest unit, theirs is cut, which is up to a unit behind (6.4.1: "corresponds to the same time as
/// the NTP timestamp").
fn rounded(ours: u32, theirs: u32) -> bool {
    ours.wrapping_sub(theirs) <= 1
}

/// Theirs reads the wall clock when a frame begins, which here has nothing to do with the trace's time. Ours is told it, and
/// has to count on with the time.
fn counts_on(ours: &Reports) -> bool {
    let times: Vec<_> = ours.iter().map(|((at, _), report)| (*at, report.ntp_time)).collect();
    times.windows(2).all(|pair| {
        let [(before, from), (after, to)] = [pair[0], pair[1]];
        let expected = (after - before).as_secs_f64() * 2f64.powi(32);
        (to.wrapping_sub(from) as f64 - expected).abs() < 16.0
    })
}

fn same(seed: u64, ours: &SenderReport, theirs: &SenderReport) {
    assert!(rounded(ours.rtp_time, theirs.rtp_time), "seed {seed}: {ours:?} {theirs:?}");
    let theirs = SenderReport { rtp_time: ours.rtp_time, ntp_time: ours.ntp_time, ..theirs.clone() };
    assert_eq!(*ours, theirs, "seed {seed}");
}

#[test]
fn both_tell_the_same_of_what_was_sent() {
    for seed in 0..100 {
        let sendings = sendings(seed, &sources(), SECONDS);
        let (ours, theirs) = (ours(&sendings), theirs(&sendings));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "seed {seed}");
        assert!(ours.len() >= 3 * SECONDS as usize, "seed {seed}: {}", ours.len());
        assert!(counts_on(&ours), "seed {seed}");
        for (ours, theirs) in ours.values().zip(theirs.values()) {
            same(seed, ours, theirs);
        }
    }
}

/// RFC 3550, 6.4: a participant sends sender reports if it "has sent any data packets during the interval since issuing the
/// last report or the previous one". Theirs goes on for good.
#[test]
fn only_ours_stops_to_report_who_is_silent() {
    let mut silent = 0;
    for seed in 0..100 {
        let mut sendings = sendings(seed, &sources(), SECONDS);
        // Audio goes on all the time, else nobody reports and the next second begins with a packet.
        let pause = SECOND + SECOND * (seed % 3) as u32 / 2..SECOND * 4;
        sendings.retain(|sending| sending.source == 1 || !pause.contains(&sending.at));
        let ssrcs = sources().map(|source| source.ssrc);
        let (ours, theirs) = (ours(&sendings), theirs(&sendings));
        for ((at, ssrc), theirs) in &theirs {
            let recent = at.saturating_sub(2 * SECOND)..=*at;
            let sends = sendings.iter().any(|sending| ssrcs[sending.source] == *ssrc && recent.contains(&sending.at));
            match ours.get(&(*at, *ssrc)) {
                Some(ours) if sends => same(seed, ours, theirs),
                None if !sends => silent += 1,
                ours => panic!("seed {seed}: {at:?} sends {sends}: {ours:?} {theirs:?}"),
            }
        }
        assert!(ours.keys().all(|key| theirs.contains_key(key)), "seed {seed}");
    }
    assert!(silent > 200, "{silent}");
}

/// RFC 3550, A.1: a number far behind the newest is a new sequence and no packet out of order, as when an encoder is
/// replaced. The timestamp is then that of the new sequence (6.4.1); theirs goes on with the old one's.
#[test]
fn only_ours_follows_a_sequence_that_begins_anew_behind() {
    let mut apart = 0;
    for seed in 0..100 {
        let mut sendings = sendings(seed, &sources(), SECONDS);
        let behind = 1_500 + 300 * seed as u16;
        let anew = SECOND * 3;
        for sending in sendings.iter_mut().filter(|sending| sending.source == 1 && sending.at >= anew) {
            let header = Header::parse(&sending.packet).unwrap();
            let number = header.sequence_number().wrapping_sub(behind).to_be_bytes();
            let timestamp = header.timestamp().wrapping_add(1 << 30).to_be_bytes();
            sending.packet = [&sending.packet[..2], &number, &timestamp, &sending.packet[8..]].concat().into();
        }
        let (ours, theirs) = (ours(&sendings), theirs(&sendings));
        for ((key, ours), theirs) in ours.iter().zip(theirs.values()) {
            if key.1 != 8 || key.0 < anew {
                same(seed, ours, theirs);
                continue;
            }
            let before = sendings.iter().filter(|sending| sending.source == 1 && sending.at <= key.0);
            let newest = before.max_by_key(|sending| sending.at).unwrap();
            let timestamp = Header::parse(&newest.packet).unwrap().timestamp();
            // Within a tenth of a second: the newest packet may be out of order.
            let ahead = ours.rtp_time.wrapping_sub(timestamp) as i32;
            assert!(ahead.abs() < 4_800, "seed {seed}: {ahead}");
            assert_eq!((ours.packet_count, ours.octet_count), (theirs.packet_count, theirs.octet_count));
            apart += u32::from(!rounded(ours.rtp_time, theirs.rtp_time));
        }
    }
    assert!(apart >= 100, "{apart}");
}
