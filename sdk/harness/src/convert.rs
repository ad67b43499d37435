//! The SDK's types as the host's, and back.

use sandbar_host::{
    Attributes, Level as HostLevel, RtcpFeedback, RtpHeaderExtension, StreamInfo as HostStreamInfo, Value as HostValue,
};
use sandbar_sdk::{Attribute, Level, StreamInfo, Value};

pub(crate) fn stream_info(info: &StreamInfo) -> HostStreamInfo {
    let info = info.clone();
    HostStreamInfo {
        id: info.id,
        attributes: info.attributes.into_iter().map(|attribute| (attribute.key, host_value(attribute.value))).collect(),
        ssrc: info.ssrc,
        ssrc_retransmission: info.ssrc_retransmission,
        ssrc_forward_error_correction: info.ssrc_forward_error_correction,
        payload_type: info.payload_type,
        payload_type_retransmission: info.payload_type_retransmission,
        payload_type_forward_error_correction: info.payload_type_forward_error_correction,
        rtp_header_extensions: info
            .rtp_header_extensions
            .into_iter()
            .map(|extension| RtpHeaderExtension { uri: extension.uri, id: extension.id })
            .collect(),
        mime_type: info.mime_type,
        clock_rate: info.clock_rate,
        channels: info.channels,
        sdp_fmtp_line: info.sdp_fmtp_line,
        rtcp_feedback: info
            .rtcp_feedback
            .into_iter()
            .map(|line| RtcpFeedback { kind: line.kind, parameter: line.parameter })
            .collect(),
    }
}

pub(crate) fn host_value(value: Value) -> HostValue {
    match value {
        Value::Boolean(value) => HostValue::Boolean(value),
        Value::Integer(value) => HostValue::Integer(value),
        Value::Float(value) => HostValue::Float(value),
        Value::Text(text) => HostValue::Text(text),
        Value::Bytes(bytes) => HostValue::Bytes(bytes),
    }
}

pub(crate) fn attributes(attributes: &Attributes) -> Vec<Attribute> {
    attributes
        .iter()
        .map(|(key, attribute)| Attribute { key: key.to_owned(), value: value(attribute.clone()) })
        .collect()
}

pub(crate) fn value(value: HostValue) -> Value {
    match value {
        HostValue::Boolean(value) => Value::Boolean(value),
        HostValue::Integer(value) => Value::Integer(value),
        HostValue::Float(value) => Value::Float(value),
        HostValue::Text(text) => Value::Text(text),
        HostValue::Bytes(bytes) => Value::Bytes(bytes),
    }
}

pub(crate) fn level(level: HostLevel) -> Level {
    match level {
        HostLevel::Error => Level::Error,
        HostLevel::Warn => Level::Warn,
        HostLevel::Info => Level::Info,
        HostLevel::Debug => Level::Debug,
    }
}
