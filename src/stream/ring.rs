//! The queue of a stream: bounded by count, by weight and by time, and what happens when it is full.
//!
//! No lock, no waker and no clock: `now` is handed in, and whatever leaves the queue is handed out, so that nobody's `Drop`
//! runs in here. Each item is counted when it goes, in the step that moves it, and until then it is in the queue. So what was
//! produced is what was consumed, what was dropped and what is in the queue, at all times.

#[cfg(all(test, not(backpressure_loom)))]
mod tests;

use std::{collections::VecDeque, time::Duration};

use super::Displaced;
use crate::BackpressureStrategy;

/// Where items are displaced without end, one in so many takes the slow way all the same, on which other things are seen to.
const QUICK_IN_A_ROW: u64 = 64;

/// What does not change once the stream is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) strategy: BackpressureStrategy,
    pub(crate) capacity: usize,
    pub(crate) max_weight: Option<usize>,
    pub(crate) time_to_live: Option<Duration>,
}

/// Why an item was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Another had its place.
    Displaced,
    /// It outlived its time.
    Expired,
    /// Its reader left.
    Unread,
}

impl Gone {
    pub(crate) const ALL: [Self; 3] = [Self::Displaced, Self::Expired, Self::Unread];

    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Displaced => "displaced",
            Self::Expired => "expired",
            Self::Unread => "unread",
        }
    }
}

/// What has been counted since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) produced: u64,
    pub(crate) consumed: u64,
    /// By the reason, [`Gone`].
    pub(crate) dropped: [u64; Gone::ALL.len()],
    /// Episodes of being full.
    pub(crate) events: u64,
    pub(crate) depth: usize,
    pub(crate) peak: usize,
}

impl Tally {
    /// For whatever reason.
    pub(crate) fn all_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

/// In this order, so that what a push touches lies on one cache line with the lock, and what only a pop touches on the next:
/// the first one travels between the threads that send and the one that reads, and more than one would take longer.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ring<T> {
    items: VecDeque<T>,
    capacity: usize,
    displaced: u64,
    strategy: BackpressureStrategy,
    /// Something found no room, and the queue has not been down to half since.
    full: bool,
    /// The quick ways are open. Kept by the owner, who knows who is to be told of an item; here for the cache line.
    pub(super) quick: bool,
    consumed: u64,
    /// The most that was here when something was taken. Between two takings it only grows: the peak may lie after the last.
    peak: usize,
    /// Places that are kept for senders which were told that it is their turn.
    reserved: usize,
    expired: u64,
    unread: u64,
    episodes: u64,
    /// `None` where neither weight nor time is bounded: most streams need not pay for either.
    marks: Option<Box<Marks>>,
}

/// What is known of each item, in the order of the items.
#[derive(Debug)]
struct Marks {
    entries: VecDeque<Mark>,
    weight: usize,
    reserved_weight: usize,
    max_weight: usize,
    time_to_live: Option<Duration>,
}

#[derive(Debug)]
struct Mark {
    weight: usize,
    expires: Duration,
}

impl<T> Ring<T> {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let bounded = bounds.max_weight.is_some() || bounds.time_to_live.is_some();
        Self {
            items: VecDeque::new(),
            capacity: bounds.capacity,
            displaced: 0,
            strategy: bounds.strategy,
            full: false,
            quick: false,
            consumed: 0,
            peak: 0,
            reserved: 0,
            expired: 0,
            unread: 0,
            episodes: 0,
            marks: bounded.then(|| Box::new(Marks::new(bounds))),
        }
    }

    #[inline]
    pub(crate) fn strategy(&self) -> BackpressureStrategy {
        self.strategy
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    pub(crate) fn depth(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn tally(&self) -> Tally {
        let depth = self.items.len();
        let dropped = [self.displaced, self.expired, self.unread];
        Tally {
            // Whatever came in has gone one of two ways, or is still here.
            produced: self.consumed + dropped.iter().sum::<u64>() + depth as u64,
            consumed: self.consumed,
            dropped,
            events: self.episodes,
            depth,
            peak: self.peak.max(depth),
        }
    }

    /// [`push`](Self::push) in the usual case, in as few instructions as there can be: no weight and no time to look at, and
    /// room, or one place to be made.
    ///
    /// # Errors
    ///
    /// With the item, in any other case. Nothing was done.
    #[inline]
    pub(crate) fn push_quickly(&mut self, item: T) -> Result<Option<T>, T> {
        debug_assert!(self.is_simple());
        if self.items.len() < self.capacity {
            self.items.push_back(item);
            return Ok(None);
        }
        let begins = !self.full;
        let slowly = self.displaced % QUICK_IN_A_ROW == 0;
        if self.strategy != BackpressureStrategy::DropOldest || begins || slowly {
            return Err(item);
        }
        self.displaced += 1;
        let oldest = self.items.pop_front();
        self.items.push_back(item);
        Ok(oldest)
    }

    /// [`pop`](Self::pop) in the usual case, with [`note_room`](Self::note_room).
    #[inline]
    pub(crate) fn pop_quickly(&mut self) -> Option<T> {
        debug_assert!(self.is_simple());
        self.peak = self.peak.max(self.items.len());
        let item = self.items.pop_front()?;
        self.consumed += 1;
        if self.full {
            self.full = self.items.len() > self.capacity / 2;
        }
        Some(item)
    }

    /// Whether places are nothing but a number.
    pub(crate) fn is_simple(&self) -> bool {
        self.reserved == 0 && self.marks.is_none()
    }

    /// Whether an item of this weight fits beside what is here and what is promised. No item weighs more than `max_weight`.
    #[inline]
    pub(crate) fn has_room(&self, weight: usize) -> bool {
        self.items.len() + self.reserved < self.capacity
            && match &self.marks {
                None => true,
                Some(marks) => marks.taken() <= marks.max_weight - weight,
            }
    }

    /// Takes an item in, or does what the strategy says. What is displaced has been counted, and goes to `displaced`.
    ///
    /// # Errors
    ///
    /// With the item, if there is no room and the strategy makes none. Nothing was counted.
    #[inline]
    pub(crate) fn push(
        &mut self,
        item: T,
        weight: usize,
        now: Duration,
        displaced: &mut Displaced<T>,
    ) -> Result<(), T> {
        if !self.has_room(weight) {
            self.note_full();
            match self.strategy {
                BackpressureStrategy::DropOldest => {
                    while !self.has_room(weight) && self.drop_oldest(displaced, Gone::Displaced) {}
                }
                BackpressureStrategy::DropNewest => {
                    self.displaced += 1;
                    displaced.push(item);
                    return Ok(());
                }
                BackpressureStrategy::Block
                | BackpressureStrategy::Adaptive
                | BackpressureStrategy::Fail => return Err(item),
            }
        }
        self.append(item, weight, now);
        Ok(())
    }

    /// Keeps a place for an item of this weight. There must be room.
    pub(crate) fn reserve(&mut self, weight: usize) {
        debug_assert!(self.has_room(weight));
        self.reserved += 1;
        if let Some(marks) = &mut self.marks {
            marks.reserved_weight += weight;
        }
    }

    /// The place is not needed any more.
    pub(crate) fn release(&mut self, weight: usize) {
        self.reserved -= 1;
        if let Some(marks) = &mut self.marks {
            marks.reserved_weight -= weight;
        }
    }

    /// Takes an item in for which a place was kept.
    pub(crate) fn push_reserved(&mut self, item: T, weight: usize, now: Duration) {
        self.release(weight);
        self.append(item, weight, now);
    }

    /// The oldest item, however old it is.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.peak = self.peak.max(self.items.len());
        let item = self.take_oldest()?;
        self.consumed += 1;
        Some(item)
    }

    /// When the oldest item will have outlived its time.
    #[inline]
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        self.marks.as_ref()?.next_expiry()
    }

    /// Whether the oldest item has outlived its time.
    #[inline]
    pub(crate) fn has_expired(&self, now: Duration) -> bool {
        self.next_expiry().is_some_and(|expiry| expiry <= now)
    }

    /// Drops what has outlived its time.
    pub(crate) fn expire(&mut self, now: Duration, out: &mut Displaced<T>) {
        while self.has_expired(now) && self.drop_oldest(out, Gone::Expired) {}
        self.note_room();
    }

    /// Drops everything: nobody will read it.
    pub(crate) fn clear(&mut self, out: &mut Displaced<T>) {
        while self.drop_oldest(out, Gone::Unread) {}
    }

    /// How full it is, from 0 to 1: by count or by weight, whichever is more.
    pub(crate) fn level(&self) -> f64 {
        let by_count = self.items.len() as f64 / self.capacity as f64;
        match &self.marks {
            None => by_count,
            Some(marks) => by_count.max(marks.weight as f64 / marks.max_weight as f64),
        }
    }

    /// Notes that something found no room.
    #[inline]
    pub(crate) fn note_full(&mut self) {
        if !self.full {
            self.full = true;
            self.episodes += 1;
        }
    }

    /// Ends the episode if half of the queue is free.
    #[inline]
    pub(crate) fn note_room(&mut self) {
        if self.full {
            let marks = self.marks.as_ref();
            self.full = self.items.len() + self.reserved > self.capacity / 2
                || marks.is_some_and(|marks| marks.taken() > marks.max_weight / 2);
        }
    }

    #[inline]
    fn append(&mut self, item: T, weight: usize, now: Duration) {
        self.items.push_back(item);
        if let Some(marks) = &mut self.marks {
            marks.append(weight, now);
        }
    }

    /// Whether there was one.
    #[inline]
    fn drop_oldest(&mut self, out: &mut Displaced<T>, why: Gone) -> bool {
        self.peak = self.peak.max(self.items.len());
        let Some(item) = self.take_oldest() else {
            return false;
        };
        *match why {
            Gone::Displaced => &mut self.displaced,
            Gone::Expired => &mut self.expired,
            Gone::Unread => &mut self.unread,
        } += 1;
        out.push(item);
        true
    }

    #[inline]
    fn take_oldest(&mut self) -> Option<T> {
        if let Some(marks) = &mut self.marks {
            marks.pop();
        }
        self.items.pop_front()
    }
}

impl Marks {
    fn new(bounds: &Bounds) -> Self {
        Self {
            entries: VecDeque::new(),
            weight: 0,
            reserved_weight: 0,
            max_weight: bounds.max_weight.unwrap_or(usize::MAX),
            time_to_live: bounds.time_to_live,
        }
    }

    fn taken(&self) -> usize {
        self.weight + self.reserved_weight
    }

    fn next_expiry(&self) -> Option<Duration> {
        self.time_to_live?;
        self.entries.front().map(|mark| mark.expires)
    }

    fn append(&mut self, weight: usize, now: Duration) {
        self.weight += weight;
        let time_to_live = self.time_to_live.unwrap_or(Duration::MAX);
        self.entries.push_back(Mark {
            weight,
            expires: now.saturating_add(time_to_live),
        });
    }

    fn pop(&mut self) {
        if let Some(mark) = self.entries.pop_front() {
            self.weight -= mark.weight;
        }
    }
}
