//! Runtimes that lack something. Alone in its process, since it counts panics.

use std::{
    panic,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::BackpressureLayer;

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_runtime_without_a_timer_costs_one_panic_and_serves_who_waits() {
    panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::SeqCst);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let layer = BackpressureLayer::block(1)
        .max_wait(Duration::from_secs(60))
        .plain();
    let service = layer.layer(service_fn(|n: u32| async move {
        Ok::<_, std::convert::Infallible>(n)
    }));
    let mut holder = service.clone();
    runtime.block_on(async {
        holder.ready().await.unwrap();
    });
    let waiters: Vec<_> = (0..3)
        .map(|n| runtime.spawn(service.clone().oneshot(n)))
        .collect();
    while layer.handle().waiting() < 3 || PANICS.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    runtime.block_on(async {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        holder.call(7).await.unwrap();
        for waiter in waiters {
            waiter.await.unwrap().unwrap();
        }
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), 1);
    assert_eq!(layer.handle().in_flight(), 0);
}
