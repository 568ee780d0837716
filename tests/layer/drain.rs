use std::sync::Arc;

use futures_util::poll;
use tower::{Layer, Service, ServiceExt};
use tower_backpressure::{
    BackpressureLayer, Reason,
    limit::{Limit, Sample},
};

use crate::support::{Work, settle};

#[tokio::test]
async fn drain_refuses_the_new_and_ends_when_the_last_permit_is_back() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_newest(10).plain();
    let service = layer.layer(work.clone());
    let calls: Vec<_> = (0..2)
        .map(|_| tokio::spawn(service.clone().oneshot(7)))
        .collect();
    settle().await;
    let handle = layer.handle();
    let mut drained = std::pin::pin!(handle.drain());
    assert!(poll!(&mut drained).is_pending());
    let refused = service.clone().oneshot(7).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::Draining);
    work.finish(1);
    settle().await;
    assert!(poll!(&mut drained).is_pending());
    work.finish(1);
    drained.await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    handle.drain().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_by_a_draining_gate_is_not_told_its_pace() {
    let work = Work::default();
    work.finish(1);
    let layer = BackpressureLayer::drop_newest(1).plain();
    let service = layer.layer(work);
    service.clone().oneshot(7).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    layer.handle().drain().await;
    let refused = service.oneshot(7).await.unwrap_err();
    let millis = refused.rejected().unwrap().retry_after().as_millis();
    assert!((700..=1300).contains(&millis), "{millis}");
}

#[tokio::test]
async fn drain_refuses_those_who_wait() {
    for layer in [
        BackpressureLayer::block(1),
        BackpressureLayer::drop_oldest(1, 5),
    ] {
        let work = Work::default();
        let layer = layer.plain();
        let service = layer.layer(work.clone());
        let running = tokio::spawn(service.clone().oneshot(7));
        settle().await;
        let waiting = tokio::spawn(service.clone().oneshot(7));
        settle().await;
        let drained = tokio::spawn(layer.handle().drain());
        let refused = waiting.await.unwrap().unwrap_err();
        assert_eq!(refused.rejected().unwrap().reason(), Reason::Draining);
        work.finish(1);
        running.await.unwrap().unwrap();
        drained.await.unwrap();
    }
}

#[tokio::test]
async fn a_slot_granted_to_a_call_that_is_dropped_ends_the_drain_too() {
    let work = Work::default();
    let layer = BackpressureLayer::drop_oldest(1, 1).plain();
    let mut service = layer.layer(work.clone());
    let running = tokio::spawn(service.ready().await.unwrap().call(1));
    let granted = service.ready().await.unwrap().call(2);
    settle().await;
    work.finish(1);
    running.await.unwrap().unwrap();
    let drained = tokio::spawn(layer.handle().drain());
    settle().await;
    assert_eq!(layer.handle().in_flight(), 1);
    drop(granted);
    settle().await;
    assert!(drained.is_finished());
}

#[tokio::test]
async fn the_exempt_pass_a_draining_gate() {
    let work = Work::default();
    work.finish(1);
    let layer = BackpressureLayer::drop_newest(1)
        .plain()
        .exempt(|probe: &u32| *probe == 0);
    let mut service = layer.layer(work);
    layer.handle().drain().await;
    assert!(service.ready().await.unwrap().call(0).await.is_ok());
    assert!(service.ready().await.unwrap().call(1).await.is_err());
}

#[tokio::test]
async fn an_idle_gate_is_drained_at_once() {
    let layer = BackpressureLayer::block(3);
    layer.handle().drain().await;
}

/// Of a gate that nobody holds any more, calls are all that is left.
#[tokio::test]
async fn the_gate_goes_with_its_last_call() {
    #[derive(Debug)]
    struct Ten(#[allow(dead_code, reason = "to be counted")] Arc<()>);
    impl Limit for Ten {
        fn limit(&self) -> usize {
            10
        }
        fn update(&mut self, _: &Sample) -> usize {
            10
        }
    }
    let alive = Arc::new(());
    let work = Work::default();
    let layer = BackpressureLayer::adaptive(Ten(Arc::clone(&alive))).plain();
    let service = layer.layer(work.clone());
    let calls = [(); 2].map(|()| tokio::spawn(service.clone().oneshot(7)));
    settle().await;
    drop((layer, service));
    for (held, which) in [(2, "first"), (1, "second")] {
        assert_eq!(Arc::strong_count(&alive), 2, "before the {which} ended");
        work.finish(1);
        settle().await;
        assert_eq!(Arc::strong_count(&alive), held, "after the {which}");
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}
