//! A time is worth printing only if the work was done: what sides put out is checked, and each has to repair a loss.

use std::collections::HashSet;

use anyhow::{bail, ensure};

use crate::chain::Kind;
use crate::feedback::nack;
use crate::side::{Side, Taken};
use crate::traffic::{
    Burst, Direction, EXTENSION_ID, Load, Lost, Media, NUMBERED_HEADER, PACKET, RTX_PAYLOAD_TYPE, Traffic, ssrc,
};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// What becomes of a side when it has been measured: an error if it has not done its work.
pub(crate) type Check = fn(Kind, Load, &mut dyn Side, &Traffic, &mut Taken) -> anyhow::Result<()>;

/// Checks only that all packets came out, and those that peers asked for again, for chains of which nothing else is
/// known.
pub(crate) fn media(_: Kind, _: Load, _: &mut dyn Side, traffic: &Traffic, taken: &mut Taken) -> anyhow::Result<()> {
    let Taken { media, complaints, .. } = taken;
    let (entered, asked) = (traffic.entered(), traffic.asked());
    content(complaints)?;
    ensure!(*media == entered + asked, "{entered} packets went in, {asked} were asked for, and {media} came out");
    Ok(())
}

/// Checks what a side has put out during the measurement, and then how it deals with a loss.
pub(crate) fn all(
    kind: Kind,
    load: Load,
    side: &mut dyn Side,
    traffic: &Traffic,
    taken: &mut Taken,
) -> anyhow::Result<()> {
    if kind != Kind::Empty {
        in_time(load, traffic, taken)?;
    }
    // What came last is reported.
    let now = traffic.elapsed() + SECOND + SECOND / 10;
    side.advance(now);
    taken.merge(side.take());
    media(kind, load, side, traffic, taken)?;
    feedback(kind, load, traffic, taken)?;
    side.keep_media(true);
    match load.direction {
        Direction::Read => asks_for_a_loss(kind, side, traffic, now),
        Direction::Write => answers_a_request(kind, side, traffic, now),
    }
}

/// Checks a side with more plugins than the default chain's, which also send packets of their own.
pub(crate) fn whole(
    kind: Kind,
    load: Load,
    side: &mut dyn Side,
    traffic: &Traffic,
    taken: &mut Taken,
) -> anyhow::Result<()> {
    in_time(load, traffic, taken)?;
    side.advance(traffic.elapsed() + SECOND + SECOND / 10);
    taken.merge(side.take());
    let Taken { media, complaints, .. } = taken;
    let entered = traffic.entered();
    content(complaints)?;
    // FlexFEC sends two packets for each five.
    let due = match (load.direction, kind) {
        (Direction::Write, _) => entered * 27 / 20,
        // Its jitter buffer takes more than ten seconds of a stream for a jump, and begins anew without what it holds.
        (Direction::Read, Kind::Native) => entered * 19 / 20,
        (Direction::Read, _) => entered,
    };
    ensure!(*media >= due, "{entered} packets went in and {media} came out");
    feedback(kind, load, traffic, taken)
}

/// Nothing that a chain or a peer says is wrong: else the first and the last of it, for what began may be told last.
fn content(complaints: &[String]) -> anyhow::Result<()> {
    match complaints {
        [] => Ok(()),
        [one] => bail!("a complaint: {one}"),
        [first, .., last] => bail!("{} complaints, first: {first}; last: {last}", complaints.len()),
    }
}

/// Reports are due every second and arrivals are fed back every 100 ms, in the time that was measured and not after it.
fn in_time(load: Load, traffic: &Traffic, taken: &Taken) -> anyhow::Result<()> {
    let sessions = u64::from(load.sessions);
    // The first second's reports may fall into the next.
    let due = load.all_streams() * (traffic.elapsed() / SECOND).saturating_sub(1).max(1);
    let found = match load.direction {
        Direction::Read => taken.feedback.report_blocks,
        Direction::Write => taken.feedback.sender_reports,
    };
    ensure!(found >= due, "{found} reports; at least {due} were due");
    if load.direction == Direction::Read {
        // A chain may wait for the packet after the tick.
        let due = sessions * (traffic.elapsed() / (SECOND / 10)) / 2;
        let found = taken.feedback.arrival_reports;
        ensure!(found >= due, "arrivals were fed back {found} times; at least {due} were due");
    }
    Ok(())
}

fn feedback(kind: Kind, load: Load, traffic: &Traffic, taken: &Taken) -> anyhow::Result<()> {
    let feedback = &taken.feedback;
    let gone = traffic.lost();
    let asked: HashSet<(u32, u16)> = feedback.nacks.iter().copied().collect();
    let named = |lost: &Lost| (ssrc(Direction::Read, lost.media.stream).0, lost.media.sequence_number);
    let all: HashSet<(u32, u16)> = gone.iter().map(named).collect();
    let wrong = asked.difference(&all).count();
    ensure!(wrong == 0, "{wrong} packets were asked for that were not lost");
    if kind == Kind::Empty {
        ensure!(feedback.sender_reports + feedback.report_blocks + feedback.arrived == 0, "feedback of an empty chain");
        return Ok(());
    }
    if load.direction == Direction::Read {
        let (arrived, missing) = (feedback.arrived, feedback.missing);
        let (entered, lost) = (traffic.entered(), gone.len() as u64);
        ensure!(
            arrived == entered && (lost * 9 / 10..=lost).contains(&missing),
            "of {entered} packets and {lost} lost, the peer is told that {arrived} have arrived and {missing} not"
        );
        // That a stream's first packets are missing cannot be told, nor that its last are.
        let told = SECOND / 2..traffic.elapsed() - SECOND / 2;
        let due = gone.iter().filter(|lost| told.contains(&lost.at)).map(named);
        let forgotten = due.filter(|lost| !asked.contains(lost)).count();
        ensure!(forgotten == 0, "of {lost} lost packets {forgotten} were not asked for");
    }
    Ok(())
}

/// Leaves out one packet and expects a NACK for it, and the others unchanged.
fn asks_for_a_loss(kind: Kind, side: &mut dyn Side, traffic: &Traffic, now: u64) -> anyhow::Result<()> {
    let first = traffic.sent_of(0);
    let [before, lost, after] = [0, 1, 2].map(|index| Media::nth(0, first + index, now));
    side.load(&[Burst { at: now, rtcp: Vec::new(), packets: vec![before, after] }]);
    side.drive();
    side.advance(now + SECOND / 2);
    let taken = side.take();
    content(&taken.complaints)?;
    let kept: Vec<&[u8]> = taken.kept.iter().map(|(_, bytes)| &bytes[..]).collect();
    ensure!(kept == [before.datagram(), after.datagram()], "packets were changed on their way to the application");
    if kind != Kind::Empty {
        let wanted = (ssrc(Direction::Read, 0).0, lost.sequence_number);
        let nacks = taken.feedback.nacks;
        ensure!(nacks.contains(&wanted), "{wanted:?} was lost, and these were asked for: {nacks:?}");
    }
    Ok(())
}

/// Writes some packets, expects them numbered, asks for one of them and expects its retransmission.
fn answers_a_request(kind: Kind, side: &mut dyn Side, traffic: &Traffic, now: u64) -> anyhow::Result<()> {
    const PACKETS: u64 = 20;
    let first = traffic.sent_of(0);
    let media: Vec<Media> = (0..PACKETS).map(|index| Media::nth(0, first + index, now)).collect();
    side.load(&[Burst { at: now, rtcp: Vec::new(), packets: media.clone() }]);
    side.drive();
    let taken = side.take();
    content(&taken.complaints)?;
    ensure!(taken.kept.len() as u64 == PACKETS, "{PACKETS} packets were written and {} sent", taken.kept.len());
    if kind == Kind::Empty {
        return Ok(());
    }
    let mut last = None;
    for ((_, bytes), media) in taken.kept.iter().zip(&media) {
        let header = media.header(Direction::Write);
        ensure!(bytes.len() == PACKET && bytes[2..12] == header[2..12], "not the packet that was written");
        let extension = &bytes[12..NUMBERED_HEADER];
        ensure!(extension[..5] == [0xbe, 0xde, 0, 1, EXTENSION_ID << 4 | 1], "not numbered: {extension:x?}");
        let number = u16::from_be_bytes([extension[5], extension[6]]);
        ensure!(last.is_none_or(|last: u16| number == last.wrapping_add(1)), "{last:?} is followed by {number}");
        last = Some(number);
    }
    let wanted = media[media.len() / 2].sequence_number;
    let (own, retransmission) = ssrc(Direction::Write, 0);
    side.read_rtcp(now + 20 * MILLISECOND, 0, &nack(ssrc(Direction::Read, 0).0, own, &[wanted]));
    side.advance(now + SECOND / 10);
    let answered = side.take();
    let answers = answered.kept.iter().any(|(_, bytes)| {
        let payload = 12 + if bytes[0] & 0x10 == 0 { 0 } else { 4 + 4 * usize::from(bytes[15]) };
        bytes[1] & 0x7f == RTX_PAYLOAD_TYPE
            && bytes[8..12] == retransmission.to_be_bytes()
            && bytes.get(payload..payload + 2) == Some(&wanted.to_be_bytes()[..])
    });
    ensure!(answers, "packet {wanted} was asked for, and {} packets came, none its answer", answered.kept.len());
    Ok(())
}
