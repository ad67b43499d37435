//! The plugin as a host sees it, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use sandbar_plugin_packet_dump::PacketDump;
use sandbar_sdk::testing::{Feed, Harness, Setup, packet};
use sandbar_sdk::{Binding, Level, Refusal, RtcpAccess, StreamId, StreamInfo};

const SSRC: u32 = 0x1111;
const RTX: u32 = 0x2222;
/// Setup's wall clock at its start, in nanoseconds since 1970.
const START: u64 = 1_704_067_200_000_000_000;
const PLI: [u8; 12] = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn info() -> StreamInfo {
    StreamInfo { ssrc: SSRC, ssrc_retransmission: Some(RTX), ..StreamInfo::default() }
}

fn bound(config: &str) -> (Harness<PacketDump>, StreamId, StreamId) {
    let mut harness = Harness::with(Setup { rtcp_ssrc: 0x0a0b_0c0d, ..Setup::default() }, config).unwrap();
    let (remote, local) = (harness.bind_remote_stream(&info()).unwrap(), harness.bind_local_stream(&info()).unwrap());
    (harness, remote, local)
}

/// A packet as it was written.
#[derive(Debug, PartialEq)]
struct Written {
    /// Nanoseconds since the session's start.
    time: u64,
    inbound: bool,
    port: u16,
    /// Of the packet, as far as it was written, and how long it was.
    bytes: Vec<u8>,
    size: usize,
    comment: String,
}

/// Reads pcapng: how many sections there are, and the packets.
fn read(file: &[u8]) -> (usize, Vec<Written>) {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
    let (mut at, mut sections, mut packets) = (0, 0, Vec::new());
    while at < file.len() {
        let (kind, length) = (word(at), word(at + 4) as usize);
        assert_eq!(word(at + length - 4) as usize, length);
        assert!(sections > 0 || kind == 0x0a0d_0d0a, "a file begins with a section");
        match kind {
            0x0a0d_0d0a => sections += 1,
            1 => assert_eq!(half(at + 8), 101, "raw IP"),
            6 => {
                let (captured, original) = (word(at + 20) as usize, word(at + 24) as usize);
                let ip = &file[at + 28..at + 28 + captured];
                let (local, peer) = ([192, 0, 2, 1], [10, 11, 12, 13]);
                let inbound = ip[12..16] == peer && ip[16..20] == local;
                assert!(inbound || ip[12..16] == local && ip[16..20] == peer);
                assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), original);
                let (mut option, mut comment, mut flags) = (at + 28 + captured.next_multiple_of(4), String::new(), 0);
                while half(option) != 0 {
                    let value = &file[option + 4..option + 4 + usize::from(half(option + 2))];
                    match half(option) {
                        1 => comment = String::from_utf8(value.to_vec()).unwrap(),
                        2 => flags = value[0],
                        other => panic!("option {other}"),
                    }
                    option += 4 + value.len().next_multiple_of(4);
                }
                assert_eq!(flags, if inbound { 1 } else { 2 });
                packets.push(Written {
                    time: (u64::from(word(at + 12)) << 32 | u64::from(word(at + 16))) - START,
                    inbound,
                    port: u16::from_be_bytes([ip[22], ip[23]]),
                    bytes: ip[28..].to_vec(),
                    size: original - 28,
                    comment,
                });
            }
            other => panic!("block {other:x}"),
        }
        at += length;
    }
    (sections, packets)
}

/// What has been written by now.
fn written(harness: &mut Harness<PacketDump>) -> Vec<Written> {
    harness.advance(ms(200));
    read(&harness.sunk().concat()).1
}

#[test]
fn headers_are_followed_and_packets_only_where_that_is_asked_for() {
    let bindings = |config| {
        let (harness, remote, local) = bound(config);
        (
            harness.binding(remote).unwrap(),
            harness.binding(local).unwrap(),
            harness.rtcp_reader(),
            harness.rtcp_writer(),
        )
    };
    let (headers, packets) = (Binding::FOLLOW.with_unbound(), Binding::observe_packets().with_unbound());
    let (observe, pass) = (RtcpAccess::Observe, RtcpAccess::Pass);
    assert_eq!(bindings("{}"), (headers, headers, observe, observe));
    assert_eq!(bindings(r#"{"payload": true}"#), (packets, packets, observe, observe));
    assert_eq!(bindings(r#"{"direction": "read"}"#), (headers, Binding::PASS, observe, pass));
    assert_eq!(bindings(r#"{"direction": "write"}"#), (Binding::PASS, headers, pass, observe));
    assert_eq!(bindings(r#"{"rtp": false}"#), (Binding::PASS, Binding::PASS, observe, observe));
    assert_eq!(bindings(r#"{"rtcp": false}"#), (headers, headers, pass, pass));
    assert_eq!(bindings(r#"{"ssrcs": [5]}"#), (Binding::PASS, Binding::PASS, observe, observe));
    let alone = Binding::FOLLOW;
    assert_eq!(bindings(r#"{"ssrcs": [5, 8738]}"#), (alone, alone, observe, observe), "a companion");
}

#[test]
fn packets_of_both_directions_are_written_with_their_times() {
    let (mut harness, remote, local) = bound("{}");
    harness.read(remote, packet(SSRC, 1, b"from the peer"));
    harness.advance(ms(3));
    harness.write(local, packet(SSRC, 7, b"to the peer"));
    harness.advance(Duration::from_nanos(1_000_001));
    harness.read_rtcp(&PLI);
    harness.write_rtcp(&PLI);
    assert_eq!(harness.sunk(), Vec::<Vec<u8>>::new(), "not yet");
    let packets = written(&mut harness);
    let found: Vec<_> = packets.iter().map(|packet| (packet.time, packet.inbound, packet.port, packet.size)).collect();
    let expected =
        [(0, true, 5004, 25), (3_000_000, false, 5004, 23), (4_000_001, true, 5005, 12), (4_000_001, false, 5005, 12)];
    assert_eq!(found, expected);
    assert_eq!(packets[0].bytes, packet(SSRC, 1, b""), "the header alone");
    assert_eq!(packets[2].bytes, PLI);
    assert_eq!((harness.counter("packets"), harness.counter("dropped")), (4, 0));
    assert_eq!(harness.next_timeout(), None);
}

#[test]
fn whole_packets_are_written_where_that_is_asked_for() {
    let (mut harness, remote, _) = bound(r#"{"payload": true}"#);
    harness.read(remote, packet(SSRC, 1, b"media"));
    assert_eq!(written(&mut harness)[0].bytes, packet(SSRC, 1, b"media"));
}

#[test]
fn what_came_back_is_marked() {
    let (mut harness, remote, _) = bound("{}");
    harness.read(remote, packet(SSRC, 1, b"media"));
    harness.read(remote, Feed::new(packet(SSRC, 2, b"media")).repaired());
    let comments: Vec<_> = written(&mut harness).into_iter().map(|packet| packet.comment).collect();
    assert_eq!(comments, ["", "repaired"]);
}

#[test]
fn packets_that_are_seen_in_another_order_keep_their_times() {
    let (mut harness, remote, local) = bound("{}");
    let begin = harness.now();
    harness.advance(ms(50));
    harness.read(remote, Feed::new(packet(SSRC, 1, b"media")).at(begin + ms(40)));
    harness.write(local, Feed::new(packet(SSRC, 1, b"media")).at(begin + ms(30)));
    let times: Vec<_> = written(&mut harness).into_iter().map(|packet| packet.time).collect();
    assert_eq!(times, [40_000_000, 30_000_000]);
}

#[test]
fn only_what_is_listed_is_written() {
    let (mut harness, remote, local) = bound(r#"{"ssrcs": [8738], "payload_types": [96]}"#);
    for ssrc in [SSRC, RTX] {
        harness.read(remote, packet(ssrc, 1, b"media"));
        let mut other = packet(ssrc, 2, b"media");
        other[1] = 97;
        harness.write(local, other);
    }
    let ssrcs: Vec<_> = written(&mut harness).iter().map(|packet| packet.bytes[8..12].to_vec()).collect();
    assert_eq!(ssrcs, [RTX.to_be_bytes()]);
}

#[test]
fn a_section_begins_once() {
    let (mut harness, remote, _) = bound("{}");
    let mut file = Vec::new();
    for number in 0..100 {
        harness.read(remote, packet(SSRC, number, b"media"));
        harness.advance(ms(20));
        file.extend(harness.sunk());
    }
    assert_eq!(file.len(), 10, "one write in 200 ms");
    let (sections, packets) = read(&file.concat());
    assert_eq!((sections, packets.len()), (1, 100));
}

#[test]
fn a_burst_is_written_before_its_time() {
    let (mut harness, remote, _) = bound(r#"{"payload": true}"#);
    for number in 0..100 {
        harness.read(remote, packet(SSRC, number, &[7; 1000]));
    }
    let writes = harness.sunk();
    assert!((3..=4).contains(&writes.len()) && writes.iter().all(|write| write.len() < 40_000), "{}", writes.len());
    harness.advance(ms(200));
    let (sections, packets) = read(&[writes, harness.sunk()].concat().concat());
    assert_eq!((sections, packets.len()), (1, 100));
}

#[test]
fn over_the_quota_a_little_waits_and_the_rest_is_dropped_and_nothing_is_torn() {
    let (mut harness, remote, _) = bound(r#"{"payload": true}"#);
    let mut file = Vec::new();
    // 12 MB in a second of which the host takes 8 MiB, and then another second with room.
    for number in 0..12_000u16 {
        harness.read(remote, packet(SSRC, number, &[7; 1000]));
        harness.advance(Duration::from_micros(80));
        file.extend(harness.sunk());
    }
    harness.advance(ms(2000));
    file.extend(harness.sunk());
    let (sections, packets) = read(&file.concat());
    let dropped = harness.counter("dropped");
    assert!((2000..4500).contains(&dropped), "{dropped}");
    assert_eq!((sections, packets.len() as u64), (1, 12_000 - dropped));
    assert_eq!(harness.counter("packets"), packets.len() as u64);
    let numbers: Vec<_> = packets.iter().map(|packet| u16::from_be_bytes([packet.bytes[2], packet.bytes[3]])).collect();
    assert!(numbers.is_sorted());
}

#[test]
fn without_a_sink_it_says_so_once_and_keeps_nothing() {
    let setup = Setup { sink: false, ..Setup::default() };
    let mut harness = Harness::<PacketDump>::with(setup, "{}").unwrap();
    let remote = harness.bind_remote_stream(&info()).unwrap();
    for number in 0..1000 {
        assert_eq!(harness.read(remote, packet(SSRC, number, b"media")).len(), 1, "media goes on");
        harness.advance(ms(10));
    }
    let logs = harness.logs();
    assert_eq!(logs, [(Level::Warn, "nothing is written: there is no sink at this place of the chain".to_owned())]);
    assert_eq!((harness.counter("dropped"), harness.next_timeout()), (1000, None));
}

#[test]
fn what_is_collected_at_the_end_is_written() {
    let (mut harness, remote, _) = bound("{}");
    harness.read(remote, packet(SSRC, 1, b"media"));
    harness.unbind_stream(remote);
    harness.close();
    let (sections, packets) = read(&harness.sunk().concat());
    assert_eq!((sections, packets.len()), (1, 1));
}

#[test]
fn wrong_options_are_named() {
    let refusal = |config: &str| match Harness::<PacketDump>::new(config).err() {
        Some(Refusal::Config(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal(r#"{"file": "dump"}"#).contains("unknown field `file`, expected one of `payload`"));
    assert!(refusal(r#"{"flush_ms": 9}"#).contains("flush_ms is 9; 10..=10000"));
    assert!(refusal(r#"{"direction": "in"}"#).contains("unknown variant `in`, expected one of `both`"));
    assert!(refusal(r#"{"payload_types": [128]}"#).contains("payload_types is 128; 0..=127"));
    let many = format!("{{\"ssrcs\": {:?}}}", vec![1; 129]);
    assert!(refusal(&many).contains("ssrcs has 129 entries; at most 128"));
}
