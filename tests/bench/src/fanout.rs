//! One publisher to 500 subscribers, each with a default chain, on one shard: what a forwarded packet costs beside one
//! that is only written, and how many bytes of payload are copied for it.
//!
//! What leaves the publisher's chain is written to all subscribers as the relay does it, the packets of a burst
//! together. A packet is forwarded when it has left a subscriber's chain. Beside it, in turn, the same number of
//! sessions writes as many packets each, in bursts of 32 (`write`, as in `chain`). Every payload that leaves is looked
//! for in the memory that came in.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use sandbar_host::{
    Chain, Datagram, End, Instant, Isolation, Kind, Output, Packet, SessionId, SessionSpec, Shard, ShardConfig,
    StreamInfo,
};
use serde::Serialize;

use crate::measure::{Spread, thread_cpu};
use crate::report::Findings;
use crate::runner::Runner;
use crate::sandbar::{Plugins, instant, stream};
use crate::traffic::{Direction, Load, Media, NUMBERED_HEADER, Peer, ssrc};

/// Packets that the publisher sends in a second.
const RATE: u64 = 1000;

/// Forwarding of bursts of one length.
#[derive(Clone, Debug, Serialize)]
struct Row {
    burst: u64,
    subscribers: u32,
    forwarded_ns: Spread,
    written_ns: Spread,
    /// The one by the other, sample by sample.
    ratio: Spread,
    /// Bytes of payload per forwarded packet that are not where they came in.
    copied_bytes: f64,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// Forwards bursts of different lengths, `samples` times a second of virtual time each.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let plugins = Plugins::of_default_chain()?;
    let subscribers = if quick { 32 } else { 500 };
    let rows = [1, 8, 32].map(|burst| {
        let load = Load {
            direction: Direction::Write,
            burst: 32,
            sessions: subscribers,
            streams: 1,
            peer: Peer::Quiet,
            step: Duration::from_secs(1) / (RATE as u32 * subscribers),
        };
        let mut fan = Fan::new(&plugins.chain(Isolation::Tenant), subscribers, burst)?;
        let mut own = Runner::new(Box::new(plugins.batched(load)?), load);
        fan.second()?;
        own.second();
        let (mut forwarded, mut written) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            forwarded.push(fan.second()?);
            written.push(own.second());
        }
        let left = own.taken.media;
        ensure!(left == own.traffic.entered(), "of {} packets written, {left} left", own.traffic.entered());
        let spread = |samples: &[f64]| Spread::of(samples.iter().copied()).context("no samples");
        Ok(Row {
            burst,
            subscribers,
            forwarded_ns: spread(&forwarded)?,
            written_ns: spread(&written)?,
            ratio: Spread::of(forwarded.iter().zip(&written).map(|(one, other)| one / other)).context("no samples")?,
            copied_bytes: fan.copied as f64 / fan.forwarded as f64,
        })
    });
    Ok(Report { rows: rows.into_iter().collect::<anyhow::Result<_>>()? })
}

/// A publisher and its subscribers.
struct Fan {
    shard: Shard,
    burst: u64,
    publisher: SessionId,
    subscribers: Vec<SessionId>,
    numbers: HashMap<SessionId, usize>,
    /// Packets published.
    published: u64,
    /// Packets that have left each subscriber's chain, and all of them.
    seen: Vec<u64>,
    forwarded: u64,
    /// Bytes of payload that were not where they came in.
    copied: u64,
    writes: Vec<(SessionId, Packet)>,
    sent: Vec<Output>,
}

impl Fan {
    fn new(chain: &Chain, subscribers: u32, burst: u64) -> anyhow::Result<Self> {
        let mut shard = Shard::new(ShardConfig::default());
        let spec = |number: u32| SessionSpec { seed: number.into(), chain: chain.clone(), ..SessionSpec::default() };
        let publisher = shard.open_session(instant(0), spec(0))?;
        shard.bind_remote_stream(instant(0), publisher, stream(Direction::Read, 0))?;
        let subscribe = |number| {
            let session = shard.open_session(instant(0), spec(number))?;
            // Subscribers are sent the stream as it was published.
            let info = StreamInfo { ssrc: ssrc(Direction::Read, 0).0, ..stream(Direction::Write, number) };
            shard.bind_local_stream(instant(0), session, info)?;
            anyhow::Ok(session)
        };
        let subscribers = (1..=subscribers).map(subscribe).collect::<anyhow::Result<Vec<_>>>()?;
        let numbers = subscribers.iter().copied().zip(0..).collect();
        let seen = vec![0; subscribers.len()];
        Ok(Self {
            shard,
            burst,
            publisher,
            subscribers,
            numbers,
            published: 0,
            seen,
            forwarded: 0,
            copied: 0,
            writes: Vec::new(),
            sent: Vec::new(),
        })
    }

    /// A second of virtual time. The answer is in nanoseconds per forwarded packet.
    fn second(&mut self) -> anyhow::Result<f64> {
        let before = self.forwarded;
        let until = self.published + RATE;
        let mut nanos = 0;
        while self.published < until {
            let first = self.published;
            self.published += self.burst;
            let at = self.published * 1_000_000_000 / RATE;
            let media = (first..self.published).map(|index| Media::nth(0, index, at));
            let came: Vec<Bytes> = media.map(|media| media.datagram().into()).collect();
            let started = thread_cpu();
            self.forward(instant(at), &came);
            nanos += thread_cpu() - started;
            self.judge(first, &came)?;
        }
        Ok(nanos as f64 / (self.forwarded - before) as f64)
    }

    /// Takes what the publisher sent through its chain and those of all subscribers.
    fn forward(&mut self, now: Instant, came: &[Bytes]) {
        let Self { shard, publisher, subscribers, writes, sent, .. } = self;
        if shard.poll_timeout().is_some_and(|due| due <= now) {
            shard.handle_timeout(now);
        }
        let datagram = |bytes: &Bytes| Datagram { session: *publisher, kind: Kind::Rtp, bytes: bytes.clone() };
        shard.read(now, came.iter().map(datagram));
        loop {
            let before = sent.len();
            shard.take_outputs(sent);
            for Output { packet, .. } in sent.extract_if(before.., |output| output.to == End::Application) {
                writes.extend(subscribers.iter().map(|session| (*session, packet.clone())));
            }
            if writes.is_empty() {
                return;
            }
            shard.write(now, writes.drain(..));
        }
    }

    /// Every subscriber is sent every packet, in order; and its payload where it came in, or it counts as copied.
    fn judge(&mut self, first: u64, came: &[Bytes]) -> anyhow::Result<()> {
        for Output { session, packet, .. } in self.sent.drain(..) {
            let Packet::Rtp(packet) = packet else { continue };
            let number = *self.numbers.get(&session).context("RTP to the publisher")?;
            let index = self.seen[number];
            self.seen[number] += 1;
            self.forwarded += 1;
            let source = index.checked_sub(first).and_then(|at| came.get(at as usize)).context("a packet too many")?;
            ensure!(packet.header()[2..12] == source[2..12], "subscriber {number} is sent another packet than {index}");
            let [before, payload] = packet.payload_parts();
            ensure!(before.is_empty() && *payload == source[NUMBERED_HEADER..], "the payload of {index} was changed");
            if payload.as_ptr() != source[NUMBERED_HEADER..].as_ptr() {
                self.copied += payload.len() as u64;
            }
        }
        let published = self.published;
        ensure!(self.seen.iter().all(|seen| *seen == published), "a subscriber was not sent all {published} packets");
        match self.shard.poll_event() {
            Some(event) => anyhow::bail!("{event}"),
            None => Ok(()),
        }
    }
}

impl Findings for Report {
    fn table(&self) -> String {
        let mut out = String::new();
        let titles = ["forwarded, ns", "written, ns", "ratio", "bytes copied"];
        let _ = writeln!(out, "{:<28}{:>20}{:>20}{:>20}{:>14}", "", titles[0], titles[1], titles[2], titles[3]);
        for row in &self.rows {
            let _ = writeln!(
                out,
                "{:<28}{:>20}{:>20}{:>20}{:>14}",
                format!("bursts of {} to {}", row.burst, row.subscribers),
                row.forwarded_ns.cell(0),
                row.written_ns.cell(0),
                row.ratio.cell(2),
                row.copied_bytes
            );
        }
        out
    }
}
