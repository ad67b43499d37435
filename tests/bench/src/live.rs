//! Live sessions of one shard: each with a stream both ways of 50 packets a second, and every packet that leaves is
//! judged.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use sandbar_host::{
    Chain, Datagram, End, Instant, Kind, Output, Packet, RtpPacket, SessionId, SessionSpec, Shard, ShardConfig,
    StreamInfo,
};

use crate::sandbar::{instant, stream, template};
use crate::traffic::{Direction, EXTENSION_ID, Media, NUMBERED_HEADER};

/// Sessions whose packets come together.
pub(crate) const BURST: u64 = 32;
/// Between two packets of a stream.
const PERIOD: Duration = Duration::from_millis(20);

/// What makes a session with a stream in each direction: made before the clock starts.
pub(crate) struct Opening {
    spec: SessionSpec,
    remote: StreamInfo,
    local: StreamInfo,
}

impl Opening {
    pub(crate) fn new(number: u32, chain: Chain) -> Self {
        Self {
            spec: SessionSpec { name: number.to_string(), seed: number.into(), chain, ..SessionSpec::default() },
            remote: stream(Direction::Read, number),
            local: stream(Direction::Write, number),
        }
    }

    pub(crate) fn open(self, shard: &mut Shard, now: Instant) -> anyhow::Result<SessionId> {
        let session = shard.open_session(now, self.spec)?;
        shard.bind_remote_stream(now, session, self.remote)?;
        shard.bind_local_stream(now, session, self.local)?;
        Ok(session)
    }
}

/// Takes packets through a shard's sessions, each of them once in each direction.
pub(crate) fn exchange(
    shard: &mut Shard,
    now: Instant,
    template: &RtpPacket,
    packets: impl IntoIterator<Item = (SessionId, Media)>,
) -> anyhow::Result<()> {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for (session, media) in packets {
        read.push(Datagram { session, kind: Kind::Rtp, bytes: Bytes::from(media.datagram()) });
        let mut packet = template.clone();
        packet.set_header(&media.header(Direction::Write))?;
        written.push((session, Packet::from(packet)));
    }
    if shard.poll_timeout().is_some_and(|due| due <= now) {
        shard.handle_timeout(now);
    }
    shard.read(now, read);
    shard.write(now, written);
    Ok(())
}

/// A shard with sessions under traffic.
pub(crate) struct Live {
    pub(crate) shard: Shard,
    pub(crate) sessions: Vec<SessionId>,
    /// Each session's place among them.
    numbers: HashMap<SessionId, usize>,
    template: RtpPacket,
    /// Packets sent each way, in turn.
    sent: u64,
    seen: Vec<Seen>,
}

/// What has left of a session.
#[derive(Clone, Copy, Default)]
struct Seen {
    read: u64,
    written: u64,
    /// The latest number for transport-wide congestion control.
    transport: Option<u16>,
}

impl Live {
    /// Opens sessions with these chains.
    pub(crate) fn new(chain: &Chain, sessions: usize) -> anyhow::Result<Self> {
        let mut shard = Shard::new(ShardConfig::default());
        let open = |number| {
            let opening = Opening::new(number as u32, chain.clone());
            opening.open(&mut shard, instant(0)).with_context(|| format!("session {number}"))
        };
        let sessions = (0..sessions).map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let numbers = sessions.iter().copied().zip(0..).collect();
        let seen = vec![Seen::default(); sessions.len()];
        Ok(Self { shard, sessions, numbers, template: template()?, sent: 0, seen })
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Instant {
        instant(self.sent * PERIOD.as_nanos() as u64 / self.sessions.len() as u64)
    }

    /// Takes `periods` packets each way through each session.
    pub(crate) fn run(&mut self, periods: u64) -> anyhow::Result<()> {
        let until = self.sent + periods * self.sessions.len() as u64;
        while self.sent < until {
            self.burst()?;
        }
        Ok(())
    }

    /// Takes a packet each way through each of the sessions whose turn it is.
    pub(crate) fn burst(&mut self) -> anyhow::Result<()> {
        let sessions = self.sessions.len() as u64;
        let burst = self.sent..self.sent + BURST.min(sessions);
        self.sent = burst.end;
        let now = self.now();
        let at = (now - instant(0)).as_nanos() as u64;
        let opened = &self.sessions;
        let packets = burst.map(|number| {
            let media = Media::nth((number % sessions) as u32, number / sessions, at);
            (opened[media.session as usize], media)
        });
        exchange(&mut self.shard, now, &self.template, packets)?;
        self.judge()
    }

    /// Every stream's packets leave once each and in order, and what is sent is numbered without a gap.
    fn judge(&mut self) -> anyhow::Result<()> {
        let mut outputs = Vec::new();
        self.shard.take_outputs(&mut outputs);
        for Output { session, to, packet, .. } in outputs {
            let Packet::Rtp(packet) = packet else { continue };
            let number = *self.numbers.get(&session).context("a packet of no session")?;
            let seen = &mut self.seen[number];
            let index = match to {
                End::Application => &mut seen.read,
                End::Wire => &mut seen.written,
            };
            let expected = Media::nth(number as u32, *index, 0).sequence_number;
            *index += 1;
            let found = packet.sequence_number();
            ensure!(found == expected, "session {number}: {found} came where {expected} should");
            if to == End::Wire {
                let header = packet.header();
                ensure!(header.len() == NUMBERED_HEADER && header[16] == EXTENSION_ID << 4 | 1, "not numbered");
                let transport = u16::from_be_bytes([header[17], header[18]]);
                let last = seen.transport.replace(transport);
                ensure!(
                    last.is_none_or(|last| transport == last.wrapping_add(1)),
                    "session {number}: {last:?} is followed by {transport}"
                );
            }
        }
        match self.shard.poll_event() {
            Some(event) => anyhow::bail!("{event}"),
            None => Ok(()),
        }
    }

    /// Packets that sessions have sent and received.
    pub(crate) fn passed(&self) -> u64 {
        2 * self.sent
    }

    /// Nothing has been lost.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let sessions = self.sessions.len() as u64;
        for (number, Seen { read, written, .. }) in (0..).zip(&self.seen) {
            let sent = (self.sent + sessions - 1 - number) / sessions;
            ensure!(
                (*read, *written) == (sent, sent),
                "session {number}: of {sent} sent each way, {read} and {written}"
            );
        }
        Ok(())
    }
}
