//! A viewer: this library once more, as a client embeds it, with a chain that asks for lost packets and reports.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};
use sandbar_host::{
    Chain, Datagram, End, Engine, Grants, Kind, MemberSpec, Output, Packet, Plugin, SessionId, SessionSpec, Shard,
    ShardConfig,
};

use super::ledger::Ledger;
use super::media::{MEDIA, is_intact};
use super::socket::{self, MAX_WAIT, Socket};
use crate::relay::clock;

/// From the wire.
const CHAIN: [&str; 2] = ["nack-generator", "report-receiver"];

/// A session and its socket.
pub(super) struct Subscriber {
    socket: Socket,
    link: SocketAddr,
    shard: Shard,
    session: SessionId,
    ledger: Arc<Ledger>,
}

impl Subscriber {
    pub(super) fn new(
        socket: UdpSocket,
        link: SocketAddr,
        engine: &Engine,
        seed: u64,
        ledger: Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for embedded in CHAIN.iter().filter_map(|name| sandbar_plugins::by_name(name)) {
            members.push(MemberSpec::new(Plugin::load(engine, embedded.component, &Grants::default())?));
        }
        let mut shard = Shard::new(ShardConfig { wall_clock: clock::wall_clock(), ..ShardConfig::default() });
        let now = clock::now();
        let spec =
            SessionSpec { name: "viewer".to_owned(), seed, chain: Chain::new(members), ..SessionSpec::default() };
        let session = shard.open_session(now, spec)?;
        for media in &MEDIA {
            shard.bind_remote_stream(now, session, media.info())?;
        }
        Ok(Self { socket: socket.into(), link, shard, session, ledger })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut poll = Poll::new()?;
        poll.registry().register(&mut self.socket.io, Token(0), Interest::READABLE)?;
        let mut events = Events::with_capacity(8);
        let (mut burst, mut outputs) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let patience = self.shard.poll_timeout().map_or(MAX_WAIT, |due| (due - clock::now()).min(MAX_WAIT));
            socket::wait(&mut poll, &mut events, patience)?;
            let session = self.session;
            self.socket.receive(|datagram| {
                burst.push(Datagram { session, kind: Kind::of(datagram), bytes: Bytes::copy_from_slice(datagram) });
            })?;
            let now = clock::now();
            self.shard.read(now, burst.drain(..));
            if self.shard.poll_timeout().is_some_and(|due| due <= now) {
                self.shard.handle_timeout(now);
            }
            self.shard.take_outputs(&mut outputs);
            for output in outputs.drain(..) {
                match output {
                    Output { to: End::Wire, packet, .. } => self.socket.send(self.link, &packet.to_bytes())?,
                    Output { to: End::Application, packet: Packet::Rtp(packet), .. } => {
                        let Some(stream) = MEDIA.iter().position(|media| media.ssrc == packet.ssrc()) else { continue };
                        let sequence = packet.sequence_number();
                        let intact = is_intact(packet.ssrc(), sequence, &packet.payload());
                        self.ledger.arrived(now, stream, sequence, packet.repaired(), intact);
                    }
                    Output { to: End::Application, .. } => {}
                }
            }
        }
        Ok(())
    }
}
