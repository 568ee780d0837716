//! How a request is let in, has to wait or is turned away.

use std::{mem, task::Waker, time::Duration};

use super::{
    Begun, Claim, Found, Gate, Holder, Learner, Slot, Waiter,
    line::discard,
    permit::{Pupil, Started},
    slot::Spent,
    usher,
    watch::Lack,
};
use crate::{Demand, Rejected, admission::Arrival, queue::Kind, room::Full, slots::Turn};
#[cfg(feature = "llm")]
use crate::{Reason, strategy::Strategy};

impl Holder {
    /// Takes a slot for a call that has yet to be made, if there is one that nobody waits for. Never waits.
    #[inline]
    pub(crate) fn claim(&self, demand: Option<Demand>) -> Option<Claim<'_>> {
        if self.spends(demand) {
            return self.claim_rated(demand);
        }
        self.claim_slot()
    }

    /// Likewise, where there are no rates.
    #[inline]
    pub(crate) fn claim_slot(&self) -> Option<Claim<'_>> {
        let in_flight = self.try_take(Turn::AfterTheQueue)?;
        Some(Claim::new(self, in_flight, None))
    }

    #[inline(never)]
    fn claim_rated(&self, demand: Option<Demand>) -> Option<Claim<'_>> {
        let spent = Spent::new(self.clock.now(), demand);
        let turn = Turn::AfterTheQueue;
        let taken = self.room.try_take(turn, spent.at, spent.demand());
        Some(Claim::new(self, taken.ok()?, Some(spent)))
    }

    /// Begins a call, or turns the request away. Never waits, never locks where there is a slot.
    #[inline]
    pub(crate) fn begin_or_reject(&self, demand: Option<Demand>) -> Result<Begun<'_>, Rejected> {
        if demand.is_some() || self.room.has_rates() {
            return self.begin_rated(demand);
        }
        self.begin_unrated(demand)
    }

    #[inline(always)]
    fn begin_unrated(&self, demand: Option<Demand>) -> Result<Begun<'_>, Rejected> {
        let (in_flight, spent) = self.take_slot(demand)?;
        Ok(Begun::new(self, in_flight, spent))
    }

    #[inline(never)]
    fn begin_rated(&self, demand: Option<Demand>) -> Result<Begun<'_>, Rejected> {
        let (in_flight, spent) = self.take_rated(self.clock.now(), demand)?;
        Ok(Begun::new(self, in_flight, spent))
    }

    /// Like [`begin_or_reject`](Self::begin_or_reject), for a service that is still to be readied.
    pub(crate) fn claim_or_reject(&self, demand: Option<Demand>) -> Result<Claim<'_>, Rejected> {
        let (in_flight, spent) = self.take_or_reject(None, demand)?;
        Ok(Claim::new(self, in_flight, spent))
    }

    /// A request that found no slot waits for one, if it may.
    pub(crate) fn arrive(&self, kind: Kind, demand: Option<Demand>, waker: &Waker) -> Found {
        if !self.room.has_rates() {
            self.note_full();
        }
        let mut waker = Some(waker.clone());
        let mut runtime = usher::runtime();
        let (arrival, now) = self.with_line(|line, room, now, wake| {
            if runtime.is_some() {
                mem::swap(&mut line.runtime, &mut runtime);
            }
            let (admission, demand) = (&mut line.admission, demand.unwrap_or_default());
            let arrival = admission.arrive(room, kind, demand, now, &mut waker, wake);
            (arrival, now)
        });
        discard(waker);
        match arrival {
            Arrival::Admitted(in_flight) => {
                let spent = self.spends(demand).then(|| Spent::new(now, demand));
                Found::Slot(Slot::new(self.clone(), in_flight, spent))
            }
            Arrival::Waiting(ticket) => {
                if self.room.has_rates() {
                    self.note_full();
                }
                Found::Wait(Waiter::new(self.clone(), kind, demand, ticket))
            }
            Arrival::Rejected(reason) => Found::Rejected(reason),
        }
    }
}

impl Gate {
    /// Takes a slot if there is one, and says how many are in flight, this one included. Never waits, never locks.
    #[inline]
    pub(super) fn try_take(&self, turn: Turn) -> Option<u32> {
        self.room.slots.try_take(turn).ok()
    }

    /// Turns a request away that would be refused now whatever it asks for, before anybody reads what that is. Whoever is not
    /// turned away is not counted.
    #[cfg(feature = "llm")]
    pub(crate) fn turn_away(&self) -> Option<Rejected> {
        let word = self.room.slots.look(Turn::AfterTheQueue).err()?;
        if self.settings.shadow {
            return None;
        }
        if word.draining() {
            return Some(self.reject(Reason::Draining, Duration::ZERO, None));
        }
        // At the gate of its key it may wait until there is room here.
        if self.keys.is_some() {
            return None;
        }
        let rules = self.settings.rules;
        match rules.max_waiting {
            0 => Some(self.reject(Reason::Limit, Duration::ZERO, None)),
            _ if rules.strategy == Strategy::DropOldest => None,
            most => (self.waiting() >= most)
                .then(|| self.reject_waiter(Reason::QueueFull, Duration::ZERO, None)),
        }
    }

    /// Takes what a call needs, or turns the request away. `now` where it is known, from the gate below: one clock is for both.
    pub(super) fn take_or_reject(
        &self,
        now: Option<Duration>,
        demand: Option<Demand>,
    ) -> Result<(u32, Option<Spent>), Rejected> {
        if self.spends(demand) {
            return self.take_rated(now.unwrap_or_else(|| self.clock.now()), demand);
        }
        self.take_slot(demand)
    }

    #[inline(always)]
    fn take_slot(&self, demand: Option<Demand>) -> Result<(u32, Option<Spent>), Rejected> {
        match self.room.slots.try_take(Turn::AfterTheQueue) {
            Ok(in_flight) => Ok((in_flight, None)),
            Err(word) => self.full(Full::Slots(word), demand),
        }
    }

    #[inline]
    fn take_rated(
        &self,
        now: Duration,
        demand: Option<Demand>,
    ) -> Result<(u32, Option<Spent>), Rejected> {
        let spent = Spent::new(now, demand);
        let turn = Turn::AfterTheQueue;
        match self.room.try_take(turn, now, spent.demand()) {
            Ok(in_flight) => Ok((in_flight, Some(spent))),
            Err(full) => self.full(full, demand),
        }
    }

    /// Counts a refusal, which in the shadow is none.
    #[cold]
    fn full(&self, full: Full, demand: Option<Demand>) -> Result<(u32, Option<Spent>), Rejected> {
        let lack = full
            .short()
            .map(|short| Lack::here(short, demand.unwrap_or_default()));
        let rejected = self.reject(full.reason(), Duration::ZERO, lack);
        if !self.settings.shadow {
            return Err(rejected);
        }
        Ok((self.room.slots.take_anyway(), Spent::nothing(demand)))
    }

    /// A slot is put to use. Gives the time, if anybody needs it.
    #[inline]
    pub(super) fn begin(&self) -> Started {
        let (recorded, picked) = self.count_in();
        if recorded || picked || self.room.has_rates() && self.room.learns() {
            return self.begin_timed(picked);
        }
        Started::UNKNOWN
    }

    /// Likewise, with the slot that was taken above, and what that gate has to know later, if it learns from the call.
    pub(super) fn begin_under(&self, above: &Self, in_flight: u32) -> (Started, Option<Pupil>) {
        let (recorded, picked) = above.count_in();
        let learns = picked || above.room.learns();
        let mut started = self.begin();
        if (recorded || learns) && !started.is_known() {
            started = self.begin_timed(false);
        }
        (started, learns.then_some(Pupil { in_flight, picked }))
    }

    /// Whether a recorder hears of the call, and whether the limit is to learn from it.
    #[inline(always)]
    fn count_in(&self) -> (bool, bool) {
        let recorded = self.recording.admitted(self);
        let picked = self.learner.as_deref().is_some_and(Learner::picks);
        (recorded, picked)
    }

    #[inline(never)]
    fn begin_timed(&self, picked: bool) -> Started {
        Started::new(self.clock.now(), picked)
    }
}
