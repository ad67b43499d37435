//! Captures through chains.

use std::path::Path;
use std::time::Duration;

use sandbar_tests::guests;
use serde_json::{Value, json};

use crate::captures::{Datagram, Form, nack, nacked, pcap, read, rtp};
use crate::program::{Said, file, folder, sandbar};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
const APPLICATION: u32 = 0;
const WIRE: u32 = 1;

fn at(milliseconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000) + Duration::from_millis(milliseconds)
}

fn datagram(milliseconds: u64, source: &str, destination: &str, payload: Vec<u8>) -> Datagram {
    Datagram {
        time: at(milliseconds),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        payload,
    }
}

const SENDER: &str = "192.0.2.1:5004";
const RECEIVER: &str = "192.0.2.2:6004";

/// Two seconds of video, without the packets that are `lost`.
fn media(lost: &[u16]) -> Vec<Datagram> {
    let numbers = (0..200_u16).filter(|number| !lost.contains(number));
    let packet = |number: u16| rtp(96, SSRC, number, u32::from(number) * 900, &[7; 500]);
    numbers.map(|number| datagram(u64::from(number) * 10, SENDER, RECEIVER, packet(number))).collect()
}

fn with(mut datagrams: Vec<Datagram>, more: impl IntoIterator<Item = Datagram>) -> Vec<Datagram> {
    datagrams.extend(more);
    datagrams.sort_by_key(|datagram| datagram.time);
    datagrams
}

fn replay(folder: &Path, capture: &[u8], more: &[&str]) -> Said {
    file(folder, "in.pcap", capture);
    sandbar(folder, &[&["replay", "in.pcap", "out.pcapng"][..], more].concat())
}

/// What a replay wrote, and its summary.
fn replayed(datagrams: &[Datagram], more: &[&str]) -> (Vec<(u32, Datagram)>, Value) {
    let folder = folder();
    let said = replay(folder.path(), &pcap(Form::Raw, datagrams), &[more, &["--json"]].concat()).fine();
    (read(&std::fs::read(folder.path().join("out.pcapng")).unwrap()), said.json())
}

#[test]
fn an_empty_chain_gives_back_what_came_at_the_time_it_came() {
    let datagrams = media(&[]);
    let (out, summary) = replayed(&datagrams, &[]);
    let expected: Vec<_> = datagrams.into_iter().map(|datagram| (APPLICATION, datagram)).collect();
    assert_eq!(out, expected);
    assert_eq!(summary["output"]["application"]["rtp"], 200);
    assert!(summary["warnings"][0].as_str().unwrap().contains("the chain is empty"));
}

#[test]
fn the_same_capture_and_seed_give_the_same_bytes() {
    let chain = ["--plugin", "nack-generator", "--plugin", "twcc-sender", "--plugin", "report-receiver"];
    let datagrams = media(&[20, 21, 90]);
    let run = |seed: &str| {
        let folder = folder();
        let arguments = [&chain[..], &["--seed", seed, "--json"]].concat();
        let said = replay(folder.path(), &pcap(Form::Raw, &datagrams), &arguments).fine();
        (std::fs::read(folder.path().join("out.pcapng")).unwrap(), said.json())
    };
    let (first, second, other) = (run("1"), run("1"), run("2"));
    assert!(first == second);
    assert!(first.0 != other.0, "the SSRC of reports comes from the seed");
    let digest = sandbar_host::Digest::of(&first.0).to_string();
    assert_eq!(first.1["output"]["sha256"], digest);
}

#[test]
fn what_is_lost_is_asked_for_where_the_peer_is() {
    let (out, summary) = replayed(&media(&[20, 21, 90]), &["--plugin", "nack-generator"]);
    let asked: Vec<_> = out.iter().filter(|(interface, _)| *interface == WIRE).collect();
    let numbers: Vec<u16> = asked.iter().flat_map(|(_, datagram)| nacked(&datagram.payload)).collect();
    assert!(numbers.contains(&20) && numbers.contains(&90), "{numbers:?}");
    let (_, first) = asked[0];
    assert_eq!((first.source, first.destination), (RECEIVER.parse().unwrap(), SENDER.parse().unwrap()));
    assert!(first.time > at(210) && first.time < at(400), "{:?}", first.time);
    let stream = &summary["streams"][0];
    assert_eq!((&stream["before"]["missing"], &stream["after"]["missing"]), (&json!(3), &json!(3)));
    assert_eq!((&stream["clock_rate"], &stream["format_known"]), (&json!(90_000), &json!("measured")));
}

#[test]
fn retransmissions_are_paired_with_their_stream_and_repair_it() {
    let retransmission = |milliseconds: u64, number: u16, own: u16| {
        let payload = [&number.to_be_bytes()[..], &[7; 500]].concat();
        datagram(milliseconds, SENDER, RECEIVER, rtp(97, RTX, own, u32::from(number) * 900, &payload))
    };
    let datagrams = with(media(&[20, 21]), [retransmission(305, 20, 0), retransmission(306, 21, 1)]);
    let (out, summary) = replayed(&datagrams, &["--map", "96=video/VP8/90000", "--rtx", "97=96", "--plugin", "noop"]);
    assert_eq!(out.len(), 200);
    assert!(out.iter().all(|(_, datagram)| datagram.payload[1] & 0x7f == 96));
    let [stream] = &summary["streams"].as_array().unwrap()[..] else { panic!("{summary:#}") };
    assert_eq!(stream["rtx_ssrc"], RTX);
    assert_eq!((&stream["before"]["missing"], &stream["after"]["missing"]), (&json!(2), &json!(0)));
    assert_eq!((&stream["before"]["retransmissions"], &stream["repaired"]), (&json!(2), &json!(2)));
    // Without being told, they are a stream like any other.
    let (_, summary) = replayed(&datagrams, &["--plugin", "noop"]);
    assert_eq!(summary["streams"].as_array().map(Vec::len), Some(2));
}

#[test]
fn repair_packets_are_made_at_the_sender_and_restore_its_stream_at_the_receiver() {
    let grants = "emit-rtp,read-media,randomness";
    let stream = ["--map", "96=video/VP8/90000", "--fec", "118=96", "--grants", grants];
    let encoded = [&stream[..], &["--direction", "write", "--plugin", "flexfec-encoder"]].concat();
    let (out, summary) = replayed(&media(&[]), &encoded);
    assert_eq!(summary["streams"][0]["after"]["repair_packets"], 80, "two for each five of 200");
    assert_eq!(summary["streams"][0]["before"]["repair_packets"], 0);
    let sent: Vec<_> = out.into_iter().filter(|(interface, _)| *interface == WIRE).map(|(_, sent)| sent).collect();
    // Every twentieth packet of the stream is lost.
    let lost = |datagram: &&Datagram| datagram.payload[1] & 0x7f == 96 && datagram.payload[3].is_multiple_of(20);
    let arrived: Vec<_> = sent.iter().filter(|datagram| !lost(datagram)).cloned().collect();
    assert_eq!(sent.len() - arrived.len(), 10);
    let (out, summary) = replayed(&arrived, &[&stream[..], &["--plugin", "flexfec-decoder"]].concat());
    let [stream] = &summary["streams"].as_array().unwrap()[..] else { panic!("{summary:#}") };
    let repair = sent.iter().find(|datagram| datagram.payload[1] & 0x7f == 118).unwrap();
    assert_eq!(stream["fec_ssrc"], u32::from_be_bytes(repair.payload[8..12].try_into().unwrap()));
    assert_eq!((&stream["before"]["repair_packets"], &stream["after"]["repair_packets"]), (&json!(80), &json!(0)));
    assert_eq!((&stream["repaired"], &stream["after"]["packets"]), (&json!(10), &json!(200)));
    assert_eq!(out.len(), 200);
}

#[test]
fn a_chain_at_the_sender_answers_what_the_capture_asks_for() {
    // RTCP on ports of its own, found by its source alone.
    let request = datagram(1005, "192.0.2.2:7777", "192.0.2.1:8888", nack(9, SSRC, 95));
    let datagrams = with(media(&[]), [request]);
    let direction = ["--direction", "write", "--map", "96=video/VP8/90000"];
    let (out, summary) = replayed(&datagrams, &[&direction[..], &["--plugin", "nack-responder"]].concat());
    assert_eq!(summary["streams"][0]["direction"], "write");
    assert_eq!(summary["output"]["wire"]["rtp"], 201);
    assert_eq!(summary["streams"][0]["after"]["duplicates"], 1);
    assert_eq!(out.iter().filter(|(interface, _)| *interface == APPLICATION).count(), 1, "the NACK is read");
    // With RTX it goes out as such, from a source of its own.
    let rtx = ["--rtx", "97=96", "--plugin", "nack-responder"];
    let (out, summary) = replayed(&datagrams, &[&direction[..], &rtx].concat());
    assert_eq!(summary["streams"][0]["after"]["retransmissions"], 1);
    let resent = out.iter().find(|(_, datagram)| datagram.payload[1] & 0x7f == 97).unwrap();
    assert_eq!(resent.1.payload[12..14], 95_u16.to_be_bytes());
    assert_eq!(resent.1.source, SENDER.parse().unwrap());
    // Naming this side says the same as naming the direction.
    let local = ["--local", "192.0.2.1", "--map", "96=video/VP8/90000", "--plugin", "nack-responder"];
    assert_eq!(replayed(&datagrams, &local).1["output"]["wire"]["rtp"], 201);
}

#[test]
fn formats_and_ip_versions_make_no_difference() {
    let six = |datagram: Datagram| {
        let six = |address: &str| address.parse().unwrap();
        Datagram { source: six("[2001:db8::1]:5004"), destination: six("[2001:db8::2]:6004"), ..datagram }
    };
    let four = media(&[50]);
    let six: Vec<_> = four.iter().cloned().map(six).collect();
    let streams: Vec<Value> = [(Form::Raw, &four), (Form::Vlan, &four), (Form::Raw, &six), (Form::Vlan, &six)]
        .map(|(form, datagrams)| {
            let folder = folder();
            let said = replay(folder.path(), &pcap(form, datagrams), &["--plugin", "nack-generator", "--json"]).fine();
            // What is written can be replayed in its turn.
            std::fs::rename(folder.path().join("out.pcapng"), folder.path().join("again.pcapng")).unwrap();
            let again = sandbar(folder.path(), &["replay", "again.pcapng", "out.pcapng", "--json"]).fine().json();
            assert_eq!(again["streams"][0]["before"], said.json()["streams"][0]["after"]);
            said.json()["streams"].clone()
        })
        .to_vec();
    assert!(streams.iter().all(|other| *other == streams[0]), "{streams:#?}");
}

#[test]
fn conversations_are_sessions_of_their_own() {
    // The same SSRC twice, as before and behind a relay; and traffic that is no media.
    let behind = media(&[30]).into_iter().map(|first| Datagram {
        source: "127.0.0.1:7000".parse().unwrap(),
        destination: "127.0.0.1:7002".parse().unwrap(),
        ..first
    });
    let other =
        (0..20).map(|number| datagram(number * 50, "192.0.2.9:53", "192.0.2.1:9999", vec![0x81; 40 + number as usize]));
    let datagrams = with(media(&[]), behind.chain(other));
    let (_, summary) = replayed(&datagrams, &["--plugin", "packet-counter"]);
    let sessions = summary["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    assert_eq!((&sessions[0]["counts"]["read"], &sessions[1]["counts"]["read"]), (&json!(200), &json!(199)));
    assert_eq!(summary["input"]["skipped"]["not_rtp"], 20);
    let (_, summary) = replayed(&datagrams, &["--plugin", "packet-counter", "--port", "7000"]);
    assert_eq!(summary["sessions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn chains_come_from_the_relays_configuration() {
    let folder = folder();
    let toml = r#"
[chains.one]
members = [{ plugin = "nack-generator", config = { interval_ms = 50 } }]
[chains.two]
members = [{ plugin = "mine" }]
[plugins.mine]
file = "mine.wasm"
"#;
    file(folder.path(), "chains.toml", toml);
    let capture = pcap(Form::Raw, &media(&[5]));
    let run = |more: &[&str]| replay(folder.path(), &capture, &[&["--chain", "chains.toml"][..], more].concat());
    let one = run(&["--chain-name", "one", "--json"]).fine().json();
    assert_eq!(one["sessions"][0]["members"][0]["plugin"], "nack-generator");
    run(&[]).fails_with(&["--chain-name", "one, two"]);
    run(&["--chain-name", "three"]).fails_with(&["no chain three", "one, two"]);
    run(&["--chain-name", "two"]).fails_with(&["chains.toml:7:", "mine.wasm"]);
    file(folder.path(), "mine.wasm", guests::BATCHED_COUNTER);
    run(&["--chain-name", "two"]).fails_with(&["read-media", "not granted"]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/relay/relay.toml");
    replay(folder.path(), &capture, &["--chain", example, "--chain-name", "ingest"]).fine();
    file(folder.path(), "chains.toml", toml.replace("interval_ms", "interval"));
    run(&["--chain-name", "one"]).fails_with(&["nack-generator refuses its configuration", "interval"]);
    file(folder.path(), "chains.toml", toml.replace("nack-generator", "nack-generater"));
    run(&["--chain-name", "one"]).fails_with(&["chains.toml:3:", "did you mean \"nack-generator\"?"]);
}

#[test]
fn a_plugin_that_fails_is_told_and_the_capture_is_written() {
    let folder = folder();
    file(folder.path(), "trap.wasm", guests::TRAP);
    let capture = pcap(Form::Raw, &media(&[]));
    let said = replay(folder.path(), &capture, &["--plugin", "./trap.wasm"]).fine();
    assert!(said.out.contains("trap 0.1.0"), "{}", said.out);
    assert!(said.out.contains("failed (trap)"), "{}", said.out);
    assert_eq!(read(&std::fs::read(folder.path().join("out.pcapng")).unwrap()).len(), 200);
}

#[test]
fn a_plugin_that_does_not_return_is_stopped_by_what_it_does_and_not_by_a_clock() {
    let folder = folder();
    let looping = folder.path().join("looping.wasm");
    std::fs::write(&looping, guests::ENDLESS_LOOP).unwrap();
    let (out, summary) = replayed(&media(&[]), &["--plugin", looping.to_str().unwrap()]);
    assert_eq!(out.len(), media(&[]).len(), "{summary:#}");
    let told = summary.to_string();
    assert!(told.contains("deadline") && told.contains("all fuel consumed"), "{summary:#}");
}

#[test]
fn damaged_times_are_no_reason_to_wait_for_years() {
    let mut datagrams = media(&[]);
    datagrams[100].time = at(0) - Duration::from_secs(5);
    for late in &mut datagrams[150..] {
        late.time += Duration::from_secs(60 * 60 * 24 * 365);
    }
    let (out, summary) = replayed(&datagrams, &["--plugin", "report-receiver", "--plugin", "nack-generator"]);
    let media: Vec<_> = out.iter().filter(|(interface, _)| *interface == APPLICATION).collect();
    assert_eq!((media.len(), media[199].1.time), (200, datagrams[199].time));
    let warnings = summary["warnings"].to_string();
    assert!(warnings.contains("1 packets are older") && warnings.contains("1 silences"), "{warnings}");
}

#[test]
fn bad_input_is_named_and_nothing_is_written() {
    let folder = folder();
    let good = pcap(Form::Raw, &media(&[]));
    let cases: [(Vec<u8>, &[&str]); 7] = [
        (Vec::new(), &["in.pcap: this is not a capture: the file is empty"]),
        (b"hello".to_vec(), &["this is not a capture"]),
        (guests::TRAP.to_vec(), &["this is not a capture"]),
        (vec![0x1f, 0x8b, 8, 0, 0], &["gunzip"]),
        (good[..good.len() - 7].to_vec(), &["cut off after 199 packets", "--allow-truncated"]),
        (good[..24].to_vec(), &["there is no RTP in the capture's 0 packets"]),
        (pcap(Form::Raw, &media(&[])[..1]), &["there is no RTP", "two packets came in sequence"]),
    ];
    for (bytes, words) in cases {
        replay(folder.path(), &bytes, &["--plugin", "noop"]).fails_with(words);
        assert!(!folder.path().join("out.pcapng").exists());
    }
    let mut link = good.clone();
    link[20] = 105;
    replay(folder.path(), &link, &[]).fails_with(&["link type 105"]);
    replay(folder.path(), &good, &["--port", "1"]).fails_with(&["--port may leave it out"]);
    sandbar(folder.path(), &["replay", "nowhere.pcap", "out.pcapng"]).fails_with(&["nowhere.pcap: No such file"]);
    sandbar(folder.path(), &["replay", "in.pcap", "no/such/out.pcapng"])
        .fails_with(&["no/such/out.pcapng: No such file"]);
    replay(folder.path(), &good, &["--plugin", "nope"]).fails_with(&["no embedded plugin is called \"nope\"", "noop"]);
    replay(folder.path(), &good, &["--plugin", "noop={"]).fails_with(&["not JSON"]);
    replay(folder.path(), &good, &["--plugin", "nack-generator", "--grants", "none"]).fails_with(&["emit-rtcp"]);
    replay(folder.path(), &good, &["--map", "96=VP8"]).fails_with(&["96=video/VP8/90000"]);
    assert!(!folder.path().join("out.pcapng").exists());
    let cut = replay(folder.path(), &good[..good.len() - 7], &["--allow-truncated", "--json"]).fine().json();
    assert_eq!(cut["input"]["packets"], 199);
    assert!(cut["warnings"][0].as_str().unwrap().contains("cut off"));
}
