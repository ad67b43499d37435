//! Who speaks: the global decision of Volfin and Cohen (see [`crate::activity`]), section 3.3.

use crate::activity::{Activity, Scores};

/// By how much, as the logarithm of a ratio, another one's scores have to exceed the speaker's, over each span. The values
/// are those of Jitsi's implementation, which mediasoup has taken over. They come to this: the speaker is silent in the
/// latest frame and block, and has spoken less of the last second than the other one.
const IMMEDIATE: f64 = 3.0;
const MEDIUM: f64 = 2.0;
const LONG: f64 = 0.0;
/// Blocks of speech in the last second that make somebody a speaker: a click or a cough has fewer.
const ONSET: u32 = 3;

/// The place of the one who takes over from the speaker, if somebody does. Of several it is the one whose medium score
/// exceeds the speaker's most, then the long and the immediate one, then the first. Nobody speaks where there is no
/// speaker.
pub(crate) fn contender<'a>(
    speaker: Option<&Activity>,
    others: impl Iterator<Item = (usize, &'a Activity)>,
) -> Option<usize> {
    let speaker = speaker.map_or(Scores::SILENT, Activity::scores);
    let mut best: Option<(usize, [f64; 3])> = None;
    for (place, activity) in others.filter(|(_, activity)| activity.active_blocks() >= ONSET) {
        let scores = activity.scores();
        let immediate = (scores.immediate / speaker.immediate).ln();
        let medium = (scores.medium / speaker.medium).ln();
        let long = (scores.long / speaker.long).ln();
        let claim = [medium, long, immediate];
        let beats = immediate > IMMEDIATE && medium > MEDIUM && long > LONG;
        if beats && best.is_none_or(|(_, best)| claim > best) {
            best = Some((place, claim));
        }
    }
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEECH: u8 = 30;
    const QUIET: u8 = 90;

    /// Who has had these levels, frame by frame up to now.
    fn heard(levels: &[(u8, usize)]) -> Activity {
        let mut activity = Activity::new(50, 0);
        for (tick, level) in levels.iter().flat_map(|(level, count)| vec![*level; *count]).enumerate() {
            activity.observe(level, tick as u64);
            activity.advance(tick as u64 + 1);
        }
        activity
    }

    /// Who of these takes over.
    fn takes_over(speaker: Option<&Activity>, others: &[Activity]) -> Option<usize> {
        contender(speaker, others.iter().enumerate())
    }

    #[test]
    fn who_speaks_for_300_ms_becomes_the_speaker_where_there_is_none() {
        for (frames, expected) in [(3, None), (12, None), (13, Some(0)), (50, Some(0))] {
            assert_eq!(takes_over(None, &[heard(&[(QUIET, 50), (SPEECH, frames)])]), expected, "{frames}");
        }
        assert_eq!(takes_over(None, &[heard(&[(QUIET, 50)])]), None);
    }

    #[test]
    fn volfin_cohen_3_3_who_still_speaks_is_not_interrupted() {
        let speaker = heard(&[(SPEECH, 100)]);
        let louder = heard(&[(10, 100)]);
        assert_eq!(takes_over(Some(&speaker), &[louder]), None);
        // A moment's pause of the speaker: he has spoken as much as the other one.
        let pausing = heard(&[(SPEECH, 95), (QUIET, 5)]);
        assert_eq!(takes_over(Some(&pausing), &[heard(&[(QUIET, 55), (SPEECH, 45)])]), None);
    }

    #[test]
    fn volfin_cohen_3_3_who_has_spoken_more_of_the_last_second_takes_over_in_a_pause() {
        let after = |frames: usize| {
            let speaker = heard(&[(SPEECH, 100), (QUIET, frames)]);
            takes_over(Some(&speaker), &[heard(&[(QUIET, 100), (SPEECH, frames)])])
        };
        let first = (0..50).find(|frames| after(*frames).is_some()).unwrap();
        assert!((25..=30).contains(&first), "{first}");
        assert!((first..50).all(|frames| after(frames) == Some(0)));
    }

    #[test]
    fn volfin_cohen_3_3_the_end_of_a_syllable_is_no_pause() {
        // He has only begun, and the other one has long spoken.
        let speaker = heard(&[(QUIET, 100), (SPEECH, 4), (QUIET, 1)]);
        assert_eq!(takes_over(Some(&speaker), &[heard(&[(SPEECH, 105)])]), None);
        let speaker = heard(&[(QUIET, 100), (SPEECH, 4), (QUIET, 5)]);
        assert_eq!(takes_over(Some(&speaker), &[heard(&[(SPEECH, 109)])]), Some(0));
    }

    #[test]
    fn an_interjection_does_not_take_over() {
        // 400 ms of agreement while the speaker breathes.
        let speaker = heard(&[(SPEECH, 100), (QUIET, 20)]);
        assert_eq!(takes_over(Some(&speaker), &[heard(&[(QUIET, 100), (SPEECH, 20)])]), None);
        // And a click when he has long been silent.
        let silent = heard(&[(SPEECH, 100), (QUIET, 80)]);
        assert_eq!(takes_over(Some(&silent), &[heard(&[(QUIET, 175), (SPEECH, 5)])]), None);
    }

    #[test]
    fn of_several_the_most_active_takes_over_and_of_equals_the_first() {
        let some = heard(&[(QUIET, 20), (SPEECH, 28), (QUIET, 1), (SPEECH, 1)]);
        let more = heard(&[(SPEECH, 50)]);
        assert_eq!(takes_over(None, &[some, more, more]), Some(1));
        let silent = heard(&[(QUIET, 50)]);
        assert_eq!(takes_over(Some(&silent), &[silent, some, heard(&[(QUIET, 40), (SPEECH, 10)])]), Some(1));
    }

    #[test]
    fn who_has_stopped_does_not_take_over() {
        let stopped = heard(&[(SPEECH, 49), (QUIET, 1)]);
        assert_eq!(takes_over(None, &[stopped]), None);
    }
}
