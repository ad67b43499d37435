//! The rate that delay allows: additive or multiplicative increase, multiplicative decrease
//! (draft-ietf-rmcat-gcc-02, 5.5). Rates are in bits per second.

use std::time::Duration;

use sandbar_sdk::Instant;

use crate::trendline::Usage;

/// What is left of the delivered rate after overuse (5.5: beta).
const BETA: f64 = 0.85;
/// By how much the rate grows in a second where the capacity is not known (5.5: eta).
const GROWTH: f64 = 0.08;
/// The same before anything has been in the way: it doubles.
const FIRST_GROWTH: f64 = 0.7;
/// The rate is not raised further above what is delivered (5.5): an application that sends less learns nothing.
const HEADROOM: f64 = 1.5;
const HEADROOM_BITS: f64 = 10_000.0;
/// Time between a change of the rate and the peer's word on it, beside the round trip (5.5).
const RESPONSE: Duration = Duration::from_millis(100);
/// The least that the rate grows in a second.
const LEAST_GROWTH: f64 = 4_000.0;
/// What packets and frames are taken to be for the additive increase (5.5).
const PACKET_BITS: f64 = 1200.0 * 8.0;
const FRAME_RATE: f64 = 30.0;

/// The delay-based rate, and what is known of the path's capacity.
#[derive(Clone, Debug)]
pub(crate) struct Aimd {
    rate: f64,
    capacity: Capacity,
    /// Nothing has been in the way yet.
    starting: bool,
    /// Since when nothing has been in the way and the capacity is not known.
    free: Option<Instant>,
    /// The queue drains: no growth until it has.
    draining: bool,
    updated: Option<Instant>,
    reduced: Option<Instant>,
}

/// What is known about the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) now: Instant,
    pub(crate) usage: Usage,
    /// What the path takes from us, as it was delivered.
    pub(crate) delivered: Option<f64>,
    pub(crate) round_trip: Duration,
    /// Something else says that this is no time to grow.
    pub(crate) hold: bool,
}

impl Aimd {
    pub(crate) fn new(rate: f64) -> Self {
        Self {
            rate,
            capacity: Capacity::default(),
            starting: true,
            free: None,
            draining: false,
            updated: None,
            reduced: None,
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// Another rate is known to be right, such as from a probe.
    pub(crate) fn set(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// The path was seen to carry this much and no more.
    pub(crate) fn saturated(&mut self, delivered: f64) {
        self.starting = false;
        self.free = None;
        self.capacity.observe(delivered);
    }

    /// The path carries more than was known.
    pub(crate) fn opened(&mut self) {
        self.capacity = Capacity::default();
    }

    /// When the rate was last reduced.
    pub(crate) fn reduced(&self) -> Option<Instant> {
        self.reduced
    }

    pub(crate) fn update(&mut self, situation: Situation) {
        match situation.usage {
            Usage::Over => self.reduce(situation),
            // A queue that drains is left to: growth would keep it (5.5, state hold).
            Usage::Under => self.draining = true,
            Usage::Normal if self.draining => self.draining = false,
            Usage::Normal if !situation.hold => self.grow(situation),
            Usage::Normal => {}
        }
        if situation.usage != Usage::Normal || situation.hold {
            self.free = None;
        }
        self.updated = Some(situation.now);
    }

    fn reduce(&mut self, situation: Situation) {
        let Situation { now, delivered, round_trip, .. } = situation;
        self.starting = false;
        self.draining = true;
        let delivered = delivered.unwrap_or(self.rate);
        // The peer's word on the last reduction is still on its way, unless it is far from enough.
        let wait = round_trip.clamp(Duration::from_millis(10), Duration::from_millis(200)) + RESPONSE;
        if self.reduced.is_some_and(|at| now - at < wait) && delivered > self.rate / 2.0 {
            return;
        }
        self.capacity.observe(delivered);
        let mut rate = BETA * delivered;
        if rate > self.rate {
            // More was delivered than is asked for now: the queue is from before.
            rate = BETA * self.capacity.mean.unwrap_or(delivered);
        }
        self.rate = rate.min(self.rate);
        self.reduced = Some(now);
    }

    fn grow(&mut self, situation: Situation) {
        let Situation { now, delivered, round_trip, .. } = situation;
        let time = self.updated.map_or(0.0, |at| (now - at).as_secs_f64().min(1.0));
        if let Some(delivered) = delivered {
            if self.capacity.exceeded_by(delivered) {
                self.opened();
            }
            let ceiling = HEADROOM * delivered + HEADROOM_BITS;
            if self.rate >= ceiling {
                return;
            }
        }
        let more = if self.capacity.is_near(self.rate) {
            let response = (round_trip + RESPONSE).as_secs_f64();
            let frame = self.rate / FRAME_RATE;
            let packet = frame / (frame / PACKET_BITS).ceil();
            (packet / response).max(LEAST_GROWTH) * time
        } else {
            let free = (now - *self.free.get_or_insert(now)).as_secs_f64();
            // What has not been in the way for seconds is far: look for it in longer strides.
            let growth = match (self.starting, self.capacity.mean) {
                (true, _) => FIRST_GROWTH,
                (false, None) => (GROWTH * f64::from(1_u32 << free.min(8.0) as u32)).min(FIRST_GROWTH),
                (false, Some(_)) => GROWTH,
            };
            (self.rate * growth * time).max(LEAST_GROWTH * time)
        };
        self.rate += more;
    }
}

/// The rates at which queues built up: where the path's capacity is (5.5: mean and deviation of the maximum). In kbit/s,
/// in which the deviation's bounds are given.
#[derive(Clone, Copy, Debug, Default)]
struct Capacity {
    /// Bits per second.
    mean: Option<f64>,
    /// Of kbit/s, relative to the mean.
    deviation: f64,
}

/// How much of the mean is the newest (5.5).
const NEWEST: f64 = 0.05;
const DEVIATIONS: std::ops::RangeInclusive<f64> = 0.4..=2.5;

impl Capacity {
    fn observe(&mut self, rate: f64) {
        if self.mean.is_some_and(|mean| rate < mean - self.spread()) {
            *self = Self::default();
        }
        let Some(mean) = self.mean else {
            *self = Self { mean: Some(rate), deviation: *DEVIATIONS.start() };
            return;
        };
        let mean = (1.0 - NEWEST) * mean + NEWEST * rate;
        let error = (mean - rate) / 1000.0;
        let relative = error * error / (mean / 1000.0).max(1.0);
        self.mean = Some(mean);
        self.deviation =
            ((1.0 - NEWEST) * self.deviation + NEWEST * relative).clamp(*DEVIATIONS.start(), *DEVIATIONS.end());
    }

    /// Three standard deviations.
    fn spread(&self) -> f64 {
        3000.0 * (self.deviation * self.mean.unwrap_or(0.0) / 1000.0).sqrt()
    }

    /// Whether a rate is near what is known of the capacity.
    fn is_near(&self, rate: f64) -> bool {
        self.mean.is_some_and(|mean| rate > mean - self.spread())
    }

    /// Whether so much can only be delivered by a path that carries more.
    fn exceeded_by(&self, delivered: f64) -> bool {
        self.mean.is_some_and(|mean| delivered > mean + self.spread())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    fn situation(millis: u64, usage: Usage, delivered: f64) -> Situation {
        let now = Instant::from_millis(millis);
        Situation { now, usage, delivered: Some(delivered), round_trip: ROUND_TRIP, hold: false }
    }

    /// So many updates, one in 100 ms, while all that is asked for is delivered.
    fn run(aimd: &mut Aimd, updates: std::ops::Range<u64>) {
        for n in updates {
            let delivered = aimd.rate();
            aimd.update(situation(n * 100, Usage::Normal, delivered));
        }
    }

    #[test]
    fn draft_5_5_overuse_leaves_85_percent_of_what_was_delivered() {
        let mut aimd = Aimd::new(1e6);
        aimd.update(situation(0, Usage::Over, 8e5));
        assert_eq!(aimd.rate(), 6.8e5);
        // Still the same overuse.
        aimd.update(situation(50, Usage::Over, 6e5));
        assert_eq!(aimd.rate(), 6.8e5);
        aimd.update(situation(300, Usage::Over, 6e5));
        assert_eq!(aimd.rate(), 5.1e5);
        // Overuse never raises.
        aimd.update(situation(900, Usage::Over, 2e6));
        assert!(aimd.rate() <= 5.1e5);
    }

    #[test]
    fn draft_5_5_near_the_capacity_the_rate_grows_by_a_packet_in_a_response_time() {
        let mut aimd = Aimd::new(3e6);
        aimd.update(situation(0, Usage::Over, 3e6));
        let rate = aimd.rate();
        run(&mut aimd, 1..2);
        assert_eq!(aimd.rate(), rate, "the queue drains first");
        run(&mut aimd, 2..12);
        assert!((aimd.rate() / rate / 1.08 - 1.0).abs() < 0.005, "8 % in a second: {} from {rate}", aimd.rate());
        let rate = 2.92e6;
        aimd.set(rate);
        run(&mut aimd, 12..22);
        let grown = aimd.rate() - rate;
        // Frames of 97 kbit in 11 packets, and 150 ms.
        let expected = rate / 30.0 / 11.0 / 0.15;
        assert!((grown / expected - 1.0).abs() < 0.05, "{grown} of {expected}");
    }

    #[test]
    fn an_unknown_path_is_explored_quickly_at_first_and_after_it_has_opened() {
        let mut aimd = Aimd::new(3e5);
        run(&mut aimd, 0..11);
        assert!((5.9e5..6.1e5).contains(&aimd.rate()), "doubled in a second: {}", aimd.rate());
        aimd.update(situation(1_100, Usage::Over, 6e5));
        run(&mut aimd, 12..32);
        assert!(aimd.rate() < 6.2e5, "{}", aimd.rate());
        // The capacity is exceeded, and nothing is in the way: from 8 % a second on, faster and faster.
        run(&mut aimd, 32..122);
        assert!(aimd.rate() > 3e6, "{}", aimd.rate());
    }

    #[test]
    fn a_rate_that_is_not_used_does_not_grow() {
        let mut aimd = Aimd::new(1e6);
        for n in 0..100 {
            aimd.update(situation(n * 100, Usage::Normal, 2e5));
        }
        assert_eq!(aimd.rate(), 1e6);
        let mut low = Aimd::new(2e5);
        for n in 0..100 {
            low.update(situation(n * 100, Usage::Normal, 2e5));
        }
        assert!((3e5..3.5e5).contains(&low.rate()), "{}", low.rate());
    }

    #[test]
    fn nothing_grows_while_told_to_hold() {
        let mut aimd = Aimd::new(1e6);
        for n in 0..100 {
            aimd.update(Situation { hold: true, ..situation(n * 100, Usage::Normal, 1e6) });
        }
        assert_eq!(aimd.rate(), 1e6);
    }
}
