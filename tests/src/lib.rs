//! The harness of the scenarios, on the virtual network of `world`.
//!
//! The scenarios are in `tests/scenarios`, named as sentences. The guests are in `guests`, a crate for each behaviour.

pub mod cast;
pub mod chaos;
pub mod engine;
mod ledger;
pub mod network;

pub use sandbar_world::{media, net, peers};

/// Bytes of this process that are in memory (proc(5), statm); none where the system does not say.
pub fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split_whitespace().nth(1)?.parse::<usize>().ok()? * rustix::param::page_size())
}

/// The guests' components, built by `build.rs`.
pub mod guests {
    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}
