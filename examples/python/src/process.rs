//! Which process this is. After a fork the child has copies of everything but of the threads, and of the other side of every
//! stream: what waits on a copy waits for ever. So a copy says what it is instead.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
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

pub(crate) fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[pyfunction]
    fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    pyo3_async_runtimes::tokio::init(builder());
    let py = module.py();
    // Absent where there is no fork.
    if let Ok(register) = py.import("os")?.getattr("register_at_fork") {
        let hook = [("after_in_child", wrap_pyfunction!(forked, module)?)];
        register.call((), Some(&pyo3::types::IntoPyDict::into_py_dict(hook, py)?))?;
    }
    Ok(())
}
