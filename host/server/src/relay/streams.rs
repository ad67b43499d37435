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
use crate::config::{DEFAULT_RELEARN_AFTER, Peer, Publisher, Rtx, Stream, StreamOverride};

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
    /// The SSRC of retransmissions that the chain knows.
    rtx: Option<u32>,
    /// The one on the wire, where it was learned, and when it was last heard.
    rtx_on_wire: Option<(u32, Instant)>,
}

/// What an RTP packet is to the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A packet of a bound stream or its companion.
    Bound,
    /// A retransmission whose SSRC on the wire is not the one that the chain knows, which is this.
    Retransmission(u32),
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
            if let (Some(shown), Some((on_wire, heard))) = (bound.rtx, &mut bound.rtx_on_wire)
                && *on_wire == ssrc
            {
                *heard = now;
                return Verdict::Retransmission(shown);
            }
            if bound.rtx == Some(ssrc) {
                return Verdict::Bound;
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
            let learns_rtx = declared.stream.rtx == Some(Rtx { ssrc: None, payload_type });
            if let (true, Some(bound)) = (learns_rtx, &mut declared.bound) {
                let free = bound.rtx_on_wire.is_none_or(|(_, heard)| now - heard >= relearn_after);
                return match bound.rtx {
                    Some(shown) if free => {
                        bound.rtx_on_wire = Some((ssrc, now));
                        Verdict::Retransmission(shown)
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
            let rtx = declared
                .stream
                .rtx
                .is_some_and(|rtx| rtx.ssrc.map_or(rtx.payload_type == payload_type, |named| named == ssrc));
            main || rtx
        })
    }

    /// What is said to the chain about stream `index` when its source is `ssrc`.
    pub(crate) fn info(&self, index: usize, ssrc: u32) -> Option<StreamInfo> {
        let stream = &self.get(index)?.stream;
        let rtx = stream.rtx.map(|rtx| Rtx { ssrc: Some(rtx.ssrc.unwrap_or_else(|| self.derive(ssrc))), ..rtx });
        Some(info(stream, ssrc, rtx))
    }

    /// Notes that stream `index` was bound as `info` says.
    pub(crate) fn bound(&mut self, now: Instant, index: usize, id: StreamId, info: &StreamInfo) {
        if let Some(declared) = self.declared.get_mut(index) {
            let rtx = info.ssrc_retransmission;
            declared.refused = None;
            declared.bound = Some(Bound { id, ssrc: info.ssrc, heard: now, rtx, rtx_on_wire: None });
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

    /// An SSRC for a stream's retransmissions that no stream of the leg has, the same for the same stream.
    fn derive(&self, ssrc: u32) -> u32 {
        derive_rtx(ssrc, |taken| {
            self.declared.iter().any(|declared| {
                let rtx = declared.stream.rtx.and_then(|rtx| rtx.ssrc);
                let bound = declared.bound.map(|bound| bound.ssrc);
                [declared.stream.ssrc, rtx, bound].contains(&Some(taken))
            })
        })
    }
}

/// A stream as one subscriber gets it: the publisher's, with what differs.
pub(crate) fn for_subscriber(stream: &Stream, differs: Option<&StreamOverride>) -> Stream {
    let mut stream = stream.clone();
    if let Some(differs) = differs {
        stream.rtx = differs.rtx.unwrap_or(stream.rtx);
        stream.rtcp_feedback = differs.rtcp_feedback.clone().unwrap_or(stream.rtcp_feedback);
        stream.extensions = differs.extensions.clone().unwrap_or(stream.extensions);
    }
    stream
}

/// What is said to a subscriber's chain about a stream. Retransmissions to it are the relay's own; where they have no
/// SSRC, one is derived that is not `taken`.
pub(crate) fn subscriber_info(stream: &Stream, ssrc: u32, taken: impl Fn(u32) -> bool) -> StreamInfo {
    let rtx = stream.rtx.map(|rtx| Rtx { ssrc: Some(rtx.ssrc.unwrap_or_else(|| derive_rtx(ssrc, taken))), ..rtx });
    info(stream, ssrc, rtx)
}

fn info(stream: &Stream, ssrc: u32, rtx: Option<Rtx>) -> StreamInfo {
    StreamInfo {
        id: stream.name.clone(),
        ssrc,
        ssrc_retransmission: rtx.and_then(|rtx| rtx.ssrc),
        payload_type: stream.payload_type,
        payload_type_retransmission: rtx.map(|rtx| rtx.payload_type),
        rtp_header_extensions: stream.extensions.clone(),
        mime_type: stream.mime_type.clone(),
        clock_rate: stream.clock_rate,
        channels: stream.channels,
        sdp_fmtp_line: stream.fmtp.clone(),
        rtcp_feedback: stream.rtcp_feedback.clone(),
        ..StreamInfo::default()
    }
}

/// An SSRC that is not taken, derived from the stream's and not drawn, so that a receiver finds the same after the relay
/// was restarted; and scattered, because a sender's own SSRCs may well be neighbours.
fn derive_rtx(ssrc: u32, taken: impl Fn(u32) -> bool) -> u32 {
    let mut derived = (ssrc ^ 0x5258_5258).wrapping_mul(0x9e37_79b1).rotate_left(15);
    while derived == 0 || derived == ssrc || taken(derived) {
        derived = derived.wrapping_add(1);
    }
    derived
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Leg;

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
        assert_eq!(streams.judge(Instant::ZERO, 9, RTX), Verdict::Retransmission(shown));
        assert_eq!(streams.judge(Instant::from_millis(4000), 9, RTX), Verdict::Retransmission(shown));
        assert_eq!(streams.judge(Instant::from_millis(4000), 8, RTX), Verdict::Unknown);
        assert_eq!(streams.judge(Instant::from_millis(9000), 8, RTX), Verdict::Retransmission(shown));
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
            let first = derive_rtx(ssrc, |_| false);
            let second = derive_rtx(ssrc, |taken| taken == first);
            assert!(first != 0 && first != ssrc && second != first && second != 0 && second != ssrc);
        }
    }
}
