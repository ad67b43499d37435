//! One run: flows over a path, and what is measured of them.

use crate::encoder::Encoder;
use crate::path::{Path, Profile, Served};
use crate::receiver::Receiver;
use crate::{Feedback, MILLISECOND, SECOND, Sender};

/// Rounds at one time after which a run is stuck.
const STUCK: usize = 100_000;

/// One that sends over the path.
struct Flow<'a> {
    sender: Box<dyn Sender + 'a>,
    encoder: Encoder,
    receiver: Receiver,
    /// On its way back: when it arrives.
    feedback: Vec<(u64, Vec<u8>)>,
    /// Target by time.
    targets: Vec<(u64, f64)>,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called in reports.
    pub name: &'static str,
    /// The path.
    pub profile: Profile,
    /// When each flow begins.
    pub flows: Vec<u64>,
    /// How long it takes.
    pub duration: u64,
    /// From when on it is measured.
    pub measured_from: u64,
    /// What the encoder produces at most: from when on, and bits per second.
    pub encoder: Vec<(u64, f64)>,
    /// Since when the time to converge counts.
    pub converges_from: u64,
    /// What the peers give.
    pub feedback: Feedback,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Bits per second of each flow through the bottleneck, while measured.
    pub rates: Vec<f64>,
    /// The same, of what others left of the path.
    pub utilisation: f64,
    /// The part of packets lost, in the queue and behind it, while measured.
    pub loss: f64,
    /// Queueing delay in milliseconds, while measured.
    pub delay_p50: f64,
    /// See `delay_p50`.
    pub delay_p95: f64,
    /// Seconds until 85 % of the path were used for a second, if ever.
    pub converged: Option<f64>,
    /// Mean target of the first flow, by second.
    pub targets: Vec<f64>,
    /// Bits per second of the first flow through the bottleneck, by second.
    pub used: Vec<f64>,
    /// The largest queueing delay of each second, in milliseconds.
    pub delays: Vec<f64>,
}

/// Runs a scenario with a sender for each flow, made by `make` from the time at which it begins.
pub fn run<'a>(scenario: &Scenario, seed: u64, mut make: impl FnMut(u64) -> Box<dyn Sender + 'a>) -> Outcome {
    let mut path = Path::new(scenario.profile.clone(), seed);
    let mut flows: Vec<Flow<'a>> = scenario
        .flows
        .iter()
        .enumerate()
        .map(|(n, begins)| Flow {
            sender: make(*begins),
            encoder: Encoder::new(seed * 1000 + n as u64, *begins),
            receiver: Receiver::new(scenario.feedback),
            feedback: Vec::new(),
            targets: Vec::new(),
        })
        .collect();
    let mut served: Vec<Served> = Vec::new();
    let mut arrived = 0u64;
    let (mut now, mut rounds) = (0, 0);
    loop {
        let next = flows.iter().flat_map(|flow| {
            let feedback = flow.feedback.first().map(|(at, _)| *at);
            [Some(flow.encoder.due()), flow.sender.poll_timeout(), flow.receiver.poll_timeout(), feedback]
        });
        let Some(next) = next.flatten().chain(path.poll_timeout()).min().filter(|next| *next < scenario.duration)
        else {
            break;
        };
        rounds = if next > now { 0 } else { rounds + 1 };
        assert!(rounds < STUCK, "time stands still at {now} ns");
        now = next.max(now);
        path.handle_timeout(now);
        while let Some(arrival) = path.receive(now) {
            arrived += u64::from(arrival.at >= scenario.measured_from);
            flows[arrival.flow].receiver.receive(arrival.at, arrival.bytes);
        }
        for (n, flow) in flows.iter_mut().enumerate() {
            for compound in flow.receiver.poll_feedback(now) {
                flow.feedback.push((now + scenario.profile.delay, compound));
            }
            while flow.feedback.first().is_some_and(|(at, _)| *at <= now) {
                let (_, compound) = flow.feedback.remove(0);
                flow.sender.feedback(now, &compound);
            }
            if flow.sender.poll_timeout().is_some_and(|at| at <= now) {
                flow.sender.handle_timeout(now);
            }
            if flow.encoder.due() <= now {
                let most = scenario.encoder.iter().rev().find(|(from, _)| *from <= now);
                flow.encoder.most = most.map_or(f64::INFINITY, |(_, most)| *most);
                let target = flow.sender.target();
                flow.targets.push((now, target));
                let frame = flow.encoder.frame(target);
                flow.sender.write(now, frame);
            }
            while let Some(packet) = flow.sender.poll_wire() {
                path.send(now, n, packet);
            }
        }
        served.extend(path.served());
    }
    measure(scenario, &served, &flows, arrived)
}

fn measure(scenario: &Scenario, served: &[Served], flows: &[Flow<'_>], arrived: u64) -> Outcome {
    let Scenario { measured_from: from, duration: to, .. } = *scenario;
    let span = (to - from) as f64 / SECOND as f64;
    let measured = || served.iter().filter(|served| served.at >= from);
    let rate = |flow: usize| {
        let bytes: usize =
            measured().filter(|served| served.flow == flow && served.waited.is_some()).map(|s| s.size).sum();
        bytes as f64 * 8.0 / span
    };
    let rates: Vec<f64> = (0..flows.len()).map(rate).collect();
    let mut delays: Vec<u64> = measured().filter_map(|served| served.waited).collect();
    delays.sort_unstable();
    let percentile = |part: f64| {
        let at = ((delays.len() as f64 * part) as usize).min(delays.len().saturating_sub(1));
        delays.get(at).map_or(0.0, |delay| *delay as f64 / MILLISECOND as f64)
    };
    let sent = measured().count() as f64;
    let by_second = |flow: usize, second: u64| {
        let within = |served: &&Served| served.flow == flow && served.at / SECOND == second && served.waited.is_some();
        served.iter().filter(within).map(|served| served.size).sum::<usize>() as f64 * 8.0
    };
    let seconds = to / SECOND;
    Outcome {
        utilisation: rates.iter().sum::<f64>() / scenario.profile.free(from, to),
        rates,
        loss: (1.0 - arrived as f64 / sent.max(1.0)).max(0.0),
        delay_p50: percentile(0.5),
        delay_p95: percentile(0.95),
        converged: converged(scenario, served),
        targets: (0..seconds)
            .map(|second| {
                let of: Vec<f64> =
                    flows[0].targets.iter().filter(|(at, _)| at / SECOND == second).map(|(_, t)| *t).collect();
                of.iter().sum::<f64>() / of.len().max(1) as f64
            })
            .collect(),
        used: (0..seconds).map(|second| by_second(0, second)).collect(),
        delays: (0..seconds)
            .map(|second| {
                let of = served.iter().filter(|served| served.at / SECOND == second).filter_map(|served| served.waited);
                of.max().unwrap_or(0) as f64 / MILLISECOND as f64
            })
            .collect(),
    }
}

/// Seconds from when it counts until a whole second begins in which 85 % of what there is are used.
fn converged(scenario: &Scenario, served: &[Served]) -> Option<f64> {
    const STEP: u64 = 100 * MILLISECOND;
    let mut bytes = vec![0usize; (scenario.duration / STEP) as usize + 1];
    for served in served.iter().filter(|served| served.waited.is_some()) {
        bytes[(served.at / STEP) as usize] += served.size;
    }
    let first = (scenario.converges_from / STEP) as usize;
    (first..bytes.len().saturating_sub(10))
        .find(|at| {
            let from = *at as u64 * STEP;
            let used = bytes[*at..at + 10].iter().sum::<usize>() as f64 * 8.0;
            used >= 0.85 * scenario.profile.free(from, from + SECOND)
        })
        .map(|at| (at - first) as f64 / 10.0)
}
