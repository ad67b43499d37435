//! Time: the one monotonic clock of a relay's shards, the wall clock beside it, and the tick that bounds plugins' calls.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use sandbar_host::{Clocks, Engine, Instant, TICK, WallClock};

/// The relay's monotonic clock, the same for all workers. Its zero lies an hour before the process's first look at it,
/// so that times in the near past can be told apart.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(monotonic()) + Duration::from_secs(3600)
}

/// The wall clock as it is now; it is read once, so that a step of the system's clock does not tear streams apart.
pub(crate) fn wall_clock() -> WallClock {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallClock::from_unix(now(), since_epoch)
}

/// The clocks that the host library reads during calls into plugins.
pub(crate) const CLOCKS: Clocks = Clocks { monotonic: Some(monotonic), thread_cpu: Some(thread_cpu) };

fn monotonic() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

fn thread_cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The thread that ticks an engine every [`TICK`].
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let tick = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(TICK);
                engine.tick();
            }
        };
        let thread = std::thread::Builder::new().name("sandbar-tick".to_owned()).spawn(tick)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
