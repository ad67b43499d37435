//! What fuzz targets are given of a replay.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Chain, RtcpMode};

use super::drive::{self, Direction, Setup};
use super::formats::{Formats, default_feedback};
use super::pcapng::PcapngWriter;
use super::{capture, datagram, plan};

/// A packet of a capture: its time, its bytes, and the payload of the UDP datagram in it.
pub type Captured<'f> = (Duration, &'f [u8], Option<&'f [u8]>);

/// Reads a capture, of either format: its packets, and why it ends before the file does.
pub fn capture(file: &[u8]) -> Result<(Vec<Captured<'_>>, Option<String>), String> {
    let capture = capture::read(file).map_err(|error| error.to_string())?;
    let payload = |packet| datagram::datagram(packet).ok().map(|found| found.payload);
    let packets = capture.packets.iter().map(|packet| (packet.time, packet.bytes, payload(packet))).collect();
    Ok((packets, capture.ended_by.map(|why| why.to_string())))
}

/// Writes packets of raw IP as a capture.
pub fn write_capture(packets: &[(Duration, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut writer = PcapngWriter::new(Vec::new(), &[("fuzz", "")])?;
    for (time, bytes) in packets {
        writer.packet(0, *time, bytes)?;
    }
    writer.finish()
}

/// Takes a capture through a chain without plugins, read or written: how many packets went in, how many came out, and the
/// capture of those.
pub fn replay(file: &[u8], read: bool) -> Option<(usize, u64, Vec<u8>)> {
    let file = Bytes::copy_from_slice(file);
    let capture = capture::read(&file).ok()?;
    let formats = Formats { feedback: default_feedback(), rtx: vec![(97, 96)], ..Formats::default() };
    let plan = plan::plan(&file, &capture.packets, &formats, &[]);
    let setup = Setup {
        chain: Chain::default(),
        formats,
        direction: if read { Direction::Read } else { Direction::Write },
        local: None,
        seed: 0,
        mtu: 1200,
        rtcp: RtcpMode::Compound,
        linger: Duration::from_secs(1),
    };
    let outcome = drive::run(&plan, &setup).ok()?;
    let came =
        [outcome.to_application, outcome.to_wire].iter().map(|kinds| kinds.rtp + kinds.rtcp + kinds.malformed).sum();
    Some((plan.steps.len(), came, outcome.file))
}
