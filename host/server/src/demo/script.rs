//! The acts, played: what is loaded into the live session and when, and what was seen meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;
use sandbar_host::{Event, FaultKind, FaultPolicy, Grants, Instant, MemberSpec, Plugin};
use sandbar_plugins::{Embedded, demo};
use serde::Serialize;

use super::acts::{Act, Timing};
use super::ledger::Figures;
use super::outcome::{Incident, Loaded, Outcome, Swaps, ms};
use super::stage::Stage;
use super::view::{Scene, View, plugin_name};
use crate::relay::{RelayEvent, clock};

/// How often the view is brought up to date.
const REFRESH: Duration = Duration::from_millis(200);
/// How long a fault may take to show. Its plugin stands before every packet.
const FAULT_SHOWS: Duration = Duration::from_secs(5);
/// How old a packet has to be to be called missing while acts are played: most retransmissions have come by then.
const SETTLED: Duration = Duration::from_millis(400);
/// How long the last act's retransmissions may take.
const EPILOGUE: Duration = Duration::from_millis(1500);
/// How long what has left the publisher may take to the link and to the subscriber.
const LAST_PACKETS: Duration = Duration::from_millis(300);

/// Somebody has asked the demonstration to stop.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// A plugin's fault, as the relay told it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) message: String,
    #[serde(skip)]
    pub(super) at: Instant,
}

/// A play in progress.
pub(super) struct Play<'a> {
    stage: Stage,
    view: &'a mut dyn View,
    timing: Timing,
    interrupted: &'a AtomicBool,
    events: Receiver<Arc<RelayEvent>>,
    begun: Instant,
    shown: Instant,
    act: Option<Act>,
    loaded: Vec<Loaded>,
    /// By plugin.
    faults: Vec<(String, Fault)>,
}

impl<'a> Play<'a> {
    pub(super) fn new(stage: Stage, view: &'a mut dyn View, timing: Timing, interrupted: &'a AtomicBool) -> Self {
        let (events, now) = (stage.relay.events(), clock::now());
        let (act, loaded, faults) = (None, Vec::new(), Vec::new());
        Self { stage, view, timing, interrupted, events, begun: now, shown: now, act, loaded, faults }
    }

    /// Plays all acts and ends everything.
    pub(super) fn perform(mut self) -> anyhow::Result<Outcome> {
        self.announce(Act::Bare);
        self.begin(Act::Bare);
        self.wait(self.timing.bare)?;
        let old = self.repair()?;
        let swaps = self.swap(&old)?;
        let crash = self.misbehave(Act::Crash, &demo::CRASHER)?;
        let r#loop = self.misbehave(Act::Loop, &demo::LOOPER)?;
        self.finish(swaps, crash, r#loop)
    }

    /// The nack-responder answers requests, the report-sender lets it know the round-trip time.
    fn repair(&mut self) -> anyhow::Result<Plugin> {
        // What is lost before it is loaded is nobody's to repair, and belongs to no act.
        self.announce(Act::Repair);
        self.stage.ledger.begin(None);
        let responder = self.load(standard("nack-responder")?)?;
        let sender = self.load(standard("report-sender")?)?;
        self.insert(0, MemberSpec::new(responder.clone()))?;
        self.insert(1, MemberSpec::new(sender))?;
        self.begin(Act::Repair);
        self.wait(self.timing.repair)?;
        Ok(responder)
    }

    fn swap(&mut self, old: &Plugin) -> anyhow::Result<Swaps> {
        self.announce(Act::Swap);
        self.begin(Act::Swap);
        let new = self.load(&demo::NEXT_NACK_RESPONDER)?;
        let (mut at, mut longest) = (Vec::new(), Duration::ZERO);
        for number in 0..self.timing.swaps {
            self.wait(self.timing.swap)?;
            let plugin = if number % 2 == 0 { &new } else { old };
            let begun = clock::now();
            self.stage.relay.replace(&self.stage.leg, 0, MemberSpec::new(plugin.clone()))?;
            let took = clock::now() - begun;
            longest = longest.max(took);
            at.push(begun);
            self.say(format!("{} takes over, swapped in within {:.1} ms", version(plugin), ms(took)));
        }
        self.wait(2 * self.timing.swap)?;
        let resent = self.stage.ledger.resent_at(Act::Swap);
        let span = |resent: &Instant| at.iter().filter(|swap| *swap < resent).count();
        let mut spans: Vec<_> = resent.iter().map(span).collect();
        spans.dedup();
        Ok(Swaps {
            versions: [old, &new].map(|plugin| plugin.version().to_owned()),
            digests: [old, &new].map(|plugin| plugin.digest().to_string()),
            swaps: at.len(),
            longest_ms: ms(longest),
            spans_with_retransmissions: spans.len(),
        })
    }

    /// Puts a plugin with a bug where every packet has to pass, and waits until it fails and for some time after.
    fn misbehave(&mut self, act: Act, embedded: &Embedded) -> anyhow::Result<Incident> {
        self.announce(act);
        self.begin(act);
        let plugin = self.load(embedded)?;
        let place = self.chain()?.len();
        let begun = clock::now();
        self.insert(place, MemberSpec::new(plugin.clone()).on_fault(FaultPolicy::Bypass))?;
        let name = plugin.name();
        let failed = |play: &Self| play.faults.iter().any(|(failed, _)| failed == name);
        self.wait_until(FAULT_SHOWS, failed)?;
        let fault = self.faults.iter().find(|(failed, _)| failed == name).map(|(_, fault)| fault.clone());
        if let Some(fault) = &fault {
            self.say(format!("{} fails ({}) and is bypassed", version(&plugin), fault.kind));
        }
        self.wait(self.timing.fault)?;
        let ledger = &self.stage.ledger;
        let until = fault.as_ref().map_or_else(clock::now, |fault| fault.at);
        let pause = ledger.longest_through_relay(begun, until);
        let state = self.chain()?.get(place).map(|member| member.state);
        Ok(Incident {
            plugin: name.to_owned(),
            version: plugin.version().to_owned(),
            forwarded_after: self.stage.ledger.forwarded_since(until),
            fault,
            state,
            pause_ms: ms(pause),
        })
    }

    fn finish(mut self, swaps: Swaps, crash: Incident, r#loop: Incident) -> anyhow::Result<Outcome> {
        // Media flows on, so that what was lost at the end shows as a gap and is asked for.
        self.stage.ledger.begin(None);
        self.act = None;
        self.wait_until(EPILOGUE, |play| play.stage.ledger.is_whole())?;
        self.stage.hush()?;
        self.wait(LAST_PACKETS)?;
        self.show(true)?;
        let figures = Act::ALL.map(|act| (act, self.stage.ledger.figures(Some(act), clock::now())));
        let between = self.stage.ledger.figures(None, clock::now());
        let seconds = (clock::now() - self.begun).as_secs_f64();
        let kernel_drops = self.stage.kernel_drops();
        let Self { stage, loaded, .. } = self;
        let relay = stage.end()?;
        Ok(Outcome { seconds, figures, between, loaded, swaps, crash, r#loop, kernel_drops, relay })
    }

    fn announce(&mut self, act: Act) {
        self.act = Some(act);
        self.view.act(act);
    }

    /// From now on packets belong to the act.
    fn begin(&mut self, act: Act) {
        self.stage.ledger.begin(Some(act));
    }

    /// Compiles a component, on this thread, while the relay's carry media.
    fn load(&mut self, embedded: &Embedded) -> anyhow::Result<Plugin> {
        let begun = clock::now();
        let plugin = self.stage.relay.load(embedded.component, &Grants::default())?;
        self.loaded.push(Loaded {
            plugin: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest().to_string(),
            bytes: plugin.size(),
            compile_ms: ms(clock::now() - begun),
            insert_ms: None,
        });
        Ok(plugin)
    }

    fn insert(&mut self, place: usize, spec: MemberSpec) -> anyhow::Result<()> {
        let plugin = spec.plugin.clone();
        let begun = clock::now();
        self.stage.relay.insert(&self.stage.leg, place, spec)?;
        let took = ms(clock::now() - begun);
        let digest = plugin.digest().to_string();
        let loaded = self.loaded.iter_mut().find(|loaded| loaded.digest == digest).context("nothing was loaded")?;
        loaded.insert_ms = Some(took);
        let compiled = loaded.compile_ms;
        self.say(format!("{} inserted in {took:.1} ms (before that, compiled in {compiled:.0} ms)", version(&plugin)));
        Ok(())
    }

    fn chain(&self) -> anyhow::Result<Vec<sandbar_host::MemberReport>> {
        let mut report = self.stage.relay.report()?;
        let legs = report.routes.iter_mut().flat_map(|route| &mut route.legs);
        let session = legs.filter(|leg| leg.name == self.stage.leg).find_map(|leg| leg.session.take());
        Ok(session.context("the leg has lost its session")?.members)
    }

    fn say(&mut self, what: String) {
        let at = clock::now() - self.begun;
        self.view.happened(at, &what);
    }

    fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        self.wait_until(time, |_| false)
    }

    /// Waits until something is so, or for that long.
    fn wait_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = clock::now() + time;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            self.stage.check()?;
            let now = clock::now();
            if now >= deadline || done(self) {
                return Ok(());
            }
            if now - self.shown >= REFRESH {
                self.shown = now;
                self.show(false)?;
            }
            match self.events.recv_timeout((deadline - now).min(REFRESH)) {
                Ok(event) => self.hear(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the relay has ended by itself"),
            }
        }
    }

    fn hear(&mut self, event: &RelayEvent) {
        if let RelayEvent::Plugin(Event::Fault { from, kind, message, .. }) = event {
            let fault = Fault { kind: *kind, message: message.clone(), at: clock::now() };
            self.faults.push((from.plugin.clone(), fault));
        }
    }

    fn show(&mut self, last: bool) -> anyhow::Result<()> {
        let now = clock::now();
        let young = if last { Duration::ZERO } else { SETTLED };
        let settled = Instant::from_nanos(now.as_nanos().saturating_sub(young.as_nanos() as u64));
        let begun = self.act.map_or(Act::ALL.len(), Act::number);
        let acts: Vec<(Act, Figures)> =
            Act::ALL[..begun].iter().map(|act| (*act, self.stage.ledger.figures(Some(*act), settled))).collect();
        let chain = self.chain()?;
        let scene = Scene { elapsed: now - self.begun, act: self.act, acts: &acts, chain: &chain };
        if last { self.view.close(&scene) } else { self.view.show(&scene) }
    }
}

fn standard(name: &str) -> anyhow::Result<&'static Embedded> {
    sandbar_plugins::by_name(name).with_context(|| format!("this program was built without the plugin {name}"))
}

fn version(plugin: &Plugin) -> String {
    format!("{} {}", plugin_name(plugin.name()), plugin.version())
}
