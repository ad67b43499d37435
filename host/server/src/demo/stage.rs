//! Everything that runs during the demonstration: a relay, and around it a publisher, a link and a subscriber, each on a
//! thread of its own.
//!
//! ```text
//! publisher ──RTP──> relay ──RTP──> link ──what it does not lose──> subscriber
//!                      └─<──────────RTCP──┴──<──────────RTCP────────────┘
//! ```

use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, bail};

use super::ledger::Ledger;
use super::link::Link;
use super::media::{MEDIA, Media};
use super::publisher::Publisher;
use super::socket;
use super::subscriber::Subscriber;
use crate::config::Config;
use crate::relay::{LegName, Relay, RelayHandle, RelayReport};

/// What runs.
pub(super) struct Stage {
    pub(super) relay: RelayHandle,
    /// The leg to the subscriber, whose chain it is about.
    pub(super) leg: LegName,
    pub(super) ledger: Arc<Ledger>,
    publisher: Actor,
    others: [Actor; 2],
    /// The ports of all sockets that receive.
    ports: Vec<u16>,
}

/// A thread that runs until it is told to stop.
struct Actor {
    name: &'static str,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Stage {
    /// Opens all sockets and starts all threads: media flows, through empty chains.
    pub(super) fn build(seed: u64) -> anyhow::Result<Self> {
        let ledger = Arc::new(Ledger::new());
        let [camera, near, far, viewer] = [socket::bind()?, socket::bind()?, socket::bind()?, socket::bind()?];
        let config = Config::parse(Path::new("demo.toml"), configuration(&near)?)?;
        let relay = Relay::start(config)?;
        let leg = LegName::subscriber("demo", "viewer");
        let address = |leg: &LegName| relay.addresses(leg).map(|(rtp, _)| rtp).context("the relay has lost a leg");
        let (ingress, egress) = (address(&LegName::publisher("demo"))?, address(&leg)?);
        let mut ports = vec![ingress.port(), egress.port()];
        for socket in [&near, &far, &viewer] {
            ports.push(socket.local_addr()?.port());
        }
        for socket in [&near, &far, &viewer] {
            socket.set_nonblocking(true)?;
        }
        let (entrance, seat) = (far.local_addr()?, viewer.local_addr()?);
        let subscriber = Subscriber::new(viewer, entrance, relay.engine(), seed, Arc::clone(&ledger))?;
        let link = Link::new(near, far, [egress, seat], seed, Arc::clone(&ledger));
        let publisher = Publisher::new(camera, ingress, seed, Arc::clone(&ledger));
        let others = [
            Actor::start("subscriber", move |stop| subscriber.run(stop))?,
            Actor::start("link", move |stop| link.run(stop))?,
        ];
        let publisher = Actor::start("publisher", move |stop| publisher.run(stop))?;
        Ok(Self { relay, leg, ledger, publisher, others, ports })
    }

    /// Whether everything runs that should; otherwise why not.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if !self.relay.is_running() {
            bail!("a worker of the relay has ended by itself, which is a bug; --log=debug says more");
        }
        for actor in self.others.iter_mut().chain([&mut self.publisher]) {
            actor.check()?;
        }
        Ok(())
    }

    /// No more media from now on.
    pub(super) fn hush(&mut self) -> anyhow::Result<()> {
        self.publisher.end()
    }

    /// How many datagrams the kernel had no room for; see [`socket::kernel_drops`].
    pub(super) fn kernel_drops(&self) -> Option<u64> {
        socket::kernel_drops(&self.ports)
    }

    /// Ends everything. Returns the relay's last counters.
    pub(super) fn end(mut self) -> anyhow::Result<RelayReport> {
        self.publisher.end()?;
        for actor in &mut self.others {
            actor.end()?;
        }
        Ok(self.relay.shutdown()?)
    }
}

impl Actor {
    fn start(
        name: &'static str,
        run: impl FnOnce(&AtomicBool) -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(format!("demo-{name}")).spawn(move || run(&stopped))?;
        Ok(Self { name, stop, thread: Some(thread) })
    }

    fn check(&mut self) -> anyhow::Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) && !self.stop.load(Ordering::Relaxed) {
            self.end()?;
            bail!("the {} has ended by itself", self.name);
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error).context(self.name),
            Some(Err(_)) => bail!("the {} has panicked", self.name),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Whoever wanted to know how it ended has called `end`.
        let _ = self.end();
    }
}

/// The relay's configuration, as an operator would write it: one route, empty chains.
fn configuration(link: &UdpSocket) -> anyhow::Result<String> {
    let streams: String = MEDIA.iter().map(Media::toml).collect();
    Ok(format!(
        r#"
[server]
workers = 1
watch = false
socket_buffer = {buffer}

[[routes]]
name = "demo"

[routes.publisher]
listen = "127.0.0.1:0"
rtcp = "mux"

{streams}
[[routes.subscribers]]
name = "viewer"
listen = "127.0.0.1:0"
rtcp = "mux"
peer = "{link}"
symmetric = true
# Room for a full packet with the two bytes that a retransmission adds (RFC 4588, 4).
mtu = 1400
"#,
        buffer = socket::BUFFER,
        link = link.local_addr()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_relay_takes() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = Config::parse(Path::new("demo.toml"), configuration(&socket).unwrap()).unwrap();
        assert_eq!(config.routes[0].publisher.streams.len(), MEDIA.len());
    }
}
