use super::{Limit, Outcome, Sample, bounds::Bounds, windowed::Window};
use crate::ConfigError;

/// Estimates the queue from the lowest latency it remembers, after TCP Vegas and Netflix's limit of that name.
///
/// # How it works
///
/// Samples are gathered into windows of 100 ms and ten samples at least; a window's latency is its median, and `base`
/// the lowest median seen.
///
/// ```text
/// queue = ⌈limit · (1 − base / latency)⌉          log = max(1, ⌊log10 limit⌋)
///
/// queue ≤ log      limit + 6 · log
/// queue < 3 · log  limit + log
/// queue > 6 · log  limit − log
/// ```
///
/// The limit rests while less than half of it is in use. A window in which the service said that it has too much to
/// do, or most callers left, costs `log`. After 15 to 30 times the limit of samples the base is learned anew.
///
/// # When to use it
///
/// Where the work is even and its latency does not change: then it holds a short queue more exactly than any other.
/// When the work itself gets slower it takes that for a queue until it next learns its base; learned in the middle of
/// an overload, the base has the queue in it. [`Aimd`](super::Aimd) tells the two apart.
///
/// Source: `VegasLimit` of <https://github.com/Netflix/concurrency-limits>; Brakmo, O'Malley, Peterson: TCP Vegas, 1994.
#[derive(Clone, Debug)]
pub struct Vegas {
    bounds: Bounds,
    smoothing: f64,
    decrease: fn(f64) -> f64,
    limit: Option<f64>,
    /// Seconds.
    base: Option<f64>,
    samples: f64,
    /// How often the base was learned anew.
    probes: u32,
    window: Window,
}

const ALPHA: f64 = 3.0;
const BETA: f64 = 6.0;
const PROBE: f64 = 30.0;

impl Default for Vegas {
    fn default() -> Self {
        Self {
            bounds: Bounds::new(20),
            smoothing: 1.0,
            decrease: |limit| limit - log10(limit),
            limit: None,
            base: None,
            samples: 0.0,
            probes: 0,
            window: Window::default(),
        }
    }
}

impl Vegas {
    /// The lowest limit, in requests. Default: 1.
    #[must_use]
    pub fn min(mut self, min: usize) -> Self {
        self.bounds.min = min;
        self
    }

    /// The highest limit, in requests. Default: 10 000, which is meant to be out of the way.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.bounds.max = max;
        self
    }

    /// The limit to begin with, in requests. Default: 20, as in the original, or what is nearest to it between `min` and `max`.
    #[must_use]
    pub fn initial(mut self, initial: usize) -> Self {
        self.bounds.begin_with(initial);
        self
    }

    /// How much of each step is taken, above 0 and at most 1. Default: 1, as in the original. Less is calmer and later.
    #[must_use]
    pub fn smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// The verdict of one window, which had so many samples.
    fn judge(&mut self, sample: &Sample, samples: usize) -> f64 {
        let limit = self.current();
        let aim = match sample.outcome {
            Outcome::Success => {
                let latency = sample.latency.as_secs_f64().max(1e-9);
                self.samples += samples as f64;
                let base = match self.base {
                    Some(base) if latency >= base && self.samples < self.next_probe() => base,
                    known => {
                        if known.is_some_and(|base| latency >= base) {
                            self.samples = 0.0;
                            self.probes = self.probes.wrapping_add(1);
                        }
                        self.base = Some(latency);
                        return limit;
                    }
                };
                if 2.0 * (sample.in_flight as f64) < limit {
                    return limit;
                }
                let log = log10(limit);
                let queue = (limit * (1.0 - base / latency)).ceil();
                if queue <= log {
                    limit + BETA * log
                } else if queue < ALPHA * log {
                    limit + log
                } else if queue > BETA * log {
                    (self.decrease)(limit)
                } else {
                    limit
                }
            }
            _ => (self.decrease)(limit),
        };
        let limit = (1.0 - self.smoothing) * limit + self.smoothing * aim;
        self.bounds.keep_real(limit)
    }

    /// In samples. Spread, so that gates in front of the same service do not probe together; by the golden ratio, which
    /// needs no random numbers.
    fn next_probe(&self) -> f64 {
        let spread = (f64::from(self.probes) * 0.618_033_988_75).fract();
        (0.5 + 0.5 * spread) * PROBE * self.current()
    }

    fn current(&self) -> f64 {
        self.limit.unwrap_or(self.bounds.initial() as f64)
    }
}

impl Limit for Vegas {
    fn limit(&self) -> usize {
        self.current() as usize
    }

    fn update(&mut self, sample: &Sample) -> usize {
        if let Some((sample, samples)) = self.window.add(sample) {
            let before = self.limit();
            self.limit = Some(self.judge(&sample, samples));
            if self.limit() < before {
                self.window.pass_over_before(sample.at);
            }
        }
        self.limit()
    }

    fn set_limit(&mut self, limit: usize) -> usize {
        let limit = self.bounds.keep(limit);
        self.limit = Some(limit as f64);
        limit
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.bounds.validate()?;
        if !(self.smoothing > 0.0 && self.smoothing <= 1.0) {
            let expected = "above 0 and at most 1";
            return Err(ConfigError::new("smoothing", self.smoothing, expected));
        }
        Ok(())
    }
}

/// Whole, and at least 1.
fn log10(limit: f64) -> f64 {
    limit.max(10.0).log10().floor()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Each case is a list of (milliseconds, in flight, limit from then on).
    fn replay(mut vegas: Vegas, case: &[(u64, usize, usize)]) {
        for &(latency, in_flight, expected) in case {
            let latency = Duration::from_millis(latency);
            let sample = Sample::new(latency, latency, in_flight, Outcome::Success);
            vegas.limit = Some(vegas.judge(&sample, 1));
            assert_eq!(vegas.limit(), expected, "{case:?}");
        }
    }

    #[test]
    fn the_published_cases() {
        let small = || Vegas::default().initial(10).max(20);
        replay(small(), &[(10, 10, 10), (10, 11, 16)]);
        replay(small(), &[(10, 10, 10), (50, 11, 9)]);
        replay(small(), &[(10, 10, 10), (14, 14, 10)]);
        let large = Vegas::default().initial(10_000).max(20_000);
        replay(large, &[(10_000, 5000, 10_000), (10_000, 6000, 10_024)]);
    }

    #[test]
    fn the_published_cases_of_smoothing() {
        for (smoothing, then, at_last) in [(0.5, 75, 56), (1.0, 50, 25)] {
            let mut vegas = Vegas::default().initial(100).smoothing(smoothing);
            vegas.decrease = |limit| limit / 2.0;
            replay(
                vegas,
                &[(10, 100, 100), (20, 100, then), (20, 100, at_last)],
            );
        }
    }

    #[test]
    fn the_published_cases_of_log10() {
        for (limit, log) in [(0.0, 1.0), (100.0, 2.0), (10_000.0, 4.0)] {
            assert_eq!(log10(limit), log);
        }
    }

    #[test]
    fn overload_brings_it_to_the_minimum() {
        let mut limit = Vegas::default().min(2);
        for n in 0..500 {
            let at = Duration::from_millis(20 * n);
            limit.update(&Sample::new(
                at,
                Duration::from_millis(1),
                20,
                Outcome::Overload,
            ));
        }
        assert_eq!(limit.limit(), 2);
    }

    #[test]
    fn the_base_is_learned_anew_when_the_work_has_changed() {
        let mut vegas = Vegas::default();
        let sample = |latency| {
            let latency = Duration::from_millis(latency);
            Sample::new(latency, latency, 20, Outcome::Success)
        };
        vegas.judge(&sample(10), 10);
        for _ in 0..40 {
            vegas.judge(&sample(15), 10);
        }
        assert_eq!(vegas.base, Some(0.015));
    }
}
