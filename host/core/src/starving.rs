//! What happens to the calls of a tenant whose processor time is used up: they are not made, and it alone has less.

use crate::chain::FaultPolicy;
use crate::effects::Step;
use crate::frame::{self, FrameKind};
use crate::session::InstanceId;
use crate::shard::Shard;
use crate::time::Instant;
use crate::timers::Scope;

impl Shard {
    /// Does without a call, as the tenant has used up its processor time: packets go on as they are, or end where nothing is to
    /// pass unseen; timers come when there is time again.
    pub(crate) fn starve(&mut self, now: Instant, id: InstanceId, until: Instant, mut step: Option<&mut Step<'_>>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let batch = std::mem::take(&mut instance.waiting);
        let exceeded = instance.guest().tenant().starve(now);
        for (head, _) in frame::iter(batch.frames.as_bytes()) {
            let scope = match head.kind {
                FrameKind::SessionTimer => Scope::Session(head.handle),
                FrameKind::StreamTimer => Scope::Stream(head.handle),
                FrameKind::RefillStamps => {
                    self.seat_mut(id, head.handle).into_iter().for_each(|seat| seat.stamps.unask());
                    continue;
                }
                _ => {
                    if let (Some(step), Some(token)) = (step.as_deref_mut(), batch.token(head.packet)) {
                        self.pass_unseen(step, token.slot);
                    }
                    continue;
                }
            };
            if let Some(instance) = self.instances.get_mut(id) {
                instance.guest_mut().put_off(scope, until);
                self.arm(id, scope);
            }
        }
        self.tell_exceeded(now, exceeded);
    }

    /// Lets a packet go on that its member is not called with, unless its policy is that nothing passes it unseen: then it is
    /// dropped, and counted so, as all are that are not handed on.
    pub(crate) fn pass_unseen(&self, step: &mut Step<'_>, at: u32) {
        let Some(slot) = step.slots.get(at as usize) else { return };
        let member = self.member_at(slot.session, usize::from(step.member));
        if member.is_ok_and(|member| member.spec.on_fault != FaultPolicy::Drop) {
            step.release(at);
        }
    }
}
