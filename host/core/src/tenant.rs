//! Tenants: what all sessions and instances of one customer may use together, on all shards, and what they do use.
//!
//! Counters are atomics of the tenant's, shared by its shards; a tenant without quotas costs them too, so that its use can be
//! asked for. Nothing here takes a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize, Serializer};

use crate::time::Instant;

/// What a tenant may have at once, and what it may do in a second. `None`: no bound but those of each plugin's
/// [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quotas {
    /// Sessions at once.
    pub sessions: Option<u64>,
    /// Instances at once.
    pub instances: Option<u64>,
    /// Bytes at once: linear memories and tables of all instances, packets that are held, and histories, which count as what
    /// they can become, full of packets of the session's MTU.
    pub memory: Option<u64>,
    /// Processor time of its plugins, in percent of one processor.
    pub processor: Option<u64>,
    /// Milliseconds of processor time that it may use at once, beyond its share. Default 100.
    pub processor_burst: Option<u64>,
    /// Packets of their own that its plugins emit, per second, and as many at once.
    pub emitted_packets: Option<u64>,
    /// Bytes of those, per second, and as many at once.
    pub emitted_bytes: Option<u64>,
    /// Packets that are held at once.
    pub held_packets: Option<u64>,
    /// Timers that are set at once.
    pub timers: Option<u64>,
    /// Log lines and published documents, per second, and as many at once.
    pub messages: Option<u64>,
    /// Counters and gauges at once.
    pub metrics: Option<u64>,
    /// Bytes of values of sessions, keys included, at once.
    pub attribute_bytes: Option<u64>,
}

/// Processor time that may be used at once where nothing else is said.
const PROCESSOR_BURST_MS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

/// One of the [`Quotas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    /// Sessions at once.
    Sessions,
    /// Instances at once.
    Instances,
    /// Bytes at once.
    Memory,
    /// Packets held at once.
    HeldPackets,
    /// Timers at once.
    Timers,
    /// Counters and gauges at once.
    Metrics,
    /// Bytes of values of sessions at once.
    AttributeBytes,
    /// Percent of one processor.
    Processor,
    /// Packets emitted per second.
    EmittedPackets,
    /// Bytes emitted per second.
    EmittedBytes,
    /// Log lines and documents per second.
    Messages,
}

/// Those that are had at once, in the order of their counters.
const HELD: [Quota; 7] = [
    Quota::Sessions,
    Quota::Instances,
    Quota::Memory,
    Quota::HeldPackets,
    Quota::Timers,
    Quota::Metrics,
    Quota::AttributeBytes,
];
/// Those that are used up and come back with time, in the order of their counters.
const RATES: [Quota; 4] = [Quota::Processor, Quota::EmittedPackets, Quota::EmittedBytes, Quota::Messages];
const QUOTAS: usize = HELD.len() + RATES.len();

impl Quota {
    /// The place of one of [`RATES`] among its counters.
    const fn rate(self) -> usize {
        self as usize - HELD.len()
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Instances => "instances",
            Self::Memory => "bytes of memory",
            Self::HeldPackets => "packets held",
            Self::Timers => "timers",
            Self::Metrics => "metrics",
            Self::AttributeBytes => "bytes of session attributes",
            Self::Processor => "percent of a processor",
            Self::EmittedPackets => "packets emitted a second",
            Self::EmittedBytes => "bytes emitted a second",
            Self::Messages => "log lines and documents a second",
        }
    }
}

/// A tenant wanted more than it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the tenant {tenant} has used up its quota of {limit} {}: {used} in use", quota.unit())]
pub struct QuotaExceeded {
    /// The tenant.
    #[serde(serialize_with = "text")]
    pub tenant: Arc<str>,
    /// Of what.
    pub quota: Quota,
    /// How much it may have.
    pub limit: u64,
    /// What it has, or in the last second has used.
    pub used: u64,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// What a tenant uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantUse {
    /// Sessions now.
    pub sessions: u64,
    /// Instances now.
    pub instances: u64,
    /// Bytes now, counted as for [`Quotas::memory`].
    pub memory_bytes: u64,
    /// Packets held now.
    pub held_packets: u64,
    /// Timers set now.
    pub timers: u64,
    /// Counters and gauges now.
    pub metrics: u64,
    /// Bytes of session attributes now.
    pub attribute_bytes: u64,
    /// Nanoseconds of processor time since it began, from a sample of the calls.
    pub processor_ns: u64,
    /// Packets emitted since it began.
    pub emitted_packets: u64,
    /// Bytes of those.
    pub emitted_bytes: u64,
    /// Log lines and documents since it began.
    pub messages: u64,
    /// Calls that were not made, as its processor time was used up: the packets went on without them.
    pub starved_calls: u64,
    /// What was refused since it began, by quota.
    pub refused: Vec<(Quota, u64)>,
}

/// A tenant. Copies are the same one, on whatever shard.
#[derive(Clone, Debug)]
pub struct Tenant(Arc<Account>);

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    quotas: Quotas,
    /// What is had, by [`HELD`].
    held: [AtomicU64; HELD.len()],
    /// What has been used, by [`RATES`].
    spent: [AtomicU64; RATES.len()],
    /// Nanoseconds at which what was used will have come back, by [`RATES`].
    back_at: [AtomicU64; RATES.len()],
    refused: [AtomicU64; QUOTAS],
    starved: AtomicU64,
}

impl Tenant {
    /// A tenant with these quotas.
    pub fn new(name: &str, quotas: Quotas) -> Self {
        Self(Arc::new(Account {
            name: name.into(),
            quotas,
            held: Default::default(),
            spent: Default::default(),
            back_at: Default::default(),
            refused: Default::default(),
            starved: AtomicU64::new(0),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it may have.
    pub fn quotas(&self) -> &Quotas {
        &self.0.quotas
    }

    /// What it uses, on all its shards.
    pub fn usage(&self) -> TenantUse {
        let account = &*self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let held = |quota: Quota| load(&account.held[quota as usize]);
        let spent = |quota: Quota| load(&account.spent[quota.rate()]);
        let refused = HELD.into_iter().chain(RATES).map(|quota| (quota, load(&account.refused[quota as usize])));
        TenantUse {
            sessions: held(Quota::Sessions),
            instances: held(Quota::Instances),
            memory_bytes: held(Quota::Memory),
            held_packets: held(Quota::HeldPackets),
            timers: held(Quota::Timers),
            metrics: held(Quota::Metrics),
            attribute_bytes: held(Quota::AttributeBytes),
            processor_ns: spent(Quota::Processor),
            emitted_packets: spent(Quota::EmittedPackets),
            emitted_bytes: spent(Quota::EmittedBytes),
            messages: spent(Quota::Messages),
            starved_calls: load(&account.starved),
            refused: refused.filter(|(_, refused)| *refused > 0).collect(),
        }
    }

    fn limit(&self, quota: Quota) -> Option<u64> {
        let quotas = &self.0.quotas;
        match quota {
            Quota::Sessions => quotas.sessions,
            Quota::Instances => quotas.instances,
            Quota::Memory => quotas.memory,
            Quota::HeldPackets => quotas.held_packets,
            Quota::Timers => quotas.timers,
            Quota::Metrics => quotas.metrics,
            Quota::AttributeBytes => quotas.attribute_bytes,
            Quota::Processor => quotas.processor,
            Quota::EmittedPackets => quotas.emitted_packets,
            Quota::EmittedBytes => quotas.emitted_bytes,
            Quota::Messages => quotas.messages,
        }
    }

    fn refuse(&self, quota: Quota, limit: u64, used: u64) -> QuotaExceeded {
        self.0.refused[quota as usize].fetch_add(1, Ordering::Relaxed);
        QuotaExceeded { tenant: self.0.name.clone(), quota, limit, used }
    }

    /// Uses up `amount` of what comes back with time.
    pub(crate) fn spend(&self, quota: Quota, now: Instant, amount: u64) -> Result<(), QuotaExceeded> {
        let rate = quota.rate();
        if let Some(limit) = self.limit(quota) {
            // As much as in a second, at once; then as it comes back (the generic cell rate algorithm, ITU-T I.371).
            let cost = u128::from(amount) * u128::from(SECOND) / u128::from(limit.max(1));
            let cost = u64::try_from(cost).unwrap_or(u64::MAX);
            let now = now.as_nanos();
            let spend = |back_at: u64| {
                let next = back_at.max(now).saturating_add(cost);
                (limit > 0 && next <= now.saturating_add(SECOND)).then_some(next)
            };
            if let Err(back_at) = self.0.back_at[rate].fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
                let used = u128::from(back_at.saturating_sub(now)) * u128::from(limit) / u128::from(SECOND);
                return Err(self.refuse(quota, limit, used as u64));
            }
        }
        self.0.spent[rate].fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    /// Uses up a packet of so many bytes, of what its plugins may emit.
    pub(crate) fn emit(&self, now: Instant, bytes: usize) -> Result<(), QuotaExceeded> {
        self.spend(Quota::EmittedBytes, now, bytes as u64)?;
        self.spend(Quota::EmittedPackets, now, 1).inspect_err(|_| {
            self.0.spent[Quota::EmittedBytes.rate()].fetch_sub(bytes as u64, Ordering::Relaxed);
        })
    }

    /// Counts processor time that has been used.
    pub(crate) fn charge(&self, now: Instant, nanos: u64) {
        self.0.spent[Quota::Processor.rate()].fetch_add(nanos, Ordering::Relaxed);
        let Some(percent) = self.0.quotas.processor else { return };
        let cost = nanos.saturating_mul(100) / percent.max(1);
        let now = now.as_nanos();
        let charge = |back_at: u64| Some(back_at.max(now).saturating_add(cost));
        let _ = self.0.back_at[Quota::Processor.rate()].fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
    }

    /// When its plugins may be called again, if their processor time is used up.
    #[inline]
    pub(crate) fn starved_until(&self, now: Instant) -> Option<Instant> {
        let percent = self.0.quotas.processor?;
        let burst = self.0.quotas.processor_burst.unwrap_or(PROCESSOR_BURST_MS).saturating_mul(1_000_000);
        let ahead = burst.saturating_mul(100) / percent.max(1);
        let back_at = self.0.back_at[Quota::Processor.rate()].load(Ordering::Relaxed).saturating_sub(ahead);
        (back_at > now.as_nanos()).then(|| Instant::from_nanos(back_at))
    }

    /// Counts a call that is not made. The answer is what is told of it.
    pub(crate) fn starve(&self, now: Instant) -> QuotaExceeded {
        self.0.starved.fetch_add(1, Ordering::Relaxed);
        let limit = self.0.quotas.processor.unwrap_or(0);
        let ahead = self.0.back_at[Quota::Processor.rate()].load(Ordering::Relaxed).saturating_sub(now.as_nanos());
        // What would have been used in the second that is being worked off.
        let used = u128::from(ahead) * u128::from(limit) / u128::from(SECOND);
        self.refuse(Quota::Processor, limit, limit.max(used as u64))
    }
}

/// What one session, instance or interceptor has of its tenant's; given back when it ends.
#[derive(Debug)]
pub(crate) struct Holdings {
    tenant: Tenant,
    amounts: [u64; HELD.len()],
}

impl Holdings {
    pub(crate) fn new(tenant: Tenant) -> Self {
        Self { tenant, amounts: [0; HELD.len()] }
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Takes more.
    pub(crate) fn take(&mut self, quota: Quota, amount: u64) -> Result<(), QuotaExceeded> {
        let counter = &self.tenant.0.held[quota as usize];
        let before = counter.fetch_add(amount, Ordering::Relaxed);
        if let Some(limit) = self.tenant.limit(quota)
            && before.saturating_add(amount) > limit
        {
            counter.fetch_sub(amount, Ordering::Relaxed);
            return Err(self.tenant.refuse(quota, limit, before));
        }
        self.amounts[quota as usize] += amount;
        Ok(())
    }

    /// Gives some back.
    pub(crate) fn give(&mut self, quota: Quota, amount: u64) {
        let held = &mut self.amounts[quota as usize];
        let amount = amount.min(*held);
        *held -= amount;
        self.tenant.0.held[quota as usize].fetch_sub(amount, Ordering::Relaxed);
    }

    /// Has so much from now on, whatever the quota says: what is taken is asked for before, and this counts what it became.
    pub(crate) fn set(&mut self, quota: Quota, amount: u64) {
        let held = self.amounts[quota as usize];
        self.give(quota, held.saturating_sub(amount));
        let more = amount.saturating_sub(held);
        self.tenant.0.held[quota as usize].fetch_add(more, Ordering::Relaxed);
        self.amounts[quota as usize] += more;
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        for quota in HELD {
            self.give(quota, u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn what_is_had_is_bounded_for_all_holders_together_and_given_back_with_them() {
        let tenant = Tenant::new("acme", Quotas { timers: Some(3), ..Quotas::default() });
        let (mut first, mut second) = (Holdings::new(tenant.clone()), Holdings::new(tenant.clone()));
        assert_eq!((first.take(Quota::Timers, 2), second.take(Quota::Timers, 1)), (Ok(()), Ok(())));
        let error = second.take(Quota::Timers, 1).unwrap_err();
        assert_eq!(error.to_string(), "the tenant acme has used up its quota of 3 timers: 3 in use");
        first.give(Quota::Timers, 1);
        assert_eq!(second.take(Quota::Timers, 1), Ok(()));
        drop(first);
        assert_eq!(tenant.usage().timers, 2);
        for amount in [7, 1, 5] {
            second.set(Quota::Timers, amount);
            assert_eq!(tenant.usage().timers, amount);
        }
        assert_eq!(tenant.usage().refused, [(Quota::Timers, 1)]);
        drop(second);
        assert_eq!(tenant.usage().timers, 0);
    }

    #[test]
    fn what_is_used_up_comes_back_with_time() {
        let tenant = Tenant::new("acme", Quotas { emitted_packets: Some(10), ..Quotas::default() });
        let spend = |now, amount| tenant.spend(Quota::EmittedPackets, at(now), amount);
        assert_eq!((spend(5000, 4), spend(5000, 6)), (Ok(()), Ok(())));
        let error = spend(5000, 1).unwrap_err();
        assert_eq!((error.limit, error.used), (10, 10));
        assert_eq!((spend(5099, 1).is_ok(), spend(5100, 1).is_ok(), spend(5100, 1).is_ok()), (false, true, false));
        assert!(spend(6100, 11).is_err(), "more than there ever is at once");
        assert_eq!((0..12).filter(|_| spend(9000, 1).is_ok()).count(), 10);
        assert_eq!(tenant.usage().emitted_packets, 21);
        let none = Tenant::new("none", Quotas { messages: Some(0), ..Quotas::default() });
        assert!(none.spend(Quota::Messages, at(9), 1).is_err());
    }

    #[test]
    fn processor_time_beyond_the_burst_is_worked_off_at_the_share() {
        let quotas = Quotas { processor: Some(10), processor_burst: Some(20), ..Quotas::default() };
        let tenant = Tenant::new("acme", quotas);
        tenant.charge(at(1000), 20_000_000);
        assert_eq!(tenant.starved_until(at(1000)), None);
        tenant.charge(at(1000), 5_000_000);
        assert_eq!(tenant.starved_until(at(1000)), Some(at(1050)));
        assert_eq!(tenant.starved_until(at(1050)), None);
        assert_eq!(tenant.usage().processor_ns, 25_000_000);
        let free = Tenant::new("free", Quotas::default());
        free.charge(at(0), u64::MAX);
        assert_eq!(free.starved_until(at(0)), None);
    }
}
