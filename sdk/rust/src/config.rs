//! Reading the operator's configuration.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;

use crate::error::Refusal;

/// Reads the JSON given to [`create`](crate::Interceptor::create). Give the type `#[serde(default, deny_unknown_fields)]`:
/// what the operator leaves out then has its default, and what is misspelt is named with the keys that there are.
///
/// ```
/// use sandbar_sdk::serde::Deserialize;
/// use sandbar_sdk::{Refusal, config};
///
/// #[derive(Deserialize)]
/// #[serde(crate = "sandbar_sdk::serde", default, deny_unknown_fields)]
/// struct Config {
///     interval_ms: u64,
/// }
///
/// impl Default for Config {
///     fn default() -> Self {
///         Config { interval_ms: 1000 }
///     }
/// }
///
/// let parsed: Config = config::parse(r#"{"interval_ms": 200}"#)?;
/// config::in_range("interval_ms", parsed.interval_ms, 10..=60_000)?;
/// let Err(Refusal::Config(message)) = config::parse::<Config>(r#"{"intervall_ms": 200}"#) else { panic!() };
/// assert!(message.contains("unknown field `intervall_ms`, expected `interval_ms`"));
/// # Ok::<(), Refusal>(())
/// ```
///
/// # Errors
/// [`Refusal::Config`] with what is wrong and where.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, Refusal> {
    let json = if json.trim_ascii().is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| Refusal::Config(error.to_string()))
}

/// Checks a number of the configuration.
///
/// # Errors
/// [`Refusal::Config`] with the key, its value and what is allowed.
pub fn in_range<N: PartialOrd + Display>(key: &str, value: N, allowed: RangeInclusive<N>) -> Result<N, Refusal> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(Refusal::Config(format!("{key} is {value}; {}..={} is allowed", allowed.start(), allowed.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        size: u16,
    }

    #[test]
    fn nothing_configured_is_the_default() {
        assert_eq!(parse::<Config>("").unwrap().size, 0);
        assert_eq!(parse::<Config>("{}").unwrap().size, 0);
    }

    #[test]
    fn wrong_types_and_ranges_are_named() {
        let Err(Refusal::Config(message)) = parse::<Config>(r#"{"size": "big"}"#) else { panic!("refused") };
        assert!(message.contains("invalid type: string \"big\", expected u16"), "{message}");
        assert_eq!(in_range("size", 5_u16, 1..=9), Ok(5));
        assert_eq!(in_range("size", 0_u16, 1..=9), Err(Refusal::config("size is 0; 1..=9 is allowed")));
    }
}
