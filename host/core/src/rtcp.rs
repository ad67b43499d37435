//! RTCP as the host needs it: checking compounds, and merging what one tick brings into compounds within the MTU.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// How outgoing RTCP is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcpMode {
    /// Each datagram begins with a report and has the SDES CNAME (RFC 3550, 6.1).
    #[default]
    Compound,
    /// Any packets may stand alone (RFC 5506), where both peers have agreed to it.
    ReducedSize,
}

/// Why bytes are not an RTCP compound (RFC 3550, A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// Fewer than four bytes where a packet should begin.
    #[error("{0} bytes where an RTCP packet should begin")]
    Short(usize),
    /// Another version than 2.
    #[error("RTCP version {0}; only 2 is known")]
    Version(u8),
    /// A packet type outside the range of RTCP (RFC 5761, 4).
    #[error("RTCP packet type {0}; 192 to 223 are known")]
    Type(u8),
    /// A packet says that it is longer than what there is.
    #[error("an RTCP packet of {need} bytes in {have}")]
    Length {
        /// Bytes that the packet says it has.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// More than a datagram holds.
    #[error("{0} bytes; an RTCP compound has at most 65535")]
    Long(usize),
}

/// The bit of a packet's first byte that says that padding ends it.
const PADDING: u8 = 0x20;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;

/// The packets of a compound, one after the other, until the end or an error.
fn packets(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], RtcpError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (packet, after) = match split_first(rest) {
            Ok(parts) => parts,
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        rest = after;
        Some(Ok(packet))
    })
}

fn split_first(bytes: &[u8]) -> Result<(&[u8], &[u8]), RtcpError> {
    let [first, kind, high, low, ..] = *bytes else { return Err(RtcpError::Short(bytes.len())) };
    if first >> 6 != 2 {
        return Err(RtcpError::Version(first >> 6));
    }
    if !(192..=223).contains(&kind) {
        return Err(RtcpError::Type(kind));
    }
    let need = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    if need > bytes.len() {
        return Err(RtcpError::Length { need, have: bytes.len() });
    }
    Ok(bytes.split_at(need))
}

/// Checks that the packets' lengths add up to the whole. Reduced-size compounds are welcome (RFC 5506).
pub(crate) fn check(bytes: &[u8]) -> Result<(), RtcpError> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(RtcpError::Long(bytes.len()));
    }
    if bytes.is_empty() {
        return Err(RtcpError::Short(0));
    }
    packets(bytes).try_for_each(|packet| packet.map(drop))
}

/// Bytes of the largest packet of a compound that `check` has accepted.
pub(crate) fn largest(bytes: &[u8]) -> usize {
    packets(bytes).map_while(Result::ok).map(<[u8]>::len).max().unwrap_or(0)
}

/// Who speaks, for the parts of a compound that the host adds.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    mode: RtcpMode,
    mtu: usize,
    ssrc: u32,
    /// The SDES of compounds; empty where packets may stand alone. Mostly it is short, and then it is here.
    description: SmallVec<[u8; 40]>,
}

impl Speaker {
    pub(crate) fn new(mode: RtcpMode, mtu: u16, ssrc: u32, cname: &str) -> Self {
        let description = match mode {
            RtcpMode::Compound => sdes(ssrc, cname).into(),
            RtcpMode::ReducedSize => SmallVec::new(),
        };
        Self { mode, mtu: mtu.into(), ssrc, description }
    }
}

/// Merges what one tick brought into as few datagrams as the MTU allows. Within each, sender and receiver reports come
/// first and SDES second (RFC 3550, 6.1); the rest keeps its order. A packet that leaves no room for them goes without. `room` is
/// where datagrams are made that are of one packet.
pub(crate) fn merge(tick: &[Bytes], speaker: &Speaker, room: &mut BytesMut) -> SmallVec<[Bytes; 1]> {
    let compound = speaker.mode == RtcpMode::Compound;
    let description = &speaker.description;
    if let [bytes] = tick
        && let Some(datagram) = alone(bytes, speaker, room)
    {
        return smallvec::smallvec![datagram];
    }
    let budget = speaker.mtu.saturating_sub(description.len());
    let mut packets: Vec<Cow<'_, [u8]>> =
        tick.iter().flat_map(|bytes| packets(bytes)).map_while(Result::ok).map(unpadded).collect();
    packets.sort_by_key(|packet| match packet[1] {
        SENDER_REPORT | RECEIVER_REPORT => 0,
        SOURCE_DESCRIPTION => 1,
        _ => 2,
    });
    let mut datagrams = SmallVec::new();
    let mut datagram: Vec<u8> = Vec::new();
    for packet in &packets {
        if !datagram.is_empty() && datagram.len() + packet.len() > budget {
            datagrams.push(finish(&mut datagram, description, speaker.mtu));
        }
        let report = empty_receiver_report(speaker.ssrc);
        if datagram.is_empty() && compound && !is_report(packet) && report.len() + packet.len() <= speaker.mtu {
            datagram.extend_from_slice(&report);
        }
        datagram.extend_from_slice(packet);
    }
    if !datagram.is_empty() {
        datagrams.push(finish(&mut datagram, description, speaker.mtu));
    }
    datagrams
}

/// A packet without its padding, of which only the last one of a compound may have some (RFC 3550, 6.4.1). One whose count
/// of padding cannot be is left as it is.
fn unpadded(packet: &[u8]) -> Cow<'_, [u8]> {
    let padding = packet.last().map_or(0, |count| usize::from(*count));
    let len = packet.len().saturating_sub(padding);
    if packet[0] & PADDING == 0 || padding == 0 || !padding.is_multiple_of(4) || len < 4 {
        return packet.into();
    }
    let mut packet = packet[..len].to_vec();
    packet[0] &= !PADDING;
    packet[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
    packet.into()
}

/// Bytes that are allocated at once for datagrams: some dozens. Whoever keeps one keeps all of them. Few enough that they are still in
/// the processor's cache when they are written to again.
const ROOM: usize = 4 * 1024;

/// What most ticks bring is one packet: then its datagram is put together at once.
fn alone(packet: &Bytes, speaker: &Speaker, room: &mut BytesMut) -> Option<Bytes> {
    let mut parts = packets(packet);
    let (Some(Ok(_)), None) = (parts.next(), parts.next()) else { return None };
    if speaker.mode == RtcpMode::ReducedSize {
        return Some(packet.clone());
    }
    let padded_report = is_report(packet) && packet[0] & PADDING != 0;
    let report = empty_receiver_report(speaker.ssrc);
    let size = report.len() + speaker.description.len() + packet.len();
    if packet[1] == SOURCE_DESCRIPTION || padded_report || size > speaker.mtu {
        return None;
    }
    let (before, after): (&[u8], &[u8]) = if is_report(packet) { (packet, &[]) } else { (&report, packet) };
    Some(put(room, &[before, &speaker.description, after]))
}

/// Copies parts of a datagram into `room`, one behind the other.
pub(crate) fn put(room: &mut BytesMut, parts: &[&[u8]]) -> Bytes {
    let size = parts.iter().map(|part| part.len()).sum();
    if room.capacity() < size {
        room.reserve(size.max(ROOM));
    }
    parts.iter().for_each(|part| room.extend_from_slice(part));
    room.split().freeze()
}

/// Takes the datagram, with `description` behind its reports unless it has an SDES already, or no room for one.
fn finish(datagram: &mut Vec<u8>, description: &[u8], mtu: usize) -> Bytes {
    let kinds = || packets(datagram).map_while(Result::ok);
    let fits = datagram.len() + description.len() <= mtu;
    if fits && !kinds().any(|packet| packet[1] == SOURCE_DESCRIPTION) {
        let at: usize = kinds().take_while(|packet| is_report(packet)).map(<[u8]>::len).sum();
        datagram.splice(at..at, description.iter().copied());
    }
    std::mem::take(datagram).into()
}

fn is_report(packet: &[u8]) -> bool {
    matches!(packet[1], SENDER_REPORT | RECEIVER_REPORT)
}

/// RFC 3550, 6.4.2: a receiver report without blocks stands where there is nothing to report.
fn empty_receiver_report(ssrc: u32) -> [u8; 8] {
    let ssrc = ssrc.to_be_bytes();
    [0x80, RECEIVER_REPORT, 0, 1, ssrc[0], ssrc[1], ssrc[2], ssrc[3]]
}

/// RFC 3550, 6.5: one chunk with the CNAME.
fn sdes(ssrc: u32, cname: &str) -> Vec<u8> {
    const CNAME: u8 = 1;
    let name = &cname.as_bytes()[..cname.floor_char_boundary(255)];
    let mut packet = vec![0x81, SOURCE_DESCRIPTION, 0, 0];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[CNAME, name.len() as u8]);
    packet.extend_from_slice(name);
    // At least one zero byte ends the chunk, and zeroes fill its last word.
    packet.resize((packet.len() + 4) & !3, 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, words: u16) -> Bytes {
        let mut bytes = vec![0x80, kind];
        bytes.extend_from_slice(&words.to_be_bytes());
        bytes.resize(4 + 4 * usize::from(words), 7);
        bytes.into()
    }

    fn merge_of(tick: &[Bytes], mode: RtcpMode, mtu: usize) -> SmallVec<[Bytes; 1]> {
        merge(tick, &Speaker::new(mode, mtu as u16, 0x0102_0304, "a@b"), &mut BytesMut::new())
    }

    fn kinds(datagrams: &[Bytes]) -> Vec<Vec<u8>> {
        datagrams.iter().map(|bytes| packets(bytes).map(|packet| packet.unwrap()[1]).collect()).collect()
    }

    #[test]
    fn rfc_3550_a_2_lengths_must_add_up() {
        assert_eq!(check(&[]), Err(RtcpError::Short(0)));
        assert_eq!(check(&packet(201, 1)[..6]), Err(RtcpError::Length { need: 8, have: 6 }));
        assert_eq!(check(&[0x80, 201, 0, 0, 0x80]), Err(RtcpError::Short(1)));
        assert_eq!(check(&[0x40, 201, 0, 0]), Err(RtcpError::Version(1)));
        assert_eq!(check(&[0x80, 96, 0, 0]), Err(RtcpError::Type(96)));
        assert_eq!(check(&[packet(201, 1), packet(205, 3)].concat()), Ok(()));
    }

    #[test]
    fn rfc_3550_6_1_a_compound_begins_with_a_report_and_has_sdes() {
        let merged = merge_of(&[packet(205, 2), packet(201, 7), packet(200, 6)], RtcpMode::Compound, 1200);
        assert_eq!(kinds(&merged), [[201, 200, 202, 205]]);
        let merged = merge_of(&[packet(205, 2)], RtcpMode::Compound, 1200);
        assert_eq!(kinds(&merged), [[201, 202, 205]]);
        assert!(check(&merged[0]).is_ok());
        let merged = merge_of(&[packet(202, 3), packet(205, 2), packet(201, 1)], RtcpMode::Compound, 1200);
        assert_eq!(kinds(&merged), [[201, 202, 205]]);
    }

    #[test]
    fn rfc_3550_6_4_1_only_the_last_packet_of_a_compound_has_padding() {
        let padded = |kind, words| {
            let mut bytes = packet(kind, words).to_vec();
            bytes[0] |= PADDING;
            bytes[4 * usize::from(words) + 3] = 8;
            Bytes::from(bytes)
        };
        let tick = [padded(201, 3), padded(206, 4), padded(205, 4), packet(205, 2)];
        for tick in [&tick[..1], &tick[1..2], &tick[..]] {
            for mode in [RtcpMode::Compound, RtcpMode::ReducedSize] {
                for datagram in merge_of(tick, mode, 1200) {
                    let found: Vec<_> = packets(&datagram).map(Result::unwrap).collect();
                    assert!(found[..found.len() - 1].iter().all(|packet| packet[0] & PADDING == 0));
                }
            }
        }
        assert_eq!(*unpadded(&padded(205, 4)), packet(205, 2)[..]);
        // Padding that reaches into the head, or is no whole words, is none.
        for count in [0, 3, 20, 24] {
            let mut lying = padded(205, 4).to_vec();
            lying[19] = count;
            assert_eq!(*unpadded(&lying), lying[..]);
        }
    }

    #[test]
    fn rfc_5506_reduced_size_adds_nothing() {
        let merged = merge_of(&[packet(205, 2), packet(206, 2)], RtcpMode::ReducedSize, 1200);
        assert_eq!(kinds(&merged), [[205, 206]]);
    }

    #[test]
    fn a_tick_that_exceeds_the_mtu_becomes_several_datagrams() {
        let tick: Vec<_> = (0..10).map(|_| packet(205, 9)).collect();
        for mode in [RtcpMode::Compound, RtcpMode::ReducedSize] {
            let merged = merge_of(&tick, mode, 100);
            assert!(merged.iter().all(|datagram| datagram.len() <= 100 && check(datagram).is_ok()));
            let feedback = kinds(&merged).concat().into_iter().filter(|kind| *kind == 205).count();
            assert_eq!(feedback, 10);
        }
        assert_eq!(merge_of(&[packet(205, 100)], RtcpMode::ReducedSize, 100).len(), 1);
    }

    #[test]
    fn compounds_that_share_memory_share_no_bytes() {
        let speaker = Speaker::new(RtcpMode::Compound, 1200, 0x0102_0304, "a@b");
        let mut room = BytesMut::new();
        let ticks: Vec<_> = (0..2000).map(|n| packet(205, n % 50)).collect();
        let made: Vec<_> =
            ticks.iter().flat_map(|tick| merge(std::slice::from_ref(tick), &speaker, &mut room)).collect();
        assert_eq!(made.len(), ticks.len());
        for (made, tick) in made.iter().zip(&ticks) {
            assert_eq!(kinds(std::slice::from_ref(made)), [[201, 202, 205]]);
            assert!(made.ends_with(tick));
        }
    }
}
