//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    bitrate: u32,
    factor: f64,
    interval_ms: u32,
    pub(crate) queue_packets: u32,
    queue_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { bitrate: 1_000_000, factor: 1.5, interval_ms: 5, queue_packets: 2048, queue_ms: 2000 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 5] = [
    ConfigOption {
        key: "bitrate",
        summary: "What is sent at most while no estimator says.",
        unit: "bits/s",
        default: "1000000",
        allowed: "5000..=1000000000",
        source: "rtc-interceptor",
    },
    ConfigOption {
        key: "factor",
        summary: "By how much an estimate is exceeded while there is something to send: a large frame takes less time.",
        unit: "",
        default: "1.5",
        allowed: "1..=10",
        source: "tests/congestion: Chrome's 2.5 overflows short queues",
    },
    ConfigOption {
        key: "interval_ms",
        summary: "Time between packets, or bursts of as many as the rate allows.",
        unit: "ms",
        default: "5",
        allowed: "1..=50",
        source: "Pion, rtc-interceptor and Chrome",
    },
    ConfigOption {
        key: "queue_packets",
        summary: "The most that is held of a stream; what comes then lets the next one go.",
        unit: "packets",
        default: "2048",
        allowed: "16..=8192",
        source: "seconds of 8 Mbit/s",
    },
    ConfigOption {
        key: "queue_ms",
        summary: "The most that a packet is held: a longer queue is sent faster.",
        unit: "ms",
        default: "2000",
        allowed: "10..=10000",
        source: "Chrome",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("bitrate", options.bitrate, 5_000..=1_000_000_000)?;
        config::in_range("factor", options.factor, 1.0..=10.0)?;
        config::in_range("interval_ms", options.interval_ms, 1..=50)?;
        config::in_range("queue_packets", options.queue_packets, 16..=8192)?;
        config::in_range("queue_ms", options.queue_ms, 10..=10_000)?;
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.queue_ms.into())
    }

    /// Bits per second, by an estimate if there is one.
    pub(crate) fn rate(&self, estimate: Option<i64>) -> f64 {
        estimate.filter(|estimate| *estimate > 0).map_or(self.bitrate.into(), |estimate| estimate as f64 * self.factor)
    }
}
