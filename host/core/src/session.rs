//! Sessions, their streams and the members of their chains, as the shard keeps them.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use slotmap::{Key, new_key_type};
use smallvec::SmallVec;

use crate::chain::{Chain, MemberSpec};
use crate::fault::FaultCounts;
use crate::hops::{Hop, Hops};
use crate::instance::SessionInfo;
use crate::log::Log;
use crate::packet::{Kind, Packet};
use crate::rtcp::{RtcpMode, Speaker};
use crate::stream::StreamInfo;
use crate::tenant::Holdings;
use crate::time::Instant;
use crate::values::Values;

new_key_type! {
    /// A session of a shard. Never used twice.
    pub struct SessionId;
    /// A bound stream of a shard. Never used twice.
    pub struct StreamId;
    pub(crate) struct InstanceId;
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.data().as_ffi())
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.data().as_ffi())
    }
}

/// Whose a session is: see [`Shard::set_tenant`](crate::Shard::set_tenant). Sessions of different tenants never share an
/// instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TenantId(pub u32);

/// What becomes of bytes that are not RTP or RTCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Malformed {
    /// They are counted and go on as they are, past all plugins.
    Forward,
    /// They are counted and end here.
    #[default]
    Drop,
}

/// What makes a session.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// For people and logs.
    pub name: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The most bytes of a packet, without IP and UDP headers. Default 1200, which fits every path that WebRTC uses.
    pub mtu: u16,
    /// RTCP canonical name (RFC 3550, 6.5.1).
    pub cname: String,
    /// The SSRC under which this side sends RTCP. Default: from the seed.
    pub rtcp_ssrc: Option<u32>,
    /// How outgoing RTCP is packed.
    pub rtcp: RtcpMode,
    /// What becomes of bytes that are not RTP or RTCP.
    pub malformed: Malformed,
    /// What the session's random numbers come from. Draw it at random outside of tests.
    pub seed: u64,
    /// The plugins.
    pub chain: Chain,
}

impl Default for SessionSpec {
    fn default() -> Self {
        Self {
            name: "session".to_owned(),
            tenant: TenantId::default(),
            mtu: 1200,
            cname: "sandbar".to_owned(),
            rtcp_ssrc: None,
            rtcp: RtcpMode::default(),
            malformed: Malformed::default(),
            seed: 0,
            chain: Chain::default(),
        }
    }
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Direction {
    /// From the peer to the application.
    Read,
    /// From the application to the peer.
    Write,
}

impl Direction {
    /// The direction in which packets of a local or remote stream go.
    pub(crate) fn of_stream(local: bool) -> Self {
        if local { Self::Write } else { Self::Read }
    }
}

/// Which member of which session a seat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    /// The member's number in its session, which stays when its place in the chain changes.
    pub(crate) member: u32,
}

/// Where a member of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum MemberState {
    /// In an instance.
    Running {
        /// Whether other sessions of the tenant are in the same instance.
        shared: bool,
    },
    /// Between two instances: its shared one ended by another session's fault, and its next packet brings it another.
    Displaced,
    /// Failed, and its packets go on without it.
    Bypassed,
    /// Failed, and what it stood before is closed.
    Closed,
    /// Failed, and its packets go on without it until it is started again.
    Restarting,
}

/// One plugin of a session's chain.
#[derive(Debug)]
pub(crate) struct Member {
    /// See [`Owner::member`].
    pub(crate) number: u32,
    pub(crate) spec: Arc<MemberSpec>,
    pub(crate) state: MemberState,
    pub(crate) instance: InstanceId,
    pub(crate) seat: u32,
    /// Packets of streams that have been unbound.
    pub(crate) past: Counts,
    pub(crate) faults: FaultCounts,
    /// Faults since it last ran well, for the pause before the next restart.
    pub(crate) failures: u32,
    pub(crate) seated_at: Instant,
    /// It was found guilty in a shared instance and gets its own from then on.
    pub(crate) alone: bool,
    /// The fault that it is watched for, alone, until the guilty session has been found.
    pub(crate) incident: Option<u64>,
    /// What its last instance saved for the next.
    pub(crate) saved: Option<Vec<u8>>,
}

impl Member {
    pub(crate) fn new(number: u32, spec: MemberSpec) -> Self {
        Self {
            number,
            spec: Arc::new(spec),
            state: MemberState::Displaced,
            instance: InstanceId::default(),
            seat: 0,
            past: Counts::default(),
            faults: FaultCounts::default(),
            failures: 0,
            seated_at: Instant::ZERO,
            alone: false,
            incident: None,
            saved: None,
        }
    }

    pub(crate) fn running(&self) -> bool {
        matches!(self.state, MemberState::Running { .. })
    }
}

/// Packets that came to a member, and those that it let go no further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) dropped: u64,
}

impl From<&Hop> for Counts {
    fn from(hop: &Hop) -> Self {
        Self { packets: hop.packets, dropped: hop.dropped }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.dropped += more.dropped;
    }
}

/// Packets of a session, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionCounts {
    /// From the peer.
    pub read: u64,
    /// To the application.
    pub delivered: u64,
    /// From the application.
    pub written: u64,
    /// To the peer.
    pub sent: u64,
    /// Not RTP or RTCP, in either direction.
    pub malformed: u64,
    /// Retransmissions unwrapped (RFC 4588).
    pub unwrapped: u64,
}

/// A session of the shard. Laid out as it is written: where there are many, little of them is in the processor's cache, so what one
/// packet asks for lies together, and what a plugin's feedback asks for.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Session {
    /// Streams by the SSRCs of themselves and their companions, sorted.
    pub(crate) remote: Sources,
    pub(crate) counts: SessionCounts,
    /// Headers that members which follow are still to be shown.
    pub(crate) log: Log,
    pub(crate) local: Sources,
    /// RTCP that waits for the end of the tick.
    pub(crate) rtcp_out: SmallVec<[Bytes; 1]>,
    pub(crate) speaker: Speaker,
    /// What members do with RTCP, in each direction, and with packets of SSRCs that no stream has. Those are few, so that what each
    /// packet asks for is not far apart.
    pub(crate) rtcp: [Hops; 2],
    /// Of each member, in the same order as `members`, what packets of its own ask for.
    pub(crate) places: SmallVec<[Place; 8]>,
    pub(crate) members: Vec<Member>,
    pub(crate) next_member: u32,
    pub(crate) unbound: Box<[Hops; 2]>,
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    /// The session itself, of its tenant's.
    pub(crate) holdings: Holdings,
    pub(crate) malformed: Malformed,
    pub(crate) info: SessionInfo,
    /// State of the host's own random numbers for this session.
    pub(crate) random: u64,
    /// When it was last told that its peer sends what cannot be read.
    pub(crate) told_malformed: Option<Instant>,
    /// What members of the chain and the application have set for all members to read.
    pub(crate) values: Values,
}

/// A member's place in its session's chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    number: u32,
    /// The member's, here as packets ask for it.
    pub(crate) instance: InstanceId,
    /// Packets of its own, whoever had the place.
    pub(crate) emitted: u64,
}

/// An SSRC and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) ssrc: u32,
    pub(crate) stream: StreamId,
    /// The payload type of retransmissions (RFC 4588), if those come under this SSRC.
    pub(crate) retransmissions: Option<u8>,
}

/// A stream has one to three.
pub(crate) type Sources = SmallVec<[Source; 3]>;

impl Session {
    pub(crate) fn by_ssrc(&mut self, local: bool) -> &mut Sources {
        if local { &mut self.local } else { &mut self.remote }
    }

    /// Whose packets with this SSRC are.
    #[inline]
    pub(crate) fn source(&self, direction: Direction, ssrc: u32) -> Option<&Source> {
        let list = match direction {
            Direction::Read => &self.remote,
            Direction::Write => &self.local,
        };
        list.binary_search_by_key(&ssrc, |known| known.ssrc).ok().map(|at| &list[at])
    }

    /// What members do with a packet that is no stream's.
    pub(crate) fn hops(&mut self, direction: Direction, packet: &Packet) -> &mut Hops {
        self.log_and_hops(direction, packet).1
    }

    /// The same, and the log.
    #[inline]
    pub(crate) fn log_and_hops(&mut self, direction: Direction, packet: &Packet) -> (&mut Log, &mut Hops) {
        let hops = if let Packet::Rtcp(_) = packet { &mut self.rtcp } else { &mut *self.unbound };
        (&mut self.log, &mut hops[direction as usize])
    }

    /// The same of all packets that are no stream's.
    pub(crate) fn own_hops(&self) -> impl Iterator<Item = &Hops> {
        self.rtcp.iter().chain(self.unbound.iter())
    }

    pub(crate) fn own_hops_mut(&mut self) -> impl Iterator<Item = &mut Hops> {
        self.rtcp.iter_mut().chain(self.unbound.iter_mut())
    }

    /// Looks at what feedback of its members will ask for.
    #[inline]
    pub(crate) fn warm(&self) {
        self.log.warm();
        black_box((self.rtcp_out.len(), self.places.len(), self.rtcp[Direction::Write as usize].len()));
    }

    /// Has RTCP wait for the end of the tick, when all of it is merged, for those who have some.
    #[inline]
    pub(crate) fn speak(&mut self, id: SessionId, bytes: Bytes, talkers: &mut Vec<SessionId>) {
        if self.rtcp_out.is_empty() {
            talkers.push(id);
        }
        self.rtcp_out.push(bytes);
    }

    /// Counts bytes that are not what they were said to be. The answer is what goes on, past all members, if it may.
    pub(crate) fn malformed(&mut self, kind: Kind, bytes: Bytes) -> Option<Packet> {
        self.counts.malformed += 1;
        (self.malformed == Malformed::Forward).then_some(Packet::Malformed(kind, bytes))
    }

    /// The number of a stream in instances that others share, or in those that do not, if it is in one.
    pub(crate) fn handle(&self, stream: &Stream, shared: bool) -> u32 {
        let of = self.members.iter().enumerate().filter(|(_, member)| member.state == MemberState::Running { shared });
        let handles = of.filter_map(|(index, _)| Some(stream.hops.get(index)?.handle));
        handles.max().unwrap_or_default()
    }

    /// Gives a member its place in an instance.
    pub(crate) fn seat_member(&mut self, index: usize, instance: InstanceId, seat: u32, now: Instant) {
        let (Some(member), Some(place)) = (self.members.get_mut(index), self.places.get_mut(index)) else { return };
        (member.instance, member.seat, member.seated_at, member.saved) = (instance, seat, now, None);
        place.instance = instance;
        self.log.set_patient(index, false);
    }

    /// The number of the next member to come.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.next_member += 1;
        self.next_member - 1
    }

    pub(crate) fn insert_member(&mut self, index: usize, member: Member) {
        self.places.insert(index, Place { number: member.number, instance: member.instance, emitted: 0 });
        self.members.insert(index, member);
        self.log.insert_member(index);
    }

    pub(crate) fn remove_member(&mut self, index: usize) {
        self.places.remove(index);
        self.members.remove(index);
        self.log.remove_member(index);
    }

    /// Puts a member in another's place. What has come this far was counted for this place in the chain, whoever had it.
    pub(crate) fn replace_member(&mut self, index: usize, member: Member) {
        self.places[index].number = member.number;
        let Member { past, faults, .. } = self.members[index];
        self.members[index] = Member { past, faults, ..member };
    }

    /// Where the member with this number is.
    #[inline]
    pub(crate) fn member(&self, number: u32) -> Option<usize> {
        // As long as the chain has not changed they are numbered by their places.
        let place = number as usize;
        let is = |place: &Place| place.number == number;
        if self.places.get(place).is_some_and(is) { Some(place) } else { self.places.iter().position(is) }
    }
}

/// A bound stream of the shard.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) session: SessionId,
    pub(crate) local: bool,
    pub(crate) info: Arc<StreamInfo>,
    pub(crate) hops: Hops,
}
