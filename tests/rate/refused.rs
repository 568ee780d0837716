//! What a caller over the rate is told.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower_backpressure::{
    BackpressureLayer, Demand, RateHeaders, Reason, Rejected,
    rate::{Quota, Rate, Short, SlidingWindow, TokenBucket},
};

use crate::support::{MILLI, SECOND, ask, echo, get};

fn request(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn over_the_rate_the_answer_is_a_429_with_the_exact_wait_rounded_up() {
    let layer = BackpressureLayer::rate(TokenBucket::per_minute(40).burst(2));
    for _ in 0..2 {
        assert_eq!(get(&layer, request(&[])).await.status(), StatusCode::OK);
    }
    tokio::time::advance(300 * MILLI).await;
    let refused = get(&layer, request(&[])).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_eq!(refused.headers()["retry-after-ms"], "1200");
    assert!(!refused.headers().contains_key("x-should-retry"));
    let rejected = *refused.extensions().get::<Rejected>().unwrap();
    assert_eq!((rejected.reason(), rejected.limit()), (Reason::Rate, 2));
    assert!(rejected.is_by_rate() && !rejected.is_final());
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        body,
        r#"{"error":"rate_limited","reason":"rate","message":"rejected: over the rate; retry after 1.200 s","retry_after_ms":1200}"#
    );
    tokio::time::advance(1199 * MILLI).await;
    let early = get(&layer, request(&[])).await;
    assert_eq!(early.headers()["retry-after-ms"], "1");
    tokio::time::advance(MILLI).await;
    assert_eq!(get(&layer, request(&[])).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn grpc_over_the_rate_is_resource_exhausted() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(2).burst(1));
    let grpc = || request(&[("content-type", "application/grpc+proto")]);
    get(&layer, grpc()).await;
    let refused = get(&layer, grpc()).await;
    assert_eq!(refused.status(), StatusCode::OK);
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "500");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_more_than_the_burst_is_refused_for_good() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(10).burst(100)).cost(|_| 101);
    let refused = get(&layer, request(&[])).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["x-should-retry"], "false");
    assert!(!refused.headers().contains_key("retry-after"));
    assert!(!refused.headers().contains_key("retry-after-ms"));
    let rejected = *refused.extensions().get::<Rejected>().unwrap();
    assert_eq!(rejected.reason(), Reason::OverBurst);
    assert_eq!(
        rejected.to_string(),
        "rejected: it costs more than the 100 that can be spent at once; it will never be let in"
    );
    let grpc = get(&layer, request(&[("content-type", "application/grpc")])).await;
    assert_eq!(grpc.headers()["grpc-status"], "8");
    assert_eq!(grpc.headers()["grpc-retry-pushback-ms"], "-1");
    // Nor is anybody made to wait for what cannot come.
    let waiting = BackpressureLayer::rate(TokenBucket::per_second(10))
        .wait()
        .cost(|_| 11);
    let refused = get(&waiting, request(&[])).await;
    assert_eq!(refused.headers()["x-should-retry"], "false");
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_more_than_a_minute_is_told_as_it_is_and_not_to_be_retried_before() {
    let window = SlidingWindow::new(1, 3600 * SECOND);
    let layer = BackpressureLayer::rate(window);
    get(&layer, request(&[])).await;
    let refused = get(&layer, request(&[])).await;
    assert_eq!(refused.headers()["retry-after"], "3600");
    assert_eq!(refused.headers()["x-should-retry"], "false");
}

#[tokio::test(start_paused = true)]
async fn clones_of_the_layer_share_one_rate() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(3));
    let (a, b) = (echo(layer.clone()), echo(layer.clone()));
    assert!(ask(&a).await.is_ok());
    assert!(ask(&b).await.is_ok());
    assert!(ask(&a).await.is_ok());
    assert_eq!(ask(&b).await.unwrap_err().reason(), Reason::Rate);
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.consumed_count, snapshot.dropped_count), (3, 1));
    assert_eq!(snapshot.current_rate_limit, 3.0);
}

#[tokio::test(start_paused = true)]
async fn the_handle_shows_and_moves_the_rate() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(2).burst(1));
    let handle = layer.handle();
    let service = echo(layer);
    assert_eq!(handle.rate(), Some(2.0));
    assert!(!handle.is_overloaded());
    assert!(ask(&service).await.is_ok());
    assert!(handle.is_overloaded());
    handle.set_rate(20.0);
    let rejected = ask(&service).await.unwrap_err();
    assert_eq!(rejected.retry_after(), 50 * MILLI);
    let error = handle.try_set_rate(f64::NAN).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rate is NaN, but must be a number from 0 up"
    );
    assert_eq!(BackpressureLayer::drop_newest(1).handle().rate(), None);
}

#[tokio::test(start_paused = true)]
async fn in_the_shadow_who_is_over_the_rate_is_counted_and_let_in() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1)).shadow();
    let handle = layer.handle();
    let service = echo(layer);
    for _ in 0..5 {
        assert!(ask(&service).await.is_ok());
    }
    assert_eq!(handle.snapshot().dropped_count, 4);
    tokio::time::advance(SECOND).await;
    assert!(ask(&service).await.is_ok());
    assert_eq!(handle.snapshot().dropped_count, 4, "they spent nothing");
}

#[tokio::test(start_paused = true)]
async fn exempt_requests_spend_nothing() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1))
        .exempt(|head| head.headers.contains_key("probe"));
    for _ in 0..5 {
        let probe = get(&layer, request(&[("probe", "1")])).await;
        assert_eq!(probe.status(), StatusCode::OK);
    }
    assert_eq!(get(&layer, request(&[])).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_an_outer_layer_found_out_comes_before_what_the_head_tells() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(10)).cost(|_| 100);
    let mut small = request(&[]);
    small.extensions_mut().insert(Demand::of(10));
    assert_eq!(get(&layer, small).await.status(), StatusCode::OK);
    let mut smallest = request(&[]);
    smallest.extensions_mut().insert(Demand::of(1));
    let refused = get(&layer, smallest).await;
    assert_eq!(refused.headers()["retry-after-ms"], "100");
}

#[tokio::test]
#[should_panic(expected = "burst is 0, but must be at least 1")]
async fn a_burst_of_nothing_is_refused_when_it_is_built() {
    let _ = BackpressureLayer::rate(TokenBucket::per_second(1).burst(0));
}

/// Fails when it is asked.
#[derive(Debug)]
struct Broken;

impl Rate for Broken {
    fn check(&self, _: Duration, _: u64) -> Result<(), Short> {
        panic!("broken")
    }
    fn spend(&self, _: Duration, _: u64) -> Result<(), Short> {
        panic!("broken")
    }
    fn owe(&self, _: Duration, _: u64) {}
    fn refund(&self, _: Duration, _: Duration, _: u64) {}
    fn quota(&self, _: Duration) -> Quota {
        Quota {
            limit: 1,
            remaining: 1,
            reset_after: Duration::ZERO,
            window: SECOND,
        }
    }
    fn per_second(&self) -> f64 {
        1.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_panics_is_not_asked_again_and_lets_everybody_in() {
    let layer = BackpressureLayer::rate(Broken);
    let handle = layer.handle();
    let service = echo(layer);
    for _ in 0..3 {
        assert!(ask(&service).await.is_ok());
    }
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_how_much_is_left_if_that_is_wanted() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(2).burst(3))
        .and_rate(SlidingWindow::new(100, 60 * SECOND))
        .rate_headers(RateHeaders::RateLimit)
        .rate_headers(RateHeaders::XRateLimit)
        .exempt(|head| head.headers.contains_key("probe"));
    let told = |response: &Response<_>| {
        [
            "ratelimit-policy",
            "ratelimit",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ]
        .map(|name| match response.headers().get(name) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::new(),
        })
    };
    let first = get(&layer, request(&[])).await;
    assert_eq!(
        told(&first.map(drop)),
        [
            r#""default";q=3;w=2, "default-2";q=100;w=60"#,
            r#""default";r=2;t=1, "default-2";r=99;t=60"#,
            "3",
            "2",
            "1"
        ]
    );
    get(&layer, request(&[])).await;
    get(&layer, request(&[])).await;
    let refused = get(&layer, request(&[])).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        told(&refused.map(drop))[1..4],
        [r#""default";r=0;t=2, "default-2";r=97;t=60"#, "3", "0"]
    );
    let probe = get(&layer, request(&[("probe", "1")])).await;
    assert_eq!(told(&probe.map(drop)), [""; 5]);
    let quiet = BackpressureLayer::rate(TokenBucket::per_second(2));
    assert_eq!(told(&get(&quiet, request(&[])).await.map(drop)), [""; 5]);
}
