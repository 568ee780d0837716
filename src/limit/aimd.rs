mod search;

use std::time::Duration;

use self::search::{SHORTEST, Search};
use super::{Limit, Sample, bounds::Bounds};
use crate::ConfigError;

/// Additive increase, multiplicative decrease, where every decrease is an experiment. Needs no tuning.
///
/// # What goes wrong otherwise
///
/// Latency rises for two reasons: requests queue in the service, which a lower limit cures, or the work itself takes
/// longer, which it does not. A limit with a latency threshold has to be told which latency is bad, and is wrong on the
/// day the work changes. A limit that compares with the lowest latency it remembers throttles a service that merely got
/// slower (Vegas), one that compares with an average drifts upward while the service is saturated (Gradient2).
///
/// # How it works
///
/// By Little's law a limit cut by some factor cuts the latency by that same factor if all of the excess was queueing,
/// and leaves it alone if none was. So a decrease is followed by a look at what it did. While the latency falls with
/// the limit there is a queue, and the limit goes down another step; when it no longer does, the point where queueing
/// begins has been passed. It lies at the earlier limit over the factor by which the latency has fallen since. The limit
/// returns to just above it, and the latency seen then is taken for the latency without queueing, the base, from now on.
///
/// Samples are gathered into rounds of about one round trip; a round makes one decision.
///
/// ```text
///             reached, latency near the base: × 2 below ssthresh, up to + √limit above
///                   ┌──┐
///                   │  ▼        high, or 120 rounds without a trial: × 0.8; many callers left: × 0.6
///                  Seeking ───────────────────────────────► Trial ──┐ the latency fell with the limit
///                   ▲  │ ▲                                    │  ▲──┘ over the last two steps: × 0.8 again
///  a tenth refused: └──┘ └────────────────────────────────────┘
///  × 0.7                    it did not: back to the knee, new base
/// ```
///
/// | | |
/// |---|---|
/// | latency of a round | geometric mean, which a heavy tail moves little |
/// | high | above 2.2 + 4/√limit times the base: small limits see more noise |
/// | a caller that left after `t` | ignored if `t` is below the base, otherwise a latency of at least `t` |
/// | many callers left | more than 30 % of a round: × 0.6 |
/// | after a decrease | what was admitted before it is passed over, then one more limit's worth of samples |
/// | growth | only if the limit was reached, since an idle service teaches nothing; full at the base, none from 40 % of the way to high |
/// | latencies below 1 ms | count as 1 ms: timers and schedulers are no finer |
///
/// A step is judged together with the one before it: one step of a fifth is within the noise of twenty samples, and a
/// queue that is taken for slower work raises the base, from where the next queue looks small.
///
/// # What to expect
///
/// In simulations of 1 to 400 workers, over underload, overload, lost capacity, slower work, bursts and refusals, it
/// serves 97 % of what the best fixed limit, chosen afterwards, would have served, and 92 % in the tenth percentile
/// (`cargo bench --bench adaptive`). It is weakest with one or two workers and uneven work, where twenty samples say
/// little: there it often stands at three or four times the workers. Where throughput falls with concurrency instead of
/// staying level it goes too far; set [`max`](Aimd::max).
///
/// # Examples
///
/// ```
/// use tower_backpressure::{BackpressureLayer, limit::Aimd};
///
/// let layer = BackpressureLayer::adaptive(Aimd::default());
///
/// // A pool behind the service has 8 connections: never look below 2 or above 64, and begin at 8.
/// let layer = BackpressureLayer::adaptive(Aimd::default().min(2).max(64).initial(8));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct Aimd {
    bounds: Bounds,
    latency_threshold: Option<Duration>,
    /// `None` until the first sample.
    state: Option<Search>,
}

impl Default for Aimd {
    fn default() -> Self {
        Self {
            bounds: Bounds::new(10),
            latency_threshold: None,
            state: None,
        }
    }
}

impl Aimd {
    /// The lowest limit, in requests. Default: 1. Raise it where fewer requests at once can never be what is wanted.
    /// Keep it below what the service can take: requests that queue at the lowest limit are taken for its normal latency,
    /// since there is no lower one to compare with.
    #[must_use]
    pub fn min(mut self, min: usize) -> Self {
        self.bounds.min = min;
        self
    }

    /// The highest limit, in requests. Default: 10 000, which is meant to be out of the way. Lower it to what memory or
    /// file descriptors allow.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.bounds.max = max;
        self
    }

    /// The limit to begin with, in requests. Default: 10, or what is nearest to it between `min` and `max`; a few dozen
    /// answers suffice to double it. Where answers are streams that last for minutes those few dozen take as long: there,
    /// begin with as many as are certainly no trouble.
    #[must_use]
    pub fn initial(mut self, initial: usize) -> Self {
        self.bounds.begin_with(initial);
        self
    }

    /// Takes a mean latency above `threshold` for overload, and any below it for health, instead of finding out by
    /// experiment. Default: none; at least 1 ms. For a service with a promised latency that is worth more than its throughput.
    #[must_use]
    pub fn latency_threshold(mut self, threshold: Duration) -> Self {
        self.latency_threshold = Some(threshold);
        self
    }
}

impl Limit for Aimd {
    fn limit(&self) -> usize {
        match &self.state {
            Some(search) => search.limit(),
            None => self.bounds.initial(),
        }
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let mut search = self
            .state
            .take()
            .unwrap_or_else(|| Search::new(self.bounds.keep_real(self.bounds.initial() as f64)));
        search.update(self, sample);
        self.state.insert(search).limit()
    }

    fn set_limit(&mut self, limit: usize) -> usize {
        let limit = self.bounds.keep(limit);
        self.state.insert(Search::new(limit as f64)).limit()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.bounds.validate()?;
        if self.latency_threshold.is_some_and(|t| t < SHORTEST) {
            let threshold = format!("{:?}", self.latency_threshold.unwrap_or_default());
            return Err(ConfigError::new(
                "latency_threshold",
                threshold,
                "at least 1 ms",
            ));
        }
        Ok(())
    }
}
