//! Who talks to whom in a capture: conversations, their streams, and what is to be fed to which session when.
//!
//! A capture has no signalling, so all of this is concluded from the packets. Media is what looks like RTP twice in
//! sequence (RFC 3550, A.1) from one address to another; a conversation is a pair of addresses with media; RTCP belongs to
//! the conversation whose ports or sources it names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{Kind, RtpPacket};

use super::capture::Captured;
use super::datagram::{self, Skip, Skipped};
use super::formats::{Format, Formats, Known};
use super::rtcp;

/// One way between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Flow {
    pub(crate) fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    fn hosts(self) -> (std::net::IpAddr, std::net::IpAddr) {
        let (one, other) = (self.source.ip(), self.destination.ip());
        (one.min(other), one.max(other))
    }
}

/// Which way of its conversation a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// As its first media.
    Forward,
    /// Against it.
    Backward,
}

impl Way {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// Two addresses with media between them.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// How its first media goes.
    pub(crate) forward: Flow,
    /// How RTCP goes, where there is any: forward and backward.
    rtcp: [Option<Flow>; 2],
}

impl Conversation {
    pub(crate) fn media(&self, way: Way) -> Flow {
        match way {
            Way::Forward => self.forward,
            Way::Backward => self.forward.reversed(),
        }
    }

    /// How RTCP goes in one way: as captured, or as an answer to what was captured in the other, or with the media.
    pub(crate) fn rtcp(&self, way: Way) -> Flow {
        let [forward, backward] = self.rtcp;
        let (here, there) = if way == Way::Forward { (forward, backward) } else { (backward, forward) };
        here.or(there.map(Flow::reversed)).unwrap_or_else(|| self.media(way))
    }
}

/// A stream of the capture.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) conversation: usize,
    pub(crate) way: Way,
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) format: Format,
    pub(crate) known: Known,
    /// The source that retransmits this one's packets.
    pub(crate) rtx: Option<u32>,
    /// The source of packets that protect this one's.
    pub(crate) fec: Option<u32>,
}

/// A datagram for a session.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) time: Duration,
    pub(crate) conversation: usize,
    pub(crate) way: Way,
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
}

/// A capture, understood.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) sources: Vec<Source>,
    pub(crate) steps: Vec<Step>,
    pub(crate) skipped: Skipped,
    pub(crate) warnings: Vec<String>,
}

/// A datagram that is RTP or RTCP by its looks.
struct Heard {
    time: Duration,
    flow: Flow,
    kind: Kind,
    bytes: Bytes,
    /// Where it is RTP indeed.
    rtp: Option<RtpPacket>,
}

impl Heard {
    fn source(&self) -> Option<(Flow, u32)> {
        self.rtp.as_ref().map(|packet| (self.flow, packet.ssrc()))
    }
}

/// What is known of a source from its packets.
#[derive(Debug, Default)]
struct Seen {
    packets: u64,
    /// Two packets came in sequence.
    real: bool,
    sequence_number: u16,
    timestamp: u32,
    first: Duration,
    last: Duration,
    /// How far timestamps went.
    units: i64,
    payload_types: BTreeMap<u8, u64>,
    /// For a source of retransmissions or repair packets: how often a packet could be one for this source.
    votes: BTreeMap<u32, u64>,
}

impl Seen {
    fn note(&mut self, time: Duration, packet: &RtpPacket) {
        if self.packets == 0 {
            self.first = time;
        } else {
            self.real |= packet.sequence_number() == self.sequence_number.wrapping_add(1);
            self.units += i64::from(packet.timestamp().wrapping_sub(self.timestamp) as i32);
        }
        self.packets += 1;
        self.last = self.last.max(time);
        self.sequence_number = packet.sequence_number();
        self.timestamp = packet.timestamp();
        *self.payload_types.entry(packet.payload_type()).or_default() += 1;
    }

    fn payload_type(&self) -> u8 {
        self.payload_types.iter().max_by_key(|(_, packets)| **packets).map_or(0, |(payload_type, _)| *payload_type)
    }
}

/// Works out what the packets of a capture `file` hold. Only datagrams from or to one of `ports` count, if any are given.
pub(crate) fn plan(file: &Bytes, packets: &[Captured<'_>], formats: &Formats, ports: &[u16]) -> Plan {
    let mut plan = Plan::default();
    let heard = listen(file, packets, ports, &mut plan);
    let seen = survey(&heard, formats);
    let mut known = HashSet::new();
    let mut order: Vec<_> = heard.iter().filter_map(Heard::source).filter(|source| known.insert(*source)).collect();
    order.retain(|source| seen.get(source).is_some_and(|seen| seen.real));
    plan.converse(&order, &seen, formats);
    plan.assign(heard);
    plan
}

/// The datagrams that may be RTP or RTCP (RFC 7983, 7).
fn listen(file: &Bytes, packets: &[Captured<'_>], ports: &[u16], plan: &mut Plan) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut links = BTreeMap::<i32, u64>::new();
    for captured in packets {
        let found = match datagram::datagram(captured) {
            Ok(found) => found,
            Err(why) => {
                if let Skip::Link(link) = why {
                    *links.entry(link.0).or_default() += 1;
                }
                plan.skipped.count(why);
                continue;
            }
        };
        let selected =
            ports.is_empty() || [found.source, found.destination].iter().any(|end| ports.contains(&end.port()));
        if !selected || !matches!(found.payload.first(), Some(128..=191)) {
            plan.skipped.not_rtp += 1;
            continue;
        }
        let flow = Flow { source: found.source, destination: found.destination };
        let kind = Kind::of(found.payload);
        let bytes = file.slice_ref(found.payload);
        let rtp = if kind == Kind::Rtp { RtpPacket::parse(bytes.clone()).ok() } else { None };
        heard.push(Heard { time: captured.time, flow, kind, bytes, rtp });
    }
    plan.warnings.extend(links.into_iter().map(|(link, packets)| {
        format!(
            "{packets} packets have link type {link}, which is not read; known are Ethernet (1), Linux cooked (113, 276), \
             BSD loopback (0, 108) and raw IP (12, 14, 101, 228, 229)"
        )
    }));
    heard
}

fn survey(heard: &[Heard], formats: &Formats) -> HashMap<(Flow, u32), Seen> {
    let mut seen = HashMap::<(Flow, u32), Seen>::new();
    let mut real = HashMap::<Flow, Vec<u32>>::new();
    for heard in heard {
        let Some(packet) = &heard.rtp else { continue };
        let source = (heard.flow, packet.ssrc());
        let candidates = |original: u8| {
            let real = real.get(&heard.flow).into_iter().flatten();
            let real = real.map(|ssrc| (*ssrc, &seen[&(heard.flow, *ssrc)]));
            real.filter(move |(_, seen)| seen.payload_type() == original)
        };
        let (rtx, fec) = (formats.retransmitted_by(packet.payload_type()), formats.protected_by(packet.payload_type()));
        let vote = rtx
            .and_then(|original| original_of(packet, candidates(original)))
            .or_else(|| fec.and_then(|original| protected_of(packet, candidates(original).map(|(ssrc, _)| ssrc))));
        let entry = seen.entry(source).or_default();
        let before = entry.real;
        entry.note(heard.time, packet);
        if let Some(original) = vote {
            *entry.votes.entry(original).or_default() += 1;
        }
        if entry.real && !before {
            real.entry(heard.flow).or_default().push(packet.ssrc());
        }
    }
    seen
}

/// Of the sources whose packets it may retransmit, the one that most lately had the sequence number that it carries
/// (RFC 4588, 4).
fn original_of<'s>(packet: &RtpPacket, candidates: impl Iterator<Item = (u32, &'s Seen)>) -> Option<u32> {
    /// A retransmission of anything older would be of no use to anyone.
    const OLDEST: u16 = 4096;
    let [high, low, ..] = packet.payload()[..] else { return None };
    let original = u16::from_be_bytes([high, low]);
    candidates
        .map(|(ssrc, seen)| (seen.sequence_number.wrapping_sub(original), ssrc))
        .filter(|(age, _)| *age < OLDEST)
        .min()
        .map(|(_, ssrc)| ssrc)
}

/// Of the sources that it may protect, the one that its header names first (draft-ietf-payload-flexible-fec-scheme-03, 4.2.2.1).
fn protected_of(packet: &RtpPacket, mut candidates: impl Iterator<Item = u32>) -> Option<u32> {
    let named = packet.payload().get(12..16).map(|ssrc| u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]]))?;
    candidates.find(|ssrc| *ssrc == named)
}

impl Plan {
    /// Makes conversations and streams of the sources that are real, in the order in which they were first heard.
    fn converse(&mut self, order: &[(Flow, u32)], seen: &HashMap<(Flow, u32), Seen>, formats: &Formats) {
        for (flow, _) in order {
            if self.find(*flow).is_none() {
                self.conversations.push(Conversation { forward: *flow, rtcp: [None, None] });
            }
        }
        let is_rtx = |seen: &Seen| formats.retransmitted_by(seen.payload_type()).is_some();
        let is_companion = |seen: &Seen| is_rtx(seen) || formats.protected_by(seen.payload_type()).is_some();
        let (mut retransmits, mut protects) = (HashMap::new(), HashMap::new());
        for (flow, ssrc) in order {
            let companion = &seen[&(*flow, *ssrc)];
            if !is_companion(companion) {
                continue;
            }
            let (found, what) = match is_rtx(companion) {
                true => (&mut retransmits, "retransmissions"),
                false => (&mut protects, "repair packets"),
            };
            match companion.votes.iter().max_by_key(|(_, votes)| **votes) {
                Some((original, _)) => _ = found.entry((*flow, *original)).or_insert(*ssrc),
                None => self.warnings.push(format!(
                    "the source {ssrc:#010x} sends {what} (payload type {}) of no stream of the capture; they are replayed as \
                     packets of no stream",
                    companion.payload_type()
                )),
            }
        }
        for (flow, ssrc) in order {
            let Some((conversation, way)) = self.find(*flow) else { continue };
            let seen = &seen[&(*flow, *ssrc)];
            if is_companion(seen) {
                continue;
            }
            let payload_type = seen.payload_type();
            let units = u64::try_from(seen.units).unwrap_or(0);
            let (format, known) = formats.of(payload_type, units, seen.last - seen.first);
            let rtx = retransmits.get(&(*flow, *ssrc)).copied();
            let fec = protects.get(&(*flow, *ssrc)).copied();
            self.sources.push(Source { conversation, way, ssrc: *ssrc, payload_type, format, known, rtx, fec });
        }
    }

    /// The conversation that a flow is of.
    fn find(&self, flow: Flow) -> Option<(usize, Way)> {
        self.conversations.iter().enumerate().find_map(|(index, conversation)| match conversation.forward {
            forward if forward == flow => Some((index, Way::Forward)),
            forward if forward.reversed() == flow => Some((index, Way::Backward)),
            _ => None,
        })
    }

    /// Gives each datagram to its conversation.
    fn assign(&mut self, heard: Vec<Heard>) {
        // Looked up for each packet; a capture may have many conversations.
        let mut ways: HashMap<Flow, Option<(usize, Way)>> = HashMap::new();
        for heard in heard {
            let found = match heard.kind {
                Kind::Rtp => *ways.entry(heard.flow).or_insert_with(|| self.find(heard.flow)),
                Kind::Rtcp => self.place_rtcp(&heard),
            };
            match (found, heard.kind) {
                (Some((conversation, way)), kind) => {
                    self.steps.push(Step { time: heard.time, conversation, way, kind, bytes: heard.bytes });
                }
                (None, Kind::Rtp) => self.skipped.not_rtp += 1,
                (None, Kind::Rtcp) => self.skipped.stray_rtcp += 1,
            }
        }
    }

    /// The conversation that RTCP is of, by the first that tells:
    ///
    /// 1. it goes where the media goes (RFC 5761);
    /// 2. it goes where earlier RTCP went, or back;
    /// 3. it goes to the port after one of the media's (RFC 3550, 11);
    /// 4. it comes from one of the conversation's sources, or is about one, between the same hosts if there are several.
    fn place_rtcp(&mut self, heard: &Heard) -> Option<(usize, Way)> {
        let flow = heard.flow;
        let found = self.find(flow).or_else(|| self.known_rtcp(flow)).or_else(|| self.beside(flow)).or_else(|| {
            let named = rtcp::named(&heard.bytes);
            let all: Vec<_> = self.by_sources(&named).collect();
            let near = |(index, _): &&(usize, Way)| self.conversations[*index].forward.hosts() == flow.hosts();
            all.iter().find(near).or(all.first()).copied()
        })?;
        let (index, way) = found;
        self.conversations[index].rtcp[usize::from(way == Way::Backward)].get_or_insert(flow);
        Some(found)
    }

    fn known_rtcp(&self, flow: Flow) -> Option<(usize, Way)> {
        let ways = [Way::Forward, Way::Backward];
        self.conversations.iter().enumerate().find_map(|(index, conversation)| {
            ways.into_iter().zip(conversation.rtcp).find_map(|(way, known)| match known? {
                known if known == flow => Some((index, way)),
                known if known.reversed() == flow => Some((index, way.opposite())),
                _ => None,
            })
        })
    }

    fn beside(&self, flow: Flow) -> Option<(usize, Way)> {
        let follows =
            |rtcp: SocketAddr, rtp: SocketAddr| rtcp.ip() == rtp.ip() && rtp.port().checked_add(1) == Some(rtcp.port());
        self.conversations.iter().enumerate().find_map(|(index, conversation)| {
            let forward = conversation.forward;
            match forward.hosts() == flow.hosts() {
                true if follows(flow.destination, forward.destination) => Some((index, Way::Forward)),
                true if follows(flow.destination, forward.source) => Some((index, Way::Backward)),
                _ => None,
            }
        })
    }

    fn by_sources(&self, named: &rtcp::Named) -> impl Iterator<Item = (usize, Way)> {
        let of = |ssrc: u32| {
            let sources = self
                .sources
                .iter()
                .filter(move |source| [Some(source.ssrc), source.rtx, source.fec].contains(&Some(ssrc)));
            sources.map(|source| (source.conversation, source.way))
        };
        let from = named.sender.into_iter().flat_map(of);
        let about = named.about.clone().into_iter().flat_map(of);
        from.chain(about.map(|(conversation, way)| (conversation, way.opposite())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::capture;
    use crate::replay::pcapng::PcapngWriter;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Media both ways between two hosts, with RTCP of every kind of place.
    fn call() -> Vec<u8> {
        let (here, there) = (address("192.0.2.1:5004"), address("192.0.2.2:6004"));
        let rtp = |ssrc: u8, number: u8| vec![0x80, 96, 0, number, 0, 0, number, 0, 0, 0, 0, ssrc, 1, 2, 3];
        // A receiver report by `from` about `about`.
        let report = |from: u8, about: u8| [&[0x81, 201, 0, 7, 0, 0, 0, from, 0, 0, 0, about][..], &[0; 20]].concat();
        let mut sent = Vec::new();
        for number in 0..10 {
            sent.push((here, there, rtp(1, number)));
            sent.push((there, here, rtp(2, number)));
        }
        sent.push((here, there, report(1, 2)));
        sent.push((address("192.0.2.1:5005"), address("192.0.2.2:6005"), report(1, 2)));
        sent.push((address("192.0.2.2:6005"), address("192.0.2.1:5005"), report(2, 1)));
        sent.push((address("192.0.2.9:1"), address("192.0.2.8:2"), report(77, 1)));
        sent.push((address("192.0.2.9:3"), address("192.0.2.8:4"), report(77, 78)));
        let mut writer = PcapngWriter::new(Vec::new(), &[("all", "")]).unwrap();
        for (at, (source, destination, payload)) in sent.into_iter().enumerate() {
            let bytes = datagram::packet(source, destination, &payload).unwrap();
            writer.packet(0, Duration::from_millis(at as u64), &bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    fn planned(file: &[u8]) -> Option<Plan> {
        let file = Bytes::copy_from_slice(file);
        let capture = capture::read(&file).ok()?;
        let formats = Formats { rtx: vec![(97, 96)], ..Formats::default() };
        Some(plan(&file, &capture.packets, &formats, &[]))
    }

    #[test]
    fn rtcp_finds_its_conversation_by_address_by_port_and_by_source() {
        let plan = planned(&call()).unwrap();
        assert_eq!((plan.conversations.len(), plan.sources.len()), (1, 2));
        let ways: Vec<Way> = plan.steps.iter().filter(|step| step.kind == Kind::Rtcp).map(|step| step.way).collect();
        // The last is about source 1, which sends forward, so it goes back.
        assert_eq!(ways, [Way::Forward, Way::Forward, Way::Backward, Way::Backward]);
        assert_eq!(plan.skipped.stray_rtcp, 1);
        let back = plan.conversations[0].rtcp(Way::Backward);
        assert_eq!(back.destination, address("192.0.2.1:5005"));
    }

    #[test]
    fn no_damage_to_a_capture_is_more_than_an_error() {
        let file = call();
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..3000 {
            let mut damaged = file.clone();
            for _ in 0..1 + next(8) {
                let at = next(damaged.len());
                damaged[at] = next(256) as u8;
            }
            damaged.truncate(1 + next(damaged.len()).max(next(damaged.len())));
            planned(&damaged);
        }
    }
}
