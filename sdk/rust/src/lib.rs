#![doc = include_str!("../README.md")]

// The generated code names this crate by its outside name.
#[allow(unused_extern_crates, reason = "used where there is generated code")]
extern crate self as sandbar_sdk;

#[cfg(any(target_family = "wasm", test))]
mod alloc;
mod attributes;
mod binding;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
mod component;
pub mod config;
mod context;
mod describe;
mod edit;
mod error;
mod frame;
mod header;
mod host;
mod idmap;
mod instance;
mod interceptor;
mod packet;
pub mod reception;
mod report;
mod short;
mod slots;
mod stream;
mod stream_map;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod ticker;
mod time;
#[cfg(any(test, target_family = "wasm"))]
mod typed;

pub use attributes::{Attribute, Value};
pub use binding::{Access, Binding, RtcpAccess, View};
pub use context::{Context, HeldId, HeldPacket, HistoryEntry, Level, Payload};
pub use describe::{Binds, ConfigOption, Description, Place, Plugin, Wants};
pub use edit::{ExtensionError, HeaderBuf, HeaderMut};
pub use error::{AttributeError, EmitError, Refusal, SinkError, StampError};
pub use header::{Header, MalformedHeader};
pub use interceptor::Interceptor;
#[cfg(feature = "rtcp")]
pub use packet::RtcpError;
pub use packet::{Outcome, RtcpPacket, RtcpPart, RtcpParts, RtpPacket};
pub use report::{ReportBlock, SenderInfo};
pub use stream::{RtcpFeedback, RtpHeaderExtension, SessionId, SessionInfo, StreamId, StreamInfo};
pub use stream_map::StreamMap;
pub use ticker::Ticker;
pub use time::Instant;

/// What most plugins use.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{
        Attribute, Binding, ConfigOption, Context, Header, HeaderBuf, Instant, Interceptor, Outcome, Payload, Refusal,
        RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo, Ticker, Value, config,
    };
}

#[cfg(feature = "rtcp")]
pub use rtcp;
pub use serde;
pub use serde_json;

#[cfg(target_family = "wasm")]
#[global_allocator]
static HEAP: alloc::Reuse = alloc::Reuse::new();

#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::component::{Component, Sessions};
    pub use crate::describe::{binds, plugin_name, wants};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;
}

/// Natively there is no component to export.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_component {
    ($type:ty) => {};
}
