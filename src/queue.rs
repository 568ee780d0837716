//! The waiting line: who waits, in which order, who was called and did not come.
//!
//! Two kinds of waiter stand in it. One waits *inside a call*: its future is being driven, so a free slot is granted to
//! it, in order. The other is *parked in `poll_ready`*, and there is no telling whether anybody will ever poll it
//! again: a load shedder or a balancer asks an instance, hears "pending" and turns to another. A slot granted to such an
//! instance would be lost, so it is *called* instead: woken, while the slot stays free for whoever comes first.
//!
//! Left at that, a caller that finishes and at once asks again would be quicker than any waiter that has to be woken
//! first, every time. So a waiter that came in time when it was called, and found the slot taken, has proven to be there,
//! and the next slot is *reserved* for it. Neither a call nor a reservation lasts longer than a [`GRACE`]: whoever has not
//! come by then is counted as absent and has nothing proven, and the next one's turn has come. Where everybody is late
//! nothing is reserved, and the slot goes to the first that comes.
//!
//! ```text
//!            in a call:   waiting ──► granted ──► gone
//! parked in poll_ready:   waiting ──► called ───► gone
//!                         ▲  │  ▲       │  │
//!                         │  │  └───────┘  ▼      polled, and the slot was taken: proven
//!                         └──┼─────────── absent
//!                            ▼              ▲
//!                         reserved ─────────┘     only if proven
//!                            └──► gone
//!                 both:   waiting, called, absent ──► refused ──► gone
//! ```
//!
//! Every operation costs O(log n), also leaving from the middle: a storm of cancellations stays linear.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{Demand, rejected::Reason};

/// How long a called waiter has before the next one is called as well.
pub(crate) const GRACE: Duration = Duration::from_millis(1);

/// A place in the queue. The lower, the longer it has waited.
pub(crate) type Ticket = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InCall,
    Parked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    /// Woken for a free slot, at this time.
    Called(Duration),
    /// Called, and it did not come.
    Absent,
    /// A slot was taken on its behalf, and its demand spent, at this time.
    Granted(Duration),
    /// A slot was taken on its behalf at this time, and is kept for a [`GRACE`].
    Reserved(Duration),
    Refused(Reason),
}

impl State {
    /// Whether a slot goes with it.
    pub(crate) fn has_slot(self) -> bool {
        matches!(self, State::Granted(_) | State::Reserved(_))
    }

    fn is_answered(self) -> bool {
        self.has_slot() || matches!(self, State::Refused(_))
    }
}

#[derive(Debug)]
struct Entry<T> {
    kind: Kind,
    state: State,
    /// It came in time when it was called.
    proven: bool,
    joined: Duration,
    deadline: Option<Duration>,
    demand: Demand,
    /// What wakes it; taken when it is woken.
    token: Option<T>,
}

/// Whoever is next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) ticket: Ticket,
    pub(crate) kind: Kind,
    /// Whether a slot may be taken on its behalf.
    pub(crate) certain: bool,
    pub(crate) demand: Demand,
}

/// What is left of a waiter that has gone.
#[derive(Debug)]
pub(crate) struct Left<T> {
    pub(crate) state: State,
    pub(crate) joined: Duration,
    pub(crate) demand: Demand,
    /// What would have woken it. Not to be dropped under a lock: it may own whatever it wakes.
    pub(crate) token: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<Ticket, Entry<T>>,
    /// Those in `Waiting`.
    uncalled: BTreeSet<Ticket>,
    /// What they ask for, all in all.
    demanded: u128,
    /// Those in `Called` or `Reserved`, in the order of the calls; stale pairs are passed over.
    calls: VecDeque<(Duration, Ticket)>,
    called: usize,
    with_slot: usize,
    deadlines: BTreeSet<(Duration, Ticket)>,
    next: Ticket,
    peak: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            uncalled: BTreeSet::new(),
            demanded: 0,
            calls: VecDeque::new(),
            called: 0,
            with_slot: 0,
            deadlines: BTreeSet::new(),
            next: 0,
            peak: 0,
        }
    }

    /// How many wait. Those that were called and did not come are not counted, lest they fill the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.uncalled.len() + self.called
    }

    /// What those ask for that have not been called, all in all.
    pub(crate) fn demanded(&self) -> u64 {
        u64::try_from(self.demanded).unwrap_or(u64::MAX)
    }

    /// How many are here and have no slot yet, whether they wait, are absent or have a refusal to collect.
    pub(crate) fn present(&self) -> usize {
        self.entries.len() - self.with_slot
    }

    /// The most that ever waited at once.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// How many were called and may still come.
    pub(crate) fn called(&self) -> usize {
        self.called
    }

    /// The longest waiter that has not been called.
    pub(crate) fn front(&self) -> Option<Front> {
        let ticket = *self.uncalled.first()?;
        let entry = &self.entries[&ticket];
        Some(Front {
            ticket,
            kind: entry.kind,
            certain: entry.proven || entry.kind == Kind::InCall,
            demand: entry.demand,
        })
    }

    pub(crate) fn join(
        &mut self,
        kind: Kind,
        now: Duration,
        deadline: Option<Duration>,
        demand: Demand,
        token: Option<T>,
    ) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.entries.insert(
            ticket,
            Entry {
                kind,
                state: State::Waiting,
                proven: false,
                joined: now,
                deadline,
                demand,
                token,
            },
        );
        self.uncalled.insert(ticket);
        self.demanded += u128::from(demand.cost());
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, ticket));
        }
        self.peak = self.peak.max(self.waiting());
        ticket
    }

    /// # Panics
    ///
    /// If the waiter has gone.
    pub(crate) fn state(&self, ticket: Ticket) -> State {
        self.entries[&ticket].state
    }

    /// # Panics
    ///
    /// If the waiter has gone.
    pub(crate) fn demand(&self, ticket: Ticket) -> Demand {
        self.entries[&ticket].demand
    }

    /// # Panics
    ///
    /// If the waiter has gone.
    pub(crate) fn kind(&self, ticket: Ticket) -> Kind {
        self.entries[&ticket].kind
    }

    /// The waiter came and has to wait on, in its old place. Gives what would have woken it so far.
    pub(crate) fn wait_on(&mut self, ticket: Ticket, token: Option<T>) -> Option<T> {
        // Who came too late to be counted on is no better proven than before.
        let came = matches!(self.state(ticket), State::Called(_));
        let spent = self.enter(ticket, State::Waiting);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.proven |= came;
            entry.token = token;
        }
        spent
    }

    /// Calls a waiter. The token wakes it.
    pub(crate) fn call(&mut self, ticket: Ticket, now: Duration) -> Option<T> {
        self.enter(ticket, State::Called(now))
    }

    /// Has a waiter ask, though there is nothing for it. The token wakes it.
    pub(crate) fn nudge(&mut self, ticket: Ticket) -> Option<T> {
        self.entries.get_mut(&ticket)?.token.take()
    }

    /// Tells a waiter that a slot was taken on its behalf. The token wakes it.
    pub(crate) fn grant(&mut self, ticket: Ticket, now: Duration) -> Option<T> {
        self.enter(ticket, State::Granted(now))
    }

    /// Tells a proven waiter that a slot was taken on its behalf, for a while. The token wakes it.
    pub(crate) fn reserve(&mut self, ticket: Ticket, now: Duration) -> Option<T> {
        self.enter(ticket, State::Reserved(now))
    }

    /// Tells a waiter that it is refused. The token wakes it.
    pub(crate) fn refuse(&mut self, ticket: Ticket, reason: Reason) -> Option<T> {
        self.enter(ticket, State::Refused(reason))
    }

    /// Counts one as absent that was called a [`GRACE`] ago and has not come. Gives the state that it was in; if a slot
    /// went with that, it is now the caller's.
    pub(crate) fn pass_over(&mut self, now: Duration) -> Option<State> {
        let (called, ticket) = self.first_call()?;
        if called + GRACE > now {
            return None;
        }
        let state = self.state(ticket);
        self.enter(ticket, State::Absent);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.proven = false;
        }
        Some(state)
    }

    /// A waiter whose deadline has come.
    pub(crate) fn expired(&self, now: Duration) -> Option<Ticket> {
        let (deadline, ticket) = *self.deadlines.first()?;
        (deadline <= now).then_some(ticket)
    }

    /// Everybody that has neither a refusal nor a slot that is certainly theirs.
    pub(crate) fn unanswered(&self) -> Vec<Ticket> {
        self.entries
            .iter()
            .filter(|(_, entry)| !matches!(entry.state, State::Granted(_)))
            .filter(|(_, entry)| !matches!(entry.state, State::Refused(_)))
            .map(|(ticket, _)| *ticket)
            .collect()
    }

    /// Everybody that has not been called.
    pub(crate) fn uncalled(&self) -> Vec<Ticket> {
        self.uncalled.iter().copied().collect()
    }

    /// Everybody for whom a slot is kept.
    pub(crate) fn reserved(&self) -> Vec<Ticket> {
        let reserved = |ticket: &Ticket| {
            let entry = self.entries.get(ticket);
            entry.is_some_and(|entry| matches!(entry.state, State::Reserved(_)))
        };
        let called = self.calls.iter().map(|(_, ticket)| *ticket);
        let tickets: BTreeSet<_> = called.filter(reserved).collect();
        tickets.into_iter().collect()
    }

    pub(crate) fn has_reserved(&self) -> bool {
        !self.reserved().is_empty()
    }

    /// When the queue wants to be looked at again, whatever else happens.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        let call = self.first_call().map(|(called, _)| called + GRACE);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        call.into_iter().chain(deadline).min()
    }

    /// The waiter goes, with what it got or without.
    ///
    /// # Panics
    ///
    /// If it has gone already.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Left<T> {
        self.forget(ticket);
        let entry = self.entries.remove(&ticket).expect("a waiter leaves once");
        if self.entries.is_empty() {
            self.calls.clear();
        }
        Left {
            state: entry.state,
            joined: entry.joined,
            demand: entry.demand,
            token: entry.token,
        }
    }

    fn first_call(&mut self) -> Option<(Duration, Ticket)> {
        while let Some(&(called, ticket)) = self.calls.front() {
            let current = self.entries.get(&ticket).map(|entry| entry.state);
            if current == Some(State::Called(called)) || current == Some(State::Reserved(called)) {
                return Some((called, ticket));
            }
            self.calls.pop_front();
        }
        None
    }

    /// The only place where a waiter's state changes: what is counted beside it cannot get out of step.
    fn enter(&mut self, ticket: Ticket, state: State) -> Option<T> {
        self.forget(ticket);
        let entry = self.entries.get_mut(&ticket)?;
        entry.state = state;
        match state {
            State::Waiting => {
                self.uncalled.insert(ticket);
                self.demanded += u128::from(entry.demand.cost());
            }
            State::Called(at) => {
                self.called += 1;
                self.calls.push_back((at, ticket));
            }
            State::Reserved(at) => {
                self.with_slot += 1;
                self.calls.push_back((at, ticket));
            }
            State::Granted(_) => self.with_slot += 1,
            State::Absent | State::Refused(_) => {}
        }
        // One that was absent, or had a slot kept for it, may wait once more.
        self.peak = self.peak.max(self.uncalled.len() + self.called);
        if let Some(deadline) = entry.deadline {
            if !state.is_answered() {
                self.deadlines.insert((deadline, ticket));
            }
        }
        entry.token.take()
    }

    /// Takes a waiter out of all that is counted by state.
    fn forget(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get(&ticket) else {
            return;
        };
        match entry.state {
            State::Waiting => {
                self.uncalled.remove(&ticket);
                self.demanded -= u128::from(entry.demand.cost());
            }
            State::Called(_) => self.called -= 1,
            State::Granted(_) | State::Reserved(_) => self.with_slot -= 1,
            State::Absent | State::Refused(_) => {}
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
    }
}
