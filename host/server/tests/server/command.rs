//! The program itself: what it prints, what signals do, and its exit status.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::support::*;

fn sandbar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbar"));
    command.args(args).env_remove("SANDBAR_LOG").stdin(Stdio::null());
    command
}

/// The status, standard output and standard error of a program that ends by itself.
fn ends(args: &[&str]) -> (bool, String, String) {
    let output = sandbar(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn configuration(folder: &Path, viewer: &Client) -> PathBuf {
    let file = folder.join("relay.toml");
    let text = format!(
        r#"
[plugins.mine]
file = "mine.wasm"

[chains.ingest]
members = ["mine", "report-receiver"]

[[routes]]
name = "camera"
publisher = {{ listen = "127.0.0.1:0", rtcp = "mux", chain = "ingest", streams = [{{ name = "video", payload_type = 96, clock_rate = 90000 }}] }}
subscribers = [{{ name = "viewer", listen = "127.0.0.1:0", rtcp = "mux", peer = "{}" }}]
"#,
        viewer.address()
    );
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.join("mine.wasm"), component("noop")).unwrap();
    file
}

/// A running program. It is ended with the test, however that ends.
struct Program {
    child: Child,
    lines: Receiver<Value>,
    log: Receiver<String>,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        let mut child = sandbar(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out: ChildStdout = child.stdout.take().unwrap();
        let log = child.stderr.take().unwrap();
        let parse = |line: String| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child, lines: follow(out, parse), log: follow(log, |line| line) }
    }

    /// The next line of standard output that tells of this event.
    #[track_caller]
    fn event(&self, name: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(LONG).unwrap_or_else(|error| panic!("{name}: {error}"));
            if line["event"] == name {
                return line;
            }
        }
    }

    /// The next line of the log with these words in it.
    #[track_caller]
    fn logs(&self, words: &str) -> String {
        loop {
            let line = self.log.recv_timeout(LONG).unwrap_or_else(|error| panic!("{words}: {error}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow<T: Send + 'static>(from: impl Read + Send + 'static, each: fn(String) -> T) -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(each(line)).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn a_running_relay_reloads_reports_and_drains_on_signals() {
    let (folder, publisher, viewer) = (tempfile::tempdir().unwrap(), Client::new(), Client::new());
    let file = configuration(folder.path(), &viewer);
    let mut program = Program::start(&["relay", "--config", file.to_str().unwrap(), "--json"]);
    let listening = program.event("listening");
    let ingest = listening["legs"][0]["rtp"].as_str().unwrap().parse().unwrap();
    publisher.send(ingest, &frame(7, 1));
    assert_eq!(viewer.media(), frame(7, 1));

    program.signal("-USR1");
    let stats = program.event("stats");
    assert_eq!(stats["routes"][0]["legs"][0]["traffic"]["packets_received"], 1);
    assert_eq!(stats["routes"][0]["legs"][0]["session"]["members"][0]["plugin"], "noop");

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"mine\", \"report-receiver\"", "\"packet-counter\"")).unwrap();
    program.signal("-HUP");
    assert!(program.logs("reloaded").contains("camera/publisher"));
    program.signal("-USR1");
    let stats = program.event("stats");
    assert_eq!(stats["routes"][0]["legs"][0]["session"]["members"][0]["plugin"], "packet-counter");

    std::fs::write(&file, text.replace("ingest\"", "ingress\"")).unwrap();
    program.signal("-HUP");
    assert!(program.logs("the reload is refused").contains("\"ingress\" is no chain"));
    publisher.send(ingest, &frame(7, 2));
    assert_eq!(viewer.media(), frame(7, 2));

    program.signal("-TERM");
    assert_eq!(viewer.rtcp(bye), 7);
    let stopped = program.event("stopped");
    assert_eq!(stopped["routes"][0]["legs"][1]["traffic"]["packets_sent"], 2);
    assert!(program.child.wait().unwrap().success());
}

#[test]
fn counters_are_printed_as_often_as_asked() {
    let (folder, viewer) = (tempfile::tempdir().unwrap(), Client::new());
    let file = configuration(folder.path(), &viewer);
    let program = Program::start(&["relay", "-c", file.to_str().unwrap(), "--stats-interval", "100ms", "--log", "off"]);
    let (first, second) = (program.event("stats"), program.event("stats"));
    assert!(second["unix_ms"].as_u64().unwrap() - first["unix_ms"].as_u64().unwrap() >= 50);
}

#[test]
fn a_check_says_what_was_found_and_exits_accordingly() {
    let (folder, viewer) = (tempfile::tempdir().unwrap(), Client::new());
    let file = configuration(folder.path(), &viewer);
    let path = file.to_str().unwrap();
    let (fine, out, log) = ends(&["relay", "--config", path, "--check"]);
    assert!(fine && out.contains("mine ") && out.ends_with(": fine; 1 routes, 2 plugins\n"), "{out}{log}");
    let (fine, out, _) = ends(&["relay", "--config", path, "--check", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert!(fine && found["ok"] == true && found["plugins"][0]["name"] == "mine", "{found}");

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("payload_type = 96", "payload_type = 400")).unwrap();
    let (fine, out, log) = ends(&["relay", "--config", path, "--check"]);
    let expected =
        format!("{path}:10:100: routes[0].publisher.streams[0].payload_type: 400 is out of range; allowed: 0 to 127\n");
    assert_eq!((fine, out.as_str(), log), (false, "", expected));
    let (fine, out, _) = ends(&["relay", "--config", path, "--check", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert!(!fine && found["problems"][0]["position"][0] == 10, "{found}");
}

#[test]
fn a_relay_that_cannot_start_says_why() {
    let (folder, viewer) = (tempfile::tempdir().unwrap(), Client::new());
    let file = configuration(folder.path(), &viewer);
    let path = file.to_str().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("127.0.0.1:0", &viewer.address().to_string(), 1)).unwrap();
    let (fine, _, log) = ends(&["relay", "--config", path]);
    assert!(!fine && log.contains(&format!("{path}:10:15: routes[0].publisher.listen: ")), "{log}");
    assert!(log.contains("cannot be bound: "), "{log}");
    let (fine, _, log) = ends(&["relay", "--config", path, "--log", "shout"]);
    assert!(!fine && log.contains("\"shout\" is no log filter"), "{log}");
}

#[test]
fn help_teaches_by_example() {
    let (fine, out, _) = ends(&["--help"]);
    assert!(fine && out.contains("sandbar relay --config relay.toml --check"));
    let (fine, out, _) = ends(&["relay", "--help"]);
    assert!(fine && out.contains("SIGHUP") && out.contains("kill -HUP"));
}
