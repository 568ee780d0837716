//! What a bucket holds, and how a change of the rate does not tear it.

use super::{
    super::{Quota, Short},
    ticks::{Scale, Speed},
    word::{AtomicWord, MAX_DUE, Word},
};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// A change of the rate changes the length of a tick, and so what `due` means. The word therefore says by its age which of two
/// scales it is to be read with. A change writes the one that is not in use and then moves the word on, to the next age and
/// to the new ticks in one step; what others had computed with the old scale fails to replace the word, and is computed anew.
/// Nobody ever waits for the one who changes the rate.
///
/// A refund has to know when the bucket was last full, since what was spent before has come back already. While a single token
/// is all that was taken since, the word itself says when: it is a first one. Whoever next replaces a first word, and does not
/// find the bucket full again, writes that moment down in `full_at` before. So a bucket that is full time after time costs one
/// atomic operation for each token, like one that is in use.
///
/// Two threads that spend at once send each other the cache line that they write, so what they read for it is on another one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct State {
    written: Written,
    terms: Terms,
}

#[derive(Debug)]
#[repr(align(64))]
struct Written {
    word: AtomicWord,
    /// When the bucket was last found full, in nanoseconds, unless the word is a first one, which is later. Written before any
    /// other word, so that whoever has seen that word knows.
    full_at: AtomicU64,
    /// A count for whoever owns the bucket: here it is at hand after spending.
    tally: AtomicU64,
    /// Of either scale the rate as it was given, the bits of a float. No decision reads it, and here there is room.
    per_second: [AtomicU64; 2],
}

#[derive(Debug)]
#[repr(align(64))]
struct Terms {
    scales: [Cell; 2],
    burst: u64,
    /// Held by who changes the rate.
    changing: Mutex<()>,
}

impl State {
    pub(super) fn new(scale: Scale, per_second: f64, burst: u64) -> Self {
        Self {
            written: Written {
                word: AtomicWord::default(),
                full_at: AtomicU64::new(0),
                tally: AtomicU64::new(0),
                per_second: [(); 2].map(|()| AtomicU64::new(per_second.to_bits())),
            },
            terms: Terms {
                scales: [(); 2].map(|()| Cell::new(scale)),
                burst,
                changing: Mutex::new(()),
            },
        }
    }

    #[inline]
    pub(super) fn burst(&self) -> u64 {
        self.terms.burst
    }

    #[inline]
    pub(super) fn tally(&self) -> &AtomicU64 {
        &self.written.tally
    }

    pub(super) fn check(&self, now: u64, cost: u64) -> Result<(), Short> {
        let seen = self.read(now);
        match seen.spent(cost) {
            Ok(_) => Ok(()),
            Err(due) => self.short(cost, due, seen.scale.room, seen.scale.speed, now),
        }
    }

    #[inline]
    pub(super) fn spend(&self, now: u64, cost: u64) -> Result<(), Short> {
        let word = self.written.word.load();
        let seen = self.seen(word, now);
        match seen.spent(cost) {
            Ok(due) if cost > 0 && self.take(seen, cost, due).is_ok() => Ok(()),
            Err(due) if self.still(word).is_ok() => {
                self.short(cost, due, seen.scale.room, seen.scale.speed, now)
            }
            _ => self.spend_again(now, cost),
        }
    }

    /// The long way, for who was overtaken by others.
    #[inline(never)]
    pub(super) fn spend_again(&self, now: u64, cost: u64) -> Result<(), Short> {
        let mut word = self.written.word.load();
        loop {
            let seen = self.seen(word, now);
            let due = seen.spent(cost);
            // Only what is to replace the word is known to have been read with the right scale.
            let known = match due {
                Ok(due) if cost > 0 => self.take(seen, cost, due),
                _ => self.still(word),
            };
            match (known, due) {
                (Ok(()), Ok(_)) => return Ok(()),
                (Ok(()), Err(due)) => {
                    return self.short(cost, due, seen.scale.room, seen.scale.speed, now);
                }
                (Err(newer), _) => word = newer,
            }
        }
    }

    pub(super) fn owe(&self, now: u64, cost: u64) {
        loop {
            let seen = self.read(now);
            let due = seen.due().max(seen.at);
            let due = due.saturating_add(seen.scale.ticks(cost)).min(MAX_DUE);
            if cost == 0 || self.take(seen, cost, due).is_ok() {
                return;
            }
        }
    }

    pub(super) fn refund(&self, now: u64, spent: u64, cost: u64) {
        loop {
            let seen = self.read(now);
            if self
                .write_down(seen.word, seen.scale.token, seen.scale.speed)
                .is_err()
            {
                continue;
            }
            if spent < self.written.full_at.load(Ordering::Acquire) {
                return;
            }
            let back = seen.scale.ticks(cost).min(seen.out());
            let next = seen.word.with_due(seen.due() - back);
            if back == 0 || self.written.word.replace(seen.word, next).is_ok() {
                return;
            }
        }
    }

    pub(super) fn quota(&self, now: u64) -> Quota {
        let seen = self.read(now);
        let room = seen.scale.room;
        Quota {
            limit: self.burst(),
            remaining: room.saturating_sub(seen.out()) / seen.scale.token,
            reset_after: seen.scale.speed.until(seen.due(), now),
            window: seen.scale.speed.lasting(room),
        }
    }

    pub(super) fn scale(&self) -> Scale {
        self.read(0).scale
    }

    pub(super) fn per_second(&self) -> f64 {
        let slot = self.written.word.load().slot();
        f64::from_bits(self.written.per_second[slot].load(Ordering::Acquire))
    }

    pub(super) fn set_rate(&self, now: u64, per_second: f64) {
        let _changing = lock(&self.terms.changing);
        let mut seen = self.read(now);
        let before = seen.scale;
        let (after, per_second) = before.at_rate(per_second, self.burst());
        if after == before {
            return;
        }
        let slot = seen.word.next_slot();
        self.terms.scales[slot].write(after);
        self.written.per_second[slot].store(per_second.to_bits(), Ordering::Release);
        let change = |seen: Seen| {
            self.write_down(seen.word, before.token, before.speed)?;
            // Rounded up: by changing the rate to and fro nobody gains a token.
            let out = u128::from(seen.out()) * u128::from(after.token);
            let out = out.div_ceil(u128::from(before.token));
            let due = out.saturating_add(u128::from(after.speed.at(now)));
            let due = due.min(u128::from(MAX_DUE)) as u64;
            let next = seen.word.aged().with_due(due);
            self.written.word.replace(seen.word, next)
        };
        while let Err(newer) = change(seen) {
            seen.word = newer;
        }
    }

    /// Apart, so that whoever gets his tokens does not make room on the stack for it.
    #[inline(never)]
    fn short(&self, cost: u64, due: u64, room: u64, speed: Speed, now: u64) -> Result<(), Short> {
        let most = self.burst();
        if cost > most {
            return Err(Short::Never { most });
        }
        // With the scales of two rates, as `still` has it, it may be anything.
        Err(Short::Wait(speed.until(due.saturating_sub(room), now)))
    }

    /// The word, and surely the scale to read it with.
    #[inline]
    fn read(&self, now: u64) -> Seen {
        let mut word = self.written.word.load();
        loop {
            let seen = self.seen(word, now);
            match self.still(word) {
                Ok(()) => return seen,
                Err(newer) => word = newer,
            }
        }
    }

    /// The scale is that of the word if the word's age has not changed since.
    #[inline]
    fn seen(&self, word: Word, now: u64) -> Seen {
        // A branch, which is foretold, and not an address that has to wait for the word.
        let scale = match word.slot() {
            0 => &self.terms.scales[0],
            _ => self.terms.odd(),
        };
        let scale = scale.read();
        Seen {
            word,
            scale,
            at: scale.speed.at(now),
            now,
        }
    }

    /// Fails with the word that has come meanwhile.
    #[inline]
    fn take(&self, seen: Seen, cost: u64, due: u64) -> Result<(), Word> {
        let Seen { word, at, .. } = seen;
        let next = if seen.due() > at {
            if word.is_first() {
                self.write_down(word, seen.scale.token, seen.scale.speed)?;
            }
            word.with_due(due)
        } else if cost == 1 && seen.scale.speed.tells_nanoseconds_at(at) {
            word.with_first_due(due)
        } else {
            self.note_full(word, seen.now)?;
            word.with_due(due)
        };
        self.written.word.replace(word, next)
    }

    /// What a first word says of the moment at which the bucket was full. Apart, and of values that fit into registers, like
    /// [`short`](Self::short).
    #[inline(never)]
    fn write_down(&self, word: Word, token: u64, speed: Speed) -> Result<(), Word> {
        if !word.is_first() {
            return Ok(());
        }
        // A word of another scale may say anything; it is found to be another below.
        let full = word.due().saturating_sub(token);
        self.note_full(word, speed.first_nanosecond(full))
    }

    /// Not if the word is another one meanwhile: what is noted cannot be taken back, and `nanos` may have been found with the
    /// wrong scale.
    fn note_full(&self, word: Word, nanos: u64) -> Result<(), Word> {
        let newer = self.written.word.load();
        if newer != word {
            return Err(newer);
        }
        self.written.full_at.fetch_max(nanos, Ordering::Release);
        Ok(())
    }

    /// Whether what was read was the scale of `word`. Four changes of the rate between the two readings would go unnoticed; for
    /// each of them a lock is taken.
    #[inline]
    fn still(&self, word: Word) -> Result<(), Word> {
        let newer = self.written.word.load();
        if newer.age() == word.age() {
            Ok(())
        } else {
            Err(newer)
        }
    }
}

impl Terms {
    /// A function of its own is what makes it a branch.
    #[inline(never)]
    fn odd(&self) -> &Cell {
        &self.scales[1]
    }
}

/// What the bucket was found to be.
#[derive(Clone, Copy, Debug)]
struct Seen {
    word: Word,
    scale: Scale,
    /// When, in ticks and in nanoseconds.
    at: u64,
    now: u64,
}

impl Seen {
    /// When it is full again, if nothing more is taken.
    #[inline]
    fn due(self) -> u64 {
        self.word.due()
    }

    /// What it lacks, in ticks.
    fn out(self) -> u64 {
        self.due().saturating_sub(self.at)
    }

    /// `due` with `cost` spent; as an error if there is not enough for it, and 0 if there never is. A full bucket has enough for
    /// whatever is not above the burst.
    #[inline]
    fn spent(self, cost: u64) -> Result<u64, u64> {
        let room = self.scale.room;
        let cost = self.scale.ticks(cost);
        if cost > room {
            return Err(0);
        }
        if self.due() <= self.at {
            return Ok(self.at + cost);
        }
        let due = self.due() + cost;
        if due - self.at > room {
            return Err(due);
        }
        Ok(due)
    }
}

/// A scale that is read while another is being written over it; who reads checks the word afterwards.
#[derive(Debug)]
struct Cell {
    token: AtomicU64,
    room: AtomicU64,
    speed: AtomicU64,
}

impl Cell {
    fn new(scale: Scale) -> Self {
        Self {
            token: AtomicU64::new(scale.token),
            room: AtomicU64::new(scale.room),
            speed: AtomicU64::new(scale.speed.0),
        }
    }

    /// What was read here was written before what is read from here on.
    #[inline]
    fn read(&self) -> Scale {
        Scale {
            token: self.token.load(Ordering::Acquire),
            room: self.room.load(Ordering::Acquire),
            speed: Speed(self.speed.load(Ordering::Acquire)),
        }
    }

    fn write(&self, scale: Scale) {
        self.token.store(scale.token, Ordering::Release);
        self.room.store(scale.room, Ordering::Release);
        self.speed.store(scale.speed.0, Ordering::Release);
    }
}
