//! Any plugin, with any configuration, any state and any sequence of events.

use std::time::Duration;

use sandbar_sdk::testing::{Feed, Harness, Packet, Setup};
use sandbar_sdk::{Plugin, Refusal, RtcpFeedback, RtpHeaderExtension, StreamId, StreamInfo};

use crate::input::{Input, Seed};
use crate::valid::{self, LOCAL, REMOTE, check_rtcp, check_rtp, is_rtcp, is_rtp};

/// The most bytes of a packet of the sessions.
const MTU: u16 = 600;

/// What each plugin is put through.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    options: fn(&str),
    events: fn(&mut Input<'_>),
    state: fn(&[u8]),
    saved: fn() -> Option<Vec<u8>>,
}

macro_rules! plugins {
    ($($name:literal: $type:ty,)*) => {
        /// The standard plugins.
        pub(crate) const PLUGINS: &[Entry] = &[
            $(Entry {
                name: $name,
                options: create::<$type>,
                events: drive::<$type>,
                state: restore::<$type>,
                saved: saved::<$type>,
            },)*
        ];
    };
}

plugins! {
    "audio-level": sandbar_plugin_audio_level::AudioLevel,
    "flexfec-decoder": sandbar_plugin_flexfec_decoder::FlexfecDecoder,
    "flexfec-encoder": sandbar_plugin_flexfec_encoder::FlexfecEncoder,
    "gcc": sandbar_plugin_gcc::Gcc,
    "interval-pli": sandbar_plugin_interval_pli::IntervalPli,
    "jitter-buffer": sandbar_plugin_jitter_buffer::JitterBuffer,
    "nack-generator": sandbar_plugin_nack_generator::NackGenerator,
    "nack-responder": sandbar_plugin_nack_responder::NackResponder,
    "noop": sandbar_plugin_noop::Noop,
    "pacer": sandbar_plugin_pacer::Pacer,
    "packet-counter": sandbar_plugin_packet_counter::PacketCounter,
    "packet-dump": sandbar_plugin_packet_dump::PacketDump,
    "red-decoder": sandbar_plugin_red_decoder::RedDecoder,
    "red-encoder": sandbar_plugin_red_encoder::RedEncoder,
    "report-receiver": sandbar_plugin_report_receiver::ReportReceiver,
    "report-sender": sandbar_plugin_report_sender::ReportSender,
    "rfc8888": sandbar_plugin_rfc8888::Rfc8888,
    "rtpfb": sandbar_plugin_rtpfb::Rtpfb,
    "stats": sandbar_plugin_stats::Stats,
    "twcc-header-extension": sandbar_plugin_twcc_header_extension::TwccHeaderExtension,
    "twcc-sender": sandbar_plugin_twcc_sender::TwccSender,
}

/// A configuration, given to every plugin.
pub(crate) fn options(data: &[u8]) {
    let Ok(json) = std::str::from_utf8(data) else { return };
    PLUGINS.iter().for_each(|plugin| (plugin.options)(json));
}

pub(crate) fn options_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"interval_ms": 50, "silence_ms": 900, "threshold_dbov": -50, "mark": true}"#,
        r#"{"packets": 64, "extensions": "zeroed", "media_packets": 48, "repair_packets": 3}"#,
        r#"{"start_bitrate": 300000, "min_bitrate": 5000, "max_bitrate": 50000000, "probing": false}"#,
        r#"{"delay_ms": 120, "packets": 512, "min_interval_ms": 100}"#,
        r#"{"packets": 512, "interval_ms": 20, "reorder_ms": 5, "skip_last": 1, "max_tries": 10}"#,
        r#"{"max_age_ms": 1000, "duplicate_ms": 20, "budget_kbps": 500, "burst_ms": 100}"#,
        r#"{"bitrate": 1000000, "factor": 2.5, "interval_ms": 5, "queue_packets": 100, "queue_ms": 500}"#,
        r#"{"payload": true, "rtp": true, "rtcp": false, "direction": "read", "ssrcs": [1], "flush_ms": 9}"#,
        r#"{"redundancy": 3, "use_latest_packet": true, "max_bytes": 1200, "window_ms": 500, "history_ms": 2000}"#,
        r#"{"initial_sequence_number": 65535, "payload_types": [96, 111]}"#,
        r#"{"interval_ms": 1e400}"#,
    ]
    .map(|json| json.as_bytes().to_vec())
    .to_vec()
}

fn create<T: Plugin>(json: &str) {
    match Harness::<T>::new(json) {
        Ok(_) | Err(Refusal::Config(_)) => {}
        Err(refusal) => panic!("a configuration is refused as something else: {refusal:?}"),
    }
}

/// A plugin, and a state that another version may have left.
pub(crate) fn state(data: &[u8]) {
    let Some((which, state)) = data.split_first() else { return };
    (PLUGINS[usize::from(*which) % PLUGINS.len()].state)(state);
}

/// A plugin, a configuration, and what happens then.
pub(crate) fn events(data: &[u8]) {
    let mut input = Input::new(data);
    let which = usize::from(input.byte()) % PLUGINS.len();
    (PLUGINS[which].events)(&mut input);
}

/// What makes a stream: its SSRCs, and as which of the formats that plugins care for.
fn info(ssrcs: [u32; 3], format: u8) -> StreamInfo {
    let (mime_type, clock_rate, payload_type, fmtp) = match format % 3 {
        0 => ("video/VP8", 90_000, 96, ""),
        1 => ("audio/opus", 48_000, 111, ""),
        _ => ("audio/red", 48_000, 63, "111/111"),
    };
    let extension = |uri: &str, id| RtpHeaderExtension { uri: uri.into(), id };
    let feedback = |kind: &str, parameter: &str| RtcpFeedback { kind: kind.into(), parameter: parameter.into() };
    StreamInfo {
        id: "a stream".into(),
        ssrc: ssrcs[0],
        ssrc_retransmission: Some(ssrcs[1]),
        ssrc_forward_error_correction: Some(ssrcs[2]),
        payload_type,
        payload_type_retransmission: Some(97),
        payload_type_forward_error_correction: Some(118),
        rtp_header_extensions: vec![
            extension(RtpHeaderExtension::TRANSPORT_CC, 5),
            extension(sandbar_plugin_audio_level::URI, 6),
        ],
        mime_type: mime_type.into(),
        clock_rate,
        channels: 1,
        sdp_fmtp_line: fmtp.into(),
        rtcp_feedback: vec![
            feedback("nack", ""),
            feedback("nack", "pli"),
            feedback("ccm", "fir"),
            feedback("transport-cc", ""),
            feedback("ack", "ccfb"),
        ],
        ..StreamInfo::default()
    }
}

struct Session<T: Plugin> {
    harness: Harness<T>,
    config: String,
    format: u8,
    remote: StreamId,
    local: StreamId,
    /// Bytes of the largest packet so far: one that was held leaves as it came.
    largest: usize,
}

impl<T: Plugin> Session<T> {
    fn bind(mut harness: Harness<T>, config: String, format: u8) -> Option<Self> {
        let remote = harness.bind_remote_stream(&info(REMOTE, format)).ok()?;
        let local = harness.bind_local_stream(&info(LOCAL, format)).ok()?;
        Some(Self { harness, config, format, remote, local, largest: MTU.into() })
    }

    fn setup(start: sandbar_sdk::Instant) -> Setup {
        Setup { mtu: MTU, start, ..Setup::default() }
    }

    /// A packet of either direction; one that is not RTP the host shows nobody.
    fn rtp(&mut self, read: bool, which: u8, mut bytes: Vec<u8>) {
        let (stream, ssrcs) = if read { (self.remote, REMOTE) } else { (self.local, LOCAL) };
        if let Some(place) = bytes.get_mut(8..12) {
            place.copy_from_slice(&ssrcs[usize::from(which) % 3].to_be_bytes());
        }
        if !is_rtp(&bytes) {
            return;
        }
        self.largest = self.largest.max(bytes.len());
        let feed = Feed::new(&bytes[..]);
        let feed = if which & 0x40 == 0 { feed } else { feed.repaired() };
        let on = if read { self.harness.read(stream, feed) } else { self.harness.write(stream, feed) };
        // It may have grown by what is added to a header; the host takes that back where it does not fit.
        let most = bytes.len().max(usize::from(MTU)) + 32;
        self.check(on.iter(), most, &ssrcs);
    }

    #[track_caller]
    fn check<'p>(&mut self, on: impl Iterator<Item = &'p Packet>, most: usize, ssrcs: &[u32]) {
        for packet in on {
            check_rtp(&packet.bytes, most);
            assert!(ssrcs.contains(&packet.header().ssrc()), "a foreign SSRC");
        }
        for packet in self.harness.emitted_rtp() {
            check_rtp(&packet.bytes, self.largest);
        }
        for packet in self.harness.emitted_rtcp() {
            check_rtcp(&packet.bytes);
        }
        for (_, json) in self.harness.published() {
            assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "this is not JSON: {json}");
        }
        self.harness.logs();
        self.harness.sunk();
    }

    fn rtcp(&mut self, read: bool, feed: Feed) {
        if is_rtcp(&feed.bytes) {
            let on = if read { self.harness.read_rtcp(feed) } else { self.harness.write_rtcp(feed) };
            on.iter().for_each(|compound| check_rtcp(&compound.bytes));
        }
    }

    /// What it saves, another of its kind takes, and goes on with what is held.
    fn swap(&mut self) {
        if let Some(state) = self.harness.save()
            && let Err(refusal) = Harness::<T>::restored(Self::setup(self.harness.now()), &self.config, &state)
        {
            panic!("it does not take its own state: {refusal:?}, {}", state.escape_ascii());
        }
        self.check([].iter(), 0, &[]);
        match self.harness.replace(&self.config).as_deref() {
            Ok([remote, local]) => (self.remote, self.local) = (*remote, *local),
            other => panic!("its successor refuses the streams that it has: {other:?}"),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (what, which) = (input.byte(), input.byte());
        match what % 10 {
            0 | 1 => self.rtp(what.is_multiple_of(2), which, input.chunk().to_vec()),
            2 | 3 => {
                let payload_type = [96, 111, 63, 97, 118][usize::from(which >> 2) % 5];
                let (number, payload) = (input.word(), input.chunk());
                let mut bytes = valid::rtp(0, number, payload);
                bytes[1] = payload_type;
                self.rtp(what.is_multiple_of(2), which, bytes);
            }
            4 => self.rtcp(true, Feed::new(input.chunk())),
            5 => self.rtcp(false, Feed::new(input.chunk())),
            6 => self
                .rtcp(true, Feed::new(valid::rtcp(0, 201, &[0; 4])).attribute("rtpfb.report", input.chunk().to_vec())),
            7 => {
                let value = f64::from(input.long());
                let keys = ["gcc.target_bitrate", "gcc.probes", "rtpfb.unanswered_ms", "pacer.probe"];
                let value = if which & 1 == 0 { sandbar_sdk::Value::Float(value) } else { (value as i64).into() };
                self.harness.set_session_attribute(keys[usize::from(which >> 1) % 4], Some(value));
            }
            8 => match which {
                0..64 => self.swap(),
                64..128 => {
                    self.harness.unbind_stream(self.remote);
                    self.remote =
                        self.harness.bind_remote_stream(&info(REMOTE, self.format)).expect("it took it before");
                }
                _ => {
                    let request = String::from_utf8_lossy(input.chunk());
                    let _ = self.harness.control(&request);
                }
            },
            _ => self.harness.advance(Duration::from_micros(u64::from(which) * u64::from(which) * 10)),
        }
        self.check([].iter(), 0, &[]);
    }
}

fn drive<T: Plugin>(input: &mut Input<'_>) {
    let format = input.byte();
    let config = String::from_utf8_lossy(input.chunk()).into_owned();
    let setup = Session::<T>::setup(Setup::default().start);
    let Some(harness) = Harness::<T>::with(setup, &config).ok() else { return };
    let Some(mut session) = Session::bind(harness, config, format) else { return };
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        session.step(input);
    }
    session.harness.advance(Duration::from_secs(2));
    session.harness.close();
    session.check([].iter(), 0, &[]);
}

/// A few events of every kind.
fn some_events() -> Seed {
    let mut seed = Seed::default();
    for number in [1u16, 2, 4, 65_530, 5, 7, 3] {
        for read in [2, 3] {
            seed = seed.bytes([read, 4 * (number % 3) as u8]).bytes(number.to_be_bytes()).chunk(b"\x6fmedia");
        }
        seed = seed.bytes([9, 100]);
    }
    seed = seed.bytes([0, 0]).chunk(valid::ornate(7)).bytes([1, 1]).chunk(valid::ornate(17));
    // RED with a frame that is repeated; a retransmission; repair.
    seed = seed.bytes([2, 8]).bytes([0, 9]).chunk(b"\xef\x0f\x00\x02\x6fab-own");
    seed = seed.bytes([2, 13]).bytes([0, 9]).chunk(b"\x00\x06again");
    let repair = [0, 96, 0, 5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0xf0, 0, 1, 2, 3, 4, 5, 6];
    seed = seed.bytes([2, 18]).bytes([0, 9]).chunk(repair);
    for compound in valid::compounds() {
        seed = seed.bytes([4, 0]).chunk(&compound).bytes([5, 0]).chunk(compound);
    }
    let report = [&[1, 0, 2, 0][..], &[9; 16], &[5, 100, 2, 4, 4, 2, 6, 2]].concat();
    seed = seed.bytes([6, 0]).chunk(report).bytes([7, 0, 0, 1, 0, 0]).bytes([8, 0]).bytes([8, 64]);
    seed.bytes([8, 200]).chunk(r#"{"bitrate": 9}"#).bytes([9, 255, 9, 255])
}

pub(crate) fn events_seeds() -> Vec<Vec<u8>> {
    let of =
        |which: usize, format: u8| Seed::default().bytes([which as u8, format]).chunk("{}").bytes(some_events().0).0;
    (0..PLUGINS.len()).flat_map(|which| (0..3).map(move |format| (which, format))).map(|(w, f)| of(w, f)).collect()
}

fn restore<T: Plugin>(state: &[u8]) {
    let setup = Session::<T>::setup(Setup::default().start);
    let Ok(harness) = Harness::<T>::restored(setup, "{}", state) else { return };
    let Some(mut session) = Session::bind(harness, "{}".to_owned(), 0) else { return };
    for number in [1, 2, 5] {
        session.rtp(true, 0, valid::rtp(0, number, b"media"));
        session.rtp(false, 0, valid::rtp(0, number, b"media"));
    }
    valid::compounds().into_iter().for_each(|compound| session.rtcp(true, Feed::new(compound)));
    session.harness.advance(Duration::from_secs(2));
    session.swap();
    session.check([].iter(), 0, &[]);
}

/// What it saves after a few events.
fn saved<T: Plugin>() -> Option<Vec<u8>> {
    let harness = Harness::<T>::with(Session::<T>::setup(Setup::default().start), "{}").ok()?;
    let mut session = Session::bind(harness, "{}".to_owned(), 0)?;
    let Seed(events) = some_events();
    let mut input = Input::new(&events);
    while !input.is_empty() {
        session.step(&mut input);
    }
    session.harness.save()
}

pub(crate) fn state_seeds() -> Vec<Vec<u8>> {
    let state = |(which, plugin): (usize, &Entry)| Some([&[which as u8][..], &(plugin.saved)()?].concat());
    PLUGINS.iter().enumerate().filter_map(state).collect()
}
