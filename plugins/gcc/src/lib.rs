//! Estimates the bandwidth to the peer and says what to send: Google congestion control (draft-ietf-rmcat-gcc-02) with what
//! Chrome has added since. The plugin `rtpfb` tells it of each packet; the plugin `pacer` and the application follow it.
//!
//! ```text
//! rtpfb.report ──> Groups ──> Trendline ──usage──> Aimd ──────────┐
//!      │ ├────────> Throughput ──delivered──────────┘             ├─ least ──> gcc.target_bitrate, target-bitrate
//!      │ └────────> Loss ──limit──────────────────────────────────┘
//!      └──────────> Probes ──found──> Aimd
//!                       └──> gcc.probes
//! ```
//!
//! Of floating-point numbers only what is exact everywhere is computed, so that a component says to the bit what the plugin
//! says natively.

mod aimd;
mod estimator;
mod groups;
mod loss;
mod options;
mod probe;
mod queue;
mod report;
mod throughput;
mod trendline;

use std::time::Duration;

use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, StreamId, StreamInfo, Value,
    export, serde_json, warn,
};

use crate::estimator::{Estimator, State};
use crate::options::{OPTIONS, Options};

pub use crate::probe::PROBES;

/// A value of the session: what to send, in bits per second.
pub const TARGET: &str = "gcc.target_bitrate";

/// A value of the session that the plugin `rtpfb` sets while packets leave and nothing is heard of them.
const UNANSWERED: &str = "rtpfb.unanswered_ms";
/// How often that is looked at.
const SECOND: Duration = Duration::from_secs(1);
/// Changes of the target that are published, at most so often; smaller ones wait for others.
const CHANGE: f64 = 0.05;
const PAUSE: Duration = Duration::from_millis(200);

/// The session's estimator, and what was last said of it.
#[derive(Debug)]
pub struct Gcc {
    estimator: Estimator,
    /// Local streams with feedback.
    streams: Vec<StreamId>,
    /// The target that other plugins and the application know.
    told: u64,
    published: u64,
    published_at: Option<Instant>,
    /// Feedback came without a report.
    warned: bool,
}

export!(Gcc, place = Pacing, binds = [rtcp_reader, local_streams], options = OPTIONS);

impl Interceptor for Gcc {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self::with(cx, Estimator::new(Options::parse(config)?)))
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let state: State = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        Ok(Self::with(cx, Estimator::resume(Options::parse(config)?, &state)))
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.estimator.state()).ok()
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Observe)
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        if info.has_feedback("transport-cc", "") || info.has_feedback("ack", "ccfb") {
            if self.streams.is_empty() {
                cx.wake_every(SECOND);
                self.estimator.begin(cx.now());
                self.tell(cx);
            }
            self.streams.push(stream);
        }
        // The packets themselves are others' business.
        Ok(Binding::PASS)
    }

    fn unbind_local_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.streams.retain(|bound| *bound != stream);
        if self.streams.is_empty() {
            cx.wake_at(None);
        }
    }

    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        match packet.attribute(report::REPORT) {
            Some(Value::Bytes(bytes)) => {
                self.estimator.report(packet.time(), report::read(&bytes));
                self.tell(cx);
            }
            _ if !self.warned && !self.streams.is_empty() && packet.parts().any(|part| is_feedback(&part)) => {
                self.warned = true;
                warn!(
                    cx,
                    "feedback comes without a report of each packet: put rtpfb into the chain, before this plugin"
                );
            }
            _ => {}
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        if let Some(Value::Integer(millis)) = cx.session_attribute(UNANSWERED) {
            self.estimator.silence(Duration::from_millis(millis.try_into().unwrap_or(0)));
            self.tell(cx);
        }
    }

    /// `{"target_bitrate": bits per second}`, as is published.
    fn control(&mut self, _: &mut Context, _: &str) -> Result<String, Refusal> {
        Ok(self.document())
    }
}

impl Gcc {
    fn with(cx: &mut Context, estimator: Estimator) -> Self {
        let mut gcc = Self { estimator, streams: Vec::new(), told: 0, published: 0, published_at: None, warned: false };
        // A successor takes over before its predecessor's word is gone.
        gcc.tell(cx);
        gcc
    }

    /// Tells the pacer and the application what is new.
    fn tell(&mut self, cx: &mut Context) {
        if let Some(orders) = self.estimator.orders()
            && cx.set_session_attribute(PROBES, orders).is_err()
        {
            cx.count("refused", 1);
        }
        let target = self.estimator.target();
        if target != self.told {
            let told = i64::try_from(target).unwrap_or(i64::MAX);
            if cx.set_session_attribute(TARGET, told).is_err() {
                cx.count("refused", 1);
            }
            self.told = target;
            cx.gauge("target_bitrate", target as f64);
        }
        let change = (target as f64 / self.published.max(1) as f64 - 1.0).abs();
        let now = cx.now();
        if change >= CHANGE && self.published_at.is_none_or(|at| now - at >= PAUSE) {
            cx.publish("target-bitrate", &self.document());
            (self.published, self.published_at) = (target, Some(now));
        }
    }

    fn document(&self) -> String {
        let estimator = &self.estimator;
        serde_json::json!({
            "target_bitrate": estimator.target(),
            "delay_based_bitrate": estimator.delay_based() as u64,
            "loss_based_bitrate": estimator.loss_based().map(|rate| rate as u64),
            "inherent_loss": estimator.inherent_loss(),
            "round_trip_ms": estimator.round_trip().map(|time| time.as_millis() as u64),
        })
        .to_string()
    }
}

/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1) or RFC 8888's.
fn is_feedback(part: &sandbar_sdk::RtcpPart<'_>) -> bool {
    part.packet_type == 205 && matches!(part.count, 11 | 15)
}
