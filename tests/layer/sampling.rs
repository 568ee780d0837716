//! What a limit learns from a response, and when.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{SampleAt, limit::Outcome};

use crate::script::{Bench, Script, grpc, sse, trailers};

const MILLI: Duration = Duration::from_millis(1);

/// A body that panics when it is read.
struct Panics;

/// A body that panics when it is asked about itself for the nth time.
struct Shy {
    end: Cell<u32>,
    size: Cell<u32>,
}

fn count_down(left: &Cell<u32>) {
    left.set(left.get() - 1);
    assert_ne!(left.get(), 0, "a body with a mistake");
}

impl Body for Shy {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }

    fn is_end_stream(&self) -> bool {
        count_down(&self.end);
        false
    }

    fn size_hint(&self) -> SizeHint {
        count_down(&self.size);
        SizeHint::new()
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_answer_is_looked_at_is_not_taken_for_a_caller_that_left() {
    let bench = Bench::with(|layer| layer.classify(|_| panic!("a closure with a mistake")));
    let call = AssertUnwindSafe(bench.get(Response::new(Full::from("whole"))));
    assert!(call.catch_unwind().await.is_err());
    assert_eq!((bench.in_flight(), bench.samples()), (0, vec![]));

    for (end, size) in [(1, 9), (9, 1), (2, 9)] {
        let bench = Bench::new();
        let (end, size) = (Cell::new(end), Cell::new(size));
        let call = async {
            let mut response = bench.get(sse(Shy { end, size })).await;
            response.body_mut().frame().await;
        };
        assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        assert_eq!((bench.in_flight(), bench.samples()), (0, vec![]));
    }
}

impl Body for Panics {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        panic!("a body with a mistake")
    }
}
#[tokio::test(start_paused = true)]
async fn a_panic_is_not_taken_for_a_caller_that_left() {
    // Caught outside of the layer: the future is dropped only after the unwinding.
    let bench = Bench::new();
    let panics = service_fn(|_: Request<()>| async {
        if true {
            panic!("a handler with a mistake");
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let call = bench.layer.layer(panics).oneshot(Request::new(()));
    assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
    assert_eq!((bench.in_flight(), bench.samples()), (0, vec![]));

    let mut response = bench.get(sse(Panics)).await;
    let frame = AssertUnwindSafe(response.body_mut().frame()).catch_unwind();
    assert!(frame.await.is_err());
    drop(response);
    assert_eq!((bench.in_flight(), bench.samples()), (0, vec![]));
}
#[tokio::test(start_paused = true)]
async fn a_stream_is_sampled_at_its_first_frame_and_held_to_its_end() {
    let bench = Bench::new();
    let body = Script {
        pause: 30 * MILLI,
        ..Script::data(&["a", "b", "c"])
    };
    let mut response = bench.get(sse(body)).await;
    assert_eq!(bench.samples(), []);
    response.body_mut().frame().await;
    assert_eq!(bench.samples(), [(30, Outcome::Success)]);
    while response.body_mut().frame().await.is_some() {
        assert_eq!(bench.in_flight(), 1);
    }
    assert_eq!(bench.samples(), [], "once");
}
#[tokio::test(start_paused = true)]
async fn a_whole_response_is_sampled_at_its_head_however_slowly_it_is_read() {
    let bench = Bench::new();
    let body = Script {
        pause: 1000 * MILLI,
        ..Script::data(&["a"])
    };
    let response = bench.get(Response::new(body)).await;
    assert_eq!(bench.samples(), [(0, Outcome::Success)]);
    response.into_body().collect().await.unwrap();
    assert_eq!(bench.samples(), []);
}
#[tokio::test(start_paused = true)]
async fn sample_at_body_end_waits_for_it() {
    let bench = Bench::with(|layer| layer.sample_at(SampleAt::BodyEnd));
    let body = Script {
        pause: 10 * MILLI,
        ..Script::data(&["a"])
    };
    let response = bench.get(Response::new(body)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(bench.samples(), [(20, Outcome::Success)]);
}
#[tokio::test(start_paused = true)]
async fn a_stream_cut_before_its_first_frame_took_at_least_that_long() {
    let bench = Bench::new();
    let response = bench.get(sse(Script::default())).await;
    sleep(40 * MILLI).await;
    drop(response);
    assert_eq!(bench.samples(), [(40, Outcome::Cancelled)]);
}
#[tokio::test(start_paused = true)]
async fn grpc_overload_is_read_from_headers_and_trailers() {
    for (status, outcome) in [
        ("0", Outcome::Success),
        ("4", Outcome::Overload),
        ("8", Outcome::Overload),
        ("14", Outcome::Overload),
    ] {
        let bench = Bench::new();
        let mut trailers_only = grpc(Script {
            knows_its_end: true,
            ..Script::default()
        });
        let status_header = HeaderValue::from_static(status);
        trailers_only
            .headers_mut()
            .insert("grpc-status", status_header);
        bench.get(trailers_only).await;
        assert_eq!(bench.samples(), [(0, outcome)], "{status} in headers");

        let response = bench
            .get(grpc(Script::default().and(trailers(status))))
            .await;
        response.into_body().collect().await.unwrap();
        assert_eq!(bench.samples(), [(0, outcome)], "{status} in trailers");
    }
}
#[tokio::test(start_paused = true)]
async fn a_grpc_stream_that_ends_in_overload_is_learned_from_a_second_time() {
    let bench = Bench::new();
    let response = bench
        .get(grpc(Script::data(&["a"]).and(trailers("8"))))
        .await;
    response.into_body().collect().await.unwrap();
    let expected = [(0, Outcome::Success), (0, Outcome::Overload)];
    assert_eq!(bench.samples(), expected);
    assert_eq!(bench.handle().snapshot().consumed_count, 1);
}
#[tokio::test(start_paused = true)]
async fn other_failures_are_ignored() {
    for status in [400, 401, 404, 500, 502] {
        let bench = Bench::new();
        let mut response = Response::new(Full::from("no"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        bench.get(response).await;
        assert_eq!(bench.samples(), [], "{status}");
    }
    for status in [429, 503, 504, 529] {
        let bench = Bench::new();
        let mut response = Response::new(Full::from("no"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        bench.get(response).await;
        assert_eq!(bench.samples(), [(0, Outcome::Overload)], "{status}");
    }
}
#[tokio::test(start_paused = true)]
async fn classify_has_the_last_word() {
    let bench = Bench::with(|layer| {
        layer.classify(|head| match head.status.as_u16() {
            500 => Outcome::Overload,
            _ => Outcome::Success,
        })
    });
    let mut response = Response::new(Full::from("no"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    bench.get(response).await;
    let response = bench.get(grpc(Script::default().and(trailers("8")))).await;
    response.into_body().collect().await.unwrap();
    let expected = [(0, Outcome::Overload), (0, Outcome::Success)];
    assert_eq!(bench.samples(), expected);
}
