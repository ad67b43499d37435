//! Running a plugin natively, in virtual time, with what a host would do around it.
//!
//! ```
//! use std::time::Duration;
//!
//! use sandbar_sdk::testing::{Harness, packet};
//! use sandbar_sdk::{Binding, Context, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo};
//!
//! /// Lets every second packet through, and says once per second how many it did not.
//! struct Halve(u16);
//!
//! impl Interceptor for Halve {
//!     fn create(cx: &mut Context, _: &str) -> Result<Self, Refusal> {
//!         cx.wake_after(Duration::from_secs(1));
//!         Ok(Halve(0))
//!     }
//!     fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
//!         Ok(Binding::transform_headers())
//!     }
//!     fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
//!         if packet.header().sequence_number() % 2 == 0 {
//!             return Outcome::Forward;
//!         }
//!         self.0 += 1;
//!         Outcome::Drop
//!     }
//!     fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
//!         cx.publish("dropped", &self.0.to_string());
//!     }
//! }
//!
//! sandbar_sdk::export!(Halve, binds = [remote_streams]);
//!
//! let mut harness = Harness::<Halve>::new("{}")?;
//! let video = harness.bind_remote_stream(&StreamInfo { ssrc: 7, ..StreamInfo::default() })?;
//! assert_eq!(harness.read(video, packet(7, 100, b"media")).len(), 1);
//! assert_eq!(harness.read(video, packet(7, 101, b"media")).len(), 0);
//! harness.advance(Duration::from_secs(1));
//! assert_eq!(harness.published(), [("dropped".to_owned(), "1".to_owned())]);
//! # Ok::<(), Refusal>(())
//! ```
//!
//! The harness calls the plugin through the batched lane that its component has, keeps histories, timers, attributes and
//! quotas as the host does, asks the plugin only about what its description [binds](crate::Binds), and refuses what the host
//! would refuse. What the host would call a fault of the plugin panics.

mod drive;
mod feed;
mod harness;
mod history;
pub(crate) mod host;
mod timer;
mod world;

pub use drive::Drive;
pub use feed::{Feed, Packet, packet};
pub use harness::{Harness, Setup};
