//! Who a leg listens to and talks to, on real sockets.

use std::time::Duration;

use sandbar::config::{Leg, Peer, RtcpPort};
use sandbar::relay::{Relay, RelayEvent};

use crate::support::*;

fn learned(running: &Running) -> (String, std::net::SocketAddr) {
    running.event(|event| match event {
        RelayEvent::Peer { leg, address } => Some((leg.to_string(), *address)),
        _ => None,
    })
}

#[test]
fn the_first_valid_packet_makes_its_sender_the_peer_and_locks_others_out() {
    let (publisher, stranger, viewer) = (Client::new(), Client::new(), Client::new());
    let running = Running::start(config(vec![route(leg(""), vec![video()], vec![("viewer", leg(""))])], &[]));
    let to = running.publisher();
    // Not RTP, and RTP that was not announced: neither makes a peer.
    stranger.send(to, b"hello");
    stranger.send(to, &rtp(1, 1, 100, b"?"));
    publisher.send(to, &frame(1, 1));
    assert_eq!(learned(&running), ("camera/publisher".to_owned(), publisher.address()));
    stranger.send(to, &frame(1, 2));
    running.until(&self::publisher(), |leg| leg.counts.foreign_packets == 3);
    // Nobody has said where the viewer is; what was for it is counted.
    running.until(&subscriber("viewer"), |leg| leg.counts.unaddressed_packets == 1);
    viewer.send(running.rtp(&subscriber("viewer")), &receiver_report(9));
    assert_eq!(learned(&running), ("camera/viewer".to_owned(), viewer.address()));
    publisher.send(to, &frame(1, 3));
    assert_eq!(viewer.media(), frame(1, 3));
}

#[test]
fn another_peer_is_learned_only_after_silence() {
    let (old, new, viewer) = (Client::new(), Client::new(), Client::new());
    let relearn_after = Duration::from_millis(200);
    let ingest = Leg { peer: Peer::Learn { relearn_after }, ..leg("") };
    let running =
        Running::start(config(vec![route(ingest, vec![video()], vec![("viewer", leg_to("", &viewer))])], &[]));
    let to = running.publisher();
    old.send(to, &frame(1, 1));
    assert_eq!(viewer.media(), frame(1, 1));
    new.send(to, &frame(2, 1));
    running.until(&publisher(), |leg| leg.counts.foreign_packets == 1);
    running.until(&publisher(), |leg| leg.silent_ms.is_some_and(|silent| silent >= 200));
    new.send(to, &frame(2, 2));
    // The source is another one, too; the old one's place is free after the same silence.
    assert_eq!(viewer.media(), frame(2, 2));
    running.until(&publisher(), |leg| leg.peer_rtp == Some(new.address()));
}

#[test]
fn a_peer_that_is_known_is_the_only_one() {
    let (publisher, stranger, viewer) = (Client::new(), Client::new(), Client::new());
    let ingest = leg_to("", &publisher);
    let running =
        Running::start(config(vec![route(ingest, vec![video()], vec![("viewer", leg_to("", &viewer))])], &[]));
    stranger.send(running.publisher(), &frame(1, 1));
    running.until(&self::publisher(), |leg| leg.counts.foreign_packets == 1);
    publisher.send(running.publisher(), &frame(1, 2));
    assert_eq!(viewer.media(), frame(1, 2));
    stranger.send(running.rtp(&subscriber("viewer")), &pli(9, 1));
    running.until(&subscriber("viewer"), |leg| leg.counts.foreign_packets == 1);
}

#[test]
fn with_two_ports_rtcp_goes_by_its_own_in_both_directions() {
    let (media, control) = (Client::new(), Client::new());
    let (viewer, viewer_control) = (Client::new(), Client::new());
    let peer = Peer::Static { rtp: viewer.address(), rtcp: Some(viewer_control.address()), symmetric: true };
    let egress = two_ports(Leg { peer, ..leg("") });
    let running = Running::start(config(vec![route(two_ports(leg("")), vec![video()], vec![("viewer", egress)])], &[]));
    let (rtp, rtcp_port) = running.relay.addresses(&publisher()).unwrap();
    media.send(rtp, &frame(1, 1));
    assert_eq!(viewer.media(), frame(1, 1));
    // The publisher's RTCP address is not known before it has spoken.
    let (_, viewer_rtcp) = running.relay.addresses(&subscriber("viewer")).unwrap();
    control.send(rtcp_port, &rtcp(1, 203, &[77]));
    running.until(&publisher(), |leg| leg.peer_rtcp == Some(control.address()));
    viewer_control.send(viewer_rtcp, &pli(9, 1));
    assert_eq!(control.rtcp(key_frame_request).2, 1);
    media.has_nothing();
    control.send(rtcp_port, &rtcp(1, 203, &[1]));
    let (bytes, from) = viewer_control.receive_from();
    assert!(packets(&bytes).into_iter().any(|packet| bye(packet) == Some(1)));
    assert_eq!(from, viewer_rtcp);
    viewer.has_nothing();
}

#[test]
fn rtcp_may_have_the_next_port() {
    // The ports are free when they are looked for; another process may be faster, and then the next two are tried.
    let (media, control) = (Client::new(), Client::new());
    let relay = (0..50).find_map(|_| {
        let (first, second) = port_pair();
        let listen = first.local_addr().unwrap();
        drop((first, second));
        let ingest = Leg { rtcp: RtcpPort::Next, ..Leg::listen(listen) };
        Relay::start(config(vec![route(ingest, vec![video()], vec![])], &[])).ok()
    });
    let relay = relay.unwrap();
    let (rtp, rtcp_port) = relay.addresses(&publisher()).unwrap();
    assert_eq!(rtcp_port.port(), rtp.port() + 1);
    media.send(rtp, &frame(1, 1));
    control.send(rtcp_port, &receiver_report(1));
    let deadline = std::time::Instant::now() + LONG;
    while relay.report().unwrap().routes[0].legs[0].peer_rtcp != Some(control.address()) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}
