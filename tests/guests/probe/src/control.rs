//! What the probe can be asked while it runs.

use std::time::Duration;

use sandbar_sdk::{Context, HeaderBuf, Payload, Refusal, serde_json};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::{IntoJson, Probe, nanos};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Echo(Value),
    Counts,
    Random,
    Ntp,
    Now,
    Session,
    Refuse,
    Configure(Box<Config>),
    EmitRtcp(Vec<u8>),
    EmitRtp(Emitted),
    Retransmit(Kept),
    Lookup(Kept),
    WakeMs(Option<u64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Emitted {
    stream: u32,
    ssrc: u32,
    sequence_number: u16,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    stream: u32,
    sequence_number: u16,
}

pub(crate) fn answer(probe: &mut Probe, cx: &mut Context, request: &str) -> Result<String, Refusal> {
    let request = serde_json::from_str(request).map_err(|error| Refusal::unsupported(error.to_string()))?;
    let refused = |error: sandbar_sdk::EmitError| Refusal::other(error.to_string());
    let answer = match request {
        Request::Echo(value) => value,
        Request::Counts => probe.counts.into_json(),
        Request::Random => json!(cx.random()),
        Request::Ntp => json!(cx.ntp(cx.now())),
        Request::Now => json!(nanos(cx.now())),
        Request::Session => {
            let session = cx.session();
            json!({"mtu": session.mtu, "cname": session.cname, "rtcp_ssrc": session.rtcp_ssrc})
        }
        Request::Refuse => return Err(Refusal::other("told to refuse")),
        Request::Configure(config) => {
            probe.config = *config;
            probe.wake(cx);
            Value::Null
        }
        Request::EmitRtcp(packets) => {
            cx.emit_rtcp(&packets).map_err(refused)?;
            Value::Null
        }
        Request::EmitRtp(Emitted { stream, ssrc, sequence_number, payload }) => {
            let id = probe.stream(stream)?.id;
            let mut header = HeaderBuf::new(96, ssrc);
            header.edit().set_sequence_number(sequence_number);
            cx.emit_rtp(id, header.as_bytes(), Payload::Bytes(&payload), &[]).map_err(refused)?;
            Value::Null
        }
        Request::Retransmit(Kept { stream, sequence_number }) => {
            probe.stream(stream)?.retransmit(cx, sequence_number).map_err(refused)?;
            Value::Null
        }
        Request::Lookup(Kept { stream, sequence_number }) => {
            let id = probe.stream(stream)?.id;
            let entry = cx.history(id, sequence_number);
            entry.map_or(Value::Null, |entry| json!({"size": entry.size, "age": nanos(cx.now()) - nanos(entry.time)}))
        }
        Request::WakeMs(delay) => {
            cx.wake_at(delay.map(|delay| cx.now() + Duration::from_millis(delay)));
            Value::Null
        }
    };
    Ok(answer.to_string())
}
