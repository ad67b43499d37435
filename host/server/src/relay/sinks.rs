//! What plugins write, into files: on a thread of its own, so that no disk keeps media waiting.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{SinkId, SinkWrite};

use super::leg::LegName;
use crate::config::{Config, Sink};

/// Bytes that wait for the disk; what comes then is lost.
const MAX_WAITING: usize = 16 << 20;

/// Where plugins' writes go. A copy goes to the same files.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    /// By number: files never leave the list, so that a number keeps its meaning.
    files: Arc<Mutex<Vec<SinkFile>>>,
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    /// Writes that did.
    lost: Arc<AtomicU64>,
}

/// A file and the most bytes that it is let grow to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SinkFile {
    path: PathBuf,
    max_bytes: u64,
}

enum Job {
    Write(SinkId, Bytes),
    /// Says when everything before it is written.
    Settle(SyncSender<()>),
}

impl Sinks {
    /// With a thread that writes; it ends with the last copy.
    pub(crate) fn start() -> io::Result<Self> {
        let (this, jobs) = Self::new();
        let mut writer = Writer { files: this.files.clone(), open: HashMap::new(), waiting: this.waiting.clone() };
        std::thread::Builder::new().name("sandbar-sinks".to_owned()).spawn(move || {
            for job in jobs {
                writer.run(job);
            }
        })?;
        Ok(this)
    }

    /// Where nothing is written, such as in a check of a configuration.
    pub(crate) fn nowhere() -> Self {
        Self::new().0
    }

    fn new() -> (Self, Receiver<Job>) {
        let (jobs, inbox) = channel();
        (Self { files: Arc::default(), jobs, waiting: Arc::default(), lost: Arc::default() }, inbox)
    }

    /// The number of the file that `sink` is for a leg.
    pub(crate) fn of(&self, config: &Config, leg: &LegName, sink: &Sink) -> SinkId {
        let path = config.folder().join(sink.path(&leg.to_string()));
        let file = SinkFile { path, max_bytes: sink.max_bytes };
        let mut files = lock(&self.files);
        let known = files.iter().position(|known| *known == file).unwrap_or_else(|| {
            files.push(file);
            files.len() - 1
        });
        SinkId(known as u32)
    }

    /// Has bytes written. Never waits.
    pub(crate) fn write(&self, write: SinkWrite) {
        let size = write.bytes.len();
        if self.waiting.fetch_add(size, Ordering::Relaxed) + size > MAX_WAITING {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::warn!(lost, "the disk does not keep up: writes of plugins are lost");
            }
            return;
        }
        let _ = self.jobs.send(Job::Write(write.sink, write.bytes));
    }

    /// Waits until everything is written, but no longer than `patience`.
    pub(crate) fn settle(&self, patience: Duration) {
        let (done, settled) = sync_channel(1);
        if self.jobs.send(Job::Settle(done)).is_ok() {
            let _ = settled.recv_timeout(patience);
        }
    }
}

/// The thread's end.
struct Writer {
    files: Arc<Mutex<Vec<SinkFile>>>,
    open: HashMap<SinkId, Output>,
    waiting: Arc<AtomicUsize>,
}

/// A file that is written to.
enum Output {
    Open {
        file: File,
        written: u64,
    },
    /// Full, or it could not be written to: what comes is dropped.
    Closed,
}

impl Writer {
    fn run(&mut self, job: Job) {
        match job {
            Job::Write(sink, bytes) => {
                self.write(sink, &bytes);
                self.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Job::Settle(done) => {
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, sink: SinkId, bytes: &[u8]) {
        let Some(SinkFile { path, max_bytes }) = lock(&self.files).get(sink.0 as usize).cloned() else { return };
        let output = self.open.entry(sink).or_insert_with(|| {
            open(&path).unwrap_or_else(|error| {
                tracing::error!(file = %path.display(), %error, "a plugin's bytes cannot be kept");
                Output::Closed
            })
        });
        let Output::Open { file, written } = output else { return };
        if *written + bytes.len() as u64 > max_bytes {
            tracing::warn!(file = %path.display(), max_bytes, "the file is full: what plugins write to it is dropped");
            *output = Output::Closed;
            return;
        }
        match file.write_all(bytes) {
            Ok(()) => *written += bytes.len() as u64,
            Err(error) => {
                // Half a write would make what is before it unreadable too.
                let _ = file.set_len(*written);
                tracing::error!(file = %path.display(), %error, "a plugin's bytes cannot be kept");
                *output = Output::Closed;
            }
        }
    }
}

/// What is there is kept and added to; what is made is its owner's alone.
fn open(path: &std::path::Path) -> io::Result<Output> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let written = file.metadata()?.len();
    Ok(Output::Open { file, written })
}

fn lock(files: &Mutex<Vec<SinkFile>>) -> MutexGuard<'_, Vec<SinkFile>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sandbar_host::{SessionSpec, Shard, ShardConfig};

    use super::*;

    /// A configuration in a folder of its own, and a way to write there.
    fn sinks(file: &str, max_bytes: u64) -> (tempfile::TempDir, Sinks, impl Fn(&str, &[u8])) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse_chains(&folder.path().join("relay.toml"), String::new()).unwrap();
        let sinks = Sinks::start().unwrap();
        let sink = Sink { file: file.into(), max_bytes };
        let mut shard = Shard::new(ShardConfig::default());
        let session = shard.open_session(sandbar_host::Instant::ZERO, SessionSpec::default()).unwrap();
        let writing = sinks.clone();
        let write = move |leg: &str, bytes: &[u8]| {
            let sink = writing.of(&config, &leg.parse().unwrap(), &sink);
            writing.write(SinkWrite { sink, session, bytes: Bytes::copy_from_slice(bytes) });
            writing.settle(Duration::from_secs(60));
        };
        (folder, sinks, write)
    }

    #[test]
    fn what_is_written_is_appended_to_a_file_of_its_owners_alone() {
        let (folder, _sinks, write) = sinks("dump", 100);
        write("camera/viewer", b"one");
        write("camera/other", b"two");
        let file = folder.path().join("dump");
        assert_eq!(std::fs::read(&file).unwrap(), b"onetwo");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_there_is_kept_and_counts() {
        let (folder, _sinks, write) = sinks("dump", 6);
        let file = folder.path().join("dump");
        std::fs::write(&file, b"old").unwrap();
        write("camera/viewer", b"new");
        assert_eq!(std::fs::read(&file).unwrap(), b"oldnew");
        write("camera/viewer", b"x");
        assert_eq!(std::fs::read(&file).unwrap(), b"oldnew", "it is full");
    }

    #[test]
    fn no_write_is_torn_by_the_limit_and_nothing_follows_one_that_was_dropped() {
        let (folder, _sinks, write) = sinks("dump", 5);
        for bytes in [&b"abc"[..], b"def", b"g"] {
            write("camera/viewer", bytes);
        }
        assert_eq!(std::fs::read(folder.path().join("dump")).unwrap(), b"abc");
    }

    #[test]
    fn each_leg_has_its_own_file_where_the_name_says_so() {
        let (folder, _sinks, write) = sinks("dump-{leg}", 100);
        write("camera/viewer", b"one");
        write("../camera/viewer", b"two");
        assert_eq!(std::fs::read(folder.path().join("dump-camera-viewer")).unwrap(), b"one");
        assert_eq!(std::fs::read(folder.path().join("dump-..-camera-viewer")).unwrap(), b"two");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_no_ones_trouble_but_its_own() {
        let (folder, _sinks, write) = sinks("nowhere/dump", 100);
        write("camera/viewer", b"one");
        write("camera/viewer", b"two");
        assert!(!folder.path().join("nowhere").exists());
    }

    #[test]
    fn a_check_writes_nothing() {
        let sinks = Sinks::nowhere();
        sinks.settle(Duration::from_secs(60));
        let mut shard = Shard::new(ShardConfig::default());
        let session = shard.open_session(sandbar_host::Instant::ZERO, SessionSpec::default()).unwrap();
        sinks.write(SinkWrite { sink: SinkId(7), session, bytes: Bytes::new() });
    }
}
