//! An interceptor of rtc-interceptor's in virtual time: packets and time in, what it sends out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc_interceptor::{AttributedPacket, Interceptor, Packet, TaggedPacket};
use rtc_shared::TransportContext;
use rtc_shared::marshal::{Marshal as _, Unmarshal as _};
use sandbar_sdk::rtcp::packet::{Packet as Rtcp, unmarshal};

pub(crate) struct Native<C> {
    pub(crate) chain: C,
    begun: Instant,
    now: Duration,
    sent: Vec<(Duration, Packet)>,
}

impl<C: Interceptor> Native<C> {
    pub(crate) fn new(chain: C) -> Self {
        // What an instant is does not matter; all that follow are counted from it.
        Self { chain, begun: Instant::now(), now: Duration::ZERO, sent: Vec::new() }
    }

    /// Lets time go on to `until`; timers that are due come in their order, each at its own time.
    pub(crate) fn advance_to(&mut self, until: Duration) {
        while let Some(due) = self.chain.poll_timeout().filter(|due| *due <= self.begun + until) {
            self.now = due - self.begun;
            self.tick();
        }
        self.now = until;
    }

    /// Tells the time, as its owner does whether a timer is due or not.
    pub(crate) fn tick(&mut self) {
        assert!(self.chain.handle_timeout(self.begun + self.now).is_ok());
        self.collect();
    }

    pub(crate) fn read(&mut self, packet: Packet) {
        let packet = self.tagged(packet);
        assert!(self.chain.handle_read(packet).is_ok());
        while self.chain.poll_read().is_some() {}
        self.collect();
    }

    pub(crate) fn write(&mut self, packet: Packet) {
        let packet = self.tagged(packet);
        assert!(self.chain.handle_write(packet).is_ok());
        self.collect();
    }

    fn tagged(&self, packet: Packet) -> TaggedPacket {
        let message = AttributedPacket::new(packet);
        TaggedPacket { now: self.begun + self.now, transport: TransportContext::default(), message }
    }

    fn collect(&mut self) {
        while let Some(sent) = self.chain.poll_write() {
            self.sent.push((self.now, sent.message.packet));
        }
    }

    /// Takes what was sent, what it wrote itself and what passed, and when.
    fn sent(&mut self) -> Vec<(Duration, Packet)> {
        std::mem::take(&mut self.sent)
    }

    /// Takes the RTP of what was sent, as it is on the wire.
    pub(crate) fn sent_rtp(&mut self) -> Vec<Bytes> {
        let rtp = |(_, packet)| {
            if let Packet::Rtp(packet) = packet { Some(packet.marshal().unwrap().freeze()) } else { None }
        };
        self.sent().into_iter().filter_map(rtp).collect()
    }

    /// Takes the RTCP of what was sent.
    pub(crate) fn sent_rtcp(&mut self) -> Vec<(Duration, Vec<Box<dyn Rtcp>>)> {
        let rtcp = |(at, packet)| if let Packet::Rtcp(packets) = packet { Some((at, packets)) } else { None };
        self.sent().into_iter().filter_map(rtcp).collect()
    }
}

/// A packet of these bytes.
pub(crate) fn rtp(bytes: &[u8]) -> Packet {
    Packet::Rtp(rtp::Packet::unmarshal(&mut Bytes::copy_from_slice(bytes)).unwrap())
}

/// A compound of these bytes.
pub(crate) fn rtcp(mut bytes: &[u8]) -> Packet {
    Packet::Rtcp(unmarshal(&mut bytes).unwrap())
}
