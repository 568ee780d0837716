//! A gate for each key, under one ceiling.
#![cfg(feature = "http")]

mod ceiling;
#[cfg(feature = "metrics")]
mod metrics;
mod settled;

use std::{
    convert::Infallible,
    future::{Future, pending},
    hash::{Hash, Hasher},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::Full;
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Handle, RateHeaders,
    limit::{Limit, Sample},
    protocol::ResponseBody,
    rate::{Rate, TokenBucket},
};

type Body = ResponseBody<Full<Bytes>>;
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

fn key(head: &Parts) -> String {
    head.uri.path().to_owned()
}

fn by_rate(ceiling: BackpressureLayer, burst: u64) -> BackpressureLayer {
    ceiling.per_key(key, move |_: &String| {
        BackpressureLayer::rate(TokenBucket::per_second(1).burst(burst))
    })
}

/// Asks a service that answers at once.
async fn status(layer: &BackpressureLayer, path: &str) -> StatusCode {
    let service = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
    });
    let request = Request::builder().uri(path).body(()).unwrap();
    layer
        .layer(service)
        .oneshot(request)
        .await
        .unwrap()
        .status()
}

/// A request to a service that never answers, once it has been polled.
fn stays(layer: &BackpressureLayer, path: &str) -> (Answer, bool) {
    let service =
        service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let request = Request::builder().uri(path).body(()).unwrap();
    let mut answer: Answer = Box::pin(layer.layer(service).call(request));
    let answered = answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    (answer, answered.is_pending())
}

fn of(handle: &Handle, key: &str) -> Option<Handle> {
    handle.key(&key.to_owned())
}

#[tokio::test(start_paused = true)]
async fn one_key_disturbs_no_other() {
    let layer = by_rate(BackpressureLayer::drop_newest(10), 1);
    assert_eq!(status(&layer, "/a").await, StatusCode::OK);
    assert_eq!(status(&layer, "/a").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    advance(Duration::from_secs(1)).await;
    assert_eq!(status(&layer, "/a").await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_the_ceiling_refuses_spends_nothing_of_the_key() {
    let layer = by_rate(BackpressureLayer::drop_newest(1), 1);
    let handle = layer.handle();
    let (held, runs) = stays(&layer, "/a");
    assert!(runs);
    assert_eq!(status(&layer, "/b").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(of(&handle, "/b").unwrap().in_flight(), 0);
    drop(held);
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(handle.snapshot().dropped_count, 1);
    assert_eq!(handle.snapshot().produced_count, 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_key_refuses_spends_nothing_of_the_ceiling() {
    let ceiling = BackpressureLayer::rate(TokenBucket::per_hour(1).burst(2));
    let layer = by_rate(ceiling, 1);
    assert_eq!(status(&layer, "/a").await, StatusCode::OK);
    assert_eq!(status(&layer, "/a").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    assert_eq!(status(&layer, "/c").await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn requests_wait_at_their_own_key_and_the_handle_shows_the_sum() {
    let layer = BackpressureLayer::drop_newest(10)
        .per_key(key, |_: &String| BackpressureLayer::block(1).max_waiting(1));
    let handle = layer.handle();
    let held: Vec<_> = ["/a", "/b"].map(|path| stays(&layer, path).0).into();
    let waiting: Vec<_> = ["/a", "/b"].map(|path| stays(&layer, path)).into();
    assert!(waiting.iter().all(|(_, pending)| *pending));
    assert!(!stays(&layer, "/a").1, "its queue is full");
    assert_eq!((handle.in_flight(), handle.waiting()), (2, 2));
    let one = of(&handle, "/a").unwrap();
    assert_eq!((one.in_flight(), one.waiting()), (1, 1));
    assert_eq!(handle.snapshot().peak_depth, 2);
    assert!(of(&handle, "/c").is_none());
    drop((held, waiting));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_owes_or_runs_is_not_forgotten() {
    let layer = by_rate(BackpressureLayer::drop_newest(100), 1).max_keys(2);
    let handle = layer.handle();
    assert_eq!(status(&layer, "/owes").await, StatusCode::OK);
    let (held, _) = stays(&layer, "/runs");
    for nth in 0..100 {
        status(&layer, &format!("/{nth}")).await;
    }
    assert!(of(&handle, "/owes").is_some() && of(&handle, "/runs").is_some());
    assert_eq!(status(&layer, "/owes").await, StatusCode::TOO_MANY_REQUESTS);
    advance(Duration::from_secs(2)).await;
    status(&layer, "/new").await;
    assert!(of(&handle, "/new").is_some() && of(&handle, "/owes").is_none());
    assert!(of(&handle, "/runs").is_some());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn newcomers_without_a_place_share_a_gate() {
    let layer = by_rate(BackpressureLayer::drop_newest(100), 1).max_keys(1);
    assert_eq!(status(&layer, "/a").await, StatusCode::OK);
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    assert_eq!(status(&layer, "/c").await, StatusCode::TOO_MANY_REQUESTS);
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        status(&layer, "/c").await,
        StatusCode::OK,
        "it has a place now"
    );
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_take_the_memory_of_as_many_as_are_held() {
    let layer = BackpressureLayer::drop_newest(100).max_keys(1000).per_key(
        |head| head.headers.get("n").map(|n| n.as_bytes().to_vec()),
        |_| BackpressureLayer::rate(TokenBucket::per_second(1_000_000).burst(1)),
    );
    let handle = layer.handle();
    let service = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let service = layer.layer(service);
    let ask = async |n: u32| {
        let request = Request::builder().header("n", n).body(()).unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    };
    let mut held = 0;
    let info = allocation_counter::measure(|| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut all = pin!(async {
            for n in 0..1_000_000 {
                ask(n).await;
                // The rate of the last one is full again.
                advance(Duration::from_micros(1)).await;
            }
        });
        while all.as_mut().poll(cx) == Poll::Pending {}
        held = (0..1_000_000_u32)
            .filter(|n| handle.key(&Some(n.to_string().into_bytes())).is_some())
            .count();
    });
    assert!(held <= 1000, "{held} keys are held");
    assert!(held > 900, "{held} keys are held");
    assert!(info.bytes_max < 1_500_000, "{} bytes", info.bytes_max);
    assert_eq!(handle.snapshot().consumed_count, 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_drain_drains_every_key() {
    let layer =
        BackpressureLayer::drop_newest(10).per_key(key, |_: &String| BackpressureLayer::block(1));
    let handle = layer.handle();
    let (held, _) = stays(&layer, "/a");
    let (mut waits, pending) = stays(&layer, "/a");
    assert!(pending);
    let mut drain = pin!(handle.drain());
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(cx).is_pending());
    assert!(waits.as_mut().poll(cx).is_ready());
    assert_eq!(
        status(&layer, "/new").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    drop(held);
    drain.await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_during_a_drain_has_nobody_wait() {
    let empty = Arc::new(TokenBucket::per_hour(1).burst(1));
    empty.spend(Duration::ZERO, 1).unwrap();
    let layer = BackpressureLayer::drop_newest(10).per_key(key, move |_: &String| {
        BackpressureLayer::rate(Arc::clone(&empty)).wait()
    });
    let (_waits, pending) = stays(&layer, "/before");
    assert!(pending, "it waits for a token");
    layer.handle().drain().await;
    let (_refused, pending) = stays(&layer, "/after");
    assert!(!pending);
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_breaks_nothing() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let layer = BackpressureLayer::drop_newest(1).per_key(key, move |_: &String| {
        assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "the first time");
        BackpressureLayer::drop_newest(1)
    });
    assert!(catch_unwind(AssertUnwindSafe(|| stays(&layer, "/a").1)).is_err());
    assert_eq!(status(&layer, "/a").await, StatusCode::OK);
    assert_eq!(layer.handle().in_flight(), 0);
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[test]
#[should_panic(expected = "is a ceiling, which has nobody wait")]
fn a_ceiling_that_waits_is_refused() {
    let layer = by_rate(BackpressureLayer::block(1), 1);
    let _ = stays(&layer, "/a");
}

#[test]
fn hammered_by_threads_nothing_is_lost_and_no_limit_exceeded() {
    let layer = BackpressureLayer::drop_newest(2)
        .max_keys(3)
        .per_key(key, |_: &String| BackpressureLayer::drop_newest(1));
    let handle = layer.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let sum: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let layer = &layer;
                scope.spawn(move || {
                    (0..5000)
                        .filter(|n| stays(layer, &format!("/{}", (n * 7 + thread) % 9)).1)
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let snapshot = handle.snapshot();
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    assert_eq!(snapshot.consumed_count, sum as u64);
    assert_eq!(snapshot.consumed_count + snapshot.dropped_count, 20_000);
    assert_eq!(snapshot.produced_count, 20_000);
}

/// One that is neither cheap nor possible to copy, and that looks at its layer when it goes.
#[derive(Debug)]
struct Curious {
    path: String,
    layer: Option<Handle>,
}

impl PartialEq for Curious {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Curious {}

impl Hash for Curious {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        let path = mem::take(&mut self.path);
        if let Some(handle) = self.layer.take() {
            let _ = handle.key(&Curious { path, layer: None });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_dropped_where_no_lock_is_held() {
    let own = Arc::new(OnceLock::<Handle>::new());
    let layer = {
        let own = Arc::clone(&own);
        let key = move |head: &Parts| Curious {
            path: head.uri.path().to_owned(),
            layer: own.get().cloned(),
        };
        BackpressureLayer::drop_newest(10)
            .max_keys(1)
            .per_key(key, |_| BackpressureLayer::drop_newest(1))
    };
    own.set(layer.handle()).unwrap();
    // New, held already, and in place of another.
    for path in ["/a", "/a", "/b"] {
        assert_eq!(status(&layer, path).await, StatusCode::OK);
    }
    // Without a place, while the only one is in use.
    let (running, is_in) = stays(&layer, "/b");
    assert!(is_in);
    assert_eq!(status(&layer, "/c").await, StatusCode::OK);
    drop(running);
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_with_answers_and_refusals_is_said_of_keys_too() {
    let layer = by_rate(BackpressureLayer::drop_newest(10), 1)
        .rate_headers(RateHeaders::RateLimit)
        .respond(|_, _| {
            let mut response = Response::new(Bytes::from_static(b"later"));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
        });
    let service = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
    });
    for expected in [StatusCode::OK, StatusCode::IM_A_TEAPOT] {
        let response = layer
            .layer(service)
            .oneshot(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.status(), expected);
        assert!(response.headers().contains_key("ratelimit"), "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_panics_when_it_is_forgotten_is_forgotten() {
    #[derive(Debug)]
    struct Breaks;
    impl Limit for Breaks {
        fn limit(&self) -> usize {
            10
        }
        fn update(&mut self, _: &Sample) -> usize {
            10
        }
    }
    impl Drop for Breaks {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("a limit that panics when it is dropped");
            }
        }
    }
    let layer = BackpressureLayer::drop_newest(10)
        .per_key(key, |key: &String| match key.as_str() {
            "/a" => BackpressureLayer::adaptive(Breaks),
            _ => BackpressureLayer::drop_newest(1),
        })
        .max_keys(1);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(status(&layer, path).await, StatusCode::OK, "{path}");
    }
    let handle = layer.handle();
    assert!(of(&handle, "/a").is_none() && of(&handle, "/c").is_some());
    assert_eq!(handle.in_flight(), 0);
}

/// The task that looks after a queue may have to wait for a while yet.
#[tokio::test(start_paused = true)]
async fn a_key_at_whose_gate_somebody_has_waited_is_forgotten_like_others() {
    let layer = BackpressureLayer::drop_newest(10)
        .per_key(key, |_: &String| {
            BackpressureLayer::block(1).max_wait(Duration::from_secs(60))
        })
        .max_keys(1);
    let (first, _) = stays(&layer, "/a");
    let (second, pending) = stays(&layer, "/a");
    assert!(pending && layer.handle().waiting() == 1);
    drop((first, second));
    assert_eq!(status(&layer, "/b").await, StatusCode::OK);
    assert!(layer.handle().key(&"/b".to_owned()).is_some());
}
