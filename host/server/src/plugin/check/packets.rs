//! RTP and RTCP as peers send them, and as they should not.

use bytes::Bytes;

/// An RTP packet with what of a header is of interest here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtp<'a> {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) csrcs: u8,
    /// The profile that the extension block names (RFC 3550, 5.3.1), and its words.
    pub(crate) extension: Option<(u16, &'a [u8])>,
    pub(crate) payload: &'a [u8],
    /// Bytes of padding after the payload, the last of which counts them.
    pub(crate) padding: u8,
}

/// RFC 8285, 4.2: one-byte headers.
pub(crate) const ONE_BYTE: u16 = 0xbede;
/// RFC 8285, 4.3: two-byte headers.
pub(crate) const TWO_BYTE: u16 = 0x1000;

impl Rtp<'_> {
    pub(crate) fn bytes(&self) -> Bytes {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut out =
            vec![0x80 | flag(self.padding > 0, 0x20) | flag(self.extension.is_some(), 0x10) | (self.csrcs & 15)];
        out.push(flag(self.marker, 0x80) | (self.payload_type & 0x7f));
        out.extend(self.sequence_number.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(self.ssrc.to_be_bytes());
        (0..self.csrcs & 15).for_each(|csrc| out.extend([0, 0, 0xc5, csrc]));
        if let Some((profile, words)) = self.extension {
            out.extend(profile.to_be_bytes());
            out.extend((words.len().div_ceil(4) as u16).to_be_bytes());
            out.extend(words);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out.extend(self.payload);
        if self.padding > 0 {
            out.resize(out.len() + usize::from(self.padding) - 1, 0);
            out.push(self.padding);
        }
        out.into()
    }
}

/// The transport-wide sequence number of a packet, in a one-byte extension with this id.
pub(crate) fn transport_wide_number(packet: &[u8], wanted: u8) -> Option<u16> {
    let csrcs = usize::from(packet.first()? & 15);
    let block = packet.get(12 + 4 * csrcs..).filter(|_| packet[0] & 0x10 != 0)?;
    let words = usize::from(u16::from_be_bytes([*block.get(2)?, *block.get(3)?]));
    let mut elements = block.get(4..4 + 4 * words).filter(|_| block[..2] == ONE_BYTE.to_be_bytes())?;
    while let [head, rest @ ..] = elements {
        let (id, length) = (head >> 4, usize::from(head & 15) + 1);
        match (id, rest) {
            (0, _) => elements = rest,
            (id, [high, low, ..]) if id == wanted && length == 2 => return Some(u16::from_be_bytes([*high, *low])),
            _ => elements = rest.get(length..)?,
        }
    }
    None
}

/// One RTCP packet: its count or format, its type and what follows the length.
pub(crate) fn rtcp(count: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let words = body.len().div_ceil(4);
    let mut out = vec![0x80 | (count & 31), kind];
    out.extend((words as u16).to_be_bytes());
    out.extend(body);
    out.resize(4 + 4 * words, 0);
    out
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A sender report with a block about one source, and the SDES that goes with it (RFC 3550, 6.4.1 and 6.5).
pub(crate) fn sender_report(sender: u32, ntp: u64, timestamp: u32, packets: u32, about: (u32, u16)) -> Vec<u8> {
    let (ssrc, highest) = about;
    let head = [sender, (ntp >> 32) as u32, ntp as u32, timestamp, packets, packets * 1000];
    let block = [ssrc, 0x0500_0001, u32::from(highest), 90, (ntp >> 16) as u32, 65536 / 10];
    let report = rtcp(1, 200, &words(&[&head[..], &block].concat()));
    let cname = b"peer";
    let mut chunk = words(&[sender]);
    chunk.extend([1, cname.len() as u8]);
    chunk.extend(cname);
    // At least one null octet ends the list.
    chunk.push(0);
    [report, rtcp(1, 202, &chunk)].concat()
}

/// An empty receiver report: what a compound has to begin with (RFC 3550, 6.1).
pub(crate) fn receiver_report(sender: u32) -> Vec<u8> {
    rtcp(0, 201, &words(&[sender]))
}

/// A request for packets of a source (RFC 4585, 6.2.1).
pub(crate) fn nack(sender: u32, media: u32, pairs: &[(u16, u16)]) -> Vec<u8> {
    let mut body = words(&[sender, media]);
    pairs.iter().for_each(|(packet, following)| body.extend([packet.to_be_bytes(), following.to_be_bytes()].concat()));
    [receiver_report(sender), rtcp(1, 205, &body)].concat()
}

/// A request for a key frame (RFC 4585, 6.3.1).
pub(crate) fn picture_loss(sender: u32, media: u32) -> Vec<u8> {
    [receiver_report(sender), rtcp(1, 206, &words(&[sender, media]))].concat()
}

/// A full intra request (RFC 5104, 4.3.1).
pub(crate) fn full_intra(sender: u32, media: u32, number: u8) -> Vec<u8> {
    [receiver_report(sender), rtcp(4, 206, &words(&[sender, 0, media, u32::from(number) << 24]))].concat()
}

/// A receiver's estimate of the bandwidth (draft-alvestrand-rmcat-remb).
pub(crate) fn bandwidth_estimate(sender: u32, media: u32) -> Vec<u8> {
    let mut body = words(&[sender, 0]);
    body.extend(b"REMB");
    body.extend(words(&[(1 << 24) | (4 << 18) | 62_500, media]));
    [receiver_report(sender), rtcp(15, 206, &body)].concat()
}

/// Feedback that `count` packets from `base` on arrived, a millisecond apart
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).
pub(crate) fn transport_feedback(sender: u32, media: u32, base: u16, count: u16, number: u8) -> Vec<u8> {
    let mut body = words(&[sender, media, (u32::from(base) << 16) | u32::from(count), 1000 << 8 | u32::from(number)]);
    // A run of small deltas, each of four 250 µs.
    body.extend((0x2000 | (count & 0x1fff)).to_be_bytes());
    body.resize(body.len() + usize::from(count), 4);
    [receiver_report(sender), rtcp(15, 205, &body)].concat()
}

/// A farewell (RFC 3550, 6.6).
pub(crate) fn goodbye(sender: u32) -> Vec<u8> {
    [receiver_report(sender), rtcp(1, 203, &words(&[sender]))].concat()
}

/// Compounds whose lengths add up and whose contents make no sense, so that the host hands them on: every type with every
/// count or format and bodies of several lengths.
pub(crate) fn nonsense(mut next: impl FnMut() -> u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for kind in 200..=207 {
        for count in [0, 1, 2, 4, 15, 31] {
            for length in [0, 4, 8, 12, 16, 24, 60] {
                let body: Vec<u8> = (0..length).map(|_| next() as u8).collect();
                let packet = rtcp(count, kind, &body);
                // What is no report cannot come first where compounds are checked for that.
                all.push(if kind <= 201 { packet } else { [receiver_report(next() as u32), packet].concat() });
            }
        }
    }
    // Transport feedback that announces more packets, and longer runs, than it has.
    for status in [0x3fff_u16, 0x7fff, 0xffff, 0xbfff] {
        let mut body = words(&[1, 2, 0xffff_ffff, 0]);
        body.extend(status.to_be_bytes());
        all.push([receiver_report(1), rtcp(15, 205, &body)].concat());
    }
    all
}

#[cfg(test)]
mod tests {
    use sandbar_host::{RtcpPacket, RtpPacket};

    use super::*;

    #[test]
    fn packets_are_what_the_host_takes_for_such() {
        let extension = [0x51, 0x12, 0x34, 0];
        let rtp = Rtp {
            ssrc: 7,
            csrcs: 15,
            extension: Some((ONE_BYTE, &extension)),
            payload: b"abc",
            padding: 4,
            ..Rtp::default()
        };
        let packet = RtpPacket::parse(rtp.bytes()).unwrap();
        assert_eq!((packet.ssrc(), packet.header().len()), (7, 12 + 60 + 8));
        assert_eq!(transport_wide_number(&rtp.bytes(), 5), Some(0x1234));
        assert_eq!(transport_wide_number(&rtp.bytes(), 4), None);
        let compounds = [
            sender_report(1, 2 << 40, 3, 4, (5, 6)),
            nack(1, 2, &[(3, 4)]),
            picture_loss(1, 2),
            full_intra(1, 2, 3),
            bandwidth_estimate(1, 2),
            transport_feedback(1, 2, 65530, 10, 3),
            goodbye(1),
        ];
        for compound in compounds {
            assert!(RtcpPacket::parse(compound.clone().into()).is_ok(), "{compound:?}");
        }
        let mut state = 0;
        let nonsense = nonsense(|| {
            state += 1;
            state
        });
        assert!(nonsense.iter().filter(|compound| RtcpPacket::parse((*compound).clone().into()).is_ok()).count() > 100);
    }
}
