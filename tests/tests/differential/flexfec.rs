//! FlexFEC beside another implementation's, rtc-interceptor's: the same repair for the same packets, and what one protects
//! the other restores.
//!
//! What differs is left out on purpose: where a block has gaps, rtc-interceptor protects nothing; it takes padding off and
//! adds its own; and it protects header extensions as they are, so none of these packets has one that is written later.

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use rtc_interceptor::{FlexFec03Decoder, FlexFec03Encoder};
use rtc_shared::marshal::{Marshal as _, Unmarshal as _};
use sandbar_plugin_flexfec_decoder::FlexfecDecoder;
use sandbar_plugin_flexfec_encoder::FlexfecEncoder;
use sandbar_sdk::testing::{Drive, Harness};
use sandbar_sdk::{StreamId, StreamInfo};
use sandbar_tests::media::Source;

const SSRC: u32 = 7;
const REPAIR: u32 = 9;
const REPAIR_TYPE: u8 = 118;

fn info() -> StreamInfo {
    StreamInfo {
        ssrc: SSRC,
        ssrc_forward_error_correction: Some(REPAIR),
        payload_type: 96,
        payload_type_forward_error_correction: Some(REPAIR_TYPE),
        ..StreamInfo::default()
    }
}

/// Packets of any size, some with CSRCs and extensions, across both wraps.
fn packets(rng: &mut Xoshiro256PlusPlus, count: u64) -> Vec<Bytes> {
    let packet = |index| {
        let source = Source {
            payload: rng.random_range(12..1100),
            csrcs: (0..rng.random_range(0..3)).collect(),
            extensions: (0..rng.random_range(0..2)).map(|_| (1, vec![5; 3])).collect(),
            ..Source::video(SSRC)
        };
        source.nth(index)
    };
    (0..count).map(packet).collect()
}

struct Ours {
    harness: Harness<FlexfecEncoder>,
    stream: StreamId,
}

impl Ours {
    fn new(media: usize, repair: usize) -> Self {
        let config = format!(r#"{{"media_packets": {media}, "repair_packets": {repair}}}"#);
        let mut harness = Harness::new(&config).unwrap();
        let stream = harness.bind_local_stream(&info()).unwrap();
        Self { harness, stream }
    }

    fn repair(&mut self, block: &[Bytes]) -> Vec<Bytes> {
        for packet in block {
            self.harness.write(self.stream, &packet[..]);
        }
        self.harness.emitted_rtp().into_iter().map(|packet| packet.bytes.into()).collect()
    }
}

fn theirs(encoder: &mut FlexFec03Encoder, block: &[Bytes], repair: usize) -> Vec<Bytes> {
    let block: Vec<_> = block.iter().map(|packet| rtp::Packet::unmarshal(&mut packet.clone()).unwrap()).collect();
    encoder.encode(&block, repair as u32).iter().map(|packet| packet.marshal().unwrap().freeze()).collect()
}

#[test]
fn the_same_packets_get_the_same_repair() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    for media in 1..=48 {
        for repair in [1, 2, 3, media / 2, media].into_iter().filter(|repair| (1..=media).contains(repair)) {
            let (mut ours, mut encoder) = (Ours::new(media, repair), FlexFec03Encoder::new(REPAIR_TYPE, REPAIR));
            for block in packets(&mut rng, media as u64 * 2).chunks(media) {
                let (ours, theirs) = (ours.repair(block), theirs(&mut encoder, block, repair));
                assert_eq!(ours.len(), theirs.len());
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert_eq!(ours[12..], theirs[12..], "{media} to {repair}");
                    // Sequence numbers and timestamps begin and are chosen otherwise.
                    assert_eq!((&ours[..2], &ours[8..12]), (&theirs[..2], &theirs[8..12]));
                }
            }
        }
    }
}

/// What each decoder restores of the same packets over the same link, whose repair is in turn of one and the other.
fn restored(seed: u64) -> [Vec<Bytes>; 2] {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let media = rng.random_range(1..=48);
    let repair = rng.random_range(1..=media);
    let (mut ours, mut encoder) = (Ours::new(media, repair), FlexFec03Encoder::new(REPAIR_TYPE, REPAIR));
    let mut own = Harness::<FlexfecDecoder>::new("{}").unwrap();
    let stream = own.bind_remote_stream(&info()).unwrap();
    let mut other = FlexFec03Decoder::new(REPAIR, SSRC);
    let mut all = [Vec::new(), Vec::new()];
    let count = media as u64 * (300 / media as u64 + 1);
    let loss = rng.random_range(0.02..0.3);
    for (at, block) in packets(&mut rng, count).chunks(media).enumerate() {
        let repairs = [ours.repair(block), theirs(&mut encoder, block, repair)];
        let mut wire: Vec<_> = block.iter().chain(&repairs[at % 2]).cloned().collect();
        // Repair that both number in the same way, and sometimes overtakes the packets that it protects.
        for (number, repair) in wire[block.len()..].iter_mut().enumerate() {
            let number = (at * 48 + number) as u16;
            *repair = [&repair[..2], &number.to_be_bytes(), &repair[4..]].concat().into();
        }
        for swap in 1..wire.len() {
            if rng.random_bool(0.1) {
                wire.swap(swap, swap - 1);
            }
        }
        for packet in wire {
            if at > 0 && rng.random_bool(loss) {
                continue;
            }
            let on = Drive::read(&mut own, stream, packet.to_vec().into());
            all[0].extend(on.into_iter().filter(|packet| packet.repaired).map(|packet| Bytes::from(packet.bytes)));
            let packet = rtp::Packet::unmarshal(&mut packet.clone()).unwrap();
            all[1].extend(other.decode(packet).iter().map(|packet| packet.marshal().unwrap().freeze()));
        }
    }
    all
}

#[test]
fn both_restore_the_same_packets_whoever_protected_them() {
    let mut total = 0;
    for seed in 0..200 {
        let [mut ours, mut theirs] = restored(seed);
        total += ours.len();
        // They go through repair in another order.
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "seed {seed}");
    }
    assert!(total > 3_000, "{total}");
}
