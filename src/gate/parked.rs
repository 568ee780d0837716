use std::{
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Begun, Found, Holder, Slot, Waiter};
use crate::{Reason, Rejected, queue::Kind, slots::Turn};

/// How one instance of a service stands at its gate: what it holds between `poll_ready` and `call`.
///
/// A slot is only a number here, beside the gate that every instance holds anyway. As a guard of its own, with a reference to
/// the gate, it would be moved right after it was made, which reads it in wider parts than it was written in: that stalls for
/// longer than all the rest of an admission takes.
pub(crate) struct Parked {
    gate: Holder,
    /// How many were in flight, this one included, when its slot was taken. 0 while it has none.
    slot: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has not asked, or has a slot.
    Idle,
    Waiting(Waiter),
    /// It may make one call, and that will be refused. Not counted before it is made.
    Refused {
        reason: Reason,
        waited: Duration,
    },
}

impl Parked {
    #[inline]
    pub(crate) fn new(gate: Holder) -> Self {
        Self {
            gate,
            slot: 0,
            state: State::Idle,
        }
    }

    #[inline]
    pub(crate) fn gate(&self) -> &Holder {
        &self.gate
    }

    /// Waits for a slot or a refusal. The former is kept for the next call, and so is the latter: an error from `poll_ready`
    /// would be the end of a `Buffer` in front.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot != 0 {
            return Poll::Ready(());
        }
        if let State::Idle = self.state {
            if let Some(in_flight) = self.gate.try_take(Turn::Open) {
                self.slot = in_flight;
                return Poll::Ready(());
            }
        }
        self.poll_full(cx)
    }

    #[cold]
    fn poll_full(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let answer = match &mut self.state {
            State::Refused { .. } => return Poll::Ready(()),
            State::Waiting(waiter) => ready!(waiter.poll(cx)),
            State::Idle => match self.gate.arrive(Kind::Parked, None, cx.waker()) {
                Found::Slot(slot) => Ok(slot),
                Found::Wait(waiter) => {
                    self.state = State::Waiting(waiter);
                    return Poll::Pending;
                }
                Found::Rejected(reason) => Err((reason, Duration::ZERO)),
            },
        };
        self.state = match answer {
            Ok(slot) => {
                self.slot = slot.keep();
                State::Idle
            }
            Err((reason, waited)) => {
                self.gate.refused_early();
                State::Refused { reason, waited }
            }
        };
        Poll::Ready(())
    }

    /// Whether the next call is to be refused.
    #[inline]
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused { .. })
    }

    /// An instance that is to be refused and is asked again may find that a slot is free by now; a refusal would help nobody
    /// then. But having said that it is ready, it must not become pending, so that the slot goes back unless the service is
    /// `ready` as well.
    ///
    /// # Errors
    ///
    /// That of a service which is no more.
    #[cold]
    pub(crate) fn reconsider<E>(
        &mut self,
        ready: impl FnOnce() -> Poll<Result<(), E>>,
    ) -> Result<(), E> {
        let Some(in_flight) = self.gate.try_take(Turn::Open) else {
            return Ok(());
        };
        let slot = Slot::new(self.gate.clone(), in_flight, None);
        // A slot that goes back unused counts itself among those that left.
        self.gate.not_refused_early();
        if let Poll::Ready(ready) = ready() {
            self.state = State::Idle;
            ready?;
            self.slot = slot.keep();
        }
        Ok(())
    }

    /// The inner service is no more: what was held for the next call goes back.
    #[cold]
    pub(crate) fn give_up(&mut self) {
        let gate = self.gate.clone();
        *self = Self::new(gate);
    }

    /// The call is made.
    ///
    /// # Panics
    ///
    /// If `poll` has not said that it is ready.
    #[inline]
    pub(crate) fn begin(&mut self) -> Result<Begun<'_>, Rejected> {
        match std::mem::take(&mut self.slot) {
            0 => Err(self.refuse()),
            in_flight => Ok(Begun::new(&self.gate, in_flight, None)),
        }
    }

    #[cold]
    fn refuse(&mut self) -> Rejected {
        let State::Refused { reason, waited } = self.state else {
            panic!("`call` without a `poll_ready` that was ready")
        };
        self.state = State::Idle;
        self.gate.not_refused_early();
        self.gate.reject(reason, waited, None)
    }
}

/// A clone holds nothing of the original's.
impl Clone for Parked {
    #[inline]
    fn clone(&self) -> Self {
        Self::new(self.gate.clone())
    }
}

impl Drop for Parked {
    #[inline]
    fn drop(&mut self) {
        if self.slot != 0 {
            self.gate.unused(None);
        }
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("gate", &self.gate)
            .field("slot", &(self.slot != 0))
            .field("state", &self.state)
            .finish()
    }
}
