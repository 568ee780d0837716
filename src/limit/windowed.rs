use std::time::Duration;

use super::{Limit, Outcome, Sample};
use crate::{ConfigError, config::at_least_one};

/// Gives a limit one sample for each window of time instead of one for each request.
///
/// # What goes wrong otherwise
///
/// A limit that moves with each sample moves a thousand times a second in a busy service, on the word of single
/// requests: ten refusals of one moment become ten decreases, and the luckiest request of all becomes the latency that
/// the others are measured by. Vegas without a window refused more than half of what a half-loaded service could
/// easily have done.
///
/// # How it works
///
/// A window ends with the first sample that finds it long enough and full enough. The limit inside is then given one
/// sample: the median latency (or the mean), the most requests that were in flight, and
///
/// | outcome | if |
/// |---|---|
/// | [`Overload`](Outcome::Overload) | any request was told so |
/// | [`Cancelled`](Outcome::Cancelled) | the callers of more than half left |
/// | [`Success`](Outcome::Success) | otherwise |
///
/// Once the limit has been lowered, requests admitted before are passed over: they tell of the old limit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_backpressure::{
///     BackpressureLayer,
///     limit::{Limit, Outcome, Sample, Windowed},
/// };
///
/// struct Naive(usize);
///
/// impl Limit for Naive {
///     fn limit(&self) -> usize {
///         self.0
///     }
///
///     fn update(&mut self, sample: &Sample) -> usize {
///         self.0 = match sample.outcome {
///             Outcome::Success => self.0 + 1,
///             _ => (self.0 / 2).max(1),
///         };
///         self.0
///     }
/// }
///
/// let layer = BackpressureLayer::adaptive(Windowed::new(Naive(10)).lasting(Duration::from_millis(250)));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct Windowed<L> {
    inner: L,
    window: Window,
}

/// What stands for the latency of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure {
    /// The median, which a few slow requests do not move.
    #[default]
    Median,
    /// The mean, which every request moves.
    Mean,
}

impl<L: Limit> Windowed<L> {
    /// Windows of 100 ms and 10 samples at least, told by their median.
    pub fn new(inner: L) -> Self {
        Self {
            inner,
            window: Window::default(),
        }
    }

    /// The least time a window lasts. Default: 100 ms, in which a service of a few hundred requests per second has
    /// enough samples. Longer windows see less noise and answer later.
    #[must_use]
    pub fn lasting(mut self, lasting: Duration) -> Self {
        self.window.lasting = lasting;
        self
    }

    /// The fewest samples in a window. Default: 10, the fewest of which a median means something.
    #[must_use]
    pub fn samples(mut self, samples: usize) -> Self {
        self.window.samples = samples;
        self
    }

    /// What stands for the latency of a window. Default: [`Measure::Median`].
    #[must_use]
    pub fn measure(mut self, measure: Measure) -> Self {
        self.window.measure = measure;
        self
    }
}

impl<L: Limit> Limit for Windowed<L> {
    fn limit(&self) -> usize {
        self.inner.limit()
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let Some((sample, _)) = self.window.add(sample) else {
            return self.inner.limit();
        };
        let before = self.inner.limit();
        let after = self.inner.update(&sample);
        if after < before {
            self.window.pass_over_before(sample.at);
        }
        after
    }

    fn set_limit(&mut self, limit: usize) -> usize {
        self.inner.set_limit(limit)
    }

    fn learns(&self) -> bool {
        self.inner.learns()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.window.validate()?;
        self.inner.validate()
    }
}

/// More latencies than these are not kept: the latest stand for all.
const KEPT: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) lasting: Duration,
    pub(super) samples: usize,
    measure: Measure,
    began: Option<Duration>,
    /// Requests admitted before are passed over.
    since: Duration,
    latencies: Vec<Duration>,
    count: usize,
    gone: usize,
    overloaded: bool,
    peak: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            lasting: Duration::from_millis(100),
            samples: 10,
            measure: Measure::Median,
            began: None,
            since: Duration::ZERO,
            latencies: Vec::new(),
            count: 0,
            gone: 0,
            overloaded: false,
            peak: 0,
        }
    }
}

impl Window {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("samples", self.samples).map(drop)
    }

    /// Adds a sample; if that ends the window, gives the one sample that stands for it, and of how many.
    pub(super) fn add(&mut self, sample: &Sample) -> Option<(Sample, usize)> {
        if sample.outcome == Outcome::Ignore
            || sample.at.saturating_sub(sample.latency) < self.since
        {
            return None;
        }
        let began = *self.began.get_or_insert(sample.at);
        match sample.outcome {
            // How fast a refusal comes says nothing about work.
            Outcome::Overload => self.overloaded = true,
            _ if self.latencies.len() < KEPT => self.latencies.push(sample.latency),
            _ => self.latencies[self.count % KEPT] = sample.latency,
        }
        self.count += 1;
        self.gone += usize::from(sample.outcome == Outcome::Cancelled);
        self.peak = self.peak.max(sample.in_flight);
        if self.count < self.samples || sample.at.saturating_sub(began) < self.lasting {
            return None;
        }
        Some(self.close(sample.at))
    }

    /// After a decrease, at `since`.
    pub(super) fn pass_over_before(&mut self, since: Duration) {
        self.since = since;
    }

    fn close(&mut self, at: Duration) -> (Sample, usize) {
        let outcome = if self.overloaded {
            Outcome::Overload
        } else if self.gone * 2 > self.count {
            Outcome::Cancelled
        } else {
            Outcome::Success
        };
        let latency = self.latency();
        let closed = (Sample::new(at, latency, self.peak, outcome), self.count);
        self.latencies.clear();
        self.began = None;
        self.count = 0;
        self.gone = 0;
        self.overloaded = false;
        self.peak = 0;
        closed
    }

    fn latency(&mut self) -> Duration {
        let n = self.latencies.len();
        match self.measure {
            _ if n == 0 => Duration::ZERO,
            Measure::Median => *self.latencies.select_nth_unstable(n / 2).1,
            Measure::Mean => {
                let nanos: u128 = self.latencies.iter().map(Duration::as_nanos).sum();
                let mean = nanos / n as u128;
                Duration::from_nanos(mean.min(u128::from(u64::MAX)) as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One more if at least half was in use, nine tenths after an overload or an answer later than `expected`.
    struct Plain {
        limit: usize,
        max: usize,
        expected: Duration,
    }

    impl Plain {
        fn new(limit: usize) -> Self {
            Self {
                limit,
                max: 200,
                expected: Duration::from_secs(5),
            }
        }
    }

    impl Limit for Plain {
        fn limit(&self) -> usize {
            self.limit
        }

        fn update(&mut self, sample: &Sample) -> usize {
            let bad = sample.outcome != Outcome::Success || sample.latency > self.expected;
            if bad {
                self.limit = (self.limit as f64 * 0.9) as usize;
            } else if sample.in_flight * 2 >= self.limit {
                self.limit = (self.limit + 1).min(self.max);
            }
            self.limit
        }
    }

    fn one_sample_closes(inner: Plain) -> Windowed<Plain> {
        Windowed::new(inner).samples(1).lasting(Duration::ZERO)
    }

    #[test]
    fn the_published_cases_of_netflix_aimd() {
        let ok = Sample::new(ms(1), ms(1), 10, Outcome::Success);
        let dropped = Sample::new(ms(1), ms(1), 10, Outcome::Overload);
        assert_eq!(one_sample_closes(Plain::new(10)).limit(), 10);
        assert_eq!(one_sample_closes(Plain::new(20)).update(&ok), 21);
        assert_eq!(one_sample_closes(Plain::new(30)).update(&dropped), 27);
        let full = Plain {
            max: 21,
            ..Plain::new(21)
        };
        assert_eq!(one_sample_closes(full).update(&ok), 21);
    }

    #[test]
    fn ten_drops_in_one_window_are_one_decrease() {
        let mut limit = Windowed::new(Plain::new(10)).lasting(ms(9));
        for n in 0..10 {
            assert_eq!(limit.limit(), 10);
            limit.update(&Sample::new(ms(n), ms(0), 10, Outcome::Overload));
        }
        assert_eq!(limit.limit(), 9);
    }

    #[test]
    fn a_response_that_began_before_the_cut_does_not_cut_again() {
        let second = Duration::from_secs(1);
        let slow = |at| Sample::new(at, 2 * second, 9, Outcome::Success);
        let mut limit = one_sample_closes(Plain {
            expected: second,
            ..Plain::new(10)
        });
        assert_eq!(limit.update(&slow(10 * second)), 9);
        assert_eq!(limit.update(&slow(11 * second)), 9, "admitted at 9 s");
        assert_eq!(limit.update(&slow(12 * second)), 8, "admitted at the cut");
        let quick = Sample::new(13 * second, ms(1), 9, Outcome::Success);
        assert_eq!(limit.update(&quick), 9);
        let idle = Sample::new(13 * second, ms(1), 2, Outcome::Success);
        assert_eq!(limit.update(&idle), 9);
    }

    #[test]
    fn a_window_is_told_by_its_median_or_its_mean() {
        for (measure, expected) in [(Measure::Median, 500), (Measure::Mean, 1836)] {
            let mut window = Window {
                measure,
                samples: 3,
                ..Window::default()
            };
            let sample = |at, nanos| {
                Sample::new(
                    ms(at),
                    Duration::from_nanos(nanos),
                    at as usize,
                    Outcome::Success,
                )
            };
            assert_eq!(window.add(&sample(1, 5000)), None);
            assert_eq!(window.add(&sample(2, 500)), None);
            let (closed, count) = window.add(&sample(102, 10)).unwrap();
            assert_eq!(count, 3);
            assert_eq!(closed.latency, Duration::from_nanos(expected));
            assert_eq!(closed.in_flight, 102);
        }
    }

    #[test]
    fn a_window_whose_callers_mostly_left_says_so() {
        let mut window = Window {
            samples: 3,
            lasting: Duration::ZERO,
            ..Window::default()
        };
        let left = Sample::new(ms(9), ms(9), 1, Outcome::Cancelled);
        window.add(&left);
        window.add(&left);
        let (closed, _) = window
            .add(&Sample::new(ms(9), ms(1), 1, Outcome::Success))
            .unwrap();
        assert_eq!(closed.outcome, Outcome::Cancelled);
        assert_eq!(closed.latency, ms(9));
    }

    #[test]
    fn a_window_keeps_a_bounded_number_of_latencies() {
        let mut window = Window::default();
        for n in 0..100_000 {
            window.add(&Sample::new(ms(0), ms(n), 1, Outcome::Success));
        }
        assert_eq!(window.latencies.len(), KEPT);
    }
}
