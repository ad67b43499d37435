//! Receiver reports (RFC 3550, 6.4): what both say of a stream after each second.

use std::time::Duration;

use rtc_interceptor::{Interceptor as _, ReceiverReportBuilder, StreamInfo as Info};
use sandbar_plugin_report_receiver::ReportReceiver;
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};
use sandbar_sdk::rtcp::receiver_report::ReceiverReport;
use sandbar_sdk::rtcp::reception_report::ReceptionReport;
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{HeaderBuf, StreamInfo};

use crate::native::{self, Native};
use crate::trace::{self, Arrival};

const SSRC: u32 = 7;
const SECOND: Duration = Duration::from_secs(1);

fn rtp(arrival: &Arrival) -> Vec<u8> {
    let mut header = HeaderBuf::new(96, SSRC);
    header.edit().set_sequence_number(arrival.sequence_number);
    header.edit().set_timestamp(arrival.timestamp);
    header.as_bytes().to_vec()
}

/// A sender report with this NTP time.
fn sender_report(ntp: u64) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend_from_slice(&SSRC.to_be_bytes());
    bytes.extend_from_slice(&ntp.to_be_bytes());
    bytes.resize(28, 0);
    bytes
}

fn blocks(packets: &[Box<dyn Rtcp>]) -> Vec<ReceptionReport> {
    let reports = packets.iter().map(|packet| packet.as_any().downcast_ref::<ReceiverReport>().unwrap());
    reports.flat_map(|report| report.reports.clone()).collect()
}

fn ours(seconds: &[Vec<Arrival>]) -> Vec<ReceptionReport> {
    let mut harness = Harness::<ReportReceiver>::new("{}").unwrap();
    let info = StreamInfo { ssrc: SSRC, clock_rate: trace::CLOCK_RATE, ..StreamInfo::default() };
    let stream = harness.bind_remote_stream(&info).unwrap();
    let mut passed = Duration::ZERO;
    for (second, arrivals) in (1..).zip(seconds) {
        for arrival in arrivals {
            harness.advance(arrival.at - passed);
            passed = arrival.at;
            harness.read(stream, rtp(arrival));
        }
        harness.read_rtcp(sender_report(u64::from(second) << 40));
        harness.advance(SECOND * second - passed);
        passed = SECOND * second;
    }
    harness.emitted_rtcp().iter().flat_map(|sent| blocks(&unmarshal(&mut &sent.bytes[..]).unwrap())).collect()
}

fn theirs(seconds: &[Vec<Arrival>]) -> Vec<ReceptionReport> {
    let mut native = Native::new(ReceiverReportBuilder::new().with_interval(SECOND).build());
    native.chain.bind_remote_stream(&Info { ssrc: SSRC, clock_rate: trace::CLOCK_RATE, ..Info::default() });
    for (second, arrivals) in (1..).zip(seconds) {
        for arrival in arrivals {
            native.advance_to(arrival.at);
            native.read(native::rtp(&rtp(arrival)));
        }
        native.read(native::rtcp(&sender_report(u64::from(second) << 40)));
        native.advance_to(SECOND * second);
    }
    native.sent_rtcp().iter().flat_map(|(_, packets)| blocks(packets)).collect()
}

/// Jitter is rounded or cut, and summed in another order.
fn same_jitter(ours: u32, theirs: u32) -> bool {
    ours.abs_diff(theirs) <= 1
}

#[test]
fn both_report_the_same_of_what_is_lost_and_reordered_within_a_second() {
    for seed in 0..100 {
        let seconds = trace::seconds(seed, false);
        let (ours, theirs) = (ours(&seconds), theirs(&seconds));
        assert_eq!((ours.len(), theirs.len()), (seconds.len(), seconds.len()), "seed {seed}");
        for (second, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!(same_jitter(ours.jitter, theirs.jitter), "seed {seed}, second {second}: {ours:?} {theirs:?}");
            let theirs = ReceptionReport { jitter: ours.jitter, ..theirs.clone() };
            assert_eq!(*ours, theirs, "seed {seed}, second {second}");
        }
        assert!(ours.last().unwrap().total_lost > 0, "seed {seed}");
    }
}

/// RFC 3550, 6.4.1 and A.3: the loss is what was expected less what was received, and "packets that arrive late are not
/// counted as lost, and the loss may be negative if there are duplicates". Theirs counts what is missing when it reports,
/// for good, and each number once.
#[test]
fn only_ours_takes_back_a_loss_when_the_packet_comes_after_all() {
    let mut corrected = 0;
    for seed in 0..100 {
        let seconds = trace::seconds(seed, true);
        let (ours, theirs) = (ours(&seconds), theirs(&seconds));
        let (mut received, mut highest) = (0, 0);
        let first = seconds[0][0].sequence_number;
        for ((second, ours), theirs) in seconds.iter().zip(&ours).zip(&theirs) {
            received += second.len() as i64;
            let ahead = |arrival: &Arrival| i64::from(arrival.sequence_number.wrapping_sub(first));
            highest = second.iter().map(ahead).filter(|ahead| *ahead < 1 << 15).fold(highest, i64::max);
            assert_eq!(ours.last_sequence_number, theirs.last_sequence_number, "seed {seed}");
            let lost = highest + 1 - received;
            assert_eq!(ours.total_lost & 0xff_ffff, lost as u32 & 0xff_ffff, "seed {seed}");
            corrected += i64::from(theirs.total_lost) - lost;
        }
    }
    assert!(corrected > 1_000, "{corrected}");
}
