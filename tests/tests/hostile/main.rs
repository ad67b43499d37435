//! Plugins that attack: each in a session of its own, beside a neighbour of another tenant on the same shard, under traffic.
//!
//! Each is a file of `tests/guests/hostile`, laid over a plugin that behaves, and does one thing. Of each is asked that the
//! neighbour has all its packets, in order and in time; that what becomes of the attacker's own packets is what its policy
//! says, and is accounted for; that the right one is blamed, for the right thing; and that nothing is left of it.

mod compose;
mod memory;
mod stage;

use sandbar_host::FaultKind;
use stage::Expected::{
    Accounted, Counted, Fault, Harmless, NotBound, NotLoaded, NotOpened, NotSwapped, Reordered, Storm,
};

/// A test for each attacker, named as its file is, with what becomes of it.
macro_rules! attackers {
    ($($name:ident: $expected:expr;)*) => {
        const ATTACKERS: &[&str] = &[$(stringify!($name)),*];

        mod attackers {
            use super::*;

            $(#[test]
            fn $name() {
                let _together = memory::together();
                stage::play(&stringify!($name).replace('_', "-"), $expected);
            })*
        }
    };
}

attackers! {
    // Loops without end, in each export.
    loop_in_create: NotOpened("(deadline)");
    loop_in_restore: NotSwapped("(deadline)");
    loop_in_save: Fault(FaultKind::Deadline);
    loop_in_bind_rtcp: NotOpened("(deadline)");
    loop_in_bind_stream: Fault(FaultKind::Deadline);
    loop_in_unbind_stream: Fault(FaultKind::Deadline);
    loop_in_process: Fault(FaultKind::Deadline);
    loop_in_timer: Fault(FaultKind::Deadline);
    loop_in_refill: Fault(FaultKind::Deadline);
    loop_in_control: Fault(FaultKind::Deadline);
    loop_in_close: Fault(FaultKind::Deadline);
    loop_in_destructor: Fault(FaultKind::Deadline);
    loop_in_post_return: Fault(FaultKind::Deadline);
    loop_in_describe: NotLoaded("itself: deadline");
    loop_in_start: NotLoaded("itself: deadline");
    loop_in_realloc: NotOpened("(deadline)");

    // Traps, in each export.
    trap_in_create: NotOpened("(trap)");
    trap_in_restore: NotSwapped("(trap)");
    trap_in_save: Fault(FaultKind::Trap);
    trap_in_bind_rtcp: NotOpened("(trap)");
    trap_in_bind_stream: Fault(FaultKind::Trap);
    trap_in_unbind_stream: Fault(FaultKind::Trap);
    trap_in_process: Fault(FaultKind::Trap);
    trap_in_timer: Fault(FaultKind::Trap);
    trap_in_refill: Fault(FaultKind::Trap);
    trap_in_control: Fault(FaultKind::Trap);
    trap_in_close: Fault(FaultKind::Trap);
    trap_in_destructor: Fault(FaultKind::Trap);
    trap_in_post_return: Fault(FaultKind::Trap);
    trap_in_describe: NotLoaded("itself: trap");
    trap_in_start: NotLoaded("itself: trap");
    trap_in_realloc: NotOpened("(trap)");

    // Other ways to trap.
    division_by_zero: Fault(FaultKind::Trap);
    read_out_of_bounds: Fault(FaultKind::Trap);
    write_out_of_bounds: Fault(FaultKind::Trap);
    null_call: Fault(FaultKind::Trap);
    deep_recursion: Fault(FaultKind::Trap);
    realloc_calls_the_host: NotOpened("cannot leave component instance");

    // Memory and tables.
    memory_at_once: Fault(FaultKind::Memory);
    memory_in_steps: Fault(FaultKind::Memory);
    memory_at_bind: Harmless;
    memory_initial: NotLoaded("itself: memory");
    memory_unlimited: Harmless;
    table_growth: Fault(FaultKind::Memory);
    table_initial: NotLoaded("itself: memory");
    restore_bomb: Harmless;

    // What is handed on.
    next_cut_head: Fault(FaultKind::BadBatch);
    next_cut_body: Fault(FaultKind::BadBatch);
    next_outside_memory: Fault(FaultKind::HostCall);
    next_twice: Fault(FaultKind::BadBatch);
    next_twice_apart: Fault(FaultKind::BadBatch);
    next_unknown: Fault(FaultKind::BadBatch);
    next_timer: Fault(FaultKind::BadBatch);
    next_observed: Fault(FaultKind::BadBatch);
    next_reversed: Reordered;
    next_foreign_ssrc: Fault(FaultKind::BadBatch);
    next_not_rtp: Fault(FaultKind::BadBatch);
    next_long_header: Fault(FaultKind::BadBatch);
    next_too_large: Fault(FaultKind::BadBatch);
    next_oversize: Counted("oversize");
    next_not_rtcp: Fault(FaultKind::BadBatch);
    next_outside_process: Fault(FaultKind::BadBatch);
    next_nothing: Accounted;
    next_empty_flood: Harmless;
    next_huge: Fault(FaultKind::HostCall);
    next_large: Fault(FaultKind::BadBatch);

    // Packets of its own.
    emit_flood: Accounted;
    emit_oversize: Harmless;
    emit_foreign_ssrc: Harmless;
    emit_malformed: Harmless;
    emit_padding: Harmless;
    emit_unknown_stream: Harmless;
    emit_outside_memory: Fault(FaultKind::HostCall);
    emit_what_was_never_kept: Harmless;
    emit_rtcp_flood: Harmless;
    emit_rtcp_oversize: Harmless;
    emit_rtcp_malformed: Harmless;
    storm: Storm;
    storm_that_grows: Storm;
    storm_that_is_slow: Storm;

    // Timers.
    timer_million: Fault(FaultKind::HostCall);
    timer_past: Harmless;
    timer_far: Harmless;
    timer_at_the_end_of_time: Harmless;
    timer_of_nobody: Harmless;
    timer_each_nanosecond: Harmless;
    timer_ticks_for_ever: Harmless;

    // What is told.
    log_flood: Counted("unheard");
    log_giant: Harmless;
    log_not_utf8: Fault(FaultKind::HostCall);
    log_level_unknown: Fault(FaultKind::HostCall);
    metric_flood: Counted("unheard");
    metric_giant_name: Counted("unheard");
    gauge_not_a_number: Harmless;
    publish_flood: Counted("unheard");
    sink_flood: Counted("sink_refused");
    sink_empty_flood: Harmless;
    sink_unwanted: NotLoaded("without wanting");

    // Attributes.
    attribute_giant: Harmless;
    attribute_giant_key: Harmless;
    attribute_of_the_host: Harmless;
    attribute_flood: Harmless;
    attribute_of_no_packet: Harmless;
    session_attribute_flood: Harmless;

    // Handles.
    handle_leak: Fault(FaultKind::HostCall);
    handle_forged: NotOpened("(host call)");
    handle_again: NotSwapped("(host call)");

    // Descriptions.
    describe_giant_name: NotLoaded("its name is");
    describe_no_name: NotLoaded("its name is");
    describe_not_utf8: NotLoaded("itself: host call");
    describe_terminal: NotLoaded("visible ASCII");
    describe_outside_memory: NotLoaded("itself: host call");
    describe_endless: NotLoaded("itself: host call");
    describe_many_options: NotLoaded("256 options");
    describe_giant_options: NotLoaded("itself: host call");
    describe_hands_on: NotLoaded("itself: bad batch");
    describe_sets_timers: Harmless;
    unasked: Harmless;

    // Answers.
    bind_media: NotBound("read-media");
    bind_nonsense: Fault(FaultKind::HostCall);
    bind_outside_memory: Fault(FaultKind::HostCall);
    bind_crooked: Fault(FaultKind::HostCall);
    control_outside_memory: Fault(FaultKind::HostCall);
    control_giant: Fault(FaultKind::HostCall);
    save_giant: Fault(FaultKind::HostCall);
    save_large: Harmless;
    refuse_giant: NotOpened("refuses");

    // Histories, holds and stamps.
    history_of_nobody: Harmless;
    history_endless: Harmless;
    hold_for_ever: Counted("held");
    hold_and_release_twice: Harmless;
    hold_and_hand_on: Fault(FaultKind::BadBatch);
    hold_of_nobody: Harmless;
    hold_and_discard: Accounted;
    stamp_not_negotiated: NotBound("not negotiated");
    stamp_flood: Harmless;
    stamp_of_no_size: Counted("unstamped");

    // Calls of the host.
    import_flood: Harmless;
    import_flood_without_end: Fault(FaultKind::Deadline);
    ntp_extremes: Harmless;
    slow: Harmless;

    // Large components.
    functions_many: Harmless;
    functions_too_many: NotLoaded("functions, and at most");
    types_many: NotLoaded("types, and at most");
    nesting_deep: Harmless;
    locals_many: Harmless;
    data_large: Harmless;
    data_too_large: NotLoaded("bytes, and at most");
}

#[test]
fn every_attacker_is_let_loose() {
    let mut known: Vec<_> = ATTACKERS.iter().map(|name| name.replace('_', "-")).collect();
    known.sort();
    assert_eq!(known, compose::names());
}
