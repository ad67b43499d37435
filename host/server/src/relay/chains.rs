//! Changing the chains of live legs: one leg between two packets, several as one.

use std::net::SocketAddr;

use sandbar_host::{ChangeError, Instant, MemberSpec, SessionId};

use super::leg::{LegName, Role};
use super::plan::{Step, steps};
use super::worker::{Stopped, Worker, WorkerHandle};

/// A leg as the control side knows it.
#[derive(Clone, Debug)]
pub(crate) struct LegControl {
    pub(crate) name: LegName,
    pub(crate) worker: usize,
    /// Its number on the worker.
    pub(crate) leg: usize,
    pub(crate) session: SessionId,
    pub(crate) members: Vec<Placed>,
    pub(crate) rtp: SocketAddr,
    pub(crate) rtcp: SocketAddr,
    /// As configured; `None`: by the chain.
    pub(crate) forward_sender_reports: Option<bool>,
}

/// A plugin in its place, under the name that the configuration has for it.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) name: String,
    pub(crate) spec: MemberSpec,
}

impl Placed {
    /// Whether it makes sender reports: then those of the publisher would contradict them.
    pub(crate) fn reports_as_sender(&self) -> bool {
        self.spec.plugin.name() == "report-sender"
    }

    /// Whether the other one is this one, under the same name and with nothing changed.
    pub(crate) fn stays(&self, other: &Self) -> bool {
        self.name == other.name && self.equal(other)
    }

    /// Whether there is nothing to change from one to the other. A plugin never does more than it wants, so that grants
    /// which the same component did not need make no difference. One that is in quarantine is put in its place again.
    fn equal(&self, other: &Self) -> bool {
        let (a, b) = (&self.spec, &other.spec);
        !a.plugin.quarantined()
            && a.plugin.digest() == b.plugin.digest()
            && a.config == b.config
            && a.isolation == b.isolation
            && a.on_fault == b.on_fault
            && a.limits == b.limits
            && a.sink == b.sink
    }
}

/// Why a live chain was not changed. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum ChainChangeError {
    /// There is no such leg.
    #[error("there is no leg {leg}; there are {}", .known.join(", "))]
    NoLeg {
        /// What was asked for.
        leg: LegName,
        /// What there is.
        known: Vec<String>,
    },
    /// The chain is not that long.
    #[error("the chain of leg {leg} has {members} members; there is no place {index}")]
    NoMember {
        /// The leg.
        leg: LegName,
        /// What was asked for, from 0.
        index: usize,
        /// How many there are.
        members: usize,
    },
    /// A plugin of the new chain refuses, or fails at, its start.
    #[error("leg {leg}: {source}")]
    Refused {
        /// The leg.
        leg: LegName,
        /// What the plugin says.
        source: ChangeError,
    },
    /// The relay is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Gives legs new chains, each between two packets. If one refuses, those that had accepted get their old ones back:
/// either all change or none.
pub(crate) fn change_all(
    workers: &[WorkerHandle],
    legs: &mut [LegControl],
    targets: Vec<(usize, Vec<Placed>)>,
) -> Result<(), ChainChangeError> {
    let mut changed: Vec<(usize, Vec<Placed>)> = Vec::new();
    for (index, target) in targets {
        let old = legs[index].members.clone();
        match change(workers, &legs[index], &target)? {
            Ok(()) => {
                legs[index].members = target;
                changed.push((index, old));
            }
            Err(source) => {
                for (index, old) in changed.into_iter().rev() {
                    if let Err(error) = change(workers, &legs[index], &old)? {
                        // It ran a moment ago. The leg runs on with the new chain, which it had accepted.
                        tracing::error!(leg = %legs[index].name, %error, "the old chain does not start again");
                    } else {
                        legs[index].members = old;
                    }
                }
                return Err(ChainChangeError::Refused { leg: legs[index].name.clone(), source });
            }
        }
    }
    Ok(())
}

fn change(workers: &[WorkerHandle], leg: &LegControl, target: &[Placed]) -> Result<Result<(), ChangeError>, Stopped> {
    let (number, old, new) = (leg.leg, leg.members.clone(), target.to_vec());
    let forward = leg.forward_sender_reports.unwrap_or(!new.iter().any(Placed::reports_as_sender));
    workers.get(leg.worker).ok_or(Stopped)?.call(move |worker, now| {
        let session = worker.legs[number].session;
        let mut current = old.clone();
        if let Err(error) = follow(worker, now, session, &mut current, &new) {
            if let Err(back) = follow(worker, now, session, &mut current, &old) {
                tracing::error!(leg = %worker.legs[number].name, error = %back, "the old chain does not start again");
            }
            return Err(error);
        }
        if let Role::Subscriber(place) = worker.legs[number].role {
            let route = worker.legs[number].route;
            worker.routes[route].subscribers[place].forward_sender_reports = forward;
        }
        worker.bind_missing(now, number);
        Ok(())
    })
}

fn follow(
    worker: &mut Worker,
    now: Instant,
    session: SessionId,
    current: &mut Vec<Placed>,
    target: &[Placed],
) -> Result<(), ChangeError> {
    for step in steps(current, target, |a, b| a.name == b.name, Placed::equal) {
        match step {
            Step::Remove(at) => {
                worker.shard.remove_member(now, session, at)?;
                current.remove(at);
            }
            Step::Replace { at, target: from } => {
                worker.shard.replace_member(now, session, at, target[from].spec.clone())?;
                current[at] = target[from].clone();
            }
            Step::Insert { at, target: from } => {
                worker.shard.insert_member(now, session, at, target[from].spec.clone())?;
                current.insert(at, target[from].clone());
            }
        }
    }
    Ok(())
}
