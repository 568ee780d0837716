//! The permit on the body: back exactly once, in every way a response can end.

use std::{convert::Infallible, future::poll_fn, io, task::Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{ReleaseAt, SampleAt, limit::Outcome};

use crate::script::{Bench, Script, grpc, sse, trailers};

#[tokio::test(start_paused = true)]
async fn held_until_the_body_has_ended() {
    let bench = Bench::new();
    let mut response = bench.get(Response::new(Script::data(&["a", "b"]))).await;
    for _ in 0..2 {
        assert_eq!(bench.in_flight(), 1);
        response.body_mut().frame().await.unwrap().unwrap();
    }
    assert_eq!(bench.in_flight(), 1);
    assert!(response.body_mut().frame().await.is_none());
    assert_eq!(bench.in_flight(), 0);
    drop(response);
    assert_eq!(
        (bench.in_flight(), bench.handle().snapshot().consumed_count),
        (0, 1)
    );
}
#[tokio::test(start_paused = true)]
async fn back_with_the_last_frame_where_the_body_knows_that_it_is_the_last() {
    let bench = Bench::new();
    let body = Script {
        knows_its_end: true,
        ..Script::data(&["a", "b"])
    };
    let mut response = bench.get(Response::new(body)).await;
    response.body_mut().frame().await;
    assert_eq!(bench.in_flight(), 1);
    response.body_mut().frame().await;
    assert_eq!(bench.in_flight(), 0, "a server need not ask again");
}
#[tokio::test(start_paused = true)]
async fn back_at_once_where_no_body_can_come() {
    let bench = Bench::new();
    let empty = bench.get(Response::new(Empty::new())).await;
    assert_eq!(bench.in_flight(), 0);
    let head = Response::new(Full::from("never read"));
    let head = bench.request(Method::HEAD, head).await;
    assert_eq!(bench.in_flight(), 0);
    let tunnel = Response::new(Full::from("never read"));
    let tunnel = bench.request(Method::CONNECT, tunnel).await;
    assert_eq!(bench.in_flight(), 0);
    for status in [
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NO_CONTENT,
        StatusCode::NOT_MODIFIED,
    ] {
        let mut response = Response::new(Full::from("never read"));
        *response.status_mut() = status;
        let response = bench.get(response).await;
        assert_eq!(bench.in_flight(), 0, "{status}");
        drop(response);
    }
    drop((empty, head, tunnel));
    assert_eq!(bench.handle().snapshot().consumed_count, 6);
    assert_eq!(bench.samples(), vec![(0, Outcome::Success); 6]);
}
#[tokio::test(start_paused = true)]
async fn a_body_of_no_length_keeps_it_until_its_trailers() {
    for (respond, outcome) in [
        (grpc as fn(Script) -> Response<Script>, Outcome::Overload),
        (Response::new, Outcome::Success),
    ] {
        let bench = Bench::new();
        let body = Script {
            length: Some(0),
            ..Script::default()
        };
        let mut response = bench.get(respond(body.and(trailers("8")))).await;
        assert_eq!(bench.in_flight(), 1);
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        assert_eq!(bench.in_flight(), 1);
        assert!(response.body_mut().frame().await.is_none());
        assert_eq!(bench.in_flight(), 0);
        assert_eq!(bench.samples(), [(0, outcome)]);
    }
}
#[tokio::test(start_paused = true)]
async fn a_body_is_whole_once_its_length_is_out() {
    for (length, frames, read, outcome) in [
        (0, &[][..], 0, Outcome::Success),
        (2, &["a", "b"], 2, Outcome::Success),
        (2, &["a", "b"], 1, Outcome::Cancelled),
        (2, &["", "ab"], 1, Outcome::Cancelled),
        (2, &["", "ab"], 2, Outcome::Success),
        // More than it said.
        (1, &["ab", "c"], 1, Outcome::Success),
    ] {
        let bench = Bench::with(|layer| layer.sample_at(SampleAt::BodyEnd));
        let body = Script {
            length: Some(length),
            ..Script::data(frames)
        };
        let mut response = bench.get(Response::new(body)).await;
        for _ in 0..read {
            response.body_mut().frame().await.unwrap().unwrap();
        }
        // As hyper does over HTTP/1, which asks for no more than what was promised.
        drop(response);
        let seen = bench.samples();
        assert_eq!(seen, [(0, outcome)], "{read} of {frames:?}, {length} bytes");
    }
}
#[tokio::test(start_paused = true)]
async fn back_when_the_body_is_dropped() {
    let bench = Bench::new();
    let body = Script {
        hangs: true,
        ..Script::data(&["a"])
    };
    let mut response = bench.get(Response::new(body)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(bench.in_flight(), 1);
    drop(response);
    assert_eq!(bench.in_flight(), 0);
}
#[tokio::test(start_paused = true)]
async fn back_when_the_body_fails() {
    let bench = Bench::new();
    let body = Script::data(&["a"]).and(Err(io::Error::other("reset")));
    let mut response = bench.get(Response::new(body)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_err());
    assert_eq!(bench.in_flight(), 0);
}
#[tokio::test(start_paused = true)]
async fn back_when_the_handler_panics() {
    let bench = Bench::new();
    let panics = service_fn(|_: Request<()>| async {
        if true {
            panic!("a handler with a mistake");
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let call = tokio::spawn(bench.layer.layer(panics).oneshot(Request::new(())));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(bench.in_flight(), 0);
    assert_eq!(bench.samples(), [], "a panic says nothing about load");
}
#[tokio::test(start_paused = true)]
async fn back_when_what_made_the_answer_panics_as_it_goes() {
    struct Goes;
    impl Drop for Goes {
        fn drop(&mut self) {
            panic!("a destructor with a mistake");
        }
    }
    let bench = Bench::new();
    let answers = service_fn(|_: Request<()>| {
        let (goes, body) = (Goes, Full::<Bytes>::from("never read"));
        let mut answer = Some(Ok::<_, Infallible>(Response::new(body)));
        poll_fn(move |_| {
            let _ = &goes;
            Poll::Ready(answer.take().unwrap())
        })
    });
    let call = tokio::spawn(bench.layer.layer(answers).oneshot(Request::new(())));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(bench.in_flight(), 0);
    assert_eq!(bench.samples(), [], "a panic says nothing about load");
}
#[tokio::test(start_paused = true)]
async fn back_when_the_inner_service_fails() {
    let bench = Bench::new();
    let fails = service_fn(|_: Request<()>| async {
        Err::<Response<Empty<Bytes>>, _>(io::Error::other("refused"))
    });
    let error = bench.layer.layer(fails).oneshot(Request::new(())).await;
    assert_eq!(error.unwrap_err().to_string(), "refused");
    assert_eq!(bench.in_flight(), 0);
    assert_eq!(bench.samples(), [(0, Outcome::Overload)]);
}
#[tokio::test(start_paused = true)]
async fn size_end_and_trailers_are_those_of_the_inner_body() {
    let bench = Bench::new();
    let body = Script {
        length: Some(3),
        knows_its_end: true,
        ..Script::data(&["abc"]).and(trailers("0"))
    };
    let response = bench.get(Response::new(body)).await;
    assert_eq!(response.body().size_hint().exact(), Some(3));
    assert!(!response.body().is_end_stream());
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "abc");
}
#[tokio::test(start_paused = true)]
async fn release_at_says_when_the_slot_comes_back() {
    for (release_at, after_head, after_frame) in [
        (ReleaseAt::BodyEnd, 1, 1),
        (ReleaseAt::FirstFrame, 1, 0),
        (ReleaseAt::Head, 0, 0),
    ] {
        let bench = Bench::with(|layer| layer.release_at(release_at));
        let mut response = bench.get(sse(Script::data(&["a", "b"]))).await;
        assert_eq!(bench.in_flight(), after_head, "{release_at:?}");
        response.body_mut().frame().await;
        assert_eq!(bench.in_flight(), after_frame, "{release_at:?}");
        drop(response);
        assert_eq!(bench.in_flight(), 0);
        assert_eq!(
            bench.samples().len(),
            1,
            "learning goes on after the release"
        );
    }
}
