//! Traps wherever its configuration says: an author's bug.

use sandbar_sdk::{
    Binding, Context, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtpPacket, StreamId, StreamInfo, config,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The method that traps.
    at: String,
    /// How often that method returns before it traps.
    after: u64,
    /// Overflows the stack instead of panicking.
    stack: bool,
    /// Observes instead of transforming.
    observe: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { at: "read-rtp".into(), after: 0, stack: false, observe: false }
    }
}

/// Traps wherever its configuration says.
pub struct Trap(Config);

impl Trap {
    fn reach(&mut self, place: &str) {
        if self.0.at != place {
            return;
        }
        if self.0.after > 0 {
            self.0.after -= 1;
        } else if self.0.stack {
            sink(&[0; 64]);
        } else {
            panic!("told to trap at {place}");
        }
    }

    fn binding(&mut self) -> Result<Binding, Refusal> {
        self.reach("bind");
        Ok(if self.0.observe { Binding::observe_headers() } else { Binding::transform_headers() })
    }
}

/// Recursion that no compiler turns into a loop.
#[allow(unconditional_recursion)]
fn sink(above: &[u8; 64]) -> u8 {
    let mut below = *above;
    below[0] = below[0].wrapping_add(1);
    std::hint::black_box(sink(std::hint::black_box(&below))) ^ below[1]
}

impl Interceptor for Trap {
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal> {
        let mut trap = Trap(config::parse(config)?);
        trap.reach("create");
        if trap.0.at == "timeout" {
            cx.wake_at(Some(cx.now()));
        }
        Ok(trap)
    }

    fn restore(cx: &mut Context, config: &str, _state: &[u8]) -> Result<Self, Refusal> {
        let mut trap = Self::create(cx, config)?;
        trap.reach("restore");
        Ok(trap)
    }

    fn save(&mut self, _cx: &mut Context) -> Option<Vec<u8>> {
        self.reach("save");
        Some(Vec::new())
    }

    fn bind_rtcp_reader(&mut self, _cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        self.reach("bind-rtcp");
        Ok(if self.0.observe { RtcpAccess::Observe } else { RtcpAccess::Transform })
    }

    fn bind_rtcp_writer(&mut self, _cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(if self.0.observe { RtcpAccess::Observe } else { RtcpAccess::Transform })
    }

    fn bind_local_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.binding()
    }

    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        self.binding()
    }

    fn unbind_local_stream(&mut self, _cx: &mut Context, _stream: StreamId) {
        self.reach("unbind");
    }

    fn unbind_remote_stream(&mut self, _cx: &mut Context, _stream: StreamId) {
        self.reach("unbind");
    }

    fn read_rtp(&mut self, _cx: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        self.reach("read-rtp");
        Outcome::Forward
    }

    fn write_rtp(&mut self, _cx: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        self.reach("write-rtp");
        Outcome::Forward
    }

    fn read_rtcp(&mut self, _cx: &mut Context, _packet: &mut RtcpPacket<'_>) -> Outcome {
        self.reach("read-rtcp");
        Outcome::Forward
    }

    fn write_rtcp(&mut self, _cx: &mut Context, _packet: &mut RtcpPacket<'_>) -> Outcome {
        self.reach("write-rtcp");
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _stream: Option<StreamId>) {
        self.reach("timeout");
        cx.wake_at(Some(cx.now()));
    }

    fn control(&mut self, _cx: &mut Context, request: &str) -> Result<String, Refusal> {
        self.reach("control");
        Ok(request.to_owned())
    }

    fn close(&mut self, _cx: &mut Context) {
        self.reach("close");
    }
}

sandbar_sdk::export!(Trap, place = Anywhere);
