//! The contract's imports: what a guest may ask of the host. Each call is bounded, and what it brings about is kept with
//! the guest until the call that it is part of has returned.

use wasmtime::component::{HasSelf, Linker, WasmList};

use crate::attributes::{Attributes, Value};
use crate::bindings::{
    attributes, emit_error, emit_rtp, history, hold, random, sink, stamps, telemetry, time, types, wall_clock,
};
use crate::event::Level;
use crate::fault::FaultKind;
use crate::guest::{Bound, Guest, Metric, Note, Out, Shown};
use crate::hold::{Hold, Place};
use crate::packet::{self, Fixed, Packet, RtpPacket};
use crate::plugin::CONTRACT;
use crate::rtcp;
use crate::tenant::Quota;
use crate::time::Instant;
use crate::timers::Scope;
use crate::wheel::Wheel;

/// Most timers that one call may set: more than it has sessions and streams means nothing.
const MAX_WAKES: usize = 1 << 16;
/// Most bytes of a metric's name.
const MAX_NAME: usize = 128;
/// Most bytes of an attribute's key.
const MAX_KEY: usize = 128;

pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = HasSelf<Guest>;
    types::add_to_linker::<_, Own>(linker, |guest| guest)?;
    emit_error::add_to_linker::<_, Own>(linker, |guest| guest)?;
    time::add_to_linker::<_, Own>(linker, |guest| guest)?;
    emit_rtp::add_to_linker::<_, Own>(linker, |guest| guest)?;
    history::add_to_linker::<_, Own>(linker, |guest| guest)?;
    hold::add_to_linker::<_, Own>(linker, |guest| guest)?;
    attributes::add_to_linker::<_, Own>(linker, |guest| guest)?;
    telemetry::add_to_linker::<_, Own>(linker, |guest| guest)?;
    wall_clock::add_to_linker::<_, Own>(linker, |guest| guest)?;
    random::add_to_linker::<_, Own>(linker, |guest| guest)?;
    sink::add_to_linker::<_, Own>(linker, |guest| guest)?;
    stamps::add_to_linker::<_, Own>(linker, |guest| guest)?;
    // By hand, these two, so that the guest's bytes are read where they are. They are copied, as they take effect after the call, when
    // the guest may have written something else there.
    linker.instance(&format!("sandbar:interceptor/burst@{CONTRACT}"))?.func_wrap(
        "next",
        |mut store: wasmtime::StoreContextMut<'_, Guest>, (frames,): (WasmList<u8>,)| {
            let mut handed = std::mem::take(&mut store.data_mut().call.effects.handed);
            let start = handed.len();
            handed.extend_from_slice(frames.as_le_slice(&store));
            let guest = store.data_mut();
            let result = guest.hand_on(&handed, start);
            guest.call.effects.handed = handed;
            result.map_err(|refused| {
                guest.call.blame = Some(FaultKind::BadBatch);
                wasmtime::Error::msg(refused.to_string())
            })
        },
    )?;
    linker.instance(&format!("sandbar:interceptor/emit-rtcp@{CONTRACT}"))?.func_wrap(
        "emit",
        |store: wasmtime::StoreContextMut<'_, Guest>, (seat, packets): (u32, WasmList<u8>)| {
            Ok((emit_rtcp(store, seat, &packets),))
        },
    )?;
    Ok(())
}

impl types::Host for Guest {}
impl emit_error::Host for Guest {}

impl time::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.call.now.as_nanos())
    }

    fn wake_session(&mut self, session: u32, at: Option<u64>, every: u64) -> wasmtime::Result<()> {
        self.set_timer(Scope::Session(session), at, every)
    }

    fn wake_stream(&mut self, stream: u32, at: Option<u64>, every: u64) -> wasmtime::Result<()> {
        self.set_timer(Scope::Stream(stream), at, every)
    }
}

impl Bound {
    /// Whether a packet of the plugin's own under this SSRC stands for one of the peer's that did not arrive.
    pub(crate) fn repairs(&self, ssrc: u32) -> bool {
        !self.local && self.info.ssrc == ssrc
    }
}

/// Whether this is a header that a packet of the stream or of its companions may have.
fn check_header(bound: &Bound, header: &[u8]) -> Result<(), emit_error::Error> {
    use emit_error::Error;
    match packet::header_len(header) {
        Err(error) => Err(Error::Malformed(error.to_string())),
        Ok(len) if len != header.len() => Err(Error::Malformed("bytes behind the RTP header".to_owned())),
        Ok(_) if !bound.info.owns(Fixed(header).ssrc()) => Err(Error::ForeignSsrc),
        Ok(_) => Ok(()),
    }
}

/// Whether a plugin may set an attribute under this key, on a packet or of the session.
fn check_key(key: &str) -> Result<(), attributes::Error> {
    if key.starts_with("sandbar.") {
        return Err(attributes::Error::Denied);
    }
    if key.len() > MAX_KEY { Err(attributes::Error::Quota) } else { Ok(()) }
}

/// Adds what a plugin puts on a packet of its own, or on one that it lets go.
fn add_attributes(to: &mut Attributes, added: Vec<types::Attribute>) -> Result<(), emit_error::Error> {
    use emit_error::Error;
    for attribute in added {
        check_key(&attribute.key).map_err(|error| match error {
            attributes::Error::Denied => Error::Denied,
            attributes::Error::Unknown | attributes::Error::Quota => Error::Quota,
        })?;
        let value = Some(attribute.value.into());
        to.set(&attribute.key, value).map_err(|error| Error::Other(error.to_string()))?;
    }
    Ok(())
}

impl Guest {
    fn set_timer(&mut self, scope: Scope, at: Option<u64>, every: u64) -> wasmtime::Result<()> {
        let at = at.map(|at| Wheel::<()>::due(Instant::from_nanos(at)));
        let seat = self.seat_of(scope);
        let Self { seats, streams, call, .. } = self;
        // Gone, or never there: nothing to set.
        let Some(seat) = seats.get_mut(seat) else { return Ok(()) };
        let timer = match scope {
            Scope::Session(_) => Some(&mut seat.timer),
            Scope::Stream(stream) => streams.get_mut(stream).map(|bound| &mut bound.timer),
        };
        let Some(timer) = timer else { return Ok(()) };
        match (timer.wake, at) {
            (None, Some(_)) => {
                if let Err(exceeded) = seat.holdings.take(Quota::Timers, 1) {
                    call.effects.exceed(exceeded);
                    return Ok(());
                }
            }
            (Some(_), None) => {
                seat.holdings.give(Quota::Timers, 1);
                // At most as many as have been set.
                call.effects.wakes.push(scope);
            }
            _ => {}
        }
        timer.set(at, every);
        if at.is_some() {
            let wakes = &mut call.effects.wakes;
            if wakes.len() >= MAX_WAKES {
                call.blame = Some(FaultKind::HostCall);
                return Err(wasmtime::Error::msg(format!("more than {MAX_WAKES} timers set in one call")));
            }
            wakes.push(scope);
        }
        Ok(())
    }

    fn emit_rtp(
        &mut self,
        stream: u32,
        header: &[u8],
        payload: emit_rtp::Payload,
        added: Vec<types::Attribute>,
    ) -> Result<(), emit_error::Error> {
        use emit_error::Error;
        let bound = self.streams.get(stream).ok_or(Error::Unknown)?;
        let mtu = usize::from(bound.mtu);
        check_header(bound, header)?;
        let mut emitted = match payload {
            emit_rtp::Payload::Bytes(bytes) => {
                // Who only observes a stream may answer for it from its history or on a companion's SSRC, and not speak
                // in its place.
                let ssrc = Fixed(header).ssrc();
                if ssrc == bound.info.ssrc && !bound.access.transforms() {
                    return Err(Error::Denied);
                }
                let mut emitted = RtpPacket::assemble(header, bytes.into());
                emitted.time = self.call.now;
                emitted.repaired = bound.repairs(ssrc);
                emitted
            }
            emit_rtp::Payload::History(from) => {
                let history = bound.history.and_then(|history| self.histories.get(history));
                let (kept, _) =
                    history.and_then(|history| history.lookup(from.sequence_number)).ok_or(Error::NotInHistory)?;
                // The P bit stays as it is with the payload: else its last byte could be made to show.
                let mut emitted = kept.clone();
                emitted.replace_header_only(header);
                if !from.prefix.is_empty() {
                    emitted.put_before_payload(&from.prefix);
                }
                // What the peer sent came when it came; what is sent to it is sent now.
                if bound.local {
                    emitted.time = self.call.now;
                }
                emitted
            }
        };
        add_attributes(&mut emitted.attributes, added)?;
        let (seat, size) = (bound.seat, emitted.size());
        if size > mtu {
            return Err(Error::TooLarge);
        }
        emitted.check_padding().map_err(|error| Error::Malformed(error.to_string()))?;
        if !self.spend(seat, size) {
            return Err(Error::Quota);
        }
        self.call.effects.send(Out::Rtp { stream }, emitted);
        Ok(())
    }

    /// Whether this is RTCP that a session may send.
    fn check_rtcp(&self, seat: u32, packets: &[u8]) -> Result<(), emit_error::Error> {
        use emit_error::Error;
        let mtu = usize::from(self.seats.get(seat).ok_or(Error::Unknown)?.mtu);
        rtcp::check(packets).map_err(|error| Error::Malformed(error.to_string()))?;
        if rtcp::largest(packets) > mtu { Err(Error::TooLarge) } else { Ok(()) }
    }
}

/// Sends RTCP of a session's.
fn emit_rtcp(
    mut store: wasmtime::StoreContextMut<'_, Guest>,
    seat: u32,
    packets: &WasmList<u8>,
) -> Result<(), emit_error::Error> {
    store.data().check_rtcp(seat, packets.as_le_slice(&store))?;
    let size = packets.as_le_slice(&store).len();
    if !store.data_mut().spend(seat, size) {
        return Err(emit_error::Error::Quota);
    }
    let mut handed = std::mem::take(&mut store.data_mut().call.effects.handed);
    let start = handed.len();
    handed.extend_from_slice(packets.as_le_slice(&store));
    let effects = &mut store.data_mut().call.effects;
    // What one call may emit ends far below 4 GiB.
    effects.out.push(Out::Rtcp { seat, start: start as u32, end: handed.len() as u32 });
    effects.handed = handed;
    Ok(())
}

impl emit_rtp::Host for Guest {
    fn emit(
        &mut self,
        stream: u32,
        header: Vec<u8>,
        payload: emit_rtp::Payload,
        attributes: Vec<types::Attribute>,
    ) -> wasmtime::Result<Result<(), emit_error::Error>> {
        Ok(self.emit_rtp(stream, &header, payload, attributes))
    }
}

impl stamps::Host for Guest {
    fn supply(&mut self, session: u32, size: u8, values: Vec<u8>) -> wasmtime::Result<Result<(), stamps::Error>> {
        let seat = self.seats.get_mut(session).ok_or(stamps::Error::Unknown);
        Ok(seat.and_then(|seat| seat.stamps.supply(size, &values)))
    }

    fn left(&mut self, session: u32) -> wasmtime::Result<u32> {
        Ok(self.seats.get(session).map_or(0, |seat| seat.stamps.left() as u32))
    }
}

impl history::Host for Guest {
    fn lookup(&mut self, stream: u32, sequence_number: u16) -> wasmtime::Result<Option<history::Entry>> {
        Ok(self.history(stream).and_then(|history| history.lookup(sequence_number)).map(|(packet, entered)| {
            history::Entry { header: packet.header().to_vec(), size: packet.size() as u32, time: entered.as_nanos() }
        }))
    }
}

impl Guest {
    fn hold(&mut self, token: u32) -> Result<u64, emit_error::Error> {
        use emit_error::Error;
        if !self.call.processing || !self.batch.has(token) {
            return Err(Error::Unknown);
        }
        let Self { batch, streams, seats, limits, .. } = self;
        let waits =
            batch.token_at(token).and_then(|at| batch.tokens.get_mut(at)).filter(|token| token.shown != Shown::Rtcp);
        let known = waits.ok_or(Error::Denied)?;
        let bound = streams.get(known.handle).ok_or(Error::Unknown)?;
        let seat = seats.get_mut(bound.seat).ok_or(Error::Unknown)?;
        if known.handed {
            return Err(Error::Unknown);
        }
        let payload = known.payload as usize;
        let size = usize::from(known.header) + payload;
        let (packets, bytes) = seat.held.staying();
        if packets >= limits.held_packets || bytes + size > limits.held_bytes {
            return Err(Error::Quota);
        }
        let memory = seat.holdings.take(Quota::Memory, size as u64);
        if let Err(exceeded) = memory.and_then(|()| seat.holdings.take(Quota::HeldPackets, 1)) {
            seat.count_held();
            self.call.effects.exceed(exceeded);
            return Err(Error::Quota);
        }
        known.handed = true;
        let id = seat.held.insert(known.handle, token, size, payload);
        self.call.effects.hold(Hold::Keep { token, seat: bound.seat, id });
        Ok(id)
    }

    fn release(
        &mut self,
        session: u32,
        id: u64,
        header: Vec<u8>,
        added: Vec<types::Attribute>,
    ) -> Result<(), emit_error::Error> {
        use emit_error::Error;
        let Self { batch, streams, seats, call, .. } = self;
        let seat = seats.get_mut(session).ok_or(Error::Unknown)?;
        let kept = seat.held.get(id).ok_or(Error::Unknown)?;
        if !header.is_empty() {
            let bound = streams.get(kept.stream).ok_or(Error::Unknown)?;
            check_header(bound, &header)?;
            if header.len() + kept.payload > usize::from(bound.mtu) {
                return Err(Error::TooLarge);
            }
        }
        let attributes = if added.is_empty() {
            None
        } else {
            let mut attributes = match &kept.place {
                Place::Burst(token) => batch.attributes_of(*token).cloned().unwrap_or_default(),
                Place::Host(output) => output.packet.attributes().clone(),
            };
            add_attributes(&mut attributes, added)?;
            Some(attributes)
        };
        seat.held.leave(id);
        call.effects.hold(Hold::Release { seat: session, id, header, attributes });
        Ok(())
    }

    fn discard(&mut self, session: u32, id: u64) -> bool {
        let leaves = self.seats.get_mut(session).is_some_and(|seat| seat.held.leave(id));
        if leaves {
            self.call.effects.hold(Hold::Discard { seat: session, id });
        }
        leaves
    }

    fn held(&mut self, stream: u32) -> Vec<hold::Entry> {
        let Some(bound) = self.streams.get(stream) else { return Vec::new() };
        let Some(seat) = self.seats.get_mut(bound.seat) else { return Vec::new() };
        match &mut seat.inheritance {
            Some(inheritance) => {
                if !inheritance.claimed.contains(&bound.stream) {
                    inheritance.claimed.push(bound.stream);
                }
                let of_stream = inheritance.packets.iter().filter(|(_, of, _)| *of == bound.stream);
                of_stream.filter_map(|(id, _, output)| entry(*id, &output.packet)).collect()
            }
            None => {
                let of_stream = seat.held.iter().filter(|(_, of, _)| *of == stream);
                of_stream.filter_map(|(id, _, output)| entry(id, &output.packet)).collect()
            }
        }
    }
}

fn entry(id: u64, packet: &Packet) -> Option<hold::Entry> {
    let Packet::Rtp(packet) = packet else { return None };
    let header = packet.header().to_vec();
    Some(hold::Entry {
        id,
        header,
        size: packet.size() as u32,
        time: packet.time.as_nanos(),
        repaired: packet.repaired,
    })
}

impl hold::Host for Guest {
    fn keep(&mut self, packet: u32) -> wasmtime::Result<Result<u64, emit_error::Error>> {
        Ok(self.hold(packet))
    }

    fn release(
        &mut self,
        session: u32,
        packet: u64,
        header: Vec<u8>,
        attributes: Vec<types::Attribute>,
    ) -> wasmtime::Result<Result<(), emit_error::Error>> {
        Ok(self.release(session, packet, header, attributes))
    }

    fn discard(&mut self, session: u32, packet: u64) -> wasmtime::Result<bool> {
        Ok(self.discard(session, packet))
    }

    fn held(&mut self, stream: u32) -> wasmtime::Result<Vec<hold::Entry>> {
        Ok(self.held(stream))
    }
}

impl attributes::Host for Guest {
    fn get(&mut self, packet: u32, key: String) -> wasmtime::Result<Option<types::Value>> {
        Ok(self.batch.attributes_of(packet).and_then(|attributes| attributes.get(&key)).map(Into::into))
    }

    fn all(&mut self, packet: u32) -> wasmtime::Result<Vec<types::Attribute>> {
        let attributes = self.batch.attributes_of(packet);
        Ok(attributes
            .into_iter()
            .flat_map(|attributes| attributes.iter())
            .map(|(key, value)| types::Attribute { key: key.to_owned(), value: value.into() })
            .collect())
    }

    fn set(
        &mut self,
        packet: u32,
        key: String,
        value: Option<types::Value>,
    ) -> wasmtime::Result<Result<(), attributes::Error>> {
        use attributes::Error;
        if !self.call.processing || !self.batch.has(packet) {
            return Ok(Err(Error::Unknown));
        }
        if self.batch.token(packet).is_none() {
            return Ok(Err(Error::Denied));
        }
        if let Err(error) = check_key(&key) {
            return Ok(Err(error));
        }
        let list = &mut self.batch.attributes;
        let at = list.iter().position(|(known, ..)| *known == packet).unwrap_or_else(|| {
            list.push((packet, crate::attributes::Attributes::NONE, false));
            list.len() - 1
        });
        let (_, attributes, changed) = &mut list[at];
        *changed = true;
        Ok(attributes.set(&key, value.map(Into::into)).map_err(|_| Error::Quota))
    }

    fn get_session(&mut self, session: u32, key: String) -> wasmtime::Result<Option<types::Value>> {
        let value = self.seats.get(session).and_then(|seat| seat.changes.get(&seat.values, &key));
        Ok(value.map(Into::into))
    }

    fn set_session(
        &mut self,
        session: u32,
        key: String,
        value: Option<types::Value>,
    ) -> wasmtime::Result<Result<(), attributes::Error>> {
        use attributes::Error;
        let Some(seat) = self.seats.get_mut(session) else { return Ok(Err(Error::Unknown)) };
        if let Err(error) = check_key(&key) {
            return Ok(Err(error));
        }
        let first = seat.changes.is_empty();
        let value: Option<Value> = value.map(Into::into);
        // As if it replaced nothing; counted exactly once it has taken effect.
        let size = value.as_ref().map_or(0, |value| key.len() + value.size());
        if let Err(exceeded) = seat.holdings.take(Quota::AttributeBytes, size as u64) {
            self.call.effects.exceed(exceeded);
            return Ok(Err(Error::Quota));
        }
        let set = seat.changes.set(&seat.values, Some(seat.owner.member), &key, value);
        if set.is_err() {
            seat.holdings.give(Quota::AttributeBytes, size as u64);
        }
        if first && !seat.changes.is_empty() {
            self.call.effects.changed.push(session);
        }
        Ok(set.map_err(|_| Error::Quota))
    }
}

impl telemetry::Host for Guest {
    fn log(&mut self, session: u32, level: telemetry::Level, message: String) -> wasmtime::Result<()> {
        self.note_log(
            session,
            match level {
                telemetry::Level::Error => Level::Error,
                telemetry::Level::Warn => Level::Warn,
                telemetry::Level::Info => Level::Info,
                telemetry::Level::Debug => Level::Debug,
            },
            message,
        );
        Ok(())
    }

    fn publish(&mut self, session: u32, name: String, json: String) -> wasmtime::Result<()> {
        let fits = name.len() <= MAX_NAME && json.len() <= self.limits.message;
        if self.may_speak(session) && fits {
            self.call.effects.notes.push((session, Note::Published { name, json }));
        }
        Ok(())
    }

    fn count(&mut self, session: u32, name: String, add: u64) -> wasmtime::Result<()> {
        self.metric(session, name, |metric| {
            *metric = match *metric {
                Metric::Count(count) => Metric::Count(count.saturating_add(add)),
                Metric::Gauge(_) => Metric::Count(add),
            };
        });
        Ok(())
    }

    fn gauge(&mut self, session: u32, name: String, value: f64) -> wasmtime::Result<()> {
        self.metric(session, name, |metric| *metric = Metric::Gauge(value));
        Ok(())
    }
}

impl Guest {
    /// Keeps a log line for when the call has returned, cut to the limit.
    pub(crate) fn note_log(&mut self, session: u32, level: Level, mut message: String) {
        if !self.may_speak(session) {
            return;
        }
        let end = message.floor_char_boundary(self.limits.message);
        message.truncate(end);
        self.call.effects.notes.push((session, Note::Log { level, message }));
    }

    fn metric(&mut self, session: u32, name: String, change: impl FnOnce(&mut Metric)) {
        let limit = self.limits.metrics;
        let Some(seat) = self.seats.get_mut(session) else { return };
        let known = seat.metrics.iter().position(|(known, _)| *known == name);
        match known {
            Some(at) => change(&mut seat.metrics[at].1),
            None if seat.metrics.len() < limit && name.len() <= MAX_NAME => {
                if let Err(exceeded) = seat.holdings.take(Quota::Metrics, 1) {
                    seat.used.unheard += 1;
                    return self.call.effects.exceed(exceeded);
                }
                let mut metric = Metric::Count(0);
                change(&mut metric);
                seat.metrics.push((name, metric));
            }
            None => seat.used.unheard += 1,
        }
    }
}

impl wall_clock::Host for Guest {
    fn ntp(&mut self, at: u64) -> wasmtime::Result<u64> {
        Ok(self.wall_clock.ntp_of(Instant::from_nanos(at)))
    }
}

impl random::Host for Guest {
    fn next(&mut self) -> wasmtime::Result<u64> {
        Ok(split_mix(&mut self.random))
    }
}

impl sink::Host for Guest {
    fn write(&mut self, session: u32, bytes: Vec<u8>) -> wasmtime::Result<Result<(), sink::Error>> {
        Ok(self.sink(session, bytes))
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl From<types::Value> for Value {
    fn from(value: types::Value) -> Self {
        match value {
            types::Value::Boolean(value) => Self::Boolean(value),
            types::Value::Integer(value) => Self::Integer(value),
            types::Value::Float(value) => Self::Float(value),
            types::Value::Text(value) => Self::Text(value),
            types::Value::Bytes(value) => Self::Bytes(value),
        }
    }
}

impl From<&Value> for types::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Text(value) => Self::Text(value.clone()),
            Value::Bytes(value) => Self::Bytes(value.clone()),
        }
    }
}
