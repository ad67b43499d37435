//! What a relay has done so far, for people and for programs.

use std::net::SocketAddr;

use sandbar_host::{Instant, Kind, Quotas, SessionReport, TenantUse};
use serde::Serialize;

use super::leg::{LegCounts, LegName, Role};
use super::socket::Traffic;
use super::worker::Worker;

/// All routes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RelayReport {
    /// In the configuration's order.
    pub routes: Vec<RouteReport>,
    /// By their names.
    pub tenants: Vec<TenantReport>,
}

/// A tenant, on all workers.
#[derive(Clone, Debug, Serialize)]
pub struct TenantReport {
    /// Its name.
    pub name: String,
    /// What its sessions may use together.
    pub quotas: Quotas,
    /// What they do use.
    #[serde(rename = "use")]
    pub usage: TenantUse,
}

impl RelayReport {
    /// The leg of this name.
    pub fn leg(&self, name: &LegName) -> Option<&LegReport> {
        self.routes.iter().flat_map(|route| &route.legs).find(|leg| leg.name == *name)
    }
}

/// A route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteReport {
    /// Its name.
    pub name: String,
    /// The worker that it lives on, from 0.
    pub worker: usize,
    /// The publisher's leg, then those of the subscribers.
    pub legs: Vec<LegReport>,
}

/// A leg.
#[derive(Clone, Debug, Serialize)]
pub struct LegReport {
    /// Route and leg.
    pub name: LegName,
    /// Where RTP is received.
    pub rtp: SocketAddr,
    /// Where RTCP is received.
    pub rtcp: SocketAddr,
    /// Where RTP goes, once that is known.
    pub peer_rtp: Option<SocketAddr>,
    /// Where RTCP goes, once that is known.
    pub peer_rtcp: Option<SocketAddr>,
    /// Milliseconds since the peer was last heard.
    pub silent_ms: Option<u64>,
    /// A publisher's streams and the sources they are bound to.
    pub streams: Vec<StreamReport>,
    /// What its sockets have carried.
    pub traffic: Traffic,
    /// Packets that never became the session's.
    pub counts: LegCounts,
    /// Its session and the chain's members.
    pub session: Option<SessionReport>,
}

/// A publisher's stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// As it was declared.
    pub name: String,
    /// Its source, as long as it has one.
    pub ssrc: Option<u32>,
}

impl Worker {
    /// What this worker has done, with the places of its routes in the configuration.
    pub(crate) fn report(&self, now: Instant, number: usize) -> Vec<(usize, RouteReport)> {
        let route = |(index, route): (usize, &super::route::RouteState)| {
            let legs = self.legs.iter().filter(|leg| leg.route == index);
            let mut legs: Vec<_> = legs.map(|leg| (leg.role, self.leg_report(now, leg))).collect();
            legs.sort_by_key(|(role, _)| match role {
                Role::Publisher => 0,
                Role::Subscriber(place) => place + 1,
            });
            let legs = legs.into_iter().map(|(_, leg)| leg).collect();
            (route.place, RouteReport { name: route.name.clone(), worker: number, legs })
        };
        self.routes.iter().enumerate().map(route).collect()
    }

    fn leg_report(&self, now: Instant, leg: &super::leg::LegState) -> LegReport {
        let streams = self.routes[leg.route].streams.iter().filter(|_| leg.role == Role::Publisher);
        let peer = |kind| leg.peer.destination(kind).map(|endpoint| endpoint.address);
        LegReport {
            name: leg.name.clone(),
            rtp: leg.sockets.rtp.local(),
            rtcp: leg.sockets.rtcp.as_ref().unwrap_or(&leg.sockets.rtp).local(),
            peer_rtp: peer(Kind::Rtp),
            peer_rtcp: peer(Kind::Rtcp),
            silent_ms: leg.peer.heard().map(|heard| (now - heard).as_millis() as u64),
            streams: streams
                .map(|declared| StreamReport {
                    name: declared.stream.name.clone(),
                    ssrc: declared.bound.map(|bound| bound.ssrc),
                })
                .collect(),
            traffic: leg.sockets.traffic(),
            counts: leg.counts,
            session: self.shard.session_report(leg.session),
        }
    }
}
