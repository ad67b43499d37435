//! From what a link carried to UDP datagrams, and back to what a capture holds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{EtherType, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, err};
use pcap_parser::Linktype;
use serde::Serialize;

use super::capture::Captured;

/// A UDP datagram of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: &'a [u8],
}

/// Why a captured packet is no datagram that could be RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// A link type that is not read.
    Link(Linktype),
    /// Not IP, or not UDP.
    NotUdp,
    /// A fragment of a datagram.
    Fragment,
    /// The capture kept only its beginning.
    Cut,
    /// Its headers are wrong.
    Damaged,
}

/// Packets that were left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    /// Of a link type that is not read.
    pub(crate) link: u64,
    /// Of other protocols than UDP over IP.
    pub(crate) not_udp: u64,
    /// Fragments of IP datagrams.
    pub(crate) fragments: u64,
    /// Not captured whole.
    pub(crate) cut: u64,
    /// With wrong headers.
    pub(crate) damaged: u64,
    /// UDP, but neither RTP nor RTCP, or outside of what `--port` selects.
    pub(crate) not_rtp: u64,
    /// RTCP that concerns no stream of the capture.
    pub(crate) stray_rtcp: u64,
}

impl Skipped {
    pub(crate) fn count(&mut self, why: Skip) {
        *match why {
            Skip::Link(_) => &mut self.link,
            Skip::NotUdp => &mut self.not_udp,
            Skip::Fragment => &mut self.fragments,
            Skip::Cut => &mut self.cut,
            Skip::Damaged => &mut self.damaged,
        } += 1;
    }
}

/// Finds the UDP datagram in a captured packet. Link types are those of <https://www.tcpdump.org/linktypes.html>.
pub(crate) fn datagram<'a>(captured: &Captured<'a>) -> Result<Datagram<'a>, Skip> {
    let bytes = captured.bytes;
    let wrong = |error: err::packet::SliceError| match error {
        err::packet::SliceError::Len(_) if captured.cut => Skip::Cut,
        _ => Skip::Damaged,
    };
    let after = |length: usize| bytes.get(length..).ok_or(if captured.cut { Skip::Cut } else { Skip::Damaged });
    let protocol = |at: usize| match bytes.get(at..at + 2) {
        Some(protocol) => Ok(EtherType(u16::from_be_bytes([protocol[0], protocol[1]]))),
        None => Err(Skip::Damaged),
    };
    let sliced = match captured.link.0 {
        1 => SlicedPacket::from_ethernet(bytes),
        // BSD loopback: four bytes of address family, which the IP version says again.
        0 | 108 => SlicedPacket::from_ip(after(4)?),
        12 | 14 | 101 | 228 | 229 => SlicedPacket::from_ip(bytes),
        // Linux cooked, versions 1 and 2.
        113 => SlicedPacket::from_ether_type(protocol(14)?, after(16)?),
        276 => SlicedPacket::from_ether_type(protocol(0)?, after(20)?),
        _ => return Err(Skip::Link(captured.link)),
    }
    .map_err(wrong)?;
    let (source, destination): (IpAddr, IpAddr) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => return Err(Skip::NotUdp),
    };
    if sliced.is_ip_payload_fragmented() {
        return Err(Skip::Fragment);
    }
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { return Err(Skip::NotUdp) };
    Ok(Datagram {
        source: SocketAddr::new(source, udp.source_port()),
        destination: SocketAddr::new(destination, udp.destination_port()),
        payload: udp.payload(),
    })
}

/// An IP packet with a UDP datagram, for a capture of raw IP. `None` if it is longer than IP can say.
pub(crate) fn packet(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    const HOPS: u8 = 64;
    let addresses = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (from, to),
        (from, to) => {
            let six = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            return write(
                PacketBuilder::ipv6(six(from).octets(), six(to).octets(), HOPS),
                source,
                destination,
                payload,
            );
        }
    };
    let (from, to): (Ipv4Addr, Ipv4Addr) = addresses;
    write(PacketBuilder::ipv4(from.octets(), to.octets(), HOPS), source, destination, payload)
}

fn write(
    ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>,
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let builder = ip.udp(source.port(), destination.port());
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn captured(link: i32, bytes: &[u8]) -> Captured<'_> {
        Captured { time: Duration::ZERO, link: Linktype(link), bytes, cut: false }
    }

    fn addresses(six: bool) -> (SocketAddr, SocketAddr) {
        let (from, to) =
            if six { ("[2001:db8::1]:5004", "[2001:db8::2]:6004") } else { ("192.0.2.1:5004", "192.0.2.2:6004") };
        (from.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn datagrams_are_found_under_every_link_layer_and_both_ip_versions() {
        for six in [false, true] {
            let (source, destination) = addresses(six);
            let ip = packet(source, destination, b"payload").unwrap();
            let protocol: [u8; 2] = if six { [0x86, 0xdd] } else { [0x08, 0x00] };
            let framed = |before: &[&[u8]]| [&before.concat()[..], &ip].concat();
            let ethernet = framed(&[&[0; 12], &protocol]);
            let vlan = framed(&[&[0; 12], &[0x81, 0, 0, 7], &protocol]);
            let cooked = framed(&[&[0, 0, 3, 4], &[0; 10], &protocol]);
            let cooked2 = framed(&[&protocol, &[0; 18]]);
            let null = framed(&[&[2, 0, 0, 0]]);
            for (link, bytes) in [(1, &ethernet), (1, &vlan), (113, &cooked), (276, &cooked2), (0, &null), (101, &ip)] {
                let found = datagram(&captured(link, bytes));
                assert_eq!(found, Ok(Datagram { source, destination, payload: b"payload" }), "link {link}, IPv6 {six}");
                for length in 0..bytes.len() {
                    let cut = Captured { cut: true, ..captured(link, &bytes[..length]) };
                    assert!(datagram(&cut).is_err(), "link {link}: {length} of {} bytes", bytes.len());
                }
            }
        }
    }

    #[test]
    fn what_is_no_datagram_says_why() {
        let (source, destination) = addresses(false);
        let ip = packet(source, destination, b"payload").unwrap();
        let mut fragment = ip.clone();
        fragment[6] |= 0x20;
        assert_eq!(datagram(&captured(101, &fragment)), Err(Skip::Fragment));
        let mut tcp = ip.clone();
        tcp[9] = 47;
        assert_eq!(datagram(&captured(101, &tcp)), Err(Skip::NotUdp));
        assert_eq!(datagram(&captured(105, &ip)), Err(Skip::Link(Linktype(105))));
        let arp = [&[0; 12][..], &[0x08, 0x06], &[0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat();
        assert_eq!(datagram(&captured(1, &arp)), Err(Skip::NotUdp));
        assert_eq!(packet(source, destination, &[0; 65536]), None);
    }
}
