//! The engine that all harnesses of a process share, and what it has compiled.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use sandbar_host::{Digest, Engine, EngineConfig, Grants, LoadError, Plugin};

/// What the engine's clock ticks in, and how many ticks a call may take at first: five seconds, so that no test depends on how
/// busy the machine is, and one that loops for ever ends all the same.
const TICK: Duration = Duration::from_millis(50);
const TICKS: u32 = 100;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    // A call may take half of it, in ticks as the engine means them.
    let call_deadline = Some(sandbar_host::TICK * 2 * TICKS);
    let config = EngineConfig { call_deadline, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap_or_else(|error| panic!("{error}"));
    let ticking = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            ticking.tick();
        }
    });
    engine
});

static LOADED: LazyLock<Mutex<HashMap<Digest, Plugin>>> = LazyLock::new(Mutex::default);

/// Compiles a component and checks it as a host does, with everything granted that it may want; the second time it takes
/// what the first one made. [`Plugin::imports`] tells what it can do, for a test that pins it.
///
/// # Errors
/// Why a host would not load it.
pub fn load(component: &[u8]) -> Result<Plugin, LoadError> {
    let digest = Digest::of(component);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plugin) = loaded.get(&digest) {
        return Ok(plugin.clone());
    }
    let plugin = Plugin::load(&ENGINE, component, &Grants::ALL)?;
    loaded.insert(digest, plugin.clone());
    Ok(plugin)
}
