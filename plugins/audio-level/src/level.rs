//! The audio level of a packet (RFC 6464, 3).

/// Under which the extension is negotiated.
pub const URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// The level of digital silence.
pub(crate) const SILENCE: u8 = 127;

/// What the sender says of a packet's audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// In -dBov: 0 is the loudest, 127 silence.
    pub(crate) level: u8,
    /// The sender believes it to be voice.
    pub(crate) voice: bool,
}

impl Level {
    /// Of the extension's value, which is one byte in both forms of header extensions.
    #[inline]
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let [byte] = value else { return None };
        Some(Self { level: byte & 0x7f, voice: byte & 0x80 != 0 })
    }

    /// Decibels relative to overload, 0 to -127.
    pub(crate) fn dbov(self) -> i64 {
        -i64::from(self.level)
    }
}

#[cfg(test)]
mod tests {
    use sandbar_sdk::Header;

    use super::*;

    fn read(extension: &[u8]) -> Option<Level> {
        let header = [&[0x90, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], extension].concat();
        Header::parse(&header).unwrap().extension(6).and_then(Level::parse)
    }

    #[test]
    fn rfc_6464_3_the_one_byte_form_has_length_0() {
        let level = read(&[0xbe, 0xde, 0, 1, 0x60, 0x80 | 33, 0, 0]);
        assert_eq!(level, Some(Level { level: 33, voice: true }));
    }

    #[test]
    fn rfc_6464_3_the_two_byte_form_has_length_1_and_may_be_padded() {
        let level = read(&[0x10, 0, 0, 1, 6, 1, 33, 0]);
        assert_eq!(level, Some(Level { level: 33, voice: false }));
    }

    #[test]
    fn rfc_6464_3_levels_are_0_to_127_below_overload() {
        assert_eq!(Level::parse(&[0]).unwrap().dbov(), 0);
        assert_eq!(Level::parse(&[0xff]), Some(Level { level: SILENCE, voice: true }));
        assert_eq!(Level::parse(&[0x7f]).unwrap().dbov(), -127);
    }

    #[test]
    fn a_value_of_another_length_is_none() {
        assert_eq!(Level::parse(&[]), None);
        assert_eq!(Level::parse(&[33, 0]), None);
        assert_eq!(read(&[0xbe, 0xde, 0, 1, 0x61, 33, 33, 0]), None);
        assert_eq!(read(&[0x10, 0, 0, 1, 6, 0, 0, 0]), None);
    }
}
