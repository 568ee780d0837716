//! The limit, the requests in flight and what a returning permit must look after, in one atomic word.
//!
//! Were they two words, a limit lowered between reading the one and changing the other would let a request in above
//! it; as one word, in flight above a new, lower limit is simply a debt that returning permits pay off before anybody
//! is let in again. A semaphore cannot do that: taking permits away from it reaches only those that are free.
//!
//! ```text
//! 63 DRAINING | 62 WAITING | 61 FULL | 60 ABANDONED | 59..30 limit | 29..0 in flight
//! ```

use crate::{
    limit::MAX_LIMIT,
    sync::{AtomicU64, Ordering},
};

/// Nobody is let in any more.
const DRAINING: u64 = 1 << 63;
/// Somebody in the queue has not been called yet: whoever frees a slot must look at the queue.
const WAITING: u64 = 1 << 62;
/// An episode of being full is under way: it began with an arrival that found no slot, and ends when one is let in
/// with no more than half of the limit in flight.
const FULL: u64 = 1 << 61;

/// Whoever could let somebody in has gone: with the last slot the gate goes as well.
const ABANDONED: u64 = 1 << 60;
/// Whoever gives a slot back then has more to do.
const WATCHED: u64 = DRAINING | WAITING | ABANDONED;

const LIMIT_SHIFT: u32 = 30;
const IN_FLIGHT: u64 = (1 << LIMIT_SHIFT) - 1;
const LIMIT: u64 = (MAX_LIMIT as u64) << LIMIT_SHIFT;

/// One reading of the word. All arithmetic is here; [`Slots`] only makes it atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    fn new(limit: usize) -> Self {
        Self(0).with_limit(limit)
    }

    #[inline]
    pub(crate) fn limit(self) -> usize {
        ((self.0 & LIMIT) >> LIMIT_SHIFT) as usize
    }

    #[inline]
    pub(crate) fn in_flight(self) -> usize {
        (self.0 & IN_FLIGHT) as usize
    }

    /// How many could be let in now.
    #[inline]
    pub(crate) fn free(self) -> usize {
        if self.draining() {
            return 0;
        }
        self.limit().saturating_sub(self.in_flight())
    }

    #[inline]
    fn has_room(self, turn: Turn) -> bool {
        self.free() > 0 && !(turn == Turn::AfterTheQueue && self.waiting())
    }

    #[inline]
    pub(crate) fn draining(self) -> bool {
        self.0 & DRAINING != 0
    }

    #[inline]
    pub(crate) fn waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    #[inline]
    pub(crate) fn abandoned(self) -> bool {
        self.0 & ABANDONED != 0
    }

    fn full_episode(self) -> bool {
        self.0 & FULL != 0
    }

    fn with_limit(self, limit: usize) -> Self {
        let limit = limit.clamp(1, MAX_LIMIT) as u64;
        Self(self.0 & !LIMIT | limit << LIMIT_SHIFT)
    }

    #[inline]
    fn with_one_more(self) -> Self {
        let calm = self.in_flight() * 2 <= self.limit();
        let word = if calm { self.0 & !FULL } else { self.0 };
        Self(word + 1)
    }
}

/// Which free slots an arrival may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Any: those that wait were woken for it, and if they are there they come for the next.
    Open,
    /// None that those in the queue are waiting for.
    AfterTheQueue,
}

#[derive(Debug)]
pub(crate) struct Slots(AtomicU64);

impl Slots {
    pub(crate) fn new(limit: usize) -> Self {
        Self(AtomicU64::new(Word::new(limit).0))
    }

    #[inline]
    pub(crate) fn read(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Like [`read`](Self::read), but certainly the latest: for who is about to sleep until the word changes.
    pub(crate) fn read_latest(&self) -> Word {
        Word(self.0.fetch_or(0, Ordering::AcqRel))
    }

    /// Takes a free slot, or says what stood in the way. Gives the number in flight, this one included.
    #[inline]
    pub(crate) fn try_take(&self, turn: Turn) -> Result<u32, Word> {
        let mut word = self.read();
        loop {
            if !word.has_room(turn) {
                return Err(word);
            }
            match self.swap(word, word.with_one_more()) {
                Ok(()) => return Ok(word.in_flight() as u32 + 1),
                Err(now) => word = now,
            }
        }
    }

    /// Whether a slot could be taken now, or what stands in the way.
    pub(crate) fn look(&self, turn: Turn) -> Result<(), Word> {
        let word = self.read();
        if word.has_room(turn) {
            Ok(())
        } else {
            Err(word)
        }
    }

    /// Takes a slot whether or not one is free.
    ///
    /// More than can be counted can only be the work of somebody who forgets futures instead of dropping them, a thousand
    /// million of them. That ends the process, as it does when an `Arc` is forgotten as often.
    pub(crate) fn take_anyway(&self) -> u32 {
        let mut word = self.read();
        loop {
            if word.in_flight() == MAX_LIMIT {
                std::process::abort();
            }
            match self.swap(word, Word(word.0 + 1)) {
                Ok(()) => return word.in_flight() as u32 + 1,
                Err(now) => word = now,
            }
        }
    }

    /// Gives a slot back. The answer is the word from then on: if it has somebody waiting or is draining, there is
    /// more to do.
    ///
    /// To be called once for each slot that was taken: in a gate that nobody holds any more the slots keep it alive, and one
    /// given back twice would end it under another's permit.
    #[inline]
    pub(crate) fn give_back(&self) -> Word {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(Word(before).in_flight() > 0, "a slot was given back twice");
        Word(before - 1)
    }

    /// Gives a slot back if that is all there is to do, and says whether it was. Likewise once for each.
    #[inline]
    pub(crate) fn give_back_unwatched(&self) -> bool {
        let mut word = self.read();
        loop {
            debug_assert!(word.in_flight() > 0, "a slot was given back twice");
            if word.0 & WATCHED != 0 {
                return false;
            }
            match self.swap(word, Word(word.0 - 1)) {
                Ok(()) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Moves the limit; gives the word before.
    pub(crate) fn set_limit(&self, limit: usize) -> Word {
        let mut word = self.read();
        while let Err(now) = self.swap(word, word.with_limit(limit)) {
            word = now;
        }
        word
    }

    /// For the holder of the queue's lock.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        if waiting {
            self.0.fetch_or(WAITING, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }

    /// Lets nobody in from now on.
    pub(crate) fn drain(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }

    /// Nobody takes a slot from now on. The word tells how many have yet to come back.
    pub(crate) fn abandon(&self) -> Word {
        Word(self.0.fetch_or(ABANDONED, Ordering::AcqRel))
    }

    /// Notes that an arrival found no slot. Whether it is the first of an episode.
    pub(crate) fn found_full(&self, word: Word) -> bool {
        !word.full_episode() && !Word(self.0.fetch_or(FULL, Ordering::Relaxed)).full_episode()
    }

    #[inline]
    fn swap(&self, current: Word, next: Word) -> Result<(), Word> {
        self.0
            .compare_exchange_weak(current.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word)
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_limit_is_a_debt_that_returning_permits_pay() {
        let slots = Slots::new(3);
        for n in 1..=3 {
            assert_eq!(slots.try_take(Turn::Open), Ok(n));
        }
        slots.set_limit(1);
        assert_eq!(slots.read().in_flight(), 3);
        slots.give_back();
        slots.give_back();
        assert!(slots.try_take(Turn::Open).is_err());
        slots.give_back();
        assert_eq!(slots.try_take(Turn::Open), Ok(1));
    }

    #[test]
    fn a_raised_limit_pays_the_debt_first() {
        let slots = Slots::new(10);
        for _ in 0..10 {
            slots.try_take(Turn::Open).unwrap();
        }
        slots.set_limit(2);
        slots.set_limit(11);
        assert_eq!(slots.read().free(), 1);
    }

    #[test]
    fn the_limit_stays_within_its_bits_and_above_zero() {
        let slots = Slots::new(usize::MAX);
        assert_eq!(slots.read().limit(), MAX_LIMIT);
        assert_eq!(slots.read().in_flight(), 0);
        slots.set_limit(0);
        assert_eq!(slots.read().limit(), 1);
        assert!(!slots.read().draining() && !slots.read().waiting());
    }

    #[test]
    fn who_comes_after_the_queue_leaves_its_slot_alone() {
        let slots = Slots::new(1);
        slots.set_waiting(true);
        assert!(slots.try_take(Turn::AfterTheQueue).is_err());
        assert_eq!(slots.try_take(Turn::Open), Ok(1));
    }

    #[test]
    fn an_episode_begins_once_and_ends_when_half_is_free() {
        let slots = Slots::new(4);
        for _ in 0..4 {
            slots.try_take(Turn::Open).unwrap();
        }
        assert!(slots.found_full(slots.read()));
        assert!(!slots.found_full(slots.read()));
        slots.give_back();
        slots.try_take(Turn::Open).unwrap();
        assert!(!slots.found_full(slots.read()), "still nearly full");
        slots.give_back();
        slots.give_back();
        slots.try_take(Turn::Open).unwrap();
        assert!(slots.found_full(slots.read()), "half was free in between");
    }

    #[test]
    fn an_episode_lasts_while_more_than_half_is_in_flight() {
        let slots = Slots::new(10);
        for _ in 0..6 {
            slots.try_take(Turn::Open).unwrap();
        }
        assert!(slots.found_full(slots.read()));
        slots.try_take(Turn::Open).unwrap();
        assert!(!slots.found_full(slots.read()), "six of ten were in flight");
        slots.give_back();
        slots.give_back();
        slots.try_take(Turn::Open).unwrap();
        assert!(slots.found_full(slots.read()), "five of ten were");
    }

    #[test]
    fn a_draining_gate_has_nothing_free() {
        let slots = Slots::new(2);
        slots.drain();
        assert!(slots.try_take(Turn::Open).unwrap_err().draining());
    }

    #[test]
    fn a_look_says_what_a_try_would_and_takes_nothing() {
        let slots = Slots::new(1);
        assert_eq!(slots.look(Turn::Open), Ok(()));
        assert_eq!(slots.try_take(Turn::Open), Ok(1));
        assert_eq!(slots.look(Turn::Open), Err(slots.read()));
    }

    #[test]
    fn a_slot_taken_anyway_is_counted_and_has_to_come_back() {
        let slots = Slots::new(1);
        assert_eq!(slots.take_anyway(), 1);
        assert_eq!(slots.take_anyway(), 2);
        assert_eq!(slots.take_anyway(), 3);
        assert_eq!(slots.give_back(), slots.read());
        assert_eq!(slots.give_back().in_flight(), 1);
        assert!(slots.try_take(Turn::Open).is_err());
        assert_eq!(slots.give_back().in_flight(), 0);
        assert_eq!(slots.try_take(Turn::Open), Ok(1));
    }
}
