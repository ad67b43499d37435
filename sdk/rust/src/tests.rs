//! The two lanes of one instance, against each other and against bytes that make no sense.

use crate::context::{Context, Payload};
use crate::frame::{HEAD, kind};
use crate::instance::{Direction, Instance};
use crate::packet::Facts;
use crate::testing::{Feed, Harness, Setup, packet};
use crate::{
    Attribute, Binding, Header, Instant, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, SessionId,
    SessionInfo, StreamId, StreamInfo, Value,
};

/// Does to a packet what its payload type says.
struct Puppet;

const FORWARD: u8 = 0;
const CHANGE: u8 = 1;
const GROW: u8 = 2;
const REPLACE: u8 = 3;
const EMPTY: u8 = 4;
const DROP: u8 = 5;
const TWICE: u8 = 6;

impl Interceptor for Puppet {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        if config == "no" { Err(Refusal::config("no")) } else { Ok(Puppet) }
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Transform)
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        match info.id.as_str() {
            "headers" => Ok(Binding::transform_headers()),
            "packets" => Ok(Binding::transform_packets()),
            "watch" => Ok(Binding::observe_packets()),
            other => Err(Refusal::unsupported(other)),
        }
    }

    fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        match packet.header().payload_type() {
            CHANGE => packet.header_mut().set_sequence_number(99),
            GROW => packet.header_mut().set_extension(1, &[1, 2, 3]).unwrap(),
            REPLACE => return Outcome::Replace(packet.bytes().to_vec()),
            EMPTY => return Outcome::Replace(Vec::new()),
            DROP => return Outcome::Drop,
            TWICE => return Outcome::Packets(vec![packet.bytes().to_vec(); 2]),
            _ => {}
        }
        Outcome::Forward
    }

    fn read_rtcp(&mut self, _: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        match packet.parts().next().map_or(FORWARD, |part| part.count) {
            CHANGE => packet.bytes_mut()[4] = 0xFF,
            REPLACE => return Outcome::Replace(packet.bytes().to_vec()),
            EMPTY => return Outcome::Packets(Vec::new()),
            DROP => return Outcome::Drop,
            TWICE => return Outcome::Packets(vec![packet.bytes().to_vec(); 2]),
            _ => {}
        }
        Outcome::Forward
    }
}

crate::export!(Puppet);

fn stream(id: &str) -> StreamInfo {
    StreamInfo { id: id.to_owned(), ssrc: 7, ..StreamInfo::default() }
}

fn of_type(payload_type: u8) -> Vec<u8> {
    let mut bytes = packet(7, 5, b"media");
    bytes[1] = payload_type;
    bytes
}

fn facts(packet: u32) -> Facts {
    Facts { packet, time: Instant::ZERO, size: 17, padding: 0, repaired: false, attributes: false }
}

fn session(id: u32) -> SessionInfo {
    SessionInfo { id: SessionId::new(id), mtu: 1200, cname: String::new(), rtcp_ssrc: 0 }
}

#[test]
fn each_outcome_reaches_the_host() {
    for view in ["headers", "packets"] {
        let mut harness = Harness::<Puppet>::new("").unwrap();
        let id = harness.bind_remote_stream(&stream(view)).unwrap();
        let mut read = |what| harness.read(id, of_type(what)).pop().map(|packet| packet.bytes);
        assert_eq!(read(FORWARD), Some(of_type(FORWARD)));
        assert_eq!(read(REPLACE), Some(of_type(REPLACE)));
        assert_eq!((read(DROP), read(EMPTY)), (None, None));
        let changed = read(CHANGE).unwrap();
        assert_eq!(Header::parse(&changed).unwrap().sequence_number(), 99);
        assert!(changed.ends_with(b"media"));
        let grown = read(GROW).unwrap();
        assert_eq!(Header::parse(&grown).unwrap().extension(1), Some(&[1, 2, 3][..]));
        assert!(grown.ends_with(b"media") && grown.len() == 12 + 8 + 5);
        assert_eq!(read(TWICE), None);
        assert_eq!(harness.emitted_rtp().len(), 2);
    }
}

#[test]
fn an_observer_cannot_change_or_stop_a_packet() {
    let mut harness = Harness::<Puppet>::new("").unwrap();
    let id = harness.bind_remote_stream(&stream("watch")).unwrap();
    for what in [FORWARD, CHANGE, GROW, REPLACE, EMPTY, DROP, TWICE] {
        let on: Vec<_> = harness.read(id, of_type(what)).into_iter().map(|packet| packet.bytes).collect();
        assert_eq!(on, [of_type(what)]);
    }
}

/// Writes as many bytes as it is asked to.
struct Writer;

impl Interceptor for Writer {
    fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
        Ok(Writer)
    }

    fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
        let sizes = request.split(' ').map(|size| size.parse().unwrap());
        let results = sizes.map(|size: usize| format!("{:?}", cx.write_sink(&vec![7; size])));
        Ok(results.collect::<Vec<_>>().join(" "))
    }
}

crate::export!(Writer);

#[test]
fn what_is_written_is_bounded_by_call_and_by_second() {
    const MIB: usize = 1 << 20;
    let mut harness = Harness::<Writer>::new("").unwrap();
    assert_eq!(harness.control(&format!("{} 500 1", MIB - 500)).unwrap(), "Ok(()) Ok(()) Err(Quota)");
    for _ in 0..7 {
        assert_eq!(harness.control(&MIB.to_string()).unwrap(), "Ok(())");
    }
    assert_eq!(harness.control("0").unwrap(), "Err(Quota)");
    harness.advance(std::time::Duration::from_secs(1));
    assert_eq!(harness.control("3").unwrap(), "Ok(())");
    let sizes: Vec<_> = harness.sunk().iter().map(Vec::len).collect();
    assert_eq!(sizes, [&[MIB - 500, 500][..], &[MIB; 7], &[3]].concat());
    let mut without = Harness::<Writer>::with(Setup { sink: false, ..Setup::default() }, "").unwrap();
    assert_eq!(without.control("1").unwrap(), "Err(Denied)");
}

#[test]
fn outcomes_of_rtcp_are_whole_compounds() {
    let mut harness = Harness::<Puppet>::new("").unwrap();
    let of_count = |count: u8| vec![0x80 | count, 201, 0, 1, 0, 0, 0, 1];
    let mut read = |count| harness.read_rtcp(of_count(count)).pop().map(|packet| packet.bytes);
    assert_eq!(read(FORWARD), Some(of_count(FORWARD)));
    assert_eq!(read(REPLACE), Some(of_count(REPLACE)));
    assert_eq!(read(CHANGE).map(|bytes| bytes[4]), Some(0xFF));
    assert_eq!(read(TWICE), Some(of_count(TWICE).repeat(2)));
    assert_eq!((read(DROP), read(EMPTY)), (None, None));
}

#[test]
fn both_lanes_give_the_same_outcomes() {
    for view in ["headers", "packets"] {
        let mut harness = Harness::<Puppet>::new("").unwrap();
        let id = harness.bind_remote_stream(&stream(view)).unwrap();
        let mut typed = Instance::<Puppet>::new();
        typed.create(session(1), "", None).unwrap();
        typed.bind_stream(1, Direction::Read, id, &stream(view)).unwrap();
        for what in [FORWARD, CHANGE, GROW, REPLACE, EMPTY, DROP] {
            let whole = of_type(what);
            let mut shown = if view == "headers" { whole[..12].to_vec() } else { whole.clone() };
            let payload = &whole[shown.len()..];
            let by_type = match typed.rtp(1, Direction::Read, id, facts(0), &mut shown) {
                Outcome::Forward => Some(whole.clone()),
                Outcome::Replace(bytes) => Some([&bytes, payload].concat()),
                Outcome::Drop => None,
                Outcome::Packets(_) => unreachable!(),
            };
            assert_eq!(harness.read(id, whole).pop().map(|packet| packet.bytes), by_type, "{view} {what}");
        }
        assert!(
            matches!(typed.rtp(1, Direction::Read, id, facts(0), &mut of_type(TWICE)), Outcome::Packets(two) if two.len() == 2)
        );
        assert_eq!(typed.rtp(1, Direction::Read, id, facts(0), &mut [0; 40]), Outcome::Forward, "what is not RTP");
        assert_eq!(typed.rtp(9, Direction::Read, id, facts(0), &mut of_type(DROP)), Outcome::Forward, "no session");
        let twice = typed.rtcp(1, Direction::Read, facts(0), &mut [0x80 | TWICE, 201, 0, 0]);
        assert_eq!(twice, Outcome::Replace([0x80 | TWICE, 201, 0, 0].repeat(2)));
        typed.timeout(1, Some(id));
    }
}

#[test]
fn what_is_forwarded_before_an_emission_stays_before_it() {
    let mut harness = Harness::<Puppet>::new("").unwrap();
    let id = harness.bind_remote_stream(&stream("packets")).unwrap();
    let burst = [FORWARD, TWICE, FORWARD].map(|what| (id, Feed::new(of_type(what))));
    let on = harness.read_burst(burst);
    let emitted = harness.emitted_rtp();
    let order: Vec<u64> = [&on[0], &emitted[0], &emitted[1], &on[1]].map(|packet| packet.order).to_vec();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn each_frame_of_a_batch_is_its_own_streams_or_sessions() {
    /// What it was shown, in order: kind of frame, handle, sequence number.
    struct Shown(Vec<(u8, u32, u16)>);
    impl Interceptor for Shown {
        fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
            Ok(Shown(Vec::new()))
        }
        fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
            Ok(if info.id == "packets" { Binding::observe_packets() } else { Binding::FOLLOW })
        }
        fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
            Ok(Binding::FOLLOW)
        }
        fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
            let header = packet.header();
            assert_eq!((header.len(), packet.payload().is_some()), (12, packet.stream().number() == 2));
            self.0.push((kind::READ_RTP, packet.stream().number(), header.sequence_number()));
            Outcome::Forward
        }
        fn write_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
            self.0.push((kind::WRITE_RTP, packet.stream().number(), packet.header().sequence_number()));
            Outcome::Forward
        }
        fn handle_timeout(&mut self, cx: &mut Context, stream: Option<StreamId>) {
            let kind = if stream.is_some() { kind::STREAM_TIMER } else { kind::SESSION_TIMER };
            self.0.push((kind, stream.map_or(cx.session().id.number(), |stream| stream.number()), 0));
        }
    }

    crate::export!(Shown);
    let mut instance = Instance::<Shown>::new();
    instance.create(session(1), "", None).unwrap();
    for (id, info) in [(1, "headers"), (2, "packets")] {
        instance.bind_stream(1, Direction::Read, StreamId::new(id), &stream(info)).unwrap();
    }
    instance.bind_stream(1, Direction::Write, StreamId::new(3), &stream("headers")).unwrap();
    let (read, write, timer) = (kind::READ_RTP, kind::WRITE_RTP, kind::SESSION_TIMER);
    let order = [(read, 1), (read, 1), (read, 2), (read, 1), (write, 3), (write, 3), (timer, 1), (read, 1), (timer, 1)];
    let order = order.into_iter().chain([(kind::STREAM_TIMER, 1), (read, 2), (read, 2), (write, 3), (read, 1)]);
    let told: Vec<(u8, u32, u16)> =
        order.zip(1..).map(|((kind, id), n)| (kind, id, if kind < 2 { n } else { 0 })).collect();
    let mut frames = Vec::new();
    for (kind, handle, number) in &told {
        let included = if *kind < 2 { 12 } else { 0 };
        let mut frame = [0; HEAD + 12];
        (frame[0], frame[2]) = (*kind, included as u8);
        frame[4..8].copy_from_slice(&handle.to_le_bytes());
        frame[HEAD] = 0x80;
        frame[HEAD + 2..HEAD + 4].copy_from_slice(&number.to_be_bytes());
        frames.extend_from_slice(&frame[..HEAD + included]);
    }
    instance.process::<false>(&mut frames);
    assert_eq!(instance.call(1, |shown, _| std::mem::take(&mut shown.0)), Some(told));
}

#[test]
fn sessions_are_kept_apart_and_their_slots_are_used_again() {
    /// Knows the session that it was made for.
    struct Named(u32);
    impl Interceptor for Named {
        fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
            if config == "no" { Err(Refusal::config("no")) } else { Ok(Named(cx.session().id.number())) }
        }
        fn control(&mut self, cx: &mut Context, _: &str) -> Result<String, Refusal> {
            Ok(format!("{} {}", self.0, cx.session().id.number()))
        }
    }

    crate::export!(Named);
    let mut instance = Instance::<Named>::new();
    let ask = |instance: &mut Instance<Named>, id| {
        instance.call(id, |named, cx| named.control(cx, "").unwrap()).unwrap_or_default()
    };
    for id in 1..=50 {
        instance.create(session(id), "", None).unwrap();
    }
    for id in (1..=50).step_by(3) {
        instance.remove(id);
    }
    assert_eq!(instance.create(session(51), "no", None), Err(Refusal::config("no")));
    for id in 52..=90 {
        instance.create(session(id), "", None).unwrap();
    }
    for id in 1..=90 {
        let there = id != 51 && (id > 51 || id % 3 != 1);
        let said = if there { format!("{id} {id}") } else { String::new() };
        assert_eq!(ask(&mut instance, id), said);
    }
}

#[test]
fn a_session_that_ends_takes_its_streams_with_it() {
    let mut instance = Instance::<Puppet>::new();
    for id in 1..=2 {
        instance.create(session(id), "", None).unwrap();
        instance.bind_stream(id, Direction::Read, StreamId::new(id), &stream("headers")).unwrap();
    }
    instance.remove(1);
    assert!(instance.streams.get(1).is_none() && instance.streams.get(2).is_some());
    instance.unbind_stream(2, Direction::Read, StreamId::new(2));
    assert!(instance.streams.get(2).is_none());
}

#[test]
fn a_refused_stream_is_not_bound() {
    let mut harness = Harness::<Puppet>::new("").unwrap();
    assert_eq!(harness.bind_remote_stream(&stream("other")), Err(Refusal::unsupported("other")));
    assert_eq!(Harness::<Puppet>::new("no").err(), Some(Refusal::config("no")));
}

#[test]
fn no_frames_make_an_instance_panic() {
    let mut instance = Instance::<Puppet>::new();
    instance.create(session(1), "", None).unwrap();
    for (id, view) in [(1, "watch"), (2, "watch")] {
        instance.bind_stream(1, Direction::Read, StreamId::new(id), &stream(view)).unwrap();
    }
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..20_000 {
        let mut frames: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
        // Make some of them make sense up to a point. There is no host to hand anything on to: nothing is bound with
        // `transform`.
        if frames.len() > HEAD {
            frames[0] =
                [kind::READ_RTP, kind::WRITE_RTCP, kind::SESSION_TIMER, kind::STREAM_TIMER, 9][random() as usize % 5];
            frames[2..8].copy_from_slice(&[random() as u8 % 64, 0, random() as u8 % 4, 0, 0, 0]);
            frames[HEAD] = 0x80 | frames[HEAD] & 0x3F;
        }
        instance.process::<true>(&mut frames);
    }
}

#[test]
fn attributes_ride_with_a_packet() {
    /// Adds one to `n`.
    struct Increment;
    impl Interceptor for Increment {
        fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
            Ok(Increment)
        }
        fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
            Ok(Binding::transform_headers())
        }
        fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
            let Some(Value::Integer(n)) = packet.attribute("n").or(Some(Value::Integer(0))) else {
                return Outcome::Drop;
            };
            packet.set_attribute("n", n + 1).unwrap();
            assert_eq!(packet.attributes().len(), 1);
            assert_eq!(packet.set_attribute("sandbar.x", true), Err(crate::AttributeError::Denied));
            assert_eq!(packet.set_attribute("big", vec![0; 5000]), Err(crate::AttributeError::Quota));
            packet.remove_attribute("none").unwrap();
            Outcome::Forward
        }
    }

    crate::export!(Increment);
    let mut harness = Harness::<Increment>::new("").unwrap();
    let id = harness.bind_remote_stream(&stream("")).unwrap();
    let on = harness.read(id, packet(7, 1, b""));
    assert_eq!(on[0].attribute("n"), Some(&Value::Integer(1)));
    let on = harness.read(id, Feed::new(packet(7, 1, b"")).attribute("n", 41_i64));
    assert_eq!(on[0].attributes, [Attribute::new("n", 42_i64)]);
}

#[test]
fn the_host_refuses_what_it_may_not_send() {
    use crate::EmitError;
    /// Emits what a test asks for.
    struct Speaker(StreamId);
    impl Interceptor for Speaker {
        fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
            Ok(Speaker(StreamId::new(0)))
        }
        fn bind_local_stream(&mut self, _: &mut Context, id: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
            self.0 = id;
            let binding = if info.id == "watch" { Binding::observe_headers() } else { Binding::transform_headers() };
            Ok(binding.with_history(4))
        }
        fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
            let mut words = request.split(' ').map(|word| word.parse::<usize>().unwrap());
            let (ssrc, source, size) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let header = packet(ssrc as u32, 9, b"");
            let bytes = vec![0; size];
            let payload = match source {
                0 => Payload::Bytes(&bytes),
                kept => Payload::History { sequence_number: kept as u16, prefix: &bytes },
            };
            cx.emit_rtp(self.0, &header, payload, &[]).map_err(|error| Refusal::other(error.to_string()))?;
            Ok(String::new())
        }
    }

    crate::export!(Speaker);
    let info = StreamInfo { ssrc_retransmission: Some(8), ..stream("watch") };
    let mut harness = Harness::<Speaker>::new("").unwrap();
    let said =
        |harness: &mut Harness<Speaker>, request: &str| harness.control(request).err().map(|error| error.to_string());
    assert_eq!(said(&mut harness, "7 0 1"), Some(EmitError::Unknown.to_string()));
    let watched = harness.bind_local_stream(&info).unwrap();
    harness.write(watched, packet(7, 3, b"media"));
    assert_eq!(said(&mut harness, "7 0 1"), Some(EmitError::Denied.to_string()));
    assert_eq!(said(&mut harness, "9 0 1"), Some(EmitError::ForeignSsrc.to_string()));
    assert_eq!(said(&mut harness, "8 2 1"), Some(EmitError::NotInHistory.to_string()));
    assert_eq!(said(&mut harness, "8 0 1189"), Some(EmitError::TooLarge.to_string()));
    for allowed in ["8 3 2", "7 3 0", "8 0 1188"] {
        assert_eq!(said(&mut harness, allowed), None, "{allowed}");
    }
    assert_eq!(harness.emitted_rtp()[0].payload(), b"\0\0media");
    harness.bind_local_stream(&StreamInfo { id: "change".to_owned(), ..info }).unwrap();
    assert_eq!(said(&mut harness, "7 0 1"), None);
}

#[test]
fn a_ticker_runs_from_the_first_start_until_it_is_stopped() {
    use std::time::Duration;
    struct Ticks(crate::Ticker);
    impl Interceptor for Ticks {
        fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
            Ok(Self(crate::Ticker::new(Duration::from_micros(9_500))))
        }
        fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
            cx.count("ticks", 1);
        }
        fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
            match request {
                "start" => self.0.start(cx),
                "stop" => self.0.stop(cx),
                _ => cx.wake_after(Duration::from_millis(3)),
            }
            Ok(String::new())
        }
    }

    crate::export!(Ticks);
    let mut harness = Harness::<Ticks>::new("").unwrap();
    let mut after = |request: &str, millis| {
        harness.control(request).unwrap();
        harness.advance(Duration::from_millis(millis));
        (harness.counter("ticks"), harness.next_timeout().map(|at| at - harness.now()))
    };
    let left = |millis| Some(Duration::from_millis(millis));
    assert_eq!(after("start", 4), (0, left(6)), "in whole milliseconds");
    assert_eq!(after("start", 5), (0, left(1)), "that it is started again puts nothing off");
    assert_eq!(after("start", 21), (3, left(10)));
    assert_eq!(after("stop", 50), (3, None));
    assert_eq!(after("set otherwise", 1), (3, left(2)));
    assert_eq!(after("stop", 2), (4, None), "one that does not run leaves the timer alone");
    assert_eq!(after("start", 10), (5, left(10)));
}

#[test]
fn timers_come_in_order_each_at_its_millisecond() {
    use std::time::Duration;
    /// Publishes when it is woken, and by what.
    struct Sleeper(StreamId);
    impl Interceptor for Sleeper {
        fn create(cx: &mut Context, _: &str) -> Result<Self, Refusal> {
            cx.wake_after(Duration::from_micros(2_500));
            Ok(Sleeper(StreamId::new(0)))
        }
        fn bind_local_stream(&mut self, cx: &mut Context, id: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
            self.0 = id;
            cx.wake_stream_at(id, Some(cx.now() + Duration::from_millis(1)));
            Ok(Binding::PASS)
        }
        fn handle_timeout(&mut self, cx: &mut Context, stream: Option<StreamId>) {
            let name = stream.map_or("session", |_| "stream");
            cx.publish(name, &((cx.now() - Instant::from_millis(1_000_000)).as_millis()).to_string());
        }
        fn control(&mut self, cx: &mut Context, _: &str) -> Result<String, Refusal> {
            cx.wake_at(Some(cx.now()));
            cx.wake_stream_every(self.0, Duration::from_micros(3_500));
            Ok(String::new())
        }
    }

    crate::export!(Sleeper);
    let mut harness = Harness::<Sleeper>::new("").unwrap();
    let gone = harness.bind_local_stream(&stream("")).unwrap();
    harness.unbind_stream(gone);
    harness.bind_local_stream(&stream("")).unwrap();
    harness.advance(Duration::from_millis(10));
    let expected = [("stream", "1"), ("session", "3")].map(|(name, at)| (name.to_owned(), at.to_owned()));
    assert_eq!(harness.published(), expected);
    assert_eq!(harness.next_timeout(), None);
    harness.control("").unwrap();
    assert_eq!(harness.published(), [("session".to_owned(), "10".to_owned())], "a time that has come is due at once");
    harness.advance(Duration::from_millis(9));
    let ticks: Vec<_> = harness.published().into_iter().map(|(_, at)| at).collect();
    assert_eq!(ticks, ["14", "18"], "a ticker comes again, in whole milliseconds");
    assert_eq!(harness.next_timeout(), Some(Instant::from_millis(1_000_022)));
}

#[cfg(feature = "rtcp")]
#[test]
fn no_compound_makes_the_reader_of_rtcp_panic() {
    let mut seed = 0xD1B5_4A32_D192_ED03_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut read = 0;
    for _ in 0..200_000 {
        let words = random() as u8 % 12;
        let mut bytes: Vec<u8> = (0..usize::from(words) * 4 + 4).map(|_| random() as u8 & random() as u8).collect();
        let kind = [200, 201, 202, 203, 204, 205, 206, 207][random() as usize % 8];
        let count = [1, 4, 5, 11, 15, random() as u8][random() as usize % 6];
        bytes[..4].copy_from_slice(&[0x80 | count & 0x1F, kind, 0, words.wrapping_sub(random() as u8 % 8 / 7)]);
        read += usize::from(RtcpPacket::new(facts(0), &mut bytes).parse().is_ok());
    }
    assert!(read > 1000, "only {read} made sense");
}

#[test]
fn a_value_of_the_session_is_the_last_ones_to_set_it() {
    /// Tells and asks by control.
    struct Teller;

    impl Interceptor for Teller {
        fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
            Ok(Teller)
        }
        fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
            let done = match request.split_once('=') {
                Some((key, "")) => cx.remove_session_attribute(key),
                Some((key, value)) => cx.set_session_attribute(key, value),
                None => return Ok(format!("{:?}", cx.session_attribute(request))),
            };
            Ok(format!("{done:?}"))
        }
    }

    crate::export!(Teller);

    let mut harness = Harness::<Teller>::new("").unwrap();
    let ask = |harness: &mut Harness<Teller>, request: &str| harness.control(request).unwrap();
    assert_eq!(ask(&mut harness, "rate=1"), "Ok(())");
    assert_eq!(harness.session_attribute("rate"), Some(Value::Text("1".into())));
    harness.set_session_attribute("rate", Some(Value::Integer(2)));
    assert_eq!(ask(&mut harness, "rate="), "Ok(())");
    assert_eq!(ask(&mut harness, "rate"), "Some(Integer(2))");
    assert_eq!(ask(&mut harness, "sandbar.rate=1"), "Err(Denied)");
    assert_eq!(ask(&mut harness, &format!("big={}", "x".repeat(5000))), "Err(Quota)");
    assert_eq!(ask(&mut harness, "own=1"), "Ok(())");
    harness.close();
    assert_eq!(harness.session_attribute("own"), None);
    assert_eq!(harness.session_attribute("rate"), Some(Value::Integer(2)));
}

/// Would transform everything, and says that it has to do with what the peer sends.
struct OneWay;

impl Interceptor for OneWay {
    fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
        Ok(OneWay)
    }

    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        panic!("asked about RTCP from the peer")
    }

    fn bind_rtcp_writer(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        panic!("asked about RTCP to the peer")
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        panic!("asked about a stream that this side sends")
    }

    fn unbind_local_stream(&mut self, _: &mut Context, _: StreamId) {
        panic!("told of the end of a stream that this side sends")
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::transform_headers())
    }

    fn read_rtp(&mut self, _: &mut Context, _: &mut RtpPacket<'_>) -> Outcome {
        Outcome::Drop
    }
}

crate::export!(OneWay, binds = [remote_streams]);

#[test]
fn a_plugin_is_asked_about_what_it_says_and_nothing_else() {
    let mut harness = Harness::<OneWay>::new("{}").unwrap();
    assert_eq!((harness.rtcp_reader(), harness.rtcp_writer()), (RtcpAccess::Pass, RtcpAccess::Pass));
    let (remote, local) = (harness.bind_remote_stream(&stream("")), harness.bind_local_stream(&stream("")));
    let (remote, local) = (remote.unwrap(), local.unwrap());
    assert_eq!(harness.binding(remote), Some(Binding::transform_headers()));
    assert_eq!(harness.binding(local), Some(Binding::PASS));
    assert_eq!(harness.read(remote, packet(7, 1, b"")).len(), 0);
    assert_eq!(harness.write(local, packet(7, 1, b"")).len(), 1);
    let streams = harness.replace("{}").unwrap();
    assert_eq!(harness.write(streams[1], packet(7, 2, b"")).len(), 1);
    streams.into_iter().for_each(|stream| harness.unbind_stream(stream));
}

#[test]
fn a_session_that_ends_takes_its_own_streams_along_and_no_others() {
    let mut instance = Instance::<Puppet>::new();
    let known = |instance: &Instance<Puppet>| {
        (10..50).filter(|stream| instance.streams.get(*stream).is_some()).collect::<Vec<_>>()
    };
    for id in 1..=3 {
        instance.create(session(id), "", None).unwrap();
        for of in 0..2 {
            instance.bind_stream(id, Direction::Read, StreamId::new(10 * id + of), &stream("headers")).unwrap();
        }
    }
    instance.unbind_stream(2, Direction::Read, StreamId::new(20));
    instance.remove(2);
    assert_eq!(known(&instance), [10, 11, 30, 31]);
    // The next one has the place of the one that is gone, and nothing of its.
    instance.create(session(4), "", None).unwrap();
    instance.bind_stream(4, Direction::Read, StreamId::new(40), &stream("headers")).unwrap();
    instance.remove(1);
    assert_eq!(known(&instance), [30, 31, 40]);
    instance.remove(4);
    assert_eq!(known(&instance), [30, 31]);
}
