use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Gate, Permit};
use crate::{
    Rejected,
    admission::Answer,
    queue::{Kind, Ticket},
};

/// A place in the queue. Dropping it leaves the queue, and passes on a slot that had been granted meanwhile.
pub(crate) struct Waiter {
    gate: Arc<Gate>,
    kind: Kind,
    /// `None` once it has its answer.
    ticket: Option<Ticket>,
}

impl Waiter {
    pub(super) fn new(gate: Arc<Gate>, kind: Kind, ticket: Ticket) -> Self {
        Self {
            gate,
            kind,
            ticket: Some(ticket),
        }
    }

    /// # Panics
    ///
    /// If it has given its answer already.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Rejected>> {
        let ticket = self.ticket.expect("a waiter is polled until its answer");
        let (kind, waker) = (self.kind, cx.waker().clone());
        let answer = self.gate.with_queue(|admission, slots, now, wake| {
            admission.ask(slots, kind, ticket, now, waker, wake)
        });
        let (waited, answer) = match answer {
            Answer::Waiting => return Poll::Pending,
            Answer::Admitted { in_flight, waited } => (waited, Ok(in_flight)),
            Answer::Rejected { reason, waited } => (waited, Err(reason)),
        };
        self.ticket = None;
        let gate = &self.gate;
        gate.recording
            .waited(&gate.settings.name, &gate.slots, waited);
        Poll::Ready(match answer {
            Ok(in_flight) => Ok(gate.admitted(in_flight)),
            Err(reason) => Err(gate.reject(reason, waited)),
        })
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
