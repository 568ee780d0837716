//! What the upstream says of its own rate.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{BackpressureLayer, rate::AdaptiveRate};

use crate::support::{MILLI, get};

/// Refused once by the upstream, with or without a hint: the rate right after it.
async fn refused(layer: &BackpressureLayer, hint: Option<&'static str>) -> f64 {
    let overloaded = service_fn(move |_: Request<()>| {
        let mut response = Response::new(String::from("later"));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let hint = hint.map(|hint| hint.parse().unwrap());
        response
            .headers_mut()
            .extend(hint.map(|hint| (http::header::RETRY_AFTER, hint)));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let refused = layer.layer(overloaded).oneshot(Request::new(())).await;
    drop(refused);
    layer.handle().rate().unwrap()
}

/// Likewise, and then asked for as much as there is for ten seconds: the rate right after the refusal, and in the end.
async fn refused_once(layer: &BackpressureLayer, hint: Option<&'static str>) -> (f64, f64) {
    let cut = refused(layer, hint).await;
    for _ in 0..2000 {
        tokio::time::advance(5 * MILLI).await;
        drop(get(layer, Request::new(())).await);
    }
    (cut, layer.handle().rate().unwrap())
}

fn alone() -> BackpressureLayer {
    BackpressureLayer::rate(AdaptiveRate::default().initial(100.0))
}

fn above_keys() -> BackpressureLayer {
    alone().per_key(|_| "all", |_| BackpressureLayer::drop_newest(10))
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_rate_does_not_grow_before_the_upstream_said_to_come_back() {
    let layers: [(_, fn() -> _); 2] = [("alone", alone), ("above keys", above_keys)];
    for (which, layer) in layers {
        let (cut, then) = refused_once(&layer(), None).await;
        assert!(cut < 100.0 && then > cut, "{which}: {cut}, {then}");
        let (cut, then) = refused_once(&layer(), Some("30")).await;
        assert!(cut < 100.0 && then == cut, "{which}: {cut}, {then}");
    }
}

/// Each gate begins to count its time when it is made.
#[tokio::test(start_paused = true)]
async fn gates_of_different_age_learn_for_one_rate() {
    let rate = Arc::new(AdaptiveRate::default().initial(100.0));
    let older = BackpressureLayer::rate(Arc::clone(&rate));
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(refused(&older, None).await, 50.0);
    let younger = BackpressureLayer::rate(rate);
    tokio::time::advance(Duration::from_secs(10)).await;
    let cut = refused(&younger, None).await;
    assert!((25.0..30.0).contains(&cut), "{cut}");
}

/// What a recorder does is nobody else's trouble, also when the rate moves while a call is dropped.
#[cfg(feature = "metrics")]
#[test]
fn a_recorder_that_panics_at_the_rate_keeps_no_slot() {
    use metrics::{
        Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use tower::Service;

    /// A gauge of rates that is shown, and breaks when the rate falls.
    struct Breaks;

    impl GaugeFn for Breaks {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}
        fn set(&self, value: f64) {
            assert!(value >= 100.0, "the rate is {value}");
        }
    }

    struct Installed;

    impl Recorder for Installed {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            match key.name() {
                "backpressure_rate_per_second" => Gauge::from_arc(Arc::new(Breaks)),
                _ => Gauge::from_arc(Arc::new(metrics::atomics::AtomicU64::new(0))),
            }
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    metrics::with_local_recorder(&Installed, || {
        let layer = alone();
        let overloaded = service_fn(|_: Request<()>| {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut service = layer.layer(overloaded);
        let answer = service.call(Request::new(()));
        let answered = futures_util::FutureExt::now_or_never(answer);
        drop(answered.expect("it is answered at once"));
        let handle = layer.handle();
        assert!(handle.rate().unwrap() < 100.0);
        assert_eq!(handle.in_flight(), 0);
    });
}
