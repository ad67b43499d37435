//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1): what a sender knows in the end of each
//! packet that it numbered.

use std::collections::BTreeMap;
use std::time::Duration;

use rtc_interceptor::{Interceptor, RTPHeaderExtension, StreamInfo as Info, TwccReceiverBuilder};
use sandbar_plugin_twcc_sender::{TwccSender, URI};
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};
use sandbar_sdk::rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{HeaderBuf, RtpHeaderExtension, StreamInfo};

use crate::native::{self, Native};
use crate::trace::{self, Arrival};

const SSRC: u32 = 7;
const ID: u8 = 5;
const INTERVAL: Duration = Duration::from_millis(100);
/// Microseconds of a delta's unit (3.1.5).
const TICK: i64 = 250;

/// When packets arrived, in microseconds, by how far their numbers are ahead of the first one's; `None` where one did not.
type Knowledge = BTreeMap<u16, Option<i64>>;

fn rtp(arrival: &Arrival) -> Vec<u8> {
    let mut header = HeaderBuf::new(96, SSRC);
    header.edit().set_sequence_number(arrival.sequence_number);
    header.edit().set_extension(ID, &arrival.sequence_number.to_be_bytes()).unwrap();
    header.as_bytes().to_vec()
}

/// Takes in what feedback says. A packet of which it was said that it came has come.
fn learn(known: &mut Knowledge, first: u16, packets: &[Box<dyn Rtcp>]) {
    for feedback in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerCc>()) {
        let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => vec![run.packet_status_symbol; run.run_length.into()],
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        // 3.1: the reference time counts 64 ms.
        let (mut at, mut deltas) = (i64::from(feedback.reference_time) * 64_000, feedback.recv_deltas.iter());
        for (place, symbol) in (0..feedback.packet_status_count).zip(symbols) {
            let number = feedback.base_sequence_number.wrapping_add(place).wrapping_sub(first);
            let arrived = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                at += deltas.next().unwrap().delta;
                at
            });
            let told = known.entry(number).or_default();
            *told = arrived.or(*told);
        }
        assert!(deltas.next().is_none(), "more deltas than arrivals");
    }
}

fn ours(seconds: &[Vec<Arrival>]) -> Knowledge {
    // What comes later than the window is told by theirs alone, so both remember everything here.
    let mut harness = Harness::<TwccSender>::new(r#"{"window_ms": 10000}"#).unwrap();
    let extension = RtpHeaderExtension { uri: URI.to_owned(), id: ID };
    let info = StreamInfo { ssrc: SSRC, rtp_header_extensions: vec![extension], ..StreamInfo::default() };
    let stream = harness.bind_remote_stream(&info).unwrap();
    let mut passed = Duration::ZERO;
    for arrival in seconds.iter().flatten() {
        harness.advance(arrival.at - passed);
        passed = arrival.at;
        harness.read(stream, rtp(arrival));
    }
    harness.advance(2 * INTERVAL);
    let mut known = Knowledge::new();
    for sent in harness.emitted_rtcp() {
        learn(&mut known, seconds[0][0].sequence_number, &unmarshal(&mut &sent.bytes[..]).unwrap());
    }
    known
}

fn theirs(chain: impl Interceptor, seconds: &[Vec<Arrival>]) -> Knowledge {
    let mut native = Native::new(chain);
    let rtp_header_extensions = vec![RTPHeaderExtension { uri: URI.to_owned(), id: ID.into() }];
    native.chain.bind_remote_stream(&Info { ssrc: SSRC, rtp_header_extensions, ..Info::default() });
    let mut last = Duration::ZERO;
    for arrival in seconds.iter().flatten() {
        last = arrival.at;
        native.advance_to(last);
        native.read(native::rtp(&rtp(arrival)));
    }
    native.advance_to(last + 2 * INTERVAL);
    let mut known = Knowledge::new();
    for (_, packets) in native.sent_rtcp() {
        learn(&mut known, seconds[0][0].sequence_number, &packets);
    }
    known
}

#[test]
fn a_sender_learns_the_same_arrivals_from_both() {
    for seed in 0..100 {
        let seconds = trace::seconds(seed, seed % 2 == 1);
        let native = TwccReceiverBuilder::new().with_interval(INTERVAL).build();
        let (ours, theirs) = (ours(&seconds), theirs(native, &seconds));
        let numbers = |known: &Knowledge| known.keys().copied().collect::<Vec<_>>();
        assert_eq!(numbers(&ours), numbers(&theirs), "seed {seed}");
        // Each counts from a time of its own, to which the first packet's arrival is rounded too.
        let (began, begun) = (ours[&0].unwrap(), theirs[&0].unwrap());
        for ((number, ours), theirs) in ours.iter().zip(theirs.values()) {
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => {
                    let apart = (ours - began) - (theirs - begun);
                    assert!(apart.abs() <= 2 * TICK, "seed {seed}: {number} {apart} us apart");
                }
                _ => assert_eq!(ours, theirs, "seed {seed}: {number}"),
            }
        }
    }
}
