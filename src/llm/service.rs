use std::{
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING},
    request,
};
use http_body::Body;
use tower_service::Service;

use super::{
    AnswerBody, Asked, Dialect, LlmFuture, RequestBody, RequestId, Usage,
    account::{Call, Cost},
    deadline, retry_count,
    shared::Shared,
    upstream::Upstream,
};
use crate::{
    Backpressure, Demand, Handle, Reason, Rejected,
    protocol::{Http, ResponseBody},
    sync::lock,
};

/// A service that answers for a model, behind a gate; made by [`LlmLayer`](super::LlmLayer).
///
/// Clones share the gate and everything that was learned.
#[derive(Clone, Debug)]
pub struct LlmService<S> {
    gate: Backpressure<Upstream<S>, Http>,
    entrance: Entrance,
}

impl<S> LlmService<S> {
    pub(super) fn new(gate: Backpressure<Upstream<S>, Http>, shared: Shared) -> Self {
        let entrance = Entrance {
            handle: gate.handle(),
            shared,
        };
        Self { gate, entrance }
    }

    /// A handle on the gate.
    pub fn handle(&self) -> Handle {
        self.entrance.handle.clone()
    }

    /// The service behind.
    pub fn get_ref(&self) -> &S {
        self.gate.get_ref().get_ref()
    }
}

impl<S, B, R> Service<Request<B>> for LlmService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone,
    B: Body,
    R: Body,
{
    type Response = Response<ResponseBody<AnswerBody<R>>>;
    type Error = S::Error;
    type Future = LlmFuture<Backpressure<Upstream<S>, Http>, B>;

    /// Always ready: a request has to be read before it can be let in.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let refuse = |head: &request::Parts| self.gate.refuse_unread(head);
        LlmFuture::new(self.gate.clone(), self.entrance.clone(), request, refuse)
    }
}

/// What is done with a request before it comes to the gate.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    pub(super) shared: Shared,
    handle: Handle,
}

/// A request that is fit for the gate.
pub(super) struct Fit {
    pub(super) head: request::Parts,
    pub(super) body: Bytes,
    pub(super) call: Arc<Call>,
    /// Until when it has to be let in.
    pub(super) until: Option<Duration>,
}

impl Entrance {
    /// What a request speaks that asks a model for an answer.
    pub(super) fn dialect(&self, head: &request::Parts) -> Option<Dialect> {
        let dialect = (self.shared.settings.dialect)(head)?;
        let retry = retry_count(&head.headers);
        self.shared.state.recording.asked(retry);
        Some(dialect)
    }

    /// Reads what a request asks for, how much of the rates it may use, and by when it has to be let in.
    pub(super) fn read(
        &self,
        mut head: request::Parts,
        body: Bytes,
        dialect: Dialect,
        arrived: Duration,
    ) -> Fit {
        let shared = &self.shared;
        let asked = Asked::read(dialect, &body);
        let key = shared.state.key(&head.headers);
        let output = lock(&shared.state.learned).expect(&key, asked.model(), asked.max_output());
        let deadline = deadline(&head.headers).map(|deadline| arrived.saturating_add(deadline));
        let until = deadline.map(|deadline| self.until(deadline, &asked, output));
        let id = RequestId::of(&head.headers);
        id.put(&mut head.headers);
        let with_usage = asked.including_usage(&body);
        let hides_usage = with_usage.is_some();
        let body = with_usage.unwrap_or(body);
        // As it is now. A compressed answer could not be read.
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.remove(ACCEPT_ENCODING);
        let length = HeaderValue::from(body.len() as u64);
        head.headers.insert(CONTENT_LENGTH, length);
        let call = Arc::new(Call {
            dialect,
            id,
            key,
            hides_usage,
            begun: AtomicBool::new(false),
            cost: self.cost(&head, &asked, output),
            others: head.extensions.get().cloned(),
            asked,
        });
        head.extensions.insert(call.asked.clone());
        head.extensions.insert(Arc::clone(&call));
        Fit {
            head,
            body,
            call,
            until,
        }
    }

    /// What a request costs, as far as is known. `None` where somebody else has said what it does.
    fn cost(&self, head: &request::Parts, asked: &Asked, output: u64) -> Option<Cost> {
        if head.extensions.get::<Demand>().is_some() {
            return None;
        }
        let weights = self.shared.settings.weights;
        let mut usage = Usage {
            prompt: asked.prompt(),
            ..Usage::default()
        };
        let prompt = weights.cost(&usage);
        usage.output = output;
        Some(Cost {
            prompt,
            expected: weights.cost(&usage),
        })
    }

    /// The refusal of a request that came too late to be let in by the time it has to be.
    pub(super) fn late(&self, fit: &Fit, arrived: Duration) -> Option<Response<Bytes>> {
        let until = fit.until?;
        let now = self.shared.now();
        if now.saturating_add(self.wait()) <= until {
            return None;
        }
        let waited = now.saturating_sub(arrived);
        self.too_late(&fit.head, fit.call.dialect, waited)
    }

    /// Until when a request has to be let in to be answered by its deadline.
    fn until(&self, deadline: Duration, asked: &Asked, output: u64) -> Duration {
        let now = self.shared.now();
        let size = match asked.is_stream() {
            true => asked.prompt(),
            false => output,
        };
        let expected = self
            .shared
            .latencies(|latencies| latencies.expected(now, asked.is_stream(), size));
        deadline.saturating_sub(expected.unwrap_or_default())
    }

    /// How long one waits that comes now, as far as is known.
    fn wait(&self) -> Duration {
        let (waiting, running) = (self.handle.waiting(), self.handle.in_flight());
        match waiting {
            0 => Duration::ZERO,
            waiting => self
                .shared
                .latencies(|latencies| latencies.wait(waiting, running)),
        }
    }

    /// The refusal of a request that cannot be answered in time, after it has waited. `None` where nobody is refused.
    pub(super) fn too_late(
        &self,
        head: &request::Parts,
        dialect: Dialect,
        waited: Duration,
    ) -> Option<Response<Bytes>> {
        let rejected: Rejected = self.handle.reject(Reason::Deadline, waited)?;
        let mut response = dialect.refuse(head, &rejected);
        response.extensions_mut().insert(rejected);
        Some(response)
    }

    pub(super) fn too_large(&self, head: &request::Parts, dialect: Dialect) -> Response<Bytes> {
        let most = self.shared.settings.max_body;
        let message = format!("the request is too large; it may have {most} bytes");
        let id = RequestId::of(&head.headers);
        dialect.error(StatusCode::PAYLOAD_TOO_LARGE, &message, &id)
    }

    pub(super) fn unreadable(&self, head: &request::Parts, dialect: Dialect) -> Response<Bytes> {
        let id = RequestId::of(&head.headers);
        let message = "the request ended before it was complete";
        dialect.error(StatusCode::BAD_REQUEST, message, &id)
    }
}
