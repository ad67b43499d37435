//! A plugin in the typed lane, written against the contract with `wit-bindgen` alone: what an author has in any
//! language with a binding generator and no SDK. It counts packets, and by its configuration drops every nth, replaces
//! headers and sets attributes.
//!
//! `batched-counter` is the same plugin in the batched lane; a scenario holds the two together.

#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ world: "interceptor", path: "../../../wit" });
}

use std::cell::RefCell;

use bindings::exports::sandbar::interceptor::{description, member};
use bindings::sandbar::interceptor::types::{
    Access, Binding, Refusal, RtcpAccess, SessionId, SessionInfo, StreamId, StreamInfo, Value, View,
};
use bindings::sandbar::interceptor::{attributes, telemetry, time};
use member::{Outcome, RtcpPacket, RtpPacket};
use serde::{Deserialize, Serialize};

/// The component's exports.
pub struct Guest;

/// One session's interceptor.
pub struct Counter {
    session: SessionId,
    config: Config,
    counts: RefCell<Counts>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// `pass`, `observe`, `follow` or, by default, `transform`.
    access: String,
    /// `packets` or, by default, `headers`.
    view: String,
    /// Drops each nth packet of either direction; 0 for none.
    drop_every: u64,
    /// Puts this payload type into the header.
    payload_type: Option<u8>,
    /// Sets this attribute to the count so far.
    attribute: Option<String>,
    /// Publishes the counts this often; 0 for never.
    publish_ms: u64,
    /// Refuses `create`, `bind` or `restore`.
    refuse: String,
    /// Traps behind so many packets of a direction.
    trap_after: Option<u64>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
struct Counts {
    read: u64,
    written: u64,
    rtcp_read: u64,
    rtcp_written: u64,
    timeouts: u64,
    /// The most bytes of one packet that this plugin was shown.
    shown: usize,
}

impl Counter {
    fn make(session: &SessionInfo, config: &str, counts: Counts) -> Result<member::Interceptor, Refusal> {
        let config: Config = serde_json::from_str(config).map_err(|error| Refusal::Config(error.to_string()))?;
        if config.refuse == "create" {
            return Err(Refusal::Unsupported("told to refuse create".into()));
        }
        let counter = Counter { session: session.id, config, counts: RefCell::new(counts) };
        counter.arm();
        Ok(member::Interceptor::new(counter))
    }

    fn arm(&self) {
        if self.config.publish_ms > 0 {
            time::wake_session(self.session, Some(time::now() + self.config.publish_ms * 1_000_000), 0);
        }
    }

    fn json(&self) -> String {
        serde_json::to_string(&*self.counts.borrow()).unwrap_or_default()
    }

    fn binding(&self) -> Result<Binding, Refusal> {
        let view = if self.config.view == "packets" { View::Packets } else { View::Headers };
        let access = match self.config.access.as_str() {
            "pass" => Access::Pass,
            "observe" => Access::Observe(view),
            "follow" => Access::Follow,
            "" | "transform" => Access::Transform(view),
            other => {
                return Err(Refusal::Config(format!("access: {other:?} is none of pass, observe, follow, transform")));
            }
        };
        if self.config.refuse == "bind" {
            return Err(Refusal::Unsupported("told to refuse bind".into()));
        }
        Ok(Binding { access, history: 0, unbound: false })
    }

    fn rtcp_access(&self) -> RtcpAccess {
        match self.config.access.as_str() {
            "pass" => RtcpAccess::Pass,
            "observe" | "follow" => RtcpAccess::Observe,
            _ => RtcpAccess::Transform,
        }
    }

    /// What becomes of the `count`th packet.
    fn outcome(&self, packet: RtpPacket, count: u64) -> Outcome {
        let mut counts = self.counts.borrow_mut();
        counts.shown = counts.shown.max(packet.bytes.len());
        assert!(self.config.trap_after.is_none_or(|after| count <= after), "told to trap");
        if let Some(key) = &self.config.attribute {
            // An observer is denied; that is for the host to say and for a scenario to see.
            let _ = attributes::set(packet.packet, key, Some(&Value::Integer(count as i64)));
        }
        if self.config.drop_every > 0 && count.is_multiple_of(self.config.drop_every) {
            return Outcome::Drop;
        }
        match self.config.payload_type {
            Some(payload_type) => {
                let mut bytes = packet.bytes;
                bytes[1] = bytes[1] & 0x80 | payload_type;
                Outcome::Replace(bytes)
            }
            None => Outcome::Forward,
        }
    }
}

impl member::GuestInterceptor for Counter {
    fn create(session: SessionInfo, config: String) -> Result<member::Interceptor, Refusal> {
        Self::make(&session, &config, Counts::default())
    }

    fn restore(session: SessionInfo, config: String, state: Vec<u8>) -> Result<member::Interceptor, Refusal> {
        let counts = serde_json::from_slice(&state).map_err(|error| Refusal::Unsupported(error.to_string()))?;
        if config.contains(r#""refuse":"restore""#) {
            return Err(Refusal::Unsupported("told to refuse restore".into()));
        }
        Self::make(&session, &config, counts)
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.json().into_bytes())
    }

    fn bind_rtcp_reader(&self) -> Result<RtcpAccess, Refusal> {
        Ok(self.rtcp_access())
    }

    fn bind_rtcp_writer(&self) -> Result<RtcpAccess, Refusal> {
        Ok(self.rtcp_access())
    }

    fn bind_local_stream(&self, _stream: StreamId, _info: StreamInfo) -> Result<Binding, Refusal> {
        self.binding()
    }

    fn bind_remote_stream(&self, _stream: StreamId, _info: StreamInfo) -> Result<Binding, Refusal> {
        self.binding()
    }

    fn unbind_local_stream(&self, _stream: StreamId) {}

    fn unbind_remote_stream(&self, _stream: StreamId) {}

    fn read_rtp(&self, packet: RtpPacket) -> Outcome {
        let count = self.counts.borrow().read + 1;
        self.counts.borrow_mut().read = count;
        self.outcome(packet, count)
    }

    fn write_rtp(&self, packet: RtpPacket) -> Outcome {
        let count = self.counts.borrow().written + 1;
        self.counts.borrow_mut().written = count;
        self.outcome(packet, count)
    }

    fn read_rtcp(&self, _packet: RtcpPacket) -> Outcome {
        self.counts.borrow_mut().rtcp_read += 1;
        Outcome::Forward
    }

    fn write_rtcp(&self, _packet: RtcpPacket) -> Outcome {
        self.counts.borrow_mut().rtcp_written += 1;
        Outcome::Forward
    }

    fn refill_stamps(&self, _: u32) {}

    fn handle_timeout(&self, _now: u64, _stream: Option<StreamId>) {
        self.counts.borrow_mut().timeouts += 1;
        telemetry::publish(self.session, "counts", &self.json());
        self.arm();
    }

    fn control(&self, request: String) -> Result<String, Refusal> {
        match request.as_str() {
            "counts" => Ok(self.json()),
            other => Err(Refusal::Unsupported(format!("{other:?}; the only request is counts"))),
        }
    }

    fn close(&self) {
        telemetry::publish(self.session, "closed", &self.json());
    }
}

impl member::Guest for Guest {
    type Interceptor = Counter;
}

impl description::Guest for Guest {
    fn describe() -> description::Description {
        description::Description {
            name: "typed-counter".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Counts packets, one call each".into(),
            place: description::Place::Anywhere,
            wants: description::Wants::READ_MEDIA,
            binds: description::Binds::all(),
            options: Vec::new(),
        }
    }
}

#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
const _: () = {
    bindings::export!(Guest with_types_in bindings);
};
