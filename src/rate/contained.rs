use std::ops::Deref;

use super::Rate;
use crate::{
    contained::contained,
    sync::{AtomicBool, Ordering},
};

/// A rate, and what keeps its user whole if it panics: it is not asked again then, and lets everybody in.
#[derive(Debug)]
pub(crate) struct Contained<R> {
    rate: R,
    broken: AtomicBool,
}

impl<R: Deref<Target = dyn Rate>> Contained<R> {
    pub(crate) fn new(rate: R) -> Self {
        Self {
            rate,
            broken: AtomicBool::new(false),
        }
    }

    /// The rate as it is, for when something is made of it.
    pub(crate) fn get(&self) -> &dyn Rate {
        &*self.rate
    }

    /// `None` if it has panicked, now or before.
    #[inline]
    pub(crate) fn with<T>(&self, f: impl FnOnce(&dyn Rate) -> T) -> Option<T> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        let result = contained(|| f(&*self.rate));
        if result.is_none() {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }
}
