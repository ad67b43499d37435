//! Transport-wide sequence numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01, 2): the same packets leave, byte by
//! byte.

use bytes::Bytes;
use rtc_interceptor::{Interceptor as _, RTPHeaderExtension, StreamInfo as Info, TwccSenderBuilder};
use sandbar_plugin_twcc_header_extension::{TwccHeaderExtension, URI};
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{Header, RtpHeaderExtension, StreamInfo};
use sandbar_tests::media::Source;

use crate::native::{Native, rtp};
use crate::trace::{Sending, sendings};

/// Sources and the extension's id in their streams: one bare, one with another extension, one that is relayed with the
/// number that it had on the way here, one that has not negotiated it.
fn sources() -> [(Source, Option<u8>); 4] {
    let video = |ssrc| Source { packets_per_frame: 2, ..Source::video(ssrc) };
    let level = Source { extensions: vec![(1, vec![0x80])], csrcs: vec![1, 2], ..Source::audio(8) };
    let relayed = Source { extensions: vec![(3, vec![7; 3]), (5, vec![0xff; 2])], ..video(9) };
    [(video(7), Some(5)), (level, Some(14)), (relayed, Some(5)), (Source::audio(10), None)]
}

/// What leaves, and with which numbers.
type Left = Vec<(Bytes, Option<u16>)>;

/// A packet with the number that it carries, where its stream has one.
fn numbered(packet: Bytes) -> (Bytes, Option<u16>) {
    let header = Header::parse(&packet).unwrap();
    let source = sources().into_iter().find(|(source, _)| source.ssrc == header.ssrc());
    let value = source.and_then(|(_, id)| header.extension(id?));
    let number = value.map(|value| u16::from_be_bytes(value.try_into().unwrap()));
    (packet, number)
}

fn ours(first: u16, sendings: &[Sending]) -> Left {
    let mut harness =
        Harness::<TwccHeaderExtension>::new(&format!(r#"{{"initial_sequence_number": {first}}}"#)).unwrap();
    let streams = sources().map(|(source, id)| {
        let extensions = id.map(|id| RtpHeaderExtension { uri: URI.to_owned(), id });
        let rtp_header_extensions = extensions.into_iter().collect();
        harness
            .bind_local_stream(&StreamInfo { ssrc: source.ssrc, rtp_header_extensions, ..StreamInfo::default() })
            .unwrap()
    });
    let left = sendings.iter().flat_map(|sending| harness.write(streams[sending.source], &sending.packet[..]));
    left.map(|packet| numbered(packet.bytes.into())).collect()
}

fn theirs(first: u16, sendings: &[Sending]) -> Left {
    let mut native = Native::new(TwccSenderBuilder::new().with_initial_sequence_number(first).build());
    for (source, id) in sources() {
        let extensions = id.map(|id| RTPHeaderExtension { uri: URI.to_owned(), id: id.into() });
        let rtp_header_extensions = extensions.into_iter().collect();
        native.chain.bind_local_stream(&Info { ssrc: source.ssrc, rtp_header_extensions, ..Info::default() });
    }
    for sending in sendings {
        native.write(rtp(&sending.packet));
    }
    native.sent_rtp().into_iter().map(numbered).collect()
}

fn trace(seed: u64) -> Vec<Sending> {
    sendings(seed, &sources().map(|(source, _)| source), 2)
}

#[test]
fn the_same_packets_leave_with_the_same_numbers() {
    for seed in 0..100 {
        let sendings = trace(seed);
        // Each session wraps once.
        let first = (65_535 - seed) as u16;
        let (ours, theirs) = (ours(first, &sendings), theirs(first, &sendings));
        assert_eq!(ours.len(), sendings.len(), "seed {seed}");
        for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "seed {seed}: packet {place}");
        }
        assert!(ours.iter().any(|(_, number)| *number == Some(0)), "seed {seed}");
    }
}

/// The draft, 2: the number is that of a packet on the transport, and 3.1 takes those between for lost. A header extension of
/// another kind (RFC 3550, 5.3.1) leaves no place for it: theirs uses a number for such a packet too, of which no feedback
/// will ever say that it arrived.
#[test]
fn only_ours_uses_no_number_for_a_packet_that_cannot_carry_it() {
    let mut gaps = 0;
    for seed in 0..100 {
        let mut sendings = trace(seed);
        for sending in sendings.iter_mut().step_by(7).filter(|sending| sending.source == 0) {
            let head = [&[sending.packet[0] | 0x10], &sending.packet[1..12], &[0xab, 0xcd, 0, 1, 1, 2, 3, 4]].concat();
            sending.packet = [&head, &sending.packet[12..]].concat().into();
        }
        let (ours, theirs) = (ours(0, &sendings), theirs(0, &sendings));
        let mut next = 0;
        for (((bytes, ours), (_, theirs)), sending) in ours.iter().zip(&theirs).zip(&sendings) {
            assert_eq!(ours.is_some(), theirs.is_some(), "seed {seed}");
            if ours.is_some() {
                assert_eq!(*ours, Some(next), "seed {seed}");
                next += 1;
            } else {
                assert_eq!(*bytes, sending.packet, "seed {seed}");
            }
        }
        gaps += theirs.iter().filter_map(|(_, number)| *number).max().unwrap() + 1 - next;
    }
    assert!(gaps > 500, "{gaps}");
}
