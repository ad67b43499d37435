//! A session's timer that runs while there is something to do.

use std::time::Duration;

use crate::context::Context;

/// The session's one timer, at intervals for as long as there is something to do: whatever brings that about starts it, as often as
/// it likes, and [`handle_timeout`](crate::Interceptor::handle_timeout) stops it where there is nothing.
///
/// ```
/// use sandbar_sdk::prelude::*;
///
/// /// Tells how many packets came in each second in which there were any.
/// struct Rate {
///     packets: u64,
///     ticker: Ticker,
/// }
///
/// impl Interceptor for Rate {
///     fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
///         Ok(Self { packets: 0, ticker: Ticker::new(Duration::from_secs(1)) })
///     }
///
///     fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
///         Ok(Binding::FOLLOW)
///     }
///
///     fn read_rtp(&mut self, cx: &mut Context, _: &mut RtpPacket<'_>) -> Outcome {
///         self.packets += 1;
///         self.ticker.start(cx);
///         Outcome::Forward
///     }
///
///     fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
///         match std::mem::take(&mut self.packets) {
///             0 => self.ticker.stop(cx),
///             packets => cx.publish("rate", &packets.to_string()),
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Ticker {
    /// Milliseconds, as timers are kept.
    interval: u32,
    running: bool,
}

impl Ticker {
    /// One that does not run, for ticks `interval` apart: rounded up to milliseconds, one at least and 49 days at most.
    pub const fn new(interval: Duration) -> Self {
        let interval = match interval.as_nanos().div_ceil(1_000_000) {
            0 => 1,
            millis @ 1..=0xffff_ffff => millis as u32,
            _ => u32::MAX,
        };
        Ticker { interval, running: false }
    }

    /// Starts it, unless it runs: the first tick is an interval from now.
    #[inline]
    pub fn start(&mut self, cx: &mut Context) {
        if !self.running {
            self.begin(cx);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin(&mut self, cx: &mut Context) {
        self.running = true;
        cx.wake_every(Duration::from_millis(self.interval.into()));
    }

    /// Stops it, if it runs, until it is started again.
    pub fn stop(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.running) {
            cx.wake_at(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_whole_milliseconds_of_which_there_is_one_at_least() {
        let cases = [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2), (u64::MAX, u32::MAX)];
        for (nanos, millis) in cases {
            assert_eq!(Ticker::new(Duration::from_nanos(nanos)).interval, millis);
        }
    }
}
