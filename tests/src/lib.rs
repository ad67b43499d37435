//! The harness of the scenarios, on the virtual network of `world`.
//!
//! The scenarios are in `tests/scenarios`, named as sentences. The guests are in `guests`, a crate for each behaviour.

pub mod chaos;
pub mod engine;

pub use sandbar_world::{media, net, peers};

/// The guests' components, built by `build.rs`.
pub mod guests {
    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}
