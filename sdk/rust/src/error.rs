//! Refusals that a plugin gives, and those that it gets.

use std::fmt;

/// Why a plugin will not do what it was asked. Not a fault: nothing is held against the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The configuration is wrong; says which key, and what is allowed.
    Config(String),
    /// The plugin cannot serve this stream, session, state or request.
    Unsupported(String),
    /// Anything else.
    Other(String),
}

impl Refusal {
    /// The configuration is wrong: which key, and what is allowed.
    pub fn config(message: impl Into<String>) -> Self {
        Refusal::Config(message.into())
    }

    /// The plugin cannot serve this.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Refusal::Unsupported(message.into())
    }

    /// Anything else.
    pub fn other(message: impl Into<String>) -> Self {
        Refusal::Other(message.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, message) = match self {
            Refusal::Config(message) => ("configuration: ", message),
            Refusal::Unsupported(message) => ("unsupported: ", message),
            Refusal::Other(message) => ("", message),
        };
        f.write_str(what)?;
        f.write_str(message)
    }
}

impl std::error::Error for Refusal {}

/// Why the host does not send what a plugin emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// No such stream, or it has been unbound.
    Unknown,
    /// Not a valid RTP header or packet, or not a valid RTCP compound; says what is wrong.
    Malformed(String),
    /// The SSRC is neither the stream's nor its retransmission or repair companion.
    ForeignSsrc,
    /// The history no longer has this packet, or never had it.
    NotInHistory,
    /// Larger than the session's MTU.
    TooLarge,
    /// More packets or bytes than the plugin may emit for this session in one call, or hold.
    Quota,
    /// Not granted, or the plugin observes and may not add packets.
    Denied,
    /// Anything else.
    Other(String),
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = match self {
            EmitError::Unknown => ("no such stream", ""),
            EmitError::Malformed(what) => ("malformed: ", what.as_str()),
            EmitError::ForeignSsrc => ("the SSRC is not the stream's", ""),
            EmitError::NotInHistory => ("not in the history", ""),
            EmitError::TooLarge => ("larger than the MTU", ""),
            EmitError::Quota => ("over the quota of this call", ""),
            EmitError::Denied => ("not granted", ""),
            EmitError::Other(what) => ("", what.as_str()),
        };
        f.write_str(what)?;
        f.write_str(detail)
    }
}

impl std::error::Error for EmitError {}

/// Why the host does not take values for stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampError {
    /// No such session.
    Unknown,
    /// Values have 1 to 16 bytes, and all of a session the same number.
    Size,
    /// More than 1024 values would wait.
    Quota,
}

impl fmt::Display for StampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StampError::Unknown => "no such session",
            StampError::Size => "stamps have 1 to 16 bytes, and all of a session the same number",
            StampError::Quota => "too many stamps wait for packets",
        })
    }
}

impl std::error::Error for StampError {}

/// Why the host does not take what a plugin writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// No such session.
    Unknown,
    /// The operator has not said where it goes.
    Denied,
    /// More bytes than the plugin may write in one call, or in one second.
    Quota,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SinkError::Unknown => "no such session",
            SinkError::Denied => "there is no sink at this place of the chain",
            SinkError::Quota => "over the quota of this call or second",
        })
    }
}

impl std::error::Error for SinkError {}

/// Why the host does not set an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeError {
    /// No such packet in the call that is running.
    Unknown,
    /// The plugin only observes the packet, or the key is the host's.
    Denied,
    /// Too many attributes on the packet or of this plugin in the session, or too long a key or value.
    Quota,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttributeError::Unknown => "no such packet in this call",
            AttributeError::Denied => "the packet is only observed, or the key is the host's",
            AttributeError::Quota => "too many or too large attributes",
        })
    }
}

impl std::error::Error for AttributeError {}
