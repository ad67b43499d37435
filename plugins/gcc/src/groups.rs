//! Packets that left together, and how much further apart they arrived than they left (draft-ietf-rmcat-gcc-02, 5.2 and
//! 5.3). Times are in microseconds, of sending by this host's clock and of arrival by the peer's.

/// Packets sent within this time are one group (5.2: burst_time).
const BURST: i64 = 5_000;
/// A group that goes on for longer was not one burst.
const LONGEST: i64 = 100_000;
/// Arrivals further apart than this are of another clock, or of another time.
const GAP: i64 = 3_000_000;

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrived: i64,
    last_arrived: i64,
}

/// From one group to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// How much later it left.
    pub(crate) sent: i64,
    /// How much later it arrived.
    pub(crate) arrived: i64,
    /// When it had arrived.
    pub(crate) at: i64,
}

/// The group that packets are added to, and the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Groups {
    current: Option<Group>,
    previous: Option<Group>,
}

impl Groups {
    /// A packet that arrived, in the order of sending. The first packet of a group brings the step to the group before.
    pub(crate) fn add(&mut self, sent: i64, arrived: i64) -> Option<Step> {
        let Some(group) = &mut self.current else {
            self.current = Some(Group::of(sent, arrived));
            return None;
        };
        if (arrived - group.last_arrived).abs() > GAP {
            *self = Self { current: Some(Group::of(sent, arrived)), previous: None };
            return None;
        }
        if sent < group.first_sent {
            // Overtaken on its way: of a group that has been measured.
            return None;
        }
        if group.takes(sent, arrived) {
            group.last_sent = group.last_sent.max(sent);
            group.last_arrived = group.last_arrived.max(arrived);
            return None;
        }
        let complete = *group;
        let step = self.previous.map(|previous| Step {
            sent: complete.last_sent - previous.last_sent,
            arrived: complete.last_arrived - previous.last_arrived,
            at: complete.last_arrived,
        });
        self.previous = Some(complete);
        self.current = Some(Group::of(sent, arrived));
        // Groups that arrive in another order say nothing of queues.
        step.filter(|step| step.arrived >= 0)
    }

    /// What comes next is not compared with what came so far.
    pub(crate) fn cut(&mut self) {
        *self = Self::default();
    }
}

impl Group {
    fn of(sent: i64, arrived: i64) -> Self {
        Self { first_sent: sent, last_sent: sent, first_arrived: arrived, last_arrived: arrived }
    }

    /// Whether a packet belongs to the group: sent in the same burst, or arrived in one while the path lets go what it
    /// had held back.
    fn takes(&self, sent: i64, arrived: i64) -> bool {
        if sent - self.first_sent <= BURST {
            return true;
        }
        let apart = arrived - self.last_arrived;
        let variation = apart - (sent - self.last_sent);
        variation < 0 && apart <= BURST && arrived - self.first_arrived < LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(packets: &[(i64, i64)]) -> Vec<Step> {
        let mut groups = Groups::default();
        packets.iter().filter_map(|(sent, arrived)| groups.add(*sent, *arrived)).collect()
    }

    #[test]
    fn a_burst_is_one_group_and_groups_are_compared_by_their_last_packets() {
        let found = steps(&[
            (0, 50_000),
            (4_000, 53_000),
            (10_000, 60_000),
            (11_000, 66_000),
            (20_000, 74_000),
            (30_000, 84_000),
        ]);
        assert_eq!(
            found,
            [Step { sent: 7_000, arrived: 13_000, at: 66_000 }, Step { sent: 9_000, arrived: 8_000, at: 74_000 }]
        );
    }

    #[test]
    fn what_the_path_lets_go_at_once_is_one_group() {
        // Held back until 100,000, then 1 ms apart.
        let found = steps(&[
            (0, 10_000),
            (10_000, 100_000),
            (20_000, 101_000),
            (30_000, 102_000),
            (60_000, 130_000),
            (90_000, 160_000),
        ]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Step { sent: 30_000, arrived: 92_000, at: 102_000 });
    }

    #[test]
    fn packets_that_were_overtaken_are_left_out() {
        let found =
            steps(&[(0, 0), (10_000, 10_000), (20_000, 20_000), (9_000, 21_000), (30_000, 30_000), (40_000, 40_000)]);
        assert!(found.iter().all(|step| step.sent == 10_000 && step.arrived == 10_000), "{found:?}");
    }

    #[test]
    fn another_clock_or_time_begins_anew() {
        let found = steps(&[(0, 0), (10_000, 10_000), (20_000, 9_000_000), (30_000, 9_010_000), (40_000, 9_020_000)]);
        assert_eq!(found, [Step { sent: 10_000, arrived: 10_000, at: 9_010_000 }]);
    }
}
