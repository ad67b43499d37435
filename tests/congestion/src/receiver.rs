//! The peer: tells when packets arrived, as Sandbar's own plugins `twcc-sender` and `rfc8888` do.

use sandbar_plugin_rfc8888::Rfc8888;
use sandbar_plugin_twcc_sender::TwccSender;
use sandbar_sdk::testing::{Drive, Feed, Harness, Setup};
use sandbar_sdk::{Instant, Plugin, StreamId};

use crate::Feedback;
use crate::native::info;

/// One flow's peer.
pub struct Receiver {
    plugin: Box<dyn Member>,
    stream: StreamId,
}

/// A plugin and when it has to be woken.
trait Member: Drive {
    fn due(&self) -> Option<Instant>;
}

impl<T: Plugin> Member for Harness<T> {
    fn due(&self) -> Option<Instant> {
        self.next_timeout()
    }
}

impl Receiver {
    /// A peer that gives feedback each 100 ms, the plugins' default.
    ///
    /// # Panics
    /// If the plugin refuses.
    pub fn new(feedback: Feedback) -> Self {
        let setup = Setup { start: Instant::ZERO, ..Setup::default() };
        let made = match feedback {
            Feedback::TransportWide => {
                Harness::<TwccSender>::with(setup, "{}").map(|plugin| Box::new(plugin) as Box<dyn Member>)
            }
            Feedback::Rfc8888 => {
                Harness::<Rfc8888>::with(setup, "{}").map(|plugin| Box::new(plugin) as Box<dyn Member>)
            }
        };
        let mut plugin = made.unwrap_or_else(|refusal| panic!("{refusal}"));
        let stream = plugin.bind_remote_stream(&info(feedback)).unwrap_or_else(|refusal| panic!("{refusal}"));
        Receiver { plugin, stream }
    }

    /// A packet arrives.
    pub fn receive(&mut self, now: u64, packet: Vec<u8>) {
        self.plugin.advance_to(Instant::from_nanos(now));
        self.plugin.read(self.stream, Feed::new(packet));
    }

    /// When [`poll_feedback`](Self::poll_feedback) has something next.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.plugin.due().map(Instant::as_nanos)
    }

    /// The RTCP that is sent by now.
    pub fn poll_feedback(&mut self, now: u64) -> Vec<Vec<u8>> {
        self.plugin.advance_to(Instant::from_nanos(now));
        self.plugin.emitted_rtcp().into_iter().map(|packet| packet.bytes).collect()
    }
}
