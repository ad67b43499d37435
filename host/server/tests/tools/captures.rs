//! Captures as tests need them, made and read.

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapNGSlice};

/// A datagram at its time since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) time: Duration,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// How a capture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Raw IP in a pcap with nanoseconds.
    Raw,
    /// Ethernet with a VLAN tag in a pcap with microseconds, in big-endian order.
    Vlan,
}

/// Writes a pcap.
pub(crate) fn pcap(form: Form, datagrams: &[Datagram]) -> Vec<u8> {
    let (magic, link, unit) = match form {
        Form::Raw => (0xa1b2_3c4d_u32, 101_u32, 1),
        Form::Vlan => (0xa1b2_c3d4, 1, 1000),
    };
    let word = |value: u32| if form == Form::Raw { value.to_le_bytes() } else { value.to_be_bytes() };
    let versions = if form == Form::Raw { [2, 0, 4, 0] } else { [0, 2, 0, 4] };
    let mut file = [word(magic), versions, word(0), word(0), word(65535), word(link)].concat();
    for datagram in datagrams {
        let frame = frame(form, datagram);
        let length = word(frame.len() as u32);
        let time = datagram.time;
        file.extend([word(time.as_secs() as u32), word(time.subsec_nanos() / unit), length, length].concat());
        file.extend(frame);
    }
    file
}

fn frame(form: Form, datagram: &Datagram) -> Vec<u8> {
    let (from, to) = (datagram.source, datagram.destination);
    let mut out = Vec::new();
    let udp = match (from, to) {
        (SocketAddr::V4(a), SocketAddr::V4(b)) => {
            let (a, b) = (a.ip().octets(), b.ip().octets());
            match form {
                Form::Raw => PacketBuilder::ipv4(a, b, 64),
                Form::Vlan => {
                    PacketBuilder::ethernet2([1; 6], [2; 6]).single_vlan(7.try_into().unwrap()).ipv4(a, b, 64)
                }
            }
        }
        (SocketAddr::V6(a), SocketAddr::V6(b)) => {
            let (a, b) = (a.ip().octets(), b.ip().octets());
            match form {
                Form::Raw => PacketBuilder::ipv6(a, b, 64),
                Form::Vlan => {
                    PacketBuilder::ethernet2([1; 6], [2; 6]).single_vlan(7.try_into().unwrap()).ipv6(a, b, 64)
                }
            }
        }
        _ => panic!("{from} and {to}"),
    };
    udp.udp(from.port(), to.port()).write(&mut out, &datagram.payload).unwrap();
    out
}

/// Reads what a replay wrote: the interface and the datagram of each packet.
pub(crate) fn read(file: &[u8]) -> Vec<(u32, Datagram)> {
    let mut read = Vec::new();
    for block in PcapNGSlice::from_slice(file).unwrap() {
        let PcapBlockOwned::NG(Block::EnhancedPacket(packet)) = block.unwrap() else { continue };
        let nanos = (u64::from(packet.ts_high) << 32) | u64::from(packet.ts_low);
        let sliced = SlicedPacket::from_ip(packet.packet_data()).unwrap();
        let (from, to): (std::net::IpAddr, std::net::IpAddr) = match sliced.net.unwrap() {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            other => panic!("{other:?}"),
        };
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("no UDP") };
        let datagram = Datagram {
            time: Duration::from_nanos(nanos),
            source: SocketAddr::new(from, udp.source_port()),
            destination: SocketAddr::new(to, udp.destination_port()),
            payload: udp.payload().to_vec(),
        };
        read.push((packet.if_id, datagram));
    }
    read
}

/// An RTP packet.
pub(crate) fn rtp(payload_type: u8, ssrc: u32, sequence_number: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence_number.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A NACK for one packet, in a compound.
pub(crate) fn nack(sender: u32, media: u32, sequence_number: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(sender.to_be_bytes());
    packet.extend([0x81, 205, 0, 3]);
    packet.extend(sender.to_be_bytes());
    packet.extend(media.to_be_bytes());
    packet.extend(sequence_number.to_be_bytes());
    packet.extend([0, 0]);
    packet
}

/// The packets that a compound's NACKs name first.
pub(crate) fn nacked(mut compound: &[u8]) -> Vec<u16> {
    let mut asked = Vec::new();
    while compound.len() >= 4 {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([compound[2], compound[3]]));
        if compound[1] == 205 && compound[0] & 31 == 1 {
            asked.extend(compound[12..length].chunks(4).map(|pair| u16::from_be_bytes([pair[0], pair[1]])));
        }
        compound = &compound[length..];
    }
    asked
}
