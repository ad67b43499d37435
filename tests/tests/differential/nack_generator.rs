//! Generic NACK (RFC 4585, 6.2.1): after each burst, both ask once for the same packets.

use std::time::Duration;

use rtc_interceptor::{Interceptor, NackGeneratorBuilder, RTCPFeedback, StreamInfo as Info};
use sandbar_plugin_nack_generator::NackGenerator;
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};
use sandbar_sdk::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use sandbar_sdk::testing::{Harness, packet};
use sandbar_sdk::{RtcpFeedback, StreamInfo};

use crate::native::{Native, rtp};
use crate::trace;

const SSRC: u32 = 7;
const ROUND: Duration = Duration::from_millis(100);

fn numbers(packets: &[Box<dyn Rtcp>]) -> Vec<u16> {
    let nacks = packets.iter().map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>().unwrap());
    nacks.flat_map(|nack| nack.nacks.iter().flat_map(|pair| pair.packet_list())).collect()
}

fn ours(bursts: &[Vec<u16>]) -> Vec<Vec<u16>> {
    let mut harness = Harness::<NackGenerator>::new(r#"{"max_tries": 1}"#).unwrap();
    let feedback = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    let info = StreamInfo { ssrc: SSRC, rtcp_feedback: vec![feedback], ..StreamInfo::default() };
    let stream = harness.bind_remote_stream(&info).unwrap();
    let round = |burst: &Vec<u16>| {
        for number in burst {
            harness.read(stream, packet(SSRC, *number, b"media"));
        }
        harness.advance(ROUND);
        let emitted = harness.emitted_rtcp();
        emitted.iter().flat_map(|sent| numbers(&unmarshal(&mut &sent.bytes[..]).unwrap())).collect()
    };
    bursts.iter().map(round).collect()
}

fn theirs(chain: impl Interceptor, bursts: &[Vec<u16>]) -> Vec<Vec<u16>> {
    let mut native = Native::new(chain);
    let feedback = RTCPFeedback { typ: "nack".into(), parameter: String::new() };
    native.chain.bind_remote_stream(&Info { ssrc: SSRC, rtcp_feedback: vec![feedback], ..Info::default() });
    let mut now = Duration::ZERO;
    let round = |burst: &Vec<u16>| {
        for number in burst {
            native.read(rtp(&packet(SSRC, *number, b"media")));
        }
        now += ROUND;
        native.advance_to(now);
        native.sent_rtcp().iter().flat_map(|(_, packets)| numbers(packets)).collect()
    };
    bursts.iter().map(round).collect()
}

#[test]
fn both_ask_for_the_same_packets_after_each_burst() {
    let mut total = 0;
    for seed in 0..100 {
        let bursts = trace::bursts(seed);
        let native = NackGeneratorBuilder::new().with_interval(ROUND).with_max_nacks_per_packet(1).build();
        let (ours, theirs) = (ours(&bursts), theirs(native, &bursts));
        assert_eq!(ours, theirs, "seed {seed}");
        total += ours.iter().flatten().count();
    }
    assert!(total > 3_000, "{total}");
}
