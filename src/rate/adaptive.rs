mod course;
#[cfg(all(test, not(backpressure_loom)))]
mod tests;

use std::{fmt, time::Duration};

use self::course::{Course, Totals};
use super::{Epoch, Quota, Rate, Short, TokenBucket};
use crate::{
    ConfigError,
    config::at_least_one,
    limit::{Outcome, Sample},
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock},
};

/// Finds the rate that an upstream takes which refuses whatever is above.
///
/// # What goes wrong otherwise
///
/// An upstream that counts requests per second refuses the same at any concurrency, so a limit on what is in flight cannot
/// find its rate. A rate set by hand is wrong as soon as the upstream's is changed or shared with somebody else. And a rate
/// that is halved at each refusal and then climbs by one a second stands at three quarters of what it could be: from 50 to
/// 100 it takes 50 seconds.
///
/// # How it works
///
/// The rate is that of a [`TokenBucket`]. It goes by intervals.
///
/// ```text
///       no refusal, and demand reached the rate: + step as far as a twentieth above the base,
///         ┌──┐     beyond it a step that doubles each time
///         │  ▼
///        Growing ──────────────────────────► Cut     a refusal: the base is now 97 % of what is being served,
///           ▲                                 │      but no less than rate × factor; the rate goes there
///           └─────────────────────────────────┘
///             an interval later, and once the time that the upstream told (a minute at most) has passed
/// ```
///
/// A refusal tells that the rate is too high, and what is served meanwhile tells what would have been right. So a cut need
/// not guess: it goes to just below what was served in the last interval. The factor has a say only where little was served:
/// one cut lowers the rate by no more than that, and there is one in an interval at most.
///
/// Just above the base is where the next refusal is to be expected, and there the rate goes by single steps. Once it is a
/// twentieth above, the upstream has evidently changed, or was never known: then the step doubles with each interval, and finds
/// ten times the rate in about seven of them. (That the rate of a flow is best approached slowly near where it last failed and
/// fast elsewhere is the idea of CUBIC, RFC 9438.)
///
/// | | |
/// |---|---|
/// | what is served | what was spent in the last interval, times the share of its answers that were no refusals |
/// | a refusal | [`Outcome::Overload`]. If it was asked for before the last cut, it tells of the old rate and cuts nothing |
/// | demand reached the rate | nine tenths of the rate were spent in the interval; or a half, if somebody found too little |
///
/// # What to expect
///
/// An upstream that serves 100 per second and refuses the rest is found within 20 seconds from the default start, and again
/// after it has changed to 30 or back. In the minute from then on 98 % of what it can do is served on average, and 90 % at
/// worst, which is where callers come at random, are few more than can be served, and the upstream allows no burst. Fewer
/// than one request in two hundred are refused: so often the rate finds out whether there is more (`tests/adaptive_rate.rs`).
///
/// # Examples
///
/// ```
/// use tower_backpressure::rate::{AdaptiveRate, Rate};
///
/// let rate = AdaptiveRate::default();
/// assert_eq!(rate.per_second(), 10.0);
///
/// // The contract says 300 per second, and that is never to be exceeded.
/// let rate = AdaptiveRate::default().max(300.0).initial(300.0);
/// # assert!(rate.validate().is_ok());
/// ```
pub struct AdaptiveRate {
    settings: Settings,
    bucket: TokenBucket,
    answers: Answers,
    /// Somebody found too little in the bucket in this interval.
    short: AtomicBool,
    /// When this interval ends, in nanoseconds.
    ends: AtomicU64,
    course: Mutex<Course>,
}

/// Apart from what each request reads.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Answers {
    served: AtomicU64,
    refused: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    min: f64,
    max: f64,
    chosen: Option<f64>,
    step: f64,
    factor: f64,
    interval: Duration,
    burst: u64,
}

impl Default for AdaptiveRate {
    fn default() -> Self {
        Self::new(Settings {
            min: 0.1,
            max: 1e6,
            chosen: None,
            step: 1.0,
            factor: 0.5,
            interval: Duration::from_secs(1),
            burst: 5,
        })
    }
}

impl AdaptiveRate {
    /// The lowest rate, per second. Default: 0.1, which is one in ten seconds: with less, it would take long to see that the
    /// upstream is back.
    #[must_use]
    pub fn min(self, min: f64) -> Self {
        self.with(|settings| settings.min = min)
    }

    /// The highest rate, per second. Default: a million, which is meant to be out of the way. Set it to what was agreed with
    /// the upstream.
    #[must_use]
    pub fn max(self, max: f64) -> Self {
        self.with(|settings| settings.max = max)
    }

    /// The rate to begin with, per second. Default: 10, or what is nearest to it between `min` and `max`. Where requests cost
    /// more than 1, begin with what some of them cost.
    #[must_use]
    pub fn initial(self, initial: f64) -> Self {
        self.with(|settings| settings.chosen = Some(initial))
    }

    /// What is added in each interval, per second. Default: 1. Where requests cost more than 1, a hundredth of the expected
    /// rate is a good step.
    #[must_use]
    pub fn step(self, step: f64) -> Self {
        self.with(|settings| settings.step = step)
    }

    /// What a cut takes the rate times at most, above 0 and below 1. Default: 0.5.
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        self.with(|settings| settings.factor = factor)
    }

    /// How long the rate stays before it is changed again. Default: 1 s. It should be longer than a refusal takes to come
    /// back; how long the other answers take does not matter.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        self.with(|settings| settings.interval = interval)
    }

    /// The most that can be spent at once, as of a [`TokenBucket`]. Default: 5, since an upstream refuses what is above its
    /// own burst. Where requests cost more than 1, it must not be below the largest.
    #[must_use]
    pub fn burst(self, burst: u64) -> Self {
        self.with(|settings| settings.burst = burst)
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings;
        change(&mut settings);
        Self::new(settings)
    }

    fn new(settings: Settings) -> Self {
        let initial = settings.initial();
        Self {
            settings,
            bucket: TokenBucket::beginning_with(initial, settings.burst),
            answers: Answers::default(),
            short: AtomicBool::new(false),
            ends: AtomicU64::new(settings.interval_nanos()),
            course: Mutex::new(Course::new(initial)),
        }
    }

    /// Ends the interval, if it is over.
    #[inline]
    fn pass(&self, now: Duration) {
        if nanos(now) >= self.ends.load(Ordering::Relaxed) {
            self.next_interval(now);
        }
    }

    #[cold]
    fn next_interval(&self, now: Duration) {
        let mut course = lock(&self.course);
        if nanos(now) < self.ends.load(Ordering::Relaxed) {
            return;
        }
        let ends = nanos(now).saturating_add(self.settings.interval_nanos());
        self.ends.store(ends, Ordering::Relaxed);
        let short = self.short.swap(false, Ordering::Relaxed);
        course.next_interval(&self.settings, now, self.totals(), short);
        self.bucket.set_per_second(now, course.rate());
    }

    /// Notes that somebody found too little.
    fn noting(&self, result: Result<(), Short>) -> Result<(), Short> {
        // Who only reads leaves the cache line where it is.
        if matches!(result, Err(Short::Wait(_))) && !self.short.load(Ordering::Relaxed) {
            self.short.store(true, Ordering::Relaxed);
        }
        result
    }

    fn refuse(&self, sample: &Sample) {
        self.answers.refused.fetch_add(1, Ordering::Relaxed);
        let mut course = lock(&self.course);
        course.refused(&self.settings, sample, self.totals());
        self.bucket.set_per_second(sample.at, course.rate());
    }

    fn totals(&self) -> Totals {
        Totals {
            spent: self.bucket.tally().load(Ordering::Relaxed),
            served: self.answers.served.load(Ordering::Relaxed),
            refused: self.answers.refused.load(Ordering::Relaxed),
        }
    }
}

impl Rate for AdaptiveRate {
    fn check(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.pass(now);
        self.noting(self.bucket.check(now, cost))
    }

    fn spend(&self, now: Duration, cost: u64) -> Result<(), Short> {
        self.pass(now);
        self.noting(self.bucket.spend(now, cost))?;
        self.bucket.tally().fetch_add(cost, Ordering::Relaxed);
        Ok(())
    }

    fn owe(&self, now: Duration, cost: u64) {
        self.pass(now);
        self.bucket.owe(now, cost);
        self.bucket.tally().fetch_add(cost, Ordering::Relaxed);
    }

    fn refund(&self, now: Duration, spent: Duration, cost: u64) {
        self.bucket.refund(now, spent, cost);
        self.bucket.tally().fetch_sub(cost, Ordering::Relaxed);
    }

    fn quota(&self, now: Duration) -> Quota {
        self.bucket.quota(now)
    }

    fn epoch(&self) -> Option<&Epoch> {
        self.bucket.epoch()
    }

    fn per_second(&self) -> f64 {
        self.bucket.per_second()
    }

    /// Goes on from there, within `min` and `max`, as after a cut.
    fn set_per_second(&self, now: Duration, per_second: f64) {
        if per_second.is_nan() {
            return;
        }
        let mut course = lock(&self.course);
        course.set(self.settings.keep(per_second));
        self.bucket.set_per_second(now, course.rate());
    }

    fn observe(&self, sample: &Sample) {
        self.pass(sample.at);
        match sample.outcome {
            Outcome::Success => {
                self.answers.served.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Overload => self.refuse(sample),
            Outcome::Ignore | Outcome::Cancelled => {}
        }
    }

    fn learns(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.settings.validate()
    }
}

impl fmt::Debug for AdaptiveRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveRate")
            .field("per_second", &self.per_second())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Settings {
    fn initial(&self) -> f64 {
        self.chosen.unwrap_or_else(|| self.keep(10.0))
    }

    /// Not by `clamp`, which panics where the bounds are the wrong way round.
    fn keep(&self, rate: f64) -> f64 {
        rate.min(self.max).max(self.min)
    }

    fn interval_nanos(&self) -> u64 {
        nanos(self.interval)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let above_0 = |field, value: f64| {
            if value > 0.0 && value.is_finite() {
                return Ok(());
            }
            Err(ConfigError::new(field, value, "a number above 0"))
        };
        above_0("min", self.min)?;
        above_0("max", self.max)?;
        above_0("step", self.step)?;
        if self.max < self.min {
            let expected = format!("at least min, which is {}", self.min);
            return Err(ConfigError::new("max", self.max, expected));
        }
        match self.chosen {
            Some(initial) if !(self.min..=self.max).contains(&initial) => {
                let expected = format!("between min, {}, and max, {}", self.min, self.max);
                return Err(ConfigError::new("initial", initial, expected));
            }
            _ => {}
        }
        if !(self.factor > 0.0 && self.factor < 1.0) {
            let expected = "above 0 and below 1";
            return Err(ConfigError::new("factor", self.factor, expected));
        }
        if self.interval.is_zero() {
            return Err(ConfigError::new("interval", "0ns", "longer than 0"));
        }
        at_least_one("burst", self.burst).map(drop)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
