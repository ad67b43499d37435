//! One stream: what becomes of a packet when it comes, and when its time has come.

use sandbar_sdk::{Context, HeldId, Instant, RtpPacket, StreamId, StreamInfo};

use crate::clock::Clock;
use crate::options::Options;
use crate::queue::{Entry, Queue};
use crate::sequence::{Place, Sequence};
use crate::tally::Tally;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) ssrc: u32,
    pub(crate) clock: Clock,
    pub(crate) sequence: Sequence,
    pub(crate) queue: Queue,
    /// The last packet, where it was far from all others.
    pub(crate) stray: Option<HeldId>,
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
            queue: Queue::new(options.packets.into()),
            stray: None,
            wake: None,
        }
    }

    /// A packet of the stream's own SSRC has come.
    #[inline]
    pub(crate) fn arrive(&mut self, cx: &mut Context, packet: &RtpPacket<'_>, tally: &mut Tally) -> Verdict {
        let header = packet.header();
        let (number, anew) = match self.sequence.place(header.sequence_number()) {
            Place::At(number) => (number, false),
            Place::Anew(number) => {
                self.clock.timeline = None;
                (number, true)
            }
            Place::Stray => {
                tally.strays += 1;
                // The next one may show that with this one the sequence begins anew.
                return self.replace_stray(cx, Some(packet));
            }
        };
        let now = packet.time();
        let play = self.clock.play(header.timestamp(), now, packet.repaired());
        tally.resets += u64::from(anew || play.jumped);
        if anew && let Some(stray) = self.stray.take() {
            self.queue.insert(number - 1, play.at, now, || Some(stray));
        } else {
            self.replace_stray(cx, None);
        }
        match self.queue.insert(number, play.at, now, || cx.hold(packet).ok()) {
            Entry::Held => return Verdict::Hold,
            Entry::Unheld => {
                tally.unheld += 1;
                return Verdict::Pass(number);
            }
            Entry::Late => tally.late += 1,
            Entry::Duplicate => tally.duplicates += 1,
        }
        Verdict::Drop
    }

    /// Holds a stray packet in place of the last one, if there was one.
    fn replace_stray(&mut self, cx: &mut Context, packet: Option<&RtpPacket<'_>>) -> Verdict {
        if let Some(stray) = self.stray.take() {
            cx.discard(stray);
        }
        self.stray = packet.and_then(|packet| cx.hold(packet).ok());
        if self.stray.is_some() { Verdict::Hold } else { Verdict::Drop }
    }

    /// Plays what is due, and sets the timer for what is not.
    #[inline]
    pub(crate) fn release(&mut self, cx: &mut Context, now: Instant, tally: &mut Tally) {
        self.play(cx, now, tally);
        self.plan(cx);
    }

    /// Sets the timer, unless it is due earlier anyway.
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
        self.replace_stray(cx, None);
        self.play(cx, Instant::from_nanos(u64::MAX), tally);
    }

    /// Plays what is ready.
    #[inline]
    fn play(&mut self, cx: &mut Context, now: Instant, tally: &mut Tally) {
        while let Some(held) = self.queue.ready(now) {
            // A plugin that is replaced has nothing left to let go.
            if cx.release(held.id, &[], &[]).is_ok() {
                tally.early += u64::from(held.due > now);
            }
            tally.lost += self.queue.pop();
        }
    }
}
