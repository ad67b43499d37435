//! Versions that fail too often are not started again, tenant by tenant: what one tenant's peers provoke is no other's loss.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fault::{Fault, FaultKind};
use crate::session::TenantId;

/// Faults of one version in a tenant's sessions after which it is not started again there.
const TOO_OFTEN: u32 = 20;
/// Faults that a call counts for which did not return: each of them has held up everyone on its worker, so the third is the
/// last.
const DEADLINE_WEIGHT: u32 = 7;

/// What one version has done.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Whether it has failed at all, which is then known without a lock.
    failed: AtomicBool,
    /// How often the answer to [`stops_calls`](Self::stops_calls) may have become another.
    changes: AtomicU64,
    offences: Mutex<HashMap<TenantId, Offences>>,
}

/// Whether calls were stopped, and when that was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    changes: u64,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Offences {
    weight: u32,
    /// The last of them, once they are too many.
    reason: Option<String>,
    /// That one was a call that did not return: then none is made any more.
    held_up: bool,
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
        let changes = self.changes.load(Ordering::Acquire);
        if known.changes != changes {
            let stopped = self.offences().get(&tenant).is_some_and(|offences| offences.held_up);
            *known = Standing { changes, stopped };
        }
        known.stopped
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
        let Offences { weight, reason, held_up } = offences.entry(tenant).or_default();
        *weight = weight.saturating_add(if fault.kind == FaultKind::Deadline { DEADLINE_WEIGHT } else { 1 });
        if *weight < TOO_OFTEN || reason.is_some() {
            return None;
        }
        if fault.kind == FaultKind::Deadline {
            *held_up = true;
            self.changes.fetch_add(1, Ordering::Release);
        }
        let Fault { kind, message } = fault;
        *reason = Some(format!("it failed too often; last, in the session {session} ({kind}): {message}"));
        reason.clone()
    }
}
