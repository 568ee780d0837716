//! The atomics and the lock of the gate; under `--cfg backpressure_loom` those of the model checker.

#[cfg(not(backpressure_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, TryLockError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(backpressure_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(backpressure_loom)]
pub(crate) use std::sync::TryLockError;

/// Locks even when a holder panicked: what the locks of this crate guard is whole between any two statements that may
/// panic, and a second panic in a `Drop` would abort the process.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
