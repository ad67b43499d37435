//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    delay_ms: u32,
    pub(crate) packets: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { delay_ms: 120, packets: 512 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 2] = [
    ConfigOption {
        key: "delay_ms",
        summary: "How long the packets that came fastest are held, and the longest that any is.",
        unit: "ms",
        default: "120",
        allowed: "1..=10000",
        source: "rtc-interceptor: depth",
    },
    ConfigOption {
        key: "packets",
        summary: "The most that is held of a stream; when there are more, the oldest go early.",
        unit: "packets",
        default: "512",
        allowed: "16..=8192",
        source: "rtc-interceptor: capacity",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("delay_ms", options.delay_ms, 1..=10_000)?;
        config::in_range("packets", options.packets, 16..=8192)?;
        Ok(options)
    }

    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.into())
    }
}
