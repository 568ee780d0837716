//! A limit by the rules of Vector's adaptive request concurrency, with its defaults, written anew from what its documentation and
//! source say (vectordotdev/vector, `src/sinks/util/adaptive_concurrency/controller.rs` at 05b56b79): as a crate it is to be had
//! only in a fork that brings an HTTP client along.
//!
//! Once an interval, which lasts for as long as the mean answer: one more if the limit was reached, nobody refused, and answers
//! took no longer than they did; nine tenths if somebody refused, or answers took longer by 2.5 standard deviations.
//! It has to be told of each request that is let in. Timeouts, which the original takes for refusals, say nothing here.

use std::time::Duration;

use tower_backpressure::limit::{Limit, Outcome, Sample};

const INITIAL: usize = 1;
const MAX: usize = 200;
const DECREASE_RATIO: f64 = 0.9;
const EWMA_ALPHA: f64 = 0.4;
const RTT_DEVIATION_SCALE: f64 = 2.5;

/// See the module.
#[derive(Debug, Default)]
pub struct Vector {
    above_one: usize,
    /// What answers took before this interval.
    past: Option<Past>,
    interval: Interval,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    mean: f64,
    variance: f64,
    /// Until then this interval lasts.
    until: Duration,
}

/// In seconds, and what else was seen.
#[derive(Debug, Default)]
struct Interval {
    sum: f64,
    count: u32,
    refused: bool,
    reached: bool,
}

impl Interval {
    /// To the microsecond, as in the original's own tests: answers that all take the same time would else be taken for slow by
    /// what a float rounds.
    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum / f64::from(self.count) * 1e6).round() / 1e6)
    }
}

impl Vector {
    /// A request is let in, as the last of so many in flight.
    pub fn start(&mut self, in_flight: usize) {
        self.interval.reached |= in_flight >= self.limit();
    }

    fn decide(&self, past: Past) -> usize {
        let limit = self.limit();
        let Interval {
            refused, reached, ..
        } = self.interval;
        let mean = self.interval.mean();
        let slow = past.mean + RTT_DEVIATION_SCALE * past.variance.sqrt();
        if limit < MAX && reached && !refused && mean.is_some_and(|mean| mean <= past.mean) {
            limit + 1
        } else if limit > 1 && (refused || mean.is_some_and(|mean| mean >= slow)) {
            ((limit as f64 * DECREASE_RATIO) as usize).max(1)
        } else {
            limit
        }
    }
}

impl Limit for Vector {
    fn limit(&self) -> usize {
        INITIAL + self.above_one
    }

    fn update(&mut self, sample: &Sample) -> usize {
        match sample.outcome {
            Outcome::Success => {
                self.interval.sum += sample.latency.as_secs_f64();
                self.interval.count += 1;
            }
            Outcome::Overload => self.interval.refused = true,
            _ => {}
        }
        let (mean, variance) = match (self.past, self.interval.mean()) {
            (None, None) => return self.limit(),
            (None, Some(mean)) => (mean, 0.0),
            (Some(past), _) if sample.at < past.until => return self.limit(),
            (Some(past), mean) => {
                self.above_one = self.decide(past) - INITIAL;
                let step = mean.map_or(0.0, |mean| mean - past.mean);
                let part = EWMA_ALPHA * step;
                let variance = match mean {
                    Some(_) => (1.0 - EWMA_ALPHA) * (past.variance + step * part),
                    None => past.variance,
                };
                self.interval = Interval::default();
                (past.mean + part, variance)
            }
        };
        let until = sample.at + Duration::from_secs_f64(mean);
        self.past = Some(Past {
            mean,
            variance,
            until,
        });
        self.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No fraction of a second is lost in a float.
    const LATENCY: Duration = Duration::from_millis(125);

    /// An answer after each of these latencies, with the limit reached.
    fn answered(vector: &mut Vector, latencies: std::ops::Range<u32>, outcome: Outcome) -> usize {
        for nth in latencies {
            let in_flight = vector.limit();
            vector.start(in_flight);
            vector.update(&Sample::new(LATENCY * nth, LATENCY, in_flight, outcome));
        }
        vector.limit()
    }

    #[test]
    fn one_more_an_interval_and_a_tenth_less_where_somebody_refuses() {
        let mut vector = Vector::default();
        assert_eq!(vector.limit(), 1);
        // The first answer says how long an interval is.
        assert_eq!(answered(&mut vector, 1..2, Outcome::Success), 1);
        assert_eq!(answered(&mut vector, 2..41, Outcome::Success), 40);
        assert_eq!(answered(&mut vector, 41..42, Outcome::Overload), 36);
        assert_eq!(answered(&mut vector, 42..206, Outcome::Success), MAX);
        assert_eq!(answered(&mut vector, 206..300, Outcome::Overload), 1);
    }

    #[test]
    fn less_where_answers_take_longer_and_no_more_where_the_limit_is_not_reached() {
        let mut vector = Vector::default();
        answered(&mut vector, 1..41, Outcome::Success);
        let idle = Sample::new(LATENCY * 42, LATENCY / 2, 1, Outcome::Success);
        assert_eq!(vector.update(&idle), 40);
        vector.start(40);
        let slow = Sample::new(LATENCY * 44, 2 * LATENCY, 40, Outcome::Success);
        assert_eq!(vector.update(&slow), 36);
    }
}
