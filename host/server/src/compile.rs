//! Compiling in a process of its own, bounded in time and memory: what a component makes of the compiler is no matter of
//! the threads that carry media, or of the memory that they need.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sandbar_host::{Engine, EngineConfig};

/// Processor time that compiling may take. The largest standard plugin takes a tenth of a second; a language runtime of 18
/// MiB, some seconds.
const PROCESSOR_SECONDS: u64 = 60;
/// The same by the clock.
const PATIENCE: Duration = Duration::from_secs(120);
/// Address space, in KiB: the compiler's working memory comes to some dozen times the component's size.
const MEMORY_KIB: u64 = 4 << 20;
/// How often a child is looked after.
const LOOK: Duration = Duration::from_millis(2);

/// This program, as what compiles.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says that this process is the program, and that it can be started again to compile.
pub fn in_processes_of_their_own() {
    if let Ok(program) = std::env::current_exe() {
        PROGRAM.get_or_init(|| program);
    }
}

/// Who compiles for this process's engines.
pub(crate) fn compiler() -> Option<sandbar_host::Compiler> {
    PROGRAM.get().map(|_| elsewhere as sandbar_host::Compiler)
}

fn elsewhere(component: &[u8], fuel: bool) -> Result<Vec<u8>, String> {
    let program = PROGRAM.get().map_or(Path::new("sandbar"), PathBuf::as_path);
    let mut command = bounded(program, PROCESSOR_SECONDS, MEMORY_KIB);
    if fuel {
        command.arg("--fuel");
    }
    ask(command, component, PATIENCE)
}

/// The program, with limits that the shell sets before it becomes it. Those that it cannot set are stricter already.
fn bounded(program: &Path, seconds: u64, memory_kib: u64) -> Command {
    let mut command = Command::new("/bin/sh");
    let script =
        "ulimit -t \"$1\"; ulimit -v \"$2\"; shift 2; program=$1; shift; exec \"$program\" compile-component \"$@\"";
    command.args(["-c", script, "sh"]);
    command.args([seconds.to_string(), memory_kib.to_string()]).arg(program).env_clear();
    command
}

/// Gives a child a component, and takes what it makes of it.
fn ask(mut command: Command, component: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the compiler does not start: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // What does not read to the end says why elsewhere.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(component)));
        let code = scope.spawn(move || read(stdout));
        let said = scope.spawn(move || read(stderr));
        let status = wait(&mut child, patience);
        let code = code.join().unwrap_or_default();
        let said = said.join().unwrap_or_default();
        match status {
            Some(status) if status.success() => Ok(code),
            Some(status) if said.is_empty() => {
                Err(format!("compiling took more than it may and was stopped ({status})"))
            }
            Some(_) => Err(String::from_utf8_lossy(&said).trim().to_owned()),
            None => Err(format!("compiling took more than {} s and was stopped", patience.as_secs())),
        }
    })
}

fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A child that ends early has said what it had to say.
    let _ = from.map(|mut from| from.read_to_end(&mut bytes));
    bytes
}

/// How it ended; none where it had to be ended.
fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// The child's part: a component from standard input, its code to standard output.
pub(crate) fn run(fuel: bool) -> anyhow::Result<ExitCode> {
    let mut component = Vec::new();
    std::io::stdin().lock().read_to_end(&mut component)?;
    // How much fuel there is for a call is not in the code.
    let config = EngineConfig { fuel: fuel.then_some(1), ..EngineConfig::default() };
    let code = Engine::new(config)?.compile(&component)?;
    std::io::stdout().lock().write_all(&code)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_child_says_is_taken_and_what_becomes_of_it_is_told() {
        let second = Duration::from_secs(1);
        assert_eq!(ask(sh("cat"), &[7; 1 << 20], 10 * second), Ok(vec![7; 1 << 20]));
        assert_eq!(ask(sh("echo no >&2; exit 3"), &[7; 1 << 20], 10 * second), Err("no".to_owned()));
        let stopped = ask(sh("kill -9 $$"), b"", 10 * second).unwrap_err();
        assert!(stopped.contains("more than it may"), "{stopped}");
        let slow = ask(sh("exec sleep 60"), b"", second / 10).unwrap_err();
        assert!(slow.contains("and was stopped"), "{slow}");
        assert!(ask(Command::new("/no/such/program"), b"", second).unwrap_err().contains("does not start"));
    }

    #[test]
    fn a_child_has_no_more_time_and_memory_than_it_is_given() {
        let endless = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(endless.path(), "#!/bin/sh\nwhile :; do :; done\n").unwrap();
        std::fs::set_permissions(endless.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let path = endless.into_temp_path();
        let stopped = ask(bounded(&path, 1, 1 << 20), b"", Duration::from_secs(20)).unwrap_err();
        assert!(stopped.contains("more than it may"), "{stopped}");
        let greedy = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(greedy.path(), "#!/bin/sh\nulimit -v\nulimit -t\n").unwrap();
        std::fs::set_permissions(greedy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let path = greedy.into_temp_path();
        assert_eq!(ask(bounded(&path, 9, 123_456), b"", Duration::from_secs(20)), Ok(b"123456\n9\n".to_vec()));
    }
}
