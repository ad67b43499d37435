//! Writes packets as pcapng, for Wireshark: headers alone unless more is asked for and granted.
//!
//! ```text
//! read_rtp, write_rtp, read_rtcp, write_rtcp ──filter──> Dump (a buffer of pcapng blocks) ──timer──> the sink
//! ```

mod dump;
mod options;
mod pcapng;

use sandbar_sdk::{
    Binding, Context, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo, export,
};

use crate::dump::{Dump, Next};
use crate::options::{Direction, OPTIONS, Options};
use crate::pcapng::{Addresses, Kind, Record, Way};

/// One session's dump, and its timer, which runs while there is something to write.
#[derive(Debug)]
pub struct PacketDump {
    options: Options,
    dump: Dump,
}

export!(
    PacketDump,
    place = Anywhere,
    wants = [sink, wall_clock, may_read_media],
    binds = [rtcp_reader, rtcp_writer, local_streams, remote_streams],
    options = OPTIONS,
);

impl Interceptor for PacketDump {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        let addresses = Addresses::of(cx.session().rtcp_ssrc);
        Ok(Self { options: Options::parse(config)?, dump: Dump::new(addresses) })
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(self.options.rtcp(Direction::Read))
    }

    fn bind_rtcp_writer(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(self.options.rtcp(Direction::Write))
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(self.options.stream(Direction::Write, info))
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(self.options.stream(Direction::Read, info))
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.rtp(cx, Way::In, packet)
    }

    #[inline(always)]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        self.rtp(cx, Way::Out, packet)
    }

    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        self.rtcp(cx, Way::In, packet)
    }

    fn write_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        self.rtcp(cx, Way::Out, packet)
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        self.flush(cx);
    }

    fn close(&mut self, cx: &mut Context) {
        self.dump.close(cx);
    }
}

impl PacketDump {
    fn rtp(&mut self, cx: &mut Context, way: Way, packet: &RtpPacket<'_>) -> Outcome {
        let header = packet.header();
        if self.options.wants(header.ssrc(), header.payload_type()) {
            let comment = if packet.repaired() { "repaired" } else { "" };
            let (bytes, size) = (packet.bytes(), packet.size());
            let record = Record { way, kind: Kind::Rtp, time: 0, bytes, size, comment };
            let next = self.dump.collect(cx, packet.time(), record);
            self.go_on(cx, next);
        }
        Outcome::Forward
    }

    fn rtcp(&mut self, cx: &mut Context, way: Way, packet: &RtcpPacket<'_>) -> Outcome {
        let bytes = packet.bytes();
        let record = Record { way, kind: Kind::Rtcp, time: 0, bytes, size: bytes.len(), comment: "" };
        let next = self.dump.collect(cx, packet.time(), record);
        self.go_on(cx, next);
        Outcome::Forward
    }

    #[inline]
    fn go_on(&mut self, cx: &mut Context, next: Next) {
        match next {
            Next::Collect => {}
            Next::Wait => cx.wake_after(self.options.flush()),
            Next::Flush => self.flush(cx),
        }
    }

    fn flush(&mut self, cx: &mut Context) {
        let again = self.dump.flush(cx);
        cx.wake_at(again.then(|| cx.now() + self.options.flush()));
    }
}
