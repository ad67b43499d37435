//! Repair in virtual time: one peer sends a stream to another over a path that loses packets, with plugins at both ends as
//! components, and every packet is either played in time or not.
//!
//! | | |
//! | --- | --- |
//! | path | 40 ms each way and up to 10 ms more, without reordering; what is lost is drawn by a seed, for RTCP, retransmissions and repair packets as for media |
//! | video | 100 packets of 1012 bytes a second, in frames of four |
//! | audio | 50 packets of 112 bytes a second |
//! | in time | at the receiver's application within 200 ms of being written by the sender's |
//! | overhead | bytes of RTP and RTCP that both send beyond the media's own packets, as a part of those |
//! | bursts | the model of Gilbert and Elliott: everything is lost in the bad state, five packets on average, one in twenty overall |

use std::collections::BTreeMap;
use std::time::Duration;

use sandbar_host::{Chain, Instant, MemberSpec, Plugin, SessionSpec, StreamInfo};
use sandbar_world::media::{Source, fields};
use sandbar_world::net::{Loss, Profile};
use sandbar_world::peers::World;

/// A packet that comes later is of no use.
pub const PLAYOUT: Duration = Duration::from_millis(200);
const DELAY: Duration = Duration::from_millis(40);
const JITTER: Duration = Duration::from_millis(10);
const SSRC: u32 = 7;

/// What repairs a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// As the table calls it.
    pub name: &'static str,
    /// Whether it is tried on audio, and otherwise on video.
    pub audio: bool,
    nack: bool,
    fec: bool,
    red: bool,
}

/// Every scheme of the table.
pub const SCHEMES: [Scheme; 7] = [
    Scheme { name: "nothing", audio: false, nack: false, fec: false, red: false },
    Scheme { name: "NACK and RTX", audio: false, nack: true, fec: false, red: false },
    Scheme { name: "FlexFEC", audio: false, nack: false, fec: true, red: false },
    Scheme { name: "FlexFEC, NACK and RTX", audio: false, nack: true, fec: true, red: false },
    Scheme { name: "nothing", audio: true, nack: false, fec: false, red: false },
    Scheme { name: "RED", audio: true, nack: false, fec: false, red: true },
    Scheme { name: "RED and NACK", audio: true, nack: true, fec: false, red: true },
];

/// What the path loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lossy {
    /// Each packet with this probability.
    Random(f64),
    /// In bursts.
    Bursts,
}

/// Every path of the table.
pub const PATHS: [Lossy; 5] =
    [Lossy::Random(0.01), Lossy::Random(0.05), Lossy::Random(0.1), Lossy::Random(0.2), Lossy::Bursts];

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The part of packets that came in time, 0 to 1.
    pub in_time: f64,
    /// Bytes beyond the media's, as a part of these.
    pub overhead: f64,
}

impl Lossy {
    /// As the table calls it.
    pub fn name(self) -> String {
        match self {
            Self::Random(rate) => format!("{:.0} %", rate * 100.0),
            Self::Bursts => "5 % in bursts".to_owned(),
        }
    }

    fn loss(self) -> Loss {
        match self {
            Self::Random(rate) => Loss::Random(rate),
            Self::Bursts => Loss::bursts(0.05, 5.0),
        }
    }
}

impl Scheme {
    /// Plugins that it takes, at either end.
    pub fn plugins(self) -> impl Iterator<Item = &'static str> {
        self.chains().into_iter().flatten()
    }

    /// From the wire, at the sender and at the receiver.
    fn chains(self) -> [Vec<&'static str>; 2] {
        let with = |wanted: bool, name| wanted.then_some(name);
        let reports = [with(self.nack, "report-receiver"), with(self.nack, "report-sender")];
        let sender =
            [with(self.nack, "nack-responder"), with(self.fec, "flexfec-encoder"), with(self.red, "red-encoder")];
        let receiver =
            [with(self.fec, "flexfec-decoder"), with(self.nack, "nack-generator"), with(self.red, "red-decoder")];
        [sender, receiver].map(|own| own.into_iter().chain(reports).flatten().collect())
    }

    fn stream(self) -> (Source, StreamInfo) {
        let source = if self.audio { Source::audio(SSRC) } else { Source::video(SSRC) };
        let mut info = source.info();
        // Nothing here numbers packets for congestion control, so that it must not be negotiated: the encoder counts on it.
        info.rtp_header_extensions.clear();
        if self.nack {
            info.ssrc_retransmission = Some(SSRC + 1);
            info.payload_type_retransmission = Some(97);
        }
        if self.fec {
            info.ssrc_forward_error_correction = Some(SSRC + 2);
            info.payload_type_forward_error_correction = Some(118);
        }
        if self.red {
            // RFC 2198, 5: Opus within RED.
            info.payload_type = 63;
            info.mime_type = "audio/red".to_owned();
            info.sdp_fmtp_line = "111/111".to_owned();
        }
        (source, info)
    }
}

/// Plays a stream of `seconds` over a path.
pub fn run(scheme: Scheme, path: Lossy, seed: u64, seconds: u64, plugin: &dyn Fn(&str) -> Plugin) -> Outcome {
    let [sender, receiver] = scheme.chains().map(|names| SessionSpec {
        chain: Chain::new(names.into_iter().map(|name| MemberSpec::new(plugin(name)))),
        ..SessionSpec::default()
    });
    let profile = Profile { loss: path.loss(), delay: DELAY, jitter: JITTER, ..Profile::default() };
    let (mut world, sender, receiver) = World::pair(seed, &profile, sender, receiver);
    let (source, info) = scheme.stream();
    let packets = seconds * if scheme.audio { 50 } else { 100 };
    let flow = world.flow(sender, receiver, source.clone(), info);
    let begun = world.now();
    world.play(flow, packets);
    world.run_for(source.due(packets) + Duration::from_secs(1));

    let mut arrived: BTreeMap<u64, Instant> = BTreeMap::new();
    for delivered in &world.peer(receiver).delivered {
        let bytes = delivered.packet.to_bytes();
        if let Some(packet) = fields(&bytes).filter(|packet| packet.ssrc == SSRC) {
            let ahead = packet.sequence_number.wrapping_sub(source.first_sequence_number);
            arrived.entry(ahead.into()).or_insert(delivered.at);
        }
    }
    let in_time = |index: &u64| arrived.get(index).is_some_and(|at| *at - (begun + source.due(*index)) <= PLAYOUT);
    let media: usize = (0..packets).map(|index| source.nth(index).len()).sum();
    let sent = |peer| world.peer(peer).sent.iter().map(|sent| sent.bytes.len()).sum::<usize>();
    Outcome {
        in_time: (0..packets).filter(in_time).count() as f64 / packets as f64,
        overhead: (sent(sender) + sent(receiver)) as f64 / media as f64 - 1.0,
    }
}
