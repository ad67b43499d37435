//! The standard trace: what every plugin has to stand.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{MemberReport, MemberSpec, Plugin, SinkId};

use super::bench::{Bench, Conditions, MTU};
use super::findings::Findings;
use super::packets::{self, ONE_BYTE, Rtp, TWO_BYTE};
use super::talk::{PEER, VIDEO_IN, VIDEO_OUT, video};

/// Drives the plugin with all of it. Returns what was found, and the plugin's counters before its session was closed.
pub(crate) fn run(plugin: &Plugin, config: Option<&str>, findings: Findings) -> (Findings, Option<MemberReport>) {
    let member = MemberSpec::new(plugin.clone()).with_config(config.unwrap_or("{}"));
    let member = MemberSpec { sink: Some(SinkId(0)), ..member };
    let mut bench = Bench::new(member, findings);
    bench.begin("open and bind");
    if !bench.open() {
        return (bench.findings, None);
    }
    bench.begin("clean media");
    clean_media(&mut bench);
    storms(&mut bench);
    let memory = bench.report(0).map_or(0, |report| report.memory_bytes);
    let phases: [(_, PhaseFn); 10] = [
        ("loss and reordering", |bench| bench.media(S * 3, Conditions { lost: 50, late: 30, twice: 10 })),
        ("bursts", bursts),
        ("odd RTP", odd_rtp),
        ("RTCP", rtcp),
        ("malformed packets", malformed),
        ("two sessions", two_sessions),
        ("streams come and go", streams_come_and_go),
        ("silence", silence),
        ("control", control),
        ("replacement", replacement),
    ];
    for (name, phase) in phases {
        bench.begin(name);
        bench.revive();
        phase(&mut bench);
        storms(&mut bench);
    }
    let report = bench.report(0);
    if let Some(report) = &report
        && report.memory_bytes > memory + (1 << 20)
    {
        bench.findings.note(format!("its memory grew from {memory} to {} bytes over the trace", report.memory_bytes));
    }
    bench.begin("close");
    bench.unbind(0);
    bench.close(0);
    if config.is_none() {
        bench.begin("configuration");
        configurations(&mut bench, plugin);
    }
    (bench.findings, report)
}

/// What happens in a phase.
type PhaseFn = fn(&mut Bench);

const S: Duration = Duration::from_secs(1);

fn clean_media(bench: &mut Bench) {
    bench.media(S * 2, Conditions::default());
    // Whoever delays packets lets them go now.
    bench.idle(S);
    let talk = &bench.talks[0];
    let sides = [("to the application", 0), ("to the wire", 1)].map(|(side, index)| {
        (
            side,
            talk.out[index].packets,
            talk.out[index].missing(),
            talk.out[index].duplicates(),
            talk.out[index].reordered,
        )
    });
    for (side, packets, missing, duplicates, reordered) in sides {
        if packets == 0 {
            bench.findings.problem("drops-everything", format!("of 2 s of video, no packet goes on {side}"));
        }
        for (count, what) in [(missing, "do not go on"), (duplicates, "come twice"), (reordered, "come out of order")] {
            if count > 0 {
                bench.findings.note(format!("of 2 s of video without loss, {count} packets {what} {side}"));
            }
        }
    }
}

fn bursts(bench: &mut Bench) {
    for round in 0..10_u16 {
        let packet = |ssrc, number: u16| Rtp {
            ssrc,
            payload_type: 96,
            sequence_number: 2000 + round * 200 + number,
            timestamp: 90_000 * u32::from(round),
            payload: &[1; 1100],
            ..Rtp::default()
        };
        let read: Vec<_> = (0..200).map(|number| packet(VIDEO_IN, number).bytes()).collect();
        let write: Vec<_> = (0..200).map(|number| packet(VIDEO_OUT, number).bytes()).collect();
        bench.read(0, read);
        bench.write(0, write);
        bench.idle(Duration::from_millis(5));
    }
}

fn odd_rtp(bench: &mut Bench) {
    let mut number = 30_000_u16;
    let one = [0x50, 0xff, 0x00, 0x4f];
    let two = [5, 2, 0x12, 0x34, 9, 0, 0, 200, 1, 0, 0, 0];
    let long = [0x77; 400];
    let full = vec![0x11; usize::from(MTU) - 12];
    let over = vec![0x11; usize::from(MTU) + 200];
    for ssrc in [VIDEO_IN, VIDEO_OUT, 0xdead_beef] {
        let rtp = Rtp { ssrc, payload_type: 96, payload: b"media", ..Rtp::default() };
        let odd = [
            Rtp { payload: b"", ..rtp.clone() },
            Rtp { payload: b"", padding: 255, ..rtp.clone() },
            Rtp { padding: 1, ..rtp.clone() },
            Rtp { csrcs: 15, ..rtp.clone() },
            Rtp { extension: Some((ONE_BYTE, b"")), ..rtp.clone() },
            Rtp { extension: Some((ONE_BYTE, &one)), ..rtp.clone() },
            // An element that ends after its block.
            Rtp { extension: Some((ONE_BYTE, &[0x5f, 1, 2, 3])), ..rtp.clone() },
            Rtp { extension: Some((TWO_BYTE, &two)), ..rtp.clone() },
            Rtp { extension: Some((0xabac, &long)), csrcs: 15, ..rtp.clone() },
            Rtp { payload_type: 13, marker: true, ..rtp.clone() },
            Rtp { payload: &full, ..rtp.clone() },
            Rtp { timestamp: u32::MAX, ..rtp.clone() },
        ];
        for (at, packet) in odd.into_iter().enumerate() {
            // Forwards by one, back, and far ahead.
            number = match at % 4 {
                0 | 1 => number.wrapping_add(1),
                2 => number.wrapping_sub(300),
                _ => number.wrapping_add(20_000),
            };
            let bytes = Rtp { sequence_number: number, ..packet }.bytes();
            if ssrc != VIDEO_OUT {
                bench.read(0, [bytes.clone()]);
            }
            if ssrc != VIDEO_IN {
                bench.write(0, [bytes]);
            }
            bench.idle(Duration::from_millis(7));
        }
    }
    // The peer's path may carry more than ours.
    bench.read(0, [Rtp { ssrc: VIDEO_IN, payload_type: 96, payload: &over, ..Rtp::default() }.bytes()]);
    bench.idle(S);
}

fn rtcp(bench: &mut Bench) {
    let every: Vec<(u16, u16)> = (0..250).map(|pair| (pair * 17, 0xffff)).collect();
    let compounds = [
        packets::sender_report(VIDEO_IN, 0, 0, 0, (0, 0)),
        packets::receiver_report(PEER),
        packets::nack(PEER, VIDEO_OUT, &[(0, 0xffff)]),
        packets::nack(PEER, VIDEO_OUT, &every),
        packets::nack(PEER, 0xdead_beef, &[(1, 1)]),
        packets::full_intra(PEER, VIDEO_OUT, 255),
        packets::bandwidth_estimate(PEER, VIDEO_OUT),
        packets::transport_feedback(PEER, VIDEO_OUT, 65_000, 500, 255),
        packets::goodbye(VIDEO_IN),
        packets::goodbye(0xdead_beef),
    ];
    for compound in compounds {
        bench.read(0, [Bytes::from(compound.clone())]);
        bench.write(0, [Bytes::from(compound)]);
        bench.idle(Duration::from_millis(20));
    }
    let mut numbers = Vec::new();
    numbers.resize_with(40_000, || bench.random());
    let mut next = numbers.into_iter();
    for compound in packets::nonsense(|| next.next().unwrap_or(0)) {
        bench.read(0, [Bytes::from(compound.clone())]);
        bench.write(0, [Bytes::from(compound)]);
    }
    bench.idle(S);
}

fn malformed(bench: &mut Bench) {
    let rtp = Rtp {
        ssrc: VIDEO_IN,
        csrcs: 2,
        extension: Some((ONE_BYTE, &[0; 8])),
        payload: b"media",
        padding: 4,
        ..Rtp::default()
    };
    let whole = [rtp.bytes(), packets::nack(PEER, VIDEO_OUT, &[(1, 2)]).into(), packets::goodbye(PEER).into()];
    for packet in whole {
        for length in 0..packet.len() {
            bench.read(0, [packet.slice(..length)]);
        }
    }
    for _ in 0..500 {
        let length = bench.random() % 200;
        let bytes: Vec<u8> = (0..length).map(|_| bench.random() as u8).collect();
        // Half of them with RTP's version.
        let bytes: Vec<u8> =
            bytes.iter().enumerate().map(|(at, byte)| if at == 0 { byte & 0x7f | 0x80 } else { *byte }).collect();
        bench.read(0, [Bytes::from(bytes)]);
    }
    bench.idle(S);
}

fn two_sessions(bench: &mut Bench) {
    if bench.open() {
        bench.media(S, Conditions { lost: 20, ..Conditions::default() });
        let second = bench.talks.len() - 1;
        bench.close(second);
    }
    bench.media(S / 2, Conditions::default());
}

fn streams_come_and_go(bench: &mut Bench) {
    bench.unbind(0);
    bench.idle(S);
    // Packets of streams that are no longer bound.
    bench.media(S / 10, Conditions::default());
    bench.bind(0);
    bench.media(S / 2, Conditions { lost: 100, ..Conditions::default() });
    let kept = bench.talks[0].streams.len();
    for number in 0..50 {
        bench.bind_one(0, number % 2 == 0, video(0x3000 + 2 * number, 0x3001 + 2 * number));
        if number % 5 == 0 {
            bench.idle(Duration::from_millis(30));
        }
    }
    for stream in bench.talks[0].streams.split_off(kept) {
        bench.shard.unbind_stream(bench.now, stream);
    }
    bench.drain();
    bench.idle(S);
}

fn silence(bench: &mut Bench) {
    /// The shortest interval of feedback in use is transport-wide congestion control's, 50 ms; some timers per stream.
    const OFTEN: f64 = 200.0;
    bench.idle(S * 10);
    let often = bench.findings.phase().wakes as f64 / bench.passed.as_secs_f64().max(0.1);
    if often > OFTEN {
        let message = format!("while nothing happens it is woken {often:.0} times per second");
        bench.findings.problem("timer-storm", message);
    }
}

fn control(bench: &mut Bench) {
    for request in ["", "{}", "null", "not JSON {", "{\"type\":\"stats\"}", &"[".repeat(2000)] {
        let session = bench.talks[0].session;
        let answer = bench.shard.control(bench.now, session, 0, request);
        let shown: String = request.chars().take(40).collect();
        bench.findings.controlled(&shown, answer);
        bench.drain();
    }
}

fn replacement(bench: &mut Bench) {
    bench.media(S / 2, Conditions { lost: 100, ..Conditions::default() });
    bench.replace(0);
    bench.media(S, Conditions { lost: 50, ..Conditions::default() });
}

/// More than a plugin could have to say about what it was given.
fn storms(bench: &mut Bench) {
    /// Half of what the host keeps of an instance.
    const LINES: f64 = 100.0;
    let phase = bench.findings.phase().clone();
    let sent = phase.rtp_to_wire + phase.rtcp_to_wire;
    // A NACK may ask for a few thousand packets, and has one.
    if sent > 20 * phase.given + 10_000 {
        bench.findings.problem("emission-storm", format!("{sent} packets go out for {} that came", phase.given));
    }
    let lines = phase.log_lines + phase.published;
    let seconds = bench.passed.as_secs_f64().max(1.0);
    if lines as f64 / seconds > LINES {
        let message = format!("it logs and publishes {lines} times in {seconds:.1} s, about {} packets", phase.given);
        bench.findings.problem("log-storm", message);
    }
}

fn configurations(bench: &mut Bench, plugin: &Plugin) {
    let options = &plugin.description().options;
    let mut defaults = serde_json::Map::new();
    for option in options {
        match serde_json::from_str(&option.default) {
            Ok(value) => drop(defaults.insert(option.key.clone(), value)),
            Err(_) => {
                let message = format!("the default of {} is not JSON: {:?}", option.key, option.default);
                bench.findings.problem("description", message);
            }
        }
    }
    if !defaults.is_empty() {
        let defaults = serde_json::Value::Object(defaults).to_string();
        if let Err(error) = bench.accepts(&defaults) {
            bench.findings.refused("configured with its own defaults", &error);
        }
    }
    for (wrong, what) in
        [("{\"no-such-key\": 1}", "a key that it does not have"), ("{", "a configuration that is not JSON")]
    {
        match bench.accepts(wrong) {
            Ok(()) if !options.is_empty() => bench.findings.note(format!("it accepts {what}: mistakes go unnoticed")),
            Err(error @ sandbar_host::ChainError::Fault { .. }) => bench.findings.refused(what, &error),
            _ => {}
        }
    }
    bench.drain();
}
