//! `sandbar relay`: runs a configuration until it is told to stop.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::cli::Log;
use crate::config::{Config, ConfigError};
use crate::relay::{Checked, Relay, RelayHandle, StartError};

/// What `sandbar relay` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The configuration: TOML; examples/relay/relay.toml explains every key
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,

    /// Say what is wrong with the configuration, its plugins and their own configuration, and exit: 0 if nothing is
    #[arg(long)]
    check: bool,

    /// Print results for programs: with --check the findings, otherwise addresses and the end, as lines of JSON
    #[arg(long)]
    json: bool,

    /// Print all counters this often, such as 10s, as a line of JSON. Goes before the configuration's stats_interval
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    stats_interval: Option<Duration>,
}

// Lines of at most 98 characters: clap breaks longer ones.
const HELP: &str = "\
Signals:
  SIGHUP           read the configuration and all plugin files again, and lift quarantines; chains
                   change between two packets. What cannot change while media flows is named, and
                   nothing is changed
  SIGUSR1          print all counters as a line of JSON
  SIGTERM, SIGINT  say goodbye to peers, send what plugins still have to say, and exit 0;
                   a second one exits at once

A plugin file that changes is taken into live chains by itself (server.watch). One that is
refused is logged, and the old one runs on.

Examples:
  sandbar relay --config relay.toml --check
  sandbar relay --config relay.toml --stats-interval 10s --log warn,sandbar::plugin=debug
  sandbar relay --config relay.toml --json | jq 'select(.event == \"stats\") | .routes'
  kill -HUP $(pidof sandbar)";

fn duration(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let parsed = crate::config::units::parse(text).filter(|duration| range.contains(duration));
    parsed.ok_or_else(|| "a duration from 100ms to 24h, such as 500ms, 10s or 1m, is expected".to_owned())
}

pub(crate) fn run(args: &Args, log: &Log) -> anyhow::Result<ExitCode> {
    if args.check {
        return check(args, log);
    }
    let config = Config::load(&args.config)?;
    log.start(config.server.log.as_deref())?;
    // Before anything runs, so that none is missed.
    let signals = signals().context("signals cannot be handled")?;
    let stats_interval = args.stats_interval.or(config.server.stats_interval);
    let relay = Relay::start(config)?;
    announce(args, &relay)?;
    supervise(args, &relay, &signals, stats_interval)?;
    tracing::info!("stopping");
    let report = relay.shutdown()?;
    if args.json {
        print(&json!({ "event": "stopped", "routes": report.routes }))?;
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn check(args: &Args, log: &Log) -> anyhow::Result<ExitCode> {
    log.start(Some("warn"))?;
    let found = Config::load(&args.config)
        .map_err(StartError::from)
        .and_then(|config| Relay::check(&config).map(|checked| (checked, config.routes.len())));
    if args.json {
        print(&match &found {
            Ok((checked, _)) => json!({ "ok": true, "warnings": checked.warnings, "plugins": checked.plugins }),
            Err(StartError::Config(ConfigError::Invalid(problems))) => json!({ "ok": false, "problems": problems }),
            Err(error) => json!({ "ok": false, "error": error.to_string() }),
        })?;
        return Ok(if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let (Checked { plugins, warnings }, routes) = found?;
    let mut out = std::io::stdout().lock();
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for plugin in &plugins {
        writeln!(out, "{:<24} {:<10} {}", plugin.name, plugin.version, plugin.digest)?;
    }
    writeln!(out, "{}: fine; {routes} routes, {} plugins", args.config.display(), plugins.len())?;
    Ok(ExitCode::SUCCESS)
}

/// Says where the legs are: with port 0 it is not known beforehand.
fn announce(args: &Args, relay: &RelayHandle) -> anyhow::Result<()> {
    let mut legs = Vec::new();
    for leg in relay.legs() {
        let Some((rtp, rtcp)) = relay.addresses(&leg) else { continue };
        tracing::info!(%leg, %rtp, %rtcp, "listening");
        legs.push(json!({ "leg": leg, "rtp": rtp, "rtcp": rtcp }));
    }
    if args.json {
        print(&json!({ "event": "listening", "legs": legs }))?;
    }
    Ok(())
}

fn supervise(
    args: &Args,
    relay: &RelayHandle,
    signals: &Receiver<i32>,
    stats_interval: Option<Duration>,
) -> anyhow::Result<()> {
    /// How often to look whether the workers still run.
    const LOOK: Duration = Duration::from_secs(1);
    let mut next_stats = stats_interval.map(|interval| Instant::now() + interval);
    loop {
        let patience = next_stats.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        match signals.recv_timeout(patience) {
            Ok(SIGHUP) => reload(args, relay),
            Ok(SIGUSR1) => stats(relay),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        anyhow::ensure!(relay.is_running(), "a worker has ended by itself, which is a bug; the log says more");
        if let (Some(at), Some(interval)) = (next_stats, stats_interval)
            && at <= Instant::now()
        {
            stats(relay);
            next_stats = Some(Instant::now() + interval);
        }
    }
}

fn reload(args: &Args, relay: &RelayHandle) {
    let reloaded = Config::load(&args.config).map_err(Into::into).and_then(|config| relay.reload(config));
    match reloaded {
        Ok(reloaded) => {
            let legs: Vec<_> = reloaded.legs.iter().map(ToString::to_string).collect();
            tracing::info!(legs = legs.join(", "), plugins = reloaded.plugins.join(", "), "reloaded");
        }
        Err(error) => tracing::error!("the reload is refused, what ran before runs on: {error}"),
    }
}

/// A standard output that nobody reads any more is no reason for media to stop.
fn stats(relay: &RelayHandle) {
    let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let line = |routes| json!({ "event": "stats", "unix_ms": since_epoch.as_millis() as u64, "routes": routes });
    let printed = relay.report().map_err(Into::into).and_then(|report| print(&line(report.routes)));
    if let Err(error) = printed {
        tracing::warn!("no counters are printed: {error:#}");
    }
}

fn print(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output")
}

/// Signals as they come. A second one that asks to stop ends the process at once.
fn signals() -> std::io::Result<Receiver<i32>> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGUSR1, SIGTERM, SIGINT])?;
    let (sender, receiver) = channel();
    let forward = move || signals.forever().take_while(|signal| sender.send(*signal).is_ok()).for_each(drop);
    std::thread::Builder::new().name("sandbar-signals".to_owned()).spawn(forward)?;
    Ok(receiver)
}
