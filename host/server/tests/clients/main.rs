//! The `sandbar` program between real clients: ffmpeg and GStreamer over loopback UDP, and what tshark reads of it.
//!
//! Where a client is not installed these tests say so and pass, except in CI (`CI` is set), where they fail: nothing is
//! skipped there.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test that cannot go on fails, and says what it skips"
)]

mod dump;
mod ffmpeg;
mod gstreamer;
mod link;
mod program;
mod swap;
