//! GStreamer to GStreamer, with a network between the relay and the receiver that loses packets.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::link::Link;
use crate::program::{Program, Relay, decode, elements_installed, installed, member, port_pair};

const CAPS: &str = r#"application/x-rtp,media=(string)video,clock-rate=(int)90000,encoding-name=(string)VP8,payload=(int)96,rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true"#;

fn config(publisher: u16, relay: u16, link: u16, link_rtcp: u16) -> String {
    format!(
        r#"
        [chains.ingest]
        members = ["nack-generator", "twcc-sender", "report-receiver"]
        [chains.egress]
        members = ["twcc-header-extension", "nack-responder", "report-sender"]
        [[routes]]
        name = "video"
        [routes.publisher]
        listen = "127.0.0.1:{publisher}"
        chain = "ingest"
        [[routes.publisher.streams]]
        name = "video"
        payload_type = 96
        mime_type = "video/VP8"
        clock_rate = 90000
        rtx = {{ payload_type = 97 }}
        rtcp_feedback = ["nack", "nack pli", "transport-cc"]
        extensions = [
          {{ id = 5, uri = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01" }},
        ]
        [[routes.subscribers]]
        name = "viewer"
        listen = "127.0.0.1:{relay}"
        peer = "127.0.0.1:{link}"
        rtcp_peer = "127.0.0.1:{link_rtcp}"
        chain = "egress"
        "#
    )
}

/// Reads a pipeline as gst-launch takes it, a word an argument.
fn gstreamer(pipeline: &str) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "-e"]).args(pipeline.split_whitespace());
    command.stdout(Stdio::null());
    command
}

#[test]
fn what_a_lossy_network_takes_from_gstreamer_comes_back_by_nack_and_rtx() {
    let elements = ["rtpsession", "vp8enc", "rtpvp8pay", "rtprtxreceive", "rtpjitterbuffer", "matroskamux"];
    if !installed(&["gst-launch-1.0", "ffmpeg", "ffprobe"]) || !elements_installed(&elements) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [publisher, sender, relay, link, uplink, receiver] = [(); 6].map(|()| port_pair());
    let network = Link::start(3, [link, receiver], [link + 1, receiver + 1, uplink + 1, relay + 1]);
    let running = Relay::start(folder.path(), &config(publisher, relay, link, link + 1));
    let recording = folder.path().join("got.mkv");
    let receiving = Program::start(&mut gstreamer(&format!(
        "rtpsession name=s rtp-profile=avpf \
         udpsrc address=127.0.0.1 port={receiver} caps={CAPS} ! s.recv_rtp_sink \
         s.recv_rtp_src ! rtprtxreceive payload-type-map=application/x-rtp-pt-map,96=(uint)97 ! rtpssrcdemux ! \
         rtpjitterbuffer do-retransmission=true latency=400 do-lost=true ! rtpvp8depay ! matroskamux ! \
         filesink location={} \
         s.send_rtcp_src ! udpsink host=127.0.0.1 port={uplink_rtcp} sync=false async=false \
         udpsrc address=127.0.0.1 port={receiver_rtcp} ! s.recv_rtcp_sink",
        recording.display(),
        uplink_rtcp = uplink + 1,
        receiver_rtcp = receiver + 1,
    )));
    // 8 s of 30 pictures a second; a key frame every second bounds what a packet lost at the very end can cost.
    let sending = Program::start(&mut gstreamer(&format!(
        "rtpsession name=s rtp-profile=avpf videotestsrc is-live=true num-buffers=240 ! \
         video/x-raw,width=640,height=360,framerate=30/1 ! vp8enc deadline=1 target-bitrate=800000 keyframe-max-dist=30 ! \
         rtpvp8pay pt=96 ssrc=1111 mtu=1100 ! s.send_rtp_sink \
         s.send_rtp_src ! udpsink host=127.0.0.1 port={publisher} sync=false async=false \
         s.send_rtcp_src ! udpsink host=127.0.0.1 port={publisher_rtcp} bind-port={sender} sync=false async=false \
         udpsrc address=127.0.0.1 port={sender} reuse=true ! s.recv_rtcp_sink",
        publisher_rtcp = publisher + 1,
    )));
    sending.finish();
    // What was asked for last is on its way.
    let patience = Instant::now() + Duration::from_secs(3);
    while !network.counts.unanswered().is_empty() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    receiving.signal("-INT");
    receiving.finish();
    let report = running.stop();
    let [media, lost, retransmissions] = [&network.counts.media, &network.counts.lost, &network.counts.retransmissions]
        .map(|count| count.load(Ordering::Relaxed));
    let unanswered = network.counts.unanswered();
    let asked = network.counts.asked.lock().unwrap().len();
    println!("{media} packets, {lost} lost, {asked} asked for, {retransmissions} retransmissions");
    assert!(media > 400 && lost > 5, "{media} packets, {lost} of them lost");
    // When it is too late to ask is GStreamer's to judge, and a busy machine makes it judge so now and then.
    assert!(asked as u64 * 2 >= lost, "{asked} packets were asked for of {lost} that were lost");
    assert_eq!(unanswered, [0u16; 0], "asked for, and not sent again");
    assert!(member(&report, 1, "nack-responder")["emitted"].as_u64() >= Some(retransmissions));
    let frames = decode(&recording);
    assert!(frames.first() >= Some(&200), "{frames:?} of 240 pictures");
}
