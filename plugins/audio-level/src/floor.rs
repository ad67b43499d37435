//! How loud a stream's background is.

use crate::level::SILENCE;

/// Frames over which the quietest is looked for: 5 s of packets of 20 ms. Speech has pauses within a few of them.
const WINDOW: u16 = 250;
/// The background is never taken to be louder than this, in -dBov: who speaks without a pause must not become it.
const LOUDEST: u8 = 40;

/// The quietest level of this window and the one before, in -dBov, as minimum statistics have it (Martin, 2001).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) now: u8,
    pub(crate) before: u8,
    /// Frames of this window so far. Those without packets are none: who sends nothing while silent is not loud.
    pub(crate) frames: u16,
    /// The background is never taken to be quieter than this.
    quietest: u8,
}

impl Floor {
    /// A background that is quiet until it is known to be louder.
    pub(crate) fn new(quietest: u8) -> Self {
        Self { now: 0, before: SILENCE, frames: 0, quietest }
    }

    /// A frame has this level.
    pub(crate) fn observe(&mut self, level: u8) {
        if self.frames >= WINDOW {
            self.before = self.now;
            self.now = 0;
            self.frames = 0;
        }
        self.frames += 1;
        self.now = self.now.max(level);
    }

    /// How far above the background a level is, in dB.
    pub(crate) fn above(&self, level: u8) -> u8 {
        let background = self.now.max(self.before).clamp(LOUDEST.min(self.quietest), self.quietest);
        background.saturating_sub(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(levels: impl IntoIterator<Item = u8>) -> Floor {
        let mut floor = Floor::new(62);
        for level in levels {
            floor.observe(level);
        }
        floor
    }

    #[test]
    fn the_background_is_quiet_until_it_is_known_to_be_louder() {
        let above = [0, 1, 250, 251, 1000].map(|frames| heard(vec![45; frames]).above(45));
        assert_eq!(above, [17, 17, 17, 0, 0]);
    }

    #[test]
    fn a_quieter_frame_counts_at_once_and_for_at_least_a_window() {
        let then = |frames| heard([45; 800].into_iter().chain([55]).chain(vec![45; frames])).above(45);
        assert_eq!([0, 249, 448, 450].map(then), [10, 10, 10, 0]);
    }

    #[test]
    fn neither_silence_nor_speech_without_a_pause_moves_it_beyond_its_bounds() {
        assert_eq!(heard([SILENCE; 800]).above(20), 42);
        assert_eq!(heard([10; 800]).above(20), 20);
    }

    #[test]
    fn a_bound_that_is_louder_than_the_loudest_is_kept() {
        assert_eq!(Floor::new(32).above(20), 12);
    }
}
