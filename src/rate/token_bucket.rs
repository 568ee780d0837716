mod state;
mod ticks;
mod word;

#[cfg(all(test, backpressure_loom))]
mod interleavings;
#[cfg(all(test, not(backpressure_loom)))]
mod tests;

use std::{fmt, time::Duration};

use self::{
    state::State,
    ticks::{LONGEST, Scale},
};
use super::{Epoch, Quota, Rate, Short};
use crate::{
    ConfigError,
    config::{at_least_one, built},
    sync::AtomicU64,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// So many tokens per time, and a burst of them after a rest.
///
/// # What goes wrong otherwise
///
/// A counter that is set to 0 every minute lets through twice its limit around the stroke of the minute. A bucket that a task
/// refills wakes up for nobody, and a bucket with a level and a time of its last filling has two values to keep in step and
/// loses the fraction of a token each time it is looked at.
///
/// # How it works
///
/// By the generic cell rate algorithm (ITU-T I.371, in its form of virtual scheduling) there is one value: `due`, the time at
/// which all that was spent will have come back. `T` is the time in which one token comes.
///
/// | | |
/// |---|---|
/// | spend `cost` | `due' = max(now, due) + T·cost`, if `due' − now ≤ T·burst`; else it is too early by `due' − T·burst − now` |
/// | a cost above the burst | is never let in, however long one waits |
/// | a cost of 0 | takes nothing, and passes unless more than the burst is out |
/// | owe `cost` | `due' = max(now, due) + T·cost` in any case. What is above the burst is a debt |
/// | refund `cost` | `due' = due − T·cost`, not below `now`. Nothing, if the bucket was found full after the cost was spent: then time has given it back already. Until then, what came was left to others, and the refund is whole |
/// | the clock steps back | nothing comes back until it has caught up |
/// | the rate changes | the tokens that are out, or owed, stay the same number |
/// | the rate is 0 | what is left can be spent, and nothing comes back. The wait is [`Duration::MAX`] |
///
/// All arithmetic is in whole numbers. A nanosecond is too coarse for it: at 700 million per second `T` is 1.43 ns, and what
/// rounding adds to each cost adds up. So times are counted in ticks of which a token is a whole number: 1 ns where `T` is a
/// whole number of nanoseconds, and a little less where it is not. Rounded is only the clock, which is read anew each time, so
/// that the error stays below one tick for good. In any interval of length `t` no more than `rate × t + burst` is let in, to
/// within the nanosecond that the clock itself is true to.
///
/// `due` and what guards against a change of the rate share one atomic word, and a decision is one compare-and-swap. A second
/// atomic operation notes when the bucket was last full: where more than one token is taken from a full bucket, or where, after
/// one was, something else follows before that one has come back.
///
/// # Limits
///
/// The rate is at most ten per nanosecond, the burst at most 2⁶⁰ − 1. After three years of one bucket (18 for rates up to a
/// thousand million per second) its clock stands still: nothing comes back then, and a debt that would last longer is never
/// worked off.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_backpressure::rate::{Rate, Short, TokenBucket};
///
/// let bucket = TokenBucket::per_second(50).burst(100);
/// let now = Duration::from_secs(1);
///
/// assert_eq!(bucket.spend(now, 100), Ok(()));
/// assert_eq!(bucket.spend(now, 1), Err(Short::Wait(Duration::from_millis(20))));
/// assert_eq!(bucket.spend(now, 101), Err(Short::Never { most: 100 }));
/// ```
pub struct TokenBucket {
    state: State,
    epoch: Epoch,
}

impl TokenBucket {
    /// `n` tokens per second, and a burst of as many.
    ///
    /// # Panics
    ///
    /// If `n` is 0 or more than ten per nanosecond.
    #[track_caller]
    pub fn per_second(n: u64) -> Self {
        built(Self::try_per_second(n))
    }

    /// `n` tokens per minute, and a burst of what comes in a second; see [`per`](Self::per).
    ///
    /// # Panics
    ///
    /// If `n` is 0 or more than ten per nanosecond.
    #[track_caller]
    pub fn per_minute(n: u64) -> Self {
        built(Self::try_per_minute(n))
    }

    /// `n` tokens per hour, and a burst of what comes in a second; see [`per`](Self::per).
    ///
    /// # Panics
    ///
    /// If `n` is 0 or more than ten per nanosecond.
    #[track_caller]
    pub fn per_hour(n: u64) -> Self {
        built(Self::try_per_hour(n))
    }

    /// `n` tokens in each `period`, and a burst of what comes in a second, in whole tokens, but 1 at least.
    ///
    /// So a limit per minute is spread over the minute. With a burst of the whole minute's worth, twice the limit could be
    /// spent in the first minute, which an upstream that counts minutes would refuse.
    ///
    /// # Panics
    ///
    /// If `n` is 0 or more than ten per nanosecond, or `period` is 0 or more than 36 years.
    #[track_caller]
    pub fn per(n: u64, period: Duration) -> Self {
        built(Self::try_per(n, period))
    }

    /// Like [`per_second`](Self::per_second), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `n` is 0 or more than ten per nanosecond.
    pub fn try_per_second(n: u64) -> Result<Self, ConfigError> {
        Self::try_per(n, SECOND)
    }

    /// Like [`per_minute`](Self::per_minute), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `n` is 0 or more than ten per nanosecond.
    pub fn try_per_minute(n: u64) -> Result<Self, ConfigError> {
        Self::try_per(n, MINUTE)
    }

    /// Like [`per_hour`](Self::per_hour), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `n` is 0 or more than ten per nanosecond.
    pub fn try_per_hour(n: u64) -> Result<Self, ConfigError> {
        Self::try_per(n, HOUR)
    }

    /// Like [`per`](Self::per), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `n` is 0 or more than ten per nanosecond, or `period` is 0 or more than 36 years.
    pub fn try_per(n: u64, period: Duration) -> Result<Self, ConfigError> {
        at_least_one("rate", n)?;
        let nanos = period.as_nanos();
        if nanos == 0 || nanos > u128::from(LONGEST) {
            let value = format!("{period:?}");
            let expected = "more than 0 and at most 36 years";
            return Err(ConfigError::new("period", value, expected));
        }
        if u128::from(n) > 10 * nanos {
            let value = format!("{n} per {period:?}");
            return Err(ConfigError::new("rate", value, "at most 10 per nanosecond"));
        }
        let in_a_second = u128::from(n) * SECOND.as_nanos() / nanos;
        let burst = in_a_second.clamp(1, u128::from(LONGEST)) as u64;
        let per_second = n as f64 / period.as_secs_f64();
        Ok(Self {
            state: State::new(Scale::new(n, period, burst), per_second, burst),
            epoch: Epoch::new(),
        })
    }

    /// The most tokens that can be spent at once, after a rest. A request that costs more is refused for good, so where
    /// requests cost more than 1, be sure that it is not below the largest. Default: what comes in a second, but 1 at least.
    /// With 1 and a wait, requests are paced evenly. A bucket begins full.
    ///
    /// # Panics
    ///
    /// If `burst` is 0 or more than 2⁶⁰ − 1.
    #[must_use]
    #[track_caller]
    pub fn burst(self, burst: u64) -> Self {
        built(self.try_burst(burst))
    }

    /// Like [`burst`](Self::burst), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// If `burst` is 0 or more than 2⁶⁰ − 1.
    pub fn try_burst(self, burst: u64) -> Result<Self, ConfigError> {
        at_least_one("burst", burst)?;
        if burst > LONGEST {
            let expected = format!("at most {LONGEST}");
            return Err(ConfigError::new("burst", burst, expected));
        }
        let scale = self.state.scale().with_room_for(burst);
        Ok(Self {
            state: State::new(scale, self.state.per_second(), burst),
            epoch: self.epoch,
        })
    }
}

impl Rate for TokenBucket {
    fn check(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.state.check(nanos(now), cost)
    }

    #[inline]
    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.state.spend(nanos(now), cost)
    }

    fn owe(&self, now: Duration, cost: u64) {
        self.state.owe(nanos(now), cost);
    }

    fn refund(&self, now: Duration, spent: Duration, cost: u64) {
        self.state.refund(nanos(now), nanos(spent), cost);
    }

    fn quota(&self, now: Duration) -> Quota {
        self.state.quota(nanos(now))
    }

    fn epoch(&self) -> Option<&Epoch> {
        Some(&self.epoch)
    }

    fn per_second(&self) -> f64 {
        self.state.per_second()
    }

    /// Whole numbers of tokens per second are exact, others to within a few thousand-millionths. What is not above 0 is 0;
    /// more than ten per nanosecond is ten per nanosecond; what is not a number changes nothing.
    fn set_per_second(&self, now: Duration, per_second: f64) {
        if !per_second.is_nan() {
            self.state.set_rate(nanos(now), per_second);
        }
    }
}

impl TokenBucket {
    /// For a rate that is not a whole number. A burst of 0 lets nothing in.
    pub(super) fn beginning_with(per_second: f64, burst: u64) -> Self {
        let burst = burst.min(LONGEST);
        let (scale, per_second) = Scale::new(1, SECOND, burst).at_rate(per_second, burst);
        Self {
            state: State::new(scale, per_second, burst),
            epoch: Epoch::new(),
        }
    }

    /// A count for whoever owns the bucket, on the cache line that spending has just written.
    #[inline]
    pub(super) fn tally(&self) -> &AtomicU64 {
        self.state.tally()
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBucket")
            .field("per_second", &self.per_second())
            .field("burst", &self.state.burst())
            .finish_non_exhaustive()
    }
}

#[inline]
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
