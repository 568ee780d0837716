//! A handler under the test's control, and waiting for what must come true.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

/// Counts who is inside and lets them go when the test says so.
#[derive(Clone, Debug)]
pub struct Work {
    inside: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    finished: Arc<Semaphore>,
}

impl Work {
    pub fn new() -> Self {
        Self {
            inside: Arc::default(),
            peak: Arc::default(),
            finished: Arc::new(Semaphore::new(0)),
        }
    }

    pub async fn run(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(inside, Ordering::SeqCst);
        self.finished.acquire().await.expect("open").forget();
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn finish(&self, n: usize) {
        self.finished.add_permits(n);
    }

    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

/// Waits until it is so; gives how long that took.
///
/// # Panics
///
/// If it is not so after five seconds.
pub async fn until(what: &str, is_so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = timeout(Duration::from_secs(5), wait).await;
    assert!(waited.is_ok(), "not within five seconds: {what}");
    began.elapsed()
}
