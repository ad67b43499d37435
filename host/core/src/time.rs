//! The host's time: nanoseconds on a monotonic clock that the embedder reads and hands in with every call.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the embedder's monotonic clock, in nanoseconds. Its zero is the embedder's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after zero.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to `self`, zero if `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What the wall clock shows at an instant, so that plugins which are granted it can put it in sender reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// The instant at which the wall clock was read.
    pub at: Instant,
    /// What it showed: an NTP timestamp, seconds since 1900 in the upper 32 bits (RFC 3550, 4).
    pub ntp: u64,
}

impl WallClock {
    /// The wall clock read at `at`, as time since the Unix epoch.
    pub fn from_unix(at: Instant, since_epoch: Duration) -> Self {
        /// Seconds from 1900 to 1970 (RFC 868).
        const EPOCHS: u64 = 2_208_988_800;
        let fraction = (u64::from(since_epoch.subsec_nanos()) << 32) / 1_000_000_000;
        Self { at, ntp: (since_epoch.as_secs().wrapping_add(EPOCHS) << 32) | fraction }
    }

    /// The NTP timestamp of `instant`.
    pub(crate) fn ntp_of(self, instant: Instant) -> u64 {
        let difference = i128::from(instant.as_nanos()) - i128::from(self.at.as_nanos());
        let units = (difference << 32) / 1_000_000_000;
        self.ntp.wrapping_add(units as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_runs_with_the_monotonic_one_in_both_directions() {
        let clock = WallClock::from_unix(Instant::from_millis(10_000), Duration::from_millis(1_500));
        assert_eq!(clock.ntp, (2_208_988_801 << 32) | (1 << 31));
        assert_eq!(clock.ntp_of(Instant::from_millis(10_500)), 2_208_988_802 << 32);
        assert_eq!(clock.ntp_of(Instant::from_millis(9_500)), 2_208_988_801 << 32);
    }
}
