use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{advance, sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Limit, Outcome, Sample},
};

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn sequential_calls_do_not_grow_the_limit() {
    let layer = BackpressureLayer::adaptive(Aimd::default()).plain();
    let service = layer.layer(service_fn(|()| async {
        sleep(MILLI).await;
        Ok::<_, Infallible>(())
    }));
    for _ in 0..1000 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!(layer.handle().limit(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_reached_by_a_healthy_service_grows() {
    let layer = BackpressureLayer::adaptive(Aimd::default()).plain();
    let service = layer.layer(service_fn(|()| async {
        sleep(10 * MILLI).await;
        Ok::<_, Infallible>(())
    }));
    for _ in 0..20 {
        let limit = layer.handle().limit();
        join_all((0..limit).map(|_| service.clone().oneshot(()))).await;
    }
    assert!(layer.handle().limit() > 50, "{}", layer.handle().limit());
}

#[tokio::test(start_paused = true)]
async fn half_of_the_calls_hanging_until_cancelled_lower_the_limit() {
    let layer = BackpressureLayer::adaptive(Aimd::default()).plain();
    let nth = Arc::new(AtomicUsize::new(0));
    let service = layer.layer(service_fn(move |()| {
        let hangs = nth.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        async move {
            sleep(if hangs { 60_000 * MILLI } else { 10 * MILLI }).await;
            Ok::<_, Infallible>(())
        }
    }));
    for _ in 0..30 {
        let calls = (0..10).map(|_| timeout(500 * MILLI, service.clone().oneshot(())));
        join_all(calls).await;
    }
    assert!(layer.handle().limit() < 5, "{}", layer.handle().limit());
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_call_failing_as_overload_brings_the_limit_to_its_minimum() {
    for min in [1, 3] {
        let layer = BackpressureLayer::adaptive(Aimd::default().min(min)).plain();
        let service = layer.layer(service_fn(|()| async { Err::<(), _>("overloaded") }));
        for _ in 0..200 {
            let _ = service.clone().oneshot(()).await;
        }
        assert_eq!(layer.handle().limit(), min);
    }
}

#[tokio::test(start_paused = true)]
async fn fast_failures_that_are_ignored_teach_nothing() {
    let layer = BackpressureLayer::adaptive(Aimd::default())
        .plain()
        .classify(|_: &Result<(), &str>| Outcome::Ignore);
    let service = layer.layer(service_fn(|()| async { Err::<(), _>("not found") }));
    for _ in 0..50 {
        join_all((0..10).map(|_| service.clone().oneshot(()))).await;
    }
    assert_eq!(layer.handle().limit(), 10);
}

#[tokio::test(start_paused = true)]
async fn set_limit_restarts_the_search_from_there() {
    let layer = BackpressureLayer::adaptive(Aimd::default()).plain();
    let service = layer.layer(service_fn(|()| async {
        sleep(MILLI).await;
        Ok::<_, Infallible>(())
    }));
    layer.handle().set_limit(40);
    assert_eq!(layer.handle().limit(), 40);
    for _ in 0..100 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!(layer.handle().limit(), 40);
}

#[tokio::test]
async fn set_limit_keeps_within_the_bounds_of_the_algorithm() {
    let handle = BackpressureLayer::adaptive(Aimd::default().min(2).max(64)).handle();
    handle.set_limit(1000);
    assert_eq!(handle.limit(), 64);
    handle.set_limit(1);
    assert_eq!(handle.limit(), 2);
}

#[tokio::test(start_paused = true)]
async fn told_a_threshold_callers_that_leave_early_are_no_reason_to_fall() {
    let limit = Aimd::default().initial(50).latency_threshold(1000 * MILLI);
    let layer = BackpressureLayer::adaptive(limit).plain();
    let service = layer.layer(service_fn(|_: u32| async {
        sleep(100 * MILLI).await;
        Ok::<_, Infallible>(())
    }));
    for _ in 0..20 {
        let calls = (0..50).map(|n| {
            let patience = if n % 2 == 0 { 5 * MILLI } else { 5000 * MILLI };
            timeout(patience, service.clone().oneshot(n))
        });
        join_all(calls).await;
    }
    assert!(layer.handle().limit() >= 50, "{}", layer.handle().limit());
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_thousand_requests_a_second_a_share_is_told_and_truly() {
    const LATENCY: Duration = Duration::from_micros(10);
    struct Notes(mpsc::Sender<Duration>);
    impl Limit for Notes {
        fn limit(&self) -> usize {
            10
        }
        fn update(&mut self, sample: &Sample) -> usize {
            let _ = self.0.send(sample.latency);
            10
        }
    }
    let (notes, told) = mpsc::channel();
    let layer = BackpressureLayer::adaptive(Notes(notes)).plain();
    let service = layer.layer(service_fn(|()| async {
        advance(LATENCY).await;
        Ok::<_, Infallible>(())
    }));
    for _ in 0..20_000 {
        service.clone().oneshot(()).await.unwrap();
    }
    let told: Vec<_> = told.try_iter().collect();
    assert!(told.iter().all(|latency| *latency == LATENCY), "{told:?}");
    // All of the first millisecond, then one of 32 by chance.
    assert!((300..2000).contains(&told.len()), "{}", told.len());
}

#[tokio::test]
async fn a_limit_that_panics_stays_where_it_was_and_loses_no_permit() {
    struct Broken;
    impl Limit for Broken {
        fn limit(&self) -> usize {
            3
        }
        fn update(&mut self, _: &Sample) -> usize {
            panic!("an algorithm with a mistake")
        }
    }
    let layer = BackpressureLayer::adaptive(Broken).plain();
    let service = layer.layer(service_fn(|()| async { Ok::<_, Infallible>(()) }));
    for _ in 0..5 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!((layer.handle().limit(), layer.handle().in_flight()), (3, 0));
}

#[tokio::test]
async fn an_answer_of_zero_or_of_everything_is_kept_in_bounds() {
    struct Wild(usize);
    impl Limit for Wild {
        fn limit(&self) -> usize {
            1
        }
        fn update(&mut self, _: &Sample) -> usize {
            self.0
        }
    }
    for (answer, limit) in [(0, 1), (usize::MAX, tower_backpressure::limit::MAX_LIMIT)] {
        let layer = BackpressureLayer::adaptive(Wild(answer)).plain();
        let service = layer.layer(service_fn(|()| async { Ok::<_, Infallible>(()) }));
        service.clone().oneshot(()).await.unwrap();
        assert_eq!(layer.handle().limit(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sample_says_when_how_long_how_many_and_how() {
    struct Note(tokio::sync::mpsc::UnboundedSender<Sample>);
    impl Limit for Note {
        fn limit(&self) -> usize {
            5
        }
        fn update(&mut self, sample: &Sample) -> usize {
            self.0.send(*sample).unwrap();
            5
        }
    }
    let (note, mut samples) = tokio::sync::mpsc::unbounded_channel();
    let layer = BackpressureLayer::adaptive(Note(note)).plain();
    let service = layer.layer(service_fn(|time: Duration| async move {
        sleep(time).await;
        if time < 15 * MILLI {
            Ok(())
        } else {
            Err("late")
        }
    }));
    let (first, second) = (service.clone(), service.clone());
    let third = timeout(25 * MILLI, service.clone().oneshot(90 * MILLI));
    let _ = tokio::join!(first.oneshot(10 * MILLI), second.oneshot(20 * MILLI), third);
    let expected = [
        (10, 1, Outcome::Success),
        (20, 2, Outcome::Overload),
        (25, 3, Outcome::Cancelled),
    ];
    for (millis, in_flight, outcome) in expected {
        let sample = samples.recv().await.unwrap();
        assert_eq!(
            sample,
            Sample::new(millis * MILLI, millis * MILLI, in_flight, outcome)
        );
    }
}

#[test]
fn where_nobody_said_where_to_begin_the_bounds_do() {
    for (limit, initial) in [
        (Aimd::default(), 10),
        (Aimd::default().max(5), 5),
        (Aimd::default().min(20), 20),
    ] {
        let layer = BackpressureLayer::adaptive(limit);
        assert_eq!(layer.handle().limit(), initial);
    }
}

#[test]
fn contradictory_settings_are_refused_when_the_layer_is_made() {
    for (limit, message) in [
        (Aimd::default().min(0), "min is 0, but must be at least 1"),
        (
            Aimd::default().max(5).min(8),
            "max is 5, but must be at least min, which is 8",
        ),
        (
            Aimd::default().initial(3).min(8),
            "initial is 3, but must be between min, 8, and max, 10000",
        ),
        (
            Aimd::default().latency_threshold(Duration::ZERO),
            "latency_threshold is 0ns, but must be at least 1 ms",
        ),
    ] {
        let error = BackpressureLayer::try_adaptive(limit).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
