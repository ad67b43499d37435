//! What a receiver reckons of a source: packets received and lost, and how unevenly they came (RFC 3550, A.1, A.3, A.8).
//!
//! ```
//! use sandbar_sdk::Instant;
//! use sandbar_sdk::reception::{Jitter, Sequence};
//!
//! let (mut sequence, mut jitter) = (Sequence::default(), Jitter::new(8000));
//! for (number, millis) in [(1, 0), (2, 20), (4, 68)] {
//!     if sequence.observe(number) {
//!         jitter.observe(Instant::from_millis(millis), u32::from(number) * 160);
//!     }
//! }
//! assert_eq!((sequence.received, sequence.lost()), (3, 1));
//! assert_eq!(jitter.seconds(), 0.008 / 16.0);
//! ```

mod jitter;
mod sequence;

pub use jitter::Jitter;
pub use sequence::{Losses, MAX_DROPOUT, MAX_MISORDER, Sequence};
