//! Who a leg talks to: known beforehand, or learned from the first valid packet and then locked.
//!
//! | the peer is | its packets are those                        | and it changes                                    |
//! | ----------- | -------------------------------------------- | ------------------------------------------------- |
//! | static      | from its host, or exactly its address where it is `symmetric` (RFC 4961) | never                 |
//! | learned     | from the address that was learned, per port  | after `relearn_after` without a packet from it    |
//!
//! With two ports a learned peer's second address is learned from the same host as its first. Silence is that of both
//! ports together, so that a muted stream whose RTCP goes on does not open the leg to others; a new peer starts on
//! both ports anew.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sandbar_host::{Instant, Kind};

use crate::config::{Leg, Peer, RtcpPort};

/// An address of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Our own address that the peer sends to, where the socket is bound to several: replies leave from it.
    pub(crate) local: Option<IpAddr>,
}

/// What a packet's source is to the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The peer.
    Peer,
    /// The peer from now on, if the packet is valid: hand it to [`PeerLock::learn`].
    Candidate,
    /// Somebody else.
    Foreign,
}

/// One leg's peer.
#[derive(Debug)]
pub(crate) struct PeerLock {
    rule: Rule,
    mux: bool,
    rtp: Option<Endpoint>,
    rtcp: Option<Endpoint>,
    heard: Option<Instant>,
}

#[derive(Debug)]
enum Rule {
    Learn { relearn_after: Duration },
    Static { symmetric: bool },
}

impl PeerLock {
    pub(crate) fn new(leg: &Leg) -> Self {
        let mux = leg.rtcp == RtcpPort::Mux;
        let endpoint = |address| Endpoint { address, local: None };
        match leg.peer {
            Peer::Learn { relearn_after } => {
                Self { rule: Rule::Learn { relearn_after }, mux, rtp: None, rtcp: None, heard: None }
            }
            Peer::Static { rtp, rtcp, symmetric } => {
                let next = || match mux {
                    true => rtp,
                    false => SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1)),
                };
                let rtcp = rtcp.unwrap_or_else(next);
                let rule = Rule::Static { symmetric };
                Self { rule, mux, rtp: Some(endpoint(rtp)), rtcp: Some(endpoint(rtcp)), heard: None }
            }
        }
    }

    /// Where packets of this kind go; `None` as long as nobody is there.
    pub(crate) fn destination(&self, kind: Kind) -> Option<Endpoint> {
        match kind {
            Kind::Rtp => self.rtp,
            Kind::Rtcp => self.rtcp,
        }
    }

    /// When the peer was last heard.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Judges a packet that came to the port for `port` from `source`, and notes the peer's signs of life.
    pub(crate) fn judge(&mut self, now: Instant, port: Kind, source: SocketAddr) -> Source {
        let known = self.destination(port);
        let judged = match self.rule {
            Rule::Static { symmetric: true } if known.is_some_and(|known| same(known.address, source)) => Source::Peer,
            Rule::Static { symmetric: false } if known.is_some_and(|known| same_host(known.address, source)) => {
                Source::Peer
            }
            Rule::Static { .. } => Source::Foreign,
            Rule::Learn { .. } if known.is_some_and(|known| same(known.address, source)) => Source::Peer,
            Rule::Learn { relearn_after } => {
                let silent = self.heard.is_none_or(|heard| now - heard >= relearn_after);
                let joins = known.is_none() && self.other(port).is_some_and(|other| same_host(other.address, source));
                if silent || joins { Source::Candidate } else { Source::Foreign }
            }
        };
        if judged == Source::Peer {
            self.heard = Some(now);
        }
        judged
    }

    /// Takes a candidate, whose packet has turned out to be valid, as the peer. Returns whether it is a new peer, and
    /// not the second port of the one that is known.
    pub(crate) fn learn(&mut self, now: Instant, port: Kind, endpoint: Endpoint) -> bool {
        let joins = self.destination(port).is_none()
            && self.other(port).is_some_and(|other| same_host(other.address, endpoint.address));
        if !joins {
            (self.rtp, self.rtcp) = (None, None);
        }
        if self.mux || port == Kind::Rtp {
            self.rtp = Some(endpoint);
        }
        if self.mux || port == Kind::Rtcp {
            self.rtcp = Some(endpoint);
        }
        self.heard = Some(now);
        !joins
    }

    fn other(&self, port: Kind) -> Option<Endpoint> {
        match port {
            Kind::Rtp => self.rtcp,
            Kind::Rtcp => self.rtp,
        }
    }
}

/// A socket for both families names IPv4 peers as IPv6 addresses.
fn same_host(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip().to_canonical() == b.ip().to_canonical()
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && same_host(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEARN: Duration = Duration::from_secs(5);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn endpoint(text: &str) -> Endpoint {
        Endpoint { address: at(text), local: None }
    }

    fn learning(rtcp: RtcpPort) -> PeerLock {
        PeerLock::new(&Leg { rtcp, peer: Peer::Learn { relearn_after: RELEARN }, ..Leg::listen(at("127.0.0.1:0")) })
    }

    fn with_static(rtcp: Option<&str>, symmetric: bool) -> PeerLock {
        let peer = Peer::Static { rtp: at("192.0.2.1:5004"), rtcp: rtcp.map(at), symmetric };
        PeerLock::new(&Leg { rtcp: RtcpPort::Next, peer, ..Leg::listen(at("127.0.0.1:4000")) })
    }

    #[test]
    fn the_first_valid_packet_locks_a_learned_peer() {
        let mut lock = learning(RtcpPort::Mux);
        let now = Instant::from_millis(1);
        assert_eq!(lock.judge(now, Kind::Rtp, at("192.0.2.1:1")), Source::Candidate);
        // It was not valid, so nothing was learned.
        assert_eq!(lock.destination(Kind::Rtp), None);
        assert_eq!(lock.judge(now, Kind::Rtp, at("192.0.2.2:2")), Source::Candidate);
        assert!(lock.learn(now, Kind::Rtp, endpoint("192.0.2.2:2")));
        assert_eq!(lock.judge(now, Kind::Rtp, at("192.0.2.2:2")), Source::Peer);
        assert_eq!(lock.judge(now, Kind::Rtp, at("192.0.2.2:3")), Source::Foreign);
        assert_eq!(lock.destination(Kind::Rtcp), Some(endpoint("192.0.2.2:2")));
    }

    #[test]
    fn a_learned_peer_changes_only_after_silence() {
        let mut lock = learning(RtcpPort::Mux);
        lock.learn(Instant::ZERO, Kind::Rtp, endpoint("192.0.2.1:1"));
        lock.judge(Instant::from_millis(1000), Kind::Rtp, at("192.0.2.1:1"));
        assert_eq!(lock.judge(Instant::from_millis(5999), Kind::Rtp, at("192.0.2.2:1")), Source::Foreign);
        assert_eq!(lock.judge(Instant::from_millis(6000), Kind::Rtp, at("192.0.2.2:1")), Source::Candidate);
        // The old peer may still come back as long as nobody was learned.
        assert_eq!(lock.judge(Instant::from_millis(6001), Kind::Rtp, at("192.0.2.1:1")), Source::Peer);
        assert_eq!(lock.judge(Instant::from_millis(6002), Kind::Rtp, at("192.0.2.2:1")), Source::Foreign);
    }

    #[test]
    fn with_two_ports_the_second_joins_from_the_same_host_only() {
        let mut lock = learning(RtcpPort::Next);
        let now = Instant::ZERO;
        lock.learn(now, Kind::Rtp, endpoint("192.0.2.1:1000"));
        assert_eq!(lock.destination(Kind::Rtcp), None);
        assert_eq!(lock.judge(now, Kind::Rtcp, at("192.0.2.9:1001")), Source::Foreign);
        assert_eq!(lock.judge(now, Kind::Rtcp, at("192.0.2.1:2001")), Source::Candidate);
        assert!(!lock.learn(now, Kind::Rtcp, endpoint("192.0.2.1:2001")));
        assert_eq!(lock.destination(Kind::Rtp), Some(endpoint("192.0.2.1:1000")));
        assert_eq!(lock.judge(now, Kind::Rtcp, at("192.0.2.1:2002")), Source::Foreign);
    }

    #[test]
    fn rtcp_alone_keeps_a_peer_and_a_new_peer_starts_on_both_ports() {
        let mut lock = learning(RtcpPort::Next);
        lock.learn(Instant::ZERO, Kind::Rtp, endpoint("192.0.2.1:1000"));
        lock.learn(Instant::ZERO, Kind::Rtcp, endpoint("192.0.2.1:1001"));
        lock.judge(Instant::from_millis(4000), Kind::Rtcp, at("192.0.2.1:1001"));
        assert_eq!(lock.judge(Instant::from_millis(8000), Kind::Rtp, at("192.0.2.2:1")), Source::Foreign);
        assert!(lock.learn(Instant::from_millis(9000), Kind::Rtp, endpoint("192.0.2.1:7")));
        assert_eq!(lock.destination(Kind::Rtcp), None);
    }

    #[test]
    fn a_static_peer_is_its_host_or_exactly_its_address() {
        let mut lock = with_static(None, false);
        assert_eq!(lock.destination(Kind::Rtcp), Some(endpoint("192.0.2.1:5005")));
        assert_eq!(lock.judge(Instant::ZERO, Kind::Rtp, at("192.0.2.1:40000")), Source::Peer);
        assert_eq!(lock.judge(Instant::ZERO, Kind::Rtp, at("[::ffff:192.0.2.1]:40000")), Source::Peer);
        assert_eq!(lock.judge(Instant::ZERO, Kind::Rtp, at("192.0.2.2:5004")), Source::Foreign);
        let mut lock = with_static(Some("192.0.2.1:6000"), true);
        assert_eq!(lock.judge(Instant::ZERO, Kind::Rtcp, at("192.0.2.1:5005")), Source::Foreign);
        assert_eq!(lock.judge(Instant::ZERO, Kind::Rtcp, at("192.0.2.1:6000")), Source::Peer);
    }
}
