//! What goes from a publisher to its subscribers and back.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sandbar::config::{Fec, Member, PluginEntry, PluginSource, Rtx, Stream, StreamOverride};
use sandbar::relay::{LegName, RelayEvent};
use sandbar_host::{Grants, Malformed};

use crate::support::*;

#[test]
fn every_subscriber_gets_every_packet_bit_by_bit_and_in_order() {
    let (publisher, one, two) = (Client::new(), Client::new(), Client::new());
    let subscribers = vec![("one", leg_to("", &one)), ("two", leg_to("observed", &two))];
    let chains: &[(&str, &[&str])] = &[("observed", &["noop", "packet-counter"])];
    let running = Running::start(config(vec![route(leg("observed"), vec![video()], subscribers)], chains));
    let to = running.publisher();
    for round in 0..20_u16 {
        let burst: Vec<_> = (0..25).map(|at| frame(0x1111, round * 25 + at)).collect();
        burst.iter().for_each(|packet| publisher.send(to, packet));
        for subscriber in [&one, &two] {
            for packet in &burst {
                assert_eq!(subscriber.media(), *packet);
            }
        }
    }
    let report = running.relay.shutdown().unwrap();
    let [publisher, one, _] = &report.routes[0].legs[..] else { panic!("{report:?}") };
    assert_eq!(publisher.streams[0].ssrc, Some(0x1111));
    assert_eq!((publisher.traffic.packets_received, one.traffic.packets_sent), (500, 500));
    assert_eq!(publisher.session.as_ref().unwrap().members[1].packets_in, 500);
}

#[test]
fn routes_are_spread_over_workers_and_do_not_mix() {
    let clients: Vec<_> = (0..4).map(|_| (Client::new(), Client::new())).collect();
    let routes = clients.iter().enumerate().map(|(index, (_, viewer))| {
        let mut route = route(leg(""), vec![video()], vec![("viewer", leg_to("", viewer))]);
        route.name = format!("route {index}");
        route
    });
    let mut config = config(routes.collect(), &[]);
    config.server.workers = Some(2);
    let running = Running::start(config);
    for (index, (publisher, _)) in clients.iter().enumerate() {
        let to = running.rtp(&sandbar::relay::LegName::publisher(format!("route {index}")));
        publisher.send(to, &frame(index as u32 + 1, 7));
    }
    for (index, (_, viewer)) in clients.iter().enumerate() {
        assert_eq!(viewer.media(), frame(index as u32 + 1, 7));
    }
    let report = running.relay.report().unwrap();
    let workers: Vec<_> = report.routes.iter().map(|route| route.worker).collect();
    assert_eq!(workers, [0, 1, 0, 1]);
}

#[test]
fn a_subscriber_gets_the_streams_that_it_asks_for() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let audio = Stream { name: "audio".into(), payload_type: 111, clock_rate: 48_000, ..Stream::default() };
    let mut route = route(leg(""), vec![video(), audio], vec![("viewer", leg_to("", &viewer))]);
    route.subscribers[0].streams = vec![StreamOverride { name: "audio".into(), ..StreamOverride::default() }];
    let running = Running::start(config(vec![route], &[]));
    publisher.send(running.publisher(), &frame(1, 1));
    publisher.send(running.publisher(), &rtp(2, 1, 111, b"opus"));
    assert_eq!(viewer.media(), rtp(2, 1, 111, b"opus"));
    viewer.has_nothing();
}

#[test]
fn requests_for_key_frames_reach_the_publisher_and_not_too_often() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let mut route = route(leg(""), vec![video()], vec![("viewer", leg_to("", &viewer))]);
    route.keyframe_interval = Duration::from_millis(300);
    let running = Running::start(config(vec![route], &[]));
    publisher.send(running.publisher(), &frame(0x1111, 1));
    viewer.media();
    let to = running.rtp(&subscriber("viewer"));
    let asked = Instant::now();
    for _ in 0..5 {
        viewer.send(to, &pli(9, 0x1111));
    }
    let (kind, sender, media) = publisher.rtcp(key_frame_request);
    assert_eq!((kind, media), ("pli", 0x1111));
    assert_ne!(sender, 9, "the relay asks in its own name");
    // Those that followed became one, at the end of the interval.
    assert_eq!(publisher.rtcp(key_frame_request), ("pli", sender, 0x1111));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    viewer.send(to, &fir(9, 0x1111, 1));
    assert_eq!(publisher.rtcp(key_frame_request), ("fir", sender, 0x1111));
    // A stream that is not there is nobody's.
    viewer.send(to, &pli(9, 0x2222));
    running.until(&subscriber("viewer"), |leg| leg.counts.key_frame_requests == 7);
    let report = running.relay.shutdown().unwrap();
    assert_eq!(report.routes[0].legs[0].counts.key_frame_requests, 3);
}

#[test]
fn a_publisher_is_asked_for_key_frames_as_it_understands_and_otherwise_not_at_all() {
    for (understands, expected) in [
        (vec![feedback("ccm", "fir")], Some("fir")),
        (vec![feedback("nack", "pli")], Some("pli")),
        (vec![feedback("nack", "")], None),
    ] {
        let (publisher, viewer) = (Client::new(), Client::new());
        let stream = Stream { rtcp_feedback: understands, ..video() };
        let mut route = route(leg(""), vec![stream], vec![("viewer", leg_to("", &viewer))]);
        route.keyframe_interval = Duration::ZERO;
        let running = Running::start(config(vec![route], &[]));
        publisher.send(running.publisher(), &frame(1, 1));
        viewer.media();
        viewer.send(running.rtp(&subscriber("viewer")), &pli(9, 1));
        running.until(&subscriber("viewer"), |leg| leg.counts.key_frame_requests == 1);
        match expected {
            Some(kind) => assert_eq!(publisher.rtcp(key_frame_request).0, kind),
            None => publisher.has_nothing(),
        }
    }
}

#[test]
fn a_lost_packet_is_sent_again_by_the_relay_and_the_publisher_hears_nothing_of_it() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let chains: &[(&str, &[&str])] = &[("egress", &["nack-responder"])];
    let mut route = route(leg(""), vec![video()], vec![("viewer", leg_to("egress", &viewer))]);
    let rtx = Rtx { ssrc: Some(0x9999), payload_type: RTX };
    route.subscribers[0].streams =
        vec![StreamOverride { name: "video".into(), rtx: Some(Some(rtx)), ..Default::default() }];
    let running = Running::start(config(vec![route], chains));
    for at in 0..10 {
        publisher.send(running.publisher(), &frame(0x1111, at));
        viewer.media();
    }
    viewer.send(running.rtp(&subscriber("viewer")), &nack(9, 0x1111, 4));
    let again = viewer.media();
    assert_eq!((word(&again, 8), again[1] & 0x7f), (0x9999, RTX));
    assert_eq!(again[12..14], [0, 4]);
    assert_eq!(again[14..], frame(0x1111, 4)[12..]);
    publisher.has_nothing();
}

#[test]
fn repair_packets_go_to_a_subscriber_with_the_ssrc_and_payload_type_that_were_negotiated_with_him() {
    const FEC: u8 = 115;
    let (publisher, viewer) = (Client::new(), Client::new());
    let chains: &[(&str, &[&str])] = &[("egress", &["flexfec-encoder"])];
    let mut route = route(leg(""), vec![video()], vec![("viewer", leg_to("egress", &viewer))]);
    let fec = Fec { ssrc: Some(0x8888), payload_type: FEC };
    route.subscribers[0].streams =
        vec![StreamOverride { name: "video".into(), fec: Some(Some(fec)), ..Default::default() }];
    let mut config = config(vec![route], chains);
    let source = PluginSource::Builtin("flexfec-encoder".into());
    config.plugins.insert("flexfec-encoder".into(), PluginEntry { source, grants: Grants::ALL });
    let running = Running::start(config);
    let packet = |at: u16| rtp(0x1111, at, VIDEO, &[at as u8; 100]);
    for at in 0..5 {
        publisher.send(running.publisher(), &packet(at));
        assert_eq!(viewer.media(), packet(at));
    }
    // A block of five has two repair packets.
    for _ in 0..2 {
        let repair = viewer.media();
        assert_eq!((word(&repair, 8), repair[1] & 0x7f), (0x8888, FEC));
    }
    viewer.has_nothing();
}

#[test]
fn a_packet_that_the_publisher_sends_again_takes_its_own_place_also_from_a_source_that_nobody_announced() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let chains: &[(&str, &[&str])] = &[("ingest", &["nack-generator"])];
    let running = Running::start(config(
        vec![route(leg("ingest"), vec![video()], vec![("viewer", leg_to("", &viewer))])],
        chains,
    ));
    for at in [1, 2, 4, 5] {
        publisher.send(running.publisher(), &frame(0x1111, at));
        assert_eq!(sequence(&viewer.media()), at);
    }
    let asked = publisher.rtcp(|packet| (packet[1] == 205 && packet[0] & 0x1f == 1).then(|| word(packet, 12) >> 16));
    assert_eq!(asked, 3);
    let original = frame(0x1111, 3);
    let payload = [&[0, 3], &original[12..]].concat();
    publisher.send(running.publisher(), &rtp(0x7777, 1, RTX, &payload));
    let got = viewer.media();
    assert_eq!((sequence(&got), word(&got, 8), got[1] & 0x7f), (3, 0x1111, VIDEO));
    assert_eq!(got[12..], original[12..]);
}

fn sender_report(ssrc: u32) -> Vec<u8> {
    let about_reception = [0x9999, 0, 0, 0, 0, 0];
    rtcp(1, 200, &[&[ssrc, 0xe000_0001, 0x8000_0000, 90_000, 10, 10_000][..], &about_reception].concat())
}

#[test]
fn sender_reports_go_to_subscribers_without_report_blocks_unless_their_chain_makes_its_own() {
    let (publisher, plain, reporting) = (Client::new(), Client::new(), Client::new());
    let chains: &[(&str, &[&str])] = &[("reports", &["report-sender"])];
    let subscribers = vec![("plain", leg_to("", &plain)), ("reporting", leg_to("reports", &reporting))];
    let running = Running::start(config(vec![route(leg(""), vec![video()], subscribers)], chains));
    publisher.send(running.publisher(), &frame(0x1111, 1));
    plain.media();
    reporting.media();
    let cname = [0x1111, 0x0103_6162, 0x6300_0000];
    publisher.send(running.publisher(), &[sender_report(0x1111), rtcp(1, 202, &cname)].concat());
    let report = plain.rtcp(|packet| (packet[1] == 200).then(|| packet.to_vec()));
    assert_eq!(report, rtcp(0, 200, &[0x1111, 0xe000_0001, 0x8000_0000, 90_000, 10, 10_000]));
    // The name goes on in any case; the report is the relay's own, as its count of packets tells.
    let name = reporting.rtcp(|packet| (packet[1] == 202 && word(packet, 4) == 0x1111).then(|| packet.to_vec()));
    assert_eq!(name, rtcp(1, 202, &cname));
    let packets = reporting.rtcp(|packet| (packet[1] == 200).then(|| word(packet, 20)));
    assert_eq!(packets, 1);
}

#[test]
fn a_bye_ends_the_stream_for_all_and_a_new_source_may_begin() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let running =
        Running::start(config(vec![route(leg(""), vec![video()], vec![("viewer", leg_to("", &viewer))])], &[]));
    let to = running.publisher();
    publisher.send(to, &frame(0x1111, 1));
    viewer.media();
    // As long as it is there, its payload type is taken.
    publisher.send(to, &frame(0x2222, 1));
    publisher.send(to, &rtcp(1, 203, &[0x1111]));
    assert_eq!(viewer.rtcp(bye), 0x1111);
    // A straggler does not bring it back.
    publisher.send(to, &frame(0x1111, 2));
    publisher.send(to, &frame(0x3333, 1));
    assert_eq!(viewer.media(), frame(0x3333, 1));
    running.until(&self::publisher(), |leg| leg.counts.unknown_ssrc_packets == 2);
}

#[test]
fn what_is_malformed_is_counted_and_goes_on_where_the_leg_lets_it() {
    for policy in [Malformed::Drop, Malformed::Forward] {
        let (publisher, viewer) = (Client::new(), Client::new());
        let mut route = route(leg(""), vec![video()], vec![("viewer", leg_to("", &viewer))]);
        route.publisher.leg.malformed = policy;
        route.subscribers[0].leg.malformed = policy;
        let running = Running::start(config(vec![route], &[]));
        let to = running.publisher();
        publisher.send(to, &frame(1, 1));
        assert_eq!(viewer.receive(), frame(1, 1));
        let wrong: [&[u8]; 4] = [b"hello", &[0x80], &[0x80, 200, 0xff, 0xff, 0, 0, 0, 1], &frame(1, 2)[..11]];
        wrong.iter().for_each(|bytes| publisher.send(to, bytes));
        publisher.send(to, &[]);
        publisher.send(to, &frame(1, 3));
        if policy == Malformed::Forward {
            wrong.iter().for_each(|bytes| assert_eq!(viewer.receive(), *bytes));
        }
        assert_eq!(viewer.receive(), frame(1, 3));
        let report = running.relay.report().unwrap();
        let session = report.leg(&self::publisher()).unwrap().session.clone().unwrap();
        assert_eq!(session.counts.malformed, 4);
        assert!(running.relay.is_running());
    }
}

#[test]
fn chains_change_under_traffic_without_a_gap() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let running =
        Running::start(config(vec![route(leg(""), vec![video()], vec![("viewer", leg_to("", &viewer))])], &[]));
    let load = |name| {
        let plugin = running.relay.load(component(name), &Default::default()).unwrap();
        sandbar_host::MemberSpec::new(plugin)
    };
    let (counter, responder) = (load("packet-counter"), load("nack-responder"));
    let mut next = 0;
    let mut some = || {
        for at in next..next + 50 {
            publisher.send(running.publisher(), &frame(1, at));
            assert_eq!(sequence(&viewer.media()), at);
        }
        next += 50;
    };
    some();
    let viewers = subscriber("viewer");
    running.relay.insert(&viewers, 0, responder).unwrap();
    running.relay.insert(&self::publisher(), 0, counter.clone()).unwrap();
    some();
    running.relay.replace(&self::publisher(), 0, counter.clone()).unwrap();
    some();
    let report = running.relay.report().unwrap();
    let members = |leg: &LegName| report.leg(leg).unwrap().session.clone().unwrap().members;
    assert_eq!(members(&self::publisher())[0].packets_in, 100);
    assert_eq!(members(&viewers)[0].plugin, "nack-responder");
    running.relay.remove(&viewers, 0).unwrap();
    some();
    // What is refused changes nothing.
    let wrong = load("report-receiver").with_config(r#"{"no_such_key":1}"#);
    let error = running.relay.insert(&viewers, 0, wrong).unwrap_err().to_string();
    assert!(error.starts_with("leg camera/viewer: the plugin report-receiver refuses its configuration"), "{error}");
    let error = running.relay.remove(&viewers, 0).unwrap_err().to_string();
    assert_eq!(error, "the chain of leg camera/viewer has 0 members; there is no place 0");
    let error = running.relay.insert(&subscriber("nobody"), 0, counter).unwrap_err().to_string();
    assert_eq!(error, "there is no leg camera/nobody; there are camera/publisher, camera/viewer");
    some();
}

#[test]
fn members_are_replaced_while_packets_fly_and_none_is_lost_doubled_or_overtaken() {
    const PACKETS: u16 = 4000;
    const WINDOW: u16 = 50;
    let (publisher, viewer) = (Client::new(), Client::new());
    let subscribers = vec![("viewer", leg_to("chain", &viewer))];
    let chains: &[(&str, &[&str])] = &[("chain", &["packet-counter", "nack-responder", "report-sender"])];
    let running = Running::start(config(vec![route(leg("chain"), vec![video()], subscribers)], chains));
    let load = |name| sandbar_host::MemberSpec::new(running.relay.load(component(name), &Default::default()).unwrap());
    let members = [load("packet-counter"), load("nack-responder"), load("report-sender")];
    let to = running.publisher();
    let got = AtomicU16::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..PACKETS {
                // No more than the sockets' buffers hold: what the kernel drops proves nothing.
                while at - got.load(Ordering::Acquire) >= WINDOW {
                    std::thread::yield_now();
                }
                publisher.send(to, &frame(1, at));
            }
        });
        let receiver = scope.spawn(|| {
            for at in 0..PACKETS {
                assert_eq!(viewer.media(), frame(1, at));
                got.store(at + 1, Ordering::Release);
            }
        });
        let mut swaps = 0;
        while !receiver.is_finished() {
            let (leg, index) = ([self::publisher(), subscriber("viewer")][swaps % 2].clone(), swaps % 3);
            running.relay.replace(&leg, index, members[index].clone()).unwrap();
            swaps += 1;
        }
        assert!(swaps > 10, "{swaps}");
    });
}

#[test]
fn noise_harms_nothing() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let all: Vec<&str> = sandbar_plugins::ALL.iter().map(|plugin| plugin.name).collect();
    let chains: &[(&str, &[&str])] = &[("all", &all)];
    let mut route = route(leg("all"), vec![video()], vec![("viewer", leg_to("all", &viewer))]);
    route.publisher.leg.malformed = Malformed::Forward;
    route.subscribers[0].leg.malformed = Malformed::Forward;
    let mut config = config(vec![route], chains);
    // Some of them read media.
    let granted = |name: &&str| {
        let source = PluginSource::Builtin((*name).to_owned());
        ((*name).to_owned(), PluginEntry { source, grants: Grants { wasi: false, ..Grants::ALL } })
    };
    config.plugins = all.iter().map(granted).collect();
    let running = Running::start(config);
    publisher.send(running.publisher(), &frame(1, 0));
    viewer.media();
    let viewers = running.rtp(&subscriber("viewer"));
    let valid = [frame(1, 1), nack(9, 1, 7), pli(9, 1), sender_report(1), rtcp(1, 202, &[1, 0x0103_6162, 0x6300_0000])];
    // xorshift64: the same noise each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..6000 {
        let mut bytes = valid[random(valid.len())].clone();
        for _ in 0..random(4) {
            let at = random(bytes.len().min(40));
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(1 + random(bytes.len()));
        let (from, to) = if round % 2 == 0 { (&publisher, running.publisher()) } else { (&viewer, viewers) };
        from.send(to, &bytes);
        if round % 100 == 0 {
            assert!(running.relay.is_running());
        }
    }
    // Most of it was not lost on its way: the kernel's buffers hold a good part.
    for leg in [self::publisher(), subscriber("viewer")] {
        running.until(&leg, |leg| leg.traffic.packets_received > 500);
    }
    let report = running.relay.shutdown().unwrap();
    for member in report.routes[0].legs.iter().flat_map(|leg| &leg.session.as_ref().unwrap().members) {
        assert_eq!(member.faults.total(), 0, "{member:?}");
    }
}

#[test]
fn a_stream_that_a_chain_refuses_is_told_and_the_others_flow() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let mut config = config(vec![route(leg("ingest"), vec![video()], vec![("viewer", leg_to("", &viewer))])], &[]);
    config.chains.insert("ingest".into(), vec![Member::with_config("packet-counter", "{}")]);
    let running = Running::start(config);
    publisher.send(running.publisher(), &frame(5, 1));
    let bound = running.event(|event| match event {
        RelayEvent::Stream { leg, stream, ssrc } => Some((leg.to_string(), stream.clone(), *ssrc)),
        _ => None,
    });
    assert_eq!(bound, ("camera/publisher".to_owned(), "video".to_owned(), 5));
    assert_eq!(viewer.media(), frame(5, 1));
}

#[test]
fn a_shutdown_says_goodbye_on_all_legs() {
    let (publisher, viewer) = (Client::new(), Client::new());
    let mut route = route(leg(""), vec![video()], vec![("viewer", leg_to("", &viewer))]);
    route.keyframe_interval = Duration::ZERO;
    let running = Running::start(config(vec![route], &[]));
    publisher.send(running.publisher(), &frame(0x1111, 1));
    viewer.media();
    viewer.send(running.rtp(&subscriber("viewer")), &pli(9, 0x1111));
    let (_, relay, _) = publisher.rtcp(key_frame_request);
    running.relay.shutdown().unwrap();
    assert_eq!(viewer.rtcp(bye), 0x1111);
    assert_eq!(publisher.rtcp(bye), relay);
}
