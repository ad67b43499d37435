//! ffmpeg to ffmpeg.

use std::process::Command;

use crate::program::{Program, Relay, decode, installed, member, port_pair};

/// Two routes, as ffmpeg sends video and audio to ports of their own.
fn config(publishers: [u16; 2], relays: [u16; 2], subscribers: [u16; 2]) -> String {
    let route = |name: &str, place: usize, stream: &str| {
        format!(
            r#"
            [[routes]]
            name = "{name}"
            [routes.publisher]
            listen = "127.0.0.1:{}"
            chain = "ingest"
            [[routes.publisher.streams]]
            {stream}
            [[routes.subscribers]]
            name = "viewer"
            listen = "127.0.0.1:{}"
            peer = "127.0.0.1:{}"
            chain = "egress"
            "#,
            publishers[place], relays[place], subscribers[place]
        )
    };
    format!(
        r#"
        [chains.ingest]
        members = ["nack-generator", "twcc-sender", "report-receiver"]
        [chains.egress]
        members = ["twcc-header-extension", "nack-responder", "report-sender"]
        {}{}"#,
        route(
            "video",
            0,
            r#"name = "video"
            payload_type = 96
            mime_type = "video/VP8"
            clock_rate = 90000
            rtcp_feedback = ["nack", "nack pli"]"#
        ),
        route(
            "audio",
            1,
            r#"name = "audio"
            payload_type = 111
            mime_type = "audio/opus"
            clock_rate = 48000
            channels = 2"#
        ),
    )
}

/// VP8 and Opus for so many seconds.
pub fn sender(seconds: u32, video: u16, audio: u16) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "error"]);
    command.args("-re -f lavfi -i testsrc2=size=320x240:rate=15 -re -f lavfi -i sine=sample_rate=48000".split(' '));
    command.args(["-t", &seconds.to_string()]);
    command.args("-map 0 -c:v libvpx -deadline realtime -g 15 -b:v 300k -payload_type 96 -ssrc 1111 -f rtp".split(' '));
    command.arg(format!("rtp://127.0.0.1:{video}?pkt_size=1200"));
    command.args(["-t", &seconds.to_string()]);
    command.args("-map 1 -c:a libopus -b:a 32k -payload_type 111 -ssrc 2222 -f rtp".split(' '));
    command.arg(format!("rtp://127.0.0.1:{audio}?pkt_size=1200"));
    command
}

#[test]
fn ffmpeg_hears_and_sees_through_the_relay_what_ffmpeg_sends() {
    if !installed(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [publishers, relays, subscribers] = [(); 3].map(|()| [port_pair(), port_pair()]);
    let relay = Relay::start(folder.path(), &config(publishers, relays, subscribers));
    let [video, audio] = subscribers;
    let session = folder.path().join("session.sdp");
    let description = format!(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n\
         m=video {video} RTP/AVP 96\na=rtpmap:96 VP8/90000\n\
         m=audio {audio} RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"
    );
    std::fs::write(&session, description).unwrap();
    let recording = folder.path().join("got.mkv");
    let mut receiver = Command::new("ffmpeg");
    receiver.args(["-hide_banner", "-v", "fatal", "-protocol_whitelist", "file,udp,rtp", "-i"]).arg(session);
    receiver.args(["-t", "4", "-map", "0", "-c", "copy", "-y"]).arg(&recording);
    let receiver = Program::start(&mut receiver);
    let sender = Program::start(&mut sender(12, publishers[0], publishers[1]));
    receiver.finish();
    drop(sender);
    let frames = decode(&recording);
    // 4 s of 15 pictures and of 50 sounds a second; the recording may begin and end between two.
    assert!(frames.len() == 2 && frames[0] >= 45 && frames[1] >= 150, "{frames:?}");
    let report = relay.stop();
    let counts = &report["routes"][0]["legs"][1]["session"]["counts"];
    // What went in came out, and RTCP of the chain's own.
    assert!(counts["sent"].as_u64() > counts["written"].as_u64(), "{counts}");
    assert!(member(&report, 1, "report-sender")["emitted"].as_u64() >= Some(2));
    assert!(member(&report, 0, "report-receiver")["emitted"].as_u64() >= Some(2));
}
