//! The other side: rtc-interceptor's congestion control and pacer, each with its defaults.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc_interceptor::{
    AttributedPacket, BandwidthEstimator, CongestionControlBuilder, Gcc, Interceptor, PacerBuilder, Packet,
    PacketReport, RTCPFeedback, RTPHeaderExtension, Registry, Slot, StreamInfo, TaggedPacket, TwccSenderBuilder,
};
use rtc_shared::marshal::{Marshal, Unmarshal};
use sandbar_congestion::{
    CLOCK_RATE, EXTENSION_ID, PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, RTX_SSRC, SSRC, Sender, TRANSPORT_CC,
};

/// A chain of send history and estimator, numbering, pacer.
pub(crate) fn sender(start: u64) -> Box<dyn Sender> {
    let target = Arc::new(AtomicU64::new(0));
    let estimator = Heard { estimator: Gcc::default(), target: target.clone() };
    target.store(estimator.estimator.target_bitrate() as u64, Ordering::Relaxed);
    let mut chain = Registry::new()
        .with(Slot::CongestionControl, CongestionControlBuilder::new(estimator).build())
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::Pacer, PacerBuilder::new().build())
        .build();
    chain.bind_local_stream(&info());
    Box::new(Interceptors { chain, epoch: Instant::now(), start, deadline: None, target, wire: VecDeque::new() })
}

fn info() -> StreamInfo {
    StreamInfo {
        ssrc: SSRC,
        ssrc_rtx: Some(RTX_SSRC),
        payload_type: PAYLOAD_TYPE,
        payload_type_rtx: Some(RTX_PAYLOAD_TYPE),
        rtp_header_extensions: vec![RTPHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: EXTENSION_ID.into() }],
        mime_type: "video/VP8".to_owned(),
        clock_rate: CLOCK_RATE,
        rtcp_feedback: vec![RTCPFeedback { typ: "transport-cc".to_owned(), parameter: String::new() }],
        ..StreamInfo::default()
    }
}

/// An estimator whose target the application hears of: the chain ends RTCP from the peer, and with it the attribute.
struct Heard {
    estimator: Gcc,
    target: Arc<AtomicU64>,
}

impl BandwidthEstimator for Heard {
    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        self.estimator.on_reports(now, reports);
        self.target.store(self.estimator.target_bitrate() as u64, Ordering::Relaxed);
    }

    fn target_bitrate(&self) -> f64 {
        self.estimator.target_bitrate()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.estimator.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.estimator.poll_timeout()
    }
}

struct Interceptors<I> {
    chain: I,
    epoch: Instant,
    /// Nanoseconds at `epoch`.
    start: u64,
    deadline: Option<Instant>,
    target: Arc<AtomicU64>,
    wire: VecDeque<Vec<u8>>,
}

impl<I: Interceptor> Interceptors<I> {
    fn at(&self, now: u64) -> Instant {
        self.epoch + Duration::from_nanos(now.saturating_sub(self.start))
    }

    fn tagged(&self, now: u64, packet: Packet) -> TaggedPacket {
        TaggedPacket { now: self.at(now), transport: Default::default(), message: AttributedPacket::new(packet) }
    }

    fn drain(&mut self) {
        while self.chain.poll_read().is_some() {}
        while let Some(packet) = self.chain.poll_write() {
            if let Packet::Rtp(packet) = packet.message.packet
                && let Ok(bytes) = packet.marshal()
            {
                self.wire.push_back(bytes.to_vec());
            }
        }
        self.deadline = self.chain.poll_timeout();
    }
}

impl<I: Interceptor> Sender for Interceptors<I> {
    fn write(&mut self, now: u64, packets: Vec<Vec<u8>>) {
        for bytes in packets {
            if let Ok(packet) = rtp::Packet::unmarshal(&mut Bytes::from(bytes)) {
                let packet = self.tagged(now, Packet::Rtp(packet));
                // What it refuses does not leave, and shows in the figures.
                let _ = self.chain.handle_write(packet);
            }
        }
        self.drain();
    }

    fn feedback(&mut self, now: u64, compound: &[u8]) {
        if let Ok(packets) = rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(compound)) {
            let packet = self.tagged(now, Packet::Rtcp(packets));
            let _ = self.chain.handle_read(packet);
        }
        self.drain();
    }

    fn poll_timeout(&self) -> Option<u64> {
        let at = self.deadline?;
        Some(self.start + at.saturating_duration_since(self.epoch).as_nanos() as u64)
    }

    fn handle_timeout(&mut self, now: u64) {
        let _ = self.chain.handle_timeout(self.at(now));
        self.drain();
        // Its pacer's deadline may be the very time at which it has just not sent; a real clock would go on.
        let later = self.at(now) + Duration::from_micros(1);
        self.deadline = self.deadline.map(|at| at.max(later));
    }

    fn poll_wire(&mut self) -> Option<Vec<u8>> {
        self.wire.pop_front()
    }

    fn target(&self) -> f64 {
        self.target.load(Ordering::Relaxed) as f64
    }
}
