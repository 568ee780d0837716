//! A waker whose every function is a point. The standard library's safe way to make one has no say in how it is cloned.
#![allow(
    unsafe_code,
    reason = "nothing safe lets a test see a waker being cloned"
)]

use std::{
    mem::ManuallyDrop,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{RawWaker, RawWakerVTable, Waker},
};

use crate::points::point;

/// Raised when its task is woken.
pub type Flag = Arc<AtomicBool>;

pub fn waker(flag: &Flag) -> Waker {
    let raw = RawWaker::new(Arc::into_raw(Arc::clone(flag)).cast(), &VTABLE);
    // SAFETY: the data is a count of an `Arc<AtomicBool>`, which may be used from any thread; `clone` takes one count
    // more, `wake` and `drop` give one back, `wake_by_ref` none.
    unsafe { Waker::from_raw(raw) }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        point("waker.clone");
        // SAFETY: see `waker`.
        let flag = unsafe { ManuallyDrop::new(Flag::from_raw(data.cast())) };
        RawWaker::new(Arc::into_raw(Arc::clone(&flag)).cast(), &VTABLE)
    },
    |data| {
        // SAFETY: see `waker`.
        let flag = unsafe { Flag::from_raw(data.cast()) };
        // First of all it does its work: what it wakes is not to blame.
        flag.store(true, SeqCst);
        drop(flag);
        point("waker.wake");
    },
    |data| {
        // SAFETY: see `waker`.
        let flag = unsafe { ManuallyDrop::new(Flag::from_raw(data.cast())) };
        flag.store(true, SeqCst);
        point("waker.wake");
    },
    |data| {
        // SAFETY: see `waker`.
        drop(unsafe { Flag::from_raw(data.cast()) });
        point("waker.drop");
    },
);
