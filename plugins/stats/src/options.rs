//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    interval_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval_ms: 1000 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 1] = [ConfigOption {
    key: "interval_ms",
    summary: "Time between published statistics; 0 publishes none, and they are to be asked for.",
    unit: "ms",
    default: "1000",
    allowed: "0, 100..=3600000",
    source: "a statistics page's usual second",
}];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        if options.interval_ms != 0 {
            config::in_range("interval_ms", options.interval_ms, 100..=3_600_000)?;
        }
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Option<Duration> {
        (self.interval_ms != 0).then(|| Duration::from_millis(self.interval_ms.into()))
    }
}
