//! Where the rate goes.

use std::time::Duration;

use super::Settings;
use crate::limit::Sample;

/// A cut goes to this share of what was served: below it, so that the upstream recovers what it had lent.
const BELOW: f64 = 0.97;
/// So many times the base the step stays the same.
const NEAR: f64 = 1.05;
/// The share of the rate that is demand enough.
const REACHED: f64 = 0.9;
/// The share that is enough if somebody found too little. Callers that come at random and do not wait leave a small burst
/// unused for much of the time.
const REACHED_IF_SHORT: f64 = 0.5;
/// An upstream that tells a longer time does not hold growth up for longer: by then it is worth a try, whatever it said.
const LONGEST_TOLD: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Course {
    rate: f64,
    /// The rate after the last cut; 0 if there was none.
    base: f64,
    /// What was added last; 0 after a cut.
    step: f64,
    /// When this interval did, and what there had been until then.
    began: Duration,
    before: Totals,
    /// In the interval before this one.
    last: Totals,
    /// In this interval somebody was refused.
    refused: bool,
    cut_at: Option<Duration>,
    /// Until then the upstream has asked to be spared.
    not_before: Duration,
}

/// What there has been: so much spent, in units of cost, and so many answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) spent: u64,
    pub(super) served: u64,
    pub(super) refused: u64,
}

impl Course {
    pub(super) fn new(rate: f64) -> Self {
        Self {
            rate,
            base: 0.0,
            step: 0.0,
            began: Duration::ZERO,
            before: Totals::default(),
            last: Totals::default(),
            refused: false,
            cut_at: None,
            not_before: Duration::ZERO,
        }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Goes on from `rate`, as after a cut.
    pub(super) fn set(&mut self, rate: f64) {
        self.rate = rate;
        self.base = rate;
        self.step = 0.0;
    }

    /// `short`: somebody found too little in the interval that ends.
    pub(super) fn next_interval(
        &mut self,
        settings: &Settings,
        now: Duration,
        totals: Totals,
        short: bool,
    ) {
        let elapsed = now.saturating_sub(self.began);
        let last = totals.since(self.before);
        let spent = last.spent as f64 / (self.rate * elapsed.as_secs_f64());
        let reached = spent >= REACHED || short && spent >= REACHED_IF_SHORT;
        if reached && !self.refused && now >= self.not_before {
            self.grow(settings);
        }
        // Nobody came in between to end the interval in time.
        let stale = elapsed >= 2 * settings.interval;
        self.last = if stale { Totals::default() } else { last };
        self.began = now;
        self.before = totals;
        self.refused = false;
    }

    pub(super) fn refused(&mut self, settings: &Settings, sample: &Sample, totals: Totals) {
        let now = sample.at;
        self.refused = true;
        if let Some(told) = sample.retry_after {
            self.not_before = self
                .not_before
                .max(now.saturating_add(told.min(LONGEST_TOLD)));
        }
        let asked = now.saturating_sub(sample.latency);
        let known = |cut| asked < cut || now < settings.interval.saturating_add(cut);
        if !self.cut_at.is_some_and(known) {
            let served = BELOW * self.served(settings, now, totals).min(self.rate);
            self.set(settings.keep(served.max(settings.factor * self.rate)));
            self.cut_at = Some(now);
        }
    }

    fn grow(&mut self, settings: &Settings) {
        self.step = if self.rate > NEAR * self.base {
            (2.0 * self.step).max(settings.step)
        } else {
            settings.step
        };
        self.rate = settings.keep(self.rate + self.step);
    }

    /// Per second, over one interval until now: this one, and of the one before as much as is missing.
    fn served(&self, settings: &Settings, now: Duration, totals: Totals) -> f64 {
        let interval = settings.interval.as_secs_f64();
        let missing = 1.0 - now.saturating_sub(self.began).as_secs_f64() / interval;
        let this = totals.since(self.before);
        let lately =
            |of: fn(Totals) -> u64| of(this) as f64 + missing.max(0.0) * of(self.last) as f64;
        let served = lately(|totals| totals.served);
        let answers = served + lately(|totals| totals.refused);
        lately(|totals| totals.spent) / interval * served / answers.max(1.0)
    }
}

impl Totals {
    fn since(self, before: Self) -> Self {
        // More may have been given back meanwhile than was spent.
        let spent = self.spent.wrapping_sub(before.spent) as i64;
        Self {
            spent: spent.max(0) as u64,
            served: self.served - before.served,
            refused: self.refused - before.refused,
        }
    }
}
