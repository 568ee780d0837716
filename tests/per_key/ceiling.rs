//! What reaches the ceiling of a request that ran at its key's gate.

use std::{
    convert::Infallible,
    future::{Future, Ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, ReleaseAt,
    limit::{Aimd, Limit, Outcome, Sample},
};

use crate::{key, status, stays};

/// Halves on every overload.
#[derive(Debug)]
struct Halving(usize);

impl Limit for Halving {
    fn limit(&self) -> usize {
        self.0
    }

    fn update(&mut self, sample: &Sample) -> usize {
        if sample.outcome == Outcome::Overload {
            self.0 = (self.0 / 2).max(1);
        }
        self.0
    }
}

fn ten_each(ceiling: BackpressureLayer) -> BackpressureLayer {
    ceiling.per_key(key, |_: &String| BackpressureLayer::drop_newest(10))
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_that_adapts_learns_from_the_requests_of_all_keys() {
    let layer = ten_each(BackpressureLayer::adaptive(Halving(64)));
    let overloaded = service_fn(async |_: Request<()>| {
        sleep(Duration::from_millis(5)).await;
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        Ok::<_, Infallible>(response)
    });
    for path in ["/a", "/b", "/c"] {
        let request = Request::builder().uri(path).body(()).unwrap();
        layer.layer(overloaded).oneshot(request).await.unwrap();
    }
    assert_eq!(layer.handle().limit(), 8);
}

#[tokio::test(start_paused = true)]
async fn an_overload_in_the_trailers_reaches_the_ceiling() {
    let layer = ten_each(BackpressureLayer::adaptive(Halving(64)));
    let grpc = service_fn(async |_: Request<()>| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("14"));
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"half"))),
            Ok(Frame::trailers(trailers)),
        ];
        let response = Response::builder().header("content-type", "application/grpc");
        let body = StreamBody::new(stream::iter(frames));
        Ok::<_, Infallible>(response.body(body).unwrap())
    });
    let request = Request::builder().uri("/a").body(()).unwrap();
    let response = layer.layer(grpc).oneshot(request).await.unwrap();
    assert_eq!(layer.handle().limit(), 64);
    response.into_body().collect().await.unwrap();
    assert_eq!(layer.handle().limit(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_released_at_both_where_the_ceiling_says() {
    let layer = ten_each(BackpressureLayer::drop_newest(10)).release_at(ReleaseAt::Head);
    let service = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("still to be read")))
    });
    let request = Request::builder().uri("/a").body(()).unwrap();
    let mut service = layer.layer(service);
    let response = pin!(service.ready().await.unwrap().call(request))
        .await
        .unwrap();
    let of_key = layer.handle().key(&"/a".to_owned()).unwrap();
    assert_eq!((layer.handle().in_flight(), of_key.in_flight()), (0, 0));
    drop(response);
    assert_eq!(layer.handle().snapshot().consumed_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_in_the_shadow_counts_whom_it_would_refuse_and_refuses_nobody() {
    let layer = ten_each(BackpressureLayer::drop_newest(1)).shadow();
    let (running, is_in) = stays(&layer, "/a");
    assert!(is_in);
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    let snapshot = layer.handle().snapshot();
    assert_eq!(snapshot.dropped_count, 1);
    drop(running);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_limit_adapts_moves_alone() {
    let layer = BackpressureLayer::drop_newest(100).per_key(key, |_: &String| {
        BackpressureLayer::adaptive(Aimd::default().initial(20).min(2))
    });
    assert_eq!(status(&layer, "/a").await, StatusCode::OK);
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    let handle = layer.handle();
    handle.key(&"/a".to_owned()).unwrap().set_limit(5);
    let limits = ["/a", "/b"].map(|path| handle.key(&path.to_owned()).unwrap().limit());
    assert_eq!(limits, [5, 20]);
    assert_eq!(handle.limit(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_teaches_the_ceiling_nothing_and_keeps_no_slot() {
    let ceiling = || ten_each(BackpressureLayer::adaptive(Everything));
    let in_the_call = service_fn(|_: Request<()>| -> Ready<Answered> { panic!("in the call") });
    let in_the_answer = service_fn(async |_: Request<()>| -> Answered {
        sleep(Duration::from_millis(5)).await;
        panic!("in the answer")
    });
    let layer = ceiling();
    let mut service = layer.layer(in_the_call);
    let request = Request::builder().uri("/a").body(()).unwrap();
    catch_unwind(AssertUnwindSafe(|| service.call(request))).unwrap_err();
    assert_eq!(
        (layer.handle().in_flight(), layer.handle().limit()),
        (0, 64)
    );
    let layer = ceiling();
    let request = Request::builder().uri("/a").body(()).unwrap();
    let answer = layer.layer(in_the_answer).oneshot(request);
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_err();
    assert_eq!(
        (layer.handle().in_flight(), layer.handle().limit()),
        (0, 64)
    );
}

type Answered = Result<Response<Full<Bytes>>, Infallible>;

/// Falls with whatever it is told.
#[derive(Debug)]
struct Everything;

impl Limit for Everything {
    fn limit(&self) -> usize {
        64
    }

    fn update(&mut self, _: &Sample) -> usize {
        1
    }
}

/// Notes how many were in flight when the requests were let in that it hears of.
#[derive(Clone, Debug, Default)]
struct Noting(Arc<Mutex<Vec<usize>>>);

impl Noting {
    fn heard(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

impl Limit for Noting {
    fn limit(&self) -> usize {
        10
    }

    fn update(&mut self, sample: &Sample) -> usize {
        self.0.lock().unwrap().push(sample.in_flight);
        10
    }
}

/// Whoever waits for the end of a drain may be woken from within the last call.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_at_the_end_of_a_drain_keeps_no_slot() {
    struct Breaks;
    impl Wake for Breaks {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let layer = ten_each(BackpressureLayer::drop_newest(10));
    let handle = layer.handle();
    let (held, _) = stays(&layer, "/a");
    let of_key = handle.key(&"/a".to_owned()).unwrap();
    let mut drained = pin!(handle.drain());
    let waker = Waker::from(Arc::new(Breaks));
    let polled = drained.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(held);
    assert_eq!((handle.in_flight(), of_key.in_flight()), (0, 0));
    drained.await;
}

#[tokio::test(start_paused = true)]
async fn a_key_and_the_ceiling_that_both_adapt_each_hear_of_a_request_once_and_of_their_own_number()
{
    let (all, each) = (Noting::default(), Noting::default());
    let limit = each.clone();
    let layer = BackpressureLayer::adaptive(all.clone()).per_key(key, move |_: &String| {
        BackpressureLayer::adaptive(limit.clone())
    });
    let held: Vec<_> = ["/a", "/a", "/b"].map(|path| stays(&layer, path)).into();
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    assert_eq!((all.heard(), each.heard()), (vec![4], vec![2]));
    drop(held);
    assert_eq!(all.heard(), [4, 1, 2, 3]);
    assert_eq!(each.heard(), [2, 1, 2, 1]);
}
