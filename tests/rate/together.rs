//! Several limits are one decision: refused by one, a request takes nothing of the others.

use std::{convert::Infallible, future::pending, sync::Arc};

use futures_util::FutureExt;
use tokio::time::{advance, timeout};
use tower::{Layer, Service, service_fn};
use tower_backpressure::{
    BackpressureLayer, Reason,
    rate::{Rate, Requests, SlidingWindow, TokenBucket},
};

use crate::support::{MILLI, SECOND, ask, echo, timed};

#[tokio::test(start_paused = true)]
async fn who_finds_no_slot_spends_nothing() {
    let rate = Arc::new(TokenBucket::per_second(10));
    let layer = BackpressureLayer::drop_newest(1).and_rate(Arc::clone(&rate));
    let mut hang = layer
        .plain()
        .layer(service_fn(|_: u32| pending::<Result<u32, Infallible>>()));
    let running = hang.call(1);
    let left = || rate.quota(std::time::Duration::ZERO).remaining;
    assert_eq!(left(), 9);
    for _ in 0..5 {
        let refused = hang.call(1).now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.rejected().unwrap().reason(), Reason::Limit);
        assert!(!refused.rejected().unwrap().is_by_rate());
    }
    assert_eq!(left(), 9);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn who_is_over_one_rate_takes_no_slot_and_nothing_of_the_other() {
    let large = Arc::new(TokenBucket::per_second(100));
    let layer = BackpressureLayer::drop_newest(10)
        .and_rate(Arc::clone(&large))
        .and_rate(SlidingWindow::new(2, SECOND));
    let handle = layer.handle();
    let service = echo(layer);
    for _ in 0..2 {
        assert!(ask(&service).await.is_ok());
    }
    for _ in 0..5 {
        let rejected = ask(&service).await.unwrap_err();
        assert_eq!(rejected.reason(), Reason::Rate);
        assert_eq!(rejected.retry_after(), SECOND);
    }
    assert_eq!(large.quota(std::time::Duration::ZERO).remaining, 98);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_told() {
    let layer = BackpressureLayer::rate(TokenBucket::per_second(10).burst(1))
        .and_rate(TokenBucket::per_second(2).burst(1))
        .and_rate(TokenBucket::per_second(5).burst(1));
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let rejected = ask(&service).await.unwrap_err();
    assert_eq!(rejected.retry_after(), 500 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn requests_and_what_they_cost_are_counted_apart() {
    let requests = Arc::new(TokenBucket::per_second(100));
    let tokens = Arc::new(TokenBucket::per_second(1000));
    let layer = BackpressureLayer::rate(Requests::new(Arc::clone(&requests)))
        .and_rate(Arc::clone(&tokens))
        .plain()
        .cost(|n: &u32| u64::from(*n) * 300);
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    assert!(ask(&service).await.is_ok());
    let now = std::time::Duration::ZERO;
    assert_eq!(requests.quota(now).remaining, 99);
    assert_eq!(tokens.quota(now).remaining, 700);
}

/// Threads that hammer two rates at once: each is spent in full by those let in, and in nothing by the others.
#[test]
fn under_contention_nothing_is_spent_by_halves() {
    let a = Arc::new(TokenBucket::per_hour(1).burst(1000));
    let b = Arc::new(SlidingWindow::new(1500, 3600 * SECOND));
    let layer = BackpressureLayer::rate(Arc::clone(&a)).and_rate(Arc::clone(&b));
    let handle = layer.handle();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let service = echo(layer.clone());
            scope.spawn(move || {
                for _ in 0..1000 {
                    let _ = ask(&service).now_or_never().unwrap();
                }
            });
        }
    });
    let now = std::time::Duration::ZERO;
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.consumed_count, snapshot.dropped_count),
        (1000, 3000)
    );
    assert_eq!(a.quota(now).remaining, 0);
    assert_eq!(b.quota(now).remaining, 500);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slot_is_paced_by_the_rate_as_well() {
    let layer = BackpressureLayer::block(1).and_rate(TokenBucket::per_second(1));
    let handle = layer.handle();
    let service = echo(layer);
    assert!(ask(&service).await.is_ok());
    let begin = tokio::time::Instant::now();
    assert!(ask(&service).await.is_ok());
    assert_eq!(begin.elapsed(), SECOND);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

/// Each gate begins to count its time when it is made.
#[tokio::test(start_paused = true)]
async fn gates_of_different_age_share_a_rate() {
    let budget = Arc::new(TokenBucket::per_second(1).burst(1));
    let older = echo(BackpressureLayer::rate(Arc::clone(&budget)));
    advance(3600 * SECOND).await;
    assert!(ask(&older).await.is_ok());
    let younger = echo(BackpressureLayer::rate(budget));
    let rejected = ask(&younger).await.unwrap_err();
    assert_eq!(rejected.retry_after(), SECOND);
    advance(SECOND).await;
    assert!(ask(&younger).await.is_ok());
    assert!(ask(&older).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_raised_at_one_gate_is_noticed_by_those_who_wait_at_another() {
    let budget = Arc::new(TokenBucket::per_second(1).burst(1));
    let here = BackpressureLayer::rate(Arc::clone(&budget));
    let (handle, here) = (here.handle(), echo(here));
    let there = echo(BackpressureLayer::rate(budget).wait());
    assert!(ask(&here).await.is_ok());
    handle.set_rate(0.0);
    let mut waits = Box::pin(ask(&there));
    assert!(waits.as_mut().now_or_never().is_none());
    advance(10 * SECOND).await;
    handle.set_rate(50.0);
    let (answer, took) = timed(timeout(60 * SECOND, waits)).await;
    let answer = answer.expect("it looks again");
    assert!(answer.is_ok());
    assert!(took <= SECOND, "{took:?}");
}
