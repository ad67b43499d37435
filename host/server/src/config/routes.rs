//! From TOML to [`Route`]: `[[routes]]` and what is in it.

use std::net::SocketAddr;
use std::time::Duration;

use sandbar_host::{Malformed, RtcpFeedback, RtcpMode, RtpHeaderExtension};

use super::reader::{Fields, Node};
use super::{
    DEFAULT_KEYFRAME_INTERVAL, DEFAULT_RELEARN_AFTER, DEFAULT_TENANT, Fec, Leg, Peer, Publisher, Route, RtcpPort, Rtx,
    Stream, StreamOverride, Subscriber,
};

/// Payload types, without those that a shared port would take for RTCP (RFC 5761, 4).
fn payload_type(node: Node<'_>) -> Option<u8> {
    match node.integer(0_u8..=127)? {
        taken @ 64..=95 => {
            node.refuse(format!("{taken} looks like RTCP on a shared port; allowed: 0 to 63, 96 to 127"))
        }
        payload_type => Some(payload_type),
    }
}

fn address(node: Node<'_>) -> Option<SocketAddr> {
    node.parsed("an address such as \"127.0.0.1:5004\" or \"[::1]:5004\"", |text| text.parse().ok())
}

pub(super) fn route(node: Node<'_>) -> Option<Route> {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    let mut fields = node.fields()?;
    let name = fields.need("name", "what reports and logs call this route, such as \"camera\"", |node| node.name());
    let tenant = fields.get("tenant", |node| node.name()).unwrap_or_else(|| DEFAULT_TENANT.to_owned());
    let keyframe_interval =
        fields.get("keyframe_interval", |node| node.duration(MS(0)..=MS(60_000))).unwrap_or(DEFAULT_KEYFRAME_INTERVAL);
    let publisher = fields.need("publisher", "a table with `listen` and `streams`", publisher);
    let subscribers = fields.get("subscribers", |node| node.list(subscriber)).unwrap_or_default();
    fields.finish();
    Some(Route { name: name?, tenant, keyframe_interval, publisher: publisher?, subscribers })
}

fn publisher(node: Node<'_>) -> Option<Publisher> {
    let mut fields = node.fields()?;
    let leg = leg(&mut fields);
    let what = "a list of what is sent, such as [{ name = \"video\", payload_type = 96, clock_rate = 90000 }]";
    let streams = fields.need("streams", what, |node| node.list(stream)).unwrap_or_default();
    fields.finish();
    Some(Publisher { leg: leg?, streams })
}

fn subscriber(node: Node<'_>) -> Option<Subscriber> {
    let mut fields = node.fields()?;
    let name =
        fields.need("name", "what reports and logs call this subscriber, such as \"viewer\"", |node| node.name());
    let leg = leg(&mut fields);
    let streams = fields.get("streams", |node| node.list(stream_override)).unwrap_or_default();
    let forward_sender_reports = fields.get("forward_sender_reports", |node| node.boolean());
    fields.finish();
    Some(Subscriber { name: name?, leg: leg?, streams, forward_sender_reports })
}

fn leg(fields: &mut Fields<'_>) -> Option<Leg> {
    let listen = fields.need("listen", "where RTP is received, such as \"0.0.0.0:5004\"", address);
    let rtcp = fields.get("rtcp", rtcp_port).unwrap_or(RtcpPort::Next);
    let peer = peer(fields);
    let default = Leg::listen(listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))));
    let leg = Leg {
        listen: default.listen,
        rtcp,
        peer: peer?,
        chain: fields.get("chain", |node| node.name()),
        // 576 is what every IPv4 host takes, 65507 what a datagram holds.
        mtu: fields.get("mtu", |node| node.integer(548_u16..=65507)).unwrap_or(default.mtu),
        rtcp_mode: fields
            .get("rtcp_mode", |node| {
                node.choice(&[("compound", RtcpMode::Compound), ("reduced-size", RtcpMode::ReducedSize)])
            })
            .unwrap_or(default.rtcp_mode),
        malformed: fields
            .get("malformed", |node| node.choice(&[("forward", Malformed::Forward), ("drop", Malformed::Drop)]))
            .unwrap_or(default.malformed),
        cname: fields.get("cname", |node| match node.name()? {
            long if long.len() > 255 => node.refuse("an RTCP canonical name has at most 255 bytes"),
            cname => Some(cname),
        }),
    };
    listen.map(|_| leg)
}

fn rtcp_port(node: Node<'_>) -> Option<RtcpPort> {
    let what = "\"next-port\", \"mux\" or an address such as \"127.0.0.1:5005\"";
    node.parsed(what, |text| match text {
        "next-port" => Some(RtcpPort::Next),
        "mux" => Some(RtcpPort::Mux),
        address => address.parse().ok().map(RtcpPort::Address),
    })
}

fn peer(fields: &mut Fields<'_>) -> Option<Peer> {
    const LEARN: &str = "learn";
    let what = "\"learn\" or an address such as \"192.0.2.1:5004\"";
    let rtp = fields.get("peer", |node| {
        node.parsed(what, |text| if text == LEARN { Some(None) } else { text.parse().ok().map(Some) })
    });
    let known = rtp.flatten();
    let relearn_after = fields.get("relearn_after", |node| match known {
        Some(_) => node.refuse("a peer with an address is not learned; leave this out, or write peer = \"learn\""),
        None => node.duration(Duration::from_millis(100)..=Duration::from_secs(3600)),
    });
    let rtcp = fields.get("rtcp_peer", |node| match known {
        Some(_) => address(node),
        None => node.refuse("a learned peer's RTCP address is learned, too; it goes with peer = \"ADDRESS\""),
    });
    let symmetric = fields.get("symmetric", |node| match known {
        Some(_) => node.boolean(),
        None => {
            node.refuse("a learned peer always is: it is where its packets come from; goes with peer = \"ADDRESS\"")
        }
    });
    Some(match known {
        None => Peer::Learn { relearn_after: relearn_after.unwrap_or(DEFAULT_RELEARN_AFTER) },
        Some(rtp) => Peer::Static { rtp, rtcp, symmetric: symmetric.unwrap_or(false) },
    })
}

fn stream(node: Node<'_>) -> Option<Stream> {
    let mut fields = node.fields()?;
    let name = fields.need("name", "what this route calls the stream, such as \"video\"", |node| node.name());
    let payload_type = fields.need("payload_type", "what its packets carry, such as 96", payload_type);
    let clock_rate = fields.need("clock_rate", "timestamp units per second, such as 90000 for video", |node| {
        node.integer(1_u32..=u32::MAX)
    });
    let stream = Stream {
        name: name.unwrap_or_default(),
        ssrc: fields.get("ssrc", any_ssrc).flatten(),
        payload_type: payload_type.unwrap_or_default(),
        mime_type: fields.get("mime_type", |node| node.name()).unwrap_or_default(),
        clock_rate: clock_rate.unwrap_or_default(),
        channels: fields.get("channels", |node| node.integer(1_u16..=255)).unwrap_or_default(),
        fmtp: fields.get("fmtp", |node| node.name()).unwrap_or_default(),
        rtx: fields.get("rtx", rtx),
        fec: fields.get("fec", fec),
        rtcp_feedback: fields.get("rtcp_feedback", |node| node.list(feedback)).unwrap_or_default(),
        extensions: fields.get("extensions", |node| node.list(extension)).unwrap_or_default(),
    };
    fields.finish();
    (!stream.name.is_empty()).then_some(stream)
}

fn stream_override(node: Node<'_>) -> Option<StreamOverride> {
    let mut fields = node.fields()?;
    let name = fields.need("name", "one of the publisher's streams", |node| node.name());
    let stream = StreamOverride {
        name: name.unwrap_or_default(),
        rtx: fields.get("rtx", |node| if node.is_false() { Some(None) } else { rtx(node).map(Some) }),
        fec: fields.get("fec", |node| if node.is_false() { Some(None) } else { fec(node).map(Some) }),
        rtcp_feedback: fields.get("rtcp_feedback", |node| node.list(feedback)),
        extensions: fields.get("extensions", |node| node.list(extension)),
    };
    fields.finish();
    (!stream.name.is_empty()).then_some(stream)
}

/// An SSRC, or `"any"`.
fn any_ssrc(node: Node<'_>) -> Option<Option<u32>> {
    if !node.is_text() {
        return node.integer(0..=u32::MAX).map(Some);
    }
    node.choice(&[("any", ())]).map(|()| None)
}

fn rtx(node: Node<'_>) -> Option<Rtx> {
    let mut fields = node.fields()?;
    let payload_type = fields.need("payload_type", "what retransmissions carry, such as 97", payload_type);
    let ssrc = fields.get("ssrc", any_ssrc).flatten();
    fields.finish();
    Some(Rtx { ssrc, payload_type: payload_type? })
}

fn fec(node: Node<'_>) -> Option<Fec> {
    let mut fields = node.fields()?;
    let payload_type = fields.need("payload_type", "what repair packets carry, such as 115", payload_type);
    let ssrc = fields.get("ssrc", any_ssrc).flatten();
    fields.finish();
    Some(Fec { ssrc, payload_type: payload_type? })
}

/// A line of `a=rtcp-fb` without the payload type: `"nack"`, `"nack pli"`, `"transport-cc"`.
fn feedback(node: Node<'_>) -> Option<RtcpFeedback> {
    node.parsed("feedback such as \"nack\", \"nack pli\", \"ccm fir\" or \"transport-cc\"", |text| {
        let mut words = text.splitn(2, ' ');
        let kind = words.next().filter(|kind| !kind.is_empty())?.to_owned();
        Some(RtcpFeedback { kind, parameter: words.next().unwrap_or_default().trim().to_owned() })
    })
}

fn extension(node: Node<'_>) -> Option<RtpHeaderExtension> {
    let mut fields = node.fields()?;
    let uri = fields.need("uri", "what the extension means", |node| node.name());
    // RFC 8285, 4.2 and 4.3: 1 to 14 with one byte of header, 1 to 255 with two; 15 is reserved in the former.
    let id = fields.need("id", "what packets carry, 1 to 255", |node| node.integer(1_u8..=255));
    fields.finish();
    Some(RtpHeaderExtension { uri: uri?, id: id? })
}
