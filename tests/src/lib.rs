//! The harness of the scenarios: a virtual network, streams with a judge at their end, and peers that are stepped through
//! virtual time. Nothing here reads a clock; the same seed gives the same bytes.
//!
//! The scenarios are in `tests/scenarios`, named as sentences. The guests are in `guests`, a crate for each behaviour.

pub mod chaos;
pub mod engine;
pub mod media;
pub mod net;
pub mod peers;

/// The guests' components, built by `build.rs`.
pub mod guests {
    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}
