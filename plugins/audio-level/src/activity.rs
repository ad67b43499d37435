//! How active a stream has been, over three spans of time: the local processing of Volfin and Cohen, "Dominant speaker
//! identification for multipoint videoconferencing", Computer Speech & Language 27 (2013).
//!
//! The paper counts active units within larger ones: sub-bands of a frame, frames of a block, blocks of a second. Audio
//! levels have no sub-bands, so here a frame has as many active bands as it has steps of loudness above the background.

use std::time::Duration;

use sandbar_sdk::Instant;

use crate::floor::Floor;
use crate::level::SILENCE;

/// A frame, which most packets of audio are.
const TICK: Duration = Duration::from_millis(20);
/// Bands of a frame, frames of a block and blocks of the longest span (the paper's N1, N2 and N3).
const BANDS: u8 = 13;
const FRAMES: u32 = 5;
const BLOCKS: u32 = 10;
/// Loudness above the background that makes a band active, in dB: 13 of them are what lies between whisper and shout.
const STEP: u8 = 3;
/// A frame with fewer active bands is no speech: where the score of its bands becomes positive.
const ACTIVE_BANDS: u8 = 4;
/// A block with fewer active frames is no speech.
const ACTIVE_FRAMES: u32 = 3;
/// Frames without a packet that still have the level of the last one: packets of up to 120 ms are usual, and one may be
/// lost. After that, no packet is silence (discontinuous transmission).
const HOLD: u8 = 6;

/// The tick in which an instant is.
#[inline]
pub(crate) fn tick(at: Instant) -> u64 {
    at.as_nanos() / TICK.as_nanos() as u64
}

/// How many ticks a span of time has.
pub(crate) fn ticks(span: Duration) -> u64 {
    (span.as_nanos() / TICK.as_nanos()) as u64
}

/// What a stream has done of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// The frame that has begun.
    pub(crate) tick: u64,
    /// The loudest level in it, in -dBov.
    current: Option<u8>,
    /// The level of the last frame that had packets, and for how many frames without it still counts.
    pub(crate) held: u8,
    pub(crate) hold: u8,
    /// Of past frames, whether they were active; the lowest bit is the latest.
    pub(crate) frames: u64,
    /// Active bands of the latest past frame.
    pub(crate) bands: u8,
    /// The tick at which it was last speech.
    pub(crate) spoke: u64,
    /// See [`Self::peak`].
    peak: u8,
    pub(crate) floor: Floor,
}

impl Activity {
    /// Of a stream that has been silent. Frames louder than `threshold`, in -dBov, can be speech.
    pub(crate) fn new(threshold: u8, tick: u64) -> Self {
        let floor = Floor::new(threshold.saturating_add(ACTIVE_BANDS * STEP).min(SILENCE));
        Self { tick, current: None, held: SILENCE, hold: 0, frames: 0, bands: 0, spoke: 0, peak: SILENCE, floor }
    }

    /// Takes on what another one has seen. What makes no sense in it is left out.
    pub(crate) fn resume(&mut self, other: &Self) {
        if other.tick > self.tick {
            return;
        }
        self.tick = other.tick;
        self.held = other.held.min(SILENCE);
        self.hold = other.hold.min(HOLD);
        self.frames = other.frames;
        self.bands = other.bands.min(BANDS);
        self.spoke = other.spoke.min(other.tick);
        self.floor.now = other.floor.now.min(SILENCE);
        self.floor.before = other.floor.before.min(SILENCE);
        self.floor.frames = other.floor.frames;
    }

    /// A packet with this level has arrived in this frame. A frame that is past is not changed any more.
    #[inline]
    pub(crate) fn observe(&mut self, level: u8, tick: u64) {
        self.advance(tick);
        self.current = Some(self.current.map_or(level, |loudest| loudest.min(level)));
    }

    /// Ends the frames before `tick`.
    #[inline]
    pub(crate) fn advance(&mut self, tick: u64) {
        while self.tick < tick && (self.current.is_some() || self.hold > 0) {
            self.end_frame();
        }
        if self.tick < tick {
            self.frames = u32::try_from(tick - self.tick).ok().and_then(|n| self.frames.checked_shl(n)).unwrap_or(0);
            self.bands = 0;
            self.tick = tick;
        }
    }

    fn end_frame(&mut self) {
        if let Some(level) = self.current.take() {
            self.held = level;
            self.hold = HOLD;
            self.floor.observe(level);
        } else {
            self.hold -= 1;
        }
        self.bands = (self.floor.above(self.held) / STEP).min(BANDS);
        self.frames = self.frames << 1 | u64::from(self.bands >= ACTIVE_BANDS);
        self.peak = self.peak.min(self.held);
        self.tick += 1;
        if self.active_frames(0) >= ACTIVE_FRAMES {
            self.spoke = self.tick;
        }
    }

    /// Whether nothing is known but silence.
    pub(crate) fn is_idle(&self) -> bool {
        self.frames == 0 && self.current.is_none() && self.hold == 0
    }

    /// The loudest level of past frames of this interval between decisions, in -dBov.
    pub(crate) fn peak(&self) -> u8 {
        self.peak
    }

    /// A decision has been made.
    pub(crate) fn begin_interval(&mut self) {
        self.peak = SILENCE;
    }

    /// The active frames of a block; block 0 is the latest.
    fn active_frames(&self, block: u32) -> u32 {
        let mask = (1 << FRAMES) - 1;
        (self.frames >> (block * FRAMES) & mask).count_ones()
    }

    /// The blocks of the longest span that were speech.
    pub(crate) fn active_blocks(&self) -> u32 {
        (0..BLOCKS).map(|block| u32::from(self.active_frames(block) >= ACTIVE_FRAMES)).sum()
    }

    /// How much more likely speech is than none, by each span.
    pub(crate) fn scores(&self) -> Scores {
        Scores {
            immediate: score(self.bands.into(), BANDS.into(), 0.78),
            medium: score(self.active_frames(0), FRAMES, 24.0),
            long: score(self.active_blocks(), BLOCKS, 47.0),
        }
    }
}

/// Speech activity scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scores {
    pub(crate) immediate: f64,
    pub(crate) medium: f64,
    pub(crate) long: f64,
}

impl Scores {
    /// Of nobody.
    pub(crate) const SILENT: Scores = Scores { immediate: LEAST, medium: LEAST, long: LEAST };
}

/// Scores are compared by their ratio, so they are positive.
const LEAST: f64 = 1e-10;

/// The speech activity score of the paper's section 3.2: the log likelihood ratio of `active` units out of `of` being
/// speech, of which each is active with a probability of a half (binomial), and being none (exponential, with `lambda`).
/// The rates are those of Jitsi's implementation, which mediasoup has taken over.
fn score(active: u32, of: u32, lambda: f64) -> f64 {
    let (n, k) = (f64::from(of), f64::from(active));
    let choices = (0..active).fold(1.0, |choices, i| choices * f64::from(of - i) / f64::from(i + 1));
    (choices.ln() + n * 0.5f64.ln() - lambda.ln() + lambda * k).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that begins at tick 1000.
    fn activity() -> Activity {
        Activity::new(50, 1000)
    }

    /// Frames of these levels, one after the other.
    fn heard(levels: impl IntoIterator<Item = u8>) -> Activity {
        let mut activity = activity();
        for (tick, level) in (1000..).zip(levels) {
            activity.observe(level, tick);
            activity.advance(tick + 1);
        }
        activity
    }

    #[test]
    fn volfin_cohen_3_2_the_score_is_a_log_likelihood_ratio() {
        // ln C(5, 3) + 5 ln 0.5 - ln 24 + 24 * 3
        let expected = 10f64.ln() - 5.0 * 2f64.ln() - 24f64.ln() + 72.0;
        assert!((score(3, 5, 24.0) - expected).abs() < 1e-9);
        assert!((score(13, 13, 0.78) - (0.78 * 13.0 - 13.0 * 2f64.ln() - 0.78f64.ln())).abs() < 1e-9);
    }

    #[test]
    fn volfin_cohen_3_2_frames_and_blocks_score_the_more_the_more_are_active() {
        for (of, lambda) in [(FRAMES, 24.0), (BLOCKS, 47.0)] {
            assert_eq!(score(0, of, lambda), LEAST);
            assert!((0..of).all(|active| score(active, of, lambda) < score(active + 1, of, lambda)));
        }
    }

    #[test]
    fn a_frame_is_active_where_the_score_of_its_bands_becomes_positive() {
        for bands in 0..=BANDS {
            assert_eq!(score(bands.into(), BANDS.into(), 0.78) > LEAST, bands >= ACTIVE_BANDS, "{bands}");
        }
    }

    #[test]
    fn what_is_louder_than_the_threshold_is_active() {
        assert_eq!((heard([50]).frames, heard([51]).frames), (1, 0));
        assert_eq!((heard([50]).bands, heard([0]).bands, heard([SILENCE]).bands), (4, BANDS, 0));
    }

    #[test]
    fn the_loudest_packet_of_a_frame_counts_and_a_past_frame_is_not_changed() {
        let mut activity = activity();
        activity.observe(60, 1000);
        activity.observe(30, 1000);
        activity.observe(70, 1000);
        activity.advance(1001);
        assert_eq!((activity.held, activity.bands), (30, 10));
        activity.observe(20, 999);
        assert_eq!(activity.tick, 1001);
        activity.advance(1002);
        assert_eq!(activity.frames, 0b11);
        activity.observe(40, 1002);
        activity.advance(1003);
        assert_eq!(activity.peak(), 20);
        activity.begin_interval();
        assert_eq!(activity.peak(), SILENCE);
    }

    #[test]
    fn blocks_with_most_frames_active_are_speech() {
        let pattern = |active: usize| heard((0..50).map(|n| if n % 5 < active { 30 } else { 80 }));
        let blocks: Vec<_> = (0..=5).map(|active| pattern(active).active_blocks()).collect();
        assert_eq!(blocks, [0, 0, 0, 10, 10, 10]);
        assert_eq!(heard([30; 5]).active_blocks(), 1);
        assert_eq!(heard([30; 2]).active_blocks(), 0);
        assert_eq!(heard([30; 200]).active_blocks(), 10);
    }

    #[test]
    fn packets_of_120_ms_leave_no_gap_and_what_is_longer_is_silence() {
        let mut activity = activity();
        for n in 0..10 {
            activity.observe(30, 1000 + 6 * n);
        }
        activity.advance(1060);
        assert_eq!((activity.active_blocks(), activity.bands), (10, 10));
        // The last packet's own frame ended at 1055, and six more are held.
        activity.advance(1061);
        assert_eq!(activity.frames & 0b11, 0b11);
        activity.advance(1062);
        assert_eq!((activity.frames & 0b11, activity.bands), (0b10, 0));
        assert!(!activity.is_idle());
        activity.advance(1061 + 64);
        assert!(activity.is_idle());
        assert_eq!(activity.spoke, 1061);
    }

    #[test]
    fn no_jump_of_time_takes_long() {
        let mut activity = heard([30; 100]);
        activity.observe(30, u64::MAX - 1);
        assert_eq!(activity.active_blocks(), 0);
        activity.advance(u64::MAX);
        assert_eq!(activity.frames, 1);
    }

    #[test]
    fn a_steady_noise_is_the_background_after_ten_seconds() {
        assert!(heard([45; 100]).active_blocks() > 0);
        let mut noise = heard([45; 600]);
        assert_eq!(noise.active_blocks(), 0);
        for tick in 1600..1650 {
            noise.observe(30, tick);
        }
        noise.advance(1650);
        assert_eq!(noise.active_blocks(), 10, "and speech above it is heard");
    }

    #[test]
    fn what_is_taken_on_is_made_sense_of() {
        let speech = heard([30; 50]);
        let mut activity = Activity::new(50, 2000);
        activity.resume(&speech);
        assert_eq!(activity, Activity { peak: SILENCE, ..speech });
        let nonsense = Activity { bands: 255, hold: 255, held: 255, spoke: u64::MAX, ..speech };
        activity.resume(&nonsense);
        assert_eq!((activity.bands, activity.hold, activity.held, activity.spoke), (BANDS, HOLD, SILENCE, speech.tick));
        let mut future = Activity::new(50, 1000);
        future.resume(&speech);
        assert_eq!(future, Activity::new(50, 1000));
    }
}
