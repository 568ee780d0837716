use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project::pin_project;
use tower_service::Service;

use crate::{
    Rejected,
    gate::{Begun, Claim, Gate, Permit, Refused, Slot, Waiter},
    protocol::Protocol,
    rate::Deciding,
};

/// The answer of a service behind a gate.
///
/// # Cancel safety
///
/// Dropping it leaves the queue or gives the slot back, whichever it had come to. An adaptive limit then learns that the
/// answer would have taken at least as long as it had been waited for.
#[pin_project]
pub struct ResponseFuture<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    #[pin]
    state: State<S, Req, P>,
    protocol: P,
}

/// ```text
/// Waiting ──► Asking ──► Readying ──► Running
///    │           └─────► Answered
///    └─────────────────► Answered ◄── (refused at once)
/// ```
#[pin_project(project = StateProj)]
enum State<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    /// In the queue. The clone has not been readied, so that nothing of the inner service is held meanwhile.
    Waiting {
        waiter: Waiter,
        call: Option<(S, Req)>,
    },
    /// Admitted here; a rate that is counted elsewhere is still to decide.
    Asking {
        deciding: Deciding,
        call: Option<(S, Req)>,
        slot: Option<Slot>,
    },
    /// Admitted, or exempt; the clone is not ready yet.
    Readying {
        call: Option<(S, Req)>,
        slot: Option<Slot>,
    },
    Running {
        #[pin]
        future: S::Future,
        asked: Option<P::Asked>,
        permit: Option<Permit>,
    },
    /// Refused, or never ready: the answer is at hand.
    Answered(Option<Result<P::Response, P::Error>>),
}

impl<S, Req, P> ResponseFuture<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    /// Admitted, and the call is made.
    #[inline(always)]
    pub(crate) fn running(
        future: S::Future,
        asked: P::Asked,
        begun: Begun<'_>,
        protocol: P,
    ) -> Self {
        Self {
            state: State::Running {
                future,
                asked: Some(asked),
                permit: Some(begun.permit()),
            },
            protocol,
        }
    }

    /// Exempt, and the service is ready.
    pub(crate) fn exempt(inner: &mut S, request: Req, protocol: P) -> Self {
        let state = State::run(inner, request, None, &protocol);
        Self { state, protocol }
    }

    /// Admitted, or exempt, and the service is still to be readied. Most are ready at once; one that is not will be asked
    /// again, by the task that is to be woken.
    #[inline(always)]
    pub(crate) fn ready(mut inner: S, request: Req, claim: Option<Claim<'_>>, protocol: P) -> Self {
        let cx = &mut Context::from_waker(Waker::noop());
        let readied = inner.poll_ready(cx);
        Self {
            state: match readied {
                Poll::Ready(Ok(())) => match claim.map(Claim::begin).transpose() {
                    Ok(begun) => State::run_once(inner, request, begun, &protocol),
                    Err(refused) => State::refused(request, refused, &protocol),
                },
                Poll::Ready(Err(error)) => State::Answered(Some(Err(protocol.error(error)))),
                Poll::Pending => State::Readying {
                    call: Some((inner, request)),
                    slot: claim.map(Claim::keep),
                },
            },
            protocol,
        }
    }

    /// Admitted here, and all else is still to come.
    pub(crate) fn admitted(inner: S, request: Req, slot: Slot, protocol: P) -> Self {
        let state = State::admitted((inner, request), slot);
        Self { state, protocol }
    }

    pub(crate) fn wait(waiter: Waiter, inner: S, request: Req, protocol: P) -> Self {
        let call = Some((inner, request));
        let state = State::Waiting { waiter, call };
        Self { state, protocol }
    }

    pub(crate) fn refused(request: Req, rejected: Rejected, gate: &Gate, protocol: P) -> Self {
        let state = State::Answered(Some(protocol.refuse(request, rejected, gate)));
        Self { state, protocol }
    }
}

impl<S, Req, P> State<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    #[inline(always)]
    fn run(inner: &mut S, mut request: Req, begun: Option<Begun<'_>>, protocol: &P) -> Self {
        let asked = Some(protocol.asked(&request));
        if let Some(charge) = begun.as_ref().and_then(Begun::charge) {
            protocol.hand(&mut request, charge);
        }
        State::Running {
            future: inner.call(request),
            asked,
            permit: begun.map(Begun::permit),
        }
    }

    fn refused(request: Req, refused: Refused<'_>, protocol: &P) -> Self {
        State::Answered(Some(protocol.refuse(
            request,
            refused.rejected,
            refused.gate,
        )))
    }

    fn admitted(call: (S, Req), slot: Slot) -> Self {
        let call = Some(call);
        match slot.ask_remote() {
            Some(deciding) => State::Asking {
                deciding,
                call,
                slot: Some(slot),
            },
            None => State::Readying {
                call,
                slot: Some(slot),
            },
        }
    }

    /// With a clone that is not needed any more then.
    fn run_once(mut inner: S, request: Req, begun: Option<Begun<'_>>, protocol: &P) -> Self {
        let state = Self::run(&mut inner, request, begun, protocol);
        // A destructor that panics on the way out of a function loses what is being returned (rust-lang/rust#47949), and
        // the permit would be lost with it.
        drop(inner);
        state
    }
}

const POLLED_AGAIN: &str = "`ResponseFuture` was polled after it had answered";

impl<S, Req, P> Future for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    type Output = Result<P::Response, P::Error>;

    // An answer that is written here and read by the caller right away stalls it, since it is read in wider parts than written.
    // In one piece with the caller it stays in registers, which is a quarter of what an admission takes.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let StateProj::Running {
                future,
                asked,
                permit,
            } = this.state.as_mut().project()
            else {
                match ready!(this.state.as_mut().poll_run(this.protocol, cx)) {
                    Some(answer) => return Poll::Ready(answer),
                    None => continue,
                }
            };
            if let Some(permit) = permit.as_mut() {
                permit.running(true);
            }
            let Poll::Ready(answer) = future.poll(cx) else {
                if let Some(permit) = permit.as_mut() {
                    permit.running(false);
                }
                return Poll::Pending;
            };
            let asked = asked.take().expect(POLLED_AGAIN);
            let permit = permit.take();
            // Not left for later: whoever awaits this loses the answer, and the permit on it, if a destructor of the inner
            // future's panics then (rust-lang/rust#47949). And first, so that the answer is made where it is to go.
            this.state.set(State::Answered(None));
            return Poll::Ready(this.protocol.answer(asked, answer, permit));
        }
    }
}

impl<S, Req, P> State<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    /// Goes on until the call is made, or there is an answer without one. Apart from the rest, which is short enough to become
    /// part of whoever awaits the answer.
    #[inline(never)]
    fn poll_run(
        mut self: Pin<&mut Self>,
        protocol: &P,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<P::Response, P::Error>>> {
        loop {
            let next = match self.as_mut().project() {
                StateProj::Waiting { waiter, call } => {
                    let admitted = ready!(waiter.poll(cx));
                    let (inner, request) = call.take().expect(POLLED_AGAIN);
                    match admitted {
                        Ok(slot) => State::admitted((inner, request), slot),
                        Err((reason, waited)) => {
                            let rejected = waiter.reject(reason, waited);
                            State::Answered(Some(protocol.refuse(request, rejected, waiter.gate())))
                        }
                    }
                }
                StateProj::Asking {
                    deciding,
                    call,
                    slot,
                } => {
                    let decision = ready!(deciding.as_mut().poll(cx));
                    let (inner, request) = call.take().expect(POLLED_AGAIN);
                    let mut admitted = slot.take().expect(POLLED_AGAIN);
                    match admitted.decided(decision) {
                        Ok(()) => State::Readying {
                            call: Some((inner, request)),
                            slot: Some(admitted),
                        },
                        Err(rejected) => State::Answered(Some(protocol.refuse(
                            request,
                            rejected,
                            admitted.gate(),
                        ))),
                    }
                }
                StateProj::Readying { call, slot } => {
                    let (inner, _) = call.as_mut().expect(POLLED_AGAIN);
                    let readied = ready!(inner.poll_ready(cx));
                    let (inner, request) = call.take().expect(POLLED_AGAIN);
                    match readied {
                        Ok(()) => match slot.as_mut().map_or(Ok(None), Slot::begin) {
                            Ok(begun) => State::run_once(inner, request, begun, protocol),
                            Err(refused) => State::refused(request, refused, protocol),
                        },
                        Err(error) => State::Answered(Some(Err(protocol.error(error)))),
                    }
                }
                StateProj::Running { .. } => return Poll::Ready(None),
                StateProj::Answered(answer) => {
                    return Poll::Ready(Some(answer.take().expect(POLLED_AGAIN)));
                }
            };
            self.set(next);
        }
    }
}

impl<S, Req, P> fmt::Debug for ResponseFuture<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting { .. } => "waiting",
            State::Asking { .. } => "asking",
            State::Readying { .. } => "readying",
            State::Running { .. } => "running",
            State::Answered(_) => "answered",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
