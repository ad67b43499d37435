//! The typed lane: one call per packet, for hosts that ask for it.

use crate::instance::{Direction, Instance};
use crate::interceptor::Interceptor;
use crate::packet::{Facts, Outcome, RtcpPacket, RtpPacket};
use crate::stream::StreamId;

impl<T: Interceptor> Instance<T> {
    /// One RTP packet.
    pub(crate) fn rtp(
        &mut self,
        session: u32,
        direction: Direction,
        stream: StreamId,
        facts: Facts,
        bytes: &mut [u8],
    ) -> Outcome {
        let mut copy = std::mem::take(&mut self.copy);
        let view = self.streams.get(stream.number()).unwrap_or_default().view;
        let outcome = match RtpPacket::new(stream, facts, view, bytes, &mut copy) {
            Err(_) => Outcome::Forward,
            Ok(mut packet) => {
                let outcome = self.call(session, |interceptor, cx| match direction {
                    Direction::Read => interceptor.read_rtp(cx, &mut packet),
                    Direction::Write => interceptor.write_rtp(cx, &mut packet),
                });
                match outcome.unwrap_or_default() {
                    Outcome::Forward if packet.changed() => Outcome::Replace(packet.bytes().to_vec()),
                    outcome => normal(outcome),
                }
            }
        };
        self.copy = copy;
        outcome
    }

    /// One RTCP compound.
    pub(crate) fn rtcp(&mut self, session: u32, direction: Direction, facts: Facts, bytes: &mut [u8]) -> Outcome {
        let mut packet = RtcpPacket::new(facts, bytes);
        let outcome = self.call(session, |interceptor, cx| match direction {
            Direction::Read => interceptor.read_rtcp(cx, &mut packet),
            Direction::Write => interceptor.write_rtcp(cx, &mut packet),
        });
        match outcome.unwrap_or_default() {
            Outcome::Forward if packet.changed() => Outcome::Replace(packet.bytes().to_vec()),
            Outcome::Packets(packets) => normal(Outcome::Replace(packets.concat())),
            outcome => normal(outcome),
        }
    }

    /// A due timer.
    pub(crate) fn timeout(&mut self, session: u32, stream: Option<StreamId>) {
        self.call(session, |interceptor, cx| interceptor.handle_timeout(cx, stream));
    }
}

/// A replacement without bytes drops the packet, in both lanes.
fn normal(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Replace(bytes) if bytes.is_empty() => Outcome::Drop,
        outcome => outcome,
    }
}
