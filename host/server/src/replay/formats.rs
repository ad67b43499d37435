//! What a capture does not say about its streams: payload formats, retransmissions, header extensions, feedback. Taken
//! from the command line, from RFC 3551's static assignments, or judged by the packets themselves.

use std::time::Duration;

use sandbar_host::{RtcpFeedback, RtpHeaderExtension};
use serde::Serialize;

/// What packets with a payload type carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Format {
    /// Such as `video/VP8`; empty where it is not known.
    pub(crate) mime_type: String,
    /// RTP timestamp units per second.
    pub(crate) clock_rate: u32,
    /// Audio channels; 0 for video.
    pub(crate) channels: u16,
}

/// RFC 3551, tables 4 and 5.
const STATIC: &[(u8, &str, u32, u16)] = &[
    (0, "audio/PCMU", 8_000, 1),
    (3, "audio/GSM", 8_000, 1),
    (4, "audio/G723", 8_000, 1),
    (5, "audio/DVI4", 8_000, 1),
    (6, "audio/DVI4", 16_000, 1),
    (7, "audio/LPC", 8_000, 1),
    (8, "audio/PCMA", 8_000, 1),
    // 16 kHz audio on an 8 kHz RTP clock, by an old mistake (RFC 3551, 4.5.2).
    (9, "audio/G722", 8_000, 1),
    (10, "audio/L16", 44_100, 2),
    (11, "audio/L16", 44_100, 1),
    (12, "audio/QCELP", 8_000, 1),
    (13, "audio/CN", 8_000, 1),
    (14, "audio/MPA", 90_000, 0),
    (15, "audio/G728", 8_000, 1),
    (16, "audio/DVI4", 11_025, 1),
    (17, "audio/DVI4", 22_050, 1),
    (18, "audio/G729", 8_000, 1),
    (25, "video/CelB", 90_000, 0),
    (26, "video/JPEG", 90_000, 0),
    (28, "video/nv", 90_000, 0),
    (31, "video/H261", 90_000, 0),
    (32, "video/MPV", 90_000, 0),
    (33, "video/MP2T", 90_000, 0),
    (34, "video/H263", 90_000, 0),
];

/// Clock rates that dynamic payload formats use.
const RATES: [u32; 6] = [8_000, 16_000, 24_000, 32_000, 48_000, 90_000];

/// What the operator says about payload types, extensions and feedback.
#[derive(Clone, Debug, Default)]
pub(crate) struct Formats {
    pub(crate) mapped: Vec<(u8, Format)>,
    /// Payload types of retransmissions, and of what they retransmit.
    pub(crate) rtx: Vec<(u8, u8)>,
    /// Payload types of repair packets, and of what they protect.
    pub(crate) fec: Vec<(u8, u8)>,
    pub(crate) extensions: Vec<RtpHeaderExtension>,
    pub(crate) feedback: Vec<RtcpFeedback>,
}

/// Where a format is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Known {
    /// From `--map`.
    Mapped,
    /// From RFC 3551.
    Static,
    /// The clock rate that fits the packets best.
    Measured,
    /// Too few packets to measure: video's clock rate.
    Assumed,
}

impl Formats {
    /// What packets of `payload_type` carry, whose timestamps went forward by `units` in `duration`.
    pub(crate) fn of(&self, payload_type: u8, units: u64, duration: Duration) -> (Format, Known) {
        if let Some((_, format)) = self.mapped.iter().find(|(mapped, _)| *mapped == payload_type) {
            return (format.clone(), Known::Mapped);
        }
        if let Some((_, mime_type, clock_rate, channels)) =
            STATIC.iter().copied().find(|(known, ..)| *known == payload_type)
        {
            return (Format { mime_type: mime_type.to_owned(), clock_rate, channels }, Known::Static);
        }
        let bare = |clock_rate| Format { clock_rate, ..Format::default() };
        match measured(units, duration) {
            Some(clock_rate) => (bare(clock_rate), Known::Measured),
            None => (bare(90_000), Known::Assumed),
        }
    }

    /// The payload type that packets of `payload_type` retransmit.
    pub(crate) fn retransmitted_by(&self, payload_type: u8) -> Option<u8> {
        original_of(&self.rtx, payload_type)
    }

    /// The payload type that retransmits packets of `payload_type`.
    pub(crate) fn rtx_of(&self, payload_type: u8) -> Option<u8> {
        companion_of(&self.rtx, payload_type)
    }

    /// The payload type that packets of `payload_type` protect.
    pub(crate) fn protected_by(&self, payload_type: u8) -> Option<u8> {
        original_of(&self.fec, payload_type)
    }

    /// The payload type that protects packets of `payload_type`.
    pub(crate) fn fec_of(&self, payload_type: u8) -> Option<u8> {
        companion_of(&self.fec, payload_type)
    }
}

fn original_of(pairs: &[(u8, u8)], payload_type: u8) -> Option<u8> {
    pairs.iter().find(|(companion, _)| *companion == payload_type).map(|(_, original)| *original)
}

fn companion_of(pairs: &[(u8, u8)], payload_type: u8) -> Option<u8> {
    pairs.iter().find(|(_, original)| *original == payload_type).map(|(companion, _)| *companion)
}

/// The nearest usual clock rate, if there is enough to measure and one is near.
fn measured(units: u64, duration: Duration) -> Option<u32> {
    if duration < Duration::from_millis(500) {
        return None;
    }
    let rate = units as f64 / duration.as_secs_f64();
    let distance = |usual: u32| (rate / f64::from(usual)).ln().abs();
    RATES.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).filter(|usual| distance(*usual) < 0.5)
}

/// `96=video/VP8/90000` or `111=audio/opus/48000/2`: as SDP's rtpmap, with the kind of media before.
pub(crate) fn parse_map(text: &str) -> Result<(u8, Format), String> {
    let parsed = || {
        let (payload_type, format) = text.split_once('=')?;
        let mut parts = format.split('/');
        let (kind, name) = (parts.next()?, parts.next()?);
        let clock_rate = parts.next()?.parse().ok().filter(|rate| *rate > 0)?;
        let channels = match parts.next() {
            Some(channels) => channels.parse().ok()?,
            None => u16::from(kind == "audio"),
        };
        let whole = ["audio", "video"].contains(&kind) && !name.is_empty() && parts.next().is_none();
        let format = Format { mime_type: format!("{kind}/{name}"), clock_rate, channels };
        whole.then_some((payload_type.parse().ok().filter(|pt| *pt < 128)?, format))
    };
    parsed().ok_or_else(|| {
        "expected a payload type and its format, such as 96=video/VP8/90000 or 111=audio/opus/48000/2".to_owned()
    })
}

/// `97=96`: the payload type of retransmissions or repair packets, and that of what they are for.
pub(crate) fn parse_companion(text: &str) -> Result<(u8, u8), String> {
    let payload_type = |text: &str| text.parse().ok().filter(|pt| *pt < 128_u8);
    let parsed = text.split_once('=').and_then(|(own, of)| Some((payload_type(own)?, payload_type(of)?)));
    parsed.filter(|(own, of)| own != of).ok_or_else(|| {
        "expected two payload types, that of these packets and that of their stream, such as 97=96".to_owned()
    })
}

/// Names for the URIs of header extensions that are often used.
const EXTENSIONS: &[(&str, &str)] = &[
    ("transport-cc", "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    ("abs-send-time", "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    ("audio-level", "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    ("toffset", "urn:ietf:params:rtp-hdrext:toffset"),
    ("mid", "urn:ietf:params:rtp-hdrext:sdes:mid"),
    ("rid", "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    ("repaired-rid", "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
];

/// `5=transport-cc` or `5=URI`.
pub(crate) fn parse_extension(text: &str) -> Result<RtpHeaderExtension, String> {
    let parsed = text.split_once('=').and_then(|(id, name)| Some((id.parse().ok().filter(|id| *id > 0)?, name)));
    if let Some((id, name)) = parsed {
        let known = EXTENSIONS.iter().find(|(short, _)| *short == name).map(|(_, uri)| *uri);
        if let Some(uri) = known.or_else(|| name.contains(':').then_some(name)) {
            return Ok(RtpHeaderExtension { uri: uri.to_owned(), id });
        }
    }
    let names: Vec<_> = EXTENSIONS.iter().map(|(name, _)| *name).collect();
    Err(format!("expected an id and a URI or one of {}, such as 5=transport-cc", names.join(", ")))
}

/// `nack pli`: a line of `a=rtcp-fb` without its payload type.
pub(crate) fn parse_feedback(text: &str) -> Result<RtcpFeedback, String> {
    let mut words = text.split_whitespace();
    let kind =
        words.next().ok_or_else(|| "expected what stands after a=rtcp-fb:96, such as \"nack pli\"".to_owned())?;
    Ok(RtcpFeedback { kind: kind.to_owned(), parameter: words.collect::<Vec<_>>().join(" ") })
}

/// What browsers negotiate for video, so that every standard plugin has something to do.
pub(crate) fn default_feedback() -> Vec<RtcpFeedback> {
    [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("transport-cc", "")]
        .map(|(kind, parameter)| RtcpFeedback { kind: kind.to_owned(), parameter: parameter.to_owned() })
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_says_goes_before_what_is_standard_and_what_is_measured() {
        let mut formats = Formats::default();
        let second = Duration::from_secs(1);
        assert_eq!(formats.of(0, 0, second).1, Known::Static);
        assert_eq!(formats.of(96, 47_500, second).0.clock_rate, 48_000);
        assert_eq!(
            formats.of(96, 91_000, second),
            (Format { clock_rate: 90_000, ..Format::default() }, Known::Measured)
        );
        assert_eq!(formats.of(96, 91_000, second / 10).1, Known::Assumed);
        assert_eq!(formats.of(96, 5, second).1, Known::Assumed);
        formats.mapped.push(parse_map("0=video/VP8/90000").unwrap());
        assert_eq!(formats.of(0, 0, second).1, Known::Mapped);
    }

    #[test]
    fn options_in_wrong_forms_say_what_is_expected() {
        let opus = Format { mime_type: "audio/opus".to_owned(), clock_rate: 48_000, channels: 2 };
        assert_eq!(parse_map("111=audio/opus/48000/2"), Ok((111, opus)));
        for wrong in
            ["", "96", "96=VP8/90000", "128=video/VP8/90000", "96=video/VP8/0", "96=video//90000", "96=video/VP8/9/2/1"]
        {
            assert!(parse_map(wrong).unwrap_err().contains("96=video/VP8/90000"), "{wrong}");
        }
        assert_eq!(parse_companion("97=96"), Ok((97, 96)));
        for wrong in ["", "97", "97=97", "97=128", "a=b"] {
            assert!(parse_companion(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_extension("3=urn:x").unwrap().uri, "urn:x");
        assert!(parse_extension("5=transport-cc").unwrap().uri.ends_with("cc-extensions-01"));
        for wrong in ["", "5", "0=mid", "256=mid", "5=nonsense"] {
            assert!(parse_extension(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_feedback("ccm  fir"), Ok(RtcpFeedback { kind: "ccm".into(), parameter: "fir".into() }));
        assert!(parse_feedback(" ").is_err());
    }
}
