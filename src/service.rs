use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tower_service::Service;

use crate::{
    Handle, Rejected, ResponseFuture,
    gate::{Found, Gate, Permit, Waiter},
    protocol::{self, Protocol, Sees},
    queue::Kind,
    slots::Turn,
    strategy::Strategy,
};

/// A service behind a gate; made by [`BackpressureLayer`](crate::BackpressureLayer).
///
/// Clones share the gate and hold no permit of the original's.
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
    Permit(Permit),
    /// It may make one call, and that will be refused.
    Rejected(Rejected),
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

    /// Waits for a permit or a refusal. The former is kept for the next call, and so is the latter: an error from
    /// `poll_ready` would be the end of a `Buffer` in front.
    fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Parked::Idle = self.parked {
            self.parked = match self.gate.try_admit(Turn::Open) {
                Some(permit) => Parked::Permit(permit),
                None => match self.gate.arrive(Kind::Parked, cx.waker()) {
                    Found::Permit(permit) => Parked::Permit(permit),
                    Found::Rejected(rejected) => Parked::Rejected(rejected),
                    Found::Wait(waiter) => {
                        self.parked = Parked::Waiting(waiter);
                        return Poll::Pending;
                    }
                },
            };
        } else if let Parked::Waiting(waiter) = &mut self.parked {
            self.parked = match ready!(waiter.poll(cx)) {
                Ok(permit) => Parked::Permit(permit),
                Err(rejected) => Parked::Rejected(rejected),
            };
        }
        Poll::Ready(())
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

    /// Under `block`, pending until a permit is at hand or refused; otherwise as ready as the inner service or, where
    /// requests wait in their calls, always.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), P::Error>> {
        match self.waits {
            Waits::Ready => {
                ready!(self.poll_parked(cx));
                if let Parked::Rejected(_) = self.parked {
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
            Waits::Ready => match mem::replace(&mut self.parked, Parked::Idle) {
                Parked::Permit(mut permit) => {
                    permit.restart();
                    ResponseFuture::run(&mut self.inner, request, Some(permit), protocol)
                }
                Parked::Rejected(rejected) => ResponseFuture::refused(request, rejected, protocol),
                Parked::Idle | Parked::Waiting(_) => {
                    panic!("`call` without a `poll_ready` that was ready")
                }
            },
            Waits::Call if exempt => {
                ResponseFuture::ready(self.inner.clone(), request, None, protocol)
            }
            Waits::Call => {
                let permit = match self.gate.try_admit(Turn::AfterTheQueue) {
                    Some(permit) => permit,
                    None => match self.gate.arrive(Kind::InCall, Waker::noop()) {
                        Found::Permit(permit) => permit,
                        Found::Wait(waiter) => {
                            let inner = self.inner.clone();
                            return ResponseFuture::wait(waiter, inner, request, protocol);
                        }
                        Found::Rejected(rejected) => {
                            return ResponseFuture::refused(request, rejected, protocol);
                        }
                    },
                };
                ResponseFuture::ready(self.inner.clone(), request, Some(permit), protocol)
            }
            Waits::Nowhere if exempt => {
                ResponseFuture::run(&mut self.inner, request, None, protocol)
            }
            Waits::Nowhere => match self.gate.admit_or_reject() {
                Ok(permit) => ResponseFuture::run(&mut self.inner, request, Some(permit), protocol),
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
