//! The operator's JSON.

use std::time::Duration;

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

use crate::activity::ticks;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    interval_ms: u32,
    silence_ms: u32,
    threshold_dbov: i32,
    pub(crate) mark: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval_ms: 300, silence_ms: 2000, threshold_dbov: -50, mark: false }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 4] = [
    ConfigOption {
        key: "interval_ms",
        summary: "Time between decisions about who speaks.",
        unit: "ms",
        default: "300",
        allowed: "100..=2000",
        source: "Volfin and Cohen: decision interval",
    },
    ConfigOption {
        key: "silence_ms",
        summary: "Pause after which who spoke last is no longer the speaker, though nobody else speaks.",
        unit: "ms",
        default: "2000",
        allowed: "500..=60000",
        source: "longer than a pause between sentences",
    },
    ConfigOption {
        key: "threshold_dbov",
        summary: "Levels below are never speech; where the background is loud, speech has to be louder than this.",
        unit: "dBov",
        default: "-50",
        allowed: "-90..=-20",
        source: "quiet speech with gain control",
    },
    ConfigOption {
        key: "mark",
        summary: "Sets the attributes audio.level and audio.voice of each packet, for which the plugin has to stand on the \
                  packets' path.",
        unit: "",
        default: "false",
        allowed: "true, false",
        source: "an observer cannot mark",
    },
];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("interval_ms", options.interval_ms, 100..=2_000)?;
        config::in_range("silence_ms", options.silence_ms, 500..=60_000)?;
        config::in_range("threshold_dbov", options.threshold_dbov, -90..=-20)?;
        Ok(options)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    /// In ticks.
    pub(crate) fn silence(&self) -> u64 {
        ticks(Duration::from_millis(self.silence_ms.into()))
    }

    /// In -dBov, as levels are.
    pub(crate) fn threshold(&self) -> u8 {
        self.threshold_dbov.unsigned_abs() as u8
    }
}
