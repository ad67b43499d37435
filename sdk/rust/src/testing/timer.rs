//! Timers, as the host keeps them.

use std::time::Duration;

use crate::time::{Instant, nanos};

const MILLISECOND: u64 = 1_000_000;

/// A session's or a stream's one timer.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// When it is due.
    pub(crate) at: Option<Instant>,
    /// Nanoseconds between two ticks; 0 if it is due once.
    every: u64,
}

impl Timer {
    /// It is kept to the millisecond, rounded up.
    pub(crate) fn new(at: Option<Instant>, every: Duration) -> Self {
        let round = |nanos: u64| nanos.div_ceil(MILLISECOND).saturating_mul(MILLISECOND);
        Self { at: at.map(|at| Instant::from_nanos(round(at.as_nanos()))), every: round(nanos(every)) }
    }

    /// Whether it is due at `now`; it is then no longer set, or to its next tick.
    pub(crate) fn ring(&mut self, now: Instant) -> bool {
        let Some(at) = self.at.take_if(|at| *at <= now) else { return false };
        let missed = (now.as_nanos() - at.as_nanos()).checked_div(self.every);
        let until_next = missed.map(|missed| self.every.saturating_mul(missed + 1));
        self.at = until_next.map(|nanos| Instant::from_nanos(at.as_nanos().saturating_add(nanos)));
        true
    }
}
