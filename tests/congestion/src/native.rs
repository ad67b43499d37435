//! The chain of Sandbar's plugins, run natively: send history, numbering, estimator, pacer.

use std::collections::VecDeque;

use sandbar_plugin_gcc::{Gcc, PROBES, TARGET};
use sandbar_plugin_pacer::Pacer;
use sandbar_plugin_rtpfb::{Rtpfb, UNANSWERED};
use sandbar_plugin_twcc_header_extension::TwccHeaderExtension;
use sandbar_sdk::testing::{Feed, Harness, Packet, Setup};
use sandbar_sdk::{Instant, Plugin, RtcpFeedback, RtpHeaderExtension, StreamId, StreamInfo, Value};

use crate::{CLOCK_RATE, EXTENSION_ID, Feedback, PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, RTX_SSRC, SSRC, Sender, TRANSPORT_CC};

/// The stream of a flow, with its feedback negotiated.
pub fn info(feedback: Feedback) -> StreamInfo {
    let extension = RtpHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: EXTENSION_ID };
    let (extensions, kind, parameter) = match feedback {
        Feedback::TransportWide => (vec![extension], "transport-cc", ""),
        Feedback::Rfc8888 => (Vec::new(), "ack", "ccfb"),
    };
    StreamInfo {
        id: "video".to_owned(),
        ssrc: SSRC,
        ssrc_retransmission: Some(RTX_SSRC),
        payload_type: PAYLOAD_TYPE,
        payload_type_retransmission: Some(RTX_PAYLOAD_TYPE),
        rtp_header_extensions: extensions,
        mime_type: "video/VP8".to_owned(),
        clock_rate: CLOCK_RATE,
        rtcp_feedback: vec![RtcpFeedback { kind: kind.to_owned(), parameter: parameter.to_owned() }],
        ..StreamInfo::default()
    }
}

struct Member<T: Plugin> {
    harness: Harness<T>,
    stream: StreamId,
}

impl<T: Plugin> Member<T> {
    fn new(config: &str, start: u64, feedback: Feedback) -> Self {
        let setup = Setup { start: Instant::from_nanos(start), ..Setup::default() };
        let mut harness = Harness::with(setup, config).unwrap_or_else(|refusal| panic!("{refusal}"));
        let stream = harness.bind_local_stream(&info(feedback)).unwrap_or_else(|refusal| panic!("{refusal}"));
        Member { harness, stream }
    }

    fn write(&mut self, packets: Vec<Packet>) -> Vec<Packet> {
        let feed = packets.into_iter().map(|packet| (self.stream, feed(packet)));
        let mut on = self.harness.write_burst(feed);
        on.extend(self.harness.emitted_rtp());
        on.sort_by_key(|packet| packet.order);
        on
    }
}

fn feed(packet: Packet) -> Feed {
    Feed { attributes: packet.attributes, ..Feed::new(packet.bytes) }
}

/// The chain, from the wire.
pub struct Native {
    history: Member<Rtpfb>,
    numbering: Member<TwccHeaderExtension>,
    estimator: Member<Gcc>,
    pacer: Member<Pacer>,
    wire: VecDeque<Vec<u8>>,
    /// Documents that the estimator has published.
    pub published: Vec<(u64, String)>,
}

impl Native {
    /// A chain that begins at a time, with these configurations of the estimator and the pacer.
    ///
    /// # Panics
    /// If a configuration is wrong.
    pub fn new(start: u64, estimator: &str, pacer: &str) -> Self {
        Native::with(start, estimator, pacer, Feedback::TransportWide)
    }

    /// The same with another feedback.
    ///
    /// # Panics
    /// If a configuration is wrong.
    pub fn with(start: u64, estimator: &str, pacer: &str, feedback: Feedback) -> Self {
        let mut chain = Native {
            history: Member::new("{}", start, feedback),
            numbering: Member::new("{}", start, feedback),
            estimator: Member::new(estimator, start, feedback),
            pacer: Member::new(pacer, start, feedback),
            wire: VecDeque::new(),
            published: Vec::new(),
        };
        chain.share();
        chain
    }

    fn advance(&mut self, now: u64) {
        let now = Instant::from_nanos(now);
        self.history.harness.advance_to(now);
        self.numbering.harness.advance_to(now);
        self.estimator.harness.advance_to(now);
        self.pacer.harness.advance_to(now);
        self.share();
        let released = self.pacer.harness.emitted_rtp();
        self.send(released);
    }

    /// What a plugin sets for the session, the others find, as in a host.
    fn share(&mut self) {
        let unanswered = self.history.harness.session_attribute(UNANSWERED);
        self.estimator.harness.set_session_attribute(UNANSWERED, unanswered);
        for key in [TARGET, PROBES] {
            let value = self.estimator.harness.session_attribute(key);
            self.pacer.harness.set_session_attribute(key, value);
        }
        let now = self.estimator.harness.now().as_nanos();
        self.published.extend(self.estimator.harness.published().into_iter().map(|(_, json)| (now, json)));
    }

    /// What has left the pacer goes to the wire.
    fn send(&mut self, packets: Vec<Packet>) {
        if packets.is_empty() {
            return;
        }
        let numbered = self.numbering.write(packets);
        let sent = self.history.write(numbered);
        self.wire.extend(sent.into_iter().map(|packet| packet.bytes));
    }
}

impl Sender for Native {
    fn write(&mut self, now: u64, packets: Vec<Vec<u8>>) {
        self.advance(now);
        let stream = self.pacer.stream;
        let mut on = self.pacer.harness.write_burst(packets.into_iter().map(|bytes| (stream, Feed::new(bytes))));
        on.extend(self.pacer.harness.emitted_rtp());
        on.sort_by_key(|packet| packet.order);
        self.send(on);
    }

    fn feedback(&mut self, now: u64, compound: &[u8]) {
        self.advance(now);
        for packet in self.history.harness.read_rtcp(compound) {
            self.estimator.harness.read_rtcp(feed(packet));
        }
        self.share();
    }

    fn poll_timeout(&self) -> Option<u64> {
        let timeouts = [
            self.history.harness.next_timeout(),
            self.estimator.harness.next_timeout(),
            self.pacer.harness.next_timeout(),
        ];
        timeouts.into_iter().flatten().min().map(Instant::as_nanos)
    }

    fn handle_timeout(&mut self, now: u64) {
        self.advance(now);
    }

    fn poll_wire(&mut self) -> Option<Vec<u8>> {
        self.wire.pop_front()
    }

    fn target(&self) -> f64 {
        match self.estimator.harness.session_attribute(TARGET) {
            Some(Value::Integer(target)) => target as f64,
            _ => 0.0,
        }
    }
}
