//! The search itself: rounds, trials, and what is concluded from them.

use std::time::Duration;

use super::Aimd;
use crate::limit::{Outcome, Sample};

/// Latencies below are no finer than timers and schedulers.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Rounds at the limit after which a decrease is tried for its own sake, lest the base go stale.
const ROUNDS_WITHOUT_TRIAL: u32 = 120;
/// A step of a trial. With 0.7 the limit spends too much of its time below the knee.
const DECREASE: f64 = 0.8;
const DECREASE_LOST: f64 = 0.6;
const DECREASE_REFUSED: f64 = 0.7;
/// The share of callers that left which makes a round lost.
const LOST: f64 = 0.3;
/// The share of refused requests which alone is reason enough.
const REFUSED: f64 = 0.1;
/// How much of the cut the latency has to follow for the excess to be called queueing. With 1 the scores of short runs
/// are better, but a long overload with even work lets the limit drift to several times the workers.
const FOLLOWS: f64 = 0.8;
/// How far up to `high` the limit still grows.
const GROWS: f64 = 0.4;
/// The fewest samples that make a round.
const ROUND: usize = 20;
/// The fewest that make a lost one.
const LOST_ROUND: f64 = 8.0;

/// What has been found out so far.
#[derive(Clone, Debug)]
pub(super) struct Search {
    limit: f64,
    /// Below it the limit doubles each round.
    ssthresh: f64,
    /// Natural logarithm of the latency without queueing, in seconds.
    base: Option<f64>,
    trial: Option<Trial>,
    /// Rounds at the limit since the last trial.
    age: u32,
    settling: Option<Settling>,
    round: Round,
}

/// A descent whose effect is being watched.
#[derive(Clone, Copy, Debug)]
struct Trial {
    top: f64,
    /// Before the last step.
    last: Level,
    /// Before the step before it, if there was one.
    earlier: Option<Level>,
}

/// A limit, and the logarithm of the latency under it.
#[derive(Clone, Copy, Debug)]
struct Level {
    limit: f64,
    latency: f64,
    /// So many callers left that the latency says only how patient they were.
    lost: bool,
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

/// A round whose latency is known.
#[derive(Clone, Copy, Debug)]
struct Finding {
    latency: f64,
    /// Times the base.
    over: f64,
    /// From where `over` is too much.
    high: f64,
    lost: bool,
    reached: bool,
    /// Enough of the limit was used for the latency to have anything to do with it.
    in_play: bool,
}

impl Search {
    pub(super) fn new(limit: f64) -> Self {
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

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    pub(super) fn update(&mut self, aimd: &Aimd, sample: &Sample) {
        if self.settled(sample) && self.gather(aimd, sample) {
            let round = std::mem::take(&mut self.round);
            self.decide(aimd, &round, sample.at);
        }
    }

    fn settled(&mut self, sample: &Sample) -> bool {
        if let Some(settling) = &mut self.settling {
            if sample.at.saturating_sub(sample.latency) >= settling.since {
                match settling.left.checked_sub(1) {
                    Some(left) => settling.left = left,
                    None => self.settling = None,
                }
            }
        }
        self.settling.is_none()
    }

    /// Adds a sample to the round. Whether that ends it.
    fn gather(&mut self, aimd: &Aimd, sample: &Sample) -> bool {
        let latency = sample.latency.max(SHORTEST).as_secs_f64().ln();
        // A caller that left before a healthy answer would have come tells nothing.
        let healthy = match aimd.latency_threshold {
            Some(threshold) => Some(threshold.as_secs_f64().ln()),
            None => self.base,
        };
        let round = &mut self.round;
        round.peak = round.peak.max(sample.in_flight);
        match sample.outcome {
            Outcome::Success => round.complete(latency),
            Outcome::Overload => round.refused += 1,
            Outcome::Cancelled if healthy.is_some_and(|healthy| latency < healthy) => {}
            Outcome::Cancelled => {
                round.complete(latency);
                round.gone += 1;
            }
            Outcome::Ignore => {}
        }
        let few = (0.3 * self.limit).max(LOST_ROUND) as usize;
        round.completions + round.refused >= round.peak.max(ROUND)
            || (round.completions >= few && round.lost())
            || (round.refused >= few && round.completions == 0)
    }

    fn decide(&mut self, aimd: &Aimd, round: &Round, now: Duration) {
        let total = (round.completions + round.refused) as f64;
        if round.refused as f64 > REFUSED * total {
            self.cut(aimd, DECREASE_REFUSED, now);
            self.ssthresh = self.limit;
            self.trial = None;
            return;
        }
        let finding = self.find(round);
        if let Some(threshold) = aimd.latency_threshold {
            self.hold_to(aimd, threshold, finding, now);
        } else if let Some(trial) = self.trial.take() {
            self.judge(aimd, trial, finding, now);
        } else {
            self.seek(aimd, finding, now);
        }
    }

    fn find(&mut self, round: &Round) -> Finding {
        let latency = round.latencies / round.completions as f64;
        let lost = round.lost();
        if let (None, false) = (self.base, lost) {
            self.base = Some(latency);
        }
        Finding {
            latency,
            over: self.base.map_or(1.0, |base| (latency - base).exp()),
            high: 2.2 + 4.0 / self.limit.sqrt(),
            lost,
            reached: round.peak >= self.limit(),
            in_play: lost || 2.0 * round.peak as f64 >= self.limit,
        }
    }

    fn seek(&mut self, aimd: &Aimd, finding: Finding, now: Duration) {
        self.age += u32::from(finding.reached);
        let high = finding.over > finding.high && finding.in_play;
        if finding.lost || high || self.age >= ROUNDS_WITHOUT_TRIAL {
            let trial = Trial {
                top: self.limit,
                last: self.level(finding),
                earlier: None,
            };
            self.step(aimd, trial, finding, now);
        } else if finding.reached {
            let margin = 1.0 - (finding.over - 1.0) / (GROWS * (finding.high - 1.0));
            self.grow(aimd, margin.min(1.0));
        }
    }

    /// What the last steps of a trial did.
    fn judge(&mut self, aimd: &Aimd, trial: Trial, finding: Finding, now: Duration) {
        if !finding.in_play {
            // Nobody came: no verdict.
            self.limit = trial.top;
            return;
        }
        let from = trial.earlier.unwrap_or(trial.last);
        let fell = (from.latency - finding.latency).max(0.0);
        let followed = fell >= FOLLOWS * (from.limit / self.limit).ln();
        let known = trial.earlier.is_some_and(|earlier| !earlier.lost);
        let queued = followed || !known;
        if queued {
            let base = self.base.unwrap_or(finding.latency);
            self.base = Some(base.min(finding.latency));
        }
        let rising = finding.latency > trial.last.latency && finding.over > finding.high;
        let can_fall = self.limit > aimd.bounds.min as f64;
        if (queued && can_fall) || finding.lost || rising {
            let next = Trial {
                top: trial.top,
                last: self.level(finding),
                earlier: Some(trial.last),
            };
            return self.step(aimd, next, finding, now);
        }
        self.base = Some(finding.latency);
        let knee = from.limit / fell.exp();
        let back = knee + 2.0 * knee.sqrt();
        self.limit = aimd.bounds.keep_real(back.min(trial.top).max(self.limit));
        self.ssthresh = self.limit;
    }

    /// Goes down. Where the limit cannot fall any further there is nothing left that could queue on its account.
    fn step(&mut self, aimd: &Aimd, trial: Trial, finding: Finding, now: Duration) {
        let before = self.limit;
        self.age = 0;
        self.cut(aimd, finding.factor(), now);
        if self.limit < before {
            self.trial = Some(trial);
        } else if !finding.lost {
            self.base = Some(finding.latency);
        }
    }

    /// With a threshold there is nothing to find out.
    fn hold_to(&mut self, aimd: &Aimd, threshold: Duration, finding: Finding, now: Duration) {
        if finding.lost || finding.latency > threshold.as_secs_f64().ln() {
            self.cut(aimd, finding.factor(), now);
            self.ssthresh = self.limit;
        } else if finding.reached {
            self.grow(aimd, 1.0);
        }
    }

    /// By so much of the full step; not at all if that is below 0.
    fn grow(&mut self, aimd: &Aimd, margin: f64) {
        if margin <= 0.0 {
            return;
        }
        let slowly = self.limit + margin * self.limit.sqrt();
        let more = if self.limit < self.ssthresh {
            (2.0 * self.limit).min(self.ssthresh.max(slowly))
        } else {
            slowly
        };
        self.limit = aimd.bounds.keep_real(more);
    }

    fn cut(&mut self, aimd: &Aimd, factor: f64, now: Duration) {
        self.limit = aimd
            .bounds
            .keep_real((self.limit * factor).min(self.limit - 1.0));
        self.settling = Some(Settling {
            since: now,
            left: self.limit(),
        });
    }

    fn level(&self, finding: Finding) -> Level {
        Level {
            limit: self.limit,
            latency: finding.latency,
            lost: finding.lost,
        }
    }
}

impl Finding {
    fn factor(&self) -> f64 {
        if self.lost { DECREASE_LOST } else { DECREASE }
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
