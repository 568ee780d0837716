//! Requests that wait for their turn.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    stream::{self, FuturesUnordered},
};
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer, Reason, Rejected,
    rate::{Requests, TokenBucket},
};

use crate::support::{MILLI, SECOND, ask, echo, timed};

/// When `n` requests that all come now are let in.
async fn arrivals(layer: BackpressureLayer, n: usize) -> Vec<Duration> {
    let service = echo(layer);
    let begin = Instant::now();
    let calls: FuturesUnordered<_> = (0..n)
        .map(|_| ask(&service).map(|answer| answer.map(|_| begin.elapsed())))
        .collect();
    calls.map(Result::unwrap).collect().await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_at_once_are_let_in_evenly() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(100).burst(1)).wait();
    let arrivals = arrivals(layer, 1000).await;
    let mut errors: Vec<_> = arrivals
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs_diff(10 * MILLI))
        .collect();
    errors.sort();
    let p99 = errors[errors.len() * 99 / 100];
    assert!(p99 < 2 * MILLI, "{p99:?}");
    let all = *arrivals.last().unwrap();
    assert!(all.abs_diff(9990 * MILLI) <= 2 * MILLI, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pace_that_no_timer_can_ring_is_kept_all_the_same() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(20_000).burst(1)).wait();
    let arrivals = arrivals(layer.max_waiting(50_000), 40_000).await;
    let all = *arrivals.last().unwrap();
    assert!(all.abs_diff(2 * SECOND) <= 20 * MILLI, "{all:?}");
    let at_once = arrivals.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(at_once.unwrap() <= 20_000 * 5 / 1000 + 1, "{at_once:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stood_still_does_not_storm_afterwards() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1000).burst(1)).wait();
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let mut calls: Vec<_> = (0..1000).map(|_| Box::pin(ask(&service))).collect();
    for call in &mut calls {
        assert!(call.as_mut().now_or_never().is_none());
    }
    // The process stands still for half a second: nothing is polled meanwhile, no timer rings.
    tokio::time::advance(SECOND / 2).await;
    let before = handle.snapshot().consumed_count;
    let through = calls
        .iter_mut()
        .filter_map(|call| call.as_mut().now_or_never())
        .count();
    assert_eq!(before, 1);
    assert!((1..=6).contains(&through), "{through}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_gives_its_place_to_those_behind() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1)).wait();
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let mut leaver = Box::pin(ask(&service));
    assert!(leaver.as_mut().now_or_never().is_none());
    let mut next = Box::pin(timed(ask(&service)));
    assert!(next.as_mut().now_or_never().is_none());
    tokio::time::sleep(SECOND / 2).await;
    drop(leaver);
    let (answer, took) = next.await;
    assert!(answer.is_ok());
    assert_eq!(took, SECOND, "not two");
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_with_its_turn_gives_back_what_it_had_spent() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1)).wait();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let mut leaver = Box::pin(ask(&service));
    assert!(leaver.as_mut().now_or_never().is_none());
    // Its turn comes, and it is not there to take it.
    tokio::time::sleep(SECOND).await;
    drop(leaver);
    assert_eq!(timed(ask(&service)).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_number_and_in_time() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1))
        .max_waiting(3)
        .max_wait(1500 * MILLI);
    let service = echo(layer);
    let calls: Vec<_> = stream::iter((0..5).map(|_| timed(ask(&service))))
        .buffered(5)
        .collect()
        .await;
    let told: Vec<_> = calls
        .into_iter()
        .map(|(answer, took)| (answer.map_err(|rejected| rejected.reason()), took))
        .collect();
    assert_eq!(
        told,
        [
            (Ok(1), Duration::ZERO),
            (Ok(1), SECOND),
            (Err(Reason::MaxWait), 1500 * MILLI),
            (Err(Reason::MaxWait), 1500 * MILLI),
            (Err(Reason::QueueFull), Duration::ZERO),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_behind_a_queue_counts_those_that_wait() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(10).burst(1)).max_waiting(5);
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let mut calls: Vec<_> = (0..5).map(|_| Box::pin(ask(&service))).collect();
    for call in &mut calls {
        assert!(call.as_mut().now_or_never().is_none());
    }
    let rejected = ask(&service).await.unwrap_err();
    assert!(rejected.is_by_rate());
    assert_eq!(rejected.reason(), Reason::QueueFull);
    assert_eq!(rejected.retry_after(), 600 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_raised_rate_is_noticed_by_those_who_wait() {
    let layer = BackpressureLayer::rate(TokenBucket::per_minute(1)).wait();
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let mut waits = Box::pin(timed(ask(&service)));
    assert!(waits.as_mut().now_or_never().is_none());
    handle.set_rate(1.0);
    let (answer, took) = waits.await;
    assert!(answer.is_ok());
    assert_eq!(took, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_those_who_wait_for_a_rate() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(1)).wait();
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let waits = ask(&service);
    let (answer, ()) = tokio::join!(waits, async {
        tokio::task::yield_now().await;
        handle.drain().await;
    });
    let rejected = answer.unwrap_err();
    assert_eq!(rejected.reason(), Reason::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_behind_a_queue_counts_what_those_that_wait_ask_for() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(10).burst(100))
        .and_rate(Requests::new(TokenBucket::per_second(1000)))
        .cost(|_| 100)
        .max_waiting(5);
    let ok = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let service = layer.layer(ok);
    let mut calls: Vec<_> = (0..6)
        .map(|_| Box::pin(service.clone().oneshot(Request::new(()))))
        .collect();
    for (nth, call) in calls.iter_mut().enumerate() {
        assert_eq!(call.as_mut().now_or_never().is_some(), nth == 0);
    }
    let refused = service.oneshot(Request::new(())).await.unwrap();
    let rejected = refused.extensions().get::<Rejected>().unwrap();
    assert_eq!(rejected.reason(), Reason::QueueFull);
    assert_eq!(rejected.retry_after(), 60 * SECOND);
    assert_eq!(rejected.limit(), 100);
}
