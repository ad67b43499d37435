//! What happens after a fault: the instance ends, the session it failed for is found and dealt with by its policy, and
//! the others are none the worse.

use std::time::Duration;

use crate::chain::FaultPolicy;
use crate::effects::Step;
use crate::event::{Event, FaultAction};
use crate::fault::{Fault, FaultKind};
use crate::frame;
use crate::guest::{Guest, Patience, Seat};
use crate::hold::Held;
use crate::hops::Action;
use crate::imports::split_mix;
use crate::instance::Instance;
use crate::log::log_of;
use crate::seating::{Before, Failed, Prepared};
use crate::session::{Direction, InstanceId, MemberState, Owner, SessionId};
use crate::shard::{Alarm, Shard};
use crate::time::Instant;

/// The longest pause before the first restart; it doubles with each fault.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After running this long, earlier faults no longer lengthen the pause.
const FORGIVEN: Duration = Duration::from_secs(60);

impl Shard {
    /// Ends an instance that failed. `owner` is whom the call was for, where it was for one session; a batch may have
    /// been for several, and then each is tried again in an instance of its own.
    pub(crate) fn fail(
        &mut self,
        now: Instant,
        id: InstanceId,
        fault: Fault,
        owner: Option<Owner>,
        mut step: Option<&mut Step<'_>>,
    ) {
        self.hear_last_words(id);
        let Some(mut dead) = self.end_instance(id) else { return };
        dead.give_up_waiting();
        let held: Vec<(Owner, Held)> =
            dead.guest_mut().seats.iter_mut().map(|(_, seat)| (seat.owner, std::mem::take(&mut seat.held))).collect();
        let suspects = match owner {
            Some(_) => Vec::new(),
            None => suspects(dead.guest()),
        };
        // What has come since for those who follow is tried too. For others it would have been in a state that is lost, and to a
        // successor it means nothing, as that has other numbers.
        let Guest { seats, batch, .. } = dead.guest_mut();
        for (seat, Seat { owner, .. }) in seats.iter() {
            if let Some((log, member)) = log_of(&mut self.sessions, *owner) {
                match suspects.iter().any(|(suspect, _)| *suspect == seat) {
                    true => log.catch_up(member, batch),
                    false => log.forget(member),
                }
            }
        }
        let guest = dead.guest();
        let seated: Vec<Owner> = guest.seats.iter().map(|(_, seat)| seat.owner).collect();
        let guilty = owner.or(match (suspects.as_slice(), seated.as_slice()) {
            ([(_, one)], _) | ([], [one]) => Some(*one),
            _ => None,
        });
        let tried = |owner: &Owner| suspects.iter().any(|(_, suspect)| suspect == owner);
        for other in seated.iter().filter(|other| Some(**other) != guilty) {
            self.displace(*other);
            if guilty.is_some() || !tried(other) {
                self.tell_displaced(*other);
            }
        }
        for (owner, held) in held {
            self.release_orphaned(owner, held, step.as_deref_mut());
        }
        match guilty {
            Some(owner) => {
                let seat = guest.seats.iter().find(|(_, seat)| seat.owner == owner).map(|(id, _)| id);
                self.punish(now, owner, fault);
                self.resolve(&dead, seat, owner, step);
            }
            None => {
                let (tried, mut clean, mut slow) = (suspects.len(), Vec::new(), false);
                for (seat, owner) in suspects {
                    // One that does not return is one too many for all who wait: the others are not tried.
                    if slow {
                        self.spare(&dead, seat, owner, step.as_deref_mut());
                        continue;
                    }
                    match self.trial(now, &dead, seat, owner, step.as_deref_mut()) {
                        Ok(prepared) => clean.push((owner, prepared)),
                        Err(kind) => slow = kind == Some(FaultKind::Deadline),
                    }
                }
                self.judge(now, clean, tried);
            }
        }
    }

    /// After the trials: where one failed, the others are clean and share again. Where none did, the fault hangs on what
    /// a session had brought before, so each stays in the instance of its trial, alone, until one of them fails there.
    fn judge(&mut self, now: Instant, clean: Vec<(Owner, Prepared)>, tried: usize) {
        let found = clean.len() < tried;
        for (owner, prepared) in &clean {
            if found {
                self.release_held(prepared.instance, prepared.seat, None);
                self.end_instance(prepared.instance);
                self.tell_displaced(*owner);
            }
        }
        if found || clean.is_empty() {
            return;
        }
        let incident = self.next_incident;
        self.next_incident += 1;
        let mut watched = Vec::with_capacity(clean.len());
        for (owner, prepared) in clean {
            let session = self.sessions.get_mut(owner.session);
            let Some((session, index)) = session.and_then(|s| s.member(owner.member).map(|index| (s, index))) else {
                self.end_instance(prepared.instance);
                continue;
            };
            session.members[index].incident = Some(incident);
            self.install(now, owner.session, index, prepared);
            watched.push(owner);
        }
        self.incidents.insert(incident, watched);
    }

    /// Lets sessions share again that were watched for a fault which another one turned out to be guilty of. They take
    /// their state with them.
    pub(crate) fn release_cleared(&mut self, now: Instant) {
        for owner in std::mem::take(&mut self.cleared) {
            let Some(session) = self.sessions.get(owner.session) else { continue };
            let Some(index) = session.member(owner.member) else { continue };
            let (instance, running) = (session.members[index].instance, session.members[index].running());
            if !running || session.members[index].incident.is_none() {
                continue;
            }
            let saved = self.save(now, owner.session, index);
            let Some(member) = self.sessions.get_mut(owner.session).and_then(|session| session.members.get_mut(index))
            else {
                continue;
            };
            member.incident = None;
            member.saved = saved;
            // Saving may have been the end of it.
            if member.running() {
                let seat = member.seat;
                self.release_held(instance, seat, None);
                self.end_instance(instance);
                self.displace(owner);
                self.tell_displaced(owner);
            }
        }
    }

    /// Leaves a member without an instance until its next packet comes.
    fn displace(&mut self, owner: Owner) {
        let Some(index) = self.sessions.get(owner.session).and_then(|session| session.member(owner.member)) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(owner.session) {
            session.members[index].state = MemberState::Displaced;
        }
        self.clear_values(owner.session, owner.member);
        self.set_hops(owner.session, index, |_| Action::Revive);
    }

    fn tell_displaced(&mut self, owner: Owner) {
        if let Some(from) = self.culprit(owner.session, owner.member) {
            self.tell(Event::Displaced { from });
        }
    }

    /// Lets a session's part of a batch that failed go by: its packets go on, unless nothing is to pass unseen. It is seated again
    /// with its next packet.
    fn spare(&mut self, dead: &Instance, seat: u32, owner: Owner, step: Option<&mut Step<'_>>) {
        if let Some(step) = step {
            let guest = dead.guest();
            let frames =
                frame::iter(guest.batch.frames.as_bytes()).filter(|(head, _)| seat_of(guest, head) == Some(seat));
            for token in frames.filter_map(|(head, _)| guest.batch.token(head.packet)) {
                self.pass_unseen(step, token.slot);
            }
        }
        self.tell_displaced(owner);
    }

    /// Tries one session's part of a batch that failed, in an instance that lives only for that. Returns the instance where it
    /// went well, and else how it failed, if it was tried.
    fn trial(
        &mut self,
        now: Instant,
        dead: &Instance,
        seat: u32,
        owner: Owner,
        mut step: Option<&mut Step<'_>>,
    ) -> Result<Prepared, Option<FaultKind>> {
        let session = self.sessions.get(owner.session).ok_or(None)?;
        let spec = session.member(owner.member).map(|index| session.members[index].spec.clone()).ok_or(None)?;
        let before = Before { patience: Patience::Trial, ..Before::default() };
        let prepared = match self.prepare(now, owner.session, owner.member, &spec, before, true) {
            Ok(prepared) => prepared,
            Err(failed) => {
                let kind = match failed {
                    Failed::Fault(fault) => Some(fault.kind),
                    Failed::Refused(error) => {
                        self.give_up(owner, error.to_string());
                        None
                    }
                };
                self.resolve(dead, Some(seat), owner, step);
                return Err(kind);
            }
        };
        let handle = |old: u32, names_stream: bool| match names_stream {
            false => Some(prepared.seat),
            true => {
                let stream = dead.guest().streams.get(old)?.stream;
                prepared.streams.iter().find(|(known, ..)| *known == stream).map(|(_, handle, _)| *handle)
            }
        };
        let alone = self.instances.get_mut(prepared.instance).ok_or(None)?;
        let batch = &dead.guest().batch;
        for (head, bytes) in
            frame::iter(batch.frames.as_bytes()).filter(|(head, _)| seat_of(dead.guest(), head) == Some(seat))
        {
            if let Some(handle) = handle(head.handle, head.kind.names_stream()) {
                alone.waiting.adopt(batch, head, handle, bytes);
            }
        }
        match alone.process(now) {
            Ok(()) => {
                alone.trust();
                self.absorb_batch(prepared.instance, step.as_deref_mut());
                Ok(prepared)
            }
            Err(fault) => {
                let kind = fault.kind;
                self.end_instance(prepared.instance);
                self.punish(now, owner, fault);
                self.resolve(dead, Some(seat), owner, step);
                Err(Some(kind))
            }
        }
    }

    /// Applies a member's policy after its fault.
    pub(crate) fn punish(&mut self, now: Instant, owner: Owner, fault: Fault) {
        let Some(from) = self.culprit(owner.session, owner.member) else { return };
        let Some(session) = self.sessions.get_mut(owner.session) else { return };
        let member = &mut session.members[from.member];
        if now - member.seated_at > FORGIVEN {
            member.failures = 0;
        }
        member.faults.count(fault.kind);
        member.failures += 1;
        member.alone = true;
        if let Some(incident) = member.incident.take() {
            self.cleared.extend(self.incidents.remove(&incident).into_iter().flatten().filter(|other| *other != owner));
        }
        let quarantine = member.spec.plugin.count_fault(session.tenant, &fault, &from.session_name);
        // What has held up everyone once is out of the way from then on.
        let again = fault.kind != FaultKind::Deadline && member.spec.plugin.quarantine(session.tenant).is_none();
        let (state, action) = match member.spec.on_fault {
            FaultPolicy::Drop => (MemberState::Closed, FaultAction::Closed),
            FaultPolicy::Restart if again => (MemberState::Restarting, FaultAction::Restarting),
            FaultPolicy::Bypass | FaultPolicy::Restart => (MemberState::Bypassed, FaultAction::Bypassed),
        };
        member.state = state;
        let pause = FIRST_PAUSE.saturating_mul(1 << (member.failures - 1).min(16)).min(LONGEST_PAUSE);
        // Up to a quarter less, so that sessions that failed together do not start together for ever.
        let pause = pause - pause / 4 * (split_mix(&mut session.random) % 256) as u32 / 256;
        if state == MemberState::Restarting {
            self.wheel.insert(now + pause, Alarm::Restart(owner.session, owner.member));
        }
        self.clear_values(owner.session, owner.member);
        self.set_hops(owner.session, from.member, |hop| match state {
            MemberState::Closed if hop.guarded => Action::Closed,
            _ => Action::Pass,
        });
        self.tell(Event::Fault { from: from.clone(), kind: fault.kind, message: fault.message, action });
        if let Some(reason) = quarantine {
            self.tell(Event::Quarantined { from, reason });
        }
    }

    /// Leaves a member out for good: it would not be seated again.
    fn give_up(&mut self, owner: Owner, message: String) {
        let Some(from) = self.culprit(owner.session, owner.member) else { return };
        if let Some(session) = self.sessions.get_mut(owner.session) {
            session.members[from.member].state = MemberState::Bypassed;
        }
        self.clear_values(owner.session, owner.member);
        self.set_hops(owner.session, from.member, |_| Action::Pass);
        self.tell(Event::RestartRefused { from, message });
    }

    /// Does with the packets of a failed batch what the member's policy says: they go on, or end here.
    fn resolve(&mut self, dead: &Instance, seat: Option<u32>, owner: Owner, step: Option<&mut Step<'_>>) {
        let (Some(step), Some(seat)) = (step, seat) else { return };
        let closed = self.sessions.get(owner.session).is_some_and(|session| {
            session.member(owner.member).is_some_and(|index| session.members[index].state == MemberState::Closed)
        });
        let guest = dead.guest();
        for (head, _) in
            frame::iter(guest.batch.frames.as_bytes()).filter(|(head, _)| seat_of(guest, head) == Some(seat))
        {
            let Some(token) = guest.batch.token(head.packet) else { continue };
            if !closed {
                step.release(token.slot);
            } else if let Some(slot) = step.slots.get(token.slot as usize)
                && let Some(hop) = self.hop(step.direction, step.member, slot)
            {
                hop.dropped += 1;
            }
        }
    }

    /// Seats again those members that packets stand before and that lost their instance.
    pub(crate) fn revive_all(&mut self, now: Instant, direction: Direction, member: u16, slots: &[crate::burst::Slot]) {
        let mut sessions: Vec<SessionId> =
            slots.iter().filter(|slot| slot.stopped_at(direction, member)).map(|slot| slot.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        for id in sessions {
            if let Ok(displaced) = self.member_at(id, usize::from(member))
                && displaced.state == MemberState::Displaced
            {
                let owner = Owner { session: id, member: displaced.number };
                self.reseat(now, owner, false);
            }
        }
    }

    /// A pause after a fault is over.
    pub(crate) fn restart(&mut self, now: Instant, session: SessionId, member: u32) {
        let known = self.sessions.get(session);
        let state = known.and_then(|s| s.member(member).map(|index| s.members[index].state));
        if state == Some(MemberState::Restarting) {
            self.reseat(now, Owner { session, member }, true);
        }
    }

    fn reseat(&mut self, now: Instant, owner: Owner, announce: bool) {
        let Some(session) = self.sessions.get(owner.session) else { return };
        let Some(index) = session.member(owner.member) else { return };
        let member = &session.members[index];
        let (spec, alone, saved) = (member.spec.clone(), member.alone, member.saved.clone());
        let before = Before { state: saved.as_deref(), ..Before::default() };
        match self.prepare(now, owner.session, owner.member, &spec, before, alone) {
            Ok(prepared) => {
                self.install(now, owner.session, index, prepared);
                if announce && let Some(from) = self.culprit(owner.session, owner.member) {
                    self.tell(Event::Restarted { from });
                }
            }
            Err(Failed::Fault(_)) => {}
            Err(Failed::Refused(error)) => self.give_up(owner, error.to_string()),
        }
    }
}

/// Which session of the instance a frame is for.
fn seat_of(guest: &Guest, head: &frame::Head) -> Option<u32> {
    match head.kind.names_stream() {
        true => guest.streams.get(head.handle).map(|bound| bound.seat),
        false => Some(head.handle),
    }
}

/// The sessions that a batch was for, in the order of their first frames.
fn suspects(guest: &Guest) -> Vec<(u32, Owner)> {
    let mut found: Vec<(u32, Owner)> = Vec::new();
    for (head, _) in frame::iter(guest.batch.frames.as_bytes()) {
        let Some(seat) = seat_of(guest, &head) else { continue };
        if !found.iter().any(|(known, _)| *known == seat)
            && let Some(known) = guest.seats.get(seat)
        {
            found.push((seat, known.owner));
        }
    }
    found
}
