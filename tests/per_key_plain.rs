//! A gate for each key of a layer before any service, with HTTP or without.

use std::{
    convert::Infallible,
    future::{Future, Ready, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{BackpressureLayer, Error, Reason, limit::Aimd, rate::TokenBucket};

#[derive(Clone, Copy, Debug)]
struct Query {
    shard: u16,
    rows: u64,
}

fn of(shard: u16) -> Query {
    Query { shard, rows: 1 }
}

fn shard(query: &Query) -> u16 {
    query.shard
}

fn answers(query: Query) -> Ready<Result<u64, Infallible>> {
    ready(Ok(query.rows))
}

/// One call of a service that answers at once.
macro_rules! ask {
    ($layer:expr, $query:expr) => {
        $layer.layer(service_fn(answers)).oneshot($query).await
    };
}

fn refused<T>(answer: Result<T, Error<Infallible>>) -> Option<Reason> {
    match answer {
        Ok(_) => None,
        Err(Error::Rejected(rejected)) => Some(rejected.reason()),
        Err(Error::Inner(never)) => match never {},
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_disturbs_no_other_and_the_ceiling_is_over_all() {
    let layer = BackpressureLayer::rate(TokenBucket::per_hour(1).burst(3))
        .plain()
        .per_key(shard, |_| {
            BackpressureLayer::rate(TokenBucket::per_second(1))
        });
    assert_eq!(refused(ask!(layer, of(1))), None);
    assert_eq!(refused(ask!(layer, of(1))), Some(Reason::Rate));
    assert_eq!(refused(ask!(layer, of(2))), None);
    advance(Duration::from_secs(1)).await;
    assert_eq!(refused(ask!(layer, of(1))), None);
    assert_eq!(refused(ask!(layer, of(3))), Some(Reason::Rate), "of all");
    let handle = layer.handle();
    assert_eq!(handle.snapshot().consumed_count, 3);
    assert_eq!(handle.snapshot().dropped_count, 2);
    let third = handle.key(&3_u16).expect("it was made");
    assert_eq!(third.snapshot().dropped_count, 1);
    assert!(handle.key(&4_u16).is_none());
    assert!(handle.key(&1_u32).is_none(), "another type");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_at_their_own_key_and_leave_nothing_when_they_go() {
    let layer = BackpressureLayer::drop_newest(10)
        .plain()
        .per_key(shard, |_| BackpressureLayer::block(1).max_waiting(1));
    let handle = layer.handle();
    let service = layer.layer(service_fn(|_: Query| pending::<Result<u64, Infallible>>()));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut start = |shard| {
        let mut call = Box::pin(service.clone().oneshot(of(shard)));
        let polled = call.as_mut().poll(cx);
        (call, polled)
    };
    let held = [start(1).0, start(2).0];
    let waiting = [start(1).0, start(2).0];
    let (_, third) = start(1);
    assert!(matches!(third, Poll::Ready(answer) if refused(answer) == Some(Reason::QueueFull)));
    assert_eq!((handle.in_flight(), handle.waiting()), (2, 2));
    let first = handle.key(&1_u16).expect("it has a gate");
    assert_eq!((first.in_flight(), first.waiting()), (1, 1));
    let [one, other] = held;
    drop(one);
    let [mut next, last] = waiting;
    assert!(next.as_mut().poll(cx).is_pending(), "it runs");
    assert_eq!((first.in_flight(), first.waiting()), (1, 0));
    drop((next, last, other));
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_exempt_has_no_key_and_no_cost() {
    let layer = BackpressureLayer::drop_newest(1)
        .plain()
        .cost(|query: &Query| {
            assert_ne!(query.shard, 0, "exempt");
            query.rows
        })
        .per_key(
            |query: &Query| {
                assert_ne!(query.shard, 0, "exempt");
                query.shard
            },
            |_| BackpressureLayer::rate(TokenBucket::per_second(10).burst(100)),
        )
        .exempt(|query: &Query| query.shard == 0);
    assert_eq!(refused(ask!(layer, of(0))), None);
    let rows = |rows| Query { shard: 7, rows };
    assert_eq!(refused(ask!(layer, rows(101))), Some(Reason::OverBurst));
    assert_eq!(refused(ask!(layer, rows(100))), None);
    assert_eq!(refused(ask!(layer, rows(1))), Some(Reason::Rate));
    assert_eq!(layer.handle().snapshot().produced_count, 3);
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_cost_is_settled_at_the_key() {
    let layer = BackpressureLayer::drop_newest(10)
        .plain()
        .per_key(shard, |_| {
            BackpressureLayer::rate(TokenBucket::per_second(10).burst(100))
        })
        .cost(|_: &Query| 10)
        .settle(|answer: &Result<u64, Infallible>| answer.as_ref().ok().copied());
    let rows = |shard, rows| Query { shard, rows };
    assert_eq!(refused(ask!(layer, rows(1, 120))), None);
    assert_eq!(
        refused(ask!(layer, rows(1, 1))),
        Some(Reason::Rate),
        "owes 20"
    );
    assert_eq!(refused(ask!(layer, rows(2, 1))), None, "owes nothing");
    advance(Duration::from_secs(3)).await;
    assert_eq!(refused(ask!(layer, rows(1, 1))), None);
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_keeps_nothing() {
    static BROKEN: AtomicBool = AtomicBool::new(true);
    let layer = BackpressureLayer::drop_newest(1).plain().per_key(
        |query: &Query| {
            assert!(query.shard != 1 || !BROKEN.load(Ordering::Relaxed), "key");
            query.shard
        },
        |&shard| {
            assert!(shard != 2 || !BROKEN.load(Ordering::Relaxed), "make");
            BackpressureLayer::adaptive(Aimd::default())
        },
    );
    for shard in [1, 2] {
        let mut service = layer.layer(service_fn(answers));
        let call = AssertUnwindSafe(|| drop(service.call(of(shard))));
        assert!(catch_unwind(call).is_err());
    }
    BROKEN.store(false, Ordering::Relaxed);
    for shard in [1, 2] {
        assert_eq!(refused(ask!(layer, of(shard))), None);
    }
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_keys_and_the_last_closures_count() {
    let layer = BackpressureLayer::drop_newest(10)
        .plain()
        .per_key(shard, |_| BackpressureLayer::drop_newest(5))
        .per_key(
            |query: &Query| query.rows,
            |_| BackpressureLayer::rate(TokenBucket::per_hour(1)),
        );
    let clone = layer.clone();
    assert_eq!(refused(ask!(layer, of(1))), None);
    assert_eq!(
        refused(ask!(clone, of(2))),
        Some(Reason::Rate),
        "one of rows"
    );
    assert!(layer.handle().key(&1_u64).is_some() && layer.handle().key(&1_u16).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_drain_reaches_those_that_wait_at_a_key() {
    let layer = BackpressureLayer::drop_newest(10)
        .plain()
        .per_key(shard, |_| BackpressureLayer::block(1));
    let handle = layer.handle();
    let service = layer.layer(service_fn(|_: Query| pending::<Result<u64, Infallible>>()));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut runs = Box::pin(service.clone().oneshot(of(1)));
    let mut waits = Box::pin(service.oneshot(of(1)));
    assert!(runs.as_mut().poll(cx).is_pending() && waits.as_mut().poll(cx).is_pending());
    let mut drained = pin!(handle.drain());
    assert!(drained.as_mut().poll(cx).is_pending(), "one runs");
    assert_eq!(refused(waits.await), Some(Reason::Draining));
    assert_eq!(refused(ask!(layer, of(2))), Some(Reason::Draining));
    drop(runs);
    drained.await;
}

#[test]
#[should_panic(expected = "`per_key` was called after the gate had been shared")]
fn keys_after_the_gate_was_shared_are_refused() {
    let layer = BackpressureLayer::drop_newest(10).plain();
    let _handle = layer.handle();
    let _ = layer.per_key(shard, |_| BackpressureLayer::drop_newest(1));
}

#[test]
#[should_panic(expected = "is a ceiling, which has nobody wait")]
fn a_ceiling_at_which_requests_would_wait_is_refused() {
    let layer = BackpressureLayer::block(10).plain();
    let layer = layer.per_key(shard, |_| BackpressureLayer::drop_newest(1));
    let _ = layer.layer(service_fn(answers));
}
