//! The host as a library: two sessions in one program, and between them a link that loses a packet.
//!
//! The sender's chain answers requests for lost packets, the receiver's makes them. All of the loop is in `main`: it is
//! the one that a media server has: what is due, what the application sends, what leaves the shard, and how long to
//! wait. Only the clock and the sockets are missing: time jumps to the next deadline, and what one session puts on the
//! wire is handed to the other.
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use std::time::Duration;

use anyhow::Context;
use sandbar_host::{
    Chain, Datagram, End, Engine, EngineConfig, Grants, Instant, MemberSpec, Output, Packet, Plugin, RtcpFeedback,
    RtpPacket, SessionSpec, Shard, ShardConfig, StreamInfo, TICK,
};

const SSRC: u32 = 0x1111;
const FRAMES: u16 = 10;
const FRAME_TIME: Duration = Duration::from_millis(20);
/// The packet that the link loses.
const LOST: u16 = 5;

fn main() -> anyhow::Result<()> {
    // One engine per process. It compiles plugins, and its ticks bound every call into one: a plugin that does not
    // return is stopped after a few of them.
    let engine = Engine::new(EngineConfig::default())?;
    let ticking = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            ticking.tick();
        }
    });

    // A plugin is a component's bytes, from wherever they come, and what the operator grants it. Loading compiles it.
    let load = |name| -> anyhow::Result<Plugin> {
        let embedded = sandbar_plugins::by_name(name).context("no standard plugin of this name")?;
        Ok(Plugin::load(&engine, embedded.component, &Grants::default())?)
    };
    let answers = Chain::new([MemberSpec::new(load("nack-responder")?)]);
    let asks = Chain::new([MemberSpec::new(load("nack-generator")?).with_config(r#"{"interval_ms": 50}"#)]);

    // A shard is what one thread drives: any number of sessions. It has no clock; every call is told the time.
    let mut now = Instant::ZERO;
    let mut shard = Shard::new(ShardConfig::default());
    let mut outputs = Vec::new();
    let session = |name: &str, chain, seed| SessionSpec { name: name.into(), chain, seed, ..SessionSpec::default() };
    let sender = shard.open_session(now, session("sender", answers, 1))?;
    let receiver = shard.open_session(now, session("receiver", asks, 2))?;

    // What signalling has negotiated. Plugins choose by it: these two work on streams with `a=rtcp-fb:96 nack`.
    let video = StreamInfo {
        id: "video".into(),
        ssrc: SSRC,
        ssrc_retransmission: Some(SSRC + 1),
        payload_type: 96,
        payload_type_retransmission: Some(97),
        mime_type: "video/VP8".into(),
        clock_rate: 90_000,
        rtcp_feedback: vec![RtcpFeedback { kind: "nack".into(), parameter: String::new() }],
        ..StreamInfo::default()
    };
    shard.bind_local_stream(now, sender, video.clone())?;
    shard.bind_remote_stream(now, receiver, video)?;

    let end = now + 2 * FRAME_TIME * u32::from(FRAMES);
    let mut next_frame = (now, 1);
    while now < end {
        // What is due: plugins' timers, batches for observers.
        shard.handle_timeout(now);

        // What the application sends. A real one hands over all packets of a frame at once.
        let (at, sequence_number) = next_frame;
        if at <= now && sequence_number <= FRAMES {
            shard.write(now, [(sender, frame(sequence_number)?)]);
            next_frame = (at + FRAME_TIME, sequence_number + 1);
        }

        // What leaves the shard, until nothing does. A real program sends and receives here, and hands over all that
        // one receive call brought in one burst, for whichever sessions it is.
        loop {
            let mut arrived = Vec::new();
            shard.take_outputs(&mut outputs);
            for output in outputs.drain(..) {
                match output {
                    Output { to: End::Wire, packet, .. } if is(&packet, LOST) => {
                        println!("{} the link loses {LOST}", time(now))
                    }
                    Output { to: End::Wire, session, packet, .. } => {
                        let to = if session == sender { receiver } else { sender };
                        let name = if session == sender { "sender" } else { "receiver" };
                        println!("{} the {name} sends {}", time(now), what(&packet));
                        arrived.push(Datagram { session: to, kind: packet.kind(), bytes: packet.to_bytes() });
                    }
                    Output { to: End::Application, session, packet, .. } if session == receiver => {
                        println!("{} the receiver's application gets {}", time(now), what(&packet));
                    }
                    Output { to: End::Application, .. } => {}
                }
            }
            if arrived.is_empty() {
                break;
            }
            shard.read(now, arrived);
        }

        // What plugins say, and what becomes of one that fails.
        while let Some(event) = shard.poll_event() {
            println!("{} {event}", time(now));
        }

        // A real program waits for its sockets until then.
        let frame = (next_frame.1 <= FRAMES).then_some(next_frame.0);
        now = shard.poll_timeout().into_iter().chain(frame).min().unwrap_or(end);
    }

    for report in [sender, receiver].into_iter().filter_map(|session| shard.session_report(session)) {
        for member in report.members {
            println!(
                "{}: {} {} saw {} packets, sent {} of its own, counted {:?}",
                report.name, member.plugin, member.version, member.packets_in, member.emitted, member.metrics
            );
        }
    }
    Ok(())
}

/// A frame in one RTP packet (RFC 3550, 5.1).
fn frame(sequence_number: u16) -> anyhow::Result<Packet> {
    let mut bytes = vec![0x80, 0x80 | 96];
    bytes.extend_from_slice(&sequence_number.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(sequence_number) * 1800).to_be_bytes());
    bytes.extend_from_slice(&SSRC.to_be_bytes());
    bytes.extend_from_slice(b"picture");
    Ok(RtpPacket::parse(bytes.into())?.into())
}

fn is(packet: &Packet, sequence_number: u16) -> bool {
    matches!(packet, Packet::Rtp(rtp) if rtp.ssrc() == SSRC && rtp.sequence_number() == sequence_number)
}

fn what(packet: &Packet) -> String {
    match packet {
        Packet::Rtp(rtp) if rtp.ssrc() != SSRC => "a retransmission".to_owned(),
        Packet::Rtp(rtp) if rtp.repaired() => format!("{}, repaired", rtp.sequence_number()),
        Packet::Rtp(rtp) => rtp.sequence_number().to_string(),
        Packet::Rtcp(_) => "RTCP".to_owned(),
        Packet::Malformed(..) => "something else".to_owned(),
    }
}

fn time(now: Instant) -> String {
    format!("{:4} ms", (now - Instant::ZERO).as_millis())
}
