//! A service under the test's control.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::Semaphore;
use tower::Service;

/// Answers when the test says so, and counts who is inside. It panics when it is called without having been readied:
/// on that very instance, once for each call.
#[derive(Debug, Default)]
pub struct Work {
    readied: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inside: AtomicUsize,
    peak: AtomicUsize,
    calls: AtomicUsize,
    finished: Semaphore,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            inside: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            finished: Semaphore::new(0),
        }
    }
}

impl Work {
    /// Lets `n` calls finish, in any order.
    pub fn finish(&self, n: usize) {
        self.shared.finished.add_permits(n);
    }

    /// Calls that may finish and have not done so yet.
    pub fn waiting_to_finish(&self) -> usize {
        self.shared.finished.available_permits()
    }

    pub fn inside(&self) -> usize {
        self.shared.inside.load(Ordering::SeqCst)
    }

    /// The most that were ever inside at once.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// The peak from now on.
    pub fn reset_peak(&self) {
        self.shared.peak.store(self.inside(), Ordering::SeqCst);
    }
}

impl Clone for Work {
    fn clone(&self) -> Self {
        Self {
            readied: false,
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Inside(Arc<Shared>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<u32> for Work {
    type Response = u32;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.readied = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(
            std::mem::take(&mut self.readied),
            "called without having been readied"
        );
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            shared.calls.fetch_add(1, Ordering::SeqCst);
            let inside = shared.inside.fetch_add(1, Ordering::SeqCst) + 1;
            shared.peak.fetch_max(inside, Ordering::SeqCst);
            let leaving = Inside(Arc::clone(&shared));
            shared.finished.acquire().await.expect("open").forget();
            drop(leaving);
            Ok(request)
        })
    }
}

/// Lets every task that can go on do so.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
