use super::{Limit, MAX_LIMIT, Outcome, Sample, bounds::Bounds, windowed::Window};
use crate::ConfigError;

/// Compares the latency of now with that of the last minutes, after Netflix's limit of that name.
///
/// # How it works
///
/// Samples are gathered into windows of 100 ms and ten samples at least; a window's latency is its median.
///
/// ```text
/// long  = average over 600 windows         (if long > 2 · short: long × 0.95)
/// g     = clamp(tolerance · long / short, 0.5, 1)
/// limit = 0.8 · limit + 0.2 · (g · limit + queue)        queue only where g is 1
/// ```
///
/// The limit rests while less than half of it is in use. A window in which the service said that it has too much to
/// do, or most callers left, counts as g = 0.5.
///
/// It differs from the original in two ways: that one adds `queue` always, which under slight overload lifts the limit
/// for ever, and passes over what the service says about its load.
///
/// # When to use it
///
/// Where the latency of the work itself changes slowly and overload comes in bursts. Under overload that lasts for
/// minutes the average takes the queue for normal and the limit drifts upward; [`Aimd`](super::Aimd) does not.
///
/// Source: `Gradient2Limit` of <https://github.com/Netflix/concurrency-limits>.
#[derive(Clone, Debug)]
pub struct Gradient2 {
    bounds: Bounds,
    tolerance: f64,
    queue: usize,
    limit: Option<f64>,
    long: Average,
    window: Window,
}

const SMOOTHING: f64 = 0.2;
const WINDOWS: f64 = 600.0;

impl Default for Gradient2 {
    fn default() -> Self {
        Self {
            bounds: Bounds::new(20),
            tolerance: 1.5,
            queue: 4,
            limit: None,
            long: Average::new(WINDOWS),
            window: Window::default(),
        }
    }
}

impl Gradient2 {
    /// The lowest limit, in requests. Default: 1.
    #[must_use]
    pub fn min(mut self, min: usize) -> Self {
        self.bounds.min = min;
        self
    }

    /// The highest limit, in requests. Default: 10 000, which is meant to be out of the way. Since this limit drifts
    /// when saturated for long, it is worth setting.
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

    /// How many times the long average a window's latency may be before the limit falls. Default: 1.5, as in the
    /// original. More where the mix of requests changes a lot.
    #[must_use]
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// By how many requests the limit grows, before smoothing, in a window without excess latency. Default: 4, as in
    /// the original. More finds a high limit sooner and overshoots further.
    #[must_use]
    pub fn queue(mut self, queue: usize) -> Self {
        self.queue = queue;
        self
    }

    /// One window's verdict.
    fn judge(&mut self, sample: &Sample) -> f64 {
        let limit = self.current();
        let gradient = match sample.outcome {
            Outcome::Success => {
                let short = sample.latency.as_secs_f64().max(1e-9);
                let long = self.long.add(short);
                if long > 2.0 * short {
                    self.long.value *= 0.95;
                }
                if 2.0 * (sample.in_flight as f64) < limit {
                    return limit;
                }
                (self.tolerance * long / short).clamp(0.5, 1.0)
            }
            _ => 0.5,
        };
        let queue = if gradient < 1.0 {
            0.0
        } else {
            self.queue as f64
        };
        let aim = gradient * limit + queue;
        let limit = (1.0 - SMOOTHING) * limit + SMOOTHING * aim;
        self.bounds.keep_real(limit)
    }

    fn current(&self) -> f64 {
        self.limit.unwrap_or(self.bounds.initial() as f64)
    }
}

impl Limit for Gradient2 {
    fn limit(&self) -> usize {
        self.current() as usize
    }

    fn update(&mut self, sample: &Sample) -> usize {
        if let Some((sample, _)) = self.window.add(sample) {
            let before = self.limit();
            self.limit = Some(self.judge(&sample));
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
        if !(1.0..=MAX_LIMIT as f64).contains(&self.tolerance) {
            return Err(ConfigError::new("tolerance", self.tolerance, "at least 1"));
        }
        Ok(())
    }
}

/// A plain mean of the first ten, exponential from then on.
#[derive(Clone, Debug)]
struct Average {
    window: f64,
    value: f64,
    seen: u32,
}

const WARM_UP: u32 = 10;

impl Average {
    fn new(window: f64) -> Self {
        Self {
            window,
            value: 0.0,
            seen: 0,
        }
    }

    fn add(&mut self, x: f64) -> f64 {
        let weight = if self.seen < WARM_UP {
            self.seen += 1;
            f64::from(self.seen).recip()
        } else {
            2.0 / (self.window + 1.0)
        };
        self.value += weight * (x - self.value);
        self.value
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_published_case_of_the_average() {
        let mut average = Average::new(100.0);
        for n in 0..10 {
            let expected = 10.0 + f64::from(n) / 2.0;
            assert!((average.add(10.0 + f64::from(n)) - expected).abs() < 1e-9);
        }
        assert!((average.add(100.0) - 16.2).abs() < 0.1);
    }

    /// Feeds windows of ten samples, each window 100 ms long.
    struct Clock(Duration);

    impl Clock {
        fn window(&mut self, limit: &mut Gradient2, latency: u64, outcome: Outcome) -> usize {
            let in_flight = limit.limit();
            let latency = Duration::from_millis(latency);
            // What was admitted before a cut is passed over.
            self.0 += latency;
            for _ in 0..11 {
                self.0 += Duration::from_millis(10);
                limit.update(&Sample::new(self.0, latency, in_flight, outcome));
            }
            limit.limit()
        }
    }

    #[test]
    fn steady_latency_grows_the_limit_and_twice_the_latency_lowers_it() {
        let (mut limit, mut clock) = (Gradient2::default(), Clock(Duration::ZERO));
        for _ in 0..50 {
            clock.window(&mut limit, 10, Outcome::Success);
        }
        let grown = limit.limit();
        assert!((50..=65).contains(&grown), "{grown}");
        for _ in 0..10 {
            clock.window(&mut limit, 20, Outcome::Success);
        }
        assert!(limit.limit() < grown * 8 / 10, "{}", limit.limit());
    }

    #[test]
    fn slight_excess_holds_the_limit_instead_of_lifting_it() {
        let (mut limit, mut clock) = (Gradient2::default(), Clock(Duration::ZERO));
        for _ in 0..20 {
            clock.window(&mut limit, 10, Outcome::Success);
        }
        let before = limit.limit();
        for _ in 0..20 {
            clock.window(&mut limit, 18, Outcome::Success);
        }
        assert!(limit.limit() <= before);
    }

    #[test]
    fn overload_brings_it_to_the_minimum() {
        let mut limit = Gradient2::default().min(3);
        let mut clock = Clock(Duration::ZERO);
        for _ in 0..40 {
            clock.window(&mut limit, 1, Outcome::Overload);
        }
        assert_eq!(limit.limit(), 3);
    }

    #[test]
    fn an_idle_service_teaches_nothing() {
        let mut limit = Gradient2::default();
        for n in 0..1000 {
            let at = Duration::from_millis(20 * n);
            limit.update(&Sample::new(
                at,
                Duration::from_millis(1),
                2,
                Outcome::Success,
            ));
        }
        assert_eq!(limit.limit(), 20);
    }
}
