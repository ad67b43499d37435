//! A shard with sessions of the plugin, whose peers and applications behave as real ones do: they send, lose, reorder, ask
//! for retransmissions and answer such requests, report, and tell what arrived.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{
    ChainError, Datagram, End, Instant, Kind, MemberReport, MemberSpec, MemberState, Output, Packet, RtcpPacket,
    RtpPacket, SessionId, SessionSpec, Shard, ShardConfig, StreamInfo, WallClock,
};

use super::findings::Findings;
use super::packets;
use super::talk::{
    AUDIO_IN, AUDIO_OUT, PEER, Source, TRANSPORT_WIDE, Talk, VIDEO_IN, VIDEO_IN_RTX, VIDEO_OUT, VIDEO_OUT_RTX,
    asked_for, audio, video,
};

pub(crate) const MTU: u16 = 1200;
/// The step in which media is made and time goes on.
const STEP: Duration = Duration::from_millis(10);
/// Of real time, for a phase.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of a phase, which takes at most ten seconds of virtual time.
const MOST_WAKES: u64 = 5000;
/// What becomes of packets on their way from the peer, in packets of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) twice: u64,
}

/// All of it.
pub(crate) struct Bench {
    pub(crate) shard: Shard,
    pub(crate) now: Instant,
    pub(crate) talks: Vec<Talk>,
    pub(crate) findings: Findings,
    member: MemberSpec,
    random: u64,
    phase_began: std::time::Instant,
    /// Virtual time that has passed in this phase, without what was left out.
    pub(crate) passed: Duration,
}

impl Bench {
    pub(crate) fn new(member: MemberSpec, findings: Findings) -> Self {
        let now = Instant::from_millis(1_000_000);
        // The year 2024.
        let wall_clock = WallClock::from_unix(now, Duration::from_secs(1_704_067_200));
        let shard = Shard::new(ShardConfig { wall_clock, ..ShardConfig::default() });
        Self {
            shard,
            now,
            talks: Vec::new(),
            findings,
            member,
            random: 1,
            phase_began: std::time::Instant::now(),
            passed: Duration::ZERO,
        }
    }

    pub(crate) fn begin(&mut self, phase: &'static str) {
        self.findings.begin(phase);
        self.phase_began = std::time::Instant::now();
        self.passed = Duration::ZERO;
    }

    /// Whether a phase takes so long that the rest of it is left out. The standard plugins take milliseconds.
    fn exhausted(&mut self) -> bool {
        let exhausted = self.phase_began.elapsed() > PATIENCE;
        if exhausted {
            let seconds = PATIENCE.as_secs();
            self.findings
                .problem("slow", format!("this phase takes more than {seconds} s; the rest of it is left out"));
        }
        exhausted
    }

    /// The next of a sequence of numbers that is the same each time (Steele and others' SplitMix64).
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn happens(&mut self, in_a_thousand: u64) -> bool {
        self.random() % 1000 < in_a_thousand
    }

    /// Opens a session with this configuration for the plugin, and closes it again. What comes of it is not drained.
    pub(crate) fn accepts(&mut self, config: &str) -> Result<(), ChainError> {
        let member = self.member.clone().with_config(config);
        let session = self.shard.open_session(self.now, spec("configuration", 0, member))?;
        self.shard.close_session(self.now, session);
        Ok(())
    }

    /// Opens a session and binds its streams; false if that was refused.
    pub(crate) fn open(&mut self) -> bool {
        let number = self.talks.len() as u64;
        let spec = spec(&format!("check-{number}"), number, self.member.clone());
        let session = match self.shard.open_session(self.now, spec) {
            Ok(session) => session,
            Err(error) => {
                self.findings.refused("a session", &error);
                return false;
            }
        };
        self.talks.push(Talk::new(session));
        let bound = self.bind(self.talks.len() - 1);
        self.drain();
        bound
    }

    /// Binds a talk's four streams.
    pub(crate) fn bind(&mut self, talk: usize) -> bool {
        let streams = [
            (false, video(VIDEO_IN, VIDEO_IN_RTX)),
            (false, audio(AUDIO_IN)),
            (true, video(VIDEO_OUT, VIDEO_OUT_RTX)),
            (true, audio(AUDIO_OUT)),
        ];
        // Each is tried, also after one was refused.
        streams.into_iter().filter(|(local, info)| !self.bind_one(talk, *local, info.clone())).count() == 0
    }

    pub(crate) fn bind_one(&mut self, talk: usize, local: bool, info: StreamInfo) -> bool {
        let session = self.talks[talk].session;
        let what = format!("a {} stream ({})", if local { "local" } else { "remote" }, info.mime_type);
        let bound = match local {
            true => self.shard.bind_local_stream(self.now, session, info),
            false => self.shard.bind_remote_stream(self.now, session, info),
        };
        match bound {
            Ok(stream) => self.talks[talk].streams.push(stream),
            Err(error) => {
                self.findings.refused(&what, &error);
                return false;
            }
        }
        true
    }

    pub(crate) fn unbind(&mut self, talk: usize) {
        for stream in std::mem::take(&mut self.talks[talk].streams) {
            self.shard.unbind_stream(self.now, stream);
        }
        self.drain();
    }

    /// What a packet comes from the peer as.
    pub(crate) fn read(&mut self, talk: usize, burst: impl IntoIterator<Item = Bytes>) {
        let session = self.talks[talk].session;
        let burst: Vec<_> =
            burst.into_iter().map(|bytes| Datagram { session, kind: Kind::of(&bytes), bytes }).collect();
        self.findings.phase().given += burst.len() as u64;
        self.shard.read(self.now, burst);
        self.drain();
    }

    /// What a packet comes from the application as.
    pub(crate) fn write(&mut self, talk: usize, burst: impl IntoIterator<Item = Bytes>) {
        let session = self.talks[talk].session;
        let packet = |bytes: Bytes| match Kind::of(&bytes) {
            Kind::Rtp => RtpPacket::parse(bytes.clone()).map_or(Packet::Malformed(Kind::Rtp, bytes), Packet::Rtp),
            Kind::Rtcp => RtcpPacket::parse(bytes.clone()).map_or(Packet::Malformed(Kind::Rtcp, bytes), Packet::Rtcp),
        };
        let burst: Vec<_> = burst.into_iter().map(|bytes| (session, packet(bytes))).collect();
        self.findings.phase().given += burst.len() as u64;
        self.shard.write(self.now, burst);
        self.drain();
    }

    /// Lets all talks go on for a while: video and audio in both directions, reports and feedback.
    pub(crate) fn media(&mut self, duration: Duration, conditions: Conditions) {
        for step in 0..duration.as_millis() / STEP.as_millis() {
            if self.exhausted() {
                break;
            }
            self.idle(STEP);
            for talk in 0..self.talks.len() {
                self.peer_sends(talk, step as u64, conditions);
                self.application_sends(talk, step as u64);
                if step.is_multiple_of(10) {
                    self.peer_gives_feedback(talk, step as u64, conditions);
                }
            }
        }
    }

    fn peer_sends(&mut self, talk: usize, step: u64, conditions: Conditions) {
        let mut burst = Vec::new();
        let peer = &mut self.talks[talk];
        let mut number = || {
            peer.transport_wide = peer.transport_wide.wrapping_add(1);
            Some(peer.transport_wide)
        };
        if step.is_multiple_of(3) {
            for part in 0..4 {
                let packet = peer.video_in.packet(part == 3, &[0x5a; 1000], number());
                peer.sent.push_back(packet.clone());
                burst.push(packet);
            }
            peer.video_in.timestamp = peer.video_in.timestamp.wrapping_add(2700);
            peer.sent.drain(..peer.sent.len().saturating_sub(200));
        }
        if step.is_multiple_of(2) {
            burst.push(peer.audio_in.packet(false, &[0xa5; 80], number()));
            peer.audio_in.timestamp = peer.audio_in.timestamp.wrapping_add(960);
        }
        let again: Vec<_> =
            std::mem::take(&mut peer.asked_for).into_iter().filter_map(|wanted| peer.retransmit(wanted)).collect();
        let mut arriving = std::mem::take(&mut peer.late);
        for packet in burst.into_iter().chain(again) {
            if self.happens(conditions.lost) {
                continue;
            }
            if self.happens(conditions.twice) {
                arriving.push(packet.clone());
            }
            match self.happens(conditions.late) {
                true => self.talks[talk].late.push(packet),
                false => arriving.push(packet),
            }
        }
        self.read(talk, arriving);
    }

    fn application_sends(&mut self, talk: usize, step: u64) {
        let mut burst = Vec::new();
        let application = &mut self.talks[talk];
        if step.is_multiple_of(3) {
            burst.extend((0..4).map(|part| application.video_out.packet(part == 3, &[0x6b; 1000], None)));
            application.video_out.timestamp = application.video_out.timestamp.wrapping_add(2700);
        }
        if step.is_multiple_of(2) {
            burst.push(application.audio_out.packet(false, &[0xb6; 80], None));
            application.audio_out.timestamp = application.audio_out.timestamp.wrapping_add(960);
        }
        if step % 100 == 50 {
            burst.push(packets::picture_loss(PEER + 1, VIDEO_IN).into());
        }
        self.write(talk, burst);
    }

    fn peer_gives_feedback(&mut self, talk: usize, step: u64, conditions: Conditions) {
        let milliseconds = self.now.as_nanos() / 1_000_000;
        let peer = &mut self.talks[talk];
        let mut burst: Vec<Bytes> = Vec::new();
        let arrived = std::mem::take(&mut peer.arrived);
        if let [first, .., last] = arrived[..] {
            let count = last.wrapping_sub(first).wrapping_add(1).min(500);
            burst.push(packets::transport_feedback(PEER, VIDEO_OUT, first, count, peer.feedback).into());
            peer.feedback = peer.feedback.wrapping_add(1);
        }
        if conditions.lost > 0 {
            let recent = peer.video_out.sequence_number.wrapping_sub(10);
            // One of them twice, one long gone.
            let wanted = [(recent, 0b101), (recent.wrapping_sub(3), 0), (recent, 0), (recent.wrapping_sub(30_000), 0)];
            burst.push(packets::nack(PEER, VIDEO_OUT, &wanted).into());
        }
        if step.is_multiple_of(100) {
            let ntp = (0xe900_0000_u64 << 32) + (milliseconds << 32) / 1000;
            let about = (VIDEO_OUT, peer.video_out.sequence_number);
            let Source { ssrc, timestamp, packets, .. } = peer.video_in;
            burst.push(packets::sender_report(ssrc, ntp, timestamp, packets, about).into());
            burst.push(packets::picture_loss(PEER, VIDEO_OUT).into());
        }
        self.read(talk, burst);
    }

    /// Lets time pass.
    pub(crate) fn idle(&mut self, duration: Duration) {
        /// Wakes at one instant after which time is pushed on.
        const AT_ONCE: u32 = 1000;
        let (begin, end) = (self.now, self.now + duration);
        let mut at_once = 0;
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= end) {
            at_once = if due > self.now { 0 } else { at_once + 1 };
            self.now = self.now.max(due);
            if at_once > AT_ONCE {
                self.findings.problem("timer-storm", "it asks to be woken at once, again and again");
                self.now = (self.now + Duration::from_millis(1)).min(end);
                if self.now == end {
                    break;
                }
            }
            let wakes = &mut self.findings.phase().wakes;
            *wakes += 1;
            if *wakes > MOST_WAKES {
                let often = format!("it is woken more than {MOST_WAKES} times in this phase; the rest is left out");
                self.findings.problem("timer-storm", often);
            }
            if self.findings.phase().wakes > MOST_WAKES || self.exhausted() {
                self.passed += self.now - begin;
                self.now = end;
                return;
            }
            self.shard.handle_timeout(self.now);
            self.drain();
        }
        self.passed += duration;
        self.now = end;
    }

    /// Takes what the shard has to give, and looks at it.
    pub(crate) fn drain(&mut self) {
        let mut outputs = Vec::new();
        self.shard.take_outputs(&mut outputs);
        for output in outputs {
            match output {
                Output { to: End::Application, session, packet, .. } => {
                    self.findings.phase().to_application += 1;
                    if let (Packet::Rtp(packet), Some(talk)) = (packet, self.talk(session))
                        && packet.ssrc() == VIDEO_IN
                    {
                        talk.out[0].note(packet.sequence_number());
                    }
                }
                Output { to: End::Wire, session, packet, .. } => self.look_at(session, &packet),
            }
        }
        while self.shard.poll_sink().is_some() {}
        while let Some(event) = self.shard.poll_event() {
            self.findings.event(&event);
        }
    }

    fn look_at(&mut self, session: SessionId, packet: &Packet) {
        let size = packet.size();
        if size > usize::from(MTU) && !matches!(packet, Packet::Malformed(..)) {
            self.findings.problem("too-large", format!("{size} bytes go to a path that carries {MTU}"));
        }
        match packet {
            Packet::Rtp(packet) => {
                self.findings.phase().rtp_to_wire += 1;
                let Some(talk) = self.talk(session) else { return };
                if packet.ssrc() == VIDEO_OUT {
                    talk.out[1].note(packet.sequence_number());
                }
                talk.arrived.extend(packets::transport_wide_number(packet.header(), TRANSPORT_WIDE));
            }
            Packet::Rtcp(compound) => {
                self.findings.phase().rtcp_to_wire += 1;
                let asked = asked_for(compound.bytes(), VIDEO_IN);
                if let Some(talk) = self.talk(session) {
                    talk.asked_for.extend(asked);
                }
            }
            Packet::Malformed(..) => {}
        }
    }

    fn talk(&mut self, session: SessionId) -> Option<&mut Talk> {
        self.talks.iter_mut().find(|talk| talk.session == session)
    }

    /// The plugin's counters in a talk's session.
    pub(crate) fn report(&self, talk: usize) -> Option<MemberReport> {
        let session = self.talks.get(talk)?.session;
        self.shard.session_report(session)?.members.into_iter().next()
    }

    /// Starts the plugin again if it has failed, so that each phase shows what it does.
    pub(crate) fn revive(&mut self) {
        for talk in 0..self.talks.len() {
            let running =
                |report: MemberReport| matches!(report.state, MemberState::Running { .. } | MemberState::Displaced);
            if !self.report(talk).is_some_and(running) {
                self.member.plugin.lift_quarantine();
                self.replace(talk);
            }
        }
    }

    /// Puts the plugin in its own place, as an operator's update does.
    pub(crate) fn replace(&mut self, talk: usize) {
        let replaced = self.shard.replace_member(self.now, self.talks[talk].session, 0, self.member.clone());
        if let Err(error) = replaced {
            self.findings.refused("replaced by itself", &error);
        }
        self.drain();
    }

    pub(crate) fn close(&mut self, talk: usize) {
        self.shard.close_session(self.now, self.talks[talk].session);
        self.drain();
        self.talks.remove(talk);
    }
}

fn spec(name: &str, seed: u64, member: MemberSpec) -> SessionSpec {
    SessionSpec {
        name: name.to_owned(),
        mtu: MTU,
        cname: "check".to_owned(),
        seed,
        malformed: sandbar_host::Malformed::Forward,
        chain: sandbar_host::Chain::new([member]),
        ..SessionSpec::default()
    }
}
