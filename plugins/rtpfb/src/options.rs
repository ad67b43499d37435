//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    history_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { history_ms: 2000 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 1] = [ConfigOption {
    key: "history_ms",
    summary: "How long a sent packet is remembered for feedback about it.",
    unit: "ms",
    default: "2000",
    allowed: "100..=10000",
    source: "rtc-interceptor: prune horizon",
}];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("history_ms", options.history_ms, 100..=10_000)?;
        Ok(options)
    }

    pub(crate) fn history(&self) -> Duration {
        Duration::from_millis(self.history_ms.into())
    }
}
