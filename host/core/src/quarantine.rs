//! Versions that fail too often are not started again, tenant by tenant: what one tenant's peers provoke is no other's loss.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fault::{Fault, FaultKind};
use crate::session::TenantId;

/// Faults of one version in a tenant's sessions after which it is not started again there.
const TOO_OFTEN: u32 = 20;
/// Faults that a call counts for which did not return: each of them has held up everyone on its worker, so the third is the
/// last. By then the three have taken what [`allowance`](Quarantine::allowance) gives them, one deadline together.
const DEADLINE_WEIGHT: u32 = 7;

/// What one version has done.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Whether it has failed at all, which is then known without a lock.
    failed: AtomicBool,
    /// How often somebody's [`Standing`] may have become another.
    changes: AtomicU64,
    offences: Mutex<HashMap<TenantId, Offences>>,
}

/// How a version stands with a tenant, and when that was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    changes: u64,
    /// Whether a call has not returned.
    suspect: bool,
    /// Whether it is called no more.
    stopped: bool,
}

#[derive(Debug, Default)]
struct Offences {
    weight: u32,
    /// The last of them, once they are too many.
    reason: Option<String>,
    standing: Standing,
}

impl Quarantine {
    fn offences(&self) -> MutexGuard<'_, HashMap<TenantId, Offences>> {
        self.offences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the version is not started for this tenant, if it is not.
    pub(crate) fn reason(&self, tenant: TenantId) -> Option<String> {
        self.failed.load(Ordering::Acquire).then(|| self.offences().get(&tenant)?.reason.clone()).flatten()
    }

    /// Whether it is not started for some tenant.
    pub(crate) fn any(&self) -> bool {
        self.failed.load(Ordering::Acquire) && self.offences().values().any(|offences| offences.reason.is_some())
    }

    /// Whether the version is called no more for this tenant, where it runs already. `known` is the last answer, which mostly
    /// still holds: then no lock is taken.
    #[inline]
    pub(crate) fn stops_calls(&self, tenant: TenantId, known: &mut Standing) -> bool {
        self.renew(tenant, known);
        known.stopped
    }

    /// Nanoseconds that a call may take of a deadline. Half of it, as long as all calls for this tenant have returned, and
    /// then a quarter: so the first of them that does not return and the two after it, of which the last ends the version,
    /// hold up others for one deadline together. A lower bound for each call keeps one session from ending it for all.
    #[inline]
    pub(crate) fn allowance(&self, tenant: TenantId, known: &mut Standing, deadline: u64) -> u64 {
        self.renew(tenant, known);
        if known.suspect { deadline / 4 } else { deadline / 2 }
    }

    #[inline]
    fn renew(&self, tenant: TenantId, known: &mut Standing) {
        let changes = self.changes.load(Ordering::Acquire);
        if known.changes != changes {
            let standing = self.offences().get(&tenant).map(|offences| offences.standing).unwrap_or_default();
            *known = Standing { changes, ..standing };
        }
    }

    /// Forgets all of it.
    pub(crate) fn lift(&self) {
        let mut offences = self.offences();
        offences.clear();
        self.changes.fetch_add(1, Ordering::Release);
        self.failed.store(false, Ordering::Release);
    }

    /// Counts a fault of a session's; the reason when this one is one too many.
    pub(crate) fn count(&self, tenant: TenantId, fault: &Fault, session: &str) -> Option<String> {
        let mut offences = self.offences();
        self.failed.store(true, Ordering::Release);
        let Offences { weight, reason, standing } = offences.entry(tenant).or_default();
        let held_up = fault.kind == FaultKind::Deadline;
        *weight = weight.saturating_add(if held_up { DEADLINE_WEIGHT } else { 1 });
        let too_often = *weight >= TOO_OFTEN && reason.is_none();
        if held_up {
            *standing = Standing { suspect: true, stopped: standing.stopped || too_often, ..*standing };
            self.changes.fetch_add(1, Ordering::Release);
        }
        if !too_often {
            return None;
        }
        let Fault { kind, message } = fault;
        *reason = Some(format!("it failed too often; last, in the session {session} ({kind}): {message}"));
        reason.clone()
    }
}
