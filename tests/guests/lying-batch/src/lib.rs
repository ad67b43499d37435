//! Speaks the batched lane by hand, without the SDK that would keep it honest. It hands everything on and remembers the
//! frames it was shown, until its configuration tells it to lie.

#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ world: "batched-interceptor", path: "../../../wit" });
}

use std::cell::RefCell;

use bindings::exports::sandbar::interceptor::{batch, description, member};
use bindings::sandbar::interceptor::burst;
use bindings::sandbar::interceptor::types::{
    Access, Binding, Refusal, RtcpAccess, SessionInfo, StreamId, StreamInfo, View,
};
use member::{Outcome, RtcpPacket, RtpPacket};
use serde::Deserialize;

const HEAD: usize = 24;

/// The component's exports.
pub struct Guest;

/// One session's interceptor; the frames are the instance's.
pub struct Liar;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    lie: Lie,
    /// Honest for so many packets.
    after: u64,
    /// `observe`, `follow`, `packets` (which it does not want to be granted) or, by default, `transform`.
    access: String,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Lie {
    #[default]
    None,
    /// Hands a packet on twice, in one call of `next`.
    Twice,
    /// Hands a packet on twice, in two calls of `next`.
    TwiceApart,
    /// Hands on a packet that was never shown.
    Unknown,
    /// Hands on less than a frame's head.
    TruncatedHead,
    /// Hands on fewer bytes than the head says are included.
    TruncatedBody,
    /// Puts bytes in a header's place that are no RTP header.
    NotRtp,
    /// Puts a header in place that announces more CSRCs than it has.
    ShortHeader,
    /// Puts a header in place with bytes behind it.
    LongHeader,
    /// Puts a header in place with an extension of 4000 bytes: more than the MTU.
    TooLarge,
    /// Announces padding in the header, whatever the payload ends with.
    Padding,
    /// Hands on what it only observes.
    Observed,
    /// Calls `next` from `control`, when no batch is running.
    OutsideProcess,
    /// Hands packets on in reverse: allowed of a transform.
    Reverse,
    /// Hands nothing on: allowed too.
    Nothing,
}

impl Default for Config {
    fn default() -> Self {
        Config { lie: Lie::None, after: 0, access: "transform".into() }
    }
}

#[derive(Default)]
struct State {
    config: Config,
    packets: u64,
    /// Of each frame, as JSON: kind, flags, bytes included, handle, time, size of the whole packet.
    shown: Vec<String>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl batch::Guest for Guest {
    fn process(frames: Vec<u8>) {
        let lie = STATE.with_borrow_mut(|state| {
            let mut rest = &frames[..];
            while let Some(frame) = split_frame(&mut rest) {
                state.packets += u64::from(frame[0] < 4);
                state.shown.push(describe(frame));
            }
            if state.packets > state.config.after { state.config.lie } else { Lie::None }
        });
        let packets = packets(&frames);
        match packets.as_slice() {
            [] => {}
            _ if lie == Lie::Nothing => {}
            [.., last] => {
                let honest: Vec<_> = packets.iter().map(|packet| bare(packet)).collect();
                tell(lie, honest, last);
            }
        }
    }
}

/// Hands the packets on, the last one with a lie.
fn tell(lie: Lie, mut honest: Vec<Vec<u8>>, last: &&[u8]) {
    let observed = STATE.with_borrow(|state| ["observe", "follow"].contains(&state.config.access.as_str()));
    let replaced = |bytes: &[u8]| {
        let mut frame = last[..HEAD].to_vec();
        frame[2..4].copy_from_slice(&(bytes.len() as u16).to_le_bytes());
        frame.extend_from_slice(bytes);
        frame
    };
    let header = &last[HEAD..];
    let tail = match lie {
        Lie::None | Lie::Nothing | Lie::OutsideProcess => Vec::new(),
        Lie::Reverse => {
            honest.reverse();
            Vec::new()
        }
        Lie::Twice => bare(last),
        Lie::TwiceApart => {
            burst::next(&honest.concat());
            Vec::new()
        }
        Lie::Unknown => {
            let mut frame = bare(last);
            frame[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
            frame
        }
        Lie::TruncatedHead => bare(last)[..HEAD - 1].to_vec(),
        Lie::Observed => bare(last),
        Lie::TruncatedBody | Lie::NotRtp | Lie::ShortHeader | Lie::LongHeader | Lie::TooLarge | Lie::Padding => {
            honest.pop();
            match lie {
                Lie::TruncatedBody => replaced(header)[..HEAD + 4].to_vec(),
                Lie::NotRtp => replaced(b"this is no RTP header"),
                Lie::Padding => replaced(&[&[header[0] | 0x20], &header[1..]].concat()),
                Lie::ShortHeader => replaced(&[&[header[0] | 0x0f], &header[1..]].concat()),
                Lie::LongHeader => replaced(&[header, &[0; 4]].concat()),
                _ => replaced(&[&[0x90], &header[1..12], &[0xbe, 0xde, 0x03, 0xe8], &[0; 4000][..]].concat()),
            }
        }
    };
    if observed && lie != Lie::Observed {
        return;
    }
    burst::next(&[honest.concat(), tail].concat());
}

/// Takes the first frame.
fn split_frame<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let head = rest.get(..HEAD)?;
    let included = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let (frame, after) = rest.split_at(HEAD + included);
    *rest = after;
    Some(frame)
}

/// The frames that are packets, not timers.
fn packets(mut frames: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while let Some(frame) = split_frame(&mut frames) {
        if frame[0] < 4 {
            packets.push(frame);
        }
    }
    packets
}

/// The packet as it came: a head that includes nothing.
fn bare(frame: &[u8]) -> Vec<u8> {
    let mut head = frame[..HEAD].to_vec();
    head[2..4].fill(0);
    head
}

fn describe(frame: &[u8]) -> String {
    let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let time = u64::from(word(8)) | u64::from(word(12)) << 32;
    format!("[{},{},{},{},{time},{}]", frame[0], frame[1], frame.len() - HEAD, word(4), word(16))
}

impl Liar {
    fn binding() -> Binding {
        let access = STATE.with_borrow(|state| match state.config.access.as_str() {
            "observe" => Access::Observe(View::Headers),
            "follow" => Access::Follow,
            "packets" => Access::Observe(View::Packets),
            _ => Access::Transform(View::Headers),
        });
        Binding { access, history: 0, unbound: false }
    }
}

impl member::GuestInterceptor for Liar {
    fn create(_session: SessionInfo, config: String) -> Result<member::Interceptor, Refusal> {
        let config = serde_json::from_str(&config).map_err(|error| Refusal::Config(error.to_string()))?;
        STATE.with_borrow_mut(|state| state.config = config);
        Ok(member::Interceptor::new(Liar))
    }

    fn restore(_: SessionInfo, _: String, _: Vec<u8>) -> Result<member::Interceptor, Refusal> {
        Err(Refusal::Unsupported("nothing is saved".into()))
    }

    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    fn bind_rtcp_reader(&self) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Observe)
    }

    fn bind_rtcp_writer(&self) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    fn bind_local_stream(&self, _: StreamId, _: StreamInfo) -> Result<Binding, Refusal> {
        Ok(Self::binding())
    }

    fn bind_remote_stream(&self, _: StreamId, _: StreamInfo) -> Result<Binding, Refusal> {
        Ok(Self::binding())
    }

    fn unbind_local_stream(&self, _: StreamId) {}

    fn unbind_remote_stream(&self, _: StreamId) {}

    // The host never calls these of a plugin in the batched lane; that it doesn't is what a trap here would show.

    fn read_rtp(&self, _: RtpPacket) -> Outcome {
        unreachable!()
    }

    fn write_rtp(&self, _: RtpPacket) -> Outcome {
        unreachable!()
    }

    fn read_rtcp(&self, _: RtcpPacket) -> Outcome {
        unreachable!()
    }

    fn write_rtcp(&self, _: RtcpPacket) -> Outcome {
        unreachable!()
    }

    fn refill_stamps(&self, _: u32) {}

    fn handle_timeout(&self, _: u64, _: Option<StreamId>) {
        unreachable!()
    }

    /// The frames shown since this was asked last.
    fn control(&self, _request: String) -> Result<String, Refusal> {
        if STATE.with_borrow(|state| state.config.lie == Lie::OutsideProcess) {
            burst::next(&[0; HEAD]);
        }
        let shown = STATE.with_borrow_mut(|state| std::mem::take(&mut state.shown));
        Ok(format!("[{}]", shown.join(",")))
    }

    fn close(&self) {}
}

impl member::Guest for Guest {
    type Interceptor = Liar;
}

impl description::Guest for Guest {
    fn describe() -> description::Description {
        description::Description {
            name: "lying-batch".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Lies in its batches".into(),
            place: description::Place::Anywhere,
            wants: description::Wants::empty(),
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
