//! The bounded stream of `tower-backpressure` for Python.
//!
//! # Who takes an item
//!
//! The usual bridge between asyncio and Rust, `future_into_py`, runs a future on a thread of tokio's and hands the result to
//! the event loop with `call_soon_threadsafe`. Between the two there is a gap: a task that is cancelled in it never sees the
//! result, and an item that had been received by then is lost.
//!
//! Here nothing crosses a gap. A coroutine of this module is polled by the very event loop that awaits it, so that an item
//! leaves the stream in the same step in which the awaiting task gets it; what crosses threads is only the call to look
//! again. Cancelling a task drops what it waits with, as in Rust.
//!
//! | | polled by | woken by |
//! |---|---|---|
//! | `await sender.send(item)`, `await stream.receive()` | the event loop | whoever makes room or sends |
//! | `sender.blocking_send(item)`, `for item in stream` | its thread, which waits without the GIL | the same |
//! | a wait for a time (a rate, a time to live) | the same | a thread of tokio's, started when there is one |
//!
//! Everything but the waiting is done with the GIL, and takes less than a microsecond.

mod config;
mod errors;
mod process;
mod sender;
mod stream;
mod wait;

use std::sync::Arc;

use pyo3::{prelude::*, types::PyTuple};
use tower_backpressure::{BackpressureController, BackpressureMetrics};

use crate::{config::AdaptiveRate, process::Birth, sender::Sender, stream::BoundedDSpyStream};

/// An item of a stream. It was weighed before it came near the stream, where no Python code may run.
struct Item {
    object: Py<PyAny>,
    weight: usize,
}

/// What the two ends of a stream share.
struct Common {
    controller: BackpressureController,
    /// Somebody may have to wait for a time.
    timed: bool,
    birth: Birth,
}

impl Common {
    /// The numbers of the stream, as `tower_backpressure.Statistics`.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.birth.check()?;
        let BackpressureMetrics {
            current_depth,
            peak_depth,
            dropped_count,
            produced_count,
            consumed_count,
            throughput_rate,
            backpressure_events,
            current_rate_limit,
            ..
        } = self.controller.metrics();
        py.import("tower_backpressure._types")?
            .getattr("Statistics")?
            .call1((
                current_depth,
                peak_depth,
                dropped_count,
                produced_count,
                consumed_count,
                throughput_rate,
                backpressure_events,
                current_rate_limit,
            ))
    }

    fn describe(&self, what: &str) -> String {
        let (capacity, strategy) = (self.controller.capacity(), self.controller.strategy());
        format!("<{what} capacity={capacity} strategy={strategy}>")
    }
}

/// A bounded stream, and the first of its senders. See `_native.pyi`.
#[pyfunction]
#[pyo3(signature = (capacity, strategy = "block", *, time_to_live = None, rate = None, max_weight = None, weigh = None))]
fn create_stream<'py>(
    py: Python<'py>,
    capacity: &Bound<'py, PyAny>,
    strategy: &str,
    time_to_live: Option<f64>,
    rate: Option<AdaptiveRate>,
    max_weight: Option<&Bound<'py, PyAny>>,
    weigh: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let timed = time_to_live.is_some() || strategy == "adaptive";
    let controller = config::controller(capacity, strategy, time_to_live, rate)?;
    let bound = config::bound_by_weight(max_weight, weigh)?;
    let stream = match &bound {
        None => controller.create_stream(),
        Some((max_weight, _)) => controller
            .try_create_weighted_stream(*max_weight, |item: &Item| item.weight)
            .map_err(config::refused)?,
    };
    let common = Arc::new(Common {
        controller,
        timed,
        birth: Birth::now(),
    });
    let weigher = bound.map(|(_, weigher)| weigher);
    let sender = Sender::new(stream.sender(), Arc::clone(&common), weigher);
    let stream = BoundedDSpyStream::new(stream, common);
    (sender, stream).into_pyobject(py)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Sender>()?;
    module.add_class::<BoundedDSpyStream>()?;
    module.add_function(wrap_pyfunction!(create_stream, module)?)?;
    process::watch(module)
}
