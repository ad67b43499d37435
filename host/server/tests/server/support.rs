//! Peers on loopback sockets. Every wait is a read with an end; nothing sleeps.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use sandbar::config::{
    Config, Leg, Member, Peer, PluginEntry, PluginSource, Publisher, Route, RtcpPort, Rtx, Stream, Subscriber,
};
use sandbar::relay::{LegName, Relay, RelayEvent, RelayHandle};
use sandbar_host::RtcpFeedback;

/// The end of every wait: far beyond what anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) const VIDEO: u8 = 96;
pub(crate) const RTX: u8 = 97;

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// One video stream with NACK, PLI and RTX.
pub(crate) fn video() -> Stream {
    Stream {
        name: "video".into(),
        payload_type: VIDEO,
        mime_type: "video/VP8".into(),
        clock_rate: 90_000,
        rtx: Some(Rtx { ssrc: None, payload_type: RTX }),
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
        ..Stream::default()
    }
}

pub(crate) fn feedback(kind: &str, parameter: &str) -> RtcpFeedback {
    RtcpFeedback { kind: kind.into(), parameter: parameter.into() }
}

/// A leg on one free port, with this chain.
pub(crate) fn leg(chain: &str) -> Leg {
    Leg { chain: (!chain.is_empty()).then(|| chain.to_owned()), ..Leg::listen(loopback()) }
}

/// A leg whose peer is known.
pub(crate) fn leg_to(chain: &str, peer: &Client) -> Leg {
    Leg { peer: Peer::Static { rtp: peer.address(), rtcp: None, symmetric: true }, ..leg(chain) }
}

pub(crate) fn route(publisher: Leg, streams: Vec<Stream>, subscribers: Vec<(&str, Leg)>) -> Route {
    let subscribers = subscribers.into_iter().map(|(name, leg)| Subscriber::new(name, leg)).collect();
    Route::new("camera", Publisher { leg: publisher, streams }, subscribers)
}

pub(crate) fn config(routes: Vec<Route>, chains: &[(&str, &[&str])]) -> Config {
    let members = |plugins: &[&str]| plugins.iter().map(|plugin| Member::new(*plugin)).collect();
    let chains = chains.iter().map(|(name, plugins)| ((*name).to_owned(), members(plugins))).collect();
    let mut config = Config { routes, chains, ..Config::default() };
    // Compiling the same plugins for each test would be most of what the tests do.
    config.server.cache = Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled").into());
    config
}

/// A plugin from a file.
pub(crate) fn from_file(path: &std::path::Path) -> PluginEntry {
    PluginEntry { source: PluginSource::File(path.to_owned()), grants: Default::default() }
}

pub(crate) fn component(name: &str) -> &'static [u8] {
    sandbar_plugins::by_name(name).unwrap().component
}

/// A relay and what happens in it.
pub(crate) struct Running {
    pub(crate) relay: RelayHandle,
    pub(crate) events: Receiver<Arc<RelayEvent>>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        let relay = Relay::start(config).unwrap_or_else(|error| panic!("{error}"));
        let events = relay.events();
        Self { relay, events }
    }

    pub(crate) fn publisher(&self) -> SocketAddr {
        self.rtp(&publisher())
    }

    pub(crate) fn rtp(&self, leg: &LegName) -> SocketAddr {
        self.relay.addresses(leg).unwrap().0
    }

    /// Waits for the event that `find` finds something in.
    #[track_caller]
    pub(crate) fn event<T>(&self, find: impl Fn(&RelayEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(patience).expect("an event that was expected");
            if let Some(found) = find(&event) {
                return found;
            }
        }
    }

    /// Waits until the report says so. Asking goes through the worker, which is what takes the time between looks.
    #[track_caller]
    pub(crate) fn until(&self, leg: &LegName, what: impl Fn(&sandbar::relay::LegReport) -> bool) {
        let deadline = Instant::now() + LONG;
        while !what(self.relay.report().unwrap().leg(leg).unwrap()) {
            assert!(Instant::now() < deadline, "{:#?}", self.relay.report().unwrap().leg(leg));
            std::thread::yield_now();
        }
    }
}

pub(crate) fn publisher() -> LegName {
    LegName::publisher("camera")
}

pub(crate) fn subscriber(name: &str) -> LegName {
    LegName::subscriber("camera", name)
}

/// Somebody with a socket.
pub(crate) struct Client(UdpSocket);

impl Client {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind(loopback()).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        assert_eq!(self.0.send_to(bytes, to).unwrap(), bytes.len());
    }

    /// The next datagram.
    #[track_caller]
    pub(crate) fn receive(&self) -> Vec<u8> {
        self.receive_from().0
    }

    #[track_caller]
    pub(crate) fn receive_from(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, source) = self.0.recv_from(&mut buffer).expect("a datagram that was expected");
        buffer.truncate(length);
        (buffer, source)
    }

    /// The next RTP packet; RTCP is passed over.
    #[track_caller]
    pub(crate) fn media(&self) -> Vec<u8> {
        loop {
            let bytes = self.receive();
            if !is_rtcp(&bytes) {
                return bytes;
            }
        }
    }

    /// The next packet inside an RTCP compound that `find` finds something in; RTP is passed over.
    #[track_caller]
    pub(crate) fn rtcp<T>(&self, find: impl Fn(&[u8]) -> Option<T>) -> T {
        loop {
            let bytes = self.receive();
            if is_rtcp(&bytes)
                && let Some(found) = packets(&bytes).into_iter().find_map(&find)
            {
                return found;
            }
        }
    }

    /// That nothing is there to be read now.
    #[track_caller]
    pub(crate) fn has_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2048];
        let got = self.0.recv(&mut buffer).map(|length| buffer[..length].to_vec());
        self.0.set_nonblocking(false).unwrap();
        assert!(got.is_err(), "{got:?}");
    }
}

pub(crate) fn is_rtcp(bytes: &[u8]) -> bool {
    (192..=223).contains(&bytes[1])
}

/// The packets of a compound.
pub(crate) fn packets(compound: &[u8]) -> Vec<&[u8]> {
    let mut rest = compound;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let (packet, after) = rest.split_at(4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        packets.push(packet);
        rest = after;
    }
    packets
}

/// An RTP packet with a payload that tells it from others.
pub(crate) fn rtp(ssrc: u32, sequence: u16, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(sequence) * 3000).to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// As large as a publisher may make it and still have it sent again, which takes two bytes more.
pub(crate) fn frame(ssrc: u32, sequence: u16) -> Vec<u8> {
    rtp(ssrc, sequence, VIDEO, &[sequence as u8; 1400])
}

pub(crate) fn sequence(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// An RTCP packet: count or format, type, body.
pub(crate) fn rtcp(count: u8, kind: u8, body: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80 | count, kind];
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    body.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
    bytes
}

pub(crate) fn receiver_report(ssrc: u32) -> Vec<u8> {
    rtcp(0, 201, &[ssrc])
}

pub(crate) fn pli(sender: u32, media: u32) -> Vec<u8> {
    [receiver_report(sender), rtcp(1, 206, &[sender, media])].concat()
}

pub(crate) fn fir(sender: u32, media: u32, sequence: u8) -> Vec<u8> {
    [receiver_report(sender), rtcp(4, 206, &[sender, 0, media, u32::from(sequence) << 24])].concat()
}

pub(crate) fn nack(sender: u32, media: u32, sequence: u16) -> Vec<u8> {
    [receiver_report(sender), rtcp(1, 205, &[sender, media, u32::from(sequence) << 16])].concat()
}

/// Which key frame request this is: `("pli", sender, media)`.
pub(crate) fn key_frame_request(packet: &[u8]) -> Option<(&'static str, u32, u32)> {
    match (packet[1], packet[0] & 0x1f) {
        (206, 1) => Some(("pli", word(packet, 4), word(packet, 8))),
        (206, 4) => Some(("fir", word(packet, 4), word(packet, 12))),
        _ => None,
    }
}

pub(crate) fn bye(packet: &[u8]) -> Option<u32> {
    (packet[1] == 203).then(|| word(packet, 4))
}

/// Two ports, free now, one after the other.
pub(crate) fn port_pair() -> (UdpSocket, UdpSocket) {
    for _ in 0..1000 {
        let first = UdpSocket::bind(loopback()).unwrap();
        let mut next = first.local_addr().unwrap();
        next.set_port(next.port() + 1);
        if let Ok(second) = UdpSocket::bind(next) {
            return (first, second);
        }
    }
    panic!("no two ports in a row are free");
}

/// A leg with RTP and RTCP on free ports of their own.
pub(crate) fn two_ports(leg: Leg) -> Leg {
    Leg { rtcp: RtcpPort::Address(loopback()), ..leg }
}
