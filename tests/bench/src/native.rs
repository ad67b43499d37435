//! The other side: rtc-interceptor's native chains, a chain per session.
//!
//! They are driven as sans-IO protocols are: after each input, all outputs and the next deadline are asked for. Of
//! packets of one session that come together, all are given before the outputs are asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc_interceptor::{
    AttributedPacket, CongestionControlBuilder, FlexFec03ReceiveBuilder, FlexFec03SendBuilder, GCC_MAX_BITRATE,
    GCC_MIN_BITRATE, Gcc, Interceptor, IntervalPliInterceptor, JitterBufferBuilder, NackGeneratorBuilder,
    NackResponderBuilder, PacerBuilder, Packet, RTCPFeedback, RTPHeaderExtension, ReceiverReportBuilder, Registry,
    Rfc8888Builder, SenderReportBuilder, Slot, StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccSenderBuilder,
};
use rtc_shared::marshal::{Marshal, Unmarshal};

use crate::side::{Side, Taken};
use crate::traffic::{
    BITRATE, Burst, CLOCK_RATE, Direction, EXTENSION_ID, FEEDBACK, Load, NUMBERED_HEADER, PACKET, PAYLOAD_TYPE,
    REPAIR_PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, TRANSPORT_CC, repair_ssrc, ssrc,
};

/// Payloads that written packets share, as on the other side.
const PAYLOADS: usize = 1024;

/// What the default chain is made of.
fn default_chain() -> Registry {
    Registry::new()
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::NackGenerator, NackGeneratorBuilder::new().build())
        .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build())
}

/// All that the library has, at the same rates as on the other side, and with as much repair by default. Its congestion control
/// is the other side's `rtpfb` and `gcc`; it has nothing like `stats`.
fn whole_set() -> Registry {
    let gcc = Gcc::new(BITRATE as f64, GCC_MIN_BITRATE, GCC_MAX_BITRATE);
    default_chain()
        .with(Slot::CongestionControl, CongestionControlBuilder::new(gcc).build())
        .with(Slot::Pacer, PacerBuilder::new().with_target_bitrate(BITRATE as f64).build())
        .with(Slot::FecEncoder, FlexFec03SendBuilder::new().build())
        .with(Slot::FecDecoder, FlexFec03ReceiveBuilder::new().build())
        .with(Slot::Rfc8888, Rfc8888Builder::new().build())
        .with(Slot::IntervalPli, IntervalPliInterceptor::default())
        .with(Slot::JitterBuffer, JitterBufferBuilder::new().build())
}

/// A side with the default chain for each session, or with all that the library has.
pub(crate) fn native(load: Load, whole: bool) -> impl Side {
    Native::new(|| if whole { whole_set() } else { default_chain() }.build(), load)
}

struct Native<I> {
    chains: Vec<I>,
    /// What each chain last said to be its deadline, and all deadlines in order; one that a chain has no more is left
    /// in the heap and skipped when it comes.
    deadlines: Vec<Option<Instant>>,
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    start: Instant,
    direction: Direction,
    payloads: Vec<Bytes>,
    next_payload: usize,
    bursts: Vec<(Instant, usize)>,
    packets: Vec<(u32, Entry)>,
    out: Out,
    keep_media: bool,
}

#[derive(Default)]
struct Out {
    media: Vec<(u32, TaggedPacket)>,
    rtcp: Vec<Bytes>,
    errors: Vec<String>,
}

impl<I: Interceptor> Native<I> {
    fn new(chain: impl Fn() -> I, load: Load) -> Self {
        let mut chains = Vec::new();
        for session in 0..load.sessions {
            let mut chain = chain();
            for number in load.streams_of(session) {
                chain.bind_remote_stream(&stream(Direction::Read, number));
                chain.bind_local_stream(&stream(Direction::Write, number));
            }
            chains.push(chain);
        }
        let payload = |_| Bytes::from(vec![0x5a; PACKET - NUMBERED_HEADER]);
        Self {
            deadlines: vec![None; chains.len()],
            chains,
            heap: BinaryHeap::new(),
            start: Instant::now(),
            direction: load.direction,
            payloads: (0..PAYLOADS).map(payload).collect(),
            next_payload: 0,
            bursts: Vec::new(),
            packets: Vec::new(),
            out: Out::default(),
            keep_media: false,
        }
    }

    fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_nanos(at)
    }

    /// Takes all output of a chain, and its next deadline.
    #[inline]
    fn drain(&mut self, session: u32) {
        let chain = &mut self.chains[session as usize];
        while let Some(packet) = chain.poll_read() {
            self.out.take(session, packet, Direction::Read);
        }
        while let Some(packet) = chain.poll_write() {
            self.out.take(session, packet, Direction::Write);
        }
        let deadline = chain.poll_timeout();
        let known = &mut self.deadlines[session as usize];
        if *known != deadline {
            *known = deadline;
            self.heap.extend(deadline.map(|at| Reverse((at, session))));
        }
    }

    /// Does what is due.
    #[inline]
    fn expire(&mut self, now: Instant) {
        while let Some(Reverse((at, session))) = self.heap.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.heap.pop();
            let known = &mut self.deadlines[session as usize];
            if *known != Some(at) {
                continue;
            }
            *known = None;
            self.out.note(self.chains[session as usize].handle_timeout(now));
            self.drain(session);
        }
    }

    #[inline]
    fn enter(&mut self, session: u32, direction: Direction, packet: TaggedPacket) {
        let chain = &mut self.chains[session as usize];
        self.out.note(match direction {
            Direction::Read => chain.handle_read(packet),
            Direction::Write => chain.handle_write(packet),
        });
    }
}

/// What enters a chain: a packet as the application has it, or a datagram that has to be parsed first.
enum Entry {
    Packet(TaggedPacket),
    Rtp(Bytes),
    Rtcp(Bytes),
}

impl Out {
    #[inline]
    fn take(&mut self, session: u32, packet: TaggedPacket, direction: Direction) {
        match &packet.message.packet {
            Packet::Rtp(_) => self.media.push((session, packet)),
            // To be sent, it has to be bytes, which the other side gives.
            Packet::Rtcp(parts) if direction == Direction::Write => {
                for part in parts {
                    match part.marshal() {
                        Ok(bytes) => self.rtcp.push(bytes.freeze()),
                        Err(error) => self.errors.push(format!("{part}: {error}")),
                    }
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn note<E: std::fmt::Display>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.errors.push(error.to_string());
        }
    }
}

fn stream(direction: Direction, number: u32) -> StreamInfo {
    let (own, retransmission) = ssrc(direction, number);
    StreamInfo {
        ssrc: own,
        ssrc_rtx: Some(retransmission),
        payload_type: PAYLOAD_TYPE,
        payload_type_rtx: Some(RTX_PAYLOAD_TYPE),
        ssrc_fec: Some(repair_ssrc(direction, number)),
        payload_type_fec: Some(REPAIR_PAYLOAD_TYPE),
        rtp_header_extensions: vec![RTPHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: EXTENSION_ID.into() }],
        mime_type: "video/VP8".to_owned(),
        clock_rate: CLOCK_RATE,
        rtcp_feedback: FEEDBACK
            .map(|(kind, parameter)| RTCPFeedback { typ: kind.to_owned(), parameter: parameter.to_owned() })
            .to_vec(),
        ..StreamInfo::default()
    }
}

fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
    TaggedPacket { now, transport: Default::default(), message: AttributedPacket::new(packet) }
}

impl<I: Interceptor> Side for Native<I> {
    fn load(&mut self, bursts: &[Burst]) {
        for burst in bursts {
            let now = self.instant(burst.at);
            let before = self.packets.len();
            let rtcp = burst.rtcp.iter();
            self.packets.extend(rtcp.map(|(session, bytes)| (*session, Entry::Rtcp(Bytes::copy_from_slice(bytes)))));
            for media in &burst.packets {
                let entry = match self.direction {
                    Direction::Read => Ok(Entry::Rtp(Bytes::from(media.datagram()))),
                    // The application has made a header.
                    Direction::Write => {
                        let payload = self.payloads[self.next_payload].clone();
                        self.next_payload = (self.next_payload + 1) % PAYLOADS;
                        rtp::Header::unmarshal(&mut &media.header(Direction::Write)[..])
                            .map(|header| Entry::Packet(tagged(now, Packet::Rtp(rtp::Packet { header, payload }))))
                    }
                };
                match entry {
                    Ok(entry) => self.packets.push((media.session, entry)),
                    Err(error) => self.out.errors.push(error.to_string()),
                }
            }
            self.bursts.push((now, self.packets.len() - before));
        }
    }

    fn drive(&mut self) {
        let mut bursts = std::mem::take(&mut self.bursts);
        let mut packets = std::mem::take(&mut self.packets);
        let mut loaded = packets.drain(..);
        for (now, count) in bursts.drain(..) {
            self.expire(now);
            let mut pending = None;
            for (session, entry) in loaded.by_ref().take(count) {
                let (direction, packet) = match entry {
                    Entry::Packet(packet) => (Direction::Write, Ok(packet)),
                    Entry::Rtp(mut bytes) => {
                        let parsed = rtp::Packet::unmarshal(&mut bytes);
                        (Direction::Read, parsed.map(|packet| tagged(now, Packet::Rtp(packet))))
                    }
                    Entry::Rtcp(mut bytes) => {
                        let parsed = rtcp::packet::unmarshal(&mut bytes);
                        (Direction::Read, parsed.map(|packets| tagged(now, Packet::Rtcp(packets))))
                    }
                };
                let packet = match packet {
                    Ok(packet) => packet,
                    Err(error) => {
                        self.out.errors.push(error.to_string());
                        continue;
                    }
                };
                if let Some(earlier) = pending.replace(session).filter(|earlier| *earlier != session) {
                    self.drain(earlier);
                }
                self.enter(session, direction, packet);
            }
            if let Some(last) = pending {
                self.drain(last);
            }
        }
        drop(loaded);
        self.bursts = bursts;
        self.packets = packets;
    }

    fn advance(&mut self, at: u64) {
        let until = self.instant(at);
        while let Some(Reverse((due, _))) = self.heap.peek().copied().filter(|Reverse((due, _))| *due <= until) {
            self.expire(due);
        }
    }

    fn read_rtcp(&mut self, at: u64, session: u32, compound: &[u8]) {
        let now = self.instant(at);
        match rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(compound)) {
            Ok(packets) => {
                let result = self.chains[session as usize].handle_read(tagged(now, Packet::Rtcp(packets)));
                self.out.note(result);
                self.drain(session);
            }
            Err(error) => self.out.errors.push(error.to_string()),
        }
    }

    fn take(&mut self) -> Taken {
        let mut taken = Taken {
            media: self.out.media.len() as u64,
            complaints: std::mem::take(&mut self.out.errors),
            ..Taken::default()
        };
        for (session, packet) in self.out.media.drain(..).filter(|_| self.keep_media) {
            if let Packet::Rtp(packet) = packet.message.packet {
                match packet.marshal() {
                    Ok(bytes) => taken.kept.push((session, bytes.to_vec())),
                    Err(error) => taken.complaints.push(error.to_string()),
                }
            }
        }
        for bytes in self.out.rtcp.drain(..) {
            if !taken.feedback.add(&bytes) {
                taken.complaints.push(format!("damaged RTCP: {bytes:?}"));
            }
        }
        taken
    }

    fn keep_media(&mut self, keep: bool) {
        self.keep_media = keep;
    }
}
