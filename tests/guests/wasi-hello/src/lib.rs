//! A plugin as an author writes it who knows nothing of sandboxes: it prints, reads clocks, hashes with random keys, and
//! looks for files and the environment. Built for `wasm32-wasip2`, whose standard library turns all of that into calls of
//! WASI. With the grant it loads and its output is logged; what it looks for is not there.

#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ world: "interceptor", path: "../../../wit" });
}

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use bindings::exports::sandbar::interceptor::{description, member};
use bindings::sandbar::interceptor::types::{
    Access, Binding, Refusal, RtcpAccess, SessionInfo, StreamId, StreamInfo, View,
};
use member::{Outcome, RtcpPacket, RtpPacket};

/// The component's exports.
pub struct Guest;

/// One session's interceptor.
pub struct Hello {
    since: Instant,
    /// Packets by stream.
    packets: RefCell<HashMap<StreamId, u64>>,
}

const OBSERVE: Binding = Binding { access: Access::Observe(View::Headers), history: 0, unbound: false };

impl Hello {
    #[allow(clippy::print_stdout)]
    fn count(&self, stream: StreamId) -> Outcome {
        let mut packets = self.packets.borrow_mut();
        let count = packets.entry(stream).or_default();
        *count += 1;
        if count.is_multiple_of(100) {
            println!("{count} packets");
        }
        Outcome::Forward
    }

    fn authority(&self) -> String {
        let files = std::fs::read_dir("/").is_ok() || std::fs::File::open("/etc/passwd").is_ok();
        let environment = std::env::vars().count() > 0 || std::env::args().count() > 0;
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let elapsed = self.since.elapsed().as_nanos();
        format!(r#"{{"files":{files},"environment":{environment},"unix":{clock},"elapsed_ns":{elapsed}}}"#)
    }
}

impl member::GuestInterceptor for Hello {
    #[allow(clippy::print_stdout, clippy::print_stderr)]
    fn create(session: SessionInfo, config: String) -> Result<member::Interceptor, Refusal> {
        println!("Hello from session {} with {config}", session.id);
        eprintln!("and from standard error");
        Ok(member::Interceptor::new(Hello { since: Instant::now(), packets: RefCell::default() }))
    }

    fn restore(_: SessionInfo, _: String, _: Vec<u8>) -> Result<member::Interceptor, Refusal> {
        Err(Refusal::Unsupported("nothing is saved".into()))
    }

    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    fn bind_rtcp_reader(&self) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    fn bind_rtcp_writer(&self) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    fn bind_local_stream(&self, _: StreamId, _: StreamInfo) -> Result<Binding, Refusal> {
        Ok(OBSERVE)
    }

    fn bind_remote_stream(&self, _: StreamId, _: StreamInfo) -> Result<Binding, Refusal> {
        Ok(OBSERVE)
    }

    fn unbind_local_stream(&self, _: StreamId) {}

    fn unbind_remote_stream(&self, _: StreamId) {}

    fn read_rtp(&self, packet: RtpPacket) -> Outcome {
        self.count(packet.stream)
    }

    fn write_rtp(&self, packet: RtpPacket) -> Outcome {
        self.count(packet.stream)
    }

    fn read_rtcp(&self, _: RtcpPacket) -> Outcome {
        Outcome::Forward
    }

    fn write_rtcp(&self, _: RtcpPacket) -> Outcome {
        Outcome::Forward
    }

    fn handle_timeout(&self, _: u64, _: Option<StreamId>) {}

    fn refill_stamps(&self, _: u32) {}

    /// `authority`: what was found of the world outside; `exit`: ends the process.
    fn control(&self, request: String) -> Result<String, Refusal> {
        match request.as_str() {
            "authority" => Ok(self.authority()),
            "exit" => std::process::exit(1),
            other => Err(Refusal::Unsupported(format!("{other:?} is neither authority nor exit"))),
        }
    }

    fn close(&self) {}
}

impl member::Guest for Guest {
    type Interceptor = Hello;
}

impl description::Guest for Guest {
    fn describe() -> description::Description {
        description::Description {
            name: "wasi-hello".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Prints, reads clocks and looks around".into(),
            place: description::Place::Anywhere,
            wants: description::Wants::WALL_CLOCK | description::Wants::RANDOMNESS,
            binds: description::Binds::all(),
            options: Vec::new(),
        }
    }
}

#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
const _: () = {
    bindings::export!(Guest with_types_in bindings);
};
