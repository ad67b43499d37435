//! When which stream is asked for a key frame.

use std::time::Duration;

use sandbar_sdk::{Instant, StreamId};

/// How often streams are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Time between ticks, at which all streams are asked; none asks only those of which it is wanted.
    pub(crate) interval: Option<Duration>,
    /// Time within which a stream is not asked again.
    pub(crate) min_interval: Duration,
}

/// A stream that can be asked for a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) ssrc: u32,
    /// When it was last asked.
    pub(crate) asked: Option<Instant>,
    /// Somebody wants a key frame, and has not been served yet.
    pub(crate) wanted: bool,
}

impl Stream {
    /// When it may be asked again.
    fn free(&self, policy: &Policy) -> Instant {
        self.asked.map_or(Instant::ZERO, |asked| asked + policy.min_interval)
    }
}

/// The streams, and the one tick that they share.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    policy: Policy,
    streams: Vec<Stream>,
    /// When all streams are next asked; none while there are no streams or no ticks.
    tick: Option<Instant>,
}

impl Schedule {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, streams: Vec::new(), tick: None }
    }

    pub(crate) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    pub(crate) fn tick(&self) -> Option<Instant> {
        self.tick
    }

    /// Adds a stream. The first one begins the ticks: with `tick`, unless that is further away than an interval.
    pub(crate) fn add(&mut self, stream: Stream, tick: Option<Instant>, now: Instant) {
        self.streams.push(stream);
        if self.tick.is_none() {
            let latest = self.policy.interval.map(|interval| now + interval);
            self.tick = latest.map(|latest| tick.map_or(latest, |tick| tick.min(latest)));
        }
    }

    pub(crate) fn remove(&mut self, id: StreamId) {
        self.streams.retain(|stream| stream.id != id);
        if self.streams.is_empty() {
            self.tick = None;
        }
    }

    /// Somebody wants a key frame of the stream with this SSRC, or of all. Returns of how many streams that is.
    pub(crate) fn want(&mut self, ssrc: Option<u32>) -> usize {
        let streams = self.streams.iter_mut().filter(|stream| ssrc.is_none_or(|ssrc| stream.ssrc == ssrc));
        streams.map(|stream| stream.wanted = true).count()
    }

    /// How many streams want a key frame and have to wait.
    pub(crate) fn waiting(&self) -> usize {
        self.streams.iter().filter(|stream| stream.wanted).count()
    }

    /// The SSRCs that are to be asked now. At a tick a stream that was asked a moment ago is left out: its key frame is
    /// on its way, and the next tick is near. Who wants one waits instead, for what is on its way may be older than what
    /// was lost.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<u32> {
        let ticks = self.tick.is_some_and(|tick| tick <= now);
        if ticks {
            self.tick = self.policy.interval.map(|interval| now + interval);
        }
        let mut due = Vec::new();
        for stream in &mut self.streams {
            if (ticks || stream.wanted) && stream.free(&self.policy) <= now {
                stream.asked = Some(now);
                stream.wanted = false;
                due.push(stream.ssrc);
            }
        }
        due
    }

    /// When there is next something to be done.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let wanted = self.streams.iter().filter(|stream| stream.wanted);
        wanted.map(|stream| stream.free(&self.policy)).chain(self.tick).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { interval: Some(Duration::from_millis(3000)), min_interval: Duration::from_millis(500) };

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn stream(ssrc: u32) -> Stream {
        Stream { id: StreamId::new(ssrc), ssrc, asked: None, wanted: true }
    }

    /// A schedule with these streams, asked as they came, at 1 s.
    fn schedule(policy: Policy, ssrcs: &[u32]) -> Schedule {
        let mut schedule = Schedule::new(policy);
        for ssrc in ssrcs {
            schedule.add(stream(*ssrc), None, ms(1000));
            assert_eq!(schedule.take_due(ms(1000)), [*ssrc]);
        }
        schedule
    }

    #[test]
    fn streams_share_the_ticks_of_the_first() {
        let mut schedule = schedule(POLICY, &[1]);
        schedule.add(stream(2), None, ms(2000));
        assert_eq!(schedule.take_due(ms(2000)), [2]);
        for tick in [4000, 7000, 10_000] {
            assert_eq!(schedule.next_due(), Some(ms(tick)));
            assert!(schedule.take_due(ms(tick - 1)).is_empty());
            assert_eq!(schedule.take_due(ms(tick)), [1, 2]);
        }
    }

    #[test]
    fn a_tick_leaves_out_who_was_asked_a_moment_ago() {
        let mut schedule = schedule(POLICY, &[1]);
        schedule.add(stream(2), None, ms(3501));
        assert_eq!(schedule.take_due(ms(3501)), [2]);
        assert_eq!(schedule.take_due(ms(4000)), [1]);
        assert_eq!(schedule.next_due(), Some(ms(7000)), "and does not make it wait");
    }

    #[test]
    fn a_flood_becomes_one_request_now_and_one_at_the_end_of_the_bound() {
        let mut schedule = schedule(Policy { interval: None, ..POLICY }, &[1]);
        assert_eq!(schedule.next_due(), None);
        let mut asked = Vec::new();
        for at in 2000..2400 {
            assert_eq!(schedule.want(Some(1)), 1);
            asked.extend(schedule.take_due(ms(at)).iter().map(|_| at));
        }
        assert_eq!(asked, [2000]);
        assert_eq!((schedule.waiting(), schedule.next_due()), (1, Some(ms(2500))));
        assert_eq!(schedule.take_due(ms(2500)), [1]);
        assert_eq!((schedule.waiting(), schedule.next_due()), (0, None));
    }

    #[test]
    fn a_tick_serves_who_waits() {
        let mut schedule = schedule(POLICY, &[1]);
        schedule.want(None);
        assert_eq!(schedule.take_due(ms(3500)), [1]);
        schedule.want(None);
        assert_eq!(schedule.take_due(ms(4000)), [1]);
        assert_eq!(schedule.next_due(), Some(ms(7000)));
    }

    #[test]
    fn only_the_stream_that_is_meant_is_asked() {
        let mut schedule = schedule(POLICY, &[1, 2]);
        assert_eq!((schedule.want(Some(2)), schedule.want(Some(3))), (1, 0));
        assert_eq!(schedule.take_due(ms(2000)), [2]);
        assert_eq!(schedule.want(None), 2);
        assert_eq!(schedule.take_due(ms(2001)), [1]);
        assert_eq!(schedule.waiting(), 1);
    }

    #[test]
    fn ticks_end_with_the_last_stream() {
        let mut schedule = schedule(POLICY, &[1, 2]);
        schedule.remove(StreamId::new(1));
        assert_eq!(schedule.take_due(ms(4000)), [2]);
        schedule.want(None);
        schedule.remove(StreamId::new(2));
        assert_eq!(schedule.next_due(), None);
        assert!(schedule.take_due(ms(9000)).is_empty());
    }

    #[test]
    fn a_tick_that_is_taken_over_is_at_most_an_interval_away() {
        for (tick, expected) in [(0, 0), (2000, 2000), (99_999, 4000)] {
            let mut schedule = Schedule::new(POLICY);
            schedule.add(Stream { wanted: false, ..stream(1) }, Some(ms(tick)), ms(1000));
            assert_eq!(schedule.next_due(), Some(ms(expected)));
        }
    }

    #[test]
    fn without_a_bound_every_request_is_served() {
        let policy = Policy { interval: None, min_interval: Duration::ZERO };
        let mut schedule = schedule(policy, &[1]);
        for _ in 0..5 {
            schedule.want(None);
            assert_eq!(schedule.take_due(ms(1000)), [1]);
        }
    }
}
