//! A path with a bottleneck, senders of media that follow an estimate, and peers that give feedback, in virtual time: how
//! congestion control is tried and compared. The same seed gives the same run.
//!
//! ```text
//! Encoder ──frames──> Sender ──┐                                     ┌──> Receiver ──feedback──┐
//!    ↑                  │      ├──> Path: queue, rate, loss, delay ──┤                         │
//!    └────── target ────┘   others' traffic                          └──────── Sender <────────┘
//! ```
//!
//! A [`Sender`] is what is tried: [`native`] is the chain of Sandbar's plugins run natively, `component`, with the feature
//! `components`, the same in a host. Times are in nanoseconds since
//! the beginning of the run, rates in bits per second.

#[cfg(feature = "components")]
pub mod component;
pub mod encoder;
pub mod native;
pub mod path;
pub mod receiver;
pub mod run;
pub mod scenarios;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// Under which the transport-wide sequence number is negotiated, and the id that packets carry.
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// See [`TRANSPORT_CC`].
pub const EXTENSION_ID: u8 = 5;
/// The media stream's SSRC, payload type and clock rate, and those of its retransmissions.
pub const SSRC: u32 = 0x5eed;
/// See [`SSRC`].
pub const RTX_SSRC: u32 = 0x5eee;
/// See [`SSRC`].
pub const PAYLOAD_TYPE: u8 = 96;
/// See [`SSRC`].
pub const RTX_PAYLOAD_TYPE: u8 = 97;
/// See [`SSRC`].
pub const CLOCK_RATE: u32 = 90_000;

/// How a peer tells what has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feedback {
    /// By transport-wide number.
    #[default]
    TransportWide,
    /// By SSRC and sequence number.
    Rfc8888,
}

/// What sends one stream of media and is told of its fate.
pub trait Sender {
    /// Takes a frame's packets, as they are on the wire but for what the sender adds.
    fn write(&mut self, now: u64, packets: Vec<Vec<u8>>);
    /// Takes an RTCP compound from the peer.
    fn feedback(&mut self, now: u64, compound: &[u8]);
    /// When [`handle_timeout`](Self::handle_timeout) is next needed.
    fn poll_timeout(&self) -> Option<u64>;
    /// Does what is due.
    fn handle_timeout(&mut self, now: u64);
    /// The next packet for the wire.
    fn poll_wire(&mut self) -> Option<Vec<u8>>;
    /// What the encoder is to produce, in bits per second.
    fn target(&self) -> f64;
}
