//! Retransmissions (RFC 4585, 6.2.1; RFC 4588, 4): what both send again for the same NACKs.

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use rtc_interceptor::{Interceptor as _, NackResponderBuilder, RTCPFeedback, StreamInfo as Info};
use sandbar_plugin_nack_responder::NackResponder;
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{Header, RtcpFeedback, StreamInfo};
use sandbar_tests::media::Source;

use crate::native::{Native, rtcp, rtp};
use crate::trace::{Sending, sendings};

/// Packets that both keep of each stream.
const KEPT: u16 = 64;
/// Answers each request, as theirs does: ours by itself leaves out what it has just sent, what is old, and a flood.
const ANSWER_ALL: &str = r#"{"packets": 64, "duplicate_ms": 0, "max_age_ms": 0, "budget_kbps": 0}"#;
/// RTX for the second source.
const RTX: (u32, u8) = (0xa0a0, 97);
/// Where the payload of a packet without CSRCs and extensions begins.
const FIXED: usize = 12;

fn sources() -> [Source; 3] {
    let video = |ssrc| Source { packets_per_frame: 2, ..Source::video(ssrc) };
    let relayed = Source { extensions: vec![(3, vec![7; 3]), (5, vec![1, 2])], csrcs: vec![1, 2], ..video(9) };
    [video(7), relayed, Source::audio(8)]
}

enum Step {
    Send(Sending),
    Nack(Vec<u8>),
}

/// A NACK of one to four entries, for packets among the last hundred of the stream and some that were not sent yet.
fn nack(rng: &mut Xoshiro256PlusPlus, ssrc: u32, newest: u16) -> Vec<u8> {
    let entries = rng.random_range(1..=4);
    let mut bytes = vec![0x81, 205, 0, 2 + entries, 0, 0, 0, 1];
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    for _ in 0..entries {
        let packet_id = newest.wrapping_add(3).wrapping_sub(rng.random_range(0..100));
        // Each bit with a quarter's probability.
        let mask = rng.random::<u16>() & rng.random::<u16>();
        bytes.extend_from_slice(&packet_id.to_be_bytes());
        bytes.extend_from_slice(&mask.to_be_bytes());
    }
    bytes
}

fn steps(seed: u64) -> Vec<Step> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut steps = Vec::new();
    for sending in sendings(seed, &sources(), 2) {
        let header = Header::parse(&sending.packet).unwrap();
        let nack = rng.random_bool(0.1).then(|| nack(&mut rng, header.ssrc(), header.sequence_number()));
        steps.push(Step::Send(sending));
        steps.extend(nack.map(Step::Nack));
    }
    steps
}

fn ours(steps: &[Step]) -> Vec<Vec<Bytes>> {
    let mut harness = Harness::<NackResponder>::new(ANSWER_ALL).unwrap();
    let feedback = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    let streams = sources().map(|source| {
        let rtx = (source.ssrc == 9).then_some(RTX);
        let info = StreamInfo {
            ssrc: source.ssrc,
            ssrc_retransmission: rtx.map(|(ssrc, _)| ssrc),
            payload_type_retransmission: rtx.map(|(_, payload_type)| payload_type),
            rtcp_feedback: Vec::from_iter((source.ssrc != 8).then(|| feedback.clone())),
            ..StreamInfo::default()
        };
        harness.bind_local_stream(&info).unwrap()
    });
    let begun = harness.now();
    let mut answers = Vec::new();
    for step in steps {
        match step {
            Step::Send(sending) => {
                harness.advance_to(begun + sending.at);
                harness.write(streams[sending.source], &sending.packet[..]);
            }
            Step::Nack(nack) => {
                harness.read_rtcp(&nack[..]);
                answers.push(harness.emitted_rtp().into_iter().map(|packet| packet.bytes.into()).collect());
            }
        }
    }
    answers
}

fn theirs(steps: &[Step]) -> Vec<Vec<Bytes>> {
    let mut native = Native::new(NackResponderBuilder::new().with_size(KEPT).build());
    let feedback = RTCPFeedback { typ: "nack".into(), parameter: String::new() };
    for source in sources() {
        let rtx = (source.ssrc == 9).then_some(RTX);
        native.chain.bind_local_stream(&Info {
            ssrc: source.ssrc,
            ssrc_rtx: rtx.map(|(ssrc, _)| ssrc),
            payload_type_rtx: rtx.map(|(_, payload_type)| payload_type),
            rtcp_feedback: Vec::from_iter((source.ssrc != 8).then(|| feedback.clone())),
            ..Info::default()
        });
    }
    let mut answers = Vec::new();
    for step in steps {
        match step {
            Step::Send(sending) => {
                native.advance_to(sending.at);
                native.write(rtp(&sending.packet));
                // The packet itself.
                assert_eq!(native.sent_rtp().len(), 1);
            }
            Step::Nack(nack) => {
                native.read(rtcp(nack));
                answers.push(native.sent_rtp());
            }
        }
    }
    answers
}

/// The original sequence number of a retransmission (RFC 4588, 4).
fn original(packet: &[u8]) -> u16 {
    let at = Header::parse(packet).unwrap().len();
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// What RFC 4588, 4, has of the original in a retransmission: "the marker bit (M), the CSRC count (CC), and the CSRC list
/// [...] MUST be copied 'as is'", the timestamp MUST be the original's, and it SHOULD carry "the same header extension".
fn is_retransmission(packet: &[u8], of: &[u8]) -> bool {
    let (header, original) = (Header::parse(packet).unwrap(), Header::parse(of).unwrap());
    let same = header.marker() == original.marker()
        && header.timestamp() == original.timestamp()
        && header.csrcs().eq(original.csrcs())
        && header.extensions().eq(original.extensions());
    same && packet[header.len() + 2..] == of[original.len()..]
}

#[test]
fn both_send_the_same_packets_again() {
    let [mut plain, mut rtx] = [0, 0];
    for seed in 0..100 {
        let steps = steps(seed);
        let (ours, theirs) = (ours(&steps), theirs(&steps));
        let (mut first, mut sent) = (None, 0);
        for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours.len(), theirs.len(), "seed {seed}: NACK {place}");
            for (ours, theirs) in ours.iter().zip(theirs) {
                let (header, their_header) = (Header::parse(ours).unwrap(), Header::parse(theirs).unwrap());
                if header.ssrc() == 7 {
                    assert_eq!(ours, theirs, "seed {seed}: NACK {place}");
                    plain += 1;
                    continue;
                }
                // Of what leaves as RTX only theirs has neither CSRCs nor extensions.
                assert_eq!((header.ssrc(), header.payload_type()), RTX);
                assert_eq!(ours[header.len()..], theirs[FIXED..], "seed {seed}: NACK {place}");
                assert_eq!((&ours[1], &ours[4..12]), (&theirs[1], &theirs[4..12]), "seed {seed}: NACK {place}");
                assert_eq!(their_header.len(), FIXED);
                // Ours begins at random (RFC 3550, 5.1), theirs at 0.
                let first = *first.get_or_insert(header.sequence_number());
                assert_eq!(header.sequence_number().wrapping_sub(first), sent);
                assert_eq!(their_header.sequence_number(), sent);
                sent += 1;
                rtx += 1;
            }
        }
    }
    assert!(plain > 2_500 && rtx > 2_500, "{plain} {rtx}");
}

#[test]
fn rfc_4588_4_only_our_retransmissions_are_the_originals_with_csrcs_and_extensions() {
    for seed in 0..100 {
        let steps = steps(seed);
        let sent = steps.iter().filter_map(|step| if let Step::Send(sending) = step { Some(sending) } else { None });
        let sent: Vec<_> = sent.filter(|sending| sending.source == 1).collect();
        let of = |packet: &Bytes| {
            let header = Header::parse(packet).unwrap();
            let same = |sending: &&&Sending| {
                let original_header = Header::parse(&sending.packet).unwrap();
                (original_header.sequence_number(), original_header.timestamp())
                    == (original(packet), header.timestamp())
            };
            sent.iter().find(same).unwrap().packet.clone()
        };
        let repaired = |packet: &&Bytes| Header::parse(packet).unwrap().ssrc() == RTX.0;
        for packet in ours(&steps).iter().flatten().filter(repaired) {
            assert!(is_retransmission(packet, &of(packet)), "seed {seed}");
        }
        for packet in theirs(&steps).iter().flatten().filter(repaired) {
            assert!(!is_retransmission(packet, &of(packet)), "seed {seed}");
        }
    }
}
