//! The engine: how components are compiled and run, and the tick that bounds every call.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;

use crate::cache::Cache;
use crate::guest::Guest;
use crate::imports;
use crate::plugin::{self, LoadError};
use crate::wasi;

/// Clocks of the embedder. The host reads none by itself; without them, times in reports are 0 and a deadline counts
/// ticks alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// Nanoseconds on a monotonic clock that is cheap to read: read before and after one call into a plugin in 16, for
    /// its time in reports.
    pub monotonic: Option<fn() -> u64>,
    /// Nanoseconds of processor time that the calling thread has used. Read only when a call is still running at a
    /// tick, so that a plugin is not blamed for a thread that was not running.
    pub thread_cpu: Option<fn() -> u64>,
}

/// Bounds on what is compiled, checked before the compiler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Most bytes of a component. Default 32 MiB: the largest language runtimes measured take 18.
    pub bytes: usize,
    /// Most functions in all of its modules. Default 50,000.
    pub functions: u32,
    /// Most core modules in it. Default 32.
    pub modules: u32,
    /// Most types in all of it. Default 20,000.
    pub types: u32,
    /// Most components, and types of components and instances, that lie within each other. Default 8; plugins have 2, and
    /// wasmtime itself takes 100.
    pub depth: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { bytes: 32 << 20, functions: 50_000, modules: 32, types: 20_000, depth: 8 }
    }
}

/// Compiles a component somewhere else, such as in a process of its own that is bounded in time and memory. It gives what
/// [`Engine::compile`] gives on this machine, with fuel counted or not as it is told, or says why not. What it gives is run as
/// native code.
pub type Compiler = fn(component: &[u8], fuel: bool) -> Result<Vec<u8>, String>;

/// How an [`Engine`] works.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Where compiled code is kept between runs. Default: nowhere.
    pub cache: Option<Cache>,
    /// The embedder's clocks.
    pub clocks: Clocks,
    /// How long calls of one plugin that do not return may hold up everyone else on their shards, in all that a tenant's
    /// sessions have of it: the first may take half of this, and each after it a quarter, of which the second is the last.
    /// Counted from the first tick that comes while a call runs, in processor time where [`Clocks::thread_cpu`] is given and
    /// in ticks where it is not, and to whole ticks. Default 6 ms.
    pub call_deadline: Option<Duration>,
    /// Bounds on what is compiled.
    pub compile: CompileLimits,
    /// Who compiles. Default: the thread that loads a plugin.
    pub compiler: Option<Compiler>,
    /// Instructions of WebAssembly, as wasmtime counts its fuel, that a call into a plugin may take, in place of the deadline:
    /// the same call then ends at the same instruction on every machine, for replay and tests. Slower, by a third or so.
    pub fuel: Option<u64>,
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("wasmtime refuses this machine or its settings: {0}")]
pub struct EngineError(String);

/// Compiles and runs components. Shared by all shards of a process; a copy costs a reference count.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) wasmtime: wasmtime::Engine,
    /// The contract, for components that import nothing else.
    pub(crate) contract: Linker<Guest>,
    /// The contract and a WASI without any authority.
    pub(crate) with_wasi: Linker<Guest>,
    pub(crate) config: EngineConfig,
    /// Nanoseconds.
    pub(crate) call_deadline: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// How long a tick is meant to be: by so much, and half as much on average, a call is stopped too late.
pub const TICK: Duration = Duration::from_micros(250);

/// What a call may take where nothing is said: see [`EngineConfig::call_deadline`].
const CALL_DEADLINE: Duration = Duration::from_millis(6);

impl Engine {
    /// Prepares an engine. The embedder has to call [`tick`](Self::tick) from a thread of its own every [`TICK`], or a
    /// plugin that does not return will hold its shard for ever.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        Self::build(config).map_err(|error| EngineError(format!("{error:#}")))
    }

    fn build(config: EngineConfig) -> wasmtime::Result<Self> {
        let wasmtime = wasmtime::Engine::new(&settings(config.fuel.is_some()))?;
        let mut contract = Linker::new(&wasmtime);
        imports::add_to_linker(&mut contract)?;
        let mut with_wasi = Linker::new(&wasmtime);
        imports::add_to_linker(&mut with_wasi)?;
        wasi::add_to_linker(&mut with_wasi)?;
        let call_deadline = config.call_deadline.unwrap_or(CALL_DEADLINE).as_nanos().try_into().unwrap_or(u64::MAX);
        Ok(Self(Arc::new(Inner { wasmtime, contract, with_wasi, config, call_deadline })))
    }

    /// Marks that a [`TICK`] has passed: whatever call has run for too many of them is stopped.
    pub fn tick(&self) {
        self.0.wasmtime.increment_epoch();
    }

    /// Compiles a component, as a [`Compiler`] does, within [`CompileLimits`].
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>, LoadError> {
        plugin::survey_within(component, &self.0.config.compile)?;
        let compiled = self.0.wasmtime.precompile_component(component);
        compiled.map_err(|error| LoadError::Compile(format!("{error:#}")))
    }

    /// What compiled code depends on besides the component: wasmtime's version, its settings and the processor.
    pub(crate) fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.0.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }
}

fn settings(fuel: bool) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(!fuel).consume_fuel(fuel);
    // Not in the contract, and each a surface less: garbage collection, exceptions, threads, 64-bit memories.
    config.wasm_gc(false).wasm_function_references(false).wasm_exceptions(false);
    config.wasm_threads(false).shared_memory(false).wasm_memory64(false);
    config.wasm_tail_call(false).wasm_stack_switching(false);
    config.concurrency_support(false);
    // A plugin's own frames name its fault; 512 KiB is what wasmtime gives by default.
    config.max_wasm_stack(512 << 10);
    config.memory_init_cow(true);
    config
}
