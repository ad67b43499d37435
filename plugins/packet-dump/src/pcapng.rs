//! Packets as pcapng (draft-ietf-opsawg-pcapng) of raw IPv4, so that what reads it finds RTP and RTCP by their ports.

/// LINKTYPE_RAW: a packet begins with its IP header.
const RAW_IP: u16 = 101;
/// Block types (draft-ietf-opsawg-pcapng, 10.1).
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Options of all blocks, and of these.
const END: u16 = 0;
const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// What IPv4 can carry.
const MAX_DATAGRAM: usize = u16::MAX as usize - IP_HEADER - UDP_HEADER;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What a packet is, for its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rtp,
    Rtcp,
}

/// A packet and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) way: Way,
    pub(crate) kind: Kind,
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    /// What is written of it, from its beginning.
    pub(crate) bytes: &'a [u8],
    /// Bytes of the whole packet.
    pub(crate) size: usize,
    pub(crate) comment: &'a str,
}

/// The addresses of a session's packets, which the plugin does not know: this side's is 192.0.2.1 (RFC 5737), the peer's is
/// in 10.0.0.0/8 by the session's RTCP SSRC, so that sessions can be told apart in one file. Ports are those of RFC 3551, 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    local: [u8; 4],
    peer: [u8; 4],
}

impl Addresses {
    pub(crate) fn of(rtcp_ssrc: u32) -> Self {
        let [_, a, b, c] = rtcp_ssrc.to_be_bytes();
        Self { local: [192, 0, 2, 1], peer: [10, a, b, c] }
    }
}

/// Begins a section with its one interface. Each section begins with the same bytes, so that packets of another writer of
/// the same file are none the worse for one that begins between them.
pub(crate) fn begin(out: &mut Vec<u8>) {
    block(out, SECTION, |out| {
        out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        // Version 1.0, of a length that is not said.
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        option(out, USER_APPLICATION, b"sandbar packet-dump");
        option(out, END, &[]);
    });
    block(out, INTERFACE, |out| {
        out.extend_from_slice(&RAW_IP.to_le_bytes());
        // Packets may have any length.
        out.extend_from_slice(&[0; 6]);
        option(out, NAME, b"sandbar");
        // 10^-9 s.
        option(out, TIME_RESOLUTION, &[9]);
        option(out, END, &[]);
    });
}

/// Appends a packet, in an IP packet of its own.
pub(crate) fn packet(out: &mut Vec<u8>, addresses: &Addresses, record: &Record<'_>) {
    let size = record.size.min(MAX_DATAGRAM);
    let bytes = record.bytes.get(..size).unwrap_or(record.bytes);
    let heads = IP_HEADER + UDP_HEADER;
    block(out, PACKET, |out| {
        for word in
            [0, (record.time >> 32) as u32, record.time as u32, (heads + bytes.len()) as u32, (heads + size) as u32]
        {
            out.extend_from_slice(&word.to_le_bytes());
        }
        ip(out, addresses, record, size);
        out.extend_from_slice(bytes);
        pad(out, heads + bytes.len());
        // Bits 0 and 1: inbound or outbound.
        option(out, FLAGS, &(if record.way == Way::In { 1u32 } else { 2 }).to_le_bytes());
        if !record.comment.is_empty() {
            option(out, COMMENT, record.comment.as_bytes());
        }
        option(out, END, &[]);
    });
}

/// The heads of an IPv4 packet (RFC 791) and of a UDP datagram (RFC 768) without a checksum.
fn ip(out: &mut Vec<u8>, addresses: &Addresses, record: &Record<'_>, size: usize) {
    let (source, destination) = match record.way {
        Way::In => (addresses.peer, addresses.local),
        Way::Out => (addresses.local, addresses.peer),
    };
    let [length, udp] = [IP_HEADER + UDP_HEADER + size, UDP_HEADER + size].map(|length| (length as u16).to_be_bytes());
    let mut head = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[12..16].copy_from_slice(&source);
    head[16..20].copy_from_slice(&destination);
    let sum: u32 = head.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    head[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    out.extend_from_slice(&head);
    let [high, low] = match record.kind {
        Kind::Rtp => 5004_u16,
        Kind::Rtcp => 5005,
    }
    .to_be_bytes();
    out.extend_from_slice(&[high, low, high, low, udp[0], udp[1], 0, 0]);
}

/// A block around its body.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = ((out.len() - start + 4) as u32).to_le_bytes();
    out.extend_from_slice(&length);
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&length);
    }
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Fills up to whole words what has so many bytes.
fn pad(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(&[0; 3][..bytes.next_multiple_of(4) - bytes]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: Addresses = Addresses { local: [192, 0, 2, 1], peer: [10, 0, 0, 7] };

    /// The blocks' types and bodies, each with its length twice.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let mut found = Vec::new();
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        while !bytes.is_empty() {
            let length = word(bytes, 4) as usize;
            assert!(length.is_multiple_of(4) && word(bytes, length - 4) as usize == length);
            found.push((word(bytes, 0), &bytes[8..length - 4]));
            bytes = &bytes[length..];
        }
        found
    }

    fn written(record: Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        packet(&mut out, &ADDRESSES, &record);
        blocks(&out)[0].1.to_vec()
    }

    #[test]
    fn a_section_is_little_endian_and_has_one_interface_of_raw_ip_in_nanoseconds() {
        let mut out = Vec::new();
        begin(&mut out);
        let blocks = blocks(&out);
        assert_eq!(blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [SECTION, INTERFACE]);
        assert_eq!(blocks[0].1[..8], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
        assert_eq!(blocks[1].1[..8], [101, 0, 0, 0, 0, 0, 0, 0]);
        assert!(blocks[1].1.ends_with(&[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_packet_is_an_ip_packet_of_the_whole_ones_length() {
        let record = Record {
            way: Way::In,
            kind: Kind::Rtp,
            time: 0x0102_0304_0506_0708,
            bytes: &[0x80; 13],
            size: 1000,
            comment: "",
        };
        let body = written(record);
        assert_eq!(body[..12], [0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5]);
        assert_eq!(body[12..20], [28 + 13, 0, 0, 0, 4, 4, 0, 0], "what there is, and what there was");
        let ip = &body[20..];
        assert_eq!((ip[0], u16::from_be_bytes([ip[2], ip[3]]), ip[9]), (0x45, 1028, 17));
        assert_eq!((&ip[12..16], &ip[16..20]), (&[10, 0, 0, 7][..], &[192, 0, 2, 1][..]));
        assert_eq!(ip[20..28], [19, 140, 19, 140, 3, 240, 0, 0]);
        // RFC 791: the sum over the header is all ones.
        let sum: u32 = ip[..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(ip[28..44], [&[0x80; 13][..], &[0; 3]].concat());
        assert_eq!(ip[44..], [2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_sent_goes_the_other_way_and_rtcp_by_the_next_port() {
        let record = Record { way: Way::Out, kind: Kind::Rtcp, time: 0, bytes: b"rtcp", size: 4, comment: "repaired" };
        let body = written(record);
        assert_eq!((&body[32..36], &body[36..40]), (&[192, 0, 2, 1][..], &[10, 0, 0, 7][..]));
        assert_eq!(body[40..44], [19, 141, 19, 141]);
        assert_eq!(body[52..], *b"\x02\0\x04\0\x02\0\0\0\x01\0\x08\0repaired\0\0\0\0");
    }

    #[test]
    fn no_packet_is_longer_than_ip_allows() {
        let bytes = vec![1; 70_000];
        let record = Record { way: Way::In, kind: Kind::Rtp, time: 0, bytes: &bytes, size: 70_000, comment: "" };
        assert_eq!(written(record)[12..20], [[0xff, 0xff, 0, 0]; 2].concat());
    }

    #[test]
    fn sessions_have_peers_of_their_own() {
        assert_eq!(Addresses::of(0xaa01_0203).peer, [10, 1, 2, 3]);
    }
}
