//! The relay: routes over UDP, each leg a session with its chain.
//!
//! | module     | what it is about                                                           |
//! | ---------- | -------------------------------------------------------------------------- |
//! | `build`    | from a configuration to workers that are ready to run                      |
//! | `worker`   | a thread: a shard, sockets, and the loop between them                       |
//! | `route`    | what goes from a publisher to subscribers and back                         |
//! | `leg`      | a leg's sockets, peer and session                                          |
//! | `peer`     | who a leg talks to, and how that is learned                                |
//! | `streams`  | which packet belongs to which declared stream                              |
//! | `socket`   | datagrams by the batch                                                     |
//! | `rtcp`     | the RTCP that concerns the relay itself                                    |
//! | `chains`   | changing live chains; `plan` finds the steps                               |
//! | `catalog`  | plugins, loaded; `reload` and `watch` follow changes of files              |
//! | `report`   | counters; `events` is what happens                                         |
//! | `sinks`    | what plugins write, into files                                             |
//!
//! Media runs on plain threads: a worker waits for its sockets and for its shard's next deadline and needs nothing
//! that an async runtime would add. Control goes through [`RelayHandle`], from any thread.

#[doc(hidden)]
pub mod bare;
mod build;
mod cache_key;
pub(crate) mod catalog;
mod chains;
pub(crate) mod clock;
mod events;
mod handle;
mod keyframes;
mod leg;
mod peer;
mod plan;
mod reload;
mod report;
mod route;
mod rtcp;
mod sinks;
mod socket;
mod streams;
mod watch;
mod worker;

use std::io;

use sandbar_host::{Cache, CacheError, Chain, Engine, EngineConfig, EngineError};

use crate::config::{Config, ConfigError, KeyPath, Problem};

pub use catalog::PluginError;
pub use chains::ChainChangeError;
pub use events::RelayEvent;
pub use handle::{ControlError, RelayHandle};
pub use leg::{LegCounts, LegName, NotALeg};
pub use reload::{ReloadError, Reloaded};
pub use report::{LegReport, RelayReport, RouteReport, StreamReport, TenantReport};
pub use socket::Traffic;
pub use worker::Stopped;

/// Runs routes; see [`Relay::start`].
#[derive(Clone, Copy, Debug)]
pub struct Relay;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or what it names: a plugin, a plugin's own configuration, an address.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cache folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Threads, polling, randomness.
    #[error("the system refuses what the relay needs: {0}")]
    System(#[source] io::Error),
}

/// What a check of a configuration found besides errors.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Checked {
    /// What was loaded.
    pub plugins: Vec<CheckedPlugin>,
    /// Chains whose order defeats plugins, and sinks without a writer or a place.
    pub warnings: Vec<Problem>,
}

/// A plugin that a check has loaded.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CheckedPlugin {
    /// What chains call it.
    pub name: String,
    /// What it says it is.
    pub version: String,
    /// The sha256 of its component.
    pub digest: String,
}

impl Relay {
    /// Loads the plugins, opens all sessions and sockets, and starts the workers.
    pub fn start(config: Config) -> Result<RelayHandle, StartError> {
        config.check()?;
        let engine = engine(&config)?;
        let ticker = clock::Ticker::start(engine.clone()).map_err(StartError::System)?;
        let catalog = load(&engine, &config)?;
        for warning in warnings(&config, &catalog) {
            tracing::warn!("{warning}");
        }
        let events = events::Events::default();
        let sinks = sinks::Sinks::start().map_err(StartError::System)?;
        let build::Built { workers, legs, tenants } = build::workers(&config, &catalog, &events, &sinks)?;
        let mut handles = Vec::new();
        for (number, worker) in workers.into_iter().enumerate() {
            handles.push(worker.spawn(format!("sandbar-{number}")).map_err(StartError::System)?);
        }
        let state = handle::State { config, catalog, legs };
        RelayHandle::new((engine, ticker), events, sinks, (handles, tenants), state)
    }

    /// Does everything that [`start`](Self::start) would do to find mistakes, but binds no socket and runs nothing.
    pub fn check(config: &Config) -> Result<Checked, StartError> {
        config.check()?;
        let engine = engine(config)?;
        let _ticker = clock::Ticker::start(engine.clone()).map_err(StartError::System)?;
        let catalog = load(&engine, config)?;
        let problems = build::rehearse(config, &catalog);
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems).into());
        }
        let plugins = catalog.iter().map(|(name, loaded)| CheckedPlugin {
            name: name.clone(),
            version: loaded.plugin.version().to_owned(),
            digest: loaded.plugin.digest().to_string(),
        });
        Ok(Checked { plugins: plugins.collect(), warnings: warnings(config, &catalog) })
    }
}

fn engine(config: &Config) -> Result<Engine, StartError> {
    let cache = match &config.server.cache {
        None => None,
        Some(folder) => {
            let folder = config.folder().join(folder);
            let key = cache_key::kept_in(&folder).map_err(StartError::System)?;
            Some(Cache::open(folder, key)?)
        }
    };
    let call_deadline = config.server.call_deadline;
    let (clocks, compiler) = (clock::CLOCKS, crate::compile::compiler());
    Ok(Engine::new(EngineConfig { cache, clocks, call_deadline, compiler, ..EngineConfig::default() })?)
}

fn load(engine: &Engine, config: &Config) -> Result<catalog::Catalog, ConfigError> {
    catalog::load_all(engine, config, &catalog::Catalog::new()).map_err(|errors| problems(config, &errors))
}

/// What is wrong with plugins, as problems of the configuration that names them.
fn problems(config: &Config, errors: &[(KeyPath, PluginError)]) -> ConfigError {
    ConfigError::Invalid(errors.iter().map(|(path, error)| config.problem(path, error.to_string())).collect())
}

/// Chains whose order defeats plugins, and sinks without a writer or a place.
fn warnings(config: &Config, catalog: &catalog::Catalog) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (name, members) in &config.chains {
        let loaded = members.iter().filter_map(|member| catalog.get(&member.plugin));
        let chain = Chain::new(loaded.map(|loaded| sandbar_host::MemberSpec::new(loaded.plugin.clone())));
        let path = KeyPath::ROOT.key("chains").key(name).key("members");
        warnings.extend(chain.warnings().into_iter().map(|warning| config.problem(&path, warning)));
        for (index, member) in members.iter().enumerate() {
            let writes = catalog.get(&member.plugin).is_some_and(|loaded| loaded.plugin.description().wants.sink);
            let warning = match (writes, &member.sink) {
                (true, None) => "has no `sink`: what it writes goes nowhere",
                (false, Some(_)) => "writes nothing: its `sink` stays empty",
                _ => continue,
            };
            warnings.push(config.problem(&path.index(index), format!("{} {warning}", member.plugin)));
        }
    }
    warnings
}
