//! A plugin file that changes while ffmpeg sends.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::ffmpeg;
use crate::program::{LONG, Program, Relay, installed, port_pair};

fn config(publisher: u16, relay: u16, subscriber: u16) -> String {
    format!(
        r#"
        [server]
        watch = "100ms"
        [plugins.responder]
        file = "responder.wasm"
        [chains.egress]
        members = ["twcc-header-extension", "responder", "report-sender"]
        [[routes]]
        name = "video"
        [routes.publisher]
        listen = "127.0.0.1:{publisher}"
        [[routes.publisher.streams]]
        name = "video"
        payload_type = 96
        mime_type = "video/VP8"
        clock_rate = 90000
        rtcp_feedback = ["nack", "nack pli"]
        [[routes.subscribers]]
        name = "viewer"
        listen = "127.0.0.1:{relay}"
        peer = "127.0.0.1:{subscriber}"
        chain = "egress"
        "#
    )
}

/// Puts a file in another's place in one step, as a deployment does.
fn deploy(folder: &Path, component: &[u8]) {
    let aside = folder.join("next.wasm");
    std::fs::write(&aside, component).unwrap();
    std::fs::rename(aside, folder.join("responder.wasm")).unwrap();
}

/// Sequence numbers of the media that arrives until so many more have come.
fn receive(socket: &UdpSocket, numbers: &mut Vec<u16>, more: usize) {
    let (deadline, wanted) = (Instant::now() + LONG, numbers.len() + more);
    let mut bytes = [0; 2048];
    while numbers.len() < wanted {
        assert!(Instant::now() < deadline, "{} packets came; {wanted} were expected", numbers.len());
        if let Ok(length) = socket.recv(&mut bytes)
            && length >= 12
            && bytes[1] & 0x7f == 96
        {
            numbers.push(u16::from_be_bytes([bytes[2], bytes[3]]));
        }
    }
}

#[test]
fn a_new_version_takes_over_while_ffmpeg_sends_and_a_broken_one_does_not() {
    if !installed(&["ffmpeg"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let now = sandbar_plugins::by_name("nack-responder").unwrap().component;
    let next = sandbar_plugins::demo::NEXT_NACK_RESPONDER.component;
    deploy(folder.path(), now);
    let [publisher, relay, subscriber] = [(); 3].map(|()| port_pair());
    let socket = UdpSocket::bind(("127.0.0.1", subscriber)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let running = Relay::start(folder.path(), &config(publisher, relay, subscriber));
    let sending = Program::start(&mut ffmpeg::sender(40, publisher, port_pair()));
    let mut numbers = Vec::new();
    receive(&socket, &mut numbers, 60);
    let digest = |report: &serde_json::Value| {
        report["routes"][0]["legs"][1]["session"]["members"][1]["digest"].as_str().map(str::to_owned)
    };
    let before = digest(&running.next(|line| line["event"] == "stats").unwrap()).unwrap();

    deploy(folder.path(), &next[..next.len() / 2]);
    running.logs("truncated");
    receive(&socket, &mut numbers, 60);
    deploy(folder.path(), next);
    let swapped = running.next(|line| line["event"] == "stats" && digest(line).is_some_and(|digest| digest != before));
    assert!(swapped.is_some(), "the new version is not taken");
    receive(&socket, &mut numbers, 60);

    drop(sending);
    let report = running.stop();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "not in sequence: {numbers:?}");
    let member = &report["routes"][0]["legs"][1]["session"]["members"][1];
    assert_eq!(member["state"], "running");
    assert_eq!(member["dropped"], 0);
}
