//! The beginning and the end of a process.
//!
//! After a fork the child has copies of everything but of the threads, and of the other side of every
//! stream: what waits on a copy waits for ever. So a copy says what it is instead.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    task::Waker,
    thread,
    time::Duration,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, types::IntoPyDict};
use tokio::runtime::{Builder, Runtime};

/// How many forks lie between this process and the one that loaded the module.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Where something was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth(u32);

impl Birth {
    pub(crate) fn now() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    pub(crate) fn check(self) -> PyResult<()> {
        if self == Self::now() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "this stream belongs to the process that made it: make one after the fork",
        ))
    }
}

/// The runtime whose clock wakes those who wait for a time. Started when it is first needed.
///
/// The threads of the one that pyo3-async-runtimes keeps do not survive a fork, and it cannot be replaced; a forked process
/// gets one beside it.
pub(crate) fn timers() -> &'static Runtime {
    static FORKED: Mutex<Option<(Birth, &'static Runtime)>> = Mutex::new(None);

    let now = Birth::now();
    if now == Birth(0) {
        return pyo3_async_runtimes::tokio::get_runtime();
    }
    let mut forked = FORKED.lock().unwrap_or_else(PoisonError::into_inner);
    match *forked {
        Some((birth, runtime)) if birth == now => runtime,
        _ => {
            let runtime = builder().build().expect("a thread can be started");
            let runtime = &*Box::leak(Box::new(runtime));
            *forked = Some((now, runtime));
            runtime
        }
    }
}

/// It only keeps time: nothing is spawned on it.
fn builder() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .thread_name("tower-backpressure")
        .enable_time();
    builder
}

/// Wakes somebody from a thread that Python does not know.
///
/// Such a thread must not be in the interpreter when that ends: before Python 3.14 the thread is unwound then, through frames
/// of Rust, which aborts the process. So the interpreter waits for who is in, and lets nobody in after that.
pub(crate) fn wake_from_outside(waker: &Waker) {
    let _inside = Inside::enter();
    if !is_leaving() {
        Python::try_attach(|_| waker.wake_by_ref());
    }
}

/// Whether the interpreter is about to end.
pub(crate) fn is_leaving() -> bool {
    LEAVING.load(Ordering::SeqCst)
}

static LEAVING: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn watch(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[pyfunction]
    fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
        // Who was inside is in the parent.
        INSIDE.store(0, Ordering::SeqCst);
    }

    #[pyfunction]
    fn leave(py: Python<'_>) {
        LEAVING.store(true, Ordering::SeqCst);
        py.detach(|| {
            while INSIDE.load(Ordering::SeqCst) > 0 {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    pyo3_async_runtimes::tokio::init(builder());
    let py = module.py();
    py.import("atexit")?
        .call_method1("register", (wrap_pyfunction!(leave, module)?,))?;
    // Absent where there is no fork.
    if let Ok(register) = py.import("os")?.getattr("register_at_fork") {
        let hook = [("after_in_child", wrap_pyfunction!(forked, module)?)].into_py_dict(py)?;
        register.call((), Some(&hook))?;
    }
    Ok(())
}
