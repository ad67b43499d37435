//! Going over to another configuration, or to a changed plugin, without interrupting media.
//!
//! Everything new is loaded first, on the caller's thread. Then chains change leg by leg, each between two packets, and
//! if any plugin refuses, all legs go back: a reload happens as a whole or not at all.

use std::sync::PoisonError;

use serde::Serialize;

use super::build;
use super::catalog::{self, Loaded};
use super::chains::{ChainChangeError, Placed, change_all};
use super::events::RelayEvent;
use super::handle::{Shared, State};
use super::leg::LegName;
use super::{problems, warnings};
use crate::config::{Config, ConfigError, Leg, Route, Server};

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Legs whose chains were changed.
    pub legs: Vec<LegName>,
    /// Plugins that are another component than before, by name.
    pub plugins: Vec<String>,
}

/// Why a reload is refused. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration, or a plugin that it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what only a restart can change.
    #[error("a restart is needed for what has changed: {}", .0.join("; "))]
    Restart(Vec<String>),
    /// A plugin of a new chain refuses.
    #[error(transparent)]
    Chain(#[from] ChainChangeError),
}

/// Goes over to `config`.
pub(crate) fn to(shared: &Shared, config: Config) -> Result<Reloaded, ReloadError> {
    let _one_at_a_time = shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
    config.check()?;
    let (old, known) = {
        let state = shared.state();
        (state.config.clone(), state.catalog.clone())
    };
    let reasons = restart_reasons(&old, &config);
    if !reasons.is_empty() {
        return Err(ReloadError::Restart(reasons));
    }
    let catalog = catalog::load_all(&shared.engine, &config, &known).map_err(|errors| problems(&config, &errors))?;
    for warning in warnings(&config, &catalog) {
        tracing::warn!("{warning}");
    }
    let mut state = shared.state();
    let target = |(name, leg): (LegName, &Leg)| {
        let members = build::members(&config, &catalog, &shared.sinks, &name, leg);
        (name, members)
    };
    let targets = legs_of(&config).map(target).collect();
    let legs = state.change(shared, targets)?;
    let differs = |name: &String, loaded: &Loaded| known.get(name).is_some_and(|known| !known.same(loaded));
    let plugins = catalog.iter().filter(|(name, loaded)| differs(name, loaded)).map(|(name, _)| name.clone()).collect();
    state.config = config;
    state.catalog = catalog;
    Ok(Reloaded { legs, plugins })
}

/// Puts what a plugin's file now contains into all chains that have the plugin.
pub(crate) fn plugin(shared: &Shared, name: &str) {
    let _one_at_a_time = shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
    let (config, known) = {
        let state = shared.state();
        (state.config.clone(), state.catalog.get(name).cloned())
    };
    let refused =
        |message| shared.events.tell(RelayEvent::Refused { what: format!("the changed plugin {name}"), message });
    let loaded = match catalog::load(&shared.engine, &config, name, known.as_ref()) {
        Ok(loaded) => loaded,
        Err(error) => return refused(error.to_string()),
    };
    if known.as_ref().is_some_and(|known| known.same(&loaded)) {
        return;
    }
    if let Some((_, error)) = catalog::refusals(&config, name, &loaded).into_iter().next() {
        return refused(error.to_string());
    }
    let mut state = shared.state();
    let swap = |placed: &Placed| match placed.name == name {
        true => {
            let mut spec = placed.spec.clone();
            spec.plugin = loaded.plugin.clone();
            Placed { name: placed.name.clone(), spec }
        }
        false => placed.clone(),
    };
    let targets = state.legs.iter().map(|leg| (leg.name.clone(), leg.members.iter().map(swap).collect())).collect();
    match state.change(shared, targets) {
        Ok(legs) => {
            let plugin = name.to_owned();
            let (version, digest) = (loaded.plugin.version().to_owned(), loaded.plugin.digest().to_string());
            state.catalog.insert(plugin.clone(), loaded);
            shared.events.tell(RelayEvent::Swapped { plugin, version, digest, legs });
        }
        Err(error) => refused(error.to_string()),
    }
}

impl State {
    /// Gives legs the chains that they should have. Returns those that had another one.
    fn change(
        &mut self,
        shared: &Shared,
        targets: Vec<(LegName, Vec<Placed>)>,
    ) -> Result<Vec<LegName>, ChainChangeError> {
        let place = |(name, target): (LegName, Vec<Placed>)| {
            let index = self.legs.iter().position(|leg| leg.name == name)?;
            let members = &self.legs[index].members;
            let same = members.len() == target.len() && members.iter().zip(&target).all(|(old, new)| old.stays(new));
            (!same).then_some((index, target))
        };
        let targets: Vec<_> = targets.into_iter().filter_map(place).collect();
        let legs = targets.iter().map(|(index, _)| self.legs[*index].name.clone()).collect();
        change_all(&shared.workers, &mut self.legs, targets)?;
        Ok(legs)
    }
}

fn legs_of(config: &Config) -> impl Iterator<Item = (LegName, &Leg)> {
    config.routes.iter().flat_map(|route| {
        let publisher = (LegName::publisher(&route.name), &route.publisher.leg);
        let subscribers = route.subscribers.iter();
        std::iter::once(publisher)
            .chain(subscribers.map(|subscriber| (LegName::subscriber(&route.name, &subscriber.name), &subscriber.leg)))
    })
}

/// What is different and cannot be changed while media flows.
fn restart_reasons(old: &Config, new: &Config) -> Vec<String> {
    let mut reasons = server_reasons(&old.server, &new.server);
    let quotas = |config: &Config, name: &str| config.tenants.get(name).map(|tenant| tenant.quotas).unwrap_or_default();
    let names = old.tenants.keys().chain(new.tenants.keys().filter(|name| !old.tenants.contains_key(*name)));
    let changed = names.filter(|name| quotas(old, name) != quotas(new, name));
    reasons.extend(changed.map(|name| format!("the quotas of the tenant {name} have changed")));
    for route in &new.routes {
        match old.routes.iter().find(|known| known.name == route.name) {
            None => reasons.push(format!("the route {} is new", route.name)),
            Some(known) => reasons.extend(route_reasons(known, route)),
        }
    }
    let gone = old.routes.iter().filter(|known| new.routes.iter().all(|route| route.name != known.name));
    reasons.extend(gone.map(|route| format!("the route {} is gone", route.name)));
    reasons
}

fn server_reasons(old: &Server, new: &Server) -> Vec<String> {
    let keys = [
        ("workers", old.workers != new.workers),
        ("cache", old.cache != new.cache),
        ("call_deadline", old.call_deadline != new.call_deadline),
        ("watch", old.watch != new.watch),
        ("log", old.log != new.log),
        ("stats_interval", old.stats_interval != new.stats_interval),
        ("socket_buffer", old.socket_buffer != new.socket_buffer),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| format!("server.{key} has changed")).collect()
}

fn route_reasons(old: &Route, new: &Route) -> Vec<String> {
    let mut reasons = Vec::new();
    let name = &new.name;
    let mut reason = |what: &str, changed: bool| {
        if changed {
            reasons.push(format!("{what} of the route {name} has changed"));
        }
    };
    reason("the tenant", old.tenant != new.tenant);
    reason("the keyframe_interval", old.keyframe_interval != new.keyframe_interval);
    // A leg's chain may change, and nothing else of it.
    let unchained = |leg: &Leg| Leg { chain: None, ..leg.clone() };
    let publisher_differs = unchained(&old.publisher.leg) != unchained(&new.publisher.leg)
        || old.publisher.streams != new.publisher.streams;
    reason("the publisher", publisher_differs);
    let plain = |route: &Route| -> Vec<_> {
        let subscribers = route.subscribers.iter().cloned();
        subscribers
            .map(|subscriber| crate::config::Subscriber { leg: unchained(&subscriber.leg), ..subscriber })
            .collect()
    };
    let (old, new) = (plain(old), plain(new));
    for subscriber in &new {
        match old.iter().find(|known| known.name == subscriber.name) {
            None => reason(&format!("the list of subscribers ({} is new)", subscriber.name), true),
            Some(known) => reason(&format!("the subscriber {}", subscriber.name), known != subscriber),
        }
    }
    for known in old.iter().filter(|known| new.iter().all(|subscriber| subscriber.name != known.name)) {
        reason(&format!("the list of subscribers ({} is gone)", known.name), true);
    }
    reasons
}
