//! The relay over loopback sockets: a publisher's packets to one subscriber, through the default chain on both legs, through
//! empty chains, and through a forwarder that has the same sockets and nothing else.
//!
//! | | |
//! | --- | --- |
//! | packets | 1200 bytes, each sent by a system call of its own, 32 in a row; at most 512 are on their way, so none is lost |
//! | measured | processor time of the one thread that carries them, per packet: what a core can carry is its inverse |
//! | latency | at half of what a core carries of the default chain, from before the publisher's call to behind the subscriber's; median of each sample's percentile; a packet that has to wait as 512 are on their way was sent when it was due |
//! | checked | every packet comes out, once and in order |

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sandbar::config::Config;
use sandbar::relay::bare::Forwarder;
use sandbar::relay::{Relay, RelayHandle};
use serde::Serialize;

use crate::measure::Spread;
use crate::report::Findings;
use crate::sandbar::DEFAULT_CHAIN;
use crate::traffic::{CLOCK_RATE, EXTENSION_ID, Media, PACKET, PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, TRANSPORT_CC};

/// A port that is free.
pub(crate) const ANY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// Packets in a row.
const BURST: u64 = 32;
/// Packets on their way, at most.
const IN_FLIGHT: u64 = 512;
/// Bytes asked of the kernel for each socket.
const BUFFER: usize = 8 << 20;
/// How long nothing may come before the way is taken for broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where in a packet its number and the time at which it was sent are.
const NUMBER: usize = 100;
const SENT: usize = NUMBER + 8;

/// What packets go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Bare,
    Empty,
    Default,
}

const WAYS: [Way; 3] = [Way::Bare, Way::Empty, Way::Default];

/// What one way costs.
#[derive(Clone, Debug, Serialize)]
struct Row {
    way: Way,
    /// Nanoseconds of the carrying thread's processor time, per packet.
    packet_ns: Spread,
    /// Packets that a core carries in a second.
    packets_per_second: f64,
    /// Of the bare forwarder's packets per second, taken sample by sample.
    of_bare: Spread,
    /// Of the empty chain's.
    of_empty: Spread,
    /// Microseconds from the publisher to the subscriber, by percentile.
    latency_us: Latency,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Latency {
    p50: Spread,
    p99: Spread,
    p999: Spread,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// At which latency was measured.
    packets_per_second: f64,
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut table = format!(
            "{:<10} {:>20} {:>12} {:>18} {:>18} {:>26}\n",
            "way", "ns a packet", "packets/s", "of bare", "of empty", "latency p50/p99/p99.9 µs"
        );
        for row in &self.rows {
            let Latency { p50, p99, p999 } = row.latency_us;
            let _ = writeln!(
                table,
                "{:<10} {:>20} {:>12.0} {:>18} {:>18} {:>26}",
                format!("{:?}", row.way).to_lowercase(),
                row.packet_ns.cell(0),
                row.packets_per_second,
                row.of_bare.cell(2),
                row.of_empty.cell(2),
                [p50, p99, p999].map(|spread| format!("{:.0}", spread.median)).join(" / "),
            );
        }
        let _ = writeln!(table, "latency at {:.0} packets a second", self.packets_per_second);
        table
    }
}

/// Runs all ways, sample by sample in turn.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let packets = if quick { 640 } else { 64_000 };
    let mut ways = WAYS.into_iter().map(Line::new).collect::<anyhow::Result<Vec<_>>>()?;
    let mut taken: HashMap<Way, Vec<f64>> = HashMap::new();
    for sample in 0..=samples {
        for way in &mut ways {
            let nanos = way.throughput(packets)?;
            // The first only warms up.
            if sample > 0 {
                taken.entry(way.way).or_default().push(nanos);
            }
        }
    }
    let spread = |way| Spread::of(taken[&way].iter().copied()).context("no samples");
    let ratio = |way: Way, to: Way| {
        Spread::of(taken[&to].iter().zip(&taken[&way]).map(|(to, way)| to / way)).context("no samples")
    };
    let half = 1e9 / spread(Way::Default)?.median / 2.0;
    let mut late: HashMap<Way, Vec<[f64; 3]>> = HashMap::new();
    for _ in 0..samples {
        for way in &mut ways {
            let percentiles = way.latency(packets / 2, Duration::from_secs_f64(1.0 / half))?;
            late.entry(way.way).or_default().push(percentiles);
        }
    }
    let percentile = |way, at: usize| Spread::of(late[&way].iter().map(|sample| sample[at])).context("no samples");
    let mut rows = Vec::new();
    for way in &ways {
        let packet_ns = spread(way.way)?;
        rows.push(Row {
            way: way.way,
            packet_ns,
            packets_per_second: 1e9 / packet_ns.median,
            of_bare: ratio(way.way, Way::Bare)?,
            of_empty: ratio(way.way, Way::Empty)?,
            latency_us: Latency {
                p50: percentile(way.way, 0)?,
                p99: percentile(way.way, 1)?,
                p999: percentile(way.way, 2)?,
            },
        });
    }
    ways.into_iter().try_for_each(Line::end)?;
    Ok(Report { rows, packets_per_second: half })
}

/// What carries packets from the publisher to the subscriber.
enum Carrier {
    Bare(Forwarder),
    Relay(RelayHandle),
}

/// A publisher, a subscriber, and what is between them.
struct Line {
    way: Way,
    carrier: Carrier,
    /// The thread that carries, as the kernel numbers it.
    thread: String,
    publisher: UdpSocket,
    subscriber: UdpSocket,
    buffer: Vec<u8>,
    sent: u64,
    received: u64,
    delays: Vec<u64>,
    began: Instant,
}

impl Line {
    fn new(way: Way) -> anyhow::Result<Self> {
        let [publisher, subscriber] = [socket()?, socket()?];
        let to = subscriber.local_addr()?;
        let before = threads()?;
        let (carrier, address) = match way {
            Way::Bare => {
                let forwarder = Forwarder::start("bare", to, BUFFER)?;
                let address = forwarder.address();
                (Carrier::Bare(forwarder), address)
            }
            Way::Empty | Way::Default => {
                let members: &[&str] = if way == Way::Empty { &[] } else { &DEFAULT_CHAIN };
                let text = configuration(members, to);
                let relay = Relay::start(Config::parse(Path::new("bench.toml"), text)?)?;
                let leg = relay.legs().into_iter().next().context("a publisher's leg")?;
                let (address, _) = relay.addresses(&leg).context("its address")?;
                (Carrier::Relay(relay), address)
            }
        };
        publisher.connect(address)?;
        let thread = carrying(&before)?;
        Ok(Self {
            way,
            carrier,
            thread,
            publisher,
            subscriber,
            buffer: vec![0; 2048],
            sent: 0,
            received: 0,
            delays: Vec::new(),
            began: Instant::now(),
        })
    }

    fn end(self) -> anyhow::Result<()> {
        match self.carrier {
            Carrier::Bare(forwarder) => ensure!(forwarder.stop(), "the bare forwarder failed"),
            Carrier::Relay(relay) => drop(relay.shutdown()?),
        }
        Ok(())
    }

    /// Sends the next packet, which is said to be sent now or `at` another time.
    fn send(&mut self, at: Option<Duration>) -> anyhow::Result<()> {
        let at = at.unwrap_or_else(|| self.began.elapsed()).as_nanos() as u64;
        let mut packet = Media::nth(0, self.sent, at).datagram();
        packet[NUMBER..NUMBER + 8].copy_from_slice(&self.sent.to_be_bytes());
        packet[SENT..SENT + 8].copy_from_slice(&at.to_be_bytes());
        self.sent += 1;
        ensure!(self.publisher.send(&packet)? == PACKET, "a datagram was cut");
        Ok(())
    }

    /// Takes what has come; how many packets that were.
    fn take(&mut self) -> anyhow::Result<u64> {
        let mut taken = 0;
        while let Ok(length) = self.subscriber.recv(&mut self.buffer) {
            let bytes = &self.buffer[..length];
            // RTCP comes by the same way.
            if bytes.get(1).is_some_and(|second| (192..=223).contains(second)) {
                continue;
            }
            // A header extension more or less does not move what is at the end.
            let end = length.checked_sub(PACKET).context("a packet became shorter")?;
            let word = |at: usize| u64::from_be_bytes(bytes[at + end..at + end + 8].try_into().unwrap_or_default());
            ensure!(word(NUMBER) == self.received, "packet {} came as number {}", word(NUMBER), self.received);
            self.delays.push((self.began.elapsed().as_nanos() as u64).saturating_sub(word(SENT)));
            self.received += 1;
            taken += 1;
        }
        Ok(taken)
    }

    /// Takes until no more than so many packets are on their way.
    fn wait(&mut self, on_their_way: u64) -> anyhow::Result<()> {
        let mut last = Instant::now();
        while self.sent - self.received > on_their_way {
            if self.take()? > 0 {
                last = Instant::now();
            }
            ensure!(last.elapsed() < PATIENCE, "{} packets did not come out", self.sent - self.received);
        }
        Ok(())
    }

    /// The carrying thread's processor time per packet, in nanoseconds.
    fn throughput(&mut self, packets: u64) -> anyhow::Result<f64> {
        let before = cpu_of(&self.thread)?;
        for _ in 0..packets / BURST {
            (0..BURST).try_for_each(|_| self.send(None))?;
            self.wait(IN_FLIGHT - BURST)?;
        }
        self.wait(0)?;
        self.delays.clear();
        Ok((cpu_of(&self.thread)? - before) as f64 / packets as f64)
    }

    /// Microseconds that packets take which are sent one after the other, so far apart: p50, p99 and p99.9. When as many are on their
    /// way as may be, the next ones wait, and that counts as time that they take.
    fn latency(&mut self, packets: u64, apart: Duration) -> anyhow::Result<[f64; 3]> {
        let begin = self.began.elapsed();
        let mut held_until = begin;
        for number in 0..packets {
            let due = begin + apart.mul_f64(number as f64);
            while self.began.elapsed() < due {
                self.take()?;
            }
            if self.sent - self.received >= IN_FLIGHT {
                self.wait(IN_FLIGHT - 1)?;
                held_until = self.began.elapsed();
            }
            self.send((due < held_until).then_some(due))?;
        }
        self.wait(0)?;
        self.delays.sort_unstable();
        let at = |part: f64| self.delays[((self.delays.len() - 1) as f64 * part) as usize] as f64 / 1000.0;
        let percentiles = [0.5, 0.99, 0.999].map(at);
        self.delays.clear();
        Ok(percentiles)
    }
}

fn socket() -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(ANY)?;
    socket.set_nonblocking(true)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    Ok(socket)
}

/// A route from a publisher's leg at `listen` to a viewer, with a chain on both legs, as a relay's configuration has it.
pub(crate) fn route(listen: SocketAddr, viewer: SocketAddr, chain: &str) -> String {
    format!(
        r#"
[[routes]]
name = "camera"
[routes.publisher]
listen = "{listen}"
rtcp = "mux"
chain = "{chain}"
[[routes.publisher.streams]]
name = "video"
payload_type = {PAYLOAD_TYPE}
mime_type = "video/VP8"
clock_rate = {CLOCK_RATE}
rtx = {{ payload_type = {RTX_PAYLOAD_TYPE} }}
rtcp_feedback = ["nack", "nack pli", "transport-cc"]
extensions = [{{ id = {EXTENSION_ID}, uri = "{TRANSPORT_CC}" }}]
[[routes.subscribers]]
name = "viewer"
listen = "127.0.0.1:0"
rtcp = "mux"
peer = "{viewer}"
chain = "{chain}"
"#
    )
}

/// A route of one worker, with this chain on both legs.
fn configuration(members: &[&str], viewer: SocketAddr) -> String {
    let route = route(ANY, viewer, "all");
    format!(
        r#"
[server]
workers = 1
watch = false
socket_buffer = {BUFFER}
[chains.all]
members = {members:?}
{route}
"#
    )
}

/// The threads of this process, as the kernel numbers them, by their names.
fn threads() -> anyhow::Result<Vec<(String, String)>> {
    let tasks = fs::read_dir("/proc/self/task").context("the system does not say which threads there are")?;
    let named = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().to_str()?.to_owned(), name.trim().to_owned()))
    };
    Ok(tasks.flatten().filter_map(named).collect())
}

/// The thread that carries packets, which was not there before.
fn carrying(before: &[(String, String)]) -> anyhow::Result<String> {
    let begun = Instant::now();
    // A thread gives itself its name, a moment after it has begun.
    while begun.elapsed() < PATIENCE {
        let mut new = threads()?.into_iter().filter(|thread| !before.contains(thread));
        if let Some((thread, _)) = new.find(|(_, name)| name == "bare" || name == "sandbar-0") {
            return Ok(thread);
        }
        std::thread::yield_now();
    }
    anyhow::bail!("no thread carries packets")
}

/// Nanoseconds of processor time that a thread has used.
fn cpu_of(thread: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).context("schedstat")
}
