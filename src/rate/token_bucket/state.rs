//! The one word, and how a change of the rate does not tear it.

use super::{
    super::{Quota, Short},
    ticks::Scale,
};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

const DUE_BITS: u32 = 62;
const MAX_DUE: u64 = (1 << DUE_BITS) - 1;

/// A change of the rate changes the length of a tick, and so what `due` means. The word therefore says by its age which of two
/// scales it is to be read with. A change writes the one that is not in use and then moves the word on, to the next age and
/// to the new ticks in one step; what others had computed with the old scale fails to replace the word, and is computed anew.
/// Nobody ever waits for the one who changes the rate.
///
/// ```text
/// 63..62 age | 61..0 due
/// ```
///
/// All that a request touches is on one cache line, wherever the bucket is kept.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct State {
    word: AtomicU64,
    scales: [Cell; 2],
    /// When the bucket was last found full, in nanoseconds. Written before the word that takes from it, so that whoever has
    /// seen that word knows.
    full_at: AtomicU64,
    /// Held by who changes the rate.
    changing: Mutex<()>,
}

impl State {
    pub(super) fn new(scale: Scale, per_second: f64) -> Self {
        Self {
            word: AtomicU64::new(0),
            scales: [(); 2].map(|()| Cell::new(scale, per_second)),
            full_at: AtomicU64::new(0),
            changing: Mutex::new(()),
        }
    }

    pub(super) fn check(&self, now: u64, cost: u64, burst: u64) -> Result<(), Short> {
        let (word, scale) = self.read();
        spent(word, scale, now, cost, burst).map(drop)
    }

    #[inline]
    pub(super) fn spend(&self, now: u64, cost: u64, burst: u64) -> Result<(), Short> {
        loop {
            let word = self.word();
            let scale = self.scale_of(word);
            let due = spent(word, scale, now, cost, burst);
            // Only what is to replace the word is known to have been read with the right scale.
            let known = match due {
                Ok(due) if cost > 0 => self.take(now, word, scale, due),
                _ => self.word().age() == word.age(),
            };
            if known {
                return due.map(drop);
            }
        }
    }

    pub(super) fn owe(&self, now: u64, cost: u64) {
        loop {
            let (word, scale) = self.read();
            let due = word.due().max(scale.at(now));
            let due = due.saturating_add(scale.ticks(cost)).min(MAX_DUE);
            if cost == 0 || self.take(now, word, scale, due) {
                return;
            }
        }
    }

    pub(super) fn refund(&self, now: u64, spent: u64, cost: u64) {
        loop {
            let (word, scale) = self.read();
            if spent < self.full_at.load(Ordering::Acquire) {
                return;
            }
            let out = word.due().saturating_sub(scale.at(now));
            let due = word.due() - scale.ticks(cost).min(out);
            if due == word.due() || self.swap(word, word.with_due(due)) {
                return;
            }
        }
    }

    pub(super) fn quota(&self, now: u64, burst: u64) -> Quota {
        let (word, scale) = self.read();
        let room = scale.ticks(burst);
        let out = word.due().saturating_sub(scale.at(now));
        Quota {
            limit: burst,
            remaining: room.saturating_sub(out) / scale.token,
            reset_after: scale.until(word.due(), now),
            window: scale.lasting(room),
        }
    }

    pub(super) fn scale(&self) -> Scale {
        self.read().1
    }

    pub(super) fn per_second(&self) -> f64 {
        let slot = self.word().slot();
        f64::from_bits(self.scales[slot].per_second.load(Ordering::Acquire))
    }

    pub(super) fn set_rate(&self, now: u64, per_second: f64, burst: u64) {
        let _changing = lock(&self.changing);
        let (mut word, before) = self.read();
        let (after, per_second) = before.at_rate(per_second, burst);
        if after == before {
            return;
        }
        self.scales[word.next_slot()].write(after, per_second);
        loop {
            let out = word.due().saturating_sub(before.at(now));
            // Rounded up: by changing the rate to and fro nobody gains a token.
            let out = u128::from(out) * u128::from(after.token);
            let out = out.div_ceil(u128::from(before.token));
            let due = out.saturating_add(u128::from(after.at(now)));
            let due = due.min(u128::from(MAX_DUE)) as u64;
            if self.swap(word, word.aged().with_due(due)) {
                return;
            }
            word = self.word();
        }
    }

    /// The word, and the scale to read it with.
    #[inline]
    fn read(&self) -> (Word, Scale) {
        let mut word = self.word();
        loop {
            let scale = self.scale_of(word);
            let again = self.word();
            // Four changes of the rate between the two readings would go unnoticed; for each of them a lock is taken.
            if again.age() == word.age() {
                return (again, scale);
            }
            word = again;
        }
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// A branch, which is foretold, and not an address that has to wait for the word.
    #[inline]
    fn scale_of(&self, word: Word) -> Scale {
        match word.slot() {
            0 => self.scales[0].read(),
            _ => self.scales[1].read_apart(),
        }
    }

    /// Whether `word` was still the one to replace.
    #[inline]
    fn take(&self, now: u64, word: Word, scale: Scale, due: u64) -> bool {
        if word.due() <= scale.at(now) {
            self.full_at.fetch_max(now, Ordering::Release);
        }
        self.swap(word, word.with_due(due))
    }

    #[inline]
    fn swap(&self, current: Word, next: Word) -> bool {
        self.word
            .compare_exchange(current.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// `due` with `cost` spent, if it can be.
#[inline]
fn spent(word: Word, scale: Scale, now: u64, cost: u64, burst: u64) -> Result<u64, Short> {
    let at = scale.at(now);
    let room = scale.ticks(burst);
    let due = word.due().max(at) + scale.ticks(cost);
    if due - at > room {
        return Err(Short::Wait(scale.until(due - room, now)));
    }
    Ok(due)
}

#[derive(Clone, Copy, Debug)]
struct Word(u64);

impl Word {
    #[inline]
    fn due(self) -> u64 {
        self.0 & MAX_DUE
    }

    #[inline]
    fn with_due(self, due: u64) -> Self {
        Self(self.0 & !MAX_DUE | due)
    }

    #[inline]
    fn age(self) -> u64 {
        self.0 >> DUE_BITS
    }

    fn aged(self) -> Self {
        Self(self.0.wrapping_add(1 << DUE_BITS))
    }

    #[inline]
    fn slot(self) -> usize {
        (self.age() & 1) as usize
    }

    fn next_slot(self) -> usize {
        self.aged().slot()
    }
}

/// A scale that is read while another is being written over it; who reads checks the word afterwards.
#[derive(Debug)]
struct Cell {
    token: AtomicU64,
    speed: AtomicU64,
    /// The rate as it was given, the bits of a float.
    per_second: AtomicU64,
}

impl Cell {
    fn new(scale: Scale, per_second: f64) -> Self {
        Self {
            token: AtomicU64::new(scale.token),
            speed: AtomicU64::new(scale.speed),
            per_second: AtomicU64::new(per_second.to_bits()),
        }
    }

    /// What was read here was written before what is read from here on.
    #[inline]
    fn read(&self) -> Scale {
        Scale {
            token: self.token.load(Ordering::Acquire),
            speed: self.speed.load(Ordering::Acquire),
        }
    }

    #[inline(never)]
    fn read_apart(&self) -> Scale {
        self.read()
    }

    fn write(&self, scale: Scale, per_second: f64) {
        self.token.store(scale.token, Ordering::Release);
        self.speed.store(scale.speed, Ordering::Release);
        self.per_second
            .store(per_second.to_bits(), Ordering::Release);
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
}
