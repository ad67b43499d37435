//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{Binding, ConfigOption, Refusal, RtcpAccess, StreamInfo, config};

/// Most SSRCs and payload types that can be listed.
const MAX_LISTED: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    payload: bool,
    rtp: bool,
    rtcp: bool,
    direction: Direction,
    ssrcs: Vec<u32>,
    payload_types: Vec<u8>,
    flush_ms: u32,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", rename_all = "lowercase")]
pub(crate) enum Direction {
    Both,
    /// From the peer.
    Read,
    /// To the peer.
    Write,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payload: false,
            rtp: true,
            rtcp: true,
            direction: Direction::Both,
            ssrcs: Vec::new(),
            payload_types: Vec::new(),
            flush_ms: 200,
        }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 7] = [
    ConfigOption {
        key: "payload",
        summary: "Write RTP packets whole, in place of their headers; needs the grant read-media.",
        unit: "",
        default: "false",
        allowed: "true, false",
        source: "",
    },
    ConfigOption { key: "rtp", summary: "Write RTP.", unit: "", default: "true", allowed: "true, false", source: "" },
    ConfigOption {
        key: "rtcp",
        summary: "Write RTCP, which is always whole.",
        unit: "",
        default: "true",
        allowed: "true, false",
        source: "",
    },
    ConfigOption {
        key: "direction",
        summary: "Write what comes from the peer (read), what goes to it (write), or both.",
        unit: "",
        default: "\"both\"",
        allowed: "\"both\", \"read\", \"write\"",
        source: "",
    },
    ConfigOption {
        key: "ssrcs",
        summary: "Of RTP, write only streams and companions with these SSRCs; with none, all, also those of no stream.",
        unit: "",
        default: "[]",
        allowed: "at most 128 integers",
        source: "",
    },
    ConfigOption {
        key: "payload_types",
        summary: "Of RTP, write only packets with these payload types; with none, all.",
        unit: "",
        default: "[]",
        allowed: "at most 128 integers, 0..=127",
        source: "",
    },
    ConfigOption {
        key: "flush_ms",
        summary: "How long packets are collected before they are written.",
        unit: "ms",
        default: "200",
        allowed: "10..=10000",
        source: "",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("flush_ms", options.flush_ms, 10..=10_000)?;
        for (key, listed) in [("ssrcs", options.ssrcs.len()), ("payload_types", options.payload_types.len())] {
            if listed > MAX_LISTED {
                return Err(Refusal::config(format!("{key} has {listed} entries; at most {MAX_LISTED} are allowed")));
            }
        }
        for payload_type in &options.payload_types {
            config::in_range("payload_types", *payload_type, 0..=127)?;
        }
        Ok(options)
    }

    pub(crate) fn flush(&self) -> Duration {
        Duration::from_millis(self.flush_ms.into())
    }

    fn goes(&self, way: Direction) -> bool {
        self.direction == Direction::Both || self.direction == way
    }

    /// What is needed of RTCP that goes this way.
    pub(crate) fn rtcp(&self, way: Direction) -> RtcpAccess {
        if self.rtcp && self.goes(way) { RtcpAccess::Observe } else { RtcpAccess::Pass }
    }

    /// What is needed of a stream whose packets go this way.
    pub(crate) fn stream(&self, way: Direction, info: &StreamInfo) -> Binding {
        let companions = [info.ssrc_retransmission, info.ssrc_forward_error_correction].into_iter().flatten();
        let mut ssrcs = companions.chain([info.ssrc]);
        if !self.rtp || !self.goes(way) || !(self.ssrcs.is_empty() || ssrcs.any(|ssrc| self.ssrcs.contains(&ssrc))) {
            return Binding::PASS;
        }
        let binding = if self.payload { Binding::observe_packets() } else { Binding::FOLLOW };
        if self.ssrcs.is_empty() { binding.with_unbound() } else { binding }
    }

    /// Whether an RTP packet is written.
    #[inline]
    pub(crate) fn wants(&self, ssrc: u32, payload_type: u8) -> bool {
        (self.ssrcs.is_empty() || self.ssrcs.contains(&ssrc))
            && (self.payload_types.is_empty() || self.payload_types.contains(&payload_type))
    }
}
