//! Packets that go into and come out of a harness.

use crate::attributes::{Attribute, Value};
use crate::edit::HeaderBuf;
use crate::header::Header;
use crate::stream::StreamId;
use crate::time::Instant;

/// An RTP packet with payload type 96 and timestamp 0. [`HeaderBuf`] makes any other.
pub fn packet(ssrc: u32, sequence_number: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = HeaderBuf::new(96, ssrc);
    header.edit().set_sequence_number(sequence_number);
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// What is given to a plugin: the bytes of a packet and what rides with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feed {
    /// The whole packet or compound.
    pub bytes: Vec<u8>,
    /// Whether it was lost and came back.
    pub repaired: bool,
    /// What rides with it.
    pub attributes: Vec<Attribute>,
    /// When it entered the host; none is now.
    pub time: Option<Instant>,
}

impl Feed {
    /// A packet that arrives now and has no attributes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Feed { bytes: bytes.into(), ..Feed::default() }
    }

    /// The same, lost and come back.
    pub fn repaired(self) -> Self {
        Feed { repaired: true, ..self }
    }

    /// The same, with an attribute from a plugin before this one.
    pub fn attribute(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.attributes.push(Attribute::new(key, value));
        self
    }

    /// The same, entered into the host earlier than now, as observers see it.
    pub fn at(self, time: Instant) -> Self {
        Feed { time: Some(time), ..self }
    }
}

impl From<Vec<u8>> for Feed {
    fn from(bytes: Vec<u8>) -> Self {
        Feed::new(bytes)
    }
}

impl From<&Vec<u8>> for Feed {
    fn from(bytes: &Vec<u8>) -> Self {
        Feed::new(bytes.as_slice())
    }
}

impl From<&[u8]> for Feed {
    fn from(bytes: &[u8]) -> Self {
        Feed::new(bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Feed {
    fn from(bytes: &[u8; N]) -> Self {
        Feed::new(bytes.as_slice())
    }
}

/// A packet that left the plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// The whole packet or compound.
    pub bytes: Vec<u8>,
    /// What rides with it.
    pub attributes: Vec<Attribute>,
    /// Whether it was lost and came back.
    pub repaired: bool,
    /// The stream on which it was emitted or to which it belongs; none for RTCP.
    pub stream: Option<StreamId>,
    /// When it left the plugin.
    pub time: Instant,
    /// Counts everything that leaves the plugin, so that packets that went on and those that were emitted can be put in
    /// their order.
    pub order: u64,
}

impl Packet {
    /// Its RTP header.
    ///
    /// # Panics
    /// If it has none, being RTCP.
    pub fn header(&self) -> Header<'_> {
        match Header::parse(&self.bytes) {
            Ok(header) => header,
            Err(error) => panic!("not an RTP packet: {error}"),
        }
    }

    /// What follows its RTP header.
    ///
    /// # Panics
    /// If it has none, being RTCP.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.header().len()..).unwrap_or_default()
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
    }
}
