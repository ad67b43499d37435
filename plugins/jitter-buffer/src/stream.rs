//! One stream: what becomes of a packet when it comes, and when its time has come.

use sandbar_sdk::{Context, EmitError, Instant, Payload, RtpPacket, StreamId, StreamInfo};

use crate::clock::Clock;
use crate::options::Options;
use crate::queue::{Entry, Queue};
use crate::sequence::{Kept, Place, Sequence};
use crate::tally::Tally;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) ssrc: u32,
    pub(crate) clock: Clock,
    pub(crate) sequence: Sequence,
    pub(crate) kept: Kept,
    pub(crate) queue: Queue,
    /// Packets in its history.
    packets: u16,
    /// When its timer is due.
    wake: Option<Instant>,
}

/// What becomes of a packet now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Hold,
    Drop,
    /// It goes on, behind what was held before it.
    Pass(u64),
}

impl Stream {
    pub(crate) fn new(id: StreamId, info: &StreamInfo, options: Options) -> Self {
        Self {
            id,
            ssrc: info.ssrc,
            clock: Clock::new(info.clock_rate, options.delay()),
            sequence: Sequence::default(),
            kept: Kept::default(),
            queue: Queue::new(options.room()),
            packets: options.packets,
            wake: None,
        }
    }

    /// A packet of the stream's own SSRC has come. `mtu` is the most that the host lets out again.
    #[inline]
    pub(crate) fn arrive(&mut self, packet: &RtpPacket<'_>, mtu: usize, tally: &mut Tally) -> Verdict {
        let header = packet.header();
        let kept = self.kept.enter(header.sequence_number(), self.packets);
        let (number, anew) = match self.sequence.place(header.sequence_number()) {
            Place::At(number) => (number, false),
            Place::Anew(number) => {
                self.clock.timeline = None;
                (number, true)
            }
            Place::Stray => {
                tally.strays += 1;
                return Verdict::Drop;
            }
        };
        let play = self.clock.play(header.timestamp(), packet.time(), packet.repaired());
        tally.resets += u64::from(anew || play.jumped);
        let entry = if kept && packet.size() <= mtu {
            if anew {
                // The packet before was taken for a stray, but is in the history.
                self.queue.insert(number - 1, play.at, &[]);
            }
            self.queue.insert(number, play.at, header.as_bytes())
        } else if self.queue.pass(number, packet.time()) == Entry::Held {
            tally.unheld += 1;
            return Verdict::Pass(number);
        } else {
            Entry::Late
        };
        match entry {
            Entry::Held => return Verdict::Hold,
            Entry::Late => tally.late += 1,
            Entry::Duplicate => tally.duplicates += 1,
        }
        Verdict::Drop
    }

    /// Plays what is due, and sets the timer for what is not.
    #[inline]
    pub(crate) fn release(&mut self, cx: &mut Context, now: Instant, tally: &mut Tally) {
        self.play(cx, now, tally);
        self.plan(cx);
    }

    /// Sets the timer, unless it is due earlier anyway. What is due already but may not be emitted in this call is due
    /// at the next millisecond.
    #[inline]
    pub(crate) fn plan(&mut self, cx: &mut Context) {
        if let Some(due) = self.queue.due().filter(|due| self.wake.is_none_or(|wake| *due < wake)) {
            self.wake = Some(due);
            cx.wake_stream_at(self.id, Some(due));
        }
    }

    /// The timer is due.
    pub(crate) fn wake(&mut self, cx: &mut Context, tally: &mut Tally) {
        self.wake = None;
        self.release(cx, cx.now(), tally);
    }

    /// Plays everything, for there is no later.
    pub(crate) fn release_all(&mut self, cx: &mut Context, tally: &mut Tally) {
        self.play(cx, Instant::from_nanos(u64::MAX), tally);
        tally.refused += self.queue.len() as u64;
    }

    /// Plays what is ready, as far as this call may emit.
    #[inline]
    fn play(&mut self, cx: &mut Context, now: Instant, tally: &mut Tally) {
        while let Some(held) = self.queue.ready(now) {
            let sequence_number = held.number as u16;
            let early = held.due > now;
            let payload = Payload::History { sequence_number, prefix: &[] };
            let emitted = if held.header.is_empty() {
                let kept = cx.history(self.id, sequence_number).ok_or(EmitError::NotInHistory);
                kept.and_then(|kept| cx.emit_rtp(self.id, &kept.header, payload, &[]))
            } else {
                cx.emit_rtp(self.id, &held.header, payload, &[])
            };
            match emitted {
                Ok(()) => tally.early += u64::from(early),
                Err(EmitError::Quota) => return,
                Err(EmitError::NotInHistory) => tally.lost += 1,
                Err(_) => tally.refused += 1,
            }
            tally.lost += self.queue.pop();
        }
    }
}
