//! The atomics and the lock of the gate; under `--cfg backpressure_loom` those of the model checker.

use std::sync::TryLockError;

#[cfg(backpressure_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(not(backpressure_loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(any(backpressure_loom, backpressure_tsan)))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(backpressure_tsan)]
pub(crate) use self::seen::{Mutex, MutexGuard};

/// Locks even when a holder panicked: what the locks of this crate guard is whole between any two statements that may
/// panic, and a second panic in a `Drop` would abort the process.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Like [`lock`], if nobody holds it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The thread sanitizer does not see the standard library's lock being waited for, and takes what it guards for unguarded.
/// This one is compiled with it.
#[cfg(backpressure_tsan)]
mod seen {
    use std::sync::{LockResult, TryLockError, TryLockResult};

    pub(crate) use parking_lot::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            Ok(self.0.lock())
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            self.0.try_lock().ok_or(TryLockError::WouldBlock)
        }
    }
}
