//! What keeps a gate alive.
//!
//! Whoever may let somebody in is a [`Holder`], and counted: layers, services, handles, those that wait. A permit is none: its
//! slot is counted already. Were it counted once more, as an [`Arc`] is, each call would pay for two atomic operations on what
//! all threads write: a sixth of the whole admission on one thread and a fifth to a third on two, where atomics are dear
//! (`cargo bench --bench admission`, 2026-11-29, Intel Xeon).
//!
//! ```text
//! holders  in flight
//!    1..       0..    alive
//!    0         1..    abandoned: alive until the last slot comes back, and nobody is let in any more
//!    0         0      dropped by whoever came last
//! ```
//!
//! The two numbers are two words, and still only one of those who end them drops the gate: the last holder marks the word of
//! the slots as abandoned in the same step in which it sees how many are in flight, and a slot is taken by holders alone, so
//! that from then on that number only falls, and is 0 once. A slot that comes back is let go of in the same step, and what is
//! still to be done then (a queue to look after, numbers to show) is done by one that counts itself first. For those, and for
//! all that does not let anybody in (a charge, an usher), there is the count of the `Arc`, of which both kinds together have one.

#![allow(unsafe_code, reason = "an uncounted pointer")]

use std::{fmt, mem::ManuallyDrop, ops::Deref, ptr, sync::Arc};

use super::Gate;
use crate::{
    limit::Outcome,
    sync::{Ordering, fence},
};

/// Holds a gate, and may let requests in there.
pub struct Holder(ManuallyDrop<Arc<Gate>>);

impl Holder {
    pub(crate) fn new(gate: Gate) -> Self {
        Self(ManuallyDrop::new(Arc::new(gate)))
    }

    /// Whether nobody else has to do with the gate: no holder, no permit, no charge that may yet be corrected. Holds as long as
    /// this holder is not cloned or used.
    pub(crate) fn is_alone(&self) -> bool {
        // The order matters: who is alone in holding it lets nobody else in meanwhile.
        let alone = self.0.holders.load(Ordering::Acquire) == 1
            && self.0.room.slots.read().in_flight() == 0
            && Arc::strong_count(&self.0) == 1;
        // Pairs with the end of the last that was counted by the `Arc`.
        fence(Ordering::Acquire);
        alone
    }

    /// The gate, if this is all there is of it.
    pub(crate) fn get_mut(&mut self) -> Option<&mut Gate> {
        if !self.is_alone() {
            return None;
        }
        #[cfg(backpressure_loom)]
        self.0.alive.end();
        Arc::get_mut(&mut self.0)
    }

    #[cold]
    fn abandon(&mut self) {
        if self.0.room.slots.abandon().in_flight() == 0 {
            #[cfg(backpressure_loom)]
            self.0.alive.end();
            // SAFETY: this was the last holder and there is no slot, so that nobody has an uncounted pointer but this one, which
            // ends here.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

impl Clone for Holder {
    #[inline]
    fn clone(&self) -> Self {
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        // SAFETY: it has been counted.
        Self(unsafe { uncounted(&self.0) })
    }
}

impl Drop for Holder {
    #[inline]
    fn drop(&mut self) {
        // All that the others did is seen by the last.
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.abandon();
        }
    }
}

impl Deref for Holder {
    type Target = Arc<Gate>;

    #[inline]
    fn deref(&self) -> &Arc<Gate> {
        #[cfg(backpressure_loom)]
        self.0.alive.look();
        &self.0
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (***self).fmt(f)
    }
}

/// A gate that a slot in use keeps alive.
pub(super) struct Lent {
    gate: ManuallyDrop<Arc<Gate>>,
    /// The model checker does not know of the `Arc`'s count.
    #[cfg(backpressure_loom)]
    kept: bool,
}

impl Lent {
    /// # Safety
    ///
    /// Until it is [kept](Self::keep) it may be looked at only while a slot is in use that was taken at `gate`.
    #[inline]
    pub(super) unsafe fn new(gate: &Holder) -> Self {
        Self {
            // SAFETY: as promised.
            gate: unsafe { uncounted(gate) },
            #[cfg(backpressure_loom)]
            kept: false,
        }
    }

    /// From now on it is counted, and need not be a slot's any more.
    #[cfg(any(feature = "http", all(test, backpressure_loom)))]
    pub(super) fn keep(&mut self) {
        std::mem::forget(Arc::clone(self));
        #[cfg(backpressure_loom)]
        {
            self.kept = true;
        }
    }

    /// # Safety
    ///
    /// It was kept, and is not looked at again.
    #[cold]
    pub(super) unsafe fn let_go(&mut self) {
        // SAFETY: as promised.
        unsafe { ManuallyDrop::drop(&mut self.gate) }
    }
}

impl Deref for Lent {
    type Target = Arc<Gate>;

    #[inline]
    fn deref(&self) -> &Arc<Gate> {
        #[cfg(backpressure_loom)]
        if !self.kept {
            self.gate.alive.look();
        }
        &self.gate
    }
}

impl Gate {
    /// A slot comes back. If it was all that kept the gate alive, there is none any more.
    ///
    /// Another thread may end the gate as soon as the slot is back, while this function still runs. So `self` is a pointer to it
    /// and not a reference, and of the gate only atomics are borrowed.
    #[inline]
    pub(super) fn release(self: &Arc<Self>, outcome: Outcome) {
        let nth = self.present().completed.fetch_add(1, Ordering::Relaxed);
        let heard = self.present().recording.hears(self, nth);
        if heard || !self.present().room.slots.give_back_unwatched() {
            self.release_watched(outcome);
        }
    }

    /// Likewise, and somebody is to be told, or to be let in, or it may be the last.
    #[inline(never)]
    fn release_watched(self: &Arc<Self>, outcome: Outcome) {
        let gate = Arc::clone(self);
        let word = gate.room.slots.give_back();
        if word.abandoned() && word.in_flight() == 0 {
            #[cfg(backpressure_loom)]
            gate.alive.end();
            // SAFETY: no holder is left, and this was the last slot, which comes back once.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&gate)) }
        }
        gate.recording.completed(&gate, outcome);
        if word.waiting() || word.draining() {
            gate.look_after(word);
        }
    }

    /// Itself, which the model checker then knows to be there.
    #[inline(always)]
    fn present(&self) -> &Self {
        #[cfg(backpressure_loom)]
        self.alive.look();
        self
    }
}

/// # Safety
///
/// Whoever has it must be counted otherwise, and no longer use it once that has ended.
#[inline]
unsafe fn uncounted(gate: &Arc<Gate>) -> ManuallyDrop<Arc<Gate>> {
    // SAFETY: the copy is not dropped, but for the one that stands for all of them.
    ManuallyDrop::new(unsafe { ptr::read(gate) })
}

/// By which the model checker sees whether everybody who is not counted by the `Arc` looks at a gate before it ends.
#[cfg(backpressure_loom)]
#[derive(Default)]
pub(super) struct Alive(loom::cell::UnsafeCell<()>);

// SAFETY: there is nothing in it.
#[cfg(backpressure_loom)]
unsafe impl Sync for Alive {}

#[cfg(backpressure_loom)]
impl Alive {
    fn look(&self) {
        self.0.with(|_| ());
    }

    /// From here on it is somebody's alone.
    pub(super) fn end(&self) {
        self.0.with_mut(|_| ());
    }
}
