//! The rate of one stream, moved by how full it is.

use std::time::Duration;

/// From here on, as a share of what the stream holds, it is too full.
const HIGH: f64 = 0.75;
/// Up to here there is room to grow.
const LOW: f64 = 0.5;
/// A cut is judged by what is sent after it: fewer items say nothing about whether the stream empties.
const SENT_PER_CUT: u64 = 8;

/// What does not change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) initial: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) step: f64,
    pub(super) factor: f64,
    pub(super) interval: Duration,
    pub(super) burst: u64,
}

#[derive(Debug)]
pub(super) struct Course {
    settings: Settings,
    rate: f64,
    /// When the rate was last changed, or left as it was for a whole interval.
    since: Duration,
    /// Somebody wanted more than the rate allowed.
    short: bool,
    /// How full it was at the last cut; `None` once it has been half empty since.
    cut_at: Option<f64>,
    sent_since_cut: u64,
    cuts: u64,
}

impl Course {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            rate: settings.initial,
            since: Duration::ZERO,
            short: false,
            cut_at: None,
            sent_since_cut: 0,
            cuts: 0,
        }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    pub(super) fn sent(&mut self) {
        self.sent_since_cut += 1;
    }

    pub(super) fn came_up_short(&mut self) {
        self.short = true;
    }

    /// Looks at how full the stream is, from 0 to 1. Whether the rate has changed.
    pub(super) fn observe(&mut self, now: Duration, level: f64) -> bool {
        let elapsed = now.saturating_sub(self.since);
        if level >= HIGH {
            self.press(now, level, elapsed)
        } else if level <= LOW {
            self.cut_at = None;
            self.grow(now, elapsed)
        } else {
            false
        }
    }

    fn press(&mut self, now: Duration, level: f64, elapsed: Duration) -> bool {
        if let Some(before) = self.cut_at {
            if elapsed < self.settings.interval || self.sent_since_cut < SENT_PER_CUT {
                return false;
            }
            if level < before {
                // The cut was enough: what is in the stream only has to be read.
                self.wait_on(now, level);
                return false;
            }
        }
        self.rate = (self.rate * self.settings.factor).max(self.settings.min);
        self.cuts += 1;
        self.wait_on(now, level);
        true
    }

    fn wait_on(&mut self, now: Duration, level: f64) {
        self.cut_at = Some(level);
        self.sent_since_cut = 0;
        self.since = now;
        self.short = false;
    }

    fn grow(&mut self, now: Duration, elapsed: Duration) -> bool {
        if elapsed < self.settings.interval {
            return false;
        }
        self.since = now;
        // A rate that nobody reaches says nothing about what the reader can take.
        if !std::mem::take(&mut self.short) || self.rate >= self.settings.max {
            return false;
        }
        self.rate = (self.rate + self.settings.step).min(self.settings.max);
        true
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn course(initial: f64) -> Course {
        Course::new(Settings {
            initial,
            min: 1.0,
            max: 120.0,
            step: 1.0,
            factor: 0.5,
            interval: INTERVAL,
            burst: 1,
        })
    }

    #[test]
    fn one_more_in_each_interval_in_which_the_rate_was_reached() {
        let mut course = course(100.0);
        for n in 1..=5 {
            course.came_up_short();
            assert!(!course.observe(INTERVAL * n - INTERVAL / 2, 0.0), "{n}");
            assert!(course.observe(INTERVAL * n, 0.5), "{n}");
            assert_eq!(course.rate(), 100.0 + f64::from(n));
        }
    }

    #[test]
    fn nothing_is_learned_where_nobody_wants_more() {
        let mut course = course(100.0);
        assert!(!course.observe(INTERVAL * 1000, 0.0));
        assert_eq!(course.rate(), 100.0);
    }

    #[test]
    fn half_when_it_fills_up_and_never_below_the_least() {
        let mut course = course(100.0);
        assert!(course.observe(INTERVAL, 0.75));
        assert_eq!((course.rate(), course.cuts()), (50.0, 1));
        for n in 2..20 {
            (0..SENT_PER_CUT).for_each(|_| course.sent());
            course.observe(INTERVAL * n, 1.0);
        }
        assert_eq!(course.rate(), 1.0);
    }

    #[test]
    fn a_stream_that_empties_after_a_cut_is_not_cut_again() {
        let mut course = course(100.0);
        course.observe(INTERVAL, 0.99);
        for n in 2..20u32 {
            (0..SENT_PER_CUT).for_each(|_| course.sent());
            assert!(!course.observe(INTERVAL * n, 0.99 - 0.01 * f64::from(n)));
        }
        assert_eq!(course.rate(), 50.0);
    }

    #[test]
    fn one_that_does_not_is_but_not_before_the_cut_has_shown() {
        let mut course = course(100.0);
        course.observe(INTERVAL, 0.9);
        assert!(!course.observe(INTERVAL * 9, 0.9), "nothing was sent");
        (0..SENT_PER_CUT).for_each(|_| course.sent());
        assert!(course.observe(INTERVAL * 10, 0.9));
        assert_eq!(course.rate(), 25.0);
    }

    #[test]
    fn between_half_and_three_quarters_it_stays() {
        let mut course = course(100.0);
        course.came_up_short();
        assert!(!course.observe(INTERVAL * 10, 0.51));
        assert!(!course.observe(INTERVAL * 20, 0.74));
        assert_eq!(course.rate(), 100.0);
    }

    #[test]
    fn the_most_is_the_most() {
        let mut course = course(119.5);
        for n in 1..10 {
            course.came_up_short();
            course.observe(INTERVAL * n, 0.0);
        }
        assert_eq!(course.rate(), 120.0);
    }
}
