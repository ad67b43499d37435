//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) packets: u32,
    pub(crate) max_age_ms: u32,
    pub(crate) duplicate_ms: u32,
    pub(crate) budget_kbps: u32,
    pub(crate) burst_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { packets: 1024, max_age_ms: 2000, duplicate_ms: 100, budget_kbps: 10_000, burst_ms: 1000 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 5] = [
    ConfigOption {
        key: "packets",
        summary: "How many of a stream's latest packets the host keeps for retransmission.",
        unit: "packets",
        default: "1024",
        allowed: "1..=8192",
        source: "Pion and rtc-interceptor: size",
    },
    ConfigOption {
        key: "max_age_ms",
        summary: "Packets older than this are not sent again; 0 is no limit.",
        unit: "ms",
        default: "2000",
        allowed: "0..=60000",
        source: "mediasoup: video",
    },
    ConfigOption {
        key: "duplicate_ms",
        summary: "A packet is not sent again within this time of its last retransmission, nor within a round-trip time \
                  where that is known to be shorter; 0 answers every request.",
        unit: "ms",
        default: "100",
        allowed: "0..=10000",
        source: "mediasoup and Chrome: a round-trip time, 100 ms while unknown",
    },
    ConfigOption {
        key: "budget_kbps",
        summary: "The most that is retransmitted, over all of the session's streams; 0 is no limit.",
        unit: "kbit/s",
        default: "10000",
        allowed: "0..=10000000",
        source: "several times what a video stream at 10 % loss needs",
    },
    ConfigOption {
        key: "burst_ms",
        summary: "How much of the budget may be saved up for one burst of losses.",
        unit: "ms",
        default: "1000",
        allowed: "10..=10000",
        source: "an outage of as long, repaired at once",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("packets", options.packets, 1..=8192)?;
        config::in_range("max_age_ms", options.max_age_ms, 0..=60_000)?;
        config::in_range("duplicate_ms", options.duplicate_ms, 0..=10_000)?;
        config::in_range("budget_kbps", options.budget_kbps, 0..=10_000_000)?;
        config::in_range("burst_ms", options.burst_ms, 10..=10_000)?;
        Ok(options)
    }

    pub(crate) fn max_age(&self) -> Duration {
        if self.max_age_ms == 0 { Duration::MAX } else { Duration::from_millis(self.max_age_ms.into()) }
    }

    pub(crate) fn duplicate(&self) -> Duration {
        Duration::from_millis(self.duplicate_ms.into())
    }

    pub(crate) fn bits_per_second(&self) -> u64 {
        u64::from(self.budget_kbps) * 1000
    }

    pub(crate) fn burst(&self) -> Duration {
        Duration::from_millis(self.burst_ms.into())
    }
}
