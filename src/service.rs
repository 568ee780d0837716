use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tower_service::Service;

use crate::{
    Handle, Reason, ResponseFuture,
    gate::{Found, Gate, Slot, Waiter},
    protocol::{self, Protocol, Sees},
    queue::Kind,
    slots::Turn,
    strategy::Strategy,
};

/// A service behind a gate; made by [`BackpressureLayer`](crate::BackpressureLayer).
///
/// Clones share the gate and hold no slot of the original's.
pub struct Backpressure<S, P = protocol::Default> {
    inner: S,
    gate: Arc<Gate>,
    protocol: P,
    waits: Waits,
    parked: Parked,
}

/// Where a request waits that finds no slot.
#[derive(Clone, Copy, Debug)]
enum Waits {
    /// In `poll_ready`, before there is a request.
    Ready,
    /// In its call.
    Call,
    Nowhere,
}

/// How an instance stands that waits in `poll_ready`.
#[derive(Debug)]
enum Parked {
    /// It has not asked.
    Idle,
    Waiting(Waiter),
    /// It may make one call.
    Slot(Slot),
    /// It may make one call, and that will be refused.
    Refused(Refused),
}

/// Why the next call is refused. Not counted before it is made.
#[derive(Debug)]
struct Refused {
    reason: Reason,
    waited: Duration,
}

impl<S, P: Sees> Backpressure<S, P> {
    pub(crate) fn new(inner: S, gate: Arc<Gate>, protocol: P) -> Self {
        let in_ready = gate.settings().rules.strategy == Strategy::Block;
        let waits = match gate.may_wait() {
            true if in_ready && !protocol.sees_requests() => Waits::Ready,
            true => Waits::Call,
            false => Waits::Nowhere,
        };
        Self {
            inner,
            gate,
            protocol,
            waits,
            parked: Parked::Idle,
        }
    }
}

impl<S, P> Backpressure<S, P> {
    /// A handle on the gate.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.gate))
    }

    /// The service behind the gate.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Waits for a slot or a refusal. The former is kept for the next call, and so is the latter: an error from
    /// `poll_ready` would be the end of a `Buffer` in front.
    fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let refused = match &mut self.parked {
            Parked::Refused(_) => return Poll::Ready(()),
            Parked::Slot(slot) if slot.is_held() => return Poll::Ready(()),
            Parked::Waiting(waiter) => match ready!(waiter.poll(cx)) {
                Ok(slot) => {
                    self.parked = Parked::Slot(slot);
                    return Poll::Ready(());
                }
                Err((reason, waited)) => Refused { reason, waited },
            },
            // A slot that is not held is what a call left behind that panicked.
            Parked::Idle | Parked::Slot(_) => {
                let found = match self.gate.try_take(Turn::Open) {
                    Some(slot) => Found::Slot(slot),
                    None => self.gate.arrive(Kind::Parked, cx.waker()),
                };
                match found {
                    Found::Slot(slot) => {
                        self.parked = Parked::Slot(slot);
                        return Poll::Ready(());
                    }
                    Found::Wait(waiter) => {
                        self.parked = Parked::Waiting(waiter);
                        return Poll::Pending;
                    }
                    Found::Rejected(reason) => Refused {
                        reason,
                        waited: Duration::ZERO,
                    },
                }
            }
        };
        self.gate.refused_early();
        self.parked = Parked::Refused(refused);
        Poll::Ready(())
    }

    /// An instance that is to be refused and is asked again may find that a slot is free by now. A refusal would help
    /// nobody then; but having said that it is ready, it must not become pending.
    fn reconsider(&mut self) -> Option<Slot> {
        match self.parked {
            Parked::Refused(_) => self.gate.try_take(Turn::Open),
            _ => None,
        }
    }
}

impl<S, P, Req> Service<Req> for Backpressure<S, P>
where
    S: Service<Req> + Clone,
    P: Protocol<Req, S::Response, S::Error>,
{
    type Response = P::Response;
    type Error = P::Error;
    type Future = ResponseFuture<S, Req, P>;

    /// Under `block`, pending until a slot is at hand or refused; otherwise as ready as the inner service or, where
    /// requests wait in their calls, always.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), P::Error>> {
        match self.waits {
            Waits::Ready => {
                if let Some(slot) = self.reconsider() {
                    // A slot that goes back unused counts itself among those that left.
                    self.gate.not_refused_early();
                    if let Poll::Ready(Ok(())) = self.inner.poll_ready(cx) {
                        self.parked = Parked::Slot(slot);
                    }
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_parked(cx));
                if let Parked::Refused(_) = self.parked {
                    return Poll::Ready(Ok(()));
                }
            }
            Waits::Call => return Poll::Ready(Ok(())),
            Waits::Nowhere => {}
        }
        match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                self.parked = Parked::Idle;
                Poll::Ready(Err(self.protocol.error(error)))
            }
        }
    }

    /// # Panics
    ///
    /// Under `block`, if `poll_ready` has not said that it is ready.
    fn call(&mut self, request: Req) -> Self::Future {
        let protocol = self.protocol.clone();
        let (request, exempt) = protocol.exempt(request);
        match self.waits {
            Waits::Ready => {
                let permit = match &mut self.parked {
                    Parked::Slot(slot) => slot.begin(),
                    Parked::Refused(refused) => {
                        self.gate.not_refused_early();
                        let rejected = self.gate.reject(refused.reason, refused.waited);
                        self.parked = Parked::Idle;
                        return ResponseFuture::refused(request, rejected, protocol);
                    }
                    Parked::Idle | Parked::Waiting(_) => {
                        panic!("`call` without a `poll_ready` that was ready")
                    }
                };
                self.parked = Parked::Idle;
                ResponseFuture::run(&mut self.inner, request, permit, protocol)
            }
            _ if exempt => {
                // Where requests wait in their calls nobody has readied the inner service yet.
                if let Waits::Call = self.waits {
                    return ResponseFuture::ready(self.inner.clone(), request, None, protocol);
                }
                ResponseFuture::run(&mut self.inner, request, None, protocol)
            }
            Waits::Call => {
                let found = match self.gate.try_take(Turn::AfterTheQueue) {
                    Some(slot) => Found::Slot(slot),
                    None => self.gate.arrive(Kind::InCall, Waker::noop()),
                };
                match found {
                    Found::Slot(slot) => {
                        ResponseFuture::ready(self.inner.clone(), request, Some(slot), protocol)
                    }
                    Found::Wait(waiter) => {
                        ResponseFuture::wait(waiter, self.inner.clone(), request, protocol)
                    }
                    Found::Rejected(reason) => {
                        let rejected = self.gate.reject(reason, Duration::ZERO);
                        ResponseFuture::refused(request, rejected, protocol)
                    }
                }
            }
            Waits::Nowhere => match self.gate.take_or_reject() {
                Ok(mut slot) => {
                    ResponseFuture::run(&mut self.inner, request, slot.begin(), protocol)
                }
                Err(rejected) => ResponseFuture::refused(request, rejected, protocol),
            },
        }
    }
}

impl<S: Clone, P: Clone> Clone for Backpressure<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            gate: Arc::clone(&self.gate),
            protocol: self.protocol.clone(),
            waits: self.waits,
            parked: Parked::Idle,
        }
    }
}

impl<S: fmt::Debug, P: fmt::Debug> fmt::Debug for Backpressure<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backpressure")
            .field("inner", &self.inner)
            .field("gate", &self.gate)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
