//! The host's functions, as the harness has them: the native counterpart of the component's imports.

use std::time::Duration;

use crate::attributes::{Attribute, Value};
use crate::context::{HeldId, HeldPacket, HistoryEntry, Level, Payload};
use crate::error::{AttributeError, EmitError, SinkError, StampError};
use crate::stream::{SessionId, StreamId};
use crate::testing::timer::Timer;
use crate::testing::world::with;
use crate::time::Instant;

pub(crate) fn next(frames: &[u8]) {
    with(|world| world.next(frames));
}

pub(crate) fn now() -> Instant {
    with(|world| world.now)
}

pub(crate) fn wake_session(_: SessionId, at: Option<Instant>, every: Duration) {
    with(|world| world.timer = Timer::new(at, every));
}

pub(crate) fn wake_stream(stream: StreamId, at: Option<Instant>, every: Duration) {
    with(|world| {
        if let Some(stream) = world.stream(stream) {
            stream.timer = Timer::new(at, every);
        }
    });
}

pub(crate) fn emit_rtp(
    stream: StreamId,
    header: &[u8],
    payload: Payload<'_>,
    attributes: &[Attribute],
) -> Result<(), EmitError> {
    with(|world| world.emit_rtp(stream, header, payload, attributes))
}

pub(crate) fn keep(packet: u32) -> Result<HeldId, EmitError> {
    with(|world| world.keep(packet))
}

pub(crate) fn release(_: SessionId, id: HeldId, header: &[u8], attributes: &[Attribute]) -> Result<(), EmitError> {
    with(|world| world.release(id, header, attributes))
}

pub(crate) fn discard(_: SessionId, id: HeldId) -> bool {
    with(|world| world.discard(id))
}

pub(crate) fn held(stream: StreamId) -> Vec<HeldPacket> {
    with(|world| world.held(stream))
}

pub(crate) fn supply_stamps(_: SessionId, size: u8, values: &[u8]) -> Result<(), StampError> {
    with(|world| world.supply_stamps(size, values))
}

pub(crate) fn stamps_left(_: SessionId) -> usize {
    with(|world| world.stamps.len())
}

pub(crate) fn emit_rtcp(_: SessionId, packets: &[u8]) -> Result<(), EmitError> {
    with(|world| world.emit_rtcp(packets))
}

pub(crate) fn lookup(stream: StreamId, sequence_number: u16) -> Option<HistoryEntry> {
    with(|world| world.lookup(stream, sequence_number))
}

pub(crate) fn attribute(packet: u32, key: &str) -> Option<Value> {
    attributes(packet).into_iter().find(|attribute| attribute.key == key).map(|attribute| attribute.value)
}

pub(crate) fn attributes(packet: u32) -> Vec<Attribute> {
    with(|world| world.shown.get(packet as usize).map(|shown| shown.attributes.clone()).unwrap_or_default())
}

pub(crate) fn set_attribute(packet: u32, key: &str, value: Option<&Value>) -> Result<(), AttributeError> {
    with(|world| world.set_attribute(packet, key, value))
}

pub(crate) fn session_attribute(_: SessionId, key: &str) -> Option<Value> {
    with(|world| world.session_attribute(key).cloned())
}

pub(crate) fn set_session_attribute(_: SessionId, key: &str, value: Option<&Value>) -> Result<(), AttributeError> {
    with(|world| world.set_session_attribute(key, value))
}

pub(crate) fn ntp(at: Instant) -> u64 {
    with(|world| world.ntp(at))
}

pub(crate) fn random() -> u64 {
    with(|world| world.random())
}

pub(crate) fn write_sink(_: SessionId, bytes: &[u8]) -> Result<(), SinkError> {
    with(|world| world.write_sink(bytes))
}

pub(crate) fn log(_: SessionId, level: Level, message: &str) {
    with(|world| world.logs.push((level, message.to_owned())));
}

pub(crate) fn publish(_: SessionId, name: &str, json: &str) {
    with(|world| world.published.push((name.to_owned(), json.to_owned())));
}

pub(crate) fn count(_: SessionId, name: &str, add: u64) {
    with(|world| {
        let counter = world.counters.entry(name.to_owned()).or_default();
        *counter = counter.saturating_add(add);
    });
}

pub(crate) fn gauge(_: SessionId, name: &str, value: f64) {
    with(|world| world.gauges.insert(name.to_owned(), value));
}
