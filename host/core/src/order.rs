//! Where plugins stand in a chain, which orders defeat them, and which one serves.

use serde::Serialize;

/// A plugin's station in a chain, in order from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Remembers what was sent, for congestion control.
    SendHistory,
    /// Numbers what is sent.
    Numbering,
    /// Decides when packets are sent.
    Pacing,
    /// Answers requests for lost packets.
    Retransmission,
    /// Adds repair packets.
    RepairEncoding,
    /// Tells the peer when packets arrived, repair packets too.
    ArrivalFeedback,
    /// Restores lost packets from repair packets.
    RepairDecoding,
    /// Asks for lost packets.
    LossDetection,
    /// RTCP sender and receiver reports.
    Reports,
    /// Requests to the peer's encoder.
    EncoderRequests,
    /// Puts packets in order for playout.
    Playout,
    /// Works anywhere.
    Anywhere,
}

impl Place {
    /// What goes wrong where this station is closer to the wire than `far`, if anything does. Many pairs work either way.
    fn defeats(self, far: Self) -> Option<&'static str> {
        use Place::*;
        Some(match (self, far) {
            // Written packets pass `far` first.
            (Numbering, SendHistory) => "packets are remembered before they have their numbers",
            (Pacing, SendHistory) => "packets are remembered before they are held, not when they are sent",
            (Retransmission | RepairEncoding, SendHistory) => "what is added closer to the wire is not remembered",
            (Pacing, Numbering) => "packets are numbered before they are held, in another order than they are sent in",
            (Retransmission | RepairEncoding, Numbering) => "what is added closer to the wire leaves unnumbered",
            (Retransmission | RepairEncoding, Pacing) => "what is added closer to the wire is not paced",
            // Packets from the peer pass `self` first.
            (RepairDecoding, ArrivalFeedback) => {
                "repair packets end before their arrival is seen: the peer is told of loss"
            }
            (LossDetection, RepairDecoding) => {
                "losses are asked for that repair restores, and it is never seen that it did"
            }
            (Playout, ArrivalFeedback) => "the peer is told when packets are played, not when they arrived",
            (Playout, Reports) => "jitter is reported of playout, not of arrivals",
            (Playout, LossDetection) => "losses are found when packets are played, too late to ask for them",
            (Playout, RepairDecoding) => "what is restored comes after its turn to be played",
            _ => return None,
        })
    }
}

/// The pairs in this order from the wire that defeat each other: the place closer to the wire, the one farther out, and what
/// goes wrong.
pub(crate) fn conflicts(places: &[Place]) -> impl Iterator<Item = (usize, usize, &'static str)> {
    let farther = |near: usize| (near + 1..places.len()).map(move |far| (near, far));
    let pairs = (0..places.len()).flat_map(farther);
    pairs.filter_map(|(near, far)| Some((near, far, places[near].defeats(places[far])?)))
}

/// An order from the wire in which nobody is defeated: the indices of these places, sorted by station. Those of one station
/// keep their order, and who works anywhere stays behind whom it was given behind.
pub fn proposed_order(places: &[Place]) -> Vec<usize> {
    let mut groups: Vec<(Option<Place>, Vec<usize>)> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        match groups.last_mut() {
            Some((_, group)) if *place == Place::Anywhere => group.push(index),
            _ => groups.push((Some(*place).filter(|place| *place != Place::Anywhere), vec![index])),
        }
    }
    // `None`, of those given before all others, sorts first.
    groups.sort_by_key(|(place, _)| *place);
    groups.into_iter().flat_map(|(_, group)| group).collect()
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = format!("{self:?}");
        for (at, letter) in name.char_indices() {
            let separator = if at > 0 && letter.is_uppercase() { "-" } else { "" };
            write!(f, "{separator}{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Place::*;
    use super::*;

    const ALL: [Place; 11] = [
        SendHistory,
        Numbering,
        Pacing,
        Retransmission,
        RepairEncoding,
        ArrivalFeedback,
        RepairDecoding,
        LossDetection,
        Reports,
        EncoderRequests,
        Playout,
    ];

    #[test]
    fn the_stations_own_order_defeats_nobody() {
        assert_eq!(conflicts(&ALL).count(), 0);
    }

    #[test]
    fn those_who_defeat_each_other_are_named_once_also_across_others() {
        let found: Vec<_> = conflicts(&[LossDetection, Reports, RepairDecoding]).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1), (0, 2));
        let found = conflicts(&[Playout, RepairDecoding, ArrivalFeedback]).map(|(near, far, _)| (near, far));
        assert_eq!(found.collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 2)]);
        // Reports may stand on either side of who asks for lost packets.
        assert_eq!(conflicts(&[Reports, LossDetection]).count(), 0);
    }

    #[test]
    fn the_proposed_order_defeats_nobody_and_keeps_what_it_can() {
        let given = [Anywhere, Playout, Anywhere, LossDetection, Numbering, Anywhere, Anywhere, LossDetection, Pacing];
        let order = proposed_order(&given);
        assert_eq!(order, [0, 4, 5, 6, 8, 3, 7, 1, 2]);
        // Every order of all stations is mended, and one that serves stays.
        let mut places = ALL;
        for seed in 0..500usize {
            places.rotate_left(seed % 7 + 1);
            places[seed % 3..].reverse();
            let ordered: Vec<_> = proposed_order(&places).into_iter().map(|index| places[index]).collect();
            assert_eq!(ordered, ALL, "{places:?}");
        }
        assert_eq!(proposed_order(&ALL), (0..ALL.len()).collect::<Vec<_>>());
    }

    #[test]
    fn places_are_called_as_in_the_contract() {
        assert_eq!((ArrivalFeedback.to_string(), Playout.to_string()), ("arrival-feedback".into(), "playout".into()));
    }
}
