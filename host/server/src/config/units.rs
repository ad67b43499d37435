//! Durations as people write them.

use std::time::Duration;

const UNITS: [(&str, u64); 5] =
    [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// A whole number and a unit: `us`, `ms`, `s`, `m` or `h`. `None` for anything else, also for more than fits.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    Some(Duration::from_nanos(number.parse::<u64>().ok()?.checked_mul(*nanos)?))
}

/// The shortest form that `parse` reads back, in the largest unit that is whole.
pub(crate) fn format(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (name, unit) = UNITS.iter().rev().find(|(_, unit)| nanos > 0 && nanos % unit == 0).unwrap_or(&UNITS[1]);
    format!("{}{name}", nanos / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("2 s"), Some(Duration::from_secs(2)));
        assert_eq!(parse("1m"), Some(Duration::from_secs(60)));
        for wrong in ["", "5", "ms", "-1s", "1.5s", "5 parsecs", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["500ms", "2s", "1m", "3h", "250us", "0ms"] {
            assert_eq!(parse(text).map(format).as_deref(), Some(text));
        }
    }
}
