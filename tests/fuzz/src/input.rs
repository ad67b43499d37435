//! What a target makes of its bytes, and the same the other way: seeds.

/// Bytes that are taken from the front. Where there are none left, numbers are 0 and slices are short.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// A length of two bytes, and as many bytes.
    pub(crate) fn chunk(&mut self) -> &'a [u8] {
        let len = usize::from(self.word());
        self.take(len)
    }
}

/// A seed in the making.
#[derive(Clone, Default)]
pub(crate) struct Seed(pub(crate) Vec<u8>);

impl Seed {
    pub(crate) fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        let len = bytes.as_ref().len() as u16;
        self.bytes(len.to_be_bytes()).bytes(bytes)
    }
}
