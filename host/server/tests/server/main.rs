//! The `sandbar` program and the relay inside it, over loopback sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod command;
mod config;
mod media;
mod peers;
mod reload;
mod support;
