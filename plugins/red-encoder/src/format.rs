//! Which streams are RED, and which packets of theirs.

use sandbar_sdk::StreamInfo;

/// RED as negotiated for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Of packets that are RED already.
    pub(crate) payload_type: u8,
    /// A bit for each payload type that may be inside.
    inside: u128,
}

impl Format {
    /// RFC 2198, 5: RED is a format of its own, `audio/red`, and its `fmtp` lists the payload types inside, such as
    /// `111/111`. A stream whose type is not given is RED if it has such a list; where the list is missing, everything
    /// may be inside.
    pub(crate) fn of(info: &StreamInfo) -> Option<Self> {
        let listed = listed(&info.sdp_fmtp_line);
        let red = info.mime_type.eq_ignore_ascii_case("audio/red") || info.mime_type.is_empty() && listed.is_some();
        let itself = 1 << (info.payload_type & 0x7F);
        red.then_some(Self { payload_type: info.payload_type, inside: listed.unwrap_or(u128::MAX) & !itself })
    }

    /// Whether packets of this payload type may be put into RED.
    pub(crate) fn has_inside(self, payload_type: u8) -> bool {
        self.inside >> (payload_type & 0x7F) & 1 == 1
    }
}

/// The payload types in a line like `111/111`, which has at least two; a bit for each.
fn listed(fmtp: &str) -> Option<u128> {
    let types: Option<Vec<u8>> = fmtp.split('/').map(|word| word.trim().parse().ok().filter(|t| *t < 128)).collect();
    types.filter(|types| types.len() > 1).map(|types| types.iter().fold(0, |inside, t| inside | 1 << t))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(mime_type: &str, fmtp: &str) -> StreamInfo {
        let (mime_type, sdp_fmtp_line) = (mime_type.to_owned(), fmtp.to_owned());
        StreamInfo { payload_type: 63, mime_type, sdp_fmtp_line, ..StreamInfo::default() }
    }

    #[test]
    fn rfc_2198_5_the_list_says_what_may_be_inside() {
        let red = Format::of(&info("audio/red", "111/111")).unwrap();
        assert_eq!(red.payload_type, 63);
        assert!(red.has_inside(111) && !red.has_inside(110) && !red.has_inside(63));
        let red = Format::of(&info("audio/RED", "0/5/7")).unwrap();
        assert_eq!((0..128).filter(|t| red.has_inside(*t)).collect::<Vec<_>>(), [0, 5, 7]);
    }

    #[test]
    fn without_a_list_anything_but_red_itself_may_be_inside() {
        for fmtp in ["", "111", "111/200", "minptime=10;useinbandfec=1"] {
            let red = Format::of(&info("audio/red", fmtp)).unwrap();
            assert!(red.has_inside(111) && red.has_inside(0) && !red.has_inside(63), "{fmtp}");
        }
    }

    #[test]
    fn a_stream_of_another_type_is_not_red_and_one_of_no_type_is_by_its_list() {
        assert_eq!(Format::of(&info("audio/opus", "111/111")), None);
        assert_eq!(Format::of(&info("video/red", "111/111")), None);
        assert_eq!(Format::of(&info("", "minptime=10")), None);
        assert_eq!(Format::of(&info("", "")), None);
        assert!(Format::of(&info("", "111/111")).unwrap().has_inside(111));
    }
}
