//! A side with its place in the traffic, timed sample by sample.

use crate::measure::thread_cpu;
use crate::side::{Side, Taken};
use crate::traffic::{Load, Traffic};

/// Packets that are made at once, and then timed at once: few enough to stay in the processor's cache, as they do
/// between a receive call and the chain.
const CHUNK: u64 = 512;

/// What is timed, and what it has put out.
pub(crate) struct Runner<S: ?Sized = dyn Side> {
    pub(crate) side: Box<S>,
    pub(crate) traffic: Traffic,
    pub(crate) taken: Taken,
}

impl<S: Side + ?Sized> Runner<S> {
    pub(crate) fn new(side: Box<S>, load: Load) -> Self {
        Self { side, traffic: Traffic::new(load), taken: Taken::default() }
    }

    /// Takes a second of virtual time through the side, in which there is all feedback, and each session's reports, the
    /// same number of times. The answer is in nanoseconds per packet.
    pub(crate) fn second(&mut self) -> f64 {
        let before = self.traffic.entered();
        let until = self.traffic.elapsed() + 1_000_000_000;
        let mut nanos = 0;
        while self.traffic.elapsed() < until {
            self.side.load(&self.traffic.next(CHUNK));
            let started = thread_cpu();
            self.side.drive();
            nanos += thread_cpu() - started;
            self.taken.merge(self.side.take());
        }
        nanos as f64 / (self.traffic.entered() - before) as f64
    }
}
