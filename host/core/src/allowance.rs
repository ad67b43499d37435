//! What one session's interceptor may say, send and write, in a call and in a second. Each session has its own, so that one
//! that is flooded does not use up what others in its instance have; a call as a whole has a bound too.

use crate::chain::Limits;
use crate::time::Instant;

/// Of so many sessions a call may use up the whole allowance.
const SESSIONS_IN_A_CALL: usize = 16;

/// What has been used.
#[derive(Debug, Default)]
pub(crate) struct Used {
    second: u64,
    /// In that second: log lines and documents, and bytes written to the sink.
    said: u32,
    sunk: usize,
    /// Log lines, documents and metrics that were over the limit.
    pub(crate) unheard: u64,
    turn: u64,
    /// In that turn.
    call: Spent,
}

/// What a call, or one session's part in it, has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    packets: u32,
    bytes: usize,
    sunk: usize,
}

impl Used {
    /// Forgets what was used before this second.
    fn in_second(&mut self, now: Instant) -> &mut Self {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second != second {
            (self.second, self.said, self.sunk) = (second, 0, 0);
        }
        self
    }

    /// Forgets what was used before the call whose effects are the `turn`-th.
    fn in_turn(&mut self, turn: u64) -> &mut Spent {
        if self.turn != turn {
            (self.turn, self.call) = (turn, Spent::default());
        }
        &mut self.call
    }

    /// Whether another line or document may be told; what may not is counted.
    pub(crate) fn speak(&mut self, now: Instant, limits: &Limits) -> bool {
        let may = self.in_second(now).said < limits.messages;
        self.said += u32::from(may);
        self.unheard += u64::from(!may);
        may
    }

    /// Whether another packet may be emitted.
    pub(crate) fn emit(&mut self, turn: u64, whole: &mut Spent, bytes: usize, limits: &Limits) -> bool {
        let call = self.in_turn(turn);
        let within = call.packets < limits.emitted_packets
            && call.bytes.saturating_add(bytes) <= limits.emitted_bytes
            && (whole.packets as usize) < SESSIONS_IN_A_CALL.saturating_mul(limits.emitted_packets as usize)
            && whole.bytes <= SESSIONS_IN_A_CALL.saturating_mul(limits.emitted_bytes);
        if within {
            for spent in [call, whole] {
                spent.packets += 1;
                spent.bytes += bytes;
            }
        }
        within
    }

    /// Whether so many bytes may be written to the sink.
    pub(crate) fn sink(
        &mut self,
        (turn, now): (u64, Instant),
        whole: &mut Spent,
        bytes: usize,
        limits: &Limits,
    ) -> bool {
        let sunk = self.in_second(now).sunk;
        let call = self.in_turn(turn);
        let within = call.sunk + bytes <= limits.sink_call
            && sunk + bytes <= limits.sink_second
            && whole.sunk <= SESSIONS_IN_A_CALL.saturating_mul(limits.sink_call);
        if within {
            call.sunk += bytes;
            whole.sunk += bytes;
            self.sunk += bytes;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits = || Limits {
        messages: 2,
        emitted_packets: 3,
        emitted_bytes: 100,
        sink_call: 10,
        sink_second: 25,
        ..Limits::default()
    };

    #[test]
    fn so_much_a_second_may_be_said_and_the_rest_is_counted() {
        let (mut used, limits) = (Used::default(), LIMITS());
        let said = [0, 1, 999, 1000, 1001].map(|ms| used.speak(Instant::from_millis(ms), &limits));
        assert_eq!((said, used.unheard), ([true, true, false, true, true], 1));
    }

    #[test]
    fn each_session_may_emit_as_much_in_a_call_and_all_together_so_much() {
        let limits = LIMITS();
        let mut whole = Spent::default();
        let emitted: Vec<_> = (0..SESSIONS_IN_A_CALL + 1)
            .map(|_| {
                let mut used = Used::default();
                (0..5).filter(|_| used.emit(1, &mut whole, 1, &limits)).count()
            })
            .collect();
        assert_eq!(emitted[..SESSIONS_IN_A_CALL], [3; SESSIONS_IN_A_CALL]);
        assert_eq!(emitted[SESSIONS_IN_A_CALL], 0);
        let mut used = Used::default();
        assert!(used.emit(1, &mut Spent::default(), 60, &limits));
        assert!(!used.emit(1, &mut Spent::default(), 60, &limits), "bytes");
        assert!(used.emit(2, &mut Spent::default(), 60, &limits), "another call");
    }

    #[test]
    fn a_sink_takes_so_much_in_a_call_and_in_a_second() {
        let (mut used, limits) = (Used::default(), LIMITS());
        let mut write =
            |turn, ms, bytes| used.sink((turn, Instant::from_millis(ms)), &mut Spent::default(), bytes, &limits);
        assert_eq!([write(1, 0, 10), write(1, 0, 1), write(2, 0, 10)], [true, false, true]);
        assert_eq!([write(3, 0, 6), write(3, 0, 5), write(4, 1000, 10)], [false, true, true]);
    }
}
