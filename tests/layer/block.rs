use std::{pin::pin, time::Duration};

use futures_util::poll;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, load_shed::LoadShed};
use tower_backpressure::{
    Backpressure, BackpressureLayer, Error, Reason, Rejected, protocol::Plain,
};

use crate::support::{Work, settle};

pub type Plainly = Backpressure<Work, Plain>;

pub fn block(limit: usize) -> (Work, Plainly) {
    let work = Work::default();
    let service = BackpressureLayer::block(limit).plain().layer(work.clone());
    (work, service)
}
fn reason<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, Error<E>>) -> Reason {
    match result {
        Err(Error::Rejected(rejected)) => rejected.reason(),
        other => panic!("should be refused, but {other:?}"),
    }
}
#[tokio::test]
async fn poll_ready_is_pending_while_full() {
    let (work, mut service) = block(1);
    let mut other = service.clone();
    let running = tokio::spawn(service.ready().await.unwrap().call(7));
    assert!(poll!(other.ready()).is_pending());
    work.finish(1);
    running.await.unwrap().unwrap();
    assert!(poll!(other.ready()).is_ready());
}
#[tokio::test]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    let (work, service) = block(1);
    let handle = service.handle();
    let (order, mut served) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..20 {
        let (service, order) = (service.clone(), order.clone());
        tokio::spawn(async move {
            service.oneshot(7).await.unwrap();
            order.send(n).unwrap();
        });
        settle().await;
    }
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 19));
    for n in 0..20 {
        work.finish(1);
        assert_eq!(served.recv().await, Some(n));
    }
    assert_eq!((work.peak(), handle.in_flight()), (1, 0));
}
#[tokio::test]
async fn an_instance_to_be_refused_is_served_if_a_slot_came_free_before_its_call() {
    let work = Work::default();
    work.finish(1);
    let layer = BackpressureLayer::block(1).max_waiting(1).plain();
    let mut holder = layer.layer(work);
    holder.ready().await.unwrap();
    let mut waits = holder.clone();
    assert!(poll!(waits.ready()).is_pending());
    let mut late = holder.clone();
    assert!(poll!(late.ready()).is_ready(), "to be refused");
    drop(waits);
    drop(holder);
    late.ready().await.unwrap().call(7).await.unwrap();
    let metrics = late.handle().snapshot();
    assert_eq!((metrics.dropped_count, metrics.consumed_count), (0, 1));
}
#[tokio::test]
async fn readying_without_calling_is_no_request() {
    let (_work, service) = block(1);
    for _ in 0..5 {
        service.clone().ready().await.unwrap();
    }
    let metrics = service.handle().snapshot();
    assert_eq!(metrics.consumed_count, 0);
    assert_eq!(service.handle().in_flight(), 0);
}
#[tokio::test]
async fn a_drained_gate_is_not_overloaded() {
    for layer in [
        BackpressureLayer::block(1),
        BackpressureLayer::drop_oldest(1, 1),
    ] {
        let layer = layer.plain();
        let service = layer.layer(Work::default());
        layer.handle().drain().await;
        assert_eq!(reason(service.oneshot(7).await), Reason::Draining);
        assert_eq!(layer.handle().snapshot().backpressure_events, 0);
    }
}
#[tokio::test]
async fn a_buffer_in_front_survives_refusals() {
    let work = Work::default();
    let layer = BackpressureLayer::block(1).max_waiting(0).plain();
    let buffer = tower::buffer::Buffer::new(layer.layer(work.clone()), 10);
    let running = tokio::spawn(buffer.clone().oneshot(1));
    settle().await;
    let refused = buffer.clone().oneshot(2).await.unwrap_err();
    assert!(refused.is::<Rejected>(), "{refused}");
    work.finish(2);
    running.await.unwrap().unwrap();
    assert_eq!(buffer.oneshot(3).await.unwrap(), 3);
}
#[tokio::test]
async fn a_spent_cooperative_budget_is_not_taken_for_full() {
    let service = BackpressureLayer::block(1)
        .plain()
        .layer(tower::service_fn(|_: u32| async {
            Ok::<_, std::convert::Infallible>(())
        }));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2000);
    for _ in 0..2000 {
        sender.try_send(()).unwrap();
    }
    let shed = tokio::spawn(async move {
        let mut shed = 0;
        for _ in 0..1000 {
            // The budget is spent within the first rounds and does not come back without a yield.
            let _ = poll!(pin!(receiver.recv()));
            let call = LoadShed::new(service.clone()).oneshot(7);
            shed += usize::from(call.await.is_err());
        }
        shed
    });
    assert_eq!(shed.await.unwrap(), 0);
}
#[tokio::test]
async fn beyond_max_waiting_the_refusal_is_fast_and_comes_from_the_call() {
    let work = Work::default();
    let layer = BackpressureLayer::block(1).max_waiting(2).plain();
    let service = layer.layer(work.clone());
    let waiters: Vec<_> = (0..3)
        .map(|_| tokio::spawn(service.clone().oneshot(7)))
        .collect();
    settle().await;
    let mut newest = service.clone();
    newest
        .ready()
        .await
        .expect("ready, to be refused in the call");
    assert_eq!(reason(newest.call(7).await), Reason::QueueFull);
    work.finish(3);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
}
#[tokio::test(start_paused = true)]
async fn after_max_wait_the_call_is_refused_and_says_how_long_it_waited() {
    let work = Work::default();
    let max_wait = Duration::from_millis(50);
    let layer = BackpressureLayer::block(1).max_wait(max_wait).plain();
    let service = layer.layer(work.clone());
    let _running = tokio::spawn(service.clone().oneshot(7));
    settle().await;
    let began = Instant::now();
    let refused = service.clone().oneshot(7).await;
    assert!(began.elapsed() >= max_wait && began.elapsed() < 2 * max_wait);
    let rejected = *refused.unwrap_err().rejected().unwrap();
    assert_eq!(rejected.reason(), Reason::MaxWait);
    assert!(rejected.waited() >= max_wait && rejected.waited() < 2 * max_wait);
    assert_eq!(layer.handle().waiting(), 0);
}
#[tokio::test(start_paused = true)]
async fn with_a_max_wait_an_idle_parked_instance_answers_when_it_is_asked_again() {
    let work = Work::default();
    let layer = BackpressureLayer::block(1)
        .max_wait(Duration::from_millis(5))
        .plain();
    let service = layer.layer(work.clone());
    let running = tokio::spawn(service.clone().oneshot(7));
    settle().await;
    let mut idle = service.clone();
    assert!(poll!(idle.ready()).is_pending());
    sleep(Duration::from_millis(20)).await;
    work.finish(2);
    running.await.unwrap().unwrap();
    // Its time is over, but a slot is free: a refusal would help nobody.
    assert!(idle.oneshot(7).await.is_ok());
}
#[tokio::test]
async fn a_waiter_that_leaves_is_not_waited_for() {
    let (work, service) = block(1);
    let running = tokio::spawn(service.clone().oneshot(7));
    settle().await;
    let mut first = service.clone();
    let mut second = pin!(service.clone().oneshot(7));
    assert!(poll!(first.ready()).is_pending());
    assert!(poll!(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(service.handle().waiting(), 1);
    work.finish(2);
    running.await.unwrap().unwrap();
    second.await.unwrap();
    assert_eq!(service.handle().in_flight(), 0);
}
#[tokio::test]
async fn callers_that_leave_while_they_wait_have_come_all_the_same() {
    let (_work, service) = block(1);
    let mut holder = service.clone();
    holder.ready().await.unwrap();
    for _ in 0..3 {
        assert!(poll!(service.clone().ready()).is_pending());
    }
    let metrics = service.handle().snapshot();
    assert_eq!((metrics.produced_count, metrics.current_depth), (4, 0));
}
#[tokio::test]
async fn a_permit_that_is_never_used_comes_back_with_its_instance() {
    let (_, mut service) = block(1);
    let handle = service.handle();
    service.ready().await.unwrap();
    assert_eq!(handle.in_flight(), 1);
    let clone = service.clone();
    assert_eq!(handle.in_flight(), 1, "a clone holds nothing");
    drop(service);
    assert_eq!(handle.in_flight(), 0);
    drop(clone);
}
#[tokio::test]
async fn with_exempt_requests_wait_in_their_calls_and_the_exempt_pass() {
    let work = Work::default();
    let layer = BackpressureLayer::block(1)
        .plain()
        .exempt(|request: &u32| *request == 0);
    let mut service = layer.layer(work.clone());
    let handle = layer.handle();
    let one = tokio::spawn(service.ready().await.unwrap().call(1));
    let two = tokio::spawn(service.ready().await.unwrap().call(2));
    let exempt = tokio::spawn(service.ready().await.unwrap().call(0));
    settle().await;
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
    assert_eq!(work.inside(), 2);
    work.finish(3);
    for call in [one, two, exempt] {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        handle.snapshot().produced_count,
        2,
        "the exempt is not counted"
    );
}
#[test]
fn a_zero_limit_is_refused_when_it_is_built() {
    let panic = std::panic::catch_unwind(|| BackpressureLayer::block(0)).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert_eq!(message, "limit is 0, but must be at least 1");
}
#[test]
fn a_setter_after_sharing_panics_and_says_so() {
    let layer = BackpressureLayer::block(1);
    let _handle = layer.handle();
    let set = std::panic::AssertUnwindSafe(|| layer.max_waiting(3));
    let panic = std::panic::catch_unwind(set).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("`max_waiting` was called after the gate had been shared"));
}
