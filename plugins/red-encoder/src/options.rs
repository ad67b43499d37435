//! The operator's JSON.

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) redundancy: u16,
}

/// The most earlier frames that a packet repeats.
pub(crate) const MOST: usize = 4;

impl Default for Options {
    fn default() -> Self {
        Self { redundancy: 1 }
    }
}

pub(crate) const OPTIONS: [ConfigOption; 1] = [ConfigOption {
    key: "redundancy",
    summary: "How many earlier frames each packet repeats.",
    unit: "frames",
    default: "1",
    allowed: "1..=4",
    source: "libwebrtc: kRedNumberOfRedundantEncodings",
}];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        let options: Self = config::parse(json)?;
        config::in_range("redundancy", options.redundancy, 1..=MOST as u16)?;
        Ok(options)
    }
}
