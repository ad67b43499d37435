//! What a session and its plugins have done, for people and machines.

use serde::Serialize;

use crate::attributes::Value;
use crate::chain::Isolation;
use crate::fault::FaultCounts;
use crate::guest::Metric;
use crate::history::History;
use crate::plugin::Digest;
use crate::session::{Counts, MemberState, SessionCounts, SessionId, TenantId};
use crate::shard::Shard;
use crate::sink::SinkCounts;

/// What a member has done since it was put into the chain, or since its place was.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReport {
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Its component.
    pub digest: Digest,
    /// Where it is.
    #[serde(flatten)]
    pub state: MemberState,
    /// Who shares its instance.
    pub isolation: Isolation,
    /// Calls into its instance, for all the sessions in it.
    pub calls: u64,
    /// Packets that it was shown or stood before, RTP and RTCP.
    pub packets_in: u64,
    /// Packets of those that went on, and packets of its own. What came in, and its own packets, are what went out, was
    /// dropped, and is held.
    pub packets_out: u64,
    /// Packets that it let go no further.
    pub dropped: u64,
    /// Packets that it holds, RTP only, and their bytes.
    pub held: usize,
    /// See [`held`](Self::held).
    pub held_bytes: usize,
    /// Packets of its own.
    pub emitted: u64,
    /// Its faults in this session.
    pub faults: FaultCounts,
    /// Nanoseconds that calls into its instance took, for all the sessions in it: an estimate from one call in 16; 0
    /// without a clock.
    pub time_ns: u64,
    /// Bytes of linear memory of its instance, for all the sessions in it.
    pub memory_bytes: usize,
    /// Bytes of the host's rings for its histories in this session, without the payloads, which are shared.
    pub history_bytes: usize,
    /// Why its version is in quarantine for the tenant, if it is.
    pub quarantine: Option<String>,
    /// Packets that went on as they came because its change would have made them larger than the session's MTU.
    pub oversize: u64,
    /// Packets that went on without the header extension that it stamps: it supplied no value, or the header had no room.
    pub unstamped: u64,
    /// Log lines, documents and metrics of this session that were over the limit.
    pub unheard: u64,
    /// Bytes that it wrote to its sink in this session, and writes that were refused or lost.
    #[serde(flatten)]
    pub sink: SinkCounts,
    /// Its own counters and gauges in this session.
    pub metrics: Vec<(String, Metric)>,
}

/// What a session has done.
#[derive(Clone, Debug, Serialize)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its packets.
    pub counts: SessionCounts,
    /// Its chain, from the wire.
    pub members: Vec<MemberReport>,
    /// What its members and the application have set for all members to read.
    pub attributes: Vec<(String, Value)>,
}

impl Shard {
    /// What a session has done.
    pub fn session_report(&self, id: SessionId) -> Option<SessionReport> {
        let session = self.sessions.get(id)?;
        let members = (0..session.members.len()).map(|index| self.member_report(id, index)).collect::<Option<_>>()?;
        Some(SessionReport {
            session: id,
            name: session.name.clone(),
            tenant: session.tenant,
            counts: session.counts,
            members,
            attributes: session.values.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
        })
    }

    fn member_report(&self, id: SessionId, index: usize) -> Option<MemberReport> {
        let session = self.sessions.get(id)?;
        let (member, emitted) = (session.members.get(index)?, session.places.get(index)?.emitted);
        let instance = self.instances.get(member.instance).filter(|_| member.running());
        let streams = self.streams_of(id);
        let mut counts: Counts = member.past;
        let mut history_bytes = 0;
        for hops in streams.iter().filter_map(|stream| Some(&self.streams.get(*stream)?.hops)) {
            counts.add(hops.counts(index));
            let Some(hop) = hops.get(index) else { continue };
            let history = instance.and_then(|instance| instance.guest().history(hop.handle));
            history_bytes += history.map_or(0, History::memory);
        }
        session.own_hops().for_each(|hops| counts.add(hops.counts(index)));
        let plugin = &member.spec.plugin;
        let seat = instance.and_then(|instance| instance.guest().seats.get(member.seat));
        let (held, held_bytes) = seat.map_or((0, 0), |seat| seat.held.total());
        Some(MemberReport {
            plugin: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest(),
            state: member.state,
            isolation: member.spec.isolation(),
            calls: instance.map_or(0, |instance| instance.calls),
            packets_in: counts.packets,
            packets_out: (counts.packets + emitted).saturating_sub(counts.dropped + held as u64),
            dropped: counts.dropped,
            held,
            held_bytes,
            emitted,
            faults: member.faults,
            time_ns: instance.map_or(0, |instance| instance.nanos),
            memory_bytes: instance.map_or(0, |instance| instance.guest().memory()),
            history_bytes,
            quarantine: plugin.quarantine(session.tenant),
            oversize: seat.map_or(0, |seat| seat.oversize),
            unstamped: seat.map_or(0, |seat| seat.stamps.missed),
            unheard: seat.map_or(0, |seat| seat.used.unheard),
            sink: seat.map(|seat| seat.sink.counts).unwrap_or_default(),
            metrics: seat.map(|seat| seat.metrics.clone()).unwrap_or_default(),
        })
    }

    /// The sessions of the shard.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys()
    }

    /// Instances that run.
    pub fn instances(&self) -> usize {
        self.instances.len()
    }
}
