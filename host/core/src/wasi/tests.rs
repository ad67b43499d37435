use wasmtime::component::{Component, Instance};

use super::*;
use crate::chain::Limits;
use crate::engine::{Engine, EngineConfig};
use crate::guest::Note;
use crate::tenant::{Holdings, Quotas, Tenant};
use crate::time::WallClock;

const WALL_CLOCK: Grants = Grants { wall_clock: true, ..Grants::NONE };
const RANDOMNESS: Grants = Grants { randomness: true, ..Grants::NONE };

/// Waits, opens sockets, lists directories, exits; as a runtime of another language would, at an older version of WASI.
const RUNTIME: &str = r#"(component
  (import "wasi:io/poll@0.2.1" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:sockets/network@0.2.0" (instance $network
    (export "network" (type $network (sub resource)))
    (type $code' (enum "unknown" "access-denied" "not-supported"))
    (export "error-code" (type $code (eq $code')))))
  (alias export $network "network" (type $network))
  (alias export $network "error-code" (type $code))
  (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
    (alias outer 1 $network (type $outer))
    (export "network" (type $network (eq $outer)))
    (export "instance-network" (func (result (own $network))))))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type $socket (sub resource)))))
  (alias export $tcp "tcp-socket" (type $socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $socket (type $outer-socket))
    (export "tcp-socket" (type $socket (eq $outer-socket)))
    (alias outer 1 $code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (type $family' (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $family')))
    (export "create-tcp-socket"
      (func (param "address-family" $family) (result (result (own $socket) (error $code)))))))
  (import "wasi:filesystem/types@0.2.0" (instance $files (export "descriptor" (type $descriptor (sub resource)))))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (alias outer 1 $descriptor (type $outer))
    (export "descriptor" (type $descriptor (eq $outer)))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-u64" (func (result u64)))
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))

  (core module $libc
    (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $poll-all (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
  (core func $drop (canon resource.drop $pollable))
  (core func $now (canon lower (func $clock "now")))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $network (canon lower (func $instance-network "instance-network")))
  (core func $socket (canon lower (func $create "create-tcp-socket") (memory $memory)))
  (core func $directories (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
  (core func $exit-with (canon lower (func $exit "exit")))
  (core func $draw (canon lower (func $random "get-random-u64")))
  (core func $bytes (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))

  (core module $main
    (import "" "memory" (memory 1))
    (import "" "ready" (func $ready (param i32) (result i32)))
    (import "" "block" (func $block (param i32)))
    (import "" "poll" (func $poll (param i32 i32 i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "now" (func $now (result i64)))
    (import "" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "" "network" (func $network (result i32)))
    (import "" "socket" (func $socket (param i32 i32)))
    (import "" "directories" (func $directories (param i32)))
    (import "" "exit" (func $exit (param i32)))
    (import "" "draw" (func $draw (result i64)))
    (import "" "bytes" (func $bytes (param i64 i32)))
    (global $kept (mut i32) (i32.const 0))
    (func (export "now") (param i64) (result i64) (call $now))
    (func (export "subscribe") (param i64) (result i64)
      (global.set $kept (call $subscribe (local.get 0)))
      (i64.extend_i32_u (call $ready (global.get $kept))))
    (func (export "ready") (param i64) (result i64) (i64.extend_i32_u (call $ready (global.get $kept))))
    (func (export "sleep") (param i64) (result i64)
      (call $block (call $subscribe (local.get 0)))
      (i64.const 1))
    (func (export "poll") (param i64) (result i64)
      ;; What was kept, and one that is ready; then how many are, and which is the first.
      (i32.store (i32.const 0) (global.get $kept))
      (i32.store (i32.const 4) (call $subscribe (i64.const 0)))
      (call $poll (i32.const 0) (i32.wrap_i64 (local.get 0)) (i32.const 16))
      (i64.extend_i32_u (i32.add
        (i32.mul (i32.load (i32.const 20)) (i32.const 10))
        (i32.load (i32.load (i32.const 16))))))
    (func (export "hoard") (param i64) (result i64)
      (loop $again
        (drop (call $network))
        (br_if $again (i64.ne (i64.const 0) (local.tee 0 (i64.sub (local.get 0) (i64.const 1))))))
      (i64.const 1))
    (func (export "open-and-close") (param i64) (result i64)
      (loop $again
        (call $drop (call $subscribe (i64.const 0)))
        (br_if $again (i64.ne (i64.const 0) (local.tee 0 (i64.sub (local.get 0) (i64.const 1))))))
      (i64.const 1))
    (func (export "socket") (param i64) (result i64)
      ;; 257: an error, and it is `access-denied`.
      (call $socket (i32.const 0) (i32.const 32))
      (i64.extend_i32_u (i32.or
        (i32.shl (i32.load8_u (i32.const 32)) (i32.const 8))
        (i32.load8_u (i32.const 36)))))
    (func (export "directories") (param i64) (result i64)
      (i32.store (i32.const 52) (i32.const 99))
      (call $directories (i32.const 48))
      (i64.extend_i32_u (i32.load (i32.const 52))))
    (func (export "exit") (param i64) (result i64) (call $exit (i32.wrap_i64 (local.get 0))) (i64.const 0))
    (func (export "draw") (param i64) (result i64) (call $draw))
    (func (export "bytes") (param i64) (result i64)
      (call $bytes (local.get 0) (i32.const 64))
      (i64.extend_i32_u (i32.load (i32.const 68)))))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $memory)) (export "ready" (func $ready)) (export "block" (func $block))
    (export "poll" (func $poll-all)) (export "drop" (func $drop)) (export "now" (func $now))
    (export "subscribe" (func $subscribe)) (export "network" (func $network)) (export "socket" (func $socket))
    (export "directories" (func $directories)) (export "exit" (func $exit-with)) (export "draw" (func $draw))
    (export "bytes" (func $bytes))))))
  (type $call (func (param "n" u64) (result u64)))
  (func (export "now") (type $call) (canon lift (core func $main "now")))
  (func (export "subscribe") (type $call) (canon lift (core func $main "subscribe")))
  (func (export "ready") (type $call) (canon lift (core func $main "ready")))
  (func (export "sleep") (type $call) (canon lift (core func $main "sleep")))
  (func (export "poll") (type $call) (canon lift (core func $main "poll")))
  (func (export "hoard") (type $call) (canon lift (core func $main "hoard")))
  (func (export "open-and-close") (type $call) (canon lift (core func $main "open-and-close")))
  (func (export "socket") (type $call) (canon lift (core func $main "socket")))
  (func (export "directories") (type $call) (canon lift (core func $main "directories")))
  (func (export "exit") (type $call) (canon lift (core func $main "exit")))
  (func (export "draw") (type $call) (canon lift (core func $main "draw")))
  (func (export "bytes") (type $call) (canon lift (core func $main "bytes"))))"#;

fn guest(granted: &Grants) -> Guest {
    let wall_clock = WallClock::from_unix(Instant::from_millis(1000), Duration::from_secs(1_700_000_000));
    let mut guest = Guest::new(Limits::default(), wall_clock, Holdings::new(Tenant::new("wasi", Quotas::default())));
    guest.wasi = Wasi::new(granted);
    guest
}

struct Runtime {
    store: wasmtime::Store<Guest>,
    instance: Instance,
}

impl Runtime {
    fn new(granted: &Grants) -> Self {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let component = Component::from_binary(&engine.0.wasmtime, &wat::parse_str(RUNTIME).unwrap()).unwrap();
        let mut store = wasmtime::Store::new(&engine.0.wasmtime, guest(granted));
        store.set_epoch_deadline(1);
        let instance = engine.0.with_wasi.instantiate(&mut store, &component).unwrap();
        Self { store, instance }
    }

    fn call(&mut self, name: &str, n: u64) -> Result<u64, String> {
        let function = self.instance.get_typed_func::<(u64,), (u64,)>(&mut self.store, name).unwrap();
        let result = function.call(&mut self.store, (n,));
        result.map(|(result,)| result).map_err(|error| error.root_cause().to_string())
    }
}

fn links(imports: &str) -> bool {
    let engine = Engine::new(EngineConfig::default()).unwrap();
    let component = wat::parse_str(format!("(component {imports})")).unwrap();
    let component = Component::from_binary(&engine.0.wasmtime, &component).unwrap();
    engine.0.with_wasi.instantiate_pre(&component).is_ok()
}

#[test]
fn any_patch_version_of_wasi_0_2_is_offered_and_no_other() {
    let clock = |version| {
        let import = format!(r#"(import "wasi:clocks/monotonic-clock@{version}""#);
        links(&format!(r#"{import} (instance (export "now" (func (result u64)))))"#))
    };
    assert!(clock("0.2.0") && clock("0.2.6") && clock("0.2.12") && clock("0.2.99"));
    assert!(!clock("0.3.0") && !clock("0.1.0") && !clock("0.2.0-rc-2023-11-10"));
    assert!(!links(r#"(import "wasi:http/outgoing-handler@0.2.0" (instance (export "handle" (func))))"#));
}

#[test]
fn the_monotonic_clock_is_the_calls_own_time() {
    let mut runtime = Runtime::new(&Grants::NONE);
    runtime.store.data_mut().call.now = Instant::from_millis(5);
    assert_eq!(runtime.call("now", 0), Ok(5_000_000));
    assert_eq!(runtime.call("now", 0), Ok(5_000_000));
}

#[test]
fn a_plugin_can_ask_whether_and_not_wait() {
    let mut runtime = Runtime::new(&Grants::NONE);
    assert_eq!(runtime.call("subscribe", 1_000_000), Ok(0));
    assert_eq!(runtime.call("poll", 2), Ok(11), "one is ready, and it is the second");
    runtime.store.data_mut().call.now = Instant::from_millis(1);
    assert_eq!(runtime.call("ready", 0), Ok(1));
    assert_eq!(runtime.call("poll", 2), Ok(20), "both are ready");
    assert_eq!(runtime.call("sleep", 0), Ok(1));
    let error = runtime.call("sleep", 1).unwrap_err();
    assert!(error.contains("the plugin waits"), "{error}");
}

#[test]
fn polling_nothing_or_what_is_not_ready_is_waiting() {
    for handles in [0, 1] {
        let mut runtime = Runtime::new(&Grants::NONE);
        assert_eq!(runtime.call("subscribe", 1_000_000), Ok(0));
        let error = runtime.call("poll", handles).unwrap_err();
        assert!(error.contains("the plugin waits"), "{error}");
    }
    let mut runtime = Runtime::new(&Grants::NONE);
    let error = runtime.call("poll", 50_000).unwrap_err();
    assert!(error.contains("polls 50000 handles"), "{error}");
}

#[test]
fn handles_that_are_not_closed_are_bounded() {
    let mut runtime = Runtime::new(&Grants::NONE);
    assert_eq!(runtime.call("open-and-close", 10_000), Ok(1));
    assert_eq!(runtime.call("hoard", MAX_HANDLES as u64), Ok(1));
    let error = runtime.call("hoard", 1).unwrap_err();
    assert!(error.contains("does not close what it opens"), "{error}");
}

#[test]
fn there_are_no_sockets_and_no_files() {
    let mut runtime = Runtime::new(&Grants::ALL);
    assert_eq!(runtime.call("socket", 0), Ok(257));
    assert_eq!(runtime.call("directories", 0), Ok(0));
}

#[test]
fn an_exit_is_a_fault_that_says_so() {
    for (status, said) in [(0, "exits with status 0"), (1, "exits with status 1")] {
        let mut runtime = Runtime::new(&Grants::NONE);
        let error = runtime.call("exit", status).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert_eq!(runtime.store.data().call.blame, Some(FaultKind::Trap));
    }
}

#[test]
fn random_numbers_are_the_seeds_where_granted_and_constants_elsewhere() {
    let draw = |granted: &Grants, seed: u64| {
        let mut runtime = Runtime::new(granted);
        runtime.store.data_mut().random = seed;
        [runtime.call("draw", 0).unwrap(), runtime.call("draw", 0).unwrap()]
    };
    assert_eq!(draw(&WALL_CLOCK, 1), draw(&Grants::NONE, 2));
    assert_eq!(draw(&RANDOMNESS, 1), draw(&RANDOMNESS, 1));
    assert_ne!(draw(&RANDOMNESS, 1), draw(&RANDOMNESS, 2));
    let [first, second] = draw(&RANDOMNESS, 1);
    assert_ne!(first, second);
}

#[test]
fn as_many_random_bytes_as_asked_for_and_no_flood() {
    let mut runtime = Runtime::new(&Grants::NONE);
    for count in [0, 1, 8, 13, MAX_BYTES as u64] {
        assert_eq!(runtime.call("bytes", count), Ok(count));
    }
    let error = runtime.call("bytes", MAX_BYTES as u64 + 1).unwrap_err();
    assert!(error.contains("random bytes asked for"), "{error}");
}

#[test]
fn the_wall_clock_is_told_where_granted() {
    let mut told = guest(&WALL_CLOCK);
    told.call.now = Instant::from_millis(2500);
    assert_eq!(told.since_epoch(), Duration::from_millis(1_700_000_001_500));
    assert_eq!(guest(&RANDOMNESS).since_epoch(), Duration::ZERO);
    // NTP's seconds begin anew on 7 February 2036 at 06:28:16.
    let after = Duration::from_secs(2_085_978_496 + 10);
    told.wall_clock = WallClock::from_unix(told.call.now, after);
    assert_eq!(told.since_epoch(), after);
}

fn logged(guest: &mut Guest) -> Vec<(Level, String)> {
    let notes = std::mem::take(&mut guest.call.effects.notes);
    let logged = notes.into_iter().map(|(session, note)| match note {
        Note::Log { level, message } if session == 0 => (level, message),
        other => panic!("{other:?} of session {session}"),
    });
    logged.collect()
}

#[test]
fn output_is_logged_line_by_line() {
    let mut guest = guest(&Grants::NONE);
    guest.print(Sink::Out, b"one\r\n\ntw");
    guest.print(Sink::Error, b"three\nfour");
    assert_eq!(logged(&mut guest), [(Level::Info, "one".to_owned()), (Level::Warn, "three".to_owned())]);
    guest.print(Sink::Out, b"o \xff\n");
    assert_eq!(logged(&mut guest), [(Level::Info, "two \u{fffd}".to_owned())]);
}

#[test]
fn a_line_without_end_is_split_between_characters() {
    let mut guest = guest(&Grants::NONE);
    let long = "ä€".repeat(2000);
    for piece in long.as_bytes().chunks(1000) {
        guest.print(Sink::Out, piece);
    }
    assert!(guest.wasi.lines[0].len() < MAX_LINE);
    guest.print(Sink::Out, b"\n");
    let lines: Vec<String> = logged(&mut guest).into_iter().map(|(_, line)| line).collect();
    // Characters of two and three bytes: the first two lines end one byte before they are full.
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [4095, 4095, 1810]);
    assert!(lines.concat() == long);
}
