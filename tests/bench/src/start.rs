//! How long a relay takes from its start to the first packet that a subscriber gets, with all standard plugins in its chains and
//! their compiled code in its cache.
//!
//! The publisher sends a packet each millisecond from before the program is started. The default chain is on the way; the
//! other plugins are in the chain of a second subscriber, where nobody listens.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::measure::Spread;
use crate::relay::{ANY, route};
use crate::report::Findings;
use crate::sandbar::DEFAULT_CHAIN;
use crate::traffic::Media;

/// How long a start may take; without a cache, all plugins are compiled.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Milliseconds without compiled code in the cache.
    cold_ms: f64,
    /// The same with it.
    warm_ms: Spread,
    plugins: usize,
}

impl Findings for Report {
    fn table(&self) -> String {
        let Self { cold_ms, warm_ms, plugins } = self;
        let mut table = format!("first packet after the start, with {plugins} plugins\n");
        let _ = writeln!(table, "{:<24} {:>20}", "compiling all of them", format!("{cold_ms:.0} ms"));
        let _ = writeln!(table, "{:<24} {:>20}", "from the cache", format!("{} ms", warm_ms.cell(0)));
        table
    }
}

/// Starts the program that lies beside this one, `samples` times with a warm cache.
pub(crate) fn run(samples: usize, quick: bool) -> anyhow::Result<Report> {
    let others = sandbar_plugins::ALL.iter().map(|plugin| plugin.name).filter(|name| !DEFAULT_CHAIN.contains(name));
    let others: Vec<_> = others.take(if quick { 1 } else { usize::MAX }).collect();
    let program = std::env::current_exe()?.with_file_name("sandbar");
    ensure!(program.exists(), "{} is missing: run `./x build`", program.display());
    let folder = std::env::temp_dir().join(format!("sandbar-start-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let cold_ms = start(&program, &folder, &others);
    let warm: anyhow::Result<Vec<f64>> = (0..samples).map(|_| start(&program, &folder, &others)).collect();
    fs::remove_dir_all(&folder)?;
    let warm_ms = Spread::of(warm?).context("no samples")?;
    Ok(Report { cold_ms: cold_ms?, warm_ms, plugins: DEFAULT_CHAIN.len() + others.len() })
}

/// The program, which ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or does so now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds from a start to the first packet.
fn start(program: &Path, folder: &Path, others: &[&str]) -> anyhow::Result<f64> {
    let (publisher, subscriber) = (UdpSocket::bind(ANY)?, UdpSocket::bind(ANY)?);
    // A port that is free now, and most likely in a moment.
    let listen = UdpSocket::bind(ANY)?.local_addr()?;
    let file = folder.join("relay.toml");
    fs::write(&file, configuration(listen, subscriber.local_addr()?, others))?;
    subscriber.set_read_timeout(Some(Duration::from_millis(1)))?;
    let begun = Instant::now();
    let mut relay = Command::new(program);
    relay.arg("relay").arg("--config").arg(&file).args(["--log", "error"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut relay = Running(relay.spawn()?);
    let mut buffer = [0; 2048];
    for number in 0.. {
        // Nobody listens there at first, which the kernel may say here.
        let _ = publisher.send_to(&Media::nth(0, number, number * 1_000_000).datagram(), listen);
        if subscriber.recv(&mut buffer).is_ok() {
            break;
        }
        let ended = relay.0.try_wait()?;
        ensure!(ended.is_none() && begun.elapsed() < PATIENCE, "no packet came through the relay: {ended:?}");
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn configuration(listen: SocketAddr, viewer: SocketAddr, others: &[&str]) -> String {
    let route = route(listen, viewer, "way");
    // What repairs media reads it.
    let repairing = ["flexfec-encoder", "flexfec-decoder", "red-encoder", "red-decoder"];
    let grants = repairing
        .map(|name| format!("[plugins.{name}]\ngrants = [\"emit-rtp\", \"read-media\", \"randomness\"]\n"))
        .concat();
    format!(
        r#"
[server]
cache = "cache"
[plugins.packet-dump]
grants = ["sink", "wall-clock"]
{grants}
[chains.way]
members = {DEFAULT_CHAIN:?}
[chains.others]
members = {others:?}
{route}
[[routes.subscribers]]
name = "nobody"
listen = "127.0.0.1:0"
rtcp = "mux"
peer = "127.0.0.1:9"
chain = "others"
"#
    )
}
