//! Programs that run for a bounded time, the relay first.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The end of every wait: far beyond what anything takes, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Whether these programs are there. In CI they have to be.
pub fn installed(programs: &[&str]) -> bool {
    all_there(programs, |program| quiet(program, &["--version"]).status().is_ok())
}

/// The same of GStreamer's elements, which come in packages of their own.
pub fn elements_installed(elements: &[&str]) -> bool {
    all_there(elements, |element| {
        quiet("gst-inspect-1.0", &["--exists", element]).status().is_ok_and(|status| status.success())
    })
}

fn quiet(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn all_there(needed: &[&str], there: impl Fn(&str) -> bool) -> bool {
    let missing: Vec<_> = needed.iter().copied().filter(|name| !there(name)).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(std::env::var_os("CI").is_none(), "{missing}: not installed, and CI runs every test");
    println!(
        "not run: {missing} is not installed (Debian: ffmpeg, gstreamer1.0-tools, gstreamer1.0-plugins-{{base,good,bad}}, \
         tshark)"
    );
    false
}

/// Two free neighbouring ports, the lower one even, as RTP and RTCP have them (RFC 3550, 11). Each pair is given out once,
/// and from below those that the system gives out by itself: what is free now is so when a program comes to bind it.
pub fn port_pair() -> u16 {
    const FIRST: u32 = 10_000;
    const PAIRS: u32 = 11_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PAIRS {
        // Tests of another build may run at the same time: they begin somewhere else.
        let pair = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PAIRS;
        let port = (FIRST + 2 * pair) as u16;
        if [port, port + 1].iter().all(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
    panic!("no two neighbouring ports are free");
}

/// A program that is ended with the test.
pub struct Program {
    name: String,
    child: Child,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, child }
    }

    /// Waits for its end; it has to be a good one.
    pub fn finish(mut self) {
        let deadline = Instant::now() + LONG;
        // `wait` has no time limit; reading the end of a pipe has none either, so this looks now and then.
        let (ended, end) = channel::<()>();
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{}: {status}", self.name);
                return;
            }
            let _ = end.recv_timeout(Duration::from_millis(20));
        }
        drop(ended);
        panic!("{} does not end", self.name);
    }

    /// Asks it to end, as a person does.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{}: cannot be sent {signal}", self.name);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The relay, as an operator starts it.
pub struct Relay {
    program: Program,
    lines: Receiver<Value>,
    log: Receiver<String>,
}

impl Relay {
    /// Starts it with this configuration, and returns when it listens.
    pub fn start(folder: &Path, config: &str) -> Self {
        let file = folder.join("relay.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbar"));
        command.args(["relay", "--json", "--stats-interval", "200ms", "--log-format", "json", "--config"]).arg(file);
        let mut program = Program::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let (out, err) = (program.child.stdout.take().unwrap(), program.child.stderr.take().unwrap());
        let lines = lines(out, |line| serde_json::from_str(&line).unwrap_or_default());
        let relay = Self { program, lines, log: lines_of(err) };
        let listening = relay.next(|line| line["event"] == "listening");
        assert!(listening.is_some(), "the relay does not start: {:?}", relay.log.try_iter().collect::<Vec<_>>());
        relay
    }

    /// The next line of its output that this is true of.
    pub fn next(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        next(&self.lines, wanted)
    }

    /// The next line of its log with these words.
    pub fn logs(&self, words: &str) -> String {
        next(&self.log, |line| line.contains(words)).unwrap_or_else(|| panic!("the log does not say {words:?}"))
    }

    /// Ends it, and returns its last report.
    pub fn stop(self) -> Value {
        self.program.signal("-TERM");
        let report = self.next(|line| line["event"] == "stopped").expect("a report at the end");
        self.program.finish();
        report
    }
}

/// A member's report in a leg of the last report.
pub fn member<'a>(report: &'a Value, leg: usize, plugin: &str) -> &'a Value {
    let members = report["routes"][0]["legs"][leg]["session"]["members"].as_array().expect("members");
    members.iter().find(|member| member["plugin"] == plugin).unwrap_or_else(|| panic!("no {plugin} in {members:?}"))
}

fn next<T>(lines: &Receiver<T>, wanted: impl Fn(&T) -> bool) -> Option<T> {
    let deadline = Instant::now() + LONG;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if wanted(&line) => return Some(line),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    lines(pipe, |line| line)
}

fn lines<T: Send + 'static>(
    pipe: impl Read + Send + 'static,
    parse: impl Fn(String) -> T + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(parse(line)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Decodes a recording; every complaint is a failure. Returns the frames of each stream.
pub fn decode(recording: &Path) -> Vec<u64> {
    let decoded = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(recording)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&decoded.stderr);
    assert!(decoded.status.success() && complaints.is_empty(), "{}: {complaints}", recording.display());
    let counts = String::from_utf8_lossy(&decoded.stdout);
    counts.lines().filter_map(|line| line.trim().trim_end_matches(',').parse().ok()).collect()
}
