//! Packets, bytes and requests, added up.

use sandbar_sdk::serde::{Deserialize, Serialize};

use crate::feedback::Ask;

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Volume {
    pub(crate) packets: u64,
    /// Bytes behind the RTP header. Padding is among them: who sees headers alone does not know how much of it there is.
    pub(crate) payload: u64,
    /// Bytes of RTP headers.
    pub(crate) headers: u64,
}

impl Volume {
    /// Adds a packet of `size` bytes, `header` of them its header's.
    #[inline]
    pub(crate) fn add(&mut self, header: usize, size: usize) {
        self.packets += 1;
        self.payload += size.saturating_sub(header) as u64;
        self.headers += header as u64;
    }
}

/// RTCP packets that asked for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Asked {
    pub(crate) nack: u64,
    pub(crate) pli: u64,
    pub(crate) fir: u64,
}

impl Asked {
    pub(crate) fn add(&mut self, ask: Ask) {
        *match ask {
            Ask::Nack => &mut self.nack,
            Ask::Pli => &mut self.pli,
            Ask::Fir => &mut self.fir,
        } += 1;
    }
}
