//! Packets collected for a while and written together.

use sandbar_sdk::{Context, Instant, SinkError, warn};

use crate::pcapng::{self, Addresses, Record};

/// What is written without waiting for the time to be over.
const FULL: usize = 32 << 10;
/// What is collected at most while nothing can be written.
const MOST: usize = 256 << 10;

/// One session's packets on their way to the sink.
#[derive(Debug)]
pub(crate) struct Dump {
    addresses: Addresses,
    buffer: Vec<u8>,
    /// Packets in it.
    packets: u64,
    /// The section has begun: what was last written was taken, and so on back to its beginning.
    begun: bool,
    state: State,
    /// An instant, and its wall clock in nanoseconds since 1970.
    clock: (Instant, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The sink takes no more for now.
    Full,
    /// It takes nothing at all.
    Closed,
}

/// What there is to do after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Collect,
    /// The packet is the first one since the last time.
    Wait,
    /// There is enough to be written.
    Flush,
}

impl Dump {
    pub(crate) fn new(addresses: Addresses) -> Self {
        let clock = (Instant::ZERO, 0);
        Self { addresses, buffer: Vec::new(), packets: 0, begun: false, state: State::Open, clock }
    }

    /// Collects a packet, of which `record` knows the time as this host does.
    #[inline]
    pub(crate) fn collect(&mut self, cx: &Context, at: Instant, record: Record<'_>) -> Next {
        if self.state == State::Closed || self.buffer.len() > MOST {
            cx.count("dropped", 1);
            return Next::Collect;
        }
        let first = self.buffer.is_empty();
        if first {
            self.clock = (at, unix_nanos(cx.ntp(at)));
            if !self.begun {
                pcapng::begin(&mut self.buffer);
            }
        }
        // A packet may have come before the first one, when they are seen in another order.
        let (since, before) = ((at - self.clock.0).as_nanos() as u64, (self.clock.0 - at).as_nanos() as u64);
        let time = self.clock.1.saturating_add(since).saturating_sub(before);
        pcapng::packet(&mut self.buffer, &self.addresses, &Record { time, ..record });
        self.packets += 1;
        match self.buffer.len() {
            FULL.. if self.state == State::Open => Next::Flush,
            _ if first => Next::Wait,
            _ => Next::Collect,
        }
    }

    /// Writes what has been collected. Whether it has to be tried again.
    pub(crate) fn flush(&mut self, cx: &Context) -> bool {
        if self.buffer.is_empty() {
            return false;
        }
        match cx.write_sink(&self.buffer) {
            Ok(()) => {
                cx.count("packets", self.packets);
                cx.count("bytes", self.buffer.len() as u64);
                self.begun = true;
                self.state = State::Open;
            }
            Err(SinkError::Quota) => {
                self.state = State::Full;
                return true;
            }
            Err(error) => {
                warn!(cx, "nothing is written: {error}");
                cx.count("dropped", self.packets);
                self.state = State::Closed;
            }
        }
        self.buffer.clear();
        self.packets = 0;
        false
    }

    /// Writes what has been collected, for there is no later.
    pub(crate) fn close(&mut self, cx: &Context) {
        if self.flush(cx) {
            cx.count("dropped", self.packets);
        }
    }
}

/// Nanoseconds since 1970 of a 64-bit NTP timestamp (RFC 3550, 4).
fn unix_nanos(ntp: u64) -> u64 {
    /// Seconds from 1900 to 1970 (RFC 868).
    const UNIX_EPOCH: u64 = 2_208_988_800;
    // To the nearest: a nanosecond is four fractions.
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000_000 + (1 << 31)) >> 32;
    (ntp >> 32).saturating_sub(UNIX_EPOCH) * 1_000_000_000 + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_868_the_epochs_are_seventy_years_apart() {
        assert_eq!(unix_nanos(2_208_988_800 << 32), 0);
        assert_eq!(unix_nanos(3_913_056_000 << 32 | 1 << 31), 1_704_067_200_500_000_000);
        assert_eq!(unix_nanos(0), 0);
        assert!(unix_nanos(u64::MAX) > 0);
    }
}
