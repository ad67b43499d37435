//! What a scenario needs of a harness, whichever way it runs the plugin.

use std::time::Duration;

use crate::attributes::Value;
use crate::context::Level;
use crate::describe::Plugin;
use crate::error::Refusal;
use crate::instance::Direction;
use crate::stream::{StreamId, StreamInfo};
use crate::testing::feed::{Feed, Packet};
use crate::testing::harness::Harness;
use crate::time::Instant;

/// One plugin with one session in virtual time, seen from outside: [`Harness`] runs it natively, and the crate
/// `sandbar-harness` as its component in a real host. A scenario that takes `&mut dyn Drive` runs both ways.
///
/// [`read`](Self::read) and the three like it return what leaves in that direction during the call, in order: what the
/// packet became, and what the plugin emitted there. What it emits in another direction, or at another time, is left to
/// [`emitted_rtp`](Self::emitted_rtp) and [`emitted_rtcp`](Self::emitted_rtcp). A host merges the RTCP of one tick, so what
/// a plugin emits in several parts at once comes as one compound from its component.
pub trait Drive {
    /// A stream that the peer sends.
    ///
    /// # Errors
    /// The plugin's refusal.
    fn bind_remote_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal>;
    /// A stream that this side sends.
    ///
    /// # Errors
    /// The plugin's refusal.
    fn bind_local_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal>;
    /// Ends a stream, of either direction.
    fn unbind_stream(&mut self, stream: StreamId);
    /// An RTP packet from the peer.
    fn read(&mut self, stream: StreamId, packet: Feed) -> Vec<Packet>;
    /// An RTP packet to the peer.
    fn write(&mut self, stream: StreamId, packet: Feed) -> Vec<Packet>;
    /// A compound from the peer.
    fn read_rtcp(&mut self, compound: Feed) -> Vec<Packet>;
    /// A compound to the peer.
    fn write_rtcp(&mut self, compound: Feed) -> Vec<Packet>;
    /// The time.
    fn now(&self) -> Instant;
    /// Lets time go on to `until`, never back; timers that are due come in their order, each at its own time.
    fn advance_to(&mut self, until: Instant);
    /// Lets time go on.
    fn advance(&mut self, by: Duration) {
        self.advance_to(self.now() + by);
    }
    /// Asks the plugin, as the application or the operator does.
    ///
    /// # Errors
    /// The plugin's refusal.
    fn control(&mut self, request: &str) -> Result<String, Refusal>;
    /// Ends the session. What the plugin emits then can still be taken.
    fn close(&mut self);
    /// Takes the RTP that the plugin emitted, or held and let go, and no call has returned.
    fn emitted_rtp(&mut self) -> Vec<Packet>;
    /// Takes the RTCP that the plugin emitted and no call has returned.
    fn emitted_rtcp(&mut self) -> Vec<Packet>;
    /// A value of the session, whoever has set it.
    fn session_attribute(&self, key: &str) -> Option<Value>;
    /// Sets or, with `None`, removes a value of the session, as its application does.
    fn set_session_attribute(&mut self, key: &str, value: Option<Value>);
    /// Takes the documents published since they were last taken: name and JSON.
    fn published(&mut self) -> Vec<(String, String)>;
    /// Takes the lines logged since they were last taken.
    fn logs(&mut self) -> Vec<(Level, String)>;
    /// Takes what was written to the sink since it was last taken, write by write.
    fn sunk(&mut self) -> Vec<Vec<u8>>;
    /// The value of a counter of the open session; 0 if it has not been used.
    fn counter(&self, name: &str) -> u64;
    /// The value of a gauge of the open session.
    fn gauge(&self, name: &str) -> Option<f64>;
}

impl<T: Plugin> Drive for Harness<T> {
    fn bind_remote_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.bind_remote_stream(info)
    }
    fn bind_local_stream(&mut self, info: &StreamInfo) -> Result<StreamId, Refusal> {
        self.bind_local_stream(info)
    }
    fn unbind_stream(&mut self, stream: StreamId) {
        self.unbind_stream(stream);
    }
    fn read(&mut self, stream: StreamId, packet: Feed) -> Vec<Packet> {
        let before = self.world().emitted_rtp.len();
        let on = self.read(stream, packet);
        with_emitted(self, on, Direction::Read, before)
    }
    fn write(&mut self, stream: StreamId, packet: Feed) -> Vec<Packet> {
        let before = self.world().emitted_rtp.len();
        let on = self.write(stream, packet);
        with_emitted(self, on, Direction::Write, before)
    }
    fn read_rtcp(&mut self, compound: Feed) -> Vec<Packet> {
        self.read_rtcp(compound)
    }
    fn write_rtcp(&mut self, compound: Feed) -> Vec<Packet> {
        let before = self.world().emitted_rtcp.len();
        let mut on = self.write_rtcp(compound);
        on.extend(self.world().emitted_rtcp.split_off(before));
        on.sort_by_key(|packet| packet.order);
        on
    }
    fn now(&self) -> Instant {
        self.now()
    }
    fn advance_to(&mut self, until: Instant) {
        self.advance_to(until);
    }
    fn control(&mut self, request: &str) -> Result<String, Refusal> {
        self.control(request)
    }
    fn close(&mut self) {
        self.close();
    }
    fn emitted_rtp(&mut self) -> Vec<Packet> {
        self.emitted_rtp()
    }
    fn emitted_rtcp(&mut self) -> Vec<Packet> {
        self.emitted_rtcp()
    }
    fn session_attribute(&self, key: &str) -> Option<Value> {
        self.session_attribute(key)
    }
    fn set_session_attribute(&mut self, key: &str, value: Option<Value>) {
        self.set_session_attribute(key, value);
    }
    fn published(&mut self) -> Vec<(String, String)> {
        self.published()
    }
    fn logs(&mut self) -> Vec<(Level, String)> {
        self.logs()
    }
    fn sunk(&mut self) -> Vec<Vec<u8>> {
        self.sunk()
    }
    fn counter(&self, name: &str) -> u64 {
        self.counter(name)
    }
    fn gauge(&self, name: &str) -> Option<f64> {
        self.gauge(name)
    }
}

/// Adds to what went on in a call what was emitted in it, in the same direction.
fn with_emitted<T: Plugin>(
    harness: &mut Harness<T>,
    mut on: Vec<Packet>,
    direction: Direction,
    before: usize,
) -> Vec<Packet> {
    let world = harness.world();
    for packet in world.emitted_rtp.split_off(before) {
        let stream = packet.stream.and_then(|id| world.stream(id));
        if stream.is_some_and(|stream| stream.direction == direction) {
            on.push(packet);
        } else {
            world.emitted_rtp.push(packet);
        }
    }
    on.sort_by_key(|packet| packet.order);
    on
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Binding;
    use crate::context::{Context, Payload};
    use crate::interceptor::Interceptor;
    use crate::packet::{Outcome, RtpPacket};
    use crate::testing::packet;

    /// Emits a packet on every stream before each one that it reads.
    #[derive(Default)]
    struct Echo(Vec<(StreamId, u32)>);

    impl Interceptor for Echo {
        fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
            Ok(Echo::default())
        }
        fn bind_remote_stream(&mut self, _: &mut Context, id: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
            self.0.push((id, info.ssrc));
            Ok(Binding::transform_packets())
        }
        fn bind_local_stream(&mut self, cx: &mut Context, id: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
            self.bind_remote_stream(cx, id, info)
        }
        fn read_rtp(&mut self, cx: &mut Context, _: &mut RtpPacket<'_>) -> Outcome {
            for (stream, ssrc) in &self.0 {
                let _ = cx.emit_rtp(*stream, &packet(*ssrc, 9, b""), Payload::Bytes(b"echo"), &[]);
            }
            Outcome::Forward
        }
    }

    crate::export!(Echo);

    #[test]
    fn a_call_returns_what_was_emitted_in_its_direction_and_leaves_the_rest() {
        let mut harness = Harness::<Echo>::new("{}").unwrap();
        let harness: &mut dyn Drive = &mut harness;
        let info = |ssrc| StreamInfo { ssrc, ..StreamInfo::default() };
        let (from, _to) = (harness.bind_remote_stream(&info(1)).unwrap(), harness.bind_local_stream(&info(2)).unwrap());
        for _ in 0..2 {
            let on = harness.read(from, packet(1, 1, b"media").into());
            assert_eq!(on.iter().map(Packet::payload).collect::<Vec<_>>(), [&b"echo"[..], b"media"]);
        }
        let rest = harness.emitted_rtp();
        assert_eq!(rest.iter().map(|packet| packet.header().ssrc()).collect::<Vec<_>>(), [2, 2]);
    }
}
