//! Typed values under text keys that ride with a packet or a stream.

use std::sync::Arc;

use serde::Serialize;

/// A value that rides with a packet or a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Boolean(bool),
    /// A signed integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// Bytes that the value holds, as quotas count them.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// Most attributes on one packet.
pub(crate) const MAX_COUNT: usize = 16;
/// Most bytes of keys and values on one packet.
pub(crate) const MAX_BYTES: usize = 4096;

/// The attributes of one packet: nothing at all for a packet that has none, shared by its copies otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Option<Arc<Vec<(String, Value)>>>);

/// The packet has its fill of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet carries at most {MAX_COUNT} attributes of together {MAX_BYTES} bytes")]
pub struct TooMany;

impl Attributes {
    /// No attributes.
    pub const NONE: Self = Self(None);

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Keys and values, in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().flat_map(|list| list.iter()).map(|(key, value)| (key.as_str(), value))
    }

    /// Sets or, with `None`, removes the value under `key`. Other copies of the packet keep what they have.
    pub fn set(&mut self, key: &str, value: Option<Value>) -> Result<(), TooMany> {
        let mut list = self.0.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        let before = list.clone();
        match (list.iter_mut().find(|(known, _)| known == key), value) {
            (Some((_, slot)), Some(value)) => *slot = value,
            (None, Some(value)) => list.push((key.to_owned(), value)),
            (_, None) => list.retain(|(known, _)| known != key),
        }
        let size: usize = list.iter().map(|(key, value)| key.len() + value.size()).sum();
        let fits = list.len() <= MAX_COUNT && size <= MAX_BYTES;
        let kept = if fits { list } else { before };
        self.0 = (!kept.is_empty()).then(|| Arc::new(kept));
        if fits { Ok(()) } else { Err(TooMany) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_packet_do_not_share_what_is_set_later() {
        let mut first = Attributes::NONE;
        first.set("a", Some(Value::Integer(1))).unwrap();
        let second = first.clone();
        first.set("a", Some(Value::Integer(2))).unwrap();
        assert_eq!(second.get("a"), Some(&Value::Integer(1)));
        first.set("a", None).unwrap();
        assert!(first.is_empty());
    }

    #[test]
    fn what_is_over_the_quota_is_refused_and_changes_nothing() {
        let mut attributes = Attributes::NONE;
        attributes.set("kept", Some(Value::Boolean(true))).unwrap();
        assert_eq!(attributes.set("big", Some(Value::Bytes(vec![0; MAX_BYTES]))), Err(TooMany));
        for n in 1..MAX_COUNT {
            attributes.set(&n.to_string(), Some(Value::Boolean(true))).unwrap();
        }
        assert_eq!(attributes.set("one more", Some(Value::Boolean(true))), Err(TooMany));
        assert_eq!(attributes.iter().count(), MAX_COUNT);
        assert!(attributes.get("kept").is_some() && attributes.get("big").is_none());
    }
}
