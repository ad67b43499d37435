//! Runs RTP and RTCP interceptors as sandboxed WebAssembly components: a library without sockets, threads or clocks.
//!
//! An embedder keeps one [`Engine`] per process and one [`Shard`] per thread that carries media. It loads each
//! [`Plugin`] once, opens a session per peer with a [`Chain`] of plugins, binds the session's streams, and then has one
//! loop: packets and time in; packets, events and the next deadline out.
//!
//! ```
//! use std::time::Duration;
//!
//! use sandbar_host::{
//!     Chain, Datagram, End, Engine, EngineConfig, Grants, Instant, Kind, MemberSpec, Plugin, RtcpFeedback,
//!     SessionSpec, Shard, ShardConfig, StreamInfo, TICK,
//! };
//!
//! let engine = Engine::new(EngineConfig::default())?;
//! // The ticks bound every call: a plugin that does not return is stopped after a few.
//! let ticking = engine.clone();
//! std::thread::spawn(move || {
//!     loop {
//!         std::thread::sleep(TICK);
//!         ticking.tick();
//!     }
//! });
//!
//! // A component's bytes, from wherever they come, and what the operator grants it.
//! let component = sandbar_plugins::by_name("nack-generator").expect("a standard plugin").component;
//! let plugin = Plugin::load(&engine, component, &Grants::default())?;
//!
//! let mut now = Instant::ZERO;
//! let mut shard = Shard::new(ShardConfig::default());
//! let chain = Chain::new([MemberSpec::new(plugin).with_config(r#"{"interval_ms": 50}"#)]);
//! let peer = shard.open_session(now, SessionSpec { chain, ..SessionSpec::default() })?;
//! let nack = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
//! let video = StreamInfo { ssrc: 7, clock_rate: 90_000, rtcp_feedback: vec![nack], ..StreamInfo::default() };
//! shard.bind_remote_stream(now, peer, video)?;
//!
//! // What one receive call brought: packets 1 and 3 of the stream. The second is missing.
//! let datagram = |number: u8| {
//!     let bytes = vec![0x80, 96, 0, number, 0, 0, 0, 0, 0, 0, 0, 7, b'v'];
//!     Datagram { session: peer, kind: Kind::of(&bytes), bytes: bytes.into() }
//! };
//! shard.read(now, [datagram(1), datagram(3)]);
//!
//! let (mut to_peer, mut to_application, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
//! while now < Instant::ZERO + Duration::from_millis(200) {
//!     shard.take_outputs(&mut outputs);
//!     for output in outputs.drain(..) {
//!         match output.to {
//!             End::Wire => to_peer.push(output.packet.to_bytes()),
//!             End::Application => to_application.push(output.packet),
//!         }
//!     }
//!     while let Some(event) = shard.poll_event() {
//!         println!("{event}");
//!     }
//!     // With sockets, the time to wait for them at most.
//!     let Some(deadline) = shard.poll_timeout() else { break };
//!     now = deadline;
//!     shard.handle_timeout(now);
//! }
//!
//! assert_eq!(to_application.len(), 2);
//! // A compound: the report and the SDES that RFC 3550, 6.1 wants first, then a NACK for packet 2 (RFC 4585, 6.2.1).
//! assert!(to_peer[0].ends_with(&[0, 0, 0, 7, 0, 2, 0, 0]));
//! let report = shard.session_report(peer).expect("the session is open");
//! assert_eq!(report.members[0].packets_in, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! | module | what it is about |
//! | --- | --- |
//! | `engine`, `cache`, `survey`, `plugin` | from a component's bytes to a [`Plugin`]: bounds, imports, grants, code |
//! | `chain` | which plugins a session runs, what they may use, and what happens when one fails |
//! | `shard` | the embedder's side: sessions, streams, packets and time in, [`Output`] and [`Event`] out |
//! | `burst` | the way of packets: a burst goes through a chain member by member, with one call per instance |
//! | `seating`, `change`, `failure` | how a plugin gets its place, loses it to a successor, and what a fault does |
//! | `session`, `stream`, `binding`, `history` | what the shard keeps of sessions, streams and members |
//! | `packet`, `attributes`, `rtcp` | packets with shared payloads, what rides with them, compounds |
//! | `values` | what members of a chain tell each other beside the packets |
//! | `instance`, `guest`, `imports`, `frame`, `wasi` | one plugin in its store, and the calls into it and from it |
//! | `event`, `fault`, `report`, `sink` | what people and machines are told |
//! | `time`, `wheel`, `ids` | instants, timers, numbers that are never used twice |
//! | `bindings` | what wasmtime generates from `wit/` |
//! | `fuzzing` | what fuzz targets need beside the API |

mod allowance;
mod attributes;
mod binding;
mod bindings;
mod burst;
mod cache;
mod chain;
mod change;
mod effects;
mod engine;
mod event;
mod extension;
mod failure;
mod fault;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod history;
mod hold;
mod hops;
mod ids;
mod imports;
mod instance;
mod log;
mod order;
mod packet;
mod plugin;
mod quarantine;
mod report;
mod rtcp;
mod seating;
mod session;
mod shard;
mod signature;
mod sink;
mod stamps;
mod starving;
mod stream;
mod survey;
mod tenant;
mod time;
mod timers;
mod values;
mod wasi;
mod wheel;

pub use attributes::{Attributes, TooMany, Value};
pub use binding::Binds;
pub use cache::{Cache, CacheError};
pub use chain::{Chain, FaultPolicy, Isolation, Limits, MemberSpec};
pub use engine::{Clocks, CompileLimits, Compiler, Engine, EngineConfig, EngineError, TICK};
pub use event::{Culprit, Event, FaultAction, Level};
pub use fault::{FaultCounts, FaultKind};
pub use guest::Metric;
pub use order::{Place, proposed_order};
pub use packet::{Kind, Packet, RtcpPacket, RtpError, RtpPacket, header_len};
pub use plugin::{CONTRACT, ConfigOption, Description, Digest, Grants, Lane, LoadError, Plugin};
pub use report::{MemberReport, SessionReport};
pub use rtcp::{RtcpError, RtcpMode};
pub use session::{Malformed, MemberState, SessionCounts, SessionId, SessionSpec, StreamId, TenantId};
pub use shard::{
    BindError, ChainError, ChangeError, ControlError, Datagram, End, OpenError, Output, Shard, ShardConfig,
};
pub use signature::{KeyError, PublicKey, SecretKey, SignatureError, signers};
pub use sink::{SinkCounts, SinkId, SinkWrite};
pub use stream::{RtcpFeedback, RtpHeaderExtension, StreamInfo};
pub use survey::SurveyError;
pub use tenant::{Quota, QuotaExceeded, Quotas, Tenant, TenantUse};
pub use time::{Instant, WallClock};
pub use values::SessionAttributeError;
