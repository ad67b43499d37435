//! The same chain as components in a host.

use std::collections::VecDeque;

use sandbar_host::{
    Chain, Datagram, End, Event, FaultPolicy, Instant, Kind, MemberSpec, Output, Packet, Plugin, RtcpFeedback,
    RtpHeaderExtension, RtpPacket, SessionId, SessionSpec, Shard, ShardConfig, StreamInfo, Value,
};
use sandbar_plugin_gcc::TARGET;

use crate::{CLOCK_RATE, EXTENSION_ID, PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, RTX_SSRC, SSRC, Sender, TRANSPORT_CC};

/// The chain's plugins by name, from the wire.
pub const CHAIN: [&str; 4] = ["rtpfb", "twcc-header-extension", "pacer", "gcc"];

/// A host with one session.
pub struct Components {
    shard: Shard,
    session: SessionId,
    wire: VecDeque<Vec<u8>>,
}

/// Of a host and not of the SDK.
fn info() -> StreamInfo {
    StreamInfo {
        id: "video".to_owned(),
        ssrc: SSRC,
        ssrc_retransmission: Some(RTX_SSRC),
        payload_type: PAYLOAD_TYPE,
        payload_type_retransmission: Some(RTX_PAYLOAD_TYPE),
        rtp_header_extensions: vec![RtpHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: EXTENSION_ID }],
        mime_type: "video/VP8".to_owned(),
        clock_rate: CLOCK_RATE,
        rtcp_feedback: vec![RtcpFeedback { kind: "transport-cc".to_owned(), parameter: String::new() }],
        ..StreamInfo::default()
    }
}

impl Components {
    /// A chain of [`CHAIN`], as `load` gives them, that begins at a time.
    ///
    /// # Panics
    /// If a plugin refuses its session or stream.
    pub fn new(start: u64, load: impl Fn(&str) -> Plugin) -> Self {
        let now = Instant::from_nanos(start);
        let mut shard = Shard::new(ShardConfig::default());
        let members = CHAIN.map(|name| MemberSpec::new(load(name)).on_fault(FaultPolicy::Bypass));
        let spec = SessionSpec { chain: Chain::new(members), ..SessionSpec::default() };
        let opened = shard.open_session(now, spec);
        let session = opened.unwrap_or_else(|error| panic!("{error}"));
        shard.bind_local_stream(now, session, info()).unwrap_or_else(|error| panic!("{error}"));
        Components { shard, session, wire: VecDeque::new() }
    }

    /// The host.
    pub fn shard(&mut self) -> (&mut Shard, SessionId) {
        (&mut self.shard, self.session)
    }

    /// What is due comes before what happens at the same time, as natively.
    fn expire(&mut self, now: u64) {
        while self.shard.poll_timeout().is_some_and(|at| at.as_nanos() <= now) {
            self.shard.handle_timeout(Instant::from_nanos(now));
        }
    }

    fn drain(&mut self) {
        let mut outputs = Vec::new();
        self.shard.take_outputs(&mut outputs);
        for output in outputs {
            if let Output { to: End::Wire, packet: Packet::Rtp(packet), .. } = output {
                self.wire.push_back(Packet::Rtp(packet).to_bytes().into());
            }
        }
        while let Some(event) = self.shard.poll_event() {
            assert!(!matches!(event, Event::Fault { .. }), "{event}");
        }
    }
}

impl Sender for Components {
    fn write(&mut self, now: u64, packets: Vec<Vec<u8>>) {
        self.expire(now);
        let session = self.session;
        let packets = packets.into_iter().filter_map(|bytes| RtpPacket::parse(bytes.into()).ok());
        self.shard.write(Instant::from_nanos(now), packets.map(|packet| (session, Packet::Rtp(packet))));
        self.drain();
    }

    fn feedback(&mut self, now: u64, compound: &[u8]) {
        self.expire(now);
        let bytes = compound.to_vec().into();
        self.shard.read(Instant::from_nanos(now), [Datagram { session: self.session, kind: Kind::Rtcp, bytes }]);
        self.drain();
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.shard.poll_timeout().map(Instant::as_nanos)
    }

    fn handle_timeout(&mut self, now: u64) {
        self.expire(now);
        self.drain();
    }

    fn poll_wire(&mut self) -> Option<Vec<u8>> {
        self.wire.pop_front()
    }

    fn target(&self) -> f64 {
        match self.shard.session_attribute(self.session, TARGET) {
            Some(Value::Integer(target)) => *target as f64,
            _ => 0.0,
        }
    }
}
