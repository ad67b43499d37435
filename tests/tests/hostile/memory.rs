//! What the host keeps of attackers that are gone.

use std::fs;
use std::sync::{RwLock, RwLockReadGuard};

use crate::stage::{Stage, load};

/// Held while the process' memory is measured, which is everybody's.
static ALONE: RwLock<()> = RwLock::new(());

/// Waits while memory is measured.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Bytes of the process that are in memory: proc(5), statm.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * rustix::param::page_size()
}

/// Lives of an attacker in a row.
const LIVES: usize = 50;
/// What all of them may leave behind: the allocator's doing.
const LEFT: usize = 4 << 20;

#[test]
fn sessions_of_attackers_leave_no_memory_behind() {
    let _alone = ALONE.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    for name in [
        "attribute-flood",
        "emit-rtcp-flood",
        "handle-leak",
        "hold-for-ever",
        "log-flood",
        "memory-at-bind",
        "memory-in-steps",
        "metric-flood",
        "sink-flood",
        "table-growth",
        "timer-far",
        "trap-in-process",
    ] {
        let plugin = load(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut stage = Stage::new(name);
        let mut live = |lives| (0..lives).for_each(|_| stage.live(&plugin));
        live(10);
        let before = resident();
        live(LIVES);
        let left = resident().saturating_sub(before);
        assert!(left <= LEFT, "{name}: {LIVES} sessions have left {left} bytes");
    }
}
