//! The one word that a decision is made on.

use crate::sync::{AtomicU64, Ordering};

const AGE_AT: u32 = 62;
const FIRST: u64 = 1 << 61;
pub(super) const MAX_DUE: u64 = FIRST - 1;

/// ```text
/// 63..62 age | 61 first | 60..0 due
/// ```
///
/// `age` is how often the rate has changed, so that the word says which scale it is to be read with. `due` is when the bucket is
/// full again, in ticks. `first` is set while a single token is all that was taken since it was full, so that it was full a
/// token's time before `due`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Word(u64);

/// That of a full bucket by default.
#[derive(Debug, Default)]
pub(super) struct AtomicWord(AtomicU64);

impl AtomicWord {
    #[inline]
    pub(super) fn load(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Fails with the word that has come meanwhile.
    #[inline]
    pub(super) fn replace(&self, current: Word, next: Word) -> Result<(), Word> {
        self.0
            .compare_exchange(current.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word)
    }
}

impl Word {
    #[inline]
    pub(super) fn with_due(self, due: u64) -> Self {
        Self(self.0 & !(FIRST | MAX_DUE) | due)
    }

    /// Likewise, where a single token was taken from a full bucket.
    #[inline]
    pub(super) fn with_first_due(self, due: u64) -> Self {
        Self(self.with_due(due).0 | FIRST)
    }

    #[inline]
    pub(super) fn is_first(self) -> bool {
        self.0 & FIRST != 0
    }

    /// When the bucket is full again, if nothing more is taken.
    #[inline]
    pub(super) fn due(self) -> u64 {
        self.0 & MAX_DUE
    }

    #[inline]
    pub(super) fn age(self) -> u64 {
        self.0 >> AGE_AT
    }

    pub(super) fn aged(self) -> Self {
        Self(self.0.wrapping_add(1 << AGE_AT))
    }

    #[inline]
    pub(super) fn slot(self) -> usize {
        (self.age() & 1) as usize
    }

    pub(super) fn next_slot(self) -> usize {
        self.aged().slot()
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_the_rate_moves_the_word_on_to_the_scale_that_was_not_in_use() {
        let mut word = Word(0).with_due(MAX_DUE);
        for change in 0..8 {
            assert_eq!(word.age(), change % 4);
            assert_eq!(word.slot() as u64, change % 2);
            assert_eq!(word.due(), MAX_DUE);
            let next_slot = word.next_slot();
            assert_ne!(next_slot, word.slot(), "nobody reads it");
            word = word.aged();
            assert_eq!(word.slot(), next_slot);
        }
    }

    #[test]
    fn a_first_word_is_one_until_something_else_is_due() {
        let aged = Word(0).aged();
        let first = aged.with_due(MAX_DUE).with_first_due(70);
        assert!(first.is_first() && first.with_first_due(80).is_first());
        assert_eq!(first.due(), 70);
        assert_eq!(first.age(), 1);
        assert!(!first.with_due(70).is_first());
        assert_eq!(first.with_due(90), aged.with_due(90));
    }
}
