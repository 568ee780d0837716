//! How fast a gate works its requests off, and from it the time to come back.
//!
//! A constant `Retry-After` brings everybody back together, and one that only looks at the next free slot brings back
//! far more than there are slots. The hint here is the time that the gate needs for those who wait and for those it
//! refused in the last second, at the pace it has lately kept: refused callers that obey it come back at the rate at
//! which they can be served.

use std::time::Duration;

/// How long is counted before the pace is taken anew.
const WINDOW: Duration = Duration::from_secs(1);
/// The hint as long as there is no pace.
pub(crate) const UNKNOWN: Duration = Duration::from_secs(1);
/// No client waits longer: openai-node, for one, ignores a longer hint and uses its own.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(1);

/// What a gate has counted since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) completed: u64,
    pub(crate) rejected: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Duration,
    counted: Counts,
    /// Of the last whole window, each per second.
    completions: Option<f64>,
    rejections: f64,
}

impl Pace {
    /// Forgets what was and counts anew from here.
    pub(crate) fn restart(&mut self, now: Duration, counts: Counts) {
        *self = Self {
            since: now,
            counted: counts,
            ..Self::default()
        };
    }

    /// Looks at the counts. Need not be called at any particular time.
    pub(crate) fn observe(&mut self, now: Duration, counts: Counts) {
        let elapsed = now.saturating_sub(self.since);
        // Where nothing comes back for long, as with streams, the window lasts until something does.
        let stalled = counts.completed == self.counted.completed;
        if elapsed < WINDOW || (stalled && elapsed < LONGEST) {
            return;
        }
        let per_second =
            |before: u64, after: u64| after.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        self.completions = Some(per_second(self.counted.completed, counts.completed));
        self.rejections = per_second(self.counted.rejected, counts.rejected);
        self.since = now;
        self.counted = counts;
    }

    /// Completions per second: over the last whole window, or since it ended if that is a second ago.
    pub(crate) fn throughput(&self, now: Duration, completed: u64) -> f64 {
        let elapsed = now.saturating_sub(self.since);
        match self.completions {
            Some(completions) if elapsed < WINDOW => completions,
            _ if elapsed.is_zero() => 0.0,
            _ => completed.saturating_sub(self.counted.completed) as f64 / elapsed.as_secs_f64(),
        }
    }

    /// The time in which those who wait and those lately refused can be served.
    pub(crate) fn retry_after(&self, now: Duration, completed: u64, waiting: usize) -> Duration {
        let Some(mut pace) = self.completions else {
            return UNKNOWN;
        };
        if completed == self.counted.completed {
            pace = pace.min(now.saturating_sub(self.since).as_secs_f64().recip());
        }
        let ahead = waiting as f64 + self.rejections + 1.0;
        let seconds = (ahead / pace).min(LONGEST.as_secs_f64());
        Duration::from_secs_f64(seconds).clamp(SHORTEST, LONGEST)
    }
}

/// `hint`, spread evenly over ± 30 % by a number that differs from refusal to refusal; in whole milliseconds, so that it
/// reads the same wherever it is written.
pub(crate) fn jittered(hint: Duration, random: u64) -> Duration {
    const WHOLE: u64 = 10_000;
    let share = WHOLE * 7 / 10 + mixed(random) % (WHOLE * 6 / 10);
    let micros = hint.min(LONGEST).as_micros() as u64;
    Duration::from_millis(micros * share / WHOLE / 1000).clamp(SHORTEST, LONGEST)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mixed(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn counts(completed: u64, rejected: u64) -> Counts {
        Counts {
            completed,
            rejected,
        }
    }

    #[test]
    fn without_a_pace_the_hint_is_a_second() {
        assert_eq!(Pace::default().retry_after(seconds(5), 0, 500), seconds(1));
    }

    #[test]
    fn ten_times_the_load_is_told_to_come_back_in_the_time_it_takes() {
        let mut pace = Pace::default();
        pace.observe(seconds(1), counts(100, 899));
        assert_eq!(pace.retry_after(seconds(1), 101, 0), seconds(9));
        assert_eq!(pace.retry_after(seconds(1), 101, 300), seconds(12));
    }

    #[test]
    fn the_hint_is_never_above_a_minute_and_never_zero() {
        let mut pace = Pace::default();
        pace.observe(seconds(1), counts(1, 1_000_000));
        assert_eq!(pace.retry_after(seconds(1), 2, 0), seconds(60));
        pace.observe(seconds(2), counts(u64::MAX, 1_000_000));
        assert!(pace.retry_after(seconds(2), 0, 0) >= SHORTEST);
        pace.observe(seconds(500), counts(u64::MAX, 1_000_000));
        assert_eq!(pace.retry_after(seconds(500), u64::MAX, 0), seconds(60));
    }

    #[test]
    fn a_pace_that_stalls_lengthens_the_hint() {
        let mut pace = Pace::default();
        pace.observe(seconds(1), counts(100, 0));
        assert!(pace.retry_after(seconds(1), 101, 0) < seconds(1));
        pace.observe(seconds(11), counts(100, 0));
        assert_eq!(pace.retry_after(seconds(11), 100, 0), seconds(10));
    }

    #[test]
    fn an_idle_hour_before_a_burst_does_not_slow_the_pace() {
        let mut pace = Pace::default();
        pace.observe(seconds(3600), counts(60, 0));
        assert_eq!(pace.retry_after(seconds(3600), 61, 0), seconds(60));
        pace.restart(seconds(3600), counts(60, 0));
        assert_eq!(pace.retry_after(seconds(3600), 60, 0), seconds(1));
        pace.observe(seconds(3601), counts(1060, 0));
        assert_eq!(pace.retry_after(seconds(3601), 1061, 0), MILLI);
        assert_eq!(pace.throughput(seconds(3601), 1061), 1000.0);
    }

    #[test]
    fn throughput_is_that_of_the_last_window_not_of_all_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.throughput(seconds(0), 0), 0.0);
        assert_eq!(pace.throughput(Duration::from_millis(500), 5), 10.0);
        pace.observe(seconds(1), counts(1000, 0));
        pace.observe(seconds(2), counts(1010, 0));
        assert_eq!(pace.throughput(seconds(2), 1010), 10.0);
        assert_eq!(pace.throughput(Duration::from_millis(2999), 1030), 10.0);
        assert_eq!(pace.throughput(seconds(3), 1030), 20.0);
        assert_eq!(pace.throughput(seconds(12), 1010), 0.0, "idle since");
    }

    #[test]
    fn jitter_spreads_over_thirty_percent_and_stays_in_bounds() {
        let spread: Vec<_> = (0..1000).map(|n| jittered(seconds(10), n)).collect();
        let (low, high) = (spread.iter().min().unwrap(), spread.iter().max().unwrap());
        assert!(*low >= seconds(7) && *low < Duration::from_millis(7100));
        assert!(*high <= seconds(13) && *high > Duration::from_millis(12900));
        assert_eq!(
            jittered(seconds(60), 3).min(seconds(60)),
            jittered(seconds(60), 3)
        );
        assert!((0..1000).all(|n| jittered(seconds(60), n) <= seconds(60)));
    }

    #[test]
    fn numbers_are_mixed_as_its_authors_do() {
        // The first two of SplitMix64 with seed 0, and the first with seed 1234567.
        assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mixed(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(mixed(1_234_567), 6_457_827_717_110_365_317);
    }
}
