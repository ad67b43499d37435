//! What commands that run plugins outside of a relay have in common.

use anyhow::Context;
use sandbar_host::{Clocks, Engine, EngineConfig};

use crate::relay::clock::{CLOCKS, Ticker};

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

    /// With deadlines that no plugin misses by being slow, so that what comes out does not depend on the machine: only one
    /// that does not return is stopped, after a second of processor time.
    pub(crate) fn patient() -> anyhow::Result<Self> {
        let clocks = Clocks { monotonic: None, ..CLOCKS };
        Self::new(EngineConfig { clocks, call_deadline: Some(1000), ..EngineConfig::default() })
    }

    fn new(config: EngineConfig) -> anyhow::Result<Self> {
        let engine = Engine::new(EngineConfig { compiler: crate::compile::compiler(), ..config })?;
        let ticker = Ticker::start(engine.clone()).context("no thread can be started")?;
        Ok(Self { engine, _ticker: ticker })
    }
}
