//! Senders that keep to a rate, and a rate that follows the reader.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::{advance, sleep, timeout};
use tower_backpressure::{
    AdaptiveRateController, BackpressureController,
    BackpressureStrategy::Adaptive,
    rate::{Quota, Rate, Short, SlidingWindow, TokenBucket},
    stream::SendErrorKind,
};

use super::support::{Task, counts, now};

const MILLI: Duration = Duration::from_millis(1);

fn paced(capacity: usize, rate: impl Into<AdaptiveRateController>) -> BackpressureController {
    BackpressureController::builder(capacity, Adaptive)
        .rate(rate)
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_bucket_lets_a_burst_through_and_then_its_rate() {
    let controller = paced(1000, TokenBucket::per_second(50).burst(100));
    let stream = controller.create_stream();
    let sender = stream.sender();
    let began = now();
    for n in 0..100 {
        sender.send(n).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    let error = sender.try_send(100).unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::TooEarly(20 * MILLI));
    for n in 100..200 {
        sender.send(n).await.unwrap();
    }
    let elapsed = began.elapsed();
    assert!(
        elapsed >= 2000 * MILLI && elapsed <= 2100 * MILLI,
        "{elapsed:?}"
    );
    assert_eq!(counts(&stream.metrics()), (200, 0, 0, 200));
}

#[tokio::test(start_paused = true)]
async fn a_window_lets_its_limit_through_and_then_waits_for_the_next() {
    let controller = paced(1000, SlidingWindow::new(10, Duration::from_secs(1)));
    let stream = controller.create_stream();
    let sender = stream.sender();
    let began = now();
    for n in 0..25 {
        sender.send(n).await.unwrap();
    }
    let elapsed = began.elapsed();
    assert!(
        elapsed >= 2000 * MILLI && elapsed <= 2010 * MILLI,
        "{elapsed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn senders_that_wait_for_the_rate_get_it_first_come_first_served() {
    let controller = paced(1000, TokenBucket::per_second(100).burst(1));
    let mut stream = controller.create_stream();
    let sends: Vec<_> = (0..10)
        .map(|n| {
            let sender = stream.sender();
            async move { sender.send(n).await.map(drop) }
        })
        .collect();
    let began = now();
    let sent = futures_util::future::join_all(sends).await;
    assert!(sent.iter().all(Result::is_ok));
    assert!(began.elapsed() >= 90 * MILLI && began.elapsed() <= 110 * MILLI);
    let mut read = Vec::new();
    stream.receive_many(&mut read, 10).await;
    assert!(read.into_iter().eq(0..10));
}

#[tokio::test(start_paused = true)]
async fn the_one_that_keeps_the_time_for_the_line_hands_it_on_when_it_leaves() {
    let controller = paced(10, TokenBucket::per_second(1).burst(1));
    let stream = controller.create_stream();
    let sender = stream.sender();
    sender.try_send(0).unwrap();
    let (first, second) = (Task::new(), Task::new());
    let (mut one, mut two) = (sender.send(1), sender.send(2));
    assert!(first.poll(&mut one).is_pending());
    assert!(second.poll(&mut two).is_pending());
    drop(one);
    assert_eq!(second.woken(), 1, "it has to set a timer now");
    assert!(second.poll(&mut two).is_pending());
    sleep(1001 * MILLI).await;
    assert_eq!(second.woken(), 2);
    assert!(second.poll(&mut two).is_ready());
}

#[tokio::test(start_paused = true)]
async fn half_when_it_fills_up_and_one_more_in_each_interval() {
    let rate = AdaptiveRateController::default().initial(1000.0).burst(100);
    let controller = paced(100, rate);
    let mut stream = controller.create_stream();
    let sender = stream.sender();
    for n in 0..75 {
        sender.try_send(n).unwrap();
    }
    assert_eq!(stream.metrics().current_rate_limit, 1000.0);
    sender.try_send(75).unwrap();
    let metrics = stream.metrics();
    assert_eq!(
        (metrics.current_rate_limit, metrics.backpressure_events),
        (500.0, 1)
    );

    let mut read = Vec::new();
    stream.receive_many(&mut read, 100).await;
    for n in 1..=5 {
        // More than the rate allows is wanted.
        while sender.try_send(0).is_ok() {}
        read.clear();
        stream.receive_many(&mut read, 1000).await;
        advance(100 * MILLI).await;
        let _ = sender.try_send(0);
        assert_eq!(stream.metrics().current_rate_limit, 500.0 + f64::from(n));
        read.clear();
        stream.receive_many(&mut read, 1000).await;
    }
}

/// A reader of 100 items per second for ten seconds, of 30 for ten, then of 100 again; the producer sends all it may.
#[tokio::test(start_paused = true)]
async fn the_rate_follows_the_reader() {
    let rate = AdaptiveRateController::default().initial(200.0).step(2.0);
    let controller = paced(100, rate);
    let mut stream = controller.create_stream();
    let sender = stream.sender();
    tokio::spawn(async move { while sender.send(()).await.is_ok() {} });
    let mut phases = Vec::new();
    for (per_second, seconds) in [(100, 10), (30, 10), (100, 20)] {
        let before = stream.metrics().consumed_count;
        let mut rates = Vec::new();
        let mut depths = Vec::new();
        for _ in 0..per_second * seconds {
            sleep(Duration::from_secs(1) / per_second).await;
            stream.receive().await;
            rates.push(stream.metrics().current_rate_limit);
            depths.push(stream.metrics().current_depth);
        }
        let read = stream.metrics().consumed_count - before;
        let later = rates.len() / 2;
        let mean = rates[later..].iter().sum::<f64>() / (rates.len() - later) as f64;
        let fullest = *depths[later..].iter().max().unwrap();
        phases.push((read as f64 / f64::from(seconds), mean, fullest));
    }
    for ((read, rate, fullest), wanted) in phases.iter().zip([100.0, 30.0, 100.0]) {
        let band = 0.7 * wanted..=1.4 * wanted;
        assert!(band.contains(rate), "{phases:?}");
        assert!(*read >= 0.8 * wanted, "{phases:?}");
        assert!(*fullest < 100, "{phases:?}");
    }
    assert_eq!(stream.metrics().dropped_count, 0);
}

/// Lets one through, has the next wait, and breaks when that looks again.
#[derive(Debug, Default)]
struct Breaks(AtomicU32);

impl Rate for Breaks {
    fn check(&self, _: Duration, _: u64) -> Result<(), Short> {
        Ok(())
    }

    fn spend(&self, _: Duration, _: u64) -> Result<(), Short> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(Short::Wait(MILLI)),
            _ => panic!("a bug in somebody's rate"),
        }
    }

    fn owe(&self, _: Duration, _: u64) {}

    fn refund(&self, _: Duration, _: Duration, _: u64) {}

    fn quota(&self, _: Duration) -> Quota {
        TokenBucket::per_second(1).quota(Duration::ZERO)
    }

    fn per_second(&self) -> f64 {
        1.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_panics_holds_nobody_up() {
    let mut stream = paced(1000, Breaks::default()).create_stream();
    let sender = stream.sender();
    for n in 0..5 {
        let sent = timeout(1000 * MILLI, sender.send(n)).await;
        assert!(sent.expect("there is room").is_ok());
    }
    assert_eq!(stream.metrics().current_rate_limit, f64::INFINITY);
    assert_eq!(counts(&stream.metrics()), (5, 0, 0, 5));
    assert_eq!(stream.receive().await, Some(0));
}
