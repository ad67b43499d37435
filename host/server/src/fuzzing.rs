//! Ways for the fuzz targets (`tests/fuzz`) to parsers that have none from outside. No part of the API.

use std::path::Path;
use std::time::Duration;

use crate::config::{Config, ConfigError, units};
pub use crate::replay::fuzzing::{Captured, capture, replay, write_capture};

/// A file of which only the chains and plugins are read, as `sandbar replay --chain` does.
pub fn parse_chains(file: &Path, text: String) -> Result<Config, ConfigError> {
    Config::parse_chains(file, text)
}

/// A duration as people write it, and how it is written again.
pub fn duration(text: &str) -> Option<(Duration, String)> {
    units::parse(text).map(|duration| (duration, units::format(duration)))
}
