//! What each member of a chain does with the packets of one stream.

use smallvec::SmallVec;

use crate::binding::{Access, View};
use crate::burst::behind;
use crate::packet::Fixed;
use crate::session::{Counts, Direction, InstanceId};

/// What happens to a packet at a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// It goes by.
    #[default]
    Pass,
    Observe(View),
    /// As one that observes headers, where it is not shown them later with others of its session.
    Follow,
    /// The host puts this header extension on it.
    Stamp(u8),
    Transform(View),
    /// It ends here: the member failed, and what it stood before stays closed.
    Closed,
    /// It goes by once the member has been seated again.
    Revive,
}

impl From<Access> for Action {
    fn from(access: Access) -> Self {
        match access {
            Access::Pass => Self::Pass,
            Access::Observe(view) => Self::Observe(view),
            Access::Follow => Self::Follow,
            Access::Stamp(id) => Self::Stamp(id),
            Access::Transform(view) => Self::Transform(view),
        }
    }
}

/// What a member does with the packets of one stream, or with RTCP in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hop {
    pub(crate) action: Action,
    /// The member keeps a history of this stream.
    pub(crate) history: bool,
    /// The member wants to see packets of unknown SSRCs under this stream's id.
    pub(crate) unbound: bool,
    /// The member last changed these packets, or could.
    pub(crate) guarded: bool,
    pub(crate) instance: InstanceId,
    /// The stream or session as the instance knows it.
    pub(crate) handle: u32,
    pub(crate) packets: u64,
    pub(crate) dropped: u64,
}

impl Hop {
    /// Takes on another action and keeps the counts.
    pub(crate) fn become_(&mut self, action: Action, history: bool, instance: InstanceId, handle: u32) {
        let guarded = match action {
            Action::Pass | Action::Observe(_) | Action::Follow => false,
            Action::Stamp(_) | Action::Transform(_) => true,
            Action::Closed | Action::Revive => self.guarded,
        };
        *self = Self { action, history, guarded, instance, handle, ..*self };
    }

    /// Whether packets do not simply go by.
    fn stops(&self) -> bool {
        self.action != Action::Pass || self.history
    }
}

/// Most members of a chain: one bit each.
pub(crate) const MAX_MEMBERS: usize = 64;

/// Members next to each other, but for those who pass, that follow a stream and are shown the same frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Crowd {
    /// A bit for each of these members.
    pub(crate) members: u64,
    /// The first and the last that a packet comes to.
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// The stream as all of their instances know it.
    pub(crate) handle: u32,
    /// The stream's own.
    pub(crate) ssrc: u32,
    /// The number that follows the stream's last packet.
    pub(crate) next: Option<u16>,
    /// Packets that they were shown together, each of them.
    pub(crate) packets: u64,
}

impl Crowd {
    /// Whether a packet tells of no loss: it follows its stream's last one, or is a companion's.
    #[inline]
    pub(crate) fn is_in_order(&mut self, header: &[u8], repaired: bool) -> bool {
        let fixed = Fixed(header);
        if fixed.ssrc() != self.ssrc {
            return true;
        }
        let number = fixed.sequence_number();
        let follows = self.next == Some(number);
        if !repaired {
            self.next = Some(number.wrapping_add(1));
        }
        follows && !repaired
    }
}

/// The hops of one stream, in the chain's order, and which of them do anything.
#[derive(Debug)]
pub(crate) struct Hops {
    /// A bit per member at which packets do not simply go by, so that those who pass cost nothing.
    busy: u64,
    /// Whether the crowd is still to be found, as a hop has changed.
    pub(crate) stale: bool,
    pub(crate) crowd: Crowd,
    /// As many here as chains mostly have members: elsewhere they would be far from what else a packet asks for.
    list: SmallVec<[Hop; 8]>,
}

impl Hops {
    /// At `members` members, all of which pass.
    pub(crate) fn new(members: usize) -> Self {
        Self { busy: 0, stale: false, crowd: Crowd::default(), list: SmallVec::from_elem(Hop::default(), members) }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Hop> {
        self.list.get(index)
    }

    /// To count packets; what a hop does is changed with [`change`](Self::change).
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Hop> {
        self.list.get_mut(index)
    }

    /// Packets that came to a member, and what it let go no further.
    pub(crate) fn counts(&self, index: usize) -> Counts {
        let Some(hop) = self.list.get(index) else { return Counts::default() };
        let together = if self.crowd.members & 1 << index != 0 { self.crowd.packets } else { 0 };
        Counts { packets: hop.packets + together, ..Counts::from(hop) }
    }

    /// Takes another crowd, or none, as its members are no longer those next to each other.
    pub(crate) fn set_crowd(&mut self, crowd: Crowd) {
        self.scatter();
        self.crowd = crowd;
        self.stale = false;
    }

    /// Leaves each of the crowd on its own.
    fn scatter(&mut self) {
        let Crowd { members, packets, .. } = std::mem::take(&mut self.crowd);
        for (_, hop) in self.list.iter_mut().enumerate().filter(|(index, _)| members & 1 << index != 0) {
            hop.packets += packets;
        }
        self.stale = true;
    }

    /// Changes what a member does with the stream.
    pub(crate) fn change(&mut self, index: usize, change: impl FnOnce(&mut Hop)) {
        self.scatter();
        let Some(hop) = self.list.get_mut(index) else { return };
        change(hop);
        let bit = 1 << index;
        self.busy = if hop.stops() { self.busy | bit } else { self.busy & !bit };
    }

    /// Makes room for a member at `index`, which passes.
    pub(crate) fn insert(&mut self, index: usize) {
        self.scatter();
        self.list.insert(index, Hop::default());
        self.recount();
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.scatter();
        self.list.remove(index);
        self.recount();
    }

    /// Reads of each busy hop what a packet will ask of it. Of those of a crowd it asks nothing.
    #[inline]
    pub(crate) fn warm(&self) {
        let mut busy = self.busy & !self.crowd.members;
        while busy != 0 {
            let hop = self.list.get(busy.trailing_zeros() as usize);
            std::hint::black_box(hop.map(|hop| hop.packets));
            busy &= busy - 1;
        }
    }

    fn recount(&mut self) {
        self.busy = self.list.iter().enumerate().filter(|(_, hop)| hop.stops()).fold(0, |busy, (at, _)| busy | 1 << at);
    }

    /// The members that do anything with a packet, in the order in which it comes to them.
    pub(crate) fn busy(&self, direction: Direction) -> impl Iterator<Item = (u16, &Hop)> {
        let mut next = if direction == Direction::Read { 0 } else { self.list.len() as u16 };
        std::iter::from_fn(move || {
            let member = self.ahead(direction, next)?;
            next = behind(direction, member);
            Some((member, self.list.get(usize::from(member))?))
        })
    }

    /// The next member that does anything with a packet that stands at `next` (see [`Slot::next`](crate::burst::Slot)).
    #[inline]
    pub(crate) fn ahead(&self, direction: Direction, next: u16) -> Option<u16> {
        match direction {
            Direction::Read => {
                let ahead = self.busy & u64::MAX.checked_shl(next.into()).unwrap_or(0);
                (ahead != 0).then(|| ahead.trailing_zeros() as u16)
            }
            Direction::Write => {
                let ahead = self.busy & !u64::MAX.checked_shl(next.into()).unwrap_or(0);
                (ahead != 0).then(|| 63 - ahead.leading_zeros() as u16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(busy: &[usize]) -> Hops {
        let mut hops = Hops::new(MAX_MEMBERS);
        for index in busy {
            hops.change(*index, |hop| hop.action = Action::Observe(View::Headers));
        }
        hops
    }

    #[test]
    fn those_who_pass_are_not_stopped_at() {
        let hops = hops(&[0, 5, 63]);
        let walk = |direction, from| {
            let mut next: u16 = from;
            std::iter::from_fn(|| {
                let member = hops.ahead(direction, next)?;
                next = if direction == Direction::Read { member + 1 } else { member };
                Some(member)
            })
            .collect::<Vec<_>>()
        };
        assert_eq!(walk(Direction::Read, 0), [0, 5, 63]);
        assert_eq!(walk(Direction::Read, 1), [5, 63]);
        assert_eq!(walk(Direction::Read, 64), [0; 0]);
        assert_eq!(walk(Direction::Write, 64), [63, 5, 0]);
        assert_eq!(walk(Direction::Write, 5), [0]);
        assert_eq!(walk(Direction::Write, 0), [0; 0]);
    }

    #[test]
    fn a_packet_is_in_order_that_follows_the_last_one_of_its_stream_or_is_a_companions() {
        let mut crowd = Crowd { ssrc: 7, ..Crowd::default() };
        let mut in_order = |ssrc: u8, number: u16, repaired| {
            let [high, low] = number.to_be_bytes();
            crowd.is_in_order(&[0x80, 96, high, low, 0, 0, 0, 0, 0, 0, 0, ssrc], repaired)
        };
        assert!(!in_order(7, 65_534, false), "the first");
        assert!(in_order(7, 65_535, false) && in_order(7, 0, false));
        assert!(in_order(8, 5000, false) && in_order(7, 1, false), "between them one of a companion");
        assert!(!in_order(7, 3, false) && in_order(7, 4, false), "a gap");
        assert!(!in_order(7, 2, true) && in_order(7, 5, false), "what was lost has come back");
        assert!(!in_order(7, 6, true), "also where it would follow");
        assert!(!in_order(7, 5, false) && in_order(7, 6, false), "double");
    }

    #[test]
    fn members_come_and_go() {
        let mut hops = Hops::new(2);
        hops.change(1, |hop| hop.history = true);
        hops.insert(0);
        assert_eq!(hops.ahead(Direction::Read, 0), Some(2));
        hops.remove(2);
        assert_eq!(hops.ahead(Direction::Read, 0), None);
        hops.change(0, |hop| hop.action = Action::Closed);
        hops.change(0, |hop| hop.action = Action::Pass);
        assert_eq!(hops.ahead(Direction::Write, 2), None);
    }
}
