//! How many items per second, over the last second.
//!
//! A total divided by the time since the start says nothing about now. What is kept here are a dozen marks, each a count at a
//! time, so that the count a second ago can be read between two of them; whoever counts looks at the clock as seldom as it
//! likes, and what happened between two looks is taken to have been spread evenly.

use std::{collections::VecDeque, time::Duration};

/// What is looked back upon.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
const MARKS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    at: Duration,
    count: u64,
}

#[derive(Debug)]
pub(crate) struct Throughput {
    /// At least a tenth of the window apart, and reaching back beyond it.
    marks: VecDeque<Mark>,
    latest: Mark,
    /// Between the latest look and the one before it.
    gap: Duration,
}

impl Throughput {
    pub(crate) fn new(now: Duration) -> Self {
        let latest = Mark { at: now, count: 0 };
        Self {
            marks: VecDeque::from([latest]),
            latest,
            gap: Duration::ZERO,
        }
    }

    /// So many were counted in all.
    pub(crate) fn mark(&mut self, now: Duration, count: u64) {
        let apart = WINDOW / MARKS;
        // The look before this one is worth keeping if it is far from the one before it, or this one far from it: between
        // a burst and the look after it lies the burst's end.
        let kept = self.marks.back().map_or(Duration::ZERO, |mark| mark.at);
        if self.latest.at > kept && now.saturating_sub(kept) >= apart {
            self.marks.push_back(self.latest);
        }
        self.gap = now.saturating_sub(self.latest.at);
        self.latest = self.later(now, count);
        let horizon = now.saturating_sub(WINDOW);
        while self.marks.get(1).is_some_and(|second| second.at <= horizon) {
            self.marks.pop_front();
        }
    }

    /// What was counted at the latest look.
    pub(crate) fn counted(&self) -> u64 {
        self.latest.count
    }

    /// Per second, where so many were counted in all by `now`. In a stream younger than the window: since it was made.
    pub(crate) fn per_second(&self, now: Duration, count: u64) -> f64 {
        let mut end = self.later(now, count);
        // As long as the next one is not overdue it is not missing: ten a second are ten a second just before the eleventh.
        let overdue = end.at - self.latest.at >= self.gap || self.gap >= WINDOW;
        if end.count == self.latest.count && !overdue {
            end = self.latest;
        }
        let born = self.marks.front().map_or(end.at, |mark| mark.at);
        let since = end.at.saturating_sub(WINDOW).max(born);
        let elapsed = (end.at - since).as_secs_f64();
        if elapsed == 0.0 {
            return 0.0;
        }
        (end.count as f64 - self.count_at(since, end)) / elapsed
    }

    /// Times and counts only grow, in whatever order the threads come.
    fn later(&self, now: Duration, count: u64) -> Mark {
        Mark {
            at: now.max(self.latest.at),
            count: count.max(self.latest.count),
        }
    }

    fn count_at(&self, at: Duration, end: Mark) -> f64 {
        let marks = self.marks.iter().copied().chain([self.latest, end]);
        let mut before = Mark {
            at: Duration::ZERO,
            count: 0,
        };
        for mark in marks {
            if mark.at > at {
                let share = (at - before.at).as_secs_f64() / (mark.at - before.at).as_secs_f64();
                return before.count as f64 + share * (mark.count - before.count) as f64;
            }
            before = mark;
        }
        end.count as f64
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 0.02 * b.abs().max(1.0)
    }

    #[test]
    fn a_steady_stream_has_its_rate() {
        let mut throughput = Throughput::new(Duration::ZERO);
        for n in 1..=5000u64 {
            throughput.mark(n as u32 * MILLI, n);
            assert!(
                close(throughput.per_second(n as u32 * MILLI, n), 1000.0),
                "{n}"
            );
        }
        assert!(throughput.marks.len() <= 12);
    }

    #[test]
    fn a_burst_is_forgotten_a_second_later_even_if_nobody_looked() {
        let mut throughput = Throughput::new(Duration::ZERO);
        for n in 1..=50 {
            throughput.mark(n * MILLI, u64::from(n) * 20);
        }
        assert!(close(throughput.per_second(500 * MILLI, 1000), 2000.0));
        assert!(close(throughput.per_second(1000 * MILLI, 1000), 1000.0));
        assert_eq!(throughput.per_second(1051 * MILLI, 1000), 0.0);
        assert_eq!(throughput.per_second(3_600_000 * MILLI, 1000), 0.0);
    }

    #[test]
    fn ten_a_second_are_ten_a_second_between_two_of_them() {
        let mut throughput = Throughput::new(Duration::ZERO);
        for n in 1..=100 {
            throughput.mark(100 * MILLI * n, u64::from(n));
        }
        assert!(close(throughput.per_second(10_099 * MILLI, 100), 10.0));
        assert!(close(throughput.per_second(10_500 * MILLI, 100), 5.0));
    }

    #[test]
    fn a_change_of_pace_shows_within_a_second() {
        let mut throughput = Throughput::new(Duration::ZERO);
        for n in 1..=100 {
            throughput.mark(100 * MILLI * n, u64::from(n));
        }
        assert!(close(throughput.per_second(10_000 * MILLI, 100), 10.0));
        for n in 1..=100 {
            throughput.mark(10_000 * MILLI + 10 * MILLI * n, 100 + u64::from(n));
        }
        assert!(close(throughput.per_second(11_000 * MILLI, 200), 100.0));
    }

    #[test]
    fn what_lies_between_two_looks_is_spread_evenly() {
        let mut throughput = Throughput::new(Duration::ZERO);
        throughput.mark(10_000 * MILLI, 1000);
        assert!(close(throughput.per_second(10_000 * MILLI, 1000), 100.0));
        assert!(close(throughput.per_second(10_500 * MILLI, 1000), 50.0));
    }

    #[test]
    fn a_young_stream_is_judged_by_its_age() {
        let mut throughput = Throughput::new(3000 * MILLI);
        assert_eq!(throughput.per_second(3000 * MILLI, 1), 0.0);
        throughput.mark(3100 * MILLI, 10);
        assert!(close(throughput.per_second(3100 * MILLI, 10), 100.0));
    }
}
