//! The host's clock.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the host's monotonic clock, in nanoseconds from a zero of the host's choice. It is no wall clock: see
/// [`Context::ntp`](crate::Context::ntp) for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Instant = Instant(0);

    /// The instant that many nanoseconds after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// The instant that many milliseconds after the clock's zero.
    pub const fn from_millis(millis: u64) -> Self {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// A span in nanoseconds, at most what 64 bits hold. In two steps: the 128 bits of `Duration::as_nanos` are dear in a guest.
pub(crate) const fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos() as u64)
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of the clock, in 584 years.
    fn add(self, later: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(later)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, later: Duration) {
        *self = *self + later;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to this; zero if `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the clock's zero.
    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(span)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Duration::from_nanos(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stays_on_the_clock() {
        let at = Instant::from_millis(5);
        assert_eq!(at + Duration::from_micros(3), Instant::from_nanos(5_003_000));
        assert_eq!(at - Instant::from_millis(2), Duration::from_millis(3));
        assert_eq!(Instant::from_millis(2) - at, Duration::ZERO);
        assert_eq!(at - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(at + Duration::MAX, Instant::from_nanos(u64::MAX));
    }
}
