//! The waiting line: who waits, in which order, who was called and did not come.
//!
//! Two kinds of waiter stand in it. One waits *inside a call*: its future is being driven, so a free slot is handed to
//! it, in order. The other is *parked in `poll_ready`*, and there is no telling whether anybody will ever poll it
//! again: a load shedder or a balancer asks an instance, hears "pending" and turns to another. A slot handed to such an
//! instance would be lost, so it is *called* instead: woken, while the slot stays free for whoever comes first. If it
//! has not come within [`GRACE`] it is counted as absent, and the next one is called.
//!
//! ```text
//!            in a call:   waiting ──► granted ──► gone
//! parked in poll_ready:   waiting ──► called ───► gone
//!                            ▲          │  ▼
//!                            └──────────┴ absent          (polled, and the slot was taken)
//!                 both:   waiting, called, absent ──► refused ──► gone
//! ```
//!
//! Every operation costs O(log n), also leaving from the middle: a storm of cancellations stays linear.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::rejected::Reason;

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
    /// A slot was taken on its behalf.
    Granted,
    Refused(Reason),
}

#[derive(Debug)]
struct Entry<T> {
    kind: Kind,
    state: State,
    joined: Duration,
    deadline: Option<Duration>,
    /// What wakes it; taken when it is woken.
    token: Option<T>,
}

/// What is left of a waiter that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) state: State,
    pub(crate) joined: Duration,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<Ticket, Entry<T>>,
    /// Those in `Waiting`.
    uncalled: BTreeSet<Ticket>,
    /// Those in `Called`, in the order of the calls; stale pairs are passed over.
    calls: VecDeque<(Duration, Ticket)>,
    called: usize,
    deadlines: BTreeSet<(Duration, Ticket)>,
    next: Ticket,
    peak: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            uncalled: BTreeSet::new(),
            calls: VecDeque::new(),
            called: 0,
            deadlines: BTreeSet::new(),
            next: 0,
            peak: 0,
        }
    }

    /// How many wait. Those that were called and did not come are not counted, lest they fill the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.uncalled.len() + self.called
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
    pub(crate) fn front(&self) -> Option<(Ticket, Kind)> {
        let ticket = *self.uncalled.first()?;
        Some((ticket, self.entries[&ticket].kind))
    }

    pub(crate) fn join(
        &mut self,
        kind: Kind,
        now: Duration,
        deadline: Option<Duration>,
        token: T,
    ) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.entries.insert(
            ticket,
            Entry {
                kind,
                state: State::Waiting,
                joined: now,
                deadline,
                token: Some(token),
            },
        );
        self.uncalled.insert(ticket);
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

    /// The waiter came and has to wait on, in its old place.
    pub(crate) fn wait_on(&mut self, ticket: Ticket, token: T) {
        self.enter(ticket, State::Waiting);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.token = Some(token);
        }
    }

    /// Calls a waiter. The token wakes it.
    pub(crate) fn call(&mut self, ticket: Ticket, now: Duration) -> Option<T> {
        self.enter(ticket, State::Called(now))
    }

    /// Tells a waiter that a slot was taken on its behalf. The token wakes it.
    pub(crate) fn grant(&mut self, ticket: Ticket) -> Option<T> {
        self.enter(ticket, State::Granted)
    }

    /// Tells a waiter that it is refused. The token wakes it.
    pub(crate) fn refuse(&mut self, ticket: Ticket, reason: Reason) -> Option<T> {
        self.enter(ticket, State::Refused(reason))
    }

    /// Counts those as absent that were called a [`GRACE`] ago and have not come.
    pub(crate) fn pass_over(&mut self, now: Duration) {
        while let Some((called, ticket)) = self.first_call() {
            if called + GRACE > now {
                break;
            }
            self.enter(ticket, State::Absent);
        }
    }

    /// A waiter whose deadline has come.
    pub(crate) fn expired(&self, now: Duration) -> Option<Ticket> {
        let (deadline, ticket) = *self.deadlines.first()?;
        (deadline <= now).then_some(ticket)
    }

    /// Everybody that has neither a slot nor a refusal.
    pub(crate) fn unanswered(&self) -> Vec<Ticket> {
        self.entries
            .iter()
            .filter(|(_, entry)| !matches!(entry.state, State::Granted | State::Refused(_)))
            .map(|(ticket, _)| *ticket)
            .collect()
    }

    /// When the queue wants to be looked at again, whatever else happens.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        let call = match self.first_call() {
            Some((called, _)) if !self.uncalled.is_empty() => Some(called + GRACE),
            _ => None,
        };
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        call.into_iter().chain(deadline).min()
    }

    /// The waiter goes, with what it got or without.
    ///
    /// # Panics
    ///
    /// If it has gone already.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Left {
        self.forget(ticket);
        let entry = self.entries.remove(&ticket).expect("a waiter leaves once");
        if self.entries.is_empty() {
            self.calls.clear();
        }
        Left {
            state: entry.state,
            joined: entry.joined,
        }
    }

    fn first_call(&mut self) -> Option<(Duration, Ticket)> {
        while let Some(&(called, ticket)) = self.calls.front() {
            let current = self.entries.get(&ticket).map(|entry| entry.state);
            if current == Some(State::Called(called)) {
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
            }
            State::Called(at) => {
                self.called += 1;
                self.calls.push_back((at, ticket));
            }
            State::Absent | State::Granted | State::Refused(_) => {}
        }
        if let Some(deadline) = entry.deadline {
            if !matches!(state, State::Granted | State::Refused(_)) {
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
            }
            State::Called(_) => self.called -= 1,
            State::Absent | State::Granted | State::Refused(_) => {}
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
    }
}
