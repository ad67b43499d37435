//! What a host knows of one session with one plugin, and the rules by which it takes what a plugin gives.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::attributes::{Attribute, Value};
use crate::binding::{Access, Binding, View};
use crate::context::{HeldId, HeldPacket, HistoryEntry, Level, Payload};
use crate::edit::HeaderBuf;
use crate::error::{AttributeError, EmitError, SinkError, StampError};
use crate::frame::HEAD;
use crate::header::Header;
use crate::instance::Direction;
use crate::packet::RtcpParts;
use crate::stream::{StreamId, StreamInfo};
use crate::testing::feed::{Feed, Packet};
use crate::testing::harness::Setup;
use crate::testing::history::History;
use crate::testing::timer::Timer;
use crate::time::Instant;

/// What one call may emit (the host's defaults).
const PACKETS_PER_CALL: usize = 1024;
const BYTES_PER_CALL: usize = 2 << 20;
/// What may be held for a session (the host's defaults).
const HELD_PACKETS: usize = 8192;
const HELD_BYTES: usize = 16 << 20;
/// Values that wait for packets, at most, and how many of them are few (the host's).
const STAMPS: usize = 1024;
const FEW_STAMPS: usize = 32;
const WANTED_STAMPS: usize = 128;
/// What one call and one second may write to the sink (the host's defaults).
const SINK_PER_CALL: usize = 1 << 20;
const SINK_PER_SECOND: usize = 8 << 20;
/// What one packet may carry (the host's defaults).
const ATTRIBUTES: usize = 16;
const ATTRIBUTE_BYTES: usize = 4096;

/// A bound stream.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) direction: Direction,
    pub(crate) info: StreamInfo,
    pub(crate) binding: Binding,
    pub(crate) history: History,
    pub(crate) timer: Timer,
}

impl Stream {
    /// Whether this is a header that a packet of the stream or of its companions may have.
    fn check_header<'a>(&self, header: &'a [u8]) -> Result<Header<'a>, EmitError> {
        let parsed = Header::parse(header).map_err(|error| EmitError::Malformed(error.to_string()))?;
        let StreamInfo { ssrc, ssrc_retransmission, ssrc_forward_error_correction, .. } = self.info;
        if parsed.len() != header.len() {
            return Err(EmitError::Malformed("bytes behind the RTP header".to_owned()));
        }
        match [Some(ssrc), ssrc_retransmission, ssrc_forward_error_correction].contains(&Some(parsed.ssrc())) {
            true => Ok(parsed),
            false => Err(EmitError::ForeignSsrc),
        }
    }
}

/// A packet of the call that is running.
pub(crate) struct Shown {
    pub(crate) stream: Option<StreamId>,
    pub(crate) view: View,
    pub(crate) transform: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) repaired: bool,
    pub(crate) time: Instant,
    pub(crate) handed_on: bool,
}

/// A packet that the plugin holds.
#[derive(Clone)]
pub(crate) struct Held {
    stream: StreamId,
    packet: HeldPacket,
    feed: Feed,
    /// Since the call that is running.
    new: bool,
}

/// The host's side of a harness.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Instant,
    pub(crate) streams: Vec<Stream>,
    pub(crate) timer: Timer,
    pub(crate) shown: Vec<Shown>,
    pub(crate) went_on: Vec<Packet>,
    pub(crate) emitted_rtp: Vec<Packet>,
    pub(crate) emitted_rtcp: Vec<Packet>,
    pub(crate) published: Vec<(String, String)>,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) sunk: Vec<Vec<u8>>,
    /// By their numbers.
    pub(crate) held: BTreeMap<u64, Held>,
    next_held: u64,
    /// Values that no packet has taken.
    pub(crate) stamps: VecDeque<Vec<u8>>,
    pub(crate) unstamped: u64,
    /// Streams of whose packets a successor has asked, while it takes over.
    claimed: Option<Vec<StreamId>>,
    /// Values of the session: the plugin's own, and those of everyone else.
    pub(crate) own_values: Vec<Attribute>,
    pub(crate) others_values: Vec<Attribute>,
    random: u64,
    order: u64,
    packets_this_call: usize,
    bytes_this_call: usize,
    sunk_this_call: usize,
    /// The second, and bytes in it.
    sunk_this_second: (u64, usize),
}

thread_local! {
    /// Of the harness that is calling its plugin.
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Makes `world` the host for the time of `call`.
pub(crate) fn enter<R>(world: World, call: impl FnOnce() -> R) -> (World, R) {
    CURRENT.set(Some(world));
    let result = call();
    let Some(world) = CURRENT.take() else { unreachable!("a harness runs inside another one's call") };
    (world, result)
}

/// The host of the call that is running.
pub(crate) fn with<R>(call: impl FnOnce(&mut World) -> R) -> R {
    CURRENT.with_borrow_mut(|current| match current {
        Some(world) => call(world),
        None => panic!("a Context works only while the harness calls the plugin"),
    })
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut world = World {
            now: setup.start,
            random: setup.seed,
            setup,
            streams: Vec::new(),
            timer: Timer::default(),
            shown: Vec::new(),
            went_on: Vec::new(),
            emitted_rtp: Vec::new(),
            emitted_rtcp: Vec::new(),
            published: Vec::new(),
            logs: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            sunk: Vec::new(),
            held: BTreeMap::new(),
            next_held: 0,
            stamps: VecDeque::new(),
            unstamped: 0,
            claimed: None,
            own_values: Vec::new(),
            others_values: Vec::new(),
            order: 0,
            packets_this_call: 0,
            bytes_this_call: 0,
            sunk_this_call: 0,
            sunk_this_second: (0, 0),
        };
        // The host gives a plugin numbers of its own, drawn from the session's.
        world.random = world.random();
        world
    }

    /// A call of the host's begins.
    pub(crate) fn begin(&mut self) {
        self.held.values_mut().for_each(|held| held.new = false);
        self.packets_this_call = 0;
        self.bytes_this_call = 0;
        self.sunk_this_call = 0;
    }

    pub(crate) fn stream(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    fn leaves(
        &mut self,
        stream: Option<StreamId>,
        bytes: Vec<u8>,
        attributes: Vec<Attribute>,
        repaired: bool,
    ) -> Packet {
        self.order += 1;
        Packet { bytes, attributes, repaired, stream, time: self.now, order: self.order }
    }

    /// A packet that no plugin keeps back.
    pub(crate) fn pass(&mut self, stream: Option<StreamId>, packet: Feed) {
        let packet = self.leaves(stream, packet.bytes, packet.attributes, packet.repaired);
        self.went_on.push(packet);
    }

    /// `burst.next`. What it panics on, the host calls a fault of the plugin.
    pub(crate) fn next(&mut self, mut frames: &[u8]) {
        while !frames.is_empty() {
            let included = frames.get(2..4).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
            let Some((frame, rest)) = frames.split_at_checked(HEAD + included) else { panic!("a frame is cut short") };
            frames = rest;
            let (head, bytes) = frame.split_at(HEAD);
            let id = u32::from_le_bytes([head[20], head[21], head[22], head[23]]);
            let Some(shown) = self.shown.get_mut(id as usize) else { panic!("packet {id} is not of this call") };
            assert!(shown.transform, "packet {id} is only observed and cannot be handed on");
            assert!(!shown.handed_on, "packet {id} is handed on twice");
            shown.handed_on = true;
            let (stream, repaired) = (shown.stream, shown.repaired);
            let attributes = std::mem::take(&mut shown.attributes);
            let mut whole = std::mem::take(&mut shown.bytes);
            if !bytes.is_empty() && stream.is_some() {
                let Ok(header) = Header::parse(bytes) else { panic!("packet {id} is replaced by what is not RTP") };
                if shown.view == View::Headers {
                    assert_eq!(header.len(), bytes.len(), "bytes follow the header in place of packet {id}'s");
                    let payload = Header::parse(&whole).map_or(0, |header| header.len());
                    whole.splice(..payload, bytes.iter().copied());
                } else {
                    whole = bytes.to_vec();
                }
            } else if !bytes.is_empty() {
                let whole_packets: usize = RtcpParts::of(bytes).map(|part| part.bytes.len()).sum();
                assert_eq!(whole_packets, bytes.len(), "packet {id} is replaced by what is not RTCP");
                whole = bytes.to_vec();
            }
            self.pass(stream, Feed { bytes: whole, attributes, repaired, time: None });
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), EmitError> {
        if self.packets_this_call >= PACKETS_PER_CALL || self.bytes_this_call + bytes > BYTES_PER_CALL {
            return Err(EmitError::Quota);
        }
        self.packets_this_call += 1;
        self.bytes_this_call += bytes;
        Ok(())
    }

    pub(crate) fn emit_rtp(
        &mut self,
        id: StreamId,
        header: &[u8],
        payload: Payload<'_>,
        added: &[Attribute],
    ) -> Result<(), EmitError> {
        let mtu = usize::from(self.setup.mtu);
        let stream = self.stream(id).ok_or(EmitError::Unknown)?;
        let parsed = stream.check_header(header)?;
        let (ssrc, info) = (parsed.ssrc(), &stream.info);
        let (mut bytes, mut attributes) = (header.to_vec(), Vec::new());
        let repaired;
        match payload {
            Payload::Bytes(payload) => {
                // An observer may speak on a companion's SSRC and from the history, not in the stream's place.
                if ssrc == info.ssrc && !matches!(stream.binding.access, Access::Transform(_)) {
                    return Err(EmitError::Denied);
                }
                // It stands for one of the peer's that did not arrive.
                repaired = stream.direction == Direction::Read && ssrc == info.ssrc;
                bytes.extend_from_slice(payload);
            }
            Payload::History { sequence_number, prefix } => {
                let kept = stream.history.lookup(sequence_number).ok_or(EmitError::NotInHistory)?;
                bytes.extend_from_slice(prefix);
                bytes.extend_from_slice(&kept.payload);
                attributes.clone_from(&kept.attributes);
                repaired = kept.repaired;
            }
        }
        for attribute in added {
            set(&mut attributes, &attribute.key, Some(&attribute.value))
                .map_err(|error| EmitError::Other(error.to_string()))?;
        }
        if bytes.len() > mtu {
            return Err(EmitError::TooLarge);
        }
        let padding = usize::from(bytes.last().copied().unwrap_or(0));
        if parsed.padding() && (padding == 0 || padding > bytes.len() - header.len()) {
            return Err(EmitError::Malformed("padding does not fit the payload".to_owned()));
        }
        self.spend(bytes.len())?;
        let packet = self.leaves(Some(id), bytes, attributes, repaired);
        self.emitted_rtp.push(packet);
        Ok(())
    }

    pub(crate) fn keep(&mut self, packet: u32) -> Result<HeldId, EmitError> {
        let shown = self.shown.get_mut(packet as usize).filter(|shown| !shown.handed_on).ok_or(EmitError::Unknown)?;
        let stream = shown.stream.filter(|_| shown.transform).ok_or(EmitError::Denied)?;
        let bytes: usize = self.held.values().map(|held| held.packet.size).sum();
        if self.held.len() >= HELD_PACKETS || bytes + shown.bytes.len() > HELD_BYTES {
            return Err(EmitError::Quota);
        }
        let header = Header::parse(&shown.bytes).map(|header| header.as_bytes().to_vec());
        let header = header.map_err(|error| EmitError::Malformed(error.to_string()))?;
        shown.handed_on = true;
        let id = HeldId(self.next_held);
        self.next_held += 1;
        let (size, time, repaired) = (shown.bytes.len(), shown.time, shown.repaired);
        let packet = HeldPacket { id, header, size, time, repaired };
        let (bytes, attributes) = (std::mem::take(&mut shown.bytes), std::mem::take(&mut shown.attributes));
        let feed = Feed { bytes, repaired, attributes, time: Some(time) };
        self.held.insert(id.0, Held { stream, packet, feed, new: true });
        Ok(id)
    }

    pub(crate) fn release(&mut self, id: HeldId, header: &[u8], added: &[Attribute]) -> Result<(), EmitError> {
        let held = self.held.get(&id.0).filter(|_| self.claimed.is_none());
        let Held { stream, packet, feed, .. } = held.ok_or(EmitError::Unknown)?;
        let (stream, mut bytes, mut attributes) = (*stream, feed.bytes.clone(), feed.attributes.clone());
        if !header.is_empty() {
            let known = self.streams.iter().find(|known| known.id == stream).ok_or(EmitError::Unknown)?;
            known.check_header(header)?;
            bytes.splice(..packet.header.len(), header.iter().copied());
            if bytes.len() > usize::from(self.setup.mtu) {
                return Err(EmitError::TooLarge);
            }
        }
        for attribute in added {
            set(&mut attributes, &attribute.key, Some(&attribute.value))
                .map_err(|error| EmitError::Other(error.to_string()))?;
        }
        let repaired = packet.repaired;
        self.held.remove(&id.0);
        let packet = self.leaves(Some(stream), bytes, attributes, repaired);
        self.emitted_rtp.push(packet);
        Ok(())
    }

    pub(crate) fn discard(&mut self, id: HeldId) -> bool {
        self.claimed.is_none() && self.held.remove(&id.0).is_some()
    }

    pub(crate) fn held(&mut self, stream: StreamId) -> Vec<HeldPacket> {
        self.claimed.iter_mut().for_each(|claimed| claimed.push(stream));
        let of_stream = self.held.values().filter(|held| held.stream == stream && !held.new);
        of_stream.map(|held| held.packet.clone()).collect()
    }

    /// A successor takes over what `before` holds, whose streams are to have these ids here.
    pub(crate) fn inherit(&mut self, before: &Self, ids: &[StreamId]) {
        let new_id =
            |id| before.streams.iter().zip(ids).find(|(stream, _)| stream.id == id).map_or(id, |(_, new)| *new);
        self.held.clone_from(&before.held);
        self.held.values_mut().for_each(|held| held.stream = new_id(held.stream));
        (self.next_held, self.claimed) = (before.next_held, Some(Vec::new()));
    }

    /// It has taken over; what it did not ask for goes on.
    pub(crate) fn inherited(&mut self) {
        let claimed = self.claimed.take().unwrap_or_default();
        self.release_held(|stream| !claimed.contains(&stream));
    }

    /// What the plugin leaves held when a stream ends, or everything does.
    pub(crate) fn release_held(&mut self, of: impl Fn(StreamId) -> bool) {
        let left: Vec<_> = self.held.extract_if(.., |_, held| of(held.stream)).collect();
        for (_, Held { stream, feed, .. }) in left {
            let packet = self.leaves(Some(stream), feed.bytes, feed.attributes, feed.repaired);
            self.emitted_rtp.push(packet);
        }
    }

    pub(crate) fn supply_stamps(&mut self, size: u8, values: &[u8]) -> Result<(), StampError> {
        let size = usize::from(size);
        let fits = (1..=16).contains(&size) && values.len().is_multiple_of(size);
        if !fits || self.stamps.front().is_some_and(|value| value.len() != size) {
            return Err(StampError::Size);
        }
        if self.stamps.len() + values.len() / size > STAMPS {
            return Err(StampError::Quota);
        }
        self.stamps.extend(values.chunks(size).map(<[u8]>::to_vec));
        Ok(())
    }

    /// How many stamps to ask for now, if few are left.
    pub(crate) fn wanted_stamps(&self) -> Option<usize> {
        (self.stamps.len() < FEW_STAMPS).then(|| WANTED_STAMPS - self.stamps.len())
    }

    /// Puts the extension with this id on a packet that passes the plugin.
    pub(crate) fn stamp(&mut self, id: StreamId, extension: u8, mut feed: Feed) {
        let stamped = self.stamps.front().and_then(|value| with_extension(&feed.bytes, extension, value));
        let len = feed.bytes.len();
        match stamped.filter(|bytes| bytes.len() == len || bytes.len() <= usize::from(self.setup.mtu)) {
            Some(bytes) => {
                feed.bytes = bytes;
                self.stamps.pop_front();
            }
            None => self.unstamped += 1,
        }
        self.pass(Some(id), feed);
    }

    pub(crate) fn emit_rtcp(&mut self, packets: &[u8]) -> Result<(), EmitError> {
        let parts = || RtcpParts::of(packets).map(|part| part.bytes.len());
        if packets.is_empty() || parts().sum::<usize>() != packets.len() {
            return Err(EmitError::Malformed("the packets' lengths do not add up".to_owned()));
        }
        if parts().max().unwrap_or(0) > usize::from(self.setup.mtu) {
            return Err(EmitError::TooLarge);
        }
        self.spend(packets.len())?;
        let packet = self.leaves(None, packets.to_vec(), Vec::new(), false);
        self.emitted_rtcp.push(packet);
        Ok(())
    }

    pub(crate) fn write_sink(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if !self.setup.sink {
            return Err(SinkError::Denied);
        }
        let second = self.now.as_nanos() / 1_000_000_000;
        if self.sunk_this_second.0 != second {
            self.sunk_this_second = (second, 0);
        }
        let size = bytes.len().max(64);
        if self.sunk_this_call + size > SINK_PER_CALL || self.sunk_this_second.1 + size > SINK_PER_SECOND {
            return Err(SinkError::Quota);
        }
        self.sunk_this_call += size;
        self.sunk_this_second.1 += size;
        self.sunk.push(bytes.to_vec());
        Ok(())
    }

    pub(crate) fn lookup(&mut self, stream: StreamId, sequence_number: u16) -> Option<HistoryEntry> {
        let kept = self.stream(stream)?.history.lookup(sequence_number)?;
        let size = kept.header.len() + kept.payload.len();
        Some(HistoryEntry { header: kept.header.clone(), size, time: kept.entered })
    }

    pub(crate) fn set_attribute(
        &mut self,
        packet: u32,
        key: &str,
        value: Option<&Value>,
    ) -> Result<(), AttributeError> {
        let shown = self.shown.get_mut(packet as usize).ok_or(AttributeError::Unknown)?;
        if !shown.transform || key.starts_with("sandbar.") {
            return Err(AttributeError::Denied);
        }
        set(&mut shown.attributes, key, value)
    }

    /// The last to set a value has it, so no key is in both lists.
    pub(crate) fn session_attribute(&self, key: &str) -> Option<&Value> {
        let mut all = self.own_values.iter().chain(&self.others_values);
        all.find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
    }

    pub(crate) fn set_session_attribute(&mut self, key: &str, value: Option<&Value>) -> Result<(), AttributeError> {
        if key.starts_with("sandbar.") {
            return Err(AttributeError::Denied);
        }
        set(&mut self.own_values, key, value)?;
        if value.is_some() {
            self.others_values.retain(|attribute| attribute.key != key);
        }
        Ok(())
    }

    /// The same by another member or the application.
    pub(crate) fn others_set_session_attribute(&mut self, key: &str, value: Option<Value>) {
        self.others_values.retain(|attribute| attribute.key != key);
        if let Some(value) = value {
            self.own_values.retain(|attribute| attribute.key != key);
            self.others_values.push(Attribute { key: key.to_owned(), value });
        }
    }

    /// The 64-bit NTP timestamp of an instant, to the fraction.
    pub(crate) fn ntp(&self, at: Instant) -> u64 {
        let start = i128::from(self.setup.start.as_nanos());
        let nanos = i128::from(at.as_nanos()) - start;
        let fractions = (nanos << 32).div_euclid(1_000_000_000);
        (i128::from(self.setup.ntp) + fractions) as u64
    }

    /// SplitMix64: seeded, and good enough for tests.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

fn with_extension(packet: &[u8], id: u8, value: &[u8]) -> Option<Vec<u8>> {
    let mut header = HeaderBuf::parse(packet.to_vec()).ok()?;
    let payload = packet.get(header.as_bytes().len()..)?;
    header.edit().set_extension(id, value).ok()?;
    Some([header.as_bytes(), payload].concat())
}

fn size(attribute: &Attribute) -> usize {
    attribute.key.len()
        + match &attribute.value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 8,
        }
}

/// Sets or removes a value; an error changes nothing.
fn set(attributes: &mut Vec<Attribute>, key: &str, value: Option<&Value>) -> Result<(), AttributeError> {
    let mut after = attributes.clone();
    match (after.iter_mut().find(|attribute| attribute.key == key), value) {
        (Some(attribute), Some(value)) => attribute.value = value.clone(),
        (None, Some(value)) => after.push(Attribute { key: key.to_owned(), value: value.clone() }),
        (_, None) => after.retain(|attribute| attribute.key != key),
    }
    if after.len() > ATTRIBUTES || after.iter().map(size).sum::<usize>() > ATTRIBUTE_BYTES {
        return Err(AttributeError::Quota);
    }
    *attributes = after;
    Ok(())
}
