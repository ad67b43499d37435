//! Writing captures: pcapng (draft-ietf-opsawg-pcapng) of raw IP, with times in nanoseconds.

use std::io::{self, Write};
use std::time::Duration;

/// LINKTYPE_RAW: the packet begins with an IPv4 or IPv6 header.
const RAW_IP: u16 = 101;

/// A capture that is being written. The same calls give the same bytes.
pub(crate) struct PcapngWriter<W>(W);

impl<W: Write> PcapngWriter<W> {
    /// Begins a capture with these interfaces, numbered from 0: their names and what they are.
    pub(crate) fn new(out: W, interfaces: &[(&str, &str)]) -> io::Result<Self> {
        let mut this = Self(out);
        let mut section = Vec::new();
        section.extend(0x1a2b_3c4d_u32.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        // Its length is not said.
        section.extend(u64::MAX.to_le_bytes());
        option(&mut section, 4, b"sandbar replay");
        end_of_options(&mut section);
        this.block(0x0a0d_0d0a, &section)?;
        for (name, description) in interfaces {
            let mut interface = Vec::new();
            interface.extend(RAW_IP.to_le_bytes());
            interface.extend([0; 6]);
            option(&mut interface, 2, name.as_bytes());
            option(&mut interface, 3, description.as_bytes());
            // if_tsresol: 10^-9 s.
            option(&mut interface, 9, &[9]);
            end_of_options(&mut interface);
            this.block(1, &interface)?;
        }
        Ok(this)
    }

    /// Writes a packet that passed an interface, at a time since the Unix epoch.
    pub(crate) fn packet(&mut self, interface: u32, time: Duration, bytes: &[u8]) -> io::Result<()> {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let length = (bytes.len() as u32).to_le_bytes();
        let mut body = Vec::with_capacity(24 + bytes.len());
        body.extend(interface.to_le_bytes());
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend((time as u32).to_le_bytes());
        body.extend([length, length].concat());
        body.extend(bytes);
        pad(&mut body);
        self.block(6, &body)
    }

    /// Ends the capture.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.0.flush()?;
        Ok(self.0)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (12 + body.len() as u32).to_le_bytes();
        self.0.write_all(&kind.to_le_bytes())?;
        self.0.write_all(&length)?;
        self.0.write_all(body)?;
        self.0.write_all(&length)
    }
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend(code.to_le_bytes());
    block.extend((value.len() as u16).to_le_bytes());
    block.extend(value);
    pad(block);
}

fn end_of_options(block: &mut Vec<u8>) {
    block.extend([0; 4]);
}

fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::capture;

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = PcapngWriter::new(Vec::new(), &[("application", "what it gets"), ("wire", "")]).unwrap();
        let times = [Duration::from_nanos(1), Duration::new(1_700_000_000, 123_456_789)];
        let packets: [&[u8]; 2] = [b"abcde", b""];
        for (interface, (time, bytes)) in times.into_iter().zip(packets).enumerate() {
            writer.packet(interface as u32, time, bytes).unwrap();
        }
        let file = writer.finish().unwrap();
        let capture = capture::read(&file).unwrap();
        assert_eq!(capture.ended_by, None);
        let read: Vec<_> = capture.packets.iter().map(|packet| (packet.time, packet.bytes, packet.link.0)).collect();
        assert_eq!(read, [(times[0], packets[0], 101), (times[1], packets[1], 101)]);
    }
}
