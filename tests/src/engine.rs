//! The engine that all scenarios of a process share, and loading plugins for them.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use sandbar_host::{Cache, Clocks, Engine, EngineConfig, Grants, Plugin, TICK};

/// Processor time for which calls that do not return may hold up a shard: much more than half of it than any call needs, so that
/// no scenario depends on how busy the machine is, and little enough to wait for a loop to be stopped.
pub const DEADLINE: Duration = Duration::from_millis(50);

/// An engine with a thread that ticks, as an embedder has to provide. Compiled code is kept from run to run.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let folder = Path::new(env!("OUT_DIR")).join("compiled");
        let config = EngineConfig {
            // No secret: who can write into the build's folder can replace this program.
            cache: Cache::open(folder, [0x5b; 32]).ok(),
            clocks: Clocks { thread_cpu: Some(|| spent().as_nanos() as u64), ..Clocks::default() },
            call_deadline: Some(DEADLINE),
            ..EngineConfig::default()
        };
        let engine = Engine::new(config).expect("this machine runs wasmtime");
        let ticking = engine.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                ticking.tick();
            }
        });
        engine
    })
}

/// Processor time that this thread has used.
pub fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Loads a plugin with everything granted but WASI. Each scenario loads its own: faults are counted per loaded plugin.
pub fn load(component: &[u8]) -> Plugin {
    let grants = Grants { wasi: false, ..Grants::ALL };
    Plugin::load(engine(), component, &grants).unwrap_or_else(|error| panic!("{error}"))
}
