//! The operator's JSON.

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
struct Keys {
    media_packets: u16,
    repair_packets: u16,
    extensions: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self { media_packets: 5, repair_packets: 2, extensions: "reserved".to_owned() }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) media_packets: u16,
    pub(crate) repair_packets: u16,
    pub(crate) extensions: Extensions,
}

/// How those header extensions are protected that are written behind this plugin, on the packet's way to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extensions {
    /// As zeros, and a transport-wide sequence number that is not there yet as if it were.
    Reserved,
    /// As zeros.
    Zeroed,
    /// As they are.
    Kept,
}

pub(crate) const OPTIONS: [ConfigOption; 3] = [
    ConfigOption {
        key: "media_packets",
        summary: "How many media packets a block has.",
        unit: "packets",
        default: "5",
        allowed: "1..=48",
        source: "Pion and rtc-interceptor: num media packets; libwebrtc takes at most 48",
    },
    ConfigOption {
        key: "repair_packets",
        summary: "How many repair packets are sent for a block; at most as many as it has media packets.",
        unit: "packets",
        default: "2",
        allowed: "1..=48",
        source: "Pion and rtc-interceptor: num FEC packets",
    },
    ConfigOption {
        key: "extensions",
        summary: "How header extensions are protected that change on the way to the wire, such as transport-wide sequence \
                  numbers: \"zeroed\" is as zeros, as libwebrtc does; \"reserved\" also makes room for a number that is \
                  negotiated and not there yet; \"kept\" is as they are, as Pion does.",
        unit: "",
        default: "\"reserved\"",
        allowed: "\"reserved\", \"zeroed\", \"kept\"",
        source: "libwebrtc: RtpPacket::ZeroMutableExtensions; it reserves the number's place before protecting",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let keys: Keys = config::parse(json)?;
        let media_packets = config::in_range("media_packets", keys.media_packets, 1..=48)?;
        let repair_packets = config::in_range("repair_packets", keys.repair_packets, 1..=media_packets)?;
        let extensions = match keys.extensions.as_str() {
            "reserved" => Extensions::Reserved,
            "zeroed" => Extensions::Zeroed,
            "kept" => Extensions::Kept,
            other => {
                let allowed = "\"reserved\", \"zeroed\" or \"kept\"";
                return Err(Refusal::config(format!("extensions is {other:?}; {allowed} is allowed")));
            }
        };
        Ok(Self { media_packets, repair_packets, extensions })
    }
}
