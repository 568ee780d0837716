//! Rust's errors as the exceptions of `tower_backpressure._types`.

use pyo3::{prelude::*, sync::PyOnceLock, types::PyType};
use tower_backpressure::stream::{Overflow, SendError, SendErrorKind};

use crate::Item;

pub(crate) fn not_sent(py: Python<'_>, error: SendError<Item>) -> PyErr {
    let message = error.to_string();
    let kind = error.kind();
    let item = error.into_item().object;
    match kind {
        SendErrorKind::Full => raise(py, "StreamFull", (message, item)),
        SendErrorKind::TooEarly(wait) => raise(py, "TooEarly", (message, item, wait.as_secs_f64())),
        SendErrorKind::TooHeavy => raise(py, "TooHeavy", (message, item)),
        _ => raise(py, "StreamClosed", (message, item)),
    }
}

/// By a sender that has been closed.
pub(crate) fn sender_closed(py: Python<'_>, item: Py<PyAny>) -> PyErr {
    raise(
        py,
        "StreamClosed",
        ("not sent: this sender has been closed", item),
    )
}

pub(crate) fn overflowed(py: Python<'_>, overflow: Overflow) -> PyErr {
    raise(
        py,
        "StreamOverflow",
        (overflow.to_string(), overflow.capacity()),
    )
}

pub(crate) fn ended(py: Python<'_>) -> PyErr {
    raise(py, "EndOfStream", ("the stream has ended",))
}

pub(crate) fn empty(py: Python<'_>) -> PyErr {
    raise(
        py,
        "StreamEmpty",
        ("nothing is in the stream now, or others wait for it",),
    )
}

fn raise<'py, A>(py: Python<'py>, name: &str, arguments: A) -> PyErr
where
    A: pyo3::call::PyCallArgs<'py>,
{
    static TYPES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

    let exception = TYPES
        .get_or_try_init(py, || Ok(py.import("tower_backpressure._types")?.unbind()))
        .and_then(|types| {
            let class = types.bind(py).getattr(name)?.cast_into::<PyType>()?;
            class.call1(arguments)
        });
    match exception {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
