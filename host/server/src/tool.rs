//! What commands that run plugins outside of a relay have in common.

use anyhow::Context;
use sandbar_host::{Engine, EngineConfig};

use crate::relay::clock::{CLOCKS, Ticker};

/// Instructions of WebAssembly that a call may take where the machine's speed is not to matter: a second or so, a hundred times
/// what a deadline allows.
const FUEL: u64 = 1_000_000_000;

/// An engine, and the thread that ticks it.
pub(crate) struct Tool {
    pub(crate) engine: Engine,
    _ticker: Ticker,
}

impl Tool {
    /// With the host's default deadlines and clocks, as a relay has them.
    pub(crate) fn strict() -> anyhow::Result<Self> {
        Self::new(EngineConfig { clocks: CLOCKS, ..EngineConfig::default() })
    }

    /// With calls bounded by what they do and not by how long they take, so that what comes out does not depend on the machine.
    pub(crate) fn patient() -> anyhow::Result<Self> {
        Self::new(EngineConfig { fuel: Some(FUEL), ..EngineConfig::default() })
    }

    fn new(config: EngineConfig) -> anyhow::Result<Self> {
        let engine = Engine::new(EngineConfig { compiler: crate::compile::compiler(), ..config })?;
        let ticker = Ticker::start(engine.clone()).context("no thread can be started")?;
        Ok(Self { engine, _ticker: ticker })
    }
}
