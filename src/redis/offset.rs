//! How far the store's clock is from ours, so that a call can say when nobody waits for its answer any more.
//!
//! A call that hung (the store was stopped, the network cut off) may be carried out seconds later. By then the request has been
//! decided otherwise, and the answer that says what was spent may never arrive. So each call carries the moment, in the store's
//! time, after which it must change nothing.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

const UNKNOWN: i64 = i64::MIN;

/// The store's time less ours, in microseconds.
#[derive(Debug)]
pub(super) struct Offset(AtomicI64);

impl Offset {
    pub(super) fn unknown() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }

    /// The store read its clock at `store`, somewhere between `sent` and `back`: half-way, as far as we know.
    pub(super) fn learn(&self, store: u64, sent: Duration, back: Duration) {
        let ours = micros(sent + back.saturating_sub(sent) / 2);
        let store = i64::try_from(store).unwrap_or(i64::MAX);
        self.0.store(store.saturating_sub(ours), Ordering::Relaxed);
    }

    /// The store's time at `time`; 0, which is never, while that is unknown.
    pub(super) fn at_store(&self, time: Duration) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            offset => u64::try_from(micros(time).saturating_add(offset)).unwrap_or(0),
        }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(Offset::unknown().at_store(MS), 0);
    }

    #[test]
    fn the_store_is_taken_to_have_answered_half_way() {
        let offset = Offset::unknown();
        offset.learn(1_000_000, 10 * MS, 14 * MS);
        assert_eq!(offset.at_store(12 * MS), 1_000_000);
        assert_eq!(offset.at_store(62 * MS), 1_050_000);
    }

    #[test]
    fn a_store_that_was_set_back_is_followed() {
        let offset = Offset::unknown();
        offset.learn(9_000_000, MS, MS);
        offset.learn(500, 2 * MS, 2 * MS);
        assert_eq!(offset.at_store(3 * MS), 1500);
    }
}
