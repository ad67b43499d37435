//! The peer: tells when packets arrived, as Sandbar's own plugin `twcc-sender` does.

use sandbar_plugin_twcc_sender::TwccSender;
use sandbar_sdk::testing::{Feed, Harness, Setup};
use sandbar_sdk::{Instant, StreamId};

use crate::native::info;

/// One flow's peer.
pub struct Receiver {
    feedback: Harness<TwccSender>,
    stream: StreamId,
}

impl Receiver {
    /// A peer that gives feedback each 100 ms, the plugin's default, unless configured otherwise.
    ///
    /// # Panics
    /// If the configuration is wrong.
    pub fn new(config: &str) -> Self {
        let setup = Setup { start: Instant::ZERO, ..Setup::default() };
        let mut feedback = Harness::with(setup, config).unwrap_or_else(|refusal| panic!("{refusal}"));
        let stream = feedback.bind_remote_stream(&info()).unwrap_or_else(|refusal| panic!("{refusal}"));
        Receiver { feedback, stream }
    }

    /// A packet arrives.
    pub fn receive(&mut self, now: u64, packet: Vec<u8>) {
        self.feedback.advance_to(Instant::from_nanos(now));
        self.feedback.read(self.stream, Feed::new(packet));
    }

    /// When [`poll_feedback`](Self::poll_feedback) has something next.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.feedback.next_timeout().map(Instant::as_nanos)
    }

    /// The RTCP that is sent by now.
    pub fn poll_feedback(&mut self, now: u64) -> Vec<Vec<u8>> {
        self.feedback.advance_to(Instant::from_nanos(now));
        self.feedback.emitted_rtcp().into_iter().map(|packet| packet.bytes).collect()
    }
}
