//! A leg: its sockets, its peer and its session.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use sandbar_host::{Kind, Packet, SessionId};
use serde::Serialize;

use super::peer::PeerLock;
use super::socket::{Progress, Scratch, Socket, Traffic};
use crate::config::{Leg, PUBLISHER, RtcpPort};

/// Which leg of which route: `camera/publisher`, `camera/viewer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegName {
    /// The route.
    pub route: String,
    /// The subscriber, or `publisher`.
    pub leg: String,
}

impl LegName {
    /// The publisher's leg of a route.
    pub fn publisher(route: impl Into<String>) -> Self {
        Self { route: route.into(), leg: PUBLISHER.to_owned() }
    }

    /// A subscriber's leg of a route.
    pub fn subscriber(route: impl Into<String>, name: impl Into<String>) -> Self {
        Self { route: route.into(), leg: name.into() }
    }

    /// Whether it is the publisher's.
    pub fn is_publisher(&self) -> bool {
        self.leg == PUBLISHER
    }
}

impl fmt::Display for LegName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.route, self.leg)
    }
}

/// Not `ROUTE/LEG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a leg is named ROUTE/publisher or ROUTE/SUBSCRIBER")]
pub struct NotALeg;

impl FromStr for LegName {
    type Err = NotALeg;

    fn from_str(text: &str) -> Result<Self, NotALeg> {
        // A route's name may have a slash; the last one separates.
        let (route, leg) = text.rsplit_once('/').ok_or(NotALeg)?;
        Ok(Self { route: route.to_owned(), leg: leg.to_owned() })
    }
}

impl Serialize for LegName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A leg's sockets, bound.
pub(crate) struct Sockets {
    pub(crate) rtp: Socket,
    /// `None`: RTCP goes by the RTP port.
    pub(crate) rtcp: Option<Socket>,
}

/// A socket could not be bound.
#[derive(Debug)]
pub(crate) struct BindFailed {
    pub(crate) key: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) error: io::Error,
}

impl Sockets {
    pub(crate) fn bind(leg: &Leg, buffer: usize) -> Result<Self, BindFailed> {
        let bind = |key, address| Socket::bind(address, buffer).map_err(|error| BindFailed { key, address, error });
        let rtcp = match leg.rtcp {
            RtcpPort::Mux => None,
            RtcpPort::Next => {
                let mut next = leg.listen;
                next.set_port(next.port().wrapping_add(1));
                Some(("listen", next))
            }
            RtcpPort::Address(address) => Some(("rtcp", address)),
        };
        Ok(Self { rtp: bind("listen", leg.listen)?, rtcp: rtcp.map(|(key, address)| bind(key, address)).transpose()? })
    }

    /// The socket that packets of this kind leave by.
    pub(crate) fn of(&mut self, kind: Kind) -> &mut Socket {
        match (kind, &mut self.rtcp) {
            (Kind::Rtcp, Some(rtcp)) => rtcp,
            _ => &mut self.rtp,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.rtp.is_idle() && self.rtcp.as_ref().is_none_or(Socket::is_idle)
    }

    pub(crate) fn flush(&mut self, scratch: &mut Scratch) -> Progress {
        let rtp = self.rtp.flush(scratch);
        let rtcp = self.rtcp.as_mut().map_or(Progress::More, |rtcp| rtcp.flush(scratch));
        if rtp == Progress::Blocked { rtp } else { rtcp }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let rtcp = self.rtcp.as_ref().map(|rtcp| rtcp.traffic).unwrap_or_default();
        self.rtp.traffic.plus(rtcp)
    }
}

/// What a leg is to its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publisher,
    /// The subscriber's place in the route.
    Subscriber(usize),
}

/// A leg as its worker keeps it.
pub(crate) struct LegState {
    pub(crate) name: LegName,
    pub(crate) route: usize,
    pub(crate) role: Role,
    pub(crate) session: SessionId,
    pub(crate) sockets: Sockets,
    pub(crate) peer: PeerLock,
    pub(crate) counts: LegCounts,
    /// Whether it is on its worker's list of legs with something to send.
    pub(crate) dirty: bool,
}

/// Packets that never became a session's, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LegCounts {
    /// From somebody who is not the leg's peer; dropped.
    pub foreign_packets: u64,
    /// RTP of no declared stream. Plugins that ask for all get it; no subscriber does.
    pub unknown_ssrc_packets: u64,
    /// Made for a peer that has not been learned yet; dropped.
    pub unaddressed_packets: u64,
    /// Requests for key frames: from a subscriber, or passed on to a publisher.
    pub key_frame_requests: u64,
    /// RTCP datagrams that went to the peer.
    pub rtcp_sent: u64,
}

impl LegState {
    /// Queues a packet for the peer. Returns whether the leg had nothing to send before.
    pub(crate) fn send(&mut self, packet: Packet) -> bool {
        let kind = packet.kind();
        let Some(to) = self.peer.destination(kind) else {
            self.counts.unaddressed_packets += 1;
            return false;
        };
        self.counts.rtcp_sent += u64::from(kind == Kind::Rtcp);
        self.sockets.of(kind).push(to, packet);
        !std::mem::replace(&mut self.dirty, true)
    }
}
