//! Timers: each session of an instance and each of its streams has one.

use slotmap::SlotMap;

use crate::frame::FrameKind;
use crate::guest::{Guest, Seat};
use crate::instance::Instance;
use crate::log::log_of;
use crate::session::InstanceId;
use crate::shard::{Alarm, Shard};
use crate::tenant::Quota;
use crate::time::Instant;
use crate::wheel::Wheel;

/// Entries of the wheel before it is first looked through for those that stand for nothing any more.
pub(crate) const CROWDED: usize = 4096;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Session(u32),
    Stream(u32),
}

/// A session's or a stream's one timer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timer {
    /// When it is due.
    pub(crate) wake: Option<Instant>,
    /// After so many nanoseconds it is due again, if it is a ticker: whole milliseconds.
    every: u64,
    /// When the wheel's earliest entry for it comes. It may come too early, as entries are not taken back when a timer is put
    /// off; then it is entered again.
    pub(crate) armed: Option<Instant>,
}

impl Timer {
    /// Sets it to `at`, which is on a millisecond, and from then on to come again after so many nanoseconds unless they are none.
    pub(crate) fn set(&mut self, at: Option<Instant>, every: u64) {
        self.wake = at;
        self.every = Wheel::<()>::due(Instant::from_nanos(every)).as_nanos();
    }

    /// When the wheel, whose entries come at `earliest` or later, has to have an entry for it that it has not.
    pub(crate) fn arm(&mut self, earliest: Instant) -> Option<Instant> {
        let at = self.wake?.max(earliest);
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        Some(at)
    }

    /// An entry of the wheel has come. Whether the timer is due; it is then no longer set, or to its next tick.
    pub(crate) fn ring(&mut self, now: Instant) -> bool {
        self.armed = self.armed.filter(|armed| *armed > now);
        let Some(at) = self.wake.take_if(|at| *at <= now) else { return false };
        let missed = (now.as_nanos() - at.as_nanos()).checked_div(self.every);
        let until_next = missed.map(|missed| self.every.saturating_mul(missed + 1));
        self.wake = until_next.map(|nanos| Instant::from_nanos(at.as_nanos().saturating_add(nanos)));
        true
    }

    /// It was due and could not be told of. Whether it is now to come at `until`: not if it has been set meanwhile.
    fn put_off(&mut self, until: Instant) -> bool {
        let missed = match self.wake {
            None => true,
            Some(next) => self.every > 0 && until < next,
        };
        if missed {
            self.wake = Some(until);
        }
        missed
    }
}

impl Guest {
    /// A session's or a stream's timer.
    pub(crate) fn timer(&mut self, scope: Scope) -> Option<&mut Timer> {
        match scope {
            Scope::Session(seat) => self.seats.get_mut(seat).map(|seat| &mut seat.timer),
            Scope::Stream(stream) => self.streams.get_mut(stream).map(|bound| &mut bound.timer),
        }
    }

    /// The session whose timer it is, or whose stream's; 0, which none has, where there is no such stream.
    pub(crate) fn seat_of(&self, scope: Scope) -> u32 {
        match scope {
            Scope::Session(seat) => seat,
            Scope::Stream(stream) => self.streams.get(stream).map_or(0, |bound| bound.seat),
        }
    }

    /// An entry of the wheel has come: whether the timer is due. It is then no longer set, or to its next tick.
    pub(crate) fn ring(&mut self, scope: Scope, now: Instant) -> bool {
        let Some(timer) = self.timer(scope) else { return false };
        let (due, set) = (timer.ring(now), timer.wake.is_some());
        let seat = self.seat_of(scope);
        if due
            && !set
            && let Some(seat) = self.seats.get_mut(seat)
        {
            seat.holdings.give(Quota::Timers, 1);
        }
        due
    }

    /// Sets a timer again that was due and could not be told of, unless it has been set meanwhile.
    pub(crate) fn put_off(&mut self, scope: Scope, until: Instant) {
        let seat = self.seat_of(scope);
        let Some(timer) = self.timer(scope) else { return };
        let had = timer.wake.is_some();
        if timer.put_off(Wheel::<()>::due(until))
            && !had
            && let Some(seat) = self.seats.get_mut(seat)
        {
            // It had it until a moment ago.
            let _ = seat.holdings.take(Quota::Timers, 1);
        }
    }
}

impl Shard {
    /// Enters a timer that is set into the wheel, unless that has an entry as early; and has its session's log know whether it is.
    pub(crate) fn arm(&mut self, id: InstanceId, scope: Scope) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if let Scope::Session(seat) = scope
            && let Some(Seat { owner, timer, .. }) = instance.guest().seats.get(seat)
            && let Some((log, member)) = log_of(&mut self.sessions, *owner)
        {
            log.set_patient(member, timer.wake.is_some());
        }
        let earliest = self.wheel.earliest();
        let Some(at) = instance.guest_mut().timer(scope).and_then(|timer| timer.arm(earliest)) else { return };
        self.wheel.insert(at, Alarm::Timer(id, scope));
        if self.wheel.len() > self.crowded {
            self.clear_wheel();
        }
    }

    /// Takes entries out of the wheel that stand for nothing any more: those of timers that have been set to earlier, again
    /// and again.
    fn clear_wheel(&mut self) {
        let Self { wheel, instances, .. } = self;
        wheel.retain(|at, alarm| match *alarm {
            Alarm::Restart(..) => true,
            Alarm::Timer(id, scope) => stands(instances, id, scope, at),
        });
        self.crowded = CROWDED.max(2 * self.wheel.len());
    }

    /// Looks at what timers will ask of their sessions before the first is seen to: see [`warm`](Self::warm).
    fn warm_owners(&self, due: &[Alarm]) {
        for alarm in due {
            if let Alarm::Timer(id, Scope::Session(seat)) = alarm
                && let Some(seat) = self.instances.get(*id).and_then(|instance| instance.guest().seats.get(*seat))
                && let Some(session) = self.sessions.get(seat.owner.session)
            {
                session.warm();
            }
        }
    }

    /// Wakes whoever's timer is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.wheel.expire(now, &mut due);
        self.warm_owners(&due);
        let mut called: Vec<InstanceId> = Vec::new();
        for alarm in due {
            let (id, scope) = match alarm {
                Alarm::Timer(id, scope) => (id, scope),
                Alarm::Restart(session, member) => {
                    self.restart(now, session, member);
                    continue;
                }
            };
            let due = self.instances.get_mut(id).is_some_and(|instance| instance.guest_mut().ring(scope, now));
            // It is a ticker, or has been put off.
            self.arm(id, scope);
            let Some(instance) = self.instances.get_mut(id).filter(|_| due) else { continue };
            let (kind, handle) = match scope {
                Scope::Session(seat) => (FrameKind::SessionTimer, seat),
                Scope::Stream(stream) => (FrameKind::StreamTimer, stream),
            };
            // What its session has brought until now goes before.
            let guest = instance.guest();
            if let Some(Seat { owner, .. }) = guest.seats.get(guest.seat_of(scope))
                && let Some((log, member)) = log_of(&mut self.sessions, *owner)
            {
                log.catch_up(member, &mut instance.waiting);
            }
            instance.waiting.push_timer(now, kind, handle);
            if instance.waiting.is_full(self.config.batch_frames) {
                self.flush(now, id);
            } else if !called.contains(&id) {
                called.push(id);
            }
        }
        for id in called {
            self.flush(now, id);
        }
    }
}

/// Whether a timer counts on the wheel's entry for this time.
fn stands(instances: &mut SlotMap<InstanceId, Box<Instance>>, id: InstanceId, scope: Scope, at: Instant) -> bool {
    let timer = instances.get_mut(id).and_then(|instance| instance.guest_mut().timer(scope).copied());
    timer.is_some_and(|timer| timer.armed == Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_timer_that_is_put_off_again_and_again_needs_one_entry() {
        let (mut timer, mut entries) = (Timer::default(), Vec::new());
        for late in 0..1000 {
            timer.wake = Some(at(100 + late));
            entries.extend(timer.arm(at(0)));
        }
        assert_eq!(entries, [at(100)]);
        assert!(!timer.ring(at(100)), "it has been put off");
        assert_eq!((timer.arm(at(101)), timer.arm(at(101))), (Some(at(1099)), None));
        assert!(timer.ring(at(1099)));
        assert_eq!((timer.arm(at(1100)), timer.ring(at(1100))), (None, false));
    }

    #[test]
    fn a_ticker_keeps_its_beat_and_leaves_out_what_it_missed() {
        let mut timer = Timer::default();
        timer.set(Some(at(5)), 9_500_000);
        let mut ticks = Vec::new();
        for now in [4, 5, 6, 15, 40, 44, 45, 55] {
            if timer.ring(at(now)) {
                ticks.push((now, timer.wake));
            }
        }
        let next = |millis| Some(at(millis));
        assert_eq!(ticks, [(5, next(15)), (15, next(25)), (40, next(45)), (45, next(55)), (55, next(65))]);
        timer.set(Some(at(60)), 0);
        assert_eq!((timer.ring(at(60)), timer.wake), (true, None));
    }

    #[test]
    fn a_ticker_at_the_end_of_time_stays_there() {
        let mut timer = Timer::default();
        timer.set(Some(at(5)), u64::MAX);
        assert!(timer.ring(at(6)));
        let last = timer.wake.unwrap();
        assert!(last > at(u64::MAX / 1_000_001), "{last:?}");
        assert!(timer.ring(Instant::from_nanos(u64::MAX)));
        assert_eq!(timer.wake, Some(Instant::from_nanos(u64::MAX)));
    }

    #[test]
    fn what_could_not_be_told_of_comes_later_unless_it_has_been_set_meanwhile() {
        let rung = |every: u64| {
            let mut timer = Timer::default();
            timer.set(Some(at(5)), every);
            assert!(timer.ring(at(5)));
            timer
        };
        let mut once = rung(0);
        assert_eq!((once.put_off(at(9)), once.wake), (true, Some(at(9))));
        assert_eq!((once.put_off(at(7)), once.wake), (false, Some(at(9))), "it has been set");
        let mut ticker = rung(10_000_000);
        assert_eq!((ticker.put_off(at(20)), ticker.wake), (false, Some(at(15))), "the next tick comes before");
        assert_eq!((ticker.put_off(at(9)), ticker.wake), (true, Some(at(9))));
        assert!(ticker.ring(at(9)));
        assert_eq!(ticker.wake, Some(at(19)));
    }

    #[test]
    fn a_time_that_has_passed_and_one_that_is_earlier_have_an_entry_each() {
        let mut timer = Timer { wake: Some(at(5)), ..Timer::default() };
        assert_eq!(timer.arm(at(9)), Some(at(9)));
        assert!(timer.ring(at(9)));
        timer.wake = Some(at(50));
        assert_eq!(timer.arm(at(10)), Some(at(50)));
        timer.wake = Some(at(20));
        assert_eq!(timer.arm(at(10)), Some(at(20)));
        assert!(timer.ring(at(20)));
        assert_eq!(timer.arm(at(21)), None);
        assert!(!timer.ring(at(50)), "the first entry stands for nothing any more");
    }
}
