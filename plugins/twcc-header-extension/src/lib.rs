//! Numbers every packet that a session sends, of all its streams in one sequence, so that the peer can tell when each
//! arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01, 2).
//!
//! The host puts the numbers on the packets, as they leave: they are supplied to it ahead, a hundred at a time. A packet that
//! already carries the extension, such as one that is relayed, is patched in place. Others get it added. One that has no room
//! goes without, and takes no number.

mod options;

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{
    Binding, Context, Interceptor, Refusal, RtpHeaderExtension, StreamId, StreamInfo, export, serde_json,
};

use crate::options::{OPTIONS, Options};

/// Under which the extension is negotiated.
pub const URI: &str = RtpHeaderExtension::TRANSPORT_CC;

/// The session's counter.
#[derive(Debug)]
pub struct TwccHeaderExtension {
    /// The first number that the host has not been given.
    next: u16,
}

/// What a successor is handed, as JSON: numbers that the peer has seen must not come again, nor may any be left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct State {
    next: u16,
}

export!(TwccHeaderExtension, place = Numbering, binds = [local_streams], options = OPTIONS);

impl Interceptor for TwccHeaderExtension {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self { next: Options::parse(config)?.initial_sequence_number })
    }

    fn restore(_: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Options::parse(config)?;
        let state: State = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        Ok(Self { next: state.next })
    }

    /// A successor begins with the first number that no packet has taken.
    fn save(&mut self, cx: &mut Context) -> Option<Vec<u8>> {
        serde_json::to_vec(&State { next: self.next.wrapping_sub(cx.stamps_left() as u16) }).ok()
    }

    /// Whatever leaves under the stream's id is numbered, its retransmissions and repair packets too: each is a
    /// transmission of its own.
    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(info.extension_id(URI).filter(|id| *id != 0).map_or(Binding::PASS, Binding::stamp))
    }

    fn refill_stamps(&mut self, cx: &mut Context, wanted: usize) {
        let numbers: Vec<_> = (0..wanted as u16).map(|ahead| self.next.wrapping_add(ahead).to_be_bytes()).collect();
        if cx.supply_stamps(&numbers).is_ok() {
            self.next = self.next.wrapping_add(numbers.len() as u16);
        }
    }
}
