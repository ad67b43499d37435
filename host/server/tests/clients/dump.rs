//! tshark reads what packet-dump has written.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::program::{LONG, Relay, installed, member, port_pair};

/// Reads a capture, decoding RTP and RTCP by the ports of packet-dump's documentation: one line for each packet that the
/// filter lets through, with these fields.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args("-d udp.port==5004,rtp -d udp.port==5005,rtcp -T fields".split(' '));
    command.args(["-o", "ip.check_checksum:TRUE", "-Y", filter]);
    command.args(fields.iter().flat_map(|field| ["-e", *field]));
    let read = command.output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let lines = String::from_utf8(read.stdout).unwrap();
    lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Packet type, and count or format, of a receiver report with a block (RFC 3550, 6.4.2), a generic NACK (RFC 4585, 6.2.1)
/// and transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).
const REPORT: (u8, u8) = (201, 1);
const NACK: (u8, u8) = (205, 1);
const FEEDBACK: (u8, u8) = (205, 15);

/// Packets that are sent, some of which the relay has to miss.
const SENT: Range<u16> = 0..40;
const LOST: [u16; 3] = [10, 11, 13];

fn arriving() -> impl Iterator<Item = u16> {
    SENT.filter(|number| !LOST.contains(number))
}

/// The packets that an entry of a NACK asks for: one, and one of the 16 behind it for each bit.
fn asked_for(first: u16, mask: u16) -> impl Iterator<Item = u16> {
    let masked = (0..16).filter(move |bit| mask & 1 << bit != 0).map(move |bit| first + 1 + bit);
    std::iter::once(first).chain(masked)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A packet of the stream that the relay expects, with transport-wide number and payload.
fn packet(number: u16) -> Vec<u8> {
    let mut bytes = vec![0x90, 96];
    bytes.extend(number.to_be_bytes());
    bytes.extend((u32::from(number) * 3000).to_be_bytes());
    bytes.extend(1111u32.to_be_bytes());
    bytes.extend([0xbe, 0xde, 0, 1, 0x51, 0, number as u8, 0]);
    bytes.extend([number as u8; 100]);
    bytes
}

/// Has the relay dump what a publisher sends it and what it answers. Returns its last report.
fn run(folder: &Path, grants: &str, config: &str) -> serde_json::Value {
    let [publisher, viewer, nowhere] = [(); 3].map(|()| port_pair());
    let relay = Relay::start(
        folder,
        &format!(
            r#"
            [plugins.packet-dump]
            grants = [{grants}]
            [[chains.ingest.members]]
            plugin = "packet-dump"
            config = {{ {config} }}
            sink = "{{leg}}.pcapng"
            [[chains.ingest.members]]
            plugin = "nack-generator"
            [[chains.ingest.members]]
            plugin = "twcc-sender"
            [[chains.ingest.members]]
            plugin = "report-receiver"
            config = {{ interval_ms = 50 }}
            [[routes]]
            name = "video"
            [routes.publisher]
            listen = "127.0.0.1:{publisher}"
            rtcp = "mux"
            chain = "ingest"
            [[routes.publisher.streams]]
            name = "video"
            payload_type = 96
            mime_type = "video/VP8"
            clock_rate = 90000
            rtcp_feedback = ["nack", "transport-cc"]
            extensions = [{{ id = 5, uri = "{TRANSPORT_CC}" }}]
            [[routes.subscribers]]
            name = "viewer"
            listen = "127.0.0.1:{viewer}"
            peer = "127.0.0.1:{nowhere}""#
        ),
    );
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.connect(("127.0.0.1", publisher)).unwrap();
    for number in arriving() {
        socket.send(&packet(number)).unwrap();
    }
    let report = [&[0x80, 200, 0, 6][..], &1111u32.to_be_bytes(), &[0; 20]].concat();
    socket.send(&report).unwrap();
    // The relay's answers say that it has had them: a report, requests for all that is lost, and feedback of the last.
    let (mut reported, mut asked, mut fed_back) = (false, BTreeSet::new(), SENT.start);
    let mut answer = [0; 1500];
    while !reported || asked.len() < LOST.len() || fed_back < SENT.end {
        let length = socket.recv(&mut answer).unwrap();
        let mut rest = &answer[..length];
        while !rest.is_empty() {
            let (packet, behind) = rest.split_at(4 + 4 * usize::from(word(rest, 2)));
            match (packet[1], packet[0] & 0x1f) {
                REPORT => reported = true,
                NACK => asked.extend(packet[12..].chunks(4).flat_map(|pair| asked_for(word(pair, 0), word(pair, 2)))),
                FEEDBACK => fed_back = word(packet, 12) + word(packet, 14),
                _ => {}
            }
            rest = behind;
        }
    }
    relay.stop()
}

#[test]
fn tshark_reads_headers_of_rtp_and_whole_rtcp() {
    if !installed(&["tshark"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path(), r#""sink", "wall-clock""#, "");
    let file = folder.path().join("video-publisher.pcapng");
    let written = std::fs::metadata(&file).unwrap().len();
    assert_eq!(member(&report, 0, "packet-dump")["sink_refused"], 0);
    assert!(member(&report, 0, "packet-dump")["sink_bytes"].as_u64() <= Some(written));

    let rtp = tshark(&file, "rtp", &["ip.dst", "rtp.seq", "rtp.ssrc", "rtp.p_type", "frame.len", "frame.cap_len"]);
    let expected: Vec<_> = arriving()
        .map(|number| ["192.0.2.1", &number.to_string(), "0x00000457", "96", "148", "48"].map(str::to_owned).to_vec())
        .collect();
    assert_eq!(rtp, expected);
    let extensions = tshark(&file, "rtp", &["rtp.ext.rfc5285.id"]);
    assert!(extensions.iter().all(|ids| *ids == ["5"]), "{extensions:?}");

    let reports = tshark(&file, "rtcp", &["ip.dst", "rtcp.pt"]);
    assert_eq!(reports[0], ["192.0.2.1", "200"], "the publisher's");
    assert!(reports[1..].iter().any(|report| report[0].starts_with("10.") && report[1] == "201"), "{reports:?}");
    asks_for_what_is_lost(&file);
    feeds_back_what_has_arrived(&file);
    for wrong in [
        "_ws.malformed",
        "_ws.expert.severity == \"Error\"",
        "rtcp.rtpfb.transportcc_bad",
        "ip.checksum.status == \"Bad\"",
        "!rtp && !rtcp",
    ] {
        assert_eq!(tshark(&file, wrong, &["frame.number"]), Vec::<Vec<String>>::new(), "{wrong}");
    }
    // The times are this machine's.
    let seconds: Vec<f64> =
        tshark(&file, "rtp", &["frame.time_epoch"]).iter().map(|time| time[0].parse().unwrap()).collect();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let recent = (now - LONG - Duration::from_secs(5)).as_secs_f64()..now.as_secs_f64();
    assert!(seconds.is_sorted() && seconds.iter().all(|time| recent.contains(time)), "{seconds:?}");
}

/// Whole numbers, as tshark writes the values of a field that a packet has several times.
fn numbers(field: &str) -> Vec<u16> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    field.split(',').filter(|text| !text.is_empty()).map(|text| number(text).unwrap()).collect()
}

/// The NACKs of the capture.
fn asks_for_what_is_lost(file: &Path) {
    let requests =
        tshark(file, "rtcp.pt == 205 && rtcp.rtpfb.fmt == 1", &["rtcp.rtpfb.nack_pid", "rtcp.rtpfb.nack_blp"]);
    let entries = requests.iter().flat_map(|request| numbers(&request[0]).into_iter().zip(numbers(&request[1])));
    let asked: BTreeSet<u16> = entries.flat_map(|(first, mask)| asked_for(first, mask)).collect();
    assert_eq!(asked, BTreeSet::from(LOST), "{requests:?}");
}

/// The transport-wide feedback of the capture: each goes on where the one before it ended, with a time for all that arrived.
fn feeds_back_what_has_arrived(file: &Path) {
    let fields = ["baseseq", "statuscount", "recv_delta"].map(|field| format!("rtcp.rtpfb.transportcc.{field}"));
    let feedback = tshark(file, "rtcp.pt == 205 && rtcp.rtpfb.fmt == 15", &fields.each_ref().map(String::as_str));
    let (mut next, mut arrived) = (SENT.start, 0);
    for feedback in &feedback {
        assert_eq!(numbers(&feedback[0]), [next], "{feedback:?}");
        next += numbers(&feedback[1])[0];
        arrived += numbers(&feedback[2]).len();
    }
    assert_eq!((next, arrived), (SENT.end, arriving().count()), "{feedback:?}");
}

#[test]
fn tshark_reads_whole_packets_where_the_operator_grants_them() {
    if !installed(&["tshark"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), r#""sink", "wall-clock", "read-media""#, "payload = true, rtcp = false");
    let file = folder.path().join("video-publisher.pcapng");
    let found = tshark(&file, "frame", &["rtp.seq", "rtp.payload"]);
    let expected: Vec<_> =
        arriving().map(|number| vec![number.to_string(), format!("{number:02x}").repeat(100)]).collect();
    assert_eq!(found, expected);
}
