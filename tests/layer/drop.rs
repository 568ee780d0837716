use std::time::Duration;

use tower::{Layer, Service, ServiceExt};
use tower_backpressure::{BackpressureLayer, Error, Reason};

use crate::support::{Work, settle};

#[tokio::test]
async fn drop_newest_refuses_the_arrival_and_nobody_waits() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_newest(5).plain();
    let service = layer.layer(work.clone());
    let calls: Vec<_> = (0..30)
        .map(|_| tokio::spawn(service.clone().oneshot(7)))
        .collect();
    settle().await;
    let handle = layer.handle();
    assert_eq!((handle.in_flight(), handle.waiting()), (5, 0));
    assert!(handle.is_overloaded());
    work.finish(5);
    let mut refused = 0;
    for call in calls {
        if let Err(Error::Rejected(rejected)) = call.await.unwrap() {
            assert_eq!(rejected.reason(), Reason::Limit);
            assert_eq!(rejected.limit(), 5);
            assert_eq!(rejected.waited(), Duration::ZERO);
            assert!(rejected.retry_after() > Duration::ZERO);
            refused += 1;
        }
    }
    assert_eq!((refused, work.peak(), work.calls()), (25, 5, 5));
    let metrics = handle.snapshot();
    assert_eq!(metrics.produced_count, 30);
    assert_eq!(metrics.dropped_count, 25);
    assert_eq!(metrics.consumed_count, 5);
    assert_eq!(metrics.backpressure_events, 1);
    assert_eq!(metrics.current_rate_limit, 5.0);
    assert!(!handle.is_overloaded());
}

#[tokio::test]
async fn drop_oldest_answers_the_evicted_at_once_and_serves_the_newest() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_oldest(1, 2).plain();
    let mut service = layer.layer(work.clone());
    let mut calls = Vec::new();
    for n in 0..6 {
        let call = service.ready().await.unwrap().call(n);
        calls.push(tokio::spawn(call));
        settle().await;
    }
    // 0 runs, 4 and 5 wait; 1 to 3 were pushed out, each before anything was finished.
    for call in calls.drain(1..4) {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::Evicted);
    }
    work.finish(3);
    let served: Vec<_> = futures_util::future::join_all(calls).await;
    let served: Vec<_> = served.into_iter().map(|r| r.unwrap().unwrap()).collect();
    assert_eq!(served, [0, 4, 5]);
    assert_eq!(layer.handle().snapshot().peak_depth, 2);
}

#[tokio::test]
async fn a_waiting_call_that_is_dropped_leaves_its_place_to_the_next() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_oldest(1, 2).plain();
    let mut service = layer.layer(work.clone());
    let running = tokio::spawn(service.ready().await.unwrap().call(7));
    settle().await;
    let first = service.ready().await.unwrap().call(7);
    let second = tokio::spawn(service.ready().await.unwrap().call(7));
    settle().await;
    work.finish(1);
    running.await.unwrap().unwrap();
    // The slot was granted to the first, whose future was never polled.
    assert_eq!(layer.handle().in_flight(), 1);
    drop(first);
    work.finish(1);
    second.await.unwrap().unwrap();
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test]
async fn a_lowered_limit_holds_once_permits_return_and_raising_it_loses_nothing() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_oldest(50, 200).plain();
    let service = layer.layer(work.clone());
    let handle = layer.handle();
    let calls: Vec<_> = (0..150)
        .map(|_| tokio::spawn(service.clone().oneshot(7)))
        .collect();
    settle().await;
    assert_eq!((work.inside(), handle.waiting()), (50, 100));

    handle.set_limit(5);
    work.finish(45);
    settle().await;
    assert_eq!(
        work.inside(),
        5,
        "the debt was paid before anybody was let in"
    );
    work.reset_peak();
    for _ in 0..40 {
        work.finish(1);
        settle().await;
        assert!(work.inside() <= 5);
    }
    assert_eq!((work.peak(), handle.waiting()), (5, 60));

    handle.set_limit(50);
    settle().await;
    assert_eq!((work.inside(), handle.waiting()), (50, 15));
    work.finish(200);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_holds_while_it_moves_under_load_from_many_threads() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_oldest(50, 1000).plain();
    let service = layer.layer(work.clone());
    let handle = layer.handle();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    service.clone().oneshot(7).await.unwrap();
                }
            })
        })
        .collect();
    let mut finished = 0;
    for limit in [50, 5, 23, 1, 40, 2, 9] {
        handle.set_limit(limit);
        // Until the debt is paid and as many run as may.
        while (handle.in_flight(), work.inside()) != (limit, limit) {
            if work.inside() > limit && work.waiting_to_finish() == 0 {
                work.finish(1);
                finished += 1;
            }
            tokio::task::yield_now().await;
        }
        work.reset_peak();
        for _ in 0..300 {
            work.finish(1);
            finished += 1;
            tokio::task::yield_now().await;
        }
        assert!(work.peak() <= limit, "{} above {limit}", work.peak());
        while work.waiting_to_finish() > 0 {
            tokio::task::yield_now().await;
        }
    }
    work.finish(5000 - finished);
    for call in calls {
        call.await.unwrap();
    }
    let metrics = handle.snapshot();
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    assert_eq!((metrics.consumed_count, metrics.dropped_count), (5000, 0));
}

#[tokio::test]
async fn drop_newest_with_max_waiting_lets_that_many_wait() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_newest(1).max_waiting(1).plain();
    let mut service = layer.layer(work.clone());
    let one = tokio::spawn(service.ready().await.unwrap().call(1));
    let two = tokio::spawn(service.ready().await.unwrap().call(2));
    settle().await;
    let three = service.ready().await.unwrap().call(3).await;
    assert_eq!(
        three.unwrap_err().rejected().unwrap().reason(),
        Reason::QueueFull
    );
    work.finish(2);
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
}

#[test]
fn drop_oldest_without_room_to_wait_is_refused_when_it_is_built() {
    let error = BackpressureLayer::try_drop_oldest(1, 0).unwrap_err();
    assert_eq!(error.to_string(), "waiting is 0, but must be at least 1");
}
