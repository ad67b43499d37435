//! Says who speaks, from the audio levels that the peer sends with its packets (RFC 6464).
//!
//! ```text
//! read_rtp ──> Level ──> Activity (frames of 20 ms, per stream) ──timer──> dominant::contender ──> publish
//!                └─ mark ──> attributes
//! ```

mod activity;
mod dominant;
mod floor;
mod level;
mod options;
mod state;

use sandbar_sdk::serde::Serialize;
use sandbar_sdk::{
    Binding, Context, Instant, Interceptor, Outcome, Refusal, RtpPacket, StreamId, StreamInfo, Ticker, export,
    serde_json,
};

use crate::activity::{Activity, tick};
use crate::level::Level;
pub use crate::level::URI;
use crate::options::{OPTIONS, Options};
use crate::state::{State, StreamState};

/// The session's remote audio streams, which of them speaks, and their one timer, which runs while anybody is heard.
#[derive(Debug)]
pub struct AudioLevel {
    options: Options,
    streams: Vec<Stream>,
    /// SSRC of the one who speaks, as the application knows it.
    speaker: Option<u32>,
    ticker: Ticker,
    /// What a predecessor left, and when: the streams of that moment are offered before time goes on.
    resumed: Option<(Vec<StreamState>, Instant)>,
    /// Packets that are not yet counted: those with a level that cannot be read, and those that could not be marked.
    malformed: u64,
    unmarked: u64,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    ssrc: u32,
    /// The application's name for it.
    name: String,
    /// Under which its packets carry the level.
    extension: u8,
    activity: Activity,
}

/// What the application is told. All is null when nobody speaks.
#[derive(Serialize)]
#[serde(crate = "sandbar_sdk::serde")]
struct ActiveSpeaker<'a> {
    ssrc: Option<u32>,
    stream: Option<&'a str>,
    /// The loudest level since the decision before, in dBov.
    level: Option<i32>,
}

export!(AudioLevel, binds = [remote_streams], options = OPTIONS);

impl Interceptor for AudioLevel {
    fn create(_: &mut Context, config: &str) -> Result<Self, Refusal> {
        let options = Options::parse(config)?;
        Ok(Self {
            ticker: Ticker::new(options.interval()),
            options,
            streams: Vec::new(),
            speaker: None,
            resumed: None,
            malformed: 0,
            unmarked: 0,
        })
    }

    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        let State { speaker, streams } = State::parse(state)?;
        let mut this = Self { speaker, resumed: Some((streams, cx.now())), ..Self::create(cx, config)? };
        if speaker.is_some() {
            // The stream may have ended meanwhile.
            this.ticker.start(cx);
        }
        Ok(this)
    }

    fn save(&mut self, _: &mut Context) -> Option<Vec<u8>> {
        let streams = self.streams.iter().map(|stream| StreamState::new(stream.ssrc, &stream.activity));
        State { speaker: self.speaker, streams: streams.collect() }.to_json()
    }

    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        let extension = info.extension_id(URI).filter(|id| *id != 0 && is_audio(&info.mime_type));
        let Some(extension) = extension else { return Ok(Binding::PASS) };
        let now = cx.now();
        let mut activity = Activity::new(self.options.threshold(), tick(now));
        let resumed = self.resumed.as_ref().filter(|(_, at)| *at == now);
        if let Some(known) = resumed.and_then(|(streams, _)| streams.iter().find(|known| known.ssrc == info.ssrc)) {
            activity.resume(&known.activity());
        }
        self.streams.push(Stream { id: stream, ssrc: info.ssrc, name: info.id.clone(), extension, activity });
        Ok(if self.options.mark { Binding::transform_headers() } else { Binding::observe_headers() })
    }

    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {
        let Some(place) = self.streams.iter().position(|bound| bound.id == stream) else { return };
        // The others keep their order, for it decides between equals.
        if Some(self.streams.remove(place).ssrc) == self.speaker {
            self.decide(cx);
        }
    }

    #[inline(always)]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == packet.stream()) else {
            return Outcome::Forward;
        };
        let header = packet.header();
        let value = header.extension(stream.extension).filter(|_| header.ssrc() == stream.ssrc);
        let Some(value) = value else { return Outcome::Forward };
        match Level::parse(value) {
            Some(level) => {
                // A repaired packet was heard too late, if at all.
                if !packet.repaired() {
                    stream.activity.observe(level.level, tick(packet.time()));
                }
                if self.options.mark && !mark(packet, level) {
                    self.unmarked += 1;
                }
            }
            None => self.malformed += 1,
        }
        self.ticker.start(cx);
        Outcome::Forward
    }

    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        self.decide(cx);
        if self.malformed > 0 {
            cx.warn_once("malformed", "the peer's audio levels cannot be read; see the counter malformed");
        }
        for (name, count) in [("malformed", &mut self.malformed), ("unmarked", &mut self.unmarked)] {
            if *count > 0 {
                cx.count(name, std::mem::take(count));
            }
        }
        if self.speaker.is_none() && self.streams.iter().all(|stream| stream.activity.is_idle()) {
            // There is silence: the next packet starts the timer again.
            self.ticker.stop(cx);
        }
    }
}

impl AudioLevel {
    /// Decides who speaks, and tells the application if that is another one than before.
    fn decide(&mut self, cx: &mut Context) {
        let now = tick(cx.now());
        for stream in &mut self.streams {
            stream.activity.advance(now);
        }
        let speaker = self.streams.iter().find(|stream| Some(stream.ssrc) == self.speaker);
        let others = self.streams.iter().enumerate().filter(|(_, stream)| Some(stream.ssrc) != self.speaker);
        let contender = dominant::contender(
            speaker.map(|stream| &stream.activity),
            others.map(|(place, stream)| (place, &stream.activity)),
        );
        let speaker = speaker.filter(|stream| now.saturating_sub(stream.activity.spoke) < self.options.silence());
        let speaker = contender.and_then(|place| self.streams.get(place)).or(speaker);
        if speaker.map(|stream| stream.ssrc) != self.speaker {
            self.speaker = speaker.map(|stream| stream.ssrc);
            let event = ActiveSpeaker {
                ssrc: self.speaker,
                stream: speaker.map(|stream| stream.name.as_str()),
                level: speaker.map(|stream| -i32::from(stream.activity.peak())),
            };
            if let Ok(json) = serde_json::to_string(&event) {
                cx.publish("active-speaker", &json);
            }
            cx.count("changes", 1);
        }
        for stream in &mut self.streams {
            stream.activity.begin_interval();
        }
    }
}

/// Whether a stream may be audio: what has no type is taken for what its extension says.
fn is_audio(mime_type: &str) -> bool {
    mime_type.is_empty() || mime_type.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("audio/"))
}

/// Tells plugins ahead and the application what the sender says of the packet.
fn mark(packet: &mut RtpPacket<'_>, level: Level) -> bool {
    packet.set_attribute("audio.level", level.dbov()).is_ok()
        && packet.set_attribute("audio.voice", level.voice).is_ok()
}
