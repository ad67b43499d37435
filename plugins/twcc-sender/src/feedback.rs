//! One feedback packet (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).

use crate::arrivals::Arrival;
use crate::chunks::{CHUNK, Chunks, Status};

/// Version 2, feedback message type 15. Padding is zeroes that the packet status count makes superfluous, without the
/// P bit: in a compound only the last packet may have that (RFC 3550, 6.4.1), and which one is last is not known here.
const FIRST_BYTE: u8 = 0x80 | 15;
/// Transport-layer feedback.
const RTPFB: u8 = 205;
/// Everything before the chunks.
const HEAD: usize = 20;
/// Bytes that there is room for from the start: an interval's, of a stream with some thousand packets a second.
const ROOM: usize = 256;
/// The reference time is in multiples of 64 ms; deltas are in ticks of 250 us.
const TICKS_PER_REFERENCE: u64 = 256;

/// A feedback packet in the making, at the end of a buffer: the deltas stand where they are to be if there is one chunk, as there
/// mostly is.
#[derive(Debug)]
pub(crate) struct Feedback<'a> {
    out: &'a mut Vec<u8>,
    /// Where the deltas begin.
    deltas: usize,
    base: u64,
    /// The number after the last one covered.
    next: u64,
    /// In ticks, of the last arrival; at first, of the reference time.
    last: u64,
    reference: u64,
    chunks: Chunks,
    max_bytes: usize,
}

impl<'a> Feedback<'a> {
    /// Feedback for the packets from `base` on, of which `first` is the first that arrived, in at most so many bytes.
    pub(crate) fn new(out: &'a mut Vec<u8>, base: u64, first: Arrival, max_bytes: usize) -> Self {
        let reference = first.ticks() / TICKS_PER_REFERENCE;
        let last = reference * TICKS_PER_REFERENCE;
        out.reserve(ROOM);
        out.extend_from_slice(&[0; HEAD + CHUNK]);
        let deltas = out.len();
        Self { out, deltas, base, next: base, last, reference, chunks: Chunks::default(), max_bytes }
    }

    /// Bytes there would be with statuses and deltas of so many bytes more.
    fn size_with(&self, statuses: usize, deltas: usize) -> usize {
        HEAD + self.chunks.size_with(statuses) + self.out.len() - self.deltas + deltas
    }

    /// The number after the last one covered.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Adds the next packets that arrived, as many of them as fit; says how many.
    pub(crate) fn add_all(&mut self, arrivals: &[Arrival]) -> usize {
        let mut added = 0;
        while let Some(rest) = arrivals.get(added..)
            && let Some(next) = rest.first()
        {
            let run = self.add_run(rest);
            if run == 0 && !self.add(next) {
                break;
            }
            added += run.max(1);
        }
        added
    }

    /// Adds packets of which none before is missing and that came soon after each other, as many of them as the current chunk
    /// takes. Nearly all are so, and nearly all of the work of feedback is here.
    fn add_run(&mut self, arrivals: &[Arrival]) -> usize {
        let size = self.size_with(1, 1);
        let numbers = u64::from(u16::MAX) - (self.next - self.base);
        let most =
            self.chunks.left_in_run(Status::SmallDelta).min(self.max_bytes.saturating_sub(size)).min(numbers as usize);
        let (mut next, mut last, before) = (self.next, self.last, self.out.len());
        let mut deltas = arrivals.iter().take(most).map_while(|arrival| {
            let at = arrival.ticks();
            let follows = arrival.sequence_number() == next as u16;
            let delta = u8::try_from(at.wrapping_sub(last)).ok().filter(|_| follows)?;
            (next, last) = (next + 1, at);
            Some(delta)
        });
        // By eights, so that the buffer is asked for room once for each.
        loop {
            let (eight, filled) = next_eight(&mut deltas);
            self.out.extend_from_slice(&eight);
            if filled < eight.len() {
                self.out.truncate(self.out.len() - (eight.len() - filled));
                break;
            }
        }
        let added = self.out.len() - before;
        self.chunks.add(Status::SmallDelta, added);
        (self.next, self.last) = (next, last);
        added
    }

    /// Adds the next packet that arrived, and all before it that did not. False if it needs another feedback packet:
    /// this one would exceed its size, or the packet's arrival is too far from the last one's.
    fn add(&mut self, arrival: &Arrival) -> bool {
        let missing = arrival.sequence_number().wrapping_sub(self.next as u16);
        let number = self.next + u64::from(missing);
        let missing = usize::from(missing);
        // Differences of rounded times, so that rounding does not add up.
        let at = arrival.ticks();
        let delta = at.wrapping_sub(self.last) as i64;
        let Ok(delta) = i16::try_from(delta) else { return false };
        if self.size_with(missing + 1, 2) > self.max_bytes || number - self.base >= u64::from(u16::MAX) {
            return false;
        }
        if missing > 0 {
            self.chunks.add(Status::NotReceived, missing);
        }
        if let Ok(small) = u8::try_from(delta) {
            self.chunks.add(Status::SmallDelta, 1);
            self.out.push(small);
        } else {
            self.chunks.add(Status::LargeDelta, 1);
            self.out.extend_from_slice(&delta.to_be_bytes());
        }
        self.last = at;
        self.next = number + 1;
        true
    }

    /// Completes the packet.
    pub(crate) fn finish(self, sender: u32, media: u32, count: u8) {
        let Self { out, deltas, base, next, reference, chunks, .. } = self;
        let (before, last) = chunks.finish();
        let start = deltas - CHUNK - HEAD;
        let end = out.len() + before.len();
        let size = (end - start).next_multiple_of(4);
        let [high, low] = ((size / 4 - 1) as u16).to_be_bytes();
        let head = [
            [FIRST_BYTE, RTPFB, high, low],
            sender.to_be_bytes(),
            media.to_be_bytes(),
            ((base as u32) << 16 | (next - base) as u32 & 0xffff).to_be_bytes(),
            // The upper byte of the shifted reference falls out: it has 24 bits.
            ((reference << 8) as u32 | u32::from(count)).to_be_bytes(),
        ];
        if let Some(place) = out.get_mut(start..).and_then(|place| place.first_chunk_mut::<{ HEAD + CHUNK }>()) {
            place[..HEAD].copy_from_slice(head.as_flattened());
            place[HEAD..].copy_from_slice(&last);
        }
        if !before.is_empty() {
            out.splice(start + HEAD..start + HEAD, before);
        }
        (end - start..size).for_each(|_| out.push(0));
    }
}

/// The next eight of `deltas`, or as many as there are, and how many that is.
#[inline]
fn next_eight(deltas: &mut impl Iterator<Item = u8>) -> ([u8; 8], usize) {
    let mut eight = [0; 8];
    let mut filled = 0;
    for (place, delta) in eight.iter_mut().zip(deltas) {
        *place = delta;
        filled += 1;
    }
    (eight, filled)
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::rtcp::packet;
    use sandbar_sdk::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };

    use sandbar_sdk::Instant;

    use super::*;
    use crate::arrivals::MAX_SPAN;

    const MAX: usize = 1200;

    /// Feedback for as many arrivals, numbers and microseconds, as fit, and how many that was.
    fn written(base: u64, arrivals: &[(u64, u64)], max: usize) -> (Vec<u8>, usize) {
        let arrival = |(number, micros): &(u64, u64)| Arrival::new(*number, Instant::from_nanos(micros * 1000));
        let arrivals: Vec<_> = arrivals.iter().map(arrival).collect();
        let mut out = Vec::new();
        let mut feedback = Feedback::new(&mut out, base, arrivals[0], max);
        let count = feedback.add_all(&arrivals);
        feedback.finish(1, 2, 3);
        (out, count)
    }

    /// What another implementation reads: sequence number and arrival in microseconds of each packet that arrived.
    fn read(bytes: &[u8]) -> (TransportLayerCc, Vec<(u16, i64)>) {
        let mut packets = packet::unmarshal(&mut &bytes[..]).unwrap();
        assert_eq!(packets.len(), 1);
        let feedback = packets.pop().unwrap().as_any().downcast_ref::<TransportLayerCc>().unwrap().clone();
        let statuses = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => vec![run.packet_status_symbol; run.run_length.into()],
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        let mut time = i64::from(feedback.reference_time) * 64_000;
        let mut deltas = feedback.recv_deltas.iter();
        let mut arrived = Vec::new();
        for (n, status) in statuses.take(feedback.packet_status_count.into()).enumerate() {
            if status != SymbolTypeTcc::PacketNotReceived {
                time += deltas.next().unwrap().delta;
                arrived.push((feedback.base_sequence_number.wrapping_add(n as u16), time));
            }
        }
        assert!(deltas.next().is_none());
        (feedback, arrived)
    }

    #[test]
    fn draft_3_1_a_packet_byte_by_byte() {
        // Reference time 2 (128 ms); deltas 1 ms, 250 us, and -0.5 ms after two losses.
        let arrivals = [(0x1_fffe, 129_000), (0x1_ffff, 129_250), (0x2_0002, 128_750)];
        let (bytes, _) = written(0x1_fffe, &arrivals, MAX);
        let mut expected = vec![0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 0, 5, 0, 0, 2, 3];
        expected.extend_from_slice(&[0b1101_0100, 0b0010_0000, 4, 1, 0xff, 0xfe, 0, 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn another_implementation_reads_what_was_written() {
        let arrivals = [(70_000, 129_000), (70_001, 129_250), (70_009, 400_000)];
        let (feedback, arrived) = read(&written(69_998, &arrivals, MAX).0);
        assert_eq!((feedback.sender_ssrc, feedback.media_ssrc, feedback.fb_pkt_count), (1, 2, 3));
        assert_eq!((feedback.base_sequence_number, feedback.packet_status_count), (69_998u32 as u16, 12));
        let base = 70_000u32 as u16;
        assert_eq!(arrived, [(base, 129_000), (base + 1, 129_250), (base + 9, 400_000)]);
    }

    #[test]
    fn rounding_does_not_add_up() {
        let arrivals: Vec<_> = (0..400).map(|n| (65_536 + n, 64_000 + 333 * n)).collect();
        let (_, arrived) = read(&written(65_536, &arrivals, MAX).0);
        for (n, (number, at)) in arrived.iter().enumerate() {
            assert_eq!(usize::from(*number), n);
            assert!((at - 64_000 - 333 * n as i64).abs() <= 125, "{n}: {at}");
        }
    }

    #[test]
    fn draft_3_1_5_small_deltas_end_at_63_75_ms_and_large_ones_at_8191_75() {
        let sizes = |delta: i64| {
            let second = (65_537, (10_000_000 + delta) as u64);
            let (bytes, count) = written(65_536, &[(65_536, 10_000_000), second], MAX);
            (bytes.len(), count)
        };
        // One byte of padding or none.
        assert_eq!(sizes(63_750), (20 + 2 + 2, 2));
        assert_eq!(sizes(64_000), (20 + 2 + 3 + 3, 2));
        assert_eq!(sizes(-250), (28, 2));
        assert_eq!(sizes(8_191_750), (28, 2));
        assert_eq!(sizes(8_192_000).1, 1);
        assert_eq!(sizes(-8_192_000), (28, 2));
        assert_eq!(sizes(-8_192_250).1, 1);
    }

    #[test]
    fn draft_3_1_the_reference_time_has_24_bits() {
        let late = (65_536, 64_000 * ((1 << 24) + 5) + 250);
        let (feedback, arrived) = read(&written(65_536, &[late], MAX).0);
        assert_eq!((feedback.reference_time, feedback.fb_pkt_count), (5, 3));
        assert_eq!(arrived, [(0, 5 * 64_000 + 250)]);
    }

    #[test]
    fn the_longest_loss_before_a_packet_fits_the_smallest_feedback() {
        let number = 65_536 + MAX_SPAN - 1;
        let (bytes, count) = written(65_536, &[(number, 1_000_000)], 64);
        assert_eq!(count, 1);
        assert_eq!(read(&bytes).1, [(number as u16, 1_000_000)]);
    }

    #[test]
    fn whatever_arrived_is_read_again_within_every_size() {
        let mut seed = 3u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..300 {
            let max = 64 + random(1200) as usize;
            let (mut number, mut micros) = (65_536 + random(65_536), 20_000_000 + random(1_000_000));
            let arrivals: Vec<_> = (0..1 + random(600))
                .map(|_| {
                    number += if random(10) == 0 { 1 + random(40) } else { 1 };
                    if random(200) == 0 {
                        number += random(9000);
                    }
                    micros = match random(40) {
                        0 => micros - random(50_000),
                        1 => micros + random(5_000_000),
                        _ => micros + random(3_000),
                    };
                    (number, micros)
                })
                .collect();
            let mut rest = &arrivals[..];
            while !rest.is_empty() {
                let (bytes, count) = written(rest[0].0, rest, max);
                assert!(bytes.len() <= max && bytes.len() % 4 == 0 && count > 0, "round {round}");
                let (feedback, arrived) = read(&bytes);
                assert_eq!(arrived.len(), count);
                let reference = (rest[0].1 + 125) / 64_000 - u64::from(feedback.reference_time);
                for ((sent, micros), (number, at)) in rest.iter().zip(arrived) {
                    assert_eq!(*sent as u16, number);
                    let at = at + 64_000 * reference as i64;
                    assert!((*micros as i64 - at).abs() <= 125);
                }
                rest = &rest[count..];
            }
        }
    }
}
