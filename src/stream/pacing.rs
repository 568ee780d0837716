use std::{fmt, sync::Arc, time::Duration};

use super::aimd::{Course, Settings};
use crate::{
    ConfigError,
    config::at_least_one,
    rate::{Contained, Rate, Short, TokenBucket},
};

/// How fast senders may send, under `Adaptive`.
///
/// # What goes wrong otherwise
///
/// Under `Block` a producer finds out that it is too fast when the stream is full: by then everything in it is old, a burst has
/// no room, and the producer runs and stops and runs. Paced to what is read, the stream stays half empty: items are
/// fresh, and a burst fits in.
///
/// # How it works
///
/// Additive increase, multiplicative decrease (Chiu and Jain, 1989), where the sign to decrease is how full the stream is.
///
/// ```text
///                 in each interval in which somebody wanted more: + step
///                    ┌──┐
///                    │  ▼           three quarters full: × factor
///            Half empty ◄─────► Between ─────────────────────► Too full ──┐ an interval and eight items later it is
///                               the rate stays                  ▲ │  ▲────┘ no less full: × factor again
///                                    ▲──────────────────────────┘ ▼
///                                                                the cut was enough
/// ```
///
/// The rate is that of a [`TokenBucket`]. Senders that come too early wait in line, and the one in front keeps the time.
///
/// | setter | default | |
/// |---|---|---|
/// | [`initial`](Self::initial) | 1000 items/s | the rate to begin with |
/// | [`min`](Self::min), [`max`](Self::max) | 1 and 1 000 000 items/s | between what it moves |
/// | [`step`](Self::step) | 1 item/s | what is added |
/// | [`factor`](Self::factor) | 0.5 | what a cut takes it times |
/// | [`interval`](Self::interval) | 100 ms | how often something is added at most, and cut again |
/// | [`burst`](Self::burst) | 10 items | what can be sent at once after a rest |
///
/// A rate that does not adapt paces as well: a [`TokenBucket`] where a burst is to be spread, a
/// [`SlidingWindow`](crate::rate::SlidingWindow) where somebody counts windows, or a [`Rate`] of your own. It is then the same
/// for all streams of the controller, which share it. One that panics is not
/// asked again by the stream in which it did, and lets everything through there.
///
/// # Examples
///
/// ```
/// use tower_backpressure::{
///     AdaptiveRateController, BackpressureController, BackpressureStrategy, rate::TokenBucket,
/// };
///
/// let adaptive = BackpressureController::builder(100, BackpressureStrategy::Adaptive)
///     .rate(AdaptiveRateController::default().initial(50.0).max(200.0))
///     .build();
/// assert_eq!(adaptive.metrics().current_rate_limit, 50.0);
///
/// let steady = BackpressureController::builder(100, BackpressureStrategy::Adaptive)
///     .rate(TokenBucket::per_second(50).burst(100))
///     .build();
/// assert_eq!(steady.metrics().current_rate_limit, 50.0);
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveRateController(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Aimd(Settings),
    Given(Arc<dyn Rate>),
}

impl Default for AdaptiveRateController {
    fn default() -> Self {
        Self(Kind::Aimd(Settings {
            initial: 1000.0,
            min: 1.0,
            max: 1e6,
            step: 1.0,
            factor: 0.5,
            interval: Duration::from_millis(100),
            burst: 10,
        }))
    }
}

/// A rate as it is.
impl<R: Rate> From<R> for AdaptiveRateController {
    fn from(rate: R) -> Self {
        Self(Kind::Given(Arc::new(rate)))
    }
}

/// The setters concern a rate that adapts; one that was given stays as it is.
impl AdaptiveRateController {
    /// The rate to begin with, in items per second. Default: 1000. A cut halves it, so that one too high is soon found out; one
    /// too low takes an interval for each step.
    #[must_use]
    pub fn initial(self, initial: f64) -> Self {
        self.with(|settings| settings.initial = initial)
    }

    /// The lowest rate, in items per second. Default: 1. With less it would take long to see that the reader is back.
    #[must_use]
    pub fn min(self, min: f64) -> Self {
        self.with(|settings| settings.min = min)
    }

    /// The highest rate, in items per second. Default: a million, which is meant to be out of the way.
    #[must_use]
    pub fn max(self, max: f64) -> Self {
        self.with(|settings| settings.max = max)
    }

    /// What is added in each interval, in items per second. Default: 1. A hundredth of the rate that is to be expected is a good
    /// step.
    #[must_use]
    pub fn step(self, step: f64) -> Self {
        self.with(|settings| settings.step = step)
    }

    /// What a cut takes the rate times, above 0 and below 1. Default: 0.5.
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        self.with(|settings| settings.factor = factor)
    }

    /// How long the rate stays before something is added, or it is cut again. Default: 100 ms.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        self.with(|settings| settings.interval = interval)
    }

    /// How many items can be sent at once after a rest. Default: 10. Timers are no finer than a millisecond: above some
    /// thousand items per second it should not be below what comes in a few of those.
    #[must_use]
    pub fn burst(self, burst: u64) -> Self {
        self.with(|settings| settings.burst = burst)
    }

    /// What a new stream begins with, in items per second.
    pub(super) fn per_second(&self) -> f64 {
        match &self.0 {
            Kind::Aimd(settings) => settings.initial,
            Kind::Given(rate) => rate.per_second(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match &self.0 {
            Kind::Aimd(settings) => validate(settings),
            Kind::Given(rate) => rate.validate(),
        }
    }

    /// What one stream keeps to.
    pub(super) fn pacer(&self) -> Pacer {
        match &self.0 {
            Kind::Aimd(settings) => {
                let bucket = TokenBucket::per_second(1).burst(settings.burst);
                bucket.set_per_second(Duration::ZERO, settings.initial);
                Pacer::new(Arc::new(bucket), Some(Course::new(*settings)))
            }
            Kind::Given(rate) => Pacer::new(Arc::clone(rate), None),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        if let Kind::Aimd(settings) = &mut self.0 {
            change(settings);
        }
        self
    }
}

fn validate(settings: &Settings) -> Result<(), ConfigError> {
    let above_0 = |field, value: f64| match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(ConfigError::new(field, value, "a number above 0")),
    };
    above_0("min", settings.min)?;
    above_0("max", settings.max)?;
    above_0("step", settings.step)?;
    if settings.max < settings.min {
        let expected = format!("at least min, which is {}", settings.min);
        return Err(ConfigError::new("max", settings.max, expected));
    }
    if !(settings.min..=settings.max).contains(&settings.initial) {
        let expected = format!("between min, {}, and max, {}", settings.min, settings.max);
        return Err(ConfigError::new("initial", settings.initial, expected));
    }
    if !(settings.factor > 0.0 && settings.factor < 1.0) {
        let expected = "above 0 and below 1";
        return Err(ConfigError::new("factor", settings.factor, expected));
    }
    if settings.interval.is_zero() {
        return Err(ConfigError::new("interval", "0ns", "longer than 0"));
    }
    at_least_one("burst", settings.burst).map(drop)
}

/// What one stream keeps to.
pub(super) struct Pacer {
    rate: Contained<Arc<dyn Rate>>,
    /// `None` if the rate does not follow the stream.
    course: Option<Course>,
}

impl Pacer {
    fn new(rate: Arc<dyn Rate>, course: Option<Course>) -> Self {
        Self {
            rate: Contained::new(rate),
            course,
        }
    }

    pub(super) fn per_second(&self) -> f64 {
        match &self.course {
            Some(course) => course.rate(),
            None => (self.rate.with(|rate| rate.per_second())).unwrap_or(f64::INFINITY),
        }
    }

    /// How often the rate was cut, if it follows the stream.
    pub(super) fn cuts(&self) -> Option<u64> {
        self.course.as_ref().map(Course::cuts)
    }

    /// Looks at how full the stream is, from 0 to 1.
    pub(super) fn observe(&mut self, now: Duration, level: f64) {
        if let Some(course) = &mut self.course {
            if course.observe(now, level) {
                let per_second = course.rate();
                self.rate.with(|rate| rate.set_per_second(now, per_second));
            }
        }
    }

    /// Spends one item's worth, or says how much too early it is.
    pub(super) fn spend(&mut self, now: Duration) -> Result<(), Duration> {
        let spent = self.rate.with(|rate| rate.spend(now, 1)).unwrap_or(Ok(()));
        if let Some(course) = &mut self.course {
            match spent {
                Ok(()) => course.sent(),
                Err(_) => course.came_up_short(),
            }
        }
        spent.map_err(|short| match short {
            Short::Wait(wait) => wait,
            // Of a rate that lets nothing through.
            Short::Never { .. } => Duration::MAX,
        })
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer")
            .field("per_second", &self.per_second())
            .finish_non_exhaustive()
    }
}
