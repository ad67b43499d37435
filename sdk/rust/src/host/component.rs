//! The component's imports. Each function is only reached by what the plugin uses, so that the linker leaves out the
//! others, and the component imports no more than it needs.

use std::time::Duration;

use crate::attributes::{Attribute, Value};
use crate::bindings::sandbar::interceptor as imports;
use crate::bindings::sandbar::interceptor::types::{AttributeParam, AttributeResult, ValueParam, ValueResult};
use crate::context::{HeldId, HeldPacket, HistoryEntry, Level, Payload};
use crate::error::{AttributeError, EmitError, SinkError, StampError};
use crate::stream::{SessionId, StreamId};
use crate::time::{Instant, nanos};

#[inline]
pub(crate) fn next(frames: &[u8]) {
    imports::burst::next(frames);
}

#[inline]
pub(crate) fn now() -> Instant {
    Instant::from_nanos(imports::time::now())
}

#[inline]
pub(crate) fn wake_session(session: SessionId, at: Option<Instant>, every: Duration) {
    imports::time::wake_session(session.number(), at.map(Instant::as_nanos), nanos(every));
}

#[inline]
pub(crate) fn wake_stream(stream: StreamId, at: Option<Instant>, every: Duration) {
    imports::time::wake_stream(stream.number(), at.map(Instant::as_nanos), nanos(every));
}

pub(crate) fn emit_rtp(
    stream: StreamId,
    header: &[u8],
    payload: Payload<'_>,
    attributes: &[Attribute],
) -> Result<(), EmitError> {
    use imports::emit_rtp::{FromHistory, Payload as Emitted, emit};
    let payload = match payload {
        Payload::Bytes(bytes) => Emitted::Bytes(bytes),
        Payload::History { sequence_number, prefix } => Emitted::History(FromHistory { sequence_number, prefix }),
    };
    emit(stream.number(), header, payload, &lower_attributes(attributes)).map_err(emit_error)
}

pub(crate) fn keep(packet: u32) -> Result<HeldId, EmitError> {
    imports::hold::keep(packet).map(HeldId).map_err(emit_error)
}

pub(crate) fn release(
    session: SessionId,
    id: HeldId,
    header: &[u8],
    attributes: &[Attribute],
) -> Result<(), EmitError> {
    imports::hold::release(session.number(), id.0, header, &lower_attributes(attributes)).map_err(emit_error)
}

pub(crate) fn discard(session: SessionId, id: HeldId) -> bool {
    imports::hold::discard(session.number(), id.0)
}

pub(crate) fn held(stream: StreamId) -> Vec<HeldPacket> {
    let held = imports::hold::held(stream.number()).into_iter();
    let lift = |entry: imports::hold::Entry| HeldPacket {
        id: HeldId(entry.id),
        header: entry.header,
        size: entry.size as usize,
        time: Instant::from_nanos(entry.time),
        repaired: entry.repaired,
    };
    held.map(lift).collect()
}

pub(crate) fn supply_stamps(session: SessionId, size: u8, values: &[u8]) -> Result<(), StampError> {
    use imports::stamps::{Error, supply};
    supply(session.number(), size, values).map_err(|error| match error {
        Error::Unknown => StampError::Unknown,
        Error::Size => StampError::Size,
        Error::Quota => StampError::Quota,
    })
}

pub(crate) fn stamps_left(session: SessionId) -> usize {
    imports::stamps::left(session.number()) as usize
}

fn lower_attributes(attributes: &[Attribute]) -> Vec<AttributeParam<'_>> {
    attributes.iter().map(|attribute| AttributeParam { key: &attribute.key, value: lower(&attribute.value) }).collect()
}

pub(crate) fn emit_rtcp(session: SessionId, packets: &[u8]) -> Result<(), EmitError> {
    imports::emit_rtcp::emit(session.number(), packets).map_err(emit_error)
}

fn emit_error(error: imports::emit_error::Error) -> EmitError {
    use imports::emit_error::Error;
    match error {
        Error::Unknown => EmitError::Unknown,
        Error::Malformed(what) => EmitError::Malformed(what),
        Error::ForeignSsrc => EmitError::ForeignSsrc,
        Error::NotInHistory => EmitError::NotInHistory,
        Error::TooLarge => EmitError::TooLarge,
        Error::Quota => EmitError::Quota,
        Error::Denied => EmitError::Denied,
        Error::Other(what) => EmitError::Other(what),
    }
}

pub(crate) fn lookup(stream: StreamId, sequence_number: u16) -> Option<HistoryEntry> {
    let entry = imports::history::lookup(stream.number(), sequence_number)?;
    Some(HistoryEntry { header: entry.header, size: entry.size as usize, time: Instant::from_nanos(entry.time) })
}

pub(crate) fn attribute(packet: u32, key: &str) -> Option<Value> {
    imports::attributes::get(packet, key).map(lift)
}

pub(crate) fn attributes(packet: u32) -> Vec<Attribute> {
    imports::attributes::all(packet).into_iter().map(lift_attribute).collect()
}

pub(crate) fn set_attribute(packet: u32, key: &str, value: Option<&Value>) -> Result<(), AttributeError> {
    imports::attributes::set(packet, key, value.map(lower)).map_err(attribute_error)
}

pub(crate) fn session_attribute(session: SessionId, key: &str) -> Option<Value> {
    imports::attributes::get_session(session.number(), key).map(lift)
}

pub(crate) fn set_session_attribute(
    session: SessionId,
    key: &str,
    value: Option<&Value>,
) -> Result<(), AttributeError> {
    imports::attributes::set_session(session.number(), key, value.map(lower)).map_err(attribute_error)
}

fn attribute_error(error: imports::attributes::Error) -> AttributeError {
    use imports::attributes::Error;
    match error {
        Error::Unknown => AttributeError::Unknown,
        Error::Denied => AttributeError::Denied,
        Error::Quota => AttributeError::Quota,
    }
}

fn lower(value: &Value) -> ValueParam<'_> {
    match value {
        Value::Boolean(value) => ValueParam::Boolean(*value),
        Value::Integer(value) => ValueParam::Integer(*value),
        Value::Float(value) => ValueParam::Float(*value),
        Value::Text(value) => ValueParam::Text(value),
        Value::Bytes(value) => ValueParam::Bytes(value),
    }
}

fn lift(value: ValueResult) -> Value {
    match value {
        ValueResult::Boolean(value) => Value::Boolean(value),
        ValueResult::Integer(value) => Value::Integer(value),
        ValueResult::Float(value) => Value::Float(value),
        ValueResult::Text(value) => Value::Text(value),
        ValueResult::Bytes(value) => Value::Bytes(value),
    }
}

pub(crate) fn lift_attribute(attribute: AttributeResult) -> Attribute {
    Attribute { key: attribute.key, value: lift(attribute.value) }
}

#[inline]
pub(crate) fn ntp(at: Instant) -> u64 {
    imports::wall_clock::ntp(at.as_nanos())
}

#[inline]
pub(crate) fn random() -> u64 {
    imports::random::next()
}

pub(crate) fn write_sink(session: SessionId, bytes: &[u8]) -> Result<(), SinkError> {
    use imports::sink::{Error, write};
    write(session.number(), bytes).map_err(|error| match error {
        Error::Unknown => SinkError::Unknown,
        Error::Denied => SinkError::Denied,
        Error::Quota => SinkError::Quota,
    })
}

pub(crate) fn log(session: SessionId, level: Level, message: &str) {
    use imports::telemetry::Level as Logged;
    let level = match level {
        Level::Error => Logged::Error,
        Level::Warn => Logged::Warn,
        Level::Info => Logged::Info,
        Level::Debug => Logged::Debug,
    };
    imports::telemetry::log(session.number(), level, message);
}

#[inline]
pub(crate) fn publish(session: SessionId, name: &str, json: &str) {
    imports::telemetry::publish(session.number(), name, json);
}

#[inline]
pub(crate) fn count(session: SessionId, name: &str, add: u64) {
    imports::telemetry::count(session.number(), name, add);
}

#[inline]
pub(crate) fn gauge(session: SessionId, name: &str, value: f64) {
    imports::telemetry::gauge(session.number(), name, value);
}
