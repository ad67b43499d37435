//! The operator's JSON.

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{ConfigOption, Refusal, config};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) initial_sequence_number: u16,
}

pub(crate) const OPTIONS: [ConfigOption; 1] = [ConfigOption {
    key: "initial_sequence_number",
    summary: "The session's first transport-wide sequence number.",
    unit: "",
    default: "0",
    allowed: "0..=65535",
    source: "Pion and rtc-interceptor: 0",
}];

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        config::parse(json)
    }
}
