//! The relay from outside: a handle for other threads.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbar_host::{Engine, Grants, LoadError, MemberSpec, Plugin, Tenant};

use super::StartError;
use super::catalog::Catalog;
use super::chains::{ChainChangeError, LegControl, Placed, change_all};
use super::clock::Ticker;
use super::events::{Events, RelayEvent};
use super::leg::LegName;
use super::reload::{self, ReloadError, Reloaded};
use super::report::{RelayReport, TenantReport};
use super::sinks::Sinks;
use super::watch::Watch;
use super::worker::{Stopped, WorkerHandle};
use crate::config::Config;

/// A running relay. Dropping it stops it, within the configured time for that.
///
/// Every change of a chain happens between two packets, and is refused as a whole where a plugin refuses.
pub struct RelayHandle {
    shared: Arc<Shared>,
    watch: Option<Watch>,
    stopped: bool,
}

/// What the handle and the threads that follow files have in common.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) events: Events,
    pub(crate) sinks: Sinks,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) state: Mutex<State>,
    /// One reload at a time: what it compiles it compiles outside `state`.
    pub(crate) reloading: Mutex<()>,
    /// Ends with the last who may call a plugin: it bounds those calls.
    _ticker: Ticker,
}

/// What runs, as the control side knows it.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) legs: Vec<LegControl>,
}

/// Why a plugin gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such leg.
    #[error(transparent)]
    Leg(#[from] ChainChangeError),
    /// The plugin refuses or fails.
    #[error(transparent)]
    Plugin(#[from] sandbar_host::ControlError),
    /// The relay is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives legs new chains, all or none.
    fn change(
        &self,
        leg: &LegName,
        edit: impl FnOnce(&mut Vec<Placed>) -> Result<(), usize>,
    ) -> Result<(), ChainChangeError> {
        let mut state = self.state();
        let index = state.leg(leg)?;
        let mut members = state.legs[index].members.clone();
        let count = members.len();
        edit(&mut members).map_err(|index| ChainChangeError::NoMember { leg: leg.clone(), index, members: count })?;
        change_all(&self.workers, &mut state.legs, vec![(index, members)])
    }
}

impl State {
    fn leg(&self, name: &LegName) -> Result<usize, ChainChangeError> {
        self.legs.iter().position(|leg| leg.name == *name).ok_or_else(|| ChainChangeError::NoLeg {
            leg: name.clone(),
            known: self.legs.iter().map(|leg| leg.name.to_string()).collect(),
        })
    }
}

impl RelayHandle {
    pub(super) fn new(
        (engine, ticker): (Engine, Ticker),
        events: Events,
        sinks: Sinks,
        (workers, tenants): (Vec<WorkerHandle>, Vec<Tenant>),
        state: State,
    ) -> Result<Self, StartError> {
        let interval = state.config.server.watch;
        let shared = Arc::new(Shared {
            engine,
            events,
            sinks,
            workers,
            tenants,
            state: Mutex::new(state),
            reloading: Mutex::new(()),
            _ticker: ticker,
        });
        let mut relay = Self { shared, watch: None, stopped: false };
        if let Some(interval) = interval {
            relay.watch = Some(Watch::start(Arc::clone(&relay.shared), interval).map_err(StartError::System)?);
        }
        Ok(relay)
    }

    /// The engine, to load plugins with: compiling is for the caller's thread, not for one that carries media.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Compiles a component for this relay's chains.
    pub fn load(&self, component: &[u8], grants: &Grants) -> Result<Plugin, LoadError> {
        Plugin::load(&self.shared.engine, component, grants)
    }

    /// All legs, by route, the publisher's first.
    pub fn legs(&self) -> Vec<LegName> {
        self.shared.state().legs.iter().map(|leg| leg.name.clone()).collect()
    }

    /// Where a leg receives RTP and RTCP, with the ports that were found for port 0.
    pub fn addresses(&self, leg: &LegName) -> Option<(SocketAddr, SocketAddr)> {
        let state = self.shared.state();
        state.legs.iter().find(|known| known.name == *leg).map(|leg| (leg.rtp, leg.rtcp))
    }

    /// What happens from now on. A listener that falls far behind misses events.
    pub fn events(&self) -> Receiver<Arc<RelayEvent>> {
        self.shared.events.listen()
    }

    /// Puts a plugin into a live leg's chain at `index`, 0 closest to the wire. It goes by its own name there.
    pub fn insert(&self, leg: &LegName, index: usize, spec: MemberSpec) -> Result<(), ChainChangeError> {
        self.shared.change(leg, |members| {
            if index > members.len() {
                return Err(index);
            }
            members.insert(index, Placed { name: spec.plugin.name().to_owned(), spec });
            Ok(())
        })
    }

    /// Puts a plugin in the place of the one at `index`; state is handed over where both support that.
    pub fn replace(&self, leg: &LegName, index: usize, spec: MemberSpec) -> Result<(), ChainChangeError> {
        self.shared.change(leg, |members| {
            // It keeps the name of its place, so that it is the same member with another component.
            members.get_mut(index).ok_or(index)?.spec = spec;
            Ok(())
        })
    }

    /// Takes the plugin at `index` out of a live leg's chain.
    pub fn remove(&self, leg: &LegName, index: usize) -> Result<(), ChainChangeError> {
        self.shared.change(leg, |members| {
            if index >= members.len() {
                return Err(index);
            }
            members.remove(index);
            Ok(())
        })
    }

    /// Asks the plugin at `index` of a leg's chain; what may be asked is up to the plugin.
    pub fn control(&self, leg: &LegName, index: usize, request: &str) -> Result<String, ControlError> {
        let (worker, session) = {
            let state = self.shared.state();
            let leg = &state.legs[state.leg(leg)?];
            (leg.worker, leg.session)
        };
        let request = request.to_owned();
        let worker = self.shared.workers.get(worker).ok_or(Stopped)?;
        Ok(worker.call(move |worker, now| worker.shard.control(now, session, index, &request))??)
    }

    /// What every leg and every plugin has done so far.
    pub fn report(&self) -> Result<RelayReport, Stopped> {
        let workers = self.shared.workers.iter().enumerate();
        let answers: Vec<_> =
            workers.map(|(number, worker)| worker.begin(move |worker, now| worker.report(now, number))).collect();
        let mut routes = Vec::new();
        for answer in answers {
            routes.extend(answer.recv().map_err(|_| Stopped)?);
        }
        routes.sort_by_key(|(place, _)| *place);
        Ok(RelayReport { routes: routes.into_iter().map(|(_, route)| route).collect(), tenants: self.tenants() })
    }

    /// What each tenant may use, and uses.
    pub fn tenants(&self) -> Vec<TenantReport> {
        let report = |tenant: &Tenant| TenantReport {
            name: tenant.name().to_owned(),
            quotas: *tenant.quotas(),
            usage: tenant.usage(),
        };
        self.shared.tenants.iter().map(report).collect()
    }

    /// Goes over to another configuration without interrupting media: plugins and chains. What else has changed needs a
    /// restart, and refuses the whole. Plugin files are read again in any case.
    pub fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        reload::to(&self.shared, config)
    }

    /// Whether all workers run. One that does not has met a bug of the host.
    pub fn is_running(&self) -> bool {
        self.shared.workers.iter().all(WorkerHandle::is_running)
    }

    /// Stops: says goodbye to peers, closes all plugins, sends what they still have to say, and ends. Takes at most as
    /// long as the configuration's `drain`. Returns the last counters, as they were before the sessions closed.
    pub fn shutdown(mut self) -> Result<RelayReport, Stopped> {
        let report = self.report();
        if self.stop() { report } else { Err(Stopped) }
    }

    /// Ends the workers and waits for them. `false`: one had ended by itself, or has now met a bug of the host.
    fn stop(&mut self) -> bool {
        self.watch = None;
        if std::mem::replace(&mut self.stopped, true) {
            return true;
        }
        let drain = self.shared.state().config.server.drain;
        let running = self.is_running();
        for worker in &self.shared.workers {
            drop(worker.begin(move |worker, now| worker.end(now, now + drain)));
        }
        let clean = self.shared.workers.iter().fold(running, |clean, worker| worker.join() && clean);
        self.shared.sinks.settle(drain);
        clean
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.stop();
    }
}
