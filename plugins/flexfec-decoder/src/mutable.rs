//! Header extensions that are written after a packet was protected, by whoever numbers and sends it.
//!
//! Repair is the parity of whole packets, so a receiver has to have the very bytes that were protected. libwebrtc therefore
//! counts these extensions as zeros at both ends (`RtpPacket::ZeroMutableExtensions`), and so do this plugin and the encoder.

use sandbar_sdk::{Header, HeaderBuf, RtpHeaderExtension, StreamInfo};

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
pub(crate) struct Mutable {
    ids: Vec<(u8, usize)>,
    /// Whether they were protected as zeros.
    zeroed: bool,
}

impl Mutable {
    pub(crate) fn of(info: &StreamInfo, zeroed: bool) -> Self {
        let ids = MUTABLE.iter().filter_map(|(uri, from)| Some((info.extension_id(uri).filter(|id| *id != 0)?, *from)));
        Self { ids: ids.collect(), zeroed }
    }

    /// Makes `bytes`, which begin with this header, what was protected.
    pub(crate) fn zero(&self, header: &Header<'_>, bytes: &mut [u8]) {
        for (id, from) in self.ids.iter().filter(|_| self.zeroed) {
            if let Some(value) = header.extension_range(*id)
                && let Some(value) = bytes.get_mut(value).and_then(|value| value.get_mut(*from..))
            {
                value.fill(0);
            }
        }
    }

    /// Takes out of a restored header what says when and as the how-manieth packet it was sent: it did not arrive, and
    /// feedback must not say that it did.
    pub(crate) fn remove(&self, header: &mut HeaderBuf) {
        for (id, _) in self.ids.iter().filter(|(_, from)| *from == 0) {
            header.edit().remove_extension(*id);
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn mutable(zeroed: bool) -> Mutable {
        let uris = MUTABLE.iter().map(|(uri, _)| *uri).chain(["urn:ietf:params:rtp-hdrext:sdes:mid"]);
        let extensions = uris.zip(1..).map(|(uri, id)| RtpHeaderExtension { uri: uri.to_owned(), id }).collect();
        Mutable::of(&StreamInfo { rtp_header_extensions: extensions, ..StreamInfo::default() }, zeroed)
    }

    fn header() -> HeaderBuf {
        let mut header = HeaderBuf::new(96, 7);
        for (id, len) in [(1, 2), (2, 4), (3, 3), (4, 3), (5, 13), (6, 3)] {
            header.edit().set_extension(id, &vec![0xFF; len]).unwrap();
        }
        header
    }

    #[test]
    fn what_is_written_later_is_zeroed_and_the_rest_is_not() {
        let header = header();
        let mut bytes = [header.as_bytes(), b"\xFFmedia"].concat();
        mutable(false).zero(&header.view(), &mut bytes);
        assert_eq!(bytes, [header.as_bytes(), b"\xFFmedia"].concat());
        mutable(true).zero(&header.view(), &mut bytes);
        let after = Header::parse(&bytes).unwrap();
        for (id, len) in [(1, 2), (2, 4), (3, 3), (4, 3)] {
            assert_eq!(after.extension(id), Some(&vec![0; len][..]));
        }
        assert_eq!(after.extension(5), Some(&[vec![0xFF; 7], vec![0; 6]].concat()[..]));
        assert_eq!(after.extension(6), Some(&[0xFF; 3][..]));
        assert!(bytes.ends_with(b"\xFFmedia"));
    }

    #[test]
    fn a_restored_header_has_no_number_of_its_transmission() {
        for zeroed in [true, false] {
            let mut header = header();
            let len = header.as_bytes().len();
            mutable(zeroed).remove(&mut header);
            assert_eq!(header.view().extensions().map(|(id, _)| id).collect::<Vec<_>>(), [5, 6]);
            assert_eq!(header.as_bytes().len(), len);
        }
    }
}
