//! What happens in a relay besides packets: into the log, and to whoever listens.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use sandbar_host::{Culprit, Event, Level};
use serde::Serialize;

use super::leg::LegName;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RelayEvent {
    /// A plugin said or did something.
    Plugin(Event),
    /// A leg has learned its peer, or another one.
    Peer {
        /// The leg.
        leg: LegName,
        /// Where the peer is.
        address: SocketAddr,
    },
    /// A declared stream has its source.
    Stream {
        /// The publisher's leg.
        leg: LegName,
        /// The stream.
        stream: String,
        /// Its source.
        ssrc: u32,
    },
    /// A leg's chain will not have a stream.
    StreamRefused {
        /// The leg.
        leg: LegName,
        /// The stream's source.
        ssrc: u32,
        /// Why.
        message: String,
    },
    /// A changed plugin has taken over in all live chains.
    Swapped {
        /// The plugin's name in the configuration.
        plugin: String,
        /// Its new version.
        version: String,
        /// The sha256 of its new component.
        digest: String,
        /// The legs that have it.
        legs: Vec<LegName>,
    },
    /// A changed plugin or configuration was refused; what ran before runs on.
    Refused {
        /// What was refused.
        what: String,
        /// Why.
        message: String,
    },
}

/// Events that wait for a listener. One that does not keep up misses what is over.
const WAITING: usize = 4096;

/// Where events go. A copy goes to the same places.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<SyncSender<Arc<RelayEvent>>>>>);

impl Events {
    /// Everything from now on.
    pub(crate) fn listen(&self) -> Receiver<Arc<RelayEvent>> {
        let (sender, receiver) = sync_channel(WAITING);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Logs an event and hands it to those who listen.
    pub(crate) fn tell(&self, event: RelayEvent) {
        log(&event);
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.is_empty() {
            return;
        }
        let event = Arc::new(event);
        listeners
            .retain(|listener| !matches!(listener.try_send(Arc::clone(&event)), Err(TrySendError::Disconnected(_))));
    }
}

fn log(event: &RelayEvent) {
    match event {
        RelayEvent::Plugin(event) => match event {
            Event::Log { level: Level::Error, .. } => tracing::error!(target: "sandbar::plugin", "{event}"),
            Event::Log { level: Level::Warn, .. } => tracing::warn!(target: "sandbar::plugin", "{event}"),
            Event::Log { level: Level::Info, .. } => tracing::info!(target: "sandbar::plugin", "{event}"),
            Event::Log { level: Level::Debug, .. } => tracing::debug!(target: "sandbar::plugin", "{event}"),
            Event::Published { .. } => tracing::debug!(target: "sandbar::plugin", "{event}"),
            Event::Fault { from, .. } | Event::Quarantined { from, .. } => {
                let Culprit { tenant, digest, .. } = from;
                tracing::warn!(target: "sandbar::plugin", tenant, %digest, "{event}");
            }
            Event::Restarted { .. } | Event::Displaced { .. } => tracing::info!(target: "sandbar::plugin", "{event}"),
            event => tracing::warn!(target: "sandbar::plugin", "{event}"),
        },
        RelayEvent::Peer { leg, address } => tracing::info!(%leg, %address, "the leg has learned its peer"),
        RelayEvent::Stream { leg, stream, ssrc } => tracing::info!(%leg, stream, ssrc, "the stream has its source"),
        RelayEvent::StreamRefused { leg, ssrc, message } => {
            tracing::error!(%leg, ssrc, "the chain refuses the stream: {message}");
        }
        RelayEvent::Swapped { plugin, version, digest, legs } => {
            tracing::info!(plugin, version, digest, legs = legs.len(), "the changed plugin has taken over");
        }
        RelayEvent::Refused { what, message } => {
            tracing::error!("{what} is refused, what ran before runs on: {message}");
        }
    }
}
