//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    interval_ms: u32,
    max_bytes: u16,
    window_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval_ms: 100, max_bytes: 1200, window_ms: 500 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 3] = [
    ConfigOption {
        key: "interval_ms",
        summary: "Time between reports.",
        unit: "ms",
        default: "100",
        allowed: "10..=1000",
        source: "Pion and rtc-interceptor: interval",
    },
    ConfigOption {
        key: "max_bytes",
        summary: "The most that one report packet has, where the MTU allows it.",
        unit: "bytes",
        default: "1200",
        allowed: "64..=65535",
        source: "Pion and rtc-interceptor: max report size",
    },
    ConfigOption {
        key: "window_ms",
        summary: "How long an arrival that was reported is remembered, to repeat it when an earlier packet comes late.",
        unit: "ms",
        default: "500",
        allowed: "0..=7000",
        source: "as twcc-sender; an arrival time offset ends at 8 s (RFC 8888, 3.1)",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("interval_ms", options.interval_ms, 10..=1_000)?;
        config::in_range("max_bytes", options.max_bytes, 64..=u16::MAX)?;
        config::in_range("window_ms", options.window_ms, 0..=7_000)?;
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes.into()
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms.into())
    }
}
