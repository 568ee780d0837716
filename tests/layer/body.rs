//! The permit on the body: back exactly once, in every way a response can end.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Handle, ReleaseAt, SampleAt,
    limit::{Limit, Outcome, Sample},
    protocol::ResponseBody,
};

const MILLI: Duration = Duration::from_millis(1);

/// A body made of what the test says, ending as it says.
#[derive(Default)]
struct Script {
    frames: VecDeque<Result<Frame<Bytes>, io::Error>>,
    /// How long each frame takes.
    pause: Duration,
    sleeping: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Says that it has ended as soon as its last frame is out.
    knows_its_end: bool,
    length: Option<u64>,
    /// Never ends, and says nothing more.
    hangs: bool,
}

impl Script {
    fn data(chunks: &[&'static str]) -> Self {
        let frames = chunks
            .iter()
            .map(|c| Ok(Frame::data(Bytes::from_static(c.as_bytes()))));
        Self {
            frames: frames.collect(),
            ..Self::default()
        }
    }

    fn and(mut self, frame: Result<Frame<Bytes>, io::Error>) -> Self {
        self.frames.push_back(frame);
        self
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let pause = self.pause;
        if !pause.is_zero() {
            let sleeping = self.sleeping.get_or_insert_with(|| Box::pin(sleep(pause)));
            std::task::ready!(sleeping.as_mut().poll(cx));
            self.sleeping = None;
        }
        match self.frames.pop_front() {
            None if self.hangs => Poll::Pending,
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

/// Remembers every sample; the limit is 1.
struct Notes(std::sync::mpsc::Sender<Sample>);

impl Limit for Notes {
    fn limit(&self) -> usize {
        1
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let _ = self.0.send(*sample);
        1
    }
}

/// A layer of limit 1 that notes its samples as (milliseconds, outcome).
struct Bench {
    layer: BackpressureLayer,
    samples: std::sync::mpsc::Receiver<Sample>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|layer| layer)
    }

    fn with(f: impl FnOnce(BackpressureLayer) -> BackpressureLayer) -> Self {
        let (notes, samples) = std::sync::mpsc::channel();
        let layer = f(BackpressureLayer::adaptive(Notes(notes)));
        Self { layer, samples }
    }

    async fn get<B>(&self, response: Response<B>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes>,
    {
        self.request(Method::GET, response).await
    }

    async fn request<B>(&self, method: Method, response: Response<B>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes>,
    {
        let response = std::sync::Mutex::new(Some(response));
        let inner = service_fn(|_: Request<()>| {
            let response = response.lock().unwrap().take().unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut request = Request::new(());
        *request.method_mut() = method;
        self.layer.layer(inner).oneshot(request).await.unwrap()
    }

    fn handle(&self) -> Handle {
        self.layer.handle()
    }

    fn in_flight(&self) -> usize {
        self.handle().in_flight()
    }

    fn samples(&self) -> Vec<(u128, Outcome)> {
        let samples = self.samples.try_iter();
        samples
            .map(|s| (s.latency.as_millis(), s.outcome))
            .collect()
    }
}

fn sse<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let stream = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, stream);
    response
}

fn grpc(body: Script) -> Response<Script> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc+proto");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

fn trailers(status: &'static str) -> Result<Frame<Bytes>, io::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Ok(Frame::trailers(trailers))
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn back_when_the_body_fails() {
    let bench = Bench::new();
    let body = Script::data(&["a"]).and(Err(io::Error::other("reset")));
    let mut response = bench.get(Response::new(body)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_err());
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test]
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

/// A body that panics when it is read.
struct Panics;

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

#[tokio::test]
async fn a_panic_is_not_taken_for_a_caller_that_left() {
    use futures_util::FutureExt;
    use std::panic::AssertUnwindSafe;

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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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
