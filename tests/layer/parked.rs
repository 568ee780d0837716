//! Instances that wait in `poll_ready`: some are driven on, some are left alone, and nobody can tell which.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{self, SeqCst},
        },
    },
    task::Poll,
    time::Duration,
};

use futures_util::poll;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, load_shed::LoadShed, service_fn};
use tower_backpressure::{BackpressureLayer, Error};

use crate::{block::block, support::settle};

#[tokio::test]
async fn an_idle_parked_instance_makes_nobody_shed() {
    let (work, service) = block(1);
    let mut running = LoadShed::new(service.clone());
    let first = tokio::spawn(running.ready().await.unwrap().call(7));
    settle().await;

    let mut idle = LoadShed::new(service.clone());
    // Load shed says ready, and parks the instance inside.
    idle.ready().await.unwrap();
    assert_eq!(service.handle().waiting(), 1);
    work.finish(21);
    first.await.unwrap().unwrap();

    for nth in 0..20 {
        let shed = LoadShed::new(service.clone()).oneshot(7).await;
        assert!(shed.is_ok(), "call {nth} was shed: {shed:?}");
    }
}
#[tokio::test(start_paused = true)]
async fn live_waiters_behind_an_idle_instance_are_all_served() {
    let (work, service) = block(1);
    let mut running = service.clone();
    let first = tokio::spawn(running.ready().await.unwrap().call(7));
    let mut idle = LoadShed::new(service.clone());
    idle.ready().await.unwrap();
    let waiters: Vec<_> = (0..20)
        .map(|_| tokio::spawn(service.clone().oneshot(7)))
        .collect();
    settle().await;
    assert_eq!(service.handle().waiting(), 21);

    work.finish(21);
    first.await.unwrap().unwrap();
    let began = Instant::now();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(10));
    drop(idle);
    assert_eq!(service.handle().waiting(), 0);
}
#[tokio::test(start_paused = true)]
async fn many_idle_instances_in_a_row_hold_up_nobody_for_long() {
    let (work, service) = block(1);
    let mut running = service.clone();
    let first = tokio::spawn(running.ready().await.unwrap().call(7));
    let mut idle: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for instance in &mut idle {
        assert!(poll!(instance.ready()).is_pending());
    }
    let live = tokio::spawn(service.clone().oneshot(7));
    settle().await;
    work.finish(2);
    first.await.unwrap().unwrap();
    let began = Instant::now();
    live.await.unwrap().unwrap();
    assert!(began.elapsed() <= Duration::from_millis(30));
}
/// Callers that ask again as soon as they were served, each in a task of its own. How often each was served.
async fn greedy_callers(limit: usize, callers: usize, calls: usize) -> Vec<usize> {
    let service = BackpressureLayer::block(limit)
        .plain()
        .layer(tower::service_fn(|_: u32| async {
            tokio::task::yield_now().await;
            Ok::<_, std::convert::Infallible>(())
        }));
    let left = Arc::new(AtomicUsize::new(calls));
    let callers = (0..callers).map(|_| {
        let (mut service, left) = (service.clone(), Arc::clone(&left));
        tokio::spawn(async move {
            let mut served = 0;
            let one_less = |left: usize| left.checked_sub(1);
            while left.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
                service.ready().await.unwrap().call(7).await.unwrap();
                served += 1;
            }
            served
        })
    });
    let served = futures_util::future::join_all(callers).await;
    served.into_iter().map(Result::unwrap).collect()
}
#[tokio::test]
async fn a_caller_that_asks_again_at_once_does_not_starve_a_waiter() {
    let served = greedy_callers(1, 2, 1000).await;
    assert!(served.iter().all(|n| *n > 300), "{served:?}");
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_twenty_greedy_callers_is_left_with_nothing() {
    let served = greedy_callers(5, 20, 20_000).await;
    // A thousand each would be even; on a machine that is busy otherwise some come late for what was kept for them.
    assert!(served.iter().all(|n| *n > 20), "{served:?}");
}
#[tokio::test]
async fn a_slot_kept_for_a_waiter_that_then_left_alone_is_free_again_after_a_moment() {
    let (work, service) = block(1);
    work.finish(100);
    let mut holder = service.clone();
    holder.ready().await.unwrap();
    let mut idle = service.clone();
    assert!(poll!(idle.ready()).is_pending());
    drop(holder);
    // Called, and quick to come, but another was quicker: the next slot is kept for it.
    let mut quicker = service.clone();
    quicker.ready().await.unwrap();
    assert!(poll!(idle.ready()).is_pending());
    drop(quicker);
    assert_eq!(service.handle().in_flight(), 1);
    // It never comes for that.
    for _ in 0..20 {
        service.clone().oneshot(7).await.unwrap();
    }
    drop(idle);
    assert_eq!(service.handle().in_flight(), 0);
}
#[tokio::test(start_paused = true)]
async fn what_came_is_never_counted_down() {
    let (_work, service) = block(1);
    let mut last = 0;
    let mut came = || {
        let now = service.handle().snapshot().produced_count;
        assert!(now >= last, "{last} → {now}");
        last = now;
    };
    let mut holder = service.clone();
    holder.ready().await.unwrap();
    came();
    let mut idle: Vec<_> = (0..3).map(|_| service.clone()).collect();
    for instance in &mut idle {
        assert!(poll!(instance.ready()).is_pending());
        came();
    }
    drop(holder);
    came();
    for _ in 0..10 {
        sleep(Duration::from_millis(1)).await;
        came();
    }
    drop(idle);
    came();
    assert_eq!(last, 4);
}
#[test]
fn a_permit_that_comes_back_without_a_runtime_still_finds_the_live_waiter() {
    let (work, service) = block(1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut holder = service.clone();
    let mut idle = service.clone();
    runtime.block_on(async {
        holder.ready().await.unwrap();
        assert!(poll!(idle.ready()).is_pending());
    });
    let live = runtime.spawn(service.clone().oneshot(7));
    while service.handle().waiting() < 2 {
        std::thread::yield_now();
    }
    work.finish(1);
    std::thread::spawn(move || drop(holder)).join().unwrap();
    runtime.block_on(live).unwrap().unwrap();
}
#[test]
fn a_waiter_outlives_the_runtime_in_which_somebody_looked_after_the_queue() {
    let (work, service) = block(1);
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lasting = tokio::runtime::Runtime::new().unwrap();
    let mut holder = service.clone();
    let mut idle = service.clone();
    ended.block_on(async {
        holder.ready().await.unwrap();
        assert!(poll!(idle.ready()).is_pending());
    });
    let live = lasting.spawn(service.clone().oneshot(7));
    while service.handle().waiting() < 2 {
        std::thread::yield_now();
    }
    work.finish(1);
    // The permit comes back in a runtime that ends before a millisecond has passed in it.
    ended.block_on(async { drop(holder) });
    drop(ended);
    lasting.block_on(live).unwrap().unwrap();
}

#[tokio::test]
async fn an_instance_to_be_refused_that_asks_in_vain_is_counted_once() {
    /// Is never ready.
    #[derive(Clone)]
    struct Busy;

    impl Service<u32> for Busy {
        type Response = u32;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<u32, std::convert::Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            std::task::Poll::Pending
        }

        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("never ready")
        }
    }

    let layer = BackpressureLayer::block(1).max_waiting(1).plain();
    let mut holder = layer.layer(Busy);
    assert!(poll!(holder.ready()).is_pending());
    let mut waits = holder.clone();
    assert!(poll!(waits.ready()).is_pending());
    let mut late = holder.clone();
    assert!(poll!(late.ready()).is_ready(), "to be refused");
    drop(waits);
    drop(holder);
    for _ in 0..3 {
        assert!(poll!(late.ready()).is_ready(), "once ready, always ready");
    }
    let metrics = layer.handle().snapshot();
    assert_eq!((metrics.produced_count, layer.handle().in_flight()), (3, 0));
}

#[tokio::test]
async fn an_instance_to_be_refused_whose_service_fails_says_so() {
    /// Is never ready, until it fails.
    #[derive(Clone)]
    struct Fails(Arc<AtomicBool>);

    impl Service<u32> for Fails {
        type Response = u32;
        type Error = &'static str;
        type Future = std::future::Ready<Result<u32, &'static str>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            match self.0.load(Ordering::Relaxed) {
                true => std::task::Poll::Ready(Err("gone")),
                false => std::task::Poll::Pending,
            }
        }

        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("never ready")
        }
    }

    let fails = Arc::new(AtomicBool::new(false));
    let layer = BackpressureLayer::block(1).max_waiting(1).plain();
    let mut holder = layer.layer(Fails(Arc::clone(&fails)));
    assert!(poll!(holder.ready()).is_pending());
    let mut waits = holder.clone();
    assert!(poll!(waits.ready()).is_pending());
    let mut late = holder.clone();
    assert!(poll!(late.ready()).is_ready(), "to be refused");
    drop((waits, holder));
    fails.store(true, Ordering::Relaxed);
    let Poll::Ready(Err(Error::Inner(error))) = poll!(late.ready()).map_ok(drop) else {
        panic!("the service is gone");
    };
    assert_eq!((error, layer.handle().in_flight()), ("gone", 0));
}

/// Where an instance has proven to come when it is called, the next slot is kept for it. It does not come any more.
#[test]
fn a_slot_that_is_kept_on_a_thread_without_a_runtime_goes_to_the_live_waiter() {
    let (work, service) = block(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let (holder, mut proven, live) = runtime.block_on(async {
        let mut first = service.clone();
        first.ready().await.unwrap();
        let mut proven = service.clone();
        assert!(poll!(proven.ready()).is_pending());
        drop(first);
        let mut holder = service.clone();
        holder.ready().await.unwrap();
        assert!(poll!(proven.ready()).is_pending());
        let live = tokio::spawn(service.clone().oneshot(7));
        sleep(Duration::from_millis(10)).await;
        (holder, proven, live)
    });
    work.finish(1);
    std::thread::spawn(move || drop(holder)).join().unwrap();
    let served =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), live).await });
    served.expect("it is called").unwrap().unwrap();
    assert!(runtime.block_on(async { poll!(proven.ready()) }).is_ready());
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
        let begin = Instant::now();
        let waits = tokio::time::timeout(Duration::from_secs(5), service.oneshot(2));
        let refused = waits.await.expect("`max_wait` ends").unwrap_err();
        assert!(refused.to_string().contains("did not come"), "{refused}");
        assert!(begin.elapsed() < Duration::from_secs(2), "it ends in time");
    });
}

/// One thread waits by itself where another had a runtime, which is no more.
#[test]
fn who_waits_without_a_runtime_is_not_woken_in_vain_for_one_that_has_ended() {
    struct Counts(AtomicUsize);
    impl std::task::Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    let layer = BackpressureLayer::block(1)
        .max_wait(Duration::from_secs(60))
        .plain();
    let service = layer.layer(service_fn(|n: u32| async move {
        Ok::<_, std::convert::Infallible>(n)
    }));
    let mut holder = service.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        holder.ready().await.unwrap();
        assert!(poll!(service.clone().ready()).is_pending());
    });
    drop(runtime);
    let counts = Arc::new(Counts(AtomicUsize::new(0)));
    let waker = std::task::Waker::from(Arc::clone(&counts));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut waits = service.clone();
    for _ in 0..100 {
        assert!(Service::<u32>::poll_ready(&mut waits, &mut cx).is_pending());
    }
    assert!(counts.0.load(SeqCst) <= 1, "{:?}", counts.0);
    drop(holder);
    assert!(Service::<u32>::poll_ready(&mut waits, &mut cx).is_ready());
}
