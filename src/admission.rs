//! Joins the room there is and the queue: who runs, who waits, who is turned away.
//!
//! The decisions are arithmetic on two things that are handed in: the [`Room`], which is atomic so that a gate need
//! not lock where nobody waits, and `now`. What is parked in the queue is generic: the gate parks wakers, a simulation
//! parks integers, and both run this code.
//!
//! Every operation that can let somebody go on hands the tokens of those to `wake`; a gate wakes them once it has let
//! go of its lock.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{
    Demand,
    queue::{Kind, Queue, State, Ticket},
    rate::Short,
    rejected::Reason,
    room::{Full, Room},
    slots::Turn,
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
    /// It has a slot; so many are in flight, itself included. What it asks for was spent at `spent`.
    Admitted {
        in_flight: u32,
        waited: Duration,
        spent: Duration,
    },
    Waiting,
    Rejected {
        reason: Reason,
        waited: Duration,
    },
}

/// By how much a rate may be made up for that timers were late. Without it, a timer that rings once in a millisecond could
/// not keep a pace above a thousand a second; with more of it, a process that had stood still would then storm.
const LATE: Duration = Duration::from_millis(5);

/// A rate that others use as well may have room earlier than it said, and nobody tells.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The queue and its rules.
#[derive(Debug)]
pub(crate) struct Admission<T> {
    queue: Queue<T>,
    rules: Rules,
    /// When to look again whether there is room in the rates for the one in front.
    paced: Option<Duration>,
}

impl<T> Admission<T> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            queue: Queue::new(),
            rules,
            paced: None,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// What those who wait ask for, all in all.
    pub(crate) fn demanded(&self) -> u64 {
        self.queue.demanded()
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
        self.queue.next_due().into_iter().chain(self.paced).min()
    }

    /// Whether somebody could go on at once who has not been called: a slot is free, or kept for one that may not come, and
    /// nothing but that is waited for.
    pub(crate) fn can_go_on(&self, room: &Room) -> bool {
        self.paced.is_none() && (room.slots.read().free() > 0 || self.queue.has_reserved())
    }

    /// A rate has more room than was known, or the one in front is another: whoever is there now is looked at anew.
    fn look_anew(&mut self) {
        self.paced = None;
    }

    /// Somebody arrives who found no slot, and may wait if the rules have room; then `token` is taken, and wakes it.
    /// Otherwise it stays, to be dropped where no lock is held.
    pub(crate) fn arrive(
        &mut self,
        room: &Room,
        kind: Kind,
        demand: Demand,
        now: Duration,
        token: &mut Option<T>,
        wake: &mut Woken<T>,
    ) -> Arrival {
        self.turn(room, now, wake);
        let first = kind == Kind::Parked || self.queue.waiting() == 0;
        let taken = match first {
            true => room.try_take(Turn::Open, now, demand),
            false => room
                .check_rates(now, demand)
                .map_err(Full::Rate)
                .and_then(|()| Err(Full::Slots(room.slots.read()))),
        };
        let full = match taken {
            Ok(in_flight) => return Arrival::Admitted(in_flight),
            Err(full) => full,
        };
        if room.slots.read().draining() {
            return Arrival::Rejected(Reason::Draining);
        }
        if let Full::Rate(Short::Never { .. }) = full {
            return Arrival::Rejected(Reason::OverBurst);
        }
        if self.queue.waiting() >= self.rules.max_waiting {
            if self.rules.max_waiting == 0 {
                return Arrival::Rejected(full.reason());
            }
            if self.rules.strategy != Strategy::DropOldest {
                return Arrival::Rejected(Reason::QueueFull);
            }
            if let Some(oldest) = self.queue.front() {
                wake.extend(self.queue.refuse(oldest.ticket, Reason::Evicted));
                self.look_anew();
            }
        }
        // From here on what comes free is served to the queue, this waiter included.
        let deadline = self.rules.max_wait.map(|wait| now.saturating_add(wait));
        let ticket = self.queue.join(kind, now, deadline, demand, token.take());
        room.slots.set_waiting(true);
        // A permit that came back just before the flag was up did not look at the queue.
        self.serve(room, now, wake);
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
        room: &Room,
        kind: Kind,
        ticket: Ticket,
        now: Duration,
        token: &mut Option<T>,
        wake: &mut Woken<T>,
    ) -> (Answer, Option<T>) {
        if self.queue.state(ticket).has_slot() {
            return self.collect(room, ticket, now);
        }
        self.turn(room, now, wake);
        if self.queue.state(ticket).has_slot() {
            return self.collect(room, ticket, now);
        }
        // Also too late by the clock: if a slot is free, a refusal would help nobody.
        if kind == Kind::Parked {
            let demand = self.queue.demand(ticket);
            if let Ok(in_flight) = room.try_take(Turn::Open, now, demand) {
                let answer = self.admitted(ticket, in_flight, now, now);
                self.serve(room, now, wake);
                return answer;
            }
        }
        if let State::Refused(reason) = self.queue.state(ticket) {
            let left = self.queue.leave(ticket);
            let waited = now.saturating_sub(left.joined);
            return (Answer::Rejected { reason, waited }, left.token);
        }
        let used = self.queue.wait_on(ticket, token.take());
        room.slots.set_waiting(true);
        self.serve(room, now, wake);
        (Answer::Waiting, used)
    }

    /// A waiter takes what was taken on its behalf.
    fn collect(&mut self, room: &Room, ticket: Ticket, now: Duration) -> (Answer, Option<T>) {
        let in_flight = room.slots.read().in_flight() as u32;
        let spent = match self.queue.state(ticket) {
            State::Granted(spent) => spent,
            _ => now,
        };
        self.admitted(ticket, in_flight, spent, now)
    }

    fn admitted(
        &mut self,
        ticket: Ticket,
        in_flight: u32,
        spent: Duration,
        now: Duration,
    ) -> (Answer, Option<T>) {
        let left = self.queue.leave(ticket);
        let answer = Answer::Admitted {
            in_flight,
            waited: now.saturating_sub(left.joined),
            spent,
        };
        (answer, left.token)
    }

    /// A waiter goes without having asked for its answer. Gives back its token, as [`ask`](Self::ask) does.
    pub(crate) fn leave(
        &mut self,
        room: &Room,
        ticket: Ticket,
        now: Duration,
        wake: &mut Woken<T>,
    ) -> Option<T> {
        let left = self.queue.leave(ticket);
        match left.state {
            State::Granted(spent) => {
                room.give_back(now, spent, left.demand);
            }
            State::Reserved(_) => {
                room.slots.give_back();
            }
            _ => {}
        }
        self.look_anew();
        self.turn(room, now, wake);
        left.token
    }

    /// Time has passed, a permit has come back, or the limit has moved: answers those who can be answered.
    pub(crate) fn turn(&mut self, room: &Room, now: Duration, wake: &mut Woken<T>) {
        while let Some(state) = self.queue.pass_over(now) {
            if state.has_slot() {
                room.slots.give_back();
            }
        }
        // Before anybody is served: one of these may have been called for a slot that another must now be called for.
        while let Some(ticket) = self.queue.expired(now) {
            wake.extend(self.queue.refuse(ticket, Reason::MaxWait));
            self.look_anew();
        }
        self.serve(room, now, wake);
    }

    /// Nobody is let in any more; those who wait are refused.
    pub(crate) fn drain(&mut self, room: &Room, wake: &mut Woken<T>) {
        room.slots.drain();
        self.look_anew();
        for ticket in self.queue.unanswered() {
            if self.queue.state(ticket).has_slot() {
                room.slots.give_back();
            }
            wake.extend(self.queue.refuse(ticket, Reason::Draining));
        }
        room.slots.set_waiting(false);
    }

    /// Wakes everybody who waits, for where no timer can be had to find out who comes. Nothing is kept for anybody then.
    pub(crate) fn call_all(&mut self, room: &Room, now: Duration, wake: &mut Woken<T>) {
        for ticket in self.queue.reserved() {
            wake.extend(self.queue.call(ticket, now));
            room.slots.give_back();
        }
        for ticket in self.queue.uncalled() {
            wake.extend(match self.queue.kind(ticket) {
                // It comes for sure; called, it would be out of the order in which slots are granted until it does.
                Kind::InCall => self.queue.nudge(ticket),
                Kind::Parked => self.queue.call(ticket, now),
            });
        }
    }

    /// A rate has more room than was known.
    pub(crate) fn more_room(&mut self, room: &Room, now: Duration, wake: &mut Woken<T>) {
        self.look_anew();
        self.turn(room, now, wake);
    }

    /// Gives what is free to those in front: taken for whoever is certainly there, otherwise called for.
    fn serve(&mut self, room: &Room, now: Duration, wake: &mut Woken<T>) {
        // A rate is spent at the time when there was room, even if it is a little later by now.
        let mut at = match self.paced {
            Some(due) if due > now => return,
            Some(due) => due.max(now.saturating_sub(LATE)),
            None => now,
        };
        self.paced = None;
        while let Some(front) = self.queue.front() {
            let ticket = front.ticket;
            if !front.certain {
                if room.slots.read().free() <= self.queue.called() {
                    return;
                }
                wake.extend(self.queue.call(ticket, now));
                continue;
            }
            match room.try_take(Turn::Open, at, front.demand) {
                Ok(_) => wake.extend(match front.kind {
                    Kind::InCall => self.queue.grant(ticket, at),
                    Kind::Parked => self.queue.reserve(ticket, now),
                }),
                Err(Full::Slots(_)) => return,
                Err(Full::Rate(Short::Wait(wait))) => {
                    let due = at.saturating_add(wait.max(Duration::from_nanos(1)));
                    if due > now {
                        self.paced = Some(due.min(now.saturating_add(LOOK_AGAIN)));
                        return;
                    }
                    at = due;
                }
                // It could be spent when it came; the rate has changed since.
                Err(Full::Rate(Short::Never { .. })) => {
                    wake.extend(self.queue.refuse(ticket, Reason::OverBurst));
                }
            }
        }
        room.slots.set_waiting(false);
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod model;
#[cfg(all(test, not(backpressure_loom)))]
mod paced;
#[cfg(all(test, not(backpressure_loom)))]
mod tests;
