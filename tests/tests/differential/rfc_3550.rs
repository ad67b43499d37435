//! RFC 3550's own code, the appendix's A.1 and A.3, as another implementation of receiver reports: for what rtc-interceptor
//! does not have, strays, restarts and jumps.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sandbar_plugin_report_receiver::ReportReceiver;
use sandbar_sdk::StreamInfo;
use sandbar_sdk::rtcp::packet::unmarshal;
use sandbar_sdk::rtcp::receiver_report::ReceiverReport;
use sandbar_sdk::testing::{Harness, packet};

const SSRC: u32 = 7;
const SECOND: Duration = Duration::from_secs(1);

const RTP_SEQ_MOD: u32 = 1 << 16;
const MAX_DROPOUT: u16 = 3000;
/// The appendix has 100, for streams of 50 packets a second, and leaves it to the profile: "typical values of the parameters
/// are shown, based on a maximum misordering time of 2 seconds at 50 packets/second".
const MAX_MISORDER: u32 = 1000;

/// `source`, in the appendix's words. Without probation: the stream is signalled.
#[derive(Default)]
struct Source {
    max_seq: u16,
    cycles: u32,
    base_seq: u32,
    bad_seq: u32,
    received: u32,
    expected_prior: u32,
    received_prior: u32,
}

impl Source {
    fn init_seq(&mut self, seq: u16) {
        *self = Source { base_seq: seq.into(), max_seq: seq, bad_seq: RTP_SEQ_MOD + 1, ..Source::default() };
    }

    fn update_seq(&mut self, seq: u16) -> bool {
        let udelta = seq.wrapping_sub(self.max_seq);
        if udelta < MAX_DROPOUT {
            if seq < self.max_seq {
                self.cycles += RTP_SEQ_MOD;
            }
            self.max_seq = seq;
        } else if u32::from(udelta) <= RTP_SEQ_MOD - MAX_MISORDER {
            if u32::from(seq) == self.bad_seq {
                self.init_seq(seq);
            } else {
                self.bad_seq = (u32::from(seq) + 1) & (RTP_SEQ_MOD - 1);
                return false;
            }
        }
        self.received += 1;
        true
    }

    /// Fraction lost, cumulative number of packets lost, and extended highest sequence number received.
    fn report(&mut self) -> (u8, i64, u32) {
        let extended_max = self.cycles + u32::from(self.max_seq);
        let expected = extended_max - self.base_seq + 1;
        let lost = i64::from(expected) - i64::from(self.received);
        let expected_interval = expected - self.expected_prior;
        self.expected_prior = expected;
        let received_interval = self.received - self.received_prior;
        self.received_prior = self.received;
        let lost_interval = i64::from(expected_interval) - i64::from(received_interval);
        let fraction = match expected_interval {
            0 => 0,
            _ if lost_interval <= 0 => 0,
            _ => (lost_interval << 8) / i64::from(expected_interval),
        };
        (fraction as u8, lost.clamp(-0x80_0000, 0x7f_ffff), extended_max)
    }
}

/// The next number, after the newest: mostly the next one, and now and then anything.
fn next(rng: &mut Xoshiro256PlusPlus, newest: &mut u16) -> u16 {
    match rng.random_range(0..100) {
        // Lost on the way, late, or twice.
        0..10 => *newest = newest.wrapping_add(rng.random_range(2..6)),
        10..18 => return newest.wrapping_sub(rng.random_range(0..20)),
        // Late at the edge, and beyond it.
        18 => return newest.wrapping_sub(rng.random_range(995..1005)),
        // A jump at the edge, and beyond it.
        19 => *newest = newest.wrapping_add(rng.random_range(2995..3005)),
        // From another time, of which the next packet may know more or not.
        20 => return rng.random(),
        21 => *newest = rng.random(),
        _ => *newest = newest.wrapping_add(1),
    }
    *newest
}

#[test]
fn rfc_3550_a_1_and_a_3_the_appendix_reports_the_same() {
    let [mut reports, mut restarts, mut negative] = [0; 3];
    for seed in 0..200 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut harness = Harness::<ReportReceiver>::new("{}").unwrap();
        let info = StreamInfo { ssrc: SSRC, clock_rate: 90_000, ..StreamInfo::default() };
        let stream = harness.bind_remote_stream(&info).unwrap();
        let mut newest = rng.random();
        let mut source = Source::default();
        for second in 0..20 {
            let mut heard = false;
            for nth in 0..rng.random_range(0..60) {
                let number = if second == 0 && nth == 0 { newest } else { next(&mut rng, &mut newest) };
                harness.read(stream, packet(SSRC, number, b"media"));
                if source.received == 0 {
                    source.init_seq(number);
                }
                let before = source.received;
                heard |= source.update_seq(number);
                restarts += u32::from(source.received < before);
            }
            harness.advance(SECOND);
            let sent = harness.emitted_rtcp();
            let packets = sent.iter().flat_map(|sent| unmarshal(&mut &sent.bytes[..]).unwrap());
            let blocks: Vec<_> = packets
                .flat_map(|packet| packet.as_any().downcast_ref::<ReceiverReport>().unwrap().reports.clone())
                .collect();
            // 6.4: a source not heard of since the last report has no block.
            assert_eq!(blocks.len(), usize::from(heard), "seed {seed}, second {second}");
            for block in blocks {
                let (fraction, lost, highest) = source.report();
                assert_eq!(
                    (block.fraction_lost, block.total_lost, block.last_sequence_number),
                    (fraction, lost as u32 & 0xff_ffff, highest),
                    "seed {seed}, second {second}"
                );
                reports += 1;
                negative += u32::from(lost < 0);
            }
        }
    }
    assert!(reports > 3_000 && restarts > 100 && negative > 10, "{reports} {restarts} {negative}");
}
