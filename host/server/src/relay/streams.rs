//! A publisher's streams: which packet belongs to which declared stream, also where its source was not known beforehand.
//!
//! | a declared stream says | its packets are                                                               |
//! | ---------------------- | ----------------------------------------------------------------------------- |
//! | an SSRC                | those of this source, from the start                                          |
//! | `"any"`                | those of the first source that sends its payload type                         |
//!
//! A source that was learned gives its place to another after its BYE, or after it has been silent for as long as a
//! learned peer would have to be. So a leg never has more streams than were declared, whatever it is sent.
//! Where the source of retransmissions is not declared, their payload type tells them; they are given the SSRC that
//! the stream was bound with before the chain sees them.

use std::time::Duration;

use sandbar_host::{Instant, StreamId, StreamInfo};

use super::keyframes::KeyFrames;
use crate::config::{DEFAULT_RELEARN_AFTER, Peer, Publisher, Stream, StreamOverride};

/// How long after its BYE a source's stragglers are not taken for its return (RFC 3550, 6.3.4 has the same concern).
const FAREWELL: Duration = Duration::from_millis(500);

/// The streams of one publisher.
pub(crate) struct Streams {
    declared: Vec<Declared>,
    relearn_after: Duration,
    farewells: Vec<(u32, Instant)>,
}

/// A declared stream, bound or not.
pub(crate) struct Declared {
    pub(crate) stream: Stream,
    pub(crate) bound: Option<Bound>,
    pub(crate) key_frames: KeyFrames,
    /// Counts full intra requests (RFC 5104, 4.3.1.1).
    pub(crate) fir_sequence: u8,
    /// When the chain last refused to bind it. A packet is no reason to ask it again at once.
    refused: Option<Instant>,
}

/// What is known about a stream since its source is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) id: StreamId,
    pub(crate) ssrc: u32,
    heard: Instant,
    /// Its retransmissions and its repair packets, as [`companions`] has them.
    companions: [Companion; 2],
}

/// A stream beside a stream.
#[derive(Clone, Copy, Debug)]
struct Companion {
    /// The SSRC that the chain knows.
    shown: Option<u32>,
    /// The one on the wire, where it was learned, and when it was last heard.
    on_wire: Option<(u32, Instant)>,
}

/// The SSRC and payload type of a stream's retransmissions and of its repair packets.
fn companions(stream: &Stream) -> [Option<(Option<u32>, u8)>; 2] {
    [stream.rtx.map(|rtx| (rtx.ssrc, rtx.payload_type)), stream.fec.map(|fec| (fec.ssrc, fec.payload_type))]
}

/// What an RTP packet is to the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A packet of a bound stream or its companion.
    Bound,
    /// A retransmission or repair packet whose SSRC on the wire is not the one that the chain knows, which is this.
    Companion(u32),
    /// The first packet of a declared stream's new source.
    New(usize),
    /// Of no declared stream.
    Unknown,
}

impl Streams {
    pub(crate) fn new(publisher: &Publisher, key_frame_interval: Duration) -> Self {
        let declared = |stream: &Stream| Declared {
            stream: stream.clone(),
            bound: None,
            key_frames: KeyFrames::new(key_frame_interval),
            fir_sequence: 0,
            refused: None,
        };
        let relearn_after = match publisher.leg.peer {
            Peer::Learn { relearn_after } => relearn_after,
            Peer::Static { .. } => DEFAULT_RELEARN_AFTER,
        };
        Self { declared: publisher.streams.iter().map(declared).collect(), relearn_after, farewells: Vec::new() }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Declared> {
        self.declared.iter()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Declared> {
        self.declared.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Declared> {
        self.declared.get_mut(index)
    }

    /// The stream that is bound under this id.
    pub(crate) fn by_id(&self, id: StreamId) -> Option<usize> {
        self.declared.iter().position(|declared| declared.bound.is_some_and(|bound| bound.id == id))
    }

    /// The stream that is bound to this source.
    pub(crate) fn by_ssrc(&self, ssrc: u32) -> Option<usize> {
        self.declared.iter().position(|declared| declared.bound.is_some_and(|bound| bound.ssrc == ssrc))
    }

    /// Judges a packet by its source and payload type.
    pub(crate) fn judge(&mut self, now: Instant, ssrc: u32, payload_type: u8) -> Verdict {
        for declared in &mut self.declared {
            let Some(bound) = &mut declared.bound else { continue };
            if bound.ssrc == ssrc {
                bound.heard = now;
                return Verdict::Bound;
            }
            for companion in &mut bound.companions {
                if let (Some(shown), Some((on_wire, heard))) = (companion.shown, &mut companion.on_wire)
                    && *on_wire == ssrc
                {
                    *heard = now;
                    return Verdict::Companion(shown);
                }
                if companion.shown == Some(ssrc) {
                    return Verdict::Bound;
                }
            }
        }
        self.judge_new(now, ssrc, payload_type)
    }

    fn judge_new(&mut self, now: Instant, ssrc: u32, payload_type: u8) -> Verdict {
        self.farewells.retain(|(_, at)| now - *at < FAREWELL);
        if self.farewells.iter().any(|(gone, _)| *gone == ssrc) {
            return Verdict::Unknown;
        }
        let relearn_after = self.relearn_after;
        let waits = |refused: Option<Instant>| refused.is_some_and(|at| now - at < relearn_after);
        let verdict = |index, free| if free { Verdict::New(index) } else { Verdict::Unknown };
        let named = |declared: &Declared| declared.stream.ssrc == Some(ssrc);
        if let Some(index) = self.declared.iter().position(named) {
            return verdict(index, !waits(self.declared[index].refused));
        }
        for (index, declared) in self.declared.iter_mut().enumerate() {
            if declared.stream.ssrc.is_none() && declared.stream.payload_type == payload_type {
                let silent = declared.bound.is_none_or(|bound| now - bound.heard >= relearn_after);
                return verdict(index, silent && !waits(declared.refused));
            }
            let learns = companions(&declared.stream).map(|said| said == Some((None, payload_type)));
            let learning = declared.bound.as_mut().map(|bound| bound.companions.iter_mut().zip(learns));
            if let Some((companion, _)) = learning.and_then(|mut all| all.find(|(_, learns)| *learns)) {
                let free = companion.on_wire.is_none_or(|(_, heard)| now - heard >= relearn_after);
                return match companion.shown {
                    Some(shown) if free => {
                        companion.on_wire = Some((ssrc, now));
                        Verdict::Companion(shown)
                    }
                    _ => Verdict::Unknown,
                };
            }
        }
        Verdict::Unknown
    }

    /// Whether a packet that nobody has vouched for is one that the publisher was announced to send.
    pub(crate) fn announced(&self, ssrc: u32, payload_type: u8) -> bool {
        self.declared.iter().any(|declared| {
            let main = declared.stream.ssrc.map_or(declared.stream.payload_type == payload_type, |named| named == ssrc);
            let is = |(named, carries): (Option<u32>, u8)| named.map_or(carries == payload_type, |named| named == ssrc);
            main || companions(&declared.stream).into_iter().flatten().any(is)
        })
    }

    /// What is said to the chain about stream `index` when its source is `ssrc`.
    pub(crate) fn info(&self, index: usize, ssrc: u32) -> Option<StreamInfo> {
        let stream = &self.get(index)?.stream;
        Some(info(stream, ssrc, |derived| self.takes(derived)))
    }

    /// Notes that stream `index` was bound as `info` says.
    pub(crate) fn bound(&mut self, now: Instant, index: usize, id: StreamId, info: &StreamInfo) {
        if let Some(declared) = self.declared.get_mut(index) {
            let companions = [info.ssrc_retransmission, info.ssrc_forward_error_correction];
            let companions = companions.map(|shown| Companion { shown, on_wire: None });
            declared.refused = None;
            declared.bound = Some(Bound { id, ssrc: info.ssrc, heard: now, companions });
        }
    }

    /// Notes that the chain will not have stream `index`.
    pub(crate) fn refused(&mut self, now: Instant, index: usize) {
        if let Some(declared) = self.declared.get_mut(index) {
            declared.refused = Some(now);
        }
    }

    /// Notes that stream `index` has ended, with a BYE where `farewell`.
    pub(crate) fn unbound(&mut self, now: Instant, index: usize, farewell: bool) {
        let bound = self.declared.get_mut(index).and_then(|declared| declared.bound.take());
        if let (Some(bound), true) = (bound, farewell) {
            self.farewells.push((bound.ssrc, now));
        }
    }

    /// Whether a stream of the leg has the SSRC.
    fn takes(&self, ssrc: u32) -> bool {
        self.declared.iter().any(|declared| {
            let named = companions(&declared.stream).into_iter().flatten().filter_map(|(ssrc, _)| ssrc);
            let bound = declared.bound.map(|bound| bound.ssrc);
            named.chain(declared.stream.ssrc).chain(bound).any(|taken| taken == ssrc)
        })
    }
}

/// A stream as one subscriber gets it: the publisher's, with what differs.
pub(crate) fn for_subscriber(stream: &Stream, differs: Option<&StreamOverride>) -> Stream {
    let mut stream = stream.clone();
    if let Some(differs) = differs {
        stream.rtx = differs.rtx.unwrap_or(stream.rtx);
        stream.fec = differs.fec.unwrap_or(stream.fec);
        stream.rtcp_feedback = differs.rtcp_feedback.clone().unwrap_or(stream.rtcp_feedback);
        stream.extensions = differs.extensions.clone().unwrap_or(stream.extensions);
    }
    stream
}

/// What is said to a subscriber's chain about a stream. Retransmissions and repair packets to it are the relay's own; where
/// they have no SSRC, one is derived that is not `taken`.
pub(crate) fn subscriber_info(stream: &Stream, ssrc: u32, taken: impl Fn(u32) -> bool) -> StreamInfo {
    info(stream, ssrc, taken)
}

fn info(stream: &Stream, ssrc: u32, taken: impl Fn(u32) -> bool) -> StreamInfo {
    let rtx = stream.rtx.map(|rtx| rtx.ssrc.unwrap_or_else(|| derive(RTX_OF, ssrc, &taken)));
    let fec = stream
        .fec
        .map(|fec| fec.ssrc.unwrap_or_else(|| derive(FEC_OF, ssrc, |derived| rtx == Some(derived) || taken(derived))));
    StreamInfo {
        id: stream.name.clone(),
        ssrc,
        ssrc_retransmission: rtx,
        ssrc_forward_error_correction: fec,
        payload_type: stream.payload_type,
        payload_type_retransmission: stream.rtx.map(|rtx| rtx.payload_type),
        payload_type_forward_error_correction: stream.fec.map(|fec| fec.payload_type),
        rtp_header_extensions: stream.extensions.clone(),
        mime_type: stream.mime_type.clone(),
        clock_rate: stream.clock_rate,
        channels: stream.channels,
        sdp_fmtp_line: stream.fmtp.clone(),
        rtcp_feedback: stream.rtcp_feedback.clone(),
        ..StreamInfo::default()
    }
}

/// What makes the SSRC of a stream's retransmissions another than that of its repair packets.
const RTX_OF: u32 = 0x5258_5258;
const FEC_OF: u32 = 0x4645_4645;

/// An SSRC that is not taken, derived from the stream's and not drawn, so that a receiver finds the same after the relay
/// was restarted; and scattered, because a sender's own SSRCs may well be neighbours.
fn derive(of: u32, ssrc: u32, taken: impl Fn(u32) -> bool) -> u32 {
    let mut derived = (ssrc ^ of).wrapping_mul(0x9e37_79b1).rotate_left(15);
    while derived == 0 || derived == ssrc || taken(derived) {
        derived = derived.wrapping_add(1);
    }
    derived
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Fec, Leg, Rtx};

    const VIDEO: u8 = 96;
    const RTX: u8 = 97;

    fn streams(declared: Vec<Stream>) -> Streams {
        let leg = Leg::listen("127.0.0.1:0".parse().unwrap());
        Streams::new(&Publisher { leg, streams: declared }, Duration::ZERO)
    }

    fn any() -> Stream {
        let rtx = Some(Rtx { ssrc: None, payload_type: RTX });
        Stream { name: "video".into(), payload_type: VIDEO, rtx, ..Stream::default() }
    }

    fn bind(streams: &mut Streams, now: Instant, ssrc: u32) -> u32 {
        let info = streams.info(0, ssrc).unwrap();
        streams.bound(now, 0, StreamId::default(), &info);
        info.ssrc_retransmission.unwrap_or_default()
    }

    #[test]
    fn the_first_source_of_a_payload_type_is_the_stream_until_it_is_silent() {
        let mut streams = streams(vec![any()]);
        assert_eq!(streams.judge(Instant::ZERO, 1, 100), Verdict::Unknown);
        assert_eq!(streams.judge(Instant::ZERO, 1, VIDEO), Verdict::New(0));
        bind(&mut streams, Instant::ZERO, 1);
        assert_eq!(streams.judge(Instant::from_millis(1000), 1, VIDEO), Verdict::Bound);
        assert_eq!(streams.judge(Instant::from_millis(5999), 2, VIDEO), Verdict::Unknown);
        assert_eq!(streams.judge(Instant::from_millis(6000), 2, VIDEO), Verdict::New(0));
        // Whatever else the source sends is its own, such as comfort noise.
        assert_eq!(streams.judge(Instant::from_millis(6001), 1, 13), Verdict::Bound);
    }

    #[test]
    fn a_source_that_has_said_goodbye_leaves_its_place_and_stragglers_do_not_take_it_back() {
        let mut streams = streams(vec![any()]);
        bind(&mut streams, Instant::ZERO, 1);
        streams.unbound(Instant::from_millis(100), 0, true);
        assert_eq!(streams.judge(Instant::from_millis(599), 1, VIDEO), Verdict::Unknown);
        assert_eq!(streams.judge(Instant::from_millis(599), 2, VIDEO), Verdict::New(0));
        assert_eq!(streams.judge(Instant::from_millis(600), 1, VIDEO), Verdict::New(0));
    }

    #[test]
    fn retransmissions_from_an_unknown_source_get_the_one_that_the_chain_knows() {
        let mut streams = streams(vec![any()]);
        assert_eq!(streams.judge(Instant::ZERO, 9, RTX), Verdict::Unknown, "there is nothing to retransmit yet");
        let shown = bind(&mut streams, Instant::ZERO, 1);
        assert_ne!(shown, 1);
        assert_eq!(streams.judge(Instant::ZERO, 9, RTX), Verdict::Companion(shown));
        assert_eq!(streams.judge(Instant::from_millis(4000), 9, RTX), Verdict::Companion(shown));
        assert_eq!(streams.judge(Instant::from_millis(4000), 8, RTX), Verdict::Unknown);
        assert_eq!(streams.judge(Instant::from_millis(9000), 8, RTX), Verdict::Companion(shown));
    }

    #[test]
    fn repair_packets_have_a_source_beside_the_stream_and_its_retransmissions() {
        const FEC: u8 = 115;
        let fec = Some(Fec { ssrc: None, payload_type: FEC });
        let mut learned = streams(vec![Stream { fec, ..any() }]);
        assert_eq!(learned.judge(Instant::ZERO, 9, FEC), Verdict::Unknown, "there is nothing to repair yet");
        let info = learned.info(0, 1).unwrap();
        let (rtx, shown) = (info.ssrc_retransmission.unwrap(), info.ssrc_forward_error_correction.unwrap());
        assert!(shown != 1 && shown != rtx);
        assert_eq!(info.payload_type_forward_error_correction, Some(FEC));
        bind(&mut learned, Instant::ZERO, 1);
        assert_eq!(learned.judge(Instant::ZERO, 9, FEC), Verdict::Companion(shown));
        assert_eq!(learned.judge(Instant::ZERO, 8, RTX), Verdict::Companion(rtx));
        assert!(learned.announced(7, FEC));

        let mut named = streams(vec![Stream { fec: Some(Fec { ssrc: Some(5), payload_type: FEC }), ..any() }]);
        bind(&mut named, Instant::ZERO, 1);
        assert_eq!(named.judge(Instant::ZERO, 5, FEC), Verdict::Bound);
        assert_eq!(named.judge(Instant::ZERO, 9, FEC), Verdict::Unknown);
    }

    #[test]
    fn a_chain_that_refuses_a_stream_is_not_asked_again_with_each_packet() {
        let mut streams = streams(vec![any(), Stream { ssrc: Some(5), ..any() }]);
        for (index, ssrc) in [(0, 1), (1, 5)] {
            assert_eq!(streams.judge(Instant::ZERO, ssrc, VIDEO), Verdict::New(index));
            streams.refused(Instant::ZERO, index);
            assert_eq!(streams.judge(Instant::from_millis(4999), ssrc, VIDEO), Verdict::Unknown);
            assert_eq!(streams.judge(Instant::from_millis(5000), ssrc, VIDEO), Verdict::New(index));
        }
    }

    #[test]
    fn a_derived_ssrc_is_nobodys() {
        for ssrc in [0, 1, u32::MAX, 0x1111] {
            let first = derive(RTX_OF, ssrc, |_| false);
            let second = derive(RTX_OF, ssrc, |taken| taken == first);
            assert!(first != 0 && first != ssrc && second != first && second != 0 && second != ssrc);
        }
    }
}
