//! Picture loss indications (RFC 4585, 6.3.1): both ask the same streams at the same times, while streams come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use rtc_interceptor::{Interceptor as _, IntervalPliInterceptor, RTCPFeedback, StreamInfo as Info};
use sandbar_plugin_interval_pli::IntervalPli;
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};
use sandbar_sdk::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{RtcpFeedback, StreamInfo};

use crate::native::Native;

const INTERVAL: Duration = Duration::from_secs(3);

/// A stream begins or ends.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Duration,
    ssrc: u32,
    begins: bool,
    takes_pli: bool,
}

/// Streams that come and go in a minute.
fn steps(seed: u64) -> Vec<Step> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut bound: Vec<Step> = Vec::new();
    let (mut at, mut next) = (Duration::ZERO, 1);
    let step = |_| {
        at += Duration::from_millis(rng.random_range(1..4_000));
        // Now and then the last one ends, and nobody is left to be asked.
        if !bound.is_empty() && rng.random_bool(0.5) {
            let ended = bound.swap_remove(rng.random_range(0..bound.len()));
            return Step { at, begins: false, ..ended };
        }
        next += 1;
        bound.push(Step { at, ssrc: next, begins: true, takes_pli: rng.random_bool(0.8) });
        bound[bound.len() - 1]
    };
    (0..30).map(step).collect()
}

/// Whom was asked, and when.
type Asked = Vec<(Duration, BTreeSet<u32>)>;

fn asked(packets: &[Box<dyn Rtcp>]) -> BTreeSet<u32> {
    let plis = packets.iter().map(|packet| packet.as_any().downcast_ref::<PictureLossIndication>().unwrap());
    plis.map(|pli| pli.media_ssrc).collect()
}

fn ours(steps: &[Step]) -> Asked {
    // Theirs asks whoever is bound at a tick, also who was asked a moment ago; a key frame takes a while to make.
    let mut harness = Harness::<IntervalPli>::new(r#"{"min_interval_ms": 0}"#).unwrap();
    let (begun, mut streams) = (harness.now(), Vec::new());
    for step in steps {
        harness.advance_to(begun + step.at);
        if step.begins {
            let parameter = if step.takes_pli { "pli" } else { "sli" };
            let feedback = RtcpFeedback { kind: "nack".into(), parameter: parameter.into() };
            let info = StreamInfo { ssrc: step.ssrc, rtcp_feedback: vec![feedback], ..StreamInfo::default() };
            streams.push((step.ssrc, harness.bind_remote_stream(&info).unwrap()));
        } else {
            let (_, ended) = streams.iter().find(|(ssrc, _)| *ssrc == step.ssrc).unwrap();
            harness.unbind_stream(*ended);
        }
    }
    harness.advance(3 * INTERVAL);
    let sent = harness.emitted_rtcp();
    sent.iter().map(|sent| (sent.time - begun, asked(&unmarshal(&mut &sent.bytes[..]).unwrap()))).collect()
}

fn theirs(steps: &[Step]) -> Asked {
    let mut native = Native::new(IntervalPliInterceptor::new(INTERVAL));
    for step in steps {
        native.advance_to(step.at);
        let parameter = if step.takes_pli { "pli" } else { "sli" };
        let rtcp_feedback = vec![RTCPFeedback { typ: "nack".into(), parameter: parameter.into() }];
        let info = Info { ssrc: step.ssrc, rtcp_feedback, ..Info::default() };
        if step.begins {
            native.chain.bind_remote_stream(&info);
            // It asks when it is next told the time.
            native.tick();
        } else {
            native.chain.unbind_remote_stream(&info);
        }
    }
    native.advance_to(steps[steps.len() - 1].at + 3 * INTERVAL);
    native.sent_rtcp().iter().map(|(at, packets)| (*at, asked(packets))).collect()
}

#[test]
fn both_ask_the_same_streams_at_the_same_times() {
    let mut total = 0;
    for seed in 0..200 {
        let steps = steps(seed);
        let (ours, theirs) = (ours(&steps), theirs(&steps));
        assert_eq!(ours, theirs, "seed {seed}");
        total += ours.len();
    }
    assert!(total > 4_000, "{total}");
}
