use std::{
    fmt,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

#[cfg(feature = "llm")]
use bytes::Bytes;
#[cfg(feature = "llm")]
use http::{Response, request};
use tower_service::Service;

use crate::{
    Demand, Handle, ResponseFuture,
    gate::{Found, Holder, Parked},
    protocol::{self, Protocol, Seen, Sees},
    queue::Kind,
    strategy::Strategy,
};

/// A service behind a gate; made by [`BackpressureLayer`](crate::BackpressureLayer).
///
/// Clones share the gate and hold no slot of the original's.
pub struct Backpressure<S, P = protocol::Default> {
    inner: S,
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

impl<S, P: Sees> Backpressure<S, P> {
    pub(crate) fn new(inner: S, gate: Holder, protocol: P) -> Self {
        assert!(
            gate.keys().is_none() || !(gate.may_wait() || gate.has_remote()),
            "the layer that `per_key` is called on is a ceiling, which has nobody wait and cannot have a shared rate; have the keys' layers do so"
        );
        let in_ready = gate.settings().rules.strategy == Strategy::Block;
        let waits = match gate.may_wait() {
            // It is seen in the call what the key's gate says.
            _ if gate.keys().is_some() => Waits::Call,
            true if in_ready && !protocol.sees_requests() && !gate.has_rates() => Waits::Ready,
            true => Waits::Call,
            // The answer of another machine has to be waited for as well.
            false if gate.has_remote() => Waits::Call,
            false => Waits::Nowhere,
        };
        Self {
            inner,
            protocol,
            waits,
            parked: Parked::new(gate),
        }
    }
}

impl<S, P> Backpressure<S, P> {
    /// A handle on the gate.
    pub fn handle(&self) -> Handle {
        Handle::new(self.parked.gate().clone())
    }

    /// The service behind the gate.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

#[cfg(feature = "llm")]
impl<S> Backpressure<S, protocol::Http> {
    /// The refusal of a request that would be refused now whatever is in it.
    pub(crate) fn refuse_unread(&self, head: &request::Parts) -> Option<Response<Bytes>> {
        if self.protocol.exempts(head) {
            return None;
        }
        let gate = self.parked.gate();
        let rejected = gate.turn_away()?;
        Some(self.protocol.refusal(head, rejected, gate))
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
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), P::Error>> {
        match self.waits {
            Waits::Ready => {
                if self.parked.is_refused() {
                    let inner = &mut self.inner;
                    let reconsidered = self.parked.reconsider(|| inner.poll_ready(cx));
                    return Poll::Ready(reconsidered.map_err(|error| self.protocol.error(error)));
                }
                ready!(self.parked.poll(cx));
                if self.parked.is_refused() {
                    return Poll::Ready(Ok(()));
                }
            }
            Waits::Call => return Poll::Ready(Ok(())),
            Waits::Nowhere => {}
        }
        match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                self.parked.give_up();
                Poll::Ready(Err(self.protocol.error(error)))
            }
        }
    }

    /// # Panics
    ///
    /// Under `block`, if `poll_ready` has not said that it is ready.
    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        if const { size_of::<Self::Future>() > LARGE } {
            return self.call_apart(request);
        }
        self.call_here(request)
    }
}

/// In bytes. A future above it is made where it is to go, since moving it there takes longer than calling a function does.
/// Below it futures fit into registers, more or less.
const LARGE: usize = 128;

impl<S, P> Backpressure<S, P> {
    #[inline(never)]
    fn call_apart<Req>(&mut self, request: Req) -> ResponseFuture<S, Req, P>
    where
        S: Service<Req> + Clone,
        P: Protocol<Req, S::Response, S::Error>,
    {
        self.call_here(request)
    }

    #[inline(always)]
    fn call_here<Req>(&mut self, request: Req) -> ResponseFuture<S, Req, P>
    where
        S: Service<Req> + Clone,
        P: Protocol<Req, S::Response, S::Error>,
    {
        if self.protocol.sees_requests() || self.parked.gate().has_rates() {
            return self.call_seen(request);
        }
        match self.waits {
            Waits::Call => self.call_unreadied(request, Seen::default()),
            _ => self.call_readied(request, None),
        }
    }

    /// A call whose request has to be looked at first. Apart from the others, whose requests are not moved without need: they
    /// may be large.
    #[inline(never)]
    fn call_seen<Req>(&mut self, mut request: Req) -> ResponseFuture<S, Req, P>
    where
        S: Service<Req> + Clone,
        P: Protocol<Req, S::Response, S::Error>,
    {
        let seen = self.protocol.look(&mut request, self.parked.gate());
        match self.waits {
            Waits::Call => self.call_unreadied(request, seen),
            _ if seen.exempt => {
                let protocol = self.protocol.to_answer();
                ResponseFuture::exempt(&mut self.inner, request, protocol)
            }
            _ => self.call_readied(request, seen.demand),
        }
    }

    /// A call of a service that is ready.
    ///
    /// What goes before a call is written out here as it is in `State::run`: a request is moved once for each function that
    /// looks at it and hands it on.
    #[inline]
    fn call_readied<Req>(
        &mut self,
        mut request: Req,
        demand: Option<Demand>,
    ) -> ResponseFuture<S, Req, P>
    where
        S: Service<Req> + Clone,
        P: Protocol<Req, S::Response, S::Error>,
    {
        let protocol = self.protocol.to_answer();
        let rejected = {
            let begun = match self.waits {
                Waits::Ready => self.parked.begin(),
                _ => self.parked.gate().begin_or_reject(demand),
            };
            match begun {
                Ok(begun) => {
                    let asked = protocol.asked(&request);
                    if let Some(charge) = begun.charge() {
                        protocol.hand(&mut request, charge);
                    }
                    let future = self.inner.call(request);
                    return ResponseFuture::running(future, asked, begun, protocol);
                }
                Err(rejected) => rejected,
            }
        };
        ResponseFuture::refused(request, rejected, self.parked.gate(), protocol)
    }

    /// A call where requests wait in their calls: nobody has readied the inner service yet.
    #[inline]
    fn call_unreadied<Req>(&mut self, request: Req, seen: Seen) -> ResponseFuture<S, Req, P>
    where
        S: Service<Req> + Clone,
        P: Protocol<Req, S::Response, S::Error>,
    {
        let inner = self.inner.clone();
        let protocol = self.protocol.to_answer();
        if seen.exempt {
            return ResponseFuture::ready(inner, request, None, protocol);
        }
        let gate = seen.gate.as_ref().unwrap_or(self.parked.gate());
        if seen.gate.is_none() && !gate.spends(seen.demand) {
            // Apart from what follows, so that the claim stays in registers.
            if let Some(claim) = gate.claim_slot() {
                return ResponseFuture::ready(inner, request, Some(claim), protocol);
            }
        }
        self.call_unhurried(inner, request, seen, protocol)
    }

    /// Where there is something to spend, or a key, or no slot is free.
    #[inline(never)]
    fn call_unhurried<Req>(
        &self,
        inner: S,
        request: Req,
        seen: Seen,
        protocol: P,
    ) -> ResponseFuture<S, Req, P>
    where
        S: Service<Req> + Clone,
        P: Protocol<Req, S::Response, S::Error>,
    {
        let gate = seen.gate.as_ref().unwrap_or(self.parked.gate());
        if !gate.may_wait() {
            return match gate.claim_or_reject(seen.demand) {
                Ok(claim) if gate.has_remote() => {
                    ResponseFuture::admitted(inner, request, claim.keep(), protocol)
                }
                Ok(claim) => ResponseFuture::ready(inner, request, Some(claim), protocol),
                Err(rejected) => ResponseFuture::refused(request, rejected, gate, protocol),
            };
        }
        if let Some(claim) = gate.claim(seen.demand) {
            if gate.has_remote() {
                return ResponseFuture::admitted(inner, request, claim.keep(), protocol);
            }
            return ResponseFuture::ready(inner, request, Some(claim), protocol);
        }
        match gate.arrive(Kind::InCall, seen.demand, Waker::noop()) {
            Found::Slot(slot) => ResponseFuture::admitted(inner, request, slot, protocol),
            Found::Wait(waiter) => ResponseFuture::wait(waiter, inner, request, protocol),
            Found::Rejected(reason) => {
                let rejected = gate.reject_waiter(reason, Duration::ZERO, seen.demand);
                ResponseFuture::refused(request, rejected, gate, protocol)
            }
        }
    }
}

impl<S: Clone, P: Clone> Clone for Backpressure<S, P> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            protocol: self.protocol.clone(),
            waits: self.waits,
            parked: self.parked.clone(),
        }
    }
}

impl<S: fmt::Debug, P: fmt::Debug> fmt::Debug for Backpressure<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backpressure")
            .field("inner", &self.inner)
            .field("gate", self.parked.gate())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, backpressure_loom))]
mod interleavings;
