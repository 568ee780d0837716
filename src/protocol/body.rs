use std::{
    fmt,
    num::NonZero,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::{ReleaseAt, SampleAt, grpc};
use crate::{
    gate::{Permit, Report},
    limit::Outcome,
};

/// The body of a response that went through the layer: the service's own, with the permit on it, or that of a refusal.
///
/// Everything the inner body says of itself (its end, its size, its trailers) is passed on untouched. The permit comes
/// back exactly once: when the body ends, fails or is dropped, whichever is first.
#[pin_project]
pub struct ResponseBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProj)]
enum Kind<B> {
    Inner {
        #[pin]
        body: B,
        hold: Option<Hold>,
    },
    /// `None` once it was read.
    Refusal(Option<Bytes>),
}

impl<B> ResponseBody<B> {
    pub(super) fn new(body: B, hold: Option<Hold>) -> Self {
        let kind = Kind::Inner { body, hold };
        Self { kind }
    }

    pub(crate) fn refusal(body: Bytes) -> Self {
        let kind = Kind::Refusal((!body.is_empty()).then_some(body));
        Self { kind }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let (mut body, held) = match self.project().kind.project() {
            KindProj::Inner { body, hold } => (body, hold),
            KindProj::Refusal(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes.into()))));
            }
        };
        if let Some(hold) = held.as_mut() {
            hold.permit.running(true);
        }
        let Poll::Ready(frame) = body.as_mut().poll_frame(cx) else {
            if let Some(hold) = held.as_mut() {
                hold.permit.running(false);
            }
            return Poll::Pending;
        };
        if let Some(hold) = held {
            let ended = match &frame {
                Some(Ok(frame)) => {
                    hold.saw(frame);
                    // A server may not ask again once the body says that it has ended.
                    body.is_end_stream()
                }
                Some(Err(_)) => {
                    hold.failed();
                    true
                }
                None => true,
            };
            hold.permit.running(false);
            if ended {
                hold.ended();
                *held = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body, .. } => body.is_end_stream(),
            Kind::Refusal(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body, .. } => body.size_hint(),
            Kind::Refusal(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

/// The inner body's default, without a permit: what middleware outside answers with when it answers by itself.
impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusal = matches!(self.kind, Kind::Refusal(_));
        f.debug_struct("ResponseBody")
            .field("refusal", &refusal)
            .finish_non_exhaustive()
    }
}

/// A permit on a body, and what the body has yet to tell. It travels with every response, so that it is kept small.
pub(super) struct Hold {
    pub(super) permit: Permit,
    pub(super) outcome: Outcome,
    pub(super) read_trailers: bool,
    pub(super) sample_at: SampleAt,
    pub(super) release_at: ReleaseAt,
    /// By the service, if it knows better.
    pub(super) report: Option<Report>,
    /// What is left of a body whose length is known, if anything is: a server drops such a body without asking for its end.
    pub(super) left: Option<NonZero<u64>>,
    pub(super) whole: bool,
}

impl Hold {
    /// Whether the service has said how the request went in the end.
    fn consult(&mut self) -> bool {
        let Some(report) = &self.report else {
            return false;
        };
        let told = report.tell(&mut self.permit);
        self.outcome = told.unwrap_or(self.outcome);
        told.is_some()
    }

    fn saw<D: Buf>(&mut self, frame: &Frame<D>) {
        self.consult();
        if let Some(data) = frame.data_ref() {
            let length = data.remaining() as u64;
            if length > 0 && self.sample_at == SampleAt::FirstFrame {
                self.permit.sample(self.outcome);
            }
            if let Some(left) = self.left {
                self.left = NonZero::new(left.get().saturating_sub(length));
                self.whole = self.left.is_none();
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            if let (true, Some(outcome)) = (self.read_trailers, grpc::outcome(trailers)) {
                self.outcome = outcome;
                self.permit.settle(outcome);
            }
        }
        if self.release_at == ReleaseAt::FirstFrame {
            self.permit.release(self.outcome);
        }
    }

    fn failed(&mut self) {
        if !self.consult() {
            self.outcome = Outcome::Ignore;
        }
        self.permit.settle(self.outcome);
    }

    fn ended(&mut self) {
        self.consult();
        self.whole = true;
        self.permit.sample(self.outcome);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.permit.is_running() && !self.whole {
            // The body panicked, which says nothing about load, whatever it says of it.
            return self.permit.settle(Outcome::Ignore);
        }
        let told = self.consult();
        if self.whole {
            self.permit.sample(self.outcome);
        } else if told {
            self.permit.settle(self.outcome);
        } else {
            self.permit.settle(Outcome::Cancelled);
        }
    }
}
