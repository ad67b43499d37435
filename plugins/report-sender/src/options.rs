//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    interval_ms: u32,
    pub(crate) use_latest_packet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval_ms: 1000, use_latest_packet: false }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 2] = [
    ConfigOption {
        key: "interval_ms",
        summary: "Time between reports.",
        unit: "ms",
        default: "1000",
        allowed: "10..=60000",
        source: "Pion and rtc-interceptor: interval",
    },
    ConfigOption {
        key: "use_latest_packet",
        summary: "Each packet's timestamp counts as the newest, also if its sequence number is an older one.",
        unit: "",
        default: "false",
        allowed: "true, false",
        source: "Pion and rtc-interceptor: use latest packet",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("interval_ms", options.interval_ms, 10..=60_000)?;
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }
}
