use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tower_backpressure::{
    BackpressureController, BackpressureMetrics, BackpressureStrategy, BoundedStream,
};

pub fn stream<T: Send + 'static>(
    capacity: usize,
    strategy: BackpressureStrategy,
) -> BoundedStream<T> {
    BackpressureController::new(capacity, strategy).create_stream()
}

/// The time that tests can pause.
#[allow(clippy::disallowed_methods, reason = "a test")]
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// What is there.
pub fn drained<T>(stream: &mut BoundedStream<T>) -> Vec<T> {
    std::iter::from_fn(|| stream.try_receive()).collect()
}

/// Produced, consumed, dropped, in the stream.
#[track_caller]
pub fn counts(metrics: &BackpressureMetrics) -> (u64, u64, u64, usize) {
    let BackpressureMetrics {
        produced_count,
        consumed_count,
        dropped_count,
        current_depth,
        ..
    } = *metrics;
    assert_eq!(
        produced_count,
        consumed_count + dropped_count + current_depth as u64
    );
    (produced_count, consumed_count, dropped_count, current_depth)
}

/// A task that is polled by hand, and counts how often it is woken.
#[derive(Default)]
pub struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    pub fn poll_receive<T>(self: &Arc<Self>, stream: &mut BoundedStream<T>) -> Poll<Option<T>> {
        let waker = Waker::from(Arc::clone(self));
        stream.poll_receive(&mut Context::from_waker(&waker))
    }

    pub fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
