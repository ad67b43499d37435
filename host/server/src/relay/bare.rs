//! Forwarding with the relay's sockets and nothing else, for benchmarks: what its system calls and copies cost by themselves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Poll, Token};
use quinn_udp::BATCH_SIZE;
use sandbar_host::{Kind, Packet};
use smallvec::SmallVec;

use super::peer::Endpoint;
use super::socket::{Progress, Received, Scratch, Socket, keep};
use super::worker::MAX_BURST;

/// The longest wait, after which it is looked whether the end has come.
const PATIENCE: Duration = Duration::from_millis(20);

/// A thread that sends on what it receives.
pub struct Forwarder {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Forwarder {
    /// Forwards to `to`, on a thread of this name. `buffer` bytes are asked for per socket and direction.
    pub fn start(name: &str, to: SocketAddr, buffer: usize) -> io::Result<Self> {
        let any = SocketAddr::new(to.ip(), 0);
        let (mut from, mut out) = (Socket::bind(any, buffer)?, Socket::bind(any, buffer)?);
        let poll = Poll::new()?;
        from.register(poll.registry(), Token(0))?;
        out.register(poll.registry(), Token(1))?;
        let (address, ending) = (from.local(), Arc::new(AtomicBool::new(false)));
        let (to, ended) = (Endpoint { address: to, local: None }, ending.clone());
        let run = move || forward(poll, (&mut from, &mut out), to, &ended);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { address, ending, thread })
    }

    /// Where it receives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the thread. `false`: it could not wait for its sockets.
    pub fn stop(self) -> bool {
        self.ending.store(true, Ordering::Relaxed);
        matches!(self.thread.join(), Ok(Ok(())))
    }
}

fn forward(
    mut poll: Poll,
    (from, out): (&mut Socket, &mut Socket),
    to: Endpoint,
    ended: &AtomicBool,
) -> io::Result<()> {
    let (mut events, mut scratch) = (Events::with_capacity(16), Scratch::new());
    let mut arrived = Vec::new();
    let mut progress = Progress::More;
    while !ended.load(Ordering::Relaxed) {
        let patience = if progress == Progress::More { Duration::ZERO } else { PATIENCE };
        poll.poll(&mut events, Some(patience))?;
        progress = Progress::More;
        while arrived.len() < MAX_BURST && progress == Progress::More {
            let mut received = SmallVec::<[_; BATCH_SIZE]>::new();
            progress = from.receive(&mut scratch, |Received { bytes, .. }| received.push(((), bytes)));
            keep(&received, |(), bytes| arrived.push(bytes));
        }
        for bytes in arrived.drain(..) {
            out.push(to, Packet::Malformed(Kind::Rtp, bytes));
        }
        out.flush(&mut scratch);
    }
    Ok(())
}
