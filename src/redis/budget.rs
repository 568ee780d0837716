use std::time::Duration;

use crate::{
    ConfigError, Demand,
    config::{at_least_one, built},
    rate::{Quota, Rate, TokenBucket},
};

/// The script remembers no more parts of a unit than this, so that the sum of any two of its numbers is exact as well.
const MOST_PARTS: u64 = 1 << 52;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// One limit of a [`SharedRate`](super::SharedRate): so much per time, and how much at once after a rest.
///
/// It is counted as a [`TokenBucket`] counts, in whole numbers that Lua's arithmetic holds exactly.
///
/// ```
/// use tower_backpressure::redis::Budget;
///
/// let tokens = Budget::per_minute(100_000).burst(10_000);
/// let requests = Budget::per_minute(500).requests();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `count` units of cost in `period` microseconds, reduced to the smallest such pair. A unit has `period` parts, and `count`
    /// parts are worked off in a microsecond.
    pub(super) count: u64,
    pub(super) period: u64,
    pub(super) burst: u64,
    requests: bool,
}

impl Budget {
    /// `n` per second, and a burst of as many.
    ///
    /// # Panics
    ///
    /// As [`per`](Self::per).
    #[track_caller]
    pub fn per_second(n: u64) -> Self {
        built(Self::try_per(n, SECOND))
    }

    /// `n` per minute, and a burst of what comes in a second; see [`per`](Self::per).
    ///
    /// # Panics
    ///
    /// As [`per`](Self::per).
    #[track_caller]
    pub fn per_minute(n: u64) -> Self {
        built(Self::try_per(n, MINUTE))
    }

    /// `n` in each `period`, and a burst of what comes in a second, but 1 at least.
    ///
    /// # Panics
    ///
    /// If `n` is 0, if `period` is not a whole number of microseconds or 0, or if both are so large that the burst could not
    /// be counted exactly (see [`burst`](Self::burst)).
    #[track_caller]
    pub fn per(n: u64, period: Duration) -> Self {
        built(Self::try_per(n, period))
    }

    /// Like [`per`](Self::per), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// Where [`per`](Self::per) panics.
    pub fn try_per(n: u64, period: Duration) -> Result<Self, ConfigError> {
        at_least_one("rate", n)?;
        let micros = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 || period.subsec_nanos() % 1000 != 0 {
            return Err(ConfigError::new(
                "period",
                format!("{period:?}"),
                "a whole number of microseconds, at least 1",
            ));
        }
        let divisor = greatest_common_divisor(n, micros);
        let budget = Self {
            count: n / divisor,
            period: micros / divisor,
            burst: 1,
            requests: false,
        };
        if budget.count > MOST_PARTS {
            return Err(ConfigError::new("rate", n, "at most 2^52 in its period"));
        }
        let in_a_second = u128::from(n) * SECOND.as_micros() / u128::from(micros);
        budget.try_burst(u64::try_from(in_a_second).unwrap_or(u64::MAX).max(1))
    }

    /// The most that can be spent at once, after a rest. A request that costs more is refused for good, so where requests cost
    /// more than 1, be sure that it is not below the largest. Default: what comes in a second, but 1 at least.
    ///
    /// # Panics
    ///
    /// If it is 0, or more than 2⁵² divided by the period in microseconds (reduced: 7 per minute is 7 per 60,000,000 µs, 600
    /// per minute is 1 per 100,000 µs): what is above cannot be counted exactly.
    #[must_use]
    #[track_caller]
    pub fn burst(self, burst: u64) -> Self {
        built(self.try_burst(burst))
    }

    /// Like [`burst`](Self::burst), for numbers that come from a file.
    ///
    /// # Errors
    ///
    /// Where [`burst`](Self::burst) panics.
    pub fn try_burst(self, burst: u64) -> Result<Self, ConfigError> {
        at_least_one("burst", burst)?;
        let most = MOST_PARTS / self.period;
        if burst > most {
            return Err(ConfigError::new(
                "burst",
                burst,
                format!("at most {most}, to be counted exactly"),
            ));
        }
        Ok(Self { burst, ..self })
    }

    /// It counts requests: each costs 1, whatever its [`Demand`] says.
    #[must_use]
    pub fn requests(self) -> Self {
        Self {
            requests: true,
            ..self
        }
    }

    pub(super) fn cost(&self, demand: &Demand) -> u64 {
        if self.requests { 1 } else { demand.cost() }
    }

    /// As much of `demand` as can ever be spent at once.
    pub(super) fn at_most(&self, demand: Demand) -> Demand {
        match self.requests {
            true => demand,
            false => Demand::of(demand.cost().min(self.burst)),
        }
    }

    /// How it stands, with what is left and the time until all is back, in microseconds.
    pub(super) fn quota(&self, remaining: u64, reset_after: u64) -> Quota {
        Quota {
            limit: self.burst,
            remaining,
            reset_after: Duration::from_micros(reset_after),
            window: Duration::from_micros((self.burst * self.period).div_ceil(self.count)),
        }
    }

    /// How much is taken from the store at a time: this share of the burst, rounded up.
    pub(super) fn slice(&self, share: f64) -> u64 {
        ((self.burst as f64 * share).ceil() as u64).clamp(1, self.burst)
    }

    /// What one machine may spend by itself: this share of the rate and of the burst, rounded down, but 1 at least.
    pub(super) fn share(&self, share: f64) -> TokenBucket {
        let burst = ((self.burst as f64 * share) as u64).max(1);
        let per_second = self.count as f64 / Duration::from_micros(self.period).as_secs_f64();
        let bucket = TokenBucket::per_second(1).burst(burst);
        bucket.set_per_second(Duration::ZERO, per_second * share);
        bucket
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Short;

    #[test]
    fn a_rate_is_reduced() {
        let budget = Budget::per_minute(150_000_000);
        assert_eq!((budget.count, budget.period), (5, 2));
        assert_eq!(budget.burst, 2_500_000);
        let budget = Budget::per_minute(7);
        assert_eq!((budget.count, budget.period), (7, 60_000_000));
        assert_eq!(budget.burst, 1);
    }

    #[test]
    fn what_cannot_be_counted_exactly_is_refused() {
        let budget = Budget::per_minute(999_983);
        budget.try_burst(75_059_993).unwrap();
        let error = budget.try_burst(75_059_994).unwrap_err();
        assert_eq!(
            error.to_string(),
            "burst is 75059994, but must be at most 75059993, to be counted exactly"
        );
        assert_eq!(
            Budget::try_per(u64::MAX, SECOND).unwrap_err().field(),
            "rate"
        );
    }

    #[test]
    fn nothing_and_no_time_are_refused() {
        assert_eq!(Budget::try_per(0, MINUTE).unwrap_err().field(), "rate");
        let error = Budget::per_second(1).try_burst(0).unwrap_err();
        assert_eq!(error.field(), "burst");
        for period in [Duration::ZERO, Duration::from_nanos(1500)] {
            let error = Budget::try_per(1, period).unwrap_err();
            assert_eq!(error.field(), "period");
        }
    }

    #[test]
    fn a_window_is_what_the_burst_takes_to_come_back() {
        let quota = Budget::per_second(3).burst(10).quota(4, 2_000_000);
        assert_eq!(quota.limit, 10);
        assert_eq!(quota.remaining, 4);
        assert_eq!(quota.reset_after, Duration::from_secs(2));
        assert_eq!(quota.window, Duration::from_micros(3_333_334));
    }

    #[test]
    fn a_slice_is_never_nothing_and_never_more_than_all() {
        let budget = Budget::per_minute(10).burst(10);
        assert_eq!(budget.slice(0.01), 1);
        assert_eq!(budget.slice(0.25), 3);
        assert_eq!(budget.slice(1.0), 10);
    }

    #[test]
    fn a_share_is_of_the_rate_and_of_the_burst() {
        let bucket = Budget::per_second(100).burst(10).share(0.2);
        let second = Duration::from_secs(1);
        bucket.spend(second, 2).unwrap();
        let wait = Duration::from_millis(50);
        assert_eq!(bucket.spend(second, 1), Err(Short::Wait(wait)));
    }

    #[test]
    fn where_requests_are_counted_each_is_one() {
        let demand = Demand::of(700);
        assert_eq!(Budget::per_minute(5).cost(&demand), 700);
        assert_eq!(Budget::per_minute(5).requests().cost(&demand), 1);
    }

    #[test]
    fn the_burst_is_the_most_that_can_be_asked_for_but_not_where_requests_are_counted() {
        let demand = Demand::of(700);
        let budget = Budget::per_minute(60).burst(500);
        assert_eq!(budget.at_most(demand), Demand::of(500));
        assert_eq!(budget.burst(701).at_most(demand), demand);
        assert_eq!(budget.requests().at_most(demand), demand);
    }
}
