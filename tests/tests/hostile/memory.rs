//! What the host keeps of attackers that are gone.

use std::sync::{RwLock, RwLockReadGuard};

use crate::stage::{Stage, load};

/// Held while the process' memory is measured, which is everybody's.
static ALONE: RwLock<()> = RwLock::new(());

/// Waits while memory is measured.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Bytes of the process that are in memory.
fn resident() -> usize {
    sandbar_tests::resident().expect("Linux says how much")
}

/// What an attacker may leave behind: the allocator's doing.
const LEFT: usize = 4 << 20;

/// Plays sessions of an attacker, first some that fill what is kept for use again, and asks what the others have left.
fn leaves_nothing(name: &str, sessions: usize, rounds: usize) {
    let _alone = ALONE.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let plugin = load(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut stage = Stage::new(name);
    (0..10).for_each(|_| stage.live(&plugin, 5));
    let before = resident();
    (0..sessions).for_each(|_| stage.live(&plugin, rounds));
    let left = resident().saturating_sub(before);
    assert!(left <= LEFT, "{name}: {left} bytes are left");
}

/// Tests for each, named as its file is: with fifty sessions, and with one that lives as long as they do.
macro_rules! leave_nothing {
    ($($name:ident)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn in_fifty_sessions() {
                leaves_nothing(&stringify!($name).replace('_', "-"), 50, 4);
            }

            #[test]
            fn in_a_long_session() {
                leaves_nothing(&stringify!($name).replace('_', "-"), 1, 200);
            }
        })*
    };
}

leave_nothing! {
    attribute_flood
    emit_rtcp_flood
    handle_leak
    hold_for_ever
    log_flood
    memory_at_bind
    memory_in_steps
    metric_flood
    publish_flood
    session_attribute_flood
    sink_flood
    table_growth
    timer_far
    timer_past
    trap_in_process
}
