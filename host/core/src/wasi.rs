//! A WASI without authority, for languages whose runtime needs one.
//!
//! A component that imports WASI 0.2, of whatever patch version, gets what keeps its runtime going and nothing besides:
//!
//! | it asks for | it gets |
//! | --- | --- |
//! | arguments, environment, working directory, terminals, opened directories | none |
//! | standard input | a stream that has ended |
//! | standard output and error | the log, line by line, at [`Level::Info`] and [`Level::Warn`] |
//! | the monotonic clock | the host's time at the start of the call: it stands still within one, and so times nothing |
//! | the wall clock | with the grant `wall-clock` the host's, otherwise 1970 |
//! | random numbers, keys for hash tables | with the grant `randomness` from the session's seed, otherwise constants |
//! | files, sockets, names | an error, `access` or `access-denied` |
//! | to wait | nothing, where what it waits for has come already; otherwise a trap: plugins have timers |
//! | to exit | a trap that says so |
//!
//! Without the grant random numbers are the same in every instance: runtimes will not start without any. With it
//! they differ by session and are still not fit for cryptography. A plugin whose hash tables are keyed by what peers
//! choose needs the grant.
//!
//! Why not the crate `wasmtime-wasi`: it brings the file system, sockets, threads and an asynchronous runtime into the
//! process, and then has to be told to refuse each of them. Here, what a plugin may not have is not there. The host's
//! part is small because most functions are answered by their type alone: see [`absent`].
//!
//! Everything is bounded: open handles by [`MAX_HANDLES`], lines by [`MAX_LINE`], what one call passes by
//! [`MAX_BYTES`], what is logged by the limits of the instance.

mod absent;

use std::time::Duration;

use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceTable, ResourceType, Val, WasmList, types::ComponentFunc,
};
use wasmtime::{Error, Result, StoreContextMut};

use crate::event::Level;
use crate::fault::FaultKind;
use crate::guest::Guest;
use crate::imports::split_mix;
use crate::plugin::Grants;
use crate::time::Instant;

/// The newest version that is known here. wasmtime takes any other 0.2 for it, older or newer, as long as the functions
/// that a component names are there.
const VERSION: &str = "0.2.12";

/// Most open handles of an instance, of all kinds.
const MAX_HANDLES: usize = 1024;
/// Most bytes of a line in the log; longer ones are split.
const MAX_LINE: usize = 4096;
/// Most bytes that are written, or of random numbers asked for, at once.
const MAX_BYTES: usize = 64 << 10;

/// Seconds from 1900 to 1970 (RFC 868).
const NTP_TO_UNIX: u32 = 2_208_988_800;

/// What an instance's WASI keeps.
#[derive(Debug)]
pub(crate) struct Wasi {
    wall_clock: bool,
    randomness: bool,
    /// Where random numbers come from without the grant.
    constant: u64,
    handles: ResourceTable,
    /// What was written to [`Sink::Out`] and [`Sink::Error`] since the last end of a line.
    lines: [Vec<u8>; 2],
}

impl Default for Wasi {
    fn default() -> Self {
        Self::new(&Grants::NONE)
    }
}

/// Where output goes. A handle for `wasi:io/streams.output-stream`.
#[derive(Clone, Copy, Debug)]
enum Sink {
    Out,
    Error,
}

/// A handle for `wasi:io/streams.input-stream`, which has ended.
struct Ended;

/// A handle for `wasi:sockets/network.network`, through which nothing is reached.
struct Nowhere;

/// A handle for `wasi:io/poll.pollable`.
struct Pollable {
    /// When it is ready. Streams are at once.
    at: Instant,
}

impl Wasi {
    /// The state of a new instance that may read clocks and draw random numbers as far as `granted`.
    pub(crate) fn new(granted: &Grants) -> Self {
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(MAX_HANDLES);
        let Grants { wall_clock, randomness, .. } = *granted;
        Self { wall_clock, randomness, constant: 0, handles, lines: [Vec::new(), Vec::new()] }
    }

    fn open<T: Send + 'static>(&mut self, what: T) -> Result<(Resource<T>,)> {
        let handle = self.handles.push(what);
        handle.map(|handle| (handle,)).map_err(|_| {
            Error::msg(format!(
                "more than {MAX_HANDLES} WASI handles are open; the plugin does not close what it opens"
            ))
        })
    }
}

/// `wasi:io/streams.stream-error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code, reason = "part of the type; no operation here fails")]
    LastOperationFailed(Resource<absent::Absent>),
    #[component(name = "closed")]
    #[allow(dead_code, reason = "part of the type; output is never closed")]
    Closed,
}

type Store<'a> = StoreContextMut<'a, Guest>;
type Written<T> = Result<(Result<T, StreamError>,)>;

/// Adds the interfaces of WASI 0.2 that languages' runtimes import.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    absent::add_to_linker(linker)?;
    command_line(linker)?;
    streams(linker)?;
    polling(linker)?;
    clocks(linker)?;
    random(linker)?;
    resource::<Nowhere>(linker, "sockets/network", "network")?;
    interface(linker, "sockets/instance-network")?
        .func_wrap("instance-network", |mut store: Store<'_>, (): ()| store.data_mut().wasi.open(Nowhere))
}

fn interface<'a>(linker: &'a mut Linker<Guest>, name: &str) -> Result<wasmtime::component::LinkerInstance<'a, Guest>> {
    linker.instance(&format!("wasi:{name}@{VERSION}"))
}

/// Defines a resource whose handles are kept with the instance.
fn resource<T: Send + 'static>(linker: &mut Linker<Guest>, owner: &str, name: &str) -> Result<()> {
    interface(linker, owner)?.resource(name, ResourceType::host::<T>(), |mut store, handle| {
        store.data_mut().wasi.handles.delete(Resource::<T>::new_own(handle))?;
        Ok(())
    })
}

fn command_line(linker: &mut Linker<Guest>) -> Result<()> {
    interface(linker, "cli/stdin")?
        .func_wrap("get-stdin", |mut store: Store<'_>, (): ()| store.data_mut().wasi.open(Ended))?;
    interface(linker, "cli/stdout")?
        .func_wrap("get-stdout", |mut store: Store<'_>, (): ()| store.data_mut().wasi.open(Sink::Out))?;
    interface(linker, "cli/stderr")?
        .func_wrap("get-stderr", |mut store: Store<'_>, (): ()| store.data_mut().wasi.open(Sink::Error))?;
    let mut exit = interface(linker, "cli/exit")?;
    exit.func_wrap("exit", |store: Store<'_>, (status,): (Result<(), ()>,)| exits(store, u8::from(status.is_err())))?;
    exit.func_wrap("exit-with-code", |store: Store<'_>, (status,): (u8,)| exits(store, status))
}

fn exits(mut store: Store<'_>, status: u8) -> Result<()> {
    store.data_mut().call.blame = Some(FaultKind::Trap);
    Err(Error::msg(format!("the plugin exits with status {status}; a plugin has no process to end")))
}

fn streams(linker: &mut Linker<Guest>) -> Result<()> {
    resource::<Ended>(linker, "io/streams", "input-stream")?;
    resource::<Sink>(linker, "io/streams", "output-stream")?;
    let mut streams = interface(linker, "io/streams")?;
    streams.func_wrap("[method]input-stream.subscribe", |mut store: Store<'_>, (_,): (Resource<Ended>,)| {
        store.data_mut().wasi.open(Pollable { at: Instant::ZERO })
    })?;
    streams.func_wrap("[method]output-stream.subscribe", |mut store: Store<'_>, (_,): (Resource<Sink>,)| {
        store.data_mut().wasi.open(Pollable { at: Instant::ZERO })
    })?;
    streams
        .func_wrap("[method]output-stream.check-write", |_: Store<'_>, (_,): (Resource<Sink>,)| -> Written<u64> {
            Ok((Ok(MAX_BYTES as u64),))
        })?;
    for name in ["write", "blocking-write-and-flush"] {
        streams.func_wrap(&format!("[method]output-stream.{name}"), write)?;
    }
    for name in ["flush", "blocking-flush"] {
        // A line is logged when it is whole, and only then.
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Store<'_>, (_,): (Resource<Sink>,)| -> Written<()> { Ok((Ok(()),)) },
        )?;
    }
    Ok(())
}

fn write(mut store: Store<'_>, (sink, bytes): (Resource<Sink>, WasmList<u8>)) -> Written<()> {
    let sink = *store.data().wasi.handles.get(&sink)?;
    if bytes.len() > MAX_BYTES {
        let more = format!("{} bytes written at once, and the stream takes {MAX_BYTES}", bytes.len());
        return Err(Error::msg(more));
    }
    let bytes = bytes.as_le_slice(&store).to_vec();
    store.data_mut().print(sink, &bytes);
    Ok((Ok(()),))
}

impl Guest {
    /// Adds to a line, and logs it at its end or when it is full. Empty lines say nothing and are left out.
    fn print(&mut self, sink: Sink, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let line = &mut self.wasi.lines[sink as usize];
            let end = bytes.iter().take(MAX_LINE - line.len()).position(|byte| *byte == b'\n');
            let part = end.map_or(bytes.len().min(MAX_LINE - line.len()), |end| end + 1);
            line.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            if end.is_none() && line.len() < MAX_LINE {
                return;
            }
            // A line that is split is split between two characters.
            let whole = match std::str::from_utf8(line) {
                Err(error) if end.is_none() && error.error_len().is_none() => error.valid_up_to(),
                _ => line.len(),
            };
            let rest = line.split_off(whole);
            let message = String::from_utf8_lossy(line).trim_end().to_owned();
            *line = rest;
            if !message.is_empty() {
                let level = match sink {
                    Sink::Out => Level::Info,
                    Sink::Error => Level::Warn,
                };
                self.note_log(0, level, message);
            }
        }
    }

    /// The time since 1970, where the plugin may know it.
    fn since_epoch(&self) -> Duration {
        if !self.wasi.wall_clock {
            return Duration::ZERO;
        }
        let ntp = self.wall_clock.ntp_of(self.call.now);
        // In 32 bits, so that the next era of NTP (from 2036) goes on where this one ends.
        let seconds = ((ntp >> 32) as u32).wrapping_sub(NTP_TO_UNIX);
        let nanos = ((ntp & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
        Duration::new(u64::from(seconds), nanos as u32)
    }

    fn draw(&mut self) -> u64 {
        split_mix(if self.wasi.randomness { &mut self.random } else { &mut self.wasi.constant })
    }

    /// Whether what a handle waits for has come.
    fn ready(&self, pollable: &Resource<Pollable>) -> Result<bool> {
        Ok(self.wasi.handles.get(pollable)?.at <= self.call.now)
    }
}

fn polling(linker: &mut Linker<Guest>) -> Result<()> {
    const WAITS: &str = "the plugin waits, and a call into a plugin cannot; let it set a timer and return";
    resource::<Pollable>(linker, "io/poll", "pollable")?;
    let mut poll = interface(linker, "io/poll")?;
    poll.func_wrap("[method]pollable.ready", |store: Store<'_>, (pollable,): (Resource<Pollable>,)| {
        Ok((store.data().ready(&pollable)?,))
    })?;
    poll.func_wrap("[method]pollable.block", |store: Store<'_>, (pollable,): (Resource<Pollable>,)| {
        if store.data().ready(&pollable)? { Ok(()) } else { Err(Error::msg(WAITS)) }
    })?;
    poll.func_wrap("poll", |mut store: Store<'_>, (list,): (WasmList<Resource<Pollable>>,)| {
        if list.len() > MAX_HANDLES {
            return Err(Error::msg(format!("the plugin polls {} handles; it may have {MAX_HANDLES}", list.len())));
        }
        let mut ready = Vec::new();
        for at in 0..list.len() {
            let Some(pollable) = list.get(&mut store, at) else { break };
            if store.data().ready(&pollable?)? {
                ready.push(at as u32);
            }
        }
        if ready.is_empty() { Err(Error::msg(WAITS)) } else { Ok((ready,)) }
    })
}

fn clocks(linker: &mut Linker<Guest>) -> Result<()> {
    let mut monotonic = interface(linker, "clocks/monotonic-clock")?;
    monotonic.func_wrap("now", |store: Store<'_>, (): ()| Ok((store.data().call.now.as_nanos(),)))?;
    monotonic.func_wrap("resolution", |_: Store<'_>, (): ()| Ok((1u64,)))?;
    monotonic.func_wrap("subscribe-instant", |mut store: Store<'_>, (at,): (u64,)| {
        store.data_mut().wasi.open(Pollable { at: Instant::from_nanos(at) })
    })?;
    monotonic.func_wrap("subscribe-duration", |mut store: Store<'_>, (nanos,): (u64,)| {
        let guest = store.data_mut();
        guest.wasi.open(Pollable { at: guest.call.now + Duration::from_nanos(nanos) })
    })?;
    let mut wall = interface(linker, "clocks/wall-clock")?;
    wall.func_new("now", |store, _, _, results| answer(results, datetime(store.data().since_epoch())))?;
    wall.func_new("resolution", |_, _: ComponentFunc, _, results| answer(results, datetime(Duration::from_nanos(1))))
}

fn answer(results: &mut [Val], value: Val) -> Result<()> {
    if let [result] = results {
        *result = value;
    }
    Ok(())
}

fn datetime(time: Duration) -> Val {
    Val::Record(vec![
        ("seconds".to_owned(), Val::U64(time.as_secs())),
        ("nanoseconds".to_owned(), Val::U32(time.subsec_nanos())),
    ])
}

fn random(linker: &mut Linker<Guest>) -> Result<()> {
    for (name, prefix) in [("random", "get-random"), ("insecure", "get-insecure-random")] {
        let mut random = interface(linker, &format!("random/{name}"))?;
        random.func_wrap(&format!("{prefix}-u64"), |mut store: Store<'_>, (): ()| Ok((store.data_mut().draw(),)))?;
        random.func_wrap(&format!("{prefix}-bytes"), |mut store: Store<'_>, (count,): (u64,)| {
            let Some(count) = usize::try_from(count).ok().filter(|count| *count <= MAX_BYTES) else {
                return Err(Error::msg(format!("{count} random bytes asked for at once, and {MAX_BYTES} are given")));
            };
            let guest = store.data_mut();
            let mut bytes = Vec::with_capacity(count.next_multiple_of(8));
            while bytes.len() < count {
                bytes.extend_from_slice(&guest.draw().to_le_bytes());
            }
            bytes.truncate(count);
            Ok((bytes,))
        })?;
    }
    interface(linker, "random/insecure-seed")?.func_wrap("insecure-seed", |mut store: Store<'_>, (): ()| {
        let guest = store.data_mut();
        Ok(((guest.draw(), guest.draw()),))
    })
}

#[cfg(test)]
mod tests;
