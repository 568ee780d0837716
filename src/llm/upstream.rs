//! The call of the service behind: what stands between it and the gate.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
    response,
};
use http_body::Body;
use pin_project::pin_project;
use tokio::sync::futures::OwnedNotified;
use tower_service::Service;

use super::{
    AnswerBody, Failure, Kind, Meaning,
    account::{Account, Call},
    hint,
    patience::{Alarm, Patience},
    piece::{Collected, Piece, poll_cut},
    shared::Shared,
    stream::{Cut, More, Stream},
};
use crate::{
    limit::Outcome,
    protocol::{is_event_stream, retry_after},
};

/// How much of a stream is kept while its head is held.
const HELD: usize = 64 * 1024;
/// When to come back where the service behind is overloaded and does not say.
const COME_BACK: Duration = Duration::from_secs(1);

/// The service behind an [`LlmLayer`](super::LlmLayer), as its gate sees it.
#[derive(Clone, Debug)]
pub struct Upstream<S> {
    inner: S,
    shared: Shared,
}

impl<S> Upstream<S> {
    pub(super) fn new(inner: S, shared: Shared) -> Self {
        Self { inner, shared }
    }

    /// The service itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, Q, R> Service<Request<Q>> for Upstream<S>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<AnswerBody<R>>;
    type Error = S::Error;
    type Future = UpstreamFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let extensions = request.extensions_mut();
        let Some(call) = extensions.remove::<Arc<Call>>() else {
            let state = State::Passing(self.inner.call(request));
            return UpstreamFuture { state };
        };
        let charge = call.own(extensions.get());
        // First, so that whatever happens in the call is accounted for.
        let account = Account::open(self.shared.clone(), call, charge);
        let future = self.inner.call(request);
        let state = State::Calling {
            future,
            told_to_end: self.shared.state.told_to_end(),
            patience: account.patience(),
            account: Some(account),
        };
        UpstreamFuture { state }
    }
}

/// The answer of an [`Upstream`]. Dropping it drops the call of the service behind; the prompt has then been paid for.
#[pin_project]
pub struct UpstreamFuture<F, R> {
    #[pin]
    state: State<F, R>,
}

#[pin_project(project = StateProj)]
enum State<F, R> {
    /// Nothing that is asked of a model.
    Passing(#[pin] F),
    Calling {
        #[pin]
        future: F,
        #[pin]
        told_to_end: OwnedNotified,
        patience: Patience,
        account: Option<Account>,
    },
    /// A stream whose head is held until it is known how it begins.
    Holding {
        head: Option<response::Parts>,
        stream: Option<Pin<Box<Stream<R>>>>,
        /// `None` where it is not held.
        until: Option<Duration>,
        alarm: Alarm,
    },
    /// A whole answer.
    Collecting {
        head: Option<response::Parts>,
        piece: Option<Pin<Box<Piece<R>>>>,
    },
    Answered(Option<Response<AnswerBody<R>>>),
}

const POLLED_AGAIN: &str = "`UpstreamFuture` was polled after it had answered";

impl<F, R, E> Future for UpstreamFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<AnswerBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Passing(future) => {
                    let answer = ready!(future.poll(cx));
                    state.set(State::Answered(None));
                    return Poll::Ready(answer.map(|response| response.map(AnswerBody::passing)));
                }
                StateProj::Calling {
                    future,
                    told_to_end,
                    patience,
                    account,
                } => {
                    let answer = match future.poll(cx) {
                        Poll::Ready(answer) => Ok(answer),
                        Poll::Pending => {
                            let account = account.as_ref().expect(POLLED_AGAIN);
                            Err(ready!(poll_cut(account, told_to_end, patience, cx)))
                        }
                    };
                    let mut account = account.take().expect(POLLED_AGAIN);
                    match answer {
                        Ok(Ok(response)) => State::answered(response, account, mem::take(patience)),
                        Ok(Err(error)) => {
                            account.refused();
                            state.set(State::Answered(None));
                            return Poll::Ready(Err(error));
                        }
                        Err(cut) => State::Answered(Some(cut_off(cut, &mut account))),
                    }
                }
                StateProj::Holding {
                    head,
                    stream,
                    until,
                    alarm,
                } => {
                    let held = stream.as_mut().expect(POLLED_AGAIN);
                    let bad = ready!(poll_begun(held.as_mut(), *until, alarm, cx));
                    let head = head.take().expect(POLLED_AGAIN);
                    let mut stream = stream.take().expect(POLLED_AGAIN);
                    let account = stream.as_mut().account();
                    let response = match bad {
                        Ok(()) => begun(head, stream),
                        Err(Bad::Failed(failure)) => failed(&failure, &head.headers, account),
                        Err(Bad::Cut(cut)) => cut_off(cut, account),
                        Err(Bad::Broken) => broken(account),
                    };
                    State::Answered(Some(response))
                }
                StateProj::Collecting { head, piece } => {
                    let collecting = piece.as_mut().expect(POLLED_AGAIN);
                    let collected = ready!(collecting.as_mut().poll_collect(cx));
                    let head = head.take().expect(POLLED_AGAIN);
                    let mut piece = piece.take().expect(POLLED_AGAIN);
                    let response = match collected {
                        Collected::Complete(meaning) => complete(head, piece, &meaning),
                        Collected::TooLong => too_long(head, piece),
                        Collected::Broken => broken(piece.as_mut().account()),
                        Collected::Cut(cut) => cut_off(cut, piece.as_mut().account()),
                    };
                    State::Answered(Some(response))
                }
                StateProj::Answered(answer) => {
                    return Poll::Ready(Ok(answer.take().expect(POLLED_AGAIN)));
                }
            };
            state.set(next);
        }
    }
}

/// How a stream turned out to be no answer while there is a status to say it with.
enum Bad {
    Failed(Failure),
    Cut(Cut),
    Broken,
}

/// Reads until it is known how the stream begins, but not for too long.
fn poll_begun<R: Body>(
    mut stream: Pin<&mut Stream<R>>,
    until: Option<Duration>,
    alarm: &mut Alarm,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Bad>> {
    let Some(until) = until else {
        return Poll::Ready(Ok(()));
    };
    loop {
        if let Some(failure) = stream.as_mut().take_failure() {
            return Poll::Ready(Err(Bad::Failed(failure)));
        }
        if stream.has_begun() || stream.kept() > HELD {
            return Poll::Ready(Ok(()));
        }
        match stream.as_mut().poll_more(cx) {
            Poll::Ready(More::Read | More::Over) => {}
            Poll::Ready(More::Cut(cut)) => return Poll::Ready(Err(Bad::Cut(cut))),
            Poll::Ready(More::Failed(_)) => return Poll::Ready(Err(Bad::Broken)),
            Poll::Pending => {
                let clock = stream.as_mut().account().shared.state.clock;
                return alarm.poll(&clock, until, cx).map(Ok);
            }
        }
    }
}

impl<F, R: Body> State<F, R> {
    /// The head has come: what is next, or what goes out.
    fn answered(response: Response<R>, mut account: Account, patience: Patience) -> Self {
        let (mut head, body) = response.into_parts();
        if !head.status.is_success() {
            account.refused();
            account.call.id.put(&mut head.headers);
            let response = Response::from_parts(head, AnswerBody::passing(body));
            return State::Answered(Some(response));
        }
        if is_compressed(&head.headers) {
            // Though nobody has asked for it. It passes as it is, and the gate learns from it as from any other response.
            account.unreadable();
            account.call.id.put(&mut head.headers);
            let response = Response::from_parts(head, AnswerBody::passing(body));
            return State::Answered(Some(response));
        }
        if !is_event_stream(&head.headers) {
            return State::Collecting {
                head: Some(head),
                piece: Some(Box::pin(Piece::new(body, account, patience))),
            };
        }
        let hold = account.shared.settings.hold_head;
        State::Holding {
            head: Some(head),
            until: hold.map(|hold| account.shared.now().saturating_add(hold)),
            alarm: Alarm::default(),
            stream: Some(Box::pin(Stream::new(body, account, patience))),
        }
    }
}

fn is_compressed(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING);
    encoding.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn begun<R>(head: response::Parts, mut stream: Pin<Box<Stream<R>>>) -> Response<AnswerBody<R>> {
    let mut head = reported(head, stream.as_mut().account());
    // It may be cut off, and usage may be hidden.
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, AnswerBody::stream(stream))
}

fn complete<R: Body>(
    head: response::Parts,
    mut piece: Pin<Box<Piece<R>>>,
    meaning: &Meaning,
) -> Response<AnswerBody<R>> {
    let account = piece.as_mut().account();
    account.whole(meaning);
    if let Kind::Failed(failure) = &meaning.kind {
        return failed(failure, &head.headers, account);
    }
    let head = reported(head, account);
    Response::from_parts(head, AnswerBody::whole(piece.as_mut().take()))
}

fn too_long<R: Body>(
    head: response::Parts,
    mut piece: Pin<Box<Piece<R>>>,
) -> Response<AnswerBody<R>> {
    let head = reported(head, piece.as_mut().account());
    Response::from_parts(head, AnswerBody::piece(piece))
}

fn reported(mut head: response::Parts, account: &Account) -> response::Parts {
    head.extensions.insert(account.report.clone());
    account.call.id.put(&mut head.headers);
    head
}

/// It said 200 and then that it failed.
fn failed<R>(
    failure: &Failure,
    told: &HeaderMap,
    account: &mut Account,
) -> Response<AnswerBody<R>> {
    account.close();
    let overload = failure.outcome() == Outcome::Overload;
    let come_back = overload.then(|| retry_after(told).unwrap_or(COME_BACK));
    error(account, failure.status(), failure.message(), come_back)
}

/// Nothing came and nothing will.
fn broken<R>(account: &mut Account) -> Response<AnswerBody<R>> {
    account.fail(Outcome::Ignore);
    account.close();
    let message = "the model's service broke off before it had begun to answer";
    error(account, StatusCode::BAD_GATEWAY, message, None)
}

fn cut_off<R>(cut: Cut, account: &mut Account) -> Response<AnswerBody<R>> {
    cut.settle(account);
    let status = cut.status(account);
    error(account, status, &cut.message(), Some(COME_BACK))
}

fn error<R>(
    account: &Account,
    status: StatusCode,
    message: &str,
    come_back: Option<Duration>,
) -> Response<AnswerBody<R>> {
    let call = &*account.call;
    let mut response = call.dialect.error(status, message, &call.id);
    if let Some(come_back) = come_back {
        hint(response.headers_mut(), come_back);
    }
    response.map(AnswerBody::whole)
}

impl<F, R> fmt::Debug for UpstreamFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Passing(_) => "passing",
            State::Calling { .. } => "calling",
            State::Holding { .. } => "holding",
            State::Collecting { .. } => "collecting",
            State::Answered(_) => "answered",
        };
        f.debug_struct("UpstreamFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
