//! What ties the gate of a key to the one above it, which all keys share.

use std::sync::Arc;

use super::{Gate, Holder, Keys, slot::Spent};
use crate::{limit::Outcome, sync::Ordering};

impl Gate {
    pub(crate) fn above(&self) -> Option<&Gate> {
        self.above.as_ref().map(|above| &***above)
    }

    /// The gate in whose numbers this one shows: the one above, if there is one.
    pub(super) fn shown(&self) -> &Self {
        self.above().unwrap_or(self)
    }

    /// The slot of a call comes back, and that of the gate above. That one first: who waits here needs one there as well.
    #[inline]
    pub(super) fn release_both(self: &Arc<Self>, outcome: Outcome) {
        if self.above.is_some() {
            self.release_above(outcome);
        }
        self.release(outcome);
    }

    #[inline(never)]
    fn release_above(&self, outcome: Outcome) {
        if let Some(above) = &self.above {
            above.release(outcome);
        }
    }

    /// A slot comes back that was never put to use, since the gate above refused the call, and has counted that.
    #[cold]
    pub(super) fn refused_above(self: &Arc<Self>, spent: Option<Spent>) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.take_back(spent);
    }

    /// The gates of the keys below this one.
    pub(crate) fn keys(&self) -> Option<Arc<dyn Keys>> {
        self.keys.as_ref()?.upgrade()
    }
}

/// For whoever keeps the gates of keys.
impl Gate {
    /// Makes this the gate of a key of `above`. One clock is for both.
    pub(crate) fn put_under(&mut self, above: &Holder) {
        self.settings.name = above.settings.name.clone();
        self.clock = above.clock;
        self.room.measure_from(self.clock.born());
        self.above = Some(above.clone());
    }

    /// They are held by the layer, and hold this gate.
    pub(crate) fn set_keys<K: Keys + 'static>(&mut self, keys: &Arc<K>) {
        let weak = Arc::downgrade(keys);
        self.keys = Some(weak);
    }

    pub(crate) fn keys_changed(&self) {
        self.recording.keys(self);
    }

    /// Whether nobody refuses, waits or is let in any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.room.slots.read_latest().draining()
    }

    /// Whether there is nothing in its rates to remember.
    pub(crate) fn owes_nothing(&self) -> bool {
        let now = self.clock.now();
        self.room
            .quotas(now)
            .all(|quota| quota.remaining >= quota.limit)
    }
}
