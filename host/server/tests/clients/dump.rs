//! tshark reads what packet-dump has written.

use std::net::UdpSocket;
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
            [[routes.subscribers]]
            name = "viewer"
            listen = "127.0.0.1:{viewer}"
            peer = "127.0.0.1:{nowhere}""#
        ),
    );
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.connect(("127.0.0.1", publisher)).unwrap();
    for number in 0..40 {
        socket.send(&packet(number)).unwrap();
    }
    let report = [&[0x80, 200, 0, 6][..], &1111u32.to_be_bytes(), &[0; 20]].concat();
    socket.send(&report).unwrap();
    // The relay's report says that it has had them.
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(answer[..2], [0x81, 201], "{:?}", &answer[..length]);
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
    let expected: Vec<_> = (0..40)
        .map(|number| ["192.0.2.1", &number.to_string(), "0x00000457", "96", "148", "48"].map(str::to_owned).to_vec())
        .collect();
    assert_eq!(rtp, expected);
    let extensions = tshark(&file, "rtp", &["rtp.ext.rfc5285.id"]);
    assert!(extensions.iter().all(|ids| *ids == ["5"]), "{extensions:?}");

    let reports = tshark(&file, "rtcp", &["ip.dst", "rtcp.pt"]);
    assert_eq!(reports[0], ["192.0.2.1", "200"], "the publisher's");
    assert!(reports[1..].iter().any(|report| report[0].starts_with("10.") && report[1] == "201"), "{reports:?}");
    for wrong in ["_ws.malformed", "ip.checksum.status == \"Bad\"", "!rtp && !rtcp"] {
        assert_eq!(tshark(&file, wrong, &["frame.number"]), Vec::<Vec<String>>::new(), "{wrong}");
    }
    // The times are this machine's.
    let seconds: Vec<f64> =
        tshark(&file, "rtp", &["frame.time_epoch"]).iter().map(|time| time[0].parse().unwrap()).collect();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let recent = (now - LONG - Duration::from_secs(5)).as_secs_f64()..now.as_secs_f64();
    assert!(seconds.is_sorted() && seconds.iter().all(|time| recent.contains(time)), "{seconds:?}");
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
        (0..40).map(|number| vec![number.to_string(), format!("{number:02x}").repeat(100)]).collect();
    assert_eq!(found, expected);
}
