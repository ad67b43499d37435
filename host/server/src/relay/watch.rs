//! Follows plugin files on a thread of its own.
//!
//! It asks for time, size and inode of each file now and then: a few system calls, where a service of the system's that
//! tells of changes would not see those on network and overlay file systems or behind a mount that is switched over,
//! and would need to be asked for a pause, too. For a file that has changed is taken only when it has stayed the same
//! from one look to the next: whoever writes it may not be done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use super::catalog::Stamp;
use super::handle::Shared;
use super::reload;

/// The thread. It ends after this value, as soon as it has done what it is at: compiling what was changed a moment ago
/// does not hold up a shutdown, and finds no worker any more.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Thread,
}

/// A file as it was at the last look, and as it was when it was last taken or refused.
struct Seen {
    file: PathBuf,
    last: Option<Stamp>,
    judged: Option<Stamp>,
}

impl Watch {
    pub(crate) fn start(shared: Arc<Shared>, interval: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut seen = BTreeMap::new();
        // What is there now has been loaded a moment ago.
        look(&shared, &mut seen);
        let follow = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(interval);
                for name in look(&shared, &mut seen) {
                    if !stopped.load(Ordering::Relaxed) {
                        reload::plugin(&shared, &name);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("sandbar-watch".to_owned()).spawn(follow)?;
        Ok(Self { stop, thread: thread.thread().clone() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Looks at all files. Returns the plugins whose files have changed and settled.
fn look(shared: &Shared, seen: &mut BTreeMap<String, Seen>) -> Vec<String> {
    let files: BTreeMap<String, PathBuf> = {
        let state = shared.state();
        let file = |(name, loaded): (&String, &super::catalog::Loaded)| Some((name.clone(), loaded.file.clone()?));
        state.catalog.iter().filter_map(file).collect()
    };
    seen.retain(|name, seen| files.get(name) == Some(&seen.file));
    let mut changed = Vec::new();
    for (name, file) in files {
        // A file that is gone for a moment, as when it is replaced, is not a change.
        let Ok(stamp) = Stamp::of(&file) else { continue };
        let entry = seen.entry(name.clone()).or_insert(Seen { file, last: Some(stamp), judged: Some(stamp) });
        let settled = entry.last.replace(stamp) == Some(stamp);
        if settled && entry.judged != Some(stamp) {
            entry.judged = Some(stamp);
            changed.push(name);
        }
    }
    changed
}
