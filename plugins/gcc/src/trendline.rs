//! Whether a queue builds up: the slope of the delay over the last groups, against a threshold that adapts to the path
//! (draft-ietf-rmcat-gcc-02, 5.3 to 5.4, with a line through the smoothed delays in place of the Kalman filter, as in
//! Chrome since 2017).

use std::collections::VecDeque;

use crate::groups::Step;

/// Groups that the line goes through.
const WINDOW: usize = 20;
/// How much of a smoothed delay is the one before.
const SMOOTHING: f64 = 0.9;
/// By how much the slope is multiplied, and by how many groups at most, to be compared with the threshold.
const GAIN: f64 = 4.0;
const MOST_GROUPS: u32 = 60;
/// How long the threshold has to be exceeded (5.4: overuse_time_th), in milliseconds.
const OVER_FOR: f64 = 10.0;
/// The threshold at first and its bounds, in milliseconds (5.4: del_var_th).
const FIRST_THRESHOLD: f64 = 12.5;
const THRESHOLDS: std::ops::RangeInclusive<f64> = 6.0..=600.0;
/// How quickly the threshold follows upwards and downwards (5.4: K_u, K_d), per millisecond.
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
/// What exceeds the threshold by more than this does not move it (5.4).
const SPIKE: f64 = 15.0;

/// What the path is used for (5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Usage {
    #[default]
    Normal,
    /// A queue drains.
    Under,
    /// A queue builds up.
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Trendline {
    /// Arrival of the first group, in milliseconds.
    begun: Option<f64>,
    delay: f64,
    smoothed: f64,
    /// Arrival and smoothed delay, in milliseconds.
    points: VecDeque<(f64, f64)>,
    groups: u32,
    threshold: f64,
    /// When the threshold last adapted.
    adapted: Option<f64>,
    /// For how long and for how many groups the threshold has been exceeded.
    over: Option<(f64, u32)>,
    slope: f64,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            begun: None,
            delay: 0.0,
            smoothed: 0.0,
            points: VecDeque::with_capacity(WINDOW + 1),
            groups: 0,
            threshold: FIRST_THRESHOLD,
            adapted: None,
            over: None,
            slope: 0.0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    pub(crate) fn update(&mut self, step: Step) {
        let (sent, arrived, at) = (millis(step.sent), millis(step.arrived), millis(step.at));
        let begun = *self.begun.get_or_insert(at);
        self.groups = (self.groups + 1).min(MOST_GROUPS);
        self.delay += arrived - sent;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.delay;
        self.points.push_back((at - begun, self.smoothed));
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        let slope = if self.points.len() == WINDOW { slope(&self.points).unwrap_or(self.slope) } else { self.slope };
        self.judge(slope, sent, at);
    }

    fn judge(&mut self, slope: f64, sent: f64, at: f64) {
        if self.groups < 2 {
            return;
        }
        let trend = f64::from(self.groups) * slope * GAIN;
        if trend > self.threshold {
            // The step over the threshold is counted from its middle.
            let (time, groups) = self.over.map_or((sent / 2.0, 1), |(time, groups)| (time + sent, groups + 1));
            self.over = Some((time, groups));
            if time > OVER_FOR && groups > 1 && slope >= self.slope {
                self.over = Some((0.0, 0));
                self.usage = Usage::Over;
            }
        } else {
            self.over = None;
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.slope = slope;
        self.adapt(trend.abs(), at);
    }

    /// Neither a path whose delay varies by itself nor another flow that fills the queue may silence or starve this one.
    fn adapt(&mut self, trend: f64, at: f64) {
        let since = (at - self.adapted.unwrap_or(at)).clamp(0.0, 100.0);
        self.adapted = Some(at);
        if trend > self.threshold + SPIKE {
            return;
        }
        let gain = if trend < self.threshold { DOWN } else { UP };
        let threshold = self.threshold + gain * (trend - self.threshold) * since;
        self.threshold = threshold.clamp(*THRESHOLDS.start(), *THRESHOLDS.end());
    }
}

fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

/// Of the line with the least squares.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), (x, y)| {
        (over + (x - mean_x) * (y - mean_y), under + (x - mean_x) * (x - mean_x))
    });
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of 10 ms, each `more` microseconds further from the one before than it was sent.
    fn run(trendline: &mut Trendline, groups: usize, from: i64, more: impl Fn(usize) -> i64) -> i64 {
        let mut at = from;
        for n in 0..groups {
            at += 10_000 + more(n);
            trendline.update(Step { sent: 10_000, arrived: 10_000 + more(n), at });
        }
        at
    }

    #[test]
    fn a_growing_queue_is_overuse_a_shrinking_one_underuse_and_a_standing_one_neither() {
        let mut trendline = Trendline::default();
        let at = run(&mut trendline, 60, 0, |_| 0);
        assert_eq!(trendline.usage(), Usage::Normal);
        // A tenth more than the path carries.
        let at = run(&mut trendline, 25, at, |_| 1_000);
        assert_eq!(trendline.usage(), Usage::Over);
        let at = run(&mut trendline, 60, at, |_| 0);
        assert_eq!(trendline.usage(), Usage::Normal);
        run(&mut trendline, 25, at, |_| -1_000);
        assert_eq!(trendline.usage(), Usage::Under);
    }

    #[test]
    fn overuse_is_noticed_within_a_third_of_a_second() {
        let mut trendline = Trendline::default();
        let mut at = run(&mut trendline, 60, 0, |_| 0);
        let mut groups = 0;
        while trendline.usage() != Usage::Over {
            at = run(&mut trendline, 1, at, |_| 1_000);
            groups += 1;
            assert!(groups < 33);
        }
    }

    #[test]
    fn jitter_without_a_trend_is_no_overuse() {
        let mut trendline = Trendline::default();
        let mut at = 0;
        for n in 0..2000usize {
            // Up and down by 3 ms.
            at = run(&mut trendline, 1, at, |_| if n.is_multiple_of(2) { 3_000 } else { -3_000 });
            assert_ne!(trendline.usage(), Usage::Over, "group {n}");
        }
    }

    #[test]
    fn draft_5_4_the_threshold_follows_slowly_and_stays_within_its_bounds() {
        let mut trendline = Trendline::default();
        let at = run(&mut trendline, 500, 0, |_| 0);
        assert_eq!(trendline.threshold, 6.0);
        // Another flow fills the queue: the threshold rises so that this one is not starved.
        run(&mut trendline, 100, at, |_| 500);
        assert!((10.0..13.0).contains(&trendline.threshold), "{}", trendline.threshold);
        assert_ne!(trendline.usage(), Usage::Under);
    }

    #[test]
    fn draft_5_4_what_exceeds_the_threshold_by_far_does_not_move_it() {
        let mut trendline = Trendline::default();
        trendline.adapt(0.0, 0.0);
        for (trend, threshold) in [(12.5 + 15.1, 12.5), (12.5 + 14.9, 12.5 + UP * 14.9 * 100.0)] {
            let at = trendline.adapted.unwrap() + 100.0;
            trendline.adapt(trend, at);
            assert!((trendline.threshold - threshold).abs() < 1e-9, "{}", trendline.threshold);
        }
    }
}
