//! Runs a plugin's component in a real host, in virtual time, for its tests.
//!
//! [`ComponentHarness`] is to the component what [`sandbar_sdk::testing::Harness`] is to the plugin's Rust type. Both are a
//! [`Drive`], so one scenario runs natively, where a debugger and a panic's backtrace help, and on the component that users
//! will load: compiled for wasm, behind the host's real bindings, histories, timers, quotas and checks of what it wants.
//!
//! ```
//! use std::time::Duration;
//!
//! use sandbar_harness::{ComponentHarness, Drive};
//! use sandbar_plugin_packet_counter::PacketCounter;
//! use sandbar_sdk::StreamInfo;
//! use sandbar_sdk::testing::{Harness, packet};
//!
//! /// Two packets come within the plugin's first second.
//! fn scenario(plugin: &mut dyn Drive) {
//!     let video = plugin.bind_remote_stream(&StreamInfo { ssrc: 7, ..StreamInfo::default() }).unwrap();
//!     for number in [100, 101] {
//!         assert_eq!(plugin.read(video, packet(7, number, b"media").into()).len(), 1);
//!     }
//!     plugin.advance(Duration::from_secs(1));
//!     assert_eq!(plugin.published(), [("packets".to_owned(), "2".to_owned())]);
//! }
//!
//! scenario(&mut Harness::<PacketCounter>::new("{}")?);
//!
//! // Of one's own plugin: `include_bytes!` or `std::fs::read` of the file that `sandbar plugin build` made.
//! let component = sandbar_plugins::by_name("packet-counter").expect("a standard plugin").component;
//! scenario(&mut ComponentHarness::new(component, "{}")?);
//! # Ok::<(), sandbar_sdk::Refusal>(())
//! ```
//!
//! It is meant as a dev-dependency, from the same checkout as the plugin's `sandbar-sdk`, or their types differ. It brings
//! the host with it, and so compiles wasmtime: minutes, once. A component is compiled once per process, in some tenths of
//! a second.
//!
//! What only the native harness can do: look into the plugin, and pretend what comes from elsewhere in a host, such as
//! attributes of packets from the peer or an earlier time of arrival.

mod component;
mod convert;
mod engine;

pub use component::ComponentHarness;
pub use engine::load;
pub use sandbar_host::{LoadError, Plugin};
pub use sandbar_sdk::testing::{Drive, Setup};
