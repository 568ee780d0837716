use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, request};
use http_body::Body;
use pin_project::pin_project;
use tower_service::Service;

use super::{
    AnswerBody, Dialect, RequestBody,
    account::Call,
    answer::whole_data,
    patience::Alarm,
    service::{Entrance, Fit},
};
use crate::protocol::ResponseBody;

/// The answer of an [`LlmService`](super::LlmService).
///
/// Dropping it costs nothing before the request is let in; afterwards the prompt is charged, and the call of the service behind
/// is dropped at once.
#[pin_project]
pub struct LlmFuture<G, B>
where
    G: Service<Request<RequestBody<B>>>,
{
    #[pin]
    state: State<G, B>,
    entrance: Entrance,
}

#[pin_project(project = StateProj)]
enum State<G, B>
where
    G: Service<Request<RequestBody<B>>>,
{
    /// There is no permit yet, however slowly the request comes.
    Reading {
        #[pin]
        body: B,
        read: Read,
        asking: Option<Asking<G>>,
    },
    Readying {
        call: Option<(G, Request<RequestBody<B>>)>,
        bound: Option<Bound>,
    },
    Calling {
        #[pin]
        future: G::Future,
        bound: Option<Bound>,
    },
    Answered(Option<Response<Bytes>>),
}

/// What goes on once the request is read.
struct Asking<G> {
    gate: G,
    head: request::Parts,
    dialect: Dialect,
    arrived: Duration,
}

/// Until when the request has to be let in.
struct Bound {
    until: Duration,
    arrived: Duration,
    call: Arc<Call>,
    alarm: Alarm,
}

/// What has been read of a request.
#[derive(Default)]
enum Read {
    #[default]
    Nothing,
    /// As most come.
    One(Bytes),
    Many(BytesMut),
}

const POLLED_AGAIN: &str = "`LlmFuture` was polled after it had answered";

impl<G, B> LlmFuture<G, B>
where
    G: Service<Request<RequestBody<B>>>,
    B: Body,
{
    /// `refuse` refuses what would be read in vain.
    pub(super) fn new(
        gate: G,
        entrance: Entrance,
        request: Request<B>,
        refuse: impl FnOnce(&request::Parts) -> Option<Response<Bytes>>,
    ) -> Self {
        let (head, body) = request.into_parts();
        let Some(dialect) = entrance.dialect(&head) else {
            let request = Request::from_parts(head, RequestBody::passing(body));
            let state = State::Readying {
                call: Some((gate, request)),
                bound: None,
            };
            return Self { state, entrance };
        };
        let refusal = match too_large(&body, &entrance) {
            true => Some(entrance.too_large(&head, dialect)),
            false => refuse(&head),
        };
        let state = match refusal {
            Some(refusal) => State::Answered(Some(refusal)),
            None => State::Reading {
                body,
                read: Read::Nothing,
                asking: Some(Asking {
                    gate,
                    head,
                    dialect,
                    arrived: entrance.shared.now(),
                }),
            },
        };
        Self { state, entrance }
    }
}

/// What a body says of itself before any of it has come.
fn too_large(body: &impl Body, entrance: &Entrance) -> bool {
    body.size_hint().lower() > entrance.shared.settings.max_body as u64
}

impl<G, B, R> Future for LlmFuture<G, B>
where
    G: Service<Request<RequestBody<B>>, Response = Response<ResponseBody<AnswerBody<R>>>>,
    B: Body,
    R: Body,
{
    type Output = Result<G::Response, G::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let entrance = this.entrance;
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Reading { body, read, asking } => {
                    let most = entrance.shared.settings.max_body;
                    let end = ready!(poll_read(body, read, most, cx));
                    let asking = asking.take().expect(POLLED_AGAIN);
                    let refusal = |refuse: fn(&Entrance, &_, _) -> _| {
                        State::Answered(Some(refuse(entrance, &asking.head, asking.dialect)))
                    };
                    match end {
                        End::TooLarge => refusal(Entrance::too_large),
                        End::Broken => refusal(Entrance::unreadable),
                        End::Complete => asking.admit(mem::take(read).into_bytes(), entrance),
                    }
                }
                StateProj::Readying { call, bound } => {
                    let (gate, _) = call.as_mut().expect(POLLED_AGAIN);
                    if let Err(error) = ready!(gate.poll_ready(cx)) {
                        this.state.set(State::Answered(None));
                        return Poll::Ready(Err(error));
                    }
                    let (mut gate, request) = call.take().expect(POLLED_AGAIN);
                    State::Calling {
                        future: gate.call(request),
                        bound: bound.take(),
                    }
                }
                StateProj::Calling { future, bound } => {
                    if let Poll::Ready(answer) = future.poll(cx) {
                        this.state.set(State::Answered(None));
                        return Poll::Ready(answer);
                    }
                    let Some(of) = bound else {
                        return Poll::Pending;
                    };
                    let refusal = ready!(of.poll(entrance, cx));
                    *bound = None;
                    match refusal {
                        Some(refusal) => State::Answered(Some(refusal)),
                        None => return Poll::Pending,
                    }
                }
                StateProj::Answered(answer) => {
                    let answer = answer.take().expect(POLLED_AGAIN);
                    return Poll::Ready(Ok(answer.map(ResponseBody::refusal)));
                }
            };
            this.state.set(next);
        }
    }
}

impl<G> Asking<G> {
    fn admit<B>(self, body: Bytes, entrance: &Entrance) -> State<G, B>
    where
        G: Service<Request<RequestBody<B>>>,
    {
        let arrived = self.arrived;
        let fit = entrance.read(self.head, body, self.dialect, arrived);
        if let Some(refusal) = entrance.late(&fit, arrived) {
            return State::Answered(Some(refusal));
        }
        let Fit {
            head,
            body,
            call,
            until,
        } = fit;
        let bound = until.map(|until| Bound {
            until,
            arrived,
            call,
            alarm: Alarm::default(),
        });
        State::Readying {
            call: Some((
                self.gate,
                Request::from_parts(head, RequestBody::whole(body)),
            )),
            bound,
        }
    }
}

impl Bound {
    /// Ready when there is nothing to be waited for any more: with a refusal if it is too late.
    fn poll(&mut self, entrance: &Entrance, cx: &mut Context<'_>) -> Poll<Option<Response<Bytes>>> {
        if self.call.begun.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        let clock = &entrance.shared.state.clock;
        ready!(self.alarm.poll(clock, self.until, cx));
        if self.call.begun.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        // The request itself is with the gate.
        let (mut head, ()) = Request::new(()).into_parts();
        self.call.id.put(&mut head.headers);
        let waited = clock.now().saturating_sub(self.arrived);
        Poll::Ready(entrance.too_late(&head, self.call.dialect, waited))
    }
}

enum End {
    Complete,
    TooLarge,
    Broken,
}

fn poll_read<B: Body>(
    mut body: Pin<&mut B>,
    read: &mut Read,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<End> {
    loop {
        match ready!(body.as_mut().poll_frame(cx)) {
            None => return Poll::Ready(End::Complete),
            Some(Err(_)) => return Poll::Ready(End::Broken),
            Some(Ok(frame)) => {
                // Trailers of a request are for nobody.
                if let Ok(data) = whole_data(frame).into_data() {
                    read.push(data);
                }
            }
        }
        if read.len() > most {
            return Poll::Ready(End::TooLarge);
        }
    }
}

impl Read {
    fn push(&mut self, data: Bytes) {
        *self = match mem::take(self) {
            Read::Nothing => Read::One(data),
            Read::One(first) => {
                let mut all = BytesMut::with_capacity(2 * (first.len() + data.len()));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                Read::Many(all)
            }
            Read::Many(mut all) => {
                all.extend_from_slice(&data);
                Read::Many(all)
            }
        };
    }

    fn len(&self) -> usize {
        match self {
            Read::Nothing => 0,
            Read::One(bytes) => bytes.len(),
            Read::Many(bytes) => bytes.len(),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Read::Nothing => Bytes::new(),
            Read::One(bytes) => bytes,
            Read::Many(bytes) => bytes.freeze(),
        }
    }
}

impl<G, B> fmt::Debug for LlmFuture<G, B>
where
    G: Service<Request<RequestBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Reading { .. } => "reading",
            State::Readying { .. } => "readying",
            State::Calling { .. } => "calling",
            State::Answered(_) => "answered",
        };
        f.debug_struct("LlmFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
