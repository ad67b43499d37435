//! Numbers every packet that a session sends, of all its streams in one sequence, so that the peer can tell when each
//! arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01, 2).
//!
//! A packet that already carries the extension, such as one that is relayed, is patched in place. Others get it added.

mod options;

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{
    Binding, Context, HeaderMut, Interceptor, Outcome, Refusal, RtpHeaderExtension, RtpPacket, StreamId, StreamInfo,
    export, serde_json,
};

use crate::options::{OPTIONS, Options};

/// Under which the extension is negotiated.
pub const URI: &str = RtpHeaderExtension::TRANSPORT_CC;

/// By how much a header grows at most: the extension block's head, and one word with id, length and number.
const GROWTH: usize = 8;

/// The session's counter, and the extension's id in each of its streams.
#[derive(Debug)]
pub struct TwccHeaderExtension {
    next: u16,
    streams: Vec<(StreamId, u8)>,
}

/// What a successor is handed, as JSON: numbers that the peer has seen must not come again, nor may any be left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct State {
    next: u16,
}

export!(TwccHeaderExtension, place = Numbering, options = OPTIONS);

impl Interceptor for TwccHeaderExtension {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        Ok(Self { next: Options::parse(config)?.initial_sequence_number, streams: Vec::new() })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let state: State = serde_json::from_slice(state).map_err(|error| Refusal::unsupported(error.to_string()))?;
        Ok(Self { next: state.next, ..Self::create(cx, config)? })
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        serde_json::to_vec(&State { next: self.next }).ok()
    }

    fn bind_local_stream(&mut self, _: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        let Some(id) = info.extension_id(URI).filter(|id| *id != 0) else { return Ok(Binding::PASS) };
        self.streams.push((stream, id));
        Ok(Binding::transform_headers())
    }

    fn unbind_local_stream(&mut self, _: &mut Context, stream: StreamId) {
        self.streams.retain(|(bound, _)| *bound != stream);
    }

    /// Whatever leaves under the stream's id is numbered, its retransmissions and repair packets too: each is a
    /// transmission of its own.
    #[inline(always)]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some((_, id)) = self.streams.iter().find(|(bound, _)| *bound == packet.stream()) else {
            return Outcome::Forward;
        };
        let room = packet.size() + GROWTH <= usize::from(cx.session().mtu);
        let mut header = packet.header_mut();
        // A packet as large as can be has to have a place for the number already.
        if (room || has_place(&mut header, *id)) && header.set_extension(*id, &self.next.to_be_bytes()).is_ok() {
            self.next = self.next.wrapping_add(1);
        } else {
            // Unnumbered is better than lost.
            cx.count("unnumbered", 1);
        }
        Outcome::Forward
    }
}

fn has_place(header: &mut HeaderMut<'_>, id: u8) -> bool {
    header.view().extension(id).is_some_and(|value| value.len() == size_of::<u16>())
}
