//! The same over HTTP's types: requests and responses with bodies, and refusals in HTTP's words.

use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use tower::{Layer, Service, limit::GlobalConcurrencyLimitLayer};
use tower_backpressure::{BackpressureLayer, limit::Aimd};

use super::{
    Loop, Path, Shared, Stack, Tally,
    drive::spin,
    stacks::{ROOMY, reporting, silent},
};

/// Has the constant service never answer.
const HOLD: Method = Method::TRACE;

pub(super) fn admitted() -> Vec<Stack> {
    let path = Path::Http;
    vec![
        silent(path, "bare HTTP service", || open(Constant(hello))),
        silent(path, "tower GlobalConcurrencyLimit", || {
            open(GlobalConcurrencyLimitLayer::new(ROOMY).layer(Constant(hello)))
        }),
        reporting(path, "block", || ours(BackpressureLayer::block(ROOMY))),
        reporting(path, "drop_newest", || {
            ours(BackpressureLayer::drop_newest(ROOMY))
        }),
        reporting(path, "drop_oldest", || {
            ours(BackpressureLayer::drop_oldest(ROOMY, ROOMY))
        }),
        reporting(path, "adaptive(Aimd)", || {
            ours(BackpressureLayer::adaptive(Aimd::default()))
        }),
    ]
}

pub(super) fn refused() -> Vec<Stack> {
    let path = Path::HttpRefused;
    vec![
        silent(path, "a constant 503", || open(Constant(unavailable))),
        reporting(path, "drop_newest", || {
            let service = BackpressureLayer::drop_newest(1).layer(Constant(hello));
            let mut first = service.clone();
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(first.poll_ready(cx).is_ready(), "there is room for one");
            let mut request = Request::new(Full::default());
            *request.method_mut() = HOLD;
            let mut held = Box::pin(first.call(request));
            assert!(held.as_mut().poll(cx).is_pending(), "it is never answered");
            Box::new(move || {
                let _ = &held;
                calls(service.clone())
            })
        }),
    ]
}

/// The service at the bottom: always the same response.
#[derive(Clone, Copy)]
struct Constant(fn() -> Response<Full<Bytes>>);

type Answer = Result<Response<Full<Bytes>>, Infallible>;

impl Service<Request<Full<Bytes>>> for Constant {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Either<std::future::Ready<Answer>, std::future::Pending<Answer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        if request.method() == HOLD {
            Either::Right(pending())
        } else {
            Either::Left(ready(Ok((self.0)())))
        }
    }
}

fn hello() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

/// As a refusal is, but that it knows beforehand what it says.
fn unavailable() -> Response<Full<Bytes>> {
    let body = br#"{"error":"overloaded","reason":"limit","message":"rejected: all 1 slots are in use; retry after 1.204 s","retry_after_ms":1204}"#;
    let response = Response::builder()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::RETRY_AFTER, 2)
        .header("retry-after-ms", 1204);
    let response = response.body(Full::new(Bytes::from_static(body)));
    response.expect("a valid response")
}

fn ours(layer: BackpressureLayer) -> Shared {
    open(layer.layer(Constant(hello)))
}

fn open<S, B>(service: S) -> Shared
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    B: Body,
{
    Box::new(move || calls(service.clone()))
}

/// Calls `service` and reads each answer's body to its end.
fn calls<S, B>(service: S) -> Loop
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    B: Body,
{
    Box::new(move |calls| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut tally = Tally::default();
        for _ in 0..calls {
            let mut service = service.clone();
            let Ok(()) = spin(&mut tally.pending, || service.poll_ready(cx));
            let request = black_box(Request::new(Full::default()));
            let mut answer = pin!(service.call(request));
            let Ok(response) = spin(&mut tally.pending, || answer.as_mut().poll(cx));
            tally.admitted += u64::from(response.status().is_success());
            read(response.into_body(), cx, &mut tally);
        }
        tally
    })
}

fn read<B: Body>(body: B, cx: &mut Context<'_>, tally: &mut Tally) {
    let mut body: Pin<&mut B> = pin!(body);
    while let Some(frame) = spin(&mut tally.pending, || body.as_mut().poll_frame(cx)) {
        black_box(frame.is_ok());
    }
}
