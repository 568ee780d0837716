//! Feeds samples to the limit's algorithm, one at a time, without making anybody wait.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_queue::ArrayQueue;

use crate::{
    limit::{Limit, MAX_LIMIT, Sample},
    slots::Slots,
    sync::{Mutex, TryLockError, lock},
};

/// Samples that may wait while another thread learns; beyond that the oldest is forgotten.
const LATE: usize = 64;

pub(crate) struct Learner {
    /// `None` after it has panicked.
    limit: Mutex<Option<Box<dyn Limit>>>,
    late: ArrayQueue<Sample>,
    learns: bool,
}

impl Learner {
    pub(crate) fn new(limit: impl Limit) -> Self {
        Self {
            learns: limit.learns(),
            limit: Mutex::new(Some(Box::new(limit))),
            late: ArrayQueue::new(LATE),
        }
    }

    pub(crate) fn learns(&self) -> bool {
        self.learns
    }

    /// Learns from a sample and moves the limit in `slots`. Gives the limit before and after, if it moved.
    ///
    /// While another thread is learning the sample is left with that thread, or with whoever comes next.
    pub(crate) fn learn(&self, sample: Sample, slots: &Slots) -> Option<(usize, usize)> {
        let mut limit = match self.limit.try_lock() {
            Ok(limit) => limit,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.late.force_push(sample);
                return None;
            }
        };
        let late = (0..LATE).map_while(|_| self.late.pop());
        let mut next = None;
        for sample in late.chain([sample]) {
            next = guarded(&mut limit, |limit| limit.update(&sample)).or(next);
        }
        let before = slots.read().limit();
        let after = next?.clamp(1, MAX_LIMIT);
        if before == after {
            return None;
        }
        slots.set_limit(after);
        Some((before, after))
    }

    /// The limit was set by hand. Gives the limit before and after.
    pub(crate) fn set_limit(&self, to: usize, slots: &Slots) -> (usize, usize) {
        let mut limit = lock(&self.limit);
        let kept = guarded(&mut limit, |limit| limit.set_limit(to)).unwrap_or(to);
        let after = kept.clamp(1, MAX_LIMIT);
        (slots.set_limit(after).limit(), after)
    }
}

/// Runs code of the user's that may panic. It is called while permits are dropped, perhaps already during a panic, where
/// a second one would abort the process: the panic ends here, and so does the learning.
fn guarded<R>(
    limit: &mut Option<Box<dyn Limit>>,
    f: impl FnOnce(&mut dyn Limit) -> R,
) -> Option<R> {
    let algorithm = limit.as_deref_mut()?;
    match catch_unwind(AssertUnwindSafe(|| f(algorithm))) {
        Ok(result) => Some(result),
        Err(_) => {
            *limit = None;
            None
        }
    }
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learner")
            .field("late", &self.late.len())
            .finish_non_exhaustive()
    }
}
