//! The `sandbar` program as a library: the relay, its configuration, and the command line's subcommands.
//!
//! [`Relay::start`](relay::Relay::start) runs what a [`Config`](config::Config) says and hands back a
//! [`RelayHandle`](relay::RelayHandle) that changes chains under traffic, reports counters and stops it:
//!
//! ```
//! use sandbar::config::{Config, Leg, Publisher, Route, Stream, Subscriber};
//! use sandbar::relay::{LegName, Relay};
//!
//! let any_port = "127.0.0.1:0".parse()?;
//! let video = Stream { name: "video".into(), payload_type: 96, clock_rate: 90_000, ..Stream::default() };
//! let viewer = Subscriber::new("viewer", Leg::listen(any_port));
//! let camera = Route::new("camera", Publisher { leg: Leg::listen(any_port), streams: vec![video] }, vec![viewer]);
//!
//! let relay = Relay::start(Config { routes: vec![camera], ..Config::default() })?;
//! let (rtp, _rtcp) = relay.addresses(&LegName::publisher("camera")).ok_or("no such leg")?;
//! assert!(rtp.port() > 0);
//! let report = relay.shutdown()?;
//! assert_eq!(report.routes[0].legs.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cli;
pub mod compile;
pub mod config;
#[doc(hidden)]
pub mod fuzzing;
pub mod relay;

mod demo;
mod logging;
mod plugin;
mod relay_command;
mod replay;
mod tool;
