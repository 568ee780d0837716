use tower::{Layer, ServiceExt};
use tower_backpressure::BackpressureLayer;

use crate::support::{Work, settle};

#[tokio::test]
async fn shadow_records_what_it_would_refuse_and_refuses_nobody() {
    for layer in [
        BackpressureLayer::drop_newest(2),
        BackpressureLayer::block(2),
        BackpressureLayer::drop_oldest(2, 1),
    ] {
        let layer = layer.shadow().plain();
        let work = Work::default();
        let service = layer.layer(work.clone());
        let calls: Vec<_> = (0..10)
            .map(|_| tokio::spawn(service.clone().oneshot(7)))
            .collect();
        settle().await;
        let handle = layer.handle();
        assert_eq!((handle.in_flight(), handle.waiting()), (10, 0));
        work.finish(10);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let metrics = handle.snapshot();
        assert_eq!(metrics.dropped_count, 8);
        assert_eq!((metrics.produced_count, metrics.consumed_count), (10, 10));
        assert_eq!(handle.in_flight(), 0);
    }
}
