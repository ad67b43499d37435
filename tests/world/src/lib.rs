//! A virtual network, streams with a judge at their end, and peers that are stepped through virtual time. Nothing here reads
//! a clock; the same seed gives the same bytes.

pub mod media;
pub mod net;
pub mod peers;
