//! Header extensions that are written after a packet was protected, by whoever numbers and sends it.
//!
//! Repair is the parity of whole packets, so a receiver has to have the very bytes that were protected. libwebrtc therefore
//! counts these extensions as zeros at both ends (`RtpPacket::ZeroMutableExtensions`), and so do this plugin and the decoder.

use sandbar_sdk::{Header, RtpHeaderExtension, StreamInfo};

/// Each with the first byte of its value that changes.
const MUTABLE: [(&str, usize); 5] = [
    (RtpHeaderExtension::TRANSPORT_CC, 0),
    ("http://www.webrtc.org/experiments/rtp-hdrext/transport-wide-cc-02", 0),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", 0),
    ("urn:ietf:params:rtp-hdrext:toffset", 0),
    // Behind the encoder's times come those of pacer and network.
    ("http://www.webrtc.org/experiments/rtp-hdrext/video-timing", 7),
];

/// A stream's mutable extensions, as negotiated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mutable(Vec<(u8, usize)>);

impl Mutable {
    pub(crate) fn of(info: &StreamInfo) -> Self {
        let ids = MUTABLE.iter().filter_map(|(uri, from)| Some((info.extension_id(uri).filter(|id| *id != 0)?, *from)));
        Self(ids.collect())
    }

    /// Writes zeros over their values in `bytes`, which begin with this header.
    pub(crate) fn zero(&self, header: &Header<'_>, bytes: &mut [u8]) {
        for (id, from) in &self.0 {
            if let Some(value) = header.extension_range(*id)
                && let Some(value) = bytes.get_mut(value).and_then(|value| value.get_mut(*from..))
            {
                value.fill(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::HeaderBuf;

    use super::*;

    #[test]
    fn what_is_written_later_is_zeroed_and_the_rest_is_not() {
        let uris = MUTABLE.iter().map(|(uri, _)| *uri).chain(["urn:ietf:params:rtp-hdrext:sdes:mid"]);
        let extensions = uris.zip(1..).map(|(uri, id)| RtpHeaderExtension { uri: uri.to_owned(), id }).collect();
        let mutable = Mutable::of(&StreamInfo { rtp_header_extensions: extensions, ..StreamInfo::default() });
        let mut header = HeaderBuf::new(96, 7);
        for (id, len) in [(1, 2), (2, 4), (3, 3), (4, 3), (5, 13), (6, 3)] {
            header.edit().set_extension(id, &vec![0xFF; len]).unwrap();
        }
        let mut bytes = [header.as_bytes(), b"\xFFmedia"].concat();
        mutable.zero(&header.view(), &mut bytes);
        let after = Header::parse(&bytes).unwrap();
        for (id, len) in [(1, 2), (2, 4), (3, 3), (4, 3)] {
            assert_eq!(after.extension(id), Some(&vec![0; len][..]));
        }
        assert_eq!(after.extension(5), Some(&[vec![0xFF; 7], vec![0; 6]].concat()[..]));
        assert_eq!(after.extension(6), Some(&[0xFF; 3][..]));
        assert!(bytes.ends_with(b"\xFFmedia"));
    }

    #[test]
    fn what_is_not_negotiated_or_not_there_is_left_alone() {
        let mut header = HeaderBuf::new(96, 7);
        header.edit().set_extension(1, &[0xFF; 2]).unwrap();
        let mut bytes = header.as_bytes().to_vec();
        Mutable::of(&StreamInfo::default()).zero(&header.view(), &mut bytes);
        let unused = RtpHeaderExtension { uri: RtpHeaderExtension::TRANSPORT_CC.to_owned(), id: 0 };
        let other = RtpHeaderExtension { uri: MUTABLE[4].0.to_owned(), id: 1 };
        let info = StreamInfo { rtp_header_extensions: vec![unused, other], ..StreamInfo::default() };
        Mutable::of(&info).zero(&header.view(), &mut bytes);
        assert_eq!(bytes, header.as_bytes());
    }
}
