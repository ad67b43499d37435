//! A guest that does what its configuration says, so that a host's every path can be driven with one component.
//!
//! | key | what it does |
//! | --- | --- |
//! | `read`, `write` | how remote and local streams are bound: `pass`, `observe-headers`, `observe-packets`, `transform-headers`, `transform-packets`. Default `pass` |
//! | `rtcp_read`, `rtcp_write` | how RTCP is bound: `pass`, `observe`, `transform`. Default `pass` |
//! | `history` | packets of history of every stream. Default 0 |
//! | `unbound` | asks for packets of unknown SSRCs. Default false |
//! | `on_read`, `on_write` | what becomes of a packet: `forward`, `drop`, `mark` (marker bit, in place), `extend` (a two-byte count in `extension`), `replace` (sequence number + 1000), `duplicate` (view packets: two packets in its place; view headers: once more from the history, before it), `hold` (for `hold_ms`). Default `forward` |
//! | `on_rtcp_read`, `on_rtcp_write` | what becomes of a compound: `forward`, `drop`, `duplicate`, `behead` (without its first packet), `answer` (goes on, and what its NACKs ask for is emitted from the history, as RTX where the stream has it). Default `forward` |
//! | `every` | acts on one packet in so many, others are forwarded. Default 1 |
//! | `hold_ms` | Default 20 |
//! | `extension` | id of the extension for `extend`. Default 1 |
//! | `set_attribute` | key of an attribute to set on each packet, to the packet's count |
//! | `publish_attribute` | key of an attribute whose value each packet's document `attribute` tells, `null` where it has none |
//! | `tick_ms` | period of the session timer; 0 for none. Default 0 |
//! | `on_tick` | list of `publish` (the counts, as `counts`), `emit-rtcp` (a PLI for the first remote stream), `metrics` (counter and gauge `ticks`), `log` |
//! | `refuse` | refuses `create`, `restore`, `bind-rtcp` or `bind-stream` |
//! | `fault` | traps in `create`, `bind`, `unbind`, `packet`, `rtcp`, `timeout`, `control`, `save` or `close` |
//! | `log` | a line to log at creation |
//!
//! `save` gives the counts, and `restore` goes on from them. Control requests, JSON:
//!
//! | request | answer |
//! | --- | --- |
//! | `{"echo": anything}` | the same thing |
//! | `"counts"` | the counts of calls by kind, and what was restored |
//! | `"random"`, `"ntp"`, `"now"`, `"session"` | what the host says |
//! | `"refuse"` | a refusal |
//! | `{"configure": {..}}` | does otherwise from now on; bindings stay. `null` |
//! | `{"emit_rtcp": [bytes]}` | emits. `null`, or a refusal that names the error |
//! | `{"emit_rtp": {"stream": ssrc, "ssrc": .., "sequence_number": .., "payload": [bytes]}}` | the same |
//! | `{"retransmit": {"stream": ssrc, "sequence_number": ..}}` | the same, from the history |
//! | `{"lookup": {"stream": ssrc, "sequence_number": ..}}` | size and age in ns, or `null` |
//! | `{"wake_ms": 5}` | sets the session's timer; `{"wake_ms": null}` clears it |

mod config;
mod control;
mod stream;

use std::time::Duration;

use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Payload, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId,
    StreamInfo, Value, debug, info, serde_json,
};
use serde::{Deserialize, Serialize};

pub use crate::config::{Action, Bound, BoundRtcp, Config, Fault, Refused, RtcpAction, Tick};
use crate::stream::Stream;

/// Calls by kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub struct Counts {
    /// Packets from the peer.
    pub read: u64,
    /// Packets to the peer.
    pub written: u64,
    /// Compounds from the peer.
    pub rtcp_read: u64,
    /// Compounds to the peer.
    pub rtcp_written: u64,
    /// Timers, of the session and of streams.
    pub timeouts: u64,
    /// Streams bound and not unbound.
    pub bound: u64,
    /// How often the state was handed over.
    pub restored: u64,
}

/// One session's probe.
#[derive(Debug)]
pub struct Probe {
    config: Config,
    counts: Counts,
    streams: Vec<Stream>,
}

sandbar_sdk::export!(Probe, wants = [emit_rtp, emit_rtcp, read_media, wall_clock, randomness]);

impl Interceptor for Probe {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        Self::make(cx, config, Counts::default(), Refused::Create)
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let counts: Counts =
            serde_json::from_slice(state).map_err(|error| Refusal::unsupported(format!("state: {error}")))?;
        let counts = Counts { restored: counts.restored + 1, bound: 0, ..counts };
        Self::make(cx, config, counts, Refused::Restore)
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        self.fault(Fault::Save);
        serde_json::to_vec(&self.counts).ok()
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        self.refuse(Refused::BindRtcp)?;
        Ok(self.config.rtcp_read.into())
    }

    fn bind_rtcp_writer(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        self.refuse(Refused::BindRtcp)?;
        Ok(self.config.rtcp_write.into())
    }

    fn bind_local_stream(&mut self, cx: &mut Context, id: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        self.bind(cx, id, info, true, self.config.write)
    }

    fn bind_remote_stream(&mut self, cx: &mut Context, id: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        self.bind(cx, id, info, false, self.config.read)
    }

    fn unbind_local_stream(&mut self, _: &mut Context, id: StreamId) {
        self.unbind(id);
    }

    fn unbind_remote_stream(&mut self, _: &mut Context, id: StreamId) {
        self.unbind(id);
    }

    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.counts.read += 1;
        self.act(cx, packet, self.config.on_read, self.counts.read)
    }

    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.counts.written += 1;
        self.act(cx, packet, self.config.on_write, self.counts.written)
    }

    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        self.counts.rtcp_read += 1;
        self.act_on_rtcp(cx, packet, self.config.on_rtcp_read, self.counts.rtcp_read)
    }

    fn write_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        self.counts.rtcp_written += 1;
        self.act_on_rtcp(cx, packet, self.config.on_rtcp_write, self.counts.rtcp_written)
    }

    fn handle_timeout(&mut self, cx: &mut Context, stream: Option<StreamId>) {
        self.counts.timeouts += 1;
        self.fault(Fault::Timeout);
        match stream {
            Some(id) => {
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
                    stream.release(cx);
                }
            }
            None => self.tick(cx),
        }
    }

    fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
        self.fault(Fault::Control);
        control::answer(self, cx, request)
    }

    fn close(&mut self, cx: &mut Context) {
        self.fault(Fault::Close);
        info!(cx, "closed");
    }
}

impl Probe {
    fn make(cx: &mut Context, config: &str, counts: Counts, call: Refused) -> Result<Self, Refusal> {
        let probe = Probe { config: Config::parse(config)?, counts, streams: Vec::new() };
        probe.refuse(call)?;
        probe.fault(Fault::Create);
        if let Some(line) = &probe.config.log {
            info!(cx, "{line}");
        }
        probe.wake(cx);
        Ok(probe)
    }

    /// Sets the session's timer for the next tick.
    fn wake(&self, cx: &mut Context) {
        if self.config.tick_ms > 0 {
            cx.wake_after(Duration::from_millis(self.config.tick_ms));
        }
    }

    fn refuse(&self, call: Refused) -> Result<(), Refusal> {
        if self.config.refuse == Some(call) { Err(Refusal::other("told to refuse")) } else { Ok(()) }
    }

    fn fault(&self, here: Fault) {
        assert!(self.config.fault != Some(here), "told to");
    }

    fn bind(
        &mut self,
        cx: &mut Context,
        id: StreamId,
        info: &StreamInfo,
        local: bool,
        bound: Bound,
    ) -> Result<Binding, Refusal> {
        self.refuse(Refused::BindStream)?;
        self.fault(Fault::Bind);
        self.streams.push(Stream::new(cx, id, info, local));
        self.counts.bound += 1;
        Ok(self.config.binding(bound))
    }

    fn unbind(&mut self, id: StreamId) {
        self.fault(Fault::Unbind);
        self.streams.retain(|stream| stream.id != id);
        self.counts.bound -= 1;
    }

    fn act(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>, action: Action, count: u64) -> Outcome {
        self.fault(Fault::Packet);
        if let Some(key) = &self.config.publish_attribute {
            cx.publish("attribute", &json(packet.attribute(key)));
        }
        if let Some(key) = &self.config.set_attribute
            && let Err(error) = packet.set_attribute(key, count as i64)
        {
            debug!(cx, "{key}: {error}");
        }
        if !count.is_multiple_of(self.config.every) {
            return Outcome::Forward;
        }
        match action {
            Action::Forward => Outcome::Forward,
            Action::Drop => Outcome::Drop,
            Action::Mark => {
                packet.header_mut().set_marker(true);
                Outcome::Forward
            }
            Action::Extend => {
                if let Err(error) =
                    packet.header_mut().set_extension(self.config.extension, &(count as u16).to_be_bytes())
                {
                    debug!(cx, "{error}");
                }
                Outcome::Forward
            }
            Action::Replace => {
                let number = packet.header().sequence_number().wrapping_add(1000);
                let mut bytes = packet.bytes().to_vec();
                bytes[2..4].copy_from_slice(&number.to_be_bytes());
                Outcome::Replace(bytes)
            }
            Action::Duplicate if packet.payload().is_some() => {
                Outcome::Packets(vec![packet.bytes().to_vec(), packet.bytes().to_vec()])
            }
            Action::Duplicate => {
                let from = Payload::History { sequence_number: packet.header().sequence_number(), prefix: &[] };
                if let Err(error) = cx.emit_rtp(packet.stream(), packet.bytes(), from, &[]) {
                    debug!(cx, "{error}");
                }
                Outcome::Forward
            }
            Action::Hold => {
                let due = cx.now() + Duration::from_millis(self.config.hold_ms);
                let stream = self.streams.iter_mut().find(|stream| stream.id == packet.stream());
                match stream.map(|stream| stream.hold(cx, packet, due)) {
                    Some(Ok(())) => Outcome::Drop,
                    _ => Outcome::Forward,
                }
            }
        }
    }

    fn act_on_rtcp(
        &mut self,
        cx: &mut Context,
        packet: &mut RtcpPacket<'_>,
        action: RtcpAction,
        count: u64,
    ) -> Outcome {
        self.fault(Fault::Rtcp);
        if !count.is_multiple_of(self.config.every) {
            return Outcome::Forward;
        }
        match action {
            RtcpAction::Forward => Outcome::Forward,
            RtcpAction::Drop => Outcome::Drop,
            RtcpAction::Duplicate => Outcome::Packets(vec![packet.bytes().to_vec(), packet.bytes().to_vec()]),
            RtcpAction::Behead => {
                Outcome::Replace(packet.parts().skip(1).flat_map(|part| part.bytes.iter().copied()).collect())
            }
            RtcpAction::Answer => {
                for (ssrc, number) in packet.parts().flat_map(stream::asked_for) {
                    if let Some(stream) = self.streams.iter_mut().find(|stream| stream.local && stream.ssrc == ssrc)
                        && let Err(error) = stream.retransmit(cx, number)
                    {
                        debug!(cx, "{number}: {error}");
                    }
                }
                Outcome::Forward
            }
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        for what in &self.config.on_tick {
            match what {
                Tick::Publish => cx.publish("counts", &json(self.counts)),
                Tick::Metrics => {
                    cx.count("ticks", 1);
                    cx.gauge("ticks", self.counts.timeouts as f64);
                }
                Tick::Log => info!(cx, "tick"),
                Tick::EmitRtcp => {
                    let media = self.streams.iter().find(|stream| !stream.local).map_or(0, |stream| stream.ssrc);
                    let mut pli = vec![0x81, 206, 0, 2];
                    pli.extend_from_slice(&cx.session().rtcp_ssrc.to_be_bytes());
                    pli.extend_from_slice(&media.to_be_bytes());
                    if let Err(error) = cx.emit_rtcp(&pli) {
                        debug!(cx, "{error}");
                    }
                }
            }
        }
        self.wake(cx);
    }

    /// The stream with this SSRC.
    fn stream(&mut self, ssrc: u32) -> Result<&mut Stream, Refusal> {
        let stream = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc);
        stream.ok_or_else(|| Refusal::other(format!("no stream has SSRC {ssrc}")))
    }
}

/// Whatever it is, as JSON.
fn json(value: impl IntoJson) -> String {
    serde_json::to_string(&value.into_json()).unwrap_or_default()
}

trait IntoJson {
    fn into_json(self) -> serde_json::Value;
}

impl IntoJson for Counts {
    fn into_json(self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl IntoJson for Option<Value> {
    fn into_json(self) -> serde_json::Value {
        match self {
            None => serde_json::Value::Null,
            Some(Value::Boolean(value)) => value.into(),
            Some(Value::Integer(value)) => value.into(),
            Some(Value::Float(value)) => value.into(),
            Some(Value::Text(value)) => value.into(),
            Some(Value::Bytes(value)) => value.into(),
        }
    }
}

/// Since the clock's zero, for the answers of `control`.
fn nanos(at: Instant) -> u64 {
    at.as_nanos()
}
