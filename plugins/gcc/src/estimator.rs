//! What to send: the least of what delay and loss allow, from what probes and growth have found.

use std::time::Duration;

use sandbar_sdk::Instant;
use sandbar_sdk::serde::{Deserialize, Serialize};

use crate::aimd::{Aimd, Situation};
use crate::groups::Groups;
use crate::loss::{Loss, LossState};
use crate::options::Options;
use crate::probe::{Found, Probes};
use crate::queue::QueueDelay;
use crate::report::Packet;
use crate::throughput::Throughput;
use crate::trendline::{Trendline, Usage};

/// A round trip before one is measured, and the longest that is believed.
const ROUND_TRIP: Duration = Duration::from_millis(200);
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(5);
/// What is used of a rate that filled the path: the queue of the probe is to drain.
const AFTER_FILLING: f64 = 0.9;
/// Silence after which the rate falls, by this factor each second: nobody knows what arrives.
const SILENCE: Duration = Duration::from_millis(1500);
const SILENT: f64 = 0.8;
/// After this much silence the path is a new one.
const NEW_PATH: Duration = Duration::from_secs(3);
/// No probes for this long after a queue has built up.
const CALM: Duration = Duration::from_millis(500);
/// Nor while there is more of one than this, in microseconds.
const STANDING: i64 = 20_000;
/// A queue of this, in microseconds, that is being filled needs no slope to be noticed: a full one has none.
const FULL: i64 = 100_000;
const FILLING: f64 = 1.05;
/// An application that uses less than one in so many bits of the estimate does not need a higher one.
const NEED: f64 = 4.0;

#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    options: Options,
    groups: Groups,
    trendline: Trendline,
    throughput: Throughput,
    queue: QueueDelay,
    sent: Throughput,
    aimd: Aimd,
    loss: Loss,
    probes: Probes,
    round_trip: Option<Duration>,
    /// Something has been heard of the path.
    begun: bool,
    /// Probes have gone unhindered so far, so the next one that fills the path finds its end.
    exploring: bool,
    /// And since the beginning.
    beginning: bool,
    silent: Option<Duration>,
    target: f64,
}

/// What a successor continues from: JSON.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct State {
    /// Bits per second.
    pub(crate) target: f64,
    loss: LossState,
    round_trip_us: Option<u64>,
    probe: u32,
}

impl Estimator {
    pub(crate) fn new(options: Options) -> Self {
        let target = options.bounded(options.start_bitrate.into());
        Self {
            options,
            groups: Groups::default(),
            trendline: Trendline::default(),
            throughput: Throughput::default(),
            queue: QueueDelay::default(),
            sent: Throughput::default(),
            aimd: Aimd::new(target),
            loss: Loss::default(),
            probes: Probes::new(options.probing, 0),
            round_trip: None,
            begun: false,
            exploring: true,
            beginning: true,
            silent: None,
            target,
        }
    }

    pub(crate) fn resume(options: Options, state: &State) -> Self {
        let mut estimator = Self::new(options);
        if state.target.is_finite() {
            estimator.target = options.bounded(state.target);
        }
        estimator.aimd = Aimd::new(estimator.target);
        estimator.aimd.saturated(estimator.target);
        estimator.loss = Loss::resume(state.loss);
        estimator.round_trip = state.round_trip_us.map(Duration::from_micros);
        estimator.probes = Probes::new(options.probing, state.probe);
        (estimator.begun, estimator.exploring, estimator.beginning) = (true, false, false);
        estimator
    }

    pub(crate) fn state(&self) -> State {
        State {
            target: self.target,
            loss: self.loss.state(),
            round_trip_us: self.round_trip.map(|time| time.as_micros() as u64),
            probe: self.probes.number(),
        }
    }

    /// Bits per second.
    pub(crate) fn target(&self) -> u64 {
        self.target as u64
    }

    /// What delay allows, bits per second.
    pub(crate) fn delay_based(&self) -> f64 {
        self.aimd.rate()
    }

    /// What loss allows, where it has a say.
    pub(crate) fn loss_based(&self) -> Option<f64> {
        self.loss.limit()
    }

    /// The part of packets that the path loses at any rate.
    pub(crate) fn inherent_loss(&self) -> f64 {
        self.loss.inherent()
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What to order of the pacer, if that has changed.
    pub(crate) fn orders(&mut self) -> Option<Vec<u8>> {
        self.probes.orders()
    }

    /// The first packets are about to leave.
    pub(crate) fn begin(&mut self, now: Instant) {
        if !self.begun {
            self.probes.begin(micros(now), self.target, self.options.max_bitrate.into());
        }
    }

    /// The peer has told what became of these packets.
    pub(crate) fn report(&mut self, now: Instant, packets: impl Iterator<Item = Packet>) {
        self.begun = true;
        if self.silent.take().is_some_and(|silence| silence > NEW_PATH) {
            self.probes.begin(micros(now), self.target, self.options.max_bitrate.into());
            (self.exploring, self.beginning) = (true, true);
        }
        let mut latest = None;
        for packet in packets {
            self.take(&packet);
            if packet.arrived {
                latest = latest.max(Some(packet.sent));
            }
        }
        if let Some(sent) = latest {
            let round_trip = Duration::from_micros(micros(now).saturating_sub(sent).try_into().unwrap_or(0));
            self.round_trip = Some(round_trip.min(LONGEST_ROUND_TRIP));
        }
        self.update(now);
    }

    fn take(&mut self, packet: &Packet) {
        if packet.was_lost {
            self.loss.came_late();
        } else {
            self.loss.add(packet.sent, !packet.arrived);
            self.sent.add(packet.sent, packet.size);
        }
        let Some(at) = packet.at else { return };
        self.throughput.add(at, packet.size);
        self.queue.add(packet.sent, at);
        match packet.probe {
            // A probe makes a queue of its own, and that is no news.
            Some(number) => {
                self.probes.add(number, packet.sent, at, packet.size);
                self.groups.cut();
            }
            None => {
                if let Some(step) = self.groups.add(packet.sent, at) {
                    self.trendline.update(step);
                }
            }
        }
    }

    fn update(&mut self, now: Instant) {
        // What the path loses at any rate is not for want of capacity.
        let delivered = self.throughput.rate().map(|rate| rate / (1.0 - self.loss.inherent()));
        let filling = delivered.zip(self.sent.rate()).is_some_and(|(delivered, sent)| sent > FILLING * delivered);
        let usage = match self.trendline.usage() {
            Usage::Normal if filling && self.queue.now() > FULL => Usage::Over,
            usage => usage,
        };
        self.aimd.update(Situation {
            now,
            usage,
            delivered,
            round_trip: self.round_trip.unwrap_or(ROUND_TRIP),
            hold: self.loss.hold(),
        });
        if usage == Usage::Over {
            (self.exploring, self.beginning) = (false, false);
        }
        if let Some(found) = self.probes.found(micros(now)) {
            self.take_probe(now, found);
        }
        let most = self.options.max_bitrate.into();
        self.aimd.set(self.options.bounded(self.aimd.rate()));
        self.loss.update(micros(now), self.target, self.aimd.rate());
        let calm = self.queue.now() < STANDING && self.aimd.reduced().is_none_or(|at| now - at >= CALM);
        let needed = self.sent.rate().is_some_and(|sent| sent * NEED > self.target);
        if usage != Usage::Over && !self.loss.hold() && calm && needed && self.target < most {
            self.probes.look_around(micros(now), self.target, most);
        }
        let limit = self.loss.limit().unwrap_or(f64::INFINITY);
        self.target = self.options.bounded(self.aimd.rate().min(limit));
    }

    fn take_probe(&mut self, now: Instant, found: Found) {
        if !found.filled {
            if found.rate > self.aimd.rate() && self.trendline.usage() != Usage::Over {
                self.aimd.opened();
                self.aimd.set(found.rate);
                self.exploring = true;
            }
            if self.exploring {
                self.probes.further(micros(now), found.rate, self.beginning, self.options.max_bitrate.into());
            }
        } else if self.exploring {
            // On a path that others fill too, a probe gets more than its share: only the end of a way up counts.
            (self.exploring, self.beginning) = (false, false);
            self.aimd.set(self.aimd.rate().max(AFTER_FILLING * found.rate));
            self.aimd.saturated(found.rate);
        }
    }

    /// A second of silence has passed: for so long packets have left and nothing was heard of them.
    pub(crate) fn silence(&mut self, silence: Duration) {
        if !self.begun || silence < SILENCE {
            return;
        }
        self.silent = Some(silence);
        self.aimd.set(self.options.bounded(self.aimd.rate().min(self.target) * SILENT));
        self.aimd.saturated(self.aimd.rate());
        self.target = self.target.min(self.aimd.rate());
    }
}

fn micros(at: Instant) -> i64 {
    (at.as_nanos() / 1000) as i64
}
