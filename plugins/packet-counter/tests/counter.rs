//! The plugin natively, in virtual time.

use std::time::Duration;

use sandbar_plugin_packet_counter::PacketCounter;
use sandbar_sdk::testing::{Harness, packet};
use sandbar_sdk::{Binding, Plugin, StreamInfo, Wants};

#[test]
fn what_the_peer_sends_is_counted_and_told_once_per_second() {
    let mut harness = Harness::<PacketCounter>::new("{}").unwrap();
    let audio = harness.bind_remote_stream(&StreamInfo { ssrc: 1, ..StreamInfo::default() }).unwrap();
    let video = harness.bind_remote_stream(&StreamInfo { ssrc: 2, ..StreamInfo::default() }).unwrap();
    let own = harness.bind_local_stream(&StreamInfo { ssrc: 3, ..StreamInfo::default() }).unwrap();
    for number in 0..10 {
        assert_eq!(harness.read(audio, packet(1, number, b"opus")).len(), 1, "everything goes on");
        harness.read(video, packet(2, number, b"VP8"));
        harness.write(own, packet(3, number, b"VP8"));
    }
    harness.advance(Duration::from_millis(1999));
    harness.read(video, packet(2, 10, b"VP8"));
    harness.advance(Duration::from_millis(1));
    assert_eq!(harness.published(), ["20", "21"].map(|count| ("packets".to_owned(), count.to_owned())));
}

#[test]
fn it_sees_headers_only_and_wants_nothing() {
    let mut harness = Harness::<PacketCounter>::new("{}").unwrap();
    let video = harness.bind_remote_stream(&StreamInfo::default()).unwrap();
    assert_eq!(harness.binding(video), Some(Binding::FOLLOW));
    assert_eq!(PacketCounter::DESCRIPTION.wants, Wants::NONE);
    assert_eq!(PacketCounter::DESCRIPTION.name, "packet-counter");
}

#[test]
fn the_whole_plugin_is_twenty_lines() {
    let lines = include_str!("../src/lib.rs").lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    assert!(code.count() <= 20);
}
