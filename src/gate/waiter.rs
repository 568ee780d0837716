use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use super::{Gate, Holder, Slot, line::discard, slot::Spent};
use crate::{
    Demand, Reason, Rejected,
    admission::Answer,
    queue::{Kind, Ticket},
};

/// A place in the queue. Dropping it leaves the queue, and passes on a slot that had been granted meanwhile.
pub(crate) struct Waiter {
    gate: Holder,
    kind: Kind,
    demand: Option<Demand>,
    /// `None` once it has its answer.
    ticket: Option<Ticket>,
}

impl Waiter {
    pub(super) fn new(gate: Holder, kind: Kind, demand: Option<Demand>, ticket: Ticket) -> Self {
        Self {
            gate,
            kind,
            demand,
            ticket: Some(ticket),
        }
    }

    /// The slot, or why there is none and how long it was waited for.
    ///
    /// # Panics
    ///
    /// If it has given its answer already.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slot, (Reason, Duration)>> {
        let ticket = self.ticket.expect("a waiter is polled until its answer");
        let (kind, mut waker) = (self.kind, Some(cx.waker().clone()));
        let (answer, used) = self.gate.with_queue(|admission, room, now, wake| {
            admission.ask(room, kind, ticket, now, &mut waker, wake)
        });
        discard(waker);
        discard(used);
        let gate = &self.gate;
        Poll::Ready(match answer {
            Answer::Waiting => return Poll::Pending,
            Answer::Admitted {
                in_flight,
                waited,
                spent,
            } => {
                self.ticket = None;
                let spent = gate
                    .spends(self.demand)
                    .then(|| Spent::new(spent, self.demand));
                let slot = Slot::new(gate.clone(), in_flight, spent);
                gate.waited(waited);
                Ok(slot)
            }
            Answer::Rejected { reason, waited } => {
                self.ticket = None;
                gate.waited(waited);
                Err((reason, waited))
            }
        })
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Counts the refusal that was its answer.
    pub(crate) fn reject(&self, reason: Reason, waited: Duration) -> Rejected {
        self.gate.reject_waiter(reason, waited, self.demand)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate.leave(ticket);
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("kind", &self.kind)
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}
