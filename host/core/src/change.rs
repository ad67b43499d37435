//! Changing a chain under traffic, between two packets.

use crate::binding::Access;
use crate::chain::MemberSpec;
use crate::history::History;
use crate::log::Hurry;
use crate::seating::{Before, Prepared};
use crate::session::{InstanceId, Member, Owner, SessionId};
use crate::shard::{ChainError, ChangeError, Shard};
use crate::time::Instant;

impl Shard {
    /// Puts a plugin into a live session's chain at `index`, 0 closest to the wire. It is made and bound to the
    /// session's streams first; if anything of that fails, the chain stays as it is.
    pub fn insert_member(
        &mut self,
        now: Instant,
        id: SessionId,
        index: usize,
        spec: MemberSpec,
    ) -> Result<(), ChangeError> {
        let result = self.add_member(now, id, index, spec);
        self.settle(now);
        result
    }

    /// Takes the plugin at `index` out of a live session's chain. What it emits at its end still goes out.
    pub fn remove_member(&mut self, now: Instant, id: SessionId, index: usize) -> Result<(), ChangeError> {
        self.member_at(id, index)?;
        self.close_member(now, id, index);
        // What it emitted at its end takes its way from its place, which has to exist until then.
        self.drain_emitted(now);
        // The log knows members by their places.
        self.unload(now, id, Hurry::ALL);
        for stream in self.streams_of(id) {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.hops.remove(index);
            }
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.remove_member(index);
            session.own_hops_mut().for_each(|hops| hops.remove(index));
        }
        self.settle(now);
        Ok(())
    }

    /// Puts a plugin in the place of the one at `index`, with its state and history where both versions support that.
    /// The successor is made, restored and bound first, and takes over between two packets: none is lost, duplicated or
    /// reordered. If anything fails, the old one stays.
    pub fn replace_member(
        &mut self,
        now: Instant,
        id: SessionId,
        index: usize,
        spec: MemberSpec,
    ) -> Result<(), ChangeError> {
        let result = self.replace(now, id, index, spec);
        self.settle(now);
        result
    }

    fn replace(&mut self, now: Instant, id: SessionId, index: usize, spec: MemberSpec) -> Result<(), ChangeError> {
        let old = self.member_at(id, index)?;
        let state = match old.running() {
            true => self.save(now, id, index),
            false => None,
        };
        let Some(session) = self.sessions.get_mut(id) else { return Err(ChainError::NoSession) };
        let number = session.next_number();
        let inheritance = self.inheritance(id, index);
        let before = Before { state: state.as_deref(), inheritance, ..Before::default() };
        let prepared = self
            .prepare(now, id, number, &spec, before, false)
            .map_err(|failed| failed.into_error(spec.plugin.name()))?;
        self.hand_over_history(id, index, &prepared);
        self.hand_over_held(id, index, &prepared);
        // The old one speaks for the last time from the place that it still has.
        self.close_member(now, id, index);
        let Some(session) = self.sessions.get_mut(id) else { return Err(ChainError::NoSession) };
        session.replace_member(index, Member::new(number, spec));
        self.install(now, id, index, prepared);
        Ok(())
    }

    /// Asks a running member for its state. One that fails at it has none, and its policy applies until it is replaced.
    pub(crate) fn save(&mut self, now: Instant, id: SessionId, index: usize) -> Option<Vec<u8>> {
        let member = self.member_at(id, index).ok()?;
        let (instance, seat, owner) = (member.instance, member.seat, Owner { session: id, member: member.number });
        self.flush_member(now, id, index);
        match self.instances.get_mut(instance)?.save(now, seat) {
            Ok(state) => {
                self.absorb(instance);
                state
            }
            Err(fault) => {
                self.fail(now, instance, fault, Some(owner), None);
                None
            }
        }
    }

    /// Gives a successor the packets that its predecessor kept, stream by stream, where it asks for as many.
    fn hand_over_history(&mut self, id: SessionId, index: usize, prepared: &Prepared) {
        let Ok(old) = self.member_at(id, index) else { return };
        if !old.running() {
            return;
        }
        let from: InstanceId = old.instance;
        for (stream, handle, binding) in &prepared.streams {
            let Some(hop) = self.streams.get(*stream).and_then(|stream| stream.hops.get(index)).copied() else {
                continue;
            };
            let mut take = || -> Option<History> {
                let guest = self.instances.get_mut(from)?.guest_mut();
                guest.history(hop.handle).filter(|history| history.serves(binding.history))?;
                guest.set_history(hop.handle, None)
            };
            let Some(history) = take() else { continue };
            if let Some(instance) = self.instances.get_mut(prepared.instance)
                && let Some(bound) = instance.guest().streams.get(*handle)
                && (binding.history > 0 || bound.access != Access::Pass)
            {
                instance.guest_mut().set_history(*handle, Some(history));
            }
        }
    }
}
