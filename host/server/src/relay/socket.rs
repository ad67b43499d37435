//! A leg's UDP socket: datagrams in and out by the batch.
//!
//! Built on quinn-udp: one system call receives up to 32 buffers (`recvmmsg`), each of which may hold a train of
//! datagrams that the kernel has merged (GRO); one sends a train of equal size to one destination (GSO). Each leg has
//! sockets of its own, so a call that gathers packets for several destinations (`sendmmsg`) would find little to
//! gather, while a train passes the kernel's UDP stack once in place of once per packet. The price is a copy of each
//! payload into the train, the only one on its way through the relay besides that out of the receive buffer.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use sandbar_host::Packet;
use serde::Serialize;

use super::peer::Endpoint;

/// Most packets that wait for a socket the kernel has no room for. More than that is a link that cannot carry the
/// route, and older packets are worth less than newer ones.
const MAX_QUEUE: usize = 2048;
/// Most bytes of a train: a UDP datagram's payload in IPv4, which bounds GSO, too.
const MAX_TRAIN: usize = 65_507;
/// Most bytes of a receive buffer: a train that the kernel has merged.
const RECEIVE_BUFFER: usize = 65_535;

/// Buffers for all sockets of a worker.
pub(crate) struct Scratch {
    receive: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    train: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            receive: vec![0; RECEIVE_BUFFER * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            train: Vec::with_capacity(MAX_TRAIN),
        }
    }
}

/// A datagram as it came.
pub(crate) struct Received<'s> {
    pub(crate) source: SocketAddr,
    /// Our address that it was sent to, where the system tells.
    pub(crate) local: Option<IpAddr>,
    pub(crate) bytes: &'s [u8],
}

/// What a leg's sockets have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Datagrams from anybody.
    pub packets_received: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes_received: u64,
    /// Datagrams that the kernel took.
    pub packets_sent: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes_sent: u64,
    /// Given up because the kernel's buffer and the queue before it were full.
    pub packets_discarded: u64,
    /// Refused by the kernel: too large for the path, or no way to where they should go.
    pub send_errors: u64,
    /// Failed receive calls.
    pub receive_errors: u64,
}

impl Traffic {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            packets_received: self.packets_received + other.packets_received,
            bytes_received: self.bytes_received + other.bytes_received,
            packets_sent: self.packets_sent + other.packets_sent,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            packets_discarded: self.packets_discarded + other.packets_discarded,
            send_errors: self.send_errors + other.send_errors,
            receive_errors: self.receive_errors + other.receive_errors,
        }
    }
}

/// Whether there may be more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The socket has nothing more, or no more room; it will report when that changes.
    Blocked,
    /// The budget ended first.
    More,
}

pub(crate) struct Socket {
    io: mio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    queue: VecDeque<(Endpoint, Packet)>,
    pub(crate) traffic: Traffic,
}

impl Socket {
    /// Binds and configures; `buffer` bytes are asked for in both directions.
    pub(crate) fn bind(address: SocketAddr, buffer: usize) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        // What the kernel does not grant it does not grant; it is no reason not to run.
        let _ = state.set_recv_buffer_size((&socket).into(), buffer);
        let _ = state.set_send_buffer_size((&socket).into(), buffer);
        let local = socket.local_addr()?;
        let io = mio::net::UdpSocket::from_std(socket);
        Ok(Self { io, state, local, queue: VecDeque::new(), traffic: Traffic::default() })
    }

    /// Where it is bound, with the port that was found for port 0.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.io, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Receives one batch.
    pub(crate) fn receive<'s>(&mut self, scratch: &'s mut Scratch, mut each: impl FnMut(Received<'s>)) -> Progress {
        let Scratch { receive, metas, .. } = scratch;
        let received = {
            let mut buffers = receive.chunks_exact_mut(RECEIVE_BUFFER);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            match self.state.recv((&self.io).into(), &mut slices, metas) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
                Err(_) => {
                    // Such as a report that an earlier packet met a closed port. The error is consumed by reading it.
                    self.traffic.receive_errors += 1;
                    return Progress::More;
                }
            }
        };
        for (meta, buffer) in metas.iter().zip(receive.chunks_exact(RECEIVE_BUFFER)).take(received) {
            let length = meta.len.min(buffer.len());
            for bytes in buffer[..length].chunks(meta.stride.max(1)) {
                self.traffic.packets_received += 1;
                self.traffic.bytes_received += bytes.len() as u64;
                each(Received { source: meta.addr, local: meta.dst_ip, bytes });
            }
        }
        Progress::More
    }

    /// Puts a packet behind those that wait for [`flush`](Self::flush).
    pub(crate) fn push(&mut self, to: Endpoint, packet: Packet) {
        if self.queue.len() >= MAX_QUEUE {
            self.queue.pop_front();
            self.traffic.packets_discarded += 1;
        }
        self.queue.push_back((to, packet));
    }

    /// Whether packets wait.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends what waits, in order, by the train.
    pub(crate) fn flush(&mut self, scratch: &mut Scratch) -> Progress {
        while let Some((to, first)) = self.queue.front() {
            let (to, size) = (*to, first.size());
            scratch.train.clear();
            let mut packets = 0;
            for (also_to, packet) in self.queue.iter().take(self.state.max_gso_segments().max(1)) {
                let fits = packet.size() <= size && scratch.train.len() + packet.size() <= MAX_TRAIN;
                if packets > 0 && (*also_to != to || !fits) {
                    break;
                }
                packet.write_to(&mut scratch.train);
                packets += 1;
                // Only the last of a train may be shorter.
                if packet.size() < size || size == 0 {
                    break;
                }
            }
            if self.send(to, &scratch.train, size, packets) == Progress::Blocked {
                return Progress::Blocked;
            }
            self.queue.drain(..packets);
        }
        Progress::More
    }

    fn send(&mut self, to: Endpoint, train: &[u8], size: usize, packets: usize) -> Progress {
        let segment_size = (packets > 1).then_some(size);
        let transmit = Transmit { destination: to.address, ecn: None, contents: train, segment_size, src_ip: to.local };
        match self.state.try_send((&self.io).into(), &transmit) {
            Ok(()) => {
                self.traffic.packets_sent += packets as u64;
                self.traffic.bytes_sent += train.len() as u64;
                Progress::More
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Blocked,
            // A train that some network device cannot cut apart, or with a packet too large for the path: one by one,
            // what can be sent is.
            Err(_) if packets > 1 => {
                for packet in train.chunks(size) {
                    if self.send(to, packet, size, 1) == Progress::Blocked {
                        self.traffic.packets_discarded += 1;
                    }
                }
                Progress::More
            }
            Err(error) => {
                self.traffic.send_errors += 1;
                tracing::debug!(to = %to.address, size, %error, "packet not sent");
                Progress::More
            }
        }
    }
}

/// Datagrams that share a piece of memory, at most.
const TOGETHER: usize = 4;

/// Copies datagrams of one batch to where they can stay for as long as something refers to them. A few of one source in a row share
/// a piece of memory: to find and to free one for each takes longer than to copy it. No more and of no others, as a packet in a
/// history keeps those alive that share with it.
pub(crate) fn keep<T: Copy>(received: &[(T, &[u8])], mut each: impl FnMut(T, Bytes)) {
    let mut rest = received;
    while let [(_, first), ..] = rest {
        let known = source(first);
        let of_it = |(_, bytes): &&(T, &[u8])| known.is_some() && source(bytes) == known;
        let together = rest.iter().take(TOGETHER).take_while(of_it).count().max(1);
        let (these, others) = rest.split_at(together);
        let size = these.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut memory = Vec::with_capacity(size);
        these.iter().for_each(|(_, bytes)| memory.extend_from_slice(bytes));
        let mut memory = Bytes::from(memory);
        for (of, bytes) in these {
            each(*of, memory.split_to(bytes.len()));
        }
        rest = others;
    }
}

/// The SSRC and payload type of what looks like RTP.
pub(crate) fn source(bytes: &[u8]) -> Option<(u32, u8)> {
    let header = bytes.first_chunk::<12>().filter(|header| header[0] >> 6 == 2)?;
    Some((u32::from_be_bytes([header[8], header[9], header[10], header[11]]), header[1] & 0x7f))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbar_host::RtpPacket;

    use super::*;

    fn packet(sequence: u8, payload: usize) -> Packet {
        let mut bytes = vec![0x80, 96, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes.resize(12 + payload, sequence);
        RtpPacket::parse(bytes.into()).unwrap().into()
    }

    fn receive_all(socket: &mut Socket, expected: usize) -> Vec<Vec<u8>> {
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(8);
        socket.register(poll.registry(), Token(0)).unwrap();
        let (mut scratch, mut got) = (Scratch::new(), Vec::new());
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while got.len() < expected && std::time::Instant::now() < deadline {
            poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            while socket.receive(&mut scratch, |received| got.push(received.bytes.to_vec())) == Progress::More {}
        }
        got
    }

    #[test]
    fn packets_arrive_whole_and_in_order_however_they_are_batched() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let mut sender = Socket::bind(loopback, 1 << 20).unwrap();
        let mut receiver = Socket::bind(loopback, 1 << 20).unwrap();
        let to = Endpoint { address: receiver.local(), local: None };
        // Equal sizes, a shorter last one, a longer one behind it, an empty payload: trains end where they must.
        let sizes = [1000, 1000, 1000, 300, 1000, 0, 0, 700, 1200, 1200];
        let sent: Vec<_> = sizes.iter().enumerate().map(|(at, size)| packet(at as u8, *size)).collect();
        for packet in &sent {
            sender.push(to, packet.clone());
        }
        assert_eq!(sender.flush(&mut Scratch::new()), Progress::More);
        assert!(sender.is_idle());
        let expected: Vec<_> = sent.iter().map(|packet| packet.to_bytes().to_vec()).collect();
        assert_eq!(receive_all(&mut receiver, expected.len()), expected);
        assert_eq!(sender.traffic.packets_sent, 10);
        assert_eq!(receiver.traffic.bytes_received, sender.traffic.bytes_sent);
    }

    #[test]
    fn datagrams_of_one_source_in_a_row_share_memory_by_fours_and_others_do_not() {
        let datagram = |ssrc: u8, number: u8| [[0x80, 96, 0, number], [0; 4], [ssrc; 4], [number; 4]].concat();
        let datagrams: Vec<_> =
            [1, 1, 1, 1, 1, 1, 2, 1].iter().zip(0..).map(|(ssrc, number)| datagram(*ssrc, number)).collect();
        let mut received: Vec<_> = datagrams.iter().zip(0..).map(|(bytes, number)| (number, &bytes[..])).collect();
        received.extend([(8, &[0x80; 11][..]), (9, &[0x80; 11][..]), (10, &[])]);
        let mut kept = Vec::new();
        keep(&received, |number, bytes| kept.push((number, bytes)));
        assert_eq!(kept.iter().map(|(number, bytes)| (*number, &bytes[..])).collect::<Vec<_>>(), received);
        let ends = |at: usize| kept[at].1.as_ptr_range();
        let together: Vec<_> = (1..8).map(|at| ends(at - 1).end == ends(at).start && !kept[at].1.is_unique()).collect();
        assert_eq!(together, [true, true, true, false, true, false, false]);
        assert!(kept[6..].iter().all(|(_, bytes)| bytes.is_empty() || bytes.is_unique()));
    }

    #[test]
    fn a_packet_that_cannot_be_sent_does_not_hold_up_the_next() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let mut sender = Socket::bind(loopback, 1 << 20).unwrap();
        let mut receiver = Socket::bind(loopback, 1 << 20).unwrap();
        let to = Endpoint { address: receiver.local(), local: None };
        sender.push(to, packet(1, 65_500));
        sender.push(to, packet(2, 10));
        sender.flush(&mut Scratch::new());
        assert_eq!(sender.traffic.send_errors, 1);
        assert_eq!(receive_all(&mut receiver, 1), [packet(2, 10).to_bytes()]);
    }

    #[test]
    fn a_queue_that_is_full_gives_up_the_oldest() {
        let mut sender = Socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let to = Endpoint { address: sender.local(), local: None };
        for _ in 0..MAX_QUEUE + 3 {
            sender.push(to, packet(1, 1));
        }
        assert_eq!((sender.queue.len(), sender.traffic.packets_discarded), (MAX_QUEUE, 3));
    }
}
