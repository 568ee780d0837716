//! Code of others that is only told something, or only gives advice: wakers, recorders, subscribers, limits.
//!
//! It runs in the middle of what a gate does, and often while a permit is dropped, perhaps already during a panic. A panic
//! of its own that got out would lose a slot or a wake-up there, or end the process. So it ends here, after the panic hook
//! has reported it.

#[cfg(not(backpressure_loom))]
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(not(backpressure_loom))]
pub(crate) fn contained<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // What it panicked with may panic when it is dropped, and what it then panics with is better left alone.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            std::mem::forget(dropped);
            None
        }
    }
}

/// The model checker ends a run by panics of its own.
#[cfg(backpressure_loom)]
pub(crate) fn contained<R>(f: impl FnOnce() -> R) -> Option<R> {
    Some(f())
}
