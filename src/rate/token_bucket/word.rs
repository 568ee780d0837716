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
/// full again, in ticks, or, if `first` is set, when it was full before a single token was taken.
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

    /// A token taken `at` a moment at which the bucket was full.
    #[inline]
    pub(super) fn first_at(self, at: u64) -> Self {
        Self(self.with_due(at).0 | FIRST)
    }

    #[inline]
    pub(super) fn is_first(self) -> bool {
        self.0 & FIRST != 0
    }

    /// When the bucket was full, if a single token is all that was taken since.
    pub(super) fn first(self) -> Option<u64> {
        self.is_first().then(|| self.field())
    }

    /// When the bucket is full again, if nothing more is taken; a token is so many ticks.
    #[inline]
    pub(super) fn due(self, token: u64) -> u64 {
        self.field() + if self.is_first() { token } else { 0 }
    }

    #[inline]
    fn field(self) -> u64 {
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
            assert_eq!(word.due(1), MAX_DUE);
            let next_slot = word.next_slot();
            assert_ne!(next_slot, word.slot(), "nobody reads it");
            word = word.aged();
            assert_eq!(word.slot(), next_slot);
        }
    }

    #[test]
    fn a_first_word_says_when_the_bucket_was_full_and_the_next_one_no_longer() {
        let aged = Word(0).aged();
        let first = aged.with_due(MAX_DUE).first_at(70);
        assert_eq!(first.first(), Some(70));
        assert_eq!(first.due(5), 75);
        assert_eq!(first.age(), 1);
        assert_eq!(first.first_at(80).first(), Some(80));
        assert_eq!(first.with_due(90), aged.with_due(90));
        assert_eq!(first.with_due(90).first(), None);
        assert_eq!(first.with_due(90).due(5), 90);
    }
}
