//! Makes the latencies of requests of different sizes comparable.
//!
//! # What goes wrong otherwise
//!
//! A prompt of 85 000 tokens takes two seconds to read on hardware that reads one of 1000 in 30 ms. A limit that is told two
//! seconds takes them for congestion and falls, though fewer requests at once would not have made that prompt any shorter.
//!
//! # How it works
//!
//! From the last 64 requests it is known what an *ordinary* one is: the median size, and the median latency of those up to that
//! size. What a token beyond that takes is learned from the last 64 requests of more than twice the ordinary size: the line
//! through the ordinary request from which the sum of the distances is least, whose slope is the median of all slopes, weighted
//! by size. So the longest prompts have the most to say, and no single one that hung moves it.
//!
//! ```text
//! expected = ordinary latency + time per token · (size − ordinary size)
//! normal   = latency · ordinary latency / expected          between the ordinary latency and the latency itself
//! ```
//!
//! The latency is scaled and not cut: an error in the time per token, multiplied by 84 000 tokens and subtracted, would be
//! larger than any congestion; as a factor it stays the small factor it is. A request that took twice what is expected of its
//! size counts as twice an ordinary latency. Requests of ordinary size are not touched at all, so that congestion can hide
//! behind no model; and nothing is ever made to look faster than an ordinary request, lest the limit take that for its goal.
//!
//! A service that reads prompts one after the other makes short ones wait behind a very long one, and fewer requests at once
//! would not have helped them either. So what is more than eight times the ordinary size casts a *shadow*: its tokens are added
//! to the size of those that arrive behind it. The shadow lasts for twice the time that it should take to read it, since those
//! that wait meanwhile are in the way of others for as long again at most, and fades evenly: a request that hangs excuses
//! nobody for long.

use std::{collections::VecDeque, time::Duration};

/// How many requests are remembered.
const KEPT: usize = 64;
/// From how many times the ordinary size a request tells what a token takes.
const LONG: u64 = 2;
/// From how many times the ordinary size it casts a shadow.
const GIANT: u64 = 8;
/// How many times longer than the giant is read its shadow lasts.
const SHADOW: u32 = 2;
/// How many giants are remembered.
const GIANTS: usize = 64;
/// Latencies below, in seconds, are no finer than timers and schedulers.
const SHORTEST: f64 = 0.001;
/// No prompt takes longer to read, in seconds.
const LONGEST: f64 = 3600.0;

#[derive(Debug, Default)]
pub(super) struct Norm {
    /// Sizes and normal latencies.
    recent: VecDeque<(u64, f64)>,
    /// How much longer than an ordinary request, and how much slower.
    long: VecDeque<Excess>,
    shadows: VecDeque<Shadow>,
    ordinary: Option<Ordinary>,
    /// In seconds.
    per_token: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Ordinary {
    size: u64,
    seconds: f64,
}

#[derive(Clone, Copy, Debug)]
struct Excess {
    tokens: f64,
    seconds: f64,
}

/// What a giant does to those behind it.
#[derive(Clone, Copy, Debug)]
struct Shadow {
    tokens: f64,
    /// When it should begin to be read, and how long that should take.
    from: Duration,
    reading: Duration,
}

impl Shadow {
    fn until(&self) -> Duration {
        self.from.saturating_add(SHADOW * self.reading)
    }

    fn at(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.from).as_secs_f64();
        let lasts = (SHADOW * self.reading).as_secs_f64().max(SHORTEST);
        self.tokens * (1.0 - passed / lasts).max(0.0)
    }
}

impl Norm {
    /// A request of `size` tokens comes. How many tokens of giants are ahead of it.
    pub(super) fn arrives(&mut self, now: Duration, size: u64) -> u64 {
        self.shadows.retain(|shadow| shadow.until() > now);
        let ahead: f64 = self.shadows.iter().map(|shadow| shadow.at(now)).sum();
        if let Some(ordinary) = self
            .ordinary
            .filter(|it| size > GIANT.saturating_mul(it.size))
        {
            let tokens = (size - ordinary.size) as f64;
            // Before there was any, a token takes no longer than it does in an ordinary request all in all.
            let at_most = ordinary.seconds / ordinary.size.max(1) as f64;
            let reading = tokens * self.per_token.unwrap_or(at_most);
            let reading = Duration::try_from_secs_f64(reading.min(LONGEST)).unwrap_or_default();
            let last = self.shadows.back();
            let free = last.map_or(now, |last| last.from.saturating_add(last.reading));
            let shadow = Shadow {
                tokens,
                from: free.max(now),
                reading,
            };
            if self.shadows.len() < GIANTS {
                self.shadows.push_back(shadow);
            }
        }
        ahead as u64
    }

    /// A request of `size` tokens, with `ahead` tokens of giants before it, took `latency`. What it would have taken, had it been an
    /// ordinary one.
    pub(super) fn learn(&mut self, size: u64, ahead: u64, latency: Duration) -> Duration {
        let normal = self.normal(size.saturating_add(ahead), latency);
        if let Some(ordinary) = self
            .ordinary
            .filter(|it| size > LONG.saturating_mul(it.size))
        {
            let excess = Excess {
                tokens: (size - ordinary.size).saturating_add(ahead) as f64,
                seconds: (latency.as_secs_f64() - ordinary.seconds).max(0.0),
            };
            push(&mut self.long, excess);
            self.per_token = slope(&self.long);
        }
        push(&mut self.recent, (size, normal.as_secs_f64()));
        self.ordinary = ordinary(&self.recent);
        normal
    }

    /// What a request of `size` tokens that took `latency` would have taken, had it been an ordinary one.
    pub(super) fn normal(&self, size: u64, latency: Duration) -> Duration {
        let Some(ordinary) = self.ordinary.filter(|it| size > it.size) else {
            return latency;
        };
        let seconds = latency.as_secs_f64();
        let normal = match self.per_token {
            Some(per_token) => {
                let beyond = (size - ordinary.size) as f64;
                seconds * ordinary.seconds / (ordinary.seconds + per_token * beyond)
            }
            // Nobody knows what the first long one should have taken.
            None if size > LONG.saturating_mul(ordinary.size) => 0.0,
            None => seconds,
        };
        let least = ordinary.seconds.min(seconds);
        // What is beyond all times is rounded up on the way there and back.
        Duration::try_from_secs_f64(normal.clamp(least, seconds)).unwrap_or(latency)
    }

    /// How long a request of `size` tokens takes at present. `None` where nothing is known.
    pub(super) fn expected(&self, size: u64) -> Option<Duration> {
        let ordinary = self.ordinary?;
        let beyond = size.saturating_sub(ordinary.size) as f64;
        let seconds = ordinary.seconds + self.per_token.unwrap_or(0.0) * beyond;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

fn push<T>(ring: &mut VecDeque<T>, item: T) {
    if ring.len() == KEPT {
        ring.pop_front();
    }
    ring.push_back(item);
}

fn ordinary(recent: &VecDeque<(u64, f64)>) -> Option<Ordinary> {
    let mut by_size: Vec<_> = recent.iter().copied().collect();
    by_size.sort_unstable_by_key(|(size, _)| *size);
    let (size, _) = *by_size.get(by_size.len().checked_sub(1)? / 2)?;
    let up_to = by_size.partition_point(|(of, _)| *of <= size);
    let mut latencies: Vec<_> = by_size[..up_to]
        .iter()
        .map(|(_, seconds)| *seconds)
        .collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let seconds = latencies[latencies.len() / 2].max(SHORTEST);
    Some(Ordinary { size, seconds })
}

/// The slope through the origin from which the sum of the absolute distances is least: the weighted median of all slopes.
fn slope(long: &VecDeque<Excess>) -> Option<f64> {
    let mut slopes: Vec<_> = long
        .iter()
        .map(|it| (it.seconds / it.tokens, it.tokens))
        .collect();
    slopes.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    let half = slopes.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    let median = slopes.into_iter().find(|(_, weight)| {
        below += weight;
        below >= half
    });
    median.map(|(slope, _)| slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// What an idle machine takes: 30 ms, and 40 000 tokens a second.
    fn idle(size: u64) -> Duration {
        30 * MILLI + Duration::from_secs_f64(size as f64 / 40_000.0)
    }

    fn after_ordinary(n: usize) -> Norm {
        let mut norm = Norm::default();
        for _ in 0..n {
            norm.learn(1000, 0, idle(1000));
        }
        norm
    }

    #[test]
    fn a_prompt_of_ordinary_size_is_not_touched() {
        let mut norm = after_ordinary(64);
        assert_eq!(norm.learn(1000, 0, 700 * MILLI), 700 * MILLI);
        assert_eq!(norm.learn(10, 0, 700 * MILLI), 700 * MILLI);
    }

    #[test]
    fn a_giant_looks_ordinary_from_the_first_one_on() {
        let mut norm = after_ordinary(64);
        for _ in 0..3 {
            let normal = norm.learn(85_400, 0, idle(85_400));
            assert_eq!(normal, idle(1000));
        }
    }

    #[test]
    fn a_giant_that_takes_twice_as_long_as_it_should_counts_double() {
        let mut norm = after_ordinary(64);
        norm.learn(85_400, 0, idle(85_400));
        let normal = norm.learn(85_400, 0, 2 * idle(85_400));
        assert!(normal.abs_diff(2 * idle(1000)) < MILLI, "{normal:?}");
    }

    #[test]
    fn those_behind_a_giant_are_not_taken_for_congestion() {
        let mut norm = after_ordinary(64);
        norm.learn(85_400, 0, idle(85_400));
        assert_eq!(norm.arrives(MILLI, 85_400), 0);
        // It takes 2110 ms to be read.
        let (soon, late, after) = (10 * MILLI, 2000 * MILLI, 4300 * MILLI);
        for (at, latency) in [(soon, idle(85_400)), (late, 600 * MILLI)] {
            let ahead = norm.arrives(at, 1000);
            let normal = norm.learn(1000, ahead, latency);
            assert!(normal.abs_diff(idle(1000)) < MILLI, "{normal:?}");
        }
        assert_eq!(norm.arrives(after, 1000), 0, "it has faded");
        norm.arrives(after, 7000);
        assert_eq!(norm.arrives(after, 1000), 0, "seven times is no giant");
    }

    #[test]
    fn giants_are_read_one_after_the_other() {
        let mut norm = after_ordinary(64);
        norm.learn(85_400, 0, idle(85_400));
        for before in 0..3 {
            assert_eq!(norm.arrives(MILLI, 85_400), before * 84_400);
        }
        let ahead = norm.arrives(2100 * MILLI, 1000);
        assert!((2 * 84_400..3 * 84_400).contains(&ahead), "{ahead}");
        for _ in 0..1000 {
            norm.arrives(MILLI, 85_400);
        }
        assert_eq!(norm.shadows.len(), GIANTS);
    }

    #[test]
    fn nothing_is_made_to_look_faster_than_an_ordinary_request() {
        let mut norm = after_ordinary(64);
        norm.learn(85_400, 0, idle(85_400));
        // From the provider's cache.
        assert_eq!(norm.learn(85_400, 0, 60 * MILLI), idle(1000));
        assert_eq!(norm.learn(85_400, 0, 20 * MILLI), 20 * MILLI, "as it was");
    }

    #[test]
    fn one_that_hung_does_not_excuse_the_next() {
        let mut norm = after_ordinary(64);
        for _ in 0..4 {
            norm.learn(85_400, 0, idle(85_400));
        }
        norm.learn(85_400, 0, Duration::from_secs(600));
        let normal = norm.learn(85_400, 0, 3 * idle(85_400));
        assert!(normal > 2 * idle(1000), "{normal:?}");
    }

    #[test]
    fn congestion_is_seen_through_whatever_the_sizes() {
        let mut norm = Norm::default();
        let sizes = [200, 900, 1000, 1100, 4000, 12_000, 700, 85_400];
        let mut run = |slower: u32| -> Vec<Duration> {
            let samples = sizes.iter().cycle().take(64);
            samples
                .map(|size| norm.learn(*size, 0, slower * idle(*size)))
                .collect()
        };
        run(1);
        let idle_ones = run(1);
        let busy = run(3);
        let mean = |all: &[Duration]| all.iter().sum::<Duration>() / all.len() as u32;
        assert!(
            idle_ones.iter().all(|l| *l < 2 * idle(1000)),
            "{idle_ones:?}"
        );
        assert!(mean(&busy) > 2 * mean(&idle_ones));
    }

    #[test]
    fn what_is_expected_is_known_once_there_was_one() {
        let mut norm = Norm::default();
        assert_eq!(norm.expected(1000), None);
        norm.learn(1000, 0, idle(1000));
        assert_eq!(norm.expected(1000), Some(idle(1000)));
        norm.learn(85_400, 0, idle(85_400));
        let expected = norm.expected(43_200).unwrap();
        assert!(expected.abs_diff(idle(43_200)) < MILLI, "{expected:?}");
    }

    #[test]
    fn sizes_and_times_of_any_size_are_taken() {
        let mut norm = Norm::default();
        let times = [Duration::ZERO, Duration::MAX, MILLI];
        for size in [0, u64::MAX, 1, u64::MAX / 2, 0] {
            for time in times {
                norm.learn(size, u64::MAX, time);
                norm.arrives(time, size);
                norm.expected(size);
            }
        }
    }
}
