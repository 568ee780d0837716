//! Joins the slots and the queue: who runs, who waits, who is turned away.
//!
//! The decisions are arithmetic on two things that are handed in: the [`Slots`], which are atomic so that a gate need
//! not lock where nobody waits, and `now`. What is parked in the queue is generic: the gate parks wakers, a simulation
//! parks integers, and both run this code.
//!
//! Every operation that can let somebody go on hands the tokens of those to `wake`; a gate wakes them once it has let
//! go of its lock.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{
    queue::{Kind, Queue, State, Ticket},
    rejected::Reason,
    slots::{Slots, Turn},
    strategy::Strategy,
};

/// The tokens of those that can go on: seldom more than one, then nothing is allocated.
pub(crate) type Woken<T> = SmallVec<[T; 2]>;

/// How a queue is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) strategy: Strategy,
    pub(crate) max_waiting: usize,
    pub(crate) max_wait: Option<Duration>,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has a slot; so many are in flight, itself included.
    Admitted(u32),
    Waiting(Ticket),
    Rejected(Reason),
}

/// What became of a waiter that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has a slot; so many are in flight, itself included.
    Admitted {
        in_flight: u32,
        waited: Duration,
    },
    Waiting,
    Rejected {
        reason: Reason,
        waited: Duration,
    },
}

/// The queue and its rules.
#[derive(Debug)]
pub(crate) struct Admission<T> {
    queue: Queue<T>,
    rules: Rules,
}

impl<T> Admission<T> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            queue: Queue::new(),
            rules,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How many are here without a slot, whether they wait or not.
    pub(crate) fn present(&self) -> usize {
        self.queue.present()
    }

    pub(crate) fn peak_waiting(&self) -> usize {
        self.queue.peak()
    }

    /// When [`turn`](Self::turn) wants to be called, whatever else happens.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        self.queue.next_due()
    }

    /// Somebody arrives who found no slot, and may wait if the rules have room; then `token` is taken, and wakes it.
    /// Otherwise it stays, to be dropped where no lock is held.
    pub(crate) fn arrive(
        &mut self,
        slots: &Slots,
        kind: Kind,
        now: Duration,
        token: &mut Option<T>,
        wake: &mut Woken<T>,
    ) -> Arrival {
        self.turn(slots, now, wake);
        if kind == Kind::Parked || self.queue.waiting() == 0 {
            if let Ok(in_flight) = slots.try_take(Turn::Open) {
                return Arrival::Admitted(in_flight);
            }
        }
        if slots.read().draining() {
            return Arrival::Rejected(Reason::Draining);
        }
        if self.queue.waiting() >= self.rules.max_waiting {
            if self.rules.max_waiting == 0 {
                return Arrival::Rejected(Reason::Limit);
            }
            if self.rules.strategy != Strategy::DropOldest {
                return Arrival::Rejected(Reason::QueueFull);
            }
            if let Some((oldest, ..)) = self.queue.front() {
                wake.extend(self.queue.refuse(oldest, Reason::Evicted));
            }
        }
        // From here on a slot that comes free is served to the queue, this waiter included.
        let deadline = self.rules.max_wait.map(|wait| now.saturating_add(wait));
        let ticket = self.queue.join(kind, now, deadline, token.take());
        slots.set_waiting(true);
        // A permit that came back just before the flag was up did not look at the queue.
        self.serve(slots, now, wake);
        Arrival::Waiting(ticket)
    }

    /// A waiter asks how it stands; if it has to wait on, `token` is taken, and wakes it. Gives back the token that it had
    /// before; neither is to be dropped where a lock is held.
    ///
    /// # Panics
    ///
    /// If it has left.
    pub(crate) fn ask(
        &mut self,
        slots: &Slots,
        kind: Kind,
        ticket: Ticket,
        now: Duration,
        token: &mut Option<T>,
        wake: &mut Woken<T>,
    ) -> (Answer, Option<T>) {
        if self.queue.state(ticket).has_slot() {
            let in_flight = slots.read().in_flight() as u32;
            return self.admitted(ticket, in_flight, now);
        }
        self.turn(slots, now, wake);
        let may_take = match self.queue.state(ticket) {
            // The turn was this one's.
            state if state.has_slot() => {
                let in_flight = slots.read().in_flight() as u32;
                return self.admitted(ticket, in_flight, now);
            }
            // Too late by the clock, but if a slot is free a refusal would help nobody.
            State::Refused(reason) => kind == Kind::Parked && reason == Reason::MaxWait,
            _ => kind == Kind::Parked,
        };
        if may_take {
            if let Ok(in_flight) = slots.try_take(Turn::Open) {
                let answer = self.admitted(ticket, in_flight, now);
                self.serve(slots, now, wake);
                return answer;
            }
        }
        if let State::Refused(reason) = self.queue.state(ticket) {
            let left = self.queue.leave(ticket);
            let waited = now.saturating_sub(left.joined);
            return (Answer::Rejected { reason, waited }, left.token);
        }
        let spent = self.queue.wait_on(ticket, token.take());
        slots.set_waiting(true);
        self.serve(slots, now, wake);
        (Answer::Waiting, spent)
    }

    fn admitted(&mut self, ticket: Ticket, in_flight: u32, now: Duration) -> (Answer, Option<T>) {
        let left = self.queue.leave(ticket);
        let waited = now.saturating_sub(left.joined);
        (Answer::Admitted { in_flight, waited }, left.token)
    }

    /// A waiter goes without having asked for its answer. Gives back its token, as [`ask`](Self::ask) does.
    pub(crate) fn leave(
        &mut self,
        slots: &Slots,
        ticket: Ticket,
        now: Duration,
        wake: &mut Woken<T>,
    ) -> Option<T> {
        let left = self.queue.leave(ticket);
        if left.state.has_slot() {
            slots.give_back();
        }
        self.turn(slots, now, wake);
        left.token
    }

    /// Time has passed, a permit has come back, or the limit has moved: answers those who can be answered.
    pub(crate) fn turn(&mut self, slots: &Slots, now: Duration, wake: &mut Woken<T>) {
        while let Some(state) = self.queue.pass_over(now) {
            if state.has_slot() {
                slots.give_back();
            }
        }
        // Before anybody is served: one of these may have been called for a slot that another must now be called for.
        while let Some(ticket) = self.queue.expired(now) {
            wake.extend(self.queue.refuse(ticket, Reason::MaxWait));
        }
        self.serve(slots, now, wake);
    }

    /// Nobody is let in any more; those who wait are refused.
    pub(crate) fn drain(&mut self, slots: &Slots, wake: &mut Woken<T>) {
        slots.drain();
        for ticket in self.queue.unanswered() {
            if self.queue.state(ticket).has_slot() {
                slots.give_back();
            }
            wake.extend(self.queue.refuse(ticket, Reason::Draining));
        }
        slots.set_waiting(false);
    }

    /// Wakes everybody who waits, for where no timer can be had to find out who comes.
    pub(crate) fn call_all(&mut self, now: Duration, wake: &mut Woken<T>) {
        for ticket in self.queue.unanswered() {
            wake.extend(match self.queue.kind(ticket) {
                // It comes for sure; called, it would be out of the order in which slots are granted until it does.
                Kind::InCall => self.queue.nudge(ticket),
                Kind::Parked if self.queue.state(ticket) == State::Waiting => {
                    self.queue.call(ticket, now)
                }
                Kind::Parked => None,
            });
        }
    }

    /// Gives the free slots to those in front: taken for whoever is certainly there, otherwise called for.
    fn serve(&mut self, slots: &Slots, now: Duration, wake: &mut Woken<T>) {
        while let Some((front, kind, certain)) = self.queue.front() {
            if certain {
                if slots.try_take(Turn::Open).is_err() {
                    return;
                }
                wake.extend(match kind {
                    Kind::InCall => self.queue.grant(front),
                    Kind::Parked => self.queue.reserve(front, now),
                });
            } else {
                if slots.read().free() <= self.queue.called() {
                    return;
                }
                wake.extend(self.queue.call(front, now));
            }
        }
        slots.set_waiting(false);
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod model;
#[cfg(all(test, not(backpressure_loom)))]
mod tests;
