//! The rate that loss allows.
//!
//! Loss is no proof of congestion: a radio link loses one packet in twenty at any rate. What tells the two apart is whether
//! loss goes away with the rate, so that is tried: when loss rises, the rate goes to a little less than what was delivered,
//! which is where congestion ends. If loss ends too, the rate stays there and grows again. If it does not, it is the path's
//! own; the rate returns, and from then on only what exceeds that counts. (draft-ietf-rmcat-gcc-02, 6, halves the rate in
//! seconds under any loss above 10 %.)

use sandbar_sdk::serde::{Deserialize, Serialize};

/// Loss below which growth goes on (6).
const LITTLE: f64 = 0.02;
/// Excess over the path's own loss that is acted upon, of a short and of a long observation, and how many standard
/// deviations of chance it has to exceed as well.
const SUDDEN: f64 = 0.08;
const LASTING: f64 = 0.02;
const CERTAIN: f64 = 3.0;
/// Packets and microseconds of the observations; those in parentheses end one that has few packets.
const SHORT: (u32, i64) = (50, 300_000);
const SHORT_AT_LEAST: (u32, i64) = (20, 1_000_000);
const LONG: (u32, i64) = (500, 1_000_000);
const LONG_AT_LEAST: (u32, i64) = (60, 3_000_000);
/// Of a trial: it ends when chance explains a difference no longer, or after so long.
const TRIAL: (u32, i64) = (600, 1_500_000);
/// How much of what congestion leaves is used in a trial, and how deep a trial goes at most.
const BELOW: f64 = 0.92;
const DEEPEST: f64 = 0.5;
/// Loss that is within this part of the difference is what it was.
const UNCHANGED: f64 = 0.25;
/// How deep a trial goes that only asks whether the path's own loss is still its own, from which loss on, and how often.
const AGAIN: f64 = 0.85;
const MUCH: f64 = 0.05;
const AGAIN_AFTER: i64 = 20_000_000;
/// Time until a new rate has reached the wire: the pacer's and an encoder's next frame.
const REACTION: i64 = 80_000;
/// By how much the limit grows in a second.
const GROWTH: f64 = 0.08;

/// Packets, and how many of them were lost.
#[derive(Clone, Copy, Debug, Default)]
struct Observation {
    packets: u32,
    lost: u32,
    first: i64,
    last: i64,
}

impl Observation {
    fn add(&mut self, sent: i64, lost: bool) {
        if self.packets == 0 {
            self.first = sent;
        }
        self.packets += 1;
        self.lost += u32::from(lost);
        self.last = self.last.max(sent);
    }

    fn has(&self, (packets, time): (u32, i64)) -> bool {
        self.packets >= packets && self.last - self.first >= time
    }

    fn loss(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.packets.max(1))
    }

    /// The standard deviation of the loss that is seen where `loss` is the rule.
    fn deviation(&self, loss: f64) -> f64 {
        (loss.clamp(0.01, 0.99) * (1.0 - loss.clamp(0.01, 0.99)) / f64::from(self.packets.max(1))).sqrt()
    }
}

/// Whether loss goes away with the rate.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// What was seen before.
    loss: f64,
    packets: u32,
    /// What congestion leaves of it at the lower rate.
    expected: f64,
    /// The limit that there was before.
    limit: Option<f64>,
}

/// Loss, and the limit that follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss {
    /// The part that the path loses at any rate.
    inherent: f64,
    short: Observation,
    long: Observation,
    trial: Option<Trial>,
    limit: Option<f64>,
    hold: bool,
    /// The last short observation had much loss.
    sudden: bool,
    /// Packets sent before this, in microseconds, were sent at another rate.
    from: i64,
    /// When a trial last ended, and when the limit last grew, in microseconds.
    tried: i64,
    grown: Option<i64>,
}

/// What a successor continues from.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde", default)]
pub(crate) struct LossState {
    inherent: f64,
    limit: Option<f64>,
}

impl Loss {
    pub(crate) fn resume(state: LossState) -> Self {
        let inherent = if state.inherent.is_finite() { state.inherent.clamp(0.0, 0.9) } else { 0.0 };
        Self { inherent, limit: state.limit.filter(|limit| limit.is_finite()), ..Self::default() }
    }

    pub(crate) fn state(&self) -> LossState {
        LossState { inherent: self.inherent, limit: self.limit }
    }

    /// The most to send, if loss has a say, in bits per second.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// The part that the path loses at any rate.
    pub(crate) fn inherent(&self) -> f64 {
        self.inherent
    }

    /// Whether this is no time to grow.
    pub(crate) fn hold(&self) -> bool {
        self.hold || self.trial.is_some()
    }

    /// A packet's fate is known. Times are in microseconds.
    #[inline]
    pub(crate) fn add(&mut self, sent: i64, lost: bool) {
        if sent >= self.from {
            self.short.add(sent, lost);
            self.long.add(sent, lost);
        }
    }

    /// A packet that was said to be lost has come.
    pub(crate) fn came_late(&mut self) {
        self.short.lost = self.short.lost.saturating_sub(1);
        self.long.lost = self.long.lost.saturating_sub(1);
    }

    /// Takes account of what was added. `target` is what is sent now, `delay` what delay would allow.
    pub(crate) fn update(&mut self, now: i64, target: f64, delay: f64) {
        match self.trial {
            Some(trial) => self.judge(trial, now, target),
            None => self.watch(now, target),
        }
        self.grow(now, delay);
    }

    fn watch(&mut self, now: i64, target: f64) {
        if self.short.has(SHORT) || self.short.has(SHORT_AT_LEAST) {
            let (seen, excess) = (self.short, self.short.loss() - self.inherent);
            let chance = CERTAIN * seen.deviation(self.inherent);
            self.hold = excess > LITTLE && excess > chance / CERTAIN;
            self.short = Observation::default();
            // The first of them may have begun before what is wrong now.
            let twice = std::mem::replace(&mut self.sudden, excess > SUDDEN.max(chance)) && self.sudden;
            if twice {
                return self.begin(seen, now, target, None);
            }
        }
        if self.long.has(LONG) || self.long.has(LONG_AT_LEAST) {
            let (seen, excess) = (self.long, self.long.loss() - self.inherent);
            self.long = Observation::default();
            if excess > LASTING.max(CERTAIN * seen.deviation(self.inherent)) {
                return self.begin(seen, now, target, None);
            }
            if excess < 0.0 {
                self.inherent += 0.3 * excess;
            }
            if self.inherent > MUCH && now - self.tried > AGAIN_AFTER {
                self.inherent = self.inherent.min(LASTING);
                self.begin(seen, now, target, Some(AGAIN));
            }
        }
    }

    fn begin(&mut self, seen: Observation, now: i64, target: f64, depth: Option<f64>) {
        let congestion = BELOW * (1.0 - seen.loss()) / (1.0 - self.inherent);
        let depth = depth.unwrap_or(congestion).clamp(DEEPEST, 1.0);
        let expected = (1.0 - (1.0 - seen.loss()) / depth).max(self.inherent);
        let limit = self.trial.map_or(self.limit, |trial| trial.limit);
        self.trial = Some(Trial { loss: seen.loss(), packets: seen.packets, expected, limit });
        self.limit = Some(target * depth);
        self.anew(now + REACTION);
    }

    fn anew(&mut self, from: i64) {
        self.short = Observation::default();
        self.long = Observation::default();
        self.sudden = false;
        self.from = from;
    }

    fn judge(&mut self, trial: Trial, now: i64, target: f64) {
        let seen = self.short;
        let excess = (trial.loss - trial.expected).max(0.01);
        // Half the difference, which decides, is then two standard deviations.
        let enough = 16.0 * trial.loss * (1.0 - trial.loss) / (excess * excess);
        let enough = (enough as u32).clamp(SHORT_AT_LEAST.0, TRIAL.0);
        let long = seen.last - seen.first >= TRIAL.1 && seen.packets >= SHORT_AT_LEAST.0;
        if !(seen.has((enough, SHORT.1)) || long) {
            return;
        }
        let loss = seen.loss();
        if loss > trial.expected + excess / 2.0 {
            let chance = CERTAIN * seen.deviation(trial.loss);
            if loss > trial.loss + chance || loss < trial.loss - chance.max(UNCHANGED * excess) {
                // Neither what it was nor what congestion leaves: the path was changing when it was seen.
                return self.begin(seen, now, target, None);
            }
            let (before, after) = (f64::from(trial.packets), f64::from(seen.packets));
            self.inherent = (trial.loss * before + loss * after) / (before + after);
            self.limit = trial.limit;
        }
        self.trial = None;
        self.hold = false;
        self.tried = now;
        self.grown = None;
        self.anew(now + REACTION);
    }

    fn grow(&mut self, now: i64, delay: f64) {
        let since = self.grown.replace(now).map_or(0.0, |at| (now - at) as f64 / 1e6);
        if self.hold() {
            return;
        }
        if let Some(limit) = &mut self.limit {
            *limit *= 1.0 + GROWTH * since.clamp(0.0, 1.0);
            if *limit > delay {
                self.limit = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path, a sender that does what it is told, and feedback each 100 ms.
    struct Path {
        loss: Loss,
        now: i64,
        /// What delay would allow, and does.
        rate: f64,
        dice: u64,
    }

    impl Path {
        fn new(rate: f64) -> Self {
            Path { loss: Loss::default(), now: 0, rate, dice: 1 }
        }

        fn target(&self) -> f64 {
            self.rate.min(self.loss.limit().unwrap_or(self.rate))
        }

        fn dice(&mut self) -> f64 {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.dice >> 11) as f64 / (1u64 << 53) as f64
        }

        /// So many reports over a path that loses by chance, and all that exceeds its capacity. Gives the mean target.
        fn run(&mut self, reports: usize, random: f64, capacity: f64) -> f64 {
            let mut sum = 0.0;
            for _ in 0..reports {
                let target = self.target();
                sum += target;
                let packets = (target / 10.0 / 9600.0).round().max(1.0) as i64;
                let lost = random + (1.0 - random) * (1.0 - capacity / target).max(0.0);
                for n in 0..packets {
                    let lost = self.dice() < lost;
                    self.loss.add(self.now + n * 100_000 / packets, lost);
                }
                self.now += 100_000;
                self.loss.update(self.now, target, self.rate);
            }
            sum / reports as f64
        }
    }

    #[test]
    fn loss_that_does_not_go_away_with_the_rate_does_not_limit_it() {
        for random in [0.05, 0.2, 0.4] {
            let mut path = Path::new(3e6);
            path.run(50, random, f64::INFINITY);
            let mean = path.run(600, random, f64::INFINITY);
            assert!(mean > 0.93 * 3e6, "{random}: {mean}");
            assert!((path.loss.inherent() - random).abs() < 0.04, "{random}: {}", path.loss.inherent());
        }
    }

    #[test]
    fn loss_that_goes_away_with_the_rate_is_congestion() {
        let mut path = Path::new(3e6);
        path.run(20, 0.0, 1e6);
        let mean = path.run(600, 0.0, 1e6);
        assert!((0.85e6..1.05e6).contains(&mean), "{mean}");
        assert!(path.loss.inherent() < 0.03, "{}", path.loss.inherent());
    }

    #[test]
    fn congestion_is_found_beside_the_paths_own_loss() {
        let mut path = Path::new(3e6);
        path.run(100, 0.1, f64::INFINITY);
        path.run(30, 0.1, 1e6);
        let mean = path.run(600, 0.1, 1e6);
        assert!((0.8e6..1.15e6).contains(&mean), "{mean}");
    }

    #[test]
    fn a_capacity_that_falls_to_a_fifth_is_found_in_several_steps() {
        let mut path = Path::new(3e6);
        path.run(50, 0.0, 3e6);
        path.run(40, 0.0, 0.6e6);
        assert!(path.target() < 0.75e6, "{}", path.target());
    }

    #[test]
    fn when_the_loss_ends_so_does_the_limit() {
        let mut path = Path::new(3e6);
        path.run(50, 0.0, 1e6);
        assert!(path.target() < 1.1e6);
        path.run(250, 0.0, f64::INFINITY);
        assert_eq!(path.loss.limit(), None);
    }

    #[test]
    fn what_came_late_was_not_lost() {
        let mut loss = Loss::default();
        let mut now = 0;
        for _ in 0..100 {
            for n in 0..30 {
                loss.add(now + n * 3_000, n % 5 == 0);
            }
            for _ in 0..6 {
                loss.came_late();
            }
            now += 100_000;
            loss.update(now, 3e6, 3e6);
        }
        assert_eq!((loss.limit(), loss.inherent()), (None, 0.0));
    }

    #[test]
    fn a_little_loss_only_holds_growth() {
        let mut loss = Loss::default();
        let mut now = 0;
        for round in 0..4 {
            for n in 0..100 {
                loss.add(now + n * 1_000, n % 20 == 0);
            }
            now += 100_000;
            loss.update(now, 3e6, 3e6);
            assert_eq!((loss.limit(), loss.hold()), (None, round == 3));
        }
    }
}
