//! Which streams are RED, and which packets of theirs.

use sandbar_sdk::StreamInfo;

/// The payload type of a stream's RED packets, if it is RED. RFC 2198, 5: RED is a format of its own, `audio/red`, and its
/// `fmtp` lists the payload types inside, such as `111/111`. A stream whose type is not given is RED if it has such a list.
pub(crate) fn payload_type(info: &StreamInfo) -> Option<u8> {
    let red = info.mime_type.eq_ignore_ascii_case("audio/red");
    let listed = || info.mime_type.is_empty() && is_list(&info.sdp_fmtp_line);
    (red || listed()).then_some(info.payload_type)
}

/// Whether the line has at least two payload types.
fn is_list(fmtp: &str) -> bool {
    let is_type = |word: &str| word.trim().parse::<u8>().is_ok_and(|payload_type| payload_type < 128);
    fmtp.contains('/') && fmtp.split('/').all(is_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2198_5_a_stream_is_red_by_its_type_or_where_it_has_none_by_its_list() {
        let red = |mime_type: &str, fmtp: &str| {
            let (mime_type, sdp_fmtp_line) = (mime_type.to_owned(), fmtp.to_owned());
            payload_type(&StreamInfo { payload_type: 63, mime_type, sdp_fmtp_line, ..StreamInfo::default() })
        };
        for (mime, fmtp) in [("audio/red", "111/111"), ("audio/RED", ""), ("", "111/111"), ("", "0/5/7")] {
            assert_eq!(red(mime, fmtp), Some(63), "{mime} {fmtp}");
        }
        for (mime, fmtp) in [("audio/opus", "111/111"), ("video/red", "1/1"), ("", ""), ("", "111"), ("", "111/200")] {
            assert_eq!(red(mime, fmtp), None, "{mime} {fmtp}");
        }
    }
}
