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

/// It takes the task beside the queue with it, while this thread unwinds.
#[test]
fn a_runtime_that_goes_with_a_panic_is_not_taken_for_one_without_a_timer() {
    let layer = BackpressureLayer::block(1)
        .max_wait(Duration::from_secs(1))
        .plain();
    let service = layer.layer(service_fn(|n: u32| async move {
        Ok::<_, std::convert::Infallible>(n)
    }));
    let mut holder = service.clone();
    let paused = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    let panics = std::thread::spawn({
        let (mut holder, service) = (holder.clone(), service.clone());
        move || {
            let runtime = paused();
            runtime.block_on(async {
                holder.ready().await.unwrap();
                let waits = tokio::spawn(service.oneshot(1));
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                assert!(!waits.is_finished());
            });
            panic!("while an usher sleeps in {runtime:?}");
        }
    });
    assert!(panics.join().is_err());
    paused().block_on(async {
        holder.ready().await.unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(5), service.oneshot(2));
        let refused = waits.await.expect("`max_wait` ends").unwrap_err();
        assert!(refused.to_string().contains("did not come"), "{refused}");
    });
}
