//! What is read of a request, and what the model gets.

use std::io;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, ServiceExt};
use tower_backpressure::{
    BackpressureLayer, Reason, Rejected,
    llm::{Asked, Dialect, LlmLayer},
};

use crate::bench::*;

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_refused_in_its_dialect() {
    let bench = Bench::with(|layer| layer.max_body(100));
    for (request, begins) in [
        (openai(&"x".repeat(101)), r#"{"error":{"#),
        (anthropic(&"x".repeat(101)), r#"{"type":"error","#),
    ] {
        let answer = bench.ask(request).await;
        assert_eq!(answer.status(), 413);
        let body = text(answer).await;
        assert!(body.starts_with(begins), "{body}");
        assert!(body.contains("it may have 100 bytes"), "{body}");
    }
    bench.answers(Script::new(&["{}"]).whole());
    let answer = bench.ask(openai(&"x".repeat(100))).await;
    assert_eq!(answer.status(), 200, "whatever is in it");
}

#[tokio::test(start_paused = true)]
async fn one_that_says_no_length_is_refused_where_it_becomes_too_large() {
    let bench = Bench::with(|layer| layer.max_body(100));
    let chunks = (0..1000).map(|nth| {
        assert!(nth < 12, "nobody reads on");
        Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"0123456789")))
    });
    let mut request = openai("").map(|_| StreamBody::new(stream::iter(chunks)));
    *request.method_mut() = http::Method::POST;
    let model = tower::service_fn(|_: http::Request<_>| async {
        panic!("the model was asked");
        #[allow(unreachable_code)]
        Ok::<_, std::io::Error>(http::Response::new(Full::<Bytes>::default()))
    });
    let answer = bench.layer.layer(model).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 413);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_is_a_400_and_holds_no_permit_while_it_comes() {
    let bench = Bench::new();
    let (sender, chunks) = tokio::sync::mpsc::channel(1);
    let chunks = tokio_stream::wrappers::ReceiverStream::new(chunks);
    let request = openai("").map(|_| StreamBody::new(chunks));
    let model = tower::service_fn(|_: http::Request<_>| async {
        Ok::<_, std::io::Error>(http::Response::new(Full::<Bytes>::default()))
    });
    let mut call = std::pin::pin!(bench.layer.layer(model).oneshot(request));
    sender
        .send(Ok(Frame::data(Bytes::from_static(b"{\"mod"))))
        .await
        .unwrap();
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(bench.in_flight(), 0);
    sender
        .send(Err(std::io::Error::other("gone")))
        .await
        .unwrap();
    let answer = call.await.unwrap();
    assert_eq!(answer.status(), 400);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("ended before it was complete"));
}

#[tokio::test(start_paused = true)]
async fn the_model_gets_what_is_known_and_a_length_that_is_true() {
    let bench = Bench::new();
    bench.answers(Script::new(&[TOKEN]).streamed());
    let mut request = asks_for_stream();
    for (name, value) in [
        ("content-length", "1"),
        ("accept-encoding", "gzip, br"),
        ("x-request-id", "my-id"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = bench.ask(request).await;
    assert_eq!(header(answer.headers(), "x-request-id"), "my-id");
    assert_eq!(header(answer.headers(), "request-id"), "my-id");
    let seen = bench.seen();
    let Seen { head, body } = &seen[0];
    let asked = head.extensions.get::<Asked>().unwrap();
    assert_eq!((asked.model(), asked.is_stream()), ("m", true));
    let length: usize = header(&head.headers, "content-length").parse().unwrap();
    assert_eq!(length, body.len());
    assert_eq!(header(&head.headers, "accept-encoding"), "");
    assert_eq!(header(&head.headers, "x-request-id"), "my-id");
}

#[tokio::test(start_paused = true)]
async fn which_requests_are_read_and_how_can_be_said() {
    let bench = Bench::with(|layer| {
        layer.dialect(|head| (head.uri.path() == "/claude").then_some(Dialect::Anthropic))
    });
    let mut request = asks_for_stream();
    *request.uri_mut() = "/claude".parse().unwrap();
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n";
    bench.answers(Script::new(&[error]).streamed());
    assert_eq!(bench.ask(request).await.status(), 529);

    bench.answers(Script::new(&[OVERLOADED]).streamed());
    let unread = bench.ask(asks_for_stream()).await;
    assert_eq!(unread.status(), 200);
    assert_eq!(text(unread).await, OVERLOADED);
}

#[test]
#[should_panic(expected = "max_body is 0, but must be at least 1")]
fn room_for_nothing_is_refused() {
    Bench::with(|layer| layer.max_body(0));
}

/// A request whose body nobody may look at.
fn unread() -> Request<StreamBody<impl Stream<Item = Result<Frame<Bytes>, io::Error>>>> {
    let frames = stream::poll_fn(|_| panic!("it was read"));
    openai("").map(|_| StreamBody::new(frames))
}

async fn refused_unread(layer: &LlmLayer) -> Rejected {
    let model = tower::service_fn(|_: Request<_>| async {
        Ok::<_, io::Error>(Response::new(Full::<Bytes>::default()))
    });
    let answer = layer.layer(model).oneshot(unread()).await.unwrap();
    assert!(answer.headers().contains_key("retry-after-ms"));
    let rejected = answer.extensions().get::<Rejected>();
    let rejected = *rejected.expect("it is refused");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"error\":"), "{body:?}");
    rejected
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_gate_drains() {
    let layer = LlmLayer::new(BackpressureLayer::drop_newest(2).wait());
    drop(layer.drain(SECOND));
    assert_eq!(refused_unread(&layer).await.reason(), Reason::Draining);
    assert_eq!(layer.handle().snapshot().dropped_count, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_where_nobody_may_wait_for_a_place() {
    for (waiting, reason) in [(0, Reason::Limit), (1, Reason::QueueFull)] {
        let layer = LlmLayer::new(BackpressureLayer::drop_newest(1).max_waiting(waiting));
        let model = tower::service_fn(|_: Request<_>| async {
            std::future::pending::<()>().await;
            Ok::<_, io::Error>(Response::new(Full::<Bytes>::default()))
        });
        let mut calls = vec![];
        for _ in 0..=waiting {
            let mut call = Box::pin(layer.layer(model).oneshot(asks_for_stream()));
            assert!(call.as_mut().now_or_never().is_none());
            calls.push(call);
        }
        assert_eq!(refused_unread(&layer).await.reason(), reason);
        assert_eq!(layer.handle().snapshot().dropped_count, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_gate_in_the_shadow_and_an_exempt_request_are_read() {
    let shadow = BackpressureLayer::drop_newest(1).shadow();
    let exempt = BackpressureLayer::drop_newest(1).exempt(|_| true);
    for gate in [shadow, exempt] {
        let layer = LlmLayer::new(gate);
        let model = tower::service_fn(|_: Request<_>| async {
            Ok::<_, io::Error>(Response::new(Full::<Bytes>::default()))
        });
        let hangs = tower::service_fn(|_: Request<_>| {
            std::future::pending::<Result<Response<Full<Bytes>>, io::Error>>()
        });
        let mut first = Box::pin(layer.layer(hangs).oneshot(asks_for_stream()));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let answer = layer.layer(model).oneshot(asks_for_stream()).await.unwrap();
        drop(layer.drain(SECOND));
        let second = layer.layer(model).oneshot(asks_for_stream()).await.unwrap();
        assert_eq!(
            (answer.status(), second.status()),
            (StatusCode::OK, StatusCode::OK)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_wait_at_the_gate_of_its_key_is_read_though_the_ceiling_is_full() {
    let ceiling = BackpressureLayer::drop_newest(1);
    let layer = LlmLayer::new(ceiling.per_key(|_| 1, |_| BackpressureLayer::drop_newest(1).wait()));
    let model = tower::service_fn(|_: Request<_>| async {
        tokio::time::sleep(SECOND).await;
        Ok::<_, io::Error>(Response::new(Full::<Bytes>::default()))
    });
    let call = async || {
        let answer = layer.layer(model).oneshot(asks_for_whole()).await.unwrap();
        answer.status()
    };
    assert_eq!(
        tokio::join!(call(), call()),
        (StatusCode::OK, StatusCode::OK)
    );
}
