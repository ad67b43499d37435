//! What a replay tells in the end, for people and as JSON. The same input and seed give the same summary.

use std::fmt::{self, Write};
use std::path::PathBuf;

use sandbar_host::{Digest, Event, SessionReport};
use serde::Serialize;

use super::datagram::Skipped;
use super::drive::{Happened, Kinds, Outcome, Tally};
use super::formats::{Format, Known};
use super::plan::{Plan, Way};
use super::time::LONGEST_GAP;

/// Everything about a replay.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    input: Input,
    output: Written,
    streams: Vec<StreamSummary>,
    /// What the sessions count, one for each pair of addresses with media.
    sessions: Vec<SessionReport>,
    events: Vec<Happened>,
    events_not_kept: u64,
    faults: u64,
    warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Input {
    file: PathBuf,
    /// In the capture.
    packets: usize,
    /// Of them, given to a session.
    replayed: usize,
    skipped: Skipped,
    /// Of virtual time, in seconds.
    seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Written {
    file: PathBuf,
    bytes: usize,
    sha256: Digest,
    application: Kinds,
    wire: Kinds,
}

#[derive(Clone, Debug, Serialize)]
struct StreamSummary {
    ssrc: u32,
    /// `read`: from the peer; `write`: to the peer.
    direction: &'static str,
    payload_type: u8,
    #[serde(flatten)]
    format: Format,
    format_known: Known,
    rtx_ssrc: Option<u32>,
    fec_ssrc: Option<u32>,
    before: Counts,
    after: Counts,
    repaired: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Counts {
    packets: u64,
    missing: u64,
    duplicates: u64,
    reordered: u64,
    retransmissions: u64,
    repair_packets: u64,
}

impl Summary {
    pub(crate) fn new(
        input: (PathBuf, usize),
        output: PathBuf,
        plan: &Plan,
        outcome: &Outcome,
        reads: impl Fn(usize, Way) -> bool,
        mut warnings: Vec<String>,
    ) -> Self {
        let streams = plan.sources.iter().zip(&outcome.tallies).map(|(source, tally)| StreamSummary {
            ssrc: source.ssrc,
            direction: if reads(source.conversation, source.way) { "read" } else { "write" },
            payload_type: source.payload_type,
            format: source.format.clone(),
            format_known: source.known,
            rtx_ssrc: source.rtx,
            fec_ssrc: source.fec,
            before: counts(tally, false),
            after: counts(tally, true),
            repaired: tally.repaired,
        });
        warnings.extend(plan.warnings.iter().cloned());
        warnings.extend(notes(outcome));
        Self {
            input: Input {
                file: input.0,
                packets: input.1,
                replayed: plan.steps.len(),
                skipped: plan.skipped.clone(),
                seconds: outcome.time.elapsed().as_secs_f64(),
            },
            output: Written {
                file: output,
                bytes: outcome.file.len(),
                sha256: Digest::of(&outcome.file),
                application: outcome.to_application,
                wire: outcome.to_wire,
            },
            streams: streams.collect(),
            sessions: outcome.sessions.clone(),
            events: outcome.events.clone(),
            events_not_kept: outcome.events_not_kept,
            faults: outcome.faults,
            warnings,
        }
    }
}

fn counts(tally: &Tally, after: bool) -> Counts {
    let sequence = if after { &tally.after } else { &tally.before };
    Counts {
        packets: sequence.packets,
        missing: sequence.missing(),
        duplicates: sequence.duplicates(),
        reordered: sequence.reordered,
        retransmissions: tally.rtx[usize::from(after)],
        repair_packets: tally.fec[usize::from(after)],
    }
}

/// What was odd about the capture's times and about what was to be written.
fn notes(outcome: &Outcome) -> Vec<String> {
    let time = &outcome.time;
    let mut notes = Vec::new();
    if time.backward > 0 {
        notes.push(format!(
            "{} packets are older than the one before them, and count as simultaneous with it",
            time.backward
        ));
    }
    if time.gaps > 0 {
        let longest = LONGEST_GAP.as_secs();
        notes.push(format!("{} silences of more than {longest} s are shortened to that for the plugins", time.gaps));
    }
    if outcome.stalled {
        notes.push("a plugin asked to be woken at once again and again; time was pushed on past it".to_owned());
    }
    if outcome.unwritten > 0 {
        notes.push(format!("{} packets could not be written to the capture", outcome.unwritten));
    }
    if outcome.events_not_kept > 0 {
        notes.push(format!("{} events more than are kept", outcome.events_not_kept));
    }
    notes
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Input { file, packets, replayed, skipped, seconds } = &self.input;
        writeln!(f, "in   {}: {packets} packets, {replayed} replayed over {seconds:.3} s", file.display())?;
        let reasons = [
            (skipped.not_rtp, "neither RTP nor RTCP"),
            (skipped.not_udp, "not UDP"),
            (skipped.cut, "not captured whole"),
            (skipped.fragments, "fragments"),
            (skipped.stray_rtcp, "RTCP of no stream"),
            (skipped.link, "of an unknown link type"),
            (skipped.damaged, "damaged"),
        ];
        let left_out = reasons.into_iter().filter(|(count, _)| *count > 0);
        let left_out: Vec<_> = left_out.map(|(count, what)| format!("{count} {what}")).collect();
        if !left_out.is_empty() {
            writeln!(f, "     left out: {}", left_out.join(", "))?;
        }
        let Written { file, bytes, sha256, application, wire } = &self.output;
        writeln!(f, "out  {}: {bytes} bytes, sha256 {sha256}", file.display())?;
        for (name, kinds) in [("to the application", application), ("to the peer", wire)] {
            let malformed =
                if kinds.malformed > 0 { format!(", {} malformed", kinds.malformed) } else { String::new() };
            writeln!(f, "     {name}: {} RTP, {} RTCP{malformed}", kinds.rtp, kinds.rtcp)?;
        }
        self.streams(f)?;
        for session in &self.sessions {
            members(f, session)?;
        }
        for happened in &self.events {
            if matches!(happened.event, Event::Fault { .. } | Event::Quarantined { .. } | Event::RestartRefused { .. })
            {
                writeln!(f, "at {:.3} s {}", happened.at, happened.event)?;
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

impl Summary {
    fn streams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.streams.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<11} {:<5} {:<24} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "stream", "", "format", "in", "missing", "out", "missing", "repaired"
        )?;
        for stream in &self.streams {
            let StreamSummary { ssrc, direction, payload_type, format, format_known, before, after, repaired, .. } =
                stream;
            let mut about = format!("{payload_type}");
            match format_known {
                Known::Mapped | Known::Static => write!(about, " {}", format.mime_type)?,
                Known::Measured | Known::Assumed => write!(about, " {} Hz?", format.clock_rate)?,
            }
            writeln!(
                f,
                "{:<11} {direction:<5} {about:<24} {:>8} {:>8} {:>8} {:>8} {repaired:>8}",
                format!("{ssrc:#010x}"),
                before.packets,
                before.missing,
                after.packets,
                after.missing,
            )?;
        }
        Ok(())
    }
}

fn members(f: &mut fmt::Formatter<'_>, session: &SessionReport) -> fmt::Result {
    let (name, counts) = (&session.name, session.counts);
    writeln!(f, "\n{name}: {} read, {} written, {} malformed", counts.read, counts.written, counts.malformed)?;
    for member in &session.members {
        let metrics = member.metrics.iter().map(|(name, value)| match value {
            sandbar_host::Metric::Count(count) => format!(" {name}={count}"),
            sandbar_host::Metric::Gauge(value) => format!(" {name}={value}"),
        });
        writeln!(
            f,
            "  {:<24} {:>8} in {:>8} out {:>6} dropped {:>6} emitted {:>3} faults {}",
            member.plugin,
            member.packets_in,
            member.packets_out,
            member.dropped,
            member.emitted,
            member.faults.total(),
            metrics.collect::<String>(),
        )?;
    }
    Ok(())
}
