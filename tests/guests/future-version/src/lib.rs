//! A plugin that does nothing, made for version 0.2.0 of the contract.

#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ world: "interceptor", path: concat!(env!("OUT_DIR"), "/wit") });
}

use bindings::exports::sandbar::interceptor::{description, member};
use bindings::sandbar::interceptor::types::{Access, Binding, Refusal, RtcpAccess, SessionInfo, StreamId, StreamInfo};
use member::{Outcome, RtcpPacket, RtpPacket};

/// The component's exports.
pub struct Guest;

/// One session's interceptor.
pub struct Nothing;

const PASS: Binding = Binding { access: Access::Pass, history: 0, unbound: false };

impl member::GuestInterceptor for Nothing {
    fn create(_: SessionInfo, _: String) -> Result<member::Interceptor, Refusal> {
        Ok(member::Interceptor::new(Nothing))
    }

    fn restore(_: SessionInfo, _: String, _: Vec<u8>) -> Result<member::Interceptor, Refusal> {
        Ok(member::Interceptor::new(Nothing))
    }

    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    fn bind_rtcp_reader(&self) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    fn bind_rtcp_writer(&self) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    fn bind_local_stream(&self, _: StreamId, _: StreamInfo) -> Result<Binding, Refusal> {
        Ok(PASS)
    }

    fn bind_remote_stream(&self, _: StreamId, _: StreamInfo) -> Result<Binding, Refusal> {
        Ok(PASS)
    }

    fn unbind_local_stream(&self, _: StreamId) {}

    fn unbind_remote_stream(&self, _: StreamId) {}

    fn read_rtp(&self, _: RtpPacket) -> Outcome {
        Outcome::Forward
    }

    fn write_rtp(&self, _: RtpPacket) -> Outcome {
        Outcome::Forward
    }

    fn read_rtcp(&self, _: RtcpPacket) -> Outcome {
        Outcome::Forward
    }

    fn write_rtcp(&self, _: RtcpPacket) -> Outcome {
        Outcome::Forward
    }

    fn handle_timeout(&self, _: u64, _: Option<StreamId>) {}

    fn refill_stamps(&self, _: u32) {}

    fn control(&self, _: String) -> Result<String, Refusal> {
        Err(Refusal::Unsupported("there is nothing to ask".into()))
    }

    fn close(&self) {}
}

impl member::Guest for Guest {
    type Interceptor = Nothing;
}

impl description::Guest for Guest {
    fn describe() -> description::Description {
        description::Description {
            name: "future-version".into(),
            version: "0.2.0".into(),
            summary: "Does nothing, later".into(),
            place: description::Place::Anywhere,
            wants: description::Wants::empty(),
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
