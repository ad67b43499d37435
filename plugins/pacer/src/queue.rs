//! Packets that are held, and which of them leaves next.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar_sdk::{HeldId, Instant, StreamId};

/// A packet that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: HeldId,
    pub(crate) stream: StreamId,
    pub(crate) kind: Kind,
    pub(crate) sequence_number: u16,
    /// Bytes.
    pub(crate) size: usize,
    /// When it came.
    pub(crate) since: Instant,
    /// With which it leaves; empty where that is the one it came with.
    pub(crate) header: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Media,
    /// Is waited for at the other end, and leaves before everything else.
    Retransmission,
    Repair,
}

/// Of all streams: retransmissions in the order in which they came, and then the rest in theirs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    first: VecDeque<Held>,
    then: VecDeque<Held>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.then.is_empty()
    }

    /// Whether a packet of this kind would have to wait for another one.
    pub(crate) fn is_before(&self, kind: Kind) -> bool {
        !self.first.is_empty() || kind != Kind::Retransmission && !self.then.is_empty()
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<Held> {
        if kind == Kind::Retransmission { &mut self.first } else { &mut self.then }
    }

    /// Enters a packet at its place in the order in which they were held; mostly that is the end.
    pub(crate) fn push(&mut self, held: Held) {
        self.bytes += held.size;
        let queue = self.of(held.kind);
        match queue.back() {
            Some(last) if last.id > held.id => queue.insert(queue.partition_point(|before| before.id < held.id), held),
            _ => queue.push_back(held),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Held> {
        let held = self.first.pop_front().or_else(|| self.then.pop_front())?;
        self.bytes -= held.size;
        Some(held)
    }

    /// Takes out a stream's, retransmissions first.
    pub(crate) fn take(&mut self, stream: StreamId) -> Vec<Held> {
        let mut taken = Vec::new();
        for queue in [&mut self.first, &mut self.then] {
            let (of_stream, others): (VecDeque<_>, _) = queue.drain(..).partition(|held| held.stream == stream);
            *queue = others;
            taken.extend(of_stream);
        }
        self.bytes -= taken.iter().map(|held| held.size).sum::<usize>();
        taken
    }

    /// How long the oldest has been held.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let oldest = self.first.front().into_iter().chain(self.then.front()).map(|held| held.since).min();
        oldest.map_or(Duration::ZERO, |oldest| now - oldest)
    }

    /// The rate, in bits per second, at which nothing is held for longer than `longest`.
    pub(crate) fn pressure(&self, now: Instant, longest: Duration, interval: Duration) -> f64 {
        let left = longest.saturating_sub(self.age(now)).max(interval);
        self.bytes as f64 * 8.0 / left.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(stream: u32, sequence_number: u16, millis: u64, kind: Kind) -> Held {
        Held {
            id: HeldId::new(sequence_number.into()),
            stream: StreamId::new(stream),
            kind,
            sequence_number,
            size: 1000,
            since: Instant::from_millis(millis),
            header: Vec::new(),
        }
    }

    fn numbers(queue: &mut Queue) -> Vec<u16> {
        std::iter::from_fn(|| queue.pop()).map(|held| held.sequence_number).collect()
    }

    #[test]
    fn a_stream_is_taken_out_in_its_order_and_the_others_keep_theirs() {
        let mut queue = Queue::default();
        for n in 0..10 {
            queue.push(held(u32::from(n % 3), n, 0, Kind::Media));
        }
        let taken: Vec<_> = queue.take(StreamId::new(1)).iter().map(|held| held.sequence_number).collect();
        assert_eq!(taken, [1, 4, 7]);
        assert_eq!((numbers(&mut queue), queue.bytes), (vec![0, 2, 3, 5, 6, 8, 9], 0));
    }

    #[test]
    fn retransmissions_leave_first_and_all_in_the_order_in_which_they_were_held_whatever_order_they_are_heard_of() {
        let mut queue = Queue::default();
        let kinds = [Kind::Media, Kind::Retransmission, Kind::Repair];
        for n in [3u16, 1, 2, 8, 5, 0, 7, 4, 6] {
            queue.push(held(1, n, 0, kinds[usize::from(n % 3)]));
        }
        assert!(kinds.iter().all(|kind| queue.is_before(*kind)));
        assert_eq!(numbers(&mut queue), [1, 4, 7, 0, 2, 3, 5, 6, 8]);
        queue.push(held(1, 9, 0, Kind::Media));
        assert_eq!(kinds.map(|kind| queue.is_before(kind)), [true, false, true]);
    }

    #[test]
    fn the_longer_it_is_held_the_faster_it_has_to_go() {
        let (longest, interval) = (Duration::from_secs(2), Duration::from_millis(5));
        let mut queue = Queue::default();
        assert_eq!(queue.pressure(Instant::ZERO, longest, interval), 0.0);
        for n in 0..250 {
            queue.push(held(1, n, 0, if n == 0 { Kind::Media } else { Kind::Retransmission }));
        }
        assert_eq!(queue.pressure(Instant::ZERO, longest, interval), 1e6);
        assert_eq!(queue.pressure(Instant::from_millis(1_000), longest, interval), 2e6);
        assert_eq!(queue.pressure(Instant::from_millis(9_000), longest, interval), 4e8);
    }
}
