//! What `typed-counter` does, in the batched lane: with the SDK. Two plugins, one behaviour; a scenario compares them.

use sandbar_sdk::{
    Access, Binding, Context, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo,
    View, config,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Counts packets.
pub struct Counter {
    config: Config,
    counts: Counts,
}

/// See `typed-counter`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    access: String,
    view: String,
    drop_every: u64,
    payload_type: Option<u8>,
    attribute: Option<String>,
    publish_ms: u64,
    refuse: String,
    trap_after: Option<u64>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
struct Counts {
    read: u64,
    written: u64,
    rtcp_read: u64,
    rtcp_written: u64,
    timeouts: u64,
    shown: usize,
}

impl Counter {
    fn make(cx: &mut Context, config: &str, counts: Counts) -> Result<Self, Refusal> {
        let config: Config = config::parse(config)?;
        if config.refuse == "create" {
            return Err(Refusal::unsupported("told to refuse create"));
        }
        let counter = Counter { config, counts };
        counter.arm(cx);
        Ok(counter)
    }

    fn arm(&self, cx: &mut Context) {
        if self.config.publish_ms > 0 {
            cx.wake_at(Some(cx.now() + Duration::from_millis(self.config.publish_ms)));
        }
    }

    fn json(&self) -> String {
        serde_json::to_string(&self.counts).unwrap_or_default()
    }

    fn binding(&self) -> Result<Binding, Refusal> {
        let view = if self.config.view == "packets" { View::Packets } else { View::Headers };
        let access = match self.config.access.as_str() {
            "pass" => Access::Pass,
            "observe" => Access::Observe(view),
            "follow" => Access::Follow,
            "" | "transform" => Access::Transform(view),
            other => {
                return Err(Refusal::config(format!("access: {other:?} is none of pass, observe, follow, transform")));
            }
        };
        if self.config.refuse == "bind" {
            return Err(Refusal::unsupported("told to refuse bind"));
        }
        Ok(Binding { access, ..Binding::PASS })
    }

    fn rtcp_access(&self) -> RtcpAccess {
        match self.config.access.as_str() {
            "pass" => RtcpAccess::Pass,
            "observe" | "follow" => RtcpAccess::Observe,
            _ => RtcpAccess::Transform,
        }
    }

    fn outcome(&mut self, packet: &mut RtpPacket<'_>, count: u64) -> Outcome {
        let shown = packet.header().len() + packet.payload().map_or(0, <[u8]>::len);
        self.counts.shown = self.counts.shown.max(shown);
        assert!(self.config.trap_after.is_none_or(|after| count <= after), "told to trap");
        if let Some(key) = &self.config.attribute {
            let _ = packet.set_attribute(key, count as i64);
        }
        if self.config.drop_every > 0 && count.is_multiple_of(self.config.drop_every) {
            return Outcome::Drop;
        }
        if let Some(payload_type) = self.config.payload_type {
            packet.header_mut().set_payload_type(payload_type);
        }
        Outcome::Forward
    }
}

impl Interceptor for Counter {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Self::make(cx, config, Counts::default())
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let counts = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        if config.contains(r#""refuse":"restore""#) {
            return Err(Refusal::unsupported("told to refuse restore"));
        }
        Self::make(cx, config, counts)
    }

    fn save(&mut self, _cx: &mut Context) -> Option<Vec<u8>> {
        Some(self.json().into_bytes())
    }

    fn bind_rtcp_reader(&mut self, _cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(self.rtcp_access())
    }

    fn bind_rtcp_writer(&mut self, _cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(self.rtcp_access())
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.binding()
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.binding()
    }

    fn read_rtp(&mut self, _cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.counts.read += 1;
        self.outcome(packet, self.counts.read)
    }

    fn write_rtp(&mut self, _cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.counts.written += 1;
        self.outcome(packet, self.counts.written)
    }

    fn read_rtcp(&mut self, _cx: &mut Context, _packet: &mut RtcpPacket<'_>) -> Outcome {
        self.counts.rtcp_read += 1;
        Outcome::Forward
    }

    fn write_rtcp(&mut self, _cx: &mut Context, _packet: &mut RtcpPacket<'_>) -> Outcome {
        self.counts.rtcp_written += 1;
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _stream: Option<StreamId>) {
        self.counts.timeouts += 1;
        cx.publish("counts", &self.json());
        self.arm(cx);
    }

    fn control(&mut self, _cx: &mut Context, request: &str) -> Result<String, Refusal> {
        match request {
            "counts" => Ok(self.json()),
            other => Err(Refusal::unsupported(format!("{other:?}; the only request is counts"))),
        }
    }

    fn close(&mut self, cx: &mut Context) {
        cx.publish("closed", &self.json());
    }
}

sandbar_sdk::export!(Counter, place = Anywhere, wants = [read_media]);
