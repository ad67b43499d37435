//! A route at work: what becomes of packets between the publisher's session and those of the subscribers.
//!
//! | from         | what                | goes to                                                                     |
//! | ------------ | ------------------- | --------------------------------------------------------------------------- |
//! | publisher    | RTP of a stream     | every subscriber that gets the stream: the same payload, not copied         |
//! | publisher    | sender reports      | subscribers, unless their chain makes its own; without report blocks        |
//! | publisher    | SDES, BYE           | subscribers of the stream; a BYE ends the stream                            |
//! | a subscriber | PLI, FIR            | the publisher, as it was announced to understand them, and not too often    |
//! | a subscriber | NACK, reports, rest | nobody: they are between the subscriber and its leg's chain                 |
//! | either       | what is malformed   | the other side, where the leg lets it through                               |

use bytes::Bytes;
use sandbar_host::{BindError, Instant, Packet, RtcpPacket, SessionId, Shard, StreamId};

use super::rtcp::{self, Item, Request};
use super::streams::{Declared, Streams, for_subscriber, subscriber_info};
use crate::config::{self, Stream};

/// Packets on their way into sessions.
pub(crate) type Writes = Vec<(SessionId, Packet)>;

/// A route as its worker keeps it.
pub(crate) struct RouteState {
    pub(crate) name: String,
    /// Its place in the configuration.
    pub(crate) place: usize,
    /// The publisher's leg, by its number on the worker.
    pub(crate) publisher: usize,
    pub(crate) session: SessionId,
    /// The SSRC under which the publisher's session speaks RTCP.
    pub(crate) rtcp_ssrc: u32,
    pub(crate) streams: Streams,
    pub(crate) subscribers: Vec<SubscriberState>,
    /// Streams with a request for a key frame that waits.
    waiting: Vec<usize>,
}

/// A subscriber as its route keeps it.
pub(crate) struct SubscriberState {
    /// Its leg, by its number on the worker.
    pub(crate) leg: usize,
    pub(crate) session: SessionId,
    pub(crate) forward_sender_reports: bool,
    /// By the publisher's streams; `None` for those that it does not get.
    streams: Vec<Option<Stream>>,
    bound: Vec<Option<StreamId>>,
}

impl SubscriberState {
    pub(crate) fn new(
        session: SessionId,
        config: &config::Subscriber,
        publisher: &config::Publisher,
        forward_sender_reports: bool,
    ) -> Self {
        let differs = |stream: &Stream| config.streams.iter().find(|differs| differs.name == stream.name);
        let gets = |stream: &Stream| config.streams.is_empty() || differs(stream).is_some();
        let streams: Vec<_> = publisher
            .streams
            .iter()
            .map(|stream| gets(stream).then(|| for_subscriber(stream, differs(stream))))
            .collect();
        let bound = vec![None; streams.len()];
        Self { leg: 0, session, forward_sender_reports, streams, bound }
    }

    /// Whether it gets a stream now.
    fn has(&self, index: usize) -> bool {
        self.bound.get(index).is_some_and(Option::is_some)
    }
}

/// A subscriber's chain will not have a stream.
pub(crate) struct SubscriberRefusal {
    /// Its place in the route.
    pub(crate) subscriber: usize,
    pub(crate) leg: usize,
    pub(crate) ssrc: u32,
    pub(crate) error: BindError,
}

impl RouteState {
    pub(crate) fn new(config: &config::Route, place: usize, session: SessionId, rtcp_ssrc: u32) -> Self {
        Self {
            name: config.name.clone(),
            place,
            publisher: 0,
            session,
            rtcp_ssrc,
            streams: Streams::new(&config.publisher, config.keyframe_interval),
            subscribers: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Binds stream `index` to a source, in the publisher's session and in those of its subscribers. A subscriber
    /// whose chain refuses goes without it.
    pub(crate) fn bind(
        &mut self,
        now: Instant,
        shard: &mut Shard,
        index: usize,
        ssrc: u32,
    ) -> Result<Vec<SubscriberRefusal>, BindError> {
        self.end(now, shard, index, false);
        let Some(info) = self.streams.info(index, ssrc) else { return Ok(Vec::new()) };
        let id = match shard.bind_remote_stream(now, self.session, info.clone()) {
            Ok(id) => id,
            Err(error) => {
                self.streams.refused(now, index);
                return Err(error);
            }
        };
        self.streams.bound(now, index, id, &info);
        Ok(self.bind_subscribers(now, shard))
    }

    /// Binds every stream that is there to every subscriber that gets it and does not have it yet.
    pub(crate) fn bind_subscribers(&mut self, now: Instant, shard: &mut Shard) -> Vec<SubscriberRefusal> {
        let mut refusals = Vec::new();
        let sources: Vec<_> = self.streams.iter().map(|declared| declared.bound.map(|bound| bound.ssrc)).collect();
        for (place, subscriber) in self.subscribers.iter_mut().enumerate() {
            for (index, source) in sources.iter().enumerate() {
                let (Some(ssrc), Some(Some(stream))) = (*source, subscriber.streams.get(index)) else { continue };
                if subscriber.has(index) {
                    continue;
                }
                let taken = |ssrc| {
                    let streams = || subscriber.streams.iter().flatten();
                    let rtx = streams().filter_map(|stream| stream.rtx?.ssrc);
                    let fec = streams().filter_map(|stream| stream.fec?.ssrc);
                    rtx.chain(fec).chain(sources.iter().copied().flatten()).any(|taken| taken == ssrc)
                };
                let info = subscriber_info(stream, ssrc, taken);
                match shard.bind_local_stream(now, subscriber.session, info) {
                    Ok(id) => subscriber.bound[index] = Some(id),
                    Err(error) => {
                        refusals.push(SubscriberRefusal { subscriber: place, leg: subscriber.leg, ssrc, error });
                    }
                }
            }
        }
        refusals
    }

    /// Ends stream `index` in all sessions.
    fn end(&mut self, now: Instant, shard: &mut Shard, index: usize, farewell: bool) {
        let Some(bound) = self.streams.get(index).and_then(|declared| declared.bound) else { return };
        shard.unbind_stream(now, bound.id);
        for subscriber in &mut self.subscribers {
            if let Some(id) = subscriber.bound.get_mut(index).and_then(Option::take) {
                shard.unbind_stream(now, id);
            }
        }
        self.streams.unbound(now, index, farewell);
    }

    /// RTP from the publisher.
    pub(crate) fn media(&self, stream: StreamId, packet: &Packet, writes: &mut Writes) {
        let Some(index) = self.streams.by_id(stream) else { return };
        let gets = self.subscribers.iter().filter(|subscriber| subscriber.has(index));
        writes.extend(gets.map(|subscriber| (subscriber.session, packet.clone())));
    }

    /// Malformed datagrams from the publisher that its leg lets through.
    pub(crate) fn malformed(&self, packet: &Packet, writes: &mut Writes) {
        writes.extend(self.subscribers.iter().map(|subscriber| (subscriber.session, packet.clone())));
    }

    /// RTCP from the publisher. What it says about its streams goes to their subscribers.
    pub(crate) fn publisher_rtcp(&mut self, now: Instant, shard: &mut Shard, compound: &Bytes, writes: &mut Writes) {
        let mut ended = Vec::new();
        let mut forwards = vec![Vec::new(); self.subscribers.len()];
        rtcp::items(compound, |item| {
            let (Item::SenderReport(ssrc, _) | Item::Description(ssrc, _) | Item::Bye(ssrc)) = item else { return };
            let Some(index) = self.streams.by_ssrc(ssrc) else { return };
            if let Item::Bye(_) = item {
                ended.push(index);
            }
            for (subscriber, out) in self.subscribers.iter().zip(&mut forwards).filter(|(to, _)| to.has(index)) {
                match item {
                    Item::SenderReport(..) if !subscriber.forward_sender_reports => {}
                    Item::SenderReport(_, head) => rtcp::put_sender_report(out, head),
                    Item::Description(_, chunk) => rtcp::put_description(out, chunk),
                    Item::Bye(ssrc) => rtcp::put_bye(out, ssrc),
                    Item::KeyFrame(..) => {}
                }
            }
        });
        for (subscriber, compound) in self.subscribers.iter().zip(forwards).filter(|(_, compound)| !compound.is_empty())
        {
            writes.extend(RtcpPacket::parse(compound.into()).map(|rtcp| (subscriber.session, rtcp.into())));
        }
        if !ended.is_empty() {
            // What the streams brought before goes out while they are still bound.
            shard.write(now, writes.drain(..));
            for index in ended {
                self.end(now, shard, index, true);
            }
        }
    }

    /// RTCP from a subscriber. Returns how many key frames it asked for and how many requests were passed on.
    pub(crate) fn subscriber_rtcp(&mut self, now: Instant, compound: &Bytes, writes: &mut Writes) -> (u64, u64) {
        let (mut asked, mut passed) = (0, 0);
        rtcp::items(compound, |item| {
            let Item::KeyFrame(request, ssrc) = item else { return };
            asked += 1;
            let Some(index) = self.streams.by_ssrc(ssrc) else { return };
            let Some(declared) = self.streams.get_mut(index) else { return };
            if declared.key_frames.ask(now, request) {
                passed += 1;
                writes.extend(key_frame_request(declared, self.rtcp_ssrc, request).map(|rtcp| (self.session, rtcp)));
            } else if !self.waiting.contains(&index) {
                self.waiting.push(index);
            }
        });
        (asked, passed)
    }

    /// When a request for a key frame that waits goes out.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = |index: &usize| self.streams.get(*index)?.key_frames.poll_timeout();
        self.waiting.iter().filter_map(due).min()
    }

    /// Passes on the requests that are due. Returns how many.
    pub(crate) fn handle_timeout(&mut self, now: Instant, writes: &mut Writes) -> u64 {
        let mut passed = 0;
        let (streams, session, sender) = (&mut self.streams, self.session, self.rtcp_ssrc);
        self.waiting.retain(|index| {
            let Some(declared) = streams.get_mut(*index) else { return false };
            if let Some(request) = declared.key_frames.handle_timeout(now) {
                passed += 1;
                writes.extend(key_frame_request(declared, sender, request).map(|rtcp| (session, rtcp)));
            }
            declared.key_frames.poll_timeout().is_some()
        });
        passed
    }

    /// The goodbyes that end the route: to subscribers for the streams they have, to the publisher for this side.
    pub(crate) fn farewell(&self, spoke_to_publisher: bool, writes: &mut Writes) {
        let bye = |session, ssrc| {
            let mut packet = Vec::new();
            rtcp::put_bye(&mut packet, ssrc);
            RtcpPacket::parse(packet.into()).ok().map(|rtcp| (session, rtcp.into()))
        };
        for subscriber in &self.subscribers {
            for (index, declared) in self.streams.iter().enumerate() {
                if let Some(bound) = declared.bound.filter(|_| subscriber.has(index)) {
                    writes.extend(bye(subscriber.session, bound.ssrc));
                }
            }
        }
        // RFC 3550, 6.3.7: who has never spoken does not say goodbye.
        if spoke_to_publisher {
            writes.extend(bye(self.session, self.rtcp_ssrc));
        }
    }
}

/// A request as the publisher understands it; `None` where the stream was announced with neither way.
fn key_frame_request(declared: &mut Declared, sender: u32, request: Request) -> Option<Packet> {
    let media = declared.bound?.ssrc;
    let understands = |kind: &str, parameter: &str| {
        declared.stream.rtcp_feedback.iter().any(|line| line.kind == kind && line.parameter == parameter)
    };
    let request = match (request, understands("nack", "pli"), understands("ccm", "fir")) {
        (_, false, false) => return None,
        (_, true, false) => Request::Pli,
        (_, false, true) => Request::Fir,
        (request, true, true) => request,
    };
    if request == Request::Fir {
        declared.fir_sequence = declared.fir_sequence.wrapping_add(1);
    }
    let packet = rtcp::request(request, sender, media, declared.fir_sequence);
    RtcpPacket::parse(packet.into()).ok().map(Packet::from)
}
