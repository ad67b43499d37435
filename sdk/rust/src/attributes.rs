//! Values that ride with a packet or a stream.

/// A value under a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Keys that begin with `sandbar.` are the host's.
    pub key: String,
    /// What is under it.
    pub value: Value,
}

impl Attribute {
    /// A value under a key.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Attribute { key: key.into(), value: value.into() }
    }
}

/// What an attribute can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Boolean(bool),
    /// A signed integer.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Integer(i64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Value::Bytes(value)
    }
}
