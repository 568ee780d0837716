//! How one request is decided: by the lease, by the store, or by the policy.
//!
//! The store is asked by a task of its own. The request waits for it no longer than the timeout, and may leave at any time; the
//! task goes on, and whatever it brings that nobody waits for is given back.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use redis::RedisResult;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    LEASE_TERM, SharedRate,
    keyed::Memory,
    lease::{Draw, Grant, Seen, Taken},
    local::Local,
    recording::By,
    script::{Change, Reply, Verdict},
};
use crate::{
    Demand,
    rate::{Decision, OnUnavailable, Quota, Receipt, Short},
};

type Costs = Arc<[u64]>;

/// An answer on its way to the request.
pub(super) struct Told {
    by: By,
    decision: Option<Decision>,
}

impl Told {
    fn read(mut self) -> Option<(By, Decision)> {
        self.decision.take().map(|decision| (self.by, decision))
    }
}

impl Drop for Told {
    /// Nobody has read it.
    fn drop(&mut self) {
        if let Some(Decision::Admitted { receipt, .. }) = self.decision.take() {
            receipt.refund();
        }
    }
}

impl SharedRate {
    pub(super) async fn decide(self, demand: Demand) -> Decision {
        let core = &self.core;
        core.here();
        let (by, decision) = self.decided(core.costs(&demand)).await;
        core.recording.decided(&core.name, by, &decision);
        decision
    }

    async fn decided(&self, costs: Costs) -> (By, Decision) {
        let core = &self.core;
        if let Some(short) = self.never(&costs) {
            return (By::Burst, Decision::Short { short, quota: None });
        }
        if let Some(decision) = self.by_lease(&costs, core.clock.now()) {
            return (By::Lease, decision);
        }
        if !core.health.is_down() {
            let line = self.leased().map(|(memory, _)| (memory.answers(), memory));
            let (tell, told) = oneshot::channel();
            tokio::spawn(self.clone().ask(Arc::clone(&costs), tell));
            match timeout(core.timeout, told).await {
                Ok(told) => {
                    if let Some(told) = told.ok().and_then(Told::read) {
                        return told;
                    }
                }
                // Others were answered meanwhile: it is not the store that is slow, the line before it is long.
                Err(_)
                    if !core.health.is_down()
                        && line.is_some_and(|(before, line)| line.answers() != before) =>
                {
                    let short = Short::Wait(core.timeout);
                    return (By::Lease, Decision::Short { short, quota: None });
                }
                Err(_) => {}
            }
        }
        (By::Policy, self.by_policy(costs))
    }

    fn never(&self, costs: &[u64]) -> Option<Short> {
        (self.core.budgets.iter().zip(costs))
            .find(|(budget, cost)| **cost > budget.burst)
            .map(|(budget, _)| Short::Never { most: budget.burst })
    }

    async fn ask(self, costs: Costs, tell: oneshot::Sender<Told>) {
        let decided = match self.leased() {
            Some((memory, slices)) => self.ask_for_slice(&memory, slices, costs, &tell).await,
            None => self.ask_for(costs).await.map(Some),
        };
        match decided {
            Ok(Some((by, decision))) => {
                let decision = Some(decision);
                let _ = tell.send(Told { by, decision });
            }
            Ok(None) => {}
            Err(error) => self.core.failed(self.keys(), &error),
        }
    }

    async fn ask_for(&self, costs: Costs) -> RedisResult<(By, Decision)> {
        let core = &self.core;
        let asked = core.spend(self.keys(), &costs, &costs);
        let (reply, _) = self.answered(asked, ()).await;
        let reply = reply?;
        let decision = match reply.verdict {
            Verdict::Done => Decision::Admitted {
                quota: self.tightest(&reply),
                receipt: self.spent(costs, reply.now),
            },
            Verdict::Short | Verdict::Late => self.short(&reply),
        };
        Ok((By::Store, decision))
    }

    /// As many as find the lease empty wait for one of them to bring a slice. `None` where nobody waits for the decision any
    /// more, or the one before found the store lost.
    async fn ask_for_slice(
        &self,
        memory: &Arc<Memory>,
        slices: &[u64],
        costs: Costs,
        tell: &oneshot::Sender<Told>,
    ) -> RedisResult<Option<(By, Decision)>> {
        let core = &self.core;
        let came = core.clock.now();
        let turn = memory.turn.lock().await;
        if tell.is_closed() {
            return Ok(None);
        }
        if let Some(decision) = self.by_lease(&costs, came) {
            return Ok(Some((By::Lease, decision)));
        }
        if core.health.is_down() {
            return Ok(None);
        }
        let draw = memory.lease(|lease| lease.draw(&costs, slices));
        let asked = core.spend(self.keys(), &draw.costs, &draw.wants);
        let (reply, _turn) = self.answered(asked, turn).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.put_back(memory, draw);
                return Err(error);
            }
        };
        memory.answered();
        let now = core.clock.now();
        let seen = (core.budgets.iter().zip(&reply.standings))
            .map(|(budget, standing)| Seen::new(budget, standing, now));
        memory.lease(|lease| lease.saw(now, seen));
        let decision = match reply.verdict {
            Verdict::Done => {
                let grants: Vec<Grant> = (core.budgets.iter().zip(&reply.standings))
                    .map(|(budget, standing)| Grant::new(budget, standing))
                    .collect();
                let (taken, begins) = memory.lease(|lease| lease.put(&draw, &grants, reply.now));
                if begins {
                    self.end_later(memory, taken.term);
                }
                Decision::Admitted {
                    quota: self.tightest(&reply),
                    receipt: self.taken(memory, costs, taken),
                }
            }
            Verdict::Short | Verdict::Late => {
                self.put_back(memory, draw);
                self.short(&reply)
            }
        };
        Ok(Some((By::Store, decision)))
    }

    /// Nothing came of it.
    fn put_back(&self, memory: &Memory, draw: Draw) {
        if let Some((rest, at)) = memory.lease(|lease| lease.put_back(draw)) {
            let changes = Change::give_back(&rest, at);
            self.core.settle_later(self.keys(), changes);
        }
    }

    /// Waits for what the store is asked. Once it is late, the store is lost, and the turn is not kept from others.
    async fn answered<T, G>(&self, asked: impl Future<Output = T>, turn: G) -> (T, Option<G>) {
        let mut asked = pin!(asked);
        match timeout(self.core.timeout, asked.as_mut()).await {
            Ok(answer) => (answer, Some(turn)),
            Err(_) => {
                self.core.silent(self.keys());
                drop(turn);
                (asked.await, None)
            }
        }
    }

    fn by_lease(&self, costs: &Costs, came: Duration) -> Option<Decision> {
        let (memory, _) = self.leased()?;
        let now = self.core.clock.now();
        let found = memory.lease(|lease| match lease.take(costs) {
            Some(taken) => Some(Ok(taken)),
            // What the store last said is no reason to refuse once it is lost.
            None if self.core.health.is_down() => None,
            None => lease.refused(came, now, costs).map(Err),
        })?;
        Some(match found {
            Ok(taken) => Decision::Admitted {
                receipt: self.taken(&memory, Arc::clone(costs), taken),
                quota: None,
            },
            Err(wait) => Decision::Short {
                short: Short::Wait(wait),
                quota: None,
            },
        })
    }

    /// Where what is leased is kept, and how much at a time. `None` where each request asks the store.
    fn leased(&self) -> Option<(Arc<Memory>, &[u64])> {
        let slices = self.core.slices()?;
        Some((self.memory()?, slices))
    }

    fn end_later(&self, memory: &Arc<Memory>, term: u64) {
        let (core, keys) = (Arc::downgrade(&self.core), Arc::clone(self.keys()));
        let memory = Arc::clone(memory);
        tokio::spawn(async move {
            sleep(LEASE_TERM).await;
            let rest = memory.close(Some(term));
            if let (Some(core), Some(changes)) = (core.upgrade(), rest) {
                core.settle_later(&keys, changes);
            }
        });
    }

    fn by_policy(&self, costs: Costs) -> Decision {
        let share = match self.core.on_unavailable {
            OnUnavailable::Local(share) => share,
            OnUnavailable::Reject => return Decision::Unavailable,
            OnUnavailable::Admit => {
                return Decision::Admitted {
                    receipt: Receipt::nothing(),
                    quota: None,
                };
            }
        };
        let core = Arc::clone(&self.core);
        let memory = self.memory().unwrap_or_else(|| Arc::clone(&core.crowd));
        let local = memory.local(|| Local::new(&core.budgets, share));
        let now = core.clock.now();
        if let Err(short) = local.spend(now, &costs) {
            return Decision::Short { short, quota: None };
        }
        let receipt = Receipt::new(move |actual| {
            let is = core.actual(actual);
            let local = memory.local(|| Local::new(&core.budgets, share));
            local.settle(core.clock.now(), now, &costs, &is);
        });
        Decision::Admitted {
            receipt,
            quota: None,
        }
    }

    /// For what the store has spent for this request alone.
    fn spent(&self, costs: Costs, at: u64) -> Receipt {
        let (core, keys) = (Arc::clone(&self.core), Arc::clone(self.keys()));
        Receipt::new(move |actual| {
            let is = core.actual(actual);
            let changes = (costs.iter().zip(&*is))
                .map(|(was, is)| Change::between(*was, *is, at))
                .collect();
            core.settle_later(&keys, changes);
        })
    }

    /// For what was taken from the lease.
    fn taken(&self, memory: &Arc<Memory>, costs: Costs, taken: Taken) -> Receipt {
        let (core, keys) = (Arc::clone(&self.core), Arc::clone(self.keys()));
        let memory = Arc::clone(memory);
        Receipt::new(move |actual| {
            let is = core.actual(actual);
            let more: Vec<u64> = is
                .iter()
                .zip(&*costs)
                .map(|(is, was)| is.saturating_sub(*was))
                .collect();
            let less: Vec<u64> = is
                .iter()
                .zip(&*costs)
                .map(|(is, was)| was.saturating_sub(*is))
                .collect();
            let slices = core.slices().unwrap_or_default();
            let (more, less) =
                memory.lease(|lease| (lease.owe(&more), lease.give_back(taken, &less, slices)));
            let changes = (less.iter().zip(&more))
                .map(|(less, more)| Change::between(*less, *more, taken.at))
                .collect();
            core.settle_later(&keys, changes);
        })
    }

    fn short(&self, reply: &Reply) -> Decision {
        let longest = (reply.standings.iter().zip(&self.core.budgets))
            .max_by_key(|(standing, _)| standing.wait);
        Decision::Short {
            short: Short::Wait(longest_wait(reply)),
            quota: longest
                .map(|(standing, budget)| budget.quota(standing.remaining, standing.reset_after)),
        }
    }

    /// Of the limit that has the smallest share left.
    fn tightest(&self, reply: &Reply) -> Option<Quota> {
        let quotas = (reply.standings.iter().zip(&self.core.budgets))
            .map(|(standing, budget)| budget.quota(standing.remaining, standing.reset_after));
        let left = |quota: &Quota| quota.remaining as f64 / quota.limit as f64;
        quotas.min_by(|a, b| left(a).total_cmp(&left(b)))
    }
}

fn longest_wait(reply: &Reply) -> Duration {
    let micros = reply.standings.iter().map(|standing| standing.wait).max();
    Duration::from_micros(micros.unwrap_or(0))
}
