//! The operator's JSON.

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
struct Keys {
    packets: u16,
    extensions: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self { packets: 256, extensions: "zeroed".to_owned() }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) packets: u16,
    /// Whether header extensions that are written after protection were protected as zeros.
    pub(crate) zeroed: bool,
}

pub(crate) const OPTIONS: [ConfigOption; 2] = [
    ConfigOption {
        key: "packets",
        summary: "How many of a stream's latest packets are kept for repair; rounded up to a power of two.",
        unit: "packets",
        default: "256",
        allowed: "64..=2048",
        source: "libwebrtc and rtc-interceptor: 192, rounded up",
    },
    ConfigOption {
        key: "extensions",
        summary: "How the peer protects header extensions that change on the way to the wire, such as transport-wide \
                  sequence numbers: \"zeroed\" is as zeros, as libwebrtc does; \"kept\" is as they are, as Pion does.",
        unit: "",
        default: "\"zeroed\"",
        allowed: "\"zeroed\", \"kept\"",
        source: "libwebrtc: RtpPacket::ZeroMutableExtensions",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let keys: Keys = config::parse(json)?;
        let packets = config::in_range("packets", keys.packets, 64..=2048)?;
        let zeroed = match keys.extensions.as_str() {
            "zeroed" => true,
            "kept" => false,
            other => {
                return Err(Refusal::config(format!("extensions is {other:?}; \"zeroed\" or \"kept\" is allowed")));
            }
        };
        Ok(Self { packets, zeroed })
    }
}
