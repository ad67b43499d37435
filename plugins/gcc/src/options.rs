//! The operator's JSON.

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) start_bitrate: u32,
    pub(crate) min_bitrate: u32,
    pub(crate) max_bitrate: u32,
    pub(crate) probing: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { start_bitrate: 300_000, min_bitrate: 100_000, max_bitrate: 100_000_000, probing: true }
    }
}

const RANGE: std::ops::RangeInclusive<u32> = 5_000..=1_000_000_000;

pub(crate) const OPTIONS: [ConfigOption; 4] = [
    ConfigOption {
        key: "start_bitrate",
        summary: "What to send before anything is known of the path.",
        unit: "bits/s",
        default: "300000",
        allowed: "5000..=1000000000",
        source: "Chrome and rtc-interceptor",
    },
    ConfigOption {
        key: "min_bitrate",
        summary: "The estimate is never below.",
        unit: "bits/s",
        default: "100000",
        allowed: "5000..=1000000000",
        source: "rtc-interceptor",
    },
    ConfigOption {
        key: "max_bitrate",
        summary: "The estimate is never above.",
        unit: "bits/s",
        default: "100000000",
        allowed: "5000..=1000000000",
        source: "rtc-interceptor",
    },
    ConfigOption {
        key: "probing",
        summary: "Whether to order probes of the pacer, to find in a moment what growth finds in seconds.",
        unit: "",
        default: "true",
        allowed: "true, false",
        source: "Chrome",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("start_bitrate", options.start_bitrate, RANGE)?;
        config::in_range("min_bitrate", options.min_bitrate, RANGE)?;
        config::in_range("max_bitrate", options.max_bitrate, RANGE)?;
        if options.min_bitrate > options.max_bitrate {
            let Self { min_bitrate, max_bitrate, .. } = options;
            return Err(Refusal::config(format!("min_bitrate is {min_bitrate}, above max_bitrate, {max_bitrate}")));
        }
        Ok(options)
    }

    /// A rate within the bounds.
    pub(crate) fn bounded(&self, rate: f64) -> f64 {
        rate.clamp(self.min_bitrate.into(), self.max_bitrate.into())
    }
}
