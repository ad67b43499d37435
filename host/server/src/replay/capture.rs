//! Reading captures: pcap and pcapng (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng) as packets with their times.

use std::time::Duration;

use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{
    InterfaceDescriptionBlock, Linktype, PcapError, PcapHeader, nom, parse_pcap_frame, parse_pcap_frame_be,
    parse_pcap_frame_modified, parse_pcap_header,
};

/// Why a file cannot be read as a capture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaptureError {
    /// It is something else.
    #[error("this is not a capture: {0}; pcap and pcapng files are read, as tcpdump, tshark and Wireshark write them")]
    NotCapture(&'static str),
    /// It ends within a packet or block.
    #[error("the capture is cut off after {packets} packets: at byte {offset} of {size} begins one that is not whole")]
    Truncated {
        /// Packets before.
        packets: usize,
        /// Where the last whole packet or block ends.
        offset: usize,
        /// Bytes of the file.
        size: usize,
    },
    /// A block contradicts the format.
    #[error("the capture is damaged after {packets} packets, at byte {offset}: {what}")]
    Damaged {
        /// Packets before.
        packets: usize,
        /// Where the block begins.
        offset: usize,
        /// What is wrong.
        what: String,
    },
}

/// A packet as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Captured<'a> {
    /// Since the Unix epoch.
    pub(crate) time: Duration,
    pub(crate) link: Linktype,
    pub(crate) bytes: &'a [u8],
    /// The capture kept less than there was.
    pub(crate) cut: bool,
}

/// The packets of a capture that is whole, or of the whole part of one that is not.
#[derive(Debug)]
pub(crate) struct Capture<'a> {
    pub(crate) packets: Vec<Captured<'a>>,
    /// Why it ends where it does, if that is not its end.
    pub(crate) ended_by: Option<CaptureError>,
}

/// Reads a capture of either format.
pub(crate) fn read(file: &[u8]) -> Result<Capture<'_>, CaptureError> {
    const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
    let mut packets = Vec::new();
    let end = match file {
        [] => return Err(CaptureError::NotCapture("the file is empty")),
        [0x1f, 0x8b, ..] => return Err(CaptureError::NotCapture("it is compressed; unpack it with gunzip first")),
        [first, second, third, fourth, ..] if [*first, *second, *third, *fourth] == PCAPNG => {
            pcapng(file, &mut packets)
        }
        _ => match parse_pcap_header(file) {
            Ok((rest, header)) => pcap(file, rest, &header, &mut packets),
            Err(nom::Err::Incomplete(_)) if file.len() >= 4 => Err(Stop { offset: 0, what: None }),
            Err(_) => return Err(CaptureError::NotCapture("it begins with neither format's magic number")),
        },
    };
    let count = packets.len();
    let ended_by = end.err().map(|Stop { offset, what }| match what {
        None => CaptureError::Truncated { packets: count, offset, size: file.len() },
        Some(what) => CaptureError::Damaged { packets: count, offset, what },
    });
    Ok(Capture { packets, ended_by })
}

/// Where reading stops before the file's end: within a block, or with what is wrong with it.
struct Stop {
    offset: usize,
    what: Option<String>,
}

impl Stop {
    fn damaged(offset: usize, what: impl Into<String>) -> Self {
        Self { offset, what: Some(what.into()) }
    }

    fn of(offset: usize, error: nom::Err<PcapError<&[u8]>>) -> Self {
        match error {
            nom::Err::Incomplete(_) => Self { offset, what: None },
            nom::Err::Error(error) | nom::Err::Failure(error) => Self::damaged(
                offset,
                match error {
                    PcapError::NomError(_, kind) => format!("its {} is wrong", kind.description().to_lowercase()),
                    other => other.to_string(),
                },
            ),
        }
    }
}

/// More than any link carries; a longer packet is a sign that the reader is not where a packet begins.
const LONGEST: u32 = 1 << 20;

fn pcap<'a>(
    file: &'a [u8],
    mut rest: &'a [u8],
    header: &PcapHeader,
    packets: &mut Vec<Captured<'a>>,
) -> Result<(), Stop> {
    let units = if header.is_nanosecond_precision() { 1 } else { 1_000 };
    let parse = match (header.is_bigendian(), header.is_modified_format()) {
        (true, _) => parse_pcap_frame_be,
        (false, true) => parse_pcap_frame_modified,
        (false, false) => parse_pcap_frame,
    };
    // The upper bits say how long a frame check sequence is.
    let link = Linktype(header.network.0 & 0x0fff_ffff);
    while !rest.is_empty() {
        let offset = file.len() - rest.len();
        let said = rest.get(8..12).and_then(|length| length.try_into().ok()).map_or(0, |length| {
            if header.is_bigendian() { u32::from_be_bytes(length) } else { u32::from_le_bytes(length) }
        });
        if said > LONGEST {
            return Err(Stop::damaged(offset, format!("a packet of {said} bytes cannot be")));
        }
        let (after, frame) = parse(rest).map_err(|error| Stop::of(offset, error))?;
        let time = Duration::from_secs(frame.ts_sec.into()) + Duration::from_nanos(u64::from(frame.ts_usec) * units);
        packets.push(Captured { time, link, bytes: frame.data, cut: frame.caplen < frame.origlen });
        rest = after;
    }
    Ok(())
}

/// What packets need to be known of the interface that they were captured on.
struct Interface {
    link: Linktype,
    snap_length: u32,
    /// Timestamp units per second.
    resolution: u64,
    /// Seconds to add to timestamps.
    offset: i64,
}

impl Interface {
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Option<Self> {
        let exponent = u32::from(block.if_tsresol & 0x7f);
        let base: u64 = if block.if_tsresol & 0x80 == 0 { 10 } else { 2 };
        let resolution = base.checked_pow(exponent)?;
        Some(Self { link: block.linktype, snap_length: block.snaplen, resolution, offset: block.if_tsoffset })
    }

    fn time(&self, high: u32, low: u32) -> Duration {
        let units = (u64::from(high) << 32) | u64::from(low);
        let seconds = (units / self.resolution).saturating_add_signed(self.offset);
        let fraction = u128::from(units % self.resolution) * 1_000_000_000 / u128::from(self.resolution);
        Duration::from_secs(seconds) + Duration::from_nanos(fraction as u64)
    }
}

fn pcapng<'a>(file: &'a [u8], packets: &mut Vec<Captured<'a>>) -> Result<(), Stop> {
    let mut rest = file;
    let mut big_endian = false;
    let mut interfaces: Vec<Interface> = Vec::new();
    // A simple packet block has no time of its own.
    let mut time = Duration::ZERO;
    while !rest.is_empty() {
        let offset = file.len() - rest.len();
        let (after, block) = match big_endian {
            true => parse_block_be(rest),
            false => parse_block_le(rest),
        }
        .map_err(|error| Stop::of(offset, error))?;
        match block {
            Block::SectionHeader(section) => {
                big_endian = section.big_endian();
                interfaces.clear();
            }
            Block::InterfaceDescription(description) => {
                let what = "an interface has a timestamp resolution finer than 64 bits hold";
                interfaces.push(Interface::of(&description).ok_or_else(|| Stop::damaged(offset, what))?);
            }
            Block::EnhancedPacket(packet) => {
                let unknown = || Stop::damaged(offset, format!("no block describes interface {}", packet.if_id));
                let interface = interfaces.get(packet.if_id as usize).ok_or_else(unknown)?;
                time = interface.time(packet.ts_high, packet.ts_low);
                let bytes = whole(packet.data, packet.caplen);
                packets.push(Captured { time, link: interface.link, bytes, cut: packet.truncated() });
            }
            Block::SimplePacket(packet) => {
                let unknown = || Stop::damaged(offset, "a packet comes before any interface is described");
                let interface = interfaces.first().ok_or_else(unknown)?;
                let kept = if interface.snap_length == 0 { u32::MAX } else { interface.snap_length };
                let bytes = whole(packet.data, packet.origlen.min(kept));
                packets.push(Captured { time, link: interface.link, bytes, cut: kept < packet.origlen });
            }
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

/// A packet without the padding of its block.
fn whole(data: &[u8], length: u32) -> &[u8] {
    data.get(..length as usize).unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pcap with two packets, in either byte order, with micro- or nanoseconds.
    fn classic(big: bool, nanos: bool) -> Vec<u8> {
        let u32s = |values: &[u32]| -> Vec<u8> {
            values.iter().flat_map(|v| if big { v.to_be_bytes() } else { v.to_le_bytes() }).collect()
        };
        let u16s = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut file = u32s(&[if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }]);
        file.extend([u16s(2), u16s(4)].concat());
        file.extend(u32s(&[0, 0, 65535, 101]));
        file.extend(u32s(&[100, 7, 3, 3]));
        file.extend(b"abc");
        file.extend(u32s(&[101, 8, 2, 9]));
        file.extend(b"de");
        file
    }

    #[test]
    fn pcap_is_read_in_both_byte_orders_and_both_resolutions() {
        for (big, nanos) in [(false, false), (false, true), (true, false), (true, true)] {
            let file = classic(big, nanos);
            let capture = read(&file).unwrap();
            let unit = if nanos { Duration::from_nanos(1) } else { Duration::from_micros(1) };
            let link = Linktype(101);
            let first = Captured { time: Duration::from_secs(100) + unit * 7, link, bytes: b"abc", cut: false };
            let second = Captured { time: Duration::from_secs(101) + unit * 8, link, bytes: b"de", cut: true };
            assert_eq!((capture.packets, capture.ended_by), (vec![first, second], None), "{big} {nanos}");
        }
    }

    #[test]
    fn every_cut_of_a_capture_is_whole_packets_and_a_reason() {
        let file = classic(false, false);
        for length in 4..file.len() {
            let capture = read(&file[..length]).unwrap();
            assert_eq!(capture.packets.len(), usize::from(length >= 24 + 19), "{length}");
            match capture.ended_by {
                None => assert!([24, 24 + 19].contains(&length), "{length}"),
                Some(why) => assert!(matches!(why, CaptureError::Truncated { .. }), "{why}"),
            }
        }
    }

    #[test]
    fn other_files_are_named_for_what_they_are_not() {
        for file in [&b""[..], b"abc", b"\x1f\x8b\x08\x00", b"\0asm\x0d\0\x01\0", b"RIFF....WAVE"] {
            assert!(matches!(read(file), Err(CaptureError::NotCapture(_))), "{file:?}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_damage_and_not_truncation() {
        let mut file = classic(false, false);
        file[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        let why = read(&file).unwrap().ended_by.unwrap();
        assert!(matches!(why, CaptureError::Damaged { packets: 0, offset: 24, .. }), "{why}");
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = (12 + body.len()) as u32;
        [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
    }

    fn section() -> Vec<u8> {
        block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])
    }

    #[test]
    fn pcapng_times_follow_each_interfaces_resolution_and_offset() {
        // if_tsresol (9): 2^-20 s, if_tsoffset (14): 1000 s, and an end of options.
        let offset = 1000_i64.to_le_bytes();
        let mut options = vec![9, 0, 1, 0, 0x80 | 20, 0, 0, 0, 14, 0, 8, 0];
        options.extend(offset);
        options.extend([0; 4]);
        let interface = block(1, &[&[101, 0, 0, 0, 0, 0, 0, 0][..], &options].concat());
        let units = (5_u64 << 20) + (1 << 19);
        let [high, low] = [(units >> 32) as u32, units as u32].map(u32::to_le_bytes);
        let packet = [&0_u32.to_le_bytes()[..], &high, &low, &3_u32.to_le_bytes(), &3_u32.to_le_bytes(), b"abc\0"];
        let file = [section(), interface, block(6, &packet.concat())].concat();
        let capture = read(&file).unwrap();
        assert_eq!(capture.ended_by, None);
        assert_eq!(capture.packets[0].time, Duration::from_millis(1_005_500));
        assert_eq!(capture.packets[0].bytes, b"abc");
    }

    #[test]
    fn a_packet_of_no_interface_is_damage() {
        let packet = [&[0; 20][..], b"abc\0"].concat();
        let file = [section(), block(6, &packet)].concat();
        let why = read(&file).unwrap().ended_by.unwrap();
        assert!(matches!(why, CaptureError::Damaged { .. }), "{why}");
    }
}
