use std::{collections::VecDeque, fmt, time::Duration};

use super::{Epoch, Quota, Rate, Short};
use crate::{
    ConfigError,
    config::{at_least_one, built},
    sync::{Mutex, lock},
};

/// Up to this limit each stamp is kept as it is. 1000 stamps are 16 KB and found by a search of ten steps.
const EXACT: u64 = 1000;
/// Above, stamps are put together into this many to a window.
const GRAINS: u64 = 100;
/// Debts need stamps as well, and after a change of the rate there may be some of both kinds.
const MOST_STAMPS: usize = (EXACT + GRAINS + 1) as usize;

/// Never more than so many within any window of time.
///
/// # What goes wrong otherwise
///
/// A window that begins anew at fixed times lets through twice its limit around each beginning. Two counters, of which the
/// earlier one fades, let through nearly as much when the requests of a window come together at its edge: they take them for
/// evenly spread.
///
/// # How it works
///
/// By a log of what was spent when. What is in it counts until it is a whole window old.
///
/// | limit | stamps | |
/// |---|---|---|
/// | up to 1000 | as they are | exact: never more than the limit in any window, and never a refusal below it |
/// | above | rounded up to a hundredth of the window | never more than the limit in any window. What was spent counts for up to a hundredth of the window longer; at worst, under steady overload, 99 % of the limit is let in |
///
/// Rounded down, a hundredth more would be let in instead: two whole limits within one window, if they came at its edges.
///
/// The log has no more stamps than the limit, or 101, and 1101 where much is owed; what is spent at the same moment shares
/// one. A stamp is 16 bytes.
///
/// | | |
/// |---|---|
/// | a cost above the limit | is never let in, however long one waits |
/// | owe | is counted whether or not there is room, and as long as anything else |
/// | refund | is taken out of the stamp it was spent at. Nothing, if that has left the window |
/// | the wait | until enough of the oldest stamps have left the window |
/// | the clock steps back | the time stands still until it has caught up |
/// | the rate changes | the limit changes, to what the rate gives in a window; what is in the window stays |
/// | the rate is 0 | nothing is let in. The wait is [`Duration::MAX`] |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_backpressure::rate::{Rate, Short, SlidingWindow};
///
/// let window = SlidingWindow::new(500, Duration::from_secs(10));
/// let seconds = Duration::from_secs;
///
/// assert_eq!(window.spend(seconds(3), 500), Ok(()));
/// assert_eq!(window.spend(seconds(5), 1), Err(Short::Wait(seconds(8))));
/// assert_eq!(window.spend(seconds(13), 1), Ok(()));
/// ```
pub struct SlidingWindow {
    window: u64,
    log: Mutex<Log>,
    epoch: Epoch,
}

impl SlidingWindow {
    /// At most `limit` in any `window`.
    ///
    /// # Panics
    ///
    /// If `limit` is 0, or `window` is below 1 µs or above a hundred years.
    #[track_caller]
    pub fn new(limit: u64, window: Duration) -> Self {
        built(Self::try_new(limit, window))
    }

    /// Like [`new`](Self::new), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `limit` is 0, or `window` is below 1 µs or above a hundred years.
    pub fn try_new(limit: u64, window: Duration) -> Result<Self, ConfigError> {
        const SHORTEST: Duration = Duration::from_micros(1);
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        at_least_one("limit", limit)?;
        if !(SHORTEST..=LONGEST).contains(&window) {
            let expected = "between 1 µs and a hundred years";
            return Err(ConfigError::new("window", format!("{window:?}"), expected));
        }
        let window = nanos(window);
        Ok(Self {
            window,
            log: Mutex::new(Log::new(limit)),
            epoch: Epoch::new(),
        })
    }

    fn at<R>(&self, now: Duration, f: impl FnOnce(&mut Log) -> R) -> R {
        let mut log = lock(&self.log);
        log.pass(nanos(now), self.window);
        f(&mut log)
    }
}

impl Rate for SlidingWindow {
    fn check(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.at(now, |log| log.check(cost, self.window))
    }

    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.at(now, |log| {
            log.check(cost, self.window)?;
            log.add(cost, self.window);
            Ok(())
        })
    }

    fn owe(&self, now: Duration, cost: u64) {
        self.at(now, |log| log.add(cost, self.window));
    }

    fn refund(&self, now: Duration, spent: Duration, cost: u64) {
        self.at(now, |log| log.take_out(nanos(spent), cost, self.window));
    }

    fn quota(&self, now: Duration) -> Quota {
        self.at(now, |log| Quota {
            limit: log.limit,
            remaining: log.left(),
            reset_after: log.stamps.back().map_or(Duration::ZERO, |newest| {
                Duration::from_nanos(newest.at.saturating_add(self.window) - log.now)
            }),
            window: Duration::from_nanos(self.window),
        })
    }

    fn epoch(&self) -> Option<&Epoch> {
        Some(&self.epoch)
    }

    fn per_second(&self) -> f64 {
        let limit = lock(&self.log).limit;
        limit as f64 / Duration::from_nanos(self.window).as_secs_f64()
    }

    /// The limit becomes what this rate gives in a window, rounded, and 1 at least if the rate is above 0. What is not a
    /// number changes nothing.
    fn set_per_second(&self, now: Duration, per_second: f64) {
        if per_second.is_nan() {
            return;
        }
        let limit = per_second * Duration::from_nanos(self.window).as_secs_f64();
        let least = u64::from(per_second > 0.0);
        self.at(now, |log| {
            log.limit = (limit.round() as u64).max(least);
        });
    }
}

impl fmt::Debug for SlidingWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingWindow")
            .field("limit", &lock(&self.log).limit)
            .field("window", &Duration::from_nanos(self.window))
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Log {
    limit: u64,
    /// The latest time there was.
    now: u64,
    /// The oldest first, all of them different, and none empty.
    stamps: VecDeque<Stamp>,
    total: u128,
}

/// What was spent at one moment.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    at: u64,
    cost: u64,
}

impl Log {
    fn new(limit: u64) -> Self {
        Self {
            limit,
            now: 0,
            stamps: VecDeque::new(),
            total: 0,
        }
    }

    /// Lets what has become too old leave the window.
    fn pass(&mut self, now: u64, window: u64) {
        self.now = self.now.max(now);
        while let Some(oldest) = self.stamps.front() {
            if oldest.at.saturating_add(window) > self.now {
                break;
            }
            self.total -= u128::from(oldest.cost);
            self.stamps.pop_front();
        }
    }

    fn check(&self, cost: u64, window: u64) -> Result<(), Short> {
        let excess = (self.total + u128::from(cost)).saturating_sub(u128::from(self.limit));
        if excess == 0 {
            return Ok(());
        }
        if self.limit == 0 {
            return Err(Short::Wait(Duration::MAX));
        }
        if cost > self.limit {
            return Err(Short::Never { most: self.limit });
        }
        let mut leaving = 0;
        let last = self.stamps.iter().find(|stamp| {
            leaving += u128::from(stamp.cost);
            leaving >= excess
        });
        // There is one: without any stamp a cost up to the limit fits.
        let at = last.map_or(self.now, |stamp| stamp.at);
        let wait = at.saturating_add(window).saturating_sub(self.now);
        Err(Short::Wait(Duration::from_nanos(wait)))
    }

    fn add(&mut self, cost: u64, window: u64) {
        if cost == 0 {
            return;
        }
        let at = self.stamp(self.now, window);
        let full = self.stamps.len() >= MOST_STAMPS;
        let added = match self.stamps.back_mut() {
            // Once all stamps are used, what shares the newest counts from now on.
            Some(newest) if newest.at >= at || full => {
                newest.at = newest.at.max(at);
                let added = cost.min(u64::MAX - newest.cost);
                newest.cost += added;
                added
            }
            _ => {
                self.stamps.push_back(Stamp { at, cost });
                cost
            }
        };
        self.total += u128::from(added);
    }

    fn take_out(&mut self, spent: u64, cost: u64, window: u64) {
        if spent.saturating_add(window) <= self.now {
            return;
        }
        // It may stand at a later stamp, but not at an earlier one.
        let spent = self.stamp(spent, window);
        let index = self.stamps.partition_point(|stamp| stamp.at < spent);
        let Some(stamp) = self.stamps.get_mut(index) else {
            return;
        };
        let taken = cost.min(stamp.cost);
        stamp.cost -= taken;
        self.total -= u128::from(taken);
        if stamp.cost == 0 {
            self.stamps.remove(index);
        }
    }

    fn left(&self) -> u64 {
        u64::try_from(self.total).map_or(0, |total| self.limit.saturating_sub(total))
    }

    /// The time at which something counts as spent. Never earlier than it was.
    fn stamp(&self, time: u64, window: u64) -> u64 {
        if self.limit <= EXACT {
            return time;
        }
        time.checked_next_multiple_of(window.div_ceil(GRAINS))
            .unwrap_or(u64::MAX)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
