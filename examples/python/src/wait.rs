//! Waiting: in a coroutine, and on a thread.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyRuntimeError, intern, prelude::*};
use tokio::runtime::Runtime;

use crate::process::{is_leaving, timers, wake_from_outside};

/// How long the main thread waits at most before it looks for signals: no Ctrl-C reaches it in between.
const SIGNALS: Duration = Duration::from_millis(50);

/// A coroutine that never has to wait never lets its event loop do anything else. So, now and then, it waits for nothing.
pub(crate) struct Budget(AtomicU32);

impl Budget {
    const STEPS: u32 = 64;

    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// To be awaited before anything is done, so that cancelling it loses nothing.
    pub(crate) async fn spend(&self) {
        let spent = self.0.fetch_add(1, Ordering::Relaxed) % Self::STEPS;
        let mut waited = spent + 1 < Self::STEPS;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// A future that may wait for a time, wherever it is polled.
pub(crate) struct Timed<F> {
    runtime: Option<&'static Runtime>,
    future: F,
}

impl<F: Future + Unpin> Timed<F> {
    pub(crate) fn new(timed: bool, future: F) -> Self {
        let runtime = timed.then(timers);
        Self { runtime, future }
    }
}

impl<F: Future + Unpin> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(runtime) = self.runtime else {
            return Pin::new(&mut self.future).poll(cx);
        };
        let _entered = runtime.enter();
        let waker = Waker::from(Arc::new(FromOutside(cx.waker().clone())));
        let polled = Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker));
        if polled.is_pending() && is_leaving() {
            // No timer wakes anybody any more.
            cx.waker().wake_by_ref();
        }
        polled
    }
}

/// Wakes from a thread of tokio's as well.
struct FromOutside(Waker);

impl Wake for FromOutside {
    fn wake(self: Arc<Self>) {
        wake_from_outside(&self.0);
    }
}

/// Waits on this thread, without the GIL. `None` when it took longer than `timeout`.
///
/// Everything but the waiting is done with the GIL, so that items come and go with it.
///
/// # Errors
///
/// If a signal's handler raised, such as that of Ctrl-C.
pub(crate) fn block_on<F: Future>(
    py: Python<'_>,
    timeout: Option<Duration>,
    future: F,
) -> PyResult<Option<F::Output>> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
        return Ok(Some(output));
    }
    let signals = is_main_thread(py)?;
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        let most = match (left, signals) {
            (Some(left), true) => Some(left.min(SIGNALS)),
            (None, true) => Some(SIGNALS),
            (left, false) => left,
        };
        py.detach(|| most.map_or_else(thread::park, thread::park_timeout));
        py.check_signals()?;
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Ok(Some(output));
        }
    }
}

/// # Errors
///
/// If this thread runs an event loop, which it would stop: with it, most likely, whoever is waited for.
pub(crate) fn may_block(py: Python<'_>, what: &str, instead: &str) -> PyResult<()> {
    let events = py.import(intern!(py, "asyncio"))?;
    let running = events.call_method0(intern!(py, "_get_running_loop"))?;
    if running.is_none() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!(
        "{what} would stop the event loop that runs on this thread: use {instead}"
    )))
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    main.eq(threading.call_method0("get_ident")?)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
