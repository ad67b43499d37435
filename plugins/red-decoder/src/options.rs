//! The operator's JSON, which has no keys yet.

use sandbar_sdk::serde::Deserialize;
use sandbar_sdk::{Refusal, config};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", deny_unknown_fields)]
pub(crate) struct Options {}

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self, Refusal> {
        config::parse(json)
    }
}
