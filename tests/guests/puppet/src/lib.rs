//! Does what control tells it, so that a scenario can put each function of the contract to the test in its own words.

use std::collections::HashMap;
use std::time::Duration;

use sandbar_sdk::{
    Access, Attribute, Binding, Context, HeldId, HeldPacket, Interceptor, Level, Outcome, Payload, Refusal, RtcpAccess,
    RtcpPacket, RtpPacket, StreamId, StreamInfo, Value, View, config,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How it binds, and what it does without being told.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// `pass`, `observe`, `follow`, `stamp` or, by default, `transform`.
    access: String,
    /// The header extension that it stamps.
    extension: u8,
    /// Commands for when the host asks for stamps.
    on_refill: Vec<Command>,
    /// `packets` or, by default, `headers`.
    view: String,
    history: u32,
    unbound: bool,
    /// `observe`, `transform` or, by default, `pass`.
    rtcp: String,
    /// What `save` gives; none without it.
    state: Option<String>,
    /// Bytes of zeroes that `save` adds.
    state_padding: usize,
    /// `bind` or `restore` is refused with this name.
    refuse: String,
    /// Commands for when it is created or restored.
    on_create: Vec<Command>,
    /// Commands for when a stream is unbound.
    on_unbind: Vec<Command>,
    /// Commands for when it is closed.
    on_close: Vec<Command>,
    /// Commands for each packet that is read, before what becomes of it.
    on_read: Vec<Command>,
    /// Commands for each compound that is written.
    on_write_rtcp: Vec<Command>,
    /// Commands for when a stream is bound.
    on_bind: Vec<Command>,
    /// What becomes of packets, from the start.
    packets: Fate,
}

/// What becomes of packets.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Fate {
    #[default]
    Forward,
    /// They are dropped.
    Drop,
    /// They are held, and can be let go later.
    Hold,
    /// Replaced by these bytes.
    Replace(Vec<u8>),
    /// Replaced by these packets.
    Packets(Vec<Vec<u8>>),
    /// The header is given this extension.
    Extend(u8, Vec<u8>),
    /// The header is given this SSRC.
    Ssrc(u32),
    /// Gets this attribute.
    Attribute(String, String),
    /// Gets so many attributes.
    Attributes(usize),
    /// This attribute is read and remembered.
    Recall(String),
    /// Held, and then handed on all the same.
    HoldAndForward,
    /// The plugin fails at it.
    Trap,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Command {
    /// From now on.
    Packets {
        to: Fate,
    },
    EmitRtp {
        ssrc: u32,
        header: Vec<u8>,
        #[serde(default)]
        payload: Vec<u8>,
        #[serde(default)]
        history: Option<u16>,
        #[serde(default)]
        attribute: Option<(String, String)>,
    },
    /// A packet that is held, under its number or by stream and sequence number, with this header or its own.
    Release {
        #[serde(default)]
        id: Option<u64>,
        #[serde(default)]
        ssrc: u32,
        #[serde(default)]
        sequence_number: u16,
        #[serde(default)]
        header: Vec<u8>,
        #[serde(default)]
        attribute: Option<(String, String)>,
    },
    Discard {
        id: u64,
    },
    /// Stamps of this many bytes each.
    Supply {
        size: usize,
        values: Vec<u8>,
    },
    /// What is held of a stream: number, sequence number, size, time, `repaired`.
    Held {
        ssrc: u32,
    },
    EmitRtcp {
        packets: Vec<u8>,
    },
    Lookup {
        ssrc: u32,
        sequence_number: u16,
    },
    /// The session's timer, or a stream's; without a time, clears it.
    Wake {
        in_ms: Option<u64>,
        ssrc: Option<u32>,
    },
    /// The same, as a ticker.
    WakeEvery {
        ms: u64,
        ssrc: Option<u32>,
    },
    Publish {
        name: String,
        json: String,
    },
    Log {
        line: String,
    },
    Count {
        name: String,
        add: u64,
    },
    Gauge {
        name: String,
        value: f64,
    },
    Ntp,
    Random,
    /// So many bytes.
    WriteSink {
        bytes: usize,
    },
    /// A value of the session; without a value, removes it.
    Set {
        key: String,
        value: Option<String>,
    },
    Get {
        key: String,
    },
    /// Fails.
    Trap,
    /// What it has seen.
    Seen,
}

#[derive(Default, Serialize)]
struct Seen {
    /// Of packets: sequence number, time, size, bytes shown, `repaired`, SSRC.
    read: Vec<(u16, u64, usize, usize, bool, u32)>,
    written: Vec<(u16, u64, usize, usize, bool, u32)>,
    /// Of those written.
    padding: Vec<usize>,
    rtcp_read: Vec<Vec<u8>>,
    rtcp_written: Vec<Vec<u8>>,
    /// Time, and SSRC of the stream.
    timeouts: Vec<(u64, Option<u32>)>,
    /// Stamps that the host asked for, and how many were left.
    refills: Vec<(usize, usize)>,
    bound: Vec<u32>,
    unbound: Vec<u32>,
    stream_attributes: Vec<String>,
    attributes: Vec<Option<String>>,
    errors: Vec<String>,
    /// What `held` answered, and what commands of `on_bind` did.
    held: Vec<serde_json::Value>,
    answers: Vec<serde_json::Value>,
    restored: Option<String>,
    mtu: u16,
    cname: String,
    rtcp_ssrc: u32,
}

/// Does what it is told.
pub struct Puppet {
    config: Config,
    packets: Fate,
    streams: HashMap<u32, StreamId>,
    /// By SSRC and sequence number.
    held: HashMap<(u32, u16), HeldId>,
    seen: Seen,
}

impl Puppet {
    fn ssrc(&self, stream: StreamId) -> Option<u32> {
        self.streams.iter().find(|(_, known)| **known == stream).map(|(ssrc, _)| *ssrc)
    }

    fn stream(&self, ssrc: u32) -> StreamId {
        // A number that no stream has where there is none: what the host says to that is a scenario's question.
        self.streams.get(&ssrc).copied().unwrap_or(StreamId::new(u32::MAX))
    }

    fn execute(&mut self, cx: &mut Context, command: Command) -> serde_json::Value {
        match command {
            Command::Packets { to } => self.packets = to,
            Command::EmitRtp { ssrc, header, payload, history, attribute } => {
                let payload = match history {
                    Some(sequence_number) => Payload::History { sequence_number, prefix: &payload },
                    None => Payload::Bytes(&payload),
                };
                let attributes: Vec<_> =
                    attribute.into_iter().map(|(key, value)| Attribute { key, value: Value::Text(value) }).collect();
                return answer(cx.emit_rtp(self.stream(ssrc), &header, payload, &attributes));
            }
            Command::Release { id, ssrc, sequence_number, header, attribute } => {
                let known = self.held.get(&(ssrc, sequence_number)).copied();
                let id = id.map(HeldId::new).or(known).unwrap_or(HeldId::new(u64::MAX));
                let attributes: Vec<_> =
                    attribute.into_iter().map(|(key, value)| Attribute { key, value: Value::Text(value) }).collect();
                return answer(cx.release(id, &header, &attributes));
            }
            Command::Discard { id } => return json!(cx.discard(HeldId::new(id))),
            Command::Held { ssrc } => {
                let held = cx.held(self.stream(ssrc));
                let number = |header: &[u8]| u16::from_be_bytes([header[2], header[3]]);
                self.held.extend(held.iter().map(|held| ((ssrc, number(&held.header)), held.id)));
                let show = |held: &HeldPacket| {
                    (held.id.number(), number(&held.header), held.size, held.time.as_nanos(), held.repaired)
                };
                let held = json!(held.iter().map(show).collect::<Vec<_>>());
                self.seen.held.push(held.clone());
                return held;
            }
            Command::Supply { size, values } => {
                return answer(match size {
                    0 => cx.supply_stamps::<0>(&[[]]),
                    1 => cx.supply_stamps::<1>(values.as_chunks().0),
                    2 => cx.supply_stamps::<2>(values.as_chunks().0),
                    16 => cx.supply_stamps::<16>(values.as_chunks().0),
                    _ => cx.supply_stamps::<17>(values.as_chunks().0),
                });
            }
            Command::EmitRtcp { packets } => return answer(cx.emit_rtcp(&packets)),
            Command::Lookup { ssrc, sequence_number } => {
                let entry = cx.history(self.stream(ssrc), sequence_number);
                return json!(entry.map(|entry| (entry.header, entry.size, entry.time.as_nanos())));
            }
            Command::Wake { in_ms, ssrc } => {
                let at = in_ms.map(|millis| cx.now() + Duration::from_millis(millis));
                match ssrc {
                    Some(ssrc) => cx.wake_stream_at(self.stream(ssrc), at),
                    None => cx.wake_at(at),
                }
            }
            Command::WakeEvery { ms, ssrc } => match ssrc {
                Some(ssrc) => cx.wake_stream_every(self.stream(ssrc), Duration::from_millis(ms)),
                None => cx.wake_every(Duration::from_millis(ms)),
            },
            Command::Publish { name, json } => cx.publish(&name, &json),
            Command::Log { line } => cx.log(Level::Info, &line),
            Command::Count { name, add } => cx.count(&name, add),
            Command::Gauge { name, value } => cx.gauge(&name, value),
            Command::Set { key, value } => {
                let set = match value {
                    Some(value) => cx.set_session_attribute(&key, value),
                    None => cx.remove_session_attribute(&key),
                };
                return answer(set);
            }
            Command::Get { key } => return json!(cx.session_attribute(&key).map(text)),
            Command::Trap => panic!("told to trap"),
            Command::Ntp => return json!(cx.ntp(cx.now())),
            Command::Random => return json!(cx.random()),
            Command::WriteSink { bytes } => return answer(cx.write_sink(&vec![7; bytes])),
            Command::Seen => return json!(self.seen),
        }
        json!("ok")
    }

    fn bind(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        if self.config.refuse == "bind" {
            return Err(Refusal::unsupported("told to refuse bind"));
        }
        self.streams.insert(info.ssrc, stream);
        self.seen.bound.push(info.ssrc);
        self.seen.stream_attributes.extend(info.attributes.iter().map(|attribute| attribute.key.clone()));
        for command in self.config.on_bind.clone() {
            let answer = self.execute(cx, command);
            self.seen.answers.push(answer);
        }
        let view = if self.config.view == "packets" { View::Packets } else { View::Headers };
        let access = match self.config.access.as_str() {
            "pass" => Access::Pass,
            "observe" => Access::Observe(view),
            "follow" => Access::Follow,
            "stamp" => Access::Stamp(self.config.extension),
            _ => Access::Transform(view),
        };
        Ok(Binding { access, history: self.config.history, unbound: self.config.unbound })
    }

    fn unbind(&mut self, cx: &mut Context, stream: StreamId) {
        if let Some(ssrc) = self.ssrc(stream) {
            // Its id stays known: what the host says to who uses it is a scenario's question.
            self.seen.unbound.push(ssrc);
        }
        for command in self.config.on_unbind.clone() {
            self.execute(cx, command);
        }
    }

    fn look(packet: &RtpPacket<'_>) -> (u16, u64, usize, usize, bool, u32) {
        let header = packet.header();
        let shown = header.len() + packet.payload().map_or(0, <[u8]>::len);
        let time = packet.time().as_nanos();
        (header.sequence_number(), time, packet.size(), shown, packet.repaired(), header.ssrc())
    }

    fn outcome(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        match self.packets.clone() {
            Fate::Forward => Outcome::Forward,
            Fate::Drop => Outcome::Drop,
            Fate::Hold => {
                match cx.hold(packet) {
                    Ok(id) => drop(self.held.insert((packet.header().ssrc(), packet.header().sequence_number()), id)),
                    Err(error) => self.seen.errors.push(format!("{error:?}")),
                }
                Outcome::Drop
            }
            Fate::HoldAndForward => {
                self.note(cx.hold(packet));
                self.note(cx.hold(packet));
                Outcome::Forward
            }
            Fate::Trap => panic!("told to trap"),
            Fate::Replace(bytes) => Outcome::Replace(bytes),
            Fate::Packets(packets) => Outcome::Packets(packets),
            Fate::Extend(id, value) => {
                if let Err(error) = packet.header_mut().set_extension(id, &value) {
                    self.seen.errors.push(error.to_string());
                }
                Outcome::Forward
            }
            Fate::Ssrc(ssrc) => {
                packet.header_mut().set_ssrc(ssrc);
                Outcome::Forward
            }
            Fate::Attribute(key, value) => {
                self.note(packet.set_attribute(&key, value));
                Outcome::Forward
            }
            Fate::Attributes(count) => {
                for number in 0..count {
                    self.note(packet.set_attribute(&format!("key-{number}"), true));
                }
                Outcome::Forward
            }
            Fate::Recall(key) => {
                self.seen.attributes.push(packet.attribute(&key).map(text));
                Outcome::Forward
            }
        }
    }

    fn note<T, E: std::fmt::Debug>(&mut self, result: Result<T, E>) {
        self.seen.errors.extend(result.err().map(|error| format!("{error:?}")));
    }

    fn rtcp_access(&self) -> RtcpAccess {
        match self.config.rtcp.as_str() {
            "observe" => RtcpAccess::Observe,
            "transform" => RtcpAccess::Transform,
            _ => RtcpAccess::Pass,
        }
    }
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        other => format!("{other:?}"),
    }
}

fn answer<E: std::fmt::Debug>(result: Result<(), E>) -> serde_json::Value {
    match result {
        Ok(()) => json!("ok"),
        Err(error) => json!(format!("{error:?}")),
    }
}

impl Interceptor for Puppet {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        let config: Config = config::parse(config)?;
        let session = cx.session();
        let seen =
            Seen { mtu: session.mtu, cname: session.cname.clone(), rtcp_ssrc: session.rtcp_ssrc, ..Seen::default() };
        let packets = config.packets.clone();
        let mut puppet = Puppet { config, packets, streams: HashMap::new(), held: HashMap::new(), seen };
        for command in std::mem::take(&mut puppet.config.on_create) {
            puppet.execute(cx, command);
        }
        Ok(puppet)
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let mut puppet = Self::create(cx, config)?;
        if puppet.config.refuse == "restore" {
            return Err(Refusal::unsupported("told to refuse restore"));
        }
        puppet.seen.restored = Some(String::from_utf8_lossy(state).into_owned());
        Ok(puppet)
    }

    fn save(&mut self, _cx: &mut Context) -> Option<Vec<u8>> {
        let mut state = self.config.state.clone()?.into_bytes();
        state.resize(state.len() + self.config.state_padding, b' ');
        Some(state)
    }

    fn bind_rtcp_reader(&mut self, _cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(self.rtcp_access())
    }

    fn bind_rtcp_writer(&mut self, _cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(self.rtcp_access())
    }

    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        self.bind(cx, stream, info)
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        self.bind(cx, stream, info)
    }

    fn unbind_local_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.unbind(cx, stream);
    }

    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {
        self.unbind(cx, stream);
    }

    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.seen.read.push(Self::look(packet));
        for command in self.config.on_read.clone() {
            self.execute(cx, command);
        }
        self.outcome(cx, packet)
    }

    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.seen.written.push(Self::look(packet));
        self.seen.padding.push(packet.padding());
        self.outcome(cx, packet)
    }

    fn read_rtcp(&mut self, _cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        self.seen.rtcp_read.push(packet.bytes().to_vec());
        Outcome::Forward
    }

    fn write_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        self.seen.rtcp_written.push(packet.bytes().to_vec());
        for command in self.config.on_write_rtcp.clone() {
            self.execute(cx, command);
        }
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, stream: Option<StreamId>) {
        let ssrc = stream.and_then(|stream| self.ssrc(stream));
        self.seen.timeouts.push((cx.now().as_nanos(), ssrc));
    }

    fn refill_stamps(&mut self, cx: &mut Context, wanted: usize) {
        self.seen.refills.push((wanted, cx.stamps_left()));
        for command in self.config.on_refill.clone() {
            let answer = self.execute(cx, command);
            self.seen.answers.push(answer);
        }
    }

    /// A list of commands; the answer is a list of answers.
    fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
        let commands: Vec<Command> = config::parse(request)?;
        let answers: Vec<_> = commands.into_iter().map(|command| self.execute(cx, command)).collect();
        Ok(json!(answers).to_string())
    }

    fn close(&mut self, cx: &mut Context) {
        for command in std::mem::take(&mut self.config.on_close) {
            self.execute(cx, command);
        }
    }
}

sandbar_sdk::export!(Puppet, place = Anywhere, wants = [emit_rtp, emit_rtcp, read_media, wall_clock, randomness, sink]);
