//! How a request is let in, has to wait or is turned away.

use std::{sync::Arc, task::Waker, time::Duration};

use super::{
    Begun, Claim, Found, Gate, Learner, Slot, Waiter, line::discard, permit::Started, slot::Spent,
};
use crate::{Demand, Rejected, admission::Arrival, queue::Kind, room::Full, slots::Turn};

impl Gate {
    /// Takes a slot if there is one, and says how many are in flight, this one included. Never waits, never locks.
    #[inline]
    pub(super) fn try_take(&self, turn: Turn) -> Option<u32> {
        self.room.slots.try_take(turn).ok()
    }

    /// Takes a slot for a call that has yet to be made, if there is one that nobody waits for. Never waits.
    #[inline]
    pub(crate) fn claim(self: &Arc<Self>, demand: Option<Demand>) -> Option<Claim<'_>> {
        if self.spends(demand) {
            return self.claim_rated(demand);
        }
        self.claim_slot()
    }

    /// Likewise, where there are no rates.
    #[inline]
    pub(crate) fn claim_slot(self: &Arc<Self>) -> Option<Claim<'_>> {
        let in_flight = self.try_take(Turn::AfterTheQueue)?;
        Some(Claim::new(self, in_flight, None))
    }

    #[inline(never)]
    fn claim_rated(self: &Arc<Self>, demand: Option<Demand>) -> Option<Claim<'_>> {
        let spent = Spent::new(self.clock.now(), demand);
        let turn = Turn::AfterTheQueue;
        let taken = self.room.try_take(turn, spent.at, spent.demand());
        Some(Claim::new(self, taken.ok()?, Some(spent)))
    }

    /// Begins a call, or turns the request away. Never waits, never locks where there is a slot.
    #[inline]
    pub(crate) fn begin_or_reject(
        self: &Arc<Self>,
        demand: Option<Demand>,
    ) -> Result<Begun<'_>, Rejected> {
        if demand.is_some() || self.room.has_rates() {
            return self.begin_rated(self.clock.now(), demand);
        }
        self.begin_unrated(demand)
    }

    /// Likewise, where the time is known already, from the gate below: one clock is for both.
    pub(super) fn begin_or_reject_at(
        self: &Arc<Self>,
        now: Duration,
        demand: Option<Demand>,
    ) -> Result<Begun<'_>, Rejected> {
        match demand.is_some() || self.room.has_rates() {
            true => self.begin_rated(now, demand),
            false => self.begin_unrated(demand),
        }
    }

    #[inline(always)]
    fn begin_unrated(self: &Arc<Self>, demand: Option<Demand>) -> Result<Begun<'_>, Rejected> {
        match self.room.slots.try_take(Turn::AfterTheQueue) {
            Ok(in_flight) => Ok(Begun::new(self, in_flight, None)),
            Err(word) => self.full(Full::Slots(word), demand),
        }
    }

    #[inline(never)]
    fn begin_rated(
        self: &Arc<Self>,
        now: Duration,
        demand: Option<Demand>,
    ) -> Result<Begun<'_>, Rejected> {
        let spent = Spent::new(now, demand);
        let taken = self
            .room
            .try_take(Turn::AfterTheQueue, spent.at, spent.demand());
        match taken {
            Ok(in_flight) => Ok(Begun::new(self, in_flight, Some(spent))),
            Err(full) => self.full(full, demand),
        }
    }

    /// Like [`begin_or_reject`](Self::begin_or_reject), for a service that is still to be readied.
    pub(crate) fn claim_or_reject(
        self: &Arc<Self>,
        demand: Option<Demand>,
    ) -> Result<Claim<'_>, Rejected> {
        let spent = self
            .spends(demand)
            .then(|| Spent::new(self.clock.now(), demand));
        let (at, cost) = spent.map_or_else(Default::default, |spent| (spent.at, spent.demand()));
        match self.room.try_take(Turn::AfterTheQueue, at, cost) {
            Ok(in_flight) => Ok(Claim::new(self, in_flight, spent)),
            Err(full) => {
                let rejected = self.reject(full.reason(), Duration::ZERO, full.short());
                if !self.settings.shadow {
                    return Err(rejected);
                }
                let in_flight = self.room.slots.take_anyway();
                Ok(Claim::new(self, in_flight, Spent::nothing(demand)))
            }
        }
    }

    #[cold]
    fn full(self: &Arc<Self>, full: Full, demand: Option<Demand>) -> Result<Begun<'_>, Rejected> {
        let rejected = self.reject(full.reason(), Duration::ZERO, full.short());
        if self.settings.shadow {
            let in_flight = self.room.slots.take_anyway();
            return Ok(Begun::new(self, in_flight, Spent::nothing(demand)));
        }
        Err(rejected)
    }

    /// A request that found no slot waits for one, if it may.
    pub(crate) fn arrive(
        self: &Arc<Self>,
        kind: Kind,
        demand: Option<Demand>,
        waker: &Waker,
    ) -> Found {
        if !self.room.has_rates() {
            self.note_full();
        }
        let mut waker = Some(waker.clone());
        let (arrival, now) = self.with_queue(|admission, room, now, wake| {
            let demand = demand.unwrap_or_default();
            let arrival = admission.arrive(room, kind, demand, now, &mut waker, wake);
            (arrival, now)
        });
        discard(waker);
        match arrival {
            Arrival::Admitted(in_flight) => {
                let spent = self.spends(demand).then(|| Spent::new(now, demand));
                Found::Slot(Slot::new(Arc::clone(self), in_flight, spent))
            }
            Arrival::Waiting(ticket) => {
                if self.room.has_rates() {
                    self.note_full();
                }
                Found::Wait(Waiter::new(Arc::clone(self), kind, demand, ticket))
            }
            Arrival::Rejected(reason) => Found::Rejected(reason),
        }
    }

    /// A slot is put to use. Gives the time, if anybody needs it.
    #[inline]
    pub(super) fn begin(&self) -> Started {
        let recorded = self.recording.admitted(self);
        let picked = self.learner.as_deref().is_some_and(Learner::picks);
        if recorded || picked || self.room.has_rates() && self.room.learns() {
            return self.begin_timed(picked);
        }
        Started::UNKNOWN
    }

    #[inline(never)]
    fn begin_timed(&self, picked: bool) -> Started {
        Started::new(self.clock.now(), picked)
    }
}
