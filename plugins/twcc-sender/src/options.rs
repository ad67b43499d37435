//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    interval_ms: u32,
    window_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval_ms: 100, window_ms: 500 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 2] = [
    ConfigOption {
        key: "interval_ms",
        summary: "Time between feedback packets.",
        unit: "ms",
        default: "100",
        allowed: "10..=1000",
        source: "Pion, rtc-interceptor and Chrome",
    },
    ConfigOption {
        key: "window_ms",
        summary: "How long an arrival that was fed back is remembered, to repeat it when an earlier packet comes late.",
        unit: "ms",
        default: "500",
        allowed: "0..=10000",
        source: "Pion, rtc-interceptor and Chrome",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("interval_ms", options.interval_ms, 10..=1_000)?;
        config::in_range("window_ms", options.window_ms, 0..=10_000)?;
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms.into())
    }
}
