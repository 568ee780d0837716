use std::time::Duration;

use super::{Limit, Outcome, Sample, bounds};
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
/// and leaves it alone if none was. So a decrease is followed by a look at what it did: if the latency fell with the
/// limit, there was a queue and the limit falls again; if not, the point where queueing begins lies at the limit over
/// the factor by which the latency fell, the limit returns to just above it, and the latency seen then is taken for the
/// latency without queueing from now on.
///
/// Samples are gathered into rounds of about one round trip; a round makes one decision.
///
/// ```text
///             reached, latency near the base: × 2 below ssthresh, + √limit above
///                   ┌──┐
///                   │  ▼        high, or many callers left, or 60 rounds without a trial
///                  Seeking ───────────────────────────────► Trial ──┐ the latency fell with the limit: × 0.7 again
///                   ▲  │ ▲                                    │  ▲──┘
///  a tenth refused: └──┘ └────────────────────────────────────┘
///  × 0.7                    it did not: back to the knee, new base
/// ```
///
/// | | |
/// |---|---|
/// | latency of a round | geometric mean, which a heavy tail moves little |
/// | high | above 1.75 + 3/√limit times the base: small limits see more noise |
/// | a caller that left after `t` | ignored if `t` is below the base, otherwise a latency of at least `t` |
/// | many callers left | more than 30 % of a round: × 0.5 |
/// | after a decrease | what was admitted before it is passed over, then one more limit's worth of samples |
/// | growth | only if the limit was reached: an idle service teaches nothing |
/// | latencies below 1 ms | count as 1 ms: timers and schedulers are no finer |
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
    min: usize,
    max: usize,
    initial: usize,
    latency_threshold: Option<Duration>,
    /// `None` until the first sample.
    state: Option<Search>,
}

/// Rounds at the limit after which a decrease is tried for its own sake, lest the base go stale.
const ROUNDS_WITHOUT_TRIAL: u32 = 60;
const DECREASE: f64 = 0.7;
const DECREASE_LOST: f64 = 0.5;
/// The share of callers that left which makes a round lost.
const LOST: f64 = 0.3;
/// The share of refused requests which alone is reason enough.
const REFUSED: f64 = 0.1;
/// How much of the cut the latency has to follow for the excess to be called queueing. With 1 the scores of short runs
/// are better, but a long overload with even work lets the limit drift to several times the workers.
const FOLLOWS: f64 = 0.8;
const SHORTEST: Duration = Duration::from_millis(1);

impl Default for Aimd {
    fn default() -> Self {
        Self {
            min: 1,
            max: 10_000,
            initial: 10,
            latency_threshold: None,
            state: None,
        }
    }
}

impl Aimd {
    /// The lowest limit, in requests. Default: 1. Raise it where fewer requests at once can never be what is wanted,
    /// for instance to the number of workers.
    #[must_use]
    pub fn min(mut self, min: usize) -> Self {
        self.min = min;
        self
    }

    /// The highest limit, in requests. Default: 10 000, which is meant to be out of the way. Lower it to what memory or
    /// file descriptors allow.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// The limit to begin with, in requests. Default: 10, from which a few dozen requests suffice to double it.
    #[must_use]
    pub fn initial(mut self, initial: usize) -> Self {
        self.initial = initial;
        self
    }

    /// Takes a mean latency above `threshold` for overload, and any below it for health, instead of finding out by
    /// experiment. Default: none. For a service with a promised latency that is worth more than its throughput.
    #[must_use]
    pub fn latency_threshold(mut self, threshold: Duration) -> Self {
        self.latency_threshold = Some(threshold);
        self
    }

    fn bounded(&self, limit: f64) -> f64 {
        limit.min(self.max as f64).max(self.min as f64)
    }
}

impl Limit for Aimd {
    fn limit(&self) -> usize {
        match &self.state {
            Some(search) => search.limit as usize,
            None => self.initial,
        }
    }

    fn update(&mut self, sample: &Sample) -> usize {
        let mut search = self
            .state
            .take()
            .unwrap_or_else(|| Search::new(self.bounded(self.initial as f64)));
        if let Some(round) = search.gather(sample) {
            search.decide(self, &round, sample.at);
        }
        self.state.insert(search).limit as usize
    }

    fn set_limit(&mut self, limit: usize) {
        self.state = Some(Search::new(self.bounded(limit as f64)));
    }

    fn validate(&self) -> Result<(), ConfigError> {
        bounds(self.min, self.initial, self.max)?;
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

/// What has been found out so far.
#[derive(Clone, Debug)]
struct Search {
    limit: f64,
    /// Below it the limit doubles each round.
    ssthresh: f64,
    /// Natural logarithm of the latency without queueing, in seconds.
    base: Option<f64>,
    /// Of the decrease whose effect is being watched.
    trial: Option<Trial>,
    /// Rounds at the limit since the last trial.
    age: u32,
    settling: Option<Settling>,
    round: Round,
}

/// How it was before a decrease.
#[derive(Clone, Copy, Debug)]
struct Trial {
    limit: f64,
    latency: f64,
}

/// A decrease shows only in requests that were admitted after it, when what it left behind has gone.
#[derive(Clone, Copy, Debug)]
struct Settling {
    since: Duration,
    left: usize,
}

#[derive(Clone, Debug, Default)]
struct Round {
    completions: usize,
    /// Sum of the natural logarithms.
    latencies: f64,
    peak: usize,
    refused: usize,
    gone: usize,
}

impl Search {
    fn new(limit: f64) -> Self {
        Self {
            limit,
            ssthresh: f64::INFINITY,
            base: None,
            trial: None,
            age: 0,
            settling: None,
            round: Round::default(),
        }
    }

    /// Adds a sample to the round; gives the round if that ends it.
    fn gather(&mut self, sample: &Sample) -> Option<Round> {
        let latency = sample.latency.max(SHORTEST).as_secs_f64().ln();
        if let Some(settling) = &mut self.settling {
            let admitted = sample.at.saturating_sub(sample.latency);
            if admitted >= settling.since {
                match settling.left.checked_sub(1) {
                    Some(left) => settling.left = left,
                    None => self.settling = None,
                }
            }
            if self.settling.is_some() {
                return None;
            }
        }
        let round = &mut self.round;
        round.peak = round.peak.max(sample.in_flight);
        match sample.outcome {
            Outcome::Success => round.complete(latency),
            Outcome::Overload => round.refused += 1,
            Outcome::Cancelled if self.base.is_some_and(|base| latency < base) => {}
            Outcome::Cancelled => {
                round.complete(latency);
                round.gone += 1;
            }
            Outcome::Ignore => {}
        }
        let enough = round.peak.max(20);
        let few = (0.3 * self.limit).max(8.0) as usize;
        let ended = round.completions + round.refused >= enough
            || (round.completions >= few && round.lost())
            || (round.refused >= few && round.completions == 0);
        ended.then(|| std::mem::take(round))
    }

    fn decide(&mut self, bounds: &Aimd, round: &Round, now: Duration) {
        let total = (round.completions + round.refused) as f64;
        if round.refused as f64 > REFUSED * total {
            self.cut(bounds, DECREASE, now);
            self.ssthresh = self.limit;
            self.trial = None;
            return;
        }
        let latency = round.latencies / round.completions as f64;
        let lost = round.lost();
        let in_play = lost || 2.0 * round.peak as f64 >= self.limit;
        let factor = if lost { DECREASE_LOST } else { DECREASE };

        if let Some(threshold) = bounds.latency_threshold {
            return self.hold_to(bounds, threshold, round, now);
        }
        if let (None, false) = (self.base, lost) {
            self.base = Some(latency);
        }
        let over = self.base.map_or(1.0, |base| (latency - base).exp());
        let high = 1.75 + 3.0 / self.limit.sqrt();

        if let Some(trial) = self.trial.take() {
            if !in_play {
                // Nobody came: no verdict.
                self.limit = trial.limit;
                return;
            }
            let fell = (trial.latency - latency).max(0.0).exp();
            let queued = fell >= (trial.limit / self.limit).powf(FOLLOWS);
            if queued {
                self.base = Some(self.base.map_or(latency, |base| base.min(latency)));
            }
            let rising = latency > trial.latency && over > high;
            if queued || lost || rising {
                return self.try_less(bounds, factor, latency, lost, now);
            }
            self.base = Some(latency);
            let knee = trial.limit / fell;
            let back = (knee + 2.0 * knee.sqrt()).clamp(self.limit, trial.limit);
            self.limit = bounds.bounded(back);
            self.ssthresh = self.limit;
            return;
        }

        let reached = round.peak >= self.limit as usize;
        if reached {
            self.age += 1;
        }
        if lost || (over > high && in_play) || self.age >= ROUNDS_WITHOUT_TRIAL {
            self.try_less(bounds, factor, latency, lost, now);
        } else if reached && over <= 1.0 + 0.3 * (high - 1.0) {
            self.grow(bounds);
        }
    }

    /// With a threshold there is nothing to find out.
    fn hold_to(&mut self, bounds: &Aimd, threshold: Duration, round: &Round, now: Duration) {
        let latency = round.latencies / round.completions as f64;
        if round.lost() || latency > threshold.as_secs_f64().ln() {
            let factor = if round.lost() {
                DECREASE_LOST
            } else {
                DECREASE
            };
            self.cut(bounds, factor, now);
            self.ssthresh = self.limit;
        } else if round.peak >= self.limit as usize {
            self.grow(bounds);
        }
    }

    fn grow(&mut self, bounds: &Aimd) {
        let more = if self.limit < self.ssthresh {
            (2.0 * self.limit).min(self.ssthresh.max(self.limit + self.limit.sqrt()))
        } else {
            self.limit + self.limit.sqrt()
        };
        self.limit = bounds.bounded(more);
    }

    /// Begins a trial. Where the limit cannot fall any further there is nothing left that could queue on its account.
    fn try_less(&mut self, bounds: &Aimd, factor: f64, latency: f64, lost: bool, now: Duration) {
        let before = self.limit;
        self.age = 0;
        self.cut(bounds, factor, now);
        if self.limit < before {
            self.trial = Some(Trial {
                limit: before,
                latency,
            });
        } else if !lost {
            self.base = Some(latency);
        }
    }

    fn cut(&mut self, bounds: &Aimd, factor: f64, now: Duration) {
        self.limit = bounds.bounded((self.limit * factor).min(self.limit - 1.0));
        self.settling = Some(Settling {
            since: now,
            left: self.limit as usize,
        });
    }
}

impl Round {
    fn complete(&mut self, latency: f64) {
        self.completions += 1;
        self.latencies += latency;
    }

    fn lost(&self) -> bool {
        self.gone as f64 > LOST * self.completions as f64
    }
}
