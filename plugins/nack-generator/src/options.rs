//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

use crate::log::Policy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) packets: u16,
    pub(crate) interval_ms: u32,
    pub(crate) reorder_ms: u32,
    pub(crate) skip_last: u16,
    pub(crate) max_tries: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { packets: 512, interval_ms: 100, reorder_ms: 5, skip_last: 0, max_tries: 10 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 5] = [
    ConfigOption {
        key: "packets",
        summary: "How far behind the newest packet a missing one is still asked for.",
        unit: "packets",
        default: "512",
        allowed: "64..=32768",
        source: "Pion and rtc-interceptor: size",
    },
    ConfigOption {
        key: "interval_ms",
        summary: "Time between requests for the same packet while the round-trip time is unknown.",
        unit: "ms",
        default: "100",
        allowed: "10..=10000",
        source: "Pion and rtc-interceptor: interval",
    },
    ConfigOption {
        key: "reorder_ms",
        summary: "How late a packet may be before it is asked for.",
        unit: "ms",
        default: "5",
        allowed: "0..=1000",
        source: "a few milliseconds, as mediasoup and Chrome wait",
    },
    ConfigOption {
        key: "skip_last",
        summary: "This many of the newest packets are not asked for.",
        unit: "packets",
        default: "0",
        allowed: "0..=63",
        source: "Pion and rtc-interceptor: skip last N",
    },
    ConfigOption {
        key: "max_tries",
        summary: "Requests for one packet before it is given up; 0 is no limit.",
        unit: "requests",
        default: "10",
        allowed: "0..=65535",
        source: "Chrome and mediasoup; Pion has no limit",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("packets", options.packets, 64..=32_768)?;
        config::in_range("interval_ms", options.interval_ms, 10..=10_000)?;
        config::in_range("reorder_ms", options.reorder_ms, 0..=1_000)?;
        config::in_range("skip_last", options.skip_last, 0..=63)?;
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    pub(crate) fn reorder(&self) -> Duration {
        Duration::from_millis(self.reorder_ms.into())
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { packets: self.packets, reorder: self.reorder(), skip_last: self.skip_last, max_tries: self.max_tries }
    }
}
