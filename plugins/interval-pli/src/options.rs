//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

use crate::schedule::Policy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    interval_ms: u32,
    min_interval_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval_ms: 3000, min_interval_ms: 500 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 2] = [
    ConfigOption {
        key: "interval_ms",
        summary: "Time after which every stream is asked again; 0 asks only at bind and on request.",
        unit: "ms",
        default: "3000",
        allowed: "0, 100..=3600000",
        source: "Pion and rtc-interceptor: interval",
    },
    ConfigOption {
        key: "min_interval_ms",
        summary: "Time within which a stream is not asked again, whoever wants it; not more than interval_ms.",
        unit: "ms",
        default: "500",
        allowed: "0..=60000",
        source: "the relay's keyframe_interval",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        if options.interval_ms != 0 {
            config::in_range("interval_ms", options.interval_ms, 100..=3_600_000)?;
        }
        config::in_range("min_interval_ms", options.min_interval_ms, 0..=60_000)?;
        // Otherwise some ticks would ask nobody, and the interval would not be what it says.
        if options.interval_ms != 0 {
            config::in_range("min_interval_ms", options.min_interval_ms, 0..=options.interval_ms)?;
        }
        Ok(options)
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            interval: (self.interval_ms != 0).then(|| Duration::from_millis(self.interval_ms.into())),
            min_interval: Duration::from_millis(self.min_interval_ms.into()),
        }
    }
}
